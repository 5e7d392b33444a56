//! One rotation, by the times that the nodes themselves note in keyring and evidence.

use std::collections::BTreeMap;

use ::irsad::model::{
    keyring::KeyState,
    report::{KeyringReport, Report, SharedKeyReport},
};
use jiff::Timestamp;

use crate::{
    figure::{Figure, Requests, each, of_service},
    three::{Asked, TOKEN_LIFETIME_SECONDS},
};

/// What was seen of a rotation so far.
pub struct Watched {
    old: String,
    /// When each node got its turn.
    turns: BTreeMap<String, Timestamp>,
    /// When each node's new API server started, and when it had proven what it signs with.
    proofs: BTreeMap<String, (Timestamp, Timestamp)>,
    /// The keys, as they were seen last.
    keys: BTreeMap<String, SharedKeyReport>,
}

impl Watched {
    /// Nothing yet of a rotation in which `old` stops to sign.
    pub fn new(old: String) -> Self {
        Self { old, turns: BTreeMap::new(), proofs: BTreeMap::new(), keys: BTreeMap::new() }
    }

    /// Takes what the nodes say now.
    pub fn see(&mut self, reports: &[Report]) -> &Self {
        reports.iter().filter_map(|report| report.keyring.as_ref()).for_each(|keyring| self.take(keyring));
        self
    }

    fn take(&mut self, keyring: &KeyringReport) {
        if let Some(rollout) = &keyring.rollout {
            self.turns.entry(rollout.holder.clone()).or_insert(rollout.since);
        }
        for member in &keyring.members {
            if let Some(evidence) = member.evidence.as_ref().filter(|evidence| evidence.signing_kid != self.old) {
                let proof = (evidence.process_started_at, evidence.reported_at);
                self.proofs.entry(member.node.clone()).or_insert(proof);
            }
        }
        for key in &keyring.keys {
            let is_older = self.keys.get(&key.kid).is_some_and(|known| known.since > key.since);
            if !is_older {
                self.keys.insert(key.kid.clone(), key.clone());
            }
        }
    }

    /// Whether every node has proven that it signs with another key.
    pub fn is_proven(&self) -> bool {
        self.old().is_some_and(|key| key.unused_since.is_some())
    }

    /// Whether the old key is no longer published.
    pub fn is_over(&self) -> bool {
        self.is_proven() && self.old().is_some_and(|key| !key.state.is_published())
    }

    fn old(&self) -> Option<&SharedKeyReport> {
        self.keys.get(&self.old)
    }

    /// The changes of the nodes, in their order.
    fn turns(&self) -> Vec<Turn> {
        let turn = |(node, since): (&String, &Timestamp)| {
            let (started, proven) = *self.proofs.get(node)?;
            Some(Turn { since: *since, started, proven })
        };
        let mut turns: Vec<Turn> = self.turns.iter().filter_map(turn).collect();
        turns.sort_by_key(|turn| turn.since);
        turns
    }

    fn last_proof(&self) -> Option<Timestamp> {
        self.proofs.values().map(|(_, proven)| *proven).max()
    }

    fn in_state(&self, state: KeyState) -> Option<&SharedKeyReport> {
        self.keys.values().find(|key| key.state == state)
    }
}

/// One node's change.
struct Turn {
    since: Timestamp,
    started: Timestamp,
    proven: Timestamp,
}

/// A rotation that is over.
pub struct Rotation {
    pub asked_at: Timestamp,
    pub watched: Watched,
    pub restarts: String,
    /// Of all nodes, until the last one had proven that it signs with the new key.
    pub requests: Asked,
}

impl Rotation {
    /// Its time, in parts.
    pub fn phases(&self) -> Vec<Figure> {
        let watched = &self.watched;
        let signs = watched.in_state(KeyState::Signing).map(|key| key.since);
        let unused = watched.old().and_then(|key| key.unused_since);
        let gone = watched.old().map(|key| key.since);
        let standby = watched.in_state(KeyState::Standby);
        let public = standby.map(|key| between(Some(key.since), key.published_at));
        let turns = watched.turns();
        let freed = signs.into_iter().chain(turns.iter().map(|turn| turn.proven));
        let waited = freed.zip(&turns).map(|(freed, turn)| (freed, turn.since));
        let all = format!("{}, {}", between(Some(self.asked_at), unused), self.restarts);
        let draining = format!("old key published on (tokenLifetime {TOKEN_LIFETIME_SECONDS} s here)");
        [
            ("asked until every node has proven the new key", all),
            ("asked until the standby key is to sign (its publishLead was over)", between(Some(self.asked_at), signs)),
            ("node by node, turn free until taken", one_by_one(waited)),
            (
                "node by node, turn taken until the new API server starts",
                one_by_one(turns.iter().map(|turn| (turn.since, turn.started))),
            ),
            ("node by node, that start until proven", one_by_one(turns.iter().map(|turn| (turn.started, turn.proven)))),
            ("last proof until the leader has noted it", between(watched.last_proof(), unused)),
            (draining.as_str(), between(unused, gone)),
            ("next standby key made until an outsider finds it", public.unwrap_or_default()),
        ]
        .map(|(name, measured)| Figure::plain(format!("rotation of 3 nodes: {name}"), measured))
        .into()
    }

    /// What it asked for.
    pub fn requests(&self, keyring: &str) -> Figure {
        let count = |requests: &Requests| requests.values().sum::<usize>();
        let [s3, kms] = ["S3", "KMS"].map(|service| of_service(&self.requests.aws, service));
        let kubernetes = count(&self.requests.kubernetes);
        let measured = format!("S3 {}, KMS {} ({}), Kubernetes API {kubernetes}", count(&s3), count(&kms), each(&kms));
        Figure::plain(format!("rotation of 3 nodes: requests of all until proven, {keyring}"), measured)
    }
}

fn one_by_one(times: impl Iterator<Item = (Timestamp, Timestamp)>) -> String {
    times.map(|(from, to)| between(Some(from), Some(to))).collect::<Vec<_>>().join(", ")
}

fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("{:.1} s", to.duration_since(from).as_secs_f64()),
        _ => "not seen".to_owned(),
    }
}
