//! The settings in the planner's words.

use jiff::SignedDuration;

use super::{Access, FailurePolicy, Keys, Restart, Settings, WebhookMode};
use crate::model::{
    location::{KeyringLocation, Location},
    plan::{Desired, DesiredBucket, DesiredKeyringBucket, DesiredProvider, KeyKeeping, RestartPolicy},
    region::{Partition, Region},
    trust_policy,
    webhook::{self, DesiredWebhook, Mode, upstream::Upstream},
};

/// Twice the largest difference of clocks with which irsad goes on.
const CLOCK_MARGIN: SignedDuration = SignedDuration::from_mins(10);
/// Tag on what irsad created, with the cluster's name as its value.
pub const OWNER_TAG: &str = "irsad/cluster";

impl Settings {
    /// What these settings want of this node and of what its cluster shares.
    pub fn desired(&self) -> Desired {
        let api_server = &self.api_server;
        Desired {
            issuer: self.issuer.url.clone(),
            jwks_path: self.issuer.jwks_path.as_str().to_owned(),
            store: self.issuer.store.clone(),
            bucket: self.bucket(),
            provider: self.provider.manage.then(|| self.wanted_provider()),
            manifest: api_server.manifest.clone(),
            signing_key: api_server.signing_key.clone(),
            verifying_keys: api_server.verifying_keys.clone(),
            keys: match api_server.keys {
                Keys::Manage => KeyKeeping::Manage,
                Keys::Follow => KeyKeeping::Follow,
            },
            api_audiences: api_server.audiences.clone(),
            kubeadm_config: api_server.persist,
            restart: match api_server.restart {
                Restart::Rolling => RestartPolicy::Rolling,
                Restart::Opportunistic => RestartPolicy::Opportunistic,
                Restart::Never => RestartPolicy::Never,
            },
            restart_deadline: api_server.restart_deadline,
            rotation_period: self.rotation.period,
            verify_retention: self.rotation.verify_retention,
            clock_margin: if self.rotation.below_floors { SignedDuration::ZERO } else { CLOCK_MARGIN },
            token_lifetime: self.rotation.token_lifetime,
            publish_lead: self.rotation.publish_lead,
            webhook: self.wanted_webhook(),
            evidence_limit: api_server.evidence_timeout,
        }
    }

    /// The bucket of a keyring in S3.
    pub fn keyring_bucket(&self) -> Option<DesiredKeyringBucket> {
        let KeyringLocation::Outside(Location::S3 { bucket, prefix }) = &self.keyring.store else { return None };
        Some(DesiredKeyringBucket {
            name: bucket.clone(),
            region: self.aws.region.clone()?,
            prefix: prefix.clone(),
            create: self.issuer.create_bucket,
            policy_sid: trust_policy::statement_id(self.cluster.as_str()),
            at_own_endpoint: self.has_own_s3(),
        })
    }

    fn has_own_s3(&self) -> bool {
        self.aws.endpoints.s3.is_some() || self.aws.endpoints.all.is_some()
    }

    /// The partition of AWS that this cluster is in.
    pub fn partition(&self) -> Partition {
        self.aws.region.as_ref().map_or(Partition::Commercial, Region::partition)
    }

    fn bucket(&self) -> Option<DesiredBucket> {
        let (Location::S3 { bucket, .. }, Some(region)) = (&self.issuer.store, &self.aws.region) else { return None };
        Some(DesiredBucket {
            name: bucket.clone(),
            region: region.clone(),
            create: self.issuer.create_bucket,
            public_by_policy: self.issuer.access == Access::BucketPolicy,
            policy_sid: trust_policy::statement_id(self.cluster.as_str()),
            owner_tag: self.owner_tag(),
        })
    }

    /// Tag on what irsad created for this cluster.
    pub fn owner_tag(&self) -> (String, String) {
        (OWNER_TAG.to_owned(), self.cluster.to_string())
    }

    fn wanted_webhook(&self) -> DesiredWebhook {
        let settings = &self.webhook;
        DesiredWebhook {
            mode: match settings.mode {
                WebhookMode::BuiltIn => Mode::BuiltIn,
                WebhookMode::Upstream => Mode::Upstream,
                WebhookMode::None => Mode::None,
            },
            port: settings.port,
            failure_policy: match settings.failure_policy {
                FailurePolicy::Ignore => webhook::FailurePolicy::Ignore,
                FailurePolicy::Fail => webhook::FailurePolicy::Fail,
            },
            exempt_namespaces: settings.exempt_namespaces.iter().map(ToString::to_string).collect(),
            upstream: Upstream {
                image: settings.upstream.image.to_string(),
                namespace: settings.upstream.namespace.to_string(),
                replicas: settings.upstream.replicas,
                lookup_grace: settings.lookup_grace_period,
                settings: self.pod_identity(),
                role_map_namespace: settings.config_map_namespace.as_ref().map(ToString::to_string),
            },
        }
    }

    fn wanted_provider(&self) -> DesiredProvider {
        let ours = self.owner_tag();
        let theirs = self.provider.tags.iter().map(|(key, value)| (key.clone(), value.clone()));
        DesiredProvider {
            audiences: self.provider.audiences.clone(),
            tags: std::iter::once(ours).chain(theirs).collect(),
        }
    }
}
