//! Promises to a cluster of several control-plane nodes, in the planner's small world.

mod begun;
mod look;
mod missed;
mod node;
mod objects;
mod teardown;
mod trust_policy;
mod webhook;
mod world;

use super::*;
use crate::model::{keyring, report, rotation};
use world::{DAY, Fleet, Node};

#[test]
fn running_cluster_is_adopted_with_two_restarts_a_node_one_at_a_time_and_rotated_with_one() {
    for count in [2, 3, 5] {
        let mut fleet = Fleet::of_kubeadm(count);
        fleet.settle();
        assert_eq!((fleet.restarts(), fleet.waits()), (vec![2; count], Vec::new()));
        for rotation in 1..=3 {
            let before = fleet.state().signing().expect("a key").kid.clone();
            fleet.pass_time(91 * DAY);
            fleet.settle();
            assert_ne!(fleet.state().signing().expect("a key").kid, before);
            assert_eq!(fleet.restarts(), vec![2 + rotation; count], "rotation {rotation} of {count} nodes");
        }
    }
}

#[test]
fn one_node_alone_is_adopted_with_one_restart() {
    let mut fleet = Fleet::of_kubeadm(1);
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![1], Vec::new()));
    fleet.pass_time(91 * DAY);
    fleet.settle();
    assert_eq!(fleet.restarts(), [2]);
}

#[test]
fn prepared_cluster_is_not_restarted_and_its_first_rotation_costs_each_node_one_restart() {
    let mut fleet = Fleet::adopted(3);
    (fleet.keyring, fleet.acks) = Default::default();
    for node in &mut fleet.nodes {
        (node.applied, node.verifying) = (None, vec![key(0), key(1)]);
        node.start(fleet.now);
    }
    fleet.nodes[0].standby = Some(key(1));
    let before = fleet.restarts();
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (before.clone(), Vec::new()));
    assert_eq!(fleet.nodes[0].standby, None);
    fleet.pass_time(91 * DAY);
    fleet.settle();
    assert_eq!(fleet.state().signing().map(|key| key.kid.as_str()), Some(key(1).kid().as_str()));
    assert_eq!(fleet.restarts(), before.iter().map(|count| count + 1).collect::<Vec<_>>());
}

#[test]
fn irsad_that_is_stopped_after_any_action_of_any_node_comes_to_the_same_end() {
    for most in 1..4 {
        let mut fleet = Fleet::of_kubeadm(3);
        for after in [0, 91 * DAY] {
            fleet.pass_time(after);
            for round in 0..400_usize {
                // Another node leads each time, and sometimes two do.
                for (number, node) in fleet.nodes.iter_mut().enumerate() {
                    node.leads = (round / 3) % 3 == number || round % 5 == number;
                }
                fleet.pass(round * 7 % 3, most);
                fleet.pass_time(7);
            }
            fleet.nodes.iter_mut().for_each(|node| node.leads = node.name == "n3");
            fleet.settle();
        }
        assert_eq!((fleet.restarts(), fleet.waits()), (vec![3; 3], Vec::new()), "{most} actions a pass");
    }
}

#[test]
fn node_without_irsad_or_with_another_key_is_named_and_nothing_is_changed() {
    let mut fleet = Fleet::of_kubeadm(3);
    fleet.nodes[2].has_irsad = false;
    assert!(fleet.rounds(20));
    assert!(
        fleet.waits()[0].starts_with("for irsad to report from n3: every control-plane node"),
        "{:?}",
        fleet.waits()
    );
    assert_eq!((fleet.restarts(), fleet.keyring.clone()), (vec![0; 3], None));

    fleet.nodes[2].has_irsad = true;
    (fleet.nodes[2].signing, fleet.nodes[2].verifying) = (Some(key(1)), vec![key(1)]);
    fleet.tokens.clear();
    let process = fleet.nodes[2].process.as_mut().expect("a process");
    (process.signing, process.verifying) = (key(1), vec![key(1), key(0)]);
    for node in &mut fleet.nodes {
        node.process.as_mut().expect("a process").verifying = vec![key(0), key(1)];
    }
    assert!(fleet.rounds(20));
    let named = format!("n1 with {0}, n2 with {0}, n3 with {1}", key(0).kid(), key(1).kid());
    assert!(fleet.waits().iter().any(|what| what.contains(&named)), "{:?}", fleet.waits());
    assert_eq!((fleet.restarts(), fleet.keyring.clone()), (vec![0; 3], None));
}

