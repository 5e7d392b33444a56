//! The edit that takes our lines out again: another issuer signs, and what only ours needed goes.

use super::{
    APPLIED_ANNOTATION, Manifest, ManifestError,
    edit::{Edited, Editor, block_indent, check_issuers, check_url},
    flags::JWKS_URI,
    proof::prove_reverted,
};
use crate::model::splice::{self, Splices};

/// What the manifest is to say when irsad goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// The complete list for `--service-account-issuer`: the first signs, all are accepted. At least one, none twice.
    pub issuers: Vec<String>,
    /// Value of `--service-account-jwks-uri` that is ours: the flag goes where it has this one, and stays with any other.
    pub jwks_uri: String,
}

impl Manifest {
    /// Whether every flag is as `reverted` says. The annotation is none.
    pub fn is_reverted(&self, reverted: &Reverted) -> bool {
        self.issuers() == reverted.issuers && self.jwks_uri() != Some(&reverted.jwks_uri)
    }

    /// The same manifest with these issuers and without our `--service-account-jwks-uri` and our annotation [`APPLIED_ANNOTATION`];
    /// every other byte stays. An `annotations:` that held only ours goes with it. Making the same edit again changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Manifest::with`]. Nothing is given out then.
    pub fn reverted(&self, reverted: &Reverted) -> Result<Edited, ManifestError> {
        check_issuers(&reverted.issuers)?;
        check_url(&reverted.jwks_uri)?;
        let newline_missing = !self.text().ends_with('\n');
        let base = if newline_missing { format!("{}\n", self.text()) } else { self.text().to_owned() };
        let mut editor = Editor { manifest: self, text: &base, splices: Splices::of(&base) };
        editor.set_issuers(&reverted.issuers)?;
        for flag in self.arguments.named(JWKS_URI).into_iter().filter(|flag| flag.value() == reverted.jwks_uri) {
            editor.remove(flag);
        }
        editor.remove_applied()?;
        let text = editor.splices.apply().ok_or(ManifestError::Unproven { what: "one line twice" })?;
        if text == base {
            return Ok(Edited::unchanged(self.text()));
        }
        prove_reverted(self, &text, reverted)?;
        Ok(Edited::changed(text, newline_missing))
    }
}

impl Editor<'_> {
    fn remove_applied(&mut self) -> Result<(), ManifestError> {
        let Some(annotations) = self.manifest.metadata.value.entry("annotations") else { return Ok(()) };
        let Some(ours) = annotations.value.entry(APPLIED_ANNOTATION) else { return Ok(()) };
        block_indent(&annotations.value, "annotations")?;
        let is_one_line = splice::is_one_line(self.text, &ours.value) && !ours.value.is_empty();
        let place = ours.key.place.start..ours.value.place.end;
        if !is_one_line || !splice::line_ends_at(self.text, place.end) || self.text[place.clone()].contains('\n') {
            let (line, what) = (ours.key.place.line, APPLIED_ANNOTATION.to_owned());
            return Err(ManifestError::NotOneLine { line, what });
        }
        self.splices.delete_lines(place);
        if annotations.value.entries().is_some_and(|entries| entries.len() == 1) {
            let key = &annotations.key;
            // Refuses what does not stand alone in its line.
            self.below(key, "annotations")?;
            self.splices.delete_lines(key.place.start..key.place.end);
        }
        Ok(())
    }
}
