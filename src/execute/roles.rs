//! Brings IAM roles to what they should be, and removes those of an owner: each call looks, plans and acts on one role.

use std::task::{Context, Poll};

use crate::{
    aws::{AwsError, Reason, iam::Iam},
    model::{
        probe::sentence,
        role::{
            self, Brought, FaultKind, FoundRole, Owner, Removed, RoleAction, RoleFault, RoleName, Seen, WantedRole,
        },
    },
};

/// A role that appears between look and creation is looked at once more.
const LOOKS: usize = 2;
/// Reason of a fault where another node acts from now on.
pub const NOT_LEADER: &str = "NotLeader";

/// Whether this node still leads: asked before every call that changes something, because it may have stood still for long.
pub type MayAct<'a> = &'a (dyn Fn() -> bool + Sync);

/// Looks at the role and makes it what it should be.
///
/// # Errors
/// Who can cure what stands in the way. What was done before it stays, but policies that were taken are given back where IAM refuses a
/// change before others are trusted: the role permits those of before what it permitted them then. Once others are trusted, it permits
/// them nothing that is not wanted, and may lack what is.
pub async fn bring(iam: &Iam, wanted: &WantedRole, may_act: MayAct<'_>) -> Result<Brought, RoleFault> {
    let mut last = None;
    for _ in 0..LOOKS {
        let seen = look(iam, wanted).await?;
        let actions = role::plan(wanted, &seen)?;
        match carry_out(iam, &wanted.name, &actions, may_act).await {
            Ok(()) => return Ok(brought(wanted, &seen, &actions)),
            Err((_, None)) => return Err(not_leader(&wanted.name)),
            Err((failed, Some(error))) => {
                let appeared = *error.reason() == Reason::Exists;
                let mut fault = fault(&wanted.name, &format!("could not {}", actions[failed]), &error);
                if let Some(found) = seen.role.as_ref().filter(|_| is_refused(&fault, &error)) {
                    fault.sentence += &give_back(iam, found, &role::put_back(&actions, failed, found), may_act).await;
                }
                last = Some(fault);
                if !appeared {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| nothing_done(&wanted.name)))
}

/// Looks at the role, its policies where it is this owner's, and at those that it is to have and does not have yet.
///
/// # Errors
/// Who can cure what stands in the way; nothing was changed.
pub async fn look(iam: &Iam, wanted: &WantedRole) -> Result<Seen, RoleFault> {
    let could_not = |error: AwsError| fault(&wanted.name, "could not look at it", &error);
    let mut found = iam.role(&wanted.name).await.map_err(could_not)?;
    if let Some(found) = &mut found {
        if !found.is_of(&wanted.owner) {
            return Ok(Seen { role: Some(found.clone()), ..Seen::default() });
        }
        iam.add_policies(found).await.map_err(could_not)?;
    }
    let has = |arn: &str| found.as_ref().is_some_and(|found| found.managed.contains(arn));
    let has_boundary = |arn: &str| found.as_ref().is_some_and(|found| found.boundary.as_deref() == Some(arn));
    let policies = wanted.managed.iter().filter(|arn| !has(arn.as_str()));
    let boundary = wanted.boundary.iter().filter(|arn| !has_boundary(arn.as_str()));
    let missing_policies = iam.missing_policies(policies.chain(boundary)).await.map_err(could_not)?;
    Ok(Seen { role: found, missing_policies })
}

/// The roles below `path`, as a list of IAM has them: without tags, boundaries and policies.
///
/// # Errors
/// Who can cure what stands in the way; nothing was changed.
pub async fn list(iam: &Iam, path: &str) -> Result<Vec<FoundRole>, RoleFault> {
    iam.roles_below(path).await.map_err(|error| {
        let (kind, reason) = kind_of(error.reason());
        RoleFault { kind, reason, sentence: format!("could not list the roles below {path}: {}", sentence(&error)) }
    })
}

/// Removes the role `name` where it is one of `owner`, its policies first.
///
/// # Errors
/// Who can cure what stands in the way; a role that still stands may have lost policies.
pub async fn remove(iam: &Iam, name: &RoleName, owner: &Owner, may_act: MayAct<'_>) -> Result<Removed, RoleFault> {
    let could_not = |error: AwsError| fault(name, "could not look at it", &error);
    let Some(mut found) = iam.role(name).await.map_err(could_not)? else { return Ok(Removed::WasGone) };
    if !found.is_of(owner) {
        return Ok(Removed::NotOurs(Owner::of_tags(&found.tags)));
    }
    match iam.add_policies(&mut found).await {
        Ok(()) => {}
        Err(error) if *error.reason() == Reason::Missing => return Ok(Removed::WasGone),
        Err(error) => return Err(could_not(error)),
    }
    let actions = role::removal(&found, owner)?;
    carry_out(iam, name, &actions, may_act).await.map_err(|(failed, error)| match error {
        Some(error) => fault(name, &format!("could not {}", actions[failed]), &error),
        None => not_leader(name),
    })?;
    Ok(Removed::Now)
}

/// # Errors
/// The place of the action that failed, or was not begun because another node leads; those before it were carried out.
async fn carry_out(
    iam: &Iam,
    name: &RoleName,
    actions: &[RoleAction],
    may_act: MayAct<'_>,
) -> Result<(), (usize, Option<AwsError>)> {
    for (place, action) in actions.iter().enumerate() {
        let done = while_leading(may_act, iam.change_role(name, action)).await.ok_or((place, None))?;
        done.map_err(|error| (place, Some(error)))?;
    }
    Ok(())
}

/// Carries a call on only as long as this node leads; `None` where it does not. The SDK tries again by itself within its own limit of time:
/// that could undo what the next leader has done meanwhile. What comes of a call that is dropped, nobody knows, as after a lost answer.
async fn while_leading<F: Future>(may_act: MayAct<'_>, call: F) -> Option<F::Output> {
    let mut call = std::pin::pin!(call);
    let step = |context: &mut Context<'_>| match may_act() {
        true => call.as_mut().poll(context).map(Some),
        false => Poll::Ready(None),
    };
    std::future::poll_fn(step).await
}

/// Whether IAM has certainly not done it and will not do it soon. After a lost answer, what was taken may be for others already.
fn is_refused(fault: &RoleFault, error: &AwsError) -> bool {
    fault.kind == FaultKind::Person || *error.reason() == Reason::Missing
}

/// Carries out as many of `actions` as can be; what came of it ends the sentence of the fault.
async fn give_back(iam: &Iam, found: &FoundRole, actions: &[RoleAction], may_act: MayAct<'_>) -> String {
    let mut lost = Vec::new();
    for action in actions {
        match while_leading(may_act, iam.change_role(&found.name, action)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => lost.push(format!("could not {action}: {}", sentence(&error))),
            None => lost.push(format!("could not {action}: another node leads")),
        }
    }
    match (actions, lost.as_slice()) {
        ([], _) => String::new(),
        (_, []) => "; the policies that were taken from it for this are back".to_owned(),
        (_, lost) => {
            format!("; of the policies that were taken from it for this not all are back: {}", lost.join("; "))
        }
    }
}

fn brought(wanted: &WantedRole, seen: &Seen, actions: &[RoleAction]) -> Brought {
    Brought {
        arn: wanted.arn.clone(),
        is_new: seen.role.is_none(),
        done: actions.iter().map(ToString::to_string).collect(),
    }
}

fn not_leader(name: &RoleName) -> RoleFault {
    let sentence = format!("role {name}: another node leads by now and goes on with it");
    RoleFault { kind: FaultKind::Wait, reason: NOT_LEADER, sentence }
}

fn nothing_done(name: &RoleName) -> RoleFault {
    let sentence = format!("role {name}: others change it at the same time; it is looked at again");
    RoleFault { kind: FaultKind::Wait, reason: "RoleChanges", sentence }
}

fn fault(name: &RoleName, what: &str, error: &AwsError) -> RoleFault {
    let (kind, reason) = kind_of(error.reason());
    RoleFault { kind, reason, sentence: format!("role {name}: {what}: {}", sentence(error)) }
}

/// Who can cure it, and its name among the reasons of a condition.
fn kind_of(reason: &Reason) -> (FaultKind, &'static str) {
    match reason {
        Reason::Denied | Reason::DeniedOrForeign(_) | Reason::PublicPolicyBlocked => {
            (FaultKind::Person, "AccessDenied")
        }
        Reason::Quota(_) => (FaultKind::Person, "LimitExceeded"),
        Reason::MalformedPolicy => (FaultKind::Person, "PolicyRefused"),
        Reason::NotChangeable => (FaultKind::Person, "PolicyNotAttachable"),
        Reason::InUse => (FaultKind::Person, "RoleInUse"),
        Reason::Missing => (FaultKind::Wait, "NotFound"),
        Reason::Exists => (FaultKind::Wait, "RoleChanges"),
        Reason::Busy => (FaultKind::Throttled, "Throttled"),
        Reason::Credentials | Reason::NoCredentials | Reason::Clock => (FaultKind::Wait, "NoCredentials"),
        Reason::Unreachable | Reason::TimedOut | Reason::NotAws | Reason::Redirected => {
            (FaultKind::Wait, "AWSNotReached")
        }
        Reason::WrongRegion(_)
        | Reason::BucketTaken(_)
        | Reason::BucketMissing
        | Reason::TooLarge
        | Reason::BrokenBody
        | Reason::Other(_) => (FaultKind::Wait, "AWSRefused"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn call_is_not_carried_on_once_another_node_leads() {
        let (leads, steps) = (AtomicBool::new(true), AtomicUsize::new(0));
        let call = std::future::poll_fn(|context| {
            steps.fetch_add(1, Relaxed);
            leads.store(false, Relaxed);
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(while_leading(&|| leads.load(Relaxed), call).await, None);
        assert_eq!(steps.load(Relaxed), 1);
        assert_eq!(while_leading(&|| true, async { 7 }).await, Some(7));
        assert_eq!(while_leading(&|| false, async { 7 }).await, None);
    }
}
