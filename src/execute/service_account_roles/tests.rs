//! Turns against a scripted API server; IAM is not asked.

use serde_json::{Value, json};

use super::*;
use crate::{
    aws,
    cluster::fake::{Fake, Outcome, Reply, Seen},
    model::{
        region::Partition,
        service_account_role::{Known, MARK, SeenAccount},
    },
};

const ANNOTATION: &str = "eks.amazonaws.com/role-arn";
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
        let terms = RoleTerms {
            partition: Partition::Commercial,
            account: "123456789012".parse()?,
            cluster: "prod-1".to_owned(),
            issuers: vec!["https://oidc.example.com/a".parse()?],
            audiences: vec!["sts.amazonaws.com".parse()?],
            boundary: None,
            tags: std::collections::BTreeMap::new(),
        };
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
        let scene = Scene::start(move |seen| match seen.path.ends_with("/refused") {
            true => Reply::Text(status, json!({ "message": said }).to_string()),
            false => Reply::Text(200, "{}".to_owned()),
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
async fn account_that_somebody_else_keeps_is_told_after_the_third_conflict_in_a_row() -> Outcome<()> {
    let said = "Apply failed with 1 conflict: conflict with \"kubectl-annotate\"";
    let scene = Scene::start(move |seen| match seen.path.ends_with("/kept") {
        true => Reply::Text(409, json!({ "message": said }).to_string()),
        false => Reply::Text(200, "{}".to_owned()),
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
