//! Several control-plane nodes, each planning for itself, one keyring between them: what the planner decides is carried out to the
//! letter, and after every single action every live token is presented to every API server that runs.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::model::{
    file::ExpectedFile,
    jwks::Jwks,
    keyring::{self, Keyring},
    rotation::{self, Ack},
};

pub use super::node::Node;
use super::objects::Objects;

/// P-256 public keys, made with `openssl ecparam -name prime256v1 -genkey` for these tests.
const MORE_KEYS: &str = include_str!("../../../../../tests/fixtures/keys/24-p256.pub");
pub const DAY: i64 = 86_400;
/// How long an API server is away when its manifest changes, in seconds.
const RESTART: i64 = 20;

pub fn more_keys() -> Vec<PublicKey> {
    PublicKey::read_all(MORE_KEYS.as_bytes()).expect("keys")
}

#[derive(Clone)]
pub struct Token {
    pub issuer: String,
    pub kid: String,
    pub expires: Timestamp,
}

#[derive(Clone)]
pub struct Fleet {
    pub desired: Desired,
    pub is_of_cluster_api: bool,
    /// Key whose live tokens are to be refused.
    pub killed: Option<String>,
    /// Nodes whose controllers lead.
    pub controllers: Vec<String>,
    /// Nodes in the order in which their API servers were restarted.
    pub order: Vec<String>,
    pub now: Timestamp,
    pub nodes: Vec<Node>,
    pub keyring: Option<Vec<u8>>,
    pub version: u64,
    pub acks: BTreeMap<String, (Ack, u64)>,
    pub kept: BTreeSet<String>,
    pub made: usize,
    pub objects: BTreeMap<String, Vec<u8>>,
    pub bucket: Option<BucketFacts>,
    pub provider: Option<ProviderFacts>,
    pub kubeadm_config: String,
    /// There was a bucket once.
    pub had_bucket: bool,
    /// The bucket carries our tag.
    pub bucket_is_ours: bool,
    /// What others keep in the bucket.
    pub others_objects: Vec<String>,
    /// ARNs of other providers whose issuer lies in the bucket.
    pub pointing: Probe<Vec<String>>,
    /// `ServiceAccountRole` objects with our finalizer.
    pub held: Vec<String>,
    /// `roles.mode` is `none`.
    pub keeps_no_roles: bool,
    /// IAM roles that irsad made.
    pub roles: Vec<String>,
    /// Live tokens of ours are given up outside.
    pub gives_up_outside: bool,
    pub tokens: Vec<Token>,
    /// The keyring needs no API server.
    pub in_s3: bool,
    /// What the API servers keep for the webhook.
    pub cluster: Objects,
}

/// Somebody else has written in between.
pub struct Conflict;

impl Fleet {
    /// A cluster of kubeadm that has run for an hour, with irsad just installed on each node.
    pub fn of_kubeadm(count: usize) -> Self {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let node = |number: usize| Node {
            name: format!("n{number}"),
            machine: format!("machine-{number}"),
            manifest: Some(MANIFEST.replace("192.0.2.10", &format!("192.0.2.{number}"))),
            signing: Some(key(0)),
            standby: None,
            of_prepare: Vec::new(),
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
            torn_down: None,
            last_good: None,
            applied: None,
            restarts: 0,
            leads: number == 1,
            webhook: None,
            out_of_reach: None,
        };
        let mut fleet = Self {
            desired: Desired { provider: None, ..desired() },
            is_of_cluster_api: false,
            killed: None,
            controllers: Vec::new(),
            order: Vec::new(),
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
            had_bucket: false,
            bucket_is_ours: false,
            others_objects: Vec::new(),
            pointing: Probe::Absent,
            held: Vec::new(),
            keeps_no_roles: false,
            roles: Vec::new(),
            gives_up_outside: false,
            tokens: Vec::new(),
            in_s3: false,
            cluster: Objects::default(),
        };
        fleet.pass_time(3_600);
        fleet.nodes.iter_mut().for_each(|node| node.restarts = 0);
        fleet
    }

