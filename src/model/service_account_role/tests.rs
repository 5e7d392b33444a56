use serde_json::json;

use super::*;
use crate::model::cluster_object::{ClusterObject, OWNER, OWNER_LABEL, StoredObject};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const ANNOTATION: &str = "eks.amazonaws.com/role-arn";
const ARN: &str = "arn:aws:iam::111122223333:role/irsad/prod-1/prod-1-checkout";

fn object(name: &str, created_at: &str, spec: Value) -> Outcome<ServiceAccountRole> {
    let metadata =
        json!({ "name": name, "uid": format!("u-{name}"), "generation": 3, "creationTimestamp": created_at });
    Ok(serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))?)
}

fn checkout(more: Value) -> Outcome<ServiceAccountRole> {
    let mut spec =
        json!({ "roleName": "prod-1-checkout", "serviceAccounts": [{ "namespace": "shop", "name": "checkout" }] });
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    object("checkout", "2026-11-21T12:00:00Z", spec)
}

fn account(role_arn: Option<&str>, mark: Option<&str>, is_made: bool) -> SeenAccount {
    SeenAccount { uid: "u".to_owned(), role_arn: role_arn.map(str::to_owned), mark: mark.map(str::to_owned), is_made }
}

#[test]
fn object_is_read_with_its_defaults_and_one_that_is_not_understood_loses_nothing() -> Outcome {
    let found = checkout(json!({}))?;
    let spec = found.spec.clone()?;
    assert_eq!((spec.deletion_policy, spec.create_service_accounts), (DeletionPolicy::Delete, true));
    assert_eq!((found.is_deleted, found.is_held(), found.generation), (false, false, 3));

    let other = checkout(json!({ "serviceAccounts": [{ "namespace": "../x", "name": "y" }] }))?;
    assert!(other.spec.is_err() && other.accounts().is_empty());
    assert_eq!(other.deletion_policy(), DeletionPolicy::Keep);
    Ok(())
}

#[test]
fn of_two_objects_with_one_role_or_account_the_older_has_it() -> Outcome {
    let spec = |role: &str, accounts: &[&str]| {
        let accounts: Vec<Value> = accounts.iter().map(|name| json!({ "namespace": "shop", "name": name })).collect();
        json!({ "roleName": role, "serviceAccounts": accounts })
    };
    // IAM does not tell names apart by their case.
    let objects = [
        object("young", "2026-11-21T12:00:02Z", spec("R1", &["a", "c"]))?,
        object("old", "2026-11-21T12:00:01Z", spec("r1", &["a", "b"]))?,
        object("same-second", "2026-11-21T12:00:01Z", spec("r2", &["b"]))?,
    ];
    let claims = Claims::of(&objects);
    let shop = |name: &str| AccountName::new("shop", name);
    assert_eq!(claims.against(&objects[1]), Claim::default());
    assert_eq!(
        claims.against(&objects[0]),
        Claim { role_of: Some("old".to_owned()), accounts_of: vec![(shop("a")?, "old".to_owned())] }
    );
    assert_eq!(claims.against(&objects[2]).accounts_of, [(shop("b")?, "old".to_owned())]);

    let mut first = object("z-first", "2026-11-21T12:00:03Z", spec("r3", &["d"]))?;
    first.status.role_arn = Some("arn:aws:iam::123456789012:role/irsad/prod-1/r3".to_owned());
    let second = object("second", "2026-11-21T12:00:03Z", spec("r3", &["d"]))?;
    let claim = Claims::of([&second, &first]).against(&second);
    assert_eq!(
        (claim.role_of.as_deref(), claim.accounts_of),
        (Some("z-first"), vec![(shop("d")?, "z-first".to_owned())])
    );
    Ok(())
}

