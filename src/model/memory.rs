//! What this node remembers from one pass to the next, below `/var/lib/irsad`.
//!
//! Only what no observation can tell: when a change began, which change failed, since when a key is gone. Formats are
//! promises: unknown members are refused, `version` says how to read the rest.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::jwks::Jwk;

/// Folder of this node's memory.
pub const FOLDER: &str = "/var/lib/irsad";
/// See [`Change`].
pub const CHANGE: &str = "/var/lib/irsad/change.json";
/// Digest of the manifest of the [`Change`] that was begun since the machine was switched on.
pub const CHANGE_OF_THIS_BOOT: &str = "/run/irsad/change";
/// Region that the instance told last, as text: at a boot its metadata may not answer yet.
pub const REGION: &str = "/var/lib/irsad/region";
/// See [`RefusedChange`].
pub const REFUSED_CHANGE: &str = "/var/lib/irsad/refused-change.json";
/// See [`PublishedKeys`].
pub const PUBLISHED_KEYS: &str = "/var/lib/irsad/published-keys.json";
/// Bytes of the newest keyring that this node has followed. An older one is refused, and from it a lost one is rebuilt.
pub const KEYRING: &str = "/var/lib/irsad/keyring.json";
/// Private half of the key that `irsad prepare` made to sign next, until the keyring has it.
pub const STANDBY_KEY: &str = "/var/lib/irsad/standby.key";
/// See [`Proven`].
pub const PROVEN: &str = "/var/lib/irsad/proven.json";
/// See [`TornDown`].
pub const TORN_DOWN: &str = "/var/lib/irsad/torn-down.json";
/// Copies of the manifest and key files as they were before the last change, for a rollback.
pub const LAST_GOOD: &str = "/var/lib/irsad/last-good";

/// Where the last-good copy of a file of this host is kept.
pub fn last_good(file: &Path) -> PathBuf {
    Path::new(LAST_GOOD).join(file.file_name().unwrap_or_default())
}

/// Copies of the manifest and key files that the API server last proved.
pub const PROVEN_FILES: &str = "/var/lib/irsad/proven";

/// Where the proven copy of a file of this host is kept.
pub fn proven(file: &Path) -> PathBuf {
    Path::new(PROVEN_FILES).join(file.file_name().unwrap_or_default())
}

/// Version 1 of a file's format. Another number is refused when it is read: a later irsad wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Version1;

impl TryFrom<u32> for Version1 {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self),
            other => Err(format!("version {other} of its format is not known")),
        }
    }
}

impl From<Version1> for u32 {
    fn from(Version1: Version1) -> Self {
        1
    }
}

/// A manifest change that has been begun and is not yet proven by the running API server: `change.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// Of this format.
    pub version: Version1,
    /// SHA-256 (hex) of the manifest as we wrote it: a rollback is ours only while the file still has it.
    pub manifest_digest: String,
    /// SHA-256 (hex) of the manifest before: found again with another process, somebody has undone the change.
    pub old_manifest_digest: String,
    /// What the change wants, as in the annotation `irsad/applied`.
    pub applied: String,
    /// Issuer that the new process must sign as.
    pub issuer: String,
    /// Key that it must sign with.
    pub signing_kid: String,
    /// Keys that it must accept.
    pub kids: Vec<String>,
    /// When the file was about to be written.
    pub begun_at: Timestamp,
    /// Start of the API server process that ran then; `None` where none answered.
    pub old_process_started_at: Option<Timestamp>,
}

/// A change that the API server did not come back from; it is not tried again: `refused-change.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusedChange {
    /// Of this format.
    pub version: Version1,
    /// What the change wanted, as in the annotation `irsad/applied`.
    pub applied: String,
    /// When the previous manifest was put back.
    pub rolled_back_at: Timestamp,
    /// What was still missing then, for a person.
    pub reason: String,
}

/// Keys that this node has published, and since when they are no longer in use here: `published-keys.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishedKeys {
    /// Of this format.
    pub version: Version1,
    /// In order of first publication.
    pub keys: Vec<PublishedKey>,
}

