//! What was observed, as the planner needs it. Filled in by `observe`, compared by the plans.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    file::Digest,
    issuer::Audience,
    jwks::Jwks,
    key::PublicKey,
    keyring::{HighWater, Keyring},
    manifest::Manifest,
    memory::{Change, Proven, PublishedKeys, RefusedChange, TornDown},
    probe::Probe,
    rotation::{Ack, ControlPlane, Held},
};

use super::{
    DesiredKeyringBucket, KeyringBucketFacts, PodsFacts, StoredKubeadmConfig, TeardownFacts, TrustPolicyFacts,
    WebhookFacts,
};

/// Largest difference to another clock with which ages still count: AWS takes signatures that are as far off.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Everything one pass observed.
#[derive(Debug, Clone)]
pub struct Facts {
    /// This node.
    pub node: NodeFacts,
    /// What the cluster shares.
    pub cluster: ClusterFacts,
    /// What its control-plane nodes agree on.
    pub shared: Shared,
    /// The pod-identity webhook.
    pub webhook: WebhookFacts,
    /// Pods without the credentials that they should have; `None` where they were not asked for: the leader alone does.
    pub pods: Option<Probe<PodsFacts>>,
    /// The ConfigMap with the trust policy; `None` where it was not asked for: the leader alone does.
    pub trust_policy: Option<TrustPolicyFacts>,
    /// What is to be removed; `None` where nothing is, or where another node does it.
    pub teardown: Option<TeardownFacts>,
}

/// The keyring and what is known of the other nodes.
#[derive(Debug, Clone)]
pub enum Shared {
    /// Nothing runs that could be asked, and this node has never followed a keyring: it works from the keys on its disk.
    Nothing,
    /// It could not be read: nothing that it decides is changed.
    Unknown(String),
    /// It was read.
    Seen(Box<SharedFacts>),
}

/// One look at the keyring's store and at the control plane.
#[derive(Debug, Clone)]
pub struct SharedFacts {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this node.
    pub node: String,
    /// The keyring; Absent: there is none yet. One that is refused is Unknown.
    pub keyring: Probe<StoredKeyring>,
    /// Why that will not mend by itself: it is damaged, of another cluster, or its store must not be used.
    pub damage: Option<String>,
    /// The keyring that this node has followed last.
    pub applied: Probe<HighWater>,
    /// Evidence of all nodes that have given any.
    pub acks: Vec<Ack>,
    /// Version of this node's own in the store.
    pub own_version: Option<String>,
    /// Another machine writes under this node's name, as well as this one.
    pub name_is_taken: bool,
    /// This machine and its boot, see [`Ack`].
    pub machine: String,
    /// See [`Ack::boot_id`].
    pub boot_id: String,
    /// Address of this node's API server.
    pub address: String,
    /// This process leads, or is the only one that can.
    pub leads: bool,
    /// Who leads, as the Lease says; `None` where nobody is known to.
    pub leader: Option<String>,
    /// Its nodes and API servers.
    pub control_plane: Probe<ControlPlane>,
    /// Other API servers that do not answer as ready ones, with the reason.
    pub not_ready: Vec<String>,
    /// Nodes whose controller manager or scheduler leads.
    pub controllers: Vec<String>,
    /// Keys that must stay accepted; Unknown where it was not asked.
    pub held: Probe<Vec<Held>>,
    /// The keyring's bucket; `None` where it is not in S3.
    pub bucket: Option<(DesiredKeyringBucket, Probe<KeyringBucketFacts>)>,
    /// Only one node can use this store: it is a folder.
    pub is_for_one_node: bool,
}

/// The keyring as it lies in its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKeyring {
    /// What it says.
    pub keyring: Keyring,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What a conditional write compares.
    pub version: String,
}

/// A file of which the content is known otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMark {
    /// Of its bytes.
    pub digest: Digest,
    /// When they were written.
    pub modified: Timestamp,
}

