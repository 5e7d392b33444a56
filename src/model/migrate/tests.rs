//! What comes of what others have set up, by objects and documents as they lie in buckets and clusters.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::*;
use crate::model::{
    issuer::IssuerUrl, jwks::Jwks, key::PublicKey, location::Location, plan::BucketFacts, probe::Probe, role::Owner,
    service_account_role::ServiceAccountRole, yaml,
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const GUIDE: &str = "amazon-eks-pod-identity-webhook-0.5-by-hand";
const EKS_ANYWHERE: &str = "eks-anywhere-0.20-by-hand";
const IRSA_MANAGER: &str = "irsa-manager-0.3-by-hand";
const KOPS: &str = "kops-1.33-by-hand";
const KEYSET: &str = "pki/private/service-account/keyset.yaml";
const CONFIG: &str = "/etc/irsad/irsad.yaml";
const ARN: &str = "arn:aws:iam::123456789012:oidc-provider/HOST";
/// `test-keys/rsa-2048`
const KID: &str = "KID";

/// Files below `tests/fixtures`, by their paths there.
macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/", $path)).as_slice())),*]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "migrate/amazon-eks-pod-identity-webhook-0.5-by-hand/discovery.json",
    "migrate/amazon-eks-pod-identity-webhook-0.5-by-hand/keys.json",
    "migrate/eks-anywhere-0.20-by-hand/discovery.json",
    "migrate/eks-anywhere-0.20-by-hand/keys.json",
    "migrate/eks-anywhere-0.20-by-hand/keys-of-two-clusters.json",
    "migrate/irsa-manager-0.3-by-hand/discovery.json",
    "migrate/irsa-manager-0.3-by-hand/irsas.json",
    "migrate/irsa-manager-0.3-by-hand/irsasetups.json",
    "migrate/irsa-manager-0.3-by-hand/keys.json",
    "migrate/kops-1.33-by-hand/cluster-completed.spec",
    "migrate/kops-1.33-by-hand/discovery.json",
    "migrate/kops-1.33-by-hand/keys.json",
    "migrate/kops-1.33-by-hand/pki/private/service-account/keyset.yaml",
    "test-keys/kubernetes-keyid-test.spki.pem",
    "test-keys/p256.spki.pem",
    "test-keys/rsa-2048.spki.pem",
];

fn file(path: &str) -> Vec<u8> {
    let found = FILES.iter().find(|(known, _)| *known == path);
    found.map(|(_, bytes)| bytes.to_vec()).unwrap_or_else(|| panic!("no fixture {path}"))
}

fn fixture(folder: &str, name: &str) -> Vec<u8> {
    file(&format!("migrate/{folder}/{name}"))
}

fn test_key(name: &str) -> PublicKey {
    let mut keys = PublicKey::read_all(&file(&format!("test-keys/{name}.spki.pem"))).expect("a public key");
    keys.remove(0)
}

/// A cluster before its migration. Each test changes what it is about.
struct Scene {
    wish: Wish,
    files: FoundFiles,
    api_servers: Vec<FoundApiServer>,
    documents: FoundDocuments,
    cloud: FoundCloud,
    there: Option<String>,
    irsa_manager: Option<IrsaManager>,
    kops: Option<(KopsState, [Probe<Vec<PublicKey>>; 2])>,
}

