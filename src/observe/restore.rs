//! What `irsad restore` looks at: this node's memory and files, and nothing that a network is needed for.

use std::path::Path;

use super::{memory, read};
use crate::{
    host::{Root, files::LARGEST_FILE_BYTES, machine},
    model::{
        file::Digest,
        key::{PublicKey, SigningKey},
        manifest::Manifest,
        memory::{self as remembered, Proven},
        plan::{FileState, RestoreFacts},
        probe::{Probe, sentence},
    },
};

/// What may use the files, or write them, at this very moment.
const PROCESSES: [&str; 3] = ["kubelet", "kube-apiserver", "kubeadm"];

/// Looks at this node before kubelet starts.
pub fn observe_restore(root: &Root) -> RestoreFacts {
    let proven: Probe<Proven> = memory(root, remembered::PROVEN);
    let (manifest, signing, verifying) = match &proven {
        Probe::Present(proven) => (
            compare(root, &proven.manifest, read_manifest, |bytes| Ok(Digest::of(bytes))),
            compare(root, &proven.signing_key, read_signing_key, read_signing_key),
            compare(root, &proven.verifying_keys, read_verifying_keys, read_verifying_keys),
        ),
        Probe::Absent | Probe::Unknown(_) => (unasked(), unasked(), unasked()),
    };
    RestoreFacts {
        change: memory(root, remembered::CHANGE),
        refused: memory(root, remembered::REFUSED_CHANGE),
        running: running(root),
        manifest: manifest.0,
        manifest_copy: manifest.1,
        signing_key: signing.0,
        signing_copy: signing.1,
        verifying_keys: verifying.0,
        verifying_copy: verifying.1,
        proven,
    }
}

fn unasked<T, C>() -> (FileState<T>, Probe<C>) {
    let why = "nothing is remembered of it".to_owned();
    (FileState::Unknown(why.clone()), Probe::Unknown(why))
}

/// What cannot be asked counts as running: nothing is written then.
fn running(root: &Root) -> Option<String> {
    let runs = |name: &&&str| machine::is_running(root, name).unwrap_or(true);
    PROCESSES.iter().find(runs).map(|name| (*name).to_owned())
}

/// A file and its proven copy.
fn compare<T, C>(
    root: &Root,
    path: &Path,
    understand: fn(&[u8]) -> Result<T, String>,
    understand_copy: fn(&[u8]) -> Result<C, String>,
) -> (FileState<T>, Probe<C>) {
    let place = remembered::proven(path);
    let copy = read(root, &place, LARGEST_FILE_BYTES, |found| Ok(found.bytes));
    let state = match root.read(path, LARGEST_FILE_BYTES) {
        Ok(None) => FileState::Absent,
        Err(error) => FileState::Unknown(sentence(&error)),
        Ok(Some(found)) => match understand(&found.bytes) {
            understood if is_torn(&found.bytes, copy.present(), understood.is_ok()) => FileState::Torn(found.digest),
            Ok(value) => FileState::Whole(value, found.digest),
            Err(why) => FileState::Unknown(format!("{} is left as it is: {why}", path.display())),
        },
    };
    let copy = match copy {
        Probe::Present(bytes) => understand_copy(&bytes)
            .map_or_else(|why| Probe::Unknown(format!("{}: {why}", place.display())), Probe::Present),
        Probe::Absent => Probe::Absent,
        Probe::Unknown(why) => Probe::Unknown(why),
    };
    (state, copy)
}

/// What a write that was not flushed leaves after a power cut: nothing, NUL bytes, or the beginning. Nobody meant that; whole
/// lines that make sense may be meant, such as a verification file from which the last key was taken.
fn is_torn(found: &[u8], copy: Option<&Vec<u8>>, makes_sense: bool) -> bool {
    let is_beginning = copy.is_some_and(|copy| found.len() < copy.len() && copy.starts_with(found));
    found.iter().all(|byte| *byte == 0) || (is_beginning && !(makes_sense && found.ends_with(b"\n")))
}

fn read_manifest(bytes: &[u8]) -> Result<Manifest, String> {
    Manifest::parse(bytes).map_err(|error| sentence(&error))
}

fn read_signing_key(bytes: &[u8]) -> Result<PublicKey, String> {
    SigningKey::read(bytes).map(|key| key.public().clone()).map_err(|error| sentence(&error))
}

fn read_verifying_keys(bytes: &[u8]) -> Result<Vec<PublicKey>, String> {
    PublicKey::read_all(bytes).map_err(|error| sentence(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_can_have_meant_counts_as_torn() {
        let copy = b"one\ntwo\n".to_vec();
        for (found, makes_sense, torn) in [
            (&b""[..], false, true),
            (b"\0\0\0\0", false, true),
            (b"one\nt", false, true),
            (b"one\nt", true, true),
            (b"one\n", false, true),
            (b"one\n", true, false),
            (b"one\ntwo\n", true, false),
            (b"one\ntwo\nthree\n", false, false),
            (b"two\n", false, false),
        ] {
            assert_eq!(is_torn(found, Some(&copy), makes_sense), torn, "{found:?}");
        }
        assert!(!is_torn(b"one", None, false));
        assert!(is_torn(b"", None, false));
    }
}
