//! From a service account with a role to credentials of AWS, by the example of `examples/echoer`.

use irsad::model::trust_policy::{Verdict, WebIdentity, verdict};
use serde_json::{Value, json};

use super::{STS, Scene, world_outside};
use crate::{
    cloud::{ACCOUNT, client::call},
    echoer,
    irsad::Result,
    kubernetes::free_ports,
    outsider,
};

const BUCKET: &str = "irsad-echoer";
const ISSUER: &str = "https://irsad-echoer.s3.eu-west-1.amazonaws.com";
const SUBJECT: &str = "system:serviceaccount:default:s3-echoer";

/// A cluster whose issuer is `bucket`, as a daemon has left it, with `more` configuration.
pub(super) async fn scene(bucket: &str, more: &str) -> Result<Option<(Scene, crate::irsad::Daemon)>> {
    let Some(cloud) = world_outside() else { return Ok(None) };
    let [port, ..] = free_ports()?;
    let issuer = format!("issuer: {{ store: \"s3://{bucket}\" }}\n");
    let configuration = format!("version: 1\ncluster: echoer\n{issuer}webhook: {{ port: {port} }}\n{more}");
    let scene = Scene::in_aws(cloud, &configuration).await?;
    let token = scene.node.mint(None).await?;
    let daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&token).await?;
    Ok(Some((scene, daemon)))
}

/// A pod as the example's Job would make it.
pub(super) async fn pod(scene: &Scene, name: &str) -> Result<Value> {
    let job = scene.node.kubectl(&["get", "job", "s3-echoer", "--output=json"]).await?;
    let template = &serde_json::from_str::<Value>(&job)?["spec"]["template"];
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" }, "spec": template["spec"],
    }))
}

pub(super) async fn apply(scene: &Scene, object: &Value) -> Result {
    scene.machine.write("/root/object.json", &object.to_string())?;
    let path = scene.machine.path("/root/object.json").display().to_string();
    scene.node.kubectl(&["create", "--filename", &path]).await.map(drop)
}

async fn get(scene: &Scene, what: &[&str]) -> Result<Value> {
    let found = scene.node.kubectl(&[&["get", "--output=json"], what].concat()).await?;
    Ok(serde_json::from_str(&found)?)
}

/// The token that kubelet would ask for and mount: bound to the pod, with what its volume says.
async fn token_of(scene: &Scene, pod: &str) -> Result<String> {
    let found = get(scene, &["pod", pod]).await?;
    let volumes = found["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let volume = volumes.iter().find(|volume| volume["name"] == "aws-iam-token").ok_or("the token's volume")?;
    let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
    let (audience, seconds) = (&token["audience"], &token["expirationSeconds"]);
    let (audience, duration) = (audience.as_str().ok_or("an audience")?, format!("--duration={seconds}s"));
    let uid = format!("--bound-object-uid={}", found["metadata"]["uid"].as_str().unwrap_or_default());
    let bound = ["--bound-object-kind=Pod", "--bound-object-name", pod, &uid];
    let account = found["spec"]["serviceAccountName"].as_str().ok_or("a service account")?;
    let arguments = ["create", "token", account, "--namespace=default", "--audience", audience, &duration];
    Ok(scene.node.kubectl(&[&arguments[..], &bound].concat()).await?.trim().to_owned())
}

/// Every `StringEquals` of the policy, compared with the claims by this test itself.
fn fits_by_hand(policy: &str, claims: &Value) -> Result {
    let policy: Value = serde_json::from_str(policy)?;
    let conditions = policy["Statement"][0]["Condition"]["StringEquals"].as_object().ok_or("conditions")?;
    assert_eq!(conditions.len(), 2, "{conditions:?}");
    for (key, wanted) in conditions {
        let claim = key
            .strip_prefix(ISSUER.trim_start_matches("https://"))
            .ok_or_else(|| format!("{key} is of another issuer"))?;
        let found = &claims[claim.trim_start_matches(':')];
        let found = found.as_array().and_then(|list| list.first()).unwrap_or(found);
        assert_eq!(found, wanted, "{key}");
    }
    Ok(())
}

/// A pod of a service account that gets its role a moment later.
async fn early_pod(scene: &Scene, role: &str) -> Result {
    let metadata = json!({ "name": "late", "namespace": "default", "annotations": { "team": "shop" } });
    apply(scene, &json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })).await?;
    let mut early = pod(scene, "early").await?;
    early["spec"]["serviceAccountName"] = "late".into();
    apply(scene, &early).await?;
    let role = format!("eks.amazonaws.com/role-arn={role}");
    scene.node.kubectl(&["annotate", "serviceaccount", "late", &role]).await.map(drop)
}

