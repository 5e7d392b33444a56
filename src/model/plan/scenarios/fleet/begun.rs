//! Keys that lie on a node when the keyring is begun, or when the node comes to it later: none is lost.

use super::*;
use crate::model::keyring::{KeyState, Origin};

#[test]
fn keyring_that_is_begun_before_kubeadm_keeps_the_keys_of_a_control_plane_that_was_there_before() {
    let mut fleet = Fleet::of_kubeadm(1);
    let node = &mut fleet.nodes[0];
    (node.never_started, node.process, node.starts_at) = (true, None, None);
    node.verifying = vec![key(0), key(1)];
    let mut facts = fleet.facts(0);
    facts.cluster.bucket = None;
    let body = Jwks::of([&key(0), &key(1), &key(2)]).expect("a JWKS").render();
    facts.cluster.stored_jwks = Probe::Present(StoredDocument { body, version: "1".to_owned() });
    let begun = plan(&fleet.desired, &facts, fleet.now).actions.into_iter().find_map(|action| match action {
        Action::WriteKeyring { keyring, .. } => Some(keyring),
        _ => None,
    });
    let begun = begun.expect("a keyring");
    let keys: Vec<_> = begun.keys.iter().map(|key| (key.kid.clone(), key.state)).collect();
    let expected = [(0, keyring::KeyState::Signing), (1, keyring::KeyState::Draining)];
    assert_eq!(keys, expected.map(|(number, state)| (key(number).kid().to_string(), state)));
    let leaving: Vec<_> = begun.leaving.iter().filter_map(|left| left.jwk.kid()).collect();
    assert_eq!(leaving, [key(2).kid().as_str()]);
}

/// A machine on which kubeadm has not run, with these keys in its files, and the keyring in S3.
fn fresh(fleet: &Fleet, number: usize, signing: Option<usize>, verifying: &[usize]) -> Node {
    Node {
        name: format!("n{number}"),
        machine: format!("machine-{number}"),
        manifest: None,
        signing: signing.map(key),
        verifying: verifying.iter().copied().map(key).collect(),
        process: None,
        starts_at: None,
        never_started: true,
        restarts: 0,
        leads: false,
        applied: None,
        proven: None,
        has_irsad: true,
        ..fleet.nodes[0].clone()
    }
}

/// A cluster that is only being made: the files of its first machine.
fn being_made(signing: Option<usize>, verifying: &[usize]) -> Fleet {
    let mut fleet = Fleet::of_kubeadm(1);
    fleet.in_s3 = true;
    fleet.tokens.clear();
    fleet.nodes = vec![fresh(&fleet, 1, signing, verifying)];
    fleet
}

/// kubeadm writes the manifest, and kubelet starts the API server.
fn run_kubeadm(fleet: &mut Fleet, number: usize) {
    let address = format!("192.0.2.{}", number + 1);
    fleet.nodes[number].manifest = Some(MANIFEST.replace("192.0.2.10", &address));
    fleet.pass(number, usize::MAX);
    let now = fleet.now;
    fleet.nodes[number].stop(now, 1);
    fleet.pass_time(5);
}

fn states(fleet: &Fleet, numbers: &[usize]) -> Vec<Option<(KeyState, Origin)>> {
    let state = fleet.state();
    numbers.iter().map(|number| state.key(key(*number).kid().as_str()).map(|key| (key.state, key.origin))).collect()
}

/// Key numbers that every running API server accepts.
fn accepted_by_all(fleet: &Fleet) -> Vec<usize> {
    let accepts = |number: &usize| {
        fleet
            .nodes
            .iter()
            .filter_map(|node| node.process.as_ref())
            .all(|process| process.verifying.contains(&key(*number)))
    };
    (0..3).filter(accepts).collect()
}

const VERIFIED: Option<(KeyState, Origin)> = Some((KeyState::VerifyOnly, Origin::Adopted));
const ADOPTED: Option<(KeyState, Origin)> = Some((KeyState::Draining, Origin::Adopted));

