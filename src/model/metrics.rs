//! What irsad tells a monitoring system: families of samples with their names, help and types, made from what a pass saw.
//!
//! Names follow the Prometheus rules ("Metric and label naming"): prefix `irsad_`, base units, `_timestamp_seconds` for moments. Every
//! label has a small, closed set of values: no key id, no pod, no ARN. Who writes them out, and in which format, stands in
//! `daemon::metrics`; [`tally`] counts what irsad did.

pub mod aws;
pub mod negotiation;
pub mod tally;

use jiff::Timestamp;

use super::{
    keyring::KeyState,
    plan::{DesiredProvider, ProviderFacts},
    probe::Probe,
    report::{self, Health, KeyringReport, MemberReport, MissedPodsReport, Report, Role, RolesReport},
};

/// What a family counts or shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows only; samples carry the suffix `_total`.
    Counter,
    /// Any number.
    Gauge,
    /// Labels that say something by themselves; samples carry the suffix `_info` and the value 1.
    Info,
}

/// Samples of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Without the suffix of its kind.
    pub name: &'static str,
    /// What it means, as a sentence.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One for each set of labels.
    pub samples: Vec<Sample>,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number; moments are seconds since 1970.
    pub value: f64,
}

impl Sample {
    /// Without labels.
    pub fn plain(value: f64) -> Self {
        Self { labels: Vec::new(), value }
    }

    /// With one label.
    pub fn of(label: &'static str, word: impl Into<String>, value: f64) -> Self {
        Self { labels: vec![(label, word.into())], value }
    }
}

/// A family of gauges.
pub fn gauge(name: &'static str, help: &'static str, samples: impl IntoIterator<Item = Sample>) -> Family {
    Family { name, help, kind: Kind::Gauge, samples: samples.into_iter().collect() }
}

/// A family of counters; `name` without `_total`.
pub fn counter(name: &'static str, help: &'static str, samples: impl IntoIterator<Item = Sample>) -> Family {
    Family { name, help, kind: Kind::Counter, samples: samples.into_iter().collect() }
}

/// What a pass saw of what the cluster has outside; `None` is what it did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    /// An outsider found both public documents as they should be.
    pub published: Option<bool>,
    /// See [`provider_drift`].
    pub provider_drifts: Option<bool>,
}

/// What a pass shows that reported `report` and saw `outside`, `None` where a teardown has ended that, see
/// [`is_looked_after`](super::plan::is_looked_after). A family that is missing is what this node cannot know.
pub fn of_pass(report: &Report, outside: Option<Outside>) -> Vec<Family> {
    let mut families = vec![cluster(report), health(report)];
    families.extend(work(report));
    families.push(gauge(
        "irsad_apiserver_ready",
        "Whether kube-apiserver of this node answers as a ready one.",
        report.api_server.ready.map(|ready| Sample::plain(number(ready))),
    ));
    families.extend(outside.map(|outside| of_outside(report, outside)).into_iter().flatten());
    families.extend(report.keyring.as_ref().map(of_keyring).into_iter().flatten());
    families.push(node_keys(report));
    families.extend(of_webhook(report));
    families.extend(report.missed_pods.as_ref().map(of_missed_pods).into_iter().flatten());
    families.extend(report.roles.as_ref().map(of_roles));
    families.retain(|family| !family.samples.is_empty());
    families
}

