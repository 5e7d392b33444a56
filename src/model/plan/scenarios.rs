//! A small world without time limits of its own: it does what actions say, and kubelet restarts the API server when the
//! manifest changes. Every promise is looked at after every single action.

mod fleet;
mod front;

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::model::{
    discovery::DISCOVERY_PATH,
    file::Digest,
    issuer::Audience,
    jwks::Jwks,
    key::PublicKey,
    kubeadm::KubeadmConfig,
    manifest::Manifest,
    memory::{Change, Proven, PublishedKeys, RefusedChange, TornDown},
    pod_identity::{ContainerCredentialsToken, PodIdentity},
    probe::Probe,
    webhook::{DesiredWebhook, FailurePolicy, Mode, upstream::Upstream},
};

/// Three RSA-2048 public keys, made with `openssl genrsa 2048 | openssl rsa -pubout` for these tests.
const KEYS: &str = include_str!("../../../tests/fixtures/keys/three-rsa-2048.pub");
/// kube-apiserver as kubeadm writes it.
const MANIFEST: &str = include_str!("../../../tests/fixtures/kubeadm-1.36.3/default.yaml");
/// kube-apiserver as kops writes it, with additional issuers.
const KOPS_MANIFEST: &str = include_str!("../../../tests/fixtures/kops-1.33-by-hand/kube-apiserver.manifest");
const OURS: &str = "https://prod-1-oidc.s3.eu-west-1.amazonaws.com";
const OLD: &str = "https://kubernetes.default.svc.cluster.local";

/// ConfigMap `kube-system/kubeadm-config` with these issuers.
fn kubeadm_config(issuers: &[&str]) -> String {
    let argument = |issuer: &&str| format!("  - name: service-account-issuer\n    value: {issuer}\n");
    let arguments: String = match issuers {
        [] => "apiServer: {}\n".to_owned(),
        _ => format!("apiServer:\n  extraArgs:\n{}", issuers.iter().map(argument).collect::<String>()),
    };
    format!("{arguments}apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n")
}

fn key(number: usize) -> PublicKey {
    PublicKey::read_all(KEYS.as_bytes()).expect("three keys")[number].clone()
}

pub fn desired() -> Desired {
    Desired {
        issuer: OURS.parse().expect("an issuer"),
        jwks_path: "openid/v1/jwks".to_owned(),
        store: "s3://prod-1-oidc".parse().expect("a location"),
        bucket: Some(DesiredBucket {
            name: "prod-1-oidc".parse().expect("a bucket name"),
            region: "eu-west-1".parse().expect("a region"),
            create: true,
            public_by_policy: true,
            policy_sid: "IrsadProd1".to_owned(),
            owner_tag: ("irsad/cluster".to_owned(), "prod-1".to_owned()),
        }),
        provider: Some(DesiredProvider {
            audiences: vec!["sts.amazonaws.com".parse().expect("an audience")],
            tags: vec![("irsad/cluster".to_owned(), "prod-1".to_owned())],
        }),
        manifest: "/etc/kubernetes/manifests/kube-apiserver.yaml".into(),
        signing_key: "/etc/kubernetes/pki/sa.key".into(),
        verifying_keys: "/etc/kubernetes/pki/sa.pub".into(),
        keys: KeyKeeping::Manage,
        api_audiences: None,
        kubeadm_config: true,
        restart: RestartPolicy::Rolling,
        restart_deadline: Duration::from_secs(30 * 86_400),
        rotation_period: Some(Duration::from_secs(90 * 86_400)),
        verify_retention: Duration::from_secs(366 * 86_400),
        clock_margin: SignedDuration::from_mins(5),
        token_lifetime: Duration::from_secs(86_400),
        publish_lead: Duration::from_secs(86_400),
        evidence_limit: Duration::from_secs(300),
        webhook: webhook_settings(Mode::None),
    }
}

/// The webhook of this kind, with the defaults of the configuration.
fn webhook_settings(mode: Mode) -> DesiredWebhook {
    DesiredWebhook {
        mode,
        port: 23_443,
        failure_policy: FailurePolicy::Ignore,
        exempt_namespaces: Vec::new(),
        upstream: Upstream {
            image: "registry.example.com/webhook:v0.6.17".to_owned(),
            namespace: "kube-system".to_owned(),
            replicas: 2,
            lookup_grace: Duration::from_secs(5),
            settings: PodIdentity {
                annotation_prefix: "eks.amazonaws.com".to_owned(),
                audience: "sts.amazonaws.com".to_owned(),
                mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
                token_expiration_seconds: 86_400,
                default_region: None,
                regional_sts: false,
                composition: None,
                container_credentials: ContainerCredentialsToken {
                    audience: "pods.eks.amazonaws.com".to_owned(),
                    mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
                    volume_name: "eks-pod-identity-token".to_owned(),
                    token_path: "eks-pod-identity-token".to_owned(),
                    full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
                },
            },
            role_map_namespace: None,
        },
    }
}

/// What a kube-apiserver process took from the files when it started.
#[derive(Debug, Clone)]
struct Process {
    started_at: Timestamp,
    issuers: Vec<String>,
    signing: PublicKey,
    verifying: Vec<PublicKey>,
}

impl Process {
    /// What a full look sees of it.
    fn evidence(&self) -> Evidence {
        Evidence {
            ready: true,
            started_at: Some(self.started_at),
            served: Jwks::of(&self.verifying).expect("a JWKS"),
            issuer: self.issuers.first().cloned(),
            probe_token: Probe::Present(ProbeToken {
                kid: self.signing.kid().to_string(),
                issuer: self.issuers.first().cloned().unwrap_or_default(),
            }),
        }
    }
}

/// The document at `path` as its store has it.
fn stored(objects: &BTreeMap<String, Vec<u8>>, path: &str) -> Probe<StoredDocument> {
    objects.get(path).map_or(Probe::Absent, |body| {
        Probe::Present(StoredDocument { body: body.clone(), version: Digest::of(body).to_string() })
    })
}

/// The document at `path` as an outsider gets it.
fn public(objects: &BTreeMap<String, Vec<u8>>, path: &str, now: Timestamp) -> Probe<PublicDocument> {
    objects.get(path).map_or(Probe::Absent, |body| {
        Probe::Present(PublicDocument {
            body: body.clone(),
            content_type: Some("application/json".to_owned()),
            date: Some(now),
            age: None,
        })
    })
}

/// A node, its API server and the AWS around it.
#[derive(Debug, Clone)]
struct World {
    now: Timestamp,
    manifest: Option<String>,
    signing: Option<PublicKey>,
    standby: Option<PublicKey>,
    verifying: Option<Vec<PublicKey>>,
    process: Option<Process>,
    /// The process starts only with issuers that this accepts.
    starts_with: fn(&[String]) -> bool,
    has_kubeconfig: bool,
    /// ClusterConfiguration of `kube-system/kubeadm-config`.
    kubeadm_config: Option<String>,
    kubeadm_runs: bool,
    api_servers: usize,
    bucket: Option<BucketFacts>,
    objects: BTreeMap<String, Vec<u8>>,
    provider: Option<ProviderFacts>,
    change: Option<Change>,
    change_is_of_this_boot: bool,
    watched_seconds: u64,
    refused: Option<RefusedChange>,
    published_keys: Option<PublishedKeys>,
    last_good: Option<String>,
    proven: Option<Proven>,
    restarts: usize,
}

