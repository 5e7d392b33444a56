//! The keyring: what every control-plane node of one cluster agrees on. One document, changed only by compare-and-swap.
//!
//! It must not know where it is kept. Each generation names the hash of the one before, so that a store that went back in time,
//! or that two clusters write to, is noticed by every node (see [`HighWater`]). Private halves are not in it.

mod error;
mod teardown;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use error::KeyringError;
pub use teardown::{Ended, Teardown};

use super::{
    key::{Kid, PublicKey},
    memory::{PublishedKey, Version1},
};

/// Most keys in the public JWKS: a document that grows is a rotation that does not retire.
pub const MOST_PUBLISHED: usize = 8;
/// Most keys that API servers are asked to accept.
pub const MOST_ACCEPTED: usize = 32;
/// Generations that a keyring remembers: for a node that missed more of them, its history is no longer compared.
pub const MOST_ANCESTORS: usize = 256;
/// Characters of a hash that stand for it in [`Keyring::ancestors`].
const SHORT_HASH: usize = 16;

/// The shared state: `state.json` of the keyring's store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyring {
    /// Of this format.
    pub version: Version1,
    /// The cluster that it is of: a keyring of another one is refused.
    pub cluster: String,
    /// One more with every change.
    pub generation: u64,
    /// SHA-256 (hex) of the bytes of the generation before; empty in the first.
    pub previous_hash: String,
    /// First 16 characters of the hashes of the generations before that one, the youngest first; at most [`MOST_ANCESTORS`].
    pub ancestors: Vec<String>,
    /// What every API server's `--service-account-issuer` is to be, in order: the first signs, all are accepted.
    pub issuers: Vec<String>,
    /// In order of age.
    pub keys: Vec<KeyringKey>,
    /// Keys that somebody published before irsad and no API server has: published until their last token has expired.
    pub leaving: Vec<PublishedKey>,
    /// Control-plane nodes, in order of their joining.
    pub members: Vec<Member>,
    /// Since when another signing key is wanted, by age or by request; `None` where none is.
    pub rotate_since: Option<Timestamp>,
    /// The one API server that is being changed.
    pub rollout: Option<Rollout>,
    /// That the cluster is to do without irsad's issuer again; `None`: it is to have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teardown: Option<Teardown>,
}

/// One key of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyringKey {
    /// Key id.
    pub kid: String,
    /// Public half, SubjectPublicKeyInfo in PEM.
    pub public_key: String,
    /// Where it is in its life.
    pub state: KeyState,
    /// Where it came from.
    pub origin: Origin,
    /// When it entered that state.
    pub since: Timestamp,
    /// The states before that one, the first one first.
    pub history: Vec<Phase>,
    /// When the leader first found it as an outsider does; `None` while it has not.
    pub published_at: Option<Timestamp>,
    /// First moment at which every member had proven that it signs with another key; `None` before that.
    pub unused_since: Option<Timestamp>,
    /// How a person wants it gone; `None`: it retires by its age.
    pub revoke: Option<Revoke>,
}

/// A state that a key was in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Phase {
    /// Which.
    pub state: KeyState,
    /// From when on.
    pub since: Timestamp,
}

/// How a key is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Revoke {
    /// When the last token that outsiders may have to verify has expired.
    Drain,
    /// At once: its live tokens are refused.
    Now,
}

/// The life of a key. It leaves the list when it is retired or revoked and no member has it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyState {
    /// Published and accepted; signs nothing yet. Its private half is in the keyring only.
    Standby,
    /// New tokens are signed with it.
    Signing,
    /// Signs no longer; published for as long as its last token may live.
    Draining,
    /// No longer published; API servers still accept it.
    VerifyOnly,
    /// No longer needed: nodes leave it out at a restart that happens anyway.
    Retired,
    /// No longer to be accepted: API servers that do are restarted.
    Revoked,
}

