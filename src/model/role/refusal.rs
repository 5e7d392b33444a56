//! Why a role is not brought to what is wanted: nothing was changed, a person must act.

use thiserror::Error;

use super::{CLUSTER_TAG, MOST_MANAGED_POLICIES, MOST_TAGS, OWNER_TAG, Owner, PolicyArn, RoleName};
use crate::model::{region::Partition, trust_policy::PolicyError};

/// One sentence with the cure; [`Refusal::reason`] is the same in one word.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The name is taken by a role outside of our path.
    #[error(
        "role {name} is someone else's: it stands under the path {found} and not under {ours} (nothing changed); choose another name for ours, or delete that role"
    )]
    OtherPath {
        /// The name.
        name: RoleName,
        /// Its path.
        found: String,
        /// The path of our cluster's roles.
        ours: String,
    },
    /// A role in our path that irsad did not make.
    #[error(
        "role {name} was not made by irsad: it has no tag {CLUSTER_TAG}: {} (nothing changed); choose another name, delete that role, or put the tags {CLUSTER_TAG}: {} and {OWNER_TAG}: {} on it to give it to irsad", wanted.cluster(), wanted.cluster(), wanted.keeper()
    )]
    NotTagged {
        /// The name.
        name: RoleName,
        /// Who would keep it.
        wanted: Owner,
    },
    /// A role that something else in our cluster asked for.
    #[error(
        "role {name} belongs to {found} (nothing changed); choose another name, or set its tag {OWNER_TAG} to {} to move it here", wanted.keeper()
    )]
    OtherOwner {
        /// The name.
        name: RoleName,
        /// Its tag.
        found: String,
        /// Who would keep it.
        wanted: Owner,
    },
    /// Managed policies that do not exist.
    #[error("role {name} cannot have the policy {}, which does not exist (nothing changed); create it, or correct the ARN", arns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "))]
    NoSuchPolicy {
        /// The role.
        name: RoleName,
        /// The policies; never empty.
        arns: Vec<PolicyArn>,
    },
    /// ARN of another part of AWS.
    #[error(
        "policy {arn} is not of the partition {partition} that this account is in (nothing changed); correct the ARN"
    )]
    OtherPartition {
        /// The ARN.
        arn: PolicyArn,
        /// Ours.
        partition: Partition,
    },
    /// More than the quota.
    #[error(
        "{number} managed policies are more than the {MOST_MANAGED_POLICIES} that IAM attaches to a role unless the quota is raised, which irsad makes no use of (nothing changed); join them, or write an inline policy"
    )]
    TooManyPolicies {
        /// So many.
        number: usize,
    },
    /// More than the quota.
    #[error(
        "{number} tags are more than the {MOST_TAGS} that IAM puts on a role (nothing changed); take tags out of roles.tags"
    )]
    TooManyTags {
        /// So many, our own included.
        number: usize,
    },
    /// The trust policy cannot be written, or is longer than IAM takes.
    #[error("{0} (nothing changed)")]
    TrustPolicy(String),
}

impl Refusal {
    /// The reason in one word, as Kubernetes conditions have it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OtherPath { .. } | Self::NotTagged { .. } => "RoleNotOurs",
            Self::OtherOwner { .. } => "RoleOwnedByAnother",
            Self::NoSuchPolicy { .. } => "PolicyNotFound",
            Self::OtherPartition { .. } => "PolicyOfOtherPartition",
            Self::TooManyPolicies { .. } => "TooManyPolicies",
            Self::TooManyTags { .. } => "TooManyTags",
            Self::TrustPolicy(_) => "TrustPolicyRefused",
        }
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        Self::TrustPolicy(error.to_string())
    }
}
