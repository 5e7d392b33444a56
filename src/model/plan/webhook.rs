//! The pod-identity webhook: who serves it, and when API servers are told to call it.
//!
//! A new way is registered and tried before the old one goes. A registration stays while a node is late: without it no pod of any node
//! would get credentials.

mod built_in;
mod upstream;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    cluster_object::{ObjectPlace, StoredObject},
    probe::Probe,
    rotation::Ack,
    webhook::{FailurePolicy, Mode, WebhookState, called_at, trusted},
};

use super::{
    Action, ApiServer, Desired, Facts, Plan, Shared, SharedFacts, WAITING_INTERVAL, shared::Following, teardown,
};
pub use built_in::webhooks_missing;
pub use upstream::UpstreamFacts;

/// A node that joined so short a time ago may still be installing irsad.
const NEWCOMER: SignedDuration = SignedDuration::from_mins(10);

/// What is known of the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookFacts {
    /// This node's webhook server, as the daemon says; Absent where none is to run. Unknown in a process that has none to ask.
    pub own: Probe<WebhookState>,
    /// Why this node's kube-apiserver does not reach the loopback address of the node; `None` where it does.
    pub out_of_reach: Option<String>,
    /// Configuration of the built-in webhook.
    pub built_in: Probe<StoredObject>,
    /// What came of the steps that this node's kube-apiserver takes by that configuration; `None` where there is none.
    pub call: Option<Result<(), String>>,
    /// The AWS program as irsad deploys it; `None` where it was not asked for: on a node that does not lead.
    pub upstream: Option<UpstreamFacts>,
}

impl WebhookFacts {
    /// Where nothing was asked.
    pub fn unasked() -> Self {
        const UNASKED: &str = "for kube-apiserver to be asked for its webhooks";
        Self {
            own: Probe::Unknown(UNASKED.to_owned()),
            out_of_reach: None,
            built_in: Probe::Unknown(UNASKED.to_owned()),
            call: None,
            upstream: None,
        }
    }

    /// Whether this node has to serve: it is to, or API servers are still told to call it. Not known: as before.
    pub fn must_serve(&self, mode: Mode) -> Option<bool> {
        match (mode, &self.built_in) {
            (Mode::BuiltIn, _) => Some(true),
            (Mode::Upstream | Mode::None, Probe::Present(stored)) => Some(stored.is_ours()),
            (Mode::Upstream | Mode::None, Probe::Absent) => Some(false),
            (Mode::Upstream | Mode::None, Probe::Unknown(_)) => None,
        }
    }

    /// The certificates (PEM) that this node's kube-apiserver trusts for the built-in webhook; `None` where nothing is registered or
    /// that is not known.
    pub fn trusted(&self) -> Option<String> {
        self.built_in.present().filter(|stored| stored.is_ours()).map(trusted)
    }

    /// The port of each node that API servers call; Absent where they are not told to call any.
    pub fn called_at(&self) -> Probe<u16> {
        match &self.built_in {
            Probe::Present(stored) => {
                stored.is_ours().then(|| called_at(stored)).flatten().map_or(Probe::Absent, Probe::Present)
            }
            Probe::Absent => Probe::Absent,
            Probe::Unknown(why) => Probe::Unknown(why.clone()),
        }
    }
}

/// What this node tells the others of its webhook server.
pub(super) fn own(facts: &Facts, known: Option<&Ack>) -> Option<WebhookState> {
    let known = known.and_then(|ack| ack.webhook.as_ref());
    match &facts.webhook.own {
        Probe::Unknown(_) => known.cloned(),
        Probe::Absent => None,
        Probe::Present(state) => Some(WebhookState {
            problem: facts.webhook.out_of_reach.clone().or(state.problem.clone()),
            certificates: certificates(state, known),
            ..state.clone()
        }),
    }
}

