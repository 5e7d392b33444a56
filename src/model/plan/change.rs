//! A change of the manifest that has been begun: proven by the running API server, still waited for, or failed.

use jiff::{SignedDuration, Timestamp, Unit};

use super::{Action, ApiServer, NodeFacts, Plan, RESTART_INTERVAL, node::Edit};
use crate::model::{
    file::ExpectedFile,
    memory::{Change, RefusedChange, Version1},
    probe::Probe,
};

impl Edit<'_> {
    /// A change is under way: proven, still waited for, or failed?
    pub(super) fn follow(&self, change: &Change, node: &NodeFacts, now: Timestamp, plan: &mut Plan) {
        if change.manifest_digest != self.digest.0 {
            // It never reached the file, or somebody has written another one since: not ours to roll back.
            return plan.actions.push(Action::ForgetChange);
        }
        if now < change.begun_at {
            // The clock was set back: count from now, or the limit would not end.
            return plan.actions.push(Action::BeginChange(Change { begun_at: now, ..change.clone() }));
        }
        let Some(missing) = self.missing_evidence(change, node) else {
            return plan.actions.push(Action::ConfirmChange);
        };
        let limit = SignedDuration::try_from(self.desired.evidence_limit).unwrap_or(SignedDuration::MAX);
        let since = now.duration_since(change.begun_at);
        if since <= limit {
            let waited = since.as_secs();
            plan.wait(
                format!("kube-apiserver to prove the change: {missing} ({waited} s of {} s)", limit.as_secs()),
                RESTART_INTERVAL,
            );
        } else {
            self.roll_back(change, node, missing, now, plan);
        }
    }

    /// What the running process has not shown yet.
    fn missing_evidence(&self, change: &Change, node: &NodeFacts) -> Option<String> {
        let evidence = match &node.api_server {
            ApiServer::None => return Some("there is no kubeconfig to ask it with".to_owned()),
            ApiServer::NoKubeconfig(why) | ApiServer::Silent(why) => return Some(why.clone()),
            ApiServer::Seen(evidence) => evidence,
        };
        let is_new = match (evidence.started_at, change.old_process_started_at) {
            // One second apart: the kernel's start times may shift that much when the clock is set.
            (Some(now), Some(then)) => now.duration_since(then) > SignedDuration::from_secs(1),
            (Some(now), None) => now >= change.begun_at,
            (None, _) => false,
        };
        if !is_new {
            return Some("no new process yet".to_owned());
        }
        if !evidence.ready {
            return Some("the new process is not ready".to_owned());
        }
        if change.applied != self.applied {
            // The configuration changed meanwhile: what this change wanted no longer matters, only that the server is back.
            return None;
        }
        if let Some(key) = self.keys.verifying.iter().find(|key| !evidence.served.has(key.kid())) {
            return Some(format!("/openid/v1/jwks does not have key {}", key.kid()));
        }
        match &evidence.probe_token {
            Probe::Present(token) if token.issuer != self.desired.issuer.as_str() => {
                Some(format!("its tokens are issued by {}", token.issuer))
            }
            Probe::Present(token) if token.kid != self.keys.signing.kid().as_str() => {
                Some(format!("its tokens are signed with key {}", token.kid))
            }
            Probe::Present(_) => None,
            Probe::Absent => Some("it mints no probe token".to_owned()),
            Probe::Unknown(why) => Some(why.clone()),
        }
    }

    fn roll_back(&self, change: &Change, node: &NodeFacts, missing: String, now: Timestamp, plan: &mut Plan) {
        let path = self.desired.manifest.display();
        match &node.last_good_manifest {
            Probe::Present(last_good) => {
                let rolled_back_at = now.round(Unit::Second).unwrap_or(now);
                plan.actions.extend([
                    Action::RefuseChange(RefusedChange {
                        version: Version1,
                        applied: change.applied.clone(),
                        rolled_back_at,
                        reason: missing.clone(),
                    }),
                    Action::ReplaceManifest {
                        path: self.desired.manifest.clone(),
                        text: last_good.clone(),
                        old_text: self.found.text().to_owned(),
                        expected: ExpectedFile::Unchanged(self.digest.clone()),
                    },
                    Action::ForgetChange,
                ]);
                plan.needs_a_person.push(format!("change {} failed: {missing}; the previous {path} is put back", change.applied));
                plan.next_check = RESTART_INTERVAL;
            }
            Probe::Absent => plan.needs_a_person.push(format!(
                "change {} failed: {missing}; there is no copy of the previous manifest in /var/lib/irsad/last-good: take the lines of \
                 service-account-issuer and service-account-jwks-uri out of {path} by hand",
                change.applied
            )),
            Probe::Unknown(why) => plan.needs_a_person.push(why.clone()),
        }
    }
}
