//! What a node tells the others.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::memory::Version1;

/// Evidence of one node's running API server and of its key files: `acks/<node>.json` of the keyring's store, written by that
/// node only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ack {
    /// Of this format.
    pub version: Version1,
    /// The member.
    pub node: String,
    /// `/etc/machine-id` of the machine: two machines of one name tell themselves apart by it.
    pub machine: String,
    /// Address at which its API server listens.
    pub address: String,
    /// When it was written.
    pub at: Timestamp,
    /// Generation of the keyring that this node has seen; 0 before there is one.
    pub generation: u64,
    /// Key ids of its `/openid/v1/jwks`: what the process accepts, whatever the files say.
    pub served: Vec<String>,
    /// Key that a probe token was signed with.
    pub signing_kid: String,
    /// Issuers that the process accepts, the one of the probe token first.
    pub issuers: Vec<String>,
    /// Key in the signing key file.
    pub key_on_disk: String,
    /// When that file was last written.
    pub key_on_disk_since: Timestamp,
    /// Keys of the verification files.
    pub keys: Vec<AckKey>,
    /// Start of the process.
    pub process_started_at: Timestamp,
    /// `/proc/sys/kernel/random/boot_id` of that time.
    pub boot_id: String,
    /// Why its last change was taken back; `None` where none was.
    pub failure: Option<String>,
}

/// One key of a verification file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AckKey {
    /// Key id.
    pub kid: String,
    /// SubjectPublicKeyInfo in PEM.
    pub public_key: String,
}

impl Ack {
    /// Whether `other` says the same, whenever it was written and whatever generation it had seen.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { at: other.at, generation: other.generation, ..self.clone() } == *other
    }

    /// Whether the process or the files of that node still have this key.
    pub fn has(&self, kid: &str) -> bool {
        self.served.iter().any(|served| served == kid)
            || self.signing_kid == kid
            || self.key_on_disk == kid
            || self.keys.iter().any(|key| key.kid == kid)
    }
}