/// Those that it was trusted by before, as long as it has not read them: it will serve with them in a moment, and without them in the
/// registration no API server would take it.
fn certificates(state: &WebhookState, known: Option<&WebhookState>) -> Vec<String> {
    match known {
        Some(known) if state.certificates.is_empty() => known.certificates.clone(),
        Some(_) | None => state.certificates.clone(),
    }
}

pub(super) fn plan(desired: &Desired, facts: &Facts, following: Following<'_>, now: Timestamp, plan: &mut Plan) {
    let webhook = &facts.webhook;
    let is_ready = matches!(&facts.node.api_server, ApiServer::Seen(evidence) if evidence.ready);
    let Shared::Seen(shared) = &facts.shared else { return };
    if !is_ready {
        return;
    }
    let is_wanted = teardown::gives_credentials(desired, following, now);
    let mode = if is_wanted { desired.webhook.mode } else { Mode::None };
    own_trouble(mode, webhook, plan);
    if following.leads() {
        let look = Look { desired, webhook, shared, now };
        match mode {
            Mode::BuiltIn => {
                if look.built_in(plan) {
                    look.remove_upstream(plan);
                }
            }
            Mode::Upstream => {
                if look.upstream(plan) {
                    look.remove_built_in(plan);
                }
            }
            Mode::None => {
                look.remove_built_in(plan);
                look.remove_upstream(plan);
            }
        }
    }
    called(webhook, plan);
}

/// Whether nothing of either webhook is left that is ours.
pub(super) fn is_gone(webhook: &WebhookFacts) -> bool {
    let is_left =
        |found: &Probe<StoredObject>| found.present().map_or(found.unknown().is_some(), StoredObject::is_ours);
    // What was not asked for is nothing that is gone.
    let upstream = webhook.upstream.as_ref().is_none_or(|found| {
        let objects = found.objects.iter().skip(1);
        objects.chain([&found.secret, &found.configuration]).any(is_left)
    });
    !upstream && !is_left(&webhook.built_in)
}

/// What the leader decides by.
#[derive(Clone, Copy)]
struct Look<'a> {
    desired: &'a Desired,
    webhook: &'a WebhookFacts,
    shared: &'a SharedFacts,
    now: Timestamp,
}

/// What keeps this node's kube-apiserver from its webhook.
fn own_trouble(mode: Mode, webhook: &WebhookFacts, plan: &mut Plan) {
    if mode != Mode::BuiltIn {
        return;
    }
    if let Some(why) = &webhook.out_of_reach {
        return plan.needs_a_person.push(why.clone());
    }
    if let Some(problem) = webhook.own.present().and_then(|state| state.problem.as_ref()) {
        plan.wait(format!("the pod-identity webhook of this node cannot serve: {problem}"), WAITING_INTERVAL);
    }
}

/// What came of the steps that this node's kube-apiserver takes.
fn called(webhook: &WebhookFacts, plan: &mut Plan) {
    if let Some(Err(why)) = &webhook.call {
        plan.look_closer = true;
        plan.wait(
            format!("this node's kube-apiserver cannot call the pod-identity webhook, and its new pods get no credentials: {why}"),
            WAITING_INTERVAL,
        );
    }
}

/// What becomes of new pods at an API server that cannot call the webhook.
fn consequence(policy: FailurePolicy) -> &'static str {
    match policy {
        FailurePolicy::Ignore => "pods that are created through it get no credentials",
        FailurePolicy::Fail => "it refuses to create pods",
    }
}

/// Removes an object of ours; `false` where it could not be looked for.
pub(super) fn remove(place: &ObjectPlace, found: &Probe<StoredObject>, plan: &mut Plan) -> bool {
    match found {
        Probe::Unknown(why) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            false
        }
        Probe::Present(stored) if stored.is_ours() => {
            plan.actions.push(Action::DeleteObject {
                place: place.clone(),
                uid: stored.uid().to_owned(),
                resource_version: stored.resource_version().to_owned(),
            });
            true
        }
        Probe::Present(_) | Probe::Absent => true,
    }
}
