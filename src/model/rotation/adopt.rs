//! A running cluster's keys and issuers, taken as they are: into the first generation, and from a node that comes later.

use jiff::Timestamp;

use super::{Ack, ControlPlane, members};
use crate::model::{
    key::PublicKey,
    keyring::{KeyState, Keyring, KeyringKey, Member, Origin},
    memory::{PublishedKey, Version1},
};

/// What becomes of a control plane without a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    /// Its first keyring. Nothing about the cluster changes by it.
    Begin(Box<Keyring>),
    /// What has to come true first.
    Wait(Vec<String>),
    /// What a person has to put right first.
    Differ(String),
}

/// The keyring of a cluster whose nodes have reported: what signs stays what signs, and all that any of them accepts stays accepted.
pub fn adopt(
    cluster: &str,
    acks: &[Ack],
    control_plane: &ControlPlane,
    leaving: Vec<PublishedKey>,
    now: Timestamp,
) -> Adoption {
    let required = members::required(control_plane, acks);
    let acks: Vec<&Ack> = required.iter().filter_map(|name| acks.iter().find(|ack| ack.node == *name)).collect();
    let silent: Vec<&str> =
        required.iter().filter(|name| acks.iter().all(|ack| ack.node != **name)).map(String::as_str).collect();
    if !silent.is_empty() {
        return Adoption::Wait(vec![format!(
            "for irsad to report from {}: every control-plane node has to have it before anything is changed",
            silent.join(", ")
        )]);
    }
    let Some(first) = acks.first() else {
        return Adoption::Wait(vec!["for irsad of a control-plane node to report".to_owned()]);
    };
    if acks.iter().any(|ack| ack.signing_kid != first.signing_kid || ack.key_on_disk != first.key_on_disk) {
        let signs = |ack: &&Ack| match ack.signing_kid == ack.key_on_disk {
            true => format!("{} with {}", ack.node, ack.signing_kid),
            false => format!("{} with {} (its file holds {})", ack.node, ack.signing_kid, ack.key_on_disk),
        };
        return Adoption::Differ(format!(
            "the control-plane nodes sign with different keys: {} (nothing changed); give every node the same sa.key, with the public \
             halves of all of them in each sa.pub, and restart their API servers one by one",
            acks.iter().map(signs).collect::<Vec<_>>().join(", ")
        ));
    }
    match begin(cluster, &acks, leaving, now) {
        Some(keyring) => Adoption::Begin(Box::new(keyring)),
        None => Adoption::Differ(format!(
            "the verification file of {} does not have the key {} that it signs with (nothing changed); put its public half there",
            first.node, first.signing_kid
        )),
    }
}

fn begin(cluster: &str, acks: &[&Ack], leaving: Vec<PublishedKey>, now: Timestamp) -> Option<Keyring> {
    let signing = &acks.first()?.signing_kid;
    let mut keys: Vec<KeyringKey> = Vec::new();
    let mut issuers: Vec<String> = Vec::new();
    for ack in acks {
        for key in &ack.keys {
            if !keys.iter().any(|known| known.kid == key.kid) {
                let state = if key.kid == *signing { KeyState::Signing } else { KeyState::Draining };
                keys.push(KeyringKey::adopted(&key.kid, &key.public_key, state, now));
            }
        }
        for issuer in &ack.issuers {
            if !issuers.contains(issuer) {
                issuers.push(issuer.clone());
            }
        }
    }
    keys.iter().any(|key| key.kid == *signing).then(|| Keyring {
        version: Version1,
        cluster: cluster.to_owned(),
        generation: 1,
        previous_hash: String::new(),
        ancestors: Vec::new(),
        issuers,
        keys,
        leaving,
        members: acks.iter().map(|ack| Member { node: ack.node.clone(), since: now }).collect(),
        rotate_since: None,
        rollout: None,
        teardown: None,
    })
}

/// Makes a key that every node accepts already the standby: its private half was made for that.
pub fn stand_by(keyring: &mut Keyring, kid: &str) {
    for key in keyring.keys.iter_mut().filter(|key| key.kid == kid && key.state == KeyState::Draining) {
        (key.state, key.origin) = (KeyState::Standby, Origin::Made);
    }
}

/// The keyring of a cluster that is only being made: its first node's key.
pub fn found(cluster: &str, issuer: &str, key: KeyringKey) -> Keyring {
    Keyring {
        version: Version1,
        cluster: cluster.to_owned(),
        generation: 1,
        previous_hash: String::new(),
        ancestors: Vec::new(),
        issuers: vec![issuer.to_owned()],
        keys: vec![KeyringKey { state: KeyState::Signing, origin: Origin::Made, ..key }],
        leaving: Vec::new(),
        members: Vec::new(),
        rotate_since: None,
        rollout: None,
        teardown: None,
    }
}

/// That keyring beside what was there before it: `others` stay accepted, and what else is published stays so as `leaving`.
pub fn beside(keyring: Keyring, others: &[KeyringKey], leaving: &[PublishedKey]) -> Keyring {
    let keys = [keyring.keys.as_slice(), others].concat();
    let is_gone = |left: &&PublishedKey| left.jwk.kid().is_none_or(|kid| keys.iter().all(|key| key.kid != kid));
    let leaving = leaving.iter().filter(is_gone).cloned().collect();
    Keyring { keys, leaving, ..keyring }
}

/// The keyring with those of `found` that it does not know. They are in the files of a node, so they stay accepted, and are published.
pub fn take_in<'k>(keyring: &Keyring, found: impl IntoIterator<Item = &'k PublicKey>, now: Timestamp) -> Keyring {
    let mut changed = keyring.clone();
    for key in found {
        if changed.key(key.kid().as_str()).is_none() {
            changed.keys.push(KeyringKey::new(key, KeyState::Draining, Origin::Adopted, now));
        }
    }
    changed
}

/// The keyring in which key `kid`, which it has from the files of nodes, is one that irsad made, and goes when its time is over.
pub fn of_ours(keyring: &Keyring, kid: &str) -> Keyring {
    let mut changed = keyring.clone();
    changed.keys.iter_mut().filter(|key| key.kid == kid).for_each(|key| key.origin = Origin::Made);
    changed
}