impl Scene {
    /// One API server that signs with the test key, and documents of `folder` that have it.
    fn of(source: Source, folder: &str, issuer: &str) -> Self {
        let key = test_key("rsa-2048");
        let keys = Jwks::of([&key]).expect("a JWK Set");
        let usual = ["/etc/kubernetes/pki/sa.key", "/etc/kubernetes/pki/sa.pub"].map(str::to_owned);
        let body = |name: &str| Probe::Present(fixture(folder, name));
        Self {
            wish: Wish {
                source,
                cluster: "prod-1".to_owned(),
                store: None,
                region: None,
                let_go: Vec::new(),
                replace: false,
                endpoints: Vec::new(),
            },
            files: FoundFiles {
                issuers: vec![issuer.to_owned(), "https://kubernetes.default.svc.cluster.local".to_owned()],
                jwks_uri: None,
                signing_key_file: usual[0].clone(),
                signing_key: Probe::Present(key.kid().clone()),
                key_files: vec![(usual[1].clone(), Probe::Present(vec![key]))],
                usual,
            },
            api_servers: vec![FoundApiServer {
                name: "cp-1".to_owned(),
                shows: Probe::Present(Shown { issuer: issuer.to_owned(), keys }),
            }],
            documents: FoundDocuments {
                discovery: body("discovery.json"),
                jwks: body("keys.json"),
                stored_jwks: body("keys.json"),
            },
            cloud: FoundCloud {
                account: "123456789012".parse().expect("an account"),
                bucket: Probe::Present(BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent }),
                provider: Probe::Present(FoundProvider {
                    audiences: vec!["sts.amazonaws.com".to_owned()],
                    tags: BTreeMap::new(),
                }),
                provider_arn: ARN.to_owned(),
                owner: ("irsad/cluster".to_owned(), "prod-1".to_owned()),
                policy_sid: "Irsadprod1".to_owned(),
            },
            there: None,
            irsa_manager: None,
            kops: None,
        }
    }

    fn by_the_guide() -> Self {
        Self::of(Source::AwsGuide, GUIDE, "https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj")
    }

    fn eks_anywhere() -> Self {
        Self::of(Source::EksAnywhere, EKS_ANYWHERE, "https://s3.us-west-2.amazonaws.com/eksa-oidc/pod-identity")
    }

    fn irsa_manager() -> Outcome<Self> {
        let list = |name| serde_json::from_slice::<Value>(&fixture(IRSA_MANAGER, name));
        let manager = IrsaManager::read(list("irsasetups.json")?, list("irsas.json")?)?;
        let issuer = "https://s3-eu-west-1.amazonaws.com/irsa-manager-test-f4vhae";
        Ok(Self { irsa_manager: Some(manager), ..Self::of(Source::IrsaManager, IRSA_MANAGER, issuer) })
    }

    /// Before kubeadm makes the control plane that comes after kops.
    fn after_kops() -> Outcome<Self> {
        let state = KopsState::read(&fixture(KOPS, "cluster-completed.spec"), &fixture(KOPS, KEYSET))?;
        let scene =
            Self::of(Source::Kops, KOPS, "https://kops-discovery.s3.eu-west-1.amazonaws.com/minimal.example.com");
        let (files, api_servers) = (state.files(scene.files.usual.clone()), state.api_servers());
        let tags =
            [("KubernetesCluster", "minimal.example.com"), ("kubernetes.io/cluster/minimal.example.com", "owned")];
        let tags =
            tags.iter().chain(&[("Name", "minimal.example.com")]).map(|(key, value)| ((*key).into(), (*value).into()));
        let audiences = vec!["amazonaws.com".to_owned(), "sts.amazonaws.com".to_owned()];
        let provider = Probe::Present(FoundProvider { audiences, tags: tags.collect() });
        let cloud = FoundCloud { provider, ..scene.cloud.clone() };
        Ok(Self { files, api_servers, cloud, kops: Some((state, [Probe::Absent, Probe::Absent])), ..scene })
    }

    fn target(&self) -> Result<Target, Vec<String>> {
        target(&self.wish, &self.files, &self.api_servers, |_| self.documents.discovery.clone())
    }

    fn migration(&self) -> Migration {
        let target = self.target().unwrap_or_else(|refusals| panic!("{refusals:?}"));
        let own = match (&self.irsa_manager, &self.kops) {
            (Some(manager), _) => Own::IrsaManager(manager, None),
            (None, Some((state, keys))) => Own::Kops(state, keys),
            (None, None) => Own::Nothing,
        };
        let found = Found {
            files: &self.files,
            api_servers: &self.api_servers,
            documents: &self.documents,
            cloud: &self.cloud,
            configuration: (Path::new(CONFIG), self.there.as_deref()),
            own,
        };
        take_over(&self.wish, &target, &found)
    }

    fn with_keys(mut self, keys: &Value) -> Self {
        let body = Probe::Present(keys.to_string().into_bytes());
        (self.documents.jwks, self.documents.stored_jwks) = (body.clone(), body);
        self
    }
}

/// Text of the file of that name.
fn text<'m>(migration: &'m Migration, path: &str) -> &'m str {
    let file = migration.files.iter().find(|file| file.path == Path::new(path));
    match file.map(|file| &file.content) {
        Some(Content::Text(text)) => text,
        Some(Content::PrivateKey(_)) | None => panic!("no text {path} in {migration:?}"),
    }
}

fn steps(migration: &Migration) -> Vec<String> {
    migration.steps.iter().map(ToString::to_string).collect()
}

fn kid() -> String {
    test_key("rsa-2048").kid().to_string()
}

#[test]
fn guide_is_taken_over_with_issuer_layout_and_keys_as_they_are() {
    let migration = Scene::by_the_guide().migration();
    assert_eq!(migration.refusals, Vec::<String>::new());
    let expected = "# Written by irsad migrate aws-guide: issuer, layout and keys are those that were there.\n\
                    version: 1\n\
                    cluster: prod-1\n\
                    issuer:\n  \
                      store: s3://oidc-test-kqzvbnwpxj\n  \
                      url: https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj\n  \
                      jwksPath: keys.json\n  \
                      createBucket: false\n\
                    aws:\n  \
                      region: eu-west-1\n\
                    provider:\n  \
                      audiences: [sts.amazonaws.com]\n";
    assert_eq!(text(&migration, CONFIG), expected);
    assert_eq!(
        steps(&migration),
        [
            "add a statement to the policy of bucket oidc-test-kqzvbnwpxj: anyone reads the two documents".to_owned(),
            format!("tag {ARN} with irsad/cluster=prod-1: irsad looks after it from then on"),
        ]
    );
    let jwks = "https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj/keys.json";
    assert_eq!(
        migration.effects,
        [
            "tokens keep https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj as iss: roles that trust it stay as they are".to_owned(),
            format!("key {KID} keeps signing: no token becomes invalid").replace(KID, &kid()),
            format!("{jwks} has every key that the API servers verify (1), and keeps each of them"),
            format!(
                "irsad adds --service-account-jwks-uri={jwks}, so that kube-apiserver names the same document: one restart of each, one \
                 after the other"
            ),
            "https://kubernetes.default.svc.cluster.local stays accepted by kube-apiserver".to_owned(),
            "AWS reads the documents by the bucket's policy from now on: an ACL (public-read) would be lost when irsad writes them"
                .to_owned(),
        ]
    );
    // The guide's two slips: a slash that tokens do not have, and the key a second time without an id.
    assert!(migration.findings[0].contains("has a verified key a second time, as \"\""), "{:?}", migration.findings);
    assert!(migration.findings[1].starts_with("the published discovery document names"), "{:?}", migration.findings);
}

