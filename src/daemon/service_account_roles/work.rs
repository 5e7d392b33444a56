//! Turns for objects: those of which something has changed at once, those with a fault later and later, all others seldom.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::watch as flag,
    time::{Instant, sleep_until},
};

use super::{
    super::roles::{REPORT_INTERVAL, TICK, tell},
    Duty,
    define::define,
    follow::Watched,
};
use crate::{
    aws,
    execute::{
        roles::list,
        service_account_roles::{Fresh, Turned, turn},
    },
    model::{
        report::RolesReport,
        role::{
            FaultKind, FoundRole, LOOK_PERIOD, Orphans, Pace, RoleFault, RoleName, SURVEY_INTERVAL, Schedule,
            is_drifted, path, place_in_period,
        },
        service_account_role::{Known, ServiceAccountRole, Status, View},
    },
};

/// A role that was looked at within this time is not looked at again for a change of a service account.
const FRESH: SignedDuration = SignedDuration::from_hours(6);
/// Objects that are worked on at once: IAM answers an account some tens of calls a second at most.
const AT_ONCE: usize = 4;
/// Objects that are worked on before changes are looked at again.
const BATCH: usize = 16;
/// How often the definition of the objects is looked at.
const DEFINITION_INTERVAL: Duration = Duration::from_secs(60);
/// So many objects at once may have a fault that passes by itself until the journal is no longer told of each.
const MOST_SAID: usize = 20;

/// What is remembered from turn to turn.
pub(super) struct Work {
    watched: Arc<Watched>,
    reports: flag::Sender<Option<RolesReport>>,
    schedule: Schedule<String>,
    fresh: BTreeMap<String, Fresh>,
    /// What is wrong, by object.
    faults: BTreeMap<String, RoleFault>,
    /// How often in a row somebody else has changed a service account of an object at the same time.
    contested: BTreeMap<String, u32>,
    /// Objects that have had a turn.
    seen: BTreeSet<String>,
    /// What was last written into the status of an object, by its uid: the watch tells of it a little later.
    told: BTreeMap<String, Status>,
    reported_at: Option<Instant>,
    /// It led when it was last looked.
    led: bool,
    /// How often it was asked to look at everything again.
    looks: u64,
    pace: Pace,
    /// When the definition of the objects is looked at next, and what is wrong with it.
    define_at: Instant,
    trouble: Option<RoleFault>,
    survey_at: Instant,
    /// Roles of the cluster that no object asks for.
    orphans: Orphans,
    cluster: String,
    /// Why the last list of all roles failed.
    survey_fault: Option<RoleFault>,
}

impl Work {
    /// Nothing is known yet.
    pub fn new(watched: Arc<Watched>, reports: flag::Sender<Option<RolesReport>>) -> Self {
        let now = Instant::now();
        Self {
            watched,
            reports,
            schedule: Schedule::new(LOOK_PERIOD),
            fresh: BTreeMap::new(),
            faults: BTreeMap::new(),
            contested: BTreeMap::new(),
            seen: BTreeSet::new(),
            told: BTreeMap::new(),
            reported_at: None,
            led: false,
            looks: 0,
            pace: Pace::default(),
            define_at: now,
            trouble: None,
            survey_at: now + SURVEY_INTERVAL,
            survey_fault: None,
            orphans: Orphans::default(),
            cluster: String::new(),
        }
    }

    /// Works until the duty ends, or is one with another annotation.
    pub async fn go_on(&mut self, duties: &mut flag::Receiver<Option<Duty>>, annotation: &str) {
        loop {
            let duty = duties.borrow_and_update().clone();
            let Some(duty) = duty.filter(|duty| duty.hands.annotation == annotation) else { return };
            let leads = duty.lead.leads();
            if (leads && !self.led) || self.looks != duty.looks {
                self.look_again();
            }
            (self.led, self.looks) = (leads, duty.looks);
            let now = Timestamp::now();
            if leads {
                self.define(&duty).await;
                self.survey(&duty, now).await;
                let views = self.due(now);
                if !views.is_empty() {
                    self.take_turns(&duty, views, now).await;
                    continue;
                }
            }
            self.tell();
            let until = Instant::now() + self.pause(now);
            tokio::select! {
                () = self.watched.changed() => {}
                changed = duties.changed() => if changed.is_err() { return },
                () = sleep_until(until) => {}
            }
        }
    }

    /// Whoever led meanwhile may have changed the roles: what was seen before does not count.
    fn look_again(&mut self) {
        self.fresh.clear();
        self.told.clear();
        self.pace = Pace::default();
        self.orphans = Orphans::default();
        self.survey_at = Instant::now();
        self.define_at = Instant::now();
        let now = Timestamp::now();
        let known = self.watched.known();
        known.objects().for_each(|object| self.schedule.hurry(object.name.clone(), now));
    }

