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
