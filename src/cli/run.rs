//! `irsad run`.

use std::process::ExitCode;

use clap::Args;

use crate::{
    daemon::{Irsad, Pass},
    host::systemd,
};

use super::{Global, Output, output, settings};

/// `FileDescriptorName=` in irsad-webhook.socket.
const WEBHOOK_SOCKET: &str = "webhook";

/// Keep keys, manifest, public documents and IAM provider right; the daemon.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Make passes until nothing is left to do or only waiting is left, then exit: 0 converged, 1 not
    #[arg(long)]
    once: bool,
}

impl Run {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let level = if self.once { "warn" } else { "info" };
        systemd::init_logging(global.log.as_deref().unwrap_or(level))?;
        // Before anything else: there is one thread yet.
        let held = systemd::held_sockets(WEBHOOK_SOCKET).unwrap_or_else(|error| {
            tracing::warn!("the sockets {WEBHOOK_SOCKET} of systemd are not used: {error}");
            Vec::new()
        });
        let root = settings::root(global)?;
        let settings = settings::load(global).await?;
        for notice in &settings.notices {
            tracing::warn!("{notice}");
        }
        let mut irsad = Irsad::acting(root, settings)?;
        if self.once {
            return once(&mut irsad, global).await;
        }
        irsad.run(held, settings::files(global), || settings::load(global)).await?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn once(irsad: &mut Irsad, global: &Global) -> anyhow::Result<ExitCode> {
    let text = global.output == Output::Text;
    let mut did_nothing = true;
    let pass = irsad
        .run_once(|pass| {
            did_nothing &= pass.done.is_empty();
            if text {
                pass.done.iter().for_each(|what| output::say!("done: {what}"));
            }
        })
        .await?;
    if text {
        print(&pass, did_nothing);
    } else {
        output::json(&irsad.report(&pass.facts, &pass.plan))?;
    }
    Ok(ExitCode::from(u8::from(!pass.is_converged())))
}

fn print(pass: &Pass, did_nothing: bool) {
    output::print(format_args!("{}", output::open_ends(&pass.plan)));
    match &pass.failure {
        Some(failure) => output::say!("failed: {failure:#}"),
        None if pass.is_converged() && did_nothing => output::say!("nothing to do"),
        None if pass.is_converged() => output::say!("converged"),
        None => {}
    }
}
