//! What a person asks of the keyring, and what will come of it, said before it is done.
//!
//! Each request is a change of the newest keyring, to be written by compare-and-swap. How the nodes follow is not decided here.

mod teardown;

use jiff::Timestamp;
use thiserror::Error;

pub use teardown::{
    WantedTeardown, cancel_effect, cancel_teardown, default_issuer, failed_member, teardown, teardown_effect,
    teardown_progress,
};

use super::{
    keyring::{HighWater, KeyState, Keyring, KeyringKey, Origin, Revoke, hash},
    outlook::{duration, later, promotion, short},
    rotation::{self, Ack, Policy, RevokeError, restart_reasons},
};

/// Shortest beginning of a key id that names a key.
const SHORTEST_BEGINNING: usize = 6;

/// Why nothing is asked for. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// It is on its way.
    #[error("another signing key is wanted since {} already (nothing changed); irsad status says what it waits for", minute(*.0))]
    Wanted(Timestamp),
    /// There is nothing to release.
    #[error("no kube-apiserver is being changed (nothing changed)")]
    NoRollout,
    /// Another one is being changed.
    #[error("kube-apiserver of {holder} is being changed, not the one of {asked} (nothing changed)")]
    OtherHolder {
        /// Who holds the rollout.
        holder: String,
        /// Who was named.
        asked: String,
    },
    /// The cluster is on its way back to another issuer.
    #[error(
        "the cluster goes back to issuer {0} (nothing changed): keys stay as they are until that is done; irsad teardown --cancel ends it"
    )]
    TearingDown(String),
    /// Nobody asked for a teardown.
    #[error("no teardown is under way (nothing changed)")]
    NoTeardown,
    /// Another issuer was asked for.
    #[error(
        "the cluster goes back to issuer {0} already (nothing changed); irsad teardown --cancel first, then ask for another one"
    )]
    OtherIssuer(String),
    /// That is no way back.
    #[error("{0} is the issuer that irsad brought (nothing changed); name the one that is to sign in its place")]
    OwnIssuer(String),
    /// Nothing says what kubeadm has.
    #[error(
        "no issuer was there before irsad's, and kubeadm's cannot be told: ConfigMap kube-system/kubeadm-config could not be read (nothing \
         changed); name the one that is to sign: --issuer URL"
    )]
    NoIssuer,
    /// A key must leave first.
    #[error(
        "key {0} is being revoked (nothing changed); wait until every kube-apiserver refuses it: irsad status says how far it is"
    )]
    Revoking(String),
    /// More than one key begins like this.
    #[error("more than one key begins with {0} (nothing changed); give more of it")]
    Ambiguous(String),
    /// See [`RevokeError`].
    #[error(transparent)]
    Revoke(#[from] RevokeError),
    /// Another node knows a newer keyring.
    #[error(
        "{node} has seen generation {theirs} and this node remembers {ours} (nothing changed); run irsad rebuild on {node}"
    )]
    Newer {
        /// That node.
        node: String,
        /// What it has seen.
        theirs: u64,
        /// What this node remembers.
        ours: u64,
    },
    /// The stored keyring is not the older one.
    #[error(
        "the store has generation {0}, which continues what this node remembers (nothing changed); nothing is to be rebuilt"
    )]
    NotLost(u64),
}

/// The keyring in which another signing key is wanted from `now` on.
///
/// # Errors
/// One is wanted already.
pub fn rotate(keyring: &Keyring, now: Timestamp) -> Result<Keyring, RequestError> {
    stays(keyring)?;
    match keyring.rotate_since {
        Some(since) => Err(RequestError::Wanted(since)),
        None => Ok(Keyring { rotate_since: Some(now), ..keyring.clone() }),
    }
}

/// Whether keys may change: not while the cluster goes back to another issuer.
///
/// # Errors
/// It does.
pub fn stays(keyring: &Keyring) -> Result<(), RequestError> {
    match &keyring.teardown {
        None => Ok(()),
        Some(teardown) => Err(RequestError::TearingDown(teardown.issuer.clone())),
    }
}

/// What [`rotate`] comes to.
pub fn rotate_effect(keyring: &Keyring, acks: &[Ack], policy: &Policy, now: Timestamp) -> Vec<String> {
    let wanted = Keyring { rotate_since: Some(keyring.rotate_since.unwrap_or(now)), ..keyring.clone() };
    let mut effect = replacement(&wanted, acks, policy, now);
    if let Some(key) = keyring.signing() {
        let accepted = match key.origin {
            Origin::Made => format!("accepted for {}", duration(policy.verify_retention)),
            Origin::Adopted => "accepted until a person revokes it".to_owned(),
        };
        effect.push(format!(
            "key {} stays published for {} after the last node has proven the other one, and {accepted}",
            short(&key.kid),
            duration(policy.token_lifetime)
        ));
    }
    effect.push("no token is refused".to_owned());
    effect
}

