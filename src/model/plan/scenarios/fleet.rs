//! Several control-plane nodes, each planning for itself, one keyring between them: what the planner decides is carried out to the
//! letter, and after every single action every live token is presented to every API server that runs.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::{
    file::ExpectedFile,
    jwks::Jwks,
    keyring::{self, HighWater, Keyring},
    memory::Version1,
    rotation::{self, Ack, ControlPlane, ControlPlaneNode},
};

/// P-256 public keys, made with `openssl ecparam -name prime256v1 -genkey` for these tests.
const MORE_KEYS: &str = include_str!("../../../../tests/fixtures/keys/24-p256.pub");
const DAY: i64 = 86_400;
/// How long an API server is away when its manifest changes, in seconds.
const RESTART: i64 = 20;

fn more_keys() -> Vec<PublicKey> {
    PublicKey::read_all(MORE_KEYS.as_bytes()).expect("keys")
}

#[derive(Clone)]
struct Node {
    name: String,
    machine: String,
    manifest: Option<String>,
    signing: Option<PublicKey>,
    verifying: Vec<PublicKey>,
    process: Option<Process>,
    starts_at: Option<Timestamp>,
    never_started: bool,
    /// The machine is switched on.
    is_on: bool,
    /// irsad runs on it.
    has_irsad: bool,
    starts_with: fn(&Manifest) -> bool,
    written_at: Timestamp,
    change: Option<Change>,
    begun_at: Timestamp,
    refused: Option<RefusedChange>,
    proven: Option<Proven>,
    last_good: Option<String>,
    applied: Option<Vec<u8>>,
    restarts: usize,
    leads: bool,
}

#[derive(Clone)]
struct Token {
    issuer: String,
    kid: String,
    expires: Timestamp,
}

#[derive(Clone)]
struct Fleet {
    now: Timestamp,
    nodes: Vec<Node>,
    keyring: Option<Vec<u8>>,
    version: u64,
    acks: BTreeMap<String, (Ack, u64)>,
    kept: BTreeSet<String>,
    made: usize,
    objects: BTreeMap<String, Vec<u8>>,
    bucket: Option<BucketFacts>,
    provider: Option<ProviderFacts>,
    kubeadm_config: String,
    tokens: Vec<Token>,
}

/// Somebody else has written in between.
struct Conflict;

impl Fleet {
    /// A cluster of kubeadm that has run for an hour, with irsad just installed on each node.
    fn of_kubeadm(count: usize) -> Self {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let node = |number: usize| Node {
            name: format!("n{number}"),
            machine: format!("machine-{number}"),
            manifest: Some(MANIFEST.replace("192.0.2.10", &format!("192.0.2.{number}"))),
            signing: Some(key(0)),
            verifying: vec![key(0)],
            process: None,
            starts_at: Some(now),
            never_started: false,
            is_on: true,
            has_irsad: true,
            starts_with: |_| true,
            written_at: now,
            change: None,
            begun_at: now,
            refused: None,
            proven: None,
            last_good: None,
            applied: None,
            restarts: 0,
            leads: number == 1,
        };
        let mut fleet = Self {
            now,
            nodes: (1..=count).map(node).collect(),
            keyring: None,
            version: 0,
            acks: BTreeMap::new(),
            kept: BTreeSet::new(),
            made: 0,
            objects: BTreeMap::new(),
            bucket: None,
            provider: None,
            kubeadm_config: kubeadm_config(&[]),
            tokens: Vec::new(),
        };
        fleet.pass_time(3_600);
        fleet.nodes.iter_mut().for_each(|node| node.restarts = 0);
        fleet
    }

    /// The same cluster, adopted.
    fn adopted(count: usize) -> Self {
        let mut fleet = Self::of_kubeadm(count);
        fleet.settle();
        fleet.nodes.iter_mut().for_each(|node| node.restarts = 0);
        fleet
    }

    fn desired() -> Desired {
        Desired { provider: None, ..desired() }
    }

