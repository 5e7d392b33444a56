//! amazon-eks-pod-identity-webhook as irsad deploys it: its objects, from the same settings as the built-in webhook. It does not know
//! whether they are there.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{DesiredWebhook, OPT_OUT_LABEL, PATH, bundle, webhook};
use crate::model::{
    cluster_object::{ClusterObject, Kind, ObjectPlace, StoredObject},
    pod_identity::PodIdentity,
};

/// Name of all its objects in its namespace: the one that the AWS program's users know.
pub const NAME: &str = "pod-identity-webhook";
/// Name of its objects of the whole cluster.
const CLUSTER_NAME: &str = "irsad-pod-identity-webhook";
/// Name of its configuration. Behind [`super::BUILT_IN`] in the order of names, in which API servers call webhooks.
pub const CONFIGURATION: &str = "irsad-pod-identity-upstream";
/// Annotation of its Secret: from when on the certificate is to be replaced, RFC 3339.
pub const RENEW_AT: &str = "irsad/renew-at";
/// The same for the certificate that waits.
pub const NEXT_RENEW_AT: &str = "irsad/next-renew-at";
/// Fields of the Secret: what its pods serve with.
pub const CURRENT: &str = "tls.crt";
/// Its private half.
pub const CURRENT_KEY: &str = "tls.key";
/// What they will serve with once every API server trusts it.
pub const NEXT: &str = "next.crt";
/// Its private half.
pub const NEXT_KEY: &str = "next.key";
/// What they served with before, until each has read the new one.
pub const PREVIOUS: &str = "previous.crt";
/// Where its pods listen: a program without privileges cannot take 443.
const PORT: u16 = 8443;
/// The newest release that answers reviews of `v1` with an empty `apiVersion` (aws/amazon-eks-pod-identity-webhook 225, mended by 310).
const LAST_WITHOUT_V1: [u32; 3] = [0, 6, 17];
/// A user and group that own nothing.
const NOBODY: u32 = 65_534;

/// What is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Image, with a tag, a digest, or both.
    pub image: String,
    /// Where its objects lie.
    pub namespace: String,
    /// How many of its pods run.
    pub replicas: u8,
    /// How long a pod waits for its service account where that is not known yet.
    pub lookup_grace: Duration,
    /// How pods are changed. Container credentials are not among it: the program takes them from a file of its own node.
    pub settings: PodIdentity,
    /// Namespace of ConfigMap `pod-identity-webhook`, whose roles count where a service account has none; `None`: there is none.
    pub role_map_namespace: Option<String>,
}

/// Its certificates as they stand in its Secret, without private keys. One PEM block each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// What its pods serve with.
    pub current: String,
    /// What they will serve with once every API server trusts it.
    pub next: Option<String>,
    /// What they served with before, until each has read the new one.
    pub previous: Option<String>,
}

impl Certificates {
    /// All of them, oldest first.
    pub fn all(&self) -> Vec<String> {
        [self.previous.as_ref(), Some(&self.current), self.next.as_ref()].into_iter().flatten().cloned().collect()
    }
}

impl Upstream {
    /// Where its configuration lies.
    pub fn configuration_place() -> ObjectPlace {
        ObjectPlace::of_cluster(Kind::MutatingWebhookConfiguration, CONFIGURATION)
    }

    /// Where its certificates lie.
    pub fn secret_place(&self) -> ObjectPlace {
        self.place(Kind::Secret)
    }

    /// Where its Deployment lies.
    pub fn deployment_place(&self) -> ObjectPlace {
        self.place(Kind::Deployment)
    }

    /// Path below which the API server hands a review to one of its pods (Kubernetes "Access services running on clusters").
    pub fn probe_path(&self) -> String {
        format!("/api/v1/namespaces/{}/services/https:{NAME}:443/proxy{PATH}", self.namespace)
    }

    /// Names that its certificate must have.
    pub fn service_names(&self) -> Vec<String> {
        let name = |suffix: &str| format!("{NAME}.{}.svc{suffix}", self.namespace);
        vec![name(""), name(".cluster.local")]
    }

