//! Clusters that others have set up, taken over by irsad while they run.

mod eks_anywhere;
mod kops;

use std::{collections::BTreeSet, fs, path::Path};

use hyper::Method;
use irsad::model::key::PublicKey;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    adoption::rsa_pair,
    cloud::{
        ACCOUNT, Cloud,
        client::{call, send, signed},
        moto_address,
    },
    irsad::{Machine, Result},
    kubernetes::{self, Node, PROGRAMS},
    outsider,
};

const ENDPOINT: &str = "s3.eu-west-1.amazonaws.com";
const STS: &str = "sts.amazonaws.com";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const KOPS_MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.manifest";
const MIGRATE_CONFIG: &str = "/etc/irsad/irsad.yaml";
const PRIVATE: &str = "/etc/kubernetes/pki/sa-signer.key";
const PUBLIC: &str = "/etc/kubernetes/pki/sa-signer-pkcs8.pub";
const DISCOVERY: &str = ".well-known/openid-configuration";
const LOCATION: &str =
    "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
const MIGRATE: [&str; 4] = ["migrate", "aws-guide", "--cluster", "migrated"];

/// A cluster that a person has set up by the AWS guide for self-hosted clusters: its own key pair and bucket, objects made public one by
/// one, as before April 2023.
struct ByTheGuide {
    node: Node,
    cloud: Cloud,
    machine: Machine,
    bucket: &'static str,
    issuer: String,
}

impl ByTheGuide {
    /// `None`, and said, where this machine lacks a part.
    async fn start(bucket: &'static str) -> Result<Option<Self>> {
        if kubernetes::programs().is_none() {
            crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
            return Ok(None);
        }
        let Some(cloud) = Cloud::start() else { return Ok(None) };
        let (private, public) = rsa_pair()?;
        let issuer = format!("https://{ENDPOINT}/{bucket}");
        let node = Node::start_with(|root| flags_by_the_guide(root, &issuer, [&private, &public])).await?;
        let machine = machine(&node.root(), &cloud);
        without_webhook(&machine)?;
        publish_by_the_guide(bucket, &issuer, &public).await?;
        Ok(Some(Self { node, cloud, machine, bucket, issuer }))
    }

    /// Applies objects; definitions among them are in use then.
    async fn apply(&self, name: &str, text: &str) -> Result {
        let place = format!("/root/{name}");
        self.machine.write(&place, text)?;
        self.node.kubectl(&["apply", "--filename", &self.machine.path(&place).display().to_string()]).await?;
        let wait = ["wait", "--for=condition=Established", "--timeout=30s", "customresourcedefinition", "--all"];
        self.node.kubectl(&wait).await.map(drop)
    }

    /// Key ids that a stranger finds.
    async fn published_kids(&self) -> Result<Vec<String>> {
        let address = moto_address()?;
        let stream = TcpStream::connect(address).await?;
        let target = format!("/{}/keys.json", self.bucket);
        let (status, body) = send(stream, &address.to_string(), Method::GET, &target, &[], "").await;
        if status != 200 {
            return Err(format!("{target}: {status} {body}").into());
        }
        let jwks: Value = serde_json::from_str(&body)?;
        let keys = jwks["keys"].as_array().ok_or("keys")?;
        Ok(keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect())
    }
}

/// irsad below `root`, which finds AWS as it would on an instance.
fn machine(root: &Path, cloud: &Cloud) -> Machine {
    let mut machine = Machine::at(root);
    cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
    machine
}

/// The daemon serves it, and one pass is no daemon; several nodes here share the ports.
fn without_webhook(machine: &Machine) -> Result {
    machine.write("/etc/irsad/irsad.d/test.yaml", "webhook: { mode: none }\nmetrics: { port: 0 }\n")
}