/// Seconds since 1970.
pub fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn number(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 keys, nodes or pods")]
fn count(number: usize) -> f64 {
    number as f64
}

fn cluster(report: &Report) -> Family {
    let labels = vec![("cluster", report.cluster.clone()), ("issuer", report.issuer.clone())];
    let help = "The cluster and the issuer of its tokens.";
    Family { name: "irsad_cluster", help, kind: Kind::Info, samples: vec![Sample { labels, value: 1.0 }] }
}

fn health(report: &Report) -> Family {
    let all = [Health::Converged, Health::Working, Health::Waiting, Health::Failing, Health::NeedsAPerson];
    let word = |health| match health {
        Health::Converged => "converged",
        Health::Working => "working",
        Health::Waiting => "waiting",
        Health::Failing => "failing",
        Health::NeedsAPerson => "needsAPerson",
    };
    let samples = all.map(|health| Sample::of("state", word(health), number(health == report.health)));
    gauge("irsad_health", "The whole in one word: 1 for the state that irsad is in.", samples)
}

/// What is open.
fn work(report: &Report) -> [Family; 2] {
    [
        gauge(
            "irsad_needs_person",
            "Things that only a person can put right; irsad status names them.",
            [Sample::plain(count(report.needs_a_person.len()))],
        ),
        gauge(
            "irsad_waiting",
            "Things that have to come true by themselves before irsad goes on.",
            [Sample::plain(count(report.waiting_for.len()))],
        ),
    ]
}

/// Who looks after what the world sees, and how that is.
fn of_outside(report: &Report, outside: Outside) -> [Family; 4] {
    [
        gauge(
            "irsad_leader",
            "Whether this node publishes and moves the keys on (1) or another one does (0).",
            (report.role != Role::Alone).then(|| Sample::plain(number(report.role == Role::Leader))),
        ),
        gauge(
            "irsad_published",
            "Whether an outsider finds both public documents as they should be (1) or not (0).",
            outside.published.map(|is_so| Sample::plain(number(is_so))),
        ),
        gauge(
            "irsad_published_timestamp_seconds",
            "Last pass in which an outsider found both public documents as they should be.",
            report.published_at.map(|at| Sample::plain(seconds(at))),
        ),
        gauge(
            "irsad_provider_drift",
            "Whether the IAM OIDC provider is missing or lacks an audience that it should have (1) or not (0).",
            outside.provider_drifts.map(|drifts| Sample::plain(number(drifts))),
        ),
    ]
}

const STATES: [KeyState; 6] = [
    KeyState::Standby,
    KeyState::Signing,
    KeyState::Draining,
    KeyState::VerifyOnly,
    KeyState::Retired,
    KeyState::Revoked,
];

fn word(state: Option<KeyState>) -> &'static str {
    match state {
        Some(KeyState::Standby) => "standby",
        Some(KeyState::Signing) => "signing",
        Some(KeyState::Draining) => "draining",
        Some(KeyState::VerifyOnly) => "verifyOnly",
        Some(KeyState::Retired) => "retired",
        Some(KeyState::Revoked) => "revoked",
        None => "forgotten",
    }
}

/// What all control-plane nodes share.
fn of_keyring(keyring: &KeyringReport) -> Vec<Family> {
    let of = |state| keyring.keys.iter().filter(move |key| key.state == state);
    let behind = keyring.members.iter().filter(|member| is_behind(member)).count();
    let (rollout, wanted) = (keyring.rollout.as_ref(), keyring.rotation_wanted_since);
    let oldest = STATES.iter().filter_map(|state| Some((*state, of(*state).map(|key| key.since).min()?)));
    vec![
        gauge(
            "irsad_keys",
            "Keys of the cluster by where they are in their life.",
            STATES.map(|state| Sample::of("state", word(Some(state)), count(of(state).count()))),
        ),
        gauge(
            "irsad_key_since_timestamp_seconds",
            "When the oldest key of a state entered it.",
            oldest.map(|(state, since)| Sample::of("state", word(Some(state)), seconds(since))),
        ),
        gauge(
            "irsad_key_next_step_timestamp_seconds",
            "Earliest time at which a key enters a state.",
            next_steps(keyring),
        ),
        gauge(
            "irsad_rotation_wanted_since_timestamp_seconds",
            "Since when another signing key is wanted, by age or by request.",
            wanted.map(|since| Sample::plain(seconds(since))),
        ),
        gauge("irsad_members", "Control-plane nodes.", [Sample::plain(count(keyring.members.len()))]),
        gauge(
            "irsad_members_behind",
            "Control-plane nodes that have not proven that they follow the keyring.",
            [Sample::plain(count(behind))],
        ),
        gauge(
            "irsad_rollout_since_timestamp_seconds",
            "Since when one API server is being changed.",
            rollout.map(|rollout| Sample::plain(seconds(rollout.since))),
        ),
        gauge(
            "irsad_rollout_frozen",
            "Whether the change of an API server stands still until a person says how to go on.",
            [Sample::plain(number(rollout.is_some_and(|rollout| rollout.how_to_go_on.is_some())))],
        ),
    ]
}

