//! What came of bringing or removing one role.

use std::{error::Error, fmt};

use super::{Owner, Refusal};

/// A role is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// Its ARN.
    pub arn: String,
    /// It did not exist before.
    pub is_new: bool,
    /// What was done, one sentence part each; empty where nothing was left to do.
    pub done: Vec<String>,
}

/// A role that is no longer asked for is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It was removed.
    Now,
    /// There was none.
    WasGone,
    /// There is one of that name that is not this owner's but of whom its tags name, if anybody: it was left alone.
    NotOurs(Option<Owner>),
}

/// Who can cure a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A person must act; trying again soon is of no use.
    Person,
    /// It may pass by itself.
    Wait,
    /// IAM is asked too often: everyone should ask less for a while.
    Throttled,
}

/// Why a role is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleFault {
    /// Who can cure it.
    pub kind: FaultKind,
    /// The reason in one word, as Kubernetes conditions have it.
    pub reason: &'static str,
    /// What failed, what was left behind and what to do.
    pub sentence: String,
}

impl fmt::Display for RoleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for RoleFault {}

impl From<Refusal> for RoleFault {
    fn from(refusal: Refusal) -> Self {
        Self { kind: FaultKind::Person, reason: refusal.reason(), sentence: refusal.to_string() }
    }
}