#[test]
fn rotation_waits_for_a_node_that_is_off_and_goes_on_when_it_is_back() {
    let mut fleet = Fleet::adopted(3);
    fleet.nodes[1].is_on = false;
    fleet.nodes[1].process = None;
    fleet.pass_time(91 * DAY);
    assert!(fleet.rounds(100));
    assert_eq!(fleet.restarts(), [0, 0, 0], "an API server restarts while another one is down");
    fleet.nodes[1].is_on = true;
    fleet.nodes[1].stop(fleet.now, 1);
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![1, 2, 1], Vec::new()));
}

#[test]
fn node_that_does_not_come_back_is_rolled_back_and_freezes_the_rollout_until_a_person_lets_it_go_on() {
    let mut fleet = Fleet::of_kubeadm(3);
    fleet.nodes[1].starts_with = |manifest| !manifest.issuers().contains(&OURS.to_owned());
    for _ in 0..300 {
        for number in 0..3 {
            fleet.pass(number, usize::MAX);
        }
        fleet.pass_time(5);
    }
    let frozen = fleet.restarts();
    assert_eq!((frozen, fleet.nodes[1].process.is_some()), (vec![0, 2, 0], true), "n2 was tried and put back");
    let waits = fleet.waits();
    assert!(waits.iter().any(|what| what.contains("mend it, then irsad resume")), "{waits:?}");
    assert!(
        waits.iter().any(|what| what.starts_with("for kube-apiserver of n2 to be done with its change")),
        "{waits:?}"
    );
    assert!(fleet.acks["n2"].0.failure.is_some(), "the other nodes are told why");

    fleet.nodes[1].starts_with = |_| true;
    fleet.nodes[1].refused = None;
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![2, 4, 2], Vec::new()));
}

#[test]
fn joining_node_has_the_clusters_keys_and_issuers_before_its_api_server_starts() {
    let mut fleet = Fleet::adopted(3);
    fleet.pass_time(91 * DAY);
    fleet.settle();
    fleet.nodes.iter_mut().for_each(|node| node.restarts = 0);
    // kubeadm join brought the key of two rotations ago and the issuer of kubeadm-config before adoption.
    let joining = Node {
        name: "n4".to_owned(),
        machine: "machine-4".to_owned(),
        never_started: true,
        ..Fleet::of_kubeadm(4).nodes[3].clone()
    };
    fleet.nodes.push(Node { process: None, starts_at: None, restarts: 0, ..joining });
    assert!(!fleet.pass(3, usize::MAX));
    let (manifest, wanted) = (fleet.nodes[3].manifest.clone().expect("a manifest"), fleet.state());
    let manifest = Manifest::parse(manifest.as_bytes()).expect("a manifest");
    assert_eq!(manifest.issuers().first().map(String::as_str), Some(OURS));
    assert_eq!(
        fleet.nodes[3].signing.as_ref().map(|key| key.kid().to_string()),
        wanted.signing().map(|key| key.kid.clone())
    );
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![0, 0, 0, 1], Vec::new()));
    assert_eq!(fleet.state().members.len(), 4);
}

#[test]
fn node_whose_part_of_the_adoption_is_done_waits_for_the_others_and_says_so() {
    let mut fleet = Fleet::of_kubeadm(3);
    fleet.nodes[2].starts_with = |_| false;
    while fleet.nodes[1].restarts == 0 || fleet.nodes[1].process.is_none() {
        for number in 0..3 {
            fleet.pass(number, usize::MAX);
        }
        fleet.pass_time(5);
    }
    assert!(fleet.rounds(200), "frozen: {:?}", fleet.waits());
    let waits = fleet.plan(1).waiting_for;
    assert_eq!(waits, [format!("for every kube-apiserver to accept issuer {OURS}, before this one signs as it")]);
}

#[test]
fn leader_looks_for_a_node_that_begins_to_report_and_not_for_one_that_left() {
    let mut fleet = Fleet::adopted(2);
    assert!(!fleet.plan(0).look_closer);
    let (ack, version) = fleet.acks["n1"].clone();
    let newcomer = rotation::Ack { node: "n3".to_owned(), at: fleet.now, ..ack };
    fleet.acks.insert("n3".to_owned(), (newcomer, version));
    assert!(fleet.plan(0).look_closer);
    fleet.pass_time(1_000);
    assert!(!fleet.plan(0).look_closer);
}

#[test]
fn audiences_that_are_asked_for_later_cost_every_node_one_restart_one_at_a_time() {
    let mut fleet = Fleet::adopted(3);
    let audiences = [OURS, OLD, "other"];
    fleet.desired.api_audiences = Some(audiences.map(|audience| audience.parse().expect("an audience")).to_vec());
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![1; 3], Vec::new()));
    for node in &fleet.nodes {
        let flag = format!("--api-audiences={}", audiences.join(","));
        assert!(node.manifest.as_ref().is_some_and(|manifest| manifest.contains(&flag)), "{:?}", node.manifest);
    }
}

