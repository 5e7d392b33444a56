//! Exhaustive check of the rules above: every order in which nodes, two leaders and a verifier that caches can act, with crashes
//! anywhere, through adoption and a rotation. What is driven is the shipped code; the model adds only the world around it.

use jiff::{SignedDuration, Timestamp};
use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model, Property};

use super::*;
use crate::model::{
    keyring::{Member, Rollout},
    memory::Version1,
};

const OURS: &str = "https://ours.example";
const OLD: &str = "https://old.example";
/// Longest time that a verifier keeps a JWKS, in ticks.
const CACHE: u8 = 1;
/// Life of every token, in ticks.
const TOKEN: i64 = 2;
/// Age from which everything is old enough, in ticks.
const OLDEST: i64 = 2;

/// What an API server reads when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Files {
    issuers: Vec<String>,
    verify: Vec<String>,
    signing: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    disk: Files,
    /// What the running process read; `None` while it is down.
    process: Option<Files>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    keyring: Keyring,
    acks: Vec<Ack>,
    nodes: Vec<Node>,
    /// Kids of the public JWKS.
    public: Vec<String>,
    /// What each leader has decided and not written yet. A write that its condition would refuse is forgotten at once.
    decisions: [Option<Keyring>; 2],
    /// What each leader is about to publish.
    publications: [Option<Vec<String>>; 2],
    /// What the verifier keeps, and for how long.
    cache: (Vec<String>, u8),
    /// Issuer and key of every token that may live, and the age of the youngest, in ticks.
    minted: Vec<((String, String), i64)>,
    crashes: u8,
    keys_made: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Tick,
    Fetch,
    Decide(usize),
    Commit(usize),
    ReadKeyring(usize),
    Publish(usize),
    TakeRollout(usize),
    WriteVerifyingKeys(usize),
    WriteRest(usize),
    Restart(usize),
    Acknowledge(usize),
    Release(usize),
    Crash(usize),
    Boot(usize),
}

/// What is done wrong on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A key signs as soon as it is published: verifiers that cache do not have it.
    NoPublishLead,
    /// A key is believed to be public before it is.
    PromotesUnpublished,
    /// Members are believed to accept and to have switched without evidence.
    BelievesWithoutEvidence,
    /// Members that are down do not count.
    ForgetsWhoIsDown,
    /// A key leaves as soon as it is out of use.
    NoTokenLifetime,
    /// A leader that was paused writes the JWKS it had in mind.
    PublishesUnconditionally,
    /// A leader that was paused writes the keyring it had in mind.
    CommitsUnconditionally,
}

struct Cluster {
    nodes: usize,
    crashes: u8,
    most_keys: u8,
    fault: Fault,
}

/// The moment so many ticks ago. Time is counted backwards from now, and longer ago than anything asks for is all the same: so there
/// are finitely many worlds.
fn ago(ticks: i64) -> Timestamp {
    Timestamp::from_second(-60 * ticks.min(OLDEST)).expect("a time")
}

fn older(since: Timestamp) -> Timestamp {
    ago(1 - since.as_second() / 60)
}

fn kid(number: u8) -> String {
    format!("k{number}")
}

fn standby(number: u8) -> KeyringKey {
    KeyringKey { origin: Origin::Made, ..KeyringKey::adopted(&kid(number), "", KeyState::Standby, ago(0)) }
}

impl Cluster {
    /// A write whose condition holds undoes what another leader has in mind: one leader in mind is as bad as two, unless conditions
    /// are not kept.
    fn leaders(&self) -> usize {
        match self.fault {
            Fault::CommitsUnconditionally | Fault::PublishesUnconditionally => 2,
            _ => 1,
        }
    }

    fn policy(&self) -> Policy {
        let ticks = |count: i64| SignedDuration::from_secs(count * 60);
        Policy {
            issuer: OURS.to_owned(),
            // The next rotation begins as soon as the one before is over.
            period: Some(ticks(0)),
            publish_lead: if self.fault == Fault::NoPublishLead { ticks(0) } else { ticks(i64::from(CACHE) + 1) },
            token_lifetime: if self.fault == Fault::NoTokenLifetime { ticks(0) } else { ticks(TOKEN) },
            verify_retention: if self.fault == Fault::NoTokenLifetime { ticks(0) } else { ticks(TOKEN) },
            clock_margin: ticks(0),
        }
    }

