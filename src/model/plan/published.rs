//! Which keys are published: what the keyring says; where there is none, what nodes hold and what has left them.

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    jwks::{Jwk, Jwks},
    key::PublicKey,
    keyring::Keyring,
    memory::{PublishedKey, PublishedKeys, Version1},
    probe::Probe,
    rotation::Ack,
};

use super::{Action, ApiServer, ClusterFacts, Desired, Facts, Plan, WAITING_INTERVAL};

/// The keys that a keyring has published, then what others published before it.
pub(super) fn keys_of(keyring: &Keyring) -> Vec<Jwk> {
    let keys = keyring.published().filter_map(|key| key.public().ok()).map(|key| Jwk::of(&key));
    keys.chain(keyring.leaving.iter().map(|key| key.jwk.clone())).collect()
}

/// The keys that nodes hold or report, then those that have left them and whose tokens may live; with what has to be remembered
/// before they are published.
pub(super) fn keys_of_the_files(
    desired: &Desired,
    facts: &Facts,
    acks: &[Ack],
    now: Timestamp,
    plan: &mut Plan,
) -> Option<(Vec<Jwk>, Option<Action>)> {
    let keys = keys_to_publish(facts, acks)?;
    let remembered = remembered(facts, &keys, now, plan)?;
    let clock_differs = facts.cluster.clock_differs(now);
    // Where no outsider could be asked, nobody has compared clocks.
    let is_seen = facts.cluster.public_jwks.as_ref().is_none_or(|public| public.present().is_some());
    let lifetime = match clock_differs {
        None if is_seen => SignedDuration::try_from(desired.token_lifetime).unwrap_or(SignedDuration::MAX),
        None | Some(_) => SignedDuration::MAX,
    };
    plan.notices.extend(clock_differs);
    let next = remember(&remembered, &keys, &seen_outside(&facts.cluster), lifetime, now);
    let leaving: Vec<Jwk> =
        next.keys.iter().filter(|key| key.gone_since.is_some()).map(|key| key.jwk.clone()).collect();
    let is_new = Probe::Present(&next) != facts.node.published_keys.as_ref();
    let memory = is_new.then_some(Action::RememberPublishedKeys(next));
    Some((keys.into_iter().chain(leaving).collect(), memory))
}

/// Signing key first, then what the files accept, then what the running API server still accepts, then what other nodes have.
fn keys_to_publish(facts: &Facts, acks: &[Ack]) -> Option<Vec<Jwk>> {
    let signing = facts.node.signing_key.present()?;
    let verifying = facts.node.verifying_keys.present()?;
    if !verifying.iter().any(|key| key.kid() == signing.kid()) {
        return None;
    }
    let mut keys: Vec<Jwk> = Vec::new();
    let mut add = |key: Jwk| {
        if key.kid().is_some() && !keys.iter().any(|known| known.kid() == key.kid()) {
            keys.push(key);
        }
    };
    std::iter::once(signing).chain(verifying).map(Jwk::of).for_each(&mut add);
    if let ApiServer::Seen(evidence) = &facts.node.api_server {
        evidence.served.keys().iter().cloned().for_each(&mut add);
    }
    let reported = acks.iter().flat_map(|ack| &ack.keys);
    let reported = reported.filter_map(|key| PublicKey::read_all(key.public_key.as_bytes()).ok()?.into_iter().next());
    reported.map(|key| Jwk::of(&key)).for_each(&mut add);
    Some(keys)
}

/// What this node remembers of published keys. A node without a memory takes over what the store holds: keys that somebody published
/// before us may still have tokens.
fn remembered(facts: &Facts, in_use: &[Jwk], now: Timestamp, plan: &mut Plan) -> Option<PublishedKeys> {
    let several = facts.node.api_servers.present().is_some_and(|servers| servers.len() > 1);
    let known = match &facts.node.published_keys {
        Probe::Present(remembered) if !several => return Some(remembered.clone()),
        // Other nodes may have published keys that this one never had: none of them is removed.
        Probe::Present(remembered) => remembered.keys.clone(),
        Probe::Unknown(why) => {
            plan.needs_a_person.push(why.clone());
            return None;
        }
        Probe::Absent => Vec::new(),
    };
    let stored = match facts.cluster.jwks() {
        Probe::Present(stored) => Jwks::parse(&stored.body).map(|jwks| jwks.keys().to_vec()).unwrap_or_default(),
        Probe::Absent => Vec::new(),
        Probe::Unknown(why) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            return None;
        }
    };
    let is_known = |jwk: &Jwk| in_use.iter().chain(known.iter().map(|key| &key.jwk)).any(|key| key.kid() == jwk.kid());
    let left = stored.into_iter().filter(|jwk| jwk.kid().is_some() && !is_known(jwk));
    let left: Vec<_> = left.map(|jwk| PublishedKey { jwk, seen_since: None, gone_since: Some(now) }).collect();
    Some(PublishedKeys { version: Version1, keys: [known, left].concat() })
}

/// Key ids that an outsider finds now; what the store holds where there is no outsider.
pub(super) fn seen_outside(cluster: &ClusterFacts) -> Vec<String> {
    let body = match &cluster.public_jwks {
        Some(public) => public.present().map(|found| &found.body),
        None => cluster.jwks().present().map(|found| &found.body),
    };
    let jwks = body.and_then(|body| Jwks::parse(body).ok());
    jwks.map(|jwks| jwks.kids().map(str::to_owned).collect()).unwrap_or_default()
}

/// The memory of published keys after this pass: new ones in use, missing ones with the time they went, old ones gone.
fn remember(
    remembered: &PublishedKeys,
    in_use: &[Jwk],
    seen: &[String],
    lifetime: SignedDuration,
    now: Timestamp,
) -> PublishedKeys {
    let is_in_use = |kid: Option<&str>| in_use.iter().any(|key| key.kid() == kid);
    let is_seen = |jwk: &Jwk| seen.iter().any(|kid| jwk.kid() == Some(kid.as_str()));
    let new = in_use.iter().filter(|jwk| !remembered.keys.iter().any(|key| key.jwk.kid() == jwk.kid()));
    let new = new.map(|jwk| PublishedKey { jwk: jwk.clone(), seen_since: None, gone_since: None });
    let mut keys: Vec<PublishedKey> = remembered.keys.iter().cloned().chain(new).collect();
    for key in &mut keys {
        key.gone_since = if is_in_use(key.jwk.kid()) { None } else { key.gone_since.or(Some(now)) };
        key.seen_since = key.seen_since.or_else(|| is_seen(&key.jwk).then_some(now));
    }
    keys.retain(|key| key.gone_since.is_none_or(|since| now.duration_since(since) < lifetime));
    PublishedKeys { version: Version1, keys }
}
