//! `/etc/irsad/irsad.yaml` and what it means: every option with its default, every mistake reported at once.
//!
//! Files are read by the caller; here they are texts. [`Inputs::from_texts`] merges and checks them, [`Inputs::settle`] fills in
//! what the machine decides (region, distribution) and gives the [`Settings`] that the rest of irsad works with.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::model::{
    issuer::{Audience, IssuerUrl},
    kms_key::KmsKey,
    location::{KeyringLocation, Location},
    region::Region,
};

mod desired;
mod inputs;
mod keyring;
mod mistake;
mod options;
mod pod_values;
mod roles;
mod section;
mod tree;
mod values;
mod webhook;

pub use desired::OWNER_TAG;
pub use inputs::Inputs;
pub use mistake::{Mistake, Mistakes};
pub use pod_values::{
    AnnotationPrefix, AnnotationPrefixError, DnsLabel, DnsLabelError, Image, ImageError, MountPath, MountPathError,
    TokenPath, TokenPathError,
};
pub use roles::{RolesMode, RolesSettings};
pub use values::{ClusterName, ClusterNameError, EndpointUrl, EndpointUrlError, JwksPath, JwksPathError};
pub use webhook::{ContainerCredentialsSettings, FailurePolicy, UpstreamSettings, WebhookMode, WebhookSettings};

/// The configuration file. Drop-ins stand in `irsad.d/*.yaml` beside it and are merged in name order.
pub const CONFIG_FILE: &str = "/etc/irsad/irsad.yaml";

/// A complete and consistent configuration. `version: 1`, the version of its format, is checked and not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `cluster` (required): name of the cluster, a DNS label of at most 40 characters. Tag on what irsad owns.
    pub cluster: ClusterName,
    /// `issuer`: who signs the tokens and where the public documents are.
    pub issuer: IssuerSettings,
    /// `keyring`: where the keys are kept that the control-plane nodes share.
    pub keyring: KeyringSettings,
    /// `aws`: how AWS is reached.
    pub aws: AwsSettings,
    /// `provider`: the IAM OIDC provider.
    pub provider: ProviderSettings,
    /// `apiServer`: this node's kube-apiserver and its files.
    pub api_server: ApiServerSettings,
    /// `rotation`: how long keys live.
    pub rotation: RotationSettings,
    /// `webhook`: how pods get their tokens.
    pub webhook: WebhookSettings,
    /// `metrics`: where a monitoring system reads how irsad does.
    pub metrics: MetricsSettings,
    /// `roles`: IAM roles that irsad makes.
    pub roles: RolesSettings,
    /// What a person should know about this configuration: one sentence each, for journal and status.
    pub notices: Vec<String>,
}

/// `issuer`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// `issuer.store` (required): `s3://BUCKET[/PREFIX]`, or `file:///DIR` for a folder that a web server of yours serves.
    pub store: Location,
    /// `issuer.url`: what tokens carry as `iss`. Default with S3: `https://BUCKET.s3.REGION.SUFFIX[/PREFIX]`; required with a
    /// folder and with `access: external`.
    pub url: IssuerUrl,
    /// `issuer.jwksPath` (`openid/v1/jwks`): path of the JWK Set below the issuer.
    pub jwks_path: JwksPath,
    /// `issuer.createBucket` (`true`): create the bucket where it does not exist, and with `access: bucketPolicy` keep its public access
    /// block and our statement in its policy; likewise the keyring's bucket. `false`: they are yours to set. Nothing with folders.
    pub create_bucket: bool,
    /// `issuer.access` (`bucketPolicy`).
    pub access: Access,
}

/// `issuer.access`: how outsiders come to read the two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `bucketPolicy`: irsad lets anyone read exactly the two objects, by public access block and bucket policy.
    BucketPolicy,
    /// `external`: CloudFront or a web server of yours serves them; irsad leaves policy and public access block of the bucket
    /// alone, and believes the URL.
    External,
}

/// `keyring`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringSettings {
    /// `keyring.store` (`kubernetes`): Secrets of kube-system; `s3://BUCKET[/PREFIX]`, a private bucket, never the issuer's; or
    /// `file:///DIR`, for a cluster with one control-plane node.
    pub store: KeyringLocation,
    /// `keyring.kmsKey` (empty, `None`; required with S3): the KMS key that seals private halves before they leave the node.
    pub kms_key: Option<KmsKey>,
}

/// `aws`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// `aws.region` (the instance metadata's): region of buckets, KMS and STS. `None` where nothing of this configuration is in AWS.
    pub region: Option<Region>,
    /// `aws.endpointUrl` (AWS itself): a service that stands in for AWS.
    pub endpoints: Endpoints,
}

/// `aws.endpointUrl`: one URL for every service, or a mapping with `s3`, `iam`, `kms` and `sts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For services without one of their own.
    pub all: Option<EndpointUrl>,
    /// `aws.endpointUrl.s3`
    pub s3: Option<EndpointUrl>,
    /// `aws.endpointUrl.iam`
    pub iam: Option<EndpointUrl>,
    /// `aws.endpointUrl.kms`
    pub kms: Option<EndpointUrl>,
    /// `aws.endpointUrl.sts`
    pub sts: Option<EndpointUrl>,
}

