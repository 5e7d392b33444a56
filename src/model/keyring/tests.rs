use super::*;

const KEYS: &str = include_str!("../../../tests/fixtures/keys/three-rsa-2048.pub");
/// As the first version of the format was written.
const FIXTURE: &str = include_str!("../../../tests/fixtures/formats/keyring-v1.json");

fn key(number: usize) -> PublicKey {
    PublicKey::read_all(KEYS.as_bytes()).expect("three keys")[number].clone()
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn keyring() -> Keyring {
    let (made, used) = (time("2026-08-21T12:00:00Z"), time("2026-11-21T12:00:00Z"));
    Keyring {
        version: Version1,
        cluster: "prod-1".to_owned(),
        generation: 7,
        previous_hash: hash(b"generation 6\n"),
        ancestors: vec![hash(b"generation 5\n")[..16].to_owned()],
        issuers: vec!["https://oidc.example.com".to_owned(), "https://kubernetes.default.svc.cluster.local".to_owned()],
        keys: vec![
            KeyringKey {
                published_at: Some(made),
                ..KeyringKey::new(&key(0), KeyState::Draining, Origin::Adopted, used)
            },
            KeyringKey { published_at: Some(made), ..KeyringKey::new(&key(1), KeyState::Signing, Origin::Made, used) },
            KeyringKey::new(&key(2), KeyState::Standby, Origin::Made, used),
        ],
        leaving: Vec::new(),
        members: vec![Member { node: "n1".to_owned(), since: made }],
        rotate_since: None,
        rollout: Some(Rollout { holder: "n1".to_owned(), since: used }),
        teardown: None,
    }
}

#[test]
fn file_of_version_1_is_read_and_written_byte_for_byte() {
    assert_eq!(String::from_utf8_lossy(&keyring().render()), FIXTURE);
    assert_eq!(Keyring::parse(FIXTURE.as_bytes(), "prod-1").expect("a keyring"), keyring());
    let later = FIXTURE.replacen("\"version\": 1", "\"version\": 2", 1);
    let extended = FIXTURE.replacen("\"cluster\"", "\"more\": 1, \"cluster\"", 1);
    for text in [later, extended] {
        let error = Keyring::parse(text.as_bytes(), "prod-1").expect_err("refused").to_string();
        assert_eq!(
            error,
            "the keyring is not what this version of irsad writes (nothing changed); if a newer irsad wrote it, upgrade this node, else \
             put the keyring back from a backup"
        );
    }
}

#[test]
fn keyring_that_was_edited_by_hand_or_is_of_another_cluster_is_refused() {
    type Edit = fn(&mut Keyring);
    let cases: [(Edit, &str); 7] = [
        (|keyring| keyring.cluster = "prod-2".to_owned(), "the keyring is of cluster prod-2, this node is of prod-1"),
        (|keyring| keyring.keys[0].state = KeyState::Signing, "the keyring has 2 signing and 1 standby keys"),
        (|keyring| keyring.keys[1].state = KeyState::Draining, "the keyring has 0 signing and 1 standby keys"),
        (|keyring| keyring.keys[1].public_key = key(0).to_pem(), "is not the key of that id"),
        (
            |keyring| keyring.keys[0] = KeyringKey { state: KeyState::Draining, ..keyring.keys[1].clone() },
            "stands twice in the keyring",
        ),
        (|keyring| keyring.members.push(keyring.members[0].clone()), "member n1 stands twice in the keyring"),
        (|keyring| keyring.issuers.clear(), "the keyring has no issuer"),
    ];
    for (edit, expected) in cases {
        let mut keyring = keyring();
        edit(&mut keyring);
        let error = Keyring::parse(&keyring.render(), "prod-1").expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("(nothing changed)"), "{error}");
    }
}

#[test]
fn older_generation_or_another_history_is_refused_by_a_node_that_was_further() {
    let before = keyring();
    let bytes = before.render();
    let mark = HighWater { generation: 7, hash: hash(&bytes) };
    let next = before.next(&bytes);
    assert_eq!((next.generation, next.previous_hash.as_str()), (8, hash(&bytes).as_str()));
    assert!(before.continues(&hash(&bytes), &mark).is_ok());
    assert!(next.continues(&hash(&next.render()), &mark).is_ok());
    let mut later = next.next(&next.render());
    for missed in 1..=MOST_ANCESTORS {
        assert!(later.continues(&hash(&later.render()), &mark).is_ok(), "{missed} generations missed");
        let others = HighWater { hash: hash(b"other bytes"), ..mark.clone() };
        assert!(later.continues(&hash(&later.render()), &others).is_err(), "{missed} generations of another history");
        later = later.next(&later.render());
    }
    assert_eq!(later.ancestors.len(), MOST_ANCESTORS);

    let older = Keyring { generation: 6, ..keyring() };
    assert!(matches!(older.continues("", &mark), Err(KeyringError::WentBack { found: 6, known: 7 })));
    assert!(matches!(before.continues("other bytes", &mark), Err(KeyringError::OtherHistory { found: 7 })));
    let forked = before.next(b"other bytes");
    assert!(matches!(forked.continues(&hash(&forked.render()), &mark), Err(KeyringError::OtherHistory { found: 8 })));
}

#[test]
fn signing_key_comes_first_and_a_retired_one_is_accepted_but_not_published() {
    let mut keyring = keyring();
    let kids = |keys: Vec<&KeyringKey>| keys.into_iter().map(|key| key.kid.clone()).collect::<Vec<_>>();
    let named = |order: &[usize]| order.iter().map(|number| key(*number).kid().to_string()).collect::<Vec<_>>();
    assert_eq!(kids(keyring.published().collect()), named(&[1, 0, 2]));
    keyring.keys[0].state = KeyState::VerifyOnly;
    assert_eq!(kids(keyring.published().collect()), named(&[1, 2]));
    assert_eq!(kids(keyring.accepted().collect()), named(&[1, 0, 2]));
}

#[test]
fn teardown_of_version_1_is_read_and_written_byte_for_byte_and_its_absence_is_not_written() {
    let text = include_str!("../../../tests/fixtures/formats/keyring-teardown-v1.json");
    let keyring = Keyring::parse(text.as_bytes(), "prod-1").expect("a keyring");
    let teardown = keyring.teardown.clone().expect("a teardown");
    assert_eq!(teardown.issuer, "https://kubernetes.default.svc.cluster.local");
    assert_eq!(String::from_utf8(keyring.render()).as_deref(), Ok(text));
    let without = Keyring { teardown: None, ..keyring };
    assert!(!String::from_utf8_lossy(&without.render()).contains("teardown"), "older versions would refuse it");
}
