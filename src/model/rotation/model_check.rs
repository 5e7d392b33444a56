//! Exhaustive check of the rules above: every order in which nodes, two leaders, a person and a verifier that caches can act, with
//! crashes between any two writes, through adoption and two rotations. What is driven is the shipped code ([`adopt`], [`next`],
//! [`follow`], [`revoke`], [`Keyring::continues`]); the model adds only the world around it.
//!
//! Three things keep it small. Nodes are interchangeable: of worlds that differ in the order of the nodes only, one is looked at.
//! A write whose condition holds undoes what every other writer has in mind: one leader in mind is as bad as two, unless
//! conditions are not kept. And a rule is asked the same question once: its answer is remembered.

mod world;

use std::{collections::HashMap, hash::Hash, sync::Mutex};

use jiff::Timestamp;
use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model, Property};

use super::*;
use world::{Change, Evidence, Files, Issuers, KEYS, Key, NODES, Node, OURS, Ring, Set, State, ago, has, set, ticks};

/// Longest time that a verifier keeps a JWKS, in ticks.
const CACHE: i8 = 1;
/// Life of every token, in ticks.
const TOKEN: i8 = 2;
const NONE: i8 = i8::MAX;
const MOST_GENERATIONS: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    ring: Ring,
    nodes: [Node; NODES],
    /// Kids of the public JWKS.
    public: Set,
    /// What each leader has decided and not written yet. A write that its condition would refuse is forgotten at once.
    decided: [Option<Ring>; 2],
    /// What each leader is about to publish. It has read the public document first and the keyring then: the other way round, a
    /// keyring that is older than the document would pass the condition.
    publishing: [Option<Set>; 2],
    /// What the verifier keeps, and for how long.
    cache: (Set, i8),
    /// Age of the youngest token of each key, of the old issuer and of ours.
    minted: [[i8; KEYS]; 2],
    /// A copy of the store, which may come back: the keyring and what each node had told.
    copy: Option<(Ring, [Option<Evidence>; NODES])>,
    /// The store has just changed: a copy that is made later, before it changes again, is the same.
    may_be_copied: bool,
    crashes: u8,
    revocations: u8,
    keys_made: u8,
    /// Keys that a person wanted dead at once.
    killed: Set,
    /// Keys that the keyring has had and has no more.
    left: Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Tick,
    Fetch,
    /// Of a leader whose clock is ahead by so many ticks.
    Decide(usize, i8),
    Commit(usize),
    ReadKeyring(usize),
    Publish(usize),
    Take(usize),
    Begin(usize),
    WriteVerifyingKeys(usize),
    WriteSigningKey(usize),
    /// With the restart that follows: a process that is down for a while mints nothing and refuses nothing.
    WriteManifest(usize),
    PutBack(usize),
    /// One key file, without the rollout.
    WriteAhead(usize),
    Tell(usize),
    Release(usize),
    Crash(usize),
    Boot(usize),
    /// The API server alone restarts.
    Restart(usize),
    /// irsad alone restarts.
    Forget(usize),
    CopyStore,
    PutStoreBack,
    Revoke(usize, Revoke),
}

/// What is done wrong on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A key signs in the same roll in which it is first accepted.
    AddsAndSignsInOneRoll,
    /// Our issuer signs as soon as it is written into the keyring.
    SignsAsOursBeforeAllAccept,
    /// A key signs as soon as it is published: verifiers that cache do not have it.
    NoPublishLead,
    /// A key is believed to be public before it is.
    PromotesUnpublished,
    /// Members are believed to have switched without evidence.
    RetiresWithoutEvidence,
    /// What the files say is taken for what the process does.
    BelievesTheFiles,
    /// Members that are down do not count.
    ForgetsWhoIsDown,
    /// A key leaves as soon as it is out of use.
    NoTokenLifetime,
    /// The next rotation begins while one is under way, and does not ask who accepts its key.
    OverlapsRotations,
    /// Ages are compared as if all clocks showed the same.
    HalfAClockMargin,
    /// A leader that was paused writes the JWKS it had in mind.
    PublishesUnconditionally,
    /// A leader that was paused writes the keyring it had in mind.
    CommitsUnconditionally,
    /// A keyring that went back in time is followed.
    FollowsAnOlderKeyring,
    /// Who waits for long enough takes the rollout from its holder.
    TakesRolloutOver,
}