impl KeyState {
    /// Whether it is in the public JWKS.
    pub fn is_published(self) -> bool {
        match self {
            Self::Standby | Self::Signing | Self::Draining => true,
            Self::VerifyOnly | Self::Retired | Self::Revoked => false,
        }
    }

    /// Whether API servers are to accept it.
    pub fn is_accepted(self) -> bool {
        match self {
            Self::Standby | Self::Signing | Self::Draining | Self::VerifyOnly => true,
            Self::Retired | Self::Revoked => false,
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standby => "standing by",
            Self::Signing => "signing",
            Self::Draining => "draining",
            Self::VerifyOnly => "accepted only",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        })
    }
}

/// Where a key came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// irsad made it for the keyring.
    Made,
    /// It was on the nodes before irsad. API servers accept it until a person takes it out: what it has signed may live for ever.
    Adopted,
}

/// A control-plane node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// Name of its Node object.
    pub node: String,
    /// When it was first seen.
    pub since: Timestamp,
}

/// The right to change one API server. Nobody takes it over by time: its holder gives it back with evidence, or a person does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// The member that holds it.
    pub holder: String,
    /// Since when.
    pub since: Timestamp,
}

/// The newest generation that this node has taken part in. An older one, or one of another history, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HighWater {
    /// The generation.
    pub generation: u64,
    /// SHA-256 (hex) of its bytes.
    pub hash: String,
}

/// SHA-256 (hex) of a keyring's bytes.
pub fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

impl Keyring {
    /// Reads the keyring of `cluster`.
    ///
    /// # Errors
    /// It is damaged, of another cluster or of a newer irsad; nothing is to be done with it then.
    pub fn parse(bytes: &[u8], cluster: &str) -> Result<Self, KeyringError> {
        let keyring: Self = serde_json::from_slice(bytes).map_err(KeyringError::Format)?;
        if keyring.cluster != cluster {
            return Err(KeyringError::OtherCluster { found: keyring.cluster, wanted: cluster.to_owned() });
        }
        keyring.check()?;
        for key in &keyring.keys {
            key.public()?;
        }
        Ok(keyring)
    }

    /// The bytes to store: indented by two spaces, with a newline at the end.
    pub fn render(&self) -> Vec<u8> {
        // Nothing in it can fail to be written as JSON.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The next generation after the one whose bytes are `previous`, not changed yet.
    pub fn next(&self, previous: &[u8]) -> Self {
        let before = self.previous_hash.get(..SHORT_HASH).map(str::to_owned);
        let ancestors = before.into_iter().chain(self.ancestors.iter().cloned()).take(MOST_ANCESTORS).collect();
        Self { generation: self.generation + 1, previous_hash: hash(previous), ancestors, ..self.clone() }
    }

    /// What holds of every keyring.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(&self) -> Result<(), KeyringError> {
        let of = |state| self.keys.iter().filter(move |key| key.state == state).count();
        if of(KeyState::Signing) != 1 || of(KeyState::Standby) > 1 {
            return Err(KeyringError::Signers { signing: of(KeyState::Signing), standby: of(KeyState::Standby) });
        }
        check_room(&self.keys, 0)?;
        if let Some(kid) = repeated(self.keys.iter().map(|key| key.kid.as_str())) {
            return Err(KeyringError::Twice { what: "key", name: kid.to_owned() });
        }
        if let Some(node) = repeated(self.members.iter().map(|member| member.node.as_str())) {
            return Err(KeyringError::Twice { what: "member", name: node.to_owned() });
        }
        match self.issuers.is_empty() {
            true => Err(KeyringError::NoIssuer),
            false => Ok(()),
        }
    }

    /// Whether this keyring, whose bytes have `hash`, continues what `mark` remembers.
    ///
    /// # Errors
    /// It is older, or has another history: the store went back in time or is another one.
    pub fn continues(&self, own_hash: &str, mark: &HighWater) -> Result<(), KeyringError> {
        let (found, known) = (self.generation, mark.generation);
        if found < known {
            return Err(KeyringError::WentBack { found, known });
        }
        let is_known = match found - known {
            0 => own_hash == mark.hash,
            1 => self.previous_hash == mark.hash,
            // A node that missed more generations than are remembered cannot tell.
            missed => self.ancestors.get(missed as usize - 2).is_none_or(|hash| mark.hash.starts_with(hash)),
        };
        if is_known { Ok(()) } else { Err(KeyringError::OtherHistory { found }) }
    }