#[test]
fn issuer_with_a_slash_in_its_tokens_keeps_it() {
    let mut scene = Scene::by_the_guide();
    let issuer = "https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj/".to_owned();
    scene.files.issuers[0].clone_from(&issuer);
    if let Probe::Present(shown) = &mut scene.api_servers[0].shows {
        shown.issuer.clone_from(&issuer);
    }
    let migration = scene.migration();
    assert!(text(&migration, CONFIG).contains(&format!("  url: {issuer}\n  jwksPath: keys.json\n")));
    assert_eq!(migration.refusals, Vec::<String>::new());
}

#[test]
fn key_files_of_the_guide_are_named_where_they_are_not_the_usual_ones() {
    let mut scene = Scene::by_the_guide();
    let (key, other) = (test_key("rsa-2048"), test_key("p256"));
    scene.files.signing_key_file = "/etc/kubernetes/pki/sa-signer.key".to_owned();
    scene.files.key_files = vec![
        ("/etc/kubernetes/pki/sa.pub".to_owned(), Probe::Present(vec![other])),
        ("/etc/kubernetes/pki/sa-signer-pkcs8.pub".to_owned(), Probe::Present(vec![key])),
    ];
    let expected = "apiServer:\n  signingKey: /etc/kubernetes/pki/sa-signer.key\n  \
                    verifyingKeys: /etc/kubernetes/pki/sa-signer-pkcs8.pub\n";
    assert!(text(&scene.migration(), CONFIG).ends_with(expected));

    scene.files.key_files.truncate(1);
    let refusal = format!(
        "none of the files that kube-apiserver verifies with has key {} of /etc/kubernetes/pki/sa-signer.key (nothing changed): it refuses \
         its own tokens; put the public half into one of them",
        kid()
    );
    assert_eq!(scene.migration().refusals, [refusal]);
}

#[test]
fn key_that_no_api_server_verifies_is_let_go_only_where_a_person_says_so() -> Outcome {
    let shared: Value = serde_json::from_slice(&fixture(EKS_ANYWHERE, "keys-of-two-clusters.json"))?;
    let foreign = test_key("kubernetes-keyid-test").kid().to_string();
    let mut scene = Scene::eks_anywhere().with_keys(&shared);
    let refusal = format!(
        "https://s3.us-west-2.amazonaws.com/eksa-oidc/pod-identity/keys.json has key {foreign:?}, which no API server of this cluster \
         verifies (nothing changed): irsad would take it out after rotation.tokenLifetime, and if another cluster signs with it, all its \
         tokens would be refused; give that cluster an issuer of its own first, or say that nobody needs the key: --let-go {foreign}"
    );
    assert_eq!(scene.migration().refusals, [refusal]);
    scene.wish.let_go = vec![foreign.clone()];
    let migration = scene.migration();
    assert_eq!(migration.refusals, Vec::<String>::new());
    let effect = format!(
        "key {foreign:?}, which no API server of this cluster verifies, stays published for rotation.tokenLifetime (24h) and then goes"
    );
    assert!(migration.effects.contains(&effect), "{:?}", migration.effects);
    Ok(())
}

#[test]
fn key_that_is_not_published_under_its_id_is_told_of() {
    let mut named: Value = serde_json::from_slice(&fixture(EKS_ANYWHERE, "keys.json")).expect("a JWK Set");
    named["keys"][0]["kid"] = json!("0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33");
    for (keys, found) in [
        (named, "(it stands there as \"0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33\")"),
        (json!({ "keys": [] }), "(it is not there)"),
    ] {
        let migration = Scene::eks_anywhere().with_keys(&keys).migration();
        let finding = format!(
            "key {}, which signs is verified by API servers, but https://s3.us-west-2.amazonaws.com/eksa-oidc/pod-identity/keys.json does \
             not have it under its id {found}: AWS refuses its tokens today; irsad publishes it",
            kid()
        );
        assert_eq!(migration.refusals, Vec::<String>::new());
        assert!(migration.findings.contains(&finding), "{:?}", migration.findings);
    }
}

#[test]
fn what_cannot_be_taken_over_is_refused_with_the_cure() {
    type Change = fn(&mut Scene);
    let cases: [(Change, &str); 9] = [
        (|scene| scene.files.issuers.clear(), "kube-apiserver has no --service-account-issuer (nothing changed)"),
        (
            |scene| scene.files.issuers[0] = "https://a.example,https://b.example".to_owned(),
            "kube-apiserver signs as \"https://a.example,https://b.example\", several issuers in one value (nothing changed)",
        ),
        (
            |scene| scene.api_servers.clear(),
            "no kube-apiserver of this cluster could be asked for its keys (nothing changed)",
        ),
        (
            |scene| scene.api_servers[0].shows = Probe::Unknown("connection refused".to_owned()),
            "kube-apiserver of cp-1 cannot be asked for its keys (nothing changed): connection refused; all of them have to run",
        ),
        (
            |scene| {
                if let Probe::Present(shown) = &mut scene.api_servers[0].shows {
                    shown.issuer = "https://other.example".to_owned();
                }
            },
            "kube-apiserver of cp-1 signs as https://other.example and not as \
             https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj (nothing changed); give all of them the same flags first",
        ),
        (
            |scene| scene.documents.discovery = Probe::Absent,
            "https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj/.well-known/openid-configuration is not there (nothing changed)",
        ),
        (
            |scene| scene.documents.discovery = Probe::Present(fixture(EKS_ANYWHERE, "discovery.json")),
            "https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj/.well-known/openid-configuration is the document of \
             https://s3.us-west-2.amazonaws.com/eksa-oidc/pod-identity and tokens carry",
        ),
        (
            |scene| {
                let text =
                    String::from_utf8_lossy(&fixture(GUIDE, "discovery.json")).replace("/keys.json", "-keys/keys.json");
                scene.documents.discovery = Probe::Present(text.into_bytes());
            },
            "the JWK Set of https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj lies at \
             https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj-keys/keys.json, not below the issuer (nothing changed)",
        ),
        (
            |scene| {
                let store: Result<Location, _> = "file:///srv/oidc".parse();
                scene.wish.store = store.ok();
            },
            "store file:///srv/oidc is no bucket (nothing changed); name one: --store s3://BUCKET[/PREFIX]",
        ),
    ];
    for (change, message) in cases {
        let mut scene = Scene::by_the_guide();
        change(&mut scene);
        let refusals = scene.target().expect_err(message);
        assert!(refusals.len() == 1 && refusals[0].starts_with(message), "{refusals:?}");
    }
}

