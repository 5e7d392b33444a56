//! The world around the rules, small enough that millions of it fit into memory, and its translation into what the rules read.

use jiff::Timestamp;

use crate::model::{
    keyring::{HighWater, KeyState, Keyring, KeyringKey, Member, Origin, Phase, Revoke, Rollout},
    memory::Version1,
    rotation::{Ack, AckKey, ControlPlane, ControlPlaneNode, Policy},
};

pub const OURS: &str = "https://ours.example";
pub const OLD: &str = "https://old.example";
/// Most keys of a run, and most nodes.
pub const KEYS: usize = 5;
pub const NODES: usize = 3;

/// A set of keys, or of nodes: one bit for each.
pub type Set = u8;
/// Ticks since something happened, on the slowest clock; `None`: it has not happened.
pub type Age = Option<i8>;

/// What an API server reads when it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Files {
    pub verify: Set,
    pub signing: u8,
    pub issuers: Issuers,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Issuers {
    #[default]
    Old,
    OldThenOurs,
    OursThenOld,
}

impl Issuers {
    pub fn names(self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Old => &[OLD],
            Self::OldThenOurs => &[OLD, OURS],
            Self::OursThenOld => &[OURS, OLD],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn of(names: &[String]) -> Self {
        match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [OLD] => Self::Old,
            [OLD, OURS] => Self::OldThenOurs,
            [OURS, OLD] => Self::OursThenOld,
            _ => unreachable!("no rule gives {names:?}"),
        }
    }

    /// Whether new tokens carry our issuer.
    pub fn signs_as_ours(self) -> bool {
        self == Self::OursThenOld
    }

    pub fn accepts(self, is_ours: bool) -> bool {
        !is_ours || self != Self::Old
    }
}

/// What a running API server and the files under it show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Evidence {
    pub process: Files,
    pub disk: Files,
}

/// A change that a node is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    pub target: Files,
    /// What is put back where the API server does not come up.
    pub before: Files,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    pub disk: Files,
    /// What the running process read; `None` while it is down.
    pub process: Option<Files>,
    pub change: Option<Change>,
    /// What it has told the others.
    pub ack: Option<Evidence>,
    /// Newest generation that it took part in, and whether that was after the store went back.
    pub mark: (u8, bool),
}

impl Node {
    pub fn evidence(&self) -> Option<Evidence> {
        self.process.map(|process| Evidence { process, disk: self.disk })
    }
}

/// One key of the keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub state: State,
    pub is_made: bool,
    pub published: Age,
    pub unused: Age,
    pub revoke: u8,
}

/// [`KeyState`], with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Standby,
    Signing,
    Draining,
    VerifyOnly,
    Retired,
    Revoked,
}

const STATES: [(State, KeyState); 6] = [
    (State::Standby, KeyState::Standby),
    (State::Signing, KeyState::Signing),
    (State::Draining, KeyState::Draining),
    (State::VerifyOnly, KeyState::VerifyOnly),
    (State::Retired, KeyState::Retired),
    (State::Revoked, KeyState::Revoked),
];
const REVOKES: [Option<Revoke>; 3] = [None, Some(Revoke::Drain), Some(Revoke::Now)];

impl Key {
    pub fn state(&self) -> KeyState {
        STATES.iter().find(|(own, _)| *own == self.state).map_or(KeyState::Revoked, |(_, state)| *state)
    }
}

/// The keyring. Moments that decide nothing in this model (since when a key is in its state, when a member was seen) are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ring {
    pub keys: [Option<Key>; KEYS],
    pub issuers: Issuers,
    pub wants_rotation: bool,
    pub rollout: Option<u8>,
    pub members: Set,
    /// Counted only where the store goes back in time.
    pub generation: u8,
    /// Last generation of the history before the store went back.
    pub fork: Option<u8>,
}

pub fn has(set: Set, number: usize) -> bool {
    set & (1 << number) != 0
}

pub fn set(numbers: impl Iterator<Item = usize>) -> Set {
    numbers.fold(0, |set, number| set | 1 << number)
}

fn numbers(set: Set) -> impl Iterator<Item = usize> {
    (0..8).filter(move |number| has(set, *number))
}

pub fn kid(number: usize) -> String {
    format!("k{number}")
}

pub fn kids(set: Set) -> Vec<String> {
    numbers(set).map(kid).collect()
}

pub fn node(number: usize) -> String {
    format!("n{number}")
}

pub fn nodes(set: Set) -> Vec<String> {
    numbers(set).map(node).collect()
}

fn number(name: &str) -> usize {
    name[1..].parse().expect("a number")
}

/// The moment so many ticks ago.
pub fn ago(ticks: i8) -> Timestamp {
    Timestamp::from_second(-60 * i64::from(ticks)).expect("a time")
}

fn age(since: Timestamp) -> i8 {
    i8::try_from(-since.as_second() / 60).expect("a tick")
}

impl Ring {
    pub fn in_state(&self, fits: impl Fn(KeyState) -> bool) -> Set {
        set((0..KEYS).filter(|number| self.keys[*number].is_some_and(|key| fits(key.state()))))
    }

    pub fn published(&self) -> Set {
        self.in_state(KeyState::is_published)
    }

