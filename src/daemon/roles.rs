//! The roles of the list beside the loop, in a task of its own, while this node leads.
//!
//! A pass never waits for it: thousands of roles take minutes. It shares no state with the loop but what it is told ([`Order`]) and what
//! it tells (a report).

mod look;

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::watch as flag,
    task::JoinHandle,
    time::{sleep, timeout},
};

pub use look::RolesPlan;

use super::{Irsad, candidacy::Lead};
use crate::{
    aws::iam::Iam,
    config::{RolesMode, RolesSettings},
    execute::roles::{bring, list, remove},
    model::{
        report::RolesReport,
        role::{
            Brought, FaultKind, Owner, Removed, RoleFault, RoleList, RoleName, RoleRequest, RoleTerms, Task,
            WantedRole, path,
        },
    },
};

/// So long it may take until a change of who leads is noticed.
pub(super) const TICK: Duration = Duration::from_secs(2);
/// Longest time that the end waits for the role at hand. Stopping in the middle of it does no harm.
const END_LIMIT: Duration = Duration::from_secs(10);
/// While there is much to do the report is told so often.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What the loop wants.
#[derive(Debug, Clone)]
enum Order {
    /// These roles, in this account.
    Keep(Box<Wanted>),
    /// None: leave all as they are.
    Rest,
    /// The process ends.
    End,
}

/// Roles and how to reach them.
#[derive(Debug, Clone)]
struct Wanted {
    iam: Iam,
    terms: RoleTerms,
    settings: RolesSettings,
}

/// The running task.
#[derive(Debug)]
pub(super) struct Roles {
    order: flag::Sender<Order>,
    /// What it last told; `None` where it has nothing to do.
    pub report: flag::Receiver<Option<RolesReport>>,
    task: JoinHandle<()>,
}

impl Roles {
    /// Begins to keep roles while `lead` says so; none before it is told which.
    fn begin(lead: Lead) -> Self {
        let (order, orders) = flag::channel(Order::Rest);
        let (reports, report) = flag::channel(None);
        let task = tokio::spawn(keep(orders, lead, reports));
        Self { order, report, task }
    }

    /// Keeps these roles from now on.
    fn keep(&self, iam: Iam, terms: RoleTerms, settings: &RolesSettings) {
        self.order.send_if_modified(|order| {
            if matches!(order, Order::Keep(old) if old.terms == terms && old.settings == *settings) {
                return false;
            }
            *order = Order::Keep(Box::new(Wanted { iam, terms, settings: settings.clone() }));
            true
        });
    }

    /// Whether it is to be told which roles to keep. Where not, it forgets those that it was told: when the lead comes back, the
    /// configuration may name others.
    fn may_keep(&self, wants: bool, leads: bool) -> bool {
        let may_keep = wants && leads;
        if !may_keep {
            self.rest();
        }
        may_keep
    }

    /// Leaves all roles as they are.
    fn rest(&self) {
        self.order.send_if_modified(|order| {
            let is_new = !matches!(order, Order::Rest);
            *order = Order::Rest;
            is_new
        });
    }

    /// Ends after the role at hand.
    pub async fn end(self) {
        self.order.send_replace(Order::End);
        let abort = self.task.abort_handle();
        if timeout(END_LIMIT, self.task).await.is_err() {
            abort.abort();
        }
    }
}

impl Irsad {
    /// Tells the task which roles to keep, once this node stands for the lead. What stands in the way is tried again in the next pass.
    pub(super) async fn order_roles(&mut self) {
        let Some(candidacy) = &self.candidacy else { return };
        let wants = self.world.settings.roles.mode == RolesMode::List && self.is_in_use;
        if self.roles.is_none() && wants {
            self.roles = Some(Roles::begin(candidacy.lead()));
        }
        let leads = candidacy.leadership().leads;
        let Some(roles) = &self.roles else { return };
        if !roles.may_keep(wants, leads) {
            return;
        }
        match self.world.aws().await {
            Ok(clients) => {
                let settings = &self.world.settings;
                let terms = settings.role_terms(clients.partition, &clients.account);
                roles.keep(clients.iam, terms, &settings.roles);
            }
            Err(why) => self.roles_fault = Some(format!("for the account of the roles: {why}")),
        }
    }

