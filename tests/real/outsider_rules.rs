//! The outsider itself: what the other tests take for granted.

use std::{env, fs, path::Path};

use serde_json::Value;

use crate::{
    kubernetes::{KUBEADM_ISSUER, Node, Result, programs},
    outsider::{PYTHON, verify},
};

/// What an issuer publishes, in a folder, with one value of one document replaced.
fn publish(folder: &Path, jwks: &Value, change: (&str, &str)) -> Result<()> {
    let discovery = serde_json::json!({
        "issuer": KUBEADM_ISSUER,
        "jwks_uri": format!("{KUBEADM_ISSUER}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    for (path, document) in [(".well-known/openid-configuration", &discovery), ("openid/v1/jwks", jwks)] {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().ok_or("a document stands in a folder")?)?;
        fs::write(path, document.to_string().replace(change.0, change.1))?;
    }
    Ok(())
}

#[tokio::test]
async fn token_of_a_live_node_is_good_outside_and_nothing_else_is() -> Result<()> {
    if programs().is_none() || env::var_os(PYTHON).is_none() {
        crate::missing("Kubernetes programs or Python packages", "tests/setup makes them");
        return Ok(());
    }
    let node = Node::start().await?;
    let folder = tempfile::tempdir()?;
    let documents = folder.path().to_str().ok_or("a temporary path is UTF-8")?;
    let token = node.mint(Some("sts.amazonaws.com")).await?;
    let jwks: Value = serde_json::from_str(&node.get("/openid/v1/jwks").await?)?;
    let kid = jwks["keys"][0]["kid"].as_str().ok_or("a key has a kid")?;
    let verify = async |token: &str, audience: &str, change: (&str, &str)| {
        publish(folder.path(), &jwks, change)?;
        verify(token, KUBEADM_ISSUER, audience, documents).await
    };

    let claims = verify(&token, "sts.amazonaws.com", ("", "")).await??;
    assert_eq!(claims["sub"], "system:serviceaccount:kube-system:default");

    let other = node.mint(Some("vault")).await?;
    let (signed, signature) = (token.rsplit_once('.').map(|it| it.0), other.rsplit_once('.').map(|it| it.1));
    let tampered = format!("{}.{}", signed.unwrap_or_default(), signature.unwrap_or_default());
    let refused = [
        (&token, "vault", ("", ""), "Audience doesn't match".to_owned()),
        (&tampered, "sts.amazonaws.com", ("", ""), "Signature verification failed".to_owned()),
        (
            &token,
            "sts.amazonaws.com",
            (kid, "another"),
            format!("the token's kid {kid} is not published; published: another"),
        ),
        (
            &token,
            "sts.amazonaws.com",
            ("cluster.local\"", "cluster.local/\""),
            format!("the discovery document is of {KUBEADM_ISSUER}/, not of {KUBEADM_ISSUER}"),
        ),
        (
            &token,
            "sts.amazonaws.com",
            ("[\"RS256\"]", "[\"ES256\"]"),
            "the token's algorithm RS256 is not in id_token_signing_alg_values_supported".to_owned(),
        ),
        (
            &token,
            "sts.amazonaws.com",
            ("\"subject_types_supported\":[\"public\"]", "\"x\":1"),
            "the discovery document lacks subject_types_supported".to_owned(),
        ),
    ];
    for (token, audience, change, reason) in refused {
        assert_eq!(verify(token, audience, change).await?.err(), Some(reason));
    }
    Ok(())
}
