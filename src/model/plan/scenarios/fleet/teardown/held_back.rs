//! What is not certain, or not ours, is not removed.

use super::*;
use crate::model::{keyring, memory::LastKeyring};

/// A provider of another URL whose issuer lies in our bucket all the same.
const BY_PATH: &str = "arn:aws:iam::123456789012:oidc-provider/s3.eu-west-1.amazonaws.com/prod-1-oidc";

#[test]
fn nothing_is_removed_while_a_member_has_not_just_proven_that_it_signs_as_before() {
    let mut fleet = Fleet::with_provider(3);
    let adopted = fleet.nodes[2].manifest.clone();
    fleet.ask(&WAIT);
    fleet.settle();
    fleet.pass_time(2 * DAY);
    let acts = |fleet: &Fleet| -> Vec<&'static str> {
        let plan = fleet.plan(0);
        plan.actions.iter().map(Action::name).filter(|name| name.starts_with("delete")).collect()
    };
    let wait =
        |nodes: &str| format!("for kube-apiserver of {nodes} to prove that it signs as {OLD}, before more is removed");
    fleet.pass(1, usize::MAX);
    // The third is silent.
    assert_eq!((acts(&fleet), fleet.plan(0).waiting_for), (vec![], vec![wait("n3")]));
    // A person has put the manifest of before back, after the last token had its time.
    fleet.nodes[2].manifest = adopted;
    let now = fleet.now;
    fleet.nodes[2].stop(now, 1);
    fleet.pass_time(60);
    let (ack, _) = fleet.acks.get_mut("n3").expect("evidence");
    (ack.at, ack.issuers) = (fleet.now, vec![OURS.to_owned(), OLD.to_owned()]);
    assert_eq!((acts(&fleet), fleet.plan(0).waiting_for), (vec![], vec![wait("n3")]));
    fleet.outlive();
    fleet.assert_torn_down();
}

#[test]
fn nodes_that_are_not_known_keep_what_is_to_be_removed() {
    let mut fleet = Fleet::with_provider(1);
    fleet.ask(&WAIT);
    fleet.settle();
    fleet.pass_time(2 * DAY);
    let mut facts = fleet.facts(0);
    let Shared::Seen(shared) = &mut facts.shared else { panic!("nothing is shared") };
    shared.control_plane = Probe::Unknown("no answer".to_owned());
    let plan = plan(&fleet.desired, &facts, fleet.now);
    assert!(plan.actions.iter().all(|action| !action.name().starts_with("delete")), "{:?}", plan.actions);
    assert!(plan.waiting_for.contains(&"for a closer look at the control plane".to_owned()), "{:?}", plan.waiting_for);
}

#[test]
fn clock_that_is_ahead_removes_nothing() {
    let mut fleet = Fleet::with_provider(1);
    fleet.ask(&WAIT);
    fleet.settle();
    fleet.pass_time(2 * DAY);
    let mut facts = fleet.facts(0);
    let Some(Probe::Present(public)) = &mut facts.cluster.public_jwks else { panic!("no public document") };
    public.date = fleet.now.checked_sub(SignedDuration::from_hours(48)).ok();
    let plan = plan(&fleet.desired, &facts, fleet.now);
    assert!(plan.actions.iter().all(|action| !action.name().starts_with("delete")), "{:?}", plan.actions);
    let expected = "for this machine's clock, before more is removed: this machine's clock differs by 172800 s from the one of the issuer's \
                    server: no key is retired or put to use; set the clock (chronyc tracking)";
    assert!(plan.waiting_for.contains(&expected.to_owned()), "{:?}", plan.waiting_for);
}