impl World {
    /// A kubeadm node without irsad, its API server running.
    fn of_kubeadm() -> Self {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let mut world = Self {
            now,
            manifest: Some(MANIFEST.to_owned()),
            signing: Some(key(0)),
            standby: None,
            verifying: Some(vec![key(0)]),
            process: None,
            starts_with: |_| true,
            has_kubeconfig: true,
            kubeadm_config: Some(kubeadm_config(&[])),
            kubeadm_runs: false,
            api_servers: 1,
            bucket: None,
            objects: BTreeMap::new(),
            provider: None,
            change: None,
            change_is_of_this_boot: false,
            watched_seconds: 0,
            refused: None,
            published_keys: None,
            last_good: None,
            proven: None,
            restarts: 0,
        };
        world.start();
        world.restarts = 0;
        world.pass_time(3_600);
        world
    }

    /// The same node with irsad, converged.
    fn adopted() -> Self {
        let mut world = Self::of_kubeadm();
        world.converge(&desired());
        world
    }

    /// A node in the middle of its adoption: the manifest is changed, and the API server has not proven it yet.
    fn whose_change_is_open() -> Self {
        let mut world = Self::of_kubeadm();
        while world.change.is_none() {
            let mut all = usize::MAX;
            world.take_steps(&mut all);
        }
        world
    }

    /// An adopted node whose API server accepts a second key.
    fn of_two_keys() -> Self {
        let mut world = Self::of_kubeadm();
        world.verifying = Some(vec![key(0), key(1)]);
        world.start();
        world.converge(&desired());
        world
    }

    /// A node of two keys whose second one has left the files and the API server.
    fn that_lost_its_second_key() -> Self {
        let mut world = Self::of_two_keys();
        world.verifying = Some(vec![key(0)]);
        world.start();
        world.converge(&desired());
        world
    }

    fn pass_time(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("a time");
        if self.change.is_some() {
            self.watched_seconds += u64::try_from(seconds).unwrap_or_default();
        }
    }

    fn parsed(&self) -> Option<Manifest> {
        self.manifest.as_ref().map(|text| Manifest::parse(text.as_bytes()).expect("a manifest"))
    }

    /// kubelet starts the API server from the files as they are.
    fn start(&mut self) {
        let (Some(manifest), Some(signing), Some(verifying)) = (self.parsed(), &self.signing, &self.verifying) else {
            return;
        };
        let issuers = manifest.issuers().to_vec();
        self.restarts += 1;
        self.process = (self.starts_with)(&issuers).then(|| Process {
            started_at: self.now,
            issuers,
            signing: signing.clone(),
            verifying: verifying.clone(),
        });
    }

    fn facts(&self) -> Facts {
        let api_server = match (&self.manifest, self.has_kubeconfig, &self.process) {
            (None, _, _) => ApiServer::None,
            (Some(_), false, _) => ApiServer::NoKubeconfig("no kubeconfig".to_owned()),
            (Some(_), true, None) => ApiServer::Silent("connection refused".to_owned()),
            (Some(_), true, Some(process)) => ApiServer::Seen(process.evidence()),
        };
        let public = |path: &str| match self.is_public() {
            true => public(&self.objects, path, self.now),
            false => Probe::Unknown("403".to_owned()),
        };
        Facts {
            node: NodeFacts {
                manifest: self.manifest.as_ref().map_or(Probe::Absent, |text| {
                    Probe::Present((Manifest::parse(text.as_bytes()).expect("a manifest"), Digest::of(text.as_bytes())))
                }),
                signing_key: probe(self.signing.clone()),
                standby_key: probe(self.standby.clone()),
                verifying_keys: probe(self.verifying.clone()),
                signing_file: None,
                verifying_file: None,
                manifest_modified: None,
                never_started: false,
                published_keys: probe(self.published_keys.clone()),
                api_server,
                api_servers: Probe::Present((0..self.api_servers).map(|n| format!("192.0.2.{n}")).collect()),
                kubeadm_config: self.kubeadm_config.as_ref().map_or(Probe::Absent, |text| {
                    let config = KubeadmConfig::parse(text.as_bytes()).expect("a configuration");
                    Probe::Present(StoredKubeadmConfig { config, resource_version: "7".to_owned() })
                }),
                kubeadm_runs: self.kubeadm_runs,
                change: probe(self.change.clone()),
                change_is_of_this_boot: self.change_is_of_this_boot,
                change_watched_for: Duration::from_secs(self.watched_seconds),
                refused: probe(self.refused.clone()),
                proven: probe(self.proven.clone()),
                torn_down: Probe::Absent,
                remarks: Vec::new(),
                last_good_manifest: probe(self.last_good.clone()),
            },
            cluster: ClusterFacts {
                bucket: Some(probe(self.bucket.clone())),
                stored_discovery: stored(&self.objects, DISCOVERY_PATH),
                stored_jwks: stored(&self.objects, "openid/v1/jwks"),
                public_discovery: Some(public(DISCOVERY_PATH)),
                public_jwks: Some(public("openid/v1/jwks")),
                provider: Some(probe(self.provider.clone())),
            },
            shared: Shared::Nothing,
            webhook: WebhookFacts::unasked(),
            pods: None,
            trust_policy: None,
            teardown: None,
        }
    }

    fn is_public(&self) -> bool {
        self.bucket.as_ref().is_some_and(|bucket| bucket.policy.present().is_some())
    }

    /// Keys that an outsider finds.
    fn public_kids(&self) -> Vec<String> {
        let found = self.is_public().then(|| self.objects.get("openid/v1/jwks")).flatten();
        found.map(|body| Jwks::parse(body).expect("a JWKS").kids().map(str::to_owned).collect()).unwrap_or_default()
    }

