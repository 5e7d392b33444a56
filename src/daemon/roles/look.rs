//! The roles of the list for people who ask: what would be done, and whether all is well. Nothing is changed.

use crate::{
    config::RolesMode,
    execute::roles::{list, look},
    model::{
        checks::{Check, roles as check, service_account_roles as check_objects},
        role::{FaultKind, RoleFault, RoleTerms, path, plan},
    },
};

use super::{super::Irsad, of_list};

/// What the next looks at the roles would do.
#[derive(Debug, Default)]
pub struct RolesPlan {
    /// One sentence for each role that is not as it should be.
    pub actions: Vec<String>,
    /// What a person has to do.
    pub needs_a_person: Vec<String>,
    /// What stands in the way and may pass by itself.
    pub waiting_for: Vec<String>,
}

impl RolesPlan {
    /// Says what is in the way.
    pub(in crate::daemon) fn add(&mut self, fault: RoleFault) {
        match fault.kind {
            FaultKind::Person => self.needs_a_person.push(fault.sentence),
            FaultKind::Wait | FaultKind::Throttled => self.waiting_for.push(fault.sentence),
        }
    }
}

impl Irsad {
    /// Looks at each role of the list, or of an object. Asks IAM three times for each, and more for its policies. Nothing is to be done
    /// in a cluster that the last look has found torn down, or on its way.
    pub async fn look_at_roles(&mut self) -> RolesPlan {
        if !self.is_in_use {
            return RolesPlan::default();
        }
        if self.world.settings.roles.mode == RolesMode::Crd {
            return self.look_at_objects().await;
        }
        let mut found = RolesPlan::default();
        let (iam, terms) = match self.terms().await {
            None => return found,
            Some(Ok(known)) => known,
            Some(Err(why)) => {
                found.waiting_for.push(why);
                return found;
            }
        };
        for wanted in of_list(&self.world.settings.roles, &terms) {
            let wanted = match wanted {
                Ok(wanted) => wanted,
                Err((_, fault)) => {
                    found.add(fault);
                    continue;
                }
            };
            let seen = look(&iam, &wanted).await;
            match seen.and_then(|seen| plan(&wanted, &seen).map_err(RoleFault::from)) {
                Err(fault) => found.add(fault),
                Ok(actions) if actions.is_empty() => {}
                Ok(actions) => {
                    let actions: Vec<String> = actions.iter().map(ToString::to_string).collect();
                    found.actions.push(format!("role {}: {}", wanted.name, actions.join(", ")));
                }
            }
        }
        found
    }

    /// Whether IAM has the roles of the list with the trust that they should have, or whether every `ServiceAccountRole` is ready; `None`
    /// where no roles are made.
    pub async fn check_roles(&mut self) -> Option<Check> {
        if self.world.settings.roles.mode == RolesMode::Crd {
            return Some(check_objects(self.list_objects().await));
        }
        let (iam, terms) = match self.terms().await? {
            Ok(known) => known,
            Err(why) => return Some(check(&[], Err(why))),
        };
        let wanted: Vec<_> = of_list(&self.world.settings.roles, &terms).into_iter().filter_map(Result::ok).collect();
        let found = list(&iam, &path(&terms.cluster)).await;
        Some(check(&wanted, found.map_err(|fault| fault.sentence)))
    }

    /// `None` where there is no list.
    async fn terms(&mut self) -> Option<Result<(crate::aws::iam::Iam, RoleTerms), String>> {
        if self.world.settings.roles.mode != RolesMode::List {
            return None;
        }
        let clients = self.world.aws().await;
        Some(clients.map(|clients| {
            let terms = self.world.settings.role_terms(clients.partition, &clients.account);
            (clients.iam, terms)
        }))
    }
}
