//! The pod-identity webhook as `irsad status` tells of it.

use serde::{Deserialize, Serialize};

use crate::model::{
    cluster_object::StoredObject,
    plan::{Desired, Facts, WebhookFacts},
    probe::Probe,
    webhook::Mode,
};

/// The pod-identity webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookReport {
    /// `webhook.mode` of the configuration.
    pub mode: String,
    /// Whether API servers are told to call it; `None` where that is not known.
    pub registered: Option<bool>,
    /// For a person.
    pub summary: String,
}

/// What is known of the webhook; `None` where it is somebody else's.
pub(super) fn webhook(desired: &Desired, facts: &Facts) -> Option<WebhookReport> {
    let webhook = &facts.webhook;
    let (mode, registered, call) = match desired.webhook.mode {
        Mode::None => return None,
        Mode::BuiltIn => ("builtIn", is_registered(&webhook.built_in), webhook.call.as_ref()),
        Mode::Upstream => {
            let found = webhook.upstream.as_ref();
            let registered = found.and_then(|found| is_registered(&found.configuration));
            ("upstream", registered, found.and_then(|found| found.call.as_ref()))
        }
    };
    let registration = match registered {
        Some(true) => "registered",
        Some(false) => "not registered",
        None => "registration not known here",
    };
    let summary = format!("{}, {registration}{}", name(desired, webhook), called(call));
    Some(WebhookReport { mode: mode.to_owned(), registered, summary })
}

fn name(desired: &Desired, webhook: &WebhookFacts) -> String {
    match (desired.webhook.mode, webhook.own.present()) {
        (Mode::Upstream | Mode::None, _) => "upstream".to_owned(),
        (Mode::BuiltIn, None) => "built in".to_owned(),
        (Mode::BuiltIn, Some(state)) => match &state.problem {
            None => format!("built in, serves on 127.0.0.1:{}", state.port),
            Some(problem) => format!("built in, does not serve: {problem}"),
        },
    }
}

fn is_registered(found: &Probe<StoredObject>) -> Option<bool> {
    match found {
        Probe::Present(stored) => Some(stored.is_ours()),
        Probe::Absent => Some(false),
        Probe::Unknown(_) => None,
    }
}

fn called(call: Option<&Result<(), String>>) -> String {
    match call {
        None => String::new(),
        Some(Ok(())) => ", answers".to_owned(),
        Some(Err(why)) => format!(", does not answer: {why}"),
    }
}