    /// Versions of reviews that it answers.
    pub fn review_versions(&self) -> &'static [&'static str] {
        match released(&self.image) {
            Some(version) if version > LAST_WITHOUT_V1 => &["v1", "v1beta1"],
            Some(_) | None => &["v1beta1"],
        }
    }

    /// Its objects but the Secret and the configuration, in the order in which they are needed. The first is its Namespace, which may be
    /// somebody else's.
    pub fn objects(&self) -> Vec<ClusterObject> {
        let mut objects = vec![
            ClusterObject::new(ObjectPlace::of_cluster(Kind::Namespace, &self.namespace), json!({})),
            ClusterObject::new(self.place(Kind::ServiceAccount), json!({})),
            self.cluster_role(),
            self.binding(ObjectPlace::of_cluster(Kind::ClusterRoleBinding, CLUSTER_NAME), "ClusterRole", CLUSTER_NAME),
            self.service(),
            self.disruption_budget(),
            self.deployment(),
        ];
        if let Some(namespace) = &self.role_map_namespace {
            let place = |kind| ObjectPlace::in_namespace(kind, namespace, NAME);
            let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"] }]);
            objects.insert(4, ClusterObject::new(place(Kind::Role), json!({ "rules": rules })));
            objects.insert(5, self.binding(place(Kind::RoleBinding), "Role", NAME));
        }
        objects
    }

    /// The configuration by which API servers call it, trusting these certificates.
    pub fn configuration(&self, desired: &DesiredWebhook, certificates: &Certificates) -> ClusterObject {
        let client = json!({
            "service": { "namespace": self.namespace, "name": NAME, "path": PATH, "port": 443 },
            "caBundle": bundle(&certificates.all()),
        });
        let name = "pod-identity.irsad.upstream";
        let webhooks = json!([webhook(desired, name, &client, self.review_versions())]);
        ClusterObject::new(Self::configuration_place(), json!({ "webhooks": webhooks }))
    }

    fn place(&self, kind: Kind) -> ObjectPlace {
        ObjectPlace::in_namespace(kind, &self.namespace, NAME)
    }

    fn cluster_role(&self) -> ClusterObject {
        let rules = json!([{ "apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "list", "watch"] }]);
        ClusterObject::new(ObjectPlace::of_cluster(Kind::ClusterRole, CLUSTER_NAME), json!({ "rules": rules }))
    }

    fn binding(&self, place: ObjectPlace, kind: &str, role: &str) -> ClusterObject {
        let content = json!({
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": self.namespace }],
        });
        ClusterObject::new(place, content)
    }

    fn service(&self) -> ClusterObject {
        let ports = json!([{ "name": "https", "port": 443, "targetPort": "https", "protocol": "TCP" }]);
        ClusterObject::new(self.place(Kind::Service), json!({ "spec": { "selector": selector(), "ports": ports } }))
    }

    fn disruption_budget(&self) -> ClusterObject {
        let spec = json!({ "maxUnavailable": 1, "selector": { "matchLabels": selector() } });
        ClusterObject::new(self.place(Kind::PodDisruptionBudget), json!({ "spec": spec }))
    }

    fn deployment(&self) -> ClusterObject {
        let spec = json!({
            "replicas": self.replicas,
            // One that has just started has not read every service account, and would let pods pass.
            "minReadySeconds": 10,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
            "selector": { "matchLabels": selector() },
            "template": { "metadata": { "labels": pod_labels() }, "spec": self.pod() },
        });
        ClusterObject::new(self.place(Kind::Deployment), json!({ "spec": spec }))
    }

    fn pod(&self) -> Value {
        let spread = |key: &str| {
            json!({
                "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": { "matchLabels": selector() },
            })
        };
        json!({
            "serviceAccountName": NAME,
            "priorityClassName": "system-cluster-critical",
            "tolerations": [
                { "key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule" },
            ],
            "topologySpreadConstraints": [spread("kubernetes.io/hostname"), spread("topology.kubernetes.io/zone")],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [self.container()],
            "volumes": [{
                "name": "certificate",
                "secret": {
                    "secretName": NAME,
                    "items": [{ "key": "tls.crt", "path": "tls.crt" }, { "key": "tls.key", "path": "tls.key" }],
                },
            }],
        })
    }

    fn container(&self) -> Value {
        json!({
            "name": NAME,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/webhook"],
            "args": self.flags(),
            "ports": [{ "name": "https", "containerPort": PORT, "protocol": "TCP" }],
            "readinessProbe": {
                "httpGet": { "path": "/healthz", "port": "https", "scheme": "HTTPS" },
                "initialDelaySeconds": 5, "periodSeconds": 5,
            },
            "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "1Gi" } },
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": [{ "name": "certificate", "mountPath": "/etc/webhook/certs", "readOnly": true }],
        })
    }

    fn flags(&self) -> Vec<String> {
        let settings = &self.settings;
        let role_map = self.role_map_namespace.as_ref();
        let mut flags = vec![
            // Its own certificates need a signer that Kubernetes no longer has.
            "--in-cluster=false".to_owned(),
            format!("--port={PORT}"),
            "--tls-cert=/etc/webhook/certs/tls.crt".to_owned(),
            "--tls-key=/etc/webhook/certs/tls.key".to_owned(),
            format!("--namespace={}", role_map.unwrap_or(&self.namespace)),
            format!("--watch-config-map={}", role_map.is_some()),
            format!("--annotation-prefix={}", settings.annotation_prefix),
            format!("--token-audience={}", settings.audience),
            format!("--token-mount-path={}", settings.mount_path),
            format!("--token-expiration={}", settings.token_expiration_seconds),
            format!("--sts-regional-endpoint={}", settings.regional_sts),
            format!("--compose-role-arn={}", settings.composition.is_some()),
            // A service account that was made just before its pod is asked for, not passed over.
            format!("--service-account-lookup-grace-period={}s", self.lookup_grace.as_secs()),
            "--logtostderr".to_owned(),
        ];
        flags.extend(settings.default_region.iter().map(|region| format!("--aws-default-region={region}")));
        flags
    }
}

/// Its Secret, without certificates.
pub fn secret(place: ObjectPlace) -> ClusterObject {
    ClusterObject::new(place, json!({ "type": "kubernetes.io/tls" }))
}

/// Puts the certificate that waits in the place of the one that is served, which stays trusted.
pub fn use_next(secret: &mut Value) {
    let take = |map: &mut Value, from: &str| map.as_object_mut().and_then(|map| map.remove(from));
    let data = &mut secret["data"];
    if let (Some(certificate), Some(key)) = (take(data, NEXT), take(data, NEXT_KEY)) {
        data[PREVIOUS] = data[CURRENT].take();
        (data[CURRENT], data[CURRENT_KEY]) = (certificate, key);
    }
    let annotations = &mut secret["metadata"]["annotations"];
    if let Some(at) = take(annotations, NEXT_RENEW_AT) {
        annotations[RENEW_AT] = at;
    }
}

/// What stands in its Secret: the certificates, where there are any, and from when on the served one is to be replaced.
pub fn read_secret(secret: &StoredObject) -> (Option<Certificates>, Option<Timestamp>) {
    let body = secret.body();
    let field = |name: &str| {
        let bytes = BASE64_STANDARD.decode(body["data"][name].as_str()?).ok()?;
        String::from_utf8(bytes).ok().filter(|pem| !pem.is_empty())
    };
    let certificates = field(CURRENT).filter(|_| field(CURRENT_KEY).is_some()).map(|current| Certificates {
        current,
        next: field(NEXT),
        previous: field(PREVIOUS),
    });
    let renew_at = body["metadata"]["annotations"][RENEW_AT].as_str().and_then(|at| at.parse().ok());
    (certificates, renew_at)
}

/// A Deployment whose pods can be called, as its status says.
pub fn is_available(deployment: &Value) -> bool {
    let status = &deployment["status"];
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && status["availableReplicas"].as_u64().is_some_and(|available| available > 0)
        && status["updatedReplicas"].as_u64().is_some_and(|updated| updated > 0)
}

fn selector() -> Value {
    json!({ "app.kubernetes.io/name": NAME })
}

/// Its own pods are never shown to it: with `failurePolicy: Fail` none could start while there is none.
fn pod_labels() -> Value {
    json!({ "app.kubernetes.io/name": NAME, OPT_OUT_LABEL: "true" })
}

/// The release that an image's tag names.
fn released(image: &str) -> Option<[u32; 3]> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    let tag = name.rsplit('/').next()?.split_once(':')?.1;
    let mut numbers = tag.strip_prefix('v').unwrap_or(tag).split('.').map(|number| number.parse().ok());
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(major), Some(minor), Some(patch), None) => Some([major?, minor?, patch?]),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
