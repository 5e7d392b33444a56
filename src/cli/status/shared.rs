//! What `irsad status` says of all control-plane nodes.

use jiff::Timestamp;

use crate::model::{
    keyring::{Origin, Revoke},
    outlook::short,
    report::{EvidenceReport, KeyringReport, MemberReport, SharedKeyReport},
};

use super::{output, row};

/// Lines of the head: the keyring, what a person asked of it, and the API server that is being changed.
pub(super) fn rows(keyring: &KeyringReport, now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = vec![row("keyring", &format!("generation {} in {}", keyring.generation, keyring.store))];
    if let Some(since) = keyring.rotation_wanted_since {
        rows.push(row("rotation", &format!("another signing key is wanted since {}", output::since(since, now))));
    }
    if let Some(rollout) = &keyring.rollout {
        let since = output::since(rollout.since, now);
        rows.push(row("rollout", &format!("{} since {since}: {}", rollout.holder, rollout.why)));
        rows.extend(rollout.how_to_go_on.iter().map(|how| row("to go on", how)));
    }
    rows
}

/// A table of the nodes, and one of the keys.
pub(super) fn tables(keyring: &KeyringReport, now: Timestamp) -> String {
    let heading = ["NODE", "API SERVER", "SIGNS WITH", "SIGNS AS", "GENERATION", "STARTED", "REPORTED", "STILL TO"];
    let lines = keyring.members.iter().map(|of| member(of, now));
    let members: Vec<Vec<String>> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(lines).collect();
    let heading = ["KEY", "STATE", "SINCE", "PUBLISHED", "NEXT"];
    let lines = keyring.keys.iter().map(|of| key(of, now));
    let keys: Vec<Vec<String>> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(lines).collect();
    let failures = keyring.members.iter().filter_map(failure);
    let failures: String = failures.map(|failure| format!("{failure}\n")).collect();
    let members = if keyring.members.is_empty() { String::new() } else { format!("\n{}", output::columns(&members)) };
    format!("{members}{failures}\n{}", output::columns(&keys))
}

fn member(member: &MemberReport, now: Timestamp) -> Vec<String> {
    let Some(evidence) = &member.evidence else {
        let unknown = ["-"; 6].map(str::to_owned);
        let why = "report: irsad has never done so from there; install and start it".to_owned();
        return [member.node.clone()].into_iter().chain(unknown).chain([why]).collect();
    };
    vec![
        member.node.clone(),
        if evidence.address.is_empty() { "-".to_owned() } else { evidence.address.clone() },
        short(&evidence.signing_kid).to_owned(),
        evidence.issuers.first().cloned().unwrap_or_else(|| "-".to_owned()),
        evidence.generation.to_string(),
        output::ago(evidence.process_started_at, now),
        output::ago(evidence.reported_at, now),
        still_to(evidence),
    ]
}

fn still_to(evidence: &EvidenceReport) -> String {
    match evidence.still_to.as_slice() {
        [] if evidence.serves_all => "nothing, accepts every key".to_owned(),
        // The standby waits for a rotation, or for a restart that happens anyway.
        [] => "nothing yet; accepts the standby key from its next restart on".to_owned(),
        reasons => reasons.join(", "),
    }
}

fn failure(member: &MemberReport) -> Option<String> {
    let failure = member.evidence.as_ref()?.failure.as_ref()?;
    Some(format!("{}: its last change was taken back: {failure}", member.node))
}

fn key(key: &SharedKeyReport, now: Timestamp) -> Vec<String> {
    let origin = match key.origin {
        Origin::Made => "",
        Origin::Adopted => ", adopted",
    };
    let revoke = match key.revoke {
        None => "",
        Some(Revoke::Drain) => ", to be revoked when drained",
        Some(Revoke::Now) => ", to be revoked at once",
    };
    let published = match key.published_at {
        Some(at) if key.state.is_published() => output::ago(at, now),
        Some(_) => "no longer".to_owned(),
        None => "not seen yet".to_owned(),
    };
    vec![
        key.kid.clone(),
        format!("{}{origin}{revoke}", key.state),
        output::ago(key.since, now),
        published,
        next(key, now),
    ]
}

fn next(key: &SharedKeyReport, now: Timestamp) -> String {
    match &key.next {
        None => "nothing by itself".to_owned(),
        Some(next) => match next.at {
            Some(at) if at > now => format!("{}, in {}", next.what, output::duration(at.duration_since(now))),
            Some(at) => format!("{}, due {}", next.what, output::ago(at, now)),
            None => next.what.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::model::report::Report;

    #[test]
    fn status_shows_each_node_with_its_evidence_each_key_with_its_next_step_and_how_to_go_on() {
        let text = include_str!("../../../tests/fixtures/formats/status-v1.json");
        let report: Report = serde_json::from_str(text).expect("a report");
        let now = "2026-11-21T12:00:00Z".parse().expect("a time");
        let found = super::super::text(true, Some(&report), now);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/status-v1.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).expect("the file can be written");
        }
        assert_eq!(found, std::fs::read_to_string(&path).unwrap_or_default());
    }
}
