//! One step of a plan: data, complete, so that carrying it out takes no further decision.

mod sentence;

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::{
    cluster_object::{ClusterObject, ObjectPlace},
    file::ExpectedFile,
    issuer::{Audience, IssuerUrl},
    keyring::{Keyring, KeyringKey},
    location::BucketName,
    memory::{Change, Proven, PublishedKey, PublishedKeys, RefusedChange, TornDown},
    missed_pods::MissedPod,
    region::Region,
    role::{Owner, RoleName},
    rotation::Ack,
    service_account_role::ServiceAccountRole,
};

use super::PublicAccessBlock;

/// One step. Idempotent, or guarded by what it expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make an RSA-2048 pair and write the signing key file, then the verification file, which follows from it; neither may be there.
    MakeKeyPair {
        /// Private half, 0600.
        signing_key: PathBuf,
        /// Public half.
        verifying_keys: PathBuf,
    },
    /// Write the verification file that belongs to the signing key; it may not be there.
    WriteVerifyingKeys {
        /// Where.
        path: PathBuf,
        /// SPKI blocks.
        pem: String,
    },
    /// Keep the private half of the key in a signing key file in the keyring's store, where it is not kept yet.
    KeepPrivateKey {
        /// Signing key file.
        path: PathBuf,
        /// Key that must be in it.
        kid: String,
    },
    /// Make a key, keep its private half, and begin the keyring of a new cluster with it, if there still is none.
    FoundKeyring {
        /// Name of the cluster.
        cluster: String,
        /// Its issuer.
        issuer: String,
        /// Keys that stay accepted beside it.
        others: Vec<KeyringKey>,
        /// Keys that stay published beside it.
        leaving: Vec<PublishedKey>,
        /// Now.
        at: Timestamp,
    },
    /// Write the keyring, if it still is what was read.
    WriteKeyring {
        /// The whole next generation.
        keyring: Box<Keyring>,
        /// Version that was read; `None` where there was none.
        replaces: Option<String>,
        /// What it changes, for people.
        what: String,
    },
    /// Make a key, keep its private half, and write the keyring with it as the standby, if it still is what was read.
    AddStandby {
        /// The next generation without it.
        keyring: Box<Keyring>,
        /// The standby before it begins to sign.
        promotes: bool,
        /// Version that was read.
        replaces: String,
        /// Now.
        at: Timestamp,
    },
    /// Tell the other nodes what this one's API server shows.
    Acknowledge {
        /// The evidence.
        ack: Box<Ack>,
        /// Version that was read; `None` where there was none.
        replaces: Option<String>,
    },
    /// Remember the keyring that this node follows from now on.
    RememberKeyring {
        /// Its generation.
        generation: u64,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Remove the private half of a standby key that the keyring has by now.
    ForgetStandbyKey,
    /// Replace the verification file.
    ReplaceVerifyingKeys {
        /// Where.
        path: PathBuf,
        /// SPKI blocks.
        pem: String,
        /// What must still be there.
        expected: ExpectedFile,
    },
    /// Fetch a key's private half from the keyring's store and put it into the signing key file.
    ReplaceSigningKey {
        /// Where.
        path: PathBuf,
        /// Which.
        kid: String,
        /// What must still be there.
        expected: ExpectedFile,
    },
    /// Create the issuer's or the keyring's bucket.
    CreateBucket {
        /// Name.
        bucket: BucketName,
        /// Where.
        region: Region,
        /// Key and value by which it is known as ours afterwards; `None` for the keyring's, which irsad never deletes.
        tag: Option<(String, String)>,
    },
    /// Set the bucket's public access block.
    SetPublicAccessBlock {
        /// Name.
        bucket: BucketName,
        /// All four switches.
        block: PublicAccessBlock,
    },
    /// Set the bucket's policy.
    SetBucketPolicy {
        /// Name.
        bucket: BucketName,
        /// The whole document.
        policy: String,
    },
    /// Let S3 keep every version of every object of the keyring's bucket.
    EnableVersioning {
        /// Name.
        bucket: BucketName,
    },
    /// Set the policy of the keyring's bucket.
    SetKeyringBucketPolicy {
        /// Name.
        bucket: BucketName,
        /// The whole document.
        policy: String,
    },
    /// Remember which keys are published, before they are.
    RememberPublishedKeys(PublishedKeys),
    /// Write one public document.
    Publish {
        /// Key or relative path in the store.
        key: String,
        /// Where an outsider finds it, for the report.
        url: String,
        /// The bytes.
        body: Vec<u8>,
        /// Version that was observed; `None` where there was no object.
        replaces: Option<String>,
    },
    /// Create the IAM OIDC provider with its tags in the same call.
    CreateProvider {
        /// URL.
        issuer: IssuerUrl,
        /// Client IDs.
        audiences: Vec<Audience>,
        /// Tags, ours first.
        tags: Vec<(String, String)>,
    },
    /// Add a client ID to our provider.
    AddProviderAudience {
        /// Client ID.
        audience: Audience,
    },
    /// Keep copies of the manifest, and of key files that the API server runs from, for a rollback.
    SaveLastGood {
        /// Manifest text.
        manifest: String,
        /// Key files to copy beside it.
        key_files: Vec<PathBuf>,
    },
    /// Write down that a change begins.
    BeginChange(Change),
    /// Replace the kube-apiserver manifest; kubelet restarts the API server.
    ReplaceManifest {
        /// Where.
        path: PathBuf,
        /// The whole new text.
        text: String,
        /// The text it was made from.
        old_text: String,
        /// What must still be there.
        expected: ExpectedFile,
    },
    /// The running API server proved the change: forget that it is under way.
    ConfirmChange,
    /// Put our flags into ConfigMap `kube-system/kubeadm-config`, if it still is what was observed.
    PersistToKubeadm {
        /// The whole ClusterConfiguration.
        text: String,
        /// `resourceVersion` that was observed.
        resource_version: String,
    },
    /// Keep what the API server proved, with copies of its files, for `irsad restore`.
    RememberProven {
        /// The record.
        proven: Proven,
        /// Text of the manifest that it names.
        manifest: String,
    },
    /// Apply an object of ours in the cluster; what others have added to it stays.
    ApplyObject {
        /// The object, as far as it is ours to say.
        object: Box<ClusterObject>,
        /// `metadata.uid` of the one that is there; `None` where there was none, and none is taken over.
        replaces: Option<String>,
        /// The sentence for people.
        what: String,
    },
    /// Replace an object of ours in the cluster, if it still is what was observed.
    ReplaceObject {
        /// Where it lies.
        place: ObjectPlace,
        /// The whole object, with the `resourceVersion` that was observed.
        body: Box<Value>,
        /// The sentence for people.
        what: String,
    },
    /// Delete an object of ours from the cluster, if it still is what was observed.
    DeleteObject {
        /// Where it lies.
        place: ObjectPlace,
        /// `metadata.uid`.
        uid: String,
        /// `metadata.resourceVersion`.
        resource_version: String,
    },
    /// Make a certificate for the upstream webhook and keep it in its Secret.
    MakeWebhookCertificate {
        /// Where the Secret lies.
        secret: ObjectPlace,
        /// DNS names that the certificate is for.
        names: Vec<String>,
        /// `resourceVersion` of the Secret; `None` where there was none.
        replaces: Option<String>,
        /// It waits for the API servers to trust it; otherwise it is put to use at once.
        is_next: bool,
        /// Now.
        at: Timestamp,
    },
    /// Let the upstream webhook serve with the certificate that waits in its Secret.
    UseNextWebhookCertificate {
        /// Where the Secret lies.
        secret: ObjectPlace,
        /// `resourceVersion` that was observed.
        replaces: String,
    },
    /// Forget what the API server proved: it is no longer ours to put back.
    ForgetProven(Proven),
    /// Forget a change that never reached the manifest, or that somebody else has undone.
    ForgetChange,
    /// Write down that the change failed, so that it is not tried again.
    RefuseChange(RefusedChange),
    /// Delete the IAM OIDC provider, which is ours.
    DeleteProvider {
        /// Its URL.
        issuer: IssuerUrl,
    },
    /// Delete one public document.
    DeleteDocument {
        /// Key or relative path in the store.
        key: String,
        /// Where an outsider found it, for the report.
        url: String,
    },
    /// Take our statement out of the policy of a bucket that stays; `None`: nothing else stands in it, and it goes.
    CloseBucket {
        /// Name.
        bucket: BucketName,
        /// The whole document.
        policy: Option<String>,
    },
    /// Remove an IAM role of a service account, which is ours, and its policies before it.
    RemoveRole {
        /// Its name.
        name: RoleName,
        /// What asked for it.
        owner: Owner,
    },
    /// Take our finalizer off an object whose role is gone.
    LetGoOfRoleObject(ServiceAccountRole),
    /// Delete the issuer's bucket, which is ours and empty.
    DeleteBucket {
        /// Name.
        bucket: BucketName,
    },
    /// Write down that the cluster does without our issuer again, and forget the keyring.
    RememberTornDown(TornDown),
    /// Forget that: the cluster is to have our issuer again.
    ForgetTornDown,
    /// Delete the keyring from its store: evidence and private halves, then the shared document.
    DeleteKeyring {
        /// Version of the shared document that says that nothing is left to do.
        version: String,
    },
    /// Write an Event on each pod that runs without the credentials that it should have.
    TellOfMissedPods {
        /// The pods.
        pods: Vec<MissedPod>,
        /// Name of this node.
        node: String,
        /// Now.
        at: Timestamp,
    },
}