/// Files, API server and memory of this node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// The kube-apiserver manifest and the digest of its bytes. A manifest that is not understood is Unknown.
    pub manifest: Probe<(Manifest, Digest)>,
    /// Public half of the key in the signing key file. A file that is refused is Unknown.
    pub signing_key: Probe<PublicKey>,
    /// Public half of the key that was made here to sign next and that the keyring does not have yet.
    pub standby_key: Probe<PublicKey>,
    /// Keys of the verification file, in order. A file that is refused is Unknown.
    pub verifying_keys: Probe<Vec<PublicKey>>,
    /// The signing key file itself; `None` where it could not be read.
    pub signing_file: Option<FileMark>,
    /// The verification file itself; `None` where it could not be read.
    pub verifying_file: Option<FileMark>,
    /// When the manifest was last written; `None` where it could not be read.
    pub manifest_modified: Option<Timestamp>,
    /// kubelet has never started a kube-apiserver on this machine.
    pub never_started: bool,
    /// Keys published so far.
    pub published_keys: Probe<PublishedKeys>,
    /// The running API server.
    pub api_server: ApiServer,
    /// The cluster's API servers, this one included; Absent where none has registered. Unknown where they were not asked for.
    pub api_servers: Probe<Vec<String>>,
    /// ConfigMap `kube-system/kubeadm-config`, from which kubeadm writes manifests anew; Unknown where it was not asked for.
    pub kubeadm_config: Probe<StoredKubeadmConfig>,
    /// A process named kubeadm runs: it may be about to write the manifest.
    pub kubeadm_runs: bool,
    /// A change that is not proven yet. Unknown where the memory cannot be read.
    pub change: Probe<Change>,
    /// That change was begun since the machine was switched on: the API server did not start for another reason.
    pub change_is_of_this_boot: bool,
    /// How long this process has watched that change, by a clock that nobody sets.
    pub change_watched_for: Duration,
    /// The change that was rolled back last.
    pub refused: Probe<RefusedChange>,
    /// What the API server proved last.
    pub proven: Probe<Proven>,
    /// That the cluster does without our issuer again, as this node has written it down.
    pub torn_down: Probe<TornDown>,
    /// What is odd about the files and stops nothing.
    pub remarks: Vec<String>,
    /// Manifest text that was last known to run, for a rollback.
    pub last_good_manifest: Probe<String>,
}

/// What is known of this node's API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiServer {
    /// There is none and nothing is in use yet: no manifest, or a `--root` without a kubeconfig (image, demo). Files may be
    /// written without evidence.
    None,
    /// There is a manifest but no kubeconfig to ask its API server with.
    NoKubeconfig(String),
    /// It was asked and did not answer as a working one; the text says how.
    Silent(String),
    /// It answered.
    Seen(Evidence),
}

/// What a running API server process shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// `/readyz` is 200.
    pub ready: bool,
    /// Start of the process (`process_start_time_seconds`); `None` where it was not asked for or not to be had.
    pub started_at: Option<Timestamp>,
    /// `/openid/v1/jwks`: what this process verifies, whatever the files say now.
    pub served: Jwks,
    /// `issuer` of its own discovery document; `None` where discovery is off.
    pub issuer: Option<String>,
    /// A token that was minted to look at it.
    pub probe_token: Probe<ProbeToken>,
}

impl Evidence {
    /// Issuer of new tokens: a probe token shows it, else its own discovery document says it.
    pub fn signs_as(&self) -> Option<&str> {
        match &self.probe_token {
            Probe::Present(token) => Some(&token.issuer),
            Probe::Absent | Probe::Unknown(_) => self.issuer.as_deref(),
        }
    }
}

/// Header and claims of a token that this API server minted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeToken {
    /// Key it is signed with.
    pub kid: String,
    /// `iss`.
    pub issuer: String,
}

/// What the cluster shares, as seen from here.
#[derive(Debug, Clone)]
pub struct ClusterFacts {
    /// The issuer's bucket; `None` for a folder.
    pub bucket: Option<Probe<BucketFacts>>,
    /// Discovery document in the store.
    pub stored_discovery: Probe<StoredDocument>,
    /// JWKS in the store.
    pub stored_jwks: Probe<StoredDocument>,
    /// Discovery document through the issuer URL; `None` where no outsider can be asked (folder below a `--root`).
    pub public_discovery: Option<Probe<PublicDocument>>,
    /// JWKS through the issuer URL.
    pub public_jwks: Option<Probe<PublicDocument>>,
    /// The IAM provider; `None` where it is not ours to look after.
    pub provider: Option<Probe<ProviderFacts>>,
}