/// One run of the model: how much of what may happen.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    nodes: usize,
    /// Of nodes and API servers, and changes that are put back.
    crashes: u8,
    /// The adopted key, and those made later.
    most_keys: u8,
    /// Our issuer signs already.
    is_ours: bool,
    /// Nodes bring their key files up to date and wait for a restart that happens anyway.
    waits_for_restarts: bool,
    /// The store may go back in time, once.
    store_goes_back: bool,
    revocations: u8,
    /// What the clocks of two leaders, and of two API servers, may differ by, in ticks.
    skew: i8,
    fault: Fault,
}

const TWO_ROTATIONS: Bounds = Bounds {
    nodes: 3,
    crashes: 2,
    most_keys: 4,
    is_ours: false,
    waits_for_restarts: false,
    store_goes_back: false,
    revocations: 0,
    skew: 0,
    fault: Fault::None,
};

/// All that a leader looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sight {
    ring: Ring,
    acks: [Option<Evidence>; NODES],
    outside: Set,
    listed: Set,
    keys_made: u8,
    ahead: i8,
}

/// All that a node looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Look {
    ring: Ring,
    number: usize,
    here: Evidence,
    is_told: bool,
    not_ready: Set,
    outside: Set,
}

/// The part of [`Follow`] that moves the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    None,
    Take,
    Change,
    Release,
}

struct Cluster {
    bounds: Bounds,
    policy: Policy,
    oldest: i8,
    decided: Answers<Sight, Option<Ring>>,
    moves: Answers<Look, Move>,
    continued: Answers<Mark, bool>,
}

/// Generation and fork of the store, and what a node remembers.
type Mark = (u8, Option<u8>, (u8, bool));

/// What a rule has answered.
struct Answers<Q, A>(Mutex<HashMap<Q, A>>);

impl<Q, A> Default for Answers<Q, A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Q: Hash + Eq + Copy, A: Copy> Answers<Q, A> {
    fn get(&self, question: Q, ask: impl FnOnce() -> A) -> A {
        let known = self.0.lock().expect("no rule panics").get(&question).copied();
        known.unwrap_or_else(|| {
            let answer = ask();
            self.0.lock().expect("no rule panics").insert(question, answer);
            answer
        })
    }
}

impl Cluster {
    fn new(bounds: Bounds) -> Self {
        let policy = Self::policy(bounds);
        let oldest = world::oldest(&policy);
        let (decided, moves, continued) = (Answers::default(), Answers::default(), Answers::default());
        Self { bounds, policy, oldest, decided, moves, continued }
    }