#[test]
fn documents_bucket_and_provider_that_are_not_as_they_should_be_stop_it() {
    type Change = fn(&mut Scene);
    let cases: [(Change, &str); 8] = [
        (
            |scene| scene.documents.jwks = Probe::Absent,
            "https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj/keys.json is not there",
        ),
        (
            |scene| scene.documents.jwks = Probe::Present(b"[]".to_vec()),
            "https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj/keys.json: it is not a JWK Set",
        ),
        (
            |scene| scene.documents.stored_jwks = Probe::Present(b"{\"keys\":[]}".to_vec()),
            "https://s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj/keys.json serves other keys than s3://oidc-test-kqzvbnwpxj (keys.json) \
             holds (nothing changed)",
        ),
        (|scene| scene.cloud.bucket = Probe::Absent, "bucket oidc-test-kqzvbnwpxj does not exist (nothing changed)"),
        (|scene| scene.cloud.bucket = Probe::Unknown("no answer".to_owned()), "no answer (nothing changed)"),
        (
            |scene| {
                let policy = Probe::Present("no policy".to_owned());
                scene.cloud.bucket = Probe::Present(BucketFacts { public_access_block: Probe::Absent, policy });
            },
            "policy of bucket oidc-test-kqzvbnwpxj: the bucket's policy is not one that a statement can be added to",
        ),
        (
            |scene| {
                let tags = BTreeMap::from([("irsad/cluster".to_owned(), "other".to_owned())]);
                scene.cloud.provider = Probe::Present(FoundProvider { audiences: Vec::new(), tags });
            },
            "arn:aws:iam::123456789012:oidc-provider/HOST has the tag irsad/cluster=other: irsad of cluster other looks after it (nothing \
             changed); use --cluster other, or remove the tag where that cluster is gone",
        ),
        (
            |scene| scene.there = Some("version: 1\n".to_owned()),
            "/etc/irsad/irsad.yaml is there and says something else (left as it is); add --replace to have this one in its place, or move it \
             away",
        ),
    ];
    for (change, message) in cases {
        let mut scene = Scene::by_the_guide();
        change(&mut scene);
        let refusals = scene.migration().refusals;
        assert!(refusals.len() == 1 && refusals[0].starts_with(message), "{refusals:?}");
    }
}

#[test]
fn what_is_done_already_is_not_done_again() {
    let mut scene = Scene::by_the_guide();
    let first = scene.migration();
    let policy = first.steps.iter().find_map(|step| match step {
        Step::AllowReading { policy, .. } => Some(policy.clone()),
        Step::AdmitPublicPolicy { .. } | Step::OwnProvider { .. } | Step::Disown { .. } => None,
    });
    let policy = Probe::Present(policy.expect("a policy"));
    scene.cloud.bucket = Probe::Present(BucketFacts { public_access_block: Probe::Absent, policy });
    let tags = BTreeMap::from([scene.cloud.owner.clone()]);
    scene.cloud.provider = Probe::Present(FoundProvider { audiences: vec!["sts.amazonaws.com".to_owned()], tags });
    scene.there = Some(text(&first, CONFIG).to_owned());
    let second = scene.migration();
    assert!(second.is_done() && second.refusals.is_empty(), "{second:?}");

    // A person may have the file replaced, and sees what it replaces.
    scene.there = Some("version: 1\n".to_owned());
    scene.wish.replace = true;
    let third = scene.migration();
    assert_eq!(third.files[0].replaces.as_deref(), Some("version: 1\n"));
    assert_eq!(third.refusals, Vec::<String>::new());
}

#[test]
fn public_access_block_admits_the_policy_and_keeps_its_switches_for_acls() {
    let mut scene = Scene::by_the_guide();
    let found = PublicAccessBlock {
        block_public_acls: false,
        ignore_public_acls: false,
        block_public_policy: true,
        restrict_public_buckets: true,
    };
    scene.cloud.bucket =
        Probe::Present(BucketFacts { public_access_block: Probe::Present(found), policy: Probe::Absent });
    let migration = scene.migration();
    let block = PublicAccessBlock { block_public_policy: false, restrict_public_buckets: false, ..found };
    let bucket = "oidc-test-kqzvbnwpxj".parse().expect("a bucket name");
    // First of all: S3 would refuse the policy.
    assert_eq!(migration.steps[0], Step::AdmitPublicPolicy { bucket, block });
    assert!(matches!(migration.steps[1], Step::AllowReading { .. }), "{:?}", migration.steps);
}

