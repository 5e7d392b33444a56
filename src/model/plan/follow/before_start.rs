//! The key files of a node whose API server has never run: what the keyring has, and every key that this node brought.

use jiff::Timestamp;

use super::{
    Ack, Action, Desired, Followed, NodeFacts, Plan, RESTART_INTERVAL, WAITING_INTERVAL, ack, expected, signing_file,
    unknown_keys::unknown, verifying_file, wanted_keys,
};
use crate::model::{
    file::{Digest, ExpectedFile},
    key::{PublicKey, verification_pem},
    probe::Probe,
    rotation,
};

pub(super) struct BeforeStart<'a> {
    pub(super) desired: &'a Desired,
    pub(super) node: &'a NodeFacts,
    pub(super) followed: Followed<'a>,
    /// What the keyring wants to be accepted, the one that signs first.
    pub(super) keys: &'a [PublicKey],
    pub(super) now: Timestamp,
}

impl BeforeStart<'_> {
    /// Writes the files in an order that stays right wherever it ends: first they accept what the keyring has beside what they hold, then
    /// the keyring takes in what it does not know, then its key signs, and what nobody needs leaves. `false` where something has to come
    /// first, and the rest stays as it is for now.
    pub(super) fn write(&self, plan: &mut Plan) -> bool {
        let (desired, node) = (self.desired, self.node);
        let refused: Vec<&str> =
            [node.signing_key.unknown(), node.verifying_keys.unknown()].into_iter().flatten().collect();
        if !refused.is_empty() {
            plan.needs_a_person.extend(refused.into_iter().map(str::to_owned));
            return false;
        }
        let found = node.verifying_keys.present().map(Vec::as_slice).unwrap_or_default();
        let all = self.together();
        let lacks = all.iter().any(|key| !found.contains(key));
        let (held, file) = match lacks {
            true => (&*all, ExpectedFile::Unchanged(Digest::of(verification_pem(&all).as_bytes()))),
            false => (found, expected(node.verifying_file.as_ref())),
        };
        if lacks {
            plan.actions.extend(verifying_file(desired, node, &all));
        }
        if let Some(why) = self.signs_what_others_may_sign() {
            plan.wait(why, WAITING_INTERVAL);
            return false;
        }
        let Some(wanted) = self.take_in(plan) else { return false };
        plan.actions.extend(signing_file(desired, node, &wanted[0]));
        if held != wanted {
            let (path, pem) = (desired.verifying_keys.clone(), verification_pem(&wanted));
            plan.actions.push(Action::ReplaceVerifyingKeys { path, pem, expected: file });
        }
        true
    }

    /// The keyring's keys, the one that signs first, and after them what else the files of this node hold.
    fn together(&self) -> Vec<PublicKey> {
        let mut all = self.keys.to_vec();
        for key in self.node.verifying_keys.present().into_iter().flatten().chain(self.node.signing_key.present()) {
            if !all.contains(key) {
                all.push(key.clone());
            }
        }
        all
    }

    /// Lets the keyring take in the keys of this node's files that it does not know, and gives those that are to be accepted then, the one
    /// that signs first. `None`: not now.
    fn take_in(&self, plan: &mut Plan) -> Option<Vec<PublicKey>> {
        let keyring = self.followed.keyring();
        let is_needed = |key: &&PublicKey| !is_of_prepare(self.node, key) && !self.is_accepted_by_nobody(key);
        let unknown: Vec<&PublicKey> = unknown(self.node, keyring).into_iter().filter(is_needed).collect();
        if unknown.is_empty() {
            return Some(self.keys.to_vec());
        }
        if plan.actions.iter().any(Action::writes_keyring) {
            plan.next_check = plan.next_check.min(RESTART_INTERVAL);
            return None;
        }
        let kids: Vec<&str> = unknown.iter().map(|key| key.kid().as_str()).collect();
        let what = format!("with key {} of {}", kids.join(", "), self.desired.verifying_keys.display());
        let taken = rotation::take_in(keyring, unknown, self.now);
        if let Err(why) = taken.check() {
            plan.needs_a_person.push(format!("key {} cannot be taken into the keyring: {why}", kids.join(", ")));
            return None;
        }
        plan.actions.push(self.followed.write(&taken, what));
        wanted_keys(&taken)
    }

    /// Whether every other API server is known not to accept a key: no token of it is valid, and an old copy of the files brings nothing
    /// back that was revoked or has retired.
    fn is_accepted_by_nobody(&self, key: &PublicKey) -> bool {
        let shared = self.followed.shared;
        let refuses = |ack: &Ack| !ack.has(key.kid().as_str()) && self.now.duration_since(ack.at) < ack::EXPIRY;
        let is_shown = |node: &str| shared.acks.iter().any(|ack| ack.node == node && refuses(ack));
        let members = self.followed.keyring().members.iter().map(|member| member.node.as_str());
        let others: Vec<&str> = members.filter(|node| *node != shared.node).collect();
        !others.is_empty() && others.into_iter().all(is_shown)
    }

    /// Another key than the keyring's was put into the signing key file, and no API server is known to accept the keyring's: what this
    /// node joins may sign with the one that it brought.
    fn signs_what_others_may_sign(&self) -> Option<String> {
        let wanted = &self.followed.keyring().signing()?.kid;
        let is_others = |key: &&PublicKey| key.kid().as_str() != wanted && !is_of_prepare(self.node, key);
        let brought = self.node.signing_key.present().filter(is_others)?;
        let is_accepted = self.followed.shared.acks.iter().any(|ack| ack.served.contains(wanted));
        (!is_accepted).then(|| {
            format!(
                "for kube-apiserver of this node to run with key {} of {}: no API server is known to accept key {wanted} of the keyring,                  and those that this node joins may sign with the one that it has (it stays there)",
                brought.kid(),
                self.desired.signing_key.display()
            )
        })
    }
}

/// Whether `irsad prepare` made that key here, where no API server has used it: it and its successor stand in the file of that time. Once
/// kubeadm has run, the key may have come with the control plane that this node joins: one image may have prepared several nodes.
fn is_of_prepare(node: &NodeFacts, key: &PublicKey) -> bool {
    if !matches!(node.manifest, Probe::Absent) {
        return false;
    }
    let accepted = node.verifying_keys.present().map(Vec::as_slice).unwrap_or_default();
    let successor = node.standby_key.present().filter(|successor| accepted.contains(successor));
    successor.is_some_and(|successor| successor == key || node.signing_key.present() == Some(key))
}
