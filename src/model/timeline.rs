//! The life of the cluster's keys as a picture: what was, by the keyring's own record, and what the clocks will allow.
//!
//! It must not know how it is drawn; `text` and `svg` do. Times are UTC.

mod svg;
mod text;

use jiff::{SignedDuration, Timestamp};

use super::{
    keyring::{KeyState, Keyring, KeyringKey, Origin},
    memory::PublishedKey,
    outlook::{Step, later, next_step, promotion, short},
    rotation::{Policy, Stage as TeardownStage},
};

/// What was before is not shown: a picture of years shows nothing of a rotation.
const LONGEST_PAST: SignedDuration = SignedDuration::from_hours(200 * 24);
/// What comes after is not shown.
const LONGEST_FUTURE: SignedDuration = SignedDuration::from_hours(400 * 24);
/// Steps of one key that are looked ahead: to the end of its life.
const STEPS_AHEAD: usize = 4;

/// Keys over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Name of the cluster.
    pub cluster: String,
    /// Generation of the keyring that it shows.
    pub generation: u64,
    /// What separates the past from the expected.
    pub now: Timestamp,
    /// Left edge.
    pub from: Timestamp,
    /// Right edge.
    pub until: Timestamp,
    /// A row a key, in order of age.
    pub keys: Vec<KeyRow>,
    /// What happened and what is expected, between the edges and in order of time.
    pub events: Vec<Event>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Key id.
    pub kid: String,
    /// State, since when, and what comes next: one line.
    pub summary: String,
    /// In order of lane, then of time.
    pub spans: Vec<Span>,
}

/// How long a key is in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which.
    pub lane: Lane,
    /// Its begin.
    pub from: Timestamp,
    /// Its end; `None` where no clock says when.
    pub until: Option<Timestamp>,
    /// Whether it lies in the future. Nothing of it is promised: evidence may be missing when its time comes.
    pub is_expected: bool,
}

/// What a key is used for. A key is in several lanes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// An outsider finds it in the public JWKS.
    Published,
    /// New tokens are signed with it.
    Signing,
    /// Signs no longer and is still published, for the tokens that live.
    Draining,
    /// API servers are to accept it.
    Accepted,
}

/// One moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What happens then, for a person.
    pub what: String,
    /// Whether it lies in the future.
    pub is_expected: bool,
}

/// One state of a key's life.
struct Stage {
    state: KeyState,
    from: Timestamp,
    until: Option<Timestamp>,
    is_expected: bool,
}

impl Lane {
    /// All, in the order in which they are drawn.
    pub const ALL: [Self; 4] = [Self::Published, Self::Signing, Self::Draining, Self::Accepted];

    /// As a legend names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Draining => "draining",
            Self::Accepted => "accepted",
        }
    }

    fn has(self, state: KeyState) -> bool {
        match self {
            Self::Published => state.is_published(),
            Self::Signing => state == KeyState::Signing,
            Self::Draining => state == KeyState::Draining,
            Self::Accepted => state.is_accepted(),
        }
    }
}

impl Timeline {
    /// The keys of `keyring` as they are known `now`, and as `policy` will have them.
    pub fn new(keyring: &Keyring, policy: &Policy, now: Timestamp) -> Self {
        let (from, until) = edges(keyring, policy, now);
        let row = |key: &KeyringKey| row(keyring, key, policy, now);
        let mut events = happened(keyring);
        events.extend(keyring.keys.iter().flat_map(|key| expected(keyring, key, policy, now)));
        events.extend(end_of_waiting(keyring, policy, now));
        events.retain(|event| (from..=until).contains(&event.at));
        events.sort_by_key(|event| event.at);
        Self {
            cluster: keyring.cluster.clone(),
            generation: keyring.generation,
            now,
            from,
            until,
            keys: keyring
                .leaving
                .iter()
                .map(|key| leaving(key, policy, now))
                .chain(keyring.keys.iter().map(row))
                .collect(),
            events,
        }
    }

    /// For a terminal of `width` columns; fewer than 80 are taken as 80.
    pub fn text(&self, width: usize) -> String {
        text::draw(self, width)
    }

    /// A drawing that needs nothing beside itself (SVG 1.1), for a report.
    pub fn svg(&self) -> String {
        svg::draw(self)
    }

    /// Where `moment` lies between the edges: 0 left, 1 right, clipped to them.
    fn place(&self, moment: Timestamp) -> f64 {
        let whole = self.until.duration_since(self.from).as_secs_f64();
        (moment.duration_since(self.from).as_secs_f64() / whole).clamp(0.0, 1.0)
    }

    /// Moments for the axis, whole days where they fit: at most `most` of them, equally far apart.
    fn ticks(&self, most: usize) -> Vec<Timestamp> {
        const HOURS: [i64; 13] = [1, 3, 6, 12, 24, 48, 168, 336, 720, 1440, 2160, 4320, 8760];
        let whole = self.until.duration_since(self.from).as_secs();
        let fits = |step: &i64| whole / (step * 3600) < most as i64;
        let step = HOURS.into_iter().find(fits).unwrap_or(8760) * 3600;
        let aligned = step.min(24 * 3600);
        let first = (self.from.as_second() + aligned - 1).div_euclid(aligned) * aligned;
        let seconds = (0..).map(|number| first + number * step).take_while(|second| *second <= self.until.as_second());
        seconds.filter_map(|second| Timestamp::from_second(second).ok()).collect()
    }