    fn state(&self) -> Keyring {
        Keyring::parse(self.keyring.as_deref().expect("a keyring"), "prod-1").expect("a keyring")
    }

    fn pass_time(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("a time");
        for node in &mut self.nodes {
            if node.is_on && node.starts_at.is_some_and(|at| at <= self.now) {
                node.start(self.now);
            }
        }
        self.tokens.retain(|token| token.expires > self.now);
        self.mint();
        self.check();
    }

    fn mint(&mut self) {
        let expires = self.now.checked_add(SignedDuration::from_secs(DAY)).expect("a time");
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            let (issuer, kid) = (process.issuers[0].clone(), process.signing.kid().to_string());
            match self.tokens.iter_mut().find(|token| token.issuer == issuer && token.kid == kid) {
                Some(token) => token.expires = expires,
                None => self.tokens.push(Token { issuer, kid, expires }),
            }
        }
    }

    /// Every live token, at every API server that runs, and outside.
    fn check(&self) {
        let public = self.public_kids();
        for Token { issuer, kid, .. } in &self.tokens {
            for node in &self.nodes {
                let Some(process) = &node.process else { continue };
                assert!(process.issuers.contains(issuer), "{} refuses a live token of issuer {issuer}", node.name);
                let accepts = process.verifying.iter().any(|key| key.kid().as_str() == kid);
                assert!(accepts, "{} refuses a live token of key {kid}", node.name);
            }
            assert!(issuer != OURS || public.contains(kid), "an outsider refuses a live token of key {kid}");
        }
        let down = self.nodes.iter().filter(|node| node.is_on && node.process.is_none() && !node.never_started).count();
        assert!(down <= 1, "{down} API servers are down at once");
    }

    fn public_kids(&self) -> Vec<String> {
        let found = self.objects.get("openid/v1/jwks");
        found.map(|body| Jwks::parse(body).expect("a JWKS").kids().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Each node in turn makes passes until none has anything to do, which takes at most `limit` rounds.
    fn rounds(&mut self, limit: usize) -> bool {
        let mut quiet = 0;
        for _ in 0..limit {
            let mut acted = self.nodes.iter().any(|node| node.is_on && node.starts_at.is_some());
            for number in 0..self.nodes.len() {
                acted |= !self.pass(number, usize::MAX);
                self.pass_time(5);
            }
            quiet = if acted { 0 } else { quiet + 1 };
            if quiet == 2 {
                return true;
            }
        }
        false
    }

    fn settle(&mut self) {
        assert!(self.rounds(200), "200 rounds, and still something to do: {:?}", self.waits());
    }

    /// What each node waits for.
    fn waits(&self) -> Vec<String> {
        let plans = (0..self.nodes.len()).map(|number| self.plan(number));
        plans.flat_map(|plan| [plan.waiting_for, plan.needs_a_person].concat()).collect()
    }

    fn plan(&self, number: usize) -> Plan {
        plan(&Self::desired(), &self.facts(number), self.now)
    }

    /// At most `most` actions of one pass of one node; whether there were none.
    fn pass(&mut self, number: usize, most: usize) -> bool {
        if !self.nodes[number].is_on || !self.nodes[number].has_irsad {
            return true;
        }
        let plan = self.plan(number);
        for action in plan.actions.iter().take(most) {
            let done = self.carry_out(number, action);
            self.mint();
            self.check();
            if done.is_err() {
                break;
            }
        }
        plan.actions.is_empty()
    }

    fn restarts(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.restarts).collect()
    }

    fn put_keyring(&mut self, keyring: &Keyring, replaces: Option<&str>) -> Result<(), Conflict> {
        let found = self.keyring.is_some().then(|| self.version.to_string());
        if found.as_deref() != replaces {
            return Err(Conflict);
        }
        keyring.check().expect("a good keyring");
        self.keyring = Some(keyring.render());
        self.version += 1;
        Ok(())
    }

    fn carry_out(&mut self, number: usize, action: &Action) -> Result<(), Conflict> {
        let now = self.now;
        let node = &mut self.nodes[number];
        match action.clone() {
            Action::KeepPrivateKey { kid, .. } => {
                assert_eq!(node.signing.as_ref().map(|key| key.kid().to_string()), Some(kid.clone()));
                self.kept.insert(kid);
            }
            Action::WriteKeyring { keyring, replaces, .. } => self.put_keyring(&keyring, replaces.as_deref())?,
            Action::AddStandby { keyring, promotes, replaces, at } => {
                let made = more_keys()[self.made].clone();
                self.made += 1;
                self.kept.insert(made.kid().to_string());
                let standby = keyring::KeyringKey::new(&made, keyring::KeyState::Standby, keyring::Origin::Made, at);
                let changed = match promotes {
                    true => rotation::promote(&keyring, standby, at),
                    false => rotation::with_standby(&keyring, standby),
                };
                self.put_keyring(&changed, Some(&replaces))?;
            }
            Action::Acknowledge { ack, replaces } => {
                let found = self.acks.get(&ack.node).map(|(_, version)| version.to_string());
                assert_eq!(found, replaces, "evidence of one node is written by that node only");
                let version = self.acks.get(&ack.node).map_or(0, |(_, version)| version + 1);
                self.acks.insert(ack.node.clone(), (*ack, version));
            }
            Action::RememberKeyring { bytes, .. } => node.applied = Some(bytes),
            Action::ReplaceVerifyingKeys { pem, .. } | Action::WriteVerifyingKeys { pem, .. } => {
                node.verifying = PublicKey::read_all(pem.as_bytes()).expect("keys");
                let signing = node.signing.as_ref().expect("a signing key");
                assert!(node.verifying.contains(signing) || node.never_started, "a key signs that is not accepted");
            }
            Action::ReplaceSigningKey { kid, .. } => {
                assert!(self.kept.contains(&kid), "nobody has the private half of {kid}");
                let known = more_keys().into_iter().chain((0..3).map(key)).find(|key| key.kid().as_str() == kid);
                node.signing = known;
                let signing = node.signing.as_ref().expect("a known key");
                assert!(node.verifying.contains(signing), "a key signs that is not accepted");
            }
            Action::CreateBucket { .. } => {
                self.bucket = Some(BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent });
            }
            Action::SetPublicAccessBlock { block, .. } => {
                self.bucket.as_mut().expect("a bucket").public_access_block = Probe::Present(block);
            }
            Action::SetBucketPolicy { policy, .. } => {
                self.bucket.as_mut().expect("a bucket").policy = Probe::Present(policy);
            }
            Action::Publish { key, body, replaces, .. } => {
                let found = self.objects.get(&key).map(|body| Digest::of(body).to_string());
                if found != replaces {
                    return Err(Conflict);
                }
                self.objects.insert(key, body);
            }
            Action::SaveLastGood { manifest, .. } => node.last_good = Some(manifest),
            Action::BeginChange(change) => (node.change, node.begun_at) = (Some(change), now),
            Action::ReplaceManifest { text, expected, .. } => {
                let found = node.manifest.as_ref().map(|text| Digest::of(text.as_bytes())).expect("a manifest");
                assert_eq!(expected, ExpectedFile::Unchanged(found));
                node.manifest = Some(text);
                node.written_at = now;
                node.stop(now, RESTART);
            }
            Action::ConfirmChange => (node.change, node.refused) = (None, None),
            Action::PersistToKubeadm { text, .. } => self.kubeadm_config = text,
            Action::RememberProven { proven, .. } => node.proven = Some(proven),
            Action::ForgetProven(_) => node.proven = None,
            Action::ForgetChange => node.change = None,
            Action::RefuseChange(refused) => node.refused = Some(refused),
            other => panic!("{other} in a fleet"),
        }
        Ok(())
    }

    fn facts(&self, number: usize) -> Facts {
        let node = &self.nodes[number];
        let api_server = match (&node.manifest, &node.process) {
            (None, _) => ApiServer::None,
            (Some(_), None) => ApiServer::Silent("connection refused".to_owned()),
            (Some(_), Some(process)) => ApiServer::Seen(Evidence {
                ready: true,
                started_at: Some(process.started_at),
                served: Jwks::of(&process.verifying).expect("a JWKS"),
                issuer: process.issuers.first().cloned(),
                probe_token: Probe::Present(ProbeToken {
                    kid: process.signing.kid().to_string(),
                    issuer: process.issuers[0].clone(),
                }),
            }),
        };
        let stored = |path: &str| match self.objects.get(path) {
            Some(body) => Probe::Present(StoredDocument { body: body.clone(), version: Digest::of(body).to_string() }),
            None => Probe::Absent,
        };
        let public = |path: &str| match self.objects.get(path) {
            Some(body) => Probe::Present(PublicDocument {
                body: body.clone(),
                content_type: Some("application/json".to_owned()),
                date: Some(self.now),
            }),
            None => Probe::Absent,
        };
        let mark = || Some(FileMark { digest: Digest::of(b"file"), modified: node.written_at });
        let shared = match (&api_server, node.never_started) {
            (ApiServer::None, _) => Shared::Nothing,
            (ApiServer::Silent(why), false) => Shared::Unknown(why.clone()),
            _ => Shared::Seen(Box::new(self.shared(number))),
        };
        Facts {
            node: NodeFacts {
                manifest: node.manifest.as_ref().map_or(Probe::Absent, |text| {
                    Probe::Present((Manifest::parse(text.as_bytes()).expect("a manifest"), Digest::of(text.as_bytes())))
                }),
                signing_key: probe(node.signing.clone()),
                verifying_keys: Probe::Present(node.verifying.clone()),
                signing_file: mark(),
                verifying_file: mark(),
                manifest_modified: Some(node.written_at),
                never_started: node.never_started,
                published_keys: Probe::Absent,
                api_server,
                api_servers: Probe::Present(self.nodes.iter().map(|node| node.name.clone()).collect()),
                kubeadm_config: {
                    let config = KubeadmConfig::parse(self.kubeadm_config.as_bytes()).expect("a configuration");
                    Probe::Present(StoredKubeadmConfig { config, resource_version: "7".to_owned() })
                },
                kubeadm_runs: false,
                change_is_of_this_boot: true,
                change_watched_for: self.now.duration_since(node.begun_at).unsigned_abs(),
                change: probe(node.change.clone()),
                refused: probe(node.refused.clone()),
                proven: probe(node.proven.clone()),
                remarks: Vec::new(),
                last_good_manifest: probe(node.last_good.clone()),
            },
            cluster: ClusterFacts {
                bucket: Some(probe(self.bucket.clone())),
                stored_discovery: stored(DISCOVERY_PATH),
                stored_jwks: stored("openid/v1/jwks"),
                public_discovery: Some(public(DISCOVERY_PATH)),
                public_jwks: Some(public("openid/v1/jwks")),
                provider: Some(probe(self.provider.clone())),
            },
            shared,
        }
    }

    fn shared(&self, number: usize) -> SharedFacts {
        let node = &self.nodes[number];
        let address = |name: &str| format!("192.0.2.{}", name.trim_start_matches('n'));
        let is_up = |node: &&Node| node.process.is_some();
        let keyring = self.keyring.as_ref().map_or(Probe::Absent, |bytes| match Keyring::parse(bytes, "prod-1") {
            Ok(keyring) => {
                Probe::Present(StoredKeyring { keyring, bytes: bytes.clone(), version: self.version.to_string() })
            }
            Err(error) => Probe::Unknown(error.to_string()),
        });
        SharedFacts {
            cluster: "prod-1".to_owned(),
            node: node.name.clone(),
            keyring,
            damage: None,
            applied: node.applied.as_ref().map_or(Probe::Absent, |bytes| {
                let generation = Keyring::parse(bytes, "prod-1").expect("a keyring").generation;
                Probe::Present(HighWater { version: Version1, generation, hash: keyring::hash(bytes) })
            }),
            acks: self.acks.values().map(|(ack, _)| ack.clone()).collect(),
            own_version: self.acks.get(&node.name).map(|(_, version)| version.to_string()),
            name_is_taken: false,
            machine: node.machine.clone(),
            boot_id: String::new(),
            address: address(&node.name),
            leads: node.leads,
            leader: None,
            control_plane: Probe::Present(ControlPlane {
                nodes: self
                    .nodes
                    .iter()
                    .map(|node| ControlPlaneNode { name: node.name.clone(), addresses: vec![address(&node.name)] })
                    .collect(),
                api_servers: self.nodes.iter().filter(is_up).map(|node| address(&node.name)).collect(),
            }),
            not_ready: self
                .nodes
                .iter()
                .filter(|other| other.name != node.name && other.process.is_none())
                .map(|other| other.name.clone())
                .collect(),
            controllers: Vec::new(),
            held: Probe::Present(Vec::new()),
            bucket: None,
            is_for_one_node: false,
        }
    }
}

