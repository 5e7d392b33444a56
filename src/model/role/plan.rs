//! What brings a role from how it was found to how it should be.
//!
//! Order of the actions: stopping after any of them leaves a role that permits nobody what they had not before and are not to have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    FoundRole, INLINE_POLICY_NAME, InlinePolicy, MOST_MANAGED_POLICIES, MaxSession, OWNER_TAG, Owner, PolicyArn,
    Refusal, WantedRole, path, says_the_same,
};

/// What was seen of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The role; `None` where there is none of that name in the account.
    pub role: Option<FoundRole>,
    /// Policies that are wanted, not attached yet, and do not exist.
    pub missing_policies: BTreeSet<PolicyArn>,
}

/// A role that is made, with all that makes it ours in the same call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRole {
    /// Its path.
    pub path: String,
    /// Who may take it, as JSON.
    pub trust_policy: String,
    /// Its permissions boundary.
    pub boundary: Option<PolicyArn>,
    /// Longest session.
    pub max_session: MaxSession,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// One call to IAM about one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleAction {
    /// Make it, without permissions yet.
    Create(Box<NewRole>),
    /// Set its permissions boundary.
    SetBoundary(PolicyArn),
    /// Set who may take it.
    SetTrustPolicy(String),
    /// Set its longest session.
    SetMaxSession(MaxSession),
    /// Put tags on it; others stay.
    Tag(BTreeMap<String, String>),
    /// Take a managed policy from it, by its ARN.
    Detach(String),
    /// Delete an inline policy, by its name.
    DeleteInline(String),
    /// Write its inline policy.
    PutInline(InlinePolicy),
    /// Give it a managed policy.
    Attach(PolicyArn),
    /// Give back a managed policy that was taken from it, by its ARN.
    PutBackManaged(String),
    /// Write an inline policy as it was.
    PutBackInline {
        /// Its name.
        name: String,
        /// As JSON.
        policy: String,
    },
    /// Delete it; it has no policies any more.
    Delete,
}

/// What brings `wanted` about. Empty where nothing is left to do.
///
/// # Errors
/// The role is not ours, or a policy does not exist: nothing may be changed then.
pub fn plan(wanted: &WantedRole, seen: &Seen) -> Result<Vec<RoleAction>, Refusal> {
    if let Some(found) = &seen.role {
        check_owner(found, &wanted.owner)?;
    }
    if !seen.missing_policies.is_empty() {
        let arns = seen.missing_policies.iter().cloned().collect();
        return Err(Refusal::NoSuchPolicy { name: wanted.name.clone(), arns });
    }
    Ok(match &seen.role {
        None => creation(wanted),
        Some(found) => changes(wanted, found),
    })
}

/// What removes a role of `owner`: its policies first, so that it permits nothing while it still stands.
///
/// # Errors
/// The role is not this owner's: nothing may be changed then.
pub fn removal(found: &FoundRole, owner: &Owner) -> Result<Vec<RoleAction>, Refusal> {
    check_owner(found, owner)?;
    let detach = found.managed.iter().cloned().map(RoleAction::Detach);
    let delete = found.inline.keys().cloned().map(RoleAction::DeleteInline);
    Ok(detach.chain(delete).chain([RoleAction::Delete]).collect())
}

/// Whether `listed`, which a list of roles shows (no tags, policies and boundary), already tells that the role is not as `wanted`.
pub fn is_drifted(wanted: &WantedRole, listed: &FoundRole) -> bool {
    listed.path != wanted.path
        || !says_the_same(&listed.trust_policy, &wanted.trust_policy)
        || listed.max_session_seconds != u64::from(wanted.max_session.seconds())
}

fn check_owner(found: &FoundRole, owner: &Owner) -> Result<(), Refusal> {
    let (name, ours) = (found.name.clone(), path(owner.cluster()));
    if found.path != ours {
        return Err(Refusal::OtherPath { name, found: found.path.clone(), ours });
    }
    if !found.is_of_cluster(owner.cluster()) {
        return Err(Refusal::NotTagged { name, wanted: owner.clone() });
    }
    match found.tags.get(OWNER_TAG) {
        Some(keeper) if keeper == owner.keeper() => Ok(()),
        Some(keeper) => Err(Refusal::OtherOwner { name, found: keeper.clone(), wanted: owner.clone() }),
        None => Err(Refusal::NotTagged { name, wanted: owner.clone() }),
    }
}

