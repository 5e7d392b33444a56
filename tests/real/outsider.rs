//! Somebody outside the cluster who is handed a token: `oidc_client.py`, which shares no code with irsad.

use std::{env, process::Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{cloud::Cloud, kubernetes::Result};

/// Names the python that has `tests/requirements.txt`.
pub const PYTHON: &str = "IRSAD_TEST_PYTHON";
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/oidc_client.py");

/// Verifies a token for one issuer and audience with what is published at `documents`, a folder or URL.
///
/// `Ok(Ok(claims))` when it is good, `Ok(Err(reason))` when it is refused.
///
/// # Errors
/// When the client cannot run: [`PYTHON`] is not set, or lacks a package.
pub async fn verify(
    token: &str,
    issuer: &str,
    audience: &str,
    documents: &str,
) -> Result<std::result::Result<Value, String>> {
    ask(token, &["--issuer", issuer, "--audience", audience, "--documents", documents]).await
}

/// The same, with what `cloud` shows a stranger at the issuer URL itself.
///
/// # Errors
/// As [`verify`].
pub async fn verify_published(
    token: &str,
    issuer: &str,
    audience: &str,
    cloud: &Cloud,
) -> Result<std::result::Result<Value, String>> {
    let (authority, proxy) = (cloud.authority_pem().display().to_string(), cloud.proxy_url());
    ask(token, &["--issuer", issuer, "--audience", audience, "--ca", &authority, "--proxy", &proxy]).await
}

async fn ask(token: &str, arguments: &[&str]) -> Result<std::result::Result<Value, String>> {
    let python = env::var_os(PYTHON)
        .ok_or_else(|| format!("{PYTHON} is not set; run tests/setup and source its environment"))?;
    let mut command = Command::new(python);
    command.arg(CLIENT).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut client = command.spawn()?;
    client.stdin.take().ok_or("the client has no standard input")?.write_all(token.as_bytes()).await?;
    let output = client.wait_with_output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    match (output.status.success(), said.trim().strip_prefix("refused: ")) {
        (true, _) => Ok(Ok(serde_json::from_slice(&output.stdout)?)),
        (false, Some(reason)) => Ok(Err(reason.to_owned())),
        (false, None) => Err(format!("{}: {}", output.status, said.trim()).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::kubernetes::{KUBEADM_ISSUER, Node, programs};

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
}
