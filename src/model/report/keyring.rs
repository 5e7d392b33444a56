//! The part of a report that is about all control-plane nodes: keys with what comes next, members with their evidence, and the
//! API server that is being changed.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    keyring::{KeyState, Keyring, KeyringKey, Member, Origin, Revoke, Rollout},
    outlook::next_step,
    rotation::{Ack, Policy, restart_reasons},
};

/// A change of one API server, with the proof of it and a way back, takes no longer.
const LONGEST_CHANGE: SignedDuration = SignedDuration::from_mins(15);

/// The keyring as the last pass found it. The JSON form is a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyringReport {
    /// Where it is kept, for a person.
    pub store: String,
    /// Its generation.
    pub generation: u64,
    /// What every API server's `--service-account-issuer` is to be, in order.
    pub issuers: Vec<String>,
    /// In order of age.
    pub keys: Vec<SharedKeyReport>,
    /// Control-plane nodes, in order of their joining.
    pub members: Vec<MemberReport>,
    /// The API server that is being changed.
    pub rollout: Option<RolloutReport>,
    /// Since when another signing key is wanted; `None` where none is.
    pub rotation_wanted_since: Option<Timestamp>,
}

/// One key of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SharedKeyReport {
    /// Key ID.
    pub kid: String,
    /// Where it is in its life.
    pub state: KeyState,
    /// Where it came from.
    pub origin: Origin,
    /// When it entered that state.
    pub since: Timestamp,
    /// When an outsider first saw it; `None`: nobody has yet.
    pub published_at: Option<Timestamp>,
    /// When every node had proven that it signs with another one; `None`: not yet.
    pub unused_since: Option<Timestamp>,
    /// How a person wants it gone.
    pub revoke: Option<Revoke>,
    /// What comes next by itself; `None`: nothing.
    pub next: Option<NextReport>,
}

/// What comes next for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NextReport {
    /// State that it enters; `None`: it is forgotten.
    pub state: Option<KeyState>,
    /// For a person; the key is the subject of it.
    pub what: String,
    /// Not before; `None` where no clock says when.
    pub at: Option<Timestamp>,
}

/// One control-plane node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberReport {
    /// Name of its Node object.
    pub node: String,
    /// When it was first seen.
    pub since: Timestamp,
    /// What it reported last; `None`: irsad has never reported from it.
    pub evidence: Option<EvidenceReport>,
}

/// What a node's irsad proved of its API server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceReport {
    /// Address at which the API server listens.
    pub address: String,
    /// Key that it signs with.
    pub signing_kid: String,
    /// Issuers that it accepts, the one it signs as first.
    pub issuers: Vec<String>,
    /// It accepts every key that it is to accept.
    pub serves_all: bool,
    /// What it still has to do to follow the keyring; empty where it does.
    pub still_to: Vec<String>,
    /// Generation that this node has seen.
    pub generation: u64,
    /// When it reported.
    pub reported_at: Timestamp,
    /// Start of the process.
    pub process_started_at: Timestamp,
    /// Why its last change was taken back.
    pub failure: Option<String>,
}

/// The API server that is being changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutReport {
    /// Its node.
    pub holder: String,
    /// Since when.
    pub since: Timestamp,
    /// What it is about, or why it does not go on.
    pub why: String,
    /// No other API server is changed until a person has said how to go on; `None`: nobody is needed.
    pub how_to_go_on: Option<String>,
}

/// What `keyring`, kept in `store`, and the evidence of its members come to.
pub fn keyring_report(store: &str, keyring: &Keyring, acks: &[Ack], policy: &Policy, now: Timestamp) -> KeyringReport {
    KeyringReport {
        store: store.to_owned(),
        generation: keyring.generation,
        issuers: keyring.issuers.clone(),
        keys: keyring.keys.iter().map(|key| shared_key(keyring, key, policy, now)).collect(),
        members: keyring.members.iter().map(|of| member(keyring, of, acks)).collect(),
        rollout: keyring.rollout.as_ref().map(|held| rollout(keyring, held, acks, now)),
        rotation_wanted_since: keyring.rotate_since,
    }
}

fn shared_key(keyring: &Keyring, key: &KeyringKey, policy: &Policy, now: Timestamp) -> SharedKeyReport {
    let next = next_step(keyring, key, policy, now);
    SharedKeyReport {
        kid: key.kid.clone(),
        state: key.state,
        origin: key.origin,
        since: key.since,
        published_at: key.published_at,
        unused_since: key.unused_since,
        revoke: key.revoke,
        next: next.map(|step| NextReport { state: step.state, what: step.what, at: step.at }),
    }
}

