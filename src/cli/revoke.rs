//! `irsad revoke`: a key gone before its time.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use crate::model::{keyring, request, rotation};

use super::{Global, ask::Ask, output};

/// Have a key refused that may be known to others; says first what will be refused
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// Key id, or the first characters of it, as irsad status shows it
    // A key id is base64url: it may begin with a hyphen.
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    kid: String,
    /// When it is refused
    #[arg(long, value_enum)]
    level: Level,
    #[command(flatten)]
    ask: Ask,
}

/// When a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// When the last token that outsiders check has expired: none of these is refused.
    Drain,
    /// As soon as another key signs: its live tokens are refused.
    Now,
}

impl From<Level> for keyring::Revoke {
    fn from(level: Level) -> Self {
        match level {
            Level::Drain => Self::Drain,
            Level::Now => Self::Now,
        }
    }
}

impl Revoke {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        self.ask.check()?;
        let mut irsad = global.onlooker().await?;
        let (stored, shared) = irsad.newest_keyring().await?;
        let (how, policy) = (self.level.into(), irsad.desired().policy());
        let key = request::named(&stored.keyring, &self.kid)?;
        let effect = request::revoke_effect(&stored.keyring, key, how, &shared.acks, &policy, Timestamp::now())?;
        if !self.ask.confirm(&effect)? {
            return Ok(ExitCode::FAILURE);
        }
        irsad
            .change_keyring(|keyring, now| {
                request::stays(keyring)?;
                Ok(rotation::revoke(keyring, &key.kid, how, now)?)
            })
            .await?;
        output::say!("asked for; irsad status says how far it is");
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Cli;

    #[test]
    fn key_id_may_begin_with_a_hyphen() {
        for kid in ["-uC94W1exar", "VsHC94W1"] {
            assert!(Cli::try_parse_from(["irsad", "revoke", kid, "--level", "drain", "--yes"]).is_ok(), "{kid}");
            assert!(Cli::try_parse_from(["irsad", "revoke", "--level", "now", kid]).is_ok(), "{kid}");
        }
        assert!(Cli::try_parse_from(["irsad", "revoke", "VsHC94W1"]).is_err(), "a level is chosen, never guessed");
    }
}
