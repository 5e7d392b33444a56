use super::*;

fn state(keyring: &Keyring, kid: &str) -> Option<KeyState> {
    keyring.key(kid).map(|key| key.state)
}

/// One key in each state.
fn every_state() -> Keyring {
    let states = [
        ("signing", KeyState::Signing),
        ("standby", KeyState::Standby),
        ("draining", KeyState::Draining),
        ("verify-only", KeyState::VerifyOnly),
        ("retired", KeyState::Retired),
        ("revoked", KeyState::Revoked),
    ];
    Keyring { keys: states.map(|(kid, state)| key(kid, state, Origin::Made)).to_vec(), ..keyring() }
}

#[test]
fn revocation_asks_for_another_signing_key_and_ends_what_is_not_in_use_at_once() {
    for how in [Revoke::Drain, Revoke::Now] {
        let after = |kid: &str| revoke(&every_state(), kid, how, at(5)).expect("revoked");
        let signing = after("signing");
        assert_eq!((state(&signing, "signing"), signing.rotate_since), (Some(KeyState::Signing), Some(at(5))));
        assert_eq!(signing.key("signing").and_then(|key| key.revoke), Some(how));
        assert_eq!(state(&after("standby"), "standby"), Some(KeyState::Revoked));
        assert_eq!(state(&after("verify-only"), "verify-only"), Some(KeyState::Revoked));
        assert_eq!(state(&after("draining"), "draining"), Some(KeyState::Draining), "the leader ends it");
        assert_eq!(after("standby").rotate_since, None, "what signs goes on to sign");
    }
}

#[test]
fn key_that_is_gone_or_unknown_is_not_revoked() {
    let refused = |kid: &str| revoke(&every_state(), kid, Revoke::Now, at(5)).expect_err("refused").to_string();
    assert_eq!(refused("retired"), "key retired is retired already (nothing changed)");
    assert_eq!(refused("revoked"), "key revoked is revoked already (nothing changed)");
    assert_eq!(refused("k9"), "the keyring has no key k9 (nothing changed); irsad status lists its keys");
}

#[test]
fn revoked_signing_key_drains_or_dies_when_the_next_one_signs() {
    for (how, first, last) in
        [(Revoke::Drain, KeyState::Draining, KeyState::Revoked), (Revoke::Now, KeyState::Revoked, KeyState::Revoked)]
    {
        let revoked = revoke(&keyring(), "k1", how, at(0)).expect("revoked");
        let promoted = promote(&revoked, key("k3", KeyState::Standby, Origin::Made), at(0));
        assert_eq!(state(&promoted, "k1"), Some(first));
        let acks = ["n1", "n2"].map(|node| ack(node, "k2", &["k1", "k2", "k3"]));
        let unused = match decide(&promoted, &acks, 0) {
            Next::Write(changed) => *changed,
            _ => promoted,
        };
        let over = match decide(&unused, &acks, DAY + 300) {
            Next::Write(changed) => *changed,
            _ => unused,
        };
        assert_eq!(state(&over, "k1"), Some(last));
        assert_eq!(restart_reasons(&over, &acks[0]), ["refuse key k1"]);
    }
}

#[test]
fn draining_key_that_is_revoked_now_does_not_wait_for_its_tokens() {
    let keyring =
        Keyring { keys: [keyring().keys, vec![key("k0", KeyState::Draining, Origin::Made)]].concat(), ..keyring() };
    let now = revoke(&keyring, "k0", Revoke::Now, at(0)).expect("revoked");
    let behind = [ack("n1", "k0", &["k0", "k1", "k2"]), ack("n2", "k1", &["k0", "k1", "k2"])];
    assert_eq!(state(&written(decide(&now, &behind, 0)), "k0"), Some(KeyState::Revoked));
    let drain = revoke(&keyring, "k0", Revoke::Drain, at(0)).expect("revoked");
    assert_eq!(decide(&drain, &behind, 9 * DAY), Next::Wait(Vec::new()), "n1 signs with it");
}

#[test]
fn key_that_a_person_put_into_a_node_stands_by_and_the_standby_before_it_stays_accepted() {
    let taken = take_over(&keyring(), "k9", "k9 in PEM", at(5));
    assert_eq!(state(&taken, "k1"), Some(KeyState::Signing));
    assert_eq!(state(&taken, "k2"), Some(KeyState::VerifyOnly));
    assert_eq!(state(&taken, "k9"), Some(KeyState::Standby));
    assert_eq!((taken.rotate_since, taken.key("k2").and_then(|key| key.unused_since)), (Some(at(5)), Some(at(5))));
    assert_eq!(taken.key("k9").map(|key| (key.origin, key.public_key.as_str())), Some((Origin::Adopted, "k9 in PEM")));
    let again = take_over(&taken, "k2", "k2 in PEM", at(6));
    assert_eq!(state(&again, "k2"), Some(KeyState::Standby), "a key that was there before may come again");
    assert!(taken.check().is_ok() && again.check().is_ok());
}

