//! From a service account with a role to credentials of AWS, by the example of `examples/echoer`.

use base64::{Engine, engine::general_purpose::STANDARD};
use irsad::model::{
    pod_identity::{Account, ContainerCredentials, ContainerCredentialsToken, PodIdentity, Review, RoleMap},
    trust_policy::{Verdict, WebIdentity, verdict},
};
use serde_json::{Value, json};

use super::{CONFIG, Scene, s3::call, world_outside};
use crate::{
    cloud::ACCOUNT,
    echoer,
    irsad::{Machine, Result},
    kubernetes::Node,
    outsider,
};

const BUCKET: &str = "irsad-echoer";
const ISSUER: &str = "https://irsad-echoer.s3.eu-west-1.amazonaws.com";
const SUBJECT: &str = "system:serviceaccount:default:s3-echoer";

/// A cluster whose issuer is in S3, as a daemon has left it.
async fn scene() -> Result<Option<(Scene, crate::irsad::Daemon)>> {
    let Some(cloud) = world_outside() else { return Ok(None) };
    let node = Node::start().await?;
    let mut machine = Machine::at(&node.root());
    cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
    machine.write(CONFIG, &format!("version: 1\ncluster: echoer\nissuer: {{ store: \"s3://{BUCKET}\" }}\n"))?;
    let token = node.mint(None).await?;
    let scene = Scene { node, cloud, machine };
    let daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&token).await?;
    Ok(Some((scene, daemon)))
}

/// A pod as the example's Job would make it.
async fn pod(scene: &Scene, name: &str) -> Result<Value> {
    let job = scene.node.kubectl(&["get", "job", "s3-echoer", "--output=json"]).await?;
    let template = &serde_json::from_str::<Value>(&job)?["spec"]["template"];
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" }, "spec": template["spec"],
    }))
}

async fn apply(scene: &Scene, object: &Value) -> Result {
    scene.machine.write("/root/object.json", &object.to_string())?;
    let path = scene.machine.path("/root/object.json").display().to_string();
    scene.node.kubectl(&["create", "--filename", &path]).await.map(drop)
}

async fn get(scene: &Scene, what: &[&str]) -> Result<Value> {
    let found = scene.node.kubectl(&[&["get", "--output=json"], what].concat()).await?;
    Ok(serde_json::from_str(&found)?)
}

/// The pod as the webhook changes it.
fn admitted(pod: &Value, role: &str) -> Result<Value> {
    let text = str::to_owned;
    let settings = PodIdentity {
        annotation_prefix: text("eks.amazonaws.com"),
        audience: text("sts.amazonaws.com"),
        mount_path: text("/var/run/secrets/eks.amazonaws.com/serviceaccount"),
        token_expiration_seconds: 86_400,
        default_region: None,
        regional_sts: false,
        composition: None,
        container_credentials: ContainerCredentialsToken {
            audience: text("pods.eks.amazonaws.com"),
            mount_path: text("/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"),
            volume_name: text("eks-pod-identity-token"),
            token_path: text("eks-pod-identity-token"),
            full_uri: text("http://169.254.170.23/v1/credentials"),
        },
    };
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": { "uid": "1", "namespace": "default", "object": pod },
    })
    .to_string();
    let account = Account::read([("eks.amazonaws.com/role-arn", role)], "eks.amazonaws.com");
    let review = Review::parse(review.as_bytes())?;
    let answer = settings.answer(&review, Some(&account), &RoleMap::default(), &ContainerCredentials::default(), 0);
    let answer: Value = serde_json::from_slice(&answer)?;
    let patch =
        STANDARD.decode(answer["response"]["patch"].as_str().ok_or_else(|| format!("no patch in {answer}"))?)?;
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch)?)?;
    Ok(pod)
}

/// A webhook that is registered and is never called.
async fn register(scene: &Scene) -> Result {
    let webhook = json!({
        "name": "pod-identity.irsad.io", "failurePolicy": "Ignore", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": { "url": "https://127.0.0.1:1/mutate" },
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "default" } },
    });
    apply(
        scene,
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": "irsad-pod-identity" }, "webhooks": [webhook],
        }),
    )
    .await
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