    fn policy(bounds: Bounds) -> Policy {
        let token_lifetime = if bounds.fault == Fault::NoTokenLifetime { ticks(0) } else { ticks(TOKEN) };
        Policy {
            issuer: OURS.to_owned(),
            // The next rotation begins as soon as the one before is over.
            period: Some(ticks(0)),
            publish_lead: if bounds.fault == Fault::NoPublishLead { ticks(0) } else { ticks(CACHE + 1) },
            token_lifetime,
            verify_retention: token_lifetime,
            // Twice: one clock notes a moment and another reads it, one clock dates a token and another judges it.
            clock_margin: ticks(if bounds.fault == Fault::HalfAClockMargin { bounds.skew } else { 2 * bounds.skew }),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.bounds.fault == fault
    }

    fn every_node(&self) -> Set {
        set(0..self.bounds.nodes)
    }

    /// A leader that was paused matters where its write is not refused.
    fn leaders(&self) -> usize {
        match self.bounds.fault {
            Fault::CommitsUnconditionally | Fault::PublishesUnconditionally => 2,
            _ => 1,
        }
    }

    /// Whether this leader looks now. One that is paused looked before the first key was made: later is less bad.
    fn looks(&self, leader: usize, world: &World) -> bool {
        self.has_leader(world) && (leader == 0 || world.keys_made == 1)
    }

    /// What the next leader would write, by the shipped rules.
    fn decide(&self, world: &World, ahead: i8) -> Option<Ring> {
        let sight = Sight {
            ring: world.ring,
            acks: world.nodes.map(|node| node.ack),
            outside: if self.is(Fault::PromotesUnpublished) { Set::MAX } else { world.public },
            listed: if self.is(Fault::ForgetsWhoIsDown) { self.up(world) } else { self.every_node() },
            keys_made: world.keys_made,
            ahead,
        };
        self.decided.get(sight, || self.ask_leader(&sight))
    }

    fn ask_leader(&self, sight: &Sight) -> Option<Ring> {
        let now = ago(-sight.ahead);
        let fresh = || KeyringKey {
            origin: Origin::Made,
            ..KeyringKey::adopted(&world::kid(usize::from(sight.keys_made)), "", KeyState::Standby, now)
        };
        let whole = sight.ring.keyring();
        let shown = self.shown(sight, whole.clone());
        let acks = self.believed(sight);
        let (outside, control_plane) = (world::kids(sight.outside), world::control_plane(sight.listed));
        let seen = Seen { acks: &acks, outside: &outside, control_plane: Some(&control_plane), held: Some(&[]) };
        let decided = match next(&shown, seen, &self.policy, now) {
            Next::Wait(_) => return None,
            Next::Write(changed) => *changed,
            Next::MakeStandby => with_standby(&whole, fresh()),
            Next::Promote => promote(&whole, fresh(), now),
        };
        decided.check().expect("every keyring that is decided is in order");
        let makes_a_key = decided.key(&world::kid(usize::from(sight.keys_made))).is_some();
        let is_within = !makes_a_key || sight.keys_made < self.bounds.most_keys;
        is_within.then(|| sight.ring.followed_by(&decided))
    }

    /// The keyring that the leader believes in.
    fn shown(&self, sight: &Sight, mut keyring: Keyring) -> Keyring {
        let may_sign = keyring.rotate_since.is_some() && sight.keys_made < self.bounds.most_keys;
        if self.is(Fault::OverlapsRotations) && may_sign {
            keyring.keys.retain(|key| key.state != KeyState::Draining);
            keyring.rollout = None;
        }
        keyring
    }

    /// The evidence that the leader believes in.
    fn believed(&self, sight: &Sight) -> Vec<Ack> {
        let acks = (0..NODES).filter_map(|number| sight.acks[number].map(|evidence| evidence.ack(number)));
        let every_key = world::kids(Set::MAX);
        let signing = world::kid(usize::from(sight.ring.wanted().signing));
        let mut acks: Vec<Ack> = acks.collect();
        for ack in &mut acks {
            match self.bounds.fault {
                Fault::AddsAndSignsInOneRoll | Fault::OverlapsRotations => ack.served.clone_from(&every_key),
                Fault::SignsAsOursBeforeAllAccept => ack.issuers.push(OURS.to_owned()),
                Fault::RetiresWithoutEvidence => {
                    (ack.signing_kid, ack.key_on_disk) = (signing.clone(), signing.clone());
                }
                Fault::BelievesTheFiles => {
                    ack.signing_kid.clone_from(&ack.key_on_disk);
                    ack.served = ack.keys.iter().map(|key| key.kid.clone()).collect();
                }
                _ => {}
            }
        }
        acks
    }

    /// What this node does next, by the shipped rule.
    fn follow(&self, world: &World, number: usize) -> Move {
        let node = &world.nodes[number];
        let Some(here) = node.evidence().filter(|_| self.goes_on(&world.ring, node)) else { return Move::None };
        let others_down = self.every_node() & !self.up(world);
        let mut ring = self.wanted_ring(world);
        if self.is(Fault::TakesRolloutOver) && ring.rollout != u8::try_from(number).ok() {
            ring.rollout = None;
        }
        let look = Look {
            ring,
            number,
            here,
            is_told: node.ack == Some(here),
            not_ready: if self.is(Fault::ForgetsWhoIsDown) { 0 } else { others_down },
            outside: if self.is(Fault::PromotesUnpublished) { Set::MAX } else { world.public },
        };
        self.moves.get(look, || Self::ask_node(&look))
    }

    /// The keyring that nodes follow.
    fn wanted_ring(&self, world: &World) -> Ring {
        let mut ring = world.ring;
        if self.is(Fault::AddsAndSignsInOneRoll) {
            ring.keys = ring.keys.map(|key| key.filter(|key| key.state != State::Standby));
        }
        ring
    }

    fn ask_node(look: &Look) -> Move {
        let (not_ready, outside) = (world::nodes(look.not_ready), world::kids(look.outside));
        let ack = look.here.ack(look.number);
        let here = Here {
            ack: &ack,
            own_reasons: &[],
            is_told: look.is_told,
            not_ready: &not_ready,
            outside: &outside,
            after: &[],
        };
        match follow(&look.ring.keyring(), here, ago(0)) {
            Follow::Settled | Follow::Wait(_) => Move::None,
            Follow::Take(taken) => {
                assert_eq!(taken.rollout.map(|rollout| rollout.holder), Some(ack.node));
                Move::Take
            }
            Follow::Change => Move::Change,
            Follow::Release(released) => {
                assert_eq!(released.rollout, None);
                Move::Release
            }
        }
    }

    /// Whether a node goes on from what the store shows.
    fn goes_on(&self, ring: &Ring, node: &Node) -> bool {
        let continues = || self.continued.get((ring.generation, ring.fork, node.mark), || ring.continues(node.mark));
        !self.bounds.store_goes_back || self.is(Fault::FollowsAnOlderKeyring) || continues()
    }

    fn up(&self, world: &World) -> Set {
        set((0..self.bounds.nodes).filter(|number| world.nodes[*number].process.is_some()))
    }

    /// Whether some node may lead: one that runs, and has not seen more than the store shows.
    fn has_leader(&self, world: &World) -> bool {
        world.nodes[..self.bounds.nodes].iter().any(|node| node.process.is_some() && self.goes_on(&world.ring, node))
    }

    /// The keyring changes: what was decided on the one before is refused, unless nobody looks.
    fn change(&self, world: &mut World, ring: Ring) {
        let keys = |ring: &Ring| set((0..KEYS).filter(|number| ring.keys[*number].is_some()));
        world.left |= keys(&world.ring) & !keys(&ring);
        // Counted from the copy on; beyond a few, one more makes no difference to whether a mark is refused.
        let is_counted = world.copy.is_some() || world.ring.fork.is_some();
        let generation = (world.ring.generation + u8::from(is_counted)).min(MOST_GENERATIONS);
        world.ring = Ring { generation, ..ring };
        world.may_be_copied = self.bounds.store_goes_back && world.copy.is_none() && world.ring.fork.is_none();
        if !self.is(Fault::CommitsUnconditionally) {
            world.decided = [None, None];
        }
    }

    /// Every API server that is up mints all the time.
    fn mint(&self, world: &mut World) {
        for node in &world.nodes[..self.bounds.nodes] {
            if let Some(process) = node.process {
                world.minted[usize::from(process.issuers.signs_as_ours())][usize::from(process.signing)] = 0;
            }
        }
    }

    fn grow_older(&self, world: &mut World) {
        let rings = [Some(&mut world.ring), world.copy.as_mut().map(|(ring, _)| ring)];
        for ring in rings.into_iter().flatten().chain(world.decided.iter_mut().flatten()) {
            ring.grow_older(self.oldest);
        }
        // A token that was dated by the fastest clock lives longest by the slowest.
        let dies_at = TOKEN + self.bounds.skew;
        for age in world.minted.iter_mut().flatten().filter(|age| **age != NONE) {
            *age = if *age + 1 >= dies_at { NONE } else { *age + 1 };
        }
        // A cache that holds what is public may as well have been filled just now.
        world.cache.1 = if world.cache.0 == world.public { 0 } else { world.cache.1 + 1 };
    }

    fn every_live_token_is_accepted(&self, world: &World) -> bool {
        // Who has kept nothing fetches now.
        let known = if world.cache.0 == 0 { world.public } else { world.cache.0 };
        [false, true].into_iter().all(|is_ours| {
            let minted = world.minted[usize::from(is_ours)];
            let live = set((0..KEYS).filter(|number| minted[*number] != NONE)) & !world.killed;
            let inside = |process: &Files| process.issuers.accepts(is_ours) && live & !process.verify == 0;
            let accepted = world.nodes[..self.bounds.nodes].iter().filter_map(|node| node.process.as_ref()).all(inside);
            live == 0 || accepted && (!is_ours || live & !known == 0)
        })
    }

    /// The same world with its nodes in order: they have no names that matter.
    fn sorted(&self, world: World) -> World {
        let held = |ring: &Option<Ring>, number| {
            ring.map(|ring| (ring.rollout == Some(number), has(ring.members, number.into())))
        };
        let place = |number: usize| {
            let as_u8 = u8::try_from(number).expect("a node");
            let copied = world.copy.map(|(ring, acks)| (held(&Some(ring), as_u8), acks[number]));
            let rings =
                [held(&Some(world.ring), as_u8), held(&world.decided[0], as_u8), held(&world.decided[1], as_u8)];
            (world.nodes[number], rings, copied)
        };
        let mut order: Vec<usize> = (0..self.bounds.nodes).collect();
        order.sort_by_key(|number| place(*number));
        if order.is_sorted() {
            return world;
        }
        let reordered = |ring: Ring| Ring {
            rollout: ring.rollout.map(|number| position(&order, number)),
            members: set((0..order.len()).filter(|number| has(ring.members, order[*number]))),
            ..ring
        };
        let mut sorted = World {
            ring: reordered(world.ring),
            decided: world.decided.map(|ring| ring.map(reordered)),
            copy: world.copy.map(|(ring, acks)| (reordered(ring), acks)),
            ..world
        };
        for (number, old) in order.iter().enumerate() {
            sorted.nodes[number] = world.nodes[*old];
            if let (Some((_, acks)), Some((_, copied))) = (&mut sorted.copy, world.copy) {
                acks[number] = copied[*old];
            }
        }
        sorted
    }
}

fn position(order: &[usize], number: u8) -> u8 {
    let found = order.iter().position(|old| *old == usize::from(number)).expect("a node");
    u8::try_from(found).expect("a node")
}

impl Model for Cluster {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let issuers = if self.bounds.is_ours { Issuers::OursThenOld } else { Issuers::Old };
        let files = Files { issuers, verify: 1, signing: 0 };
        let evidence = Evidence { process: files, disk: files };
        let acks: Vec<Ack> = (0..self.bounds.nodes).map(|number| evidence.ack(number)).collect();
        let Adoption::Begin(adopted) =
            adopt("c", &acks, &world::control_plane(self.every_node()), Vec::new(), Timestamp::UNIX_EPOCH)
        else {
            unreachable!("all nodes have reported the same");
        };
        let empty = Ring {
            keys: [None; KEYS],
            issuers,
            wants_rotation: false,
            rollout: None,
            members: 0,
            generation: u8::from(self.bounds.store_goes_back),
            fork: None,
        };
        let mut nodes = [Node::default(); NODES];
        nodes[..self.bounds.nodes].fill(Node {
            disk: files,
            process: Some(files),
            ack: Some(evidence),
            mark: (empty.generation, false),
            ..Node::default()
        });
        let mut world = World {
            ring: empty.followed_by(&adopted),
            nodes,
            public: Set::from(self.bounds.is_ours),
            decided: [None, None],
            publishing: [None, None],
            cache: (0, CACHE),
            minted: [[NONE; KEYS]; 2],
            copy: None,
            may_be_copied: self.bounds.store_goes_back,
            crashes: 0,
            revocations: 0,
            keys_made: 1,
            killed: 0,
            left: 0,
        };
        self.mint(&mut world);
        vec![world]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.cache.1 < CACHE || world.cache.0 == world.public {
            steps.push(Step::Tick);
        }
        if world.cache.0 != world.public {
            steps.push(Step::Fetch);
        }
        self.leader_actions(world, steps);
        for number in 0..self.bounds.nodes {
            self.node_actions(world, number, steps);
        }
        if self.bounds.store_goes_back {
            match (world.copy, world.ring.fork) {
                (None, None) if world.may_be_copied => steps.push(Step::CopyStore),
                (None, None) => {}
                (Some(_), None) => steps.push(Step::PutStoreBack),
                (_, Some(_)) => {}
            }
        }
        if world.revocations < self.bounds.revocations {
            for number in (0..KEYS).filter(|number| world.ring.keys[*number].is_some_and(|key| key.revoke == 0)) {
                steps.extend([Revoke::Drain, Revoke::Now].map(|how| Step::Revoke(number, how)));
            }
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = World { may_be_copied: false, ..*before };
        match step {
            Step::Tick => self.grow_older(&mut world),
            Step::Fetch => world.cache = (world.public, 0),
            Step::Decide(leader, ahead) => world.decided[leader] = Some(self.decide(before, ahead)?),
            Step::Commit(leader) => {
                let decided = world.decided[leader].take()?;
                world.keys_made +=
                    u8::from(decided.keys.get(usize::from(world.keys_made)).is_some_and(Option::is_some));
                self.change(&mut world, decided);
            }
            Step::ReadKeyring(leader) => world.publishing[leader] = Some(world.ring.published()),
            Step::Publish(leader) => {
                world.public = world.publishing[leader].take()?;
                if !self.is(Fault::PublishesUnconditionally) {
                    world.publishing = [None, None];
                }
            }
            Step::CopyStore => world.copy = Some((world.ring, world.nodes.map(|node| node.ack))),
            Step::PutStoreBack => {
                let (ring, acks) = world.copy.take()?;
                world.ring = Ring { fork: Some(ring.generation), ..ring };
                world.nodes.iter_mut().zip(acks).for_each(|(node, ack)| node.ack = ack);
                (world.decided, world.publishing) = ([None, None], [None, None]);
            }
            Step::Revoke(number, how) => {
                let revoked = revoke(&world.ring.keyring(), &world::kid(number), how, ago(0)).ok()?;
                world.revocations += 1;
                world.killed |= Set::from(how == Revoke::Now) << number;
                self.change(&mut world, before.ring.followed_by(&revoked));
            }
            Step::Take(number) => {
                let rollout = u8::try_from(number).ok();
                self.change(&mut world, Ring { rollout, ..before.ring });
            }
            Step::Release(_) => self.change(&mut world, Ring { rollout: None, ..before.ring }),
            Step::Begin(number)
            | Step::WriteVerifyingKeys(number)
            | Step::WriteSigningKey(number)
            | Step::WriteManifest(number)
            | Step::PutBack(number)
            | Step::WriteAhead(number)
            | Step::Tell(number)
            | Step::Crash(number)
            | Step::Boot(number)
            | Step::Restart(number)
            | Step::Forget(number) => self.act(&mut world, number, step)?,
        }
        self.mint(&mut world);
        Some(self.sorted(world))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFE, |cluster: &Self, world: &World| cluster.every_live_token_is_accepted(world)),
            Property::always(ONE_AT_A_TIME, |cluster: &Self, world: &World| {
                // A store that went back has forgotten who holds the rollout.
                cluster.bounds.store_goes_back && world.ring.fork.is_some()
                    || world.nodes.iter().filter(|node| node.change.is_some()).count() <= 1
            }),
            Property::always(GONE_IS_GONE, |_, world: &World| {
                (0..KEYS).all(|number| !has(world.left, number) || world.ring.keys[number].is_none())
            }),
            Property::sometimes(ENDS, |cluster: &Self, world: &World| cluster.is_over(world)),
            Property::sometimes(REFUSES, |cluster: &Self, world: &World| {
                world.nodes.iter().any(|node| !cluster.goes_on(&world.ring, node))
            }),
        ]
    }
}