fn member(keyring: &Keyring, member: &Member, acks: &[Ack]) -> MemberReport {
    let evidence = acks.iter().find(|ack| ack.node == member.node).map(|ack| EvidenceReport {
        address: ack.address.clone(),
        signing_kid: ack.signing_kid.clone(),
        issuers: ack.issuers.clone(),
        serves_all: keyring.accepted().all(|key| ack.served.contains(&key.kid)),
        still_to: restart_reasons(keyring, ack),
        generation: ack.generation,
        reported_at: ack.at,
        process_started_at: ack.process_started_at,
        failure: ack.failure.clone(),
    });
    MemberReport { node: member.node.clone(), since: member.since, evidence }
}

fn rollout(keyring: &Keyring, held: &Rollout, acks: &[Ack], now: Timestamp) -> RolloutReport {
    let holder = &held.holder;
    let ack = acks.iter().find(|ack| ack.node == *holder);
    let here = format!(
        "on {holder}: irsad resume; only where that machine is gone for good, on another one: irsad resume --node {holder}"
    );
    let is_late = now.duration_since(held.since) > LONGEST_CHANGE;
    let (why, how_to_go_on) = match ack {
        Some(Ack { failure: Some(failure), .. }) => {
            (format!("frozen, its change was taken back: {failure}"), Some(here))
        }
        Some(ack) if is_late => (
            format!(
                "does not come to an end; irsad of {holder} last reported at {}",
                ack.at.strftime("%Y-%m-%d %H:%M UTC")
            ),
            Some(format!("look at {holder} first: systemctl status irsad; then, {here}")),
        ),
        Some(ack) => {
            let reasons = restart_reasons(keyring, ack);
            let why = match reasons.is_empty() {
                true => "done, about to be given back".to_owned(),
                false => format!("kube-apiserver is to {}", reasons.join(" and ")),
            };
            (why, None)
        }
        None => ("irsad has never reported from there".to_owned(), Some(here)),
    };
    RolloutReport { holder: holder.clone(), since: held.since, why, how_to_go_on }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rotation::{
        fixtures::{self, OURS, at, policy},
        found,
    };

    const NOW: i64 = 1_000_000;

    fn ack(node: &str, served: &[&str], failure: Option<&str>) -> Ack {
        Ack {
            address: "10.0.0.1".to_owned(),
            at: at(NOW - 60),
            failure: failure.map(str::to_owned),
            ..fixtures::ack(node, "k1", served)
        }
    }

    fn held_by_n2(since: i64, acks: &[Ack]) -> KeyringReport {
        let mut keyring = found("prod-1", OURS, KeyringKey::adopted("k1", "", KeyState::Signing, at(0)));
        keyring.keys.push(KeyringKey::adopted("k2", "", KeyState::Standby, at(0)));
        keyring.members = ["n1", "n2"].map(|node| Member { node: node.to_owned(), since: at(0) }).to_vec();
        keyring.rotate_since = Some(at(10));
        keyring.rollout = Some(Rollout { holder: "n2".to_owned(), since: at(since) });
        keyring_report("Secrets of kube-system", &keyring, acks, &policy(), at(NOW))
    }

    #[test]
    fn rollout_says_why_it_stands_still_and_the_command_to_go_on() {
        let go_on =
            "on n2: irsad resume; only where that machine is gone for good, on another one: irsad resume --node n2";
        let look = format!("look at n2 first: systemctl status irsad; then, {go_on}");
        let soon = NOW - 100;
        for (since, ack, why, how) in [
            (soon, Some(ack("n2", &["k1"], None)), "kube-apiserver is to accept key k2", None),
            (soon, Some(ack("n2", &["k1", "k2"], None)), "done, about to be given back", None),
            (
                soon,
                Some(ack("n2", &["k1"], Some("no proof in 300 s"))),
                "frozen, its change was taken back: no proof in 300 s",
                Some(go_on.to_owned()),
            ),
            (soon, None, "irsad has never reported from there", Some(go_on.to_owned())),
            (
                0,
                Some(ack("n2", &["k1"], None)),
                "does not come to an end; irsad of n2 last reported at 1970-01-12 13:45 UTC",
                Some(look),
            ),
        ] {
            let report = held_by_n2(since, &ack.into_iter().collect::<Vec<_>>());
            let rollout = report.rollout.expect("a rollout");
            assert_eq!((rollout.why.as_str(), rollout.how_to_go_on), (why, how));
        }
    }

    #[test]
    fn member_shows_its_evidence_or_that_there_is_none() {
        let report = held_by_n2(0, &[ack("n1", &["k1"], None)]);
        let [n1, n2] = report.members.as_slice() else { panic!("{:?}", report.members) };
        let evidence = n1.evidence.as_ref().expect("evidence");
        assert!(!evidence.serves_all, "it does not accept k2");
        assert_eq!(evidence.still_to, ["accept key k2"]);
        assert_eq!((n2.node.as_str(), &n2.evidence), ("n2", &None));
    }
}