    /// What is known of the roles; `None` where this node does not keep any.
    pub(super) fn told_of_roles(&self) -> Option<RolesReport> {
        let of_list = self.roles.as_ref().and_then(|roles| roles.report.borrow().clone());
        of_list.or_else(|| self.objects.as_ref()?.report.borrow().clone())
    }
}

/// What is wanted of each role of the list, or why that cannot be.
fn of_list(settings: &RolesSettings, terms: &RoleTerms) -> Vec<Result<WantedRole, (RoleName, RoleFault)>> {
    let role = |request: &RoleRequest| {
        terms.role(request).map_err(|refusal| {
            let mut fault = RoleFault::from(refusal);
            fault.sentence = format!("role {}: {}", request.name, fault.sentence);
            (request.name.clone(), fault)
        })
    };
    settings.list.iter().map(role).collect()
}

/// The task: does what is due while this node leads, and forgets all it knew when it does not.
async fn keep(mut orders: flag::Receiver<Order>, lead: Lead, reports: flag::Sender<Option<RolesReport>>) {
    let mut keeping: Option<(Wanted, RoleList)> = None;
    let (mut told_at, mut led) = (Timestamp::UNIX_EPOCH, false);
    loop {
        let order = orders.has_changed().unwrap_or(true).then(|| orders.borrow_and_update().clone());
        let now = Timestamp::now();
        match order {
            Some(Order::End) => return,
            Some(Order::Rest) => keeping = None,
            Some(Order::Keep(wanted)) => keeping = Some(changed(keeping, *wanted, now)),
            None => {}
        }
        let leads = lead.leads();
        if let (Some((wanted, list)), true) = (&mut keeping, leads && !led) {
            // Whoever led meanwhile may have changed the roles: what was seen before does not count.
            *list = fresh(wanted, now);
        }
        led = leads;
        let task = keeping.as_ref().filter(|_| leads).and_then(|(_, list)| list.next(now));
        if let (Some(task), Some((wanted, list))) = (&task, &mut keeping) {
            perform(wanted, list, task, &lead).await;
        }
        let is_idle = task.is_none();
        if is_idle || now.duration_since(told_at).unsigned_abs() >= REPORT_INTERVAL {
            told_at = now;
            tell(&reports, keeping.as_ref().filter(|_| leads).map(|(wanted, list)| list.report(&wanted.terms.cluster)));
        }
        if is_idle {
            tokio::select! {
                () = sleep(pause(keeping.as_ref().map(|(_, list)| list), now)) => {}
                changed = orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Being woken counts as having seen it, and it was not looked at yet.
                    orders.mark_changed();
                }
            }
        }
    }
}

fn fresh(wanted: &Wanted, now: Timestamp) -> RoleList {
    RoleList::new(of_list(&wanted.settings, &wanted.terms), wanted.settings.removal_delay, now)
}

/// The list as it is wanted now, with all that is known of roles that stay as they were.
fn changed(keeping: Option<(Wanted, RoleList)>, wanted: Wanted, now: Timestamp) -> (Wanted, RoleList) {
    let list = match keeping {
        Some((old, mut list)) if old.terms.account == wanted.terms.account => {
            list.change(of_list(&wanted.settings, &wanted.terms), wanted.settings.removal_delay, now);
            list
        }
        Some(_) | None => fresh(&wanted, now),
    };
    (wanted, list)
}

/// Tells a report where it says something new.
pub(super) fn tell(reports: &flag::Sender<Option<RolesReport>>, report: Option<RolesReport>) {
    reports.send_if_modified(|told| {
        let is_new = *told != report;
        *told = report;
        is_new
    });
}