fn flags_by_the_guide(root: &Path, issuer: &str, [private, public]: [&str; 2]) -> Result {
    let machine = Machine::at(root);
    machine.write(PRIVATE, private)?;
    machine.write(PUBLIC, public)?;
    let default = "    - --service-account-issuer=https://kubernetes.default.svc.cluster.local\n";
    let text = machine.read(MANIFEST)?;
    let text = text
        .replace(default, &format!("    - --service-account-issuer={issuer}\n{default}"))
        .replace(
            "    - --service-account-key-file=/etc/kubernetes/pki/sa.pub\n",
            &format!(
                "    - --service-account-key-file=/etc/kubernetes/pki/sa.pub\n    - --service-account-key-file={PUBLIC}\n"
            ),
        )
        .replace("signing-key-file=/etc/kubernetes/pki/sa.key", &format!("signing-key-file={PRIVATE}"));
    Ok(fs::write(machine.path(MANIFEST), text)?)
}

/// Asks moto itself, past all rules, as the person with the guide does.
async fn put(target: &str, body: &str) -> Result {
    let address = moto_address()?;
    let headers =
        [signed("s3"), ("x-amz-acl", "public-read".to_owned()), ("content-type", "application/json".to_owned())];
    let stream = TcpStream::connect(address).await?;
    let (status, answer) = send(stream, &address.to_string(), Method::PUT, target, &headers, body).await;
    if status < 300 { Ok(()) } else { Err(format!("{target}: {status} {answer}").into()) }
}

/// The documents as the guide's own program writes them: the issuer of the discovery document has a slash at its end, and the key stands
/// a second time without an id.
async fn publish_by_the_guide(bucket: &str, issuer: &str, public: &str) -> Result {
    let key = PublicKey::read_all(public.as_bytes())?.remove(0);
    let jwk = serde_json::to_value(irsad::model::jwks::Jwk::of(&key))?;
    let mut nameless = jwk.clone();
    nameless["kid"] = json!("");
    let discovery = json!({
        "issuer": format!("{issuer}/"),
        "jwks_uri": format!("{issuer}/keys.json"),
        "authorization_endpoint": "urn:kubernetes:programmatic_authorization",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["sub", "iss"],
    });
    put(&format!("/{bucket}"), LOCATION).await?;
    put(&format!("/{bucket}/keys.json"), &json!({ "keys": [jwk, nameless] }).to_string()).await?;
    put(&format!("/{bucket}/{DISCOVERY}"), &discovery.to_string()).await?;
    make_provider(issuer, &[]).await
}

/// What the manifest says of service accounts, flag by flag.
fn account_flags(machine: &Machine) -> Result<BTreeSet<String>> {
    let text = machine.read(KOPS_MANIFEST).or_else(|_| machine.read(MANIFEST))?;
    let flags = text.lines().filter_map(|line| line.trim_start().strip_prefix("- --"));
    Ok(flags
        .filter(|flag| flag.starts_with("service-account-") || flag.starts_with("api-audiences"))
        .map(str::to_owned)
        .collect())
}

/// Lets irsad plan and then do all that it wants to, until it signs as `issuer` and says that all is well: the flags that the API server
/// has got by it. What it had it keeps, the key that signs too, and a token of before is still taken.
async fn flags_that_irsad_adds(node: &Node, machine: &Machine, issuer: &str) -> Result<Vec<String>> {
    let (token, before) = (node.mint(None).await?, account_flags(machine)?);
    let key = before.iter().find_map(|flag| flag.strip_prefix("service-account-signing-key-file=")).ok_or("a key")?;
    let signing = machine.read(key)?;
    let planned = machine.run(&["plan"])?;
    let is_removal = |line: &str| line.starts_with("-  ");
    assert!(planned.code == Some(0) && !planned.stdout.lines().any(is_removal), "{planned:?}");
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("STATUS=ok", |message| message.contains(&format!("STATUS=ok: kube-apiserver signs as {issuer}")))?;
    let after = account_flags(machine)?;
    assert!(before.is_subset(&after), "{before:?} became {after:?}");
    assert!(node.accepts(&token).await? && machine.read(key)? == signing);
    Ok(after.difference(&before).cloned().collect())
}

