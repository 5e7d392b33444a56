//! A cluster whose issuer is in S3, with everything that AWS has a part in.

use hyper::Method;
use serde_json::json;

use super::{STS, Scene, world_outside};
use crate::{
    cloud::{
        ACCOUNT,
        client::{ask, call},
    },
    irsad::{Machine, Result},
    kubernetes::free_ports,
    outsider,
};

const BUCKET: &str = "irsad-adoption";
const ISSUER: &str = "https://irsad-adoption.s3.eu-west-1.amazonaws.com";
const ROLE: &str = "checkout";

#[tokio::test]
async fn s3_cluster_end_to_end() -> Result {
    let Some(cloud) = world_outside() else { return Ok(()) };
    let [port, ..] = free_ports()?;
    let ports = format!("webhook: {{ port: {port} }}\nmetrics: {{ port: 0 }}\n");
    let config = format!("version: 1\ncluster: adoption\nissuer: {{ store: \"s3://{BUCKET}\" }}\n{ports}");
    let scene = Scene::in_aws(cloud, &format!("{config}provider: {{ tags: {{ team: platform }} }}\n")).await?;
    let old_token = scene.node.mint(None).await?;
    let daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&old_token).await?;
    assert_eq!(scene.starts(), 2);

    let token = scene.node.mint(Some(STS)).await?;
    let claims = outsider::verify_published(&token, ISSUER, STS, &scene.cloud).await??;
    assert_eq!((&claims["iss"], &claims["aud"]), (&ISSUER.into(), &json!([STS])));
    role_is_assumed_with(&scene.machine, &token).await?;
    let arn = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{}", ISSUER.trim_start_matches("https://"));
    let parameters =
        [("Action", "GetOpenIDConnectProvider"), ("Version", "2010-05-08"), ("OpenIDConnectProviderArn", &arn)];
    let provider = call("iam", &parameters).await?;
    for text in
        ["<Key>irsad/cluster</Key>", "<Value>adoption</Value>", "<Key>team</Key>", "<Value>platform</Value>", STS]
    {
        assert!(provider.contains(text), "{text} is missing in {provider}");
    }
    for operation in ["CreateBucket", "PutPublicAccessBlock", "PutBucketPolicy", "CreateOpenIDConnectProvider"] {
        assert_eq!(scene.cloud.requests(operation), 1, "{operation}: {:?}", scene.cloud.all_requests());
    }

    let (jwks, discovery) =
        (format!("/{BUCKET}/openid/v1/jwks"), format!("/{BUCKET}/.well-known/openid-configuration"));
    let (good_jwks, good_discovery) =
        (ask("s3", Method::GET, &jwks, "").await?, ask("s3", Method::GET, &discovery, "").await?);
    ask("s3", Method::DELETE, &jwks, "").await?;
    ask("s3", Method::PUT, &discovery, "{\"issuer\": \"https://somebody.example\"}").await?;
    let healed = scene.cloud.requests("PutObject") + 2;
    scene
        .until("both objects to be written again", &old_token, |scene| Ok(scene.cloud.requests("PutObject") >= healed))
        .await?;
    scene.passes(&daemon, &old_token).await?;
    assert_eq!(ask("s3", Method::GET, &jwks, "").await?, good_jwks);
    assert_eq!(ask("s3", Method::GET, &discovery, "").await?, good_discovery);
    let said = scene.machine.run(&["verify"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!((scene.starts(), scene.health()?.as_str()), (2, "converged"));
    Ok(())
}

/// STS takes the token as it is, from somebody without credentials. That it is good, moto does not check: an outsider did.
async fn role_is_assumed_with(machine: &Machine, token: &str) -> Result {
    let arguments = ["trust-policy", "--namespace", "kube-system", "--service-account", "default"];
    let policy = machine.run(&[&arguments[..], &["--account", ACCOUNT]].concat())?;
    assert_eq!(policy.code, Some(0), "{policy:?}");
    let document = ("AssumeRolePolicyDocument", policy.stdout.as_str());
    call("iam", &[("Action", "CreateRole"), ("Version", "2010-05-08"), ("RoleName", ROLE), document]).await?;
    let role = format!("arn:aws:iam::{ACCOUNT}:role/{ROLE}");
    let action = [("Action", "AssumeRoleWithWebIdentity"), ("Version", "2011-06-15")];
    let assumed = [("RoleArn", role.as_str()), ("RoleSessionName", "pod"), ("WebIdentityToken", token)];
    let answer = call("sts", &[action.as_slice(), assumed.as_slice()].concat()).await?;
    assert!(answer.contains("<AccessKeyId>") && answer.contains(&format!("assumed-role/{ROLE}/pod")), "{answer}");
    Ok(())
}
