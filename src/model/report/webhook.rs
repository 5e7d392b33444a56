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
    summary(desired.webhook.mode, &facts.webhook)
}

fn summary(wanted: Mode, webhook: &WebhookFacts) -> Option<WebhookReport> {
    let (mode, registered, call) = match wanted {
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
    let summary = format!("{}, {registration}{}", name(wanted, webhook), called(call));
    Some(WebhookReport { mode: mode.to_owned(), registered, summary })
}

fn name(mode: Mode, webhook: &WebhookFacts) -> String {
    match (mode, webhook.own.present()) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{
        cluster_object::{OWNER, OWNER_LABEL},
        webhook::WebhookState,
    };

    #[test]
    fn status_says_who_serves_what_is_registered_and_whether_it_answers() {
        let ours = || Probe::Present(StoredObject::new(json!({ "metadata": { "labels": { OWNER_LABEL: OWNER } } })));
        let state = |problem: Option<&str>| WebhookState {
            port: 1,
            certificates: Vec::new(),
            problem: problem.map(str::to_owned),
        };
        let unasked = WebhookFacts::unasked();
        for (facts, expected) in [
            (unasked.clone(), "built in, registration not known here"),
            (WebhookFacts { built_in: Probe::Absent, ..unasked.clone() }, "built in, not registered"),
            (
                WebhookFacts {
                    built_in: ours(),
                    own: Probe::Present(state(None)),
                    call: Some(Ok(())),
                    ..unasked.clone()
                },
                "built in, serves on 127.0.0.1:1, registered, answers",
            ),
            (
                WebhookFacts {
                    built_in: ours(),
                    own: Probe::Present(state(Some("port 1 is taken"))),
                    call: Some(Err("nothing listens".to_owned())),
                    ..unasked.clone()
                },
                "built in, does not serve: port 1 is taken, registered, does not answer: nothing listens",
            ),
        ] {
            let told = summary(Mode::BuiltIn, &facts).map(|report| report.summary);
            assert_eq!(told.as_deref(), Some(expected));
        }
        assert_eq!(summary(Mode::None, &unasked), None);
        let upstream = summary(Mode::Upstream, &unasked).map(|report| report.summary);
        assert_eq!(upstream.as_deref(), Some("upstream, registration not known here"));
    }
}
