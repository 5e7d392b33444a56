use super::*;
use crate::model::{
    keyring::{Ended, Member, Revoke, Rollout, Teardown},
    memory::Version1,
    rotation::{
        self,
        fixtures::{OURS, policy},
    },
};

const OLD: &str = "TZ7IOHO2PrFbIveAPHJT9zOaTS7KYj2WIgj2ojBimLQ";
const FIRST: &str = "VsHC94W1exar4osqSKoNFGcbBdWP9dP-Cq5GanSemOk";
const SECOND: &str = "q0Hn3TZ1y3nP7m0Xv6Jw2RrYk5Dd8sLb4uEo9cAiGfU";
const THIRD: &str = "nW1xT4bVd0kq8sYz2LrUe6GhJc5Mf3aPi7oBvRtEwQo";
const DAY: i64 = 86_400;

/// `day` days after 1 September 2026, 06:00 UTC.
fn at(day: f64) -> Timestamp {
    let begin: Timestamp = "2026-09-01T06:00:00Z".parse().expect("a time");
    later(begin, SignedDuration::from_secs((day * DAY as f64) as i64))
}

fn key(kid: &str, state: KeyState, origin: Origin, since: f64) -> KeyringKey {
    KeyringKey { origin, published_at: Some(at(since)), ..KeyringKey::adopted(kid, "", state, at(since)) }
}

fn keyring(keys: Vec<KeyringKey>) -> Keyring {
    Keyring {
        version: Version1,
        cluster: "prod-1".to_owned(),
        generation: 7,
        previous_hash: String::new(),
        ancestors: Vec::new(),
        issuers: vec![OURS.to_owned()],
        keys,
        leaving: Vec::new(),
        members: vec![Member { node: "n1".to_owned(), since: at(0.0) }],
        rotate_since: None,
        rollout: None,
        teardown: None,
    }
}

/// An hour after the adoption.
fn fresh() -> (Keyring, Timestamp) {
    let standby = KeyringKey { published_at: Some(at(0.01)), ..key(FIRST, KeyState::Standby, Origin::Made, 0.0) };
    (keyring(vec![key(OLD, KeyState::Signing, Origin::Adopted, 0.0), standby]), at(0.04))
}

/// The first rotation: one node has yet to follow.
fn middle() -> (Keyring, Timestamp) {
    let (before, _) = fresh();
    let next = KeyringKey { published_at: None, ..key(SECOND, KeyState::Standby, Origin::Made, 90.0) };
    let promoted = rotation::promote(&before, next, at(90.0));
    (Keyring { rollout: Some(Rollout { holder: "n2".to_owned(), since: at(90.02) }), ..promoted }, at(90.05))
}

/// After it: the adopted key has left the published ones and stays accepted for ever, one of ours drains.
fn draining() -> (Keyring, Timestamp) {
    let (mut keyring, _) = middle();
    keyring.rollout = None;
    keyring.keys[0].unused_since = Some(at(90.1));
    keyring.keys[0].enter(KeyState::VerifyOnly, at(91.11));
    keyring.keys[2].published_at = Some(at(90.01));
    let third = KeyringKey { published_at: Some(at(180.01)), ..key(THIRD, KeyState::Standby, Origin::Made, 180.0) };
    let mut keyring = rotation::promote(&keyring, third, at(180.0));
    keyring.keys[1].unused_since = Some(at(180.1));
    (keyring, at(180.5))
}

/// The signing key has leaked: it is replaced, then refused.
fn revoked() -> (Keyring, Timestamp) {
    let (before, _) = fresh();
    (rotation::revoke(&before, OLD, Revoke::Now, at(20.0)).expect("a key to revoke"), at(20.01))
}

/// Without a period, a key that a person keeps goes on signing.
fn for_ever() -> (Keyring, Timestamp) {
    (fresh().0, at(400.0))
}

