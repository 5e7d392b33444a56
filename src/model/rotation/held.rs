//! Keys that no clock of ours lets go.

use jiff::Timestamp;

use super::Ack;
use crate::model::keyring::{KeyState, Keyring};

/// A key that must stay accepted although its time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Key id.
    pub kid: String,
    /// What needs it, for a person.
    pub why: String,
}

/// The node whose kube-controller-manager leads, and since when. It reads the signing key file when it begins to lead, and signs the
/// tokens of Secrets with that key until it ends (kubernetes/kubernetes `cmd/kube-controller-manager/app/core.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its node.
    pub node: String,
    /// Since when it leads.
    pub since: Timestamp,
}

/// Keys of `keyring` that tokens in Secrets are signed with (`legacy`: Secret and key id), and those that a controller may still sign with.
pub fn held(
    keyring: &Keyring,
    legacy: &[(String, String)],
    controller: Option<&Controller>,
    acks: &[Ack],
) -> Vec<Held> {
    let mut held: Vec<Held> = legacy
        .iter()
        .filter(|(_, kid)| keyring.key(kid).is_some_and(|key| key.state != KeyState::Signing))
        .map(|(secret, kid)| Held {
            kid: kid.clone(),
            why: format!(
                "Secret {secret} holds a token signed with it, which never expires; take data.token out of the Secret, and it is signed \
                 anew: its users have to read it again"
            ),
        })
        .collect();
    let Some(controller) = controller else { return held };
    let since = acks.iter().find(|ack| ack.node == controller.node).map(|ack| ack.key_on_disk_since);
    if since.is_none_or(|since| since >= controller.since) {
        let before = keyring.keys.iter().filter(|key| matches!(key.state, KeyState::Draining | KeyState::VerifyOnly));
        held.extend(before.map(|key| Held {
            kid: key.kid.clone(),
            why: format!(
                "kube-controller-manager of {} may have read it before it was replaced, and signs tokens of Secrets with it; it reads the \
                 new one when it leads again: crictl stop its container there",
                controller.node
            ),
        }));
    }
    held
}
