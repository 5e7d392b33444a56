//! Turns against a scripted API server; IAM is not asked.

use serde_json::{Value, json};

use super::*;
use crate::{
    aws,
    cluster::fake::{Fake, Outcome, Reply, Seen},
    model::{
        role::fixtures::terms,
        service_account_role::{Known, MARK, SeenAccount},
    },
};

const ANNOTATION: &str = "eks.amazonaws.com/role-arn";
/// What the server answers where it has made an object.
const MADE: &str = r#"{"metadata":{"uid":"u7"}}"#;
const OBJECT: &str = "/apis/irsad.dev/v1alpha1/serviceaccountroles/checkout";

/// One object `checkout`, an API server that answers by script, and IAM that nobody asks.
struct Scene {
    fake: Fake,
    hands: Hands,
}

impl Scene {
    async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Outcome<Self> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], script).await?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
        let endpoints = aws::Endpoints { all: "http://127.0.0.1:1".to_owned(), ..aws::Endpoints::default() };
        let iam = Iam::new(&aws::connect(&"eu-west-1".parse()?, endpoints).await);
        let terms = terms()?;
        let hands = Hands { api, iam, terms, annotation: ANNOTATION.to_owned(), instance: "n1".to_owned() };
        Ok(Self { fake, hands })
    }

    fn turn<'a>(&'a self, view: &'a View) -> Turn<'a> {
        let (now, turned) = (Timestamp::UNIX_EPOCH, Turned::default());
        Turn { hands: &self.hands, view, contested: 0, now, may_act: &|| true, turned, arn: None, given: Vec::new() }
    }

    /// Method and path of each request that changes something, in order, Events left out.
    fn changes(&self) -> Vec<String> {
        let is_change = |seen: &&Seen| seen.method != "GET" && !seen.path.contains("/events");
        self.fake.seen().iter().filter(is_change).map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }
}

/// A role that needs no look.
fn fresh(scene: &Scene, view: &View) -> Outcome<Fresh> {
    let wanted = scene.turn(view).wanted().map_err(|_| "a role")?;
    Ok(Fresh { arn: wanted.arn.clone(), wanted, at: Timestamp::UNIX_EPOCH })
}

/// One turn for an object whose role is as it should be.
async fn turned(scene: &Scene, view: &View, contested: u32) -> Outcome<Turned> {
    let (fresh, now) = (Some(fresh(scene, view)?), Timestamp::UNIX_EPOCH);
    Ok(turn(&scene.hands, view, contested, fresh, SignedDuration::from_hours(1), now, &|| true).await)
}

/// `status` of an object that was ready.
fn was_ready() -> Value {
    let since = "2026-11-21T12:00:00Z";
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "AsWanted", "message": "", "observedGeneration": 1, "lastTransitionTime": since,
    });
    json!({ "roleArn": "arn", "conditions": [condition] })
}

/// The object with these service accounts of namespace `shop`, as it is seen where nothing is known of accounts.
fn view(accounts: &[&str], metadata: &Value, more: &Value) -> Outcome<View> {
    let accounts: Vec<Value> = accounts.iter().map(|name| json!({ "namespace": "shop", "name": name })).collect();
    let mut object = json!({
        "metadata": {
            "name": "checkout", "uid": "u1", "resourceVersion": "7", "generation": 1,
            "creationTimestamp": "2026-11-21T12:00:00Z", "finalizers": ["irsad.dev/role"],
        },
        "spec": { "roleName": "checkout", "serviceAccounts": accounts },
    });
    for (whole, part) in [("metadata", metadata), ("spec", &more["spec"]), ("status", &more["status"])] {
        match (&mut object[whole], part) {
            (Value::Object(known), Value::Object(part)) => known.extend(part.clone()),
            (_, Value::Null) => {}
            (known, part) => *known = part.clone(),
        }
    }
    let mut known = Known::default();
    known.put_object(serde_json::from_value(object)?);
    Ok(known.view("checkout", &known.claims()).ok_or("a view")?)
}

fn deleted() -> Value {
    json!({ "deletionTimestamp": "2026-11-21T13:00:00Z" })
}

fn account_path(name: &str) -> String {
    format!("/api/v1/namespaces/shop/serviceaccounts/{name}")
}