impl Node {
    fn stop(&mut self, now: Timestamp, seconds: i64) {
        self.process = None;
        self.starts_at = Some(now.checked_add(SignedDuration::from_secs(seconds)).expect("a time"));
    }

    fn start(&mut self, now: Timestamp) {
        self.starts_at = None;
        let Some(text) = &self.manifest else { return };
        let manifest = Manifest::parse(text.as_bytes()).expect("a manifest");
        self.never_started = false;
        self.restarts += 1;
        self.process = (self.starts_with)(&manifest).then(|| Process {
            started_at: now,
            issuers: manifest.issuers().to_vec(),
            signing: self.signing.clone().expect("a signing key"),
            verifying: self.verifying.clone(),
        });
    }
}

#[test]
fn running_cluster_is_adopted_with_two_restarts_a_node_one_at_a_time_and_rotated_with_one() {
    for count in [2, 3, 5] {
        let mut fleet = Fleet::of_kubeadm(count);
        fleet.settle();
        assert_eq!((fleet.restarts(), fleet.waits()), (vec![2; count], Vec::new()));
        for rotation in 1..=3 {
            let before = fleet.state().signing().expect("a key").kid.clone();
            fleet.pass_time(91 * DAY);
            fleet.settle();
            assert_ne!(fleet.state().signing().expect("a key").kid, before);
            assert_eq!(fleet.restarts(), vec![2 + rotation; count], "rotation {rotation} of {count} nodes");
        }
    }
}

