//! What a person asks for: another signing key, or a key gone before its time.

use jiff::Timestamp;
use thiserror::Error;

use super::Keyring;
use crate::model::keyring::{KeyState, KeyringKey, Origin, Revoke};

/// Why a key is not revoked. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RevokeError {
    /// There is no such key.
    #[error("the keyring has no key {0} (nothing changed); irsad status lists its keys")]
    Unknown(String),
    /// It is gone already.
    #[error("key {0} is {1} already (nothing changed)")]
    Gone(String, &'static str),
}

/// The keyring in which `kid` is on its way out. A signing key is replaced by the standby first, which API servers accept already.
///
/// # Errors
/// There is nothing to revoke.
pub fn revoke(keyring: &Keyring, kid: &str, how: Revoke, now: Timestamp) -> Result<Keyring, RevokeError> {
    let mut changed = keyring.clone();
    let key = changed.keys.iter_mut().find(|key| key.kid == kid).ok_or_else(|| RevokeError::Unknown(kid.to_owned()))?;
    key.revoke = Some(how);
    match key.state {
        KeyState::Signing => changed.rotate_since = changed.rotate_since.or(Some(now)),
        // Nothing was signed with the one, and nothing that outsiders verify is left of the other.
        KeyState::Standby | KeyState::VerifyOnly => key.enter(KeyState::Revoked, now),
        KeyState::Draining => {}
        KeyState::Retired => return Err(RevokeError::Gone(kid.to_owned(), "retired")),
        KeyState::Revoked => return Err(RevokeError::Gone(kid.to_owned(), "revoked")),
    }
    Ok(changed)
}

/// The keyring in which a key that a person put into a node's signing key file is the next one to sign. The standby before it never
/// signed: it leaves the documents and stays accepted.
pub fn take_over(keyring: &Keyring, kid: &str, public_key: &str, now: Timestamp) -> Keyring {
    let mut changed = keyring.clone();
    changed.keys.retain(|key| key.kid != kid);
    for key in changed.keys.iter_mut().filter(|key| key.state == KeyState::Standby) {
        key.enter(KeyState::VerifyOnly, now);
        key.unused_since = Some(now);
    }
    let theirs = KeyringKey::adopted(kid, public_key, KeyState::Standby, now);
    changed.keys.push(KeyringKey { origin: Origin::Adopted, ..theirs });
    changed.rotate_since = changed.rotate_since.or(Some(now));
    changed
}