#[test]
fn keyring_that_is_begun_without_a_signing_key_keeps_the_public_keys_that_lie_there() {
    let mut fleet = being_made(None, &[0, 1]);
    fleet.bucket = Some(BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent });
    let body = Jwks::of([&key(0), &key(2)]).expect("a JWKS").render();
    fleet.objects.insert("openid/v1/jwks".to_owned(), body);
    fleet.nodes[0].leads = true;
    assert!(fleet.rounds(20), "{:?}", fleet.waits());
    assert_eq!(states(&fleet, &[0, 1, 2]), [ADOPTED, ADOPTED, None]);
    let leaving: Vec<_> = fleet.state().leaving.iter().filter_map(|left| left.jwk.kid().map(str::to_owned)).collect();
    assert_eq!(leaving, [key(2).kid().to_string()]);
    assert!(
        [0, 1].iter().all(|number| fleet.nodes[0].verifying.contains(&key(*number))),
        "{:?}",
        fleet.nodes[0].verifying
    );
    run_kubeadm(&mut fleet, 0);
    fleet.settle();
    assert_eq!((fleet.restarts(), accepted_by_all(&fleet), fleet.waits()), (vec![1], vec![0, 1], Vec::new()));
    assert!([0, 1, 2].iter().all(|number| fleet.public_kids().contains(&key(*number).kid().to_string())));
}

#[test]
fn every_key_that_any_node_accepts_is_one_of_all_nodes_after_adoption() {
    let mut fleet = Fleet::of_kubeadm(3);
    for (number, verifying) in [vec![key(0)], vec![key(0), key(1)], vec![key(2), key(0)]].into_iter().enumerate() {
        fleet.nodes[number].verifying.clone_from(&verifying);
        fleet.nodes[number].process.as_mut().expect("a process").verifying = verifying;
    }
    fleet.settle();
    assert_eq!((states(&fleet, &[1, 2]), accepted_by_all(&fleet)), (vec![ADOPTED; 2], vec![0, 1, 2]));
    assert_eq!(fleet.waits(), [""; 0]);
}

#[test]
fn running_node_with_more_keys_than_the_keyring_brings_them_in_before_its_files_change() {
    let mut fleet = Fleet::adopted(3);
    fleet.nodes[1].verifying.push(key(2));
    fleet.nodes[1].process.as_mut().expect("a process").verifying.push(key(2));
    fleet.pass_time(91 * DAY);
    fleet.settle();
    assert_eq!(states(&fleet, &[2]).first().copied().flatten().map(|(_, origin)| origin), Some(Origin::Adopted));
    assert_eq!((accepted_by_all(&fleet), fleet.waits()), (vec![0, 2], Vec::new()));
}

/// An adopted cluster with its keyring in S3, and a fourth machine with keys that the keyring does not know.
fn joined_with_keys_of_its_own(has_manifest: bool) -> Fleet {
    let mut fleet = Fleet::adopted(3);
    fleet.in_s3 = true;
    fleet.nodes.push(fresh(&fleet, 4, Some(1), &[0, 1, 2]));
    if has_manifest {
        fleet.nodes[3].manifest = Some(MANIFEST.replace("192.0.2.10", "192.0.2.4"));
    }
    fleet
}

#[test]
fn joining_node_brings_in_its_keys_while_a_node_that_may_accept_them_is_silent_and_is_right_in_one_pass() {
    for has_manifest in [true, false] {
        let mut fleet = joined_with_keys_of_its_own(has_manifest);
        fleet.nodes[2].has_irsad = false;
        fleet.pass_time(3 * 3_600);
        for number in 0..2 {
            fleet.pass(number, usize::MAX);
        }
        // Wherever its pass ends, its first API server accepts what every API server accepts, and what its files held.
        for most in 0..8 {
            let mut cut = fleet.clone();
            cut.pass(3, most);
            let files = &cut.nodes[3].verifying;
            assert!([0, 1, 2].iter().all(|number| files.contains(&key(*number))), "{most}: {files:?}");
        }
        fleet.pass(3, usize::MAX);
        assert_eq!(states(&fleet, &[1, 2]), [ADOPTED; 2], "by the joining node itself");
        assert_eq!(fleet.nodes[3].signing, Some(key(0)));
        fleet.nodes[2].has_irsad = true;
        run_kubeadm(&mut fleet, 3);
        fleet.settle();
        assert_eq!((accepted_by_all(&fleet), fleet.waits()), (vec![0, 1, 2], Vec::new()));
        assert_eq!(fleet.restarts(), [1, 1, 1, 1]);
    }
}

#[test]
fn old_disk_brings_back_no_key_that_every_node_shows_not_to_accept() {
    for has_manifest in [true, false] {
        let mut fleet = joined_with_keys_of_its_own(has_manifest);
        fleet.rounds(20);
        let node = &fleet.nodes[3];
        let accepted: Vec<String> = fleet.state().accepted().map(|key| key.kid.clone()).collect();
        let found: Vec<String> = node.verifying.iter().map(|key| key.kid().to_string()).collect();
        assert_eq!((states(&fleet, &[1, 2]), found), (vec![None; 2], accepted));
        assert!(node.signing == Some(key(0)));
    }
}

