//! Undoes what an object brought about: its service accounts lose the role, then the role goes, then the object.

use std::collections::HashMap;

use super::{Stop, Turn, unhindered, written};
use crate::{
    cluster::NoAnswer,
    execute::roles,
    model::{
        probe::Probe,
        role::{FaultKind, Removed},
        service_account_role::{
            AccountName, AccountStep, DeletionPolicy, Hindrance, Ready, Reason, SeenAccount, is_nobodys, left_out,
            released,
        },
    },
};

impl Turn<'_> {
    /// Undoes what a deleted object brought about, and lets it go.
    pub(super) async fn remove(&mut self) -> Result<Option<Ready>, Stop> {
        let object = &self.view.object;
        if !object.is_held() {
            return Ok(None);
        }
        self.arn = object.status.role_arn.clone();
        self.given = object.status.service_accounts.clone();
        if let Err(why) = &object.spec {
            return Err(Stop::Fault(Ready::new(Reason::Invalid, why), FaultKind::Person));
        }
        if object.deletion_policy() != DeletionPolicy::Keep {
            self.release_all().await?;
            self.given = Vec::new();
            self.remove_role().await?;
        }
        self.check_lead()?;
        self.hands.api.hold_role(object, false).await?;
        Ok(None)
    }

    /// Takes the role from every account that has it now: once the object is gone, nobody would look for them any more.
    pub(super) async fn release_all(&self) -> Result<(), Stop> {
        let object = &self.view.object;
        let names = object.may_have_given(&self.view.marked);
        let mut live = HashMap::new();
        for name in &names {
            match self.hands.api.whole_account(name).await {
                Probe::Present(account) => {
                    live.insert(name.clone(), SeenAccount::of(&account, &self.hands.annotation));
                }
                Probe::Absent => {}
                Probe::Unknown(why) => return Err(not_reachable(&why)),
            }
        }
        let mut hindrances = Vec::new();
        for step in left_out(object, &names, |name| live.get(name).cloned()) {
            if let AccountStep::Release { name, uid, is_made, deletes } = &step {
                self.check_lead()?;
                hindrances.extend(self.release(name, uid, *is_made, *deletes).await?.err());
            }
        }
        unhindered(&hindrances)
    }

    /// Takes the role from an account, and deletes it where it `deletes` and nothing needs it. One that was made (`is_made`) and stays is
    /// nobody's from then on.
    pub(super) async fn release(
        &self,
        name: &AccountName,
        uid: &str,
        is_made: bool,
        deletes: bool,
    ) -> Result<Result<(), Hindrance>, Stop> {
        let api = &self.hands.api;
        if deletes && !api.is_account_used(name).await? {
            match api.whole_account(name).await {
                Probe::Absent => return Ok(Ok(())),
                Probe::Unknown(why) => return Err(not_reachable(&why)),
                Probe::Present(account) if is_nobodys(&account) => {
                    let version = account["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                    return written(name, api.delete_account(name, uid, version).await);
                }
                Probe::Present(_) => {}
            }
        }
        // First, because without the mark nobody would look for the account any more.
        let disowned = if is_made { api.disown_account(name, uid).await } else { Ok(()) };
        let outcome = match disowned {
            Ok(()) => api.apply_account(name, &released(name, Some(uid)), false).await,
            error => error,
        };
        match outcome {
            // It is gone, or another one of that name is there.
            Err(NoAnswer::NotFound { .. } | NoAnswer::Conflict { .. }) => Ok(Ok(())),
            other => written(name, other),
        }
    }

    async fn remove_role(&mut self) -> Result<(), Stop> {
        let spec = self.view.object.spec.as_ref().ok();
        let Some(name) = spec.and_then(|spec| spec.role_name.parse().ok()) else { return Ok(()) };
        self.check_lead()?;
        let removed = roles::remove(&self.hands.iam, &name, &self.owner(), self.may_act).await?;
        if removed == Removed::Now {
            self.turned.done = vec![format!("removed role {name}")];
            self.say("RoleRemoved", &format!("removed role {name}")).await;
        }
        Ok(())
    }
}

fn not_reachable(why: &str) -> Stop {
    Stop::Fault(Ready::new(Reason::NotReachable, why), FaultKind::Wait)
}
