//! Promises of the pod-identity webhook to a cluster of several control-plane nodes.

use serde_json::{Value, json};

use super::{super::*, Fleet};
use crate::model::{
    cluster_object::{OWNER_LABEL, StoredObject},
    webhook::{STARTING, WebhookState, built_in_place, called_at, trusted},
};

const PORT: u16 = 23_443;

fn serving(certificates: &[&str]) -> Option<WebhookState> {
    let certificates = certificates.iter().map(|name| (*name).to_owned()).collect();
    Some(WebhookState { port: PORT, certificates, problem: None })
}

/// An adopted cluster with a webhook server on each node; nothing is registered yet.
fn serving_fleet(count: usize) -> Fleet {
    let mut fleet = Fleet::adopted(count);
    fleet.desired.webhook = webhook_settings(Mode::BuiltIn);
    for node in &mut fleet.nodes {
        node.webhook = serving(&[&format!("certificate of {}", node.name)]);
    }
    fleet
}

fn registered_fleet(count: usize) -> Fleet {
    let mut fleet = serving_fleet(count);
    fleet.settle();
    assert_eq!(fleet.waits(), [""; 0]);
    fleet.cluster.done.clear();
    fleet
}

fn stored(fleet: &Fleet) -> Option<StoredObject> {
    fleet.cluster.get(&built_in_place()).present().cloned()
}

fn bundle(fleet: &Fleet) -> Vec<String> {
    stored(fleet).map(|stored| trusted(&stored).lines().map(str::to_owned).collect()).unwrap_or_default()
}

/// Changes the registration as somebody with `kubectl edit` does.
fn edit(fleet: &mut Fleet, change: impl FnOnce(&mut Value)) {
    let mut body = stored(fleet).expect("a registration").body().clone();
    change(&mut body);
    fleet.cluster.put(&built_in_place(), body);
}

#[test]
fn webhook_is_registered_once_every_api_server_has_one_beside_it() {
    let mut fleet = serving_fleet(3);
    fleet.nodes[1].webhook = None;
    fleet.nodes[2].webhook =
        Some(WebhookState { problem: Some("port 23443 is taken".to_owned()), ..serving(&["c"]).expect("a state") });
    assert!(fleet.rounds(20));
    assert_eq!(stored(&fleet), None);
    let expected = "for a pod-identity webhook beside every kube-apiserver before it is registered; there is none on n2 (its irsad serves \
                    none; the daemon is to run there, with webhook.mode builtIn), n3 (port 23443 is taken)";
    assert!(fleet.waits().contains(&expected.to_owned()), "{:?}", fleet.waits());

    fleet.nodes[1].webhook = serving(&["certificate of n2"]);
    fleet.nodes[2].webhook = serving(&["certificate of n3"]);
    fleet.settle();
    assert_eq!(fleet.cluster.done, ["register the pod-identity webhook of n1, n2, n3"]);
    assert_eq!(bundle(&fleet), ["certificate of n1", "certificate of n2", "certificate of n3"]);
    assert_eq!(fleet.waits(), [""; 0]);
}

#[test]
fn silent_node_and_one_with_another_port_are_named_before_anything_is_registered() {
    let mut fleet = serving_fleet(3);
    fleet.nodes[1].webhook.as_mut().expect("a webhook").port = 9;
    fleet.rounds(5);
    fleet.nodes[2].has_irsad = false;
    for _ in 0..3 {
        fleet.pass_time(3_600);
        assert!(fleet.rounds(20));
    }
    assert_eq!(stored(&fleet), None);
    let waits = fleet.waits();
    let said = waits.iter().find(|what| what.contains("there is none on")).expect("a sentence");
    assert!(
        said.contains("n2 (it listens on port 9 and not on 23443; webhook.port is to be the same on every node)"),
        "{said}"
    );
    assert!(
        said.contains("n3 (irsad has not reported from there for ") && said.contains("systemctl status irsad there)"),
        "{said}"
    );
}

#[test]
fn api_servers_call_the_port_of_before_until_every_node_is_configured_for_the_new_one() {
    let mut fleet = registered_fleet(3);
    let called = |fleet: &Fleet| stored(fleet).as_ref().and_then(called_at);
    let configure = |fleet: &mut Fleet, node: usize| {
        fleet.nodes[node].webhook.as_mut().expect("a webhook").port = 9;
        fleet.rounds(20);
    };
    configure(&mut fleet, 1);
    assert_eq!(called(&fleet), Some(PORT));
    // The leader's own.
    fleet.desired.webhook.port = 9;
    configure(&mut fleet, 0);
    assert_eq!(called(&fleet), Some(PORT));
    let text = "for one webhook.port on every node: n3 (it listens on port 23443 and not on 9; webhook.port is to be the same on every \
                node); until then kube-apiserver calls port 23443, and each node serves it";
    assert!(fleet.waits().contains(&text.to_owned()), "{:?}", fleet.waits());
    assert_eq!(fleet.plan(0).needs_a_person, [""; 0]);
    configure(&mut fleet, 2);
    assert_eq!((called(&fleet), fleet.waits()), (Some(9), vec![]));
}