    fn carry_out(&mut self, action: &Action) {
        match action.clone() {
            Action::MakeKeyPair { .. } => {
                self.signing = Some(key(2));
                self.standby = Some(key(1));
                self.verifying = Some(vec![key(2), key(1)]);
            }
            Action::WriteVerifyingKeys { pem, .. } => {
                self.verifying = Some(PublicKey::read_all(pem.as_bytes()).expect("keys"));
            }
            Action::KeepPrivateKey { .. }
            | Action::FoundKeyring { .. }
            | Action::WriteKeyring { .. }
            | Action::AddStandby { .. }
            | Action::Acknowledge { .. }
            | Action::RememberKeyring { .. }
            | Action::ForgetStandbyKey
            | Action::ReplaceVerifyingKeys { .. }
            | Action::ReplaceSigningKey { .. }
            | Action::ApplyObject { .. }
            | Action::ReplaceObject { .. }
            | Action::DeleteObject { .. }
            | Action::MakeWebhookCertificate { .. }
            | Action::UseNextWebhookCertificate { .. } => panic!("{action} without a keyring"),
            Action::CreateBucket { .. } => {
                self.bucket.get_or_insert(BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent });
            }
            Action::SetPublicAccessBlock { block, .. } => {
                self.bucket.as_mut().expect("a bucket").public_access_block = Probe::Present(block);
            }
            Action::SetBucketPolicy { policy, .. } => {
                self.bucket.as_mut().expect("a bucket").policy = Probe::Present(policy)
            }
            Action::EnableVersioning { .. } | Action::SetKeyringBucketPolicy { .. } => {
                unreachable!("these worlds keep no keyring in S3")
            }
            Action::RememberPublishedKeys(keys) => self.published_keys = Some(keys),
            Action::Publish { key, body, replaces, .. } => {
                let found = self.objects.get(&key).map(|body| Digest::of(body).to_string());
                assert_eq!(found, replaces, "a write over something else than what was observed");
                self.objects.insert(key, body);
            }
            Action::CreateProvider { audiences, .. } => {
                self.provider = Some(ProviderFacts { audiences, is_ours: true })
            }
            Action::AddProviderAudience { audience } => {
                self.provider.as_mut().expect("a provider").audiences.push(audience);
            }
            Action::SaveLastGood { manifest, .. } => self.last_good = Some(manifest),
            Action::BeginChange(change) => {
                self.change = Some(change);
                self.change_is_of_this_boot = true;
                self.watched_seconds = 0;
            }
            Action::ReplaceManifest { text, .. } => {
                self.manifest = Some(text);
                self.pass_time(20);
                self.start();
            }
            Action::ConfirmChange => {
                self.change = None;
                self.refused = None;
            }
            Action::PersistToKubeadm { text, resource_version } => {
                assert_eq!(resource_version, "7");
                self.kubeadm_config = Some(text);
            }
            Action::RememberProven { proven, .. } => self.proven = Some(proven),
            Action::ForgetProven(_) => self.proven = None,
            Action::ForgetChange => self.change = None,
            Action::RefuseChange(refused) => self.refused = Some(refused),
            Action::TellOfMissedPods { .. } => {}
            Action::DeleteProvider { .. }
            | Action::DeleteDocument { .. }
            | Action::CloseBucket { .. }
            | Action::RemoveRole { .. }
            | Action::LetGoOfRoleObject(_)
            | Action::DeleteBucket { .. }
            | Action::RememberTornDown(_)
            | Action::ForgetTornDown
            | Action::DeleteKeyring { .. } => panic!("{action} without a keyring"),
        }
    }

    /// The promises that must hold at every moment.
    fn check(&self, tokens: &[(String, String)]) {
        if self.provider.as_ref().is_some_and(|provider| provider.is_ours && !provider.audiences.is_empty()) {
            assert!(!self.public_kids().is_empty(), "IAM trusts an issuer without documents");
        }
        let Some(process) = &self.process else { return };
        for (issuer, kid) in tokens {
            assert!(process.issuers.contains(issuer), "a live token of issuer {issuer} is refused");
            assert!(
                process.verifying.iter().any(|key| key.kid().as_str() == kid),
                "a live token of key {kid} is refused"
            );
        }
        if process.issuers.first().map(String::as_str) == Some(OURS) {
            assert!(
                self.public_kids().iter().any(|kid| kid == process.signing.kid().as_str()),
                "a key signs before it is public"
            );
        }
    }

    /// Passes until one has nothing to do, with every promise checked after every action.
    fn converge(&mut self, desired: &Desired) -> Plan {
        let mut tokens = Vec::new();
        for _ in 0..20 {
            let plan = plan(desired, &self.facts(), self.now);
            for action in &plan.actions {
                if let Some(process) = &self.process {
                    tokens.push((process.issuers[0].clone(), process.signing.kid().to_string()));
                }
                self.carry_out(action);
                self.check(&tokens);
            }
            if plan.actions.is_empty() {
                return plan;
            }
            self.pass_time(5);
        }
        panic!("20 passes, and still something to do");
    }

    /// Carries out at most `left` actions of one pass; whether there were any.
    fn take_steps(&mut self, left: &mut usize) -> bool {
        let plan = plan(&desired(), &self.facts(), self.now);
        plan.actions.iter().take(*left).for_each(|action| self.carry_out(action));
        *left = left.saturating_sub(plan.actions.len());
        !plan.actions.is_empty()
    }

    /// The machine is off and comes up again: what was proven is put back, then kubelet starts the API server.
    fn boot(&mut self) {
        self.process = None;
        self.change_is_of_this_boot = false;
        let whole = |bytes: &[u8]| Digest::of(bytes);
        let facts = RestoreFacts {
            proven: probe(self.proven.clone()),
            change: probe(self.change.clone()),
            refused: probe(self.refused.clone()),
            running: None,
            manifest: self.parsed().map_or(FileState::Absent, |found| {
                let digest = whole(found.text().as_bytes());
                FileState::Whole(found, digest)
            }),
            manifest_copy: Probe::Absent,
            signing_key: self.signing.clone().map_or(FileState::Absent, |key| FileState::Whole(key, whole(b"key"))),
            signing_copy: Probe::Absent,
            verifying_keys: self
                .verifying
                .clone()
                .map_or(FileState::Absent, |keys| FileState::Whole(keys, whole(b"keys"))),
            verifying_copy: Probe::Absent,
        };
        for file in restore(&facts).put_back {
            match file.content {
                Content::Text(text) => self.manifest = Some(text),
                Content::CopyOf(copy) => panic!("no copy is there: {}", copy.display()),
            }
        }
        self.start();
    }
}

/// A kops node whose cluster spec gives `issuer` and the `additional` ones.
fn of_kops(issuer: &str, additional: &[&str]) -> (World, Desired) {
    let is_issuer = |line: &&str| !line.contains("--service-account-issuer=");
    let kept: String = KOPS_MANIFEST.lines().filter(is_issuer).map(|line| format!("{line}\n")).collect();
    let flag = |issuer: &&str| format!("    - --service-account-issuer={issuer}\n");
    let jwks_uri = "    - --service-account-jwks-uri=https://api.internal.prod-1.example.com";
    let last = "    - --v=2\n";
    let manifest = kept
        .replace(jwks_uri, &format!("{}    - --service-account-jwks-uri={issuer}", flag(&issuer)))
        .replace(last, &format!("{last}{}", additional.iter().map(flag).collect::<String>()));
    let mut world = World { manifest: Some(manifest), kubeadm_config: None, ..World::of_kubeadm() };
    world.start();
    world.restarts = 0;
    let desired = Desired {
        manifest: "/etc/kubernetes/manifests/kube-apiserver.manifest".into(),
        signing_key: "/srv/kubernetes/kube-apiserver/service-account.key".into(),
        verifying_keys: "/srv/kubernetes/kube-apiserver/service-account.pub".into(),
        keys: KeyKeeping::Follow,
        kubeadm_config: false,
        ..desired()
    };
    (world, desired)
}

fn probe<T>(found: Option<T>) -> Probe<T> {
    found.map_or(Probe::Absent, Probe::Present)
}