impl Cluster {
    fn leader_actions(&self, world: &World, steps: &mut Vec<Step>) {
        for leader in 0..self.leaders() {
            let is_led = self.looks(leader, world);
            match &world.decided[leader] {
                Some(_) => steps.push(Step::Commit(leader)),
                None if is_led => {
                    let decides = |ahead: &i8| self.decide(world, *ahead).is_some();
                    steps.extend((0..=self.bounds.skew).filter(decides).map(|ahead| Step::Decide(leader, ahead)));
                }
                None => {}
            }
            match &world.publishing[leader] {
                Some(_) => steps.push(Step::Publish(leader)),
                None if is_led && world.ring.published() != world.public => steps.push(Step::ReadKeyring(leader)),
                None => {}
            }
        }
    }

    fn node_actions(&self, world: &World, number: usize, steps: &mut Vec<Step>) {
        let node = &world.nodes[number];
        let Some(evidence) = node.evidence() else { return steps.push(Step::Boot(number)) };
        if node.process != Some(node.disk) && (self.bounds.waits_for_restarts || world.crashes < self.bounds.crashes) {
            steps.push(Step::Restart(number));
        }
        let wanted = self.wanted_ring(world).wanted();
        let keys_differ = (node.disk.verify, node.disk.signing) != (wanted.verify, wanted.signing);
        if self.bounds.waits_for_restarts && node.change.is_none() && node.disk.issuers == wanted.issuers && keys_differ
        {
            steps.push(Step::WriteAhead(number));
        }
        if world.crashes < self.bounds.crashes {
            steps.push(Step::Crash(number));
            if node.change.is_some() {
                steps.extend([Step::PutBack(number), Step::Forget(number)]);
            }
        }
        match node.change {
            Some(Change { target, .. }) if node.disk.verify != target.verify => {
                steps.push(Step::WriteVerifyingKeys(number));
            }
            Some(Change { target, .. }) if node.disk.signing != target.signing => {
                steps.push(Step::WriteSigningKey(number));
            }
            Some(Change { target, .. }) if node.process != Some(target) => steps.push(Step::WriteManifest(number)),
            Some(_) | None => {
                if node.ack != Some(evidence) || node.change.is_some() {
                    steps.push(Step::Tell(number));
                }
            }
        }
        if node.change.is_none() {
            match self.follow(world, number) {
                Move::None => {}
                Move::Take => steps.push(Step::Take(number)),
                Move::Change => steps.push(Step::Begin(number)),
                Move::Release => steps.push(Step::Release(number)),
            }
        }
    }

