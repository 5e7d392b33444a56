//! The life of the cluster's keys and issuers: what the leader changes in the keyring next, and when a node has to restart its API
//! server to follow.
//!
//! One rotation is one restart a node: the standby key, which every API server accepts already and every verifier could fetch for
//! the publish lead, begins to sign, and the next standby enters documents and verify lists in the same roll. Ages count
//! from evidence only: a key is old when an outsider saw it, unused when every member has proven that it signs with another.

mod adopt;
mod document;
mod follow;
mod held;
mod members;
mod revoke;
mod teardown;

use jiff::{SignedDuration, Timestamp};

pub use adopt::{Adoption, adopt, beside, found, of_ours, stand_by, take_in};
pub use document::{Ack, AckKey};
pub use follow::{Follow, Here, follow, restart_reasons};
pub use held::{Controller, Held, held};
pub use members::{ControlPlane, ControlPlaneNode, of_the_control_plane, required};
pub use revoke::{RevokeError, revoke, take_over};
pub use teardown::{Stage, acceptable_until, issuer_to_sign};

use super::keyring::{KeyState, Keyring, KeyringKey, Member, Origin, Revoke};

/// How long things last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Issuer that new tokens are to carry.
    pub issuer: String,
    /// Age at which a signing key is replaced; `None`: only when somebody asks for it.
    pub period: Option<SignedDuration>,
    /// How long a key is public before anything signs with it.
    pub publish_lead: SignedDuration,
    /// Longest life of a token that an outsider may have to verify.
    pub token_lifetime: SignedDuration,
    /// How long API servers accept a key after its last use. Not below `token_lifetime`.
    pub verify_retention: SignedDuration,
    /// Twice what any two clocks of nodes and verifiers may differ by, and added to every other length here. Twice, because two
    /// differences add up: a token that the fastest clock dated lives longest by the slowest, and a moment that the slowest noted is
    /// over soonest by the fastest.
    pub clock_margin: SignedDuration,
}

/// What the leader does next with the keyring. Every write is a compare-and-swap on what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing, for now; the sentences say what has to come true first.
    Wait(Vec<String>),
    /// Write this content as the next generation.
    Write(Box<Keyring>),
    /// Make a key, keep its private half, and write what [`with_standby`] gives.
    MakeStandby,
    /// Make a key, keep its private half, and write what [`promote`] gives.
    Promote,
}

/// What the leader sees beside the keyring.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The newest evidence of each node that has given any.
    pub acks: &'a [Ack],
    /// Key ids that an outsider finds at the issuer URL right now; empty where it could not be asked.
    pub outside: &'a [String],
    /// The control plane; `None` where it could not be asked for: nobody becomes or stops being a member then.
    pub control_plane: Option<&'a ControlPlane>,
    /// Keys that something outside of our clocks still needs; `None` where that could not be asked: no key is dropped then.
    pub held: Option<&'a [Held]>,
}

