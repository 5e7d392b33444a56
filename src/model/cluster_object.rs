//! Objects that irsad keeps in the Kubernetes API: what they should be, and whether the stored one is that. It does not know what
//! they are for.

use std::fmt;

use serde_json::{Map, Value, json};

/// Label of objects that irsad made, with [`OWNER`] as its value (Kubernetes "Recommended Labels").
pub const OWNER_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const OWNER: &str = "irsad";

/// A kind of object that irsad keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Which pods an API server shows to which webhook.
    MutatingWebhookConfiguration,
    /// Where the others lie.
    Namespace,
    /// Identity of a program.
    ServiceAccount,
    /// Rights in the whole cluster.
    ClusterRole,
    /// Who has them.
    ClusterRoleBinding,
    /// Rights in one namespace.
    Role,
    /// Who has them.
    RoleBinding,
    /// Private things.
    Secret,
    /// Things that everybody in the cluster may know.
    ConfigMap,
    /// A name and an address for pods.
    Service,
    /// How many pods may be away at once.
    PodDisruptionBudget,
    /// Pods.
    Deployment,
    /// A kind of object that the cluster did not know before.
    CustomResourceDefinition,
}

/// Where an object lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPlace {
    kind: Kind,
    /// `None` for objects of the whole cluster.
    namespace: Option<String>,
    name: String,
}

/// One object, as far as irsad says what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterObject {
    place: ObjectPlace,
    body: Value,
}

/// One object as the API server has it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredObject {
    body: Value,
}

impl Kind {
    /// Its name, its group and version, its plural in paths.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::MutatingWebhookConfiguration => {
                ("MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations")
            }
            Self::Namespace => ("Namespace", "v1", "namespaces"),
            Self::ServiceAccount => ("ServiceAccount", "v1", "serviceaccounts"),
            Self::ClusterRole => ("ClusterRole", "rbac.authorization.k8s.io/v1", "clusterroles"),
            Self::ClusterRoleBinding => ("ClusterRoleBinding", "rbac.authorization.k8s.io/v1", "clusterrolebindings"),
            Self::Role => ("Role", "rbac.authorization.k8s.io/v1", "roles"),
            Self::RoleBinding => ("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
            Self::Secret => ("Secret", "v1", "secrets"),
            Self::ConfigMap => ("ConfigMap", "v1", "configmaps"),
            Self::Service => ("Service", "v1", "services"),
            Self::PodDisruptionBudget => ("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
            Self::Deployment => ("Deployment", "apps/v1", "deployments"),
            Self::CustomResourceDefinition => {
                ("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions")
            }
        }
    }
}

impl ObjectPlace {
    /// An object of the whole cluster.
    pub fn of_cluster(kind: Kind, name: &str) -> Self {
        Self { kind, namespace: None, name: name.to_owned() }
    }

    /// An object in a namespace.
    pub fn in_namespace(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }

    /// What kind of object lies there.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Path of the object (Kubernetes "API Concepts", resource URIs).
    pub fn path(&self) -> String {
        let (_, version, plural) = self.kind.names();
        let group = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
        let namespace = self.namespace.as_ref().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        format!("{group}{namespace}/{plural}/{}", self.name)
    }
}

/// Kind and name, as `kubectl` users write it: `Deployment kube-system/pod-identity-webhook`.
impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, ..) = self.kind.names();
        match &self.namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{}", self.name),
            None => write!(f, "{kind} {}", self.name),
        }
    }
}

impl ClusterObject {
    /// An object of ours with `content` beside its metadata.
    pub fn new(place: ObjectPlace, content: Value) -> Self {
        let (kind, version, _) = place.kind.names();
        let mut body = json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": { "name": place.name, "labels": { OWNER_LABEL: OWNER, "app.kubernetes.io/part-of": OWNER } },
        });
        if let Some(namespace) = &place.namespace {
            body["metadata"]["namespace"] = json!(namespace);
        }
        if let (Value::Object(body), Value::Object(content)) = (&mut body, content) {
            body.extend(content);
        }
        Self { place, body }
    }

    /// An object of ours that is `body`, whole.
    pub fn with_body(place: ObjectPlace, body: Value) -> Self {
        Self { place, body }
    }

    /// Where it lies.
    pub fn place(&self) -> &ObjectPlace {
        &self.place
    }

    /// All that irsad says of it.
    pub fn body(&self) -> &Value {
        &self.body
    }
}

/// Without its content: it may be a Secret.
impl fmt::Debug for StoredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredObject").field("metadata", &self.body["metadata"]).finish_non_exhaustive()
    }
}

impl StoredObject {
    /// What the API server answered.
    pub fn new(body: Value) -> Self {
        Self { body }
    }

    /// The whole object.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Whether irsad made it.
    pub fn is_ours(&self) -> bool {
        self.body["metadata"]["labels"][OWNER_LABEL] == OWNER
    }

