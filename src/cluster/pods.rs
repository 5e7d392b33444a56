//! Pods and what decides about their AWS credentials, as one API server has it. It does not know what should be.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    ApiServer,
    request::{Answer, NoAnswer},
};
use crate::model::{
    missed_pods::KnownAccount,
    pod::{
        CONTAINER_CREDENTIALS, Container, Controller, MIRROR_ANNOTATION, Mount, Pod, PodName, TokenVolume, WEB_IDENTITY,
    },
    pod_check::Labels,
    pod_identity::Account,
    probe::Probe,
    webhook::OPT_OUT_LABEL,
};

/// Objects of one page. Never with `resourceVersion=0`: kube-apiserver then answers with all of them at once, whatever the limit
/// (kubernetes/kubernetes `staging/src/k8s.io/apiserver/pkg/storage/cacher/cacher.go`, `computeListLimit`).
const PAGE: usize = 500;
/// Most pages of one list: a cluster has at most 150,000 pods (Kubernetes documentation, "Considerations for large clusters").
const MOST_PAGES: usize = 400;
/// Pods that have not ended.
const PODS: &str = "/api/v1/pods?fieldSelector=status.phase!%3DSucceeded%2Cstatus.phase!%3DFailed";
const SERVICE_ACCOUNTS: &str = "/api/v1/serviceaccounts?";
/// How long kube-apiserver lets a pod's token live where its volume does not say (`TokenRequest` defaults).
const DEFAULT_EXPIRATION_SECONDS: i64 = 3600;

/// A pod with its labels.
#[derive(Debug, Clone)]
pub struct LabelledPod {
    /// The pod.
    pub pod: Pod,
    /// Its labels.
    pub labels: Labels,
}

impl ApiServer {
    /// Hands every pod of the cluster that has not ended to `take`, in order of namespace and name. `prefix` is that of annotations.
    ///
    /// # Errors
    /// A page did not come; those before it were handed on.
    pub async fn each_pod(&self, prefix: &str, mut take: impl FnMut(Pod)) -> Result<(), NoAnswer> {
        self.each_page(PODS, "a list of pods", false, |item: RawPod| {
            if let Some(pod) = item.read(prefix) {
                take(pod.pod);
            }
        })
        .await
    }

    /// One pod.
    pub async fn pod(&self, name: &PodName, prefix: &str) -> Probe<LabelledPod> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", name.namespace, name.name);
        let found: Probe<RawPod> = self.look_up(&path, "a Pod").await;
        match found.map(|pod| pod.read(prefix)) {
            Probe::Present(Some(pod)) => Probe::Present(pod),
            Probe::Present(None) => Probe::Unknown(format!("{} answered something that is not a Pod", self.url(&path))),
            Probe::Absent => Probe::Absent,
            Probe::Unknown(why) => Probe::Unknown(why),
        }
    }

    /// Hands every service account that has annotations of `prefix` to `take`, by `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// A page did not come; those before it were handed on.
    pub async fn each_account(&self, prefix: &str, mut take: impl FnMut(String, KnownAccount)) -> Result<(), NoAnswer> {
        self.each_page(SERVICE_ACCOUNTS, "a list of service accounts", true, |item: Object| {
            let account = item.metadata.account(prefix);
            if account.account != Account::default() {
                take(format!("{}/{}", item.metadata.namespace, item.metadata.name), account);
            }
        })
        .await
    }

    /// One service account.
    pub async fn account(&self, namespace: &str, name: &str, prefix: &str) -> Probe<KnownAccount> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
        let found: Probe<Object> = self.look_up(&path, "a ServiceAccount").await;
        found.map(|account| account.metadata.account(prefix))
    }

    /// Labels of a namespace.
    pub async fn namespace_labels(&self, name: &str) -> Probe<Labels> {
        let found: Probe<Object> = self.look_up(&format!("/api/v1/namespaces/{name}"), "a Namespace").await;
        found.map(|namespace| namespace.metadata.labels)
    }

    /// One entry of a ConfigMap; Absent where either is not there.
    pub async fn config_map_entry(&self, namespace: &str, name: &str, key: &str) -> Probe<String> {
        #[derive(Deserialize)]
        struct ConfigMap {
            #[serde(default)]
            data: BTreeMap<String, String>,
        }
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        match self.look_up::<ConfigMap>(&path, "a ConfigMap").await {
            Probe::Present(mut found) => found.data.remove(key).map_or(Probe::Absent, Probe::Present),
            Probe::Absent => Probe::Absent,
            Probe::Unknown(why) => Probe::Unknown(why),
        }
    }

    pub(super) async fn look_up<T: serde::de::DeserializeOwned>(&self, path: &str, expected: &'static str) -> Probe<T> {
        let answer = self.get(path).await.and_then(Answer::success).and_then(|answer| answer.json(expected));
        match answer {
            Ok(found) => Probe::Present(found),
            Err(NoAnswer::NotFound { .. }) => Probe::Absent,
            Err(error) => Probe::Unknown(error.reason()),
        }
    }

    /// `path` has a query, to which limit and place are added.
    async fn each_page<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        expected: &'static str,
        only_metadata: bool,
        mut take: impl FnMut(T),
    ) -> Result<(), NoAnswer> {
        let mut more = String::new();
        for _ in 0..MOST_PAGES {
            let page = format!("{path}&limit={PAGE}{more}");
            let answer = if only_metadata { self.get_metadata(&page).await } else { self.get_long(&page).await };
            let Page { metadata, items } = answer?.success()?.json(expected)?;
            items.unwrap_or_default().into_iter().for_each(&mut take);
            if metadata.r#continue.is_empty() {
                return Ok(());
            }
            more = format!("&continue={}", metadata.r#continue);
        }
        Err(NoAnswer::Garbled { url: self.url(path), expected })
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Page<T> {
    #[serde(default)]
    metadata: PageMetadata,
    /// `null` where there is none.
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default)]
    r#continue: String,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: String,
    name: String,
    #[serde(default)]
    uid: String,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
    #[serde(default)]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Deserialize)]
