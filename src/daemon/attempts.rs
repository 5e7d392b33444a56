//! How following one source at an API server goes: where to resume, when to list all anew, and when to complain.

// The webhook's thread uses it; as in `crate::webhook`, a panic there would end the whole daemon.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use crate::cluster::NoAnswer;

/// After so many failures in a row all is listed anew: the version may be one that the server does not know.
const MOST_FAILURES: u32 = 5;

/// How following one source has gone so far.
#[derive(Debug)]
pub(super) struct Attempts {
    /// What the journal is told where it does not work, up to the colon.
    complaint: &'static str,
    /// So many failures in a row are no news.
    patience: u32,
    /// Where to resume; without it all is listed.
    version: Option<String>,
    failures: u32,
    said: String,
}

impl Attempts {
    /// None yet. After `patience` failures in a row the journal is told `complaint`.
    pub fn new(complaint: &'static str, patience: u32) -> Self {
        Self { complaint, patience, version: None, failures: 0, said: String::new() }
    }

    /// The version to watch from; `None` where all has to be listed.
    pub fn resume(&mut self) -> Option<String> {
        self.version.take()
    }

    /// A watch came to an end, at that version.
    ///
    /// # Errors
    /// Why, where it is not to be expected.
    pub fn ended(&mut self, version: String, ended: Result<(), NoAnswer>) -> Result<(), String> {
        let is_expired = matches!(ended, Err(NoAnswer::Expired { .. } | NoAnswer::NotFound { .. }));
        self.version = (!is_expired && self.failures < MOST_FAILURES).then_some(version);
        match ended {
            Ok(()) | Err(NoAnswer::Expired { .. }) => Ok(()),
            Err(error) => Err(error.reason()),
        }
    }

    /// Counts what came of an attempt, and tells the journal what is new about it.
    pub fn note(&mut self, outcome: &Result<(), String>) {
        let Err(why) = outcome else {
            self.failures = 0;
            self.said.clear();
            return;
        };
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.patience && self.said != *why {
            tracing::warn!("{}: {why}", self.complaint);
            self.said.clone_from(why);
        }
    }
}
