//! The flags of kube-apiserver that are ours, as they should be.

use sha2::{Digest as _, Sha256};

use crate::model::manifest::{self, Manifest, ManifestError, Reverted};

use super::{Desired, KeyKeeping, keys::Keys};

/// What the manifest is to say, and which keys the process is to have.
pub(super) struct Wanted<'a> {
    /// `--service-account-issuer`, in order.
    pub issuers: Vec<String>,
    /// Keys.
    pub keys: Keys<'a>,
    /// Generation of the keyring.
    pub generation: u64,
    /// Our issuer no longer signs, and what only it needed goes.
    pub is_reverted: bool,
}

/// kube-apiserver must read the files that we look after, or nothing we say of keys would be true.
pub(super) fn reads_our_key_files(desired: &Desired, found: &Manifest) -> Result<(), String> {
    let path = desired.manifest.display();
    let signing = desired.signing_key.to_string_lossy();
    if found.signing_key_file() != Some(signing.as_ref()) {
        return Err(format!(
            "{path} has --service-account-signing-key-file={} but apiServer.signingKey is {signing} (nothing written); make them agree",
            found.signing_key_file().unwrap_or_default()
        ));
    }
    let verifying = desired.verifying_keys.to_string_lossy();
    if !found.key_files().iter().any(|file| *file == verifying) {
        return Err(format!(
            "{path} has no --service-account-key-file={verifying} as apiServer.verifyingKeys says, but {:?} (nothing written); make them \
             agree",
            found.key_files()
        ));
    }
    Ok(())
}

/// The complete `--api-audiences`, or `None` to leave the flag alone. Audiences in use never leave: their tokens would be
/// refused.
pub(super) fn wanted_audiences(desired: &Desired, found: &Manifest) -> Result<Option<Vec<String>>, String> {
    let Some(wanted) = &desired.api_audiences else { return Ok(None) };
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    // Without the flag kube-apiserver takes its issuers as audiences.
    let in_use = found.api_audiences().unwrap_or_else(|| found.issuers());
    match in_use.iter().find(|audience| !wanted.contains(audience)) {
        None => Ok(Some(wanted)),
        Some(audience) => Err(format!(
            "apiServer.audiences leaves out {audience}, which tokens in use carry: they would be refused (nothing written); add it to \
             the list or write apiServer.audiences: keep"
        )),
    }
}

/// Whether two values of the annotation stand for the same flags and keys, whichever generation wanted them.
pub(super) fn wants_the_same(one: &str, other: &str) -> bool {
    let digest = |applied: &str| applied.rsplit('-').next().map(str::to_owned);
    digest(one) == digest(other)
}

/// Value of the annotation `irsad/applied`: other for every other set of flags and keys, and for every other generation.
pub(super) fn applied(
    desired: &Desired,
    wanted: &Wanted<'_>,
    jwks_uri: Option<&str>,
    audiences: Option<&[String]>,
) -> String {
    let (mut hash, keys) = (Sha256::new(), &wanted.keys);
    let mut line = |name: &str, value: &str| hash.update(format!("{name}={value}\n"));
    wanted.issuers.iter().for_each(|issuer| line("issuer", issuer));
    line("jwks-uri", jwks_uri.unwrap_or_default());
    audiences.unwrap_or_default().iter().for_each(|audience| line("audience", audience));
    if desired.keys == KeyKeeping::Manage {
        line("signs", keys.signing.kid().as_str());
        keys.verifying.iter().for_each(|key| line("verifies", key.kid().as_str()));
    }
    let digest = format!("{:x}", hash.finalize());
    format!("{}-{}", wanted.generation, &digest[..12])
}

/// The new text, whether all flags are right, and whether those beside the issuers are.
pub(super) type Written = Result<(String, bool, bool), ManifestError>;

/// The manifest with our flags.
pub(super) fn change(found: &Manifest, wanted: &manifest::Desired) -> Written {
    let edited = found.with(wanted)?;
    let other_flags = manifest::Desired { issuers: found.issuers().to_vec(), ..wanted.clone() };
    Ok((edited.text().to_owned(), found.has_flags(wanted), found.has_flags(&other_flags)))
}

/// The manifest without our flags. Where they are right already, only other keys can be the reason of a change: kubelet has to see one then.
pub(super) fn revert(found: &Manifest, reverted: &Reverted, wanted: &manifest::Desired) -> Written {
    let other_flags = Reverted { issuers: found.issuers().to_vec(), ..reverted.clone() };
    let are_right = found.is_reverted(&other_flags);
    let edited = match found.is_reverted(reverted) {
        true => found.with(wanted)?,
        false => found.reverted(reverted)?,
    };
    Ok((edited.text().to_owned(), found.is_reverted(reverted), are_right))
}