#[test]
fn node_with_more_keys_than_the_keyring_has_room_for_signs_as_all_do_and_a_person_is_told() {
    let mut fleet = Fleet::adopted(2);
    fleet.in_s3 = true;
    let keys: Vec<PublicKey> = world::more_keys().into_iter().skip(10).take(8).collect();
    fleet.nodes.push(Node { verifying: keys.clone(), ..fresh(&fleet, 3, Some(0), &[]) });
    fleet.nodes[1].has_irsad = false;
    fleet.pass_time(3 * 3_600);
    fleet.pass(0, usize::MAX);
    let before = fleet.state();
    fleet.pass(2, usize::MAX);
    assert_eq!(fleet.state(), before);
    assert!(
        fleet.nodes[2].verifying.contains(&key(0)) && keys.iter().all(|key| fleet.nodes[2].verifying.contains(key))
    );
    let told = fleet.plan(2).needs_a_person;
    assert!(told.iter().any(|why| why.contains("cannot be taken into the keyring: the keyring has")), "{told:?}");
}

#[test]
fn key_in_sa_key_that_a_running_node_signs_with_stays_accepted_and_so_do_the_others_beside_it() {
    let mut fleet = Fleet::adopted(3);
    let node = &mut fleet.nodes[1];
    node.signing = Some(key(1));
    node.verifying.extend([key(1), key(2)]);
    let process = node.process.as_mut().expect("a process");
    process.verifying.extend([key(1), key(2)]);
    fleet.pass(1, usize::MAX);
    assert_eq!(fleet.nodes[1].signing, Some(key(0)), "what every API server accepts is put back");
    fleet.settle();
    fleet.pass_time(2 * DAY);
    fleet.settle();
    assert_eq!(states(&fleet, &[1, 2]), [Some((KeyState::Signing, Origin::Adopted)), VERIFIED]);
    assert_eq!((accepted_by_all(&fleet), fleet.waits()), (vec![0, 1, 2], Vec::new()));
}

#[test]
fn keyring_that_was_begun_beside_a_running_control_plane_makes_no_node_sign_what_the_others_refuse() {
    // n1 runs without irsad and signs with key 0. n2 is new, begins a keyring with a key of its own, and kubeadm join brings key 0.
    let mut fleet = Fleet::of_kubeadm(1);
    fleet.in_s3 = true;
    fleet.nodes[0].has_irsad = false;
    fleet.nodes[0].leads = false;
    fleet.nodes.push(Node { leads: true, ..fresh(&fleet, 2, None, &[]) });
    assert!(fleet.rounds(20), "{:?}", fleet.waits());
    assert_eq!((states(&fleet, &[0]), fleet.nodes[1].signing == Some(key(0))), (vec![None], false));
    let begun = fleet.state().signing().expect("a key").kid.clone();
    (fleet.nodes[1].signing, fleet.nodes[1].verifying) = (Some(key(0)), vec![key(0)]);
    run_kubeadm(&mut fleet, 1);
    let process = fleet.nodes[1].process.clone().expect("a process");
    assert_eq!(
        (process.signing, process.issuers),
        (key(0), vec![OLD.to_owned()]),
        "its files are as kubeadm wrote them"
    );
    assert!(fleet.rounds(50), "{:?}", fleet.waits());
    assert_eq!(states(&fleet, &[0]), [Some((KeyState::Standby, Origin::Adopted))]);
    assert_eq!((fleet.restarts(), fleet.nodes[1].signing.clone()), (vec![0, 1], Some(key(0))));
    let wait = format!(
        "for kube-apiserver of n1 to show that it accepts issuer {OURS} and key {begun}, before this one signs so: install irsad there; where it \
         has irsad, and the key that signs now signs for the keyring too, add the issuer there by hand, as the last --service-account-issuer"
    );
    assert!(fleet.waits().contains(&wait), "{:?}", fleet.waits());
    fleet.nodes[0].has_irsad = true;
    for _ in 0..3 {
        fleet.pass_time(2 * DAY);
        assert!(fleet.rounds(100), "{:?}", fleet.waits());
    }
    assert_eq!(fleet.state().signing().map(|begun| begun.kid.clone()), Some(key(0).kid().to_string()));
    assert!(fleet.nodes.iter().all(|node| node.process.as_ref().is_some_and(|process| process.signing == key(0))));

    let issuer = format!("    - --service-account-issuer={OLD}\n");
    let both = format!("{issuer}    - --service-account-issuer={OURS}\n");
    let now = fleet.now;
    let node = &mut fleet.nodes[0];
    node.manifest = node.manifest.as_ref().map(|text| text.replace(&issuer, &both));
    node.written_at = now;
    node.stop(now, 1);
    fleet.settle();
    let issuers = fleet.nodes.iter().filter_map(|node| node.process.as_ref()?.issuers.first().cloned());
    assert_eq!((issuers.collect::<Vec<_>>(), fleet.waits()), (vec![OURS.to_owned(); 2], Vec::new()));
}

