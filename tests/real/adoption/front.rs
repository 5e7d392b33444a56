//! A cluster whose documents lie in a closed bucket and are served by a cache before it.

use super::{Scene, world_outside};
use crate::{irsad::Result, outsider};

const BUCKET: &str = "irsad-front";
const HOST: &str = "oidc.front.example";
const ISSUER: &str = "https://oidc.front.example";
const JWKS: &str = "/openid/v1/jwks";
/// Keys of somebody who served documents there before.
const OTHER_KEYS: &[u8] =
    b"{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"old\",\"alg\":\"RS256\",\"use\":\"sig\",\"n\":\"AQ\",\"e\":\"AQAB\"}]}";

/// One check of `irsad verify`: its word, then the text.
fn line<'a>(verified: &'a str, statement: &str) -> &'a str {
    verified.lines().find(|line| line.contains(statement)).unwrap_or_default()
}

#[tokio::test]
async fn api_server_is_not_changed_before_the_cache_serves_what_the_closed_bucket_holds() -> Result {
    let Some(cloud) = world_outside() else { return Ok(()) };
    let issuer = format!("issuer: {{ store: \"s3://{BUCKET}\", access: external, url: \"{ISSUER}\" }}\n");
    let configuration =
        format!("version: 1\ncluster: adoption\n{issuer}webhook: {{ mode: none }}\nmetrics: {{ port: 0 }}\n");
    cloud.serve_bucket(HOST, BUCKET);
    cloud.put_copy(HOST, JWKS, OTHER_KEYS);
    cloud.keep_copies(HOST, true);
    let scene = Scene::in_aws(cloud, &configuration).await?;
    let old_token = scene.node.mint(None).await?;
    let _daemon = scene.machine.daemon(&[])?;

    let stale = format!(
        "{ISSUER}{JWKS} serves another copy than s3://{BUCKET} holds (a cache has kept it for 47 s); no new key signs"
    );
    let is_said = |scene: &Scene| Ok(scene.machine.run(&["status"])?.stdout.contains(&stale));
    scene.until("status to say what the cache serves", &old_token, is_said).await?;
    assert!(scene.machine.run(&["status"])?.stdout.contains("aws cloudfront create-invalidation"), "the cure is said");
    let verified = scene.machine.run(&["verify"])?;
    let check = line(&verified.stdout, &format!("{ISSUER} serves what s3://{BUCKET} holds"));
    assert!(check.starts_with("FAILS") && check.contains(&stale), "{verified:?}");
    assert_eq!(scene.starts(), 1, "no key signs as an issuer whose keys are not to be had");
    assert_eq!(scene.cloud.requests("CreateOpenIDConnectProvider"), 0);

    scene.cloud.keep_copies(HOST, false);
    scene.until_converged(&old_token).await?;
    assert_eq!(scene.starts(), 2);
    let token = scene.node.mint(Some("sts.amazonaws.com")).await?;
    let claims = outsider::verify_published(&token, ISSUER, "sts.amazonaws.com", &scene.cloud).await??;
    assert_eq!(claims["iss"], ISSUER);
    for operation in ["PutBucketPolicy", "PutPublicAccessBlock"] {
        assert_eq!(scene.cloud.requests(operation), 0, "the bucket stays closed: {:?}", scene.cloud.all_requests());
    }
    let verified = scene.machine.run(&["verify"])?;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    Ok(())
}
