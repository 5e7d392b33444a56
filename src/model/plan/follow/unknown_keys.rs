//! Keys in the files of a running node that the keyring does not know: none leaves the files before the keyring has it.

use super::{Ack, Action, Follower, NodeFacts, Plan, RESTART_INTERVAL, WAITING_INTERVAL, key_files, wanted_keys};
use crate::model::{key::PublicKey, keyring::Keyring, probe::Probe, rotation};

/// Every key of the files that the keyring does not know, once.
pub(super) fn unknown<'n>(node: &'n NodeFacts, keyring: &Keyring) -> Vec<&'n PublicKey> {
    let mut unknown: Vec<&PublicKey> = Vec::new();
    for key in node.signing_key.present().into_iter().chain(node.verifying_keys.present().into_iter().flatten()) {
        if keyring.key(key.kid().as_str()).is_none() && !unknown.contains(&key) {
            unknown.push(key);
        }
    }
    unknown
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