fn creation(wanted: &WantedRole) -> Vec<RoleAction> {
    let create = RoleAction::Create(Box::new(NewRole {
        path: wanted.path.clone(),
        trust_policy: wanted.trust_policy.clone(),
        boundary: wanted.boundary.clone(),
        max_session: wanted.max_session,
        tags: wanted.tags.clone(),
    }));
    let inline = wanted.inline.clone().map(RoleAction::PutInline);
    let attach = wanted.managed.iter().cloned().map(RoleAction::Attach);
    std::iter::once(create).chain(inline).chain(attach).collect()
}

/// What restricts goes before what permits. Only where the same service accounts keep the role, a policy that replaces another is
/// attached before the other goes: their pods need one of them at any time. What permits nothing comes before anything is taken: IAM may
/// refuse it, and what was taken before another trust policy is not given back after it.
fn changes(wanted: &WantedRole, found: &FoundRole) -> Vec<RoleAction> {
    let mut actions = Vec::new();
    if let Some(boundary) = wanted.boundary.as_ref().filter(|arn| found.boundary.as_deref() != Some(arn.as_str())) {
        actions.push(RoleAction::SetBoundary(boundary.clone()));
    }
    if found.max_session_seconds != u64::from(wanted.max_session.seconds()) {
        actions.push(RoleAction::SetMaxSession(wanted.max_session));
    }
    let tags: BTreeMap<_, _> =
        wanted.tags.clone().into_iter().filter(|(key, value)| found.tags.get(key) != Some(value)).collect();
    if !tags.is_empty() {
        actions.push(RoleAction::Tag(tags));
    }
    let is_trusted_alike = says_the_same(&found.trust_policy, &wanted.trust_policy);
    let (mut take, give) = permissions(wanted, found);
    // What is replaced permits nothing to those who are trusted from now on.
    if !is_trusted_alike && give.iter().any(|action| matches!(action, RoleAction::PutInline(_))) {
        take.extend(
            found.inline.keys().filter(|name| *name == INLINE_POLICY_NAME).cloned().map(RoleAction::DeleteInline),
        );
    }
    let too_many = found.managed.union(&wanted.managed.iter().map(ToString::to_string).collect()).count();
    let gives_first = is_trusted_alike && too_many <= MOST_MANAGED_POLICIES;
    let (take_first, take_last) = if gives_first { (Vec::new(), take) } else { (take, Vec::new()) };
    actions.extend(take_first);
    if !is_trusted_alike {
        actions.push(RoleAction::SetTrustPolicy(wanted.trust_policy.clone()));
    }
    actions.extend(give);
    actions.extend(take_last);
    actions
}

/// What takes permissions, and what gives them.
fn permissions(wanted: &WantedRole, found: &FoundRole) -> (Vec<RoleAction>, Vec<RoleAction>) {
    let is_wanted = |arn: &&String| wanted.managed.iter().any(|wanted| wanted.as_str() == arn.as_str());
    let detach = found.managed.iter().filter(|arn| !is_wanted(arn)).cloned().map(RoleAction::Detach);
    let stays = |name: &&String| name.as_str() == INLINE_POLICY_NAME && wanted.inline.is_some();
    let delete = found.inline.keys().filter(|name| !stays(name)).cloned().map(RoleAction::DeleteInline);

    let has = |inline: &&InlinePolicy| {
        found.inline.get(INLINE_POLICY_NAME).is_some_and(|text| says_the_same(text, &inline.to_json()))
    };
    let put = wanted.inline.as_ref().filter(|inline| !has(inline)).cloned().map(RoleAction::PutInline);
    let attach = wanted.managed.iter().filter(|arn| !found.managed.contains(arn.as_str()));
    (detach.chain(delete).collect(), put.into_iter().chain(attach.cloned().map(RoleAction::Attach)).collect())
}

/// As a part of a sentence about one role: `could not …`.
impl fmt::Display for RoleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(_) => f.write_str("create it"),
            Self::SetBoundary(arn) => write!(f, "set its permissions boundary to {arn}"),
            Self::SetTrustPolicy(_) => f.write_str("set its trust policy"),
            Self::SetMaxSession(session) => write!(f, "set its longest session to {} s", session.seconds()),
            Self::Tag(tags) => write!(f, "put tags on it: {}", tags.keys().cloned().collect::<Vec<_>>().join(", ")),
            Self::Detach(arn) => write!(f, "detach {arn}"),
            Self::DeleteInline(name) => write!(f, "delete its inline policy {name}"),
            Self::PutInline(_) => write!(f, "write its inline policy {INLINE_POLICY_NAME}"),
            Self::Attach(arn) => write!(f, "attach {arn}"),
            Self::PutBackManaged(arn) => write!(f, "give back {arn}"),
            Self::PutBackInline { name, .. } => write!(f, "give back its inline policy {name}"),
            Self::Delete => f.write_str("delete it"),
        }
    }
}
