//! The one edit: issuers, JWKS address, audiences and the annotation. Everything else stays byte for byte, which is proven
//! on the values of both texts before the new one is given out.

use std::collections::HashSet;

use super::{
    APPLIED_ANNOTATION, Manifest, ManifestError, Metadata,
    flags::{API_AUDIENCES, Flag, ISSUER, JWKS_URI},
    proof::prove,
};
use crate::model::{
    splice::{self, Splices, Step},
    yaml::{Layout, Node, ScalarStyle},
};

/// What the manifest is to say. `None` leaves that part as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The complete list for `--service-account-issuer`: the first signs, all are accepted. At least one, none twice.
    pub issuers: Vec<String>,
    /// `--service-account-jwks-uri`, `https`.
    pub jwks_uri: Option<String>,
    /// The complete list for `--api-audiences`, at least one.
    pub api_audiences: Option<Vec<String>>,
    /// Value of the annotation [`APPLIED_ANNOTATION`].
    pub applied: Option<String>,
}

/// A manifest that says what was desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    text: String,
    is_changed: bool,
    newline_added: bool,
}

impl Edited {
    /// The text to write. Byte for byte the old one where nothing had to change, else it ends with a line end.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn unchanged(text: &str) -> Self {
        Self { text: text.to_owned(), is_changed: false, newline_added: false }
    }

    pub(super) fn changed(text: String, newline_added: bool) -> Self {
        Self { text, is_changed: true, newline_added }
    }

    /// Whether the text differs from the manifest it was made from.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Whether the last line got the line end it lacked: some YAML readers of kubelet lose a last line without one.
    pub fn newline_added(&self) -> bool {
        self.newline_added
    }
}

impl Manifest {
    /// The same manifest with what is desired, and nothing else, changed. Making the same edit again changes nothing.
    ///
    /// New lines are indented, quoted and split as the flag next to them. Issuers stand where the first one stood; a new
    /// `--service-account-jwks-uri` comes behind them. A line that goes takes the comment at its end with it.
    ///
    /// # Errors
    ///
    /// A wanted value that kube-apiserver would not take, a place that cannot be edited for certain, or a result that would
    /// mean anything but the old manifest with the wanted change. Nothing is given out then.
    pub fn with(&self, desired: &Desired) -> Result<Edited, ManifestError> {
        check_desired(desired)?;
        let newline_missing = !self.text.ends_with('\n');
        let base = if newline_missing { format!("{}\n", self.text) } else { self.text.clone() };
        let mut editor = Editor { manifest: self, text: &base, splices: Splices::of(&base) };
        let behind_issuers = editor.set_issuers(&desired.issuers)?;
        if let Some(uri) = &desired.jwks_uri {
            editor.set_jwks_uri(uri, &behind_issuers)?;
        }
        if let Some(audiences) = &desired.api_audiences {
            editor.set_api_audiences(audiences, &behind_issuers)?;
        }
        if let Some(applied) = &desired.applied {
            editor.set_applied(applied)?;
        }
        let text = editor.splices.apply().ok_or(ManifestError::Unproven { what: "one line twice" })?;
        if text == base {
            return Ok(Edited::unchanged(&self.text));
        }
        prove(self, &text, desired)?;
        Ok(Edited::changed(text, newline_missing))
    }
}

/// Whether a value can stand in a flag as it is.
fn is_plain(value: &str, not: &[char]) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) && !value.contains(not)
}

fn refuse(what: &'static str, value: &str, cure: &'static str) -> Result<(), ManifestError> {
    Err(ManifestError::Desired { what, value: value.to_owned(), cure })
}

/// Refuses issuers with which kube-apiserver would not start.
pub(super) fn check_issuers(issuers: &[String]) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    for issuer in issuers {
        if !is_plain(issuer, &['$', '"', '\'']) {
            return refuse("issuer", issuer, "give an https URL without white space, quotes or $");
        }
        if !seen.insert(issuer) {
            return refuse(
                "issuer",
                issuer,
                "it is wanted twice, and kube-apiserver would not start; give each one once",
            );
        }
    }
    match issuers.is_empty() {
        true => refuse("issuer", "", "kube-apiserver needs at least one"),
        false => Ok(()),
    }
}

/// Refuses what is no `--service-account-jwks-uri`.
pub(super) fn check_url(uri: &str) -> Result<(), ManifestError> {
    match uri.starts_with("https://") && is_plain(uri, &['$', '"', '\'']) {
        true => Ok(()),
        false => refuse("JWKS address", uri, "give an https URL without white space, quotes or $"),
    }
}

/// Refuses what kube-apiserver, kubelet or YAML would not take as it is.
fn check_desired(desired: &Desired) -> Result<(), ManifestError> {
    check_issuers(&desired.issuers)?;
    desired.jwks_uri.as_deref().map_or(Ok(()), check_url)?;
    let audiences = desired.api_audiences.as_deref();
    if audiences.is_some_and(<[String]>::is_empty) {
        return refuse("audience list", "", "give at least one audience, or leave --api-audiences alone");
    }
    let audience = |audience: &&String| !is_plain(audience, &['$', '"', '\'', ',']);
    if let Some(audience) = audiences.unwrap_or_default().iter().find(audience) {
        return refuse("audience", audience, "give one without white space, quotes, commas or $");
    }
    match desired.applied.as_ref().filter(|applied| !is_plain(applied, &['"', '\\'])) {
        Some(applied) => {
            refuse("annotation irsad/applied", applied, "give one without white space, quotes or backslashes")
        }
        None => Ok(()),
    }
}

