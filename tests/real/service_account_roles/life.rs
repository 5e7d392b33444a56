//! An object from its first minute to its last.

use serde_json::json;

use super::{INLINE, Scene};
use crate::{cloud::Fault, irsad::Result};

#[tokio::test]
async fn role_and_accounts_are_made_changed_mended_and_removed_with_the_object() -> Result {
    let Some(scene) = Scene::start("life").await? else { return Ok(()) };
    let (one, two) = (scene.policy("one").await?, scene.policy("two").await?);
    scene.node.kubectl(&["create", "serviceaccount", "theirs", "--namespace", "ops"]).await?;
    let daemon = scene.daemon().await?;

    let inline: serde_json::Value = serde_json::from_str(INLINE)?;
    assert!(!scene.machine.run(&["plan"])?.stdout.contains("ServiceAccountRole"));
    let first = json!({ "policies": [one], "inlinePolicy": inline, "deletionPolicy": "DeleteWithServiceAccounts" });
    scene.apply(&scene.object("app", &["shop/made", "ops/theirs", "ops/made"], &first)).await?;
    let message = scene.until_reason("app", "AsWanted").await?;
    let arn = scene.arn("app");
    assert_eq!(message, format!("role {arn} is as wanted, and 3 service accounts have it"));
    let status = scene.status("app").await?;
    assert_eq!((&status["roleArn"], &status["conditions"][0]["status"]), (&json!(arn), &json!("True")));
    assert_eq!(
        status["serviceAccounts"],
        json!([
            { "namespace": "ops", "name": "made", "made": true },
            { "namespace": "ops", "name": "theirs", "made": false },
            { "namespace": "shop", "name": "made", "made": true },
        ])
    );
    for account in ["shop/made", "ops/theirs", "ops/made"] {
        assert_eq!(scene.given(account).await?.as_deref(), Some(arn.as_str()), "{account}");
    }
    let role = scene.iam("GetRole", "app", &[]).await?;
    for text in
        ["<Path>/irsad/life/</Path>", "ServiceAccountRole/app", "oidc.life.example%3Aaud", "oidc.life.example%3Asub"]
    {
        assert!(role.contains(text), "{text}: {role}");
    }
    assert!(scene.iam("ListAttachedRolePolicies", "app", &[]).await?.contains(&one));
    let table = scene.node.kubectl(&["get", "sarole"]).await?;
    let row: Vec<&str> = table.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row[..4], ["app", "life-app", "True", "AsWanted"]);
    let described = scene.node.kubectl(&["describe", "sarole", "app"]).await?;
    assert!(described.contains("RoleMade") && described.contains("AsWanted"), "{described}");

    // Changed: another policy, one account less and one more.
    scene
        .apply(&scene.object(
            "app",
            &["ops/theirs", "shop/new"],
            &json!({ "policies": [two], "deletionPolicy": "DeleteWithServiceAccounts" }),
        ))
        .await?;
    scene.until_reason("app", "AsWanted").await?;
    let attached = scene.iam("ListAttachedRolePolicies", "app", &[]).await?;
    assert!(attached.contains(&two) && !attached.contains(&one), "{attached}");
    assert!(!scene.iam("ListRolePolicies", "app", &[]).await?.contains("<member>"));
    assert_eq!(scene.given("shop/new").await?.as_deref(), Some(arn.as_str()));
    assert!(!scene.is_there("shop/made").await? && !scene.is_there("ops/made").await?, "nobody needs them any more");

    // Edited behind its back: an account at once, a role when it is looked at again, the definition likewise.
    let other = format!("{}=arn:aws:iam::123456789012:role/other", super::ANNOTATION);
    scene.node.kubectl(&["annotate", "--overwrite", "serviceaccount", "theirs", "--namespace", "ops", &other]).await?;
    scene
        .until("the annotation to be put back", async || {
            Ok(scene.given("ops/theirs").await?.as_deref() == Some(arn.as_str()))
        })
        .await?;
    scene.node.kubectl(&["delete", "serviceaccount", "new", "--namespace", "shop"]).await?;
    scene.until("the account to be made again", async || scene.is_there("shop/new").await).await?;
    scene.iam("DetachRolePolicy", "app", &[("PolicyArn", &two)]).await?;
    let schema = r#"[{"op": "remove", "path": "/spec/names/shortNames"}]"#;
    let target = ["patch", "crd", "serviceaccountroles.irsad.dev", "--type", "json", "-p", schema];
    scene.node.kubectl(&target).await?;
    daemon.signal("HUP")?;
    scene
        .until("the role to be mended", async || {
            Ok(scene.iam("ListAttachedRolePolicies", "app", &[]).await?.contains(&two))
        })
        .await?;
    scene
        .until("the definition to be mended", async || Ok(scene.node.kubectl(&["get", "sarole"]).await.is_ok()))
        .await?;

    // Idle, nothing is asked of IAM and nothing is written.
    scene
        .until("the status to be told", async || Ok(scene.machine.run(&["status"])?.stdout.contains("1 ready")))
        .await?;
    let (version, calls) = (scene.get(&["sarole", "app"]).await?.ok_or("an object")?, scene.cloud.all_requests());
    scene.node.kubectl(&["annotate", "serviceaccount", "theirs", "--namespace", "ops", "unrelated=1"]).await?;
    scene.node.kubectl(&["create", "serviceaccount", "unrelated", "--namespace", "ops"]).await?;
    daemon_looks(&scene).await?;
    assert_eq!(
        scene.get(&["sarole", "app"]).await?.ok_or("an object")?["metadata"]["resourceVersion"],
        version["metadata"]["resourceVersion"]
    );
    let of_roles = |name: &&String| name.contains("Role") && !name.contains("AssumeRole");
    let count = |calls: &std::collections::BTreeMap<String, usize>| -> usize {
        calls.iter().filter(|(name, _)| of_roles(name)).map(|(_, times)| times).sum()
    };
    assert_eq!(count(&scene.cloud.all_requests()), count(&calls));

    scene.node.kubectl(&["delete", "sarole", "app", "--wait=false"]).await?;
    scene.until_gone("app").await?;
    assert!(!scene.has_role("app").await);
    assert_eq!(scene.given("ops/theirs").await?, None, "an account of somebody else stays, without the annotation");
    assert!(!scene.is_there("shop/new").await?);
    Ok(())
}