async fn make_provider(issuer: &str, more: &[(&str, &str)]) -> Result {
    let provider = [("Url", issuer), ("ClientIDList.member.1", STS), ("ThumbprintList.member.1", &"0".repeat(40))];
    let action = [("Action", "CreateOpenIDConnectProvider"), ("Version", "2010-05-08")];
    call("iam", &[&action[..], &provider[..], more].concat()).await.map(drop)
}

#[tokio::test]
async fn cluster_by_the_aws_guide_is_taken_over_and_its_old_tokens_stay_good() -> Result {
    let Some(scene) = ByTheGuide::start("oidc-test-kqzvbnwpxj").await? else { return Ok(()) };
    let (bucket, issuer) = (scene.bucket, scene.issuer.as_str());
    let host_path = format!("{ENDPOINT}/{bucket}");
    let (for_aws, for_api) = (scene.node.mint(Some(STS)).await?, scene.node.mint(None).await?);
    let old_kids = scene.published_kids().await?;

    let before = scene.machine.everything()?;
    let said = scene.machine.run(&MIGRATE)?;
    assert_eq!(said.code, Some(0), "{said:?}");
    for text in [
        format!(
            "- tag arn:aws:iam::{ACCOUNT}:oidc-provider/{host_path} with irsad/cluster=migrated: irsad looks after it from then on\n"
        ),
        format!("- add a statement to the policy of bucket {bucket}: anyone reads the two documents\n"),
        format!("+  store: s3://{bucket}\n+  url: {issuer}\n+  jwksPath: keys.json\n+  createBucket: false\n"),
        format!("+  signingKey: {PRIVATE}\n+  verifyingKeys: {PUBLIC}\n"),
    ] {
        assert!(said.stdout.contains(&text), "{text} is missing in {}", said.stdout);
    }
    assert!(said.stderr.ends_with("nothing changed; add --yes to do it\n"), "{}", said.stderr);
    assert!(scene.machine.everything()? == before, "files were changed");
    assert_eq!((scene.cloud.requests("PutBucketPolicy"), scene.cloud.requests("TagOpenIDConnectProvider")), (0, 0));

    let said = scene.machine.run(&[&MIGRATE[..], &["--yes"]].concat())?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut daemon = scene.machine.daemon(&[])?;
    daemon.hears("STATUS=ok", |message| message.contains(&format!("STATUS=ok: kube-apiserver signs as {issuer}")))?;
    // It gives the Lease back.
    daemon.signal("TERM")?;
    daemon.ended()?;

    let new_kids = scene.published_kids().await?;
    let lost: Vec<&String> = old_kids.iter().filter(|kid| !kid.is_empty() && !new_kids.contains(kid)).collect();
    assert!(lost.is_empty(), "{lost:?} of {old_kids:?}");
    let claims = outsider::verify_published(&for_aws, issuer, STS, &scene.cloud).await??;
    assert_eq!(claims["iss"], issuer);
    assert!(scene.node.accepts(&for_api).await?);
    let new = scene.node.mint(Some(STS)).await?;
    assert!(outsider::verify_published(&new, issuer, STS, &scene.cloud).await?.is_ok());
    assert_eq!(scene.cloud.requests("CreateOpenIDConnectProvider"), 0, "the provider that was there is used");

    let place = ["configmap", "irsad-trust-policy", "--namespace=kube-system"];
    let stored = |more: &'static str| [&["get"], &place[..], &[more]].concat();
    let good = scene.node.kubectl(&stored("--output=jsonpath={.data}")).await?;
    assert!(good.contains(&format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{host_path}")), "{good}");
    let edit = ["patch", place[0], place[1], place[2], "--patch", r#"{"data":{"trust-policy.json":"edited"}}"#];
    scene.node.kubectl(&edit).await?;
    let said = scene.machine.run(&["run", "--once"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(scene.node.kubectl(&stored("--output=jsonpath={.data}")).await?, good);

    // Once more: nothing is left to do.
    let said = scene.machine.run(&[&MIGRATE[..], &["--yes"]].concat())?;
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), "nothing to do: all of it is done already\n"), "{said:?}");
    assert!(scene.machine.read(MIGRATE_CONFIG)?.contains("cluster: migrated\n"));
    Ok(())
}

/// A definition of irsa-manager, as far as an API server needs it to keep objects.
fn definition(kind: &str) -> String {
    let name = kind.to_lowercase();
    format!(
        "apiVersion: apiextensions.k8s.io/v1\n\
         kind: CustomResourceDefinition\n\
         metadata: {{ name: {name}s.irsa-manager.kkb0318.github.io }}\n\
         spec:\n  \
           group: irsa-manager.kkb0318.github.io\n  \
           names: {{ kind: {kind}, listKind: {kind}List, plural: {name}s, singular: {name} }}\n  \
           scope: Namespaced\n  \
           versions:\n  \
           - name: v1alpha1\n    \
             served: true\n    \
             storage: true\n    \
             schema: {{ openAPIV3Schema: {{ type: object, x-kubernetes-preserve-unknown-fields: true }} }}\n"
    )
}

/// Objects of irsa-manager (kkb0318/irsa-manager `examples`).
const OBJECTS: &str = r#"
apiVersion: irsa-manager.kkb0318.github.io/v1alpha1
kind: IRSASetup
metadata: { name: irsa-init, namespace: kube-system }
spec: { cleanup: false, mode: selfhosted, discovery: { s3: { region: eu-west-1, bucketName: irsa-manager-test-f4vhae } } }
---
apiVersion: irsa-manager.kkb0318.github.io/v1alpha1
kind: IRSA
metadata: { name: irsa-sample, namespace: kube-system }
spec:
  cleanup: true
  serviceAccount: { name: irsa1-sa, namespaces: [kube-system, default] }
  iamRole: { name: irsa1-role }
  iamPolicies: [AmazonS3FullAccess]
"#;

#[tokio::test]
async fn objects_of_irsa_manager_are_read_from_the_api_server() -> Result {
    let Some(scene) = ByTheGuide::start("irsa-manager-test-f4vhae").await? else { return Ok(()) };
    let command = ["migrate", "irsa-manager", "--cluster", "migrated"];
    let said = scene.machine.run(&command)?;
    let refusal = "- this cluster does not know IRSASetup (nothing changed): irsa-manager is not installed; where its documents are still in \
                   use, irsad migrate aws-guide takes them over\n";
    assert!(said.code == Some(1) && said.stdout.contains(refusal), "{said:?}");

    let definitions = ["IRSASetup", "IRSA"].map(definition).join("---\n");
    scene.apply("definitions.yaml", &definitions).await?;
    scene.apply("objects.yaml", OBJECTS).await?;
    let said = scene.machine.run(&[&command[..], &["--yes"]].concat())?;
    assert_eq!(said.code, Some(0), "{said:?}");
    for text in [
        "+  roleName: irsa1-role.migrated\n",
        "+  - namespace: default\n+    name: irsa1-sa\n",
        "+roles:\n+  mode: crd\n",
    ] {
        assert!(said.stdout.contains(text), "{text} is missing in {said:?}");
    }
    assert_eq!(scene.machine.run(&["check-config"])?.code, Some(0));

    // What was written is what the definition of the objects takes.
    let definition = irsad::model::service_account_role::definition().body().to_string();
    scene.apply("definition.json", &definition).await?;
    let roles = scene.machine.path("/etc/irsad/service-account-roles.yaml").display().to_string();
    let applied = scene.node.kubectl(&["apply", "--dry-run=server", "--filename", &roles]).await?;
    assert_eq!(applied, "serviceaccountrole.irsad.dev/irsa-sample created (server dry run)\n");
    Ok(())
}