    /// The date of a tick, with the time of day where days are short.
    fn label(&self, tick: Timestamp) -> String {
        let is_long = self.until.duration_since(self.from) > SignedDuration::from_hours(6 * 24);
        tick.strftime(if is_long { "%Y-%m-%d" } else { "%m-%d %H:%M" }).to_string()
    }
}

/// To the minute, as reports of incidents give times.
fn minute(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M").to_string()
}

/// From the first key (but not years ago) to the end of the rotation that comes next.
fn edges(keyring: &Keyring, policy: &Policy, now: Timestamp) -> (Timestamp, Timestamp) {
    let begins = keyring.keys.iter().map(began);
    let from = begins.min().unwrap_or(now).clamp(now.checked_sub(LONGEST_PAST).unwrap_or(Timestamp::MIN), now);
    let drained = |at| later(at, policy.token_lifetime + policy.clock_margin);
    let rotation = promotion(keyring, policy, now).map(|at| drained(at.max(now)));
    let draining = keyring.keys.iter().filter(|key| key.state == KeyState::Draining);
    let ends = draining.filter_map(|key| key.unused_since).map(drained).chain(rotation);
    let past = now.duration_since(from);
    let least = later(now, (past / 4).max(policy.token_lifetime + policy.publish_lead));
    let until = ends.max().unwrap_or(least).max(least).min(later(now, LONGEST_FUTURE));
    let margin = until.duration_since(from) / 25;
    (from.checked_sub(margin).unwrap_or(from), later(until, margin))
}

fn began(key: &KeyringKey) -> Timestamp {
    key.history.first().map_or(key.since, |phase| phase.since)
}

fn row(keyring: &Keyring, key: &KeyringKey, policy: &Policy, now: Timestamp) -> KeyRow {
    let stages = stages(keyring, key, policy, now);
    let spans = Lane::ALL.into_iter().flat_map(|lane| spans(lane, key, &stages, now)).collect();
    KeyRow { kid: key.kid.clone(), summary: summary(keyring, key, policy, now), spans }
}

/// A key that nobody here uses and that was published before irsad.
fn leaving(key: &PublishedKey, policy: &Policy, now: Timestamp) -> KeyRow {
    let end = key.gone_since.map(|since| later(since, policy.token_lifetime + policy.clock_margin).max(now));
    let span = |from, until, is_expected| Span { lane: Lane::Published, from, until, is_expected };
    let was = key.seen_since.filter(|seen| *seen < now).map(|seen| span(seen, Some(now), false));
    let until = end.map_or(String::new(), |end| format!(", until {}", minute(end)));
    KeyRow {
        kid: key.jwk.kid().unwrap_or_default().to_owned(),
        summary: format!("published by somebody else before; stays for the tokens that may live{until}"),
        spans: was.into_iter().chain([span(now, end, true)]).collect(),
    }
}

fn summary(keyring: &Keyring, key: &KeyringKey, policy: &Policy, now: Timestamp) -> String {
    let origin = match key.origin {
        Origin::Made => "",
        Origin::Adopted => ", adopted",
    };
    let next = match next_step(keyring, key, policy, now) {
        Some(Step { what, at: Some(at), .. }) if at > now => format!("next: {what}, from {} on", minute(at)),
        Some(Step { what, .. }) => format!("next: {what}"),
        None => "next: what a person asks for".to_owned(),
    };
    format!("{} since {}{origin}; {next}", key.state, minute(key.since))
}

/// The states of a key, one after the other: recorded until now, then as the clocks will allow.
fn stages(keyring: &Keyring, key: &KeyringKey, policy: &Policy, now: Timestamp) -> Vec<Stage> {
    let begins = key.history.iter().map(|phase| (phase.state, phase.since)).chain([(key.state, key.since)]);
    let begins: Vec<(KeyState, Timestamp)> = begins.collect();
    let ends = begins.iter().skip(1).map(|(_, since)| *since).chain([now]);
    let past = begins.iter().zip(ends);
    let mut stages: Vec<Stage> = past
        .map(|((state, from), until)| Stage { state: *state, from: *from, until: Some(until), is_expected: false })
        .collect();
    let mut from = now;
    let mut state = key.state;
    for step in steps(keyring, key, policy, now) {
        stages.push(Stage { state, from, until: step.at, is_expected: true });
        match (step.state, step.at) {
            (Some(next), Some(at)) => (state, from) = (next, at),
            (None, _) | (_, None) => return stages,
        }
    }
    stages.push(Stage { state, from, until: None, is_expected: true });
    stages
}

