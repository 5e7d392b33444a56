use super::*;
use crate::model::{
    keyring::{Member, Origin, Rollout},
    rotation::{
        ControlPlaneNode,
        fixtures::{self, OURS, at, policy},
        found,
    },
};

const OLD: &str = "https://kubernetes.default.svc.cluster.local";
const DAY: i64 = 86_400;

/// A cluster of two nodes on which everything holds, to be changed by a test.
#[derive(Clone)]
struct World {
    keyring: Keyring,
    acks: Vec<Ack>,
    control_plane: Probe<ControlPlane>,
    not_ready: Vec<String>,
    held: Probe<Vec<Held>>,
    kubeadm_issuers: Probe<Vec<String>>,
    now: Timestamp,
}

fn key(kid: &str, state: KeyState) -> KeyringKey {
    KeyringKey {
        origin: Origin::Made,
        published_at: Some(at(0)),
        unused_since: Some(at(0)),
        ..KeyringKey::adopted(kid, "", state, at(0))
    }
}

fn ack(node: &str) -> Ack {
    Ack {
        address: format!("10.0.0.{}", &node[1..]),
        at: at(DAY - 60),
        issuers: vec![OURS.to_owned(), OLD.to_owned()],
        ..fixtures::ack(node, "k1", &["k0", "k1"])
    }
}

fn world() -> World {
    let mut keyring = found("prod-1", OURS, key("k1", KeyState::Signing));
    keyring.keys.insert(0, key("k0", KeyState::VerifyOnly));
    keyring.keys.push(key("k2", KeyState::Standby));
    keyring.issuers.push(OLD.to_owned());
    keyring.members = ["n1", "n2"].map(|node| Member { node: node.to_owned(), since: at(0) }).to_vec();
    let node =
        |name: &str| ControlPlaneNode { name: name.to_owned(), addresses: vec![format!("10.0.0.{}", &name[1..])] };
    World {
        acks: vec![ack("n1"), ack("n2")],
        control_plane: Probe::Present(ControlPlane {
            nodes: ["n1", "n2"].map(node).to_vec(),
            api_servers: ["10.0.0.1", "10.0.0.2"].map(str::to_owned).to_vec(),
            is_of_cluster_api: false,
        }),
        not_ready: Vec::new(),
        held: Probe::Present(Vec::new()),
        kubeadm_issuers: Probe::Present(keyring.issuers.clone()),
        now: at(DAY),
        keyring,
    }
}

/// The checks that do not hold, a line each.
fn broken(world: &World) -> Vec<String> {
    let seen = Across {
        keyring: &world.keyring,
        acks: &world.acks,
        control_plane: &world.control_plane,
        not_ready: &world.not_ready,
        held: &world.held,
        kubeadm_issuers: &world.kubeadm_issuers,
    };
    let line = |check: Check| match check.outcome {
        Outcome::Holds => None,
        Outcome::Fails(why) => Some(format!("{}: {why}", check.statement)),
        Outcome::Unknown(why) => Some(format!("unknown: {}: {why}", check.statement)),
        Outcome::Skipped(why) => Some(format!("skipped: {}: {why}", check.statement)),
    };
    across(seen, &policy(), world.now).into_iter().filter_map(line).collect()
}

