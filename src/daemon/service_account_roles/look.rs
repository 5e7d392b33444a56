//! What would be done for each object, for people who ask. Nothing is changed.

use jiff::Timestamp;

use super::{
    super::{Irsad, roles::RolesPlan},
    follow::all_accounts,
};
use crate::{
    cluster::{ApiServer, NoAnswer},
    execute::service_account_roles::{Hands, preview},
    model::service_account_role::{Known, definition_place},
};

impl Irsad {
    /// Looks at each object with its role and its service accounts. Asks IAM three times for each, and more for its policies.
    pub(in crate::daemon) async fn look_at_objects(&mut self) -> RolesPlan {
        let mut found = RolesPlan::default();
        let Some(api) = self.world.asked_api_server() else {
            found.waiting_for.push("for an API server, which has the ServiceAccountRoles".to_owned());
            return found;
        };
        match self.hands(api).await {
            Ok(hands) => look(&hands, &mut found).await,
            Err(why) => found.waiting_for.push(format!("for the account of the roles: {why}")),
        }
        found
    }
}

async fn look(hands: &Hands, found: &mut RolesPlan) {
    let known = match known(&hands.api, &hands.annotation).await {
        Ok(known) => known,
        Err(NoAnswer::NotFound { .. }) => return found.actions.push(format!("apply {}", definition_place())),
        Err(error) => return found.waiting_for.push(error.reason()),
    };
    let claims = known.claims();
    for object in known.objects() {
        let Some(view) = known.view(&object.name, &claims) else { continue };
        let preview = preview(hands, &view, Timestamp::now()).await;
        if !preview.actions.is_empty() {
            found.actions.push(format!("ServiceAccountRole {}: {}", object.name, preview.actions.join(", ")));
        }
        preview.fault.into_iter().for_each(|fault| found.add(fault));
    }
}

/// All objects and service accounts at this moment.
async fn known(api: &ApiServer, annotation: &str) -> Result<Known, NoAnswer> {
    let mut known = Known::default();
    known.replace_objects(api.list_service_account_roles().await?.0);
    known.replace_accounts(all_accounts(api, annotation).await?.0);
    Ok(known)
}