    /// What happens on one node.
    fn act(&self, world: &mut World, number: usize, step: Step) -> Option<()> {
        let wanted = self.wanted_ring(world).wanted();
        let node = &mut world.nodes[number];
        let target = node.change.map(|change| change.target);
        match step {
            Step::Begin(_) => {
                node.change = Some(Change { target: wanted, before: node.disk });
                let generation = world.ring.generation;
                node.mark = (generation, world.ring.is_after_fork(generation));
            }
            Step::WriteVerifyingKeys(_) => node.disk.verify = target?.verify,
            Step::WriteSigningKey(_) => node.disk.signing = target?.signing,
            Step::WriteManifest(_) => {
                node.disk.issuers = target?.issuers;
                node.process = Some(node.disk);
            }
            Step::WriteAhead(_) if node.disk.verify != wanted.verify => node.disk.verify = wanted.verify,
            Step::WriteAhead(_) => node.disk.signing = wanted.signing,
            Step::PutBack(_) => {
                node.disk = node.change.take()?.before;
                node.process = Some(node.disk);
                world.crashes += 1;
            }
            Step::Tell(_) => {
                (node.ack, node.change) = (node.evidence(), None);
                world.may_be_copied = self.bounds.store_goes_back && world.copy.is_none() && world.ring.fork.is_none();
            }
            Step::Crash(_) => {
                (node.process, node.change) = (None, None);
                world.crashes += 1;
            }
            Step::Forget(_) => {
                node.change = None;
                world.crashes += 1;
            }
            Step::Restart(_) => {
                node.process = Some(node.disk);
                world.crashes += u8::from(!self.bounds.waits_for_restarts);
            }
            _ => node.process = Some(node.disk),
        }
        Some(())
    }