#[test]
fn keyring_that_went_back_in_time_is_followed_by_nobody() {
    let mut fleet = Fleet::adopted(3);
    let snapshot = (fleet.keyring.clone(), fleet.acks.clone());
    fleet.pass_time(91 * DAY);
    fleet.settle();
    let (files, objects, newest) = (fleet.nodes.clone(), fleet.objects.clone(), fleet.state().generation);
    (fleet.keyring, fleet.acks, fleet.version) = (snapshot.0, snapshot.1, fleet.version + 1);
    for _ in 0..5 {
        for number in 0..3 {
            fleet.pass(number, usize::MAX);
        }
        fleet.pass_time(5);
    }
    assert_eq!((fleet.restarts(), &fleet.objects), (vec![1; 3], &objects));
    for (node, before) in fleet.nodes.iter().zip(files) {
        assert_eq!(
            (&node.signing, &node.verifying, &node.manifest),
            (&before.signing, &before.verifying, &before.manifest)
        );
    }
    assert!(fleet.waits().iter().all(|what| what.contains("the store went back in time")), "{:?}", fleet.waits());
    let told: Vec<u64> = fleet.acks.values().map(|(ack, _)| ack.generation).collect();
    assert_eq!(told, [newest; 3], "whoever rebuilds the keyring learns how much each node remembers");
}

#[test]
fn key_that_somebody_puts_into_sa_key_signs_only_after_it_is_public_and_accepted_everywhere() {
    let mut fleet = Fleet::adopted(3);
    let theirs = key(1);
    fleet.nodes[1].signing = Some(theirs.clone());
    fleet.nodes[1].verifying.insert(0, theirs.clone());
    fleet.pass(1, usize::MAX);
    assert_ne!(fleet.nodes[1].signing, Some(theirs.clone()), "the key before it is put back");
    fleet.settle();
    assert_eq!(fleet.restarts(), [1, 1, 1], "every API server accepts it");
    fleet.pass_time(2 * DAY);
    fleet.settle();
    assert_eq!(fleet.state().signing().map(|key| key.kid.clone()), Some(theirs.kid().to_string()));
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![2; 3], Vec::new()));
}

#[test]
fn revoked_key_is_drained_or_dropped_and_every_api_server_refuses_it_in_the_end() {
    for how in [keyring::Revoke::Drain, keyring::Revoke::Now] {
        let mut fleet = Fleet::adopted(3);
        fleet.pass_time(2 * DAY);
        let kid = fleet.state().signing().expect("a key").kid.clone();
        let changed = rotation::revoke(&fleet.state(), &kid, how, fleet.now).expect("a key to revoke");
        let bytes = fleet.keyring.clone().expect("a keyring");
        let version = fleet.version.to_string();
        assert!(fleet.put_keyring(&changed.next(&bytes), Some(&version)).is_ok());
        fleet.killed = (how == keyring::Revoke::Now).then(|| kid.clone());
        fleet.settle();
        if how == keyring::Revoke::Drain {
            assert!(fleet.public_kids().contains(&kid), "its tokens live");
            fleet.pass_time(2 * DAY);
            fleet.settle();
        }
        let refuses = |node: &Node| {
            node.process.as_ref().is_some_and(|process| process.verifying.iter().all(|key| key.kid().as_str() != kid))
        };
        assert!(fleet.nodes.iter().all(refuses), "{how:?}");
        let state = fleet.state().key(&kid).map(|key| key.state);
        assert_eq!((state, fleet.public_kids().contains(&kid)), (Some(keyring::KeyState::Revoked), false));
    }
}

#[test]
fn cluster_of_one_api_server_that_cannot_be_asked_is_left_alone() {
    let mut fleet = Fleet::adopted(3);
    let before = fleet.keyring.clone();
    fleet.nodes[0].stop(fleet.now, 10 * DAY);
    fleet.pass(0, usize::MAX);
    assert_eq!(fleet.keyring, before);
}

#[test]
fn node_with_a_leading_controller_is_changed_last() {
    let mut fleet = Fleet::adopted(3);
    fleet.order.clear();
    fleet.controllers = vec!["n1".to_owned(), "n2".to_owned()];
    fleet.pass_time(91 * DAY);
    fleet.settle();
    assert_eq!((fleet.order.first().map(String::as_str), fleet.order.len()), (Some("n3"), 3), "{:?}", fleet.order);
}

