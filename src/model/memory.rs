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
/// See [`RefusedChange`].
pub const REFUSED_CHANGE: &str = "/var/lib/irsad/refused-change.json";
/// See [`PublishedKeys`].
pub const PUBLISHED_KEYS: &str = "/var/lib/irsad/published-keys.json";
/// Copies of the manifest and key files that were last known to run.
pub const LAST_GOOD: &str = "/var/lib/irsad/last-good";

/// Where the last-good copy of a file of this host is kept.
pub fn last_good(file: &Path) -> PathBuf {
    Path::new(LAST_GOOD).join(file.file_name().unwrap_or_default())
}

/// Version of every file in the node's memory that this program writes.
pub const MEMORY_VERSION: u32 = 1;

/// A manifest change that has been begun and is not yet proven by the running API server: `change.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// [`MEMORY_VERSION`].
    pub version: u32,
    /// SHA-256 (hex) of the manifest as we wrote it: a rollback is ours only while the file still has it.
    pub manifest_digest: String,
    /// What the change wants, as in the annotation `irsad/applied`.
    pub applied: String,
    /// When the file was about to be written.
    pub begun_at: Timestamp,
    /// Start of the API server process that ran then; `None` where none answered.
    pub old_process_started_at: Option<Timestamp>,
}

/// A change that the API server did not come back from; it is not tried again: `refused-change.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusedChange {
    /// [`MEMORY_VERSION`].
    pub version: u32,
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
    /// [`MEMORY_VERSION`].
    pub version: u32,
    /// In order of first publication.
    pub keys: Vec<PublishedKey>,
}

/// One key of [`PublishedKeys`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishedKey {
    /// The public key as it stands in the JWKS.
    pub jwk: Jwk,
    /// First pass in which neither the key files nor the API server had it; `None` while it is in use.
    pub gone_since: Option<Timestamp>,
}
