//! Desired × observed × now → what to do next. Pure: the same input gives the same plan.
//!
//! [`plan`] is two decisions. `cluster` looks after what the whole cluster shares: bucket, public documents, IAM
//! provider. `node` looks after this node: key files, manifest, API server. Publish before use, stop use before removal;
//! what could not be read is waited for, never written over.

mod ack;
mod action;
mod begin;
mod change;
mod cluster;
mod desired;
mod facts;
mod flags;
mod follow;
mod keyring_bucket;
mod keys;
mod kops;
mod kubeadm;
mod missed;
mod node;
mod published;
mod restore;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
pub(super) use scenarios::desired as desired_in_tests;
mod shared;
mod teardown;
mod torn_down;
mod trust_policy;
mod webhook;

use std::time::Duration;

use jiff::Timestamp;

pub use action::Action;
pub use cluster::PublishedState;
pub use desired::{Desired, DesiredBucket, DesiredProvider, KeyKeeping, RestartPolicy};
pub use facts::{
    ApiServer, BucketFacts, ClusterFacts, Evidence, Facts, FileMark, NodeFacts, ProbeToken, ProviderFacts,
    PublicAccessBlock, PublicDocument, Shared, SharedFacts, StoredDocument, StoredKeyring,
};
pub use keyring_bucket::{DesiredKeyringBucket, KeyringBucketFacts, keyring_bucket};
pub use kubeadm::StoredKubeadmConfig;
pub use missed::PodsFacts;
use shared::Following;
pub use shared::followed;
pub use teardown::{BucketContent, RolesLeft, TeardownFacts, is_in_use, is_looked_after, left_alone, pointed_at_by};
pub use torn_down::{contradiction as torn_down_contradiction, sentences as torn_down};
pub use trust_policy::TrustPolicyFacts;

pub use webhook::{UpstreamFacts, WebhookFacts, webhooks_missing};

pub use restore::{Content, FileState, PutBack, Restoration, RestoreFacts, restore};

/// A full observation is made at least this often.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How soon to look again while something is waited for that is likely to come.
pub const WAITING_INTERVAL: Duration = Duration::from_secs(10);
/// How soon to look again while the API server restarts.
pub const RESTART_INTERVAL: Duration = Duration::from_secs(2);

/// What the next pass does, and why it does no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order; each leaves a working cluster if it is the last one that is carried out.
    pub actions: Vec<Action>,
    /// What follows once nothing is waited for any more, as far as it is known now.
    pub later: Vec<Action>,
    /// What has to come true by itself before more can be done.
    pub waiting_for: Vec<String>,
    /// What a person has to do before more can be done.
    pub needs_a_person: Vec<String>,
    /// True statements that an operator should know and that stop nothing.
    pub notices: Vec<String>,
    /// What an idle look leaves out is needed to go on.
    pub look_closer: bool,
    /// Whether an outsider sees what this node's keys need.
    pub published: PublishedState,
    /// Longest time until the world has to be looked at again.
    pub next_check: Duration,
}

impl Plan {
    fn new() -> Self {
        Self {
            actions: Vec::new(),
            later: Vec::new(),
            waiting_for: Vec::new(),
            needs_a_person: Vec::new(),
            notices: Vec::new(),
            look_closer: false,
            published: PublishedState::NotYet,
            next_check: CHECK_INTERVAL,
        }
    }

    /// Nothing to do, nothing waited for, nobody needed.
    pub fn is_converged(&self) -> bool {
        self.actions.is_empty() && self.is_ready()
    }

    /// Nothing is waited for and nobody needed: what the actions leave is what was asked for.
    pub fn is_ready(&self) -> bool {
        self.waiting_for.is_empty() && self.needs_a_person.is_empty()
    }

    fn wait(&mut self, for_what: impl Into<String>, look_again: Duration) {
        self.waiting_for.push(for_what.into());
        self.next_check = self.next_check.min(look_again);
    }
}

/// Nothing to do, nothing to wait for.
impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

/// What to do next: for a change that is open, then for the cluster's documents, then for this node.
pub fn plan(desired: &Desired, facts: &Facts, now: Timestamp) -> Plan {
    let mut plan = Plan::new();
    if let Some(rest) = torn_down::rest(facts, now) {
        return rest;
    }
    plan.notices.extend(facts.node.remarks.iter().cloned());
    let change_is_open = change::plan(desired, &facts.node, now, &mut plan);
    if let Some(why) = kops::publishes_itself(desired, &facts.node) {
        plan.needs_a_person.push(why);
        return plan;
    }
    let following = shared::plan(desired, facts, now, &mut plan);
    plan.published = cluster::plan(desired, facts, following, now, &mut plan);
    match following {
        _ if change_is_open => {}
        Following::Keyring(followed) => follow::plan(desired, facts, followed, now, &mut plan),
        Following::Disk | Following::Somebody(_) => node::plan(desired, facts, now, &mut plan),
        Following::Nothing => {}
    }
    // Last: a webhook that cannot be registered keeps no key from its turn.
    webhook::plan(desired, facts, following, now, &mut plan);
    let gives_credentials = teardown::gives_credentials(desired, following, now);
    trust_policy::plan(desired, facts, following, gives_credentials, &mut plan);
    if gives_credentials {
        missed::plan(facts, now, &mut plan);
    }
    if !change_is_open {
        teardown::plan(desired, facts, following, now, &mut plan);
    }
    plan
}

/// What has to be done before kubeadm runs: the signing key, and nothing that needs a network.
///
/// Asked for by a person or an image, so keys are made even where this node had others before.
pub fn prepare(desired: &Desired, node: &NodeFacts) -> Plan {
    let mut plan = Plan::new();
    keys::prepare(desired, node, &mut plan);
    plan
}
