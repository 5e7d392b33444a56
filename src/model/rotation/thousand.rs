//! A thousand rotations on a simulated clock, with faults by chance: nodes that are down for days or replaced, a leader that is
//! paused, a store that goes back in time and is rebuilt, documents that cannot be written, keys that are revoked, clocks that differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    fixtures::{OURS, at},
    *,
};
use crate::model::{
    keyring::{HighWater, MOST_ACCEPTED, MOST_PUBLISHED, hash},
    memory::Version1,
};

const OLD: &str = "https://kubernetes.default.svc.cluster.local";
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const MARGIN: i64 = 300;
const TOKEN: i64 = DAY;
/// Longest time that a verifier keeps a JWKS.
const CACHE: i64 = 23 * HOUR;
/// As long as the public half of an RSA-2048 key in PEM.
const PEM_BYTES: usize = 451;
/// No state of a cluster of five has more bytes, however long it lives.
const LARGEST_KEYRING: usize = 32 * 1_024;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let limit = u64::try_from(limit).expect("a small number");
        usize::try_from((mixed ^ (mixed >> 31)) % limit).expect("below the limit")
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn hours(&mut self, most: usize) -> i64 {
        HOUR * i64::try_from(1 + self.below(most)).expect("a small number")
    }
}

/// What an API server reads when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    issuers: Vec<String>,
    verify: Vec<String>,
    signing: String,
}

#[derive(Debug, Clone)]
struct Node {
    name: String,
    /// What its clock is ahead by.
    ahead: i64,
    disk: Files,
    process: Option<Files>,
    /// What it is writing, and what it puts back where that fails.
    change: Option<(Files, Files)>,
    down_until: i64,
    /// Nothing is tried again before, because the last change failed.
    frozen_until: i64,
    /// The newest keyring that it has taken part in.
    kept: Option<Rc<Stored>>,
}

/// A keyring, and the hash of its bytes.
#[derive(Debug)]
struct Stored {
    keyring: Keyring,
    bytes: Vec<u8>,
    hash: String,
}

struct Store {
    current: Rc<Stored>,
    acks: BTreeMap<String, Ack>,
    writes: u64,
}

struct Simulation {
    chance: Chance,
    now: i64,
    nodes: Vec<Node>,
    store: Store,
    copy: Option<(Rc<Stored>, BTreeMap<String, Ack>)>,
    /// When a person rebuilds the keyring, after the store went back.
    rebuild_at: Option<i64>,
    public: Vec<String>,
    publications: u64,
    publishing_fails_until: i64,
    /// Kids that a verifier keeps, and when it fetched them.
    caches: Vec<(Vec<String>, i64)>,
    /// Expiry of the last token of each issuer and key.
    minted: BTreeMap<(String, String), i64>,
    killed: BTreeSet<String>,
    keys_made: usize,
    paused: Option<(Keyring, u64)>,
    paused_publication: Option<(Vec<String>, u64)>,
    rotations: usize,
    largest: (usize, usize, usize),
}

fn policy() -> Policy {
    let seconds = SignedDuration::from_secs;
    Policy {
        issuer: OURS.to_owned(),
        period: Some(seconds(2 * DAY)),
        publish_lead: seconds(DAY),
        token_lifetime: seconds(TOKEN),
        verify_retention: seconds(3 * DAY),
        clock_margin: seconds(MARGIN),
    }
}

fn wanted(keyring: &Keyring) -> Files {
    Files {
        issuers: keyring.issuers.clone(),
        verify: keyring.accepted().map(|key| key.kid.clone()).collect(),
        signing: keyring.signing().expect("one key signs").kid.clone(),
    }
}

impl Stored {
    fn new(keyring: Keyring) -> Rc<Self> {
        let bytes = keyring.render();
        Rc::new(Self { hash: hash(&bytes), bytes, keyring })
    }

    fn mark(&self) -> HighWater {
        HighWater { generation: self.keyring.generation, hash: self.hash.clone() }
    }
}

impl Node {
    fn evidence(&self) -> Option<Ack> {
        let process = self.process.as_ref()?;
        let public = |kid: &String| AckKey { kid: kid.clone(), public_key: "x".repeat(PEM_BYTES) };
        Some(Ack {
            version: Version1,
            node: self.name.clone(),
            machine: String::new(),
            address: self.name.clone(),
            at: at(0),
            generation: 0,
            served: process.verify.clone(),
            signing_kid: process.signing.clone(),
            issuers: process.issuers.clone(),
            key_on_disk: self.disk.signing.clone(),
            key_on_disk_since: at(0),
            keys: self.disk.verify.iter().map(public).collect(),
            process_started_at: at(0),
            boot_id: String::new(),
            failure: None,
            webhook: None,
        })
    }

