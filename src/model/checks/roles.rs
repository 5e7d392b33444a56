//! Whether IAM has the roles of the list, and whom they trust; and whether those of objects are ready.

use std::collections::BTreeMap;

use super::{Check, Outcome};
use crate::model::{
    role::{FoundRole, WantedRole, is_drifted},
    service_account_role::ServiceAccountRole,
};

/// The check of all roles of the list by one listing of them; `found` is why there is none where it could not be had.
pub fn roles(wanted: &[WantedRole], found: Result<Vec<FoundRole>, String>) -> Check {
    let statement = "IAM has the roles of the list, with this issuer in their trust policies".to_owned();
    let outcome = match found {
        Err(why) => Outcome::Unknown(why),
        Ok(found) => compare(wanted, &found),
    };
    Check { statement, outcome }
}

/// The check of all objects by their conditions; `found` is why there are none where they could not be had.
pub fn service_account_roles(found: Result<Vec<ServiceAccountRole>, String>) -> Check {
    let statement = match &found {
        Ok(found) if found.len() == 1 => "the one ServiceAccountRole is ready".to_owned(),
        Ok(found) => format!("all {} ServiceAccountRoles are ready", found.len()),
        Err(_) => "all ServiceAccountRoles are ready".to_owned(),
    };
    let outcome = match found {
        Err(why) => Outcome::Unknown(why),
        Ok(found) => conditions(&found),
    };
    Check { statement, outcome }
}

fn conditions(objects: &[ServiceAccountRole]) -> Outcome {
    let wrong: Vec<String> = objects.iter().filter_map(in_the_way).collect();
    match wrong.as_slice() {
        [] => Outcome::Holds,
        [first, rest @ ..] => {
            let more = match rest.len() {
                0 => String::new(),
                more => format!(" (and {more} more, kubectl get serviceaccountroles -o wide names them)"),
            };
            Outcome::Fails(format!("{first}{more}"))
        }
    }
}

fn in_the_way(object: &ServiceAccountRole) -> Option<String> {
    let name = &object.name;
    match object.status.ready() {
        Some(ready) if ready.observed_generation != Some(object.generation) => {
            Some(format!("{name} was not looked at since it was changed; irsad status on the leader says why"))
        }
        Some(ready) if ready.is_true() && !object.is_deleted => None,
        Some(ready) => Some(format!("{name}: {}: {}", ready.reason, ready.message)),
        None => Some(format!("{name} was not looked at yet; irsad status on the leader says why")),
    }
}

fn compare(wanted: &[WantedRole], found: &[FoundRole]) -> Outcome {
    let found: BTreeMap<_, _> = found.iter().map(|role| (&role.name, role)).collect();
    let wrong = |role: &WantedRole| match found.get(&role.name) {
        None => Some(format!("role {} is not there", role.name)),
        Some(found) if is_drifted(role, found) => {
            Some(format!("role {} has another trust policy or session", role.name))
        }
        Some(_) => None,
    };
    let wrong: Vec<String> = wanted.iter().filter_map(wrong).collect();
    match wrong.as_slice() {
        [] => Outcome::Holds,
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            Outcome::Fails(format!(
                "{first}{more}; irsad plan says what is to be done, irsad status on the leader why it is not"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, status: &str, observed: i64) -> serde_json::Result<ServiceAccountRole> {
        let condition = json!({
            "type": "Ready", "status": status, "reason": "RoleNotOurs", "message": "role r is someone else's",
            "observedGeneration": observed, "lastTransitionTime": "2026-11-21T12:00:00Z",
        });
        serde_json::from_value(json!({
            "metadata": { "name": name, "generation": 2, "creationTimestamp": "2026-11-21T12:00:00Z" },
            "spec": { "roleName": name, "serviceAccounts": [] },
            "status": { "conditions": [condition] },
        }))
    }

    #[test]
    fn objects_are_ready_only_by_a_condition_that_is_about_what_they_say_now() -> Result<(), Box<dyn std::error::Error>>
    {
        let fails = |text: &str| Outcome::Fails(text.to_owned());
        for (found, statement, outcome) in [
            (
                Err("no answer".to_owned()),
                "all ServiceAccountRoles are ready",
                Outcome::Unknown("no answer".to_owned()),
            ),
            (Ok(vec![object("a", "True", 2)?]), "the one ServiceAccountRole is ready", Outcome::Holds),
            (
                Ok(vec![object("a", "True", 1)?, object("b", "True", 2)?]),
                "all 2 ServiceAccountRoles are ready",
                fails("a was not looked at since it was changed; irsad status on the leader says why"),
            ),
            (
                Ok(vec![object("a", "False", 2)?, object("b", "False", 2)?]),
                "all 2 ServiceAccountRoles are ready",
                fails(
                    "a: RoleNotOurs: role r is someone else's (and 1 more, kubectl get serviceaccountroles -o wide names them)",
                ),
            ),
        ] {
            assert_eq!(service_account_roles(found), Check { statement: statement.to_owned(), outcome });
        }
        Ok(())
    }
}
