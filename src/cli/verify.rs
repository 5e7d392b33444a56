//! `irsad verify`.

use std::process::ExitCode;

use serde::Serialize;

use crate::{
    daemon::Irsad,
    model::checks::{Check, Outcome, checks},
};

use super::{Global, Output, output, settings};

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
    global.init_logging()?;
    let mut irsad = Irsad::onlooker(settings::root(global)?, settings::load(global).await?)?;
    let (facts, _) = irsad.look().await;
    let checks = checks(irsad.desired(), &facts);
    let holds = checks.iter().all(|check| matches!(check.outcome, Outcome::Holds | Outcome::Skipped(_)));
    match global.output {
        Output::Json => output::json(&VerifyOutput { version: 1, holds, checks: &checks })?,
        Output::Text | Output::Svg => checks.iter().for_each(|check| output::say!("{}", line(check))),
    }
    Ok(ExitCode::from(u8::from(!holds)))
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
