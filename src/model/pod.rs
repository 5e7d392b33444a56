//! A pod as far as its AWS credentials go: what an API server has of it, the rest left out.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::pod_identity::skipped_containers;

/// Variables by which an AWS SDK finds a role (AWS SDKs and Tools reference guide, "Assume role credential provider").
pub const WEB_IDENTITY: [&str; 2] = [ROLE_ARN, TOKEN_FILE];
/// Variables by which an AWS SDK finds an agent ("Container credential provider" there).
pub const CONTAINER_CREDENTIALS: [&str; 2] =
    ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"];
/// Role to take.
pub const ROLE_ARN: &str = "AWS_ROLE_ARN";
/// File with the token for it.
pub const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
/// Annotation of kubelet's own copies of static Pods (kubernetes/kubernetes `pkg/apis/core/annotation_key_constants.go`).
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Namespace and name of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Why a text names no pod.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not NAMESPACE/NAME of a pod; write it like default/checkout-7d4b9")]
pub struct PodNameError(String);

impl FromStr for PodName {
    type Err = PodNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |part: &str, dots: bool| {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !part.is_empty() && part.bytes().all(|byte| allowed(byte) || (dots && byte == b'.'))
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace, false) && is_name(name, true) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            Some(_) | None => Err(PodNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Where and who.
    pub name: PodName,
    /// `metadata.uid`: another pod of the same name has another one.
    pub uid: String,
    /// Name of its service account, of the same namespace.
    pub service_account: String,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// Every container has ended, or it is being deleted.
    pub has_ended: bool,
    /// kubelet's copy of a static Pod.
    pub is_mirror: bool,
    /// It has the label [`OPT_OUT_LABEL`](super::webhook::OPT_OUT_LABEL).
    pub opted_out: bool,
    /// Annotation `skip-containers`, as it is written.
    pub skip_containers: Option<String>,
    /// Init containers, then containers.
    pub containers: Vec<Container>,
    /// Volumes with tokens of its service account.
    pub token_volumes: Vec<TokenVolume>,
    /// What makes it anew where it is deleted; `None`: nothing does.
    pub controller: Option<Controller>,
}

/// What makes pods: the Deployment where it is one of its ReplicaSets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Kind (`Deployment`, `StatefulSet`, `Job`, …).
    pub kind: String,
    /// Name.
    pub name: String,
}

/// One container or init container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Those of its variables that [`WEB_IDENTITY`] and [`CONTAINER_CREDENTIALS`] name; `None`: the value comes from elsewhere.
    pub variables: BTreeMap<String, Option<String>>,
    /// Its mounts of the pod's token volumes.
    pub mounts: Vec<Mount>,
}

/// A mount of a token volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Name of the volume.
    pub volume: String,
    /// Where.
    pub path: String,
}

/// One token of a projected volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenVolume {
    /// Name of the volume.
    pub name: String,
    /// Whom the token is for; `None`: the API server.
    pub audience: Option<String>,
    /// Its life in seconds.
    pub expiration_seconds: i64,
    /// File in the volume.
    pub path: String,
}

impl Container {
    /// Whether an SDK in it finds AWS credentials of its own pod, whoever put them there.
    pub fn has_credentials(&self) -> bool {
        WEB_IDENTITY.iter().chain(&CONTAINER_CREDENTIALS).any(|name| self.variables.contains_key(*name))
    }

    /// Value of one of the variables, where it stands in the pod itself.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name)?.as_deref()
    }
}

impl Pod {
    /// Names of the containers that the webhook leaves alone.
    pub fn skipped(&self) -> Vec<String> {
        self.skip_containers.as_deref().map(skipped_containers).unwrap_or_default()
    }

    /// Command by which a person has it made anew.
    pub fn cure(&self) -> String {
        let PodName { namespace, name: pod } = &self.name;
        match &self.controller {
            Some(Controller { kind, name }) if ["Deployment", "StatefulSet", "DaemonSet"].contains(&kind.as_str()) => {
                format!("kubectl -n {namespace} rollout restart {} {name}", kind.to_ascii_lowercase())
            }
            Some(_) => format!("kubectl -n {namespace} delete pod {pod}"),
            None => format!("kubectl -n {namespace} delete pod {pod}, and create it again: nothing else does"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_is_named_by_namespace_and_name() {
        let name: PodName = "shop/checkout-7d4b9.a".parse().expect("a name");
        assert_eq!((name.namespace.as_str(), name.name.as_str()), ("shop", "checkout-7d4b9.a"));
        for text in ["", "checkout", "shop/", "/checkout", "shop/a/b", "Shop/a", "shop/a b", "s.p/a"] {
            let error = text.parse::<PodName>().expect_err("refused");
            assert_eq!(
                error.to_string(),
                format!("{text:?} is not NAMESPACE/NAME of a pod; write it like default/checkout-7d4b9")
            );
        }
    }
}
