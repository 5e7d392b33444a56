//! What the operator wants, in the planner's words. Made from the settings, changed by nothing else.

use std::{path::PathBuf, time::Duration};

use jiff::SignedDuration;

use crate::model::{
    issuer::{Audience, IssuerUrl},
    location::{BucketName, Location},
    region::Region,
    rotation::Policy,
    webhook::DesiredWebhook,
};

/// The wanted state of one node and of what its cluster shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Issuer that new tokens shall carry.
    pub issuer: IssuerUrl,
    /// Path of the JWKS below the issuer, without a leading slash.
    pub jwks_path: String,
    /// Store of the public documents.
    pub store: Location,
    /// The issuer's bucket; `None` for a folder.
    pub bucket: Option<DesiredBucket>,
    /// The IAM OIDC provider; `None` where somebody else looks after it.
    pub provider: Option<DesiredProvider>,
    /// Manifest of this node's kube-apiserver.
    pub manifest: PathBuf,
    /// Signing key file.
    pub signing_key: PathBuf,
    /// Verification key file.
    pub verifying_keys: PathBuf,
    /// Who writes the key files.
    pub keys: KeyKeeping,
    /// Value of `--api-audiences`; `None` leaves the flag alone.
    pub api_audiences: Option<Vec<Audience>>,
    /// kubeadm makes this control plane's manifests: `kube-system/kubeadm-config` is to have our flags too, so that `kubeadm upgrade`
    /// and `kubeadm join` keep them.
    pub kubeadm_config: bool,
    /// Whether a running API server may be restarted.
    pub restart: RestartPolicy,
    /// How long a restart that happens anyway is waited for, with [`RestartPolicy::Opportunistic`].
    pub restart_deadline: Duration,
    /// Age at which a signing key is replaced; `None`: only when somebody asks for it.
    pub rotation_period: Option<Duration>,
    /// How long API servers accept a key after its last use.
    pub verify_retention: Duration,
    /// Longest life of a token that an outsider may still have to verify.
    pub token_lifetime: Duration,
    /// What the clocks of nodes, store and verifiers may differ by.
    pub clock_margin: SignedDuration,
    /// How long a key is public before the API server is restarted to sign with it.
    pub publish_lead: Duration,
    /// Who changes pods so that they have a token for AWS.
    pub webhook: DesiredWebhook,
    /// How long the API server may take to prove a change before the previous manifest comes back.
    pub evidence_limit: Duration,
}

/// The issuer's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredBucket {
    /// Name.
    pub name: BucketName,
    /// Region of the bucket.
    pub region: Region,
    /// Create it where it is missing and, with `public_by_policy`, keep its public access block and our statement in its policy.
    pub create: bool,
    /// Outsiders read the documents by bucket policy; otherwise through a web server of the operator's.
    pub public_by_policy: bool,
    /// `Sid` of our statement in the bucket policy.
    pub policy_sid: String,
    /// Key and value of the tag on a bucket that irsad created for this cluster.
    pub owner_tag: (String, String),
}

/// The IAM OIDC provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredProvider {
    /// Client IDs that it must have.
    pub audiences: Vec<Audience>,
    /// Tags for the create call, ours first.
    pub tags: Vec<(String, String)>,
}

/// Who writes the key files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKeeping {
    /// irsad makes keys where there are none.
    Manage,
    /// Somebody else (kops, an operator's tool): irsad publishes what it sees and writes no key file.
    Follow,
}

/// Whether a running API server may be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Yes, when it is safe.
    Rolling,
    /// Only when it restarts anyway.
    Opportunistic,
    /// No.
    Never,
}

impl Desired {
    /// URL of the JWKS, as it stands in the discovery document and in `--service-account-jwks-uri`.
    pub fn jwks_uri(&self) -> String {
        self.issuer.document(&self.jwks_path)
    }

    /// Whether outsiders get the documents from a web server or CloudFront, not from the bucket itself.
    pub fn is_served_by_front(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| !bucket.public_by_policy)
    }

    /// How long things last.
    pub fn policy(&self) -> Policy {
        let signed = |time: Duration| SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        Policy {
            issuer: self.issuer.to_string(),
            period: self.rotation_period.map(signed),
            publish_lead: signed(self.publish_lead),
            token_lifetime: signed(self.token_lifetime),
            verify_retention: signed(self.verify_retention.max(self.token_lifetime)),
            clock_margin: self.clock_margin,
        }
    }

    /// Our issuer first, every other one of `present` kept accepted in its order.
    pub fn issuers(&self, present: &[String]) -> Vec<String> {
        let others = present.iter().filter(|issuer| *issuer != self.issuer.as_str()).cloned();
        std::iter::once(self.issuer.to_string()).chain(others).collect()
    }
}
