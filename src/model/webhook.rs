//! The pod-identity webhook as nodes and API servers know it: who serves it, and the MutatingWebhookConfiguration by which API
//! servers call it. It does not know how pods are changed.

pub mod egress;
pub mod probe;
pub mod upstream;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    cluster_object::{ClusterObject, Kind, ObjectPlace, StoredObject},
    pod_identity::WEB_IDENTITY_VOLUME,
};
use upstream::Upstream;

/// Name of the configuration of the built-in webhook. Not the name that the AWS program's users give theirs: both may be there, and what
/// one has done to a pod the other leaves as it is.
pub const BUILT_IN: &str = "irsad-pod-identity";
/// Label of pods that are left alone, whatever its value (the AWS program's name for it).
pub const OPT_OUT_LABEL: &str = "eks.amazonaws.com/skip-pod-identity-webhook";
/// Path at which both webhooks take reviews.
pub const PATH: &str = "/mutate";
/// How long an API server waits for an answer, in seconds; the longest that Kubernetes advises for webhooks on the way of pods.
const TIMEOUT_SECONDS: u8 = 10;
/// Pods of the control plane must be made whatever a webhook does.
const ALWAYS_EXEMPT: &str = "kube-system";

/// Who changes pods, and how API servers are to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredWebhook {
    /// Who changes pods.
    pub mode: Mode,
    /// Port of the built-in webhook on the loopback address of each node.
    pub port: u16,
    /// What happens to a new pod while the webhook does not answer.
    pub failure_policy: FailurePolicy,
    /// Namespaces whose pods are never looked at. With [`FailurePolicy::Fail`] kube-system is one of them in any case.
    pub exempt_namespaces: Vec<String>,
    /// The AWS program, for [`Mode::Upstream`] and to remove it.
    pub upstream: Upstream,
}

/// Who changes pods so that they have a token for AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// irsad on each control-plane node, for the API server there.
    BuiltIn,
    /// amazon-eks-pod-identity-webhook, deployed by irsad.
    Upstream,
    /// Someone else, or nobody.
    None,
}

/// `failurePolicy` of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The pod starts without a token for AWS.
    Ignore,
    /// The pod is not created.
    Fail,
}

/// What one node's webhook server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookState {
    /// Port on the loopback address of that node.
    pub port: u16,
    /// Certificates that it serves with or soon will: one PEM block each, oldest first.
    pub certificates: Vec<String>,
    /// Why its kube-apiserver cannot call it, with the cure; `None` where it can.
    pub problem: Option<String>,
}

/// What a webhook server says of itself between its start and its first list of service accounts.
pub const STARTING: &str = "it is starting";

impl WebhookState {
    /// Whether the API server of that node can call it at `port`.
    pub fn is_ready_at(&self, port: u16) -> bool {
        self.problem.is_none() && self.port == port && !self.certificates.is_empty()
    }
}

impl FailurePolicy {
    /// As the Kubernetes API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "Ignore",
            Self::Fail => "Fail",
        }
    }
}

/// Where the configuration of the built-in webhook lies.
pub fn built_in_place() -> ObjectPlace {
    ObjectPlace::of_cluster(Kind::MutatingWebhookConfiguration, BUILT_IN)
}

/// The configuration by which each API server calls the webhook of its own node, trusting these certificates.
///
/// It has two webhooks with one address. An API server repeats no call whose connection is lost under way, as by a killed irsad: the
/// second one is called for the pods that have come through the first without a token, so it asks again and alone decides by the
/// failure policy.
pub fn built_in(desired: &DesiredWebhook, certificates: &[String]) -> ClusterObject {
    let client = json!({
        "url": format!("https://127.0.0.1:{}{PATH}", desired.port),
        "caBundle": bundle(certificates),
    });
    let mut first = webhook(desired, "pod-identity.irsad.built-in", &client, &["v1", "v1beta1"]);
    let mut again = first.clone();
    first["failurePolicy"] = json!(FailurePolicy::Ignore.as_str());
    again["name"] = json!("again.pod-identity.irsad.built-in");
    if let Some(conditions) = again["matchConditions"].as_array_mut() {
        conditions.push(json!({
            "name": "without-a-token-for-aws",
            "expression": format!(
                "!has(object.spec.volumes) || !object.spec.volumes.exists(volume, volume.name == '{WEB_IDENTITY_VOLUME}')"
            ),
        }));
    }
    ClusterObject::new(built_in_place(), json!({ "webhooks": [first, again] }))
}

