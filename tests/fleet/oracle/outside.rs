//! A relying party outside the cluster that goes on for as long as the oracle: `oidc_client.py`.

use std::{env, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{control_plane::Result, network::PYTHON};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/oidc_client.py");

/// What it says of a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    Good,
    Refused(String),
    /// There is no document to judge by.
    Unreadable(String),
}

/// The client's process; it ends when this is dropped.
#[derive(Debug)]
pub struct Outsider {
    /// What a verdict calls it.
    pub name: String,
    _process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Outsider {
    /// One that keeps the documents of `issuer` for `cache`, and fetches them through `proxy`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(issuer: &str, cache: Duration, authority: &Path, proxy: &str) -> Result<Self> {
        let python = env::var_os(PYTHON).ok_or_else(|| format!("{PYTHON} is not set"))?;
        let mut command = Command::new(python);
        command.args([CLIENT, "--issuer", issuer, "--cache", &cache.as_secs().to_string(), "--proxy", proxy, "--ca"]);
        command.arg(authority).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let questions = process.stdin.take().ok_or("the client has no standard input")?;
        let answers = BufReader::new(process.stdout.take().ok_or("the client has no standard output")?).lines();
        let name = format!("an outsider who keeps documents for {} s", cache.as_secs());
        Ok(Self { name, _process: process, questions, answers })
    }

    /// What it says of this token for this audience.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn ask(&mut self, audience: &str, token: &str) -> Result<Judgement> {
        self.questions.write_all(format!("{audience} {token}\n").as_bytes()).await?;
        let line = self.answers.next_line().await?.ok_or("the OIDC client has ended")?;
        match line.split_once(": ") {
            None if line == "good" => Ok(Judgement::Good),
            Some(("refused", why)) => Ok(Judgement::Refused(why.to_owned())),
            Some(("unreadable", why)) => Ok(Judgement::Unreadable(why.to_owned())),
            _ => Err(format!("the OIDC client said {line:?}").into()),
        }
    }
}
