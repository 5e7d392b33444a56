//! IAM roles of service accounts, and the objects that asked for them.

use super::{Removal, RolesLeft, TeardownFacts};
use crate::model::{
    plan::{Action, Plan, WAITING_INTERVAL},
    probe::Probe,
    role::{CLUSTER_TAG, Owner, RoleName, path},
};

impl Removal<'_> {
    /// Whether no role is left that irsad removes.
    pub(super) fn roles(&self, found: &TeardownFacts, remains: &mut Vec<String>, plan: &mut Plan) -> bool {
        let Some(roles) = &found.roles else { return true };
        if !found.removes_roles {
            remains.extend(remaining(roles, &self.followed.shared.cluster));
            return true;
        }
        match roles {
            Probe::Absent => true,
            Probe::Unknown(why) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                false
            }
            Probe::Present(left) => remove(left, remains, plan),
        }
    }
}

fn remove(left: &RolesLeft, remains: &mut Vec<String>, plan: &mut Plan) -> bool {
    let remove = |(name, owner): &(RoleName, Owner)| Action::RemoveRole { name: name.clone(), owner: owner.clone() };
    plan.actions.extend(left.ours.iter().map(remove));
    remains.extend(left.others.iter().map(|name| format!("role {name} stays: it lacks irsad's tags")));
    left.ours.is_empty()
}

/// Whether no object waits any more for irsad to let go of it: once irsad is off the nodes, `kubectl delete crd` would wait for ever.
pub(super) fn let_go(found: &TeardownFacts, plan: &mut Plan) -> bool {
    match &found.held {
        Probe::Absent => true,
        Probe::Unknown(why) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            false
        }
        Probe::Present(held) => {
            plan.actions.extend(held.iter().cloned().map(Action::LetGoOfRoleObject));
            held.is_empty()
        }
    }
}

/// What to say, before a teardown, of the roles of a cluster whose `roles.mode` is `none`: irsad may not remove them then.
pub fn left_alone(roles: &Probe<RolesLeft>, cluster: &str) -> Option<String> {
    let cure = "to have irsad remove those that it made, set roles.mode to list, without roles, and ask again; or aws iam delete-role each";
    not_removed(roles, cluster, cure)
}

/// The same after it: nobody asks for a second one.
fn remaining(roles: &Probe<RolesLeft>, cluster: &str) -> Option<String> {
    let cure = format!(
        "those with tag {CLUSTER_TAG}={cluster} (aws iam list-role-tags) may be deleted by hand: detach and delete their policies, then aws iam \
         delete-role"
    );
    not_removed(roles, cluster, &cure)
}

fn not_removed(roles: &Probe<RolesLeft>, cluster: &str, cure: &str) -> Option<String> {
    let path = path(cluster);
    match roles {
        Probe::Absent => None,
        Probe::Present(left) if left.others.is_empty() => None,
        Probe::Present(left) => {
            Some(format!("IAM roles below {path} stay, because roles.mode is none: {}; {cure}", left.others.join(", ")))
        }
        Probe::Unknown(why) => Some(format!(
            "IAM roles below {path} may be left (roles.mode is none, and they could not be listed: {why}); aws iam list-roles --path-prefix \
             {path} names them; {cure}"
        )),
    }
}
