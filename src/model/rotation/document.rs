//! What a node tells the others.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{memory::Version1, webhook::WebhookState};

/// Evidence of one node's running API server and of its key files: `acks/<node>.json` of the keyring's store, written by that
/// node only.
///
/// What a newer version adds to it is ignored: packages are upgraded one node after the other, and evidence of those that went first
/// must count for those that did not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// Its webhook server; `None` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookState>,
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

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../../../tests/fixtures/formats/ack-v1.json");

    #[test]
    fn evidence_of_version_1_is_read_and_written_byte_for_byte_with_a_webhook_and_without() {
        let ack: Ack = serde_json::from_str(FIXTURE).expect("evidence");
        assert_eq!(serde_json::to_string_pretty(&ack).map(|text| text + "\n").ok().as_deref(), Some(FIXTURE));
        let mut older: serde_json::Value = serde_json::from_str(FIXTURE).expect("JSON");
        older.as_object_mut().expect("an object").remove("webhook");
        let read: Ack = serde_json::from_value(older.clone()).expect("evidence of an older version");
        assert_eq!(read.webhook, None);
        assert_eq!(serde_json::to_value(&read).ok(), Some(older), "nothing of it that an older version refuses");
    }

    #[test]
    fn what_a_newer_version_adds_is_ignored() {
        let newer = FIXTURE.replacen('{', "{ \"later\": 1,", 1).replace("\"port\"", "\"later\": 1, \"port\"");
        let (read, known): (Ack, Ack) =
            (serde_json::from_str(&newer).expect("evidence"), serde_json::from_str(FIXTURE).expect("evidence"));
        assert_eq!(read, known);
        assert!(serde_json::from_str::<Ack>(&FIXTURE.replacen('1', "2", 1)).is_err(), "version 2 is read as version 1");
    }

    #[test]
    fn another_webhook_is_told_anew() {
        let ack: Ack = serde_json::from_str(FIXTURE).expect("evidence");
        assert!(ack.says_the_same(&ack));
        assert!(!ack.says_the_same(&Ack { webhook: None, ..ack.clone() }));
    }
}
