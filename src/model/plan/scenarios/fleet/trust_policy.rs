//! What becomes of the ConfigMap with the trust policy.

use serde_json::{Value, json};

use super::{teardown::WAIT, world::Fleet, *};
use crate::model::{
    cluster_object::{OWNER, OWNER_LABEL, StoredObject},
    trust_policy::{TRUST_POLICY_KEY, boilerplate_place},
};

const ARN: &str = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com";
const WHAT: &str = "write the trust policy for roles of this cluster to ConfigMap kube-system/irsad-trust-policy";

/// What node `number` of a cluster that is as it should be does about it.
fn planned(number: usize, stored: Option<Probe<StoredObject>>) -> Plan {
    let mut fleet = Fleet::of_kubeadm(2);
    fleet.settle();
    let trust_policy = stored.map(|stored| TrustPolicyFacts { provider_arn: ARN.to_owned(), stored });
    let audiences: Vec<_> = ["sts.amazonaws.com"].iter().filter_map(|audience| audience.parse().ok()).collect();
    let provider = ProviderFacts { audiences: audiences.clone(), is_ours: true };
    fleet.provider = Some(provider);
    let wanted = Some(DesiredProvider { audiences, tags: Vec::new() });
    let desired = Desired { provider: wanted, ..fleet.desired.clone() };
    plan(&desired, &Facts { trust_policy, ..fleet.facts(number) }, fleet.now)
}

/// The object that is applied, and the one that it replaces.
fn applied(plan: &Plan) -> Option<(Value, Option<String>)> {
    match plan.actions.as_slice() {
        [] => None,
        [Action::ApplyObject { object, replaces, what }] => {
            assert_eq!((object.place(), what.as_str()), (&boilerplate_place(), WHAT));
            Some((object.body().clone(), replaces.clone()))
        }
        other => panic!("{other:?}"),
    }
}

fn stored(body: Value) -> Option<Probe<StoredObject>> {
    Some(Probe::Present(StoredObject::new(body)))
}

#[test]
fn trust_policy_is_written_once_healed_and_never_taken_from_somebody_else() {
    let (wanted, replaces) = applied(&planned(0, Some(Probe::Absent))).expect("an action");
    assert_eq!(replaces, None);
    let text = wanted["data"][TRUST_POLICY_KEY].as_str().expect("a policy");
    assert!(text.contains(ARN) && text.contains("${SERVICE_ACCOUNT_NAME}"), "{text}");

    let mut as_stored = wanted.clone();
    as_stored["metadata"]["uid"] = json!("u1");
    as_stored["data"]["theirs"] = json!("beside it");
    assert!(planned(0, stored(as_stored.clone())).is_converged());

    as_stored["data"][TRUST_POLICY_KEY] = json!("edited");
    let healed = applied(&planned(0, stored(as_stored.clone()))).expect("an action");
    assert_eq!(healed, (wanted, Some("u1".to_owned())));

    assert_eq!(as_stored["metadata"]["labels"][OWNER_LABEL], OWNER);
    as_stored["metadata"]["labels"] = json!({});
    let plan = planned(0, stored(as_stored));
    assert!(plan.is_converged(), "{plan:?}");
    let notice = "ConfigMap kube-system/irsad-trust-policy was made by somebody else (left as it is): it lacks the label \
                  app.kubernetes.io/managed-by: irsad; delete it, and irsad makes its own";
    assert_eq!(plan.notices, [notice]);
}

#[test]
fn trust_policy_that_could_not_be_looked_at_or_asked_for_is_nothing_to_do() {
    let unknown = Some(Probe::Unknown("kube-apiserver is down".to_owned()));
    let notice = "ConfigMap kube-system/irsad-trust-policy could not be looked at: kube-apiserver is down";
    for (number, found, notices) in [(0, None, vec![]), (0, unknown, vec![notice]), (1, Some(Probe::Absent), vec![])] {
        let plan = planned(number, found);
        assert!(plan.is_converged(), "{plan:?}");
        assert_eq!(plan.notices, notices);
    }
}

#[test]
fn trust_policy_of_a_cluster_that_goes_back_is_removed_where_it_is_ours() {
    let mut fleet = Fleet::with_provider(2);
    fleet.ask(&WAIT);
    fleet.settle();
    let is_removed = |labels: Value| {
        let body = json!({ "metadata": { "uid": "u1", "resourceVersion": "7", "labels": labels }, "data": {} });
        let stored = Probe::Present(StoredObject::new(body));
        let trust_policy = Some(TrustPolicyFacts { provider_arn: ARN.to_owned(), stored });
        let plan = plan(&fleet.desired, &Facts { trust_policy, ..fleet.facts(0) }, fleet.now);
        plan.actions.iter().any(
            |action| matches!(action, Action::DeleteObject { place, uid, .. } if (place, uid.as_str()) == (&boilerplate_place(), "u1")),
        )
    };
    assert!(is_removed(json!({ (OWNER_LABEL): OWNER })));
    assert!(!is_removed(json!({})));
}
