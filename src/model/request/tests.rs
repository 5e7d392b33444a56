use super::*;
use crate::model::{
    keyring::{Member, Rollout},
    rotation::{
        fixtures::{self, OURS, at},
        found,
    },
};

const HOUR: i64 = 3600;

fn policy() -> Policy {
    Policy { period: None, ..fixtures::policy() }
}

fn key(kid: &str, state: KeyState, origin: Origin) -> KeyringKey {
    KeyringKey { origin, published_at: Some(at(0)), ..KeyringKey::adopted(kid, "", state, at(0)) }
}

/// `oldest-1` is accepted, `older-22` drains, `signer-3` signs, `standby-` stands by.
fn keyring() -> Keyring {
    let mut keyring = found("prod-1", OURS, key("signer-3", KeyState::Signing, Origin::Made));
    keyring.keys.insert(0, key("oldest-1", KeyState::VerifyOnly, Origin::Adopted));
    keyring
        .keys
        .insert(1, KeyringKey { unused_since: Some(at(0)), ..key("older-22", KeyState::Draining, Origin::Made) });
    keyring.keys.push(key("standby-", KeyState::Standby, Origin::Made));
    keyring.members = ["n1", "n2"].map(|node| Member { node: node.to_owned(), since: at(0) }).to_vec();
    keyring.generation = 5;
    keyring
}

fn ack(node: &str, served: &[&str]) -> Ack {
    Ack { generation: 5, ..fixtures::ack(node, "signer-3", served) }
}

fn acks() -> Vec<Ack> {
    vec![ack("n1", &["oldest-1", "older-22", "signer-3", "standby-"]), ack("n2", &["older-22", "signer-3"])]
}

#[test]
fn rotation_says_when_what_restarts_and_how_long_the_old_key_stays() {
    assert_eq!(
        rotate_effect(&keyring(), &acks(), &policy(), at(HOUR)),
        [
            "key standby- signs in place of signer-3 when every kube-apiserver accepts it and outsiders could fetch it for 1d: not before \
             1970-01-02 00:05 UTC",
            "kube-apiserver of n1 restarts once, one node after the other",
            "kube-apiserver of n2 restarts twice, one node after the other: first to accept that key, then to sign with it",
            "key signer-3 stays published for 1d after the last node has proven the other one, and accepted for 366d",
            "no token is refused",
        ]
    );
    let rotated = rotate(&keyring(), at(HOUR)).expect("a keyring");
    assert_eq!(rotated, Keyring { rotate_since: Some(at(HOUR)), ..keyring() });
    assert_eq!(rotate(&rotated, at(2 * HOUR)), Err(RequestError::Wanted(at(HOUR))));
}

#[test]
fn revocation_says_what_it_refuses_for_each_state_and_level() {
    let restart = "kube-apiserver of n1 restarts once, one node after the other, to refuse it";
    for (kid, how, expected) in [
        ("oldest-1", Revoke::Drain, vec![restart]),
        (
            "older-22",
            Revoke::Drain,
            vec![
                "1970-01-02 00:05 UTC: older-22 leaves the published keys, and every kube-apiserver restarts once to refuse it",
            ],
        ),
        (
            "older-22",
            Revoke::Now,
            vec![
                "older-22 leaves the published keys at once, and every kube-apiserver restarts once to refuse it: its live tokens are refused",
            ],
        ),
        (
            "standby-",
            Revoke::Now,
            vec![
                "nothing was signed with standby-: it leaves the published keys at once, kube-apiserver of n1 restarts once, one node \
                 after the other, to refuse it, and another key is made",
            ],
        ),
    ] {
        let keyring = keyring();
        let key = named(&keyring, kid).expect("a key");
        let effect = revoke_effect(&keyring, key, how, &acks(), &policy(), at(HOUR)).expect("an effect");
        assert_eq!(effect[1..effect.len() - 1], expected, "{kid} {how:?}");
    }
    let keyring = keyring();
    let signing = named(&keyring, "signer").expect("a key");
    let effect = revoke_effect(&keyring, signing, Revoke::Now, &acks(), &policy(), at(48 * HOUR)).expect("an effect");
    assert_eq!(
        effect[1],
        "key standby- signs in place of signer-3 when every kube-apiserver accepts it and outsiders could fetch it for 1d: now"
    );
    assert!(effect[4].starts_with("from that moment on outsiders refuse every token of signer-3"), "{effect:?}");
    assert_eq!(
        effect.last().map(String::as_str),
        Some(
            "tokens without an end, in Secrets, that signer-3 has signed are refused for ever: irsad verify names them"
        )
    );
}