    /// All keys that may be made are made, all but the last sign no more and are not public, and every node has followed.
    fn is_over(&self, world: &World) -> bool {
        let last = usize::from(self.bounds.most_keys - 2);
        let is_old = |key: &Option<Key>| {
            key.is_none_or(|key| matches!(key.state, State::VerifyOnly | State::Retired | State::Revoked))
        };
        world.ring.keys[..last].iter().all(is_old)
            && world.public == world.ring.published()
            && world.nodes[..self.bounds.nodes]
                .iter()
                .all(|node| node.process.is_some_and(|process| usize::from(process.signing) == last))
    }
}

const SAFE: &str = "every live token is accepted";
const ONE_AT_A_TIME: &str = "at most one API server is being changed";
const GONE_IS_GONE: &str = "a key that left the keyring does not come back";
const ENDS: &str = "the last rotation comes to its end";
const REFUSES: &str = "a node has seen more than the store shows";

fn checker(bounds: Bounds) -> CheckerBuilder<Cluster> {
    Cluster::new(bounds).checker().threads(2)
}

/// Every world that can be reached; none may break a promise, and the rotations have to come to their end.
fn assert_safe(bounds: Bounds) -> usize {
    let checker = checker(bounds).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{} states, {} steps deep", checker.unique_state_count(), checker.max_depth());
    for promise in [SAFE, ONE_AT_A_TIME, GONE_IS_GONE] {
        let broken = checker.discovery(promise).map(|path| format!("{:?}", path.into_actions()));
        assert_eq!(broken, None, "{promise}");
    }
    assert!(checker.discovery(ENDS).is_some(), "the model never gets to the end");
    assert_eq!(checker.discovery(REFUSES).is_some(), bounds.store_goes_back, "{REFUSES}");
    checker.unique_state_count()
}

