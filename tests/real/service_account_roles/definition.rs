//! The definition of the objects: what a live API server takes by it, and what it refuses.

use irsad::model::{cluster_object::StoredObject, probe::Probe, service_account_role::definition};
use serde_json::{Value, json};

use super::Scene;
use crate::irsad::{Result, project};

/// What is wrong with a specification, and the words of the API server about it.
fn wrong() -> Vec<(Value, &'static str)> {
    let account = |namespace: &str, name: &str| json!({ "namespace": namespace, "name": name });
    let many: Vec<Value> = (0..65).map(|number| account("shop", &format!("a{number}"))).collect();
    let policies: Vec<String> = (0..26).map(|number| format!("P{number}")).collect();
    let statement = |more: Value| {
        let mut statement = json!({ "Effect": "Allow", "Action": "s3:*", "Resource": "*" });
        if let (Value::Object(statement), Value::Object(more)) = (&mut statement, more) {
            statement.extend(more);
        }
        json!({ "inlinePolicy": { "Version": "2012-10-17", "Statement": [statement] } })
    };
    vec![
        (json!({ "roleName": "" }), "spec.roleName"),
        (json!({ "roleName": "a".repeat(65) }), "may not be more than 64"),
        (json!({ "roleName": "a/b" }), "spec.roleName in body should match"),
        (json!({ "serviceAccounts": [] }), "should have at least 1 items"),
        (json!({ "serviceAccounts": many }), "must have at most 64 items"),
        (json!({ "serviceAccounts": [account("shop", "a"), account("shop", "a")] }), "Duplicate value"),
        (json!({ "serviceAccounts": [account("sh*p", "a")] }), "spec.serviceAccounts[0].namespace"),
        (json!({ "serviceAccounts": [account("shop", "A")] }), "spec.serviceAccounts[0].name"),
        (json!({ "serviceAccounts": [{ "namespace": "shop" }] }), "spec.serviceAccounts[0].name: Required value"),
        (json!({ "policies": ["P", "P"] }), "Duplicate value"),
        (json!({ "policies": policies }), "must have at most 10 items"),
        (json!({ "policies": ["arn:aws:iam::12:policy/x"] }), "spec.policies[0] in body should match"),
        (json!({ "maxSessionSeconds": 60 }), "should be greater than or equal to 3600"),
        (json!({ "maxSessionSeconds": 50_000 }), "should be less than or equal to 43200"),
        (json!({ "deletionPolicy": "Orphan" }), "Unsupported value: \"Orphan\""),
        (json!({ "inlinePolicy": { "Statement": [] } }), "spec.inlinePolicy.Version: Required value"),
        (statement(json!({ "Effect": "Perhaps" })), "Unsupported value: \"Perhaps\""),
        (statement(json!({ "NotAction": "s3:*" })), "must validate one and only one schema (oneOf)"),
        (statement(json!({ "NotResource": "*" })), "must validate one and only one schema (oneOf)"),
        (statement(json!({ "Principal": "*" })), "must not validate the schema (not)"),
    ]
}

#[tokio::test]
async fn live_api_server_takes_the_definition_and_refuses_what_its_rules_forbid() -> Result {
    let Some(scene) = Scene::start("rules").await? else { return Ok(()) };
    let (api, wanted) = (scene.api()?, definition());
    api.apply_object(&wanted, None).await.map_err(|error| error.reason())?;
    let Probe::Present(stored) = api.object(wanted.place()).await else { return Err("no definition".into()) };
    assert!(stored.is_ours() && stored.has(&wanted), "{}", stored.body());
    api.apply_object(&wanted, Some(StoredObject::uid(&stored))).await?;
    scene
        .until("the cluster to know the objects", async || {
            let found = api.object(wanted.place()).await;
            let conditions = found.present().map(|stored| stored.body()["status"]["conditions"].clone());
            let violated = conditions
                .iter()
                .flat_map(|it| it.as_array())
                .flatten()
                .any(|it| it["type"] == "NonStructuralSchema" && it["status"] == "True");
            assert!(!violated, "{conditions:?}");
            Ok(scene.node.kubectl(&["get", "sarole"]).await.is_ok())
        })
        .await?;

    for (more, said) in wrong() {
        let refused = scene.apply(&scene.object("wrong", &["shop/a"], &more)).await;
        let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains(said), "{more}: {said}: {refused}");
    }
    let right = json!({
        "policies": ["AmazonS3ReadOnlyAccess", "service-role/AmazonEBSCSIDriverPolicy", "arn:aws-cn:iam::123456789012:policy/team/x"],
        "inlinePolicy": { "Version": "2012-10-17", "Statement": [{ "Sid": "a", "Effect": "Deny", "NotAction": ["s3:*"],
            "Resource": "*", "Condition": { "Bool": { "aws:SecureTransport": "false" } } }] },
        "maxSessionSeconds": 7200,
    });
    scene.apply(&scene.object("right", &["shop/a", "ops/a"], &right)).await?;
    let stored = scene.get(&["sarole", "right"]).await?.ok_or("an object")?;
    assert_eq!(stored["spec"]["inlinePolicy"], right["inlinePolicy"], "not a word of a policy is dropped");
    assert_eq!(
        (&stored["spec"]["deletionPolicy"], &stored["spec"]["createServiceAccounts"]),
        (&json!("Delete"), &json!(true))
    );

    let example = project().join("examples/roles/checkout.yaml").display().to_string();
    scene.node.kubectl(&["apply", "--filename", &example]).await?;
    let renamed = scene.apply(&scene.object("right", &["shop/a"], &json!({ "roleName": "other" }))).await;
    let renamed = renamed.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        renamed.contains("roleName cannot be changed, because IAM cannot rename a role; make another object"),
        "{renamed}"
    );
    let table = scene.node.kubectl(&["get", "irsad"]).await?;
    let heading: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heading, ["NAME", "ROLE", "READY", "REASON", "AGE"]);
    Ok(())
}
