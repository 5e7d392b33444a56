//! What one pass found and did, for people and for `status.json`.

mod keyring;
mod pods;
mod roles;
mod webhook;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use keyring::{
    EvidenceReport, KeyringReport, MemberReport, NextReport, RolloutReport, SharedKeyReport, keyring_report,
};
pub use pods::{MissedPodReport, MissedPodsReport, missed_pods_report};
pub use roles::{RoleFaultReport, RolesReport};
pub use webhook::WebhookReport;

use super::{
    memory::Version1,
    plan::{ApiServer, Desired, Facts, Plan, PublishedState, Shared, SharedFacts},
    probe::Probe,
    rotation::Policy,
};

/// State of this node after one pass. The JSON form is a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// Of `status.json` and `irsad status -o json`.
    pub version: Version1,
    /// End of the pass.
    pub written_at: Timestamp,
    /// Process that wrote it.
    pub pid: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Issuer that tokens shall carry.
    pub issuer: String,
    /// What this node is to the others.
    pub role: Role,
    /// Node that leads; `None` where nobody does, or where this node could not ask.
    pub leader: Option<String>,
    /// The whole in one word.
    pub health: Health,
    /// The whole in one line, as in `systemctl status`.
    pub summary: String,
    /// Keys of this node, the signing one first.
    pub keys: Vec<KeyReport>,
    /// What all control-plane nodes share; `None` where this node has not seen a keyring.
    pub keyring: Option<KeyringReport>,
    /// The running API server.
    pub api_server: ApiServerReport,
    /// The pod-identity webhook; `None` where it is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookReport>,
    /// IAM roles that irsad makes; `None` where it makes none, and on nodes that do not lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<RolesReport>,
    /// JWKS URL.
    pub jwks_uri: String,
    /// Last pass in which an outsider saw both documents as they should be.
    pub published_at: Option<Timestamp>,
    /// What irsad did last, and when.
    pub last_action: Option<DoneAction>,
    /// Pods without the AWS credentials that they should have; `None` where this node has not looked: the leader does.
    #[serde(default)]
    pub missed_pods: Option<MissedPodsReport>,
    /// What has to come true by itself.
    pub waiting_for: Vec<String>,
    /// What a person has to do.
    pub needs_a_person: Vec<String>,
    /// What is good to know.
    pub notices: Vec<String>,
    /// Failure that ended the pass.
    pub failure: Option<String>,
    /// Latest time of the next pass.
    pub next_check: Timestamp,
}

/// What a node is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It works from the keys on its disk: nothing runs yet that could have a keyring.
    Alone,
    /// It publishes, keeps the provider and moves the keys on.
    Leader,
    /// It looks after itself and reports.
    Follower,
}

/// The whole in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Nothing to do.
    Converged,
    /// Something was done; the next pass looks at it.
    Working,
    /// Something has to come true by itself.
    Waiting,
    /// The pass failed and is made again.
    Failing,
    /// A person is needed.
    NeedsAPerson,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyReport {
    /// Key ID.
    pub kid: String,
    /// JWS algorithm.
    pub algorithm: String,
    /// What it is used for.
    pub state: KeyState,
    /// In `leaving`: when it was first no longer in use.
    pub gone_since: Option<Timestamp>,
}

/// What a key is used for on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyState {
    /// In the signing key file.
    Signing,
    /// Accepted by the verification file.
    Accepted,
    /// No longer in use here; stays published until its last token has expired.
    Leaving,
}

/// The running API server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiServerReport {
    /// For a person.
    pub summary: String,
    /// `/readyz`; `None` where it did not answer.
    pub ready: Option<bool>,
    /// Issuer of its own discovery document.
    pub issuer: Option<String>,
    /// Keys that the running process accepts.
    pub kids: Vec<String>,
}

/// One action that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DoneAction {
    /// When.
    pub at: Timestamp,
    /// What, as `irsad plan` says it.
    pub what: String,
}

/// What the process itself remembers between passes, for its reports only.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// See [`Report::published_at`].
    pub published_at: Option<Timestamp>,
    /// See [`Report::last_action`].
    pub last_action: Option<DoneAction>,
    /// See [`Report::failure`].
    pub failure: Option<String>,
}

/// The report of a pass that observed `facts` and planned `plan`.
pub fn report(
    cluster: &str,
    desired: &Desired,
    facts: &Facts,
    plan: &Plan,
    history: &History,
    pid: u32,
    now: Timestamp,
) -> Report {
    let health = health(plan, history);
    let (role, leader, keyring) = match &facts.shared {
        Shared::Seen(shared) => of_all_nodes(shared, &desired.policy(), now),
        Shared::Nothing => (Role::Alone, None, None),
        Shared::Unknown(_) => (Role::Follower, None, None),
    };
    Report {
        version: Version1,
        written_at: now,
        pid,
        cluster: cluster.to_owned(),
        issuer: desired.issuer.to_string(),
        role,
        leader,
        health,
        summary: summary(health, desired, facts, plan, history),
        keys: keys(facts),
        keyring,
        api_server: api_server(&facts.node.api_server),
        webhook: webhook::webhook(desired, facts),
        roles: None,
        jwks_uri: desired.jwks_uri(),
        published_at: history.published_at,
        last_action: history.last_action.clone(),
        missed_pods: missed_pods_report(facts),
        waiting_for: plan.waiting_for.clone(),
        needs_a_person: plan.needs_a_person.clone(),
        notices: plan.notices.clone(),
        failure: history.failure.clone(),
        next_check: now.checked_add(plan.next_check).unwrap_or(now),
    }
}

