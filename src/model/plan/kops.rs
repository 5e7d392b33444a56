//! Where kops looks after the discovery documents itself, irsad stands aside: two publishers would overwrite each other's keys.

use crate::model::{manifest::Manifest, region::Partition};

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
    let issuer = manifest.issuers().first().filter(|issuer| is_in_a_bucket(issuer))?;
    (made_by_kops && !ours_is_in_use).then_some(issuer.as_str())
}

/// An S3 address with the bucket in the host name, dual-stack ones included.
fn is_in_a_bucket(issuer: &str) -> bool {
    let host = issuer.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let is_of_aws = Partition::ALL.iter().any(|partition| host.ends_with(&format!(".{}", partition.dns_suffix())));
    host.contains(".s3.") && is_of_aws
}

#[cfg(test)]
mod tests {
    use super::is_in_a_bucket;

    #[test]
    fn address_of_a_bucket_is_told_from_a_name_of_the_api() {
        for (issuer, expected) in [
            ("https://discovery.s3.eu-west-1.amazonaws.com/prod-1.example.com", true),
            ("https://discovery.s3.dualstack.us-east-2.amazonaws.com/prod-1.example.com/discovery", true),
            ("https://discovery.s3.cn-north-1.amazonaws.com.cn/prod-1.example.com", true),
            ("https://api.internal.prod-1.example.com", false),
            ("https://api.internal.s3.example.com", false),
            ("https://irsa.example.com/s3.amazonaws.com", false),
            ("kubernetes/serviceaccount", false),
        ] {
            assert_eq!(is_in_a_bucket(issuer), expected, "{issuer}");
        }
    }
}