    fn goes_on(&self, stored: &Stored) -> bool {
        self.kept.as_ref().is_none_or(|kept| stored.keyring.continues(&stored.hash, &kept.mark()).is_ok())
    }
}

impl Simulation {
    fn new(nodes: usize, seed: u64) -> Self {
        let files = Files { issuers: vec![OLD.to_owned()], verify: vec!["k0".to_owned()], signing: "k0".to_owned() };
        let mut chance = Chance(seed);
        let node = |number: usize| Node {
            name: format!("n{number}"),
            // Any two clocks differ by at most half of the margin.
            ahead: i64::try_from(chance.below(MARGIN as usize / 2 + 1)).expect("a small number"),
            disk: files.clone(),
            process: Some(files.clone()),
            change: None,
            down_until: 0,
            frozen_until: 0,
            kept: None,
        };
        let nodes: Vec<Node> = (0..nodes).map(node).collect();
        let acks: Vec<Ack> = nodes.iter().filter_map(Node::evidence).collect();
        let Adoption::Begin(keyring) = adopt("c", &acks, &control_plane(&nodes), Vec::new(), at(0)) else {
            panic!("all nodes have reported the same");
        };
        let acks = acks.into_iter().map(|ack| (ack.node.clone(), ack)).collect();
        Self {
            chance,
            now: 0,
            store: Store { current: Stored::new(*keyring), acks, writes: 0 },
            copy: None,
            rebuild_at: None,
            public: Vec::new(),
            publications: 0,
            publishing_fails_until: 0,
            caches: vec![(Vec::new(), 0); 3],
            minted: BTreeMap::new(),
            killed: BTreeSet::new(),
            keys_made: 1,
            paused: None,
            paused_publication: None,
            rotations: 0,
            largest: (0, 0, 0),
            nodes,
        }
    }

    fn run(&mut self, rotations: usize) {
        let mut hours = 0;
        while self.rotations < rotations {
            hours += 3;
            assert!(hours < 24 * 60 * (rotations + 1), "only {} rotations in {} days", self.rotations, hours / 24);
            self.now += 3 * HOUR;
            self.have_an_accident();
            for _ in 0..3 * self.nodes.len() {
                match self.chance.below(3) {
                    0 => self.lead(),
                    _ => {
                        let number = self.chance.below(self.nodes.len());
                        self.follow(number);
                    }
                }
                self.mint();
            }
            self.fetch();
            self.check();
        }
    }

    fn have_an_accident(&mut self) {
        let number = self.chance.below(self.nodes.len());
        let now = self.now;
        for node in self.nodes.iter_mut().filter(|node| node.process.is_none() && node.down_until <= now) {
            node.process = Some(node.disk.clone());
        }
        match self.chance.below(240) {
            0 => self.crash(number, 96),
            1..4 => self.crash(number, 4),
            // The API server alone, then irsad alone.
            4..7 => {
                let node = &mut self.nodes[number];
                node.process = node.process.as_ref().map(|_| node.disk.clone());
            }
            7..10 => self.nodes[number].change = None,
            10 => self.publishing_fails_until = now + self.chance.hours(36),
            11 if self.rebuild_at.is_none() => self.replace(number),
            12 => self.revoke(Revoke::Drain),
            13 => self.revoke(Revoke::Now),
            14 => self.copy = Some((self.store.current.clone(), self.store.acks.clone())),
            15 => self.put_store_back(),
            _ => {}
        }
        if self.rebuild_at.is_some_and(|at| at <= now) {
            self.rebuild();
        }
    }

    fn crash(&mut self, number: usize, most_hours: usize) {
        let until = self.now + self.chance.hours(most_hours);
        let node = &mut self.nodes[number];
        (node.process, node.change, node.down_until) = (None, None, until);
    }

    /// Another machine of the same name, or of a new one, which `irsad prepare` gave its files.
    fn replace(&mut self, number: usize) {
        let current = self.store.current.clone();
        let files = wanted(&current.keyring);
        let keeps_its_name = self.chance.one_in(2);
        let node = &mut self.nodes[number];
        if !keeps_its_name {
            node.name = format!("n{}", self.now / HOUR);
        }
        (node.disk, node.process, node.change) = (files.clone(), Some(files), None);
        (node.kept, node.frozen_until, node.down_until) = (Some(current), 0, 0);
    }

