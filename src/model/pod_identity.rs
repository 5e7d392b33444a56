//! What amazon-eks-pod-identity-webhook does to a pod, as values: a review and what is known of the pod's service account in,
//! the answer with its JSON Patch (RFC 6902) out.
//!
//! The resulting pod is the one that the AWS program makes. The patch only adds, so that what this program does not know of a
//! pod survives. Nothing here knows how a review arrives or where accounts are kept.

mod account;
mod container_credentials;
mod go;
mod grant;
mod patch;
mod pod;
mod review;
mod role_map;
mod skip_containers;
mod warnings;

pub use account::Account;
pub use container_credentials::{ContainerCredentials, ContainerCredentialsError};
pub use review::{Review, ReviewError};
pub use role_map::{RoleMap, RoleMapError};

use grant::Question;
use warnings::Warnings;

use super::region::{AccountId, Partition};

/// Shortest token that kube-apiserver grants, in seconds (`ValidateTokenRequest`); lower values are raised to it.
pub const SHORTEST_TOKEN_SECONDS: i64 = 600;

/// Name of the token's volume where the token is for a role. It cannot be chosen.
pub const WEB_IDENTITY_VOLUME: &str = "aws-iam-token";

/// How pods are changed: the flags of the AWS program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIdentity {
    /// What annotations begin with, without the slash (`eks.amazonaws.com`).
    pub annotation_prefix: String,
    /// Audience of the tokens (`sts.amazonaws.com`); `audience` of an account goes before it.
    pub audience: String,
    /// Where the token's volume is mounted, used as it is; `AWS_WEB_IDENTITY_TOKEN_FILE` is the file `token` in it.
    pub mount_path: String,
    /// Life of the tokens in seconds, at least [`SHORTEST_TOKEN_SECONDS`]; annotations of account and pod go before it.
    pub token_expiration_seconds: i64,
    /// Value of `AWS_DEFAULT_REGION` and `AWS_REGION`; `None` adds neither.
    pub default_region: Option<String>,
    /// Whether `AWS_STS_REGIONAL_ENDPOINTS=regional` is added where the account does not say.
    pub regional_sts: bool,
    /// What makes an ARN of a role that an account gives by its name only; `None` takes it as it is.
    pub composition: Option<Composition>,
    /// What pods of [`ContainerCredentials`] get.
    pub container_credentials: ContainerCredentialsToken,
}

/// Where roles are that are given by their name only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composition {
    /// Second field of the ARN.
    pub partition: Partition,
    /// Account in the ARN.
    pub account: AccountId,
}

/// Token and variables of a pod that asks the EKS Pod Identity agent, or one that speaks like it, for credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerCredentialsToken {
    /// Audience of the token (`pods.eks.amazonaws.com`).
    pub audience: String,
    /// Where its volume is mounted (`/var/run/secrets/pods.eks.amazonaws.com/serviceaccount`).
    pub mount_path: String,
    /// Name of the volume (`eks-pod-identity-token`).
    pub volume_name: String,
    /// Name of the file in the volume (`eks-pod-identity-token`).
    pub token_path: String,
    /// Value of `AWS_CONTAINER_CREDENTIALS_FULL_URI` (`http://169.254.170.23/v1/credentials`).
    pub full_uri: String,
}

/// How a pod gets credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By a token for `sts:AssumeRoleWithWebIdentity` (IRSA).
    WebIdentity,
    /// By a token for an agent on its node (EKS Pod Identity).
    ContainerCredentials,
}

/// What pods of a service account get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// How.
    pub method: Method,
    /// Role, with [`Method::WebIdentity`].
    pub role_arn: String,
    /// Audience of the token.
    pub audience: String,
}

/// Names of the containers that the annotation `skip-containers` of a pod leaves alone; none where it cannot be read.
pub fn skipped_containers(annotation: &str) -> Vec<String> {
    skip_containers::names(annotation).unwrap_or_default()
}

/// An answer to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The response body.
    pub body: Vec<u8>,
    /// It changes the pod.
    pub patches: bool,
}

impl PodIdentity {
    /// The whole response body for a review: allowed, with a patch where the pod's account has a role, and with warnings that the
    /// user of `kubectl` sees.
    ///
    /// `account` is the pod's service account, `None` where it does not exist. `jitter` is any random number: it shortens the
    /// default life of container-credentials tokens by up to two hours, so that a fleet does not renew all at once.
    pub fn answer(
        &self,
        review: &Review<'_>,
        account: Option<&Account>,
        fallback: &RoleMap,
        credentials: &ContainerCredentials,
        jitter: u64,
    ) -> Vec<u8> {
        self.decide(review, account, fallback, credentials, jitter).body
    }

    /// The same, and whether it changes the pod.
    pub fn decide(
        &self,
        review: &Review<'_>,
        account: Option<&Account>,
        fallback: &RoleMap,
        credentials: &ContainerCredentials,
        jitter: u64,
    ) -> Decision {
        let (namespace, service_account) = (review.namespace(), review.service_account());
        let question = Question { settings: self, namespace, service_account, account, fallback, credentials };
        let mut warnings = Warnings::default();
        let grant = question.grant(review, jitter, &mut warnings);
        let patch = grant.map(|grant| patch::patch(review, &grant, &mut warnings));
        Decision { patches: patch.is_some(), body: review.allow(patch, warnings.0) }
    }

    /// How pods of this service account get credentials; `None` where they get none.
    pub fn method(
        &self,
        namespace: &str,
        service_account: &str,
        account: Option<&Account>,
        fallback: &RoleMap,
        credentials: &ContainerCredentials,
    ) -> Option<Method> {
        Question { settings: self, namespace, service_account, account, fallback, credentials }.method()
    }

    /// What pods of this service account get, whatever their own annotations say; `None` where they get nothing.
    pub fn intent(
        &self,
        namespace: &str,
        service_account: &str,
        account: Option<&Account>,
        fallback: &RoleMap,
        credentials: &ContainerCredentials,
    ) -> Option<Intent> {
        Question { settings: self, namespace, service_account, account, fallback, credentials }.intent()
    }
}

impl Method {
    /// The volume that a changed pod has.
    pub fn volume_name(self, settings: &PodIdentity) -> &str {
        match self {
            Self::WebIdentity => WEB_IDENTITY_VOLUME,
            Self::ContainerCredentials => &settings.container_credentials.volume_name,
        }
    }
}

#[cfg(test)]
mod tests;
