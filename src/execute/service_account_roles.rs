//! Brings about what one `ServiceAccountRole` says: the role, then its service accounts, then what is told of it. One that is deleted
//! goes the other way: accounts, role, object.
//!
//! Every step can be the last one: the next turn finds out anew what is left to do.

mod preview;
mod removal;

use jiff::{SignedDuration, Timestamp};

pub use preview::{Preview, preview};

use super::roles::{MayAct, NOT_LEADER, bring};
use crate::{
    aws::iam::Iam,
    cluster::{ApiServer, NoAnswer, RoleEvent, is_ending},
    model::{
        role::{FaultKind, Owner, RoleFault, RoleTerms, WantedRole},
        service_account_role::{
            AccountName, AccountStep, AnnotatedAccount, Condition, Hindrance, KIND, Ready, Reason, Spec, Status, View,
            annotated, steps,
        },
    },
};

/// After so many conflicts in a row it is not by chance that somebody else changes a service account at the same time.
const MOST_CONTESTED: u32 = 3;

/// What objects are brought about with.
#[derive(Debug, Clone)]
pub struct Hands {
    /// The API server.
    pub api: ApiServer,
    /// IAM.
    pub iam: Iam,
    /// What holds for every role of the cluster.
    pub terms: RoleTerms,
    /// Annotation of a service account that names its role.
    pub annotation: String,
    /// Who acts, for Events: the name of the node.
    pub instance: String,
}

/// A role that was as wanted when it was last looked at.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// What was wanted.
    pub wanted: WantedRole,
    /// Its ARN.
    pub arn: String,
    /// When that was.
    pub at: Timestamp,
}

/// What one turn came to.
#[derive(Debug, Default)]
pub struct Turned {
    /// A service account was not written, because somebody else had changed it.
    pub is_contested: bool,
    /// The role as last seen; `None` where that is not known to be as wanted.
    pub fresh: Option<Fresh>,
    /// Who can cure what is in the way; `None` where nothing is.
    pub fault: Option<FaultKind>,
    /// How it stands with the object; `None` where nothing was found out.
    pub ready: Option<Ready>,
    /// The status that was written; `None` where nothing was new.
    pub told: Option<Status>,
    /// What was done to the role, for the journal.
    pub done: Vec<String>,
}

/// Why a turn came no further.
enum Stop {
    /// This is in the way.
    Fault(Ready, FaultKind),
    /// What was seen is no longer so: the next turn sees more.
    Again,
    /// Somebody else is to act from now on.
    NotLeader,
}

impl From<NoAnswer> for Stop {
    fn from(error: NoAnswer) -> Self {
        if matches!(error, NoAnswer::Conflict { .. }) {
            return Self::Again;
        }
        Self::Fault(Ready::new(Reason::NotReachable, &error.reason()), FaultKind::Wait)
    }
}

impl From<RoleFault> for Stop {
    fn from(fault: RoleFault) -> Self {
        if fault.reason == NOT_LEADER {
            return Self::NotLeader;
        }
        Self::Fault(Ready::from(&fault), fault.kind)
    }
}

/// One turn for one object, whose last turns were [contested](Turned::is_contested) that many times in a row. A role that is `fresh` is
/// not looked at again within `period`. Nothing is begun once `may_act` says no.
pub async fn turn(
    hands: &Hands,
    view: &View,
    contested: u32,
    fresh: Option<Fresh>,
    period: SignedDuration,
    now: Timestamp,
    may_act: MayAct<'_>,
) -> Turned {
    let mut turn =
        Turn { hands, view, contested, now, may_act, turned: Turned::default(), arn: None, given: Vec::new() };
    let fresh = fresh.filter(|fresh| now.duration_since(fresh.at) < period);
    let outcome = match view.object.is_deleted {
        true => turn.remove().await,
        false => turn.bring_about(fresh).await,
    };
    let outcome = match outcome {
        // The object is gone with this.
        Ok(None) => Ok(()),
        Ok(Some(ready)) => turn.tell(ready).await,
        Err(Stop::Fault(ready, kind)) => {
            turn.turned.fault = Some(kind);
            if turn.is_passing(&ready, kind) {
                turn.turned.ready = Some(ready);
                Ok(())
            } else {
                turn.tell(ready).await
            }
        }
        Err(stop @ (Stop::Again | Stop::NotLeader)) => Err(stop),
    };
    let untold = match outcome {
        Ok(()) => None,
        Err(Stop::Fault(_, kind)) => Some(kind),
        Err(Stop::Again | Stop::NotLeader) => Some(FaultKind::Wait),
    };
    turn.turned.fault = turn.turned.fault.or(untold);
    turn.turned
}