#[test]
fn running_kubeadm_node_is_adopted_with_one_restart_and_no_refused_token() {
    let mut world = World::of_kubeadm();
    let plan = world.converge(&desired());
    assert!(plan.is_converged(), "{plan:?}");
    assert_eq!(world.restarts, 1);
    assert_eq!(world.parsed().expect("a manifest").issuers(), [OURS, OLD]);
    assert_eq!(world.public_kids(), [key(0).kid().to_string()]);
    assert_eq!(world.change, None);
}

#[test]
fn stopping_after_any_action_converges_to_the_same_end() {
    let mut whole = World::of_kubeadm();
    whole.converge(&desired());
    for steps in 0..20 {
        let mut world = World::of_kubeadm();
        let mut left = steps;
        while left > 0 && world.take_steps(&mut left) {}
        assert!(world.converge(&desired()).is_converged(), "after {steps} actions");
        assert_eq!((world.manifest.clone(), world.objects.clone()), (whole.manifest.clone(), whole.objects.clone()));
        assert!(world.restarts <= 1, "{} restarts after {steps} actions", world.restarts);
    }
}

#[test]
fn node_prepared_before_kubeadm_never_restarts() {
    let mut world = World::of_kubeadm();
    (world.manifest, world.process, world.has_kubeconfig) = (None, None, false);
    (world.signing, world.verifying) = (None, None);
    let plan = world.converge(&desired());
    assert!(plan.is_converged(), "{plan:?}");
    assert_eq!(world.public_kids(), [key(2), key(1)].map(|key| key.kid().to_string()));
    let wanted = crate::model::manifest::Desired {
        issuers: vec![OURS.to_owned(), OLD.to_owned()],
        jwks_uri: Some(desired().jwks_uri()),
        api_audiences: None,
        applied: None,
    };
    let from_kubeadm =
        Manifest::parse(MANIFEST.as_bytes()).and_then(|manifest| manifest.with(&wanted)).expect("an edit");
    world.manifest = Some(from_kubeadm.text().to_owned());
    world.has_kubeconfig = true;
    world.start();
    world.restarts = 0;
    assert!(world.converge(&desired()).is_converged());
    assert_eq!(world.restarts, 0);
}

#[test]
fn api_server_that_does_not_come_back_gets_its_manifest_back_and_the_change_is_not_tried_again() {
    let mut world = World::of_kubeadm();
    world.starts_with = |issuers| issuers[0] != OURS;
    world.converge(&desired());
    assert!(world.process.is_none());
    world.pass_time(301);
    let plan = world.converge(&desired());
    assert_eq!(world.manifest.as_deref(), Some(MANIFEST));
    assert!(world.process.is_some());
    let restarts = world.restarts;
    world.pass_time(86_400);
    assert!(world.converge(&desired()).needs_a_person[0].starts_with("change 1-"));
    assert_eq!((world.restarts, plan.actions.len()), (restarts, 0));
}

#[test]
fn rollback_waits_its_whole_limit_and_no_longer() {
    let mut world = World::of_kubeadm();
    world.starts_with = |issuers| issuers[0] != OURS;
    world.converge(&desired());
    for (seconds, rolls_back) in [(300, false), (301, true)] {
        world.watched_seconds = seconds;
        let plan = plan(&desired(), &world.facts(), world.now);
        assert_eq!(
            plan.actions.iter().any(|action| matches!(action, Action::RefuseChange(_))),
            rolls_back,
            "{seconds} s"
        );
    }
}

#[test]
fn change_is_proven_by_a_new_ready_process_that_serves_and_signs_with_what_the_files_hold_and_by_nothing_less() {
    let world = World::whose_change_is_open();
    let whole = world.facts();
    let ApiServer::Seen(evidence) = &whole.node.api_server else { panic!("the API server is back") };
    let old = world.change.clone().expect("a change").old_process_started_at;
    let token = |kid: &str, issuer: &str| Probe::Present(ProbeToken { kid: kid.to_owned(), issuer: issuer.to_owned() });
    let own = key(0).kid().to_string();
    let cases = [
        ("no new process yet", Evidence { started_at: old, ..evidence.clone() }),
        ("no new process yet", Evidence { started_at: None, ..evidence.clone() }),
        ("the new process is not ready", Evidence { ready: false, ..evidence.clone() }),
        (
            "/openid/v1/jwks does not have key",
            Evidence { served: Jwks::of(&[key(1)]).expect("a JWKS"), ..evidence.clone() },
        ),
        ("its tokens are issued by https://kubernetes", Evidence { probe_token: token(&own, OLD), ..evidence.clone() }),
        ("its tokens are signed with key", Evidence { probe_token: token("other", OURS), ..evidence.clone() }),
        ("it mints no probe token", Evidence { probe_token: Probe::Absent, ..evidence.clone() }),
        ("403", Evidence { probe_token: Probe::Unknown("403".to_owned()), ..evidence.clone() }),
    ];
    for (missing, evidence) in cases {
        let mut facts = whole.clone();
        facts.node.api_server = ApiServer::Seen(evidence);
        let plan = plan(&desired(), &facts, world.now);
        let waits = format!("for kube-apiserver to prove the change: {missing}");
        assert!(plan.waiting_for.iter().any(|what| what.starts_with(&waits)), "{missing}: {plan:?}");
        assert!(!plan.actions.contains(&Action::ConfirmChange), "{missing}");
    }
    assert_eq!(plan(&desired(), &whole, world.now).actions, [Action::ConfirmChange]);
}

#[test]
fn image_gets_its_manifest_only_after_the_documents_are_stored() {
    let mut world = World::of_kubeadm();
    let mut facts = world.facts();
    facts.node.api_server = ApiServer::None;
    let before = plan(&desired(), &facts, world.now);
    let replaces = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::ReplaceManifest { .. }));
    assert!(!replaces(&before.actions) && replaces(&before.later), "{before:?}");
    before.actions.iter().for_each(|action| world.carry_out(action));
    let mut facts = world.facts();
    facts.node.api_server = ApiServer::None;
    assert!(replaces(&plan(&desired(), &facts, world.now).actions));
}

#[test]
fn document_of_another_media_type_is_published_again() {
    let world = World::adopted();
    let mut facts = world.facts();
    for (media_type, again) in [("application/json; charset=utf-8", false), ("text/plain", true)] {
        if let Some(Probe::Present(found)) = &mut facts.cluster.public_jwks {
            found.content_type = Some(media_type.to_owned());
        }
        assert_eq!(!plan(&desired(), &facts, world.now).actions.is_empty(), again, "{media_type}");
    }
}

#[test]
fn clock_that_is_set_during_a_restart_neither_stops_nor_hurries_the_rollback() {
    for step in [-86_400, 86_400] {
        let mut world = World::of_kubeadm();
        world.starts_with = |issuers| issuers[0] != OURS;
        world.converge(&desired());
        world.watched_seconds = 10;
        world.now = world.now.checked_add(SignedDuration::from_secs(step)).expect("a time");
        world.converge(&desired());
        assert!(world.refused.is_none(), "{step} s: rolled back before its time");
        world.pass_time(301);
        world.converge(&desired());
        assert_eq!(world.manifest.as_deref(), Some(MANIFEST), "{step} s");
    }
}

