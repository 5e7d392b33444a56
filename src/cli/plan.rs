//! `irsad plan`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::model::plan::{self, Action};

use super::{Global, Output, output};

/// There is something to do, with `--detailed-exitcode`.
const EXIT_SOMETHING_TO_DO: u8 = 2;

/// Say what the next pass would do, and change nothing.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Exit with 2 if there is something to do
    #[arg(long)]
    detailed_exitcode: bool,
}

/// JSON form of a plan; a promise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanOutput<'a> {
    version: u32,
    actions: Vec<ActionOutput>,
    later: Vec<ActionOutput>,
    waiting_for: &'a [String],
    needs_a_person: &'a [String],
    notices: &'a [String],
}

#[derive(Debug, Serialize)]
struct ActionOutput {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

impl Plan {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let mut irsad = global.onlooker().await?;
        let (_, mut plan) = irsad.look().await;
        let roles = irsad.look_at_roles().await;
        plan.needs_a_person.extend(roles.needs_a_person);
        plan.waiting_for.extend(roles.waiting_for);
        match global.output {
            Output::Text | Output::Svg => print(&plan, &roles.actions),
            Output::Json => output::json(&PlanOutput {
                version: 1,
                actions: plan
                    .actions
                    .iter()
                    .map(output_of)
                    .chain(roles.actions.iter().map(|what| of_role(what)))
                    .collect(),
                later: plan.later.iter().map(output_of).collect(),
                waiting_for: &plan.waiting_for,
                needs_a_person: &plan.needs_a_person,
                notices: &plan.notices,
            })?,
        }
        let something = self.detailed_exitcode && !(plan.actions.is_empty() && roles.actions.is_empty());
        Ok(ExitCode::from(if something { EXIT_SOMETHING_TO_DO } else { 0 }))
    }
}

fn print(plan: &plan::Plan, roles: &[String]) {
    if plan.is_converged() && roles.is_empty() {
        output::say!("nothing to do");
    }
    for (number, action) in plan.actions.iter().chain(&plan.later).enumerate() {
        let later = if number < plan.actions.len() { "" } else { "then, when nothing is waited for any more: " };
        output::say!("{}. {later}{action}", number + 1);
        if let Some(diff) = diff(action) {
            output::say!("{diff}");
        }
    }
    if !roles.is_empty() {
        output::say!("beside that, on the node that leads:");
    }
    roles.iter().for_each(|role| output::say!("- {role}"));
    output::print(format_args!("{}", output::open_ends(plan)));
}

fn output_of(action: &Action) -> ActionOutput {
    ActionOutput { what: action.to_string(), diff: diff(action) }
}

fn of_role(what: &str) -> ActionOutput {
    ActionOutput { what: what.to_owned(), diff: None }
}

/// The unified diff of a manifest change.
fn diff(action: &Action) -> Option<String> {
    let Action::ReplaceManifest { path, text, old_text, .. } = action else { return None };
    Some(output::diff(path, old_text, text))
}
