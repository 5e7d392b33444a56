//! What ends the wait between two passes: time, a signal, a changed file, news of another node.

use std::{path::PathBuf, process, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch as flag,
    time::{Instant, sleep_until},
};

use super::{Candidacy, webhook::Webhook};
use crate::{
    host::{
        systemd,
        watch::{Changed, Watch},
    },
    model::report::RolesReport,
};

/// The next change of a watched file; the end of the watching task is the error that ended it. Never, where nothing is watched.
async fn next_change(files: Option<&mut Watch>) -> anyhow::Result<Changed> {
    let Some(files) = files else { return std::future::pending().await };
    match files.changes.recv().await {
        Some(changed) => Ok(changed),
        None => {
            (&mut files.task).await.context("the task that watches files is gone")??;
            bail!("files are no longer watched for changes")
        }
    }
}

/// The next news of another node; never, where nobody could tell.
async fn next_news(candidacy: Option<&mut Candidacy>) {
    match candidacy {
        Some(candidacy) => candidacy.news().await,
        None => std::future::pending().await,
    }
}

/// Why a wait ended.
pub(super) enum Woken {
    /// SIGTERM or SIGINT.
    Stop,
    /// Nothing happened.
    Time,
    /// SIGHUP.
    Reload,
    /// Another node has written something that this one may wait for.
    News,
    /// Watched files.
    Files(Changed),
    /// The webhook says something else of itself.
    Webhook,
    /// There is something new to say of the roles.
    Roles,
}

/// Who in this process may have something to tell.
pub(super) struct Tellers<'a> {
    /// Of other nodes.
    pub candidacy: Option<&'a mut Candidacy>,
    /// Of itself.
    pub webhook: Option<&'a mut Webhook>,
    /// Of the roles of the list.
    pub roles: Option<&'a mut flag::Receiver<Option<RolesReport>>>,
    /// Of ServiceAccountRoles.
    pub objects: Option<&'a mut flag::Receiver<Option<RolesReport>>>,
}

/// The next thing that the webhook says of itself; its end is an error.
async fn next_word(webhook: Option<&mut Webhook>) -> anyhow::Result<()> {
    let Some(webhook) = webhook else { return std::future::pending().await };
    webhook.state.changed().await.context("the webhook's thread is gone")
}

/// The next thing that there is to say of the roles.
async fn next_of_roles(report: Option<&mut flag::Receiver<Option<RolesReport>>>) {
    let Some(report) = report else { return std::future::pending().await };
    if report.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits for time, a signal, a changed file, news or the webhook, and tells the watchdog meanwhile that the loop is alive.
pub(super) async fn wait(
    longest: Duration,
    stop: &mut flag::Receiver<bool>,
    reload: &mut Signal,
    mut files: Option<&mut Watch>,
    mut tellers: Tellers<'_>,
) -> anyhow::Result<Woken> {
    let until = Instant::now() + longest;
    loop {
        systemd::alive();
        let alive_again =
            systemd::watchdog_interval().map_or(until, |interval| until.min(Instant::now() + interval / 2));
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(Woken::Stop),
            signal = reload.recv() => {
                signal.context("SIGHUP is no longer received")?;
                return Ok(Woken::Reload);
            }
            changed = next_change(files.as_deref_mut()) => return changed.map(Woken::Files),
            () = next_news(tellers.candidacy.as_deref_mut()) => return Ok(Woken::News),
            changed = next_word(tellers.webhook.as_deref_mut()) => return changed.map(|()| Woken::Webhook),
            () = next_of_roles(tellers.roles.as_deref_mut()) => return Ok(Woken::Roles),
            () = next_of_roles(tellers.objects.as_deref_mut()) => return Ok(Woken::Roles),
            () = sleep_until(alive_again) => {
                if Instant::now() >= until {
                    return Ok(Woken::Time);
                }
            }
        }
    }
}

/// Waits for `work` and tells the watchdog meanwhile that the loop is alive, but no longer than `limit`.
pub(super) async fn keep_alive<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    let until = Instant::now() + limit;
    let mut work = std::pin::pin!(work);
    loop {
        let next = systemd::watchdog_interval().map_or(limit, |interval| interval / 2);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep_until(Instant::now() + next), if Instant::now() < until => systemd::alive(),
        }
    }
}

/// Turns true at SIGTERM or SIGINT; a second one ends the process at once, wherever it is.
pub(super) fn stop_signals() -> anyhow::Result<flag::Receiver<bool>> {
    let (sender, receiver) = flag::channel(false);
    let mut term = signal(SignalKind::terminate()).context("cannot receive SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot receive SIGINT")?;
    tokio::spawn(async move {
        for times in 0.. {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            if times > 0 {
                tracing::warn!("asked to stop twice: stopping in the middle of an action");
                process::exit(1);
            }
            // Nobody listens any more when the loop has ended: the process is about to end too.
            let _ = sender.send(true);
        }
    });
    Ok(receiver)
}

/// Whether one of `paths` may have changed.
pub(super) fn changes_any_of(changed: &Changed, paths: &[PathBuf]) -> bool {
    match changed {
        Changed::Everything => true,
        Changed::Paths(changed) => changed.iter().any(|path| paths.contains(path)),
    }
}
