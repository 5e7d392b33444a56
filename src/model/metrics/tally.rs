//! Counts what this process did: passes, actions, what of them put back something that had stood, restarts and ways back.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Family, Sample, counter, gauge, seconds};
use crate::model::{
    cluster_object::ClusterObject,
    plan::{Action, Facts, Plan, PublishedState},
    probe::Probe,
};

/// What can be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Healed {
    Bucket,
    Document,
    Object,
    Provider,
}

impl Healed {
    const ALL: [Self; 4] = [Self::Bucket, Self::Document, Self::Object, Self::Provider];

    fn word(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Document => "document",
            Self::Object => "object",
            Self::Provider => "provider",
        }
    }
}

/// Numbers since this process began. Give it each pass in order: [`Tally::begin`], the actions, [`Tally::end`].
#[derive(Debug, Clone, Default)]
pub struct Tally {
    actions: BTreeMap<&'static str, u64>,
    failures: BTreeMap<&'static str, u64>,
    heals: BTreeMap<Healed, u64>,
    restarts: u64,
    rollbacks: u64,
    passes: u64,
    failed_passes: u64,
    last: Option<(Timestamp, Duration)>,
    stood: Stood,
    /// An API server runs on this node.
    has_api_server: bool,
    /// In this pass a change was found to have failed.
    takes_back: bool,
}

/// What an earlier pass found as it should be. Without that, writing it is work and no heal.
#[derive(Debug, Clone, Default)]
struct Stood {
    documents: Vec<Vec<u8>>,
    bucket: bool,
    objects: bool,
    /// Objects as this process has applied them last.
    applied: Vec<ClusterObject>,
    provider: bool,
}

impl Tally {
    /// A pass begins with these facts and this plan.
    pub fn begin(&mut self, facts: &Facts, plan: &Plan) {
        self.has_api_server = !facts.node.nothing_runs();
        self.takes_back = false;
        let has_none = |healed| !plan.actions.iter().any(|action| what(action) == Some(healed));
        let cluster = &facts.cluster;
        if plan.published == PublishedState::Seen && has_none(Healed::Document) {
            let stored = [&cluster.stored_discovery, &cluster.stored_jwks].into_iter();
            self.stood.documents = stored.filter_map(|found| Some(found.present()?.body.clone())).collect();
        }
        let is_there = |found: Option<bool>| found.unwrap_or(false);
        self.stood.bucket |= has_none(Healed::Bucket) && is_there(cluster.bucket.as_ref().map(is_present));
        self.stood.provider |= has_none(Healed::Provider) && is_there(cluster.provider.as_ref().map(is_present));
        let upstream = facts.webhook.upstream.as_ref().map(|found| is_present(&found.configuration));
        self.stood.objects |= has_none(Healed::Object) && (is_present(&facts.webhook.built_in) || is_there(upstream));
    }

    /// An action of that pass was carried out.
    pub fn done(&mut self, action: &Action) {
        add(&mut self.actions, action.name());
        match action {
            Action::RefuseChange(_) => self.takes_back = true,
            Action::ReplaceManifest { .. } => {
                self.restarts = self.restarts.saturating_add(u64::from(self.has_api_server));
                self.rollbacks = self.rollbacks.saturating_add(u64::from(self.takes_back));
            }
            _ => {}
        }
        if let Some(healed) = what(action).filter(|healed| self.had_stood(*healed, action)) {
            add(&mut self.heals, healed);
        }
        if let Action::ApplyObject { object, .. } = action {
            self.stood.applied.retain(|known| known.place() != object.place());
            self.stood.applied.push(object.as_ref().clone());
        }
    }

    /// An action failed, and with it the pass.
    pub fn failed(&mut self, action: &Action) {
        add(&mut self.failures, action.name());
    }

    /// The pass is over.
    pub fn end(&mut self, succeeded: bool, at: Timestamp, duration: Duration) {
        let number = if succeeded { &mut self.passes } else { &mut self.failed_passes };
        *number = number.saturating_add(1);
        self.last = Some((at, duration));
    }

    /// Other settings hold: what stood is no longer what should stand.
    pub fn settings_changed(&mut self) {
        self.stood = Stood::default();
    }

    fn had_stood(&self, healed: Healed, action: &Action) -> bool {
        match (healed, action) {
            (Healed::Bucket, _) => self.stood.bucket,
            (Healed::Provider, _) => self.stood.provider,
            // One that is there and is to be another one is brought up to date, for example with the next certificates.
            (Healed::Object, Action::ApplyObject { object, replaces, .. }) => {
                self.stood.applied.contains(object) || (self.stood.objects && replaces.is_none())
            }
            (Healed::Document, Action::Publish { body, .. }) => self.stood.documents.contains(body),
            (Healed::Object | Healed::Document, _) => false,
        }
    }

    /// All numbers.
    pub fn families(&self) -> Vec<Family> {
        let by_action = |numbers: &BTreeMap<&'static str, u64>| {
            numbers.iter().map(|(name, number)| Sample::of("action", *name, float(*number))).collect::<Vec<_>>()
        };
        let healed = |healed: Healed| {
            let number = self.heals.get(&healed).copied().unwrap_or_default();
            Sample::of("what", healed.word(), float(number))
        };
        let passes = [("ok", self.passes), ("failed", self.failed_passes)];
        vec![
            counter(
                "irsad_passes",
                "Rounds of looking, planning and doing.",
                passes.map(|(result, number)| Sample::of("result", result, float(number))),
            ),
            gauge(
                "irsad_last_pass_timestamp_seconds",
                "End of the last pass.",
                self.last.map(|(at, _)| Sample::plain(seconds(at))),
            ),
            gauge(
                "irsad_last_pass_duration_seconds",
                "How long the last pass took.",
                self.last.map(|(_, duration)| Sample::plain(duration.as_secs_f64())),
            ),
            counter("irsad_actions", "Steps that were carried out.", by_action(&self.actions)),
            counter("irsad_action_failures", "Steps that failed and ended a pass.", by_action(&self.failures)),
            counter(
                "irsad_heals",
                "Things that were put back after somebody else had changed or removed them.",
                Healed::ALL.map(healed),
            ),
            counter(
                "irsad_apiserver_restarts",
                "Restarts of this node's kube-apiserver that irsad caused.",
                [Sample::plain(float(self.restarts))],
            ),
            counter(
                "irsad_rollbacks",
                "Changes of this node's kube-apiserver that were taken back.",
                [Sample::plain(float(self.rollbacks))],
            ),
        ]
    }
}

/// What an action may put back.
fn what(action: &Action) -> Option<Healed> {
    match action {
        Action::CreateBucket { .. } | Action::SetPublicAccessBlock { .. } | Action::SetBucketPolicy { .. } => {
            Some(Healed::Bucket)
        }
        Action::Publish { .. } => Some(Healed::Document),
        Action::ApplyObject { .. } | Action::ReplaceObject { .. } => Some(Healed::Object),
        Action::CreateProvider { .. } | Action::AddProviderAudience { .. } => Some(Healed::Provider),
        _ => None,
    }
}

fn is_present<T>(found: &Probe<T>) -> bool {
    found.present().is_some()
}

fn add<K: Ord>(numbers: &mut BTreeMap<K, u64>, key: K) {
    let number = numbers.entry(key).or_default();
    *number = number.saturating_add(1);
}

#[expect(clippy::cast_precision_loss, reason = "2^52 of anything take longer than anybody waits")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
