//! `irsad status`: what the daemon saw last, and whether it runs; `--timeline`: the keys over time.

mod shared;

use std::{env, path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    daemon::{LOCK_FILE, STATUS_FILE},
    host::{files::LARGEST_FILE_BYTES, lock::Lock},
    model::{
        keyring::Keyring,
        memory,
        report::{Health, KeyReport, KeyState, Report, Role},
        timeline::Timeline,
    },
};

use super::{Global, Output, output, settings};

/// Degraded, or waiting for something or somebody.
const EXIT_DEGRADED: u8 = 3;
/// The daemon does not run.
const EXIT_NOT_RUNNING: u8 = 4;
/// Columns of a drawing where nobody says how many there are.
const COLUMNS: usize = 100;

/// Say how this node is, as the daemon sees it.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Draw the keys over time, past and expected; with -o svg as a picture
    #[arg(long)]
    timeline: bool,
}

/// JSON form of the status; a promise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusOutput {
    version: u32,
    running: bool,
    report: Option<Report>,
}

impl Status {
    /// Whether the output is a drawing.
    pub(super) fn draws(&self) -> bool {
        self.timeline
    }

    pub(super) fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        if self.timeline { draw(global) } else { tell(global) }
    }
}

/// Draws the keys of the newest keyring that this node has followed: with or without a daemon, and without a network.
#[tokio::main(flavor = "current_thread")]
async fn draw(global: &Global) -> anyhow::Result<ExitCode> {
    global.init_logging()?;
    let settings = settings::load(global).await?;
    let path = Path::new(memory::KEYRING);
    let Some(found) = settings::root(global)?.read(path, LARGEST_FILE_BYTES)? else {
        output::say!("this node has not followed a keyring yet; irsad status says what the daemon waits for");
        return Ok(ExitCode::from(EXIT_DEGRADED));
    };
    let keyring =
        Keyring::parse(&found.bytes, settings.cluster.as_str()).with_context(|| path.display().to_string())?;
    let timeline = Timeline::new(&keyring, &settings.desired().policy(), Timestamp::now());
    match global.output {
        Output::Text => output::print(format_args!("{}", timeline.text(columns()))),
        Output::Svg => output::print(format_args!("{}", timeline.svg())),
        Output::Json => {
            return Err(settings::unusable(
                "irsad status --timeline draws text or svg; irsad status -o json has the keys",
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As shells say it.
fn columns() -> usize {
    env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(COLUMNS)
}

/// Says how this node is, as the daemon sees it.
fn tell(global: &Global) -> anyhow::Result<ExitCode> {
    let root = settings::root(global)?;
    let running = Lock::holder(&root, Path::new(LOCK_FILE))?.is_some();
    let report: Option<Report> = match root.read(Path::new(STATUS_FILE), LARGEST_FILE_BYTES)? {
        None => None,
        Some(found) => Some(serde_json::from_slice(&found.bytes).with_context(|| {
            format!(
                "{STATUS_FILE} was written by another version of irsad; restart the daemon: systemctl restart irsad"
            )
        })?),
    };
    let code = exit_code(running, report.as_ref());
    match global.output {
        Output::Json => output::json(&StatusOutput { version: 1, running, report })?,
        Output::Text | Output::Svg => {
            output::print(format_args!("{}", text(running, report.as_ref(), Timestamp::now())))
        }
    }
    Ok(ExitCode::from(code))
}

fn exit_code(running: bool, report: Option<&Report>) -> u8 {
    match report.map(|report| report.health) {
        _ if !running => EXIT_NOT_RUNNING,
        Some(Health::Converged | Health::Working) => 0,
        Some(Health::Waiting | Health::Failing | Health::NeedsAPerson) | None => EXIT_DEGRADED,
    }
}

fn text(running: bool, report: Option<&Report>, now: Timestamp) -> String {
    let Some(report) = report else {
        return match running {
            true => "irsad runs and has not finished its first pass yet\n".to_owned(),
            false => {
                "irsad does not run and has not run since this machine started; systemctl start irsad\n".to_owned()
            }
        };
    };
    let daemon = match running {
        true => format!("runs as process {}, last pass {}", report.pid, output::ago(report.written_at, now)),
        false => format!("does not run; what follows is of {}", output::ago(report.written_at, now)),
    };
    let seen = match report.published_at {
        Some(at) => format!("seen by an outsider {}", output::ago(at, now)),
        None => "not seen by an outsider yet".to_owned(),
    };
    let mut rows = vec![
        row("status", &report.summary),
        row("daemon", &daemon),
        row("cluster", &report.cluster),
        row("role", &role(report)),
        row("issuer", &report.issuer),
        row("API server", &report.api_server.summary),
        row("published", &format!("{}, {seen}", report.jwks_uri)),
    ];
    rows.extend(report.webhook.iter().map(|webhook| row("webhook", &webhook.summary)));
    rows.extend(report.roles.iter().map(|roles| row("roles", &roles.summary)));
    if let Some(done) = &report.last_action {
        rows.push(row("last change", &format!("{}, {}", done.what, output::ago(done.at, now))));
    }
    rows.extend(report.keyring.iter().flat_map(|keyring| shared::rows(keyring, now)));
    rows.extend(report.needs_a_person.iter().map(|why| row("needs a person", why)));
    rows.extend(report.failure.iter().map(|why| row("failed", why)));
    rows.extend(report.waiting_for.iter().map(|what| row("waits", what)));
    rows.extend(report.missed_pods.iter().filter_map(|pods| Some(row("missed pods", &pods.line()?))));
    rows.extend(report.notices.iter().map(|notice| row("note", notice)));
    let mut text = output::columns(&rows);
    if let Some(keyring) = &report.keyring {
        text.push_str(&shared::tables(keyring, now));
    } else if !report.keys.is_empty() {
        text.push('\n');
        text.push_str(&output::columns(&keys(report, now)));
    }
    text
}

/// What this node is to the others.
fn role(report: &Report) -> String {
    match (report.role, &report.leader) {
        (Role::Alone, _) => "alone: works from the keys on its disk".to_owned(),
        (Role::Leader, _) => "leader: publishes, keeps the provider and moves the keys on".to_owned(),
        (Role::Follower, Some(leader)) => format!("follower, {leader} leads"),
        (Role::Follower, None) => "follower, no leader is known".to_owned(),
    }
}

fn row(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

fn keys(report: &Report, now: Timestamp) -> Vec<Vec<String>> {
    let heading = ["KEY", "ALGORITHM", "STATE", "ACCEPTED BY API SERVER"].map(str::to_owned).to_vec();
    let line = |key: &KeyReport| {
        let state = match (key.state, key.gone_since) {
            (KeyState::Signing, _) => "signing".to_owned(),
            (KeyState::Accepted, _) => "accepted".to_owned(),
            (KeyState::Leaving, None) => "leaving".to_owned(),
            (KeyState::Leaving, Some(since)) => format!("leaving, out of use {}", output::ago(since, now)),
        };
        let accepted = match report.api_server.ready {
            None => "unknown",
            Some(_) if report.api_server.kids.contains(&key.kid) => "yes",
            Some(_) => "no",
        };
        vec![key.kid.clone(), key.algorithm.clone(), state, accepted.to_owned()]
    };
    std::iter::once(heading).chain(report.keys.iter().map(line)).collect()
}
