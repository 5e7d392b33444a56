//! Permissions of a role: managed policies by their ARNs, and one inline policy.

use std::{fmt, str::FromStr};

use serde_json::Value;
use thiserror::Error;

use crate::model::region::{AccountId, Partition};

/// Longest inline policies of a role, all together, in characters; IAM does not count white space (IAM and AWS STS quotas).
pub const LONGEST_INLINE_POLICY: usize = 10_240;
/// Longest ARN that IAM takes (IAM API reference, `AttachRolePolicy`).
const LONGEST_ARN: usize = 2048;

/// ARN of a managed policy: `arn:<partition>:iam::<account or aws>:policy/<path><name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyArn(String);

/// Why a text is not one.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not the ARN of a managed policy; write one like arn:aws:iam::123456789012:policy/app-reads-orders")]
pub struct PolicyArnError(String);

/// A managed policy as people name it: its ARN, or for one of AWS its path and name alone, for example `AmazonS3ReadOnlyAccess` or
/// `service-role/AmazonEBSCSIDriverPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManagedPolicy {
    /// By its ARN.
    Arn(PolicyArn),
    /// Path and name of one of AWS.
    OfAws(String),
}

/// Why a text is not one.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a managed policy; write its ARN, or the name of one of AWS, for example AmazonS3ReadOnlyAccess or service-role/AmazonEBSCSIDriverPolicy"
)]
pub struct ManagedPolicyError(String);

/// Permissions of one role: a policy document as JSON (IAM JSON policy elements), at most 10,240 characters without white space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlinePolicy(Value);

/// Why a text is not one.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InlinePolicyError {
    /// Not JSON.
    #[error("the inline policy is not JSON: {0}; write a policy document with Version and Statement")]
    NotJson(String),
    /// JSON, but not a policy that a role can have.
    #[error("the inline policy {0}; write a policy document with Version and Statement as in the IAM user guide")]
    NotPolicy(&'static str),
    /// More than the quota.
    #[error(
        "the inline policy has {length} characters and AWS takes {LONGEST_INLINE_POLICY}; make a managed policy of it, or join statements"
    )]
    TooLong {
        /// Characters that AWS counts.
        length: usize,
    },
}

impl PolicyArn {
    /// The ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its second field.
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }
}

impl FromStr for PolicyArn {
    type Err = PolicyArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || PolicyArnError(text.to_owned());
        let fields: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = fields.as_slice() else { return Err(wrong()) };
        let known = Partition::ALL.into_iter().any(|known| known.as_str() == *partition);
        let owned = *account == "aws" || account.parse::<AccountId>().is_ok();
        let named = resource.strip_prefix("policy/").is_some_and(is_path_and_name);
        if known && owned && named && text.len() <= LONGEST_ARN { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }
}

impl fmt::Display for PolicyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names between slashes, of the characters that IAM takes in a policy's name.
fn is_path_and_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    text.split('/').all(|part| !part.is_empty() && part.bytes().all(plain))
        && text.rsplit('/').next().is_some_and(|name| name.len() <= 128)
}

impl ManagedPolicy {
    /// Its ARN in `partition`.
    pub fn arn(&self, partition: Partition) -> PolicyArn {
        match self {
            Self::Arn(arn) => arn.clone(),
            Self::OfAws(name) => PolicyArn(format!("arn:{partition}:iam::aws:policy/{name}")),
        }
    }
}

impl FromStr for ManagedPolicy {
    type Err = ManagedPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(arn) => Ok(Self::Arn(arn)),
            Err(_) if is_path_and_name(text) => Ok(Self::OfAws(text.to_owned())),
            Err(_) => Err(ManagedPolicyError(text.to_owned())),
        }
    }
}

impl InlinePolicy {
    /// A policy document that is JSON already.
    ///
    /// # Errors
    /// It is no policy of a role, or longer than IAM takes.
    pub fn new(document: Value) -> Result<Self, InlinePolicyError> {
        let Some(members) = document.as_object() else { return Err(InlinePolicyError::NotPolicy("is not an object")) };
        let statements = match members.get("Statement") {
            Some(Value::Array(statements)) if !statements.is_empty() => statements.as_slice(),
            Some(statement @ Value::Object(_)) => std::slice::from_ref(statement),
            Some(_) | None => return Err(InlinePolicyError::NotPolicy("has no Statement")),
        };
        if !matches!(members.get("Version").and_then(Value::as_str), Some("2012-10-17" | "2008-10-17")) {
            return Err(InlinePolicyError::NotPolicy("has no Version \"2012-10-17\""));
        }
        for statement in statements {
            check_statement(statement)?;
        }
        let length = document.to_string().chars().filter(|c| !c.is_whitespace()).count();
        if length > LONGEST_INLINE_POLICY { Err(InlinePolicyError::TooLong { length }) } else { Ok(Self(document)) }
    }

    /// The document as JSON, without white space between its parts.
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }
}

/// What IAM refuses in any case (`MalformedPolicyDocument`), so that it is found before anything is made.
fn check_statement(statement: &Value) -> Result<(), InlinePolicyError> {
    let refused = |why| Err(InlinePolicyError::NotPolicy(why));
    let has_one_of = |keys: [&str; 2]| keys.iter().any(|key| statement.get(*key).is_some());
    if !matches!(statement["Effect"].as_str(), Some("Allow" | "Deny")) {
        return refused("has a statement without Effect: Allow or Deny");
    }
    if !has_one_of(["Action", "NotAction"]) {
        return refused("has a statement without Action");
    }
    if !has_one_of(["Resource", "NotResource"]) {
        return refused("has a statement without Resource");
    }
    if has_one_of(["Principal", "NotPrincipal"]) {
        return refused("has a statement with Principal, which only the policies of resources have");
    }
    Ok(())
}

impl FromStr for InlinePolicy {
    type Err = InlinePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let document = serde_json::from_str(text).map_err(|error| InlinePolicyError::NotJson(error.to_string()))?;
        Self::new(document)
    }
}