    /// What a node writes to follow it.
    pub fn wanted(&self) -> Files {
        let signing = self.in_state(|state| state == KeyState::Signing).trailing_zeros();
        let signing = u8::try_from(signing).expect("one key signs");
        Files { verify: self.in_state(KeyState::is_accepted), signing, issuers: self.issuers }
    }

    pub fn keyring(&self) -> Keyring {
        let key = |number: usize| self.keys[number].map(|key| key.keyring_key(number));
        Keyring {
            version: Version1,
            cluster: "c".to_owned(),
            generation: u64::from(self.generation),
            previous_hash: String::new(),
            ancestors: Vec::new(),
            issuers: self.issuers.names(),
            keys: (0..KEYS).filter_map(key).collect(),
            leaving: Vec::new(),
            members: nodes(self.members).into_iter().map(|node| Member { node, since: ago(0) }).collect(),
            rotate_since: self.wants_rotation.then(|| ago(0)),
            rollout: self.rollout.map(|number| Rollout { holder: node(usize::from(number)), since: ago(0) }),
            teardown: None,
        }
    }

    /// `keyring` as the content that follows this one.
    pub fn followed_by(&self, keyring: &Keyring) -> Self {
        let mut keys = [None; KEYS];
        for key in &keyring.keys {
            keys[number(&key.kid)] = Some(Key::of(key));
        }
        let holder = |rollout: &Rollout| u8::try_from(number(&rollout.holder)).expect("a node");
        Self {
            keys,
            issuers: Issuers::of(&keyring.issuers),
            wants_rotation: keyring.rotate_since.is_some(),
            rollout: keyring.rollout.as_ref().map(holder),
            members: set(keyring.members.iter().map(|member| number(&member.node))),
            ..*self
        }
    }

    /// Whether what is at `generation` of this history is later than the fork.
    pub fn is_after_fork(&self, generation: u8) -> bool {
        self.fork.is_some_and(|fork| generation > fork)
    }

    /// Whether a node with this mark goes on from here, by the shipped rule.
    pub fn continues(&self, mark: (u8, bool)) -> bool {
        let hash = |(generation, is_after): (u8, bool)| format!("{generation:03}{}", u8::from(is_after));
        let own = |generation: u8| hash((generation, self.is_after_fork(generation)));
        let before = (1..self.generation).rev().map(own).collect::<Vec<_>>();
        let keyring = Keyring {
            previous_hash: before.first().cloned().unwrap_or_default(),
            ancestors: before.into_iter().skip(1).collect(),
            ..self.keyring()
        };
        let mark = HighWater { generation: u64::from(mark.0), hash: hash(mark) };
        keyring.continues(&own(self.generation), &mark).is_ok()
    }

    pub fn grow_older(&mut self, oldest: i8) {
        let older = |age: &mut Age| *age = age.map(|age| (age + 1).min(oldest));
        for key in self.keys.iter_mut().flatten() {
            older(&mut key.published);
            older(&mut key.unused);
        }
    }
}

impl Key {
    fn keyring_key(&self, number: usize) -> KeyringKey {
        KeyringKey {
            origin: if self.is_made { Origin::Made } else { Origin::Adopted },
            published_at: self.published.map(ago),
            unused_since: self.unused.map(ago),
            revoke: REVOKES[usize::from(self.revoke)],
            history: Vec::<Phase>::new(),
            ..KeyringKey::adopted(&kid(number), "", self.state(), ago(0))
        }
    }

    fn of(key: &KeyringKey) -> Self {
        let state = STATES.iter().find(|(_, state)| *state == key.state).map(|(own, _)| *own);
        let revoke = REVOKES.iter().position(|revoke| *revoke == key.revoke).expect("one of them");
        Self {
            state: state.expect("one of them"),
            is_made: key.origin == Origin::Made,
            published: key.published_at.map(age),
            unused: key.unused_since.map(age),
            revoke: u8::try_from(revoke).expect("three"),
        }
    }
}

impl Evidence {
    pub fn ack(&self, number: usize) -> Ack {
        let public = |kid: String| AckKey { kid, public_key: String::new() };
        Ack {
            version: Version1,
            node: node(number),
            machine: String::new(),
            address: node(number),
            at: ago(0),
            generation: 0,
            served: kids(self.process.verify),
            signing_kid: kid(usize::from(self.process.signing)),
            issuers: self.process.issuers.names(),
            key_on_disk: kid(usize::from(self.disk.signing)),
            key_on_disk_since: ago(0),
            keys: kids(self.disk.verify).into_iter().map(public).collect(),
            process_started_at: ago(0),
            boot_id: String::new(),
            failure: None,
            webhook: None,
        }
    }
}

/// The control plane as it is listed: these nodes.
pub fn control_plane(listed: Set) -> ControlPlane {
    let node = |name: String| ControlPlaneNode { name, addresses: Vec::new() };
    ControlPlane { nodes: nodes(listed).into_iter().map(node).collect(), ..ControlPlane::default() }
}

/// `policy` with everything in ticks.
pub fn ticks(count: i8) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(60 * i64::from(count))
}

/// A moment is a whole number of ticks from now; longer ago than anything asks for is all the same.
pub fn oldest(policy: &Policy) -> i8 {
    let longest = policy.publish_lead.max(policy.token_lifetime).max(policy.verify_retention) + policy.clock_margin;
    i8::try_from(longest.as_secs() / 60).expect("a few ticks")
}