#[test]
fn documents_behind_something_else_leave_the_bucket_policy_alone() {
    let mut scene = Scene::of(Source::AwsGuide, GUIDE, "https://oidc.example.com");
    let refusal = "https://oidc.example.com is no address of S3 (nothing changed); name the bucket that its documents come from: --store \
                   s3://BUCKET[/PREFIX]";
    let body = String::from_utf8_lossy(&fixture(GUIDE, "discovery.json"))
        .replace("s3-eu-west-1.amazonaws.com/oidc-test-kqzvbnwpxj", "oidc.example.com");
    scene.documents.discovery = Probe::Present(body.into_bytes());
    assert_eq!(scene.target(), Err(vec![refusal.to_owned()]));
    scene.wish.store = Some("s3://oidc-1/a".parse().expect("a store"));
    let refusal = "https://oidc.example.com does not say in which region its bucket is (nothing changed); add --region";
    assert_eq!(scene.target(), Err(vec![refusal.to_owned()]));
    scene.wish.region = Some("eu-west-1".parse().expect("a region"));
    let refusal = "https://oidc.example.com is served by something in front of bucket oidc-1, and no policy of the bucket lets CloudFront or \
                   everybody read a/.well-known/openid-configuration and a/keys.json (nothing changed): what reads them by a public ACL \
                   loses them when irsad writes them; let it read by the policy, or set IgnorePublicAcls in the bucket's public access \
                   block and see that https://oidc.example.com/.well-known/openid-configuration still answers";
    assert_eq!(scene.migration().refusals, [refusal]);
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":{"Service":"cloudfront.amazonaws.com"},"Action":"s3:GetObject",
                   "Resource":"arn:aws:s3:::oidc-1/*"}}"#;
    let no_acls = Probe::Present(PublicAccessBlock::FOR_PUBLIC_DOCUMENTS);
    for (public_access_block, policy) in [(no_acls, Probe::Absent), (Probe::Absent, Probe::Present(policy.to_owned()))]
    {
        scene.cloud.bucket = Probe::Present(BucketFacts { public_access_block, policy });
        assert_eq!(scene.migration().refusals, Vec::<String>::new());
    }
    let migration = scene.migration();
    assert_eq!(steps(&migration), [format!("tag {ARN} with irsad/cluster=prod-1: irsad looks after it from then on")]);
    let expected = "  store: s3://oidc-1/a\n  url: https://oidc.example.com\n  jwksPath: keys.json\n  createBucket: false\n  \
                    access: external\n";
    assert!(text(&migration, CONFIG).contains(expected), "{}", text(&migration, CONFIG));
}

#[test]
fn irsa_objects_become_service_account_roles() -> Outcome {
    let migration = Scene::irsa_manager()?.migration();
    assert_eq!(migration.refusals, Vec::<String>::new());
    assert!(text(&migration, CONFIG).ends_with("roles:\n  mode: crd\n"));
    let expected = "# Written by irsad migrate irsa-manager, one for each IRSA object. Apply it once irsad runs.\n\
                    ---\n\
                    apiVersion: irsad.dev/v1alpha1\n\
                    kind: ServiceAccountRole\n\
                    metadata:\n  name: irsa-sample\n\
                    spec:\n  \
                      roleName: irsa1-role.prod-1\n  \
                      serviceAccounts:\n  \
                      - namespace: kube-system\n    name: irsa1-sa\n  \
                      - namespace: default\n    name: irsa1-sa\n  \
                      policies:\n  - AmazonS3FullAccess\n  \
                      deletionPolicy: Delete\n\
                    ---\n\
                    apiVersion: irsad.dev/v1alpha1\n\
                    kind: ServiceAccountRole\n\
                    metadata:\n  name: billing\n\
                    spec:\n  \
                      roleName: billing.prod-1\n  \
                      serviceAccounts:\n  \
                      - namespace: shop\n    name: billing\n  \
                      policies:\n  - arn:aws:iam::123456789012:policy/billing\n  \
                      deletionPolicy: Keep\n";
    assert_eq!(text(&migration, "/etc/irsad/service-account-roles.yaml"), expected);
    let stream = yaml::parse(expected.as_bytes(), &yaml::Limits::PLAIN)?;
    for mut object in stream.values()?.into_iter().filter(|object| object.is_object()) {
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        let object: ServiceAccountRole = serde_json::from_value(object)?;
        assert!(object.spec?.request(Owner::list("prod-1")).is_ok(), "{}", object.name);
    }
    let finding = "IRSA irsa-manager-system/unfinished names no role or no service account and is left out";
    assert!(migration.findings.iter().any(|found| found == finding), "{:?}", migration.findings);
    Ok(())
}

#[test]
fn irsa_manager_whose_last_step_was_never_done_is_refused() -> Outcome {
    let list = |name| serde_json::from_slice::<Value>(&fixture(IRSA_MANAGER, name));
    let (setups, irsas) = (list("irsasetups.json")?, list("irsas.json")?);
    let mut of_eks = setups.clone();
    of_eks["items"][0]["spec"]["mode"] = json!("eks");
    let mut elsewhere = setups.clone();
    elsewhere["items"][0]["spec"]["discovery"]["s3"]["bucketName"] = json!("elsewhere");
    for (setups, message) in [
        (of_eks, "the IRSASetup has mode: eks (nothing changed)"),
        (elsewhere, "IRSASetup irsa-init publishes to bucket elsewhere in eu-west-1, and kube-apiserver signs as"),
        (
            json!({ "items": [] }),
            "there are 0 IRSASetup objects () and irsa-manager works with exactly one (nothing changed)",
        ),
    ] {
        let mut scene = Scene::irsa_manager()?;
        scene.irsa_manager = Some(IrsaManager::read(setups, irsas.clone())?);
        let refusals = scene.migration().refusals;
        assert!(refusals.len() == 1 && refusals[0].starts_with(message), "{refusals:?}");
    }
    Ok(())
}