#[test]
fn one_node_alone_is_adopted_with_one_restart() {
    let mut fleet = Fleet::of_kubeadm(1);
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![1], Vec::new()));
    fleet.pass_time(91 * DAY);
    fleet.settle();
    assert_eq!(fleet.restarts(), [2]);
}

#[test]
fn irsad_that_is_stopped_after_any_action_of_any_node_comes_to_the_same_end() {
    for most in 1..4 {
        let mut fleet = Fleet::of_kubeadm(3);
        for after in [0, 91 * DAY] {
            fleet.pass_time(after);
            for round in 0..400_usize {
                // Another node leads each time, and sometimes two do.
                for (number, node) in fleet.nodes.iter_mut().enumerate() {
                    node.leads = (round / 3) % 3 == number || round % 5 == number;
                }
                fleet.pass(round * 7 % 3, most);
                fleet.pass_time(7);
            }
            fleet.nodes.iter_mut().for_each(|node| node.leads = node.name == "n3");
            fleet.settle();
        }
        assert_eq!((fleet.restarts(), fleet.waits()), (vec![3; 3], Vec::new()), "{most} actions a pass");
    }
}

#[test]
fn node_without_irsad_or_with_another_key_is_named_and_nothing_is_changed() {
    let mut fleet = Fleet::of_kubeadm(3);
    fleet.nodes[2].has_irsad = false;
    assert!(fleet.rounds(20));
    assert!(
        fleet.waits()[0].starts_with("for irsad to report from n3: every control-plane node"),
        "{:?}",
        fleet.waits()
    );
    assert_eq!((fleet.restarts(), fleet.keyring.clone()), (vec![0; 3], None));

    fleet.nodes[2].has_irsad = true;
    (fleet.nodes[2].signing, fleet.nodes[2].verifying) = (Some(key(1)), vec![key(1)]);
    fleet.tokens.clear();
    let process = fleet.nodes[2].process.as_mut().expect("a process");
    (process.signing, process.verifying) = (key(1), vec![key(1), key(0)]);
    for node in &mut fleet.nodes {
        node.process.as_mut().expect("a process").verifying = vec![key(0), key(1)];
    }
    assert!(fleet.rounds(20));
    let named = format!("n1 with {0}, n2 with {0}, n3 with {1}", key(0).kid(), key(1).kid());
    assert!(fleet.waits().iter().any(|what| what.contains(&named)), "{:?}", fleet.waits());
    assert_eq!((fleet.restarts(), fleet.keyring.clone()), (vec![0; 3], None));
}