    /// The same cluster, adopted.
    pub fn adopted(count: usize) -> Self {
        let mut fleet = Self::of_kubeadm(count);
        fleet.settle();
        fleet.nodes.iter_mut().for_each(|node| node.restarts = 0);
        fleet
    }

    pub fn state(&self) -> Keyring {
        Keyring::parse(self.keyring.as_deref().expect("a keyring"), "prod-1").expect("a keyring")
    }

    pub fn pass_time(&mut self, seconds: i64) {
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
        for Token { issuer, kid, .. } in self.tokens.iter().filter(|token| self.killed.as_ref() != Some(&token.kid)) {
            for node in &self.nodes {
                let Some(process) = &node.process else { continue };
                assert!(process.issuers.contains(issuer), "{} refuses a live token of issuer {issuer}", node.name);
                let accepts = process.verifying.iter().any(|key| key.kid().as_str() == kid);
                assert!(accepts, "{} refuses a live token of key {kid}", node.name);
            }
            assert!(
                issuer != OURS || self.gives_up_outside || public.contains(kid),
                "an outsider refuses a live token of key {kid}"
            );
        }
        if self.bucket.is_none() && self.had_bucket {
            assert_eq!(self.provider, None, "IAM trusts a bucket name that anybody can take");
        }
        let down = self.nodes.iter().filter(|node| node.is_on && node.process.is_none() && !node.never_started).count();
        assert!(down <= 1, "{down} API servers are down at once");
    }

