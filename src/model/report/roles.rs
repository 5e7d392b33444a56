//! IAM roles as `irsad status` tells of them.

use serde::{Deserialize, Serialize};

use crate::model::role::{FaultKind, Owner, RoleFault, RoleName};

/// So many faults stand in a report one by one, and so many orphans.
const MOST_FAULTS: usize = 20;

/// IAM roles that irsad makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolesReport {
    /// `roles.mode` of the configuration.
    pub mode: String,
    /// Roles that are as they should be.
    pub ready: usize,
    /// Roles that were not looked at yet.
    pub pending: usize,
    /// Roles for which something has to pass by itself.
    pub waiting: usize,
    /// Roles for which a person has to do something.
    pub need_a_person: usize,
    /// For a person.
    pub summary: String,
    /// What is wrong, those that need a person first; not more than 20.
    pub faults: Vec<RoleFaultReport>,
    /// Roles that irsad made and nothing asks for any more; they stay as they are.
    #[serde(default)]
    pub orphaned: usize,
    /// Those, by name; not more than 20.
    #[serde(default)]
    pub orphans: Vec<OrphanReport>,
}

/// A role that nothing asks for any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrphanReport {
    /// Its name.
    pub role: String,
    /// What asked for it, as its tag says: `list`, or `ServiceAccountRole/NAME`.
    pub owner: String,
}

/// Why one role is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleFaultReport {
    /// Name of the role, or of what asks for it.
    pub role: String,
    /// The reason in one word.
    pub reason: String,
    /// What failed, what was left and what to do.
    pub message: String,
    /// Whether a person has to do something.
    pub needs_a_person: bool,
}

impl RolesReport {
    /// The report of `ready` and `pending` roles and of those with `faults`.
    pub fn new<'a>(
        mode: &str,
        ready: usize,
        pending: usize,
        faults: impl Iterator<Item = (String, &'a RoleFault)>,
    ) -> Self {
        let mut faults: Vec<RoleFaultReport> = faults
            .map(|(role, fault)| RoleFaultReport {
                role,
                reason: fault.reason.to_owned(),
                message: fault.sentence.clone(),
                needs_a_person: fault.kind == FaultKind::Person,
            })
            .collect();
        faults.sort_by(|one, other| (!one.needs_a_person, &one.role).cmp(&(!other.needs_a_person, &other.role)));
        let need_a_person = faults.iter().filter(|fault| fault.needs_a_person).count();
        let waiting = faults.len() - need_a_person;
        let parts = [
            Some(format!("{ready} ready")),
            (pending > 0).then(|| format!("{pending} not looked at yet")),
            (waiting > 0).then(|| format!("{waiting} waiting")),
            (need_a_person > 0).then(|| match need_a_person {
                1 => "1 needs a person".to_owned(),
                many => format!("{many} need a person"),
            }),
        ];
        let counts = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let first = faults.first().map(|fault| format!(": {}", fault.message)).unwrap_or_default();
        faults.truncate(MOST_FAULTS);
        let (mode, summary) = (mode.to_owned(), counts + &first);
        Self { mode, ready, pending, waiting, need_a_person, summary, faults, orphaned: 0, orphans: Vec::new() }
    }

