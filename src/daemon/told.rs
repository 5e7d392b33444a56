//! What is kept of a pass and told of it: status file, journal, metrics.

use std::{path::Path, process};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Irsad, Pass, STATUS_FILE, metrics::Metrics};
use crate::{
    host::systemd,
    model::{
        metrics::{Outside, of_pass, provider_drift},
        plan::{self, Facts, Plan, PublishedState},
        report::{self, Report, RolesReport},
    },
    observe::Closeness,
    world::SLOW_INTERVAL,
};

impl Irsad {
    /// The report of what was last seen.
    pub fn report(&self, facts: &Facts, plan: &Plan) -> Report {
        let mut plan = plan.clone();
        plan.needs_a_person.extend(self.stale_settings.clone());
        plan.notices.extend(self.world.settings.notices.iter().cloned());
        plan.notices.extend(self.metrics.as_ref().and_then(Metrics::problem));
        let roles = self.told_of_roles();
        plan.needs_a_person.extend(roles.as_ref().and_then(RolesReport::needs_a_person));
        plan.waiting_for.extend(roles.as_ref().and_then(RolesReport::waits).or_else(|| self.roles_fault.clone()));
        plan.notices.extend(roles.as_ref().and_then(RolesReport::orphans_note));
        let cluster = self.world.settings.cluster.as_str();
        let report =
            report::report(cluster, &self.desired, facts, &plan, &self.history, process::id(), Timestamp::now());
        Report { roles, ..report }
    }

    /// What the next pass needs to know of this one, and what people do.
    pub(super) fn remember(&mut self, pass: &Pass, begun: Instant) {
        let now = Timestamp::now();
        report::seen(&mut self.history, &pass.facts, &pass.plan, now);
        let failure = pass.failure.as_ref().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure
            && self.history.failure.as_ref() != Some(failure)
        {
            tracing::warn!("{failure}");
        }
        self.history.failure = failure;
        self.busy_passes = if pass.done.is_empty() { 0 } else { self.busy_passes.saturating_add(1) };
        self.say(&pass.plan);
        if self.closeness == Closeness::Full {
            self.full_at = Some(Instant::now());
        }
        let settled = pass.done.is_empty() && pass.failure.is_none();
        let interval = if pass.plan.is_converged() { SLOW_INTERVAL } else { plan::CHECK_INTERVAL };
        let is_due = self.full_at.is_none_or(|at| at.elapsed() >= interval);
        self.closeness = if settled && !is_due && !pass.plan.look_closer { Closeness::Idle } else { Closeness::Full };
        let report = self.report(&pass.facts, &pass.plan);
        if let Some(metrics) = &self.metrics {
            let outside =
                plan::is_looked_after(&self.desired, &pass.facts, now).then(|| self.outside(&pass.facts, &pass.plan));
            metrics.pass_ends(of_pass(&report, outside), pass.failure.is_none(), now, begun.elapsed());
        }
        if let Err(error) = self.write_report(&report) {
            tracing::warn!("cannot write {STATUS_FILE}, irsad status shows an older state: {error:#}");
        }
    }

    fn outside(&self, facts: &Facts, plan: &Plan) -> Outside {
        let cluster = &facts.cluster;
        Outside {
            published: cluster.public_jwks.as_ref().map(|_| plan.published == PublishedState::Seen),
            provider_drifts: provider_drift(self.desired.provider.as_ref(), cluster.provider.as_ref()),
        }
    }

    /// Tells the journal what has newly to be waited for, and what a person has to do.
    fn say(&mut self, plan: &Plan) {
        let is_new = |sentence: &&String| !self.said.contains(sentence);
        plan.needs_a_person.iter().filter(is_new).for_each(|why| tracing::error!("needs a person: {why}"));
        // The seconds of a restart would be a line every two seconds.
        let waits = plan.waiting_for.iter().filter(|_| plan.next_check > plan::RESTART_INTERVAL);
        waits.filter(is_new).for_each(|what| tracing::warn!("{}", report::waits(what)));
        self.said = plan.needs_a_person.iter().chain(&plan.waiting_for).cloned().collect();
    }

    fn write_report(&self, report: &Report) -> anyhow::Result<()> {
        systemd::status(&report.summary);
        self.world.root.replace_own(Path::new(STATUS_FILE), &serde_json::to_vec_pretty(report)?, 0o644)?;
        Ok(())
    }
}