#[test]
fn account_is_made_annotated_mended_or_left_alone() -> Outcome {
    let name = AccountName::new("shop", "checkout")?;
    let annotate = |is_ours, is_made| {
        Ok(vec![AccountStep::Annotate { name: name.clone(), uid: "u".to_owned(), is_ours, is_made }])
    };
    let other = "arn:aws:iam::111122223333:role/other";
    let taken = Hindrance::OtherRole { name: name.clone(), arn: other.to_owned(), annotation: ANNOTATION.to_owned() };
    for (seen, makes, arn, expected) in [
        (None, true, Some(ARN), Ok(vec![AccountStep::Make(name.clone())])),
        (None, true, None, Ok(vec![])),
        (None, false, Some(ARN), Err(Hindrance::Missing(name.clone()))),
        (None, false, None, Err(Hindrance::Missing(name.clone()))),
        (Some(account(None, None, false)), true, Some(ARN), annotate(false, false)),
        (Some(account(None, None, false)), true, None, Ok(vec![])),
        (Some(account(Some(ARN), None, false)), true, Some(ARN), annotate(false, false)),
        (Some(account(Some(ARN), None, false)), true, None, Ok(vec![])),
        (Some(account(Some(ARN), Some("checkout"), true)), true, Some(ARN), Ok(vec![])),
        (Some(account(Some(other), Some("checkout"), true)), true, Some(ARN), annotate(true, true)),
        (Some(account(None, Some("checkout"), false)), true, Some(ARN), annotate(true, false)),
        (Some(account(Some(other), None, false)), true, Some(ARN), Err(taken.clone())),
        (Some(account(Some(other), None, false)), true, None, Err(taken.clone())),
        (Some(account(Some(other), Some("gone"), false)), true, Some(ARN), Err(taken)),
    ] {
        let object = checkout(json!({ "createServiceAccounts": makes }))?;
        let (steps, hindrances) = steps(&object, &[], ANNOTATION, arn, &[], |_| seen.clone());
        let found = hindrances.into_iter().next().map_or(Ok(steps), Err);
        assert_eq!(found, expected, "{seen:?} {makes} {arn:?}");
    }
    Ok(())
}

#[test]
fn account_that_is_no_longer_named_loses_the_mark_and_goes_only_where_irsad_made_it() -> Outcome {
    let gone = AccountName::new("shop", "gone")?;
    for (policy, seen, expected) in [
        ("Delete", account(Some(ARN), Some("checkout"), true), Some(false)),
        ("DeleteWithServiceAccounts", account(Some(ARN), Some("checkout"), true), Some(true)),
        ("DeleteWithServiceAccounts", account(Some(ARN), Some("checkout"), false), Some(false)),
        ("Keep", account(Some(ARN), Some("checkout"), true), Some(false)),
        ("DeleteWithServiceAccounts", account(Some(ARN), Some("other"), true), None),
        ("DeleteWithServiceAccounts", account(Some(ARN), None, true), None),
    ] {
        let object = checkout(json!({ "deletionPolicy": policy }))?;
        let steps = left_out(&object, std::slice::from_ref(&gone), |_| Some(seen.clone()));
        let found = steps.first().map(|step| matches!(step, AccountStep::Release { deletes: true, .. }));
        assert_eq!(found, expected, "{policy} {seen:?}");
    }
    Ok(())
}

#[test]
fn account_is_deleted_only_where_nobody_else_has_to_do_with_it() {
    let mut alone = json!({ "metadata": { "managedFields": [{ "manager": FIELD_MANAGER }] } });
    assert!(is_nobodys(&alone));
    alone["metadata"]["managedFields"] = json!([{ "manager": FIELD_MANAGER }, { "manager": "kubectl" }]);
    assert!(!is_nobodys(&alone));
    for (field, value) in [
        ("managedFields", json!([])),
        ("managedFields", Value::Null),
        ("ownerReferences", json!([{ "name": "chart" }])),
        ("finalizers", json!(["x/y"])),
    ] {
        let mut account = json!({ "metadata": { "managedFields": [{ "manager": FIELD_MANAGER }] } });
        account["metadata"][field] = value;
        assert!(!is_nobodys(&account), "{account}");
    }
    let with_secret = json!({ "metadata": { "managedFields": [{ "manager": FIELD_MANAGER }] }, "imagePullSecrets": [{ "name": "pull" }] });
    assert!(!is_nobodys(&with_secret));
}

