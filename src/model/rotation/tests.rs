mod adopting;
mod following;
mod leaving;
mod upgrading;

use super::{
    fixtures::{OURS, at, policy},
    *,
};
use crate::model::{keyring::Rollout, memory::Version1};

const OLD: &str = "https://kubernetes.default.svc.cluster.local";
const DAY: i64 = 86_400;

fn key(kid: &str, state: KeyState, origin: Origin) -> KeyringKey {
    KeyringKey { origin, published_at: Some(at(0)), ..KeyringKey::adopted(kid, "", state, at(0)) }
}

/// A cluster of two nodes in the middle of its life: `k1` signs, `k2` stands by.
fn keyring() -> Keyring {
    let member = |node: &str| Member { node: node.to_owned(), since: at(0) };
    Keyring {
        version: Version1,
        cluster: "prod-1".to_owned(),
        generation: 3,
        previous_hash: String::new(),
        ancestors: Vec::new(),
        issuers: vec![OURS.to_owned(), OLD.to_owned()],
        keys: vec![key("k1", KeyState::Signing, Origin::Adopted), key("k2", KeyState::Standby, Origin::Made)],
        leaving: Vec::new(),
        members: vec![member("n1"), member("n2")],
        rotate_since: None,
        rollout: None,
        teardown: None,
    }
}

fn ack(node: &str, signing: &str, served: &[&str]) -> Ack {
    Ack { issuers: vec![OURS.to_owned(), OLD.to_owned()], ..fixtures::ack(node, signing, served) }
}

/// Control-plane nodes of these names.
fn nodes(names: &[&str]) -> ControlPlane {
    let node = |name: &&str| ControlPlaneNode { name: (*name).to_owned(), addresses: Vec::new() };
    ControlPlane { nodes: names.iter().map(node).collect(), ..ControlPlane::default() }
}

fn acks() -> Vec<Ack> {
    vec![ack("n1", "k1", &["k1", "k2"]), ack("n2", "k1", &["k1", "k2"])]
}

fn decide(keyring: &Keyring, acks: &[Ack], now: i64) -> Next {
    let outside: Vec<String> = ["k1", "k2"].map(str::to_owned).to_vec();
    decide_with(
        keyring,
        Seen { acks, outside: &outside, control_plane: Some(&nodes(&["n1", "n2"])), held: Some(&[]) },
        now,
    )
}

fn decide_with(keyring: &Keyring, seen: Seen<'_>, now: i64) -> Next {
    next(keyring, seen, &policy(), at(now))
}

fn written(next: Next) -> Keyring {
    match next {
        Next::Write(keyring) => *keyring,
        other => panic!("{other:?} writes nothing"),
    }
}

#[test]
fn rotation_is_wanted_after_its_period_and_never_without_one() {
    assert_eq!(decide(&keyring(), &acks(), 90 * DAY - 1), Next::Wait(Vec::new()));
    assert_eq!(written(decide(&keyring(), &acks(), 90 * DAY)).rotate_since, Some(at(90 * DAY)));
    let never = Policy { period: None, ..policy() };
    let acks = acks();
    let seen = Seen { acks: &acks, outside: &[], control_plane: None, held: None };
    assert_eq!(next(&keyring(), seen, &never, at(1000 * DAY)), Next::Wait(Vec::new()));
}

#[test]
fn standby_signs_only_when_all_that_a_token_needs_is_proven() {
    let wanted = Keyring { rotate_since: Some(at(DAY)), ..keyring() };
    let now = 2 * DAY;
    assert_eq!(decide(&wanted, &acks(), now), Next::Promote);

    type Edit = fn(&mut Keyring, &mut Vec<Ack>);
    let cases: [(Edit, &str); 5] = [
        (|keyring, _| keyring.keys[1].published_at = Some(at(2 * DAY - 60)), "for key k2 to be public for 86400 s"),
        (|_, acks| acks[1].served = vec!["k1".to_owned()], "for kube-apiserver of n2 to accept key k2"),
        (|_, acks| drop(acks.pop()), "for kube-apiserver of n2 to accept key k2"),
        (
            |keyring, acks| {
                keyring.keys.insert(0, key("k0", KeyState::Draining, Origin::Made));
                acks[0].signing_kid = "k0".to_owned();
            },
            "for n1 to prove that it no longer signs with key k0",
        ),
        (
            |keyring, _| keyring.rollout = Some(Rollout { holder: "n2".to_owned(), since: at(0) }),
            "for kube-apiserver of n2 to be done with its change",
        ),
    ];
    for (edit, expected) in cases {
        let (mut keyring, mut acks) = (wanted.clone(), acks());
        edit(&mut keyring, &mut acks);
        let Next::Wait(reasons) = decide(&keyring, &acks, now) else { panic!("{expected}: the key is promoted") };
        assert_eq!(reasons, [expected]);
    }
}

