//! Roles of the configuration on a live control-plane node.

use std::fmt::Write;

use serde_json::Value;

use super::{CONFIG, HOST, Scene, configuration, world_outside};
use crate::{
    cloud::{ACCOUNT, client::call},
    irsad::Result,
};

const IAM: (&str, &str) = ("Version", "2010-05-08");
const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":"*"}]}"#;
const OPEN: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;

/// Configuration with these entries of the list.
fn with_roles(entries: &[&str]) -> String {
    let mut text = configuration("aws: { region: eu-west-1 }\nroles:\n  mode: list\n  removalDelay: 0s\n  list:");
    if entries.is_empty() {
        text.push_str(" []");
    }
    entries.iter().for_each(|entry| write!(text, "\n    - {{ {entry} }}").unwrap_or_default());
    text + "\n"
}

async fn administer(action: &str, role: &str, more: &[(&str, &str)]) -> Result<String> {
    call("iam", &[&[("Action", action), IAM, ("RoleName", role)], more].concat()).await
}

#[tokio::test]
async fn roles_of_the_list_are_made_healed_and_removed_and_status_says_how_they_are() -> Result {
    let Some(cloud) = world_outside() else { return Ok(()) };
    let policy = format!("arn:aws:iam::{ACCOUNT}:policy/adoption-orders");
    let made = [("Action", "CreatePolicy"), IAM, ("PolicyName", "adoption-orders"), ("PolicyDocument", DOCUMENT)];
    call("iam", &made).await?;
    let orders = format!("serviceAccount: orders, namespace: \"shop-*\", policies: [\"{policy}\"]");
    let broken = "serviceAccount: broken, namespace: shop, policies: [DoesNotExist]";
    let scene = Scene::in_aws(cloud, &with_roles(&[&orders, broken])).await?;
    scene.cloud.serve_folder(HOST, &scene.machine.path("/srv/oidc"));
    let token = scene.node.mint(None).await?;
    let said = scene.machine.run(&["plan"])?;
    assert!(said.stdout.contains("role orders.shop-+.adoption: create it, attach "), "{said:?}");
    assert!(said.stdout.contains("needs a person: role broken.shop.adoption cannot have the policy "), "{said:?}");
    assert_eq!(scene.cloud.requests("CreateRole"), 0, "a plan changes nothing");

    let mut daemon = scene.machine.daemon(&[])?;
    let roles = |scene: &Scene| -> Result<Value> { Ok(scene.report()?["roles"].clone()) };
    let has = |ready: u64, need: u64| {
        move |scene: &Scene| Ok(roles(scene)?["ready"] == ready && roles(scene)?["needAPerson"] == need)
    };
    let ready = scene.until("one role to be ready and one to need a person", &token, has(1, 1)).await;
    ready.map_err(|error| format!("{error}\n{}\n{:?}", daemon.log(), scene.cloud.all_requests()))?;
    let role = administer("GetRole", "orders.shop-+.adoption", &[]).await?;
    assert!(role.contains("<Path>/irsad/adoption/</Path>") && role.contains("StringLike"), "{role}");
    assert!(administer("GetRole", "broken.shop.adoption", &[]).await.is_err(), "nothing half-made");
    let said = scene.machine.run(&["status"])?;
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(
        said.stdout.contains("roles           1 ready, 1 needs a person: role broken.shop.adoption cannot"),
        "{said:?}"
    );

    // What was edited while nobody led is found by the next leader.
    daemon.signal("TERM")?;
    assert_eq!(daemon.ended()?, Some(0));
    administer("UpdateAssumeRolePolicy", "orders.shop-+.adoption", &[("PolicyDocument", OPEN)]).await?;
    let said = scene.machine.run(&["verify"])?;
    assert!(said.stdout.contains("FAILS    IAM has the roles of the list, with this issuer in their trust policies: role orders.shop-+.adoption"), "{said:?}");
    scene.machine.write(CONFIG, &with_roles(&[&orders]))?;
    let daemon = scene.machine.daemon(&[])?;
    scene.until("the role to be ready again", &token, has(1, 0)).await?;
    let role = administer("GetRole", "orders.shop-+.adoption", &[]).await?;
    assert!(role.contains("StringLike"), "{role}");
    let said = scene.machine.run(&["verify"])?;
    assert!(said.stdout.contains("ok       IAM has the roles of the list"), "{said:?}");

    scene.machine.write(CONFIG, &with_roles(&[]))?;
    daemon.signal("HUP")?;
    scene.until("no role to be left", &token, has(0, 0)).await?;
    let until = std::time::Instant::now() + crate::irsad::PATIENCE;
    while administer("GetRole", "orders.shop-+.adoption", &[]).await.is_ok() {
        assert!(std::time::Instant::now() < until, "the role stays: {}", daemon.log());
        tokio::time::sleep(super::TICK).await;
    }
    assert_eq!(scene.cloud.requests("DeleteRole"), 1);
    Ok(())
}