#[test]
fn node_that_joins_late_is_added_when_it_reports_and_one_that_leaves_is_taken_out() {
    let mut fleet = registered_fleet(3);
    let mut late = fleet.nodes[2].clone();
    (late.name, late.machine, late.webhook) =
        ("n4".to_owned(), "machine-4".to_owned(), serving(&["certificate of n4"]));
    late.manifest = late.manifest.map(|text| text.replace("192.0.2.3", "192.0.2.4"));
    late.has_irsad = false;
    late.leads = false;
    fleet.nodes.push(late);
    fleet.rounds(5);
    let text = "kube-apiserver of n4 has no pod-identity webhook to call (irsad has not reported from there; install and start it): pods \
                that are created through it get no credentials; the registration stays for the other nodes";
    let plan = fleet.plan(0);
    assert!(plan.waiting_for.contains(&text.to_owned()) && plan.needs_a_person.is_empty(), "{plan:?}");
    fleet.pass_time(700);
    let plan = fleet.plan(0);
    assert!(plan.needs_a_person.contains(&text.to_owned()), "{plan:?}");
    assert_eq!((bundle(&fleet).len(), fleet.cluster.done.len()), (3, 0), "the registration stays as it is");

    fleet.nodes[3].has_irsad = true;
    fleet.settle();
    assert_eq!(bundle(&fleet)[3], "certificate of n4");
    assert_eq!(fleet.waits(), [""; 0]);

    fleet.nodes.remove(1);
    fleet.settle();
    assert_eq!(bundle(&fleet), ["certificate of n1", "certificate of n3", "certificate of n4"]);
}

#[test]
fn daemon_that_stops_leaves_registration_and_certificate_and_is_said() {
    let mut fleet = registered_fleet(3);
    fleet.nodes[2].has_irsad = false;
    for _ in 0..3 {
        fleet.pass_time(3_600);
        fleet.rounds(20);
    }
    assert_eq!((bundle(&fleet).len(), fleet.cluster.done.len()), (3, 0));
    let plan = fleet.plan(0);
    let named = plan
        .needs_a_person
        .iter()
        .any(|why| why.starts_with("kube-apiserver of n3 has no pod-identity webhook to call"));
    assert!(named, "{plan:?}");
}

#[test]
fn certificate_of_a_daemon_that_is_starting_stays_trusted_and_nobody_is_called_for_it() {
    let mut fleet = registered_fleet(3);
    let trusted = bundle(&fleet);
    for port in [PORT, 9] {
        let problem = Some(STARTING.to_owned());
        fleet.nodes[1].webhook = Some(WebhookState { port, problem, certificates: Vec::new() });
        fleet.rounds(20);
        assert_eq!((bundle(&fleet), fleet.cluster.done.len()), (trusted.clone(), 0));
        assert_eq!(fleet.plan(0).needs_a_person, [""; 0]);
    }
}

#[test]
fn renewed_certificate_is_trusted_beside_the_old_one_until_its_node_drops_that() {
    let mut fleet = registered_fleet(3);
    fleet.nodes[1].webhook = serving(&["certificate of n2", "next of n2"]);
    fleet.settle();
    assert_eq!(bundle(&fleet), ["certificate of n1", "certificate of n2", "next of n2", "certificate of n3"]);
    fleet.nodes[1].webhook = serving(&["next of n2"]);
    fleet.settle();
    assert_eq!(bundle(&fleet), ["certificate of n1", "next of n2", "certificate of n3"]);
    assert_eq!(fleet.cluster.done, ["bring the registration of the pod-identity webhook up to date"; 2]);
}

