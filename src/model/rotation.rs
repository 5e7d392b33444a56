//! The life of the cluster's keys and issuers: what the leader changes in the keyring next, and when a node has to restart its API
//! server to follow.
//!
//! One rotation is one restart a node: the standby key, which every API server accepts already and every verifier could fetch for
//! the publish lead, begins to sign, and the next standby enters documents and verify lists in the same roll. Ages count
//! from evidence only: a key is old when an outsider saw it, unused when every member has proven that it signs with another.

mod document;

use jiff::{SignedDuration, Timestamp};

pub use document::Ack;

use super::keyring::{KeyState, Keyring, KeyringKey, Member, Origin};

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
    /// What the clocks of nodes, store and verifiers may differ by.
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
}

/// One rule: the changed keyring where it changes something.
type Rule = fn(&Keyring, Seen<'_>, &Policy, Timestamp) -> Option<Keyring>;

/// What to do next with `keyring`, which is the newest one.
pub fn next(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, now: Timestamp) -> Next {
    let rules: [Rule; 7] =
        [take_members, note_published, note_unused, retire, drop_unneeded, move_issuers, want_rotation];
    if let Some(changed) = rules.iter().find_map(|rule| rule(keyring, seen, policy, now)) {
        return Next::Write(Box::new(changed));
    }
    if keyring.standby().is_none() {
        return Next::MakeStandby;
    }
    if keyring.rotate_since.is_none() {
        return Next::Wait(Vec::new());
    }
    match hindrances(keyring, seen, policy, now) {
        hindrances if hindrances.is_empty() => Next::Promote,
        hindrances => Next::Wait(hindrances),
    }
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
        let state = match key.state {
            KeyState::Standby => KeyState::Signing,
            KeyState::Signing => KeyState::Draining,
            KeyState::Draining | KeyState::VerifyOnly => continue,
        };
        (key.state, key.since) = (state, now);
    }
    changed.rotate_since = None;
    changed.keys.push(standby);
    changed
}

/// A node that has given evidence is a member until a person, or proof that it is gone, takes it out.
fn take_members(keyring: &Keyring, seen: Seen<'_>, _: &Policy, now: Timestamp) -> Option<Keyring> {
    let is_new = |ack: &&Ack| !keyring.members.iter().any(|member| member.node == ack.node);
    let new: Vec<Member> =
        seen.acks.iter().filter(is_new).map(|ack| Member { node: ack.node.clone(), since: now }).collect();
    (!new.is_empty()).then(|| Keyring { members: [keyring.members.clone(), new].concat(), ..keyring.clone() })
}

fn note_published(keyring: &Keyring, seen: Seen<'_>, _: &Policy, now: Timestamp) -> Option<Keyring> {
    with_keys(keyring, |key| {
        let is_news = key.state.is_published() && key.published_at.is_none() && seen.outside.contains(&key.kid);
        is_news.then(|| KeyringKey { published_at: Some(now), ..key.clone() })
    })
}

/// A key counts as unused from the moment when every member has shown a token that is signed with another one. A member that is
/// down, or whose evidence is missing, may still have one of its own.
fn note_unused(keyring: &Keyring, seen: Seen<'_>, _: &Policy, now: Timestamp) -> Option<Keyring> {
    with_keys(keyring, |key| {
        let is_news = key.state == KeyState::Draining
            && key.unused_since.is_none()
            && every_member(keyring, seen, |ack| ack.signing_kid != key.kid);
        is_news.then(|| KeyringKey { unused_since: Some(now), ..key.clone() })
    })
}

/// The last token may live until then, and a verifier must find its key.
fn retire(keyring: &Keyring, _: Seen<'_>, policy: &Policy, now: Timestamp) -> Option<Keyring> {
    with_keys(keyring, |key| {
        let is_over =
            key.state == KeyState::Draining && has_passed(key.unused_since, policy.token_lifetime, policy, now);
        is_over.then(|| KeyringKey { state: KeyState::VerifyOnly, since: now, ..key.clone() })
    })
}

/// Nodes leave a dropped key out of their verify lists at a restart that happens anyway.
fn drop_unneeded(keyring: &Keyring, _: Seen<'_>, policy: &Policy, now: Timestamp) -> Option<Keyring> {
    let is_over = |key: &KeyringKey| {
        key.state == KeyState::VerifyOnly
            && key.origin == Origin::Made
            && has_passed(key.unused_since, policy.verify_retention, policy, now)
    };
    let kept: Vec<KeyringKey> = keyring.keys.iter().filter(|key| !is_over(key)).cloned().collect();
    (kept.len() < keyring.keys.len()).then(|| Keyring { keys: kept, ..keyring.clone() })
}

/// Accept everywhere, then sign everywhere: our issuer stands last until every API server accepts it, then first.
fn move_issuers(keyring: &Keyring, seen: Seen<'_>, policy: &Policy, _: Timestamp) -> Option<Keyring> {
    let ours = &policy.issuer;
    if keyring.issuers.first() == Some(ours) {
        return None;
    }
    let others = keyring.issuers.iter().filter(|issuer| *issuer != ours).cloned();
    let issuers: Vec<String> = if !keyring.issuers.contains(ours) {
        others.chain([ours.clone()]).collect()
    } else if every_member(keyring, seen, |ack| ack.issuers.contains(ours)) && is_public(keyring, seen) {
        [ours.clone()].into_iter().chain(others).collect()
    } else {
        return None;
    };
    Some(Keyring { issuers, ..keyring.clone() })
}

/// Whether an outsider finds the key that signs.
fn is_public(keyring: &Keyring, seen: Seen<'_>) -> bool {
    keyring.signing().is_some_and(|key| seen.outside.contains(&key.kid))
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
        let using = members_without(keyring, seen, |ack| ack.signing_kid != key.kid);
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

/// Why this node's API server, which shows `ack`, has to be restarted to follow the keyring; empty where it has not. A key that
/// only it still accepts is no reason, and the standby is one only while a rotation waits for it.
pub fn restart_reasons(keyring: &Keyring, ack: &Ack) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(signing) = keyring.signing().filter(|key| key.kid != ack.signing_kid) {
        reasons.push(format!("sign with key {}", signing.kid));
    }
    let is_needed = |key: &&KeyringKey| key.state != KeyState::Standby || keyring.rotate_since.is_some();
    let lacking = keyring.accepted().filter(is_needed).filter(|key| !ack.served.contains(&key.kid));
    reasons.extend(lacking.map(|key| format!("accept key {}", key.kid)));
    let signs_as_another = keyring.issuers.first() != ack.issuers.first();
    if signs_as_another || keyring.issuers.iter().any(|issuer| !ack.issuers.contains(issuer)) {
        reasons.push(format!("have the issuers {}", keyring.issuers.join(", ")));
    }
    reasons
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
mod model_check;
#[cfg(test)]
mod tests;
