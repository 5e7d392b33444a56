//! IAM roles of service accounts: what each should be, how it was found, and what brings it there.
//!
//! Every role of a cluster stands under [`path`] and carries the tags of its [`Owner`]; any other role is someone else's. Nothing here
//! asks AWS.

#[cfg(test)]
pub(crate) mod fixtures;
mod list;
mod name;
mod orphans;
mod outcome;
mod owner;
mod pace;
mod plan;
mod policy;
mod put_back;
mod refusal;
mod schedule;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use thiserror::Error;

pub use list::{LOOK_PERIOD, RoleList, SURVEY_INTERVAL, Task};
pub use name::{RoleName, RoleNameError};
pub use orphans::Orphans;
pub use outcome::{Brought, FaultKind, Removed, RoleFault};
pub use owner::{CLUSTER_TAG, OWNER_TAG, Owner, path};
pub use pace::Pace;
pub use plan::{NewRole, RoleAction, Seen, is_drifted, plan, removal};
pub use policy::{InlinePolicy, InlinePolicyError, ManagedPolicy, ManagedPolicyError, PolicyArn, PolicyArnError};
pub use put_back::put_back;
pub use refusal::Refusal;
pub use schedule::{Schedule, place_in_period};

use super::{
    issuer::{Audience, IssuerUrl},
    region::{AccountId, Partition},
    trust_policy::{Subject, role_trust_policy},
};

/// Name of the one inline policy that irsad writes into a role.
pub const INLINE_POLICY_NAME: &str = "irsad";
/// Most managed policies of a role: the quota of every account. One that was raised, to 25 at most, is not made use of (IAM and AWS STS
/// quotas): another account would refuse half of the same configuration.
pub const MOST_MANAGED_POLICIES: usize = 10;
/// Most tags of a role (IAM and AWS STS quotas).
pub const MOST_TAGS: usize = 50;

/// What holds for every role of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleTerms {
    /// Partition of the account.
    pub partition: Partition,
    /// Account of roles and provider.
    pub account: AccountId,
    /// Name of the cluster.
    pub cluster: String,
    /// Issuers whose tokens are trusted: the one that signs, then those that a migration still accepts. Never empty.
    pub issuers: Vec<IssuerUrl>,
    /// Audiences that a token must have one of.
    pub audiences: Vec<Audience>,
    /// Permissions boundary of every role. `None` leaves boundaries alone: taking one away would give permissions.
    pub boundary: Option<PolicyArn>,
    /// Tags of every role, beside those of its owner.
    pub tags: BTreeMap<String, String>,
}

/// One role as someone asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRequest {
    /// Its name.
    pub name: RoleName,
    /// Who asks.
    pub owner: Owner,
    /// Service accounts that may take it; never empty.
    pub subjects: Vec<Subject>,
    /// Managed policies.
    pub managed: Vec<ManagedPolicy>,
    /// Permissions of its own.
    pub inline: Option<InlinePolicy>,
    /// Longest session.
    pub max_session: MaxSession,
}

/// One role as it should be, complete and within IAM's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRole {
    /// Its name.
    pub name: RoleName,
    /// Its ARN, which follows from account, path and name.
    pub arn: String,
    /// `/irsad/<cluster>/`, see [`path`].
    pub path: String,
    /// Who may take it, as JSON.
    pub trust_policy: String,
    /// Managed policies attached to it.
    pub managed: BTreeSet<PolicyArn>,
    /// Its inline policy [`INLINE_POLICY_NAME`].
    pub inline: Option<InlinePolicy>,
    /// Its permissions boundary; `None` leaves the one it has.
    pub boundary: Option<PolicyArn>,
    /// Longest session.
    pub max_session: MaxSession,
    /// Who keeps it.
    pub owner: Owner,
    /// All its tags, its owner's included.
    pub tags: BTreeMap<String, String>,
}

/// One role as IAM shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRole {
    /// Its name.
    pub name: RoleName,
    /// Its path.
    pub path: String,
    /// Its ARN.
    pub arn: String,
    /// Who may take it, as JSON.
    pub trust_policy: String,
    /// Longest session, in seconds.
    pub max_session_seconds: u64,
    /// ARN of its permissions boundary.
    pub boundary: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// ARNs of its managed policies. Empty where the role is not ours: it is not asked for them.
    pub managed: BTreeSet<String>,
    /// Its inline policies, as JSON, by their names. Empty where the role is not ours.
    pub inline: BTreeMap<String, String>,
}

/// Longest session of a role: 1 to 12 hours, whole seconds (IAM API reference, `MaxSessionDuration`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxSession(u32);

/// Why a duration is not one.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0} seconds are no session of a role; IAM takes 1h to 12h")]
pub struct MaxSessionError(u64);

impl RoleTerms {
    /// The role that `request` asks for.
    ///
    /// # Errors
    /// What IAM would refuse, or refuse only after half of it was made.
    pub fn role(&self, request: &RoleRequest) -> Result<WantedRole, Refusal> {
        let trust_policy =
            role_trust_policy(self.partition, &self.account, &self.issuers, &request.subjects, &self.audiences)?;
        let managed: BTreeSet<PolicyArn> = request.managed.iter().map(|policy| policy.arn(self.partition)).collect();
        if let Some(arn) = managed.iter().chain(&self.boundary).find(|arn| arn.partition() != self.partition.as_str()) {
            return Err(Refusal::OtherPartition { arn: arn.clone(), partition: self.partition });
        }
        if managed.len() > MOST_MANAGED_POLICIES {
            return Err(Refusal::TooManyPolicies { number: managed.len() });
        }
        let mut tags = self.tags.clone();
        tags.extend(request.owner.tags());
        if tags.len() > MOST_TAGS {
            return Err(Refusal::TooManyTags { number: tags.len() });
        }
        Ok(WantedRole {
            name: request.name.clone(),
            arn: self.arn(&request.name),
            path: path(&self.cluster),
            trust_policy,
            managed,
            inline: request.inline.clone(),
            boundary: self.boundary.clone(),
            max_session: request.max_session,
            owner: request.owner.clone(),
            tags,
        })
    }

    /// ARN of the role `name` of this cluster.
    pub fn arn(&self, name: &RoleName) -> String {
        format!("arn:{}:iam::{}:role{}{name}", self.partition, self.account, path(&self.cluster))
    }
}

impl FoundRole {
    /// Whether it stands in our path and carries exactly the tags of `owner`.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.path == path(owner.cluster()) && owner.tags().iter().all(|(key, value)| self.tags.get(key) == Some(value))
    }

    /// Whether it was made for a `cluster` by irsad, whoever asked for it.
    pub fn is_of_cluster(&self, cluster: &str) -> bool {
        self.path == path(cluster) && self.tags.get(CLUSTER_TAG).is_some_and(|tag| tag == cluster)
    }
}

impl MaxSession {
    /// One hour: what IAM gives a role that says nothing.
    pub const DEFAULT: Self = Self(3600);

    /// Seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl TryFrom<Duration> for MaxSession {
    type Error = MaxSessionError;

    fn try_from(duration: Duration) -> Result<Self, Self::Error> {
        let seconds = duration.as_secs();
        match u32::try_from(seconds) {
            Ok(seconds @ 3600..=43200) => Ok(Self(seconds)),
            Ok(_) | Err(_) => Err(MaxSessionError(seconds)),
        }
    }
}

/// Whether two policies say the same, however they are written down: what is no JSON equals only itself.
pub(super) fn says_the_same(one: &str, other: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text).ok();
    one == other || value(one).is_some_and(|one| value(other) == Some(one))
}

#[cfg(test)]
mod tests;