/// One rule: the changed keyring where it changes something.
type Rule = fn(&Keyring, Seen<'_>, &Policy, Timestamp) -> Option<Keyring>;

/// What to do next with `keyring`, which is the newest one.
pub fn next(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Next {
    if let Some(teardown) = &keyring.teardown {
        return teardown::next(keyring, teardown, seen, policy, now);
    }
    let housekeeping: [Rule; 7] = [
        |keyring, seen, _, now| members::take(keyring, seen, now),
        take_keys,
        note_published,
        note_unused,
        retire,
        drop_unneeded,
        forget,
    ];
    let progress: [Rule; 2] = [move_issuers, want_rotation];
    let first = |rules: &[Rule]| first_of(rules, keyring, seen, policy, now);
    if let Some(changed) = first(&housekeeping) {
        return Next::Write(Box::new(changed));
    }
    // Before the issuers: the restarts that they need bring the standby to the API servers.
    if keyring.standby().is_none() {
        return Next::MakeStandby;
    }
    if let Some(changed) = first(&progress) {
        return Next::Write(Box::new(changed));
    }
    if keyring.rotate_since.is_none() {
        return Next::Wait(adoption_hindrances(keyring, seen, policy));
    }
    match hindrances(keyring, seen, policy, now) {
        hindrances if hindrances.is_empty() => Next::Promote,
        hindrances => Next::Wait(hindrances),
    }
}

/// What the first rule changes that changes something.
fn first_of(rules: &[Rule], keyring: &Keyring, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Option<Keyring> {
    rules.iter().find_map(|rule| rule(keyring, seen, policy, now))
}

/// The keyring with a first standby key.
pub fn with_standby(keyring: &Keyring, standby: KeyringKey) -> Keyring {
    let mut changed = keyring.clone();
    changed.keys.push(standby);
    changed
}

/// The keyring in which the standby signs, the signing key drains, and `standby` is the next one.
pub fn promote(keyring: &Keyring, standby: KeyringKey, now: Timestamp) -> Keyring {
    let mut changed = keyring.clone();
    for key in &mut changed.keys {
        match (key.state, key.revoke) {
            (KeyState::Standby, _) => key.enter(KeyState::Signing, now),
            (KeyState::Signing, Some(Revoke::Now)) => key.enter(KeyState::Revoked, now),
            (KeyState::Signing, Some(Revoke::Drain) | None) => key.enter(KeyState::Draining, now),
            (KeyState::Draining | KeyState::VerifyOnly | KeyState::Retired | KeyState::Revoked, _) => {}
        }
    }
    changed.rotate_since = None;
    changed.keys.push(standby);
    changed
}

/// What `after` changes, for people.
pub fn difference(before: &Keyring, after: &Keyring) -> String {
    let mut changes = Vec::new();
    if before.members != after.members {
        let names: Vec<&str> = after.members.iter().map(|member| member.node.as_str()).collect();
        changes.push(format!("the control plane is {}", names.join(", ")));
    }
    if before.issuers != after.issuers {
        changes.push(format!("the issuers are {}", after.issuers.join(", ")));
    }
    for key in &after.keys {
        match before.key(&key.kid) {
            None => changes.push(format!("with key {}", key.kid)),
            Some(known) if known.state != key.state => changes.push(format!("key {} is {}", key.kid, key.state)),
            Some(known) if known.unused_since != key.unused_since => {
                changes.push(format!("no node signs with key {} any more", key.kid));
            }
            Some(known) if known.published_at != key.published_at => {
                changes.push(format!("key {} is seen outside", key.kid));
            }
            Some(_) => {}
        }
    }
    let gone = before.keys.iter().filter(|key| after.key(&key.kid).is_none());
    changes.extend(gone.map(|key| format!("without key {}", key.kid)));
    if before.rotate_since.is_none() && after.rotate_since.is_some() {
        changes.push("another signing key is wanted".to_owned());
    }
    if before.leaving != after.leaving {
        changes.push("keys of others are no longer published".to_owned());
    }
    changes.extend(teardown::difference(before.teardown.as_ref(), after.teardown.as_ref()));
    changes.join(", ")
}

/// A key that a member accepts and the keyring does not know was put there by a person: it stays accepted, and published. One that
/// stands alone in a signing key file is that node's to bring in. What a node told before it left is no reason: it may have left
/// before the key did.
fn take_keys(keyring: &Keyring, seen: Seen<'_>, _: &Policy, now: Timestamp) -> Option<Keyring> {
    let is_known = |kid: &str| keyring.key(kid).is_some() || seen.acks.iter().any(|ack| ack.key_on_disk == kid);
    let is_member = |ack: &&Ack| keyring.members.iter().any(|member| member.node == ack.node);
    let new = seen.acks.iter().filter(is_member).flat_map(|ack| &ack.keys).find(|key| !is_known(&key.kid))?;
    let mut changed = keyring.clone();
    changed.keys.push(KeyringKey::adopted(&new.kid, &new.public_key, KeyState::Draining, now));
    // Where there is no room for it, its node says so, and what makes room goes on.
    changed.check().is_ok().then_some(changed)
}

fn note_published(keyring: &Keyring, seen: Seen<'_>, _: &Policy, now: Timestamp) -> Option<Keyring> {
    with_keys(keyring, |key| {
        let is_news = key.state.is_published() && key.published_at.is_none() && seen.outside.contains(&key.kid);
        is_news.then(|| KeyringKey { published_at: Some(now), ..key.clone() })
    })
}

/// A key counts as unused from the moment when every member has shown a token that is signed with another one. A member that is
/// down, or whose evidence is missing, may still have one of its own. A node that joins with an old key uses it again.
fn note_unused(keyring: &Keyring, seen: Seen<'_>, _: &Policy, now: Timestamp) -> Option<Keyring> {
    with_keys(keyring, |key| {
        if key.state != KeyState::Draining {
            return None;
        }
        let unused = every_member(keyring, seen, |ack| !signs_with(ack, &key.kid));
        let used = any_member(keyring, seen, |ack| signs_with(ack, &key.kid));
        match key.unused_since {
            None if unused => Some(KeyringKey { unused_since: Some(now), ..key.clone() }),
            Some(_) if used => Some(KeyringKey { unused_since: None, ..key.clone() }),
            None | Some(_) => None,
        }
    })
}

/// The last token may live until then, and a verifier must find its key. Where no outsider could be asked, nobody has compared clocks.
fn retire(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Option<Keyring> {
    let is_gone =
        |since: Option<Timestamp>| !seen.outside.is_empty() && has_passed(since, policy.token_lifetime, policy, now);
    let left = keyring.leaving.iter().filter(|key| !is_gone(key.gone_since)).cloned().collect::<Vec<_>>();
    if left.len() < keyring.leaving.len() {
        return Some(Keyring { leaving: left, ..keyring.clone() });
    }
    with_keys(keyring, |key| {
        let state = match key.revoke {
            Some(_) => KeyState::Revoked,
            None => KeyState::VerifyOnly,
        };
        let is_unused = is_gone(key.unused_since) && every_member(keyring, seen, |ack| !signs_with(ack, &key.kid));
        let is_over = key.state == KeyState::Draining && (is_unused || key.revoke == Some(Revoke::Now));
        is_over.then(|| entered(key, state, now))
    })
}

/// Nodes leave a key that is no longer needed out of their verify lists at a restart that happens anyway. What a person has put
/// there a person takes out, and what legacy tokens or a controller manager use stays.
fn drop_unneeded(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Option<Keyring> {
    let held = seen.held?;
    with_keys(keyring, |key| {
        let is_over = key.state == KeyState::VerifyOnly
            && key.origin == Origin::Made
            && !seen.outside.is_empty()
            && has_passed(key.unused_since, policy.verify_retention, policy, now)
            && every_member(keyring, seen, |ack| !signs_with(ack, &key.kid))
            && !held.iter().any(|held| held.kid == key.kid);
        is_over.then(|| entered(key, KeyState::Retired, now))
    })
}

/// What no member has any more, neither in its files nor in its process, need not be remembered. A node in the middle of a change
/// may be about to write what it has read of an earlier keyring: a revoked key that was forgotten would then pass for one that a
/// person has put there. A node that was off and is no member any more may come back with one: it is remembered for the retention.
fn forget(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Option<Keyring> {
    if keyring.rollout.is_some() {
        return None;
    }
    let is_gone = |key: &&KeyringKey| {
        let is_over = match key.state {
            KeyState::Retired => true,
            KeyState::Revoked => has_passed(Some(key.since), policy.verify_retention, policy, now),
            KeyState::Standby | KeyState::Signing | KeyState::Draining | KeyState::VerifyOnly => false,
        };
        is_over && every_member(keyring, seen, |ack| !ack.has(&key.kid))
    };
    let kept: Vec<KeyringKey> = keyring.keys.iter().filter(|key| !is_gone(key)).cloned().collect();
    (kept.len() < keyring.keys.len()).then(|| Keyring { keys: kept, ..keyring.clone() })
}

fn entered(key: &KeyringKey, state: KeyState, now: Timestamp) -> KeyringKey {
    let mut key = key.clone();
    key.enter(state, now);
    key
}

/// Accept everywhere, then sign everywhere: the issuer that is to sign stands last until every API server accepts it, then first. Where
/// there is one API server, nobody else has to accept what it signs.
fn move_issuers(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, _: Timestamp) -> Option<Keyring> {
    let wanted = issuer_to_sign(keyring, &policy.issuer);
    if keyring.issuers.first().is_some_and(|issuer| issuer == wanted) {
        return None;
    }
    let others = keyring.issuers.iter().filter(|issuer| *issuer != wanted).cloned();
    let is_alone = keyring.members.len() == 1 && seen.control_plane.is_some();
    let is_accepted = is_alone || every_member(keyring, seen, |ack| accepts(ack, wanted));
    let issuers: Vec<String> = if is_accepted && is_public(keyring, seen) && keyring.rollout.is_none() {
        [wanted.to_owned()].into_iter().chain(others).collect()
    } else if !is_alone && !keyring.issuers.iter().any(|issuer| issuer == wanted) {
        others.chain([wanted.to_owned()]).collect()
    } else {
        return None;
    };
    Some(Keyring { issuers, ..keyring.clone() })
}

fn accepts(ack: &Ack, issuer: &str) -> bool {
    ack.issuers.iter().any(|accepted| accepted == issuer)
}

/// What the change of issuers waits for, where it is not over.
fn adoption_hindrances(keyring: &Keyring, seen: Seen<'_>, policy: &Policy) -> Vec<String> {
    let wanted = issuer_to_sign(keyring, &policy.issuer);
    if keyring.issuers.first().is_some_and(|issuer| issuer == wanted) {
        return Vec::new();
    }
    let behind = members_without(keyring, seen, |ack| accepts(ack, wanted));
    let mut waits = Vec::new();
    if !behind.is_empty() {
        waits.push(format!("for kube-apiserver of {} to accept issuer {wanted}", behind.join(", ")));
    }
    if !is_public(keyring, seen) {
        waits.push("for the signing key to be found at the issuer URL".to_owned());
    }
    if let Some(rollout) = &keyring.rollout {
        waits.push(format!("for kube-apiserver of {} to be done with its change", rollout.holder));
    }
    waits
}

/// Whether an outsider finds the key that signs. What signs as the issuer of before needs no documents of ours.
fn is_public(keyring: &Keyring, seen: Seen<'_>) -> bool {
    keyring.teardown.is_some() || keyring.signing().is_some_and(|key| seen.outside.contains(&key.kid))
}

fn want_rotation(keyring: &Keyring, _: Seen<'_>, policy: &Policy, now: Timestamp) -> Option<Keyring> {
    let signing = keyring.signing()?;
    let is_due = policy.period.is_some_and(|period| now.duration_since(signing.since) >= period);
    (is_due && keyring.rotate_since.is_none()).then(|| Keyring { rotate_since: Some(now), ..keyring.clone() })
}

/// What has to come true before the standby may sign.
fn hindrances(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Vec<String> {
    let Some(standby) = keyring.standby() else { return vec!["for a standby key".to_owned()] };
    let mut found = Vec::new();
    let kid = &standby.kid;
    if !has_passed(standby.published_at, policy.publish_lead, policy, now) || !seen.outside.contains(kid) {
        found.push(format!("for key {kid} to be public for {} s", policy.publish_lead.as_secs()));
    }
    let behind = members_without(keyring, seen, |ack| ack.served.contains(kid));
    if !behind.is_empty() {
        found.push(format!("for kube-apiserver of {} to accept key {kid}", behind.join(", ")));
    }
    if let Some(key) = keyring.keys.iter().find(|key| key.state == KeyState::Draining && key.unused_since.is_none()) {
        let using = members_without(keyring, seen, |ack| !signs_with(ack, &key.kid));
        found.push(format!("for {} to prove that it no longer signs with key {}", using.join(", "), key.kid));
    }
    if keyring.issuers.first() != Some(&policy.issuer) {
        found.push(format!("for every kube-apiserver to sign as {}", policy.issuer));
    }
    if let Some(rollout) = &keyring.rollout {
        found.push(format!("for kube-apiserver of {} to be done with its change", rollout.holder));
    }
    found
}

/// Whether that node signs with the key, or would after a restart that nobody asked for.
fn signs_with(ack: &Ack, kid: &str) -> bool {
    ack.signing_kid == kid || ack.key_on_disk == kid
}

fn any_member(keyring: &Keyring, seen: Seen<'_>, shows: impl Fn(&Ack) -> bool) -> bool {
    let shows = |member: &Member| seen.acks.iter().any(|ack| ack.node == member.node && shows(ack));
    keyring.members.iter().any(shows)
}

fn every_member(keyring: &Keyring, seen: Seen<'_>, shows: impl Fn(&Ack) -> bool) -> bool {
    !keyring.members.is_empty() && members_without(keyring, seen, shows).is_empty()
}

/// Members whose evidence does not show it, or is missing.
fn members_without<'k>(keyring: &'k Keyring, seen: Seen<'_>, shows: impl Fn(&Ack) -> bool) -> Vec<&'k str> {
    let shows = |member: &&Member| seen.acks.iter().any(|ack| ack.node == member.node && shows(ack));
    keyring.members.iter().filter(|member| !shows(member)).map(|member| member.node.as_str()).collect()
}

fn has_passed(since: Option<Timestamp>, time: SignedDuration, policy: &Policy, now: Timestamp) -> bool {
    since.is_some_and(|since| now.duration_since(since) >= time + policy.clock_margin)
}

/// The keyring with each key as `change` gives it; `None` where it changes none.
fn with_keys(keyring: &Keyring, change: impl Fn(&KeyringKey) -> Option<KeyringKey>) -> Option<Keyring> {
    let changed: Vec<Option<KeyringKey>> = keyring.keys.iter().map(change).collect();
    changed.iter().any(Option::is_some).then(|| {
        let keys = keyring.keys.iter().zip(changed).map(|(key, changed)| changed.unwrap_or_else(|| key.clone()));
        Keyring { keys: keys.collect(), ..keyring.clone() }
    })
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod model_check;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod thousand;