/// Until something is due, but no longer than a change of the lead may go unnoticed.
fn pause(list: Option<&RoleList>, now: Timestamp) -> Duration {
    let until_due = list.map(|list| Duration::try_from(list.next_due(now).duration_since(now)).unwrap_or_default());
    until_due.unwrap_or(TICK).clamp(Duration::from_millis(50), TICK)
}

async fn perform(wanted: &Wanted, roles: &mut RoleList, task: &Task, lead: &Lead) {
    let cluster = &wanted.terms.cluster;
    let may_act = || lead.leads();
    match task {
        Task::Survey => {
            let found = list(&wanted.iam, &path(cluster)).await;
            roles.surveyed(found.as_deref().map_err(Clone::clone), Timestamp::now());
            if let Err(fault) = &found {
                tracing::warn!("{fault}");
            }
        }
        Task::Bring(role) => {
            let outcome = bring(&wanted.iam, role, &may_act).await;
            announce(roles, &role.name, &outcome);
            roles.brought(&role.name, outcome.as_ref().map_err(Clone::clone), Timestamp::now());
        }
        Task::Remove(name) => {
            let outcome = remove(&wanted.iam, name, &Owner::list(cluster), &may_act).await;
            match &outcome {
                Ok(Removed::Now) => tracing::info!(role = %name, "removed: it is no longer in the list"),
                Ok(Removed::WasGone | Removed::NotOurs(_)) => {}
                Err(fault) => complain(roles, name, fault),
            }
            roles.removed(name, outcome, Timestamp::now());
        }
    }
}

fn announce(roles: &RoleList, name: &RoleName, outcome: &Result<Brought, RoleFault>) {
    match outcome {
        Ok(brought) if brought.done.is_empty() => {}
        Ok(brought) => tracing::info!(role = %name, arn = brought.arn, "{}", brought.done.join(", ")),
        Err(fault) => complain(roles, name, fault),
    }
}

/// Once for each thing that goes wrong, not each time that it does.
fn complain(roles: &RoleList, name: &RoleName, fault: &RoleFault) {
    if roles.fault_of(name) == Some(fault) {
        return;
    }
    match fault.kind {
        FaultKind::Person => tracing::error!(role = %name, reason = fault.reason, "needs a person: {fault}"),
        FaultKind::Wait | FaultKind::Throttled => tracing::warn!(role = %name, reason = fault.reason, "{fault}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{aws, model::role::fixtures::terms};

    fn settings(removal_delay: Duration) -> RolesSettings {
        RolesSettings {
            mode: RolesMode::List,
            boundary: None,
            tags: BTreeMap::new(),
            additional_issuers: Vec::new(),
            removal_delay,
            list: Vec::new(),
        }
    }

    #[tokio::test]
    async fn roles_of_before_are_forgotten_with_the_lead_and_those_of_the_new_configuration_are_kept_after_it()
    -> Result<(), Box<dyn std::error::Error>> {
        let (order, _orders) = flag::channel(Order::Rest);
        let roles = Roles { order, report: flag::channel(None).1, task: tokio::spawn(async {}) };
        let iam = Iam::new(&aws::connect(&"eu-west-1".parse()?, aws::Endpoints::default()).await);
        let terms = terms()?;
        let kept = || match &*roles.order.borrow() {
            Order::Keep(wanted) => Some(wanted.settings.removal_delay),
            Order::Rest | Order::End => None,
        };
        let (before, after) = (Duration::from_secs(1), Duration::from_secs(2));
        for (wants, leads, configured, expected) in [
            (true, true, before, Some(before)),
            (true, false, after, None),
            (true, true, after, Some(after)),
            (false, true, after, None),
        ] {
            if roles.may_keep(wants, leads) {
                roles.keep(iam.clone(), terms.clone(), &settings(configured));
            }
            assert_eq!(kept(), expected, "{wants} {leads}");
        }
        Ok(())
    }
}