#[test]
fn each_thing_that_makes_a_node_refuse_the_tokens_of_another_is_named_with_its_cure() {
    assert_eq!(broken(&world()), [""; 0]);
    type Edit = fn(&mut World);
    let cases: [(Edit, &[&str]); 11] = [
        (
            |world| drop(world.acks.pop()),
            &[
                "irsad reports from every control-plane node: n2; install and start irsad there; no key is put to use before every node \
               reports",
            ],
        ),
        (
            |world| {
                if let Probe::Present(control_plane) = &mut world.control_plane {
                    control_plane.api_servers.push("10.0.0.9".to_owned());
                }
            },
            &[
                "irsad reports from every control-plane node: 10.0.0.9; install and start irsad there; no key is put to use before every \
               node reports",
            ],
        ),
        (
            |world| world.acks[1].at = at(DAY - 3 * 3600),
            &["every report is younger than 2 h: n2 reported 180 min ago; systemctl status irsad there"],
        ),
        (
            |world| world.not_ready.push("10.0.0.2: connection refused".to_owned()),
            &["every other kube-apiserver is ready: 10.0.0.2: connection refused; see /readyz?verbose there"],
        ),
        (
            |world| world.acks[1].issuers.reverse(),
            &[
                "every kube-apiserver signs as https://oidc.example.com: n2 signs as https://kubernetes.default.svc.cluster.local; irsad \
                 status says what the adoption waits for",
                "every kube-apiserver is as the keyring wants it: n2 is to have the issuers https://oidc.example.com, \
                 https://kubernetes.default.svc.cluster.local; irsad status there says what it waits for",
            ],
        ),
        (
            |world| world.keyring.keys[1].published_at = None,
            &[
                "every kube-apiserver signs with a published key: n1 signs with k1, which no outsider has seen, n2 signs with k1, which no \
               outsider has seen; outsiders refuse its tokens; irsad status there says what it waits for",
            ],
        ),
        (
            |world| drop(world.acks[0].served.remove(0)),
            &[
                "every kube-apiserver accepts the keys and issuers of every other one: n1 does not accept key k0; its turn comes by itself \
                 where the rollout goes on; irsad status says whether it does",
                "every kube-apiserver is as the keyring wants it: n1 is to accept key k0; irsad status there says what it waits for",
            ],
        ),
        (
            |world| world.kubeadm_issuers = Probe::Present(vec![OLD.to_owned()]),
            &[
                "kubeadm-config has the issuers of the keyring, in order: it has https://kubernetes.default.svc.cluster.local, the keyring \
               https://oidc.example.com, https://kubernetes.default.svc.cluster.local: a node that joins, and kubeadm upgrade, take it from \
               there; the leader writes it, irsad status there says what it waits for",
            ],
        ),
        (
            |world| world.keyring.rotate_since = Some(at(-5 * DAY)),
            // The publish lead is over at 1 d 5 min.
            &[
                "every kube-apiserver is as the keyring wants it: n1 is to accept key k2, n2 is to accept key k2; irsad status there says \
               what it waits for",
            ],
        ),
        (
            |world| {
                world.keyring.keys[0].enter(KeyState::Draining, at(-2 * DAY));
                world.keyring.keys[0].unused_since = None;
            },
            &[
                "no key is overdue: key k0 waits until every node has proven that it signs with another key; irsad status of the leader \
               says what it waits for",
            ],
        ),
        (
            |world| world.control_plane = Probe::Unknown("no answer".to_owned()),
            &["unknown: irsad reports from every control-plane node: no answer"],
        ),
    ];
    for (edit, expected) in cases {
        let mut world = world();
        edit(&mut world);
        assert_eq!(broken(&world), expected);
    }
}

#[test]
fn nothing_is_said_to_hold_before_any_node_has_reported() {
    assert_eq!(
        broken(&World { acks: Vec::new(), ..world() }),
        [
            "skipped: every kube-apiserver accepts what every other one signs: no irsad has reported from a kube-apiserver that runs yet"
        ]
    );
}

#[test]
fn rollout_that_goes_on_is_no_failure_and_a_frozen_one_says_the_command() {
    let mut world = world();
    world.keyring.rotate_since = Some(at(0));
    world.keyring.rollout = Some(Rollout { holder: "n2".to_owned(), since: at(DAY - 30) });
    assert_eq!(
        broken(&world),
        [
            "skipped: every kube-apiserver is as the keyring wants it: n2 is being changed: kube-apiserver is to accept key k2"
        ]
    );
    world.acks[1].failure = Some("no proof in 300 s".to_owned());
    assert_eq!(
        broken(&world),
        [
            "every kube-apiserver is as the keyring wants it: n2: frozen, its change was taken back: no proof in 300 s; on n2: irsad resume; \
          only where that machine is gone for good, on another one: irsad resume --node n2"
        ]
    );
}

#[test]
fn what_needs_a_key_is_named_and_fails_when_its_time_is_over_or_it_is_refused() {
    let mut world = world();
    world.held = Probe::Present(vec![Held { kid: "k0".to_owned(), why: "Secret shop/legacy".to_owned() }]);
    assert_eq!(
        broken(&world),
        ["skipped: nothing needs key k0 any more: Secret shop/legacy; it stays accepted anyway"]
    );
    world.keyring.keys[0].unused_since = Some(at(-400 * DAY));
    assert_eq!(
        broken(&world),
        ["nothing needs key k0 any more: Secret shop/legacy; its time is over, and it stays accepted until then"]
    );
    world.keyring.keys[0].enter(KeyState::Revoked, at(0));
    let last = broken(&world).pop();
    assert_eq!(
        last.as_deref(),
        Some("nothing needs key k0 any more: Secret shop/legacy; that is refused, as the key is revoked")
    );
}