    /// The evidence that the leader believes in.
    fn acks(&self, world: &World) -> Vec<Ack> {
        let believed = |ack: &Ack| Ack {
            served: world.keyring.keys.iter().map(|key| key.kid.clone()).collect(),
            signing_kid: world.keyring.signing().map(|key| key.kid.clone()).unwrap_or_default(),
            issuers: [world.keyring.issuers.clone(), vec![OURS.to_owned()]].concat(),
            ..ack.clone()
        };
        match self.fault {
            Fault::BelievesWithoutEvidence => world.acks.iter().map(believed).collect(),
            Fault::ForgetsWhoIsDown => {
                world.acks.iter().filter(|ack| world.node(&ack.node).process.is_some()).cloned().collect()
            }
            _ => world.acks.clone(),
        }
    }

    fn decide(&self, world: &World) -> Option<Keyring> {
        let every_kid: Vec<String> = (0..=world.keys_made).map(kid).collect();
        let outside = if self.fault == Fault::PromotesUnpublished { &every_kid } else { &world.public };
        let (acks, now) = (self.acks(world), ago(0));
        let mut keyring = world.keyring.clone();
        if self.fault == Fault::ForgetsWhoIsDown {
            keyring.members.retain(|member| world.node(&member.node).process.is_some());
        }
        let fresh = || standby(world.keys_made);
        let mut decided = match next(
            &keyring,
            Seen { acks: &acks, outside, control_plane: None, held: Some(&[]) },
            &self.policy(),
            now,
        ) {
            Next::Wait(_) => return None,
            Next::Write(changed) => *changed,
            Next::MakeStandby => with_standby(&keyring, fresh()),
            Next::Promote => promote(&keyring, fresh(), now),
        };
        decided.members.clone_from(&world.keyring.members);
        let makes_a_key = decided.keys.iter().any(|key| key.kid == kid(world.keys_made));
        (!makes_a_key || world.keys_made < self.most_keys).then_some(decided)
    }
}

impl World {
    fn node(&self, name: &str) -> &Node {
        let number: usize = name.trim_start_matches('n').parse().expect("a number");
        &self.nodes[number]
    }

    fn published(&self) -> Vec<String> {
        self.keyring.published().map(|key| key.kid.clone()).collect()
    }

    fn wanted(&self) -> Files {
        Files {
            issuers: self.keyring.issuers.clone(),
            verify: self.keyring.accepted().map(|key| key.kid.clone()).collect(),
            signing: self.keyring.signing().map(|key| key.kid.clone()).unwrap_or_default(),
        }
    }

    fn evidence(&self, number: usize) -> Option<Ack> {
        let process = self.nodes[number].process.as_ref()?;
        Some(Ack {
            version: Version1,
            node: format!("n{number}"),
            machine: String::new(),
            address: String::new(),
            at: ago(0),
            generation: 0,
            served: process.verify.clone(),
            signing_kid: process.signing.clone(),
            issuers: process.issuers.clone(),
            key_on_disk: process.signing.clone(),
            key_on_disk_since: ago(0),
            keys: Vec::new(),
            process_started_at: ago(0),
            boot_id: String::new(),
            failure: None,
        })
    }

    fn holds_rollout(&self, number: usize) -> bool {
        self.keyring.rollout.as_ref().is_some_and(|rollout| rollout.holder == format!("n{number}"))
    }

    /// The keyring changes: what was decided on the one before is refused, unless nobody looks.
    fn change(&mut self, keyring: Keyring, fault: Fault) {
        self.keyring = keyring;
        for key in &mut self.keyring.keys {
            key.since = ago(0);
            key.history.clear();
        }
        self.keyring.rotate_since = self.keyring.rotate_since.map(|_| ago(0));
        if fault != Fault::CommitsUnconditionally {
            self.decisions = [None, None];
        }
    }

    fn age(&mut self) {
        for key in &mut self.keyring.keys {
            key.published_at = key.published_at.map(older);
            key.unused_since = key.unused_since.map(older);
        }
        for (_, age) in &mut self.minted {
            *age += 1;
        }
        for decided in self.decisions.iter_mut().flatten() {
            for key in &mut decided.keys {
                key.published_at = key.published_at.map(older);
                key.unused_since = key.unused_since.map(older);
            }
        }
        // A cache that holds what is public may as well have been filled just now.
        self.cache.1 = if self.cache.0 == self.public { 0 } else { self.cache.1 + 1 };
    }