struct Turn<'a> {
    hands: &'a Hands,
    view: &'a View,
    contested: u32,
    now: Timestamp,
    may_act: MayAct<'a>,
    turned: Turned,
    /// The role, once it is known.
    arn: Option<String>,
    /// Accounts that have it.
    given: Vec<AnnotatedAccount>,
}

impl Turn<'_> {
    fn owner(&self) -> Owner {
        Owner::object(&self.hands.terms.cluster, KIND, None, &self.view.object.name)
    }

    /// Whether an object that is ready stays so: nothing is wrong with its role, only with the way to it. Thousands of objects must not
    /// change their conditions twice for a call that failed.
    fn is_passing(&self, ready: &Ready, kind: FaultKind) -> bool {
        let object = &self.view.object;
        let is_of_the_way = matches!(ready.reason, Reason::NotReachable | Reason::OfRole(_));
        let was_ready = |known: &Condition| known.is_true() && known.observed_generation == Some(object.generation);
        kind != FaultKind::Person && is_of_the_way && !object.is_deleted && object.status.ready().is_some_and(was_ready)
    }

    /// To be asked before each call that changes something.
    fn check_lead(&self) -> Result<(), Stop> {
        if (self.may_act)() { Ok(()) } else { Err(Stop::NotLeader) }
    }

    async fn bring_about(&mut self, fresh: Option<Fresh>) -> Result<Option<Ready>, Stop> {
        // What is known of the role is told as long as nothing else is known.
        self.arn = self.view.object.status.role_arn.clone();
        self.given = self.view.object.status.service_accounts.clone();
        let wanted = self.wanted()?;
        self.check_accounts()?;
        let object = &self.view.object;
        if !object.is_held() {
            self.check_lead()?;
            self.hands.api.hold_role(object, true).await?;
        }
        let arn = self.role(wanted, fresh).await?;
        self.arn = Some(arn.clone());
        let hindrances = self.accounts(&arn).await?;
        let given = self.given.len();
        unhindered(&hindrances)?;
        let accounts = if given == 1 { "service account" } else { "service accounts" };
        let message = format!("role {arn} is as wanted, and {given} {accounts} have it");
        Ok(Some(Ready::new(Reason::AsWanted, &message)))
    }

    /// The role that the object may have.
    fn wanted(&self) -> Result<WantedRole, Stop> {
        let person = |reason, text: &str| Stop::Fault(Ready::new(reason, text), FaultKind::Person);
        let spec: &Spec = self.view.object.spec.as_ref().map_err(|why| person(Reason::Invalid, why))?;
        if let Some(other) = &self.view.claim.role_of {
            let text = format!(
                "role name {} belongs to ServiceAccountRole {other}, which is older (nothing changed); make an object with another roleName in \
                 place of this one, or delete {other}",
                spec.role_name
            );
            return Err(person(Reason::RoleNameTaken, &text));
        }
        let request = spec.request(self.owner()).map_err(|why| person(Reason::Invalid, &why))?;
        self.hands.terms.role(&request).map_err(|refusal| RoleFault::from(refusal).into())
    }

    /// Before a role is made for the first time, nothing that only a person can mend may stand in its way.
    fn check_accounts(&self) -> Result<(), Stop> {
        if self.view.object.status.role_arn.is_some() {
            return Ok(());
        }
        let (_, hindrances) = self.steps(None);
        let conflicts: Vec<Hindrance> = hindrances.into_iter().filter(|one| !one.is_missing()).collect();
        unhindered(&conflicts)
    }

    fn steps(&self, arn: Option<&str>) -> (Vec<AccountStep>, Vec<Hindrance>) {
        let view = self.view;
        let seen = |name: &AccountName| view.accounts.get(name).cloned();
        steps(&view.object, &view.claim.accounts_of, &self.hands.annotation, arn, &view.marked, seen)
    }

    /// Its ARN, once it is as it should be.
    async fn role(&mut self, wanted: WantedRole, fresh: Option<Fresh>) -> Result<String, Stop> {
        if let Some(fresh) = fresh.filter(|fresh| fresh.wanted == wanted) {
            let arn = fresh.arn.clone();
            self.turned.fresh = Some(fresh);
            return Ok(arn);
        }
        self.check_lead()?;
        let brought = bring(&self.hands.iam, &wanted, self.may_act).await?;
        if !brought.done.is_empty() {
            let (reason, what) = if brought.is_new { ("RoleMade", "made") } else { ("RoleChanged", "changed") };
            self.say(reason, &format!("{what} role {}: {}", brought.arn, brought.done.join(", "))).await;
        }
        self.turned.done = brought.done;
        self.turned.fresh = Some(Fresh { wanted, arn: brought.arn.clone(), at: self.now });
        Ok(brought.arn)
    }

    /// Gives the accounts that the object names the role, and takes it from those that it does not; what stands in the way.
    async fn accounts(&mut self, arn: &str) -> Result<Vec<Hindrance>, Stop> {
        let (steps, mut hindrances) = self.steps(Some(arn));
        let is_ours = |name: &&AccountName| {
            let account = self.view.accounts.get(name);
            account.is_some_and(|account| account.mark.as_ref() == Some(&self.view.object.name))
        };
        let is_hindered = |name: &&AccountName| {
            hindrances.iter().any(|one| matches!(one, Hindrance::OfObject { name: other, .. } if other == *name))
        };
        let named = self.view.object.accounts().iter().filter(|name| is_ours(name) && !is_hindered(name));
        let mut given: Vec<AnnotatedAccount> = named
            .map(|name| AnnotatedAccount::new(name, self.view.accounts.get(name).is_some_and(|it| it.is_made)))
            .collect();
        for step in steps {
            match self.account(&step, arn).await? {
                Ok(Some(account)) => {
                    given.retain(|known| (&known.namespace, &known.name) != (&account.namespace, &account.name));
                    given.push(account);
                }
                Ok(None) => {}
                Err(hindrance) => hindrances.push(hindrance),
            }
        }
        self.given = given;
        Ok(hindrances)
    }

    /// One step; the account that has the role now.
    async fn account(
        &mut self,
        step: &AccountStep,
        arn: &str,
    ) -> Result<Result<Option<AnnotatedAccount>, Hindrance>, Stop> {
        self.check_lead()?;
        let Hands { api, annotation, .. } = self.hands;
        let object = &self.view.object.name;
        let (name, made, outcome) = match step {
            AccountStep::Make(name) => (name, true, self.make(name, arn).await?),
            AccountStep::Annotate { name, uid, is_ours, is_made } => {
                let body = annotated(name, Some(uid), object, annotation, arn, *is_made);
                (name, *is_made, api.apply_account(name, &body, *is_ours).await)
            }
            AccountStep::Release { name, uid, is_made, deletes } => {
                return Ok(self.release(name, uid, *is_made, *deletes).await?.map(|()| None));
            }
        };
        match outcome {
            Err(NoAnswer::Conflict { source, .. }) => {
                self.turned.is_contested = true;
                if self.contested + 1 < MOST_CONTESTED {
                    return Err(Stop::Again);
                }
                Ok(Err(Hindrance::Contested { name: name.clone(), said: source.to_string() }))
            }
            Err(NoAnswer::NotFound { .. }) => Ok(Err(Hindrance::NoNamespace(name.clone()))),
            Err(error) if is_ending(&error) => Ok(Err(Hindrance::NoNamespace(name.clone()))),
            other => Ok(written(name, other)?.map(|()| Some(AnnotatedAccount::new(name, made)))),
        }
    }

    /// Makes an account and gives it the role. One that somebody else makes in this moment is not claimed: the next turn sees it.
    async fn make(&self, name: &AccountName, arn: &str) -> Result<Result<(), NoAnswer>, Stop> {
        let Hands { api, annotation, .. } = self.hands;
        let uid = match api.make_account(name).await {
            Ok(uid) => uid,
            Err(NoAnswer::Conflict { .. }) => return Err(Stop::Again),
            error => return Ok(error.map(drop)),
        };
        self.check_lead()?;
        let body = annotated(name, Some(&uid), &self.view.object.name, annotation, arn, true);
        Ok(api.apply_account(name, &body, false).await)
    }

    /// Writes what is new into the status, and says it once as an Event.
    async fn tell(&mut self, ready: Ready) -> Result<(), Stop> {
        let object = &self.view.object;
        let status =
            object.status.told(object.generation, self.arn.clone(), std::mem::take(&mut self.given), &ready, self.now);
        if status != object.status {
            self.check_lead()?;
            self.hands.api.tell_role_status(object, &status).await?;
            self.turned.told = Some(status.clone());
            if object.status.is_news(&status) {
                self.event(ready.is_ready(), ready.reason.as_str(), &ready.message).await;
            }
        }
        self.turned.ready = Some(ready);
        Ok(())
    }

    async fn say(&self, reason: &str, note: &str) {
        self.event(true, reason, note).await;
    }

    /// An Event that is not written is only missed by people: the status says it too.
    async fn event(&self, is_normal: bool, reason: &str, note: &str) {
        let object = &self.view.object;
        let event = RoleEvent { name: &object.name, uid: &object.uid, is_normal, reason, note };
        if let Err(error) = self.hands.api.tell_of_role(&event, &self.hands.instance, self.now).await {
            tracing::debug!(object = object.name, "an Event was not written: {}", error.reason());
        }
    }
}

