//! `irsad rebuild`: the keyring as this node remembers it, after its store went back in time.

use std::process::ExitCode;

use clap::Args;

use crate::model::request;

use super::{Global, ask::Ask, output};

/// After etcd was restored: write the keyring as this node last followed it
#[derive(Debug, Args)]
pub(super) struct Rebuild {
    #[command(flatten)]
    ask: Ask,
}

impl Rebuild {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        self.ask.check()?;
        let mut irsad = global.onlooker().await?;
        let rebuilt = irsad.rebuilt_keyring().await?;
        let effect = request::rebuild_effect(&rebuilt.keyring, rebuilt.stored.as_ref(), &rebuilt.shared.acks);
        if !self.ask.confirm(&effect)? {
            return Ok(ExitCode::FAILURE);
        }
        irsad.write_rebuilt(&rebuilt).await?;
        output::say!("generation {} is written; every node follows it within a minute", rebuilt.keyring.generation);
        Ok(ExitCode::SUCCESS)
    }
}
