//! `irsad rotate`: another signing key, from now on.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use crate::model::request;

use super::{Global, ask::Ask, output};

/// Have another key sign, in the order by which no token is refused
#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    ask: Ask,
}

impl Rotate {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        self.ask.check()?;
        let mut irsad = global.onlooker().await?;
        let (stored, shared) = irsad.newest_keyring().await?;
        let now = Timestamp::now();
        request::rotate(&stored.keyring, now)?;
        let effect = request::rotate_effect(&stored.keyring, &shared.acks, &irsad.desired().policy(), now);
        if !self.ask.confirm(&effect)? {
            return Ok(ExitCode::FAILURE);
        }
        irsad.change_keyring(|keyring, now| Ok(request::rotate(keyring, now)?)).await?;
        output::say!("asked for; irsad status says how far it is, irsad status --timeline when what comes");
        Ok(ExitCode::SUCCESS)
    }
}