/// How the standby comes to sign.
fn replacement(wanted: &Keyring, acks: &[Ack], policy: &Policy, now: Timestamp) -> Vec<String> {
    let signing = wanted.signing().map_or("", |key| short(&key.kid));
    let lead = duration(policy.publish_lead);
    let mut effect = Vec::new();
    let at = promotion(wanted, policy, now).unwrap_or(now);
    let when = if at > now { format!("not before {}", minute(at)) } else { "now".to_owned() };
    effect.push(match wanted.standby() {
        Some(standby) => format!(
            "key {} signs in place of {signing} when every kube-apiserver accepts it and outsiders could fetch it for {lead}: {when}",
            short(&standby.kid)
        ),
        None => format!("a new key is made; it signs in place of {signing} after outsiders could fetch it for {lead}: {when}"),
    });
    let accepts = |node: &str| {
        let ack = acks.iter().find(|ack| ack.node == node);
        wanted.standby().is_some_and(|key| ack.is_some_and(|ack| ack.served.contains(&key.kid)))
    };
    let (once, twice): (Vec<&str>, Vec<&str>) =
        wanted.members.iter().map(|member| member.node.as_str()).partition(|node| accepts(node));
    if !once.is_empty() {
        effect.push(format!("kube-apiserver of {} restarts once, one node after the other", once.join(", ")));
    }
    if !twice.is_empty() {
        effect.push(format!(
            "kube-apiserver of {} restarts twice, one node after the other: first to accept that key, then to sign with it",
            twice.join(", ")
        ));
    }
    effect
}

/// The key that `text` names: its id, or the beginning of it.
///
/// # Errors
/// None is called so, or more than one.
pub fn named<'k>(keyring: &'k Keyring, text: &str) -> Result<&'k KeyringKey, RequestError> {
    let begins = |key: &&KeyringKey| key.kid == text || (text.len() >= SHORTEST_BEGINNING && key.kid.starts_with(text));
    let mut found = keyring.keys.iter().filter(begins);
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(RequestError::Ambiguous(text.to_owned())),
        (None, _) => Err(RevokeError::Unknown(text.to_owned()).into()),
    }
}