/// Settings of the issuer's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketFacts {
    /// Public access block; Absent where nothing is blocked.
    pub public_access_block: Probe<PublicAccessBlock>,
    /// Bucket policy as stored.
    pub policy: Probe<String>,
}

/// The four switches of S3's public access block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicAccessBlock {
    /// Refuse new public ACLs.
    pub block_public_acls: bool,
    /// Ignore public ACLs.
    pub ignore_public_acls: bool,
    /// Refuse public bucket policies.
    pub block_public_policy: bool,
    /// Public bucket policies let nobody in from outside.
    pub restrict_public_buckets: bool,
}

impl NodeFacts {
    /// Whether this node has published keys before: missing ones were taken away, they are not still to be made. A memory that
    /// cannot be read may hold some.
    pub fn had_keys(&self) -> bool {
        self.published_keys != Probe::Absent
    }

    /// Whether no API server runs here or has ever run: files may be written without evidence of one.
    pub fn nothing_runs(&self) -> bool {
        match self.api_server {
            ApiServer::None => true,
            ApiServer::Silent(_) | ApiServer::NoKubeconfig(_) => self.never_started,
            ApiServer::Seen(_) => false,
        }
    }
}

impl ClusterFacts {
    /// Where nothing was asked.
    pub fn unasked() -> Self {
        let why = || "this cluster does without irsad's issuer".to_owned();
        Self {
            bucket: None,
            stored_discovery: Probe::Unknown(why()),
            stored_jwks: Probe::Unknown(why()),
            public_discovery: None,
            public_jwks: None,
            provider: None,
        }
    }

    /// The stored JWKS. Without a bucket there is certainly none, whatever asking for it said.
    pub fn jwks(&self) -> &Probe<StoredDocument> {
        if self.bucket == Some(Probe::Absent) { &Probe::Absent } else { &self.stored_jwks }
    }

    /// What to say where this machine's clock and that of the server of the documents differ too much to count ages by.
    pub fn clock_differs(&self, now: Timestamp) -> Option<String> {
        let date = self.public_jwks.as_ref()?.present()?.date?;
        let difference = now.duration_since(date).abs();
        (difference > CLOCK_TOLERANCE).then(|| {
            format!(
                "this machine's clock differs by {} s from the one of the issuer's server: no key is retired or put to use; set the \
                 clock (chronyc tracking)",
                difference.as_secs()
            )
        })
    }

    /// The stored discovery document, likewise.
    pub fn discovery(&self) -> &Probe<StoredDocument> {
        if self.bucket == Some(Probe::Absent) { &Probe::Absent } else { &self.stored_discovery }
    }
}

impl PublicAccessBlock {
    /// For public documents: no public ACL of any kind, a public policy allowed.
    pub const FOR_PUBLIC_DOCUMENTS: Self = Self {
        block_public_acls: true,
        ignore_public_acls: true,
        block_public_policy: false,
        restrict_public_buckets: false,
    };

    /// Whether a policy that lets everybody in is refused, or without effect.
    pub fn blocks_public_policy(self) -> bool {
        self.block_public_policy || self.restrict_public_buckets
    }

    /// Nothing public at all, for a bucket with private objects.
    pub const ALL: Self = Self {
        block_public_acls: true,
        ignore_public_acls: true,
        block_public_policy: true,
        restrict_public_buckets: true,
    };
}

/// An object in the issuer's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// Bytes as stored.
    pub body: Vec<u8>,
    /// ETag or hash for a conditional write.
    pub version: String,
}

/// A document as an outsider gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicDocument {
    /// Bytes as served.
    pub body: Vec<u8>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The server's clock.
    pub date: Option<Timestamp>,
    /// How long a cache has kept it; `None` where it says nothing of one.
    pub age: Option<Duration>,
}

/// The IAM OIDC provider of our issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderFacts {
    /// Client IDs.
    pub audiences: Vec<Audience>,
    /// Carries the tag that irsad sets when it creates one for this cluster.
    pub is_ours: bool,
}