#[test]
fn control_plane_after_kops_gets_its_keys_issuer_and_audiences() -> Outcome {
    let migration = Scene::after_kops()?.migration();
    assert_eq!(migration.refusals, Vec::<String>::new());
    let paths: Vec<_> = migration.files.iter().map(|file| file.path.display().to_string()).collect();
    assert_eq!(paths, ["/etc/kubernetes/pki/sa.key", "/etc/kubernetes/pki/sa.pub", CONFIG]);
    let Content::PrivateKey(key) = &migration.files[0].content else { return Err("a private key".into()) };
    assert_eq!(key.kid.to_string(), kid());
    let accepted = PublicKey::read_all(text(&migration, "/etc/kubernetes/pki/sa.pub").as_bytes())?;
    let published = Jwks::parse(&fixture(KOPS, "keys.json"))?;
    assert!(accepted.len() == 2 && accepted.iter().all(|key| published.has(key.kid())), "{accepted:?}");
    assert_eq!(accepted[0].kid().to_string(), kid(), "the signing key first");

    let issuer = "https://kops-discovery.s3.eu-west-1.amazonaws.com/minimal.example.com";
    let configuration = text(&migration, CONFIG);
    for text in [
        format!("  store: s3://kops-discovery/minimal.example.com\n  url: {issuer}\n  jwksPath: openid/v1/jwks\n"),
        "provider:\n  audiences: [amazonaws.com, sts.amazonaws.com]\n".to_owned(),
        "apiServer:\n  audiences: [kubernetes.svc.default]\n".to_owned(),
    ] {
        assert!(configuration.contains(&text), "{text} is missing in {configuration}");
    }
    let disowned = format!("remove the tags KubernetesCluster, kubernetes.io/cluster/minimal.example.com from {ARN}");
    assert!(steps(&migration).contains(&disowned), "{:?}", steps(&migration));
    let roles = "kops made the roles of 2 service accounts and deletes them with the cluster: default/myserviceaccount, \
                 myapp/myotherserviceaccount";
    assert!(migration.findings.iter().any(|found| found == roles), "{:?}", migration.findings);
    Ok(())
}

#[test]
fn roles_of_kops_become_entries_of_the_list_and_pods_change_to_them_step_by_step() -> Outcome {
    let migration = Scene::after_kops()?.migration();
    let expected = "roles:\n  \
                      mode: list\n  \
                      list:\n    \
                      - serviceAccount: myserviceaccount\n      \
                        namespace: default\n      \
                        policies: [arn:aws:iam::123456789012:policy/UsersManageOwnCredentials]\n    \
                      - serviceAccount: myotherserviceaccount\n      \
                        namespace: myapp\n      \
                        inlinePolicy: {\"Statement\":[{\"Action\":[\"dynamodb:*\"],\"Effect\":\"Allow\",\"Resource\":[\"*\"]}],\
                        \"Version\":\"2012-10-17\"}\n";
    assert!(text(&migration, CONFIG).ends_with(expected), "{}", text(&migration, CONFIG));
    let role = "arn:aws:iam::123456789012:role/irsad/prod-1";
    for finding in [
        format!(
            "kubectl -n default annotate --overwrite serviceaccount myserviceaccount \
             eks.amazonaws.com/role-arn={role}/myserviceaccount.default.prod-1"
        ),
        format!(
            "kubectl -n myapp annotate --overwrite serviceaccount myotherserviceaccount \
             eks.amazonaws.com/role-arn={role}/myotherserviceaccount.myapp.prod-1"
        ),
        "irsad makes roles of its own for 2 of them, below /irsad/prod-1/, and pods go on with kops' until you change them. In this order no \
         pod is without one: attach what irsad iam-policy prints with this configuration and start irsad; when irsad status of the leader \
         says that the roles are ready, annotate the service accounts as below, and put the new ARN in the place of AWS_ROLE_ARN where a \
         pod template has it; let their pods be made anew (kubectl rollout restart) and look at one with irsad verify --pod; only then kops \
         delete cluster minimal.example.com. Keep kops' webhook and its ConfigMap kube-system/pod-identity-webhook until all of them are \
         annotated: kops' roles come by it, and an annotation goes before it"
            .to_owned(),
    ] {
        assert!(migration.findings.contains(&finding), "{finding} is missing in {:#?}", migration.findings);
    }
    Ok(())
}

#[test]
fn roles_of_kops_are_taken_over_where_the_provider_has_no_audience_yet() -> Outcome {
    let mut scene = Scene::after_kops()?;
    let expected = scene.migration().findings.into_iter().filter(|found| found.contains("eks.amazonaws.com/role-arn"));
    let expected: Vec<_> = expected.collect();
    for provider in [Probe::Absent, Probe::Present(FoundProvider { audiences: Vec::new(), tags: BTreeMap::new() })] {
        scene.cloud.provider = provider;
        let migration = scene.migration();
        assert!(
            text(&migration, CONFIG).contains("    - serviceAccount: myserviceaccount\n"),
            "{:#?}",
            migration.findings
        );
        let is_there = |found: &String| migration.findings.contains(found);
        assert!(!expected.is_empty() && expected.iter().all(is_there), "{:#?}", migration.findings);
    }
    Ok(())
}