#[tokio::test]
async fn accounts_of_a_deleted_object_lose_its_role_also_where_the_watch_has_not_told_of_them() -> Outcome<()> {
    let scene = Scene::start(|seen| {
        let mark = match seen.path.rsplit('/').next() {
            Some("gone") => return Reply::Text(404, "{}".to_owned()),
            Some("of-another") => "another",
            _ => "checkout",
        };
        let account = json!({ "metadata": { "uid": "live", "annotations": { MARK: mark } } });
        Reply::Text(200, account.to_string())
    })
    .await?;
    let told = json!([{ "namespace": "shop", "name": "told" }]);
    let mut view =
        view(&["named", "of-another", "gone"], &deleted(), &json!({ "status": { "serviceAccounts": told } }))?;
    let marked = AccountName::new("shop", "marked")?;
    let stale =
        SeenAccount { uid: "old".to_owned(), role_arn: None, mark: Some("checkout".to_owned()), is_made: false };
    view.accounts.insert(marked.clone(), stale);
    view.marked.push(marked);
    assert!(scene.turn(&view).release_all().await.is_ok());
    let expected = ["marked", "named", "told"].map(|name| format!("PATCH {}", account_path(name)));
    assert_eq!(scene.changes(), expected);
    let uids =
        scene.fake.seen().into_iter().filter(|seen| seen.method == "PATCH").map(|seen| seen.body.contains("live"));
    assert_eq!(uids.collect::<Vec<_>>(), [true; 3], "the account that is there is meant, not the one that was");
    Ok(())
}

#[tokio::test]
async fn deleted_object_is_held_while_an_account_of_it_cannot_be_looked_at() -> Outcome<()> {
    let scene = Scene::start(|seen| Reply::Text(if seen.method == "GET" { 500 } else { 200 }, "{}".to_owned())).await?;
    let view = view(&["named"], &deleted(), &json!({}))?;
    let turned =
        turn(&scene.hands, &view, 0, None, SignedDuration::from_hours(1), Timestamp::UNIX_EPOCH, &|| true).await;
    assert_eq!(turned.fault, Some(FaultKind::Wait));
    assert_eq!(turned.ready.map(|ready| ready.reason), Some(Reason::NotReachable));
    assert_eq!(scene.changes(), [format!("PATCH {OBJECT}/status")]);
    Ok(())
}

#[tokio::test]
async fn deleted_object_that_is_not_understood_keeps_its_finalizer_and_says_the_cure() -> Outcome<()> {
    let scene = Scene::start(|_| Reply::Text(200, "{}".to_owned())).await?;
    let view = view(&["named"], &deleted(), &json!({ "spec": { "roleName": 7 } }))?;
    let turned =
        turn(&scene.hands, &view, 0, None, SignedDuration::from_hours(1), Timestamp::UNIX_EPOCH, &|| true).await;
    assert_eq!(turned.fault, Some(FaultKind::Person));
    let ready = turned.ready.ok_or("a condition")?;
    assert_eq!(
        (ready.reason, ready.message.as_str()),
        (
            Reason::Invalid,
            "the specification cannot be understood (invalid type: integer `7`, expected a string), so that neither role nor service accounts \
             are let go of; write it anew, or remove finalizer irsad.dev/role, which leaves both as they are",
        )
    );
    assert_eq!(scene.changes(), [format!("PATCH {OBJECT}/status")]);
    Ok(())
}

#[tokio::test]
async fn account_that_the_server_refuses_is_told_and_the_others_are_given_the_role() -> Outcome<()> {
    for (status, said) in [(403, "admission webhook denied the request"), (422, "metadata.annotations: Invalid value")]
    {
        let scene = Scene::start(move |seen| match seen.body.contains("\"name\":\"refused\"") {
            true => Reply::Text(status, json!({ "message": said }).to_string()),
            false => Reply::Text(200, MADE.to_owned()),
        })
        .await?;
        let view = view(&["refused", "taken"], &json!({}), &json!({ "status": was_ready() }))?;
        let turned = turned(&scene, &view, 0).await?;
        assert_eq!(turned.fault, Some(FaultKind::Person));
        let ready = turned.ready.ok_or("a condition")?;
        assert!(ready.reason == Reason::ServiceAccountRefused && ready.message.ends_with(said), "{ready:?}");
        let told = turned.told.ok_or("a status")?;
        assert_eq!(told.service_accounts, [AnnotatedAccount::new(&AccountName::new("shop", "taken")?, true)]);
        assert_eq!(told.ready().map(|ready| ready.is_true()), Some(false));
    }
    Ok(())
}

#[tokio::test]
async fn account_that_somebody_else_makes_in_the_same_moment_is_not_claimed() -> Outcome<()> {
    let scene = Scene::start(|seen| match seen.method.as_str() {
        "POST" => Reply::Text(409, json!({ "message": "serviceaccounts \"app\" already exists" }).to_string()),
        _ => Reply::Text(200, "{}".to_owned()),
    })
    .await?;
    let view = view(&["app"], &json!({}), &json!({ "status": was_ready() }))?;
    for contested in 0..=MOST_CONTESTED {
        let turned = turned(&scene, &view, contested).await?;
        assert_eq!((turned.is_contested, turned.fault), (false, Some(FaultKind::Wait)), "the watch tells of it soon");
        assert!(turned.ready.is_none() && turned.told.is_none());
    }
    let made = "POST /api/v1/namespaces/shop/serviceaccounts".to_owned();
    assert_eq!(scene.changes(), vec![made; 4], "nothing is written into it");
    Ok(())
}

