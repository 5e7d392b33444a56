use super::*;
use crate::model::{
    key::PublicKey,
    keyring::{HighWater, hash},
};

/// As the first version of the format was written.
const FIRST_VERSION: &[u8] = include_bytes!("../../../../tests/fixtures/formats/keyring-v1.json");
const ANOTHER_KEY: &[u8] = include_bytes!("../../../../tests/fixtures/test-keys/rsa-2048.spki.pem");

/// Writes `changed` as the next generation, and reads it as another node does that had read the one before.
fn store(changed: &Keyring, bytes: &mut Vec<u8>) -> Keyring {
    let before = Keyring::parse(bytes, "prod-1").expect("a keyring");
    let mark = HighWater { generation: before.generation, hash: hash(bytes) };
    *bytes = changed.next(bytes).render();
    let read = Keyring::parse(bytes, "prod-1").expect("what was written is read");
    assert!(read.continues(&hash(bytes), &mark).is_ok());
    assert_eq!(read.render(), *bytes);
    read
}

fn shows(keyring: &Keyring) -> Ack {
    let served: Vec<&str> = keyring.accepted().map(|key| key.kid.as_str()).collect();
    Ack { issuers: keyring.issuers.clone(), ..ack("n1", served[0], &served) }
}

#[test]
fn keyring_of_version_1_is_rotated_once() {
    let mut bytes = FIRST_VERSION.to_vec();
    let mut keyring = Keyring::parse(&bytes, "prod-1").expect("the fixture");
    let kids: Vec<String> = keyring.keys.iter().map(|key| key.kid.clone()).collect();
    let fresh = PublicKey::read_all(ANOTHER_KEY).expect("a key").remove(0);
    let policy = Policy { issuer: keyring.issuers[0].clone(), ..policy() };
    let one = nodes(&["n1"]);
    let begin = keyring.keys[0].since.as_second();
    let mut running = shows(&keyring);
    for day in 0..95 {
        let now = at(begin + day * DAY);
        let outside: Vec<String> = keyring.published().map(|key| key.kid.clone()).collect();
        // As often as there is something to do on this day.
        loop {
            let acks = [running.clone()];
            let here =
                Here { ack: &running, own_reasons: &[], is_told: true, not_ready: &[], outside: &outside, after: &[] };
            let seen = Seen { acks: &acks, outside: &outside, control_plane: Some(&one), held: Some(&[]) };
            match follow(&keyring, here, now) {
                Follow::Take(changed) | Follow::Release(changed) => keyring = store(&changed, &mut bytes),
                Follow::Change => running = shows(&keyring),
                Follow::Settled | Follow::Wait(_) => match next(&keyring, seen, &policy, now) {
                    Next::Wait(_) => break,
                    Next::Write(changed) => keyring = store(&changed, &mut bytes),
                    Next::MakeStandby => panic!("a standby is there"),
                    Next::Promote => {
                        let standby = KeyringKey::new(&fresh, KeyState::Standby, Origin::Made, now);
                        keyring = store(&promote(&keyring, standby, now), &mut bytes);
                    }
                },
            }
        }
    }
    let states: Vec<(&str, KeyState)> = keyring.keys.iter().map(|key| (key.kid.as_str(), key.state)).collect();
    let expected = [
        (kids[0].as_str(), KeyState::VerifyOnly),
        (&kids[1], KeyState::VerifyOnly),
        (&kids[2], KeyState::Signing),
        (fresh.kid().as_str(), KeyState::Standby),
    ];
    assert_eq!(states, expected);
    assert_eq!(running.signing_kid, kids[2]);
}
