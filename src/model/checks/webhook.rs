//! What must hold so that a new pod meets the pod-identity webhook, whichever API server it is created through.

use jiff::Timestamp;

use super::{Check, Outcome};
use crate::model::{
    cluster_object::StoredObject,
    plan::{Desired, Facts, Shared, webhooks_missing},
    probe::Probe,
    webhook::Mode,
};

/// Every check of the webhook; none where it is somebody else's.
pub fn webhook(desired: &Desired, facts: &Facts, now: Timestamp) -> Vec<Check> {
    match desired.webhook.mode {
        Mode::BuiltIn => built_in(desired, facts, now),
        Mode::Upstream => upstream(facts),
        Mode::None => Vec::new(),
    }
}

fn check(statement: &str, outcome: Outcome) -> Check {
    Check { statement: statement.to_owned(), outcome }
}

fn built_in(desired: &Desired, facts: &Facts, now: Timestamp) -> Vec<Check> {
    let webhook = &facts.webhook;
    let called = match (&webhook.out_of_reach, &webhook.call) {
        (Some(why), _) => Outcome::Fails(why.clone()),
        (None, Some(Ok(()))) => Outcome::Holds,
        (None, Some(Err(why))) => Outcome::Fails(why.clone()),
        (None, None) => Outcome::Skipped("it is not registered, or it could not be asked".to_owned()),
    };
    vec![
        check("the pod-identity webhook is registered", registered(&webhook.built_in)),
        check("this node's kube-apiserver can call it", called),
        check("there is one beside every kube-apiserver", beside_every_api_server(desired, facts, now)),
    ]
}

fn registered(found: &Probe<StoredObject>) -> Outcome {
    match found {
        Probe::Present(stored) if stored.is_ours() => Outcome::Holds,
        Probe::Present(_) => Outcome::Fails(
            "an object of that name was made by somebody else; irsad status of the leader says which".to_owned(),
        ),
        Probe::Absent => Outcome::Fails("it is not; irsad status of the leader says what it waits for".to_owned()),
        Probe::Unknown(why) => Outcome::Unknown(why.clone()),
    }
}

fn beside_every_api_server(desired: &Desired, facts: &Facts, now: Timestamp) -> Outcome {
    let shared = match &facts.shared {
        Shared::Seen(shared) => shared,
        Shared::Nothing => return Outcome::Skipped("no kube-apiserver runs here yet".to_owned()),
        Shared::Unknown(why) => return Outcome::Unknown(why.clone()),
    };
    if let Some(why) = shared.control_plane.unknown() {
        return Outcome::Unknown(why.to_owned());
    }
    match webhooks_missing(desired, shared, now) {
        missing if missing.is_empty() => Outcome::Holds,
        missing => Outcome::Fails(missing.join(", ")),
    }
}

fn upstream(facts: &Facts) -> Vec<Check> {
    let Some(found) = &facts.webhook.upstream else {
        let why = "the leader looks after it; irsad verify there".to_owned();
        return vec![check("the upstream webhook is registered", Outcome::Skipped(why))];
    };
    let called = match &found.call {
        Some(Ok(())) => Outcome::Holds,
        Some(Err(why)) => Outcome::Fails(why.clone()),
        None => Outcome::Fails("it has no ready pod; kubectl -n kube-system get pods says what it lacks".to_owned()),
    };
    vec![
        check("the upstream webhook is registered", registered(&found.configuration)),
        check("one of its pods answers a review", called),
    ]
}