    /// One list of all roles: which of them are gone or not what they were.
    async fn survey(&mut self, duty: &Duty, now: Timestamp) {
        let is_early = Instant::now() < self.survey_at || !self.watched.known().is_complete();
        if is_early || self.pace.is_paused(now) {
            return;
        }
        self.survey_at = Instant::now() + SURVEY_INTERVAL;
        let found = list(&duty.hands.iam, &path(&duty.hands.terms.cluster)).await;
        let extra = self.extra(found.as_deref().unwrap_or_default());
        let is_listed = found.is_ok();
        self.surveyed(found, now);
        if is_listed {
            self.look_for_orphans(duty, &extra, now).await;
        }
    }

    /// Roles that are there and that no object asks for; none where nobody can say so.
    fn extra(&self, found: &[FoundRole]) -> BTreeSet<RoleName> {
        let Some(asked) = self.asked_for() else { return BTreeSet::new() };
        let names = found.iter().map(|role| &role.name);
        names.filter(|name| !asked.contains(&name.as_str().to_ascii_lowercase())).cloned().collect()
    }

    /// Names of roles that objects ask for, in lower case; `None` where not all are known, or one of them is not understood.
    fn asked_for(&self) -> Option<BTreeSet<String>> {
        let known = self.watched.known();
        let name = |object: &ServiceAccountRole| Some(object.spec.as_ref().ok()?.role_name.to_ascii_lowercase());
        if known.is_complete() { known.objects().map(name).collect() } else { None }
    }

    /// Asks for the tags of roles that no object asks for.
    async fn look_for_orphans(&mut self, duty: &Duty, extra: &BTreeSet<RoleName>, now: Timestamp) {
        self.cluster.clone_from(&duty.hands.terms.cluster);
        self.orphans.keep_only(|name| extra.contains(name));
        for name in self.orphans.to_ask_for(extra) {
            match duty.hands.iam.role(&name).await {
                Ok(found) => self.orphans.note_role(&name, found.as_ref()),
                // The next survey asks again.
                Err(error) => {
                    tracing::debug!(role = %name, "its tags were not seen: {error}");
                    if *error.reason() == aws::Reason::Busy {
                        self.pace.slow_down(now);
                    }
                    return;
                }
            }
        }
    }

    fn surveyed(&mut self, found: Result<Vec<FoundRole>, RoleFault>, now: Timestamp) {
        let found = match found {
            Ok(found) => found,
            Err(fault) => {
                tracing::warn!("{fault}");
                if fault.kind == FaultKind::Throttled {
                    self.pace.slow_down(now);
                }
                self.survey_fault = Some(fault);
                return;
            }
        };
        self.survey_fault = None;
        let found: BTreeMap<_, _> = found.iter().map(|role| (&role.name, role)).collect();
        let is_off = |fresh: &Fresh| found.get(&fresh.wanted.name).is_none_or(|role| is_drifted(&fresh.wanted, role));
        let off: Vec<String> =
            self.fresh.iter().filter(|(_, fresh)| is_off(fresh)).map(|(name, _)| name.clone()).collect();
        for name in off {
            self.fresh.remove(&name);
            self.schedule.hurry(name, now);
        }
    }

    /// Keeps the definition of the objects.
    async fn define(&mut self, duty: &Duty) {
        if Instant::now() < self.define_at {
            return;
        }
        self.define_at = Instant::now() + DEFINITION_INTERVAL;
        let trouble = define(&duty.hands.api).await.err();
        if let Some(fault) = trouble.as_ref().filter(|_| self.trouble != trouble) {
            tracing::warn!("{fault}");
        }
        self.trouble = trouble;
    }

    /// What is due now, with all that matters for it.
    fn due(&mut self, now: Timestamp) -> Vec<View> {
        if self.pace.is_paused(now) {
            return Vec::new();
        }
        let watched = Arc::clone(&self.watched);
        let mut known = watched.known();
        if !known.is_complete() {
            return Vec::new();
        }
        self.note_changes(&mut known, now);
        let due = self.schedule.all_due(now, BATCH);
        if due.is_empty() {
            return Vec::new();
        }
        let claims = known.claims();
        let mut views: Vec<View> = due.iter().filter_map(|name| known.view(name, &claims)).collect();
        for View { object, .. } in &mut views {
            object.status = self.told.get(&object.uid).unwrap_or(&object.status).clone();
        }
        views
    }

