//! `irsad verify`.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{
    checks::{Across, Check, Outcome, across, checks, webhook},
    kubeadm::ISSUER,
    plan::{Desired, Facts, Shared},
    probe::Probe,
};

use super::{Global, Output, output};

/// JSON form; a promise.
#[derive(Debug, Serialize)]
struct VerifyOutput<'a> {
    version: u32,
    holds: bool,
    checks: &'a [Check],
}

/// Looks at the issuer as a stranger does and compares with what runs here.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn execute(global: &Global) -> anyhow::Result<ExitCode> {
    let mut irsad = global.onlooker().await?;
    let (facts, _) = irsad.look().await;
    let now = Timestamp::now();
    let mut checks = checks(irsad.desired(), &facts);
    checks.extend(of_all_nodes(irsad.desired(), &facts, now));
    checks.extend(webhook(irsad.desired(), &facts, now));
    let holds = checks.iter().all(|check| matches!(check.outcome, Outcome::Holds | Outcome::Skipped(_)));
    match global.output {
        Output::Json => output::json(&VerifyOutput { version: 1, holds, checks: &checks })?,
        Output::Text | Output::Svg => checks.iter().for_each(|check| output::say!("{}", line(check))),
    }
    Ok(ExitCode::from(u8::from(!holds)))
}

/// Checks that take more than this node; none where there is no keyring yet.
fn of_all_nodes(desired: &Desired, facts: &Facts, now: Timestamp) -> Vec<Check> {
    let Shared::Seen(shared) = &facts.shared else { return Vec::new() };
    let Some(stored) = shared.keyring.present() else { return Vec::new() };
    let kubeadm_issuers = match &facts.node.kubeadm_config {
        _ if !desired.kubeadm_config => Probe::Absent,
        Probe::Present(stored) => {
            Probe::Present(stored.config.api_server_arg(ISSUER).into_iter().map(str::to_owned).collect())
        }
        Probe::Absent => Probe::Absent,
        Probe::Unknown(why) => Probe::Unknown(why.clone()),
    };
    let seen = Across {
        keyring: &stored.keyring,
        acks: &shared.acks,
        control_plane: &shared.control_plane,
        not_ready: &shared.not_ready,
        held: &shared.held,
        kubeadm_issuers: &kubeadm_issuers,
    };
    across(seen, &desired.policy(), now)
}

fn line(check: &Check) -> String {
    let statement = &check.statement;
    match &check.outcome {
        Outcome::Holds => format!("ok       {statement}"),
        Outcome::Fails(why) => format!("FAILS    {statement}: {why}"),
        Outcome::Unknown(why) => format!("unknown  {statement}: {why}"),
        Outcome::Skipped(why) => format!("skipped  {statement}: {why}"),
    }
}