/// Collects the changes to one manifest.
pub(super) struct Editor<'a> {
    pub(super) manifest: &'a Manifest,
    /// The manifest's text with a line end at its end.
    pub(super) text: &'a str,
    pub(super) splices: Splices<'a>,
}

/// Where a new flag goes, and how it is written.
#[derive(Clone)]
pub(super) struct Spot {
    at: usize,
    /// What stands before an entry in its line.
    prefix: String,
    style: ScalarStyle,
    in_two: bool,
}

impl Spot {
    fn lines(&self, name: &str, value: &str) -> String {
        let entry = |text: &str| format!("{}{}\n", self.prefix, splice::spelled(text, self.style));
        if self.in_two {
            return entry(&format!("--{name}")) + &entry(value);
        }
        entry(&format!("--{name}={value}"))
    }
}

impl Editor<'_> {
    /// Writes the issuers and returns the place behind them.
    pub(super) fn set_issuers(&mut self, wanted: &[String]) -> Result<Spot, ManifestError> {
        let flags = self.manifest.arguments.named(ISSUER);
        let standing: Vec<&str> = flags.iter().map(|flag| flag.value()).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let mut behind = match flags.last() {
            Some(last) => self.spot(last, false)?,
            None => self.spot_at_end()?,
        };
        for step in splice::steps(&standing, &wanted) {
            let (spot, range) = match step {
                Step::Remove(position) => {
                    self.remove(flags[position]);
                    continue;
                }
                Step::Before(position, range) => (self.spot(flags[position], true)?, range),
                Step::After(position, range) => (self.spot(flags[position], false)?, range),
                Step::Fresh(range) => (behind.clone(), range),
            };
            let ends_list = range.end == wanted.len();
            let lines: String = wanted[range].iter().map(|issuer| spot.lines(ISSUER, issuer)).collect();
            self.splices.insert(spot.at, lines);
            if ends_list {
                behind = spot;
            }
        }
        Ok(behind)
    }

    /// The last occurrence counts, as in kube-apiserver; earlier ones stay.
    fn set_jwks_uri(&mut self, uri: &str, behind_issuers: &Spot) -> Result<(), ManifestError> {
        match self.manifest.arguments.named(JWKS_URI).last() {
            Some(flag) if flag.value() == uri => (),
            Some(flag) => self.rewrite(flag, uri),
            None => self.splices.insert(behind_issuers.at, behind_issuers.lines(JWKS_URI, uri)),
        }
        Ok(())
    }

    /// One occurrence with the whole list.
    fn set_api_audiences(&mut self, wanted: &[String], behind_issuers: &Spot) -> Result<(), ManifestError> {
        if self.manifest.api_audiences() == Some(wanted) {
            return Ok(());
        }
        let list = wanted.join(",");
        match self.manifest.arguments.named(API_AUDIENCES).as_slice() {
            [] => self.splices.insert(behind_issuers.at, behind_issuers.lines(API_AUDIENCES, &list)),
            [first, others @ ..] => {
                self.rewrite(first, &list);
                others.iter().for_each(|flag| self.remove(flag));
            }
        }
        Ok(())
    }

    /// Place directly before or behind a flag.
    fn spot(&self, flag: &Flag, before: bool) -> Result<Spot, ManifestError> {
        let entries = &self.manifest.arguments.entries;
        let node = &entries[if before { flag.entry } else { flag.last_entry() }].node;
        let prefix = self.prefix(node)?;
        let place = node.place;
        let at =
            if before { splice::line_start(self.text, place.start) } else { splice::line_end(self.text, place.end) };
        Ok(Spot { at, prefix, style: style_of(node), in_two: flag.in_two })
    }

    /// Place behind the last entry; for a manifest without any issuer.
    fn spot_at_end(&self) -> Result<Spot, ManifestError> {
        let arguments = &self.manifest.arguments;
        let Some(last) = arguments.entries.last() else {
            return Err(ManifestError::Unproven { what: "an empty command" });
        };
        let alone = arguments.flags.last().filter(|flag| flag.last_entry() + 1 == arguments.entries.len());
        if let Some(flag) = alone.filter(|flag| flag.is_alone()) {
            let before = arguments.entries[flag.entry].text().to_owned();
            return Err(ManifestError::Ambiguous { line: flag.line, flag: ISSUER.to_owned(), before });
        }
        let at = splice::line_end(self.text, last.node.place.end);
        Ok(Spot { at, prefix: self.prefix(&last.node)?, style: style_of(&last.node), in_two: false })
    }

    fn prefix(&self, node: &Node) -> Result<String, ManifestError> {
        let refusal = || ManifestError::NotOneLine { line: node.place.line, what: "the entry".to_owned() };
        splice::item_prefix(self.text, node).map(str::to_owned).ok_or_else(refusal)
    }

    pub(super) fn remove(&mut self, flag: &Flag) {
        for argument in &self.manifest.arguments.entries[flag.entry..=flag.last_entry()] {
            self.splices.delete_lines(argument.node.place.start..argument.node.place.end);
        }
    }

    /// Puts another value into a flag; a comment at the end of its line stays.
    fn rewrite(&mut self, flag: &Flag, value: &str) {
        let node = &self.manifest.arguments.entries[flag.last_entry()].node;
        let name = node.as_text().and_then(|text| text.split_once('=')).map_or("", |(name, _)| name);
        let text = if flag.in_two { value.to_owned() } else { format!("{name}={value}") };
        self.splices.replace(node.place.start..node.place.end, splice::spelled(&text, style_of(node)));
    }

    fn set_applied(&mut self, applied: &str) -> Result<(), ManifestError> {
        let metadata = &self.manifest.metadata;
        let line = format!("{APPLIED_ANNOTATION}: \"{applied}\"\n");
        let Some(annotations) = metadata.value.entry("annotations") else {
            let indent = block_indent(&metadata.value, "metadata")?;
            let deeper = indent + indent.saturating_sub(metadata.key.place.column).max(2);
            let at = self.below(&metadata.key, "metadata")?;
            self.splices.insert(at, format!("{:indent$}annotations:\n{:deeper$}{line}", "", ""));
            return Ok(());
        };
        let value = &annotations.value;
        match value.entry(APPLIED_ANNOTATION) {
            Some(entry) if entry.value.as_text() == Some(applied) => Ok(()),
            Some(entry) => self.rewrite_applied(&entry.key, &entry.value, applied),
            None if is_empty(self.text, value) => {
                let (key, step) = (&annotations.key, metadata_step(metadata));
                let deeper = key.place.column + step;
                self.replace_value(key, value, "annotations")?;
                let at = splice::line_end(self.text, key.place.end);
                self.splices.insert(at, format!("{:deeper$}{line}", ""));
                Ok(())
            }
            None => {
                let indent = block_indent(value, "annotations")?;
                let at = self.below(&annotations.key, "annotations")?;
                self.splices.insert(at, format!("{:indent$}{line}", ""));
                Ok(())
            }
        }
    }

    /// Takes an empty value (`{}`, `null`) away so that lines can follow; comments stay.
    fn replace_value(&mut self, key: &Node, value: &Node, what: &'static str) -> Result<(), ManifestError> {
        let place = value.place;
        let between = self.text.get(key.place.end..place.start).unwrap_or_default();
        let after_colon = between.strip_prefix(':').filter(|rest| rest.bytes().all(|byte| byte == b' '));
        let same_line = splice::line_ends_at(self.text, place.end);
        match after_colon {
            _ if value.is_empty() => self.below(key, what).map(|_| ()),
            Some(_) if same_line => {
                self.splices.replace(key.place.end + 1..place.end, "");
                Ok(())
            }
            Some(_) | None => Err(ManifestError::NotOneLine { line: key.place.line, what: what.to_owned() }),
        }
    }

    fn rewrite_applied(&mut self, key: &Node, value: &Node, applied: &str) -> Result<(), ManifestError> {
        if value.is_empty() || !splice::is_one_line(self.text, value) {
            return Err(ManifestError::NotOneLine { line: key.place.line, what: APPLIED_ANNOTATION.to_owned() });
        }
        self.splices.replace(value.place.start..value.place.end, format!("\"{applied}\""));
        Ok(())
    }

    pub(super) fn below(&self, key: &Node, what: &'static str) -> Result<usize, ManifestError> {
        let refusal = || ManifestError::NotOneLine { line: key.place.line, what: what.to_owned() };
        splice::below_key(self.text, key).ok_or_else(refusal)
    }
}

/// Quotes as the neighbour has them.
fn style_of(node: &Node) -> ScalarStyle {
    node.style().unwrap_or(ScalarStyle::Plain)
}

/// Column of the entries of a block mapping.
pub(super) fn block_indent(mapping: &Node, what: &'static str) -> Result<usize, ManifestError> {
    let line = mapping.place.line;
    match (mapping.layout(), mapping.entries()) {
        (Some(Layout::Block), Some([first, ..])) => Ok(first.key.place.column),
        (Some(Layout::Block | Layout::Flow), _) => Err(ManifestError::FlowStyle { line, what }),
        (None, _) => Err(ManifestError::NotOneLine { line, what: what.to_owned() }),
    }
}

/// By how much metadata's entries are indented.
fn metadata_step(metadata: &Metadata) -> usize {
    let entries = metadata.value.entries().unwrap_or_default();
    entries.first().map_or(2, |first| first.key.place.column.saturating_sub(metadata.key.place.column)).max(1)
}

/// `key:`, `key: {}`, `key: null` or `key: ~`.
fn is_empty(text: &str, value: &Node) -> bool {
    matches!(text.get(value.place.start..value.place.end), Some("" | "{}" | "{ }" | "null" | "~"))
}
