//! What an object cannot have: the condition says why and what to do, and nothing is half made.

use serde_json::{Value, json};

use super::{ACCOUNT, ANNOTATION, IAM, Scene};
use crate::{
    cloud::{Fault, client::call},
    irsad::Result,
};

const NOBODY: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

impl Scene {
    /// The object is refused with this reason and these words; it has neither role nor finalizer, and its accounts are untouched.
    async fn is_refused(&self, name: &str, reason: &str, said: &str) -> Result {
        let message = self.until_reason(name, reason).await?;
        assert!(message.contains(said), "{name}: {message}");
        let object = self.get(&["sarole", name]).await?.ok_or("an object")?;
        let condition = &object["status"]["conditions"][0];
        assert_eq!((&condition["type"], &condition["status"]), (&json!("Ready"), &json!("False")));
        assert_eq!(object["status"].get("roleArn"), None, "{object}");
        Ok(())
    }
}

#[tokio::test]
async fn object_that_asks_for_what_is_anothers_is_told_so_and_gets_it_once_it_is_free() -> Result {
    let Some(scene) = Scene::start("clash").await? else { return Ok(()) };
    let theirs = scene.role("theirs");
    let create = [("Action", "CreateRole"), IAM, ("RoleName", theirs.as_str()), ("AssumeRolePolicyDocument", NOBODY)];
    call("iam", &create).await?;
    scene.node.kubectl(&["create", "serviceaccount", "taken", "--namespace", "ops"]).await?;
    let other = format!("arn:aws:iam::{ACCOUNT}:role/other");
    scene
        .node
        .kubectl(&["annotate", "serviceaccount", "taken", "--namespace", "ops", &format!("{ANNOTATION}={other}")])
        .await?;
    let _daemon = scene.daemon().await?;

    scene.apply(&scene.object("old", &["shop/old"], &json!({}))).await?;
    scene.until_reason("old", "AsWanted").await?;
    let same_role = json!({ "roleName": scene.role("old") });
    scene.apply(&scene.object("young", &["shop/young"], &same_role)).await?;
    let said = "role name clash-old belongs to ServiceAccountRole old, which is older (nothing changed); make an object with another roleName";
    scene.is_refused("young", "RoleNameTaken", said).await?;
    scene.apply(&scene.object("greedy", &["shop/old", "shop/greedy"], &json!({}))).await?;
    let said = "service account shop/old belongs to ServiceAccountRole old, which is older (left as it is); take it out of one of the two";
    scene.is_refused("greedy", "ServiceAccountTaken", said).await?;
    scene.apply(&scene.object("bold", &["ops/taken", "ops/bold"], &json!({}))).await?;
    let said = format!(
        "service account ops/taken has role {other} from somebody else (left as it is); remove that annotation:"
    );
    scene.is_refused("bold", "ServiceAccountTaken", &said).await?;
    scene.apply(&scene.object("theirs", &["shop/theirs"], &json!({}))).await?;
    let said =
        "role clash-theirs is someone else's: it stands under the path / and not under /irsad/clash/ (nothing changed)";
    scene.is_refused("theirs", "RoleNotOurs", said).await?;
    for account in ["shop/young", "shop/greedy", "ops/bold", "shop/theirs"] {
        assert!(!scene.is_there(account).await?, "{account}");
    }
    for role in ["young", "greedy", "bold"] {
        assert!(!scene.has_role(role).await, "{role}");
    }
    assert!(scene.iam("GetRole", "theirs", &[]).await?.contains("<Path>/</Path>"));
    assert_eq!(scene.given("ops/taken").await?, Some(other));

    // What was in the way goes.
    scene.node.kubectl(&["delete", "sarole", "old", "--wait=false"]).await?;
    scene.until_gone("old").await?;
    scene.until_reason("young", "AsWanted").await?;
    scene.until_reason("greedy", "AsWanted").await?;
    scene
        .node
        .kubectl(&["annotate", "serviceaccount", "taken", "--namespace", "ops", &format!("{ANNOTATION}-")])
        .await?;
    scene.until_reason("bold", "AsWanted").await?;
    // Deleted, it takes nothing with it that was never its own.
    scene.node.kubectl(&["delete", "sarole", "theirs", "--wait=false"]).await?;
    scene.until_gone("theirs").await?;
    assert!(scene.has_role("theirs").await);
    Ok(())
}

#[tokio::test]
async fn object_that_iam_would_refuse_makes_nothing_and_one_that_iam_refuses_is_tried_again() -> Result {
    let Some(scene) = Scene::start("limits").await? else { return Ok(()) };
    let daemon = scene.daemon().await?;
    let none = format!("arn:aws:iam::{ACCOUNT}:policy/limits-nothing");
    scene.apply(&scene.object("policy", &["shop/policy"], &json!({ "policies": [none] }))).await?;
    scene
        .is_refused("policy", "PolicyNotFound", &format!("the policy {none}, which does not exist (nothing changed)"))
        .await?;
    assert!(!scene.has_role("policy").await && !scene.is_there("shop/policy").await?);

    let many: Vec<String> = (0..60).map(|number| format!("shop/{}-{number}", "a".repeat(60))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    scene.apply(&scene.object("trust", &many, &json!({}))).await?;
    scene
        .is_refused("trust", "TrustPolicyRefused", "AWS takes 4096; let fewer service accounts share the role")
        .await?;
    assert!(!scene.has_role("trust").await && !scene.is_there(many[0]).await?);

    let quota = Fault::refused(409, "LimitExceeded", "Cannot exceed quota for RolesPerAccount: 1000");
    scene.cloud.fail("CreateRole", quota, 1);
    scene.apply(&scene.object("quota", &["shop/quota"], &json!({}))).await?;
    scene.is_refused("quota", "LimitExceeded", "raise the quota in Service Quotas").await?;
    assert!(!scene.is_there("shop/quota").await?);
    daemon.signal("HUP")?;
    scene.until_reason("quota", "AsWanted").await?;

    scene.cloud.fail("CreateRole", Fault::refused(400, "Throttling", "Rate exceeded"), 4);
    scene.apply(&scene.object("throttled", &["shop/throttled"], &json!({}))).await?;
    scene.until_reason("throttled", "AsWanted").await?;

    scene.apply(&scene.object("later", &["nowhere/app", "shop/later"], &json!({}))).await?;
    let message = scene.until_reason("later", "ServiceAccountMissing").await?;
    assert!(message.contains("make it: kubectl create namespace nowhere"), "{message}");
    scene.node.kubectl(&["create", "namespace", "nowhere"]).await?;
    // The controller manager makes this one in every namespace.
    scene.node.kubectl(&["create", "serviceaccount", "default", "--namespace", "nowhere"]).await?;
    scene.until_reason("later", "AsWanted").await?;

    scene.apply(&scene.object("strict", &["shop/strict"], &json!({ "createServiceAccounts": false }))).await?;
    let message = scene.until_reason("strict", "ServiceAccountMissing").await?;
    assert!(message.contains("kubectl -n shop create serviceaccount strict"), "{message}");
    scene.node.kubectl(&["create", "serviceaccount", "strict", "--namespace", "shop"]).await?;
    scene.until_reason("strict", "AsWanted").await?;

    let status: Value = serde_json::from_str(&scene.machine.run(&["status", "-o", "json"])?.stdout)?;
    assert_eq!(status["report"]["roles"]["needAPerson"], 2, "{status}");
    Ok(())
}
