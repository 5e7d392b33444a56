//! The ways to everything outside this process: host files, stores, AWS, the API server. Observing and executing share them.

mod stores;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    aws::{self, AwsConfig, Endpoints, Identity, calls::Calls, iam::Iam, kms::Kms, s3::S3Store},
    cluster::{ApiServer, ControllerLease, LegacyToken, secrets::SecretStore},
    config::{EndpointUrl, Settings},
    host::Root,
    model::{
        cluster_object::StoredObject,
        location::{KeyringLocation, Location},
        memory::Change,
        plan::{BucketFacts, KeyringBucketFacts, PodsFacts, ProviderFacts, StoredKubeadmConfig, UpstreamFacts},
        probe::{Probe, sentence},
        region::{AccountId, Partition, oidc_provider_arn},
        rotation::{Ack, ControlPlane},
        webhook::WebhookState,
    },
    private_keys::PrivateKeys,
    store::{file::FileStore, public::PublicClient},
};

pub use stores::{AnyStore, KeyringStore};

/// How long bucket settings and provider are taken as observed: they change by hand only, and each look costs five calls.
pub const SLOW_INTERVAL: Duration = Duration::from_secs(600);

/// Everything outside that one configuration leads to.
pub struct World {
    /// Host files.
    pub root: Root,
    /// What the configuration says.
    pub settings: Settings,
    /// How an outsider looks at the documents.
    pub public: Arc<PublicClient>,
    /// Bucket and provider as last observed, and when.
    pub slow: Option<(Timestamp, SlowFacts)>,
    /// Calls to AWS so far.
    pub aws_calls: Calls,
    aws: Option<AwsClients>,
    /// Why AWS did not tell who we are, until the next look.
    aws_failure: Option<String>,
    /// Digest of the manifest of the change that is open, and since when this process watches it.
    change: Option<(String, Instant)>,
    api_server: Option<ApiServer>,
    /// What a full look last saw of the control plane, for idle ones.
    pub control_plane: Option<SeenControlPlane>,
    /// This process may write: it has the lock of this machine.
    pub acts: bool,
    /// The keyring's store has proven that it honours conditions.
    pub store_is_proven: bool,
    /// Name of this node's Node object, as an API server last said.
    pub node_name: Option<String>,
    /// This process has told evidence under its node's name.
    pub has_told: bool,
    /// Who leads, as the candidate of this process sees it.
    pub leadership: Leadership,
    /// The API server through which the keyring is read.
    pub keyring_api: Option<ApiServer>,
    /// Evidence of the nodes as last read, with the version of each in the store.
    pub acks: Vec<(Ack, String)>,
    /// Version of the keyring at that time.
    pub acks_of: Option<String>,
    /// Which registration of the built-in webhook (`resourceVersion`) was tried last, and what came of it.
    pub webhook_call: Option<(String, Result<(), String>)>,
    /// The AWS program as last seen.
    pub upstream: Option<SeenUpstream>,
    /// Since when this process has seen no registration of it.
    pub unregistered_since: Option<Instant>,
    /// This node's webhook server, as the daemon last said; Absent where none is to run. Unknown in a process that has none to ask.
    pub webhook: Probe<WebhookState>,
    /// Pods as last looked at, and when.
    pub pods: Option<(Timestamp, Probe<PodsFacts>)>,
    /// The ConfigMap with the trust policy, as a full look last saw it.
    pub trust_policy: Option<Probe<StoredObject>>,
}

/// Who leads, as far as this process knows.
#[derive(Debug, Clone, Default)]
pub struct Leadership {
    /// This process does, at this moment.
    pub leads: bool,
    /// Name of the node that does.
    pub leader: Option<String>,
}

/// What one full look saw of the control plane beside this node's API server.
#[derive(Debug, Clone)]
pub struct SeenControlPlane {
    /// Its nodes and API servers.
    pub members: Probe<ControlPlane>,
    /// Other API servers that do not answer as ready ones, with the reason.
    pub not_ready: Vec<String>,
    /// Who leads the controllers.
    pub controllers: Probe<Vec<ControllerLease>>,
    /// Keys of tokens that never expire; Unknown on a node that does not lead, which does not ask for them.
    pub legacy_tokens: Probe<Vec<LegacyToken>>,
    /// kubeadm's configuration.
    pub kubeadm_config: Probe<StoredKubeadmConfig>,
}

/// The AWS program as one look saw it.
#[derive(Debug, Clone)]
pub struct SeenUpstream {
    /// All of it.
    pub facts: UpstreamFacts,
    /// There was nothing of it.
    pub is_nothing: bool,
}