/// Waits for a whole pass.
async fn daemon_looks(scene: &Scene) -> Result {
    let written = || -> Result<serde_json::Value> {
        Ok(serde_json::from_str::<serde_json::Value>(&scene.machine.read("/run/irsad/status.json")?)?["writtenAt"]
            .clone())
    };
    let before = written()?;
    scene.until("another pass", async || Ok(written()? != before)).await
}

#[tokio::test]
async fn object_that_is_deleted_while_no_irsad_runs_is_cleaned_up_by_the_next_one() -> Result {
    let Some(scene) = Scene::start("away").await? else { return Ok(()) };
    let mut daemon = scene.daemon().await?;
    for (name, policy) in [("delete", "Delete"), ("keep", "Keep"), ("lost", "Delete")] {
        let account = format!("shop/{name}");
        scene.apply(&scene.object(name, &[&account], &json!({ "deletionPolicy": policy }))).await?;
        scene.until_reason(name, "AsWanted").await?;
    }
    daemon.signal("TERM")?;
    daemon.ended()?;
    for name in ["delete", "keep"] {
        scene.node.kubectl(&["delete", "sarole", name, "--wait=false"]).await?;
        assert!(scene.get(&["sarole", name]).await?.is_some(), "it waits for its role to be removed");
    }
    // Somebody does not wait for it.
    scene.node.kubectl(&["delete", "sarole", "lost", "--wait=false"]).await?;
    let none = r#"{"metadata":{"finalizers":[]}}"#;
    scene.node.kubectl(&["patch", "sarole", "lost", "--type", "merge", "-p", none]).await?;
    let planned = scene.machine.run(&["plan"])?.stdout;
    let goes = "- ServiceAccountRole delete: take it from service account shop/delete, remove role away-delete, where it is this object's, let the object go";
    assert!(planned.contains(goes), "{planned}");
    let _daemon = scene.daemon().await?;
    for name in ["delete", "keep"] {
        scene.until_gone(name).await?;
    }
    scene
        .until("the role that nothing asks for to be named", async || {
            let status: serde_json::Value =
                serde_json::from_str(&scene.machine.run(&["status", "-o", "json"])?.stdout)?;
            let orphans = status["report"]["roles"]["orphans"].as_array().cloned().unwrap_or_default();
            Ok(orphans.contains(&json!({ "role": scene.role("lost"), "owner": "ServiceAccountRole/lost" })))
        })
        .await?;
    assert!(scene.machine.run(&["status"])?.stdout.contains("nothing asks for it any more; it stays as it is"));
    assert!(scene.has_role("lost").await, "it is never removed by itself");
    let released = scene.get(&["serviceaccount", "delete", "--namespace", "shop"]).await?.ok_or("it stays")?;
    assert_eq!(released["metadata"]["labels"], serde_json::Value::Null, "it is nobody's from now on");
    assert_eq!((scene.has_role("delete").await, scene.has_role("keep").await), (false, true));
    assert_eq!(scene.given("shop/delete").await?, None);
    assert_eq!(scene.given("shop/keep").await?, Some(scene.arn("keep")));

    // One of the same name takes the role that was kept up again.
    scene.apply(&scene.object("keep", &["shop/keep"], &json!({}))).await?;
    scene.until_reason("keep", "AsWanted").await?;
    Ok(())
}

#[tokio::test]
async fn leader_that_is_lost_in_the_middle_leaves_what_the_next_one_completes() -> Result {
    let Some(scene) = Scene::start("lost").await? else { return Ok(()) };
    let policy = scene.policy("one").await?;
    let daemon = scene.daemon().await?;
    scene.cloud.fail("AttachRolePolicy", Fault::AnswerLost, 1);
    scene.cloud.fail("AttachRolePolicy", Fault::Slow(std::time::Duration::from_secs(60)), 1);
    scene.apply(&scene.object("app", &["shop/app"], &json!({ "policies": [policy] }))).await?;
    scene.until("the role to be half made", async || Ok(scene.cloud.requests("AttachRolePolicy") >= 2)).await?;
    assert!(!scene.is_there("shop/app").await?, "no account has a role that is not complete");
    // Killed, as a node that loses power: nothing is given back.
    drop(daemon);
    let _next = scene.daemon().await?;
    scene.until_reason("app", "AsWanted").await?;
    assert!(scene.iam("ListAttachedRolePolicies", "app", &[]).await?.contains(&policy));
    assert_eq!((scene.given("shop/app").await?, scene.cloud.requests("CreateRole")), (Some(scene.arn("app")), 1));
    Ok(())
}