#[tokio::test]
async fn pod_of_the_example_gets_its_role_and_a_pod_without_credentials_is_explained() -> Result {
    let Some((scene, mut daemon)) = scene(BUCKET, "metrics: { port: 0 }\n").await? else { return Ok(()) };
    let role = format!("arn:aws:iam::{ACCOUNT}:role/s3-echoer");
    let arguments = ["trust-policy", "--namespace", "default", "--service-account", "s3-echoer", "--account", ACCOUNT];
    let policy = scene.machine.run(&arguments)?.stdout;
    let document = ("AssumeRolePolicyDocument", policy.as_str());
    call("iam", &[("Action", "CreateRole"), ("Version", "2010-05-08"), ("RoleName", "s3-echoer"), document]).await?;
    scene.node.kubectl(&["apply", "--filename", echoer::FILE]).await?;
    apply(&scene, &pod(&scene, "s3-echoer-1").await?).await?;

    let token = token_of(&scene, "s3-echoer-1").await?;
    let claims = outsider::verify_published(&token, ISSUER, STS, &scene.cloud).await??;
    assert_eq!((&claims["iss"], &claims["sub"]), (&ISSUER.into(), &SUBJECT.into()));
    assert_eq!(claims["kubernetes.io"]["pod"]["name"], "s3-echoer-1");
    fits_by_hand(&policy, &claims)?;
    let provider = ISSUER.trim_start_matches("https://");
    let provider_arn = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}");
    let presented = WebIdentity { provider_arn: &provider_arn, provider, subject: SUBJECT, audience: STS };
    assert_eq!(verdict(&policy, &presented), Verdict::Allows);
    let action = [("Action", "AssumeRoleWithWebIdentity"), ("Version", "2011-06-15")];
    let assumed = [("RoleArn", role.as_str()), ("RoleSessionName", "pod"), ("WebIdentityToken", token.as_str())];
    let answer = call("sts", &[action.as_slice(), assumed.as_slice()].concat()).await?;
    assert!(answer.contains("<AccessKeyId>") && answer.contains("assumed-role/s3-echoer/pod"), "{answer}");

    let said = scene.machine.run(&["verify", "--pod", "default/s3-echoer-1"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        &format!("ok       its service account has role {role} (annotation eks.amazonaws.com/role-arn)"),
        "ok       a webhook is registered that gives credentials to pods (irsad-pod-identity, failurePolicy Ignore)",
        "ok       container echoer has credentials",
        &format!("ok       the role's trust policy takes a token of {SUBJECT} for {STS}"),
        &format!("ok       it signs as {ISSUER}"),
    ] {
        assert!(said.stdout.lines().any(|found| found == line), "{line} is missing in {}", said.stdout);
    }
    let said = scene.machine.run(&["verify"])?;
    assert_eq!(said.code, Some(0), "{said:?}");

    early_pod(&scene, &role).await?;
    // It looks at pods every ten minutes, and when it begins to lead.
    daemon.signal("TERM")?;
    daemon.ended()?;
    missed_pod_is_explained_and_told_of(&scene).await
}

async fn missed_pod_is_explained_and_told_of(scene: &Scene) -> Result {
    let said = scene.machine.run(&["verify", "--pod", "default/early", "--output", "json"])?;
    let explained: Value = serde_json::from_str(&said.stdout)?;
    assert_eq!((said.code, &explained["holds"], &explained["pod"]), (Some(1), &false.into(), &"default/early".into()));
    let why = "it was created before its service account named the role";
    let says_why = |check: &Value| check["outcome"]["why"].as_str().is_some_and(|text| text.starts_with(why));
    let container = explained["checks"]
        .as_array()
        .and_then(|checks| checks.iter().find(|check| check["statement"] == "container echoer has credentials"));
    assert!(container.is_some_and(says_why), "{explained}");
    let said = scene.machine.run(&["verify"])?;
    let line = format!(
        "FAILS    every pod whose service account has a role has credentials: 1 pod runs without AWS credentials: default/early ({why}); "
    );
    assert!(said.code == Some(1) && said.stdout.contains(&line), "{said:?}");

    let _daemon = scene.machine.daemon(&[])?;
    let token = scene.node.mint(None).await?;
    let missed = |scene: &Scene| Ok(scene.report()?["missedPods"]["pods"][0]["pod"] == "default/early");
    scene.until("the missed pod to be in the report", &token, missed).await?;
    scene.until_converged(&token).await?;
    let told = ["events.events.k8s.io", "--namespace=default", "--field-selector=reason=NoAWSCredentials"];
    let events = get(scene, &told).await?["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["regarding"]["name"], &events[0]["type"]), (&"early".into(), &"Warning".into()));
    let status = scene.machine.run(&["status"])?;
    assert!(
        status.code == Some(0) && status.stdout.contains("missed pods  1 pod runs without AWS credentials"),
        "{status:?}"
    );
    Ok(())
}
