//! `irsad completions SHELL`.

use std::{io, process::ExitCode};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Shell that reads the script
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(&self) -> anyhow::Result<ExitCode> {
        let mut command = Cli::command();
        clap_complete::generate(self.shell, &mut command, "irsad", &mut io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}