#[tokio::test]
async fn account_is_made_first_and_only_the_one_that_was_made_is_given_the_role() -> Outcome<()> {
    let scene = Scene::start(|seen| match seen.method.as_str() {
        "POST" => Reply::Text(201, MADE.to_owned()),
        _ => Reply::Text(200, "{}".to_owned()),
    })
    .await?;
    let view = view(&["app"], &json!({}), &json!({ "status": was_ready() }))?;
    let turned = turned(&scene, &view, 0).await?;
    assert_eq!(turned.fault, None);
    let applied = scene.fake.seen().into_iter().find(|seen| seen.path == account_path("app")).ok_or("an account")?;
    let applied: Value = serde_json::from_str(&applied.body)?;
    assert_eq!(
        (&applied["metadata"]["uid"], &applied["metadata"]["annotations"][MARK]),
        (&json!("u7"), &json!("checkout"))
    );
    Ok(())
}

#[tokio::test]
async fn want_of_rights_at_a_server_that_starts_is_waited_for_and_is_no_refusal() -> Outcome<()> {
    let said = "serviceaccounts is forbidden: User \"kubernetes-admin\" cannot create resource \"serviceaccounts\" in API group \"\" in the namespace \"shop\"";
    for (status, is_told) in [(was_ready(), false), (json!({}), true)] {
        let scene = Scene::start(move |seen| match seen.path.contains("/serviceaccounts") {
            true => Reply::Text(403, json!({ "message": said }).to_string()),
            false => Reply::Text(200, "{}".to_owned()),
        })
        .await?;
        let view = view(&["app"], &json!({}), &json!({ "status": status }))?;
        let turned = turned(&scene, &view, 0).await?;
        assert_eq!(turned.fault, Some(FaultKind::Wait));
        let ready = turned.ready.ok_or("a condition")?;
        assert!(ready.reason == Reason::NotReachable && ready.message.ends_with(said), "{ready:?}");
        assert_eq!(turned.told.is_some(), is_told, "an object that was ready stays so");
    }
    Ok(())
}

#[tokio::test]
async fn account_that_irsad_has_made_and_lets_go_of_is_nobodys_before_it_loses_its_mark() -> Outcome<()> {
    let scene = Scene::start(|_| {
        let (annotations, labels) = (json!({ MARK: "checkout" }), json!({ "app.kubernetes.io/managed-by": "irsad" }));
        let account = json!({ "metadata": { "uid": "live", "annotations": annotations, "labels": labels } });
        Reply::Text(200, account.to_string())
    })
    .await?;
    assert!(scene.turn(&view(&["app"], &deleted(), &json!({}))?).release_all().await.is_ok());
    let sent = scene.fake.seen().into_iter().filter(|seen| seen.method == "PATCH");
    let sent: Vec<Value> = sent.map(|seen| serde_json::from_str(&seen.body)).collect::<Result<_, _>>()?;
    let disowned = json!({ "metadata": { "uid": "live", "labels": { "app.kubernetes.io/managed-by": null } } });
    assert_eq!((sent.len(), &sent[0]), (2, &disowned));
    assert_eq!(sent[1]["metadata"], json!({ "namespace": "shop", "name": "app", "uid": "live" }));
    Ok(())
}

#[tokio::test]
async fn account_that_somebody_else_keeps_is_told_after_the_third_conflict_in_a_row() -> Outcome<()> {
    let said = "Apply failed with 1 conflict: conflict with \"kubectl-annotate\"";
    let scene = Scene::start(move |seen| match seen.path.ends_with("/kept") {
        true => Reply::Text(409, json!({ "message": said }).to_string()),
        false => Reply::Text(200, MADE.to_owned()),
    })
    .await?;
    let view = view(&["kept", "other"], &json!({}), &json!({ "status": was_ready() }))?;
    for contested in [0, 1] {
        let turned = turned(&scene, &view, contested).await?;
        assert_eq!((turned.is_contested, turned.fault), (true, Some(FaultKind::Wait)));
        assert!(turned.ready.is_none() && turned.told.is_none(), "{contested}");
    }
    let turned = turned(&scene, &view, 2).await?;
    assert_eq!((turned.is_contested, turned.fault), (true, Some(FaultKind::Person)));
    let ready = turned.ready.ok_or("a condition")?;
    assert!(ready.reason == Reason::ServiceAccountTaken && ready.message.ends_with(said), "{ready:?}");
    assert_eq!(turned.told.map(|told| told.service_accounts.len()), Some(1), "the other account has the role");
    Ok(())
}
