//! What comes next for each key of the keyring, and when: the rules of [`super::rotation`] as a person wants to read them.
//!
//! Nothing is decided here. A date is the earliest one at which the clocks allow it; what evidence is still missing is said beside it.

use jiff::{SignedDuration, Timestamp};

use super::{
    keyring::{KeyState, Keyring, KeyringKey, Origin, Revoke},
    rotation::Policy,
};

/// The next step of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// State that it enters; `None`: it leaves the keyring, or stays as it is.
    pub state: Option<KeyState>,
    /// What happens and what it waits for, for a person.
    pub what: String,
    /// Earliest time of it; `None` where no clock says when.
    pub at: Option<Timestamp>,
}

/// What comes next for `key` of `keyring`; `None` where a person has to ask for it.
pub fn next_step(keyring: &Keyring, key: &KeyringKey, policy: &Policy, now: Timestamp) -> Option<Step> {
    if keyring.teardown.is_some() {
        let what = "stays as it is, the cluster goes back to another issuer".to_owned();
        return Some(Step { state: None, what, at: None });
    }
    let step = |state: KeyState, what: &str, at| Some(Step { state: Some(state), what: what.to_owned(), at });
    match key.state {
        KeyState::Standby => {
            promotion(keyring, policy, now).and_then(|at| step(KeyState::Signing, "begins to sign", Some(at)))
        }
        KeyState::Signing => {
            let at = promotion(keyring, policy, now)?;
            match key.revoke {
                Some(Revoke::Now) => step(KeyState::Revoked, "signs no longer and is refused", Some(at)),
                Some(Revoke::Drain) | None => step(KeyState::Draining, "signs no longer", Some(at)),
            }
        }
        KeyState::Draining if key.revoke == Some(Revoke::Now) => {
            step(KeyState::Revoked, "is refused and leaves the published keys", Some(now))
        }
        KeyState::Draining => {
            let (state, end) = match key.revoke {
                Some(_) => (KeyState::Revoked, "is refused and leaves the published keys, its last token has expired"),
                None => (KeyState::VerifyOnly, "leaves the published keys, its last token has expired"),
            };
            match key.unused_since {
                Some(since) => step(state, end, Some(later(since, policy.token_lifetime + policy.clock_margin))),
                None => step(state, "waits until every node has proven that it signs with another key", None),
            }
        }
        KeyState::VerifyOnly => retirement(key, policy),
        KeyState::Retired => Some(Step {
            state: None,
            what: "is forgotten when no node has it any more, after restarts that happen anyway".to_owned(),
            at: None,
        }),
        KeyState::Revoked => Some(Step {
            state: None,
            what: "is forgotten when the retention is over and no node has it any more".to_owned(),
            at: Some(later(key.since, policy.verify_retention + policy.clock_margin)),
        }),
    }
}

/// Earliest time at which the standby may begin to sign; `None` where nothing asks for another signing key. Where there is no
/// standby yet, one that is made now is reckoned with.
pub fn promotion(keyring: &Keyring, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
    if keyring.teardown.is_some() {
        return None;
    }
    let due = match (keyring.rotate_since, policy.period) {
        (Some(since), _) => since,
        (None, Some(period)) => later(keyring.signing()?.since, period),
        (None, None) => return None,
    };
    let published_at = keyring.standby().and_then(|key| key.published_at).unwrap_or(now);
    Some(due.max(later(published_at, policy.publish_lead + policy.clock_margin)))
}

/// How a key that is only accepted still ends. What a person has put there a person takes out.
fn retirement(key: &KeyringKey, policy: &Policy) -> Option<Step> {
    let at = match key.origin {
        Origin::Made => later(key.unused_since?, policy.verify_retention + policy.clock_margin),
        Origin::Adopted => return None,
    };
    let what = "is no longer needed: left out at restarts that happen anyway".to_owned();
    Some(Step { state: Some(KeyState::Retired), what, at: Some(at) })
}

/// `time` after `moment`; the end of all time where the sum is beyond it.
pub(super) fn later(moment: Timestamp, time: SignedDuration) -> Timestamp {
    moment.checked_add(time).unwrap_or(Timestamp::MAX)
}

/// The beginning of a key id: enough to tell the keys of one cluster apart.
pub fn short(kid: &str) -> &str {
    kid.get(..8).unwrap_or(kid)
}

/// The two largest units of a duration: `3d 4h`, `5m 12s`, `0s`.
pub fn duration(duration: SignedDuration) -> String {
    let mut seconds = duration.as_secs().max(0);
    let mut parts = Vec::new();
    for (name, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        let number = seconds / length;
        seconds %= length;
        if number > 0 {
            parts.push(format!("{number}{name}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_shows_the_two_largest_units() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m 1s"),
            (3_600, "1h"),
            (3_601, "1h"),
            (3_660, "1h 1m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), text);
        }
    }
}
