//! Keys in the files of this node that the keyring does not know: none leaves the files before the keyring has it.

use jiff::Timestamp;

use super::{
    Ack, Action, Desired, Followed, Follower, NodeFacts, Plan, RESTART_INTERVAL, WAITING_INTERVAL, ack, expected,
    key_files, signing_file, wanted_keys,
};
use crate::model::{
    file::{Digest, ExpectedFile},
    key::{PublicKey, verification_pem},
    keyring::Keyring,
    probe::Probe,
    rotation,
};

/// Writes the key files of a node whose API server has never run, in an order that stays right wherever it ends: first they accept what
/// the keyring has beside what they hold, then the keyring takes in what it does not know, then its key signs, and what nobody needs
/// leaves. `false` where something has to come first, and the rest stays as it is for now.
pub(super) fn write_before_start(
    desired: &Desired,
    node: &NodeFacts,
    followed: Followed<'_>,
    keys: &[PublicKey],
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let refused: Vec<&str> =
        [node.signing_key.unknown(), node.verifying_keys.unknown()].into_iter().flatten().collect();
    if !refused.is_empty() {
        plan.needs_a_person.extend(refused.into_iter().map(str::to_owned));
        return false;
    }
    let all = together(keys, node);
    let accepts = accept_all(desired, node, keys, &all);
    let (held, file) = match &accepts {
        Some(_) => (Some(&all), ExpectedFile::Unchanged(Digest::of(verification_pem(&all).as_bytes()))),
        None => (node.verifying_keys.present(), expected(node.verifying_file.as_ref())),
    };
    plan.actions.extend(accepts);
    if let Some(why) = signs_what_others_may_sign(desired, node, followed) {
        plan.wait(why, WAITING_INTERVAL);
        return false;
    }
    let Some(taken) = take_in(desired, node, followed, now, plan) else { return false };
    let wanted = taken.as_ref().and_then(wanted_keys).unwrap_or_else(|| keys.to_vec());
    plan.actions.extend(signing_file(desired, node, &wanted[0]));
    if held != Some(&wanted) {
        let (path, pem) = (desired.verifying_keys.clone(), verification_pem(&wanted));
        plan.actions.push(Action::ReplaceVerifyingKeys { path, pem, expected: file });
    }
    true
}

/// The keyring's keys, the one that signs first, and after them what else the files of this node hold.
fn together(keys: &[PublicKey], node: &NodeFacts) -> Vec<PublicKey> {
    let mut all = keys.to_vec();
    for key in node.verifying_keys.present().into_iter().flatten().chain(node.signing_key.present()) {
        if !all.contains(key) {
            all.push(key.clone());
        }
    }
    all
}

/// Adds to the verification file what it lacks of the keyring, or of the key beside it.
fn accept_all(desired: &Desired, node: &NodeFacts, keys: &[PublicKey], all: &[PublicKey]) -> Option<Action> {
    let found = node.verifying_keys.present().map(Vec::as_slice).unwrap_or_default();
    let lacks = keys.iter().chain(node.signing_key.present()).any(|key| !found.contains(key));
    lacks.then(|| Action::ReplaceVerifyingKeys {
        path: desired.verifying_keys.clone(),
        pem: verification_pem(all),
        expected: expected(node.verifying_file.as_ref()),
    })
}

/// Lets the keyring take in the keys of this node's files that it does not know, and gives it as it is then. `Some(None)`: there are
/// none. `None`: not now.
fn take_in(
    desired: &Desired,
    node: &NodeFacts,
    followed: Followed<'_>,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Option<Keyring>> {
    let keyring = followed.keyring();
    let is_needed = |key: &&PublicKey| !is_of_prepare(node, key) && !is_accepted_by_nobody(followed, key, now);
    let unknown: Vec<&PublicKey> = unknown(node, keyring).into_iter().filter(is_needed).collect();
    if unknown.is_empty() {
        return Some(None);
    }
    if plan.actions.iter().any(Action::writes_keyring) {
        plan.next_check = plan.next_check.min(RESTART_INTERVAL);
        return None;
    }
    let kids: Vec<&str> = unknown.iter().map(|key| key.kid().as_str()).collect();
    let what = format!("with key {} of {}", kids.join(", "), desired.verifying_keys.display());
    let taken = rotation::take_in(keyring, unknown, now);
    if let Err(why) = taken.check() {
        plan.needs_a_person.push(format!("key {} cannot be taken into the keyring: {why}", kids.join(", ")));
        return None;
    }
    plan.actions.push(followed.write(&taken, what));
    Some(Some(taken))
}

/// Whether every other API server is known not to accept a key: no token of it is valid, and an old copy of the files brings nothing back
/// that was revoked or has retired.
fn is_accepted_by_nobody(followed: Followed<'_>, key: &PublicKey, now: Timestamp) -> bool {
    let shared = followed.shared;
    let refuses = |ack: &Ack| !ack.has(key.kid().as_str()) && now.duration_since(ack.at) < ack::EXPIRY;
    let is_shown = |node: &str| shared.acks.iter().any(|ack| ack.node == node && refuses(ack));
    let members = followed.keyring().members.iter().map(|member| member.node.as_str());
    let others: Vec<&str> = members.filter(|node| *node != shared.node).collect();
    !others.is_empty() && others.into_iter().all(is_shown)
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
             those that this node joins may sign with the one that it has (it stays there)",
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
        if let Err(why) = rotation::take_in(keyring, unknown.iter().copied(), self.now).check() {
            plan.needs_a_person.push(format!("key {} cannot be taken into the keyring: {why}", first.kid()));
            return true;
        }
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
