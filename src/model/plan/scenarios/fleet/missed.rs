//! What is done about pods without the credentials that they should have.

use super::{world::Fleet, *};
use crate::model::missed_pods::{MissedPod, MissedPods, Why};

fn missed(number: usize) -> MissedPod {
    MissedPod {
        name: format!("shop/p{number}").parse().expect("a name"),
        uid: number.to_string(),
        service_account: "checkout".to_owned(),
        why: Why::BeforeRole,
        cure: "a command".to_owned(),
    }
}

fn found(told: &[&str]) -> PodsFacts {
    let missed = MissedPods { count: 2, named: vec![missed(0), missed(1)], ..MissedPods::default() };
    PodsFacts { missed, told: told.iter().map(|uid| (*uid).to_owned()).collect(), ..PodsFacts::default() }
}

/// What node `number` of a cluster that is as it should be does about its pods.
fn planned(number: usize, pods: Option<Probe<PodsFacts>>) -> Plan {
    let mut fleet = Fleet::of_kubeadm(2);
    fleet.settle();
    plan(&fleet.desired, &Facts { pods, ..fleet.facts(number) }, fleet.now)
}

#[test]
fn each_missed_pod_is_told_of_once_and_by_the_leader_alone() {
    for (number, told, expected) in
        [(0, &[][..], &["0", "1"][..]), (0, &["0"], &["1"]), (0, &["0", "1"], &[]), (1, &[], &[])]
    {
        let plan = planned(number, Some(Probe::Present(found(told))));
        let uids = |action: &Action| match action {
            Action::TellOfMissedPods { pods, .. } => pods.iter().map(|pod| pod.uid.clone()).collect(),
            other => vec![other.to_string()],
        };
        assert_eq!(plan.actions.iter().flat_map(uids).collect::<Vec<_>>(), expected);
        assert!(plan.is_ready(), "{plan:?}");
    }
}

#[test]
fn pods_that_were_not_looked_at_are_nothing_to_do() {
    let unknown = Probe::Unknown("kube-apiserver is down".to_owned());
    let notice = "pods without AWS credentials could not be looked for: kube-apiserver is down";
    for (pods, notices) in [(None, vec![]), (Some(unknown), vec![notice])] {
        let plan = planned(0, pods);
        assert!(plan.is_converged(), "{plan:?}");
        assert_eq!(plan.notices, notices);
    }
}