/// What is looked at every [`SLOW_INTERVAL`] and after each change of it.
#[derive(Debug, Clone)]
pub struct SlowFacts {
    /// The issuer's bucket.
    pub bucket: Option<Probe<BucketFacts>>,
    /// The IAM provider.
    pub provider: Option<Probe<ProviderFacts>>,
    /// The keyring's bucket.
    pub keyring_bucket: Option<Probe<KeyringBucketFacts>>,
}

/// AWS as our own account sees it.
#[derive(Clone)]
pub struct AwsClients {
    /// Our account.
    pub account: AccountId,
    /// Its partition.
    pub partition: Partition,
    /// IAM.
    pub iam: Iam,
    /// ARN of our issuer's provider.
    pub provider_arn: String,
    /// The issuer's bucket, where there is one.
    pub bucket: Option<S3Store>,
    /// The keyring's bucket, where there is one.
    pub keyring_bucket: Option<S3Store>,
    /// The KMS key that seals private halves, where one is configured.
    pub kms: Option<Kms>,
}

/// The services that stand in for AWS, as the configuration names them.
pub fn endpoints(configured: &crate::config::Endpoints) -> Endpoints {
    let text = |url: &Option<EndpointUrl>| url.as_ref().map(ToString::to_string).unwrap_or_default();
    Endpoints {
        all: text(&configured.all),
        s3: text(&configured.s3),
        iam: text(&configured.iam),
        kms: text(&configured.kms),
        sts: text(&configured.sts),
    }
}

impl World {
    /// Access for `settings`. Nothing is asked yet.
    pub fn new(root: Root, settings: Settings, public: Arc<PublicClient>) -> Self {
        Self {
            root,
            settings,
            public,
            slow: None,
            aws_calls: Calls::default(),
            aws: None,
            aws_failure: None,
            change: None,
            api_server: None,
            control_plane: None,
            acts: false,
            store_is_proven: false,
            node_name: None,
            has_told: false,
            leadership: Leadership::default(),
            keyring_api: None,
            acks: Vec::new(),
            acks_of: None,
            webhook_call: None,
            upstream: None,
            unregistered_since: None,
            webhook: Probe::Unknown("only the daemon knows its webhook server".to_owned()),
            pods: None,
            trust_policy: None,
        }
    }

    /// The same ways for other settings; a change that is watched stays watched.
    pub fn with_settings(&mut self, settings: Settings) -> Self {
        let world = Self::new(self.root.clone(), settings, Arc::clone(&self.public));
        Self {
            change: self.change.take(),
            aws_calls: self.aws_calls.clone(),
            acts: self.acts,
            has_told: self.has_told,
            leadership: self.leadership.clone(),
            webhook: self.webhook.clone(),
            unregistered_since: self.unregistered_since,
            ..world
        }
    }