#[test]
fn opportunistic_restarts_take_the_key_up_and_the_deadline_ends_the_waiting() {
    let mut fleet = Fleet::adopted(3);
    fleet.desired.restart = RestartPolicy::Opportunistic;
    fleet.pass_time(91 * DAY);
    fleet.settle();
    assert_eq!(fleet.restarts(), [0, 0, 0]);
    let waits = fleet.waits();
    assert!(
        waits[0].starts_with("for a restart of kube-apiserver that happens anyway, at the latest 2027-"),
        "{waits:?}"
    );
    let signing = fleet.state().signing().map(|key| key.kid.clone());
    for node in [0, 2] {
        let now = fleet.now;
        fleet.nodes[node].stop(now, 1);
        fleet.pass_time(5);
        fleet.settle();
        let process = fleet.nodes[node].process.as_ref().expect("a process");
        assert_eq!(Some(process.signing.kid().to_string()), signing);
    }
    assert_eq!(fleet.restarts(), [1, 0, 1]);
    fleet.pass_time(31 * DAY);
    fleet.settle();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![1, 1, 1], Vec::new()));
}

#[test]
fn what_nobody_may_follow_changes_nothing() {
    type Edit = fn(&mut SharedFacts);
    let cases: [(Edit, &str); 4] = [
        (|shared| shared.name_is_taken = true, "another machine reports as n1 too (nothing changed)"),
        (|shared| shared.is_for_one_node = true, "keyring.store is a folder, which one node can use"),
        (
            |shared| shared.damage = Some("the keyring is of cluster prod-2".to_owned()),
            "the keyring is of cluster prod-2",
        ),
        (|shared| shared.keyring = Probe::Absent, "the keyring is gone from its store, and this node has followed"),
    ];
    let mut fleet = Fleet::adopted(2);
    fleet.pass_time(91 * DAY);
    for (edit, expected) in cases {
        let mut facts = fleet.facts(0);
        let Shared::Seen(shared) = &mut facts.shared else { panic!("a keyring") };
        edit(shared);
        let plan = plan(&fleet.desired, &facts, fleet.now);
        let acts: Vec<&str> = plan.actions.iter().map(Action::name).filter(|name| *name != "acknowledge").collect();
        assert_eq!(acts, [""; 0], "{expected}");
        assert!(plan.needs_a_person.iter().any(|why| why.starts_with(expected)), "{expected}: {plan:?}");
    }
}

#[test]
fn node_whose_api_server_a_person_restarts_by_its_manifest_leaves_the_documents_to_the_leader() {
    let mut fleet = Fleet::adopted(3);
    fleet.pass_time(91 * DAY);
    fleet.settle();
    // It has not heard of the newest key yet.
    let before = fleet.nodes[1].clone();
    fleet.nodes[1].verifying.truncate(1);
    fleet.nodes[1].manifest = None;
    fleet.nodes[1].process = None;
    let (plan, objects) = (fleet.plan(1), fleet.objects.clone());
    let path = fleet.desired.manifest.display();
    assert_eq!(plan.waiting_for, [format!("for kube-apiserver of this node; {path} is left alone meanwhile")]);
    assert!(fleet.pass(1, usize::MAX), "{plan:?}");
    assert_eq!(fleet.objects, objects);
    let facts = fleet.facts(1);
    let report = report::report("prod-1", &fleet.desired, &facts, &plan, &report::History::default(), 1, fleet.now);
    assert_eq!(report.role, report::Role::Follower);
    fleet.nodes[1] = before;
    fleet.nodes[1].stop(fleet.now, 1);
    fleet.settle();
    assert_eq!(fleet.waits(), [""; 0]);
}

#[test]
fn followers_that_do_not_ask_which_keys_are_held_wait_for_nothing_and_the_leader_lets_them_go() {
    let mut fleet = Fleet::adopted(3);
    fleet.desired.verify_retention = fleet.desired.token_lifetime;
    for _ in 0..3 {
        fleet.pass_time(91 * DAY);
        fleet.settle();
        assert_eq!(fleet.waits(), [""; 0]);
    }
    let keys = fleet.state().keys;
    let is_kept = |key: &&keyring::KeyringKey| key.origin == keyring::Origin::Made && key.state.is_accepted();
    assert_eq!(keys.iter().filter(is_kept).count(), 3, "standby, signing and draining: {keys:?}");
}

#[test]
fn configuration_that_cluster_api_writes_is_left_to_it_and_that_is_said() {
    let mut fleet = Fleet::of_kubeadm(3);
    fleet.is_of_cluster_api = true;
    fleet.settle();
    assert_eq!((fleet.restarts(), &fleet.kubeadm_config), (vec![2; 3], &Fleet::of_kubeadm(3).kubeadm_config));
    assert!(fleet.plan(0).notices[0].contains("spec.kubeadmConfigSpec.clusterConfiguration"), "{:?}", fleet.plan(0));
}
