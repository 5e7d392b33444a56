//! `irsad resume`: a rollout that stopped at a failed change goes on.

use std::process::ExitCode;

use clap::Args;

use crate::{
    daemon::Irsad,
    model::{memory::RefusedChange, probe::Probe, request},
};

use super::{Global, ask::Ask, output};

/// Go on after a change of kube-apiserver failed and was taken back
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// Take the turn away from this node, which is gone for good or runs with its old files; without it, this node tries its change
    /// again
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

impl Resume {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        self.ask.check()?;
        let irsad = global.onlooker().await?;
        match &self.node {
            Some(node) => self.release(irsad, node).await,
            None => self.try_again(irsad).await,
        }
    }

    async fn release(&self, mut irsad: Irsad, node: &str) -> anyhow::Result<ExitCode> {
        let (stored, shared) = irsad.newest_keyring().await?;
        let effect = request::release_effect(&stored.keyring, node, &shared.acks)?;
        if !self.ask.confirm(&effect)? {
            return Ok(ExitCode::FAILURE);
        }
        irsad.change_keyring(|keyring, _| Ok(request::release(keyring, node)?)).await?;
        output::say!("{node} no longer holds up the others; irsad status says who is next");
        Ok(ExitCode::SUCCESS)
    }

    async fn try_again(&self, mut irsad: Irsad) -> anyhow::Result<ExitCode> {
        let (facts, _) = irsad.look().await;
        let refused = match facts.node.refused {
            Probe::Present(refused) => refused,
            Probe::Absent => {
                output::say!(
                    "no change of this node was taken back; irsad status names the node that the others wait for"
                );
                return Ok(ExitCode::SUCCESS);
            }
            Probe::Unknown(why) => anyhow::bail!("{why} (nothing changed)"),
        };
        if !self.ask.confirm(&effect(&refused))? {
            return Ok(ExitCode::FAILURE);
        }
        irsad.forget_refused_change()?;
        output::say!("the change is tried again within a minute, at once after: systemctl reload irsad");
        Ok(ExitCode::SUCCESS)
    }
}

fn effect(refused: &RefusedChange) -> Vec<String> {
    vec![
        format!("the change was taken back at {}: {}", refused.rolled_back_at, refused.reason),
        "it is tried again as it is: kube-apiserver of this node restarts, and without proof the files before come back".to_owned(),
    ]
}
