use super::*;

fn reported(node: &str, keys: &[&str], issuers: &[&str]) -> Ack {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let key = |kid: &&str| AckKey { kid: (*kid).to_owned(), public_key: format!("{kid} in PEM") };
    Ack { keys: keys.iter().map(key).collect(), issuers: owned(issuers), ..ack(node, "k1", keys) }
}

fn adopted(acks: &[Ack], names: &[&str]) -> Adoption {
    adopt("prod-1", acks, &nodes(names), Vec::new(), at(7))
}

#[test]
fn adoption_keeps_what_signs_and_unites_what_any_node_accepts() {
    let acks = [reported("n1", &["k1", "k0"], &[OLD]), reported("n2", &["k9", "k1"], &[OLD, OURS])];
    let Adoption::Begin(first) = adopted(&acks, &["n1", "n2"]) else { panic!("not adopted") };
    let state = |state, kid: &str| KeyringKey {
        public_key: format!("{kid} in PEM"),
        ..KeyringKey::adopted(kid, "", state, at(7))
    };
    assert_eq!(
        first.keys,
        [state(KeyState::Signing, "k1"), state(KeyState::Draining, "k0"), state(KeyState::Draining, "k9")]
    );
    assert_eq!(first.issuers, [OLD, OURS]);
    assert_eq!((first.generation, first.members.len(), first.cluster.as_str()), (1, 2, "prod-1"));
    assert!(first.check().is_ok());
}

#[test]
fn adoption_waits_for_every_node_of_the_control_plane() {
    let acks = [reported("n1", &["k1"], &[OLD])];
    let waits = |acks: &[Ack], names: &[&str]| match adopted(acks, names) {
        Adoption::Wait(sentences) => sentences,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        waits(&acks, &["n1", "n2", "n3"]),
        ["for irsad to report from n2, n3: every control-plane node has to have it before anything is changed"]
    );
    assert_eq!(waits(&[], &[]), ["for irsad of a control-plane node to report"]);
}

#[test]
fn nodes_that_sign_with_different_keys_are_named_and_nothing_is_adopted() {
    let other = Ack { signing_kid: "k2".to_owned(), ..reported("n2", &["k1", "k2"], &[OLD]) };
    let acks = [reported("n1", &["k1"], &[OLD]), other];
    let why = "the control-plane nodes sign with different keys: n1 with k1, n2 with k2 (its file holds k1) (nothing changed); give \
               every node the same sa.key, with the public halves of all of them in each sa.pub, and restart their API servers one by \
               one";
    assert_eq!(adopted(&acks, &["n1", "n2"]), Adoption::Differ(why.to_owned()));

    let without = [reported("n1", &["k7"], &[OLD])];
    let why = "the verification file of n1 does not have the key k1 that it signs with (nothing changed); put its public half there";
    assert_eq!(adopted(&without, &["n1"]), Adoption::Differ(why.to_owned()));
}

#[test]
fn issuer_of_one_api_server_alone_needs_one_change_and_of_several_two() {
    let before = Keyring { issuers: vec![OLD.to_owned()], ..keyring() };
    let with_old = |acks: &[Ack]| -> Vec<Ack> {
        acks.iter().map(|ack| Ack { issuers: vec![OLD.to_owned()], ..ack.clone() }).collect()
    };
    let several = written(decide(&before, &with_old(&acks()), 0));
    assert_eq!(several.issuers, [OLD, OURS]);

    let alone = Keyring { members: before.members[..1].to_vec(), ..before };
    let acks = with_old(&acks()[..1]);
    let outside = ["k1".to_owned(), "k2".to_owned()];
    let one = nodes(&["n1"]);
    let seen = Seen { acks: &acks, outside: &outside, control_plane: Some(&one), held: None };
    assert_eq!(written(decide_with(&alone, seen, 0)).issuers, [OURS, OLD]);
    let unseen = Seen { outside: &outside[1..], ..seen };
    let waits = [
        format!("for kube-apiserver of n1 to accept issuer {OURS}"),
        "for the signing key to be found at the issuer URL".to_owned(),
    ];
    assert_eq!(decide_with(&alone, unseen, 0), Next::Wait(waits.to_vec()));
}