/// The cluster after kops with other lines in the place of the `iam` section of its specification.
fn after_kops_with(iam: &str) -> Outcome<Migration> {
    let specification = String::from_utf8(fixture(KOPS, "cluster-completed.spec"))?;
    let (before, rest) = specification.split_once("  iam:\n").ok_or("iam")?;
    let (_, after) = rest.split_once("  keyStore:").ok_or("keyStore")?;
    let specification = format!("{before}{iam}  keyStore:{after}");
    let mut scene = Scene::after_kops()?;
    let state = KopsState::read(specification.as_bytes(), &fixture(KOPS, KEYSET))?;
    scene.kops = Some((state, [Probe::Absent, Probe::Absent]));
    Ok(scene.migration())
}

fn permission(namespace: &str, name: &str, aws: &str) -> String {
    format!("    - {{ namespace: {namespace:?}, name: {name:?}, aws: {{ {aws} }} }}\n")
}

#[test]
fn role_of_kops_with_a_wildcard_keeps_it_and_the_boundary_holds_for_all() -> Outcome {
    const ARN: &str = "policyARNs: [\"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess\"]";
    let permission = permission("preview-*", "web", ARN);
    let boundary = "arn:aws:iam::123456789012:policy/apps";
    let migration = after_kops_with(&format!(
        "  iam:\n    permissionsBoundary: {boundary}\n    useServiceAccountExternalPermissions: true\n    \
         serviceAccountExternalPermissions:\n{permission}"
    ))?;
    let expected = format!(
        "roles:\n  mode: list\n  permissionsBoundary: {boundary}\n  list:\n    - serviceAccount: web\n      namespace: \"preview-*\"\n      \
         policies: [arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess]\n"
    );
    assert!(text(&migration, CONFIG).ends_with(&expected), "{}", text(&migration, CONFIG));
    for finding in [
        "in each namespace preview-*: kubectl -n NAMESPACE annotate --overwrite serviceaccount web \
         eks.amazonaws.com/role-arn=arn:aws:iam::123456789012:role/irsad/prod-1/web.preview-+.prod-1",
        "kops' own add-ons have roles that the cluster spec does not list (useServiceAccountExternalPermissions) and that go with the \
         cluster too: give those that stay roles of their own before",
    ] {
        assert!(migration.findings.iter().any(|found| found == finding), "{:#?}", migration.findings);
    }

    let other = "  iam:\n    permissionsBoundary: arn:aws-cn:iam::123456789012:policy/apps\n    serviceAccountExternalPermissions:\n";
    let migration = after_kops_with(&format!("{other}{permission}"))?;
    assert!(!text(&migration, CONFIG).contains("roles:"), "a role without its boundary could do more");
    let finding = "permissions boundary arn:aws-cn:iam::123456789012:policy/apps of kops' roles is none that irsad takes, and without it \
                   roles could do more: none of them is taken over; write roles.permissionsBoundary and roles.list yourself";
    assert!(migration.findings.iter().any(|found| found == finding), "{:#?}", migration.findings);
    Ok(())
}

#[test]
fn role_of_kops_that_would_not_be_the_same_is_left_out_and_named() -> Outcome {
    const ARN: &str = "policyARNs: [\"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess\"]";
    let many: Vec<String> = (0..11).map(|n| format!("\"arn:aws:iam::123456789012:policy/p{n}\"")).collect();
    let many = format!("policyARNs: [{}]", many.join(", "));
    for (namespace, name, aws, why) in [
        ("shop", "web-*", ARN, "kops takes no such wildcard"),
        ("sho?", "web", ARN, "kops takes no such wildcard"),
        ("shop", "web", "", "it names no policy"),
        (
            "shop",
            "web",
            "policyARNs: [AmazonS3ReadOnlyAccess]",
            "\"AmazonS3ReadOnlyAccess\" is not the ARN of a managed policy; write one like arn:aws:iam::123456789012:policy/app-reads-orders",
        ),
        ("shop", "web", "inlinePolicy: \"{}\"", "its inlinePolicy is not a list of statements"),
        (
            "shop",
            "web",
            "inlinePolicy: \"[\"",
            "its inlinePolicy is not JSON: EOF while parsing a list at line 1 column 1",
        ),
        (
            "shop",
            "web",
            "inlinePolicy: \"[{}]\"",
            "the inline policy has a statement without Effect: Allow or Deny; write a policy document with Version and Statement as in the IAM \
             user guide",
        ),
        ("shop", "web", &many, "11"),
    ] {
        let permission = permission(namespace, name, aws);
        let migration = after_kops_with(&format!("  iam:\n    serviceAccountExternalPermissions:\n{permission}"))?;
        assert_eq!(migration.refusals, Vec::<String>::new());
        assert!(!text(&migration, CONFIG).contains("roles:"), "{}", text(&migration, CONFIG));
        let begins = format!("the role of service account {namespace}/{name} is not taken over: ");
        let ends = "; it keeps kops' role until kops delete cluster, give it one before";
        let is_named = |found: &String| found.starts_with(&begins) && found.contains(why) && found.ends_with(ends);
        assert!(migration.findings.iter().any(is_named), "{why}: {:#?}", migration.findings);
    }
    Ok(())
}

