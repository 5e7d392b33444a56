//! `ServiceAccountRole`: an IAM role for service accounts, as an object of the cluster.
//!
//! Here stands what an object says, whose claim counts where two say the same, and what is told of it. Nothing here asks an API
//! server or AWS.

mod account;
mod claims;
mod definition;
mod known;
mod status;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    probe::sentence,
    role::{InlinePolicy, MaxSession, Owner, RoleRequest},
    trust_policy::Subject,
};

pub use account::{
    AccountName, AccountNameError, AccountStep, Hindrance, SeenAccount, annotated, disowned, is_nobodys, left_out,
    made, released, steps,
};
pub use claims::{Claim, Claims};
pub use definition::{definition, definition_place};
pub use known::{Known, View};
pub use status::{AnnotatedAccount, Condition, READY, Ready, Reason, Status, status_body};

/// API group of the objects.
pub const GROUP: &str = "irsad.dev";
/// Its version.
pub const VERSION: &str = "v1alpha1";
/// Kind of the objects.
pub const KIND: &str = "ServiceAccountRole";
/// Their plural in paths.
pub const PLURAL: &str = "serviceaccountroles";
/// Keeps an object until its role is removed.
pub const FINALIZER: &str = "irsad.dev/role";
/// Annotation of a service account that has its role from an object: the name of the object.
pub const MARK: &str = "irsad.dev/service-account-role";
/// Who writes, as the API server notes it on objects and service accounts (Kubernetes "Server-Side Apply", field managers).
pub const FIELD_MANAGER: &str = "irsad-roles";

/// One object as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Stored")]
pub struct ServiceAccountRole {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: another object of the same name has another one.
    pub uid: String,
    /// `metadata.generation`: counts what was written into the specification.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created_at: Timestamp,
    /// It is being deleted.
    pub is_deleted: bool,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.finalizers`: it is gone once none is left.
    pub finalizers: Vec<String>,
    /// What is wanted; a sentence where that cannot be understood, which only another definition than ours lets in.
    pub spec: Result<Spec, String>,
    /// What was last told of it.
    pub status: Status,
}

/// `spec`: the role that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Name of the IAM role, at most 64 characters of `A-Z a-z 0-9 + = , . @ _ -`; unique in the AWS account.
    pub role_name: String,
    /// Whose pods may take it.
    pub service_accounts: Vec<AccountName>,
    /// Managed policies: ARNs, or the names of those that AWS manages.
    #[serde(default)]
    pub policies: Vec<String>,
    /// A policy document that belongs to the role alone.
    #[serde(default)]
    pub inline_policy: Option<Value>,
    /// Longest session, in seconds (3,600 to 43,200); IAM's hour where it is left out.
    #[serde(default)]
    pub max_session_seconds: Option<u32>,
    /// What becomes of the role when the object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Make service accounts that do not exist.
    #[serde(default = "yes")]
    pub create_service_accounts: bool,
}

/// `spec.deletionPolicy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum DeletionPolicy {
    /// The role is removed; service accounts lose the annotation and stay.
    #[default]
    Delete,
    /// Also the service accounts that irsad has made go, where no pod uses them and nobody else has written into them.
    DeleteWithServiceAccounts,
    /// Role and annotations stay as they are and are nobody's from then on.
    Keep,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Stored {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    generation: i64,
    creation_timestamp: Timestamp,
    #[serde(default)]
    deletion_timestamp: Option<Timestamp>,
    #[serde(default)]
    finalizers: Vec<String>,
}

impl From<Stored> for ServiceAccountRole {
    fn from(Stored { metadata, spec, status }: Stored) -> Self {
        let is_deleted = metadata.deletion_timestamp.is_some();
        let not_understood = |error| match is_deleted {
            false => format!("the specification cannot be understood ({error}); write it anew, or delete the object"),
            true => format!(
                "the specification cannot be understood ({error}), so that neither role nor service accounts are let go of; write it anew, or \
                 remove finalizer {FINALIZER}, which leaves both as they are"
            ),
        };
        Self {
            is_deleted,
            resource_version: metadata.resource_version,
            finalizers: metadata.finalizers,
            name: metadata.name,
            uid: metadata.uid,
            generation: metadata.generation,
            created_at: metadata.creation_timestamp,
            spec: serde_json::from_value(spec).map_err(not_understood),
            // What somebody else has written there says nothing of what was done.
            status: serde_json::from_value(status).unwrap_or_default(),
        }
    }
}

impl ServiceAccountRole {
    /// Whether it has [`FINALIZER`].
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// Its finalizers with [`FINALIZER`], or without it.
    pub fn finalizers_if(&self, is_held: bool) -> Vec<String> {
        let others = self.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).cloned();
        others.chain(is_held.then(|| FINALIZER.to_owned())).collect()
    }

    /// Whether `newer` asks for nothing else: what irsad itself writes into an object is no reason to look at it again.
    pub fn wants_the_same(&self, newer: &Self) -> bool {
        let is_let_go = self.is_held() && !newer.is_held();
        (&self.uid, self.generation, self.is_deleted) == (&newer.uid, newer.generation, newer.is_deleted) && !is_let_go
    }

    /// Service accounts that it names.
    pub fn accounts(&self) -> &[AccountName] {
        self.spec.as_ref().map_or(&[], |spec| &spec.service_accounts)
    }

    /// Accounts that may have their role from it: those that are known to carry its mark (`marked`), those that it names, and those
    /// that its status names, each once.
    pub fn may_have_given(&self, marked: &[AccountName]) -> Vec<AccountName> {
        let told = self.status.service_accounts.iter();
        let told = told.filter_map(|account| AccountName::new(&account.namespace, &account.name).ok());
        let all: BTreeSet<AccountName> = marked.iter().chain(self.accounts()).cloned().chain(told).collect();
        all.into_iter().collect()
    }

    /// What becomes of the role when it is deleted.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        // Nothing is taken away on what is not understood.
        self.spec.as_ref().map_or(DeletionPolicy::Keep, |spec| spec.deletion_policy)
    }
}

impl Spec {
    /// The role that it asks for, owned by `owner`.
    ///
    /// # Errors
    /// What our definition of the objects would have refused, and an inline policy that is none or too long: a sentence with the cure.
    pub fn request(&self, owner: Owner) -> Result<RoleRequest, String> {
        let subject =
            |account: &AccountName| Subject::new(account.namespace(), account.name()).map_err(|error| sentence(&error));
        let session = self.max_session_seconds.map(|seconds| MaxSession::try_from(Duration::from_secs(seconds.into())));
        let inline = self.inline_policy.clone().map(InlinePolicy::new).transpose();
        let managed = self.policies.iter().map(|policy| policy.parse().map_err(|error| sentence(&error)));
        Ok(RoleRequest {
            name: self.role_name.parse().map_err(|error| sentence(&error))?,
            owner,
            subjects: self.service_accounts.iter().map(subject).collect::<Result<_, _>>()?,
            managed: managed.collect::<Result<_, String>>()?,
            inline: inline.map_err(|error| sentence(&error))?,
            max_session: session.transpose().map_err(|error| sentence(&error))?.unwrap_or(MaxSession::DEFAULT),
        })
    }
}

#[cfg(test)]
mod tests;
