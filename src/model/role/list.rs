//! The roles of a list over time: which one to look at next, what came of it, which ones have left the list.
//!
//! A survey, one list call for hundreds of roles, finds within minutes what was made, removed or given another trust policy behind our
//! back. Policies, tags and boundaries show only in calls for each role, which are spread over half a day.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    Brought, FaultKind, FoundRole, Orphans, Pace, Removed, RoleFault, RoleName, Schedule, WantedRole, is_drifted,
    place_in_period,
};
use crate::model::report::RolesReport;

/// Time between two surveys.
pub const SURVEY_INTERVAL: Duration = Duration::from_secs(600);
/// Within this time every role is looked at as a whole.
pub const LOOK_PERIOD: Duration = Duration::from_secs(12 * 3600);

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// List the roles below our path.
    Survey,
    /// Look at a role and make it what it should be.
    Bring(Box<WantedRole>),
    /// Remove a role, where it is one of the list.
    Remove(RoleName),
}

/// The roles of a list, as far as this process knows.
#[derive(Debug, Clone)]
pub struct RoleList {
    wanted: BTreeMap<RoleName, WantedRole>,
    /// Those that cannot even be asked for.
    refused: BTreeMap<RoleName, RoleFault>,
    removal_delay: Duration,
    schedule: Schedule<RoleName>,
    /// What came of each that was looked at.
    outcomes: BTreeMap<RoleName, Option<RoleFault>>,
    /// Roles below our path that are not in the list, and since when this process knows.
    leaving: BTreeMap<RoleName, Timestamp>,
    /// Those of them that are not the list's.
    of_others: Orphans,
    survey_due: Timestamp,
    survey_fault: Option<RoleFault>,
    pace: Pace,
}

impl RoleList {
    /// A list of which nothing was looked at yet. A role that leaves it stays for `removal_delay`.
    pub fn new(
        wanted: impl IntoIterator<Item = Result<WantedRole, (RoleName, RoleFault)>>,
        removal_delay: Duration,
        now: Timestamp,
    ) -> Self {
        let mut list = Self {
            wanted: BTreeMap::new(),
            refused: BTreeMap::new(),
            removal_delay,
            schedule: Schedule::new(LOOK_PERIOD),
            outcomes: BTreeMap::new(),
            leaving: BTreeMap::new(),
            of_others: Orphans::default(),
            survey_due: now,
            survey_fault: None,
            pace: Pace::default(),
        };
        list.change(wanted, removal_delay, now);
        list
    }

    /// Another list: what is new or different is looked at at once, and what has left it is known to.
    pub fn change(
        &mut self,
        wanted: impl IntoIterator<Item = Result<WantedRole, (RoleName, RoleFault)>>,
        removal_delay: Duration,
        now: Timestamp,
    ) {
        let before = std::mem::take(&mut self.wanted);
        self.refused.clear();
        self.removal_delay = removal_delay;
        for role in wanted {
            match role {
                Ok(role) => drop(self.wanted.insert(role.name.clone(), role)),
                Err((name, fault)) => drop(self.refused.insert(name, fault)),
            }
        }
        let (wanted, refused) = (&self.wanted, &self.refused);
        for name in before.keys().filter(|name| !wanted.contains_key(name) && !refused.contains_key(name)) {
            self.leaving.insert(name.clone(), now);
        }
        self.leaving.retain(|name, _| !wanted.contains_key(name) && !refused.contains_key(name));
        self.of_others.keep_only(|name| !wanted.contains_key(name));
        self.outcomes.retain(|name, _| wanted.contains_key(name));
        let changed =
            wanted.iter().filter(|(name, role)| before.get(*name) != Some(role)).map(|(name, _)| name.clone());
        let changed: Vec<RoleName> = changed.collect();
        self.schedule.keep_only(self.wanted.keys().cloned(), now);
        changed.into_iter().for_each(|name| self.schedule.hurry(name, now));
        self.put_in_those_that_left(now);
    }

    /// What is due at `now`; `None` where nothing is.
    pub fn next(&self, now: Timestamp) -> Option<Task> {
        if self.pace.is_paused(now) {
            return None;
        }
        if self.survey_due <= now {
            return Some(Task::Survey);
        }
        let name = self.schedule.next(now)?;
        Some(match self.wanted.get(&name) {
            Some(role) => Task::Bring(Box::new(role.clone())),
            None => Task::Remove(name),
        })
    }

    /// When something is due, if nothing happens.
    pub fn next_due(&self, now: Timestamp) -> Timestamp {
        let due = self.schedule.next_due().map_or(self.survey_due, |due| due.min(self.survey_due));
        due.max(after(now, self.pace.left(now)))
    }