#[test]
fn hindrance_says_who_is_in_the_way_and_the_cure() -> Outcome {
    let name = AccountName::new("shop", "checkout")?;
    for (hindrance, text) in [
        (
            Hindrance::OfObject { name: name.clone(), object: "old".to_owned() },
            "service account shop/checkout belongs to ServiceAccountRole old, which is older (left as it is); take it out of one of the two",
        ),
        (
            Hindrance::OtherRole { name: name.clone(), arn: ARN.to_owned(), annotation: ANNOTATION.to_owned() },
            "service account shop/checkout has role arn:aws:iam::111122223333:role/irsad/prod-1/prod-1-checkout from somebody else (left as it \
             is); remove that annotation: kubectl -n shop annotate serviceaccount checkout eks.amazonaws.com/role-arn-",
        ),
        (
            Hindrance::Missing(name.clone()),
            "service account shop/checkout does not exist and createServiceAccounts is false; make it: kubectl -n shop create serviceaccount \
             checkout",
        ),
        (
            Hindrance::Contested { name: name.clone(), said: "1 conflict".to_owned() },
            "service account shop/checkout cannot be given its role, because somebody else keeps the annotation (left as it is); take it from \
             them, or the account out of the object: 1 conflict",
        ),
        (
            Hindrance::Refused { name: name.clone(), said: "denied the request".to_owned() },
            "kube-apiserver does not let service account shop/checkout be written (left as it is); change the admission policy or the quota \
             that refuses it, or take it out of the object: denied the request",
        ),
        (
            Hindrance::NoNamespace(name),
            "service account shop/checkout cannot be made, because its namespace does not exist or is being deleted; make it: kubectl create \
             namespace shop",
        ),
    ] {
        assert_eq!(hindrance.to_string(), text);
    }
    Ok(())
}

#[test]
fn status_changes_its_time_only_with_its_truth() -> Outcome {
    let at = |text: &str| text.parse::<Timestamp>();
    let ready = Ready::new(Reason::AsWanted, "as wanted");
    let first = Status::default().told(1, Some(ARN.to_owned()), vec![], &ready, at("2026-11-21T12:00:00.7Z")?);
    assert_eq!(first.told(1, Some(ARN.to_owned()), vec![], &ready, at("2026-11-21T13:00:00Z")?), first);
    assert!(Status::default().is_news(&first));

    let throttled = Ready::new(Reason::OfRole("Throttled"), &"x".repeat(5000));
    let second = first.told(2, Some(ARN.to_owned()), vec![], &throttled, at("2026-11-21T13:00:00Z")?);
    let condition = second.ready().ok_or("a condition")?;
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str(), condition.message.len()),
        ("False", "Throttled", 1000)
    );
    assert_eq!(condition.last_transition_time, at("2026-11-21T13:00:00Z")?);
    assert!(first.is_news(&second));
    let third =
        second.told(2, None, vec![], &Ready::new(Reason::OfRole("Throttled"), "again"), at("2026-11-21T14:00:00Z")?);
    assert_eq!(third.ready().map(|ready| ready.last_transition_time), Some(at("2026-11-21T13:00:00Z")?));
    assert!(!second.is_news(&third));
    // What is written is what is read.
    assert_eq!(serde_json::from_value::<Status>(serde_json::to_value(&second)?)?, second);
    Ok(())
}

#[test]
fn what_is_said_of_an_account_names_its_object_and_what_is_taken_back_is_all_of_it() -> Outcome {
    let name = AccountName::new("shop", "checkout")?;
    let said = annotated(&name, Some("u1"), "checkout", ANNOTATION, ARN, true);
    assert_eq!(
        said["metadata"],
        json!({
            "namespace": "shop", "name": "checkout", "uid": "u1",
            "annotations": { ANNOTATION: ARN, MARK: "checkout" },
            "labels": { OWNER_LABEL: OWNER },
        })
    );
    assert_eq!(
        released(&name, Some("u1"))["metadata"],
        json!({ "namespace": "shop", "name": "checkout", "uid": "u1" })
    );
    Ok(())
}

#[test]
fn definition_that_an_api_server_has_filled_in_is_still_ours_and_a_changed_one_is_not() {
    let wanted: ClusterObject = definition();
    let mut stored = wanted.body().clone();
    stored["spec"]["conversion"] = json!({ "strategy": "None" });
    stored["status"] = json!({ "acceptedNames": {} });
    assert!(StoredObject::new(stored.clone()).has(&wanted));
    stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["roleName"]["maxLength"] =
        json!(100);
    assert!(!StoredObject::new(stored).has(&wanted));
}