    pub fn public_kids(&self) -> Vec<String> {
        let found = self.objects.get("openid/v1/jwks");
        found.map(|body| Jwks::parse(body).expect("a JWKS").kids().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Each node in turn makes passes until none has anything to do, which takes at most `limit` rounds.
    pub fn rounds(&mut self, limit: usize) -> bool {
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

    pub fn settle(&mut self) {
        assert!(self.rounds(200), "200 rounds, and still something to do: {:?}", self.waits());
    }

    /// At most `most` actions of one pass of one node; whether there were none.
    pub fn pass(&mut self, number: usize, most: usize) -> bool {
        if !self.nodes[number].is_on || !self.nodes[number].has_irsad {
            return true;
        }
        let plan = self.plan(number);
        let writes = plan.actions.iter().filter(|action| action.writes_keyring()).count();
        assert!(writes <= 1, "{} would write the keyring {writes} times, and be refused", self.nodes[number].name);
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

    pub fn put_keyring(&mut self, keyring: &Keyring, replaces: Option<&str>) -> Result<(), Conflict> {
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
            Action::KeepPrivateKey { path, kid } => {
                let file = if path == self.desired.signing_key { &node.signing } else { &node.standby };
                assert_eq!(file.as_ref().map(|key| key.kid().to_string()), Some(kid.clone()));
                self.kept.insert(kid);
            }
            Action::FoundKeyring { cluster, issuer, others, leaving, at } => {
                let [key, standby] = [keyring::KeyState::Signing, keyring::KeyState::Standby].map(|state| {
                    let made = more_keys()[self.made].clone();
                    self.made += 1;
                    self.kept.insert(made.kid().to_string());
                    keyring::KeyringKey::new(&made, state, keyring::Origin::Made, at)
                });
                let keyring = rotation::with_standby(&rotation::found(&cluster, &issuer, key), standby);
                self.put_keyring(&rotation::beside(keyring, &others, &leaving), None)?;
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
            Action::ForgetStandbyKey => {
                let standby = node.standby.take().expect("a standby key");
                let keyring = Keyring::parse(self.keyring.as_deref().expect("a keyring"), "prod-1").expect("a keyring");
                let signs = |key: &&keyring::KeyringKey| key.state == keyring::KeyState::Standby;
                let is_wanted = keyring.key(standby.kid().as_str()).filter(signs).is_some();
                let is_kept = self.kept.contains(standby.kid().as_str());
                assert!(is_kept || !is_wanted, "the only copy of its private half is gone");
            }
            Action::ReplaceVerifyingKeys { pem, .. } | Action::WriteVerifyingKeys { pem, .. } => {
                let before = std::mem::replace(&mut node.verifying, PublicKey::read_all(pem.as_bytes()).expect("keys"));
                let is_accepted = |signing: &PublicKey| node.verifying.contains(signing);
                assert!(
                    node.signing.as_ref().is_none_or(is_accepted) || node.never_started,
                    "a key signs that is not accepted"
                );
                let is_fresh = |ack: &rotation::Ack| now.duration_since(ack.at) < ack::EXPIRY;
                let refused = |kid: &str| self.acks.values().all(|(ack, _)| is_fresh(ack) && !ack.has(kid));
                let of_no_token = |key: &PublicKey| {
                    node.never_started && (node.of_prepare.contains(key) || refused(key.kid().as_str()))
                };
                let keyring = self.keyring.as_deref().map(|bytes| Keyring::parse(bytes, "prod-1").expect("a keyring"));
                for lost in before.iter().filter(|key| !node.verifying.contains(key) && !of_no_token(key)) {
                    let known = keyring.as_ref().and_then(|keyring| keyring.key(lost.kid().as_str()));
                    let is_over = known.is_some_and(|key| !key.state.is_accepted());
                    assert!(is_over, "{} drops key {}, which nobody let go", node.name, lost.kid());
                }
            }
            Action::ReplaceSigningKey { kid, .. } => {
                assert!(self.kept.contains(&kid), "nobody has the private half of {kid}");
                let known = more_keys().into_iter().chain((0..3).map(key)).find(|key| key.kid().as_str() == kid);
                node.signing = known;
                let signing = node.signing.as_ref().expect("a known key");
                assert!(node.verifying.contains(signing), "a key signs that is not accepted");
            }
            Action::CreateBucket { tag, .. } => {
                self.bucket = Some(BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent });
                (self.had_bucket, self.bucket_is_ours) =
                    (true, tag == Some(desired().bucket.expect("a bucket").owner_tag));
            }
            Action::CreateProvider { audiences, .. } => {
                self.provider = Some(ProviderFacts { audiences, is_ours: true });
            }
            Action::DeleteProvider { .. } => {
                assert!(self.provider.as_ref().is_some_and(|provider| provider.is_ours), "somebody else's provider");
                self.provider = None;
            }
            Action::DeleteDocument { key, .. } => drop(self.objects.remove(&key)),
            Action::CloseBucket { policy, .. } => {
                self.bucket.as_mut().expect("a bucket").policy = probe(policy);
            }
            Action::LetGoOfRoleObject(object) => {
                assert!(self.roles.is_empty() || self.keeps_no_roles, "its role is there");
                self.held.retain(|held| *held != object.name);
            }
            Action::RemoveRole { name, .. } => self.roles.retain(|role| *role != name.to_string()),
            Action::DeleteBucket { .. } => {
                let is_empty = self.objects.is_empty() && self.others_objects.is_empty();
                assert!(is_empty && self.bucket_is_ours, "S3 deletes no bucket that holds something");
                self.bucket = None;
            }
            Action::RememberTornDown(torn_down) => (node.torn_down, node.applied) = (Some(torn_down), None),
            Action::ForgetTornDown => node.torn_down = None,
            Action::DeleteKeyring { version } => {
                if version != self.version.to_string() {
                    return Err(Conflict);
                }
                (self.keyring, self.kept, self.version) = (None, BTreeSet::new(), self.version + 1);
                self.acks.clear();
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
                self.order.push(node.name.clone());
                node.stop(now, RESTART);
            }
            Action::ConfirmChange => (node.change, node.refused) = (None, None),
            Action::PersistToKubeadm { text, .. } => self.kubeadm_config = text,
            Action::RememberProven { proven, .. } => node.proven = Some(proven),
            Action::ForgetProven(_) => node.proven = None,
            Action::ForgetChange => node.change = None,
            Action::RefuseChange(refused) => node.refused = Some(refused),
            Action::TellOfMissedPods { .. } => {}
            other => self.cluster.carry_out(other, now),
        }
        Ok(())
    }
}