impl Action {
    /// Whether it writes the next generation of the shared document, which one pass can do once.
    pub fn writes_keyring(&self) -> bool {
        matches!(self, Self::WriteKeyring { .. } | Self::AddStandby { .. } | Self::FoundKeyring { .. })
    }

    /// Whether other nodes have something to do about it, or wait for it.
    pub fn is_news(&self) -> bool {
        self.writes_keyring() || matches!(self, Self::Acknowledge { .. })
    }

    /// One word for it, as the journal field `IRSAD_ACTION` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MakeKeyPair { .. } => "make-key-pair",
            Self::WriteVerifyingKeys { .. } => "write-verifying-keys",
            Self::CreateBucket { .. } => "create-bucket",
            Self::SetPublicAccessBlock { .. } => "set-public-access-block",
            Self::SetBucketPolicy { .. } => "set-bucket-policy",
            Self::EnableVersioning { .. } => "enable-versioning",
            Self::SetKeyringBucketPolicy { .. } => "set-keyring-bucket-policy",
            Self::KeepPrivateKey { .. } => "keep-private-key",
            Self::FoundKeyring { .. } => "found-keyring",
            Self::WriteKeyring { .. } => "write-keyring",
            Self::AddStandby { promotes: true, .. } => "promote-standby",
            Self::AddStandby { promotes: false, .. } => "add-standby",
            Self::Acknowledge { .. } => "acknowledge",
            Self::ApplyObject { .. } => "apply-object",
            Self::ReplaceObject { .. } => "replace-object",
            Self::DeleteObject { .. } => "delete-object",
            Self::MakeWebhookCertificate { .. } => "make-webhook-certificate",
            Self::UseNextWebhookCertificate { .. } => "use-next-webhook-certificate",
            Self::RememberKeyring { .. } => "remember-keyring",
            Self::ForgetStandbyKey => "forget-standby-key",
            Self::ReplaceVerifyingKeys { .. } => "replace-verifying-keys",
            Self::ReplaceSigningKey { .. } => "replace-signing-key",
            Self::RememberPublishedKeys(_) => "remember-published-keys",
            Self::Publish { .. } => "publish",
            Self::CreateProvider { .. } => "create-provider",
            Self::AddProviderAudience { .. } => "add-provider-audience",
            Self::SaveLastGood { .. } => "save-last-good",
            Self::BeginChange(_) => "begin-change",
            Self::ReplaceManifest { .. } => "replace-manifest",
            Self::ConfirmChange => "confirm-change",
            Self::PersistToKubeadm { .. } => "persist-to-kubeadm",
            Self::RememberProven { .. } => "remember-proven",
            Self::ForgetProven(_) => "forget-proven",
            Self::ForgetChange => "forget-change",
            Self::RefuseChange(_) => "refuse-change",
            Self::TellOfMissedPods { .. } => "tell-of-missed-pods",
            Self::DeleteProvider { .. } => "delete-provider",
            Self::DeleteDocument { .. } => "delete-document",
            Self::CloseBucket { .. } => "close-bucket",
            Self::RemoveRole { .. } => "remove-role",
            Self::DeleteBucket { .. } => "delete-bucket",
            Self::LetGoOfRoleObject(_) => "let-go-of-role-object",
            Self::RememberTornDown(_) => "remember-torn-down",
            Self::ForgetTornDown => "forget-torn-down",
            Self::DeleteKeyring { .. } => "delete-keyring",
        }
    }
}