#[test]
fn bucket_stays_while_something_else_points_at_it() {
    type Case = (fn(&mut Fleet), &'static str);
    let cases: [Case; 3] = [
        (
            |fleet| {
                fleet.pointing = Probe::Present(vec![BY_PATH.to_owned()]);
                fleet.ask(&WAIT);
            },
            "bucket prod-1-oidc stays: the issuer of IAM OIDC provider \
             arn:aws:iam::123456789012:oidc-provider/s3.eu-west-1.amazonaws.com/prod-1-oidc lies in it, and whoever took its name could \
             speak for that one; if nothing needs it any more, aws iam delete-open-id-connect-provider --open-id-connect-provider-arn ARN, \
             then delete the bucket",
        ),
        (
            |fleet| {
                let issuer = Some("https://s3.eu-west-1.amazonaws.com/prod-1-oidc/before".to_owned());
                fleet.ask(&WantedTeardown { issuer, ..WAIT });
            },
            "bucket prod-1-oidc stays: issuer https://s3.eu-west-1.amazonaws.com/prod-1-oidc/before lies in it, and who took its name could \
             speak for that one",
        ),
        (
            |fleet| {
                fleet.desired.bucket.as_mut().expect("a bucket").public_by_policy = false;
                fleet.ask(&WAIT);
            },
            "bucket prod-1-oidc stays: issuer.access is external, and what stands in front of it would serve what the next owner of its \
             name puts there; take that away, then the bucket",
        ),
    ];
    for (change, expected) in cases {
        let mut fleet = Fleet::with_provider(2);
        change(&mut fleet);
        fleet.outlive();
        assert!(fleet.bucket.is_some() && fleet.objects.is_empty(), "{expected}");
        let remains = fleet.nodes[1].torn_down.as_ref().expect("torn down").remains.clone();
        assert!(remains.contains(&expected.to_owned()), "{remains:?}");
    }
}

#[test]
fn bucket_stays_until_it_could_be_asked_who_else_points_at_it() {
    let mut fleet = Fleet::with_provider(1);
    fleet.pointing = Probe::Unknown("AWS is away".to_owned());
    fleet.ask(&WAIT);
    fleet.outlive();
    assert!(fleet.bucket.is_some() && fleet.provider.is_none() && fleet.objects.is_empty());
    let expected = "AWS is away; irsad teardown --keep-bucket goes on without it".to_owned();
    assert!(fleet.waits().contains(&expected), "{:?}", fleet.waits());
    fleet.pointing = Probe::Absent;
    fleet.outlive();
    fleet.assert_torn_down();
    assert_eq!(fleet.bucket, None);
}

#[test]
fn node_that_remembers_an_earlier_teardown_deletes_no_keyring_that_is_in_use() {
    let mut fleet = Fleet::with_provider(1);
    fleet.ask(&WAIT);
    fleet.outlive();
    let torn_down = fleet.nodes[0].torn_down.clone().expect("torn down");
    let mut fleet = Fleet::with_provider(1);
    fleet.ask(&WAIT);
    fleet.settle();
    fleet.nodes[0].torn_down = Some(torn_down);
    // The world of before: a restore of etcd has brought the keyring back.
    let plan = fleet.plan(0);
    let (found, known) = (fleet.state().generation, torn_down_generation(&fleet));
    let expected = format!(
        "the keyring, generation {found}, is of before the teardown, which ended with generation {known}: etcd or its store was restored \
         (nothing changed, kube-apiserver signs as {OLD}); to have irsad's issuer again, on every node rm /var/lib/irsad/torn-down.json and \
         systemctl reload irsad, to be without it, irsad teardown after that, or take irsad off the nodes"
    );
    assert_eq!((plan.actions, plan.needs_a_person), (Vec::new(), vec![expected.clone()]));
    let facts = fleet.facts(0);
    let checks = checks::teardown(&fleet.desired, &facts, fleet.now).expect("checks of a teardown");
    assert!(checks.iter().any(|check| check.outcome == Outcome::Fails(expected.clone())), "{checks:?}");
    fleet.settle();
    assert!(fleet.keyring.is_some() && fleet.provider.is_some());
    fleet.nodes[0].torn_down = None;
    fleet.settle();
    fleet.outlive();
    fleet.assert_torn_down();
    let checks = checks::teardown(&fleet.desired, &fleet.facts(0), fleet.now).expect("checks of a teardown");
    assert!(checks.iter().all(|check| !matches!(check.outcome, Outcome::Fails(_))), "{checks:?}");
}

#[test]
fn node_that_remembers_a_teardown_makes_no_roles_and_changes_no_pods_for_the_keyring_of_before() {
    let torn_down = {
        let mut ended = Fleet::with_provider(1);
        ended.ask(&WAIT);
        ended.outlive();
        ended.nodes[0].torn_down.clone()
    };
    let mut fleet = Fleet::with_provider(1);
    for (remembered, expected) in [(None, true), (torn_down, false)] {
        fleet.nodes[0].torn_down = remembered;
        assert_eq!(is_in_use(&fleet.desired, &fleet.facts(0), fleet.now), expected);
    }
    assert!(!fleet.plan(0).needs_a_person.is_empty());
}

fn torn_down_generation(fleet: &Fleet) -> u64 {
    let torn_down = fleet.nodes[0].torn_down.as_ref().expect("torn down");
    torn_down.keyring.as_ref().expect("the keyring of the teardown").generation
}

#[test]
fn keyring_of_another_cluster_is_not_begun_anew_with_and_one_that_continues_is() {
    let mut fleet = Fleet::with_provider(1);
    fleet.ask(&WAIT);
    fleet.settle();
    let bytes = fleet.keyring.clone().expect("a keyring");
    let mut torn_down = {
        let mut other = Fleet::with_provider(1);
        other.ask(&WAIT);
        other.outlive();
        other.nodes[0].torn_down.clone().expect("torn down")
    };
    let generation = fleet.state().generation;
    for (known, hash, forgets) in [
        (generation, keyring::hash(&bytes), true),
        (generation, keyring::hash(b"another"), false),
        (generation - 1, keyring::hash(b"another"), false),
    ] {
        torn_down.keyring = Some(LastKeyring { generation: known, hash });
        fleet.nodes[0].torn_down = Some(torn_down.clone());
        let plan = fleet.plan(0);
        assert_eq!((plan.actions == [Action::ForgetTornDown], plan.needs_a_person.is_empty()), (forgets, forgets));
        let begins = format!("the keyring, generation {generation}, is not the one of the teardown (nothing changed,");
        assert!(plan.needs_a_person.iter().all(|why| why.starts_with(&begins)), "{:?}", plan.needs_a_person);
    }
    torn_down.keyring = None;
    fleet.nodes[0].torn_down = Some(torn_down);
    assert_eq!(fleet.plan(0).actions, [Action::ForgetTornDown], "an earlier irsad wrote it");
}

#[test]
fn webhook_that_was_not_asked_for_is_not_taken_for_gone() {
    let mut fleet = Fleet::with_provider(1);
    fleet.ask(&WAIT);
    fleet.settle();
    fleet.pass_time(2 * DAY);
    let mut facts = fleet.facts(0);
    facts.webhook.upstream = None;
    let plan = plan(&fleet.desired, &facts, fleet.now);
    let expected = "for the pod-identity webhook to be removed".to_owned();
    assert!(plan.waiting_for.contains(&expected), "{:?}", plan.waiting_for);
}

#[test]
fn jwks_with_keys_of_somebody_else_stays_where_no_discovery_document_says_that_it_is_ours() {
    let mut fleet = Fleet::with_provider(2);
    fleet.ask(&WAIT);
    fleet.settle();
    let theirs = Jwks::of([&key(0), &key(2)]).expect("a JWKS").render();
    fleet.pass_time(2 * DAY);
    fleet.objects.remove(DISCOVERY_PATH);
    fleet.objects.insert("openid/v1/jwks".to_owned(), theirs);
    fleet.settle();
    assert_eq!(fleet.objects.keys().collect::<Vec<_>>(), ["openid/v1/jwks"]);
    let remains = fleet.nodes[1].torn_down.as_ref().expect("torn down").remains.clone();
    let expected =
        "openid/v1/jwks in s3://prod-1-oidc stays: it has keys that the keyring does not know; see whose they are";
    assert!(remains.contains(&expected.to_owned()), "{remains:?}");
}

#[test]
fn kubeadm_configuration_of_others_is_named_with_the_issuer_that_signs_again() {
    type Case = (fn(&mut Fleet), &'static str);
    let cases: [Case; 2] = [
        (|fleet| fleet.is_of_cluster_api = true, "KubeadmControlPlane, spec.kubeadmConfigSpec.clusterConfiguration"),
        (|fleet| fleet.desired.kubeadm_config = false, "ConfigMap kube-system/kubeadm-config"),
    ];
    for (change, place) in cases {
        let mut fleet = Fleet::with_provider(2);
        change(&mut fleet);
        fleet.ask(&WAIT);
        fleet.settle();
        let notices = fleet.plan(0).notices;
        let of_kubeadm: Vec<_> = notices.iter().filter(|what| what.starts_with("kubeadm upgrade")).collect();
        let begins = format!(
            "kubeadm upgrade and kubeadm join would write manifests without issuer {OLD}, whose tokens are then refused"
        );
        assert!(of_kubeadm.iter().all(|what| what.starts_with(&begins)), "{notices:?}");
        assert_eq!(of_kubeadm.len(), usize::from(fleet.is_of_cluster_api), "{notices:?}");
        fleet.outlive();
        let remains = fleet.nodes[1].torn_down.as_ref().expect("torn down").remains.clone();
        let expected = format!(
            "{place}: put --service-account-issuer {OLD}, then {OURS} into apiServer.extraArgs, in this order: kubeadm upgrade and kubeadm \
             join write manifests from there"
        );
        assert!(remains.contains(&expected), "{remains:?}");
    }
}