#[test]
fn model_of_three_nodes_and_two_rotations_refuses_no_live_token() {
    assert!(assert_safe(TWO_ROTATIONS) > 1_000_000);
}

#[test]
fn model_of_clocks_that_differ_refuses_no_live_token() {
    assert_safe(Bounds { nodes: 2, skew: 1, crashes: 1, most_keys: 3, ..TWO_ROTATIONS });
}

#[test]
fn model_of_nodes_that_wait_for_a_restart_refuses_no_live_token() {
    assert_safe(Bounds { nodes: 2, crashes: 0, most_keys: 3, waits_for_restarts: true, ..TWO_ROTATIONS });
}

#[test]
fn model_of_a_store_that_goes_back_in_time_refuses_no_live_token() {
    for (is_ours, most_keys) in [(false, 2), (true, 3)] {
        assert_safe(Bounds { nodes: 2, crashes: 0, store_goes_back: true, is_ours, most_keys, ..TWO_ROTATIONS });
    }
}

#[test]
fn model_of_a_revocation_refuses_no_token_of_another_key() {
    assert_safe(Bounds { nodes: 2, crashes: 0, most_keys: 3, revocations: 1, ..TWO_ROTATIONS });
}

#[test]
fn model_notices_each_shortcut() {
    let few = Bounds { nodes: 2, crashes: 1, most_keys: 3, ..TWO_ROTATIONS };
    let with = |fault| (Bounds { fault, ..few }, SAFE);
    for (bounds, promise) in [
        with(Fault::AddsAndSignsInOneRoll),
        with(Fault::SignsAsOursBeforeAllAccept),
        with(Fault::NoPublishLead),
        with(Fault::PromotesUnpublished),
        with(Fault::RetiresWithoutEvidence),
        with(Fault::BelievesTheFiles),
        with(Fault::ForgetsWhoIsDown),
        with(Fault::NoTokenLifetime),
        (Bounds { fault: Fault::OverlapsRotations, most_keys: 4, ..few }, SAFE),
        (Bounds { fault: Fault::HalfAClockMargin, skew: 1, ..few }, SAFE),
        (Bounds { fault: Fault::PublishesUnconditionally, crashes: 0, ..few }, SAFE),
        (Bounds { fault: Fault::CommitsUnconditionally, crashes: 0, ..few }, SAFE),
        (Bounds { fault: Fault::FollowsAnOlderKeyring, store_goes_back: true, is_ours: true, crashes: 0, ..few }, SAFE),
        (Bounds { fault: Fault::TakesRolloutOver, ..few }, ONE_AT_A_TIME),
    ] {
        let finish = HasDiscoveries::AllOf([promise].into());
        let checker = checker(bounds).finish_when(finish).spawn_dfs().join();
        println!("{:?}: {} states", bounds.fault, checker.unique_state_count());
        let path = checker.discovery(promise).map(|path| path.into_actions().len());
        assert!(path.is_some(), "{:?} is not noticed: {promise}", bounds.fault);
        println!("{:?}: noticed after {path:?} steps", bounds.fault);
    }
}