/// `provider`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSettings {
    /// `provider.manage` (`true`): create the IAM OIDC provider and add audiences that are missing.
    pub manage: bool,
    /// `provider.audiences` (`[sts.amazonaws.com]`): client IDs of the provider, 1 to 100.
    pub audiences: Vec<Audience>,
    /// `provider.tags` (`{}`): tags for a provider that irsad creates, beside its own; at most 48.
    pub tags: BTreeMap<String, String>,
}

/// `apiServer`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiServerSettings {
    /// `apiServer.distribution` (`auto`: `kops` where its manifest exists, else `kubeadm`): sets the defaults below.
    pub distribution: Distribution,
    /// `apiServer.manifest` (`/etc/kubernetes/manifests/kube-apiserver.yaml`; kops `….manifest`): the static Pod.
    pub manifest: PathBuf,
    /// `apiServer.signingKey` (`/etc/kubernetes/pki/sa.key`; kops `/srv/kubernetes/kube-apiserver/service-account.key`).
    pub signing_key: PathBuf,
    /// `apiServer.verifyingKeys` (`/etc/kubernetes/pki/sa.pub`; kops `/srv/kubernetes/kube-apiserver/service-account.pub`).
    pub verifying_keys: PathBuf,
    /// `apiServer.kubeconfig` (`/etc/kubernetes/admin.conf`; kops `/var/lib/kubectl/kubeconfig`): an administrator's.
    pub kubeconfig: PathBuf,
    /// `apiServer.keys` (`manage`; kops `follow`).
    pub keys: Keys,
    /// `apiServer.audiences` (`keep`): `None` leaves `--api-audiences` alone; else a list that becomes the flag.
    pub audiences: Option<Vec<Audience>>,
    /// `apiServer.persist` (`true`; kops `false`): also put the flags into `kube-system/kubeadm-config`, from which `kubeadm
    /// upgrade` and `join` take them.
    pub persist: bool,
    /// `apiServer.restart` (`rolling`).
    pub restart: Restart,
    /// `apiServer.restartDeadline` (`30d`): how long `restart: opportunistic` waits for a restart that happens anyway.
    pub restart_deadline: Duration,
    /// `apiServer.evidenceTimeout` (`5m`, at least `2m`): how long kube-apiserver may take to prove a change before the
    /// previous manifest comes back.
    pub evidence_timeout: Duration,
}

/// `apiServer.distribution`: who made the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// `kubeadm`
    Kubeadm,
    /// `kops`
    Kops,
}

/// `apiServer.keys`: who makes the service-account keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// `manage`: irsad; keys found on disk are adopted.
    Manage,
    /// `follow`: someone else; irsad publishes what it finds and writes no key file.
    Follow,
}

/// `apiServer.restart`: whether irsad may restart a running kube-apiserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// `rolling`: yes, when it is safe.
    Rolling,
    /// `opportunistic`: other keys are written and taken up when it restarts anyway; after `restartDeadline`, as `rolling`.
    Opportunistic,
    /// `never`: no.
    Never,
}

/// `rotation`. Whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationSettings {
    /// `rotation.period` (`90d`, at least `1d`): age at which a signing key is replaced; `never` turns it off (`None`).
    pub period: Option<Duration>,
    /// `rotation.publishLead` (`24h`, at least that): how long a key is published before it signs.
    pub publish_lead: Duration,
    /// `rotation.tokenLifetime` (`24h`, at least `1h`): longest life of a token that outsiders check. A key stays published
    /// that long after the last token it signed.
    pub token_lifetime: Duration,
    /// `rotation.verifyRetention` (`366d`): how long API servers accept a key after it stopped to sign.
    pub verify_retention: Duration,
    /// `rotation.belowFloors` (`false`): lifts the smallest values above. For tests.
    pub below_floors: bool,
}

/// `metrics`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSettings {
    /// `metrics.port` (`23444`, 0 to 65535): where metrics are served on 127.0.0.1; `0` serves none (`None`).
    ///
    /// On by default, as with every other part of a control plane: they show no secret, only this machine can read them, and whoever looks
    /// for them has a trouble at hand and no wish to restart anything.
    pub port: Option<u16>,
}

impl Distribution {
    /// Where this distribution keeps the kube-apiserver manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Kubeadm => "/etc/kubernetes/manifests/kube-apiserver.yaml",
            Self::Kops => "/etc/kubernetes/manifests/kube-apiserver.manifest",
        }
    }

    /// Where it keeps the signing key.
    pub fn signing_key(self) -> &'static str {
        match self {
            Self::Kubeadm => "/etc/kubernetes/pki/sa.key",
            Self::Kops => "/srv/kubernetes/kube-apiserver/service-account.key",
        }
    }

    /// Where it keeps the keys that are accepted.
    pub fn verifying_keys(self) -> &'static str {
        match self {
            Self::Kubeadm => "/etc/kubernetes/pki/sa.pub",
            Self::Kops => "/srv/kubernetes/kube-apiserver/service-account.pub",
        }
    }

    /// Where it keeps the kubeconfig of an administrator.
    pub fn kubeconfig(self) -> &'static str {
        match self {
            Self::Kubeadm => "/etc/kubernetes/admin.conf",
            Self::Kops => "/var/lib/kubectl/kubeconfig",
        }
    }

    fn keys(self) -> Keys {
        match self {
            Self::Kubeadm => Keys::Manage,
            Self::Kops => Keys::Follow,
        }
    }
}

#[cfg(test)]
mod tests;