#[test]
fn key_that_a_member_accepts_is_taken_in_and_one_of_a_node_that_left_is_not() {
    let with = |node: &str, kid: &str| Ack {
        keys: vec![AckKey { kid: kid.to_owned(), public_key: format!("{kid} in PEM") }],
        ..ack(node, "k1", &["k1", "k2"])
    };
    let taken = written(decide(&keyring(), &[with("n1", "k1"), with("n2", "k8")], 3));
    let expected = KeyringKey::adopted("k8", "k8 in PEM", KeyState::Draining, at(3));
    assert_eq!(taken.keys.last(), Some(&expected));
    let gone = [acks(), vec![with("n0", "k8")]].concat();
    assert_eq!(decide(&keyring(), &gone, 3), Next::Wait(Vec::new()));
    let alone = [with("n1", "k1"), Ack { key_on_disk: "k8".to_owned(), ..with("n2", "k8") }];
    assert_eq!(decide(&keyring(), &alone, 3), Next::Wait(Vec::new()), "its node brings it in, to sign");
}

#[test]
fn key_is_forgotten_when_no_member_has_it_and_no_node_is_in_the_middle_of_a_change() {
    // A revoked one might come back with a machine that was off: it is remembered for the retention.
    for (gone, after) in [(KeyState::Retired, DAY), (KeyState::Revoked, 367 * DAY)] {
        let decide = |keyring: &Keyring, acks: &[Ack], now: i64| match decide(keyring, acks, now) {
            Next::Write(written) if written.rotate_since.is_some() => Next::Wait(Vec::new()),
            other => other,
        };
        let with = Keyring { keys: [keyring().keys, vec![key("k0", gone, Origin::Made)]].concat(), ..keyring() };
        let forgotten = written(decide(&with, &acks(), after));
        assert_eq!(forgotten, keyring());
        let busy = Keyring { rollout: Some(Rollout { holder: "n1".to_owned(), since: at(0) }), ..with.clone() };
        assert_eq!(decide(&busy, &acks(), after), Next::Wait(Vec::new()), "n1 may be about to write it");
        let on_disk = AckKey { kid: "k0".to_owned(), public_key: String::new() };
        let evidence: [fn(&mut Ack); 3] = [
            |ack| ack.served.push("k0".to_owned()),
            |ack| ack.key_on_disk = "k0".to_owned(),
            |ack| ack.signing_kid = "k0".to_owned(),
        ];
        for has in evidence {
            let mut acks = acks();
            has(&mut acks[1]);
            assert_eq!(decide(&with, &acks, after), Next::Wait(Vec::new()));
        }
        let listed = [acks()[..1].to_vec(), vec![Ack { keys: vec![on_disk], ..acks()[1].clone() }]].concat();
        assert_eq!(decide(&with, &listed, after), Next::Wait(Vec::new()));
    }
}

#[test]
fn key_file_that_still_holds_a_key_keeps_it_in_use() {
    let promoted = promote(&keyring(), key("k3", KeyState::Standby, Origin::Made), at(0));
    let mut acks = ["n1", "n2"].map(|node| ack(node, "k2", &["k1", "k2", "k3"]));
    acks[1].key_on_disk = "k1".to_owned();
    assert_eq!(decide(&promoted, &acks, DAY), Next::Wait(Vec::new()), "the next restart of n2 signs with k1");
    acks[1].key_on_disk = "k2".to_owned();
    assert_eq!(written(decide(&promoted, &acks, DAY)).key("k1").and_then(|key| key.unused_since), Some(at(DAY)));
}

#[test]
fn key_that_something_still_needs_is_not_dropped() {
    let mut old = key("k0", KeyState::VerifyOnly, Origin::Made);
    old.unused_since = Some(at(0));
    let with = Keyring { keys: [vec![old], keyring().keys].concat(), rotate_since: Some(at(0)), ..keyring() };
    let (acks, outside) = (acks(), ["k1".to_owned()]);
    let held = [Held { kid: "k0".to_owned(), why: "a Secret".to_owned() }];
    let others = [Held { kid: "k7".to_owned(), why: "a Secret".to_owned() }];
    let over = 367 * DAY;
    let drops = |held: Option<&[Held]>| {
        let seen = Seen { acks: &acks, outside: &outside, control_plane: None, held };
        matches!(decide_with(&with, seen, over), Next::Write(changed) if state(&changed, "k0") == Some(KeyState::Retired))
    };
    assert!(drops(Some(&[])) && drops(Some(&others)));
    assert!(!drops(Some(&held)), "a Secret needs it");
    assert!(!drops(None), "nobody could be asked");
}

#[test]
fn key_is_held_by_tokens_that_never_expire_and_by_a_controller_that_may_still_sign_with_it() {
    let old = key("k0", KeyState::VerifyOnly, Origin::Made);
    let keyring = Keyring { keys: [vec![old], keyring().keys].concat(), ..keyring() };
    let secret = |kid: &str| ("default/builder".to_owned(), kid.to_owned());
    let kids = |held: Vec<Held>| held.into_iter().map(|held| held.kid).collect::<Vec<_>>();
    assert_eq!(kids(held(&keyring, &[secret("k0"), secret("k1"), secret("gone")], None, &[])), ["k0"]);

    // The file of n1 was written at 50.
    let acks = [Ack { key_on_disk_since: at(50), ..ack("n1", "k1", &["k0", "k1"]) }];
    for (node, since, holds) in [("n1", 51, false), ("n1", 50, true), ("n1", 0, true), ("n9", 99, true)] {
        let controller = Controller { node: node.to_owned(), since: at(since) };
        let held = held(&keyring, &[], Some(&controller), &acks);
        assert_eq!(held.iter().any(|held| held.kid == "k0"), holds, "{node} leads since {since}: {held:?}");
    }
}