#[test]
fn retired_key_stays_published_until_its_last_token_expired_and_accepted_for_the_retention() {
    let mut keyring = promote(&keyring(), key("k3", KeyState::Standby, Origin::Made), at(0));
    let states = |keyring: &Keyring| keyring.keys.iter().map(|key| key.state).collect::<Vec<_>>();
    assert_eq!(states(&keyring), [KeyState::Draining, KeyState::Signing, KeyState::Standby]);
    keyring.keys[0].origin = Origin::Made;

    let switched = |node: &str| ack(node, "k2", &["k1", "k2", "k3"]);
    let (behind, both) = ([switched("n1"), ack("n2", "k1", &["k1", "k2", "k3"])], [switched("n1"), switched("n2")]);
    assert_eq!(decide(&keyring, &behind, 9 * DAY), Next::Wait(Vec::new()), "n2 may still sign with k1");
    let keyring = written(decide(&keyring, &both, 9 * DAY));
    assert_eq!(keyring.keys[0].unused_since, Some(at(9 * DAY)));

    assert_eq!(decide(&keyring, &both, 10 * DAY + 299), Next::Wait(Vec::new()));
    let keyring = written(decide(&keyring, &both, 10 * DAY + 300));
    assert_eq!(states(&keyring)[0], KeyState::VerifyOnly);
    let adopted = Keyring {
        keys: keyring.keys.iter().map(|key| KeyringKey { origin: Origin::Adopted, ..key.clone() }).collect(),
        rotate_since: Some(at(0)),
        ..keyring.clone()
    };
    let keyring = Keyring { rotate_since: Some(at(0)), ..keyring };
    assert!(!matches!(decide(&keyring, &both, 375 * DAY + 299), Next::Write(_)));
    assert_eq!(states(&written(decide(&keyring, &both, 375 * DAY + 300)))[0], KeyState::Retired);
    assert!(
        !matches!(decide(&adopted, &both, 9_999 * DAY), Next::Write(_)),
        "an adopted key is a person's to take out"
    );
}

#[test]
fn issuer_is_accepted_everywhere_before_it_signs_anywhere() {
    let before = Keyring { issuers: vec![OLD.to_owned()], ..keyring() };
    let mut acks = acks();
    for ack in &mut acks {
        ack.issuers = vec![OLD.to_owned()];
    }
    let accepted = written(decide(&before, &acks, 0));
    assert_eq!(accepted.issuers, [OLD, OURS]);
    acks[0].issuers.push(OURS.to_owned());
    let waits = format!("for kube-apiserver of n2 to accept issuer {OURS}");
    assert_eq!(decide(&accepted, &acks, 0), Next::Wait(vec![waits]));
    assert_eq!(restart_reasons(&accepted, &acks[1]), [format!("have the issuers {OLD}, {OURS}")]);
    acks[1].issuers.push(OURS.to_owned());
    let signing = written(decide(&accepted, &acks, 0));
    assert_eq!(signing.issuers, [OURS, OLD]);
    assert_eq!(restart_reasons(&signing, &acks[0]).len(), 1);
}

#[test]
fn restart_is_for_what_must_be_accepted_or_signed_and_for_nothing_more() {
    let quiet = ack("n1", "k1", &["k1", "gone"]);
    assert_eq!(restart_reasons(&keyring(), &quiet), [""; 0], "a standby can wait for a restart that happens anyway");
    let wanted = Keyring { rotate_since: Some(at(0)), ..keyring() };
    assert_eq!(restart_reasons(&wanted, &quiet), ["accept key k2"]);
    let promoted = promote(&wanted, key("k3", KeyState::Standby, Origin::Made), at(0));
    assert_eq!(promoted.rotate_since, None);
    assert_eq!(restart_reasons(&promoted, &ack("n1", "k1", &["k1", "k2"])), ["sign with key k2"]);
}

#[test]
fn members_are_the_nodes_of_the_control_plane_whether_irsad_reports_from_them_or_not() {
    let members = |next: Next| written(next).members.into_iter().map(|member| member.node).collect::<Vec<_>>();
    let acks = [acks(), vec![Ack { address: "10.0.0.5".to_owned(), ..ack("n5", "k1", &["k1"]) }]].concat();
    let listed = ControlPlane {
        api_servers: ["10.0.0.4", "10.0.0.5"].map(str::to_owned).to_vec(),
        ..nodes(&["n1", "n2", "n3"])
    };
    let seen = Seen { acks: &acks, outside: &[], control_plane: Some(&listed), held: None };
    assert_eq!(members(decide_with(&keyring(), seen, 0)), ["n1", "n2", "n3", "10.0.0.4", "n5"]);

    let held = Rollout { holder: "n2".to_owned(), since: at(0) };
    let without = Seen { control_plane: Some(&nodes(&["n1"])), ..seen };
    let left = written(decide_with(&Keyring { rollout: Some(held), ..keyring() }, without, 0));
    assert_eq!((left.members.len(), left.rollout), (1, None), "a deleted node gives back what it held");
    let unasked = Seen { control_plane: None, ..seen };
    assert_eq!(decide_with(&keyring(), unasked, 0), Next::Wait(Vec::new()), "who is not listed is not gone");
}