/// The steps that are ahead of a key, until one has no date.
fn steps(keyring: &Keyring, key: &KeyringKey, policy: &Policy, now: Timestamp) -> Vec<Step> {
    let mut keyring = keyring.clone();
    let mut steps = Vec::new();
    let mut moment = now;
    while steps.len() < STEPS_AHEAD {
        let Some(then) = keyring.key(&key.kid) else { break };
        let Some(mut step) = next_step(&keyring, then, policy, moment) else { break };
        // What is due happens soon.
        step.at = step.at.map(|at| at.max(moment));
        let next = step.state.zip(step.at);
        steps.push(step);
        let Some((state, at)) = next else { break };
        enter(&mut keyring, &key.kid, state, at);
        moment = at;
    }
    steps
}

/// The keyring after one key has entered a state, as far as the steps after it need it.
fn enter(keyring: &mut Keyring, kid: &str, state: KeyState, at: Timestamp) {
    for key in &mut keyring.keys {
        if key.kid == kid {
            key.enter(state, at);
            key.unused_since = key.unused_since.or((state == KeyState::Draining).then_some(at));
        } else if state == KeyState::Signing && key.state == KeyState::Signing {
            key.enter(KeyState::Draining, at);
        }
    }
    keyring.rotate_since = None;
}

/// A lane of one key, without breaks where one state follows the other in it.
fn spans(lane: Lane, key: &KeyringKey, stages: &[Stage], now: Timestamp) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for stage in stages.iter().filter(|stage| lane.has(stage.state)) {
        let from = match (lane, key.published_at) {
            (Lane::Published, Some(seen)) => stage.from.max(seen),
            (Lane::Published, None) => stage.from.max(now),
            (Lane::Signing | Lane::Draining | Lane::Accepted, _) => stage.from,
        };
        if stage.until.is_some_and(|until| until <= from) {
            continue;
        }
        match spans.last_mut() {
            Some(last) if last.until == Some(from) && last.is_expected == stage.is_expected => last.until = stage.until,
            Some(_) | None => {
                spans.push(Span { lane, from, until: stage.until, is_expected: stage.is_expected });
            }
        }
    }
    spans
}

/// What the keyring has on record.
fn happened(keyring: &Keyring) -> Vec<Event> {
    let mut events = Vec::new();
    let mut add = |at: Timestamp, what: String| events.push(Event { at, what, is_expected: false });
    for key in &keyring.keys {
        let kid = short(&key.kid);
        let phases = key.history.iter().map(|phase| (phase.state, phase.since)).chain([(key.state, key.since)]);
        for (number, (state, since)) in phases.enumerate() {
            let origin = match (number, key.origin) {
                (0, Origin::Made) => "made, ",
                (0, Origin::Adopted) => "found on the nodes, ",
                _ => "",
            };
            add(since, format!("{kid} {origin}{}", phase(state)));
        }
        if let Some(at) = key.published_at {
            add(at, format!("{kid} seen at the issuer URL by an outsider"));
        }
        if let Some(at) = key.unused_since {
            add(at, format!("{kid} proven to be out of use on every node"));
        }
    }
    if let Some(at) = keyring.rotate_since {
        add(at, "another signing key wanted".to_owned());
    }
    if let Some(teardown) = &keyring.teardown {
        add(teardown.since, format!("asked to go back to issuer {}", teardown.issuer));
        if let Some(at) = teardown.signed_since {
            add(at, format!("every kube-apiserver proven to sign as {}", teardown.issuer));
        }
        if let Some(ended) = &teardown.ended {
            add(ended.at, "torn down: nothing of irsad's left to remove".to_owned());
        }
    }
    if let Some(rollout) = &keyring.rollout {
        add(rollout.since, format!("kube-apiserver of {} began to be changed, not done yet", rollout.holder));
    }
    events
}

fn expected(keyring: &Keyring, key: &KeyringKey, policy: &Policy, now: Timestamp) -> Vec<Event> {
    let event = |step: Step| {
        Some(Event { at: step.at?, what: format!("{} {}", short(&key.kid), step.what), is_expected: true })
    };
    steps(keyring, key, policy, now).into_iter().filter_map(event).collect()
}

/// When provider and documents go.
fn end_of_waiting(keyring: &Keyring, policy: &Policy, now: Timestamp) -> Option<Event> {
    match keyring.teardown.as_ref()?.stage(policy, now) {
        TeardownStage::Waiting(at) => {
            Some(Event { at, what: "provider and documents go".to_owned(), is_expected: true })
        }
        TeardownStage::Rolling | TeardownStage::Removing | TeardownStage::Ended => None,
    }
}

/// What entering a state means.
fn phase(state: KeyState) -> &'static str {
    match state {
        KeyState::Standby => "stands by",
        KeyState::Signing => "begins to sign",
        KeyState::Draining => "signs no longer, stays published (draining)",
        KeyState::VerifyOnly => "leaves the published keys, stays accepted",
        KeyState::Retired => "no longer needed (retired)",
        KeyState::Revoked => "to be refused by every API server (revoked)",
    }
}

#[cfg(test)]
mod tests;