fn of_all_nodes(
    shared: &SharedFacts,
    policy: &Policy,
    now: Timestamp,
) -> (Role, Option<String>, Option<KeyringReport>) {
    let store = match &shared.bucket {
        Some((bucket, _)) => format!("s3://{}", bucket.name),
        None if shared.is_for_one_node => "a folder of this node".to_owned(),
        None => "Secrets of kube-system".to_owned(),
    };
    let keyring = shared.keyring.present();
    let report = keyring.map(|stored| keyring_report(&store, &stored.keyring, &shared.acks, policy, now));
    let role = if shared.leads { Role::Leader } else { Role::Follower };
    (role, shared.leader.clone(), report)
}

fn health(plan: &Plan, history: &History) -> Health {
    if !plan.needs_a_person.is_empty() {
        Health::NeedsAPerson
    } else if history.failure.is_some() {
        Health::Failing
    } else if !plan.actions.is_empty() {
        Health::Working
    } else if !plan.waiting_for.is_empty() {
        Health::Waiting
    } else {
        Health::Converged
    }
}

/// One line; what hurts most stands first.
fn summary(health: Health, desired: &Desired, facts: &Facts, plan: &Plan, history: &History) -> String {
    let more = |list: &[String]| match list {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    };
    match health {
        Health::NeedsAPerson => format!("needs a person: {}", more(&plan.needs_a_person)),
        Health::Failing => format!("failed, next pass tries again: {}", history.failure.as_deref().unwrap_or_default()),
        Health::Working => format!("working: {}", plan.actions.last().map(ToString::to_string).unwrap_or_default()),
        Health::Waiting => waits(&more(&plan.waiting_for)),
        Health::Converged if facts.node.torn_down.present().is_some() => {
            let issuer = facts.node.torn_down.present().map(|torn_down| torn_down.issuer.as_str());
            format!("torn down: kube-apiserver signs as {}, nothing is left to do", issuer.unwrap_or_default())
        }
        Health::Converged => {
            let kid = facts.node.signing_key.present().map(|key| key.kid().to_string()).unwrap_or_default();
            match &facts.node.api_server {
                ApiServer::Seen(_) => {
                    format!("ok: kube-apiserver signs as {} with key {kid}, published", desired.issuer)
                }
                _ => format!("ok: key {kid} is published at {}, no kube-apiserver runs here yet", desired.issuer),
            }
        }
    }
}

/// A sentence of [`Report::waiting_for`] as a person reads it: what is waited for, or what stands in the way.
pub fn waits(what: &str) -> String {
    if what.starts_with("for ") { format!("waiting {what}") } else { format!("waiting: {what}") }
}

fn keys(facts: &Facts) -> Vec<KeyReport> {
    let mut keys: Vec<KeyReport> = Vec::new();
    let mut add = |kid: String, algorithm: String, state: KeyState, gone_since: Option<Timestamp>| {
        if !keys.iter().any(|known| known.kid == kid) {
            keys.push(KeyReport { kid, algorithm, state, gone_since });
        }
    };
    if let Probe::Present(key) = &facts.node.signing_key {
        add(key.kid().to_string(), key.algorithm().to_string(), KeyState::Signing, None);
    }
    for key in facts.node.verifying_keys.present().into_iter().flatten() {
        add(key.kid().to_string(), key.algorithm().to_string(), KeyState::Accepted, None);
    }
    for key in facts.node.published_keys.present().into_iter().flat_map(|published| &published.keys) {
        if let Some(since) = key.gone_since {
            let (kid, algorithm) = (key.jwk.kid().unwrap_or_default(), key.jwk.algorithm().unwrap_or_default());
            add(kid.to_owned(), algorithm.to_owned(), KeyState::Leaving, Some(since));
        }
    }
    keys
}

fn api_server(found: &ApiServer) -> ApiServerReport {
    let without =
        |summary: &str| ApiServerReport { summary: summary.to_owned(), ready: None, issuer: None, kids: Vec::new() };
    match found {
        ApiServer::None => without("none runs here yet"),
        ApiServer::NoKubeconfig(why) | ApiServer::Silent(why) => without(why),
        ApiServer::Seen(evidence) => {
            let kids: Vec<String> = evidence.served.kids().map(str::to_owned).collect();
            ApiServerReport {
                summary: format!(
                    "{}, signs as {}, accepts {} key{}",
                    if evidence.ready { "ready" } else { "not ready" },
                    evidence.issuer.as_deref().unwrap_or("nobody: its discovery is off"),
                    kids.len(),
                    if kids.len() == 1 { "" } else { "s" }
                ),
                ready: Some(evidence.ready),
                issuer: evidence.issuer.clone(),
                kids,
            }
        }
    }
}

/// The history after a pass, with what an outsider saw in it.
pub fn seen(history: &mut History, facts: &Facts, plan: &Plan, now: Timestamp) {
    if plan.published == PublishedState::Seen && facts.cluster.public_jwks.is_some() {
        history.published_at = Some(now);
    }
}