    /// With the roles that nothing asks for any more.
    pub fn with_orphans<'a>(self, orphans: impl Iterator<Item = (&'a RoleName, &'a Owner)>) -> Self {
        let orphan = |(role, owner): (&RoleName, &Owner)| OrphanReport {
            role: role.to_string(),
            owner: owner.keeper().to_owned(),
        };
        let mut orphans: Vec<OrphanReport> = orphans.map(orphan).collect();
        let orphaned = orphans.len();
        orphans.truncate(MOST_FAULTS);
        Self { orphaned, orphans, ..self }
    }

    /// What to do about them, in one sentence; `None` where there are none.
    pub fn orphans_note(&self) -> Option<String> {
        let OrphanReport { role, owner } = self.orphans.first()?;
        let more = match self.orphaned {
            1 => String::new(),
            many => format!(" (and {} more, irsad status -o json names them)", many - 1),
        };
        Some(format!(
            "IAM role {role} was made by irsad for {owner}, and nothing asks for it any more; it stays as it is: delete it in IAM, or ask for it \
             again by the same name{more}"
        ))
    }

    /// What a person has to do, in one sentence; `None` where nobody has to do anything.
    pub fn needs_a_person(&self) -> Option<String> {
        let first = self.faults.first().filter(|fault| fault.needs_a_person)?;
        Some(match self.need_a_person {
            1 => first.message.clone(),
            many => format!("{} (and {} more, irsad status -o json names them)", first.message, many - 1),
        })
    }

    /// What has to pass by itself, in one sentence; `None` where nothing has to.
    pub fn waits(&self) -> Option<String> {
        let first = self.faults.iter().find(|fault| !fault.needs_a_person)?;
        Some(match self.waiting {
            1 => first.message.clone(),
            many => format!("{} (and {} more)", first.message, many - 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind, sentence: &str) -> RoleFault {
        RoleFault { kind, reason: "Reason", sentence: sentence.to_owned() }
    }

    #[test]
    fn status_counts_the_roles_and_says_first_what_a_person_has_to_do() {
        let (person, wait) = (fault(FaultKind::Person, "create it"), fault(FaultKind::Wait, "it comes"));
        let throttled = fault(FaultKind::Throttled, "slow down");
        let report = |faults: &[&RoleFault]| {
            RolesReport::new("list", 12, 0, faults.iter().enumerate().map(|(n, fault)| (n.to_string(), *fault)))
        };
        for (faults, summary, needs, waits) in [
            (&[][..], "12 ready", None, None),
            (&[&person], "12 ready, 1 needs a person: create it", Some("create it"), None),
            (&[&wait, &throttled], "12 ready, 2 waiting: it comes", None, Some("it comes (and 1 more)")),
            (
                &[&wait, &person, &person],
                "12 ready, 1 waiting, 2 need a person: create it",
                Some("create it (and 1 more, irsad status -o json names them)"),
                Some("it comes"),
            ),
        ] {
            let report = report(faults);
            assert_eq!(report.summary, summary);
            assert_eq!((report.needs_a_person().as_deref(), report.waits().as_deref()), (needs, waits));
        }
        assert_eq!(RolesReport::new("list", 0, 3, std::iter::empty()).summary, "0 ready, 3 not looked at yet");
    }

    #[test]
    fn role_that_nothing_asks_for_is_named_with_what_to_do_and_is_no_fault() -> Result<(), Box<dyn std::error::Error>> {
        let owner = Owner::object("prod-1", "ServiceAccountRole", None, "app");
        let names = (0..25).map(|n| format!("r{n:0>2}").parse()).collect::<Result<Vec<RoleName>, _>>()?;
        let report = |many: usize| {
            let orphans = names[..many].iter().map(|name| (name, &owner));
            RolesReport::new("crd", 3, 0, std::iter::empty()).with_orphans(orphans)
        };
        let sentence = "IAM role r00 was made by irsad for ServiceAccountRole/app, and nothing asks for it any more; it stays as it is: delete it in IAM, or ask for it again by the same name";
        for (many, note) in [
            (0, None),
            (1, Some(sentence.to_owned())),
            (25, Some(format!("{sentence} (and 24 more, irsad status -o json names them)"))),
        ] {
            let report = report(many);
            assert_eq!((report.orphans_note(), report.orphaned, report.orphans.len()), (note, many, many.min(20)));
            assert_eq!((report.summary.as_str(), report.needs_a_person(), report.waits()), ("3 ready", None, None));
        }
        Ok(())
    }

    #[test]
    fn report_of_thousands_of_faults_stays_short_and_counts_them_all() {
        let fault = fault(FaultKind::Person, "x");
        let report = RolesReport::new("list", 0, 0, (0..2000).map(|n| (format!("r{n}"), &fault)));
        assert_eq!((report.faults.len(), report.need_a_person), (20, 2000));
    }
}
