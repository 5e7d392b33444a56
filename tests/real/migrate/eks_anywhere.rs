//! A node of EKS Anywhere with `podIamConfig`: kubeadm's files, the issuer that the operator gave, documents that the operator has put there.

use std::fs;

use super::{
    DISCOVERY, LOCATION, MANIFEST, MIGRATE_CONFIG, flags_that_irsad_adds, machine, make_provider, put, without_webhook,
};
use crate::{
    cloud::Cloud,
    irsad::{Machine, Result, project},
    kubernetes::{self, Node, PROGRAMS},
};

const ISSUER: &str = "https://s3.eu-west-1.amazonaws.com/eksa-oidc/pod-identity";
/// The key pair of the documents of the fixture, and the one flag that `podIamConfig` sets.
fn as_eks_anywhere(machine: &Machine) -> Result {
    let keys = project().join("tests/fixtures/test-keys");
    for (file, key) in [("sa.key", "rsa-2048.pkcs1.pem"), ("sa.pub", "rsa-2048.spki.pem")] {
        fs::copy(keys.join(key), machine.path(&format!("/etc/kubernetes/pki/{file}")))?;
    }
    let default = "service-account-issuer=https://kubernetes.default.svc.cluster.local";
    let text = machine.read(MANIFEST)?.replace(default, &format!("service-account-issuer={ISSUER}"));
    Ok(fs::write(machine.path(MANIFEST), text)?)
}

#[tokio::test]
async fn node_of_eks_anywhere_keeps_issuer_and_keys_in_what_irsad_plans_next() -> Result {
    if kubernetes::programs().is_none() {
        crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
        return Ok(());
    }
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let fixture = project().join("tests/fixtures/migrate/eks-anywhere-0.20-by-hand");
    put("/eksa-oidc", LOCATION).await?;
    for (key, file) in [("keys.json", "keys.json"), (DISCOVERY, "discovery.json")] {
        let text = fs::read_to_string(fixture.join(file))?.replace("us-west-2", "eu-west-1");
        put(&format!("/eksa-oidc/pod-identity/{key}"), &text).await?;
    }
    make_provider(ISSUER, &[]).await?;
    let node = Node::start_with(|root| as_eks_anywhere(&Machine::at(root))).await?;
    let machine = machine(&node.root(), &cloud);
    without_webhook(&machine)?;
    let said = machine.run(&["migrate", "eks-anywhere", "--cluster", "eksa", "--yes"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(machine.read(MIGRATE_CONFIG)?.contains(&format!("  url: {ISSUER}\n  jwksPath: keys.json\n")));
    let added = flags_that_irsad_adds(&node, &machine, ISSUER).await?;
    assert_eq!(added, [format!("service-account-jwks-uri={ISSUER}/keys.json")]);
    Ok(())
}