#[test]
fn process_that_started_before_the_old_one_by_a_wrong_clock_is_a_new_one_all_the_same() {
    let mut world = World::whose_change_is_open();
    let hours_ago = world.now.checked_sub(SignedDuration::from_hours(9)).expect("a time");
    world.process.as_mut().expect("a process").started_at = hours_ago;
    assert_eq!(plan(&desired(), &world.facts(), world.now).actions, [Action::ConfirmChange]);
}

#[test]
fn rollback_stands_before_everything_else_whatever_the_key_files_and_the_configuration_say() {
    let mut world = World::of_kubeadm();
    world.starts_with = |issuers| issuers[0] != OURS;
    world.converge(&desired());
    world.pass_time(301);
    world.objects.clear();
    let audiences: Vec<Audience> = vec!["other".parse().expect("an audience")];
    let reloaded = Desired { api_audiences: Some(audiences), verifying_keys: "/elsewhere/sa.pub".into(), ..desired() };
    let mut facts = world.facts();
    facts.node.signing_key = Probe::Unknown("not a key".to_owned());
    for desired in [desired(), reloaded] {
        let plan = plan(&desired, &facts, world.now);
        let first: Vec<&str> = plan.actions.iter().take(3).map(Action::name).collect();
        assert_eq!(first, ["refuse-change", "replace-manifest", "forget-change"]);
    }
}

#[test]
fn change_that_somebody_takes_back_by_hand_is_not_made_again() {
    let mut world = World::of_kubeadm();
    world.starts_with = |issuers| issuers[0] != OURS;
    world.converge(&desired());
    world.manifest = Some(MANIFEST.to_owned());
    let plan = world.converge(&desired());
    assert!(plan.actions.is_empty() && world.change.is_some(), "the API server does not answer yet: {plan:?}");
    world.pass_time(20);
    world.start();
    let restarts = world.restarts;
    assert!(world.converge(&desired()).needs_a_person[0].contains("somebody put the previous manifest back"));
    assert_eq!((world.manifest.as_deref(), world.restarts), (Some(MANIFEST), restarts));
}

#[test]
fn node_without_keys_makes_none_where_the_cluster_has_some_or_kubeadm_runs() {
    let mut other = World::of_kubeadm();
    other.converge(&desired());
    let mut world = World { published_keys: None, change: None, ..other.clone() };
    (world.manifest, world.process, world.signing, world.verifying) = (None, None, None, None);
    let found = plan(&desired(), &world.facts(), world.now);
    assert_eq!((found.actions.len(), found.waiting_for.len()), (0, 1), "{found:?}");
    world.objects.clear();
    world.kubeadm_runs = true;
    let found = plan(&desired(), &world.facts(), world.now);
    assert_eq!((found.actions.len(), found.waiting_for.len()), (0, 1), "{found:?}");
}

#[test]
fn keys_that_others_published_stay_until_their_tokens_expired() {
    let mut world = World::of_kubeadm();
    let theirs = Jwks::of(&[key(1)]).expect("a JWKS").render();
    world.objects.insert("openid/v1/jwks".to_owned(), theirs);
    world.bucket = Some(BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent });
    assert!(world.converge(&desired()).is_converged());
    assert!(world.public_kids().contains(&key(1).kid().to_string()));
    world.pass_time(86_401);
    world.converge(&desired());
    assert_eq!(world.public_kids(), [key(0).kid().to_string()]);
}