/// What came of writing an account. What the server refuses is of this one alone: others may be written.
fn written(name: &AccountName, outcome: Result<(), NoAnswer>) -> Result<Result<(), Hindrance>, Stop> {
    match outcome {
        Ok(()) => Ok(Ok(())),
        // A server that starts refuses everything for a moment: that is of no account, and passes.
        Err(error) if error.is_of_access() => Err(error.into()),
        Err(NoAnswer::Forbidden { source, .. } | NoAnswer::Refused { source, .. }) => {
            Ok(Err(Hindrance::Refused { name: name.clone(), said: source.to_string() }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Fails where something stands in the way of accounts: what two want alike is said before what is only missing.
fn unhindered(hindrances: &[Hindrance]) -> Result<(), Stop> {
    let Some(first) = hindrances.first() else { return Ok(()) };
    let worst = hindrances.iter().find(|one| !one.is_missing()).unwrap_or(first);
    let more = if hindrances.len() > 1 { format!(" (and {} more)", hindrances.len() - 1) } else { String::new() };
    // The watch tells when an account is changed or made, but of namespaces it does not tell.
    let kind = if worst.is_missing() { FaultKind::Wait } else { FaultKind::Person };
    Err(Stop::Fault(Ready::new(worst.reason(), &format!("{worst}{more}")), kind))
}

#[cfg(test)]
mod tests;