    /// The key that new tokens are signed with.
    pub fn signing(&self) -> Option<&KeyringKey> {
        self.keys.iter().find(|key| key.state == KeyState::Signing)
    }

    /// The key that signs next.
    pub fn standby(&self) -> Option<&KeyringKey> {
        self.keys.iter().find(|key| key.state == KeyState::Standby)
    }

    /// Keys of the public JWKS: the signing one first, then by age.
    pub fn published(&self) -> impl Iterator<Item = &KeyringKey> {
        let others = self.keys.iter().filter(|key| key.state.is_published() && key.state != KeyState::Signing);
        self.signing().into_iter().chain(others)
    }

    /// Keys that every API server is to accept: the signing one first, as kubeadm wants it (kubernetes/kubernetes pull request
    /// 138939), then by age.
    pub fn accepted(&self) -> impl Iterator<Item = &KeyringKey> {
        let others = self.keys.iter().filter(|key| key.state.is_accepted() && key.state != KeyState::Signing);
        self.signing().into_iter().chain(others)
    }

    /// Whether a teardown has come to its end: nothing is left to do for this keyring.
    pub fn has_ended(&self) -> bool {
        self.teardown.as_ref().is_some_and(|teardown| teardown.ended.is_some())
    }

    /// The key of this id.
    pub fn key(&self, kid: &str) -> Option<&KeyringKey> {
        self.keys.iter().find(|key| key.kid == kid)
    }
}

impl KeyringKey {
    /// A key that has just entered the keyring.
    pub fn new(key: &PublicKey, state: KeyState, origin: Origin, now: Timestamp) -> Self {
        Self { origin, ..Self::adopted(key.kid().as_str(), &key.to_pem(), state, now) }
    }

    /// A key that was on the nodes before irsad, as one of them reports it.
    pub fn adopted(kid: &str, public_key: &str, state: KeyState, now: Timestamp) -> Self {
        Self {
            kid: kid.to_owned(),
            public_key: public_key.to_owned(),
            state,
            origin: Origin::Adopted,
            since: now,
            history: Vec::new(),
            published_at: None,
            unused_since: None,
            revoke: None,
        }
    }

    /// Enters another state.
    pub fn enter(&mut self, state: KeyState, now: Timestamp) {
        if state != self.state {
            self.history.push(Phase { state: self.state, since: self.since });
            (self.state, self.since) = (state, now);
        }
    }

    /// Its public half.
    ///
    /// # Errors
    /// The text is no key, or not the one that the kid names.
    pub fn public(&self) -> Result<PublicKey, KeyringError> {
        let named: Result<Kid, _> = self.kid.parse();
        let found = PublicKey::read_all(self.public_key.as_bytes()).ok().and_then(|keys| keys.into_iter().next());
        found
            .filter(|key| named.as_ref() == Ok(key.kid()))
            .ok_or_else(|| KeyringError::WrongKey { kid: self.kid.clone() })
    }
}

/// Whether a keyring with these keys has room for `more` that are published.
///
/// # Errors
/// It has not.
pub fn check_room(keys: &[KeyringKey], more: usize) -> Result<(), KeyringError> {
    let published = keys.iter().filter(|key| key.state.is_published()).count().saturating_add(more);
    let accepted = keys.iter().filter(|key| key.state.is_accepted()).count().saturating_add(more);
    match published > MOST_PUBLISHED || accepted > MOST_ACCEPTED {
        true => Err(KeyringError::TooMany { published, accepted }),
        false => Ok(()),
    }
}

fn repeated<'n>(names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests;