#[test]
fn api_servers_that_all_lost_their_flags_at_once_do_not_wait_for_one_another() {
    let mut fleet = Fleet::adopted(2);
    for (node, plain) in fleet.nodes.iter_mut().zip(Fleet::of_kubeadm(2).nodes) {
        node.manifest = plain.manifest;
        node.start(fleet.now);
    }
    fleet.tokens.clear();
    for number in 0..2 {
        fleet.pass(number, 1);
    }
    assert!(fleet.acks.values().all(|(ack, _)| ack.issuers == [OLD]), "{:?}", fleet.acks);
    assert!(fleet.waits().iter().all(|what| !what.contains("to show that it accepts")), "{:?}", fleet.waits());
    assert!(fleet.plan(1).actions.iter().any(Action::writes_keyring), "{:?}", fleet.plan(1));
}

#[test]
fn prepared_node_that_comes_to_the_keyring_of_another_gives_up_its_keys_unused() {
    let mut fleet = being_made(None, &[]);
    fleet.nodes[0].leads = true;
    assert!(fleet.rounds(20), "{:?}", fleet.waits());
    fleet.nodes.push(Node {
        standby: Some(key(2)),
        of_prepare: vec![key(1), key(2)],
        ..fresh(&fleet, 2, Some(1), &[1, 2])
    });
    assert!(fleet.rounds(20), "{:?}", fleet.waits());
    assert_eq!((states(&fleet, &[1, 2]), fleet.nodes[1].standby.clone()), (vec![None; 2], None));
    let wanted: Vec<String> = fleet.state().accepted().map(|key| key.kid.clone()).collect();
    let found: Vec<String> = fleet.nodes[1].verifying.iter().map(|key| key.kid().to_string()).collect();
    assert_eq!(found, wanted);
}

#[test]
fn prepared_node_is_right_wherever_its_first_pass_is_cut_and_gives_up_its_keys_with_the_next() {
    for most in 0..8 {
        let mut fleet = being_made(None, &[]);
        fleet.nodes[0].leads = true;
        assert!(fleet.rounds(20), "{:?}", fleet.waits());
        let node =
            Node { standby: Some(key(2)), of_prepare: vec![key(1), key(2)], ..fresh(&fleet, 2, Some(1), &[1, 2]) };
        fleet.nodes.push(node);
        fleet.pass(1, most);
        let (signing, verifying) = (fleet.nodes[1].signing.clone(), fleet.nodes[1].verifying.clone());
        assert!(signing.is_some_and(|signing| verifying.contains(&signing)), "{most}");
        assert!(fleet.rounds(20), "{most}: {:?}", fleet.waits());
        assert_eq!(fleet.nodes[1].standby, None, "{most}");
        assert_eq!(
            fleet.nodes[1].signing.as_ref().map(|key| key.kid().to_string()),
            fleet.state().signing().map(|key| key.kid.clone())
        );
    }
}

#[test]
fn prepared_key_that_another_node_has_begun_the_keyring_without_goes_by_itself_and_never_while_it_signs() {
    let mut fleet = Fleet::of_kubeadm(3);
    for node in &mut fleet.nodes {
        node.verifying = vec![key(0), key(1)];
        node.start(fleet.now);
        (node.restarts, node.leads) = (0, node.name == "n2");
    }
    fleet.nodes[0].standby = Some(key(1));
    fleet.settle();
    assert_eq!(
        (states(&fleet, &[1]), fleet.nodes[0].standby.clone()),
        (vec![Some((KeyState::Draining, Origin::Made))], None)
    );
    fleet.pass_time(2 * DAY);
    fleet.settle();
    assert_eq!(states(&fleet, &[1]), [Some((KeyState::VerifyOnly, Origin::Made))]);
    assert_eq!(accepted_by_all(&fleet), [0, 1], "for as long as any key that is no longer needed");
    for _ in 0..5 {
        fleet.pass_time(91 * DAY);
        fleet.settle();
    }
    assert_eq!((states(&fleet, &[0, 1]), accepted_by_all(&fleet)), (vec![VERIFIED, None], vec![0]));
    assert_eq!(fleet.waits(), [""; 0]);
}