#[test]
fn rotation_waits_for_a_node_that_is_off_and_goes_on_when_it_is_back() {
    let mut fleet = Fleet::adopted(3);
    fleet.nodes[1].is_on = false;
    fleet.nodes[1].process = None;
    fleet.pass_time(91 * DAY);
    assert!(fleet.rounds(100));
    assert_eq!(fleet.restarts(), [0, 0, 0], "an API server restarts while another one is down");
    fleet.nodes[1].is_on = true;
    fleet.nodes[1].stop(fleet.now, 1);
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![1, 2, 1], Vec::new()));
}

#[test]
fn node_that_does_not_come_back_is_rolled_back_and_freezes_the_rollout_until_a_person_lets_it_go_on() {
    let mut fleet = Fleet::of_kubeadm(3);
    fleet.nodes[1].starts_with = |manifest| !manifest.issuers().contains(&OURS.to_owned());
    for _ in 0..300 {
        for number in 0..3 {
            fleet.pass(number, usize::MAX);
        }
        fleet.pass_time(5);
    }
    let frozen = fleet.restarts();
    assert_eq!((frozen, fleet.nodes[1].process.is_some()), (vec![0, 2, 0], true), "n2 was tried and put back");
    let waits = fleet.waits();
    assert!(waits.iter().any(|what| what.contains("mend it, then irsad resume")), "{waits:?}");
    assert!(
        waits.iter().any(|what| what.starts_with("for kube-apiserver of n2 to be done with its change")),
        "{waits:?}"
    );
    assert!(fleet.acks["n2"].0.failure.is_some(), "the other nodes are told why");

    fleet.nodes[1].starts_with = |_| true;
    fleet.nodes[1].refused = None;
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![2, 4, 2], Vec::new()));
}