    fn note_changes(&mut self, known: &mut Known, now: Timestamp) {
        let (changed, touched) = (known.take_changed(), known.take_touched());
        if changed.is_empty() && touched.is_empty() {
            return;
        }
        let there: BTreeSet<&str> = known.objects().map(|object| object.name.as_str()).collect();
        let uids: BTreeSet<&str> = known.objects().map(|object| object.uid.as_str()).collect();
        self.told.retain(|uid, _| uids.contains(uid.as_str()));
        for name in changed {
            if there.contains(name.as_str()) {
                self.schedule.hurry(name, now);
            } else {
                self.schedule.forget(&name);
                self.fresh.remove(&name);
                self.faults.remove(&name);
                self.seen.remove(&name);
                self.contested.remove(&name);
            }
        }
        // An account that comes and goes must not wipe the back-off of an object that fails.
        for name in touched.into_iter().filter(|name| there.contains(name.as_str())) {
            self.schedule.bring_forward(name, now);
        }
    }

    async fn take_turns(&mut self, duty: &Duty, views: Vec<View>, now: Timestamp) {
        let may_act = || duty.lead.leads();
        let turns = views.into_iter().map(|view| {
            let fresh = self.fresh.remove(&view.object.name);
            let contested = self.contested.get(&view.object.name).copied().unwrap_or_default();
            let may_act = &may_act;
            async move {
                let turned = turn(&duty.hands, &view, contested, fresh, FRESH, now, may_act).await;
                (view, turned)
            }
        });
        let turns: Vec<_> = turns.collect();
        let turned: Vec<(View, Turned)> = stream::iter(turns).buffer_unordered(AT_ONCE).collect().await;
        let now = Timestamp::now();
        let is_throttled = turned.iter().any(|(_, turned)| turned.fault == Some(FaultKind::Throttled));
        turned.into_iter().for_each(|(view, turned)| self.note((&view.object.name, &view.object.uid), turned, now));
        match is_throttled {
            true => self.pace.slow_down(now),
            false => self.pace.is_well(),
        }
        if self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            self.tell();
        }
    }

    fn note(&mut self, (name, uid): (&str, &str), turned: Turned, now: Timestamp) {
        let Turned { is_contested, fresh, fault, ready, told, done } = turned;
        for what in done {
            tracing::info!(object = name, "ServiceAccountRole: {what}");
        }
        let key = name.to_owned();
        self.seen.insert(key.clone());
        match is_contested {
            true => *self.contested.entry(key.clone()).or_default() += 1,
            false => drop(self.contested.remove(name)),
        }
        self.told.extend(told.map(|status| (uid.to_owned(), status)));
        if let Some(fresh) = fresh {
            self.fresh.insert(key.clone(), fresh);
        }
        match fault {
            None => self.schedule.is_well(&key, now, place_in_period(name)),
            Some(kind) => self.schedule.has_fault(&key, kind, now),
        }
        match (ready, fault) {
            (Some(ready), Some(kind)) => {
                let fault =
                    RoleFault { kind, reason: ready.reason.as_str(), sentence: format!("{name}: {}", ready.message) };
                if self.faults.get(name).map(|known| known.reason) != Some(fault.reason) {
                    // Where AWS is away, all have the same fault: the first ones say it.
                    match kind == FaultKind::Person || self.faults.len() < MOST_SAID {
                        true => tracing::warn!(object = name, reason = fault.reason, "ServiceAccountRole {fault}"),
                        false => tracing::debug!(object = name, reason = fault.reason, "ServiceAccountRole {fault}"),
                    }
                }
                self.faults.insert(key, fault);
            }
            (Some(_) | None, None) => drop(self.faults.remove(name)),
            (None, Some(kind)) => {
                let sentence =
                    format!("{name}: it was changed at the same time, or could not be told of; it is looked at again");
                self.faults.entry(key).or_insert(RoleFault { kind, reason: "NotTold", sentence });
            }
        }
    }

    fn tell(&mut self) {
        self.reported_at = Some(Instant::now());
        let (count, is_complete) = {
            let known = self.watched.known();
            (known.objects().count(), known.is_complete())
        };
        if !is_complete && self.trouble.is_none() {
            return;
        }
        let pending = count.saturating_sub(self.seen.len());
        let ready = count.saturating_sub(pending).saturating_sub(self.faults.len());
        let trouble = self.trouble.iter().map(|fault| ("CustomResourceDefinition".to_owned(), fault));
        let survey = self.survey_fault.iter().map(|fault| ("list of roles".to_owned(), fault));
        let faults = self.faults.iter().map(|(name, fault)| (name.clone(), fault));
        // An object may ask for it again since the tags were seen.
        let asked = self.asked_for();
        let is_extra =
            |name: &RoleName| asked.as_ref().is_some_and(|it| !it.contains(&name.as_str().to_ascii_lowercase()));
        let orphans = self.orphans.of_cluster(&self.cluster).filter(|(name, _)| is_extra(name));
        let faults = trouble.chain(survey).chain(faults);
        let report = self.led.then(|| RolesReport::new("crd", ready, pending, faults).with_orphans(orphans));
        tell(&self.reports, report);
    }

    /// Until something is due by itself, but no longer than a change of the lead may go unnoticed.
    fn pause(&self, now: Timestamp) -> Duration {
        let due = self.schedule.next_due().map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default());
        due.unwrap_or(TICK).max(self.pace.left(now)).clamp(Duration::from_millis(50), TICK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::role::Owner;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    /// Of these objects, while this process leads.
    fn work(names: &[&str]) -> Result<(Work, flag::Receiver<Option<RolesReport>>), serde_json::Error> {
        let (watched, (reports, report)) = (Arc::new(Watched::default()), flag::channel(None));
        let object = |name: &&str| {
            serde_json::from_value::<ServiceAccountRole>(serde_json::json!({
                "metadata": { "name": name, "uid": name, "creationTimestamp": "2026-11-21T12:00:00Z" },
                "spec": { "roleName": name, "serviceAccounts": [] },
            }))
        };
        watched.known().replace_objects(names.iter().map(object).collect::<Result<_, _>>()?);
        watched.known().replace_accounts(HashMap::new());
        Ok((Work { led: true, ..Work::new(watched, reports) }, report))
    }

    fn summary(work: &mut Work, report: &flag::Receiver<Option<RolesReport>>) -> Option<String> {
        work.tell();
        report.borrow().as_ref().map(|report| report.summary.clone())
    }

    #[test]
    fn turn_that_comes_to_nothing_does_not_count_as_ready() -> Outcome {
        let (mut work, report) = work(&["a"])?;
        let again = || Turned { is_contested: true, fault: Some(FaultKind::Wait), ..Turned::default() };
        for contested in 1..=2 {
            work.note(("a", "a"), again(), Timestamp::UNIX_EPOCH);
            assert_eq!(work.contested.get("a"), Some(&contested));
        }
        assert_eq!(
            summary(&mut work, &report).as_deref(),
            Some(
                "0 ready, 1 waiting: a: it was changed at the same time, or could not be told of; it is looked at again"
            )
        );
        work.note(("a", "a"), Turned::default(), Timestamp::UNIX_EPOCH);
        assert_eq!((summary(&mut work, &report).as_deref(), work.contested.len()), (Some("1 ready"), 0));
        Ok(())
    }

    #[test]
    fn role_that_no_object_asks_for_is_an_orphan_until_one_does() -> Outcome {
        let (mut work, report) = work(&["App", "b"])?;
        work.cluster = "prod-1".to_owned();
        let role = |name: &str| -> Result<FoundRole, Box<dyn std::error::Error>> {
            Ok(FoundRole {
                name: name.parse()?,
                path: String::new(),
                arn: String::new(),
                trust_policy: String::new(),
                max_session_seconds: 3600,
                boundary: None,
                tags: Owner::object("prod-1", "ServiceAccountRole", None, name).tags().into(),
                managed: BTreeSet::new(),
                inline: BTreeMap::new(),
            })
        };
        // IAM does not tell names apart by case.
        let found = [role("app")?, role("lost")?];
        let extra = work.extra(&found);
        assert_eq!(extra.iter().map(RoleName::as_str).collect::<Vec<_>>(), ["lost"]);
        work.orphans.note_role(&found[1].name, Some(&found[1]));
        work.tell();
        assert_eq!(report.borrow().as_ref().map(|report| report.orphaned), Some(1));
        let back = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "back", "uid": "back", "creationTimestamp": "2026-11-21T12:00:00Z" },
            "spec": { "roleName": "lost", "serviceAccounts": [] },
        }))?;
        work.watched.known().put_object(back);
        assert_eq!(work.extra(&found), BTreeSet::new());
        work.tell();
        assert_eq!(report.borrow().as_ref().map(|report| report.orphaned), Some(0));
        Ok(())
    }

    #[test]
    fn list_of_roles_that_fails_is_told_and_slows_down_where_iam_asks_for_it() -> Outcome {
        let now = Timestamp::UNIX_EPOCH;
        for (kind, is_paused, expected) in [
            (FaultKind::Wait, false, "0 ready, 1 waiting: no list"),
            (FaultKind::Throttled, true, "0 ready, 1 waiting: no list"),
            (FaultKind::Person, false, "0 ready, 1 needs a person: no list"),
        ] {
            let (mut work, report) = work(&[])?;
            work.surveyed(Err(RoleFault { kind, reason: "x", sentence: "no list".to_owned() }), now);
            assert_eq!((summary(&mut work, &report).as_deref(), work.pace.is_paused(now)), (Some(expected), is_paused));
            work.surveyed(Ok(Vec::new()), now);
            assert_eq!(summary(&mut work, &report).as_deref(), Some("0 ready"));
        }
        Ok(())
    }
}