#[test]
fn key_is_named_by_its_id_or_a_beginning_that_no_other_has() {
    let mut keyring = keyring();
    assert_eq!(named(&keyring, "signer-3").map(|key| key.kid.as_str()), Ok("signer-3"));
    assert_eq!(named(&keyring, "signer").map(|key| key.kid.as_str()), Ok("signer-3"));
    let unknown = |text: &str| RequestError::from(RevokeError::Unknown(text.to_owned()));
    assert_eq!(named(&keyring, "signe"), Err(unknown("signe")), "five characters may be a slip");
    keyring.keys.push(key("signer-4", KeyState::Retired, Origin::Made));
    assert_eq!(named(&keyring, "signer"), Err(RequestError::Ambiguous("signer".to_owned())));
}

#[test]
fn rollout_is_released_for_the_node_that_holds_it_only() {
    let held = Keyring { rollout: Some(Rollout { holder: "n2".to_owned(), since: at(0) }), ..keyring() };
    assert_eq!(release(&keyring(), "n2"), Err(RequestError::NoRollout));
    let other = RequestError::OtherHolder { holder: "n2".to_owned(), asked: "n1".to_owned() };
    assert_eq!(release(&held, "n1"), Err(other));
    assert_eq!(release(&held, "n2"), Ok(keyring()));
    let effect = release_effect(&held, "n2", &[ack("n1", &["signer-3"])]).expect("an effect");
    assert_eq!(
        effect[0],
        "n2 gives back the right to change its kube-apiserver; kube-apiserver of n1 may be changed next"
    );
}

#[test]
fn keyring_is_rebuilt_from_the_node_that_has_seen_the_newest_one() {
    let (remembered, older) = (keyring(), Keyring { generation: 3, ..keyring() });
    let bytes = remembered.render();
    let rebuild = |stored: Option<&Keyring>, acks: &[Ack], is_kept: bool| {
        super::rebuild(&remembered, &bytes, stored, acks, |_| is_kept, at(HOUR))
    };
    let rebuilt = rebuild(Some(&older), &acks(), true).expect("a keyring");
    assert_eq!((rebuilt.generation, &rebuilt.keys), (6, &remembered.keys));
    let mark = HighWater { generation: 5, hash: hash(&bytes) };
    assert!(
        rebuilt.continues(&hash(&rebuilt.render()), &mark).is_ok(),
        "every node that followed the remembered one takes it"
    );

    let newer = [ack("n1", &[]), Ack { generation: 6, ..ack("n2", &[]) }];
    let refused = RequestError::Newer { node: "n2".to_owned(), theirs: 6, ours: 5 };
    assert_eq!(rebuild(None, &newer, true), Err(refused));
    assert_eq!(rebuild(Some(&remembered), &acks(), true), Err(RequestError::NotLost(5)));

    let without = rebuild(None, &acks(), false).expect("a keyring");
    assert_eq!(without.standby(), None);
    assert_eq!(without.key("standby-").map(|key| key.state), Some(KeyState::VerifyOnly));
    let restored = [ack("n1", &[]), Ack { generation: 3, ..ack("n2", &[]) }];
    assert_eq!(
        rebuild_effect(&without, Some(&older), &restored),
        [
            "the store has generation 3 of the keyring; what this node remembers, generation 5, is written as generation 6",
            "n2 has not reported since: where it may have seen a newer generation (irsad status there), run irsad rebuild there instead",
            "the private half of the standby key is lost with the store: another key is made and stands by",
            "kube-apiserver goes on as it is; every node follows the keyring again, and no token is refused",
        ]
    );
}