    /// Every API server that is up mints all the time.
    fn mint(&mut self) {
        for node in &self.nodes {
            let Some(process) = &node.process else { continue };
            let token = (process.issuers[0].clone(), process.signing.clone());
            match self.minted.iter_mut().find(|(known, _)| *known == token) {
                Some((_, age)) => *age = 0,
                None => self.minted.push((token, 0)),
            }
        }
        self.minted.retain(|(_, age)| *age < TOKEN);
        self.minted.sort();
    }

    fn every_live_token_is_accepted(&self) -> bool {
        self.minted.iter().all(|((issuer, kid), _)| {
            let inside = self.nodes.iter().filter_map(|node| node.process.as_ref());
            let mut inside = inside.map(|process| process.issuers.contains(issuer) && process.verify.contains(kid));
            // Who has kept nothing fetches now.
            let known = if self.cache.0.is_empty() { &self.public } else { &self.cache.0 };
            let outside = issuer != OURS || known.contains(kid);
            inside.all(|accepts| accepts) && outside
        })
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let files = Files { issuers: vec![OLD.to_owned()], verify: vec![kid(0)], signing: kid(0) };
        let adopted = KeyringKey { state: KeyState::Signing, origin: Origin::Adopted, ..standby(0) };
        let member = |number| Member { node: format!("n{number}"), since: ago(0) };
        let mut world = World {
            keyring: Keyring {
                version: Version1,
                cluster: "c".to_owned(),
                generation: 1,
                previous_hash: String::new(),
                ancestors: Vec::new(),
                leaving: Vec::new(),
                issuers: vec![OLD.to_owned()],
                keys: vec![adopted],
                members: (0..self.nodes).map(member).collect(),
                rotate_since: None,
                rollout: None,
            },
            acks: Vec::new(),
            nodes: vec![Node { disk: files.clone(), process: Some(files) }; self.nodes],
            public: Vec::new(),
            decisions: [None, None],
            publications: [None, None],
            cache: (Vec::new(), CACHE),
            minted: Vec::new(),
            crashes: 0,
            keys_made: 1,
        };
        world.mint();
        world.acks = (0..self.nodes).filter_map(|number| world.evidence(number)).collect();
        vec![world]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.cache.1 < CACHE || world.cache.0 == world.public {
            steps.push(Step::Tick);
        }
        if world.cache.0 != world.public {
            steps.push(Step::Fetch);
        }
        for leader in 0..self.leaders() {
            match &world.decisions[leader] {
                Some(_) => steps.push(Step::Commit(leader)),
                None if self.decide(world).is_some() => steps.push(Step::Decide(leader)),
                None => {}
            }
            match &world.publications[leader] {
                Some(_) => steps.push(Step::Publish(leader)),
                None if world.published() != world.public => steps.push(Step::ReadKeyring(leader)),
                None => {}
            }
        }
        for number in 0..self.nodes {
            self.node_actions(world, number, steps);
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Tick => world.age(),
            Step::Fetch => world.cache = (world.public.clone(), 0),
            Step::Decide(leader) => world.decisions[leader] = Some(self.decide(before)?),
            Step::Commit(leader) => {
                let decided = world.decisions[leader].take()?;
                world.keys_made += u8::from(decided.keys.iter().any(|key| key.kid == kid(world.keys_made)));
                world.change(decided, self.fault);
            }
            Step::ReadKeyring(leader) => world.publications[leader] = Some(world.published()),
            Step::Publish(leader) => {
                world.public = world.publications[leader].take()?;
                if self.fault != Fault::PublishesUnconditionally {
                    world.publications = [None, None];
                }
            }
            Step::TakeRollout(number) => {
                let rollout = Some(Rollout { holder: format!("n{number}"), since: ago(0) });
                world.change(Keyring { rollout, ..before.keyring.clone() }, self.fault);
            }
            Step::WriteVerifyingKeys(number) => world.nodes[number].disk.verify = world.wanted().verify,
            Step::WriteRest(number) => {
                let wanted = world.wanted();
                let disk = &mut world.nodes[number].disk;
                (disk.issuers, disk.signing) = (wanted.issuers, wanted.signing);
            }
            Step::Restart(number) | Step::Boot(number) => {
                world.nodes[number].process = Some(world.nodes[number].disk.clone());
            }
            Step::Acknowledge(number) => {
                let ack = world.evidence(number)?;
                world.acks.retain(|known| known.node != ack.node);
                world.acks.push(ack);
                world.acks.sort_by(|one, other| one.node.cmp(&other.node));
            }
            Step::Release(_) => world.change(Keyring { rollout: None, ..before.keyring.clone() }, self.fault),
            Step::Crash(number) => {
                world.nodes[number].process = None;
                world.crashes += 1;
            }
        }
        world.mint();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every live token is accepted", |_, world: &World| world.every_live_token_is_accepted()),
            Property::sometimes("the adopted key was replaced", |cluster: &Self, world: &World| {
                world.keyring.keys.iter().all(|key| key.kid != kid(0) || key.state == KeyState::VerifyOnly)
                    && world.nodes.iter().all(|node| {
                        node.process.as_ref().is_some_and(|process| process.signing == kid(cluster.most_keys - 2))
                    })
            }),
        ]
    }
}