    /// What a survey has found.
    pub fn surveyed(&mut self, found: Result<&[FoundRole], RoleFault>, now: Timestamp) {
        self.survey_due = after(now, SURVEY_INTERVAL);
        let listed = match found {
            Ok(listed) => listed,
            Err(fault) => {
                self.slow_down(&fault, now);
                self.survey_fault = Some(fault);
                return;
            }
        };
        self.survey_fault = None;
        self.pace.is_well();
        let by_name: BTreeMap<&RoleName, &FoundRole> = listed.iter().map(|role| (&role.name, role)).collect();
        let is_well = |name: &RoleName| matches!(self.outcomes.get(name), Some(None));
        // One with a fault has its own time.
        let drifted = |(name, role): &(&RoleName, &WantedRole)| {
            is_well(name) && by_name.get(*name).is_none_or(|found| is_drifted(role, found))
        };
        let drifted: Vec<RoleName> = self.wanted.iter().filter(drifted).map(|(name, _)| name.clone()).collect();
        drifted.into_iter().for_each(|name| self.schedule.hurry(name, now));
        self.leaving.retain(|name, _| by_name.contains_key(name));
        self.of_others.keep_only(|name| by_name.contains_key(name));
        let extra = by_name.keys().filter(|name| !self.is_listed(name) && !self.of_others.is_known(name));
        for name in extra.map(|name| (*name).clone()).collect::<Vec<_>>() {
            self.leaving.entry(name).or_insert(now);
        }
        self.put_in_those_that_left(now);
    }

    /// What came of a role that was to be brought.
    pub fn brought(&mut self, name: &RoleName, outcome: Result<&Brought, RoleFault>, now: Timestamp) {
        match outcome {
            Ok(_) => {
                self.pace.is_well();
                self.schedule.is_well(name, now, place_in_period(name.as_str()));
                self.outcomes.insert(name.clone(), None);
            }
            Err(fault) => self.failed(name, fault, now),
        }
    }

    /// What came of a role that was to be removed.
    pub fn removed(&mut self, name: &RoleName, outcome: Result<Removed, RoleFault>, now: Timestamp) {
        match outcome {
            Ok(removed) => {
                self.pace.is_well();
                self.schedule.forget(name);
                self.leaving.remove(name);
                self.outcomes.remove(name);
                match removed {
                    Removed::NotOurs(owner) => self.of_others.note(name, owner),
                    Removed::Now | Removed::WasGone => {}
                }
            }
            Err(fault) => self.failed(name, fault, now),
        }
    }

    /// What was last known to be wrong with a role; `None` where nothing is, or where it was not looked at yet.
    pub fn fault_of(&self, name: &RoleName) -> Option<&RoleFault> {
        self.outcomes.get(name)?.as_ref()
    }

    /// For `irsad status`, with the roles of `cluster` that nothing asks for any more.
    pub fn report(&self, cluster: &str) -> RolesReport {
        let is_ready = |name: &&RoleName| matches!(self.outcomes.get(name), Some(None));
        let ready = self.wanted.keys().filter(is_ready).count();
        let pending = self.wanted.keys().filter(|name| !self.outcomes.contains_key(name)).count();
        let of_roles = self.outcomes.iter().filter_map(|(name, fault)| Some((name.to_string(), fault.as_ref()?)));
        let refused = self.refused.iter().map(|(name, fault)| (name.to_string(), fault));
        let survey = self.survey_fault.iter().map(|fault| ("list of roles".to_owned(), fault));
        RolesReport::new("list", ready, pending, of_roles.chain(refused).chain(survey))
            .with_orphans(self.of_others.of_cluster(cluster))
    }

    /// A role is removed when its time has come: a node that leads with an old list must not undo what a newer one says.
    fn put_in_those_that_left(&mut self, now: Timestamp) {
        for (name, since) in &self.leaving {
            self.schedule.put_in(name.clone(), after(*since, self.removal_delay).max(now));
        }
    }

    fn is_listed(&self, name: &RoleName) -> bool {
        self.wanted.contains_key(name) || self.refused.contains_key(name)
    }

    fn failed(&mut self, name: &RoleName, fault: RoleFault, now: Timestamp) {
        self.slow_down(&fault, now);
        self.schedule.has_fault(name, fault.kind, now);
        self.outcomes.insert(name.clone(), Some(fault));
    }

    fn slow_down(&mut self, fault: &RoleFault, now: Timestamp) {
        match fault.kind {
            FaultKind::Throttled => self.pace.slow_down(now),
            FaultKind::Person | FaultKind::Wait => {}
        }
    }
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
