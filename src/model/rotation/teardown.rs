//! The way back: another issuer signs again, by the same two steps as ours came, and then nothing of ours is needed.

use jiff::{SignedDuration, Timestamp};

use super::{
    Ack, Next, Policy, Rule, Seen, adoption_hindrances, any_member, every_member, first_of, has_passed, members,
    members_without,
};
use crate::model::keyring::{Keyring, Teardown};

/// How far a teardown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// API servers sign as ours still, or have not proven that they do not.
    Rolling,
    /// Tokens of ours may live until then, and outsiders verify them.
    Waiting(Timestamp),
    /// Nothing outside of the cluster is needed any more.
    Removing,
    /// Nothing is left to do.
    Ended,
}

impl Teardown {
    /// How far it is by now.
    pub fn stage(&self, policy: &Policy, now: Timestamp) -> Stage {
        match (&self.ended, self.signed_since) {
            (Some(_), _) => Stage::Ended,
            (None, None) => Stage::Rolling,
            (None, Some(_)) if self.at_once => Stage::Removing,
            (None, since) if has_passed(since, policy.token_lifetime, policy, now) => Stage::Removing,
            (None, Some(since)) => {
                Stage::Waiting(since.checked_add(policy.token_lifetime + policy.clock_margin).unwrap_or(Timestamp::MAX))
            }
        }
    }
}

/// Issuer that every API server is to sign as in the end.
pub fn issuer_to_sign<'k>(keyring: &'k Keyring, ours: &'k str) -> &'k str {
    keyring.teardown.as_ref().map_or(ours, |teardown| &teardown.issuer)
}

/// What the leader changes next in a keyring that is on its way out. Keys stay as they are: the cluster goes on with them.
pub(super) fn next(keyring: &Keyring, teardown: &Teardown, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Next {
    if teardown.ended.is_some() {
        return Next::Wait(Vec::new());
    }
    let rules: [Rule; 4] =
        [|keyring, seen, _, now| members::take(keyring, seen, now), super::take_keys, super::move_issuers, note_signed];
    if let Some(changed) = first_of(&rules, keyring, seen, policy, now) {
        return Next::Write(Box::new(changed));
    }
    match teardown.stage(policy, now) {
        Stage::Rolling => Next::Wait(hindrances(keyring, teardown, seen, policy)),
        Stage::Waiting(until) => Next::Wait(vec![format!(
            "for the last token of issuer {} to expire, at {}, before the provider and the documents go (irsad teardown --now does not \
             wait)",
            policy.issuer,
            until.round(jiff::Unit::Second).unwrap_or(until)
        )]),
        Stage::Removing | Stage::Ended => Next::Wait(Vec::new()),
    }
}

/// From when on nothing is signed as ours. A member that does so again begins the wait anew, and brings back what has been
/// removed: tokens of ours are minted. Who asked not to wait for them does not wait for these.
fn note_signed(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Option<Keyring> {
    let teardown = keyring.teardown.as_ref()?;
    if teardown.at_once && teardown.stage(policy, now) == Stage::Removing {
        return None;
    }
    let signs = |ack: &Ack| ack.issuers.first() == Some(&teardown.issuer);
    let signed_since = match teardown.signed_since {
        None if keyring.rollout.is_none() && every_member(keyring, seen, signs) => Some(now),
        Some(_) if any_member(keyring, seen, |ack| !signs(ack)) => None,
        known => known,
    };
    (signed_since != teardown.signed_since)
        .then(|| Keyring { teardown: Some(Teardown { signed_since, ..teardown.clone() }), ..keyring.clone() })
}

fn hindrances(keyring: &Keyring, teardown: &Teardown, seen: Seen<'_>, policy: &Policy) -> Vec<String> {
    if keyring.issuers.first() != Some(&teardown.issuer) {
        return adoption_hindrances(keyring, seen, policy);
    }
    let behind = members_without(keyring, seen, |ack| ack.issuers.first() == Some(&teardown.issuer));
    let mut waits = Vec::new();
    if !behind.is_empty() {
        waits.push(format!("for kube-apiserver of {} to sign as {}", behind.join(", "), teardown.issuer));
    }
    waits.extend(
        keyring
            .rollout
            .as_ref()
            .map(|rollout| format!("for kube-apiserver of {} to be done with its change", rollout.holder)),
    );
    waits
}

/// When tokens of our issuer can no longer live anywhere, extended ones included: API servers may refuse them from then on.
pub fn acceptable_until(teardown: &Teardown, retention: SignedDuration) -> Option<Timestamp> {
    teardown.signed_since?.checked_add(retention).ok()
}

/// What a later generation says of it that an earlier one does not, for people.
pub(super) fn difference(before: Option<&Teardown>, after: Option<&Teardown>) -> Option<String> {
    let after = match (before, after) {
        (None, None) => return None,
        (Some(_), None) => return Some("the cluster is not taken apart after all".to_owned()),
        (None, Some(after)) => return Some(format!("the cluster goes back to issuer {}", after.issuer)),
        (Some(before), Some(after)) if before == after => return None,
        (Some(before), Some(after)) => (before, after),
    };
    Some(match after {
        (_, Teardown { ended: Some(_), .. }) => "nothing of ours is left to remove".to_owned(),
        (before, after) if before.signed_since.is_none() && after.signed_since.is_some() => {
            format!("every kube-apiserver signs as {}", after.issuer)
        }
        (before, after) if before.signed_since.is_some() && after.signed_since.is_none() => {
            format!("not every kube-apiserver signs as {} any more", after.issuer)
        }
        (_, after) if after.at_once => "provider and documents wait for no token".to_owned(),
        (_, _) => "the teardown is asked for in another way".to_owned(),
    })
}