/// Text and picture of that name below `tests/fixtures/timeline`.
macro_rules! golden {
    ($name:literal) => {
        (
            include_str!(concat!("../../../tests/fixtures/timeline/", $name, ".txt")),
            include_str!(concat!("../../../tests/fixtures/timeline/", $name, ".svg")),
        )
    };
}

#[test]
fn timelines_are_drawn_as_they_were_looked_at() {
    let never = Policy { period: None, ..policy() };
    for ((text, svg), (keyring, now), policy) in [
        (golden!("fresh"), fresh(), &policy()),
        (golden!("middle"), middle(), &policy()),
        (golden!("draining"), draining(), &policy()),
        (golden!("revoked"), revoked(), &policy()),
        (golden!("for-ever"), for_ever(), &never),
    ] {
        let timeline = Timeline::new(&keyring, policy, now);
        // The whole drawing, to be looked at and put into the file.
        assert!(timeline.text(100) == text, "{}", timeline.text(100));
        assert!(timeline.svg() == svg, "{}", timeline.svg());
    }
}

#[test]
fn drawing_keeps_to_its_width_whatever_the_terminal() {
    let (keyring, now) = draining();
    let timeline = Timeline::new(&keyring, &policy(), now);
    for (asked, most) in [(0, 80), (80, 80), (100, 100), (211, 211)] {
        let text = timeline.text(asked);
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= most), "{widest:?} columns of {most}\n{text}");
    }
}

#[test]
fn past_ends_now_and_what_is_expected_begins_there() {
    for (keyring, now) in [fresh(), middle(), draining(), revoked(), for_ever()] {
        let timeline = Timeline::new(&keyring, &policy(), now);
        for span in timeline.keys.iter().flat_map(|key| &key.spans) {
            match span.is_expected {
                true => assert!(span.from >= now, "{span:?}"),
                false => assert!(span.until.is_some_and(|until| until <= now), "{span:?}"),
            }
        }
    }
}

#[test]
fn names_that_look_like_markup_stay_text() {
    let (keyring, now) = fresh();
    let svg = Timeline::new(&Keyring { cluster: "<a & b>".to_owned(), ..keyring }, &policy(), now).svg();
    assert!(svg.contains("keys of &lt;a &amp; b&gt;</title>"), "{svg}");
}

#[test]
fn cluster_that_goes_back_shows_when_documents_go_and_no_rotation() {
    let (before, now) = fresh();
    let asked = Teardown {
        since: at(0.01),
        issuer: "https://kubernetes.default.svc".to_owned(),
        at_once: false,
        keeps_bucket: false,
        signed_since: Some(at(0.03)),
        ended: None,
    };
    let keyring = Keyring { teardown: Some(asked.clone()), ..before };
    let events = |keyring: &Keyring, now| -> Vec<(String, bool)> {
        let known = Timeline::new(keyring, &policy(), now).events;
        known.into_iter().filter(|event| event.at > at(0.009)).map(|event| (event.what, event.is_expected)).collect()
    };
    let asked_for = ("asked to go back to issuer https://kubernetes.default.svc".to_owned(), false);
    let proven = ("every kube-apiserver proven to sign as https://kubernetes.default.svc".to_owned(), false);
    let (found, waits) = (events(&keyring, now), ("provider and documents go".to_owned(), true));
    assert!(found.contains(&asked_for) && found.contains(&proven), "{found:?}");
    assert_eq!(found.iter().filter(|(_, is_expected)| *is_expected).collect::<Vec<_>>(), [&waits]);
    let ended = Some(Ended { at: at(2.0), remains: Vec::new() });
    let found = events(&Keyring { teardown: Some(Teardown { ended, ..asked }), ..keyring }, at(3.0));
    assert!(found.contains(&("torn down: nothing of irsad's left to remove".to_owned(), false)), "{found:?}");
    assert!(found.iter().all(|(_, is_expected)| !is_expected), "{found:?}");
}