    /// How long this process has watched the open change, by a clock that nobody sets: a node that was off, or whose clock was
    /// set, has not waited.
    pub fn watch_change(&mut self, open: Option<&Change>) -> Duration {
        let Some(open) = open else {
            self.change = None;
            return Duration::ZERO;
        };
        match &self.change {
            Some((digest, since)) if *digest == open.manifest_digest => since.elapsed(),
            Some(_) | None => {
                self.change = Some((open.manifest_digest.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Our account's clients; asks STS who we are the first time.
    ///
    /// # Errors
    /// No region, no credentials or no answer, as one sentence. The next look asks again.
    pub async fn aws(&mut self) -> Result<AwsClients, String> {
        if let Some(clients) = &self.aws {
            return Ok(clients.clone());
        }
        if let Some(why) = &self.aws_failure {
            return Err(why.clone());
        }
        match self.connect_to_aws().await {
            Ok(clients) => {
                self.aws = Some(clients.clone());
                Ok(clients)
            }
            Err(why) => {
                self.aws_failure = Some(why.clone());
                Err(why)
            }
        }
    }

    /// The same where AWS has said it already; nothing is asked.
    pub fn known_aws(&self) -> Option<&AwsClients> {
        self.aws.as_ref()
    }

    async fn connect_to_aws(&self) -> Result<AwsClients, String> {
        let (config, identity) = self.identify().await?;
        Ok(self.clients(&config, &identity.account, identity.partition))
    }

    /// Who AWS takes us for, asked anew.
    ///
    /// # Errors
    /// As [`World::aws`].
    pub async fn identity(&self) -> Result<Identity, String> {
        self.identify().await.map(|(_, identity)| identity)
    }

    async fn identify(&self) -> Result<(AwsConfig, Identity), String> {
        let region = self.settings.aws.region.as_ref();
        let region = region.ok_or_else(|| "no AWS region is known; set aws.region".to_owned())?;
        let config = aws::connect(region, endpoints(&self.settings.aws.endpoints)).await.counting(&self.aws_calls);
        let identity = aws::identity(&config).await.map_err(|error| sentence(&error))?;
        Ok((config, identity))
    }

    /// A new look begins: what failed in the last one is asked again.
    pub fn look_again(&mut self) {
        self.aws_failure = None;
    }

    fn clients(&self, config: &AwsConfig, account: &AccountId, partition: Partition) -> AwsClients {
        let bucket = match &self.settings.issuer.store {
            Location::S3 { bucket, .. } => Some(S3Store::new(config, bucket, account)),
            Location::File(_) => None,
        };
        let provider_arn = oidc_provider_arn(partition, account, &self.settings.issuer.url);
        let keyring = &self.settings.keyring;
        let keyring_bucket = match &keyring.store {
            KeyringLocation::Outside(Location::S3 { bucket, .. }) => Some(S3Store::private(config, bucket, account)),
            KeyringLocation::Outside(Location::File(_)) | KeyringLocation::Kubernetes => None,
        };
        let kms = keyring.kms_key.as_ref().map(|key| Kms::new(config, key));
        AwsClients {
            account: account.clone(),
            partition,
            iam: Iam::new(config),
            provider_arn,
            bucket,
            keyring_bucket,
            kms,
        }
    }

    /// The issuer's store.
    ///
    /// # Errors
    /// As [`World::aws`].
    pub async fn documents(&mut self) -> Result<AnyStore, String> {
        match &self.settings.issuer.store {
            Location::File(folder) => Ok(AnyStore::File(FileStore::new(self.root.path(), folder))),
            Location::S3 { .. } => {
                let bucket = self.aws().await?.bucket;
                bucket.map(AnyStore::S3).ok_or_else(|| "the issuer has no bucket".to_owned())
            }
        }
    }

    /// The keyring's store; Secrets are asked for through `api`.
    ///
    /// # Errors
    /// As [`World::aws`], and where no API server can be asked.
    pub async fn keyring(&mut self, api: Option<&ApiServer>) -> Result<KeyringStore, String> {
        let location = self.settings.keyring.store.clone();
        let prefix = location.prefix().to_owned();
        let store = match location {
            KeyringLocation::Kubernetes => {
                let api = api.ok_or_else(|| "for an API server, which has the keyring".to_owned())?;
                AnyStore::Secrets(SecretStore::new(api.clone()))
            }
            KeyringLocation::Outside(Location::File(folder)) => {
                AnyStore::File(FileStore::private(self.root.path(), &folder))
            }
            KeyringLocation::Outside(Location::S3 { .. }) => {
                let bucket = self.aws().await?.keyring_bucket;
                AnyStore::S3(bucket.ok_or_else(|| "the keyring has no bucket".to_owned())?)
            }
        };
        Ok(KeyringStore { store, prefix })
    }

    /// Private halves in the keyring's store.
    ///
    /// # Errors
    /// As [`World::aws`], where a KMS key is configured.
    pub async fn private_keys(&mut self) -> Result<PrivateKeys, String> {
        let kms = match self.settings.keyring.kms_key {
            Some(_) => self.aws().await?.kms,
            None => None,
        };
        let Settings { cluster, keyring, .. } = &self.settings;
        Ok(PrivateKeys::new(cluster.as_str(), keyring.store.prefix(), kms))
    }

    /// A client of this node's API server; the one of the last pass where nothing about it has changed.
    ///
    /// # Errors
    /// The kubeconfig is of no use; the sentence names it.
    pub fn api_server(
        &mut self,
        path: &Path,
        kubeconfig: &[u8],
        address: &str,
        port: u16,
    ) -> Result<ApiServer, String> {
        if let Some(known) = self.api_server.as_ref().filter(|known| known.is_made_from(kubeconfig, address, port)) {
            return Ok(known.clone());
        }
        let client = ApiServer::connect(kubeconfig, address, port)
            .map_err(|error| format!("{}: {}", path.display(), sentence(&error)))?;
        self.api_server = Some(client.clone());
        Ok(client)
    }

    /// The API server that was asked last.
    pub fn asked_api_server(&self) -> Option<ApiServer> {
        self.api_server.clone()
    }
}
