//! That the cluster is to do without irsad's issuer again, and how far that is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a person asked for, what is known of it, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Teardown {
    /// When it was asked for.
    pub since: Timestamp,
    /// Issuer that new tokens are to carry again.
    pub issuer: String,
    /// Provider and documents do not wait for the last token of our issuer.
    pub at_once: bool,
    /// The issuer's bucket stays, whoever made it.
    pub keeps_bucket: bool,
    /// First moment at which every member had proven that it signs as that issuer; `None` before that.
    pub signed_since: Option<Timestamp>,
    /// What it came to; `None` while it is under way.
    pub ended: Option<Ended>,
}

/// The end of a teardown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// What was left, and what may be done about it, a sentence each.
    pub remains: Vec<String>,
}