#[test]
fn proven_flags_are_put_into_kubeadm_config_so_that_an_upgrade_keeps_them() {
    let issuers = |world: &World| {
        let text = world.kubeadm_config.clone().unwrap_or_default();
        let config = KubeadmConfig::parse(text.as_bytes()).expect("a configuration");
        config.api_server_arg("service-account-issuer").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (standing, then) in [
        (vec![], vec![OURS, OLD]),
        (vec![OLD, OURS], vec![OURS, OLD]),
        (vec![OURS, OLD], vec![OURS, OLD]),
        (vec!["https://theirs.example"], vec![OURS, OLD, "https://theirs.example"]),
    ] {
        let mut world = World { kubeadm_config: Some(kubeadm_config(&standing)), ..World::of_kubeadm() };
        let plan = world.converge(&desired());
        assert_eq!(
            (plan.is_converged(), plan.notices.len(), issuers(&world)),
            (true, 0, then.iter().map(|issuer| (*issuer).to_owned()).collect()),
            "{plan:?}"
        );
    }
    let mut facts = World::of_kubeadm();
    facts.converge(&desired());
    facts.kubeadm_config = Some(kubeadm_config(&[]));
    let mut facts = facts.facts();
    let ApiServer::Seen(evidence) = &mut facts.node.api_server else { panic!("an API server") };
    evidence.probe_token = Probe::Absent;
    assert_eq!(plan(&desired(), &facts, World::of_kubeadm().now).actions, [], "written without a proof");
}

#[test]
fn flags_that_kubeadm_would_undo_are_said_where_its_configuration_cannot_be_written() {
    let old = kubeadm_config(&[]).replace("v1.36.3", "v1.35.0");
    let v1beta3 = kubeadm_config(&[]).replace("v1beta4", "v1beta3");
    for (config, servers, why) in [
        (old, 1, "and this cluster has v1.35.0; upgrade to one of these first"),
        (v1beta3, 1, "hold one issuer"),
        (kubeadm_config(&[]), 3, "and several API servers"),
    ] {
        let mut world = World::adopted();
        (world.kubeadm_config, world.api_servers) = (Some(config.clone()), servers);
        let plan = world.converge(&desired());
        assert!(plan.notices[0].contains(why), "{plan:?}");
        assert!(plan.notices[0].starts_with("kubeadm upgrade and kubeadm join would write manifests without issuer"));
        assert_eq!(world.kubeadm_config, Some(config));
        assert_eq!(world.converge(&Desired { kubeadm_config: false, ..desired() }).notices, [""; 0]);
    }
}

#[test]
fn wrong_clock_retires_no_key_and_puts_none_to_use() {
    let mut world = World::that_lost_its_second_key();
    world.pass_time(90_000);
    let mut facts = world.facts();
    let before = facts.node.published_keys.clone();
    if let Some(Probe::Present(found)) = &mut facts.cluster.public_jwks {
        found.date = world.now.checked_sub(SignedDuration::from_hours(1)).ok();
    }
    let found = plan(&desired(), &facts, world.now);
    assert_eq!((found.actions.len(), found.notices.len()), (0, 1), "{found:?}");
    assert!(before.present().is_some_and(|keys| keys.keys.len() == 2));
}

#[test]
fn manifest_that_somebody_else_wrote_meanwhile_is_not_rolled_back() {
    let mut world = World::of_kubeadm();
    world.starts_with = |issuers| issuers[0] != OURS;
    world.converge(&desired());
    let theirs =
        world.manifest.clone().expect("a manifest").replace("--allow-privileged=true", "--allow-privileged=false");
    world.manifest = Some(theirs.clone());
    world.pass_time(301);
    let plan = plan(&desired(), &world.facts(), world.now);
    assert_eq!(plan.actions.last(), Some(&Action::ForgetChange));
    assert!(!plan.actions.iter().any(|action| matches!(action, Action::ReplaceManifest { .. })));
}

#[test]
fn nothing_is_written_over_what_could_not_be_read() {
    let unknown = || "not to be had".to_owned();
    type Case = (&'static str, fn(&mut Facts));
    let cases: Vec<Case> = vec![
        ("signing key", |facts| facts.node.signing_key = Probe::Unknown(String::new())),
        ("verifying keys", |facts| facts.node.verifying_keys = Probe::Unknown(String::new())),
        ("both absent", |facts| {
            facts.node.signing_key = Probe::Absent;
            facts.node.verifying_keys = Probe::Absent;
        }),
        ("only sa.pub", |facts| facts.node.signing_key = Probe::Absent),
        ("only sa.key", |facts| facts.node.verifying_keys = Probe::Absent),
        ("memory of keys", |facts| facts.node.published_keys = Probe::Unknown(String::new())),
        ("bucket", |facts| facts.cluster.bucket = Some(Probe::Unknown(String::new()))),
    ];
    for (what, change) in cases {
        let mut facts = World::of_kubeadm().facts();
        change(&mut facts);
        let plan = plan(&desired(), &facts, "2026-11-21T13:00:00Z".parse().expect("a time"));
        assert_eq!(plan.actions, [], "{what}");
        assert!(!plan.waiting_for.is_empty() || !plan.needs_a_person.is_empty(), "{what}: nobody is told");
    }
    let mut facts = World::of_kubeadm().facts();
    facts.node.manifest = Probe::Unknown(unknown());
    facts.node.api_server = ApiServer::Silent(unknown());
    let plan = plan(&desired(), &facts, "2026-11-21T13:00:00Z".parse().expect("a time"));
    assert!(plan.actions.iter().all(|action| !matches!(action, Action::ReplaceManifest { .. })));
}

#[test]
fn documents_that_could_not_be_read_are_not_written_over() {
    let world = World::adopted();
    for (jwks, discovery) in [(true, false), (false, true)] {
        let mut facts = world.facts();
        let unknown = || Probe::Unknown("503".to_owned());
        if jwks {
            facts.cluster.stored_jwks = unknown();
        }
        if discovery {
            facts.cluster.stored_discovery = unknown();
        }
        let plan = plan(&desired(), &facts, world.now);
        assert_eq!((plan.actions, plan.waiting_for), (vec![], vec!["503".to_owned()]));
    }
}

#[test]
fn deleted_or_edited_documents_are_published_again() {
    let mut world = World::adopted();
    let whole = world.objects.clone();
    for path in ["openid/v1/jwks", DISCOVERY_PATH] {
        world.objects.remove(path);
        assert!(world.converge(&desired()).is_converged());
        assert_eq!(world.objects, whole);
        world.objects.insert(path.to_owned(), b"<html>".to_vec());
        assert!(world.converge(&desired()).is_converged());
        assert_eq!(world.objects, whole);
    }
    assert_eq!(world.restarts, 1);
}

#[test]
fn key_file_that_lost_a_key_the_api_server_accepts_stops_every_restart() {
    let mut world = World::of_kubeadm();
    world.verifying = Some(vec![key(0), key(1)]);
    world.start();
    world.verifying = Some(vec![key(0)]);
    world.restarts = 0;
    let plan = world.converge(&desired());
    assert_eq!(world.restarts, 0);
    assert_eq!(
        plan.needs_a_person,
        [format!(
            "/etc/kubernetes/pki/sa.pub no longer holds key {}, which the running kube-apiserver accepts: its next restart would \
             refuse the tokens of that key (nothing written); put the public key back, a copy may be in /var/lib/irsad/last-good",
            key(1).kid()
        )]
    );
    assert!(world.public_kids().contains(&key(1).kid().to_string()), "its tokens live on outside");
}

#[test]
fn replaced_signing_key_is_public_before_the_api_server_restarts_with_it() {
    let mut world = World::adopted();
    world.signing = Some(key(1));
    world.verifying = Some(vec![key(1), key(0)]);
    let plan = world.converge(&desired());
    assert!(plan.waiting_for[0].contains("(rotation.publishLead) before kube-apiserver signs with it"), "{plan:?}");
    assert_eq!(world.restarts, 1, "a key that verifiers may not have fetched yet is not used");
    world.pass_time(86_400);
    let plan = world.converge(&desired());
    assert!(plan.is_converged(), "{plan:?}");
    assert_eq!(world.restarts, 2);
    assert_eq!(world.process.clone().expect("a process").signing.kid(), key(1).kid());
    assert_eq!(world.public_kids(), [key(1).kid().to_string(), key(0).kid().to_string()]);
}

#[test]
fn api_server_restarts_once_for_a_key_it_does_not_accept_yet_and_once_for_one_it_does_not_sign_with() {
    let mut world = World::adopted();
    world.verifying = Some(vec![key(0), key(1)]);
    assert!(world.converge(&desired()).is_converged());
    assert_eq!((world.restarts, world.process.clone().expect("a process").verifying.len()), (2, 2));
    world.pass_time(86_400);
    world.signing = Some(key(1));
    assert!(world.converge(&desired()).is_converged());
    assert_eq!((world.restarts, world.process.clone().expect("a process").signing.kid()), (3, key(1).kid()));
}

#[test]
fn followed_keys_are_published_and_never_cause_a_restart() {
    let mut world = World::of_kubeadm();
    let desired = Desired { keys: KeyKeeping::Follow, ..desired() };
    world.converge(&desired);
    world.verifying = Some(vec![key(0), key(1)]);
    assert!(world.converge(&desired).is_converged());
    assert_eq!((world.restarts, world.public_kids().len()), (1, 2));
    (world.signing, world.verifying) = (None, None);
    (world.manifest, world.process) = (None, None);
    let plan = plan(&desired, &world.facts(), world.now);
    assert_eq!((plan.actions, plan.waiting_for.len()), (vec![], 1));
}

#[test]
fn key_that_left_stays_published_until_its_last_token_expired() {
    let mut world = World::that_lost_its_second_key();
    for (seconds, published) in [(0, true), (86_000, true), (401, false)] {
        world.pass_time(seconds);
        assert!(world.converge(&desired()).is_converged());
        assert_eq!(world.public_kids().contains(&key(1).kid().to_string()), published, "{seconds} s later");
    }
}

#[test]
fn pair_that_does_not_belong_together_is_refused_by_name() {
    let mut world = World::of_kubeadm();
    world.signing = Some(key(1));
    let plan = world.converge(&desired());
    assert_eq!(
        plan.needs_a_person,
        [format!(
            "/etc/kubernetes/pki/sa.key and /etc/kubernetes/pki/sa.pub do not belong together: key {} of /etc/kubernetes/pki/sa.key is \
             not among the keys of /etc/kubernetes/pki/sa.pub, so tokens it signs would be refused (nothing written); put the pair back \
             that belongs together",
            key(1).kid()
        )]
    );
    assert!(world.objects.is_empty() && world.bucket.is_none() && world.restarts == 0);
}

#[test]
fn change_that_waits_is_looked_at_closely_each_time() {
    type Case = (&'static str, fn(&mut World), bool);
    let cases: [Case; 2] = [
        ("kubeadm runs", |world| world.kubeadm_runs = true, true),
        ("several API servers", |world| world.api_servers = 3, false),
    ];
    for (what, change, closely) in cases {
        let mut world = World::of_kubeadm();
        change(&mut world);
        let plan = world.converge(&desired());
        assert_eq!(plan.look_closer, closely, "{what}: {plan:?}");
    }
}

#[test]
fn restart_is_put_off_while_something_stands_against_it() {
    type Case = (&'static str, fn(&mut World, &mut Desired));
    let cases: Vec<Case> = vec![
        ("kubeadm runs", |world, _| world.kubeadm_runs = true),
        ("several API servers", |world, _| world.api_servers = 3),
        ("never", |_, desired| desired.restart = RestartPolicy::Never),
        ("opportunistic", |_, desired| desired.restart = RestartPolicy::Opportunistic),
        ("no kubeconfig", |world, _| world.has_kubeconfig = false),
        ("API server down", |world, _| world.process = None),
    ];
    for (what, change) in cases {
        let (mut world, mut desired) = (World::of_kubeadm(), desired());
        change(&mut world, &mut desired);
        let plan = world.converge(&desired);
        assert_eq!(world.manifest.as_deref(), Some(MANIFEST), "{what}");
        assert_eq!((world.restarts, plan.waiting_for.len()), (0, 1), "{what}: {plan:?}");
        assert!(!world.public_kids().is_empty(), "{what}: published all the same");
    }
}

#[test]
fn audience_in_use_cannot_be_left_out() {
    let mut world = World::of_kubeadm();
    let audiences: Vec<Audience> = vec!["sts.amazonaws.com".parse().expect("an audience")];
    let desired = Desired { api_audiences: Some(audiences), ..desired() };
    let plan = world.converge(&desired);
    assert_eq!(
        plan.needs_a_person,
        [
            "apiServer.audiences leaves out https://kubernetes.default.svc.cluster.local, which tokens in use carry: they would be refused \
          (nothing written); add it to the list or write apiServer.audiences: keep"
        ]
    );
    assert_eq!(world.restarts, 0);
}

#[test]
fn foreign_provider_is_used_and_never_changed() {
    for (audiences, needed) in [(vec!["sts.amazonaws.com"], 0), (vec![], 1)] {
        let mut world = World::of_kubeadm();
        let audiences: Vec<Audience> = audiences.iter().map(|text| text.parse().expect("an audience")).collect();
        world.provider = Some(ProviderFacts { audiences: audiences.clone(), is_ours: false });
        let plan = world.converge(&desired());
        assert_eq!(world.provider, Some(ProviderFacts { audiences, is_ours: false }));
        assert_eq!((plan.needs_a_person.len(), plan.notices.len()), (needed, 1), "{plan:?}");
    }
}

#[test]
fn provider_is_created_only_after_an_outsider_saw_the_documents() {
    let world = World::adopted();
    let mut facts = world.facts();
    facts.cluster.provider = Some(Probe::Absent);
    assert!(matches!(plan(&desired(), &facts, world.now).actions.as_slice(), [Action::CreateProvider { .. }]));
    facts.cluster.public_jwks = Some(Probe::Unknown("403".to_owned()));
    assert_eq!(plan(&desired(), &facts, world.now).actions, []);
}

#[test]
fn missing_audience_is_added_to_our_own_provider() {
    let mut world = World::of_kubeadm();
    world.provider = Some(ProviderFacts { audiences: Vec::new(), is_ours: true });
    assert!(world.converge(&desired()).is_converged());
    assert_eq!(world.provider.expect("a provider").audiences.len(), 1);
}

#[test]
fn node_that_lost_its_keys_does_not_make_others() {
    let mut world = World::adopted();
    (world.manifest, world.process, world.signing, world.verifying) = (None, None, None, None);
    let found = plan(&desired(), &world.facts(), world.now);
    assert_eq!((found.actions.len(), found.waiting_for.len()), (0, 1));
    let asked_for = prepare(&desired(), &world.facts().node);
    assert!(matches!(asked_for.actions.as_slice(), [Action::MakeKeyPair { .. }]));
}

#[test]
fn verification_file_that_is_gone_is_not_made_anew_from_the_signing_key_alone() {
    let mut world = World::of_two_keys();
    (world.manifest, world.process, world.verifying) = (None, None, None);
    let found = plan(&desired(), &world.facts(), world.now);
    assert_eq!((found.actions.len(), found.needs_a_person.len()), (0, 1), "{found:?}");
}

#[test]
fn restart_that_no_edit_can_cause_is_asked_of_a_person() {
    let mut world = World::of_two_keys();
    let restarts = world.restarts;
    world.process.as_mut().expect("a process").verifying = vec![key(0)];
    let found = world.converge(&desired());
    assert!(
        found.needs_a_person[0].starts_with("kube-apiserver runs with other keys than its files hold"),
        "{found:?}"
    );
    assert_eq!((world.restarts, world.change), (restarts, None));
}

#[test]
fn copies_for_a_rollback_are_of_key_files_that_the_api_server_ran_from() {
    for (signing, copies) in [(0, 2), (1, 0)] {
        let mut world = World::of_kubeadm();
        world.verifying = Some(vec![key(0), key(1)]);
        world.start();
        world.signing = Some(key(signing));
        let mut saved = None;
        for _ in 0..6 {
            let found = plan(&desired(), &world.facts(), world.now);
            for action in &found.actions {
                if let Action::SaveLastGood { key_files, .. } = action {
                    saved = Some(key_files.len());
                }
                world.carry_out(action);
            }
            world.pass_time(86_400);
        }
        assert_eq!(saved, Some(copies), "the file's key is number {signing}");
    }
}

#[test]
fn age_of_a_key_does_not_count_while_the_clock_is_wrong() {
    let mut world = World::of_two_keys();
    let restarts = world.restarts;
    world.signing = Some(key(1));
    world.pass_time(90_000);
    for _ in 0..4 {
        let mut facts = world.facts();
        if let Some(Probe::Present(found)) = &mut facts.cluster.public_jwks {
            found.date = world.now.checked_sub(SignedDuration::from_hours(20)).ok();
        }
        plan(&desired(), &facts, world.now).actions.iter().for_each(|action| world.carry_out(action));
    }
    assert_eq!((world.restarts, world.change.is_some()), (restarts, false));
    assert!(world.converge(&desired()).is_converged());
    assert_eq!(world.restarts, restarts + 1);
}

#[test]
fn keys_of_other_control_plane_nodes_are_never_removed() {
    let mut world = World { api_servers: 3, ..World::of_kubeadm() };
    world.converge(&desired());
    let theirs = Jwks::of(&[key(0), key(1)]).expect("a JWKS").render();
    world.objects.insert("openid/v1/jwks".to_owned(), theirs);
    world.converge(&desired());
    assert!(world.public_kids().contains(&key(1).kid().to_string()));
}

#[test]
fn manifest_written_anew_before_a_boot_costs_no_restart_and_refuses_no_token() {
    let mut world = World::adopted();
    let tokens = [(OURS.to_owned(), key(0).kid().to_string()), (OLD.to_owned(), key(0).kid().to_string())];
    let proven = world.manifest.clone();
    world.manifest = Some(MANIFEST.to_owned());
    world.boot();
    world.check(&tokens);
    let restarts = world.restarts;
    assert!(world.converge(&desired()).is_converged());
    assert_eq!((world.restarts, &world.manifest), (restarts, &proven));
}

#[test]
fn boot_with_another_signing_key_signs_as_us_only_after_that_key_is_public() {
    let mut world = World::adopted();
    world.manifest = Some(MANIFEST.to_owned());
    (world.signing, world.verifying) = (Some(key(1)), Some(vec![key(1), key(0)]));
    world.boot();
    world.check(&[(OURS.to_owned(), key(0).kid().to_string())]);
    world.converge(&desired());
    world.check(&[(OURS.to_owned(), key(0).kid().to_string())]);
}

#[test]
fn power_cut_in_the_middle_of_a_change_converges_as_without_one() {
    for steps in 0..20 {
        let mut world = World::of_kubeadm();
        let mut left = steps;
        while left > 0 && world.take_steps(&mut left) {}
        world.boot();
        world.check(&[(OLD.to_owned(), key(0).kid().to_string())]);
        world.pass_time(60);
        assert!(world.converge(&desired()).is_converged(), "after {steps} actions");
        assert_eq!(world.parsed().expect("a manifest").issuers(), [OURS, OLD]);
    }
}

#[test]
fn what_is_put_back_at_boot_was_proven_by_a_token() {
    let mut world = World::adopted();
    let proven = world.proven.clone().expect("a proof");
    assert_eq!((proven.issuers, proven.signing_kid), (vec![OURS.to_owned(), OLD.to_owned()], key(0).kid().to_string()));
    world.proven = None;
    let mut facts = world.facts();
    let remembers = |facts: &Facts| {
        let plan = plan(&desired(), facts, world.now);
        plan.actions.iter().any(|action| matches!(action, Action::RememberProven { .. }))
    };
    assert!(remembers(&facts));
    let ApiServer::Seen(evidence) = &mut facts.node.api_server else { panic!("an API server") };
    for token in [
        Probe::Absent,
        Probe::Unknown("no answer".to_owned()),
        Probe::Present(ProbeToken { kid: key(1).kid().to_string(), issuer: OURS.to_owned() }),
    ] {
        evidence.probe_token = token;
        assert!(!remembers(&Facts {
            node: NodeFacts { api_server: ApiServer::Seen(evidence.clone()), ..world.facts().node },
            ..world.facts()
        }));
    }
}

#[test]
fn nothing_is_put_back_at_boot_where_the_manifest_is_left_to_a_person() {
    let mut world = World::adopted();
    world.converge(&Desired { restart: RestartPolicy::Never, ..desired() });
    assert_eq!(world.proven, None);
}

#[test]
fn manifest_that_a_person_has_put_back_stays_so_over_a_boot() {
    type Case = (&'static str, fn(&mut World, &mut Desired));
    let cases: [Case; 3] = [
        ("several API servers", |world, _| world.api_servers = 3),
        ("opportunistic", |_, desired| desired.restart = RestartPolicy::Opportunistic),
        ("never", |_, desired| desired.restart = RestartPolicy::Never),
    ];
    for (what, change) in cases {
        let (mut world, mut desired) = (World::of_kubeadm(), desired());
        world.converge(&desired);
        change(&mut world, &mut desired);
        world.manifest = Some(MANIFEST.to_owned());
        world.start();
        world.converge(&desired);
        world.boot();
        assert_eq!(world.manifest.as_deref(), Some(MANIFEST), "{what}");
    }
}

#[test]
fn irsad_stands_aside_where_kops_publishes_the_documents() {
    let store = "https://discovery.s3.eu-west-1.amazonaws.com/prod-1.example.com";
    let (mut world, desired) = of_kops(store, &["https://api.internal.prod-1.example.com"]);
    let before = world.clone();
    let plan = world.converge(&desired);
    assert_eq!(
        plan.needs_a_person,
        [format!(
            "kops publishes the discovery documents of {store} itself, so irsad leaves \
             /etc/kubernetes/manifests/kube-apiserver.manifest, s3://prod-1-oidc and IAM alone: stop irsad on this node (systemctl \
             disable --now irsad), or hand over to it: in the cluster spec put kubeAPIServer.serviceAccountIssuer in the place of \
             serviceAccountIssuerDiscovery"
        )]
    );
    assert_eq!((plan.waiting_for, plan.later), (vec![], vec![]));
    assert_eq!((world.manifest, world.objects, world.restarts), (before.manifest, before.objects, 0));
}

#[test]
fn kops_node_whose_cluster_spec_gives_our_issuer_is_never_edited() {
    let old = "https://api.internal.prod-1.example.com";
    let (mut world, desired) = of_kops(OURS, &[old]);
    let before = world.manifest.clone();
    // nodeup has written the files, kubelet pulls the image.
    world.process = None;
    assert_eq!(world.converge(&desired).waiting_for, ["connection refused"]);
    world.start();
    let plan = world.converge(&desired);
    assert!(plan.is_converged(), "{plan:?}");
    assert_eq!((world.restarts, world.public_kids()), (1, vec![key(0).kid().to_string()]));
    assert_eq!(world.manifest, before);
}

#[test]
fn kops_node_is_adopted_where_nobody_publishes_or_our_issuer_is_accepted_already() {
    let bucket = "https://discovery.s3.eu-west-1.amazonaws.com/prod-1.example.com";
    for (issuer, additional) in [("https://api.internal.prod-1.example.com", None), (bucket, Some(OURS))] {
        let (mut world, desired) = of_kops(issuer, additional.as_slice());
        let plan = world.converge(&desired);
        assert!(plan.is_converged(), "{plan:?}");
        assert_eq!((world.restarts, world.public_kids().len()), (1, 1));
        assert_eq!(world.parsed().expect("a manifest").issuers(), [OURS, issuer]);
    }
}

#[test]
fn kubeadm_node_with_documents_in_another_bucket_is_adopted() {
    let other = "https://by-hand.s3.eu-west-1.amazonaws.com";
    let mut world = World { manifest: Some(MANIFEST.replace(OLD, other)), ..World::of_kubeadm() };
    world.start();
    assert!(world.converge(&desired()).is_converged());
    assert_eq!(world.parsed().expect("a manifest").issuers(), [OURS, other]);
}

#[test]
fn api_server_that_was_right_from_the_start_is_asked_for_its_proof_once() {
    let mut world = World::adopted();
    let look = |world: &World, desired: &Desired| {
        let mut facts = world.facts();
        let ApiServer::Seen(evidence) = &mut facts.node.api_server else { panic!("an API server") };
        evidence.probe_token = Probe::Absent;
        let plan = plan(desired, &facts, world.now);
        (plan.look_closer, plan.next_check, plan.is_converged())
    };
    assert_eq!(look(&world, &desired()), (false, CHECK_INTERVAL, true));
    world.proven = None;
    assert_eq!(look(&world, &desired()), (true, WAITING_INTERVAL, true));
    assert!(!look(&world, &Desired { restart: RestartPolicy::Never, ..desired() }).0);
}
