//! One round of the loop.

use crate::model::plan::{Facts, Plan};

/// What one pass came to.
#[derive(Debug)]
pub struct Pass {
    /// What was observed.
    pub facts: Facts,
    /// What was planned.
    pub plan: Plan,
    /// Sentences of the actions that were carried out.
    pub done: Vec<String>,
    /// What ended it early.
    pub failure: Option<anyhow::Error>,
}

impl Pass {
    /// Nothing is left to do and nothing is waited for.
    pub fn is_converged(&self) -> bool {
        self.plan.is_converged() && self.failure.is_none()
    }

    /// Another pass at once would find something to do or to look after.
    pub(super) fn wants_another(&self) -> bool {
        let restarts = self.facts.node.change.present().is_some();
        self.failure.is_none() && (!self.done.is_empty() || restarts)
    }
}