#[test]
fn state_of_kops_is_a_folder_or_a_folder_of_its_store() {
    let bucket = |prefix: &str| KopsStore::Bucket {
        bucket: "kops-state".parse().expect("a bucket name"),
        prefix: prefix.to_owned(),
    };
    for (text, store) in [
        ("/root/state", Ok(KopsStore::Folder("/root/state".into()))),
        ("state", Ok(KopsStore::Folder("state".into()))),
        ("s3://kops-state/minimal.example.com", Ok(bucket("minimal.example.com"))),
        ("s3://kops-state/a/minimal.example.com/", Ok(bucket("a/minimal.example.com"))),
        (
            "s3://kops.example.com/minimal.example.com",
            Err("bucket kops.example.com has a dot in its name; the S3 endpoint's certificate does not cover such a host, use hyphens; where \
                 that cannot be, copy the cluster's folder and name the copy"
                .to_owned()),
        ),
    ] {
        assert_eq!(text.parse::<KopsStore>().map_err(|error| error.to_string()), store);
    }
}

#[test]
fn services_that_stand_in_for_aws_are_written_down() {
    let url = |service: &str, url: &str| (service.to_owned(), url.to_owned());
    let all = ["s3", "iam", "kms", "sts"].map(|service| url(service, "http://127.0.0.1:5000"));
    for (endpoints, line) in [
        (all.to_vec(), "  endpointUrl: http://127.0.0.1:5000\n"),
        (
            vec![url("s3", "http://a:1"), url("sts", "http://b:2")],
            "  endpointUrl: { s3: http://a:1, sts: http://b:2 }\n",
        ),
    ] {
        let mut scene = Scene::by_the_guide();
        scene.wish.endpoints = endpoints;
        let configuration = text(&scene.migration(), CONFIG).to_owned();
        assert!(configuration.contains(&format!("aws:\n  region: eu-west-1\n{line}")), "{configuration}");
    }
}

#[test]
fn issuers_that_kops_accepts_beside_the_one_that_signs_are_kept_by_the_kubeadm_configuration() -> Outcome {
    let issuer = "https://kops-discovery.s3.eu-west-1.amazonaws.com/minimal.example.com";
    let specification = String::from_utf8(fixture(KOPS, "cluster-completed.spec"))?.replace(
        "    securePort: 443\n",
        "    securePort: 443\n    additionalServiceAccountIssuers:\n    - https://before.example.com\n",
    );
    let mut scene = Scene::after_kops()?;
    let state = KopsState::read(specification.as_bytes(), &fixture(KOPS, KEYSET))?;
    scene.kops = Some((state, [Probe::Absent, Probe::Absent]));
    let expected = format!(
        "kops' API servers also accept tokens of https://before.example.com (nothing changed), which new ones would refuse; put these lines \
         into apiServer.extraArgs of the kubeadm configuration, then take additionalServiceAccountIssuers out of the copy of \
         cluster-completed.spec:\n- name: service-account-issuer\n  value: {issuer}\n- name: service-account-issuer\n  \
         value: https://before.example.com"
    );
    assert_eq!(scene.migration().refusals, [expected]);
    Ok(())
}

#[test]
fn private_key_is_never_shown() -> Outcome {
    let scene = Scene::after_kops()?;
    let migration = scene.migration();
    let Content::PrivateKey(key) = &migration.files[0].content else { return Err("a private key".into()) };
    let line = key.pem().lines().nth(1).ok_or("a line")?;
    for shown in [format!("{migration:?}"), format!("{:?}", scene.kops)] {
        assert!(!shown.contains(line) && !shown.contains("PRIVATE"), "{shown}");
    }
    let damaged = String::from_utf8_lossy(&fixture(KOPS, KEYSET)).replace("privateMaterial: ", "privateMaterial: %");
    let error = KopsState::read(&fixture(KOPS, "cluster-completed.spec"), damaged.as_bytes()).map(drop);
    let message = "pki/private/service-account/keyset.yaml is not what kops writes (nothing changed)";
    assert_eq!(error, Err(message.to_owned()));
    Ok(())
}

#[test]
fn key_files_that_are_there_are_never_replaced() -> Outcome {
    let (own, other) = (test_key("rsa-2048"), test_key("p256"));
    let second = PublicKey::read_all(text(&Scene::after_kops()?.migration(), "/etc/kubernetes/pki/sa.pub").as_bytes())?;
    let refusal = |file: &str| {
        format!("{file} is there with other keys than kops' (left as it is): move it away, before kubeadm runs")
    };
    for (found, refusals) in [
        ([Probe::Present(vec![own.clone()]), Probe::Present(second)], vec![]),
        ([Probe::Present(vec![other.clone()]), Probe::Absent], vec![refusal("/etc/kubernetes/pki/sa.key")]),
        ([Probe::Present(vec![own]), Probe::Present(vec![other])], vec![refusal("/etc/kubernetes/pki/sa.pub")]),
    ] {
        let mut scene = Scene::after_kops()?;
        if let Some((_, keys)) = &mut scene.kops {
            *keys = found;
        }
        assert_eq!(scene.migration().refusals, refusals);
    }
    Ok(())
}

#[test]
fn issuer_is_looked_for_where_tokens_say() {
    let scene = Scene::by_the_guide();
    let asked = std::cell::RefCell::new(Vec::new());
    let discovery = |issuer: &IssuerUrl| {
        asked.borrow_mut().push(issuer.to_string());
        scene.documents.discovery.clone()
    };
    let target = target(&scene.wish, &scene.files, &scene.api_servers, discovery).expect("a target");
    assert_eq!(asked.into_inner(), [scene.files.issuers[0].clone()]);
    assert_eq!((target.store.to_string().as_str(), target.is_external), ("s3://oidc-test-kqzvbnwpxj", false));
}
