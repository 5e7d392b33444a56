//! The command line: one file a command.
//!
//! Text on standard output is for a person; `-o json` is for programs and a promise. Exit codes: 0 done and well, 1 not
//! well, 2 wrong usage or configuration; `status` has 3 and 4 of its own.

mod ask;
mod check_config;
mod completions;
mod iam_policy;
mod migrate;
mod output;
mod plan;
mod prepare;
mod rebuild;
mod restore;
mod resume;
mod revoke;
mod rotate;
mod run;
mod settings;
mod status;
mod teardown;
mod trust_policy;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{config::CONFIG_FILE, daemon::Irsad, host::systemd};

/// Wrong usage or configuration.
const EXIT_USAGE: u8 = 2;

/// IAM roles for service accounts on Kubernetes control planes you run yourself on AWS.
#[derive(Debug, Parser)]
#[command(name = "irsad", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
struct Global {
    /// Configuration file; drop-ins are read from irsad.d beside it
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
    /// Folder put before every path of this host, file:// stores included
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Output for a person or for a program
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// What is logged: error, warn, info, debug or trace, also per module (irsad::store=debug) [default: the daemon info, else warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
}

impl Global {
    /// Sets up logging for a command that a person waits for; the daemon says more.
    fn init_logging(&self) -> anyhow::Result<()> {
        Ok(systemd::init_logging(self.log.as_deref().unwrap_or("warn"))?)
    }

    /// Sets up logging for such a command, and what it looks with, beside a running daemon.
    async fn onlooker(&self) -> anyhow::Result<Irsad> {
        self.init_logging()?;
        Irsad::onlooker(settings::root(self)?, settings::load(self).await?)
    }
}

/// Form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Aligned text for a person.
    Text,
    /// JSON, one document.
    Json,
    /// A picture; status --timeline only.
    Svg,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep keys, manifest, public documents and IAM provider right; the daemon
    Run(run::Run),
    /// Say what the next pass would do, and change nothing
    Plan(plan::Plan),
    /// Say how this node is, as the daemon sees it
    Status(status::Status),
    /// Look at the issuer as a stranger does and compare with what runs here; or say why one pod has or lacks AWS credentials
    Verify(verify::Verify),
    /// Have another key sign, in the order by which no token is refused
    Rotate(rotate::Rotate),
    /// Have a key refused that may be known to others; says first what will be refused
    Revoke(revoke::Revoke),
    /// Go on after a change of kube-apiserver failed and was taken back
    Resume(resume::Resume),
    /// After etcd was restored: write the keyring as this node last followed it
    Rebuild(rebuild::Rebuild),
    /// Go back to the issuer of before irsad, and remove what irsad made; says first what is lost
    Teardown(teardown::Teardown),
    /// Before kubeadm: make the signing key and put our flags into the kubeadm configuration
    Prepare(prepare::Prepare),
    /// Before kubelet, on every boot: put back what kube-apiserver of this node last proved
    Restore,
    /// Take over an issuer that others have set up: says first what is going to be done, and does it with --yes
    Migrate(migrate::Migrate),
    /// Print the IAM policy that the control-plane nodes need
    IamPolicy(iam_policy::IamPolicy),
    /// Print the trust policy that lets a service account assume a role
    TrustPolicy(trust_policy::TrustPolicy),
    /// Read the configuration and say what is wrong with it
    CheckConfig,
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Carries out the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = check_output(&cli).and_then(|()| execute(cli));
    outcome.unwrap_or_else(|error| {
        eprintln!("irsad: {error:#}");
        ExitCode::from(exit_code(&error))
    })
}

/// A picture is asked for where there is one.
fn check_output(cli: &Cli) -> anyhow::Result<()> {
    let draws = matches!(&cli.command, Command::Status(command) if command.draws());
    match cli.global.output {
        Output::Svg if !draws => {
            Err(settings::unusable("-o svg is for irsad status --timeline; nothing else is a picture"))
        }
        Output::Text | Output::Json | Output::Svg => Ok(()),
    }
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(command) => command.execute(&cli.global),
        Command::Plan(command) => command.execute(&cli.global),
        Command::Status(command) => command.execute(&cli.global),
        Command::Verify(command) => command.execute(&cli.global),
        Command::Rotate(command) => command.execute(&cli.global),
        Command::Revoke(command) => command.execute(&cli.global),
        Command::Resume(command) => command.execute(&cli.global),
        Command::Rebuild(command) => command.execute(&cli.global),
        Command::Teardown(command) => command.execute(&cli.global),
        Command::Prepare(command) => command.execute(&cli.global),
        Command::Restore => restore::execute(&cli.global),
        Command::Migrate(command) => command.execute(&cli.global),
        Command::IamPolicy(command) => command.execute(&cli.global),
        Command::TrustPolicy(command) => command.execute(&cli.global),
        Command::CheckConfig => check_config::execute(&cli.global),
        Command::Completions(command) => command.execute(),
    }
}

/// 2 where the configuration or the command line is to be mended, 1 otherwise.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<settings::Unusable>() { EXIT_USAGE } else { 1 }
}
