//! Keys in the files of this node that the keyring does not know: none leaves the files before the keyring has it.

use jiff::Timestamp;

use super::{
    Ack, Action, Desired, Followed, Follower, NodeFacts, Plan, RESTART_INTERVAL, WAITING_INTERVAL, key_files,
    wanted_keys,
};
use crate::model::{key::PublicKey, keyring::Keyring, probe::Probe, rotation};

/// Before the first API server of this node starts: whether its files stay as they are for now, because the keyring takes in what they
/// accept, or because nobody is known to accept what the keyring has.
pub(super) fn come_first(
    desired: &Desired,
    node: &NodeFacts,
    followed: Followed<'_>,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let refused: Vec<&str> =
        [node.signing_key.unknown(), node.verifying_keys.unknown()].into_iter().flatten().collect();
    if !refused.is_empty() {
        plan.needs_a_person.extend(refused.into_iter().map(str::to_owned));
        return true;
    }
    if let Some(why) = signs_what_others_may_sign(desired, node, followed) {
        plan.wait(why, WAITING_INTERVAL);
        return true;
    }
    let keyring = followed.keyring();
    let unknown: Vec<&PublicKey> = unknown(node, keyring).into_iter().filter(|key| !is_of_prepare(node, key)).collect();
    if unknown.is_empty() {
        return false;
    }
    if plan.actions.iter().any(Action::writes_keyring) {
        plan.next_check = plan.next_check.min(RESTART_INTERVAL);
        return true;
    }
    let kids: Vec<&str> = unknown.iter().map(|key| key.kid().as_str()).collect();
    let what = format!("with key {} of {}", kids.join(", "), desired.verifying_keys.display());
    plan.actions.push(followed.write(&rotation::take_in(keyring, unknown, now), what));
    true
}

/// Another key than the keyring's was put into the signing key file, and no API server is known to accept the keyring's: what this node
/// joins may sign with the one that it brought.
fn signs_what_others_may_sign(desired: &Desired, node: &NodeFacts, followed: Followed<'_>) -> Option<String> {
    let wanted = &followed.keyring().signing()?.kid;
    let brought = node.signing_key.present().filter(|key| key.kid().as_str() != wanted && !is_of_prepare(node, key))?;
    let is_accepted = followed.shared.acks.iter().any(|ack| ack.served.contains(wanted));
    (!is_accepted).then(|| {
        format!(
            "for kube-apiserver of this node to run with key {} of {}: no API server is known to accept key {wanted} of the keyring, and \
             those that this node joins may sign with the one that it has (nothing written)",
            brought.kid(),
            desired.signing_key.display()
        )
    })
}

/// Every key of the files that the keyring does not know, once.
fn unknown<'n>(node: &'n NodeFacts, keyring: &Keyring) -> Vec<&'n PublicKey> {
    let mut unknown: Vec<&PublicKey> = Vec::new();
    for key in node.signing_key.present().into_iter().chain(node.verifying_keys.present().into_iter().flatten()) {
        if keyring.key(key.kid().as_str()).is_none() && !unknown.contains(&key) {
            unknown.push(key);
        }
    }
    unknown
}

/// Whether `irsad prepare` made that key here, where no API server has used it: it and its successor stand in the file of that time. Once
/// kubeadm has run, the key may have come with the control plane that this node joins: one image may have prepared several nodes.
pub(super) fn is_of_prepare(node: &NodeFacts, key: &PublicKey) -> bool {
    if !matches!(node.manifest, Probe::Absent) {
        return false;
    }
    let accepted = node.verifying_keys.present().map(Vec::as_slice).unwrap_or_default();
    let successor = node.standby_key.present().filter(|successor| accepted.contains(successor));
    successor.is_some_and(|successor| successor == key || node.signing_key.present() == Some(key))
}

impl Follower<'_> {
    /// Whether there is one. One in the signing key file somebody wants to sign: it becomes the next standby, and what signs now is put
    /// back until it may. The others the leader takes in.
    pub(super) fn has_a_key_of_somebody(&self, own: &Ack, plan: &mut Plan) -> bool {
        let (keyring, node) = (self.followed.keyring(), self.node());
        if let Probe::Unknown(why) = &node.signing_key {
            plan.needs_a_person.push(why.clone());
            return true;
        }
        let unknown = unknown(node, keyring);
        let Some(first) = unknown.first() else { return false };
        match node.signing_key.present().filter(|key| unknown.contains(key)) {
            Some(_) if plan.actions.iter().any(Action::writes_keyring) => {
                plan.next_check = plan.next_check.min(RESTART_INTERVAL);
            }
            Some(key) => self.take_over(key, &unknown, own, plan),
            None => plan.wait(format!("for the leader to take key {} into the keyring", first.kid()), WAITING_INTERVAL),
        }
        true
    }

    fn take_over(&self, key: &PublicKey, unknown: &[&PublicKey], own: &Ack, plan: &mut Plan) {
        let (path, node) = (&self.desired.signing_key, self.node());
        let taken = rotation::take_over(self.followed.keyring(), key.kid().as_str(), &key.to_pem(), self.now);
        let taken = rotation::take_in(&taken, unknown.iter().copied(), self.now);
        // What stood in the file before may be refused by those that this node has joined.
        let before = self.would_be_refused(own).is_none().then(|| wanted_keys(&taken)).flatten();
        plan.notices.push(format!(
            "somebody put key {} into {}: it is published first and signs when every kube-apiserver accepts it; until then {}",
            key.kid(),
            path.display(),
            if before.is_some() { "the key before it is put back" } else { "it is left there" }
        ));
        plan.actions.push(Action::KeepPrivateKey { path: path.clone(), kid: key.kid().to_string() });
        plan.actions.push(self.followed.write(&taken, format!("key {} of {} signs next", key.kid(), path.display())));
        plan.actions.extend(before.into_iter().flat_map(|keys| key_files(self.desired, node, &keys)));
    }
}
