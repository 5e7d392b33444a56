//! Where kops looks after the discovery documents itself, irsad stands aside: two publishers would overwrite each other's keys.

use crate::model::{manifest::Manifest, s3_address::has_bucket_in_host};

use super::{Desired, NodeFacts};

/// Where kops' nodeup puts the files of the API server (kubernetes/kops, `nodeup/pkg/model/context.go`, `PathSrvKubernetes`).
const KOPS_FOLDER: &str = "/srv/kubernetes/";

/// What to tell where kops publishes the documents of the issuer in use; `None` where it does not, or where our issuer is in use.
pub(super) fn publishes_itself(desired: &Desired, node: &NodeFacts) -> Option<String> {
    let issuer = its_issuer(&node.manifest.present()?.0, desired.issuer.as_str())?;
    Some(format!(
        "kops publishes the discovery documents of {issuer} itself, so irsad leaves {}, {} and IAM alone: stop irsad on this node \
         (systemctl disable --now irsad), or hand over to it: in the cluster spec put kubeAPIServer.serviceAccountIssuer in the \
         place of serviceAccountIssuerDiscovery",
        desired.manifest.display(),
        desired.store
    ))
}

/// The issuer of kops' own documents, which a manifest without `ours` signs as.
///
/// `serviceAccountIssuerDiscovery.discoveryStore` makes the address of an S3 bucket the issuer; without it kops takes the API's own
/// name, or the issuer that the cluster spec gives (kubernetes/kops, `pkg/model/components/discovery.go`).
pub(super) fn its_issuer<'a>(manifest: &'a Manifest, ours: &str) -> Option<&'a str> {
    let made_by_kops = manifest.signing_key_file().is_some_and(|file| file.starts_with(KOPS_FOLDER));
    let ours_is_in_use = manifest.issuers().iter().any(|issuer| issuer == ours);
    let issuer = manifest.issuers().first().filter(|issuer| has_bucket_in_host(issuer))?;
    (made_by_kops && !ours_is_in_use).then_some(issuer.as_str())
}
