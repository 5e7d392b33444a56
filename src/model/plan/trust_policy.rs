//! The ConfigMap with the trust policy of this cluster, for those who write roles by hand.

use crate::model::{
    cluster_object::StoredObject,
    probe::Probe,
    trust_policy::{boilerplate, boilerplate_place},
};

use super::{Action, Desired, Facts, Plan, shared::Following, webhook::remove};

/// What is known of it. Asked for by the leader alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicyFacts {
    /// ARN of the issuer's IAM OIDC provider.
    pub provider_arn: String,
    /// The ConfigMap.
    pub stored: Probe<StoredObject>,
}

/// No token hangs on it, so that it stops nothing. It is removed where roles are no longer given tokens.
pub(super) fn plan(desired: &Desired, facts: &Facts, following: Following<'_>, is_of_use: bool, plan: &mut Plan) {
    let (Some(found), Some(provider), true) = (&facts.trust_policy, &desired.provider, following.leads()) else {
        return;
    };
    if !is_of_use {
        remove(&boilerplate_place(), &found.stored, plan);
        return;
    }
    let wanted = match boilerplate(&found.provider_arn, &desired.issuer, &provider.audiences) {
        Ok(wanted) => wanted,
        Err(error) => return plan.notices.push(format!("{} is not kept: {error}", boilerplate_place())),
    };
    let replaces = match &found.stored {
        // Asked again at the next full look.
        Probe::Unknown(why) => return plan.notices.push(format!("{} could not be looked at: {why}", wanted.place())),
        Probe::Present(stored) if !stored.is_ours() => {
            return plan.notices.push(format!(
                "{} was made by somebody else (left as it is): it lacks the label app.kubernetes.io/managed-by: irsad; delete it, and irsad \
                 makes its own",
                wanted.place()
            ));
        }
        Probe::Present(stored) if stored.has(&wanted) => return,
        Probe::Present(stored) => Some(stored.uid().to_owned()),
        Probe::Absent => None,
    };
    let what = format!("write the trust policy for roles of this cluster to {}", wanted.place());
    plan.actions.push(Action::ApplyObject { object: Box::new(wanted), replaces, what });
}