/// What [`rotation::revoke`] of `key` comes to.
///
/// # Errors
/// There is nothing to revoke.
pub fn revoke_effect(
    keyring: &Keyring,
    key: &KeyringKey,
    how: Revoke,
    acks: &[Ack],
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<String>, RequestError> {
    stays(keyring)?;
    let changed = rotation::revoke(keyring, &key.kid, how, now)?;
    let kid = short(&key.kid);
    let lifetime = duration(policy.token_lifetime);
    let mut effect = vec![format!("key {kid} is {} since {}", key.state, minute(key.since))];
    match (key.state, how) {
        (KeyState::Signing, Revoke::Drain) => {
            effect.extend(replacement(&changed, acks, policy, now));
            effect.push(format!(
                "{lifetime} after the last node has proven the other one, {kid} leaves the published keys, and every kube-apiserver \
                 restarts once more to refuse it"
            ));
        }
        (KeyState::Signing, Revoke::Now) => {
            effect.extend(replacement(&changed, acks, policy, now));
            effect.push(format!(
                "from that moment on outsiders refuse every token of {kid}, and so does each kube-apiserver from its restart on, those that \
                 other nodes still sign with it included: pods fail until they have new tokens; restart them, those that use AWS first"
            ));
            effect.push(format!("an outsider that keeps the published keys, as AWS STS does, goes on accepting {kid} until it fetches them again"));
        }
        (KeyState::Draining, Revoke::Drain) => {
            let until = key.unused_since.map(|since| later(since, policy.token_lifetime + policy.clock_margin));
            let when = until.map_or(format!("{lifetime} after every node has proven another key"), minute);
            effect.push(format!("{when}: {kid} leaves the published keys, and every kube-apiserver restarts once to refuse it"));
        }
        (KeyState::Draining, Revoke::Now) => effect.push(format!(
            "{kid} leaves the published keys at once, and every kube-apiserver restarts once to refuse it: its live tokens are refused"
        )),
        (KeyState::Standby, _) => effect.push(format!(
            "nothing was signed with {kid}: it leaves the published keys at once, {} to refuse it, and another key is made",
            restarts(keyring, acks, &key.kid)
        )),
        (KeyState::VerifyOnly | KeyState::Retired | KeyState::Revoked, _) => {
            effect.push(format!("{} to refuse it", restarts(keyring, acks, &key.kid)));
        }
    }
    effect.push(match key.state {
        KeyState::Standby => "no token is refused".to_owned(),
        _ => format!(
            "tokens without an end, in Secrets, that {kid} has signed are refused for ever: irsad verify names them"
        ),
    });
    Ok(effect)
}

/// Which API servers restart because they have that key.
fn restarts(keyring: &Keyring, acks: &[Ack], kid: &str) -> String {
    let has = |node: &&str| acks.iter().any(|ack| ack.node == *node && ack.served.iter().any(|served| served == kid));
    let nodes: Vec<&str> = keyring.members.iter().map(|member| member.node.as_str()).filter(has).collect();
    match nodes.is_empty() {
        true => "no kube-apiserver has to restart".to_owned(),
        false => format!("kube-apiserver of {} restarts once, one node after the other,", nodes.join(", ")),
    }
}

/// The keyring in which `node` no longer holds the right to change its API server.
///
/// # Errors
/// It does not hold it.
pub fn release(keyring: &Keyring, node: &str) -> Result<Keyring, RequestError> {
    match &keyring.rollout {
        None => Err(RequestError::NoRollout),
        Some(rollout) if rollout.holder != node => {
            Err(RequestError::OtherHolder { holder: rollout.holder.clone(), asked: node.to_owned() })
        }
        Some(_) => Ok(Keyring { rollout: None, ..keyring.clone() }),
    }
}

/// What [`release`] comes to, and what a person has to be sure of.
///
/// # Errors
/// As [`release`].
pub fn release_effect(keyring: &Keyring, node: &str, acks: &[Ack]) -> Result<Vec<String>, RequestError> {
    let released = release(keyring, node)?;
    let behind = released.members.iter().filter(|member| member.node != node).filter_map(|member| {
        let ack = acks.iter().find(|ack| ack.node == member.node)?;
        (!restart_reasons(&released, ack).is_empty()).then_some(member.node.as_str())
    });
    let behind: Vec<&str> = behind.collect();
    let next = match behind.is_empty() {
        true => "the other nodes have nothing to change".to_owned(),
        false => format!("kube-apiserver of {} may be changed next", behind.join(", ")),
    };
    Ok(vec![
        format!("{node} gives back the right to change its kube-apiserver; {next}"),
        format!(
            "be sure that kube-apiserver of {node} runs and is ready, or that the machine is off and will not come back: else two API \
             servers may be down at once"
        ),
        format!(
            "where {node} is gone for good, delete its Node object too: rotations wait for every node (kubectl delete node {node})"
        ),
    ])
}

/// The keyring to write in place of one that went back in time: what this node remembers, as the next generation. `has_private`
/// tells whether the store still has the private half of a key; a standby without it can never sign.
///
/// # Errors
/// Another node has seen a newer one, or the stored one is no older.
pub fn rebuild(
    remembered: &Keyring,
    bytes: &[u8],
    stored: Option<&Keyring>,
    acks: &[Ack],
    has_private: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Result<Keyring, RequestError> {
    let ours = remembered.generation;
    if let Some(ack) = acks.iter().filter(|ack| ack.generation > ours).max_by_key(|ack| ack.generation) {
        return Err(RequestError::Newer { node: ack.node.clone(), theirs: ack.generation, ours });
    }
    let mark = HighWater { generation: ours, hash: hash(bytes) };
    if let Some(stored) = stored.filter(|stored| stored.continues(&hash(&stored.render()), &mark).is_ok()) {
        return Err(RequestError::NotLost(stored.generation));
    }
    let mut rebuilt = remembered.next(bytes);
    for key in rebuilt.keys.iter_mut().filter(|key| key.state == KeyState::Standby && !has_private(&key.kid)) {
        key.enter(KeyState::VerifyOnly, now);
        key.unused_since = Some(now);
    }
    Ok(rebuilt)
}

/// What [`rebuild`] comes to.
pub fn rebuild_effect(rebuilt: &Keyring, stored: Option<&Keyring>, acks: &[Ack]) -> Vec<String> {
    let found =
        stored.map_or("no keyring".to_owned(), |stored| format!("generation {} of the keyring", stored.generation));
    let mut effect = vec![format!(
        "the store has {found}; what this node remembers, generation {}, is written as generation {}",
        rebuilt.generation - 1,
        rebuilt.generation
    )];
    // Evidence that is no newer than the stored keyring went back in time with it.
    let lost = stored.map_or(0, |stored| stored.generation);
    let has_reported = |node: &str| acks.iter().any(|ack| ack.node == node && ack.generation > lost);
    let silent: Vec<&str> =
        rebuilt.members.iter().map(|member| member.node.as_str()).filter(|node| !has_reported(node)).collect();
    if !silent.is_empty() {
        effect.push(format!(
            "{} has not reported since: where it may have seen a newer generation (irsad status there), run irsad rebuild there instead",
            silent.join(", ")
        ));
    }
    let stood_by = |key: &KeyringKey| key.history.last().is_some_and(|phase| phase.state == KeyState::Standby);
    if rebuilt.standby().is_none() && rebuilt.keys.iter().any(|key| key.state == KeyState::VerifyOnly && stood_by(key))
    {
        effect.push(
            "the private half of the standby key is lost with the store: another key is made and stands by".to_owned(),
        );
    }
    effect.push(
        "kube-apiserver goes on as it is; every node follows the keyring again, and no token is refused".to_owned(),
    );
    effect
}

fn minute(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests;
