//! Pods that run without the credentials that they should have: each is told of once, where its owner looks.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::{
    missed_pods::{MissedPod, MissedPods},
    probe::Probe,
};

use super::{Action, Facts, Plan, Shared};

/// One look at the pods of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodsFacts {
    /// When.
    pub looked_at: Timestamp,
    /// Those that run without credentials.
    pub missed: MissedPods,
    /// `metadata.uid` of those that an Event tells of.
    pub told: BTreeSet<String>,
}

/// Nothing else hangs on it, so that it stops nothing and comes last.
pub(super) fn plan(facts: &Facts, now: Timestamp, plan: &mut Plan) {
    let found = match &facts.pods {
        None | Some(Probe::Absent) => return,
        Some(Probe::Unknown(why)) => {
            return plan.notices.push(format!("pods without AWS credentials could not be looked for: {why}"));
        }
        Some(Probe::Present(found)) => found,
    };
    let Shared::Seen(shared) = &facts.shared else { return };
    let is_news = |pod: &&MissedPod| !found.told.contains(&pod.uid);
    let news: Vec<MissedPod> = found.missed.named.iter().filter(is_news).cloned().collect();
    if shared.leads && !news.is_empty() {
        plan.actions.push(Action::TellOfMissedPods { pods: news, node: shared.node.clone(), at: now });
    }
}