/// One key of [`PublishedKeys`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishedKey {
    /// The public key as it stands in the JWKS.
    pub jwk: Jwk,
    /// First pass in which an outsider saw it; `None` while nobody has.
    pub seen_since: Option<Timestamp>,
    /// First pass in which neither the key files nor the API server had it; `None` while it is in use.
    pub gone_since: Option<Timestamp>,
}

/// What the running API server last proved that it runs with: `proven.json`. `irsad restore` puts it back before kubelet starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proven {
    /// Of this format.
    pub version: Version1,
    /// The manifest.
    pub manifest: PathBuf,
    /// SHA-256 (hex) of the manifest, and of its copy.
    pub manifest_digest: String,
    /// `--service-account-issuer`, in order: the first signs.
    pub issuers: Vec<String>,
    /// `--service-account-jwks-uri`.
    pub jwks_uri: String,
    /// `--api-audiences`; `None` where the flag is not there.
    pub api_audiences: Option<Vec<String>>,
    /// Annotation `irsad/applied`; `None` on a cluster whose API server had our flags from the beginning.
    pub applied: Option<String>,
    /// Signing key file.
    pub signing_key: PathBuf,
    /// Key that signs.
    pub signing_kid: String,
    /// Verification key file.
    pub verifying_keys: PathBuf,
    /// Keys that are accepted, in the order of the file.
    pub kids: Vec<String>,
    /// Whether the key files are irsad's to put back; else somebody else writes them (`apiServer.keys: follow`).
    pub keeps_keys: bool,
}

/// That this cluster does without irsad's issuer again, and that this node has nothing left to do: `torn-down.json`. As long as it lies
/// there nothing is begun anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TornDown {
    /// Of this format.
    pub version: Version1,
    /// When nothing was left to remove.
    pub at: Timestamp,
    /// Issuer that API servers sign as.
    pub issuer: String,
    /// Issuer of before, which they accept still.
    pub accepts: String,
    /// When its last token has expired, the longest ones included; `None` where that is not known.
    pub accepts_until: Option<Timestamp>,
    /// What was left, and what may be done about it, a sentence each.
    pub remains: Vec<String>,
    /// The keyring that said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<LastKeyring>,
}

/// The keyring by which a cluster was torn down. One that is found later continues it, or is of another time or cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastKeyring {
    /// Its generation.
    pub generation: u64,
    /// SHA-256 (hex) of its bytes.
    pub hash: String,
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::{Serialize, de::DeserializeOwned};

    use super::*;
    use crate::model::report::Report;

    /// Reads a file as a released version wrote it and writes it again.
    fn reads_and_writes<T: Serialize + DeserializeOwned + Debug>(text: &str) {
        let value: T = serde_json::from_str(text).expect("a file of this version");
        let written = serde_json::to_string_pretty(&value).expect("JSON");
        assert_eq!(format!("{written}\n"), text);
        assert!(serde_json::from_str::<T>(&text.replacen("1", "2", 1)).is_err(), "version 2 is read as version 1");
        let extended = text.replacen('{', "{ \"later\": 1,", 1);
        assert!(serde_json::from_str::<T>(&extended).is_err(), "a member that we do not know is passed over");
    }

    #[test]
    fn files_of_version_1_are_read_and_written_byte_for_byte() {
        reads_and_writes::<Change>(include_str!("../../tests/fixtures/formats/change-v1.json"));
        reads_and_writes::<RefusedChange>(include_str!("../../tests/fixtures/formats/refused-change-v1.json"));
        reads_and_writes::<PublishedKeys>(include_str!("../../tests/fixtures/formats/published-keys-v1.json"));
        reads_and_writes::<Proven>(include_str!("../../tests/fixtures/formats/proven-v1.json"));
        reads_and_writes::<TornDown>(include_str!("../../tests/fixtures/formats/torn-down-v1.json"));
        reads_and_writes::<TornDown>(include_str!("../../tests/fixtures/formats/torn-down-of-keyring-v1.json"));
        reads_and_writes::<Report>(include_str!("../../tests/fixtures/formats/status-v1.json"));
    }
}