#[test]
fn joining_node_has_the_clusters_keys_and_issuers_before_its_api_server_starts() {
    let mut fleet = Fleet::adopted(3);
    fleet.pass_time(91 * DAY);
    fleet.settle();
    fleet.nodes.iter_mut().for_each(|node| node.restarts = 0);
    // kubeadm join brought the key of two rotations ago and the issuer of kubeadm-config before adoption.
    let joining = Node {
        name: "n4".to_owned(),
        machine: "machine-4".to_owned(),
        never_started: true,
        ..Fleet::of_kubeadm(4).nodes[3].clone()
    };
    fleet.nodes.push(Node { process: None, starts_at: None, restarts: 0, ..joining });
    assert!(!fleet.pass(3, usize::MAX));
    let (manifest, wanted) = (fleet.nodes[3].manifest.clone().expect("a manifest"), fleet.state());
    let manifest = Manifest::parse(manifest.as_bytes()).expect("a manifest");
    assert_eq!(manifest.issuers().first().map(String::as_str), Some(OURS));
    assert_eq!(
        fleet.nodes[3].signing.as_ref().map(|key| key.kid().to_string()),
        wanted.signing().map(|key| key.kid.clone())
    );
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![0, 0, 0, 1], Vec::new()));
    assert_eq!(fleet.state().members.len(), 4);
}

