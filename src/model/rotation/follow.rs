//! One node: when it may change its API server, and when it gives the right to do so back.

use super::{Ack, Keyring};
use crate::model::keyring::{KeyState, Rollout};
use jiff::Timestamp;

/// What one node sees when it decides.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// What its running API server and its files show now.
    pub ack: &'a Ack,
    /// Why its API server has to be restarted for anything but the keyring.
    pub own_reasons: &'a [String],
    /// The store holds that evidence.
    pub is_told: bool,
    /// Other API servers that do not answer as ready ones, by name.
    pub not_ready: &'a [String],
    /// Key ids that this node, as an outsider, finds at the issuer URL now.
    pub outside: &'a [String],
    /// Nodes that are to be changed before this one, because a lease that this node holds should move once only.
    pub after: &'a [String],
}

/// What the node does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// Its API server is as it should be.
    Settled,
    /// What has to come true first.
    Wait(String),
    /// Take the right to change the API server: write this.
    Take(Box<Keyring>),
    /// Change files and API server; this node holds the right to.
    Change,
    /// Give the right back: write this.
    Release(Box<Keyring>),
}

/// What this node does next to follow `keyring`.
pub fn follow(keyring: &Keyring, here: Here<'_>, now: Timestamp) -> Follow {
    let node = &here.ack.node;
    let holds = keyring.rollout.as_ref().is_some_and(|rollout| rollout.holder == *node);
    if restart_reasons(keyring, here.ack).is_empty() && here.own_reasons.is_empty() {
        return match (holds, here.is_told) {
            (false, _) => Follow::Settled,
            (true, false) => Follow::Wait("to tell the other nodes what kube-apiserver proved".to_owned()),
            (true, true) => Follow::Release(Box::new(Keyring { rollout: None, ..keyring.clone() })),
        };
    }
    if let Some(rollout) = keyring.rollout.as_ref().filter(|_| !holds) {
        return Follow::Wait(format!(
            "for kube-apiserver of {} to be done with its change, begun at {}",
            rollout.holder, rollout.since
        ));
    }
    if let Some(why) = hindrance(keyring, here) {
        return Follow::Wait(why);
    }
    if holds {
        return Follow::Change;
    }
    let rollout = Some(Rollout { holder: node.clone(), since: now });
    Follow::Take(Box::new(Keyring { rollout, ..keyring.clone() }))
}

/// What forbids to restart this API server now.
fn hindrance(keyring: &Keyring, here: Here<'_>) -> Option<String> {
    if !keyring.members.iter().any(|member| member.node == here.ack.node) {
        return Some(format!("for the leader to take {} into the keyring", here.ack.node));
    }
    if !here.not_ready.is_empty() {
        return Some(format!("for kube-apiserver of {} to be ready", here.not_ready.join(", ")));
    }
    let signing = keyring.signing().filter(|key| key.kid != here.ack.signing_kid);
    if let Some(key) = signing.filter(|key| !here.outside.contains(&key.kid)) {
        return Some(format!("for key {} to be found at the issuer URL, before it signs here", key.kid));
    }
    if !here.after.is_empty() {
        return Some(format!(
            "for kube-apiserver of {} to be changed first: this node holds a lease of kube-controller-manager or kube-scheduler",
            here.after.join(", ")
        ));
    }
    None
}

/// Why this node's API server, which shows `ack`, has to be restarted to follow the keyring; empty where it has not. A key that
/// only it still accepts is no reason unless it is revoked, and the standby is one only while a rotation waits for it.
pub fn restart_reasons(keyring: &Keyring, ack: &Ack) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(signing) = keyring.signing().filter(|key| key.kid != ack.signing_kid) {
        reasons.push(format!("sign with key {}", signing.kid));
    }
    let is_needed = |state: KeyState| state != KeyState::Standby || keyring.rotate_since.is_some();
    let lacking = keyring.accepted().filter(|key| is_needed(key.state) && !ack.served.contains(&key.kid));
    reasons.extend(lacking.map(|key| format!("accept key {}", key.kid)));
    let revoked = keyring.keys.iter().filter(|key| key.state == KeyState::Revoked && ack.served.contains(&key.kid));
    reasons.extend(revoked.map(|key| format!("refuse key {}", key.kid)));
    let signs_as_another = keyring.issuers.first() != ack.issuers.first();
    if signs_as_another || keyring.issuers.iter().any(|issuer| !ack.issuers.contains(issuer)) {
        reasons.push(format!("have the issuers {}", keyring.issuers.join(", ")));
    }
    reasons
}
