//! What a node tells the others.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::memory::Version1;

/// Evidence of one node's running API server: `acks/<node>.json` of the keyring's store, written by that node only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ack {
    /// Of this format.
    pub version: Version1,
    /// The member.
    pub node: String,
    /// Generation of the keyring that its files follow.
    pub generation: u64,
    /// Key ids of its `/openid/v1/jwks`: what the process accepts, whatever the files say.
    pub served: Vec<String>,
    /// Key that a probe token was signed with.
    pub signing_kid: String,
    /// Issuers that the process accepts, the one of the probe token first.
    pub issuers: Vec<String>,
    /// Start of the process.
    pub process_started_at: Timestamp,
    /// `/proc/sys/kernel/random/boot_id` of that time.
    pub boot_id: String,
}
