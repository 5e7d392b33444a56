//! A change of the manifest that has been begun: proven by the running API server, still waited for, or failed.
//!
//! It is decided before everything else and from its own record alone: neither a wrong key file nor a new configuration nor a
//! refused call to AWS may stand between an API server that is down and the manifest that it ran with.

use jiff::{SignedDuration, Timestamp, Unit};

use super::{Action, ApiServer, Desired, Evidence, NodeFacts, Plan, RESTART_INTERVAL};
use crate::model::{
    file::{Digest, ExpectedFile},
    manifest::Manifest,
    memory::{Change, RefusedChange, Version1},
    probe::Probe,
};

/// Whether a change is open: then no other may begin.
pub(super) fn plan(desired: &Desired, node: &NodeFacts, now: Timestamp, plan: &mut Plan) -> bool {
    let change = match &node.change {
        Probe::Absent => return false,
        Probe::Present(change) => change,
        Probe::Unknown(why) => {
            plan.needs_a_person.push(why.clone());
            return true;
        }
    };
    match &node.manifest {
        Probe::Unknown(why) => plan.needs_a_person.push(why.clone()),
        Probe::Absent => plan.actions.push(Action::ForgetChange),
        Probe::Present((_, digest)) if digest.0 != change.manifest_digest => put_aside(change, digest, node, now, plan),
        Probe::Present((found, digest)) => follow(desired, change, (found, digest), node, now, plan),
    }
    true
}

/// The manifest is not the one that we wrote, or never was: not ours to roll back.
fn put_aside(change: &Change, digest: &Digest, node: &NodeFacts, now: Timestamp, plan: &mut Plan) {
    let was_undone = digest.0 == change.old_manifest_digest;
    match &node.api_server {
        // The old file and another process: the API server had the change, and somebody took it back. Not after a boot, which
        // starts a new process in any case: then the change may never have reached the file.
        ApiServer::Seen(evidence) if was_undone && node.change_is_of_this_boot && is_new_process(change, evidence) => {
            plan.actions.extend([
                refusal(change, "somebody put the previous manifest back".to_owned(), now),
                Action::ForgetChange,
            ])
        }
        ApiServer::Silent(why) if was_undone && node.change_is_of_this_boot => {
            plan.wait(
                format!("{why}; its start tells whether change {} was undone by hand", change.applied),
                RESTART_INTERVAL,
            );
        }
        ApiServer::Seen(_) | ApiServer::Silent(_) | ApiServer::None | ApiServer::NoKubeconfig(_) => {
            plan.actions.push(Action::ForgetChange);
        }
    }
}

fn follow(
    desired: &Desired,
    change: &Change,
    found: (&Manifest, &Digest),
    node: &NodeFacts,
    now: Timestamp,
    plan: &mut Plan,
) {
    let Some(missing) = missing_evidence(change, node) else {
        return plan.actions.push(Action::ConfirmChange);
    };
    let (waited, limit) = (node.change_watched_for, desired.evidence_limit);
    if waited <= limit {
        let text = format!(
            "for kube-apiserver to prove the change: {missing} ({} s of {} s)",
            waited.as_secs(),
            limit.as_secs()
        );
        plan.wait(text, RESTART_INTERVAL);
    } else {
        roll_back(desired, change, found, node, missing, now, plan);
    }
}

/// Two starts of one process are equal but for a second that the kernel's boot time may move by when the clock is set.
fn is_new_process(change: &Change, evidence: &Evidence) -> bool {
    match (evidence.started_at, change.old_process_started_at) {
        (Some(now), Some(then)) => now.duration_since(then).abs() > SignedDuration::from_secs(1),
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// What the running process has not shown yet.
fn missing_evidence(change: &Change, node: &NodeFacts) -> Option<String> {
    let evidence = match &node.api_server {
        ApiServer::None => return Some("there is no kubeconfig to ask it with".to_owned()),
        ApiServer::NoKubeconfig(why) | ApiServer::Silent(why) => return Some(why.clone()),
        ApiServer::Seen(evidence) => evidence,
    };
    if !is_new_process(change, evidence) {
        return Some("no new process yet".to_owned());
    }
    if !evidence.ready {
        return Some("the new process is not ready".to_owned());
    }
    if let Some(kid) = change.kids.iter().find(|kid| !evidence.served.kids().any(|served| served == kid.as_str())) {
        return Some(format!("/openid/v1/jwks does not have key {kid}"));
    }
    match &evidence.probe_token {
        Probe::Present(token) if token.issuer != change.issuer => {
            Some(format!("its tokens are issued by {}", token.issuer))
        }
        Probe::Present(token) if token.kid != change.signing_kid => {
            Some(format!("its tokens are signed with key {}", token.kid))
        }
        Probe::Present(_) => None,
        Probe::Absent => Some("it mints no probe token".to_owned()),
        Probe::Unknown(why) => Some(why.clone()),
    }
}

fn refusal(change: &Change, reason: String, now: Timestamp) -> Action {
    Action::RefuseChange(RefusedChange {
        version: Version1,
        applied: change.applied.clone(),
        rolled_back_at: now.round(Unit::Second).unwrap_or(now),
        reason,
    })
}

fn roll_back(
    desired: &Desired,
    change: &Change,
    (found, digest): (&Manifest, &Digest),
    node: &NodeFacts,
    missing: String,
    now: Timestamp,
    plan: &mut Plan,
) {
    let path = desired.manifest.display();
    match &node.last_good_manifest {
        Probe::Present(last_good) => {
            plan.needs_a_person.push(format!("change {} failed: {missing}; the previous {path} is put back", change.applied));
            plan.actions.extend([
                refusal(change, missing, now),
                Action::ReplaceManifest {
                    path: desired.manifest.clone(),
                    text: last_good.clone(),
                    old_text: found.text().to_owned(),
                    expected: ExpectedFile::Unchanged(digest.clone()),
                },
                Action::ForgetChange,
            ]);
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