impl Cluster {
    fn node_actions(&self, world: &World, number: usize, steps: &mut Vec<Step>) {
        let node = &world.nodes[number];
        let Some(ack) = world.evidence(number) else { return steps.push(Step::Boot(number)) };
        if world.crashes < self.crashes {
            steps.push(Step::Crash(number));
        }
        let is_told = world.acks.contains(&ack);
        if !is_told {
            steps.push(Step::Acknowledge(number));
        }
        let has_to_restart = !restart_reasons(&world.keyring, &ack).is_empty();
        let peers_are_up =
            world.nodes.iter().all(|node| node.process.is_some()) || self.fault == Fault::ForgetsWhoIsDown;
        if has_to_restart && world.keyring.rollout.is_none() && peers_are_up {
            steps.push(Step::TakeRollout(number));
        }
        if !world.holds_rollout(number) {
            return;
        }
        let wanted = world.wanted();
        let accepts_first = node.disk.verify == wanted.verify;
        if node.disk.verify != wanted.verify {
            steps.push(Step::WriteVerifyingKeys(number));
        }
        let rest_is_there = node.disk.issuers == wanted.issuers && node.disk.signing == wanted.signing;
        // A node looks for itself before it signs with another key.
        let is_public = world.public.contains(&wanted.signing) || self.fault == Fault::PromotesUnpublished;
        if accepts_first && !rest_is_there && is_public {
            steps.push(Step::WriteRest(number));
        }
        if node.disk == wanted && node.process.as_ref() != Some(&node.disk) && peers_are_up {
            steps.push(Step::Restart(number));
        }
        if !has_to_restart && is_told {
            steps.push(Step::Release(number));
        }
    }
}

const SAFE: &str = "every live token is accepted";

fn checker(cluster: Cluster) -> CheckerBuilder<Cluster> {
    cluster.checker().threads(2).finish_when(HasDiscoveries::AnyFailures)
}

/// Every world that can be reached; none may refuse a live token, and the rotations have to come to their end.
fn assert_safe(cluster: Cluster) {
    let checker = checker(cluster).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    let broken = checker.discovery(SAFE).map(|path| format!("{:?}", path.into_actions()));
    assert_eq!(broken, None);
    assert!(checker.discovery("the adopted key was replaced").is_some(), "the model never gets so far");
}

#[test]
fn model_of_two_nodes_refuses_no_live_token() {
    assert_safe(Cluster { nodes: 2, crashes: 1, most_keys: 3, fault: Fault::None });
}

#[test]
fn model_notices_each_shortcut() {
    for (fault, crashes) in [
        (Fault::NoPublishLead, 1),
        (Fault::PromotesUnpublished, 1),
        (Fault::BelievesWithoutEvidence, 1),
        (Fault::ForgetsWhoIsDown, 1),
        (Fault::NoTokenLifetime, 1),
        (Fault::PublishesUnconditionally, 0),
        (Fault::CommitsUnconditionally, 0),
    ] {
        let checker = checker(Cluster { nodes: 2, crashes, most_keys: 3, fault }).spawn_dfs().join();
        println!("{fault:?}: {} states", checker.unique_state_count());
        assert!(checker.discovery(SAFE).is_some(), "{fault:?} is not noticed");
    }
}