    fn revoke(&mut self, how: Revoke) {
        let keyring = &self.store.current.keyring;
        let kid = keyring.keys[self.chance.below(keyring.keys.len())].kid.clone();
        if let Ok(revoked) = revoke(keyring, &kid, how, at(self.now)) {
            if how == Revoke::Now {
                self.killed.insert(kid);
            }
            self.write(revoked);
        }
    }

    fn put_store_back(&mut self) {
        let Some((current, acks)) = self.copy.take().filter(|_| self.rebuild_at.is_none()) else { return };
        (self.store.current, self.store.acks) = (current, acks);
        self.store.writes += 1;
        self.rebuild_at = Some(self.now + self.chance.hours(24));
    }

    /// A person puts the newest keyring that a node has kept into the store, above all that any of them has seen.
    fn rebuild(&mut self) {
        self.rebuild_at = None;
        let kept = self.nodes.iter().filter_map(|node| node.kept.clone());
        let newest = kept.max_by_key(|kept| kept.keyring.generation);
        let is_newer = |kept: &Rc<Stored>| kept.keyring.generation >= self.store.current.keyring.generation;
        let Some(kept) = newest.filter(is_newer) else { return };
        self.write_after(&kept, Keyring { rollout: None, ..kept.keyring.clone() });
        for node in &mut self.nodes {
            (node.kept, node.change) = (Some(self.store.current.clone()), None);
        }
    }

    fn write(&mut self, changed: Keyring) {
        self.write_after(&self.store.current.clone(), changed);
    }

    fn write_after(&mut self, before: &Stored, changed: Keyring) {
        changed.check().expect("every keyring that is written is in order");
        let next = changed.next(&before.bytes);
        let signs = |keyring: &Keyring| keyring.signing().map(|key| key.kid.clone());
        self.rotations += usize::from(signs(&self.store.current.keyring) != signs(&next));
        self.store.current = Stored::new(next);
        self.store.writes += 1;
    }

    fn lead(&mut self) {
        let number = self.chance.below(self.nodes.len());
        let current = self.store.current.clone();
        let leads = self.nodes[number].process.is_some() && self.nodes[number].goes_on(&current);
        if !leads {
            return;
        }
        self.publish(&current.keyring);
        if let Some((decided, read)) = self.paused.take_if(|_| self.chance.one_in(3)) {
            if read == self.store.writes {
                self.write(decided);
            }
            return;
        }
        let Some(decided) = self.decide(&current.keyring, number) else { return };
        if self.paused.is_none() && self.chance.one_in(20) {
            self.paused = Some((decided, self.store.writes));
        } else {
            self.write(decided);
        }
    }

    fn decide(&mut self, keyring: &Keyring, number: usize) -> Option<Keyring> {
        let now = at(self.now + self.nodes[number].ahead);
        let acks: Vec<Ack> = self.store.acks.values().cloned().collect();
        let plane = control_plane(&self.nodes);
        let held = [Held { kid: format!("k{}", self.chance.below(self.keys_made)), why: String::new() }];
        let seen = Seen {
            acks: &acks,
            outside: &self.public,
            control_plane: Some(&plane).filter(|_| !self.chance.one_in(10)),
            held: Some(&held[..]).filter(|_| !self.chance.one_in(10)),
        };
        let pem = "x".repeat(PEM_BYTES);
        let fresh = KeyringKey {
            origin: Origin::Made,
            ..KeyringKey::adopted(&format!("k{}", self.keys_made), &pem, KeyState::Standby, now)
        };
        let decided = match next(keyring, seen, &policy(), now) {
            Next::Wait(_) => return None,
            Next::Write(changed) => return Some(*changed),
            Next::MakeStandby => with_standby(keyring, fresh),
            Next::Promote => promote(keyring, fresh, now),
        };
        self.keys_made += 1;
        Some(decided)
    }

    /// The public document is read first, and the keyring then.
    fn publish(&mut self, keyring: &Keyring) {
        if let Some((kids, read)) = self.paused_publication.take_if(|_| self.chance.one_in(3)) {
            if read == self.publications {
                (self.public, self.publications) = (kids, self.publications + 1);
            }
            return;
        }
        let kids: Vec<String> = keyring.published().map(|key| key.kid.clone()).collect();
        if kids == self.public || self.now < self.publishing_fails_until {
            return;
        }
        if self.paused_publication.is_none() && self.chance.one_in(10) {
            self.paused_publication = Some((kids, self.publications));
        } else {
            (self.public, self.publications) = (kids, self.publications + 1);
        }
    }

