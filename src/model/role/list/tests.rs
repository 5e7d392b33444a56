//! What is looked at when, by a clock of the test's own.

use std::collections::BTreeSet;

use super::*;
use crate::model::{
    role::{MaxSession, Owner, RoleRequest, fixtures::terms},
    trust_policy::Subject,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const DELAY: Duration = Duration::from_secs(3600);

fn role(name: &str) -> Result<WantedRole, Box<dyn std::error::Error>> {
    Ok(terms()?.role(&RoleRequest {
        name: name.parse()?,
        owner: Owner::list("prod-1"),
        subjects: vec![Subject::new("shop", name)?],
        managed: Vec::new(),
        inline: None,
        max_session: MaxSession::DEFAULT,
    })?)
}

/// As a list of IAM shows it.
fn listed(role: &WantedRole) -> FoundRole {
    FoundRole {
        name: role.name.clone(),
        path: role.path.clone(),
        arn: role.arn.clone(),
        trust_policy: role.trust_policy.clone(),
        max_session_seconds: 3600,
        boundary: None,
        tags: BTreeMap::new(),
        managed: BTreeSet::new(),
        inline: BTreeMap::new(),
    }
}

fn at(seconds: u64) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
}

fn done() -> Brought {
    Brought { arn: String::new(), is_new: false, done: Vec::new() }
}

fn fault(kind: FaultKind) -> RoleFault {
    RoleFault { kind, reason: "Reason", sentence: "why".to_owned() }
}

/// An account in which every task succeeds, and the calls that it takes.
struct Account {
    list: RoleList,
    roles: Vec<FoundRole>,
    surveys: usize,
    looks: usize,
    removed: Vec<String>,
}

impl Account {
    fn with(roles: &[WantedRole]) -> Self {
        let list = RoleList::new(roles.iter().cloned().map(Ok), DELAY, at(0));
        Self { list, roles: roles.iter().map(listed).collect(), surveys: 0, looks: 0, removed: Vec::new() }
    }

    /// Does everything that is due until then, at the time at which it is.
    fn run(&mut self, from: u64, until: u64) {
        let mut now = at(from);
        while now <= at(until) {
            while let Some(task) = self.list.next(now) {
                match task {
                    Task::Survey => {
                        self.surveys += 1;
                        self.list.surveyed(Ok(&self.roles), now);
                    }
                    Task::Bring(role) => {
                        self.looks += 1;
                        self.roles.retain(|found| found.name != role.name);
                        self.roles.push(listed(&role));
                        self.list.brought(&role.name, Ok(&done()), now);
                    }
                    Task::Remove(name) => {
                        self.removed.push(name.to_string());
                        self.roles.retain(|found| found.name != name);
                        self.list.removed(&name, Ok(Removed::Now), now);
                    }
                }
            }
            now = self.list.next_due(now).max(after(now, Duration::from_secs(1)));
        }
    }
}

/// The number of calls in docs/roles.md.
#[test]
fn two_thousand_roles_at_rest_cost_less_than_a_thousand_calls_an_hour() -> Outcome {
    const HOURS: usize = 48;
    let roles = (0..2000).map(|n| role(&format!("app-{n}"))).collect::<Result<Vec<_>, _>>()?;
    let mut account = Account::with(&roles);
    account.run(0, 60);
    assert_eq!((account.surveys, account.looks), (1, 2000), "the first time each is looked at at once");
    (account.surveys, account.looks) = (0, 0);
    account.run(60, 3600 * u64::try_from(HOURS)?);
    // Two pages a survey; three calls a look, and one more where there is an inline policy.
    let calls = (account.surveys * 2 + account.looks * 4) / HOURS;
    assert!(
        (500..1000).contains(&calls),
        "{calls} calls an hour: {} surveys, {} looks",
        account.surveys,
        account.looks
    );
    assert!(account.looks >= 2000 * HOURS / 12, "each at least once in twelve hours");
    assert_eq!(account.list.report("prod-1").ready, 2000);
    Ok(())
}

#[test]
fn what_a_survey_shows_is_looked_at_at_once_and_nothing_else() -> Outcome {
    let roles = ["a", "b", "c"].map(role).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut account = Account::with(&roles);
    account.run(0, 10);
    account.looks = 0;
    account.run(10, 600);
    assert_eq!((account.surveys, account.looks), (2, 0));
    account.roles.retain(|found| found.name.as_str() != "a");
    account.roles.iter_mut().filter(|found| found.name.as_str() == "b").for_each(|found| found.trust_policy.clear());
    account.run(601, 1200);
    assert_eq!((account.surveys, account.looks), (3, 2));
    assert_eq!(account.roles.len(), 3);
    Ok(())
}