#[test]
fn whatever_somebody_changes_in_the_registration_is_mended() {
    let changes: [fn(&mut Value); 11] = [
        |body| body["webhooks"][0]["failurePolicy"] = json!("Fail"),
        |body| body["webhooks"][0]["clientConfig"]["caBundle"] = json!(""),
        |body| body["webhooks"][0]["clientConfig"] = json!({ "service": { "name": "a", "namespace": "b" } }),
        |body| body["webhooks"][0]["matchConditions"].as_array_mut().expect("a list").push(json!({ "name": "x" })),
        |body| body["webhooks"].as_array_mut().expect("a list").push(json!({ "name": "other.example.com" })),
        |body| body["webhooks"][0]["namespaceSelector"] = json!({ "matchLabels": { "a": "b" } }),
        |body| body["webhooks"][0]["rules"].as_array_mut().expect("a list").push(json!({})),
        |body| body["webhooks"] = json!([]),
        |body| body["webhooks"][1]["failurePolicy"] = json!("Fail"),
        |body| body["webhooks"][1]["objectSelector"] = json!({ "matchLabels": { "a": "b" } }),
        |body| drop(body["webhooks"].as_array_mut().expect("a list").pop()),
    ];
    let mut fleet = registered_fleet(2);
    let wanted = stored(&fleet).expect("a registration").body()["webhooks"].clone();
    for (number, change) in changes.into_iter().enumerate() {
        edit(&mut fleet, change);
        fleet.settle();
        assert_eq!(stored(&fleet).expect("a registration").body()["webhooks"], wanted, "change {number}");
    }
    fleet.cluster.stored.remove(&built_in_place().path());
    fleet.settle();
    assert_eq!(stored(&fleet).expect("a registration").body()["webhooks"], wanted);
    // Labels and annotations of others are theirs, and what the API server adds is no difference.
    edit(&mut fleet, |body| {
        body["metadata"]["labels"]["team"] = json!("x");
        body["webhooks"][0]["rules"][0]["more"] = json!("default");
    });
    fleet.cluster.done.clear();
    fleet.settle();
    assert_eq!(fleet.cluster.done, [""; 0]);
}

#[test]
fn object_of_somebody_else_is_left_as_it_is_in_every_mode() {
    for mode in [Mode::BuiltIn, Mode::Upstream, Mode::None] {
        let mut fleet = serving_fleet(2);
        fleet.desired.webhook.mode = mode;
        (fleet.cluster.pods_start, fleet.cluster.pods_answer) = (true, true);
        let places =
            [built_in_place(), fleet.desired.webhook.upstream.deployment_place(), Upstream::configuration_place()];
        for place in &places {
            fleet.cluster.put(place, json!({ "metadata": { "name": "theirs" } }));
        }
        fleet.cluster.pods_start = true;
        fleet.rounds(30);
        for place in &places {
            let found = fleet.cluster.get(place);
            assert_eq!(found.present().map(|stored| stored.body()["metadata"]["name"].clone()), Some(json!("theirs")));
        }
        let said =
            fleet.plan(0).needs_a_person.iter().any(|why| why.contains("was made by somebody else (left as it is)"));
        assert_eq!(said, mode != Mode::None, "{mode:?}");
    }
}

#[test]
fn kube_apiserver_that_cannot_reach_loopback_is_a_matter_for_a_person_and_nothing_is_registered() {
    let mut fleet = serving_fleet(2);
    fleet.nodes[1].out_of_reach = Some("n2 has no hostNetwork".to_owned());
    assert!(fleet.rounds(20));
    assert_eq!(stored(&fleet), None);
    assert_eq!(fleet.plan(1).needs_a_person, ["n2 has no hostNetwork"]);
    assert!(fleet.plan(0).waiting_for.iter().any(|what| what.contains("n2 (n2 has no hostNetwork)")));
}

#[test]
fn modes_change_without_a_moment_in_which_nobody_is_registered() {
    let mut fleet = registered_fleet(3);
    let upstream = Upstream::configuration_place();
    fleet.cluster.stays_registered = true;
    fleet.desired.webhook.mode = Mode::Upstream;
    fleet.rounds(10);
    assert!(stored(&fleet).is_some(), "no pod of the upstream webhook runs yet");
    assert!(fleet.plan(0).waiting_for[0].starts_with("for a ready pod of Deployment kube-system/pod-identity-webhook"));

    fleet.cluster.pods_start = true;
    let deployment = fleet.desired.webhook.upstream.deployment_place();
    let body = fleet.cluster.get(&deployment).present().expect("a Deployment").body().clone();
    fleet.cluster.put(&deployment, body);
    fleet.rounds(10);
    assert_eq!(fleet.plan(0).waiting_for, ["the upstream webhook does not answer a review: no answer"]);
    assert!(stored(&fleet).is_some() && fleet.cluster.get(&upstream) == Probe::Absent);

    fleet.cluster.pods_answer = true;
    fleet.settle();
    let done: Vec<&str> = fleet.cluster.done.iter().map(String::as_str).collect();
    assert_eq!(
        done[done.len() - 2..],
        ["register the upstream webhook", "delete MutatingWebhookConfiguration irsad-pod-identity"]
    );
    assert_eq!((stored(&fleet), fleet.waits()), (None, Vec::new()));

    fleet.cluster.done.clear();
    fleet.desired.webhook.mode = Mode::BuiltIn;
    fleet.settle();
    let expected = [
        "register the pod-identity webhook of n1, n2, n3",
        "delete MutatingWebhookConfiguration irsad-pod-identity-upstream",
    ];
    assert_eq!(fleet.cluster.done, expected);
    fleet.pass_time(60);
    fleet.settle();
    assert_eq!(fleet.cluster.done[2], "delete Secret kube-system/pod-identity-webhook", "{:?}", fleet.cluster.done);
    // The registration, and the Namespace, which may hold what others need.
    assert_eq!(fleet.cluster.stored.len(), 2, "{:?}", fleet.cluster.stored.keys());
}