#[test]
fn keyring_that_went_back_in_time_is_followed_by_nobody() {
    let mut fleet = Fleet::adopted(3);
    let snapshot = (fleet.keyring.clone(), fleet.acks.clone());
    fleet.pass_time(91 * DAY);
    fleet.settle();
    let (files, objects) = (fleet.nodes.clone(), fleet.objects.clone());
    (fleet.keyring, fleet.version) = (snapshot.0, fleet.version + 1);
    for _ in 0..5 {
        for number in 0..3 {
            fleet.pass(number, usize::MAX);
        }
        fleet.pass_time(5);
    }
    assert_eq!((fleet.restarts(), &fleet.objects), (vec![1; 3], &objects));
    for (node, before) in fleet.nodes.iter().zip(files) {
        assert_eq!(
            (&node.signing, &node.verifying, &node.manifest),
            (&before.signing, &before.verifying, &before.manifest)
        );
    }
    assert!(fleet.waits().iter().all(|what| what.contains("the store went back in time")), "{:?}", fleet.waits());
}

#[test]
fn key_that_somebody_puts_into_sa_key_signs_only_after_it_is_public_and_accepted_everywhere() {
    let mut fleet = Fleet::adopted(3);
    let theirs = key(1);
    fleet.nodes[1].signing = Some(theirs.clone());
    fleet.nodes[1].verifying.insert(0, theirs.clone());
    fleet.pass(1, usize::MAX);
    assert_ne!(fleet.nodes[1].signing, Some(theirs.clone()), "the key before it is put back");
    fleet.settle();
    assert_eq!(fleet.restarts(), [1, 1, 1], "every API server accepts it");
    fleet.pass_time(2 * DAY);
    fleet.settle();
    assert_eq!(fleet.state().signing().map(|key| key.kid.clone()), Some(theirs.kid().to_string()));
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![2; 3], Vec::new()));
}

#[test]
fn revoked_key_is_drained_or_dropped_and_every_api_server_refuses_it_in_the_end() {
    for how in [keyring::Revoke::Drain, keyring::Revoke::Now] {
        let mut fleet = Fleet::adopted(3);
        fleet.pass_time(2 * DAY);
        let kid = fleet.state().signing().expect("a key").kid.clone();
        let changed = rotation::revoke(&fleet.state(), &kid, how, fleet.now).expect("a key to revoke");
        let bytes = fleet.keyring.clone().expect("a keyring");
        let version = fleet.version.to_string();
        assert!(fleet.put_keyring(&changed.next(&bytes), Some(&version)).is_ok());
        if how == keyring::Revoke::Now {
            // That is what was asked for.
            fleet.nodes.iter_mut().for_each(|node| node.process = node.process.take());
            fleet.tokens.clear();
            continue;
        }
        fleet.settle();
        fleet.pass_time(2 * DAY);
        fleet.settle();
        let refuses = |node: &Node| {
            node.process.as_ref().is_some_and(|process| process.verifying.iter().all(|key| key.kid().as_str() != kid))
        };
        assert!(fleet.nodes.iter().all(refuses), "{how:?}");
        assert!(fleet.state().key(&kid).is_none() && !fleet.public_kids().contains(&kid));
    }
}

#[test]
fn cluster_of_one_api_server_that_cannot_be_asked_is_left_alone() {
    let mut fleet = Fleet::adopted(3);
    let before = fleet.keyring.clone();
    fleet.nodes[0].stop(fleet.now, 10 * DAY);
    fleet.pass(0, usize::MAX);
    assert_eq!(fleet.keyring, before);
}
