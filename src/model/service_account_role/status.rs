//! What is told of an object in its status, and when it is worth an Event.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AccountName, GROUP, KIND, VERSION};
use crate::model::role::RoleFault;

/// Type of the one condition.
pub const READY: &str = "Ready";
/// Longest message, in characters: an Event has room for it too (kubernetes/kubernetes `pkg/apis/core/validation/events.go`).
const LONGEST_MESSAGE: usize = 1000;

/// Why an object is ready or is not (`reason` of the condition and of Events).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Role and service accounts are as the object says.
    AsWanted,
    /// An older object has the role name.
    RoleNameTaken,
    /// A service account has its role from somebody else.
    ServiceAccountTaken,
    /// A service account or its namespace does not exist.
    ServiceAccountMissing,
    /// The API server does not let a service account be written.
    ServiceAccountRefused,
    /// The API server gives no usable answer at the moment.
    NotReachable,
    /// The object cannot be understood, or asks for what irsad does not do.
    Invalid,
    /// Something about the role, in one word.
    OfRole(&'static str),
}

impl Reason {
    /// As it stands in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsWanted => "AsWanted",
            Self::RoleNameTaken => "RoleNameTaken",
            Self::ServiceAccountTaken => "ServiceAccountTaken",
            Self::ServiceAccountMissing => "ServiceAccountMissing",
            Self::ServiceAccountRefused => "ServiceAccountRefused",
            Self::NotReachable => "NotReachable",
            Self::Invalid => "Invalid",
            Self::OfRole(reason) => reason,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How it stands with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// In one word.
    pub reason: Reason,
    /// For a person: what was found, what was left, what to do.
    pub message: String,
}

impl Ready {
    /// Told of an object, with a message that the API server takes.
    pub fn new(reason: Reason, message: &str) -> Self {
        Self { reason, message: message.chars().take(LONGEST_MESSAGE).collect() }
    }

    /// Nothing is left to do.
    pub fn is_ready(&self) -> bool {
        self.reason == Reason::AsWanted
    }
}

impl From<&RoleFault> for Ready {
    fn from(fault: &RoleFault) -> Self {
        Self::new(Reason::OfRole(fault.reason), &fault.sentence)
    }
}

/// `status` of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `metadata.generation` that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The role, once it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Service accounts that have the role from this object, in order.
    #[serde(default)]
    pub service_accounts: Vec<AnnotatedAccount>,
    /// The condition [`READY`], and those of others.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One service account with the role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AnnotatedAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// irsad has made it.
    #[serde(default)]
    pub made: bool,
}

/// A condition (Kubernetes API conventions, "Typical status properties").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Of what it tells.
    pub r#type: String,
    /// `True` or `False`.
    pub status: String,
    /// In one word.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// See [`Status::observed_generation`].
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// When `status` last became another.
    pub last_transition_time: Timestamp,
}

impl Condition {
    /// Whether it holds.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

impl AnnotatedAccount {
    /// The service account `name`.
    pub fn new(name: &AccountName, made: bool) -> Self {
        Self { namespace: name.namespace().to_owned(), name: name.name().to_owned(), made }
    }
}

impl Status {
    /// The condition [`READY`].
    pub fn ready(&self) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.r#type == READY)
    }

    /// What is told after another look; the same as before where nothing is new.
    pub fn told(
        &self,
        generation: i64,
        role_arn: Option<String>,
        mut service_accounts: Vec<AnnotatedAccount>,
        ready: &Ready,
        now: Timestamp,
    ) -> Self {
        let status = if ready.is_ready() { "True" } else { "False" };
        let since = self.ready().filter(|known| known.status == status).map(|known| known.last_transition_time);
        let condition = Condition {
            r#type: READY.to_owned(),
            status: status.to_owned(),
            reason: ready.reason.to_string(),
            message: ready.message.clone(),
            observed_generation: Some(generation),
            // Kubernetes keeps whole seconds.
            last_transition_time: since.unwrap_or_else(|| Timestamp::from_second(now.as_second()).unwrap_or(now)),
        };
        service_accounts.sort();
        Self { observed_generation: Some(generation), role_arn, service_accounts, conditions: vec![condition] }
    }

    /// Whether `next` tells something that an operator should see as an Event.
    pub fn is_news(&self, next: &Self) -> bool {
        let said = |status: &Self| status.ready().map(|ready| (ready.status.clone(), ready.reason.clone()));
        said(self) != said(next)
    }
}

/// All that irsad says in an object's status (server-side apply of the subresource).
pub fn status_body(object: &str, uid: &str, status: &Status) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": KIND,
        "metadata": { "name": object, "uid": uid },
        "status": status,
    })
}