    /// `metadata.uid`: another object of the same name has another one.
    pub fn uid(&self) -> &str {
        self.body["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> &str {
        self.body["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }

    /// The same without `data`, which is private in a Secret.
    pub fn without_data(mut self) -> Self {
        if let Value::Object(body) = &mut self.body {
            body.remove("data");
        }
        self
    }

    /// Whether all that `wanted` says is so. What defaults and others have added beside it does not count.
    pub fn has(&self, wanted: &ClusterObject) -> bool {
        covers(&self.body, &wanted.body)
    }

    /// The stored object with the content that is wanted in the place of its own: what others have added to its metadata stays.
    pub fn with_content_of(&self, wanted: &ClusterObject) -> Value {
        let mut body = self.body.clone();
        let (Value::Object(body_map), Value::Object(wanted)) = (&mut body, &wanted.body) else {
            return wanted.body.clone();
        };
        for (key, value) in wanted.iter().filter(|(key, _)| *key != "metadata") {
            body_map.insert(key.clone(), value.clone());
        }
        if let Value::Object(metadata) = &mut body["metadata"] {
            metadata.remove("managedFields");
            let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
            if let (Value::Object(labels), Some(Value::Object(ours))) = (labels, wanted["metadata"].get("labels")) {
                labels.extend(ours.clone());
            }
        }
        body
    }
}

/// Whether every field of `wanted` stands in `found`. Lists of named items are compared name by name, as the API server merges them.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| match found.get(key) {
            Some(found) => covers(found, wanted),
            None => is_empty(wanted),
        }),
        (Value::Array(found), Value::Array(wanted)) if wanted.iter().all(|item| item["name"].is_string()) => wanted
            .iter()
            .all(|wanted| found.iter().any(|found| found["name"] == wanted["name"] && covers(found, wanted))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| covers(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

/// The API server leaves out what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(content: Value) -> ClusterObject {
        ClusterObject::new(ObjectPlace::in_namespace(Kind::Service, "ns", "name"), content)
    }

    #[test]
    fn object_lies_where_the_api_server_has_it() {
        for (place, path, text) in [
            (
                ObjectPlace::of_cluster(Kind::MutatingWebhookConfiguration, "a"),
                "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/a",
                "MutatingWebhookConfiguration a",
            ),
            (
                ObjectPlace::in_namespace(Kind::Deployment, "ns", "a"),
                "/apis/apps/v1/namespaces/ns/deployments/a",
                "Deployment ns/a",
            ),
            (ObjectPlace::in_namespace(Kind::Secret, "ns", "a"), "/api/v1/namespaces/ns/secrets/a", "Secret ns/a"),
            (ObjectPlace::of_cluster(Kind::Namespace, "a"), "/api/v1/namespaces/a", "Namespace a"),
        ] {
            assert_eq!((place.path().as_str(), place.to_string().as_str()), (path, text));
        }
    }

    #[test]
    fn what_defaults_and_others_add_is_no_difference_and_everything_else_is() {
        let wanted = service(json!({ "spec": { "ports": [{ "name": "a", "port": 1 }], "list": [1, 2], "empty": {} } }));
        let stored = |spec: Value| {
            let mut body = wanted.body().clone();
            body["metadata"]["labels"]["theirs"] = json!("x");
            body["spec"] = spec;
            StoredObject::new(body)
        };
        for (spec, has) in [
            (json!({ "ports": [{ "name": "a", "port": 1, "protocol": "TCP" }], "list": [1, 2] }), true),
            (json!({ "ports": [{ "name": "b" }, { "name": "a", "port": 1 }], "list": [1, 2], "more": 1 }), true),
            (json!({ "ports": [{ "name": "a", "port": 2 }], "list": [1, 2] }), false),
            (json!({ "ports": [], "list": [1, 2] }), false),
            (json!({ "ports": [{ "name": "a", "port": 1 }], "list": [2, 1] }), false),
            (json!({ "ports": [{ "name": "a", "port": 1 }], "list": [1, 2, 3] }), false),
            (json!(null), false),
        ] {
            assert_eq!(stored(spec.clone()).has(&wanted), has, "{spec}");
        }
    }

    #[test]
    fn replaced_object_keeps_what_others_have_put_on_it_and_loses_what_they_have_put_in_it() {
        let stored = StoredObject::new(json!({
            "metadata": { "name": "name", "uid": "u", "labels": { "theirs": "x" }, "managedFields": [] },
            "spec": { "theirs": 1 },
        }));
        let body = stored.with_content_of(&service(json!({ "spec": { "ours": 1 } })));
        let labels = json!({ "theirs": "x", OWNER_LABEL: OWNER, "app.kubernetes.io/part-of": OWNER });
        assert_eq!(body["metadata"], json!({ "name": "name", "uid": "u", "labels": labels }));
        assert_eq!(body["spec"], json!({ "ours": 1 }));
    }

    #[test]
    fn content_of_a_stored_object_is_never_printed() {
        let stored = StoredObject::new(json!({ "metadata": { "name": "n" }, "data": { "tls.key": "SECRET" } }));
        assert!(!format!("{stored:?}").contains("SECRET"));
        assert_eq!(stored.without_data().body()["data"], Value::Null);
    }
}
