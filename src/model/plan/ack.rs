//! What this node tells the others of its API server.

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    memory::Version1,
    rotation::{Ack, AckKey},
};

use super::{Action, ApiServer, Evidence, Facts, NodeFacts, Plan, SharedFacts, WAITING_INTERVAL, webhook};

/// Evidence is told anew after so long, also where it is the same: a node that is silent for longer has a trouble of its own.
const RENEWAL: SignedDuration = SignedDuration::from_hours(1);
/// Evidence that is older is none: the machine may have had another life since.
pub(super) const EXPIRY: SignedDuration = SignedDuration::from_hours(2);
/// Start of a process and time of a file are in whole seconds of one clock.
const ROUNDING: SignedDuration = SignedDuration::from_secs(1);

/// What the running process and the files show now; `None` where that is not certain.
pub(super) fn own(facts: &Facts, shared: &SharedFacts, now: Timestamp) -> Option<Ack> {
    let known = shared.acks.iter().find(|ack| ack.node == shared.node && ack.machine == shared.machine);
    Some(Ack { webhook: webhook::own(facts, known), ..shown(facts, shared, known, now)? })
}

fn shown(facts: &Facts, shared: &SharedFacts, known: Option<&Ack>, now: Timestamp) -> Option<Ack> {
    let node = &facts.node;
    let ApiServer::Seen(evidence) = &node.api_server else { return None };
    if !evidence.ready || node.change.present().is_some() {
        return None;
    }
    match (evidence.started_at, evidence.probe_token.present()) {
        (Some(started_at), Some(_)) => {
            let ack = read(node, shared, evidence, started_at, now)?;
            Some(match known {
                // The process tells its start a little differently each time the clock is set.
                Some(known) if (known.process_started_at.duration_since(started_at)).abs() <= ROUNDING => {
                    Ack { process_started_at: known.process_started_at, ..ack }
                }
                Some(_) | None => ack,
            })
        }
        // An idle look asks for less: what it shows must be what was told.
        _ => known.filter(|ack| is_still_so(ack, node, evidence)).cloned(),
    }
}

fn read(
    node: &NodeFacts,
    shared: &SharedFacts,
    evidence: &Evidence,
    started_at: Timestamp,
    now: Timestamp,
) -> Option<Ack> {
    let (manifest, digest) = node.manifest.present()?;
    let token = evidence.probe_token.present()?;
    let file = node.signing_file.as_ref()?;
    // Flags of a file that is newer than the process are not the flags of the process.
    let is_proven = node.proven.present().is_some_and(|proven| proven.manifest_digest == digest.to_string());
    if !is_proven && node.manifest_modified? > started_at.checked_add(ROUNDING).ok()? {
        return None;
    }
    if manifest.issuers().first() != Some(&token.issuer) {
        return None;
    }
    let keys = node.verifying_keys.present()?.iter();
    Some(Ack {
        version: Version1,
        node: shared.node.clone(),
        machine: shared.machine.clone(),
        address: shared.address.clone(),
        at: now,
        generation: newest_generation(shared),
        served: evidence.served.kids().map(str::to_owned).collect(),
        signing_kid: token.kid.clone(),
        issuers: manifest.issuers().to_vec(),
        key_on_disk: node.signing_key.present()?.kid().to_string(),
        key_on_disk_since: file.modified,
        keys: keys.map(|key| AckKey { kid: key.kid().to_string(), public_key: key.to_pem() }).collect(),
        process_started_at: started_at,
        boot_id: shared.boot_id.clone(),
        failure: node.refused.present().map(|refused| refused.reason.clone()),
        webhook: None,
    })
}

fn is_still_so(ack: &Ack, node: &NodeFacts, evidence: &Evidence) -> bool {
    let serves_the_same = ack.served.iter().map(String::as_str).eq(evidence.served.kids());
    let keys =
        node.verifying_keys.present().map(|keys| keys.iter().map(|key| key.kid().to_string()).collect::<Vec<_>>());
    serves_the_same
        && ack.issuers.first() == evidence.issuer.as_ref()
        && node.signing_key.present().is_some_and(|key| key.kid().as_str() == ack.key_on_disk)
        && keys.is_some_and(|keys| ack.keys.iter().map(|key| &key.kid).eq(keys.iter()))
}

/// Tells it where the others do not know it yet.
pub(super) fn tell(shared: &SharedFacts, own: Option<&Ack>, now: Timestamp, plan: &mut Plan) {
    let Some(own) = own else {
        // Evidence takes a full look.
        if shared.own_version.is_none() {
            plan.look_closer = true;
            plan.next_check = plan.next_check.min(WAITING_INTERVAL);
        }
        return;
    };
    let told = shared.acks.iter().find(|ack| ack.node == own.node);
    let generation = newest_generation(shared);
    let is_told = told.is_some_and(|told| {
        told.says_the_same(own) && told.generation == generation && now.duration_since(told.at) < RENEWAL
    });
    if !is_told {
        let ack = Box::new(Ack { generation, at: now, ..own.clone() });
        plan.actions.push(Action::Acknowledge { ack, replaces: shared.own_version.clone() });
    }
}

/// The newest keyring that this node knows of. After a restore of etcd that is the one it remembers: whoever rebuilds the keyring has
/// to know which node remembers most.
fn newest_generation(shared: &SharedFacts) -> u64 {
    let stored = shared.keyring.present().map_or(0, |stored| stored.keyring.generation);
    stored.max(shared.applied.present().map_or(0, |mark| mark.generation))
}

/// Whether the others know what this node shows.
pub(super) fn is_told(shared: &SharedFacts, own: &Ack) -> bool {
    shared.acks.iter().any(|told| told.node == own.node && told.says_the_same(own))
}