    fn follow(&mut self, number: usize) {
        if self.go_on_with_change(number) {
            return;
        }
        let current = self.store.current.clone();
        let node = &self.nodes[number];
        let Some(ack) = node.evidence() else { return };
        let is_told = self.store.acks.get(&node.name) == Some(&ack);
        if !is_told {
            self.store.acks.insert(node.name.clone(), ack.clone());
        }
        if !node.goes_on(&current) {
            return;
        }
        let not_ready: Vec<String> =
            self.nodes.iter().filter(|node| node.process.is_none()).map(|node| node.name.clone()).collect();
        let here =
            Here { ack: &ack, own_reasons: &[], is_told, not_ready: &not_ready, outside: &self.public, after: &[] };
        let decided = follow(&current.keyring, here, at(self.now));
        let is_frozen = node.frozen_until > self.now;
        self.nodes[number].kept = Some(current.clone());
        match decided {
            Follow::Settled | Follow::Wait(_) => {}
            Follow::Take(changed) | Follow::Release(changed) => self.write(*changed),
            Follow::Change if is_frozen => {}
            Follow::Change => {
                let node = &mut self.nodes[number];
                node.change = Some((wanted(&current.keyring), node.disk.clone()));
            }
        }
    }

    /// One write of a change that is under way: sa.pub, sa.key, then the manifest and with it the API server.
    fn go_on_with_change(&mut self, number: usize) -> bool {
        let fails = self.chance.one_in(60);
        let frozen_until = self.now + self.chance.hours(12);
        let node = &mut self.nodes[number];
        let Some((target, before)) = node.change.clone() else { return false };
        if fails {
            (node.disk, node.process, node.change) = (before.clone(), Some(before), None);
            node.frozen_until = frozen_until;
        } else if node.disk.verify != target.verify {
            node.disk.verify = target.verify;
        } else if node.disk.signing != target.signing {
            node.disk.signing = target.signing;
        } else {
            (node.disk.issuers, node.change) = (target.issuers, None);
            node.process = Some(node.disk.clone());
        }
        true
    }

    fn mint(&mut self) {
        for node in &self.nodes {
            let Some(process) = &node.process else { continue };
            let expiry = self.now + node.ahead + TOKEN;
            let last = self.minted.entry((process.issuers[0].clone(), process.signing.clone())).or_default();
            *last = expiry.max(*last);
        }
        let now = self.now;
        self.minted.retain(|_, expiry| *expiry > now);
    }

    fn fetch(&mut self) {
        for (kids, since) in &mut self.caches {
            if kids.is_empty() || self.now - *since > CACHE - 3 * HOUR || self.chance.one_in(30) {
                (*kids, *since) = (self.public.clone(), self.now);
            }
        }
    }

    fn check(&mut self) {
        for (issuer, kid) in self.minted.keys().filter(|(_, kid)| !self.killed.contains(kid)) {
            for node in &self.nodes {
                let Some(process) = &node.process else { continue };
                assert!(process.issuers.contains(issuer), "{} refuses tokens of {issuer}", node.name);
                assert!(process.verify.contains(kid), "{} refuses tokens of key {kid}", node.name);
            }
            let mut outside = self.caches.iter().map(|(kids, _)| kids).chain([&self.public]);
            assert!(
                issuer != OURS || outside.all(|kids| kids.contains(kid)),
                "an outsider refuses tokens of key {kid}"
            );
        }
        let Stored { keyring, bytes, .. } = &*self.store.current;
        let (published, accepted) = (keyring.published().count(), keyring.accepted().count());
        self.largest.0 = self.largest.0.max(published);
        self.largest.1 = self.largest.1.max(accepted);
        self.largest.2 = self.largest.2.max(bytes.len());
    }
}

fn control_plane(nodes: &[Node]) -> ControlPlane {
    let listed = |node: &Node| ControlPlaneNode { name: node.name.clone(), addresses: vec![node.name.clone()] };
    ControlPlane { nodes: nodes.iter().map(listed).collect(), ..ControlPlane::default() }
}

#[test]
fn thousand_rotations_refuse_no_live_token_and_the_documents_do_not_grow() {
    for (nodes, seed) in [(3, 1), (3, 2), (5, 3), (5, 4)] {
        let mut simulation = Simulation::new(nodes, seed);
        simulation.run(250);
        let (published, accepted, bytes) = simulation.largest;
        println!(
            "seed {seed}, {nodes} nodes: {} rotations in {} days; at most {published} published and {accepted} accepted keys, {bytes} bytes",
            simulation.rotations,
            simulation.now / DAY
        );
        assert!(published <= MOST_PUBLISHED && accepted <= MOST_ACCEPTED && bytes <= LARGEST_KEYRING);
    }
}