#[test]
fn mode_none_removes_what_is_ours_and_nothing_else() {
    let mut fleet = registered_fleet(2);
    (fleet.cluster.pods_start, fleet.cluster.pods_answer) = (true, true);
    fleet.desired.webhook.mode = Mode::Upstream;
    fleet.settle();
    let service = fleet.desired.webhook.upstream.objects()[4].place().clone();
    let mut theirs = fleet.cluster.get(&service).present().expect("a Service").body().clone();
    theirs["metadata"]["labels"][OWNER_LABEL] = json!("somebody");
    fleet.cluster.put(&service, theirs);
    fleet.desired.webhook.mode = Mode::None;
    fleet.settle();
    fleet.pass_time(120);
    fleet.settle();
    assert_eq!(fleet.cluster.stored.keys().collect::<Vec<_>>(), ["/api/v1/namespaces/kube-system", &service.path()]);
    assert_eq!(fleet.waits(), [""; 0]);
}

#[test]
fn upstream_certificate_is_trusted_before_it_is_served_and_the_old_one_stays_trusted() {
    let mut fleet = registered_fleet(1);
    (fleet.cluster.pods_start, fleet.cluster.pods_answer) = (true, true);
    fleet.desired.webhook.mode = Mode::Upstream;
    fleet.settle();
    let certificates = |fleet: &Fleet| {
        let found = fleet.facts(0).webhook.upstream.expect("facts");
        let trusted = found.configuration.present().map(trusted).unwrap_or_default();
        (found.certificates.present().cloned().expect("certificates"), trusted)
    };
    let (first, _) = certificates(&fleet);
    fleet.pass_time(61 * 86_400);
    fleet.cluster.done.clear();
    let mut served = vec![first.current.clone()];
    for _ in 0..10 {
        fleet.pass(0, 1);
        let (now, trusted) = certificates(&fleet);
        assert!(trusted.contains(&now.current), "the pods serve what no API server trusts");
        if served.last() != Some(&now.current) {
            assert!(trusted.contains(&first.current), "a pod that has not read the new one is not trusted any more");
            served.push(now.current);
        }
    }
    assert_eq!(served.len(), 2);
    let (last, trusted) = certificates(&fleet);
    assert_eq!((last.next, last.previous), (None, Some(first.current)));
    assert_eq!(trusted.lines().count(), 2);
}

#[test]
fn node_serves_as_long_as_its_api_server_is_told_to_call_it() {
    let mut fleet = registered_fleet(1);
    for (mode, is_registered, serves) in [
        (Mode::BuiltIn, true, Some(true)),
        (Mode::Upstream, true, Some(true)),
        (Mode::None, true, Some(true)),
        (Mode::BuiltIn, false, Some(true)),
        (Mode::None, false, Some(false)),
    ] {
        let facts = fleet.facts(0).webhook;
        let built_in = if is_registered { facts.built_in.clone() } else { Probe::Absent };
        assert_eq!(WebhookFacts { built_in, ..facts }.must_serve(mode), serves, "{mode:?}");
    }
    fleet.cluster.stored.clear();
    let unknown = WebhookFacts { built_in: Probe::Unknown("503".to_owned()), ..fleet.facts(0).webhook };
    assert_eq!((unknown.must_serve(Mode::None), unknown.must_serve(Mode::BuiltIn)), (None, Some(true)));
}

#[test]
fn fail_never_stands_in_the_way_of_the_control_plane() {
    let mut fleet = serving_fleet(1);
    fleet.desired.webhook.failure_policy = FailurePolicy::Fail;
    fleet.desired.webhook.exempt_namespaces = vec!["tools".to_owned()];
    fleet.settle();
    let selector = stored(&fleet).expect("a registration").body()["webhooks"][0]["namespaceSelector"].clone();
    let expected =
        json!([{ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "tools"] }]);
    assert_eq!(selector["matchExpressions"], expected);
}
