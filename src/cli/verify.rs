//! `irsad verify`.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    daemon::Irsad,
    model::{
        checks::{Across, Check, Outcome, across, checks, pods, teardown, webhook},
        kubeadm::ISSUER,
        plan::{Desired, Facts, Shared},
        pod::PodName,
        probe::Probe,
    },
};

use super::{Global, Output, output};

/// Look at the issuer as a stranger does and compare with what runs here.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Say step by step why this pod has or lacks AWS credentials
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pod: Option<PodName>,
}

/// JSON form; a promise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifyOutput<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    holds: bool,
    checks: &'a [Check],
}

impl Verify {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let mut irsad = global.onlooker().await?;
        let (facts, _) = irsad.look().await;
        let found = self.checks(&mut irsad, &facts, Timestamp::now()).await;
        let holds = found.iter().all(|check| matches!(check.outcome, Outcome::Holds | Outcome::Skipped(_)));
        match global.output {
            Output::Json => {
                let pod = self.pod.as_ref().map(ToString::to_string);
                output::json(&VerifyOutput { version: 1, pod, holds, checks: &found })?;
            }
            Output::Text | Output::Svg => found.iter().for_each(|check| output::say!("{}", line(check))),
        }
        Ok(ExitCode::from(u8::from(!holds)))
    }

    async fn checks(&self, irsad: &mut Irsad, facts: &Facts, now: Timestamp) -> Vec<Check> {
        let of_teardown = teardown(irsad.desired(), facts, now);
        if let Some(pod) = &self.pod {
            // The way of a token goes from the pod to AWS.
            let of_the_pod = irsad.look_at_pod(facts, pod).await.checks();
            let rest = of_teardown.unwrap_or_else(|| checks(irsad.desired(), facts));
            return [of_the_pod, rest].concat();
        }
        if let Some(checks) = of_teardown {
            return checks;
        }
        let mut found = checks(irsad.desired(), facts);
        found.extend(of_all_nodes(irsad.desired(), facts, now));
        found.extend(irsad.check_roles().await);
        found.extend(webhook(irsad.desired(), facts, now));
        found.push(pods(facts));
        found
    }
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