#[tokio::test]
async fn pod_of_the_example_gets_its_role_and_a_pod_without_credentials_is_explained() -> Result {
    let Some((scene, daemon)) = scene().await? else { return Ok(()) };
    let role = format!("arn:aws:iam::{ACCOUNT}:role/s3-echoer");
    let arguments = ["trust-policy", "--namespace", "default", "--service-account", "s3-echoer", "--account", ACCOUNT];
    let policy = scene.machine.run(&arguments)?.stdout;
    let document = ("AssumeRolePolicyDocument", policy.as_str());
    call("iam", &[("Action", "CreateRole"), ("Version", "2010-05-08"), ("RoleName", "s3-echoer"), document]).await?;

    scene.node.kubectl(&["apply", "--filename", echoer::FILE]).await?;
    register(&scene).await?;
    let wanted = pod(&scene, "s3-echoer-1").await?;
    apply(&scene, &admitted(&wanted, &role)?).await?;

    let token = token_of(&scene, "s3-echoer-1").await?;
    let claims = outsider::verify_published(&token, ISSUER, "sts.amazonaws.com", &scene.cloud).await??;
    assert_eq!((&claims["iss"], &claims["sub"]), (&ISSUER.into(), &SUBJECT.into()));
    assert_eq!(claims["kubernetes.io"]["pod"]["name"], "s3-echoer-1");
    fits_by_hand(&policy, &claims)?;
    let provider = ISSUER.trim_start_matches("https://");
    let provider_arn = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}");
    let presented =
        WebIdentity { provider_arn: &provider_arn, provider, subject: SUBJECT, audience: "sts.amazonaws.com" };
    assert_eq!(verdict(&policy, &presented), Verdict::Allows);
    let action = [("Action", "AssumeRoleWithWebIdentity"), ("Version", "2011-06-15")];
    let assumed = [("RoleArn", role.as_str()), ("RoleSessionName", "pod"), ("WebIdentityToken", token.as_str())];
    let answer = call("sts", &[action.as_slice(), assumed.as_slice()].concat()).await?;
    assert!(answer.contains("<AccessKeyId>") && answer.contains("assumed-role/s3-echoer/pod"), "{answer}");

    let said = scene.machine.run(&["verify", "--pod", "default/s3-echoer-1"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        &format!("ok       its service account has role {role} (annotation eks.amazonaws.com/role-arn)"),
        "ok       container echoer has credentials",
        &format!("ok       the role's trust policy takes a token of {SUBJECT} for sts.amazonaws.com"),
        &format!("ok       it signs as {ISSUER}"),
    ] {
        assert!(said.stdout.lines().any(|found| found == line), "{line} is missing in {}", said.stdout);
    }
    missed_pod_is_told_of(&scene, &wanted, daemon).await
}

/// A pod that no webhook has changed.
async fn missed_pod_is_told_of(scene: &Scene, wanted: &Value, mut daemon: crate::irsad::Daemon) -> Result {
    // It looks at pods every ten minutes, and when it begins to lead.
    daemon.signal("TERM")?;
    daemon.ended()?;
    let mut bare = wanted.clone();
    bare["metadata"]["name"] = "s3-echoer-2".into();
    apply(scene, &bare).await?;
    let said = scene.machine.run(&["verify", "--pod", "default/s3-echoer-2", "--output", "json"])?;
    let explained: Value = serde_json::from_str(&said.stdout)?;
    assert_eq!(
        (said.code, &explained["holds"], &explained["pod"]),
        (Some(1), &false.into(), &"default/s3-echoer-2".into())
    );
    let said = scene.machine.run(&["verify"])?;
    let line = "FAILS    every pod whose service account has a role has credentials: 1 pod runs without AWS credentials: default/s3-echoer-2 (";
    assert!(said.code == Some(1) && said.stdout.contains(line), "{said:?}");

    let _daemon = scene.machine.daemon(&[])?;
    let token = scene.node.mint(None).await?;
    let missed = |scene: &Scene| Ok(scene.report()?["missedPods"]["pods"][0]["pod"] == "default/s3-echoer-2");
    scene.until("the missed pod to be in the report", &token, missed).await?;
    scene.until_converged(&token).await?;
    let events =
        get(scene, &["events.events.k8s.io", "--namespace=default", "--field-selector=reason=NoAWSCredentials"])
            .await?;
    let events = events["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["regarding"]["name"], &events[0]["type"]), (&"s3-echoer-2".into(), &"Warning".into()));
    let status = scene.machine.run(&["status"])?;
    assert!(
        status.code == Some(0) && status.stdout.contains("missed pods  1 pod runs without AWS credentials"),
        "{status:?}"
    );
    Ok(())
}