struct OwnerReference {
    kind: String,
    name: String,
    #[serde(default)]
    controller: bool,
}

/// Which fields one writer owns, and when it wrote last (Kubernetes API concepts, "Server-Side Apply").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields {
    time: Option<Timestamp>,
    #[serde(default)]
    fields_v1: serde_json::Value,
}

/// A Deployment names its ReplicaSets after itself and the value of this label (kubernetes/kubernetes
/// `pkg/controller/deployment/sync.go`).
const TEMPLATE_HASH: &str = "pod-template-hash";

impl Metadata {
    fn controller(&self) -> Option<Controller> {
        let owner = self.owner_references.iter().find(|owner| owner.controller)?;
        let hash = self.labels.get(TEMPLATE_HASH).map(|hash| format!("-{hash}")).unwrap_or_default();
        let (kind, name) = match owner.name.strip_suffix(&hash) {
            Some(deployment) if owner.kind == "ReplicaSet" && !hash.is_empty() => ("Deployment", deployment),
            Some(_) | None => (owner.kind.as_str(), owner.name.as_str()),
        };
        Some(Controller { kind: kind.to_owned(), name: name.to_owned() })
    }

    fn account(&self, prefix: &str) -> KnownAccount {
        let annotations = self.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let field = format!("f:{prefix}/role-arn");
        let owns = |writer: &&ManagedFields| !writer.fields_v1["f:metadata"]["f:annotations"][&field].is_null();
        let since = self.managed_fields.iter().filter(owns).filter_map(|writer| writer.time).min();
        KnownAccount { account: Account::read(annotations, prefix), since }
    }
}

#[derive(Deserialize)]
struct RawPod {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    service_account_name: String,
    #[serde(default)]
    init_containers: Vec<RawContainer>,
    #[serde(default)]
    containers: Vec<RawContainer>,
    #[serde(default)]
    volumes: Vec<Volume>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    name: String,
    #[serde(default)]
    env: Vec<Variable>,
    #[serde(default)]
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
    value_from: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    name: String,
    mount_path: String,
}

#[derive(Deserialize)]
struct Volume {
    name: String,
    projected: Option<Projected>,
}

#[derive(Deserialize)]
struct Projected {
    #[serde(default)]
    sources: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    service_account_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    audience: Option<String>,
    expiration_seconds: Option<i64>,
    #[serde(default)]
    path: String,
}

impl RawPod {
    /// `None` where it has no time of its own, as every stored object has.
    fn read(self, prefix: &str) -> Option<LabelledPod> {
        let Self { metadata, spec, status } = self;
        let token_volumes: Vec<TokenVolume> = spec.volumes.into_iter().flat_map(Volume::tokens).collect();
        let containers = spec.init_containers.into_iter().chain(spec.containers);
        let controller = metadata.controller();
        let pod = Pod {
            uid: metadata.uid,
            service_account: spec.service_account_name,
            created_at: metadata.creation_timestamp?,
            has_ended: metadata.deletion_timestamp.is_some() || matches!(status.phase.as_str(), "Succeeded" | "Failed"),
            is_mirror: metadata.annotations.contains_key(MIRROR_ANNOTATION),
            opted_out: metadata.labels.contains_key(OPT_OUT_LABEL),
            skip_containers: metadata.annotations.get(&format!("{prefix}/skip-containers")).cloned(),
            containers: containers.map(|container| container.read(&token_volumes)).collect(),
            controller,
            name: PodName { namespace: metadata.namespace, name: metadata.name },
            token_volumes,
        };
        Some(LabelledPod { pod, labels: metadata.labels })
    }
}

impl RawContainer {
    fn read(self, token_volumes: &[TokenVolume]) -> Container {
        let matters = |name: &str| WEB_IDENTITY.contains(&name) || CONTAINER_CREDENTIALS.contains(&name);
        let variables = self.env.into_iter().filter(|variable| matters(&variable.name));
        let mounts = self.volume_mounts.into_iter();
        let mounts = mounts.filter(|mount| token_volumes.iter().any(|volume| volume.name == mount.name));
        Container {
            name: self.name,
            variables: variables
                .map(|variable| (variable.name, variable.value_from.is_none().then_some(variable.value)))
                .collect(),
            mounts: mounts.map(|mount| Mount { volume: mount.name, path: mount.mount_path }).collect(),
        }
    }
}

impl Volume {
    fn tokens(self) -> Vec<TokenVolume> {
        let tokens = self.projected.into_iter().flat_map(|volume| volume.sources);
        tokens
            .filter_map(|source| source.service_account_token)
            .map(|token| TokenVolume {
                name: self.name.clone(),
                audience: token.audience.filter(|audience| !audience.is_empty()),
                expiration_seconds: token.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION_SECONDS),
                path: token.path,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
