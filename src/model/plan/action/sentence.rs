//! One step as a sentence for people, after "could not" and in the journal.

use std::fmt;

use super::{super::PublicAccessBlock, Action};
use crate::model::memory;

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeKeyPair { signing_key, verifying_keys } => {
                write!(f, "make an RSA-2048 signing key and its successor: {} and {}", verifying_keys.display(), signing_key.display())
            }
            Self::WriteVerifyingKeys { path, .. } => {
                write!(f, "write the public half of the signing key to {}", path.display())
            }
            Self::KeepPrivateKey { kid, .. } => write!(f, "keep the private half of key {kid} in the keyring"),
            Self::FoundKeyring { cluster, .. } => write!(f, "make the first key of cluster {cluster} and begin its keyring"),
            Self::WriteKeyring { keyring, what, .. } => {
                write!(f, "write generation {} of the keyring: {what}", keyring.generation)
            }
            Self::AddStandby { keyring, promotes: false, .. } => {
                write!(f, "write generation {} of the keyring: with a new standby key", keyring.generation)
            }
            Self::AddStandby { keyring, promotes: true, .. } => write!(
                f,
                "write generation {} of the keyring: the standby key signs from now on, and a new one stands by",
                keyring.generation
            ),
            Self::ApplyObject { what, .. } | Self::ReplaceObject { what, .. } => f.write_str(what),
            Self::DeleteObject { place, .. } => write!(f, "delete {place}"),
            Self::MakeWebhookCertificate { secret, is_next: false, .. } => {
                write!(f, "make a certificate for the upstream webhook and keep it in {secret}")
            }
            Self::MakeWebhookCertificate { secret, is_next: true, .. } => {
                write!(f, "make the next certificate of the upstream webhook and keep it in {secret}")
            }
            Self::UseNextWebhookCertificate { secret, .. } => {
                write!(f, "let the upstream webhook serve with the next certificate of {secret}")
            }
            Self::Acknowledge { ack, .. } => {
                write!(f, "tell the other nodes what kube-apiserver of {} shows", ack.node)
            }
            Self::RememberKeyring { generation, .. } => write!(f, "remember generation {generation} of the keyring"),
            Self::ForgetStandbyKey => write!(f, "remove {}: the keyring has what it needs", memory::STANDBY_KEY),
            Self::ReplaceVerifyingKeys { path, .. } => {
                write!(f, "write the keys that are to be accepted to {}", path.display())
            }
            Self::ReplaceSigningKey { path, kid, .. } => write!(f, "write key {kid} to {}", path.display()),
            Self::CreateBucket { bucket, region, tag: None } => write!(f, "create bucket {bucket} in {region}"),
            Self::CreateBucket { bucket, region, tag: Some((key, value)) } => {
                write!(f, "create bucket {bucket} in {region} with tag {key}={value}")
            }
            Self::SetPublicAccessBlock { bucket, block: PublicAccessBlock::ALL } => {
                write!(f, "block all public access to bucket {bucket}")
            }
            Self::EnableVersioning { bucket } => write!(f, "keep every version of every object of bucket {bucket}"),
            Self::SetKeyringBucketPolicy { bucket, .. } => {
                write!(f, "let keys in bucket {bucket} be created only once, nothing be deleted, and nobody ask without TLS")
            }
            Self::SetPublicAccessBlock { bucket, .. } => {
                write!(f, "set the public access block of bucket {bucket}: no public ACLs, public policy allowed")
            }
            Self::SetBucketPolicy { bucket, .. } => {
                write!(f, "let everybody read exactly the two public documents of bucket {bucket}")
            }
            Self::RememberPublishedKeys(keys) => {
                let kids: Vec<&str> = keys.keys.iter().filter_map(|key| key.jwk.kid()).collect();
                write!(f, "remember which keys are published: {}", kids.join(", "))
            }
            Self::Publish { url, replaces: None, .. } => write!(f, "publish {url}"),
            Self::Publish { url, replaces: Some(_), .. } => write!(f, "publish {url} anew"),
            Self::CreateProvider { issuer, .. } => write!(f, "create the IAM OIDC provider of {issuer}"),
            Self::AddProviderAudience { audience } => write!(f, "add audience {audience} to the IAM OIDC provider"),
            Self::SaveLastGood { .. } => f.write_str("keep a copy of the manifest and key files that run now"),
            Self::BeginChange(_) => f.write_str("write down that a change of the manifest begins"),
            Self::ReplaceManifest { path, .. } => {
                write!(f, "replace {}; kubelet restarts kube-apiserver if it runs it", path.display())
            }
            Self::ConfirmChange => f.write_str("note that the running kube-apiserver proved the change"),
            Self::PersistToKubeadm { .. } => f.write_str(
                "put our flags into ConfigMap kube-system/kubeadm-config, so that kubeadm upgrade and kubeadm join keep them",
            ),
            Self::RememberProven { .. } => {
                f.write_str("keep what kube-apiserver proved, to put it back before the next boot")
            }
            Self::ForgetProven(_) => {
                f.write_str("forget what kube-apiserver proved, it is no longer put back before a boot")
            }
            Self::ForgetChange => f.write_str("forget a change that is no longer in the manifest"),
            Self::RefuseChange(_) => f.write_str("note that the change failed, so that it is not tried again"),
            Self::DeleteProvider { issuer } => write!(f, "delete the IAM OIDC provider of {issuer}"),
            Self::DeleteDocument { url, .. } => write!(f, "delete {url}"),
            Self::CloseBucket { bucket, policy: Some(_) } => write!(f, "take our statement out of the policy of bucket {bucket}"),
            Self::CloseBucket { bucket, policy: None } => write!(f, "delete the policy of bucket {bucket}, which was ours alone"),
            Self::RemoveRole { name, owner } => write!(f, "remove role {name} of the {owner}"),
            Self::DeleteBucket { bucket } => write!(f, "delete bucket {bucket}, which is empty"),
            Self::LetGoOfRoleObject(object) => {
                write!(f, "let go of ServiceAccountRole {}, so that it can be deleted without irsad", object.name)
            }
            Self::RememberTornDown(torn_down) => {
                write!(f, "note that kube-apiserver signs as {} again and that nothing is left to do here", torn_down.issuer)
            }
            Self::ForgetTornDown => write!(f, "remove {}: the cluster is to have our issuer again", memory::TORN_DOWN),
            Self::DeleteKeyring { .. } => f.write_str("delete the keyring: evidence, private halves, and the shared document last"),
            Self::TellOfMissedPods { pods, .. } => {
                let names: Vec<String> = pods.iter().take(5).map(|pod| pod.name.to_string()).collect();
                let more = if pods.len() > names.len() { ", …" } else { "" };
                let (count, names) = (pods.len(), names.join(", "));
                write!(f, "write an Event on each of {count} pods that run without AWS credentials: {names}{more}")
            }
        }
    }
}
