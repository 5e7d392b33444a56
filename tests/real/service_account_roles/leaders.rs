//! Two irsads, one of which is lost in the middle of its work.

use std::time::Duration;

use serde_json::{Value, json};

use super::Scene;
use crate::{
    cloud::Fault,
    irsad::{Machine, Result, copy},
};

impl Scene {
    /// The same node once more below a folder of its own: it has the API server and the account in common with the first one.
    fn beside(&self, folder: &tempfile::TempDir) -> Result<Machine> {
        copy(&self.machine.path("/etc"), &folder.path().join("etc"))?;
        let mut machine = Machine::at(folder.path());
        self.cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
        Ok(machine)
    }

    async fn holder(&self) -> Result<String> {
        self.node
            .kubectl(&["get", "lease", "irsad", "--namespace", "kube-system", "-o", "jsonpath={.spec.holderIdentity}"])
            .await
    }

    async fn attached(&self, name: &str) -> Result<String> {
        self.iam("ListAttachedRolePolicies", name, &[]).await
    }
}

fn role_of(machine: &Machine) -> Result<Value> {
    Ok(serde_json::from_str::<Value>(&machine.read("/run/irsad/status.json")?)?["role"].clone())
}

#[tokio::test]
async fn leader_that_stands_still_in_the_middle_is_followed_by_another_and_does_no_harm_when_it_goes_on() -> Result {
    let Some(scene) = Scene::start("leaders").await? else { return Ok(()) };
    let (one, two) = (scene.policy("one").await?, scene.policy("two").await?);
    let folder = tempfile::tempdir()?;
    let other = scene.beside(&folder)?;
    let first = scene.daemon().await?;
    scene.until("the first one to lead", async || Ok(role_of(&scene.machine)? == "leader")).await?;
    let held = scene.holder().await?;
    let _second = other.daemon(&[])?;
    scene.until("the second one to follow", async || Ok(role_of(&other)? == "follower")).await?;

    // Its answer never comes: whoever is made to go on would try again.
    scene.cloud.fail("AttachRolePolicy", Fault::Slow(Duration::from_secs(600)), 1);
    scene.apply(&scene.object("app", &["shop/app"], &json!({ "policies": [one, two] }))).await?;
    scene.until("the role to be half made", async || Ok(scene.cloud.requests("AttachRolePolicy") > 0)).await?;
    first.signal("STOP")?;
    assert!(!scene.is_there("shop/app").await?, "no account has a role that is not complete");

    scene.until("the second one to lead", async || Ok(scene.holder().await? != held)).await?;
    scene.until_reason("app", "AsWanted").await?;
    let attached = scene.attached("app").await?;
    assert!(attached.contains(&one) && attached.contains(&two), "{attached}");
    assert_eq!((scene.given("shop/app").await?, scene.cloud.requests("CreateRole")), (Some(scene.arn("app")), 1));

    // Nobody wants any more what the first one was about to do.
    scene.apply(&scene.object("app", &["shop/other"], &json!({ "policies": [] }))).await?;
    scene.until_reason("app", "AsWanted").await?;
    assert!(!scene.attached("app").await?.contains("<member>"));
    let attempts = scene.cloud.requests("AttachRolePolicy");
    let object = scene.get(&["sarole", "app"]).await?;
    first.signal("CONT")?;
    scene.until("the first one to follow", async || Ok(role_of(&scene.machine)? == "follower")).await?;
    scene.apply(&scene.object("later", &["shop/later"], &json!({}))).await?;
    scene.until_reason("later", "AsWanted").await?;
    assert_eq!(scene.cloud.requests("AttachRolePolicy"), attempts, "{}", first.log());
    assert!(!scene.attached("app").await?.contains("<member>"));
    assert_eq!(scene.get(&["sarole", "app"]).await?, object);
    assert_eq!((scene.given("shop/app").await?, scene.given("shop/other").await?), (None, Some(scene.arn("app"))));
    Ok(())
}
