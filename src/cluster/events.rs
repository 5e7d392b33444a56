//! Events of events.k8s.io: what `kubectl describe pod` shows below a pod.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ApiServer,
    request::{Answer, NoAnswer},
};
use crate::model::{
    missed_pods::{MissedPod, REASON},
    probe::Probe,
    service_account_role::{GROUP, KIND, VERSION},
};

const EVENTS: &str = "/apis/events.k8s.io/v1/events";
/// `reportingController` of all of them.
const CONTROLLER: &str = "irsad";
/// Longest part of the pod's name in that of its Event: a name has at most 253 characters.
const LONGEST_READABLE: usize = 200;
/// Events of one page; more than this many pods are never told of.
const PAGE: usize = 500;
/// Longest `note` that Kubernetes takes (kubernetes/kubernetes `pkg/apis/core/validation/events.go`).
const LONGEST_NOTE_BYTES: usize = 1024;

/// One thing that happened to a `ServiceAccountRole`.
#[derive(Debug, Clone, Copy)]
pub struct RoleEvent<'a> {
    /// Name of the object.
    pub name: &'a str,
    /// Its `metadata.uid`.
    pub uid: &'a str,
    /// Nothing is wrong.
    pub is_normal: bool,
    /// In one word.
    pub reason: &'a str,
    /// For a person, at most 1,024 bytes; what is longer is cut.
    pub note: &'a str,
}

impl ApiServer {
    /// `metadata.uid` of the pods that an Event tells of already. Kubernetes forgets Events after an hour (`--event-ttl`).
    pub async fn told_of_missed(&self) -> Probe<BTreeSet<String>> {
        #[derive(Deserialize)]
        struct List {
            items: Option<Vec<Event>>,
        }
        #[derive(Deserialize)]
        struct Event {
            #[serde(default)]
            regarding: Regarding,
        }
        #[derive(Default, Deserialize)]
        struct Regarding {
            #[serde(default)]
            uid: String,
        }
        let path = format!("{EVENTS}?fieldSelector=reason%3D{REASON}&limit={PAGE}");
        let found: Probe<List> = self.look_up(&path, "a list of Events").await;
        found.map(|list| list.items.unwrap_or_default().into_iter().map(|event| event.regarding.uid).collect())
    }

    /// Writes the Event on a pod that runs without credentials; it has a name of its own, so that there is one a pod, whoever writes.
    ///
    /// # Errors
    /// It was not written. That the pod or its namespace has gone meanwhile is none.
    pub async fn tell_of_missed(&self, pod: &MissedPod, instance: &str, at: Timestamp) -> Result<(), NoAnswer> {
        let namespace = &pod.name.namespace;
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        match self.post(&path, &event(pod, instance, at)).await.and_then(Answer::success) {
            Ok(_) | Err(NoAnswer::Conflict { .. } | NoAnswer::NotFound { .. }) => Ok(()),
            Err(error) if is_ending(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes an Event on a `ServiceAccountRole`. Those of objects of the whole cluster lie in namespace `default`.
    ///
    /// # Errors
    /// It was not written.
    pub async fn tell_of_role(&self, told: &RoleEvent<'_>, instance: &str, at: Timestamp) -> Result<(), NoAnswer> {
        let path = "/apis/events.k8s.io/v1/namespaces/default/events";
        match self.post(path, &role_event(told, instance, at)).await.and_then(Answer::success) {
            Ok(_) | Err(NoAnswer::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Nothing is made any more in a namespace that is being deleted (kubernetes/kubernetes
/// `staging/src/k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle`).
pub fn is_ending(error: &NoAnswer) -> bool {
    matches!(error, NoAnswer::Forbidden { source, .. } if source.to_string().contains("being terminated"))
}

fn role_event(told: &RoleEvent<'_>, instance: &str, at: Timestamp) -> Value {
    let readable: String = told.name.chars().take(LONGEST_READABLE).collect();
    // The same is told once a moment at most.
    let name =
        format!("{}.{:x}", readable.trim_end_matches(['.', '-']), at.as_microsecond()) + &told.reason.to_lowercase();
    let mut end = told.note.len().min(LONGEST_NOTE_BYTES);
    while !told.note.is_char_boundary(end) {
        end -= 1;
    }
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": "default" },
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "action": "Reconcile",
        "reason": told.reason,
        "type": if told.is_normal { "Normal" } else { "Warning" },
        "note": told.note[..end],
        "regarding": { "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "name": told.name, "uid": told.uid },
    })
}

fn event(pod: &MissedPod, instance: &str, at: Timestamp) -> Value {
    let readable: String = pod.name.name.chars().take(LONGEST_READABLE).collect();
    let name = format!("{}.{CONTROLLER}-{}", readable.trim_end_matches(['.', '-']), pod.uid);
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": pod.name.namespace },
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "action": "Admission",
        "reason": REASON,
        "type": "Warning",
        "note": pod.note(),
        "regarding": {
            "apiVersion": "v1", "kind": "Pod",
            "namespace": pod.name.namespace, "name": pod.name.name, "uid": pod.uid,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::fake::{Fake, Outcome, Reply},
        *,
    };
    use crate::model::missed_pods::Why;

    fn missed(name: &str) -> Outcome<MissedPod> {
        Ok(MissedPod {
            name: format!("shop/{name}").parse()?,
            uid: "6f1c".to_owned(),
            service_account: "checkout".to_owned(),
            why: Why::BeforeRole,
            cure: "kubectl -n shop delete pod checkout".to_owned(),
        })
    }

    #[tokio::test]
    async fn event_has_a_name_of_its_own_and_is_written_once() -> Outcome<()> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], |seen| match seen.earlier {
            0 => Reply::Text(201, "{}".to_owned()),
            1 => Reply::Text(409, r#"{"message":"already exists"}"#.to_owned()),
            2 => Reply::Text(403, r#"{"message":"… because it is being terminated"}"#.to_owned()),
            _ => Reply::Text(403, r#"{"message":"not allowed"}"#.to_owned()),
        })
        .await?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
        let at: Timestamp = "2026-11-21T12:00:00Z".parse()?;
        for told in [true, true, true, false] {
            assert_eq!(api.tell_of_missed(&missed("checkout")?, "n1", at).await.is_ok(), told);
        }
        let event: Value = serde_json::from_str(&fake.seen()[0].body)?;
        assert_eq!(fake.seen()[0].path, "/apis/events.k8s.io/v1/namespaces/shop/events");
        assert_eq!(
            (&event["metadata"]["name"], &event["eventTime"], &event["reason"], &event["type"]),
            (
                &json!("checkout.irsad-6f1c"),
                &json!("2026-11-21T12:00:00.000000Z"),
                &json!("NoAWSCredentials"),
                &json!("Warning")
            )
        );
        Ok(())
    }

    #[test]
    fn name_of_an_event_is_never_too_long() -> Outcome<()> {
        let mut pod = missed(&"a".repeat(253))?;
        pod.uid = "0f3c4b1e-8f0e-4a9b-9a53-8d9b7d6f1c2a".to_owned();
        let name = event(&pod, "n1", Timestamp::UNIX_EPOCH)["metadata"]["name"].as_str().map(str::len);
        assert!(name.is_some_and(|length| length <= 253), "{name:?}");
        Ok(())
    }
}
