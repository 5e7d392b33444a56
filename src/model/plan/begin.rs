//! The first generation of the keyring: of the cluster as it runs, or of one that is only being made.

use jiff::Timestamp;

use crate::model::{
    jwks::Jwks,
    key::PublicKey,
    keyring::{KeyState, Keyring, KeyringKey},
    memory::{self, PublishedKey},
    probe::Probe,
    rotation::{self, Adoption, adopt},
};

use super::{
    Action, Desired, Facts, NodeFacts, Plan, Shared, SharedFacts, WAITING_INTERVAL, shared::leads_or_is_alone,
};

/// There is no keyring yet.
pub(super) fn begin(desired: &Desired, facts: &Facts, shared: &SharedFacts, now: Timestamp, plan: &mut Plan) {
    match &shared.applied {
        Probe::Absent => {}
        Probe::Unknown(why) => return plan.needs_a_person.push(why.clone()),
        Probe::Present(mark) => {
            return plan.needs_a_person.push(format!(
                "the keyring is gone from its store, and this node has followed its generation {} (nothing changed): put it back from a \
                 backup, or have it rebuilt from the nodes: irsad rebuild; only where kubeadm reset and init have made a new cluster: rm \
                 {} and systemctl reload irsad",
                mark.generation,
                memory::KEYRING
            ));
        }
    }
    if facts.node.nothing_runs() {
        return found(desired, facts, shared, now, plan);
    }
    if !leads_or_is_alone(shared) {
        let who = shared.leader.as_deref().unwrap_or("a leader");
        return plan.wait(format!("for {who} to begin the keyring"), WAITING_INTERVAL);
    }
    let Some(control_plane) = present_or_wait(&shared.control_plane, plan) else { return };
    let Some(leaving) = present_or_wait(&left_by_others(facts, now), plan).cloned() else { return };
    match adopt(&shared.cluster, &shared.acks, control_plane, leaving, now) {
        Adoption::Wait(waits) => waits.into_iter().for_each(|what| plan.wait(what, WAITING_INTERVAL)),
        Adoption::Differ(why) => plan.needs_a_person.push(why),
        Adoption::Begin(mut keyring) => {
            let kid = keyring.signing().map(|key| key.kid.clone()).unwrap_or_default();
            plan.actions.push(Action::KeepPrivateKey { path: desired.signing_key.clone(), kid });
            keep_standby(&facts.node, &mut keyring, plan);
            plan.actions.push(Action::WriteKeyring {
                what: "the keys and issuers that the cluster has".to_owned(),
                keyring,
                replaces: None,
            });
        }
    }
}

/// The key that `irsad prepare` made to sign next, which the API servers have read at their first start.
fn keep_standby(node: &NodeFacts, keyring: &mut Keyring, plan: &mut Plan) {
    let Some(standby) = node.standby_key.present() else { return };
    rotation::stand_by(keyring, standby.kid().as_str());
    if keyring.standby().is_some_and(|key| key.kid == standby.kid().as_str()) {
        let kid = standby.kid().to_string();
        plan.actions.push(Action::KeepPrivateKey { path: memory::STANDBY_KEY.into(), kid });
    }
}

/// The cluster is only being made, and its keyring does not need an API server: whoever writes first makes its key, where there is none.
/// What a control plane that was here before has left is kept.
fn found(desired: &Desired, facts: &Facts, shared: &SharedFacts, now: Timestamp, plan: &mut Plan) {
    let signing = match &facts.node.signing_key {
        Probe::Unknown(why) => return plan.needs_a_person.push(why.clone()),
        Probe::Absent => None,
        Probe::Present(key) => Some(key),
    };
    let Some(others) = others_of_before(&facts.node, signing, now, plan) else { return };
    let Some(leaving) = present_or_wait(&left_by_others(facts, now), plan).cloned() else { return };
    let (cluster, issuer) = (shared.cluster.clone(), desired.issuer.to_string());
    let Some(key) = signing else {
        return plan.actions.push(Action::FoundKeyring { cluster, issuer, others, leaving, at: now });
    };
    let made = KeyringKey::adopted(key.kid().as_str(), &key.to_pem(), KeyState::Signing, now);
    plan.actions.push(Action::KeepPrivateKey { path: desired.signing_key.clone(), kid: key.kid().to_string() });
    let mut keyring = rotation::beside(rotation::found(&cluster, &issuer, made), &others, &leaving);
    keep_standby(&facts.node, &mut keyring, plan);
    plan.actions.push(Action::WriteKeyring {
        keyring: Box::new(keyring),
        replaces: None,
        what: "the key of this node".to_owned(),
    });
}

/// Keys that this node accepts beside the one that signs: that of `irsad prepare`, and those of a control plane that was here before.
fn others_of_before(
    node: &NodeFacts,
    signing: Option<&PublicKey>,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Vec<KeyringKey>> {
    let accepted = match &node.verifying_keys {
        Probe::Present(keys) => keys.as_slice(),
        Probe::Absent => &[],
        Probe::Unknown(why) => {
            plan.needs_a_person.push(why.clone());
            return None;
        }
    };
    // Where the key that it was to follow is gone, nobody asks for it.
    let prepared = node.standby_key.present().filter(|_| signing.is_some());
    let mut others: Vec<KeyringKey> = Vec::new();
    for key in prepared.into_iter().chain(accepted).filter(|key| Some(key.kid()) != signing.map(PublicKey::kid)) {
        if others.iter().all(|known| known.kid != key.kid().as_str()) {
            others.push(KeyringKey::adopted(key.kid().as_str(), &key.to_pem(), KeyState::Draining, now));
        }
    }
    Some(others)
}

/// Keys that stand in the published JWKS and that no node has: tokens of theirs may live.
fn left_by_others(facts: &Facts, now: Timestamp) -> Probe<Vec<PublishedKey>> {
    let body = match facts.cluster.jwks() {
        Probe::Absent => return Probe::Present(Vec::new()),
        Probe::Unknown(why) => return Probe::Unknown(why.clone()),
        Probe::Present(found) => &found.body,
    };
    let Shared::Seen(shared) = &facts.shared else { return Probe::Present(Vec::new()) };
    let is_on_a_node = |kid: &str| shared.acks.iter().any(|ack| ack.has(kid));
    let published = Jwks::parse(body).map(|jwks| jwks.keys().to_vec()).unwrap_or_default();
    let left = published.into_iter().filter(|jwk| jwk.kid().is_some_and(|kid| !is_on_a_node(kid)));
    Probe::Present(left.map(|jwk| PublishedKey { jwk, seen_since: None, gone_since: Some(now) }).collect())
}

fn present_or_wait<'p, T>(probe: &'p Probe<T>, plan: &mut Plan) -> Option<&'p T> {
    match probe {
        Probe::Present(found) => Some(found),
        Probe::Absent => None,
        Probe::Unknown(why) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            None
        }
    }
}