#[test]
fn role_that_left_the_list_is_removed_after_the_delay_and_one_that_comes_back_stays() -> Outcome {
    let roles = ["a", "b", "c"].map(role).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut account = Account::with(&roles);
    account.run(0, 100);
    account.list.change(roles[..1].iter().cloned().map(Ok), DELAY, at(100));
    account.run(100, 3600);
    assert_eq!(account.removed, Vec::<String>::new());
    account.list.change(roles[..2].iter().cloned().map(Ok), DELAY, at(3600));
    account.run(3600, 8000);
    assert_eq!(account.removed, ["c"]);

    // A process that did not see it leave waits as long: it may be the one with the old list.
    let mut later = Account::with(&roles[..1]);
    later.roles.push(listed(&roles[1]));
    later.run(0, 3599);
    assert_eq!(later.removed, Vec::<String>::new());
    later.run(3600, 3601);
    assert_eq!(later.removed, ["b"]);
    Ok(())
}

#[test]
fn role_of_others_below_our_path_is_asked_about_once() -> Outcome {
    let theirs = role("theirs")?;
    let mut account = Account::with(&[]);
    account.list.removal_delay = Duration::ZERO;
    account.roles.push(listed(&theirs));
    account.list.surveyed(Ok(&account.roles), at(0));
    assert_eq!(account.list.next(at(0)), Some(Task::Remove(theirs.name.clone())));
    let owner = Owner::object("prod-1", "ServiceAccountRole", None, "x");
    account.list.removed(&theirs.name, Ok(Removed::NotOurs(Some(owner))), at(0));
    let orphans: Vec<_> = account.list.report("prod-1").orphans.into_iter().map(|it| (it.role, it.owner)).collect();
    assert_eq!(orphans, [("theirs".to_owned(), "ServiceAccountRole/x".to_owned())]);
    assert_eq!(account.list.report("prod-2").orphaned, 0, "it is another cluster's");
    for round in 1..10 {
        account.list.surveyed(Ok(&account.roles), at(round * 600));
        assert_eq!(account.list.next(at(round * 600)), None);
    }
    Ok(())
}

#[test]
fn throttled_call_stops_all_others_ever_longer_until_one_succeeds() -> Outcome {
    let roles = ["a", "b"].map(role).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut list = RoleList::new(roles.iter().cloned().map(Ok), DELAY, at(0));
    list.surveyed(Ok(&[]), at(0));
    let mut now = 0;
    for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
        assert!(list.next(at(now)).is_some());
        list.brought(&roles[0].name, Err(fault(FaultKind::Throttled)), at(now));
        assert_eq!(list.next(at(now + pause - 1)), None, "{pause}");
        now += pause;
    }
    list.brought(&roles[1].name, Ok(&done()), at(now));
    list.brought(&roles[0].name, Err(fault(FaultKind::Throttled)), at(now));
    assert_eq!(list.next_due(at(now)), at(now + 5));
    Ok(())
}

#[test]
fn fault_of_one_role_keeps_no_other_waiting_and_is_tried_again_ever_later() -> Outcome {
    let roles = ["a", "b"].map(role).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut list = RoleList::new(roles.iter().cloned().map(Ok), DELAY, at(0));
    list.surveyed(Ok(&[]), at(0));
    list.brought(&roles[0].name, Err(fault(FaultKind::Person)), at(0));
    assert_eq!(list.next(at(0)), Some(Task::Bring(Box::new(roles[1].clone()))));
    list.brought(&roles[1].name, Err(fault(FaultKind::Wait)), at(0));
    assert_eq!((list.next(at(4)), list.next(at(5))), (None, Some(Task::Bring(Box::new(roles[1].clone())))));
    list.brought(&roles[1].name, Err(fault(FaultKind::Wait)), at(5));
    assert_eq!(list.next_due(at(10)), at(15));
    let report = list.report("prod-1");
    assert_eq!((report.ready, report.waiting, report.need_a_person), (0, 1, 1));

    // A person who changes the role does not wait for the next try.
    list.change(
        ["b", "a"].map(role).into_iter().flatten().map(|role| {
            Ok(WantedRole {
                max_session: MaxSession::try_from(Duration::from_secs(7200)).unwrap_or(MaxSession::DEFAULT),
                ..role
            })
        }),
        DELAY,
        at(6),
    );
    assert!(list.next(at(6)).is_some());
    Ok(())
}