/// It has never reported, has something left to do, or its last change was taken back.
fn is_behind(member: &MemberReport) -> bool {
    member.evidence.as_ref().is_none_or(|evidence| !evidence.still_to.is_empty() || evidence.failure.is_some())
}

/// The next key that enters each state, where a clock says when.
fn next_steps(keyring: &KeyringReport) -> Vec<Sample> {
    let steps = keyring.keys.iter().filter_map(|key| key.next.as_ref());
    let first = |state| steps.clone().filter(|step| step.state == state).filter_map(|step| step.at).min();
    let states = STATES.map(Some).into_iter().chain([None]);
    let dated = states.filter_map(|state| Some((state, first(state).filter(|at| *at != Timestamp::MAX)?)));
    dated.map(|(state, at)| Sample::of("state", word(state), seconds(at))).collect()
}

fn node_keys(report: &Report) -> Family {
    let all = [
        (report::KeyState::Signing, "signing"),
        (report::KeyState::Accepted, "accepted"),
        (report::KeyState::Leaving, "leaving"),
    ];
    let of = |state| report.keys.iter().filter(|key| key.state == state).count();
    let samples = all.map(|(state, word)| Sample::of("state", word, count(of(state))));
    gauge("irsad_node_keys", "Keys of this node by what it uses them for.", samples)
}

/// Whether the IAM OIDC provider is not as it should be; `None` where nobody manages it here, or where it is not known.
pub fn provider_drift(wanted: Option<&DesiredProvider>, found: Option<&Probe<ProviderFacts>>) -> Option<bool> {
    match (wanted?, found?) {
        (_, Probe::Absent) => Some(true),
        (wanted, Probe::Present(found)) => {
            Some(wanted.audiences.iter().any(|audience| !found.audiences.contains(audience)))
        }
        (_, Probe::Unknown(_)) => None,
    }
}

fn of_webhook(report: &Report) -> [Family; 1] {
    let registered = report.webhook.as_ref().and_then(|webhook| webhook.registered);
    [gauge(
        "irsad_webhook_registered",
        "Whether API servers are told to call the pod-identity webhook.",
        registered.map(|is_so| Sample::plain(number(is_so))),
    )]
}

fn of_roles(roles: &RolesReport) -> Family {
    let RolesReport { ready, pending, waiting, need_a_person, orphaned, .. } = *roles;
    let states = [
        ("ready", ready),
        ("pending", pending),
        ("waiting", waiting),
        ("refused", need_a_person),
        ("orphaned", orphaned),
    ];
    let samples = states.map(|(state, number)| Sample::of("state", state, count(number)));
    gauge("irsad_roles", "IAM roles that irsad makes, by how it stands with them; irsad status says why.", samples)
}

fn of_missed_pods(found: &MissedPodsReport) -> [Family; 2] {
    [
        gauge(
            "irsad_missed_pods",
            "Pods that run without the AWS credentials that they should have; irsad status names them.",
            [Sample::plain(count(found.count))],
        ),
        gauge(
            "irsad_missed_pods_checked_timestamp_seconds",
            "When pods were last looked at.",
            [Sample::plain(seconds(found.looked_at))],
        ),
    ]
}

#[cfg(test)]
mod tests;
