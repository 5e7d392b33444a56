//! Names of roles: what IAM takes, and the one that follows from a service account.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::model::trust_policy::Subject;

/// Longest name of a role (IAM and AWS STS quotas).
const LONGEST: usize = 64;
/// So many hexadecimal digits tell names apart that had to be cut.
const DIGITS: usize = 8;

/// Name of an IAM role: 1 to 64 letters, digits and `+=,.@_-` (IAM API reference, `CreateRole`). Unique in the account, whatever its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(String);

/// Why a text is not one.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not the name of a role; use 1 to 64 letters, digits and +=,.@_-")]
pub struct RoleNameError(String);

impl RoleName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a role that is given none: `<service account>.<namespace>.<cluster>`, with `+` and `=` for the wildcards `*` and `?`,
    /// which IAM does not take and Kubernetes names never have. A longer one than IAM takes is cut and ends with a hash of the whole.
    pub fn of(subject: &Subject, cluster: &str) -> Self {
        let whole = format!("{}.{}.{cluster}", subject.name(), subject.namespace()).replace('*', "+").replace('?', "=");
        if whole.len() <= LONGEST {
            return Self(whole);
        }
        let hash = format!("{:x}", Sha256::digest(&whole));
        Self(format!("{}-{}", &whole[..LONGEST - DIGITS - 1], &hash[..DIGITS]))
    }
}

impl FromStr for RoleName {
    type Err = RoleNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        let valid = (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain);
        if valid { Ok(Self(text.to_owned())) } else { Err(RoleNameError(text.to_owned())) }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