/// One webhook (kubernetes/kubernetes `staging/src/k8s.io/api/admissionregistration/v1/types.go`).
fn webhook(desired: &DesiredWebhook, name: &str, client: &Value, review_versions: &[&str]) -> Value {
    json!({
        "name": name,
        "clientConfig": client,
        "rules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced",
        }],
        "failurePolicy": desired.failure_policy.as_str(),
        "matchPolicy": "Equivalent",
        "namespaceSelector": namespaces(desired),
        "objectSelector": { "matchExpressions": [{ "key": OPT_OUT_LABEL, "operator": "DoesNotExist" }] },
        // kubelet's copies of static pods: changing one would make the API server refuse it.
        "matchConditions": [{
            "name": "not-a-mirror-pod",
            "expression": "!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)",
        }],
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "admissionReviewVersions": review_versions,
        // Containers that later webhooks add get credentials as well.
        "reinvocationPolicy": "IfNeeded",
    })
}

fn namespaces(desired: &DesiredWebhook) -> Value {
    let mut exempt = desired.exempt_namespaces.clone();
    if desired.failure_policy == FailurePolicy::Fail {
        exempt.push(ALWAYS_EXEMPT.to_owned());
    }
    exempt.sort();
    exempt.dedup();
    match exempt.as_slice() {
        [] => json!({}),
        exempt => json!({
            "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt }],
        }),
    }
}

/// `caBundle` of these certificates.
pub(super) fn bundle(certificates: &[String]) -> String {
    let lines = certificates.iter().map(|certificate| format!("{}\n", certificate.trim_end()));
    BASE64_STANDARD.encode(lines.collect::<String>())
}

/// The certificates that API servers trust by a stored configuration, PEM; empty where there are none.
pub fn trusted(stored: &StoredObject) -> String {
    let bundle = stored.body()["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
    let text = BASE64_STANDARD.decode(bundle).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.unwrap_or_default()
}

/// The port of each node's loopback address that API servers call by a stored configuration; `None` where it names none.
pub fn called_at(stored: &StoredObject) -> Option<u16> {
    let url = stored.body()["webhooks"][0]["clientConfig"]["url"].as_str()?;
    url.strip_prefix("https://127.0.0.1:")?.strip_suffix(PATH)?.parse().ok()
}

/// Whether API servers trust this certificate by a stored configuration.
pub fn is_trusted(stored: &StoredObject, certificate: &str) -> bool {
    trusted(stored).contains(certificate.trim())
}

/// Whether a stored configuration is the wanted one and nothing else: another webhook, another condition or another way to it, which
/// somebody has added, would change which pods get credentials.
pub fn is_as_wanted(stored: &StoredObject, wanted: &ClusterObject) -> bool {
    stored.has(wanted) && !has_additions(stored, wanted)
}

/// What an apply leaves in place because somebody else has put it there.
pub fn has_additions(stored: &StoredObject, wanted: &ClusterObject) -> bool {
    let webhooks = |body: &Value| body["webhooks"].as_array().cloned().unwrap_or_default();
    let (found, wanted) = (webhooks(stored.body()), webhooks(wanted.body()));
    found.iter().any(|found| match wanted.iter().find(|wanted| wanted["name"] == found["name"]) {
        Some(wanted) => is_added_to(found, wanted),
        None => true,
    })
}

fn is_added_to(found: &Value, wanted: &Value) -> bool {
    let count = |value: &Value| value.as_array().map_or(0, Vec::len);
    let (way, wanted_way) = (&found["clientConfig"], &wanted["clientConfig"]);
    let selects_otherwise = |field: &str| {
        found[field].as_object().is_some_and(|selector| !selector.is_empty()) && found[field] != wanted[field]
    };
    count(&found["matchConditions"]) > count(&wanted["matchConditions"])
        // Both ways at once are refused by the API server.
        || ["url", "service"].into_iter().any(|field| way.get(field).is_some() && wanted_way.get(field).is_none())
        || ["namespaceSelector", "objectSelector"].into_iter().any(selects_otherwise)
}
