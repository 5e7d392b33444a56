//! The part of a report that is about pods without the AWS credentials that they should have.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    missed_pods::MissedPod,
    plan::{Facts, PodsFacts},
    probe::Probe,
};

/// Missed pods that a line for a person names.
const NAMED_IN_A_LINE: usize = 5;

/// What the last look at all pods found. The JSON form is a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MissedPodsReport {
    /// When.
    pub looked_at: Timestamp,
    /// How many run without credentials that they should have.
    pub count: usize,
    /// The first of them, at most 50.
    pub pods: Vec<MissedPodReport>,
    /// Pods with a role that stay out of the webhook by label or namespace.
    pub opted_out: usize,
    /// Copies of static Pods with a role, which no webhook changes.
    pub mirrors: usize,
}

/// One pod without credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MissedPodReport {
    /// `NAMESPACE/NAME`.
    pub pod: String,
    /// Its service account.
    pub service_account: String,
    /// Why, for a person.
    pub why: String,
    /// Command that has it made anew.
    pub cure: String,
}

/// `None` where pods were not looked at.
pub fn missed_pods_report(facts: &Facts) -> Option<MissedPodsReport> {
    let Some(Probe::Present(PodsFacts { looked_at, missed, .. })) = &facts.pods else { return None };
    let one = |pod: &MissedPod| MissedPodReport {
        pod: pod.name.to_string(),
        service_account: pod.service_account.clone(),
        why: pod.why.to_string(),
        cure: pod.cure.clone(),
    };
    Some(MissedPodsReport {
        looked_at: *looked_at,
        count: missed.count,
        pods: missed.named.iter().map(one).collect(),
        opted_out: missed.opted_out,
        mirrors: missed.mirrors,
    })
}

impl MissedPodsReport {
    /// How many, some of them by name, and how to mend the first; `None` where there is none.
    pub fn line(&self) -> Option<String> {
        let first = self.pods.first()?;
        let named = self.pods.iter().take(NAMED_IN_A_LINE);
        let names: Vec<String> = named.map(|pod| format!("{} ({})", pod.pod, pod.why)).collect();
        let more = match self.count.saturating_sub(NAMED_IN_A_LINE) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let runs = if self.count == 1 { "pod runs" } else { "pods run" };
        Some(format!("{} {runs} without AWS credentials: {}{more}; {}", self.count, names.join(", "), first.cure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_names_a_few_pods_counts_the_others_and_says_what_to_do() {
        let pod = |number: usize| MissedPodReport {
            pod: format!("shop/p{number}"),
            service_account: "checkout".to_owned(),
            why: "a reason".to_owned(),
            cure: format!("kubectl -n shop delete pod p{number}"),
        };
        let report = |count: usize| MissedPodsReport {
            looked_at: Timestamp::UNIX_EPOCH,
            count,
            pods: (0..count.min(50)).map(pod).collect(),
            opted_out: 0,
            mirrors: 0,
        };
        assert_eq!(report(0).line(), None);
        for (count, line) in [
            (1, "1 pod runs without AWS credentials: shop/p0 (a reason); kubectl -n shop delete pod p0"),
            (
                60,
                "60 pods run without AWS credentials: shop/p0 (a reason), shop/p1 (a reason), shop/p2 (a reason), shop/p3 (a reason), shop/p4 \
                 (a reason) and 55 more; kubectl -n shop delete pod p0",
            ),
        ] {
            assert_eq!(report(count).line().as_deref(), Some(line));
        }
    }
}
