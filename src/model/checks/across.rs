//! What must hold across the control-plane nodes, so that a token of any API server is accepted by every other one.

use jiff::{SignedDuration, Timestamp};

use super::{Check, Outcome};
use crate::model::{
    keyring::{KeyState, Keyring, KeyringKey},
    outlook::next_step,
    probe::Probe,
    report::keyring_report,
    rotation::{Ack, ControlPlane, Held, Policy, restart_reasons},
};

/// Older evidence may be of an API server that has been restarted since.
const OLDEST_EVIDENCE: SignedDuration = SignedDuration::from_hours(2);
/// What is due happens sooner, unless something is in its way.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_hours(24);

/// What is known of all nodes.
#[derive(Debug, Clone, Copy)]
pub struct Across<'a> {
    /// The newest keyring.
    pub keyring: &'a Keyring,
    /// The evidence of each node that has given any.
    pub acks: &'a [Ack],
    /// The control plane as one API server lists it.
    pub control_plane: &'a Probe<ControlPlane>,
    /// Other API servers that do not answer as ready ones, with the reason.
    pub not_ready: &'a [String],
    /// Keys that something outside of our clocks still needs.
    pub held: &'a Probe<Vec<Held>>,
    /// `--service-account-issuer` of ConfigMap `kube-system/kubeadm-config`, in order; Absent where kubeadm has no part in the
    /// cluster.
    pub kubeadm_issuers: &'a Probe<Vec<String>>,
}

/// Every check that takes more than one node.
pub fn across(seen: Across<'_>, policy: &Policy, now: Timestamp) -> Vec<Check> {
    let check = |statement: &str, outcome| Check { statement: statement.to_owned(), outcome };
    if seen.acks.is_empty() {
        let why = "no irsad has reported from a kube-apiserver that runs yet".to_owned();
        return vec![check("every kube-apiserver accepts what every other one signs", Outcome::Skipped(why))];
    }
    let mut checks = vec![
        check("irsad reports from every control-plane node", every_node_reports(seen)),
        check("every report is younger than 2 h", reports_are_young(seen, now)),
        check("every other kube-apiserver is ready", none(seen.not_ready.to_vec(), "see /readyz?verbose there")),
        check(&format!("every kube-apiserver signs as {}", policy.issuer), signs_as_ours(seen, policy)),
        check("every kube-apiserver signs with a published key", signs_with_a_published_key(seen)),
        check("every kube-apiserver accepts the keys and issuers of every other one", accepts_all(seen)),
        check("every kube-apiserver is as the keyring wants it", follows(seen, policy, now)),
        check("kubeadm-config has the issuers of the keyring, in order", kubeadm(seen)),
        check("no key is overdue", overdue(seen, policy, now)),
    ];
    checks.extend(held(seen, policy, now));
    checks
}

/// Holds where nothing was found.
fn none(found: Vec<String>, cure: &str) -> Outcome {
    match found.is_empty() {
        true => Outcome::Holds,
        false => Outcome::Fails(format!("{}; {cure}", found.join(", "))),
    }
}

/// What `wrong` says of the evidence of each member; one without evidence is another check's.
fn of_members(seen: Across<'_>, wrong: impl Fn(&Ack) -> Option<String>) -> Vec<String> {
    let acks = seen.keyring.members.iter().filter_map(|member| seen.acks.iter().find(|ack| ack.node == member.node));
    acks.filter_map(|ack| wrong(ack).map(|why| format!("{} {why}", ack.node))).collect()
}

fn every_node_reports(seen: Across<'_>) -> Outcome {
    let control_plane = match seen.control_plane {
        Probe::Unknown(why) => return Outcome::Unknown(why.clone()),
        Probe::Absent => &ControlPlane::default(),
        Probe::Present(control_plane) => control_plane,
    };
    let members = seen.keyring.members.iter().map(|member| member.node.as_str());
    let listed = control_plane.nodes.iter().map(|node| node.name.as_str());
    let registered = control_plane.api_servers.iter().map(|address| {
        let reporting = seen.acks.iter().find(|ack| ack.address == *address).map(|ack| ack.node.as_str());
        control_plane.node_at(address).or(reporting).unwrap_or(address)
    });
    let mut silent: Vec<String> = members
        .chain(listed)
        .chain(registered)
        .filter(|name| seen.acks.iter().all(|ack| ack.node != *name))
        .map(str::to_owned)
        .collect();
    silent.sort();
    silent.dedup();
    none(silent, "install and start irsad there; no key is put to use before every node reports")
}

fn reports_are_young(seen: Across<'_>, now: Timestamp) -> Outcome {
    let old = of_members(seen, |ack| {
        let age = now.duration_since(ack.at);
        (age > OLDEST_EVIDENCE).then(|| format!("reported {} min ago", age.as_secs() / 60))
    });
    none(old, "systemctl status irsad there")
}

fn signs_as_ours(seen: Across<'_>, policy: &Policy) -> Outcome {
    let others = of_members(seen, |ack| match ack.issuers.first() {
        Some(issuer) if *issuer == policy.issuer => None,
        Some(issuer) => Some(format!("signs as {issuer}")),
        None => Some("names no issuer".to_owned()),
    });
    none(others, "irsad status says what the adoption waits for")
}

fn signs_with_a_published_key(seen: Across<'_>) -> Outcome {
    let is_published = |key: &KeyringKey| key.state.is_published() && key.published_at.is_some();
    let wrong = of_members(seen, |ack| match seen.keyring.key(&ack.signing_kid) {
        Some(key) if is_published(key) => None,
        Some(_) => Some(format!("signs with {}, which no outsider has seen", ack.signing_kid)),
        None => Some(format!("signs with {}, which the keyring does not have", ack.signing_kid)),
    });
    none(wrong, "outsiders refuse its tokens; irsad status there says what it waits for")
}

/// The standby signs nothing yet: a node that has not been restarted since it was made need not accept it.
fn accepts_all(seen: Across<'_>) -> Outcome {
    let wanted = seen.keyring.accepted().filter(|key| key.state != KeyState::Standby).map(|key| key.kid.as_str());
    let mut kids: Vec<&str> = wanted.chain(seen.acks.iter().map(|ack| ack.signing_kid.as_str())).collect();
    let signed_as = seen.acks.iter().filter_map(|ack| ack.issuers.first());
    let mut issuers: Vec<&str> = seen.keyring.issuers.iter().chain(signed_as).map(String::as_str).collect();
    for list in [&mut kids, &mut issuers] {
        list.sort_unstable();
        list.dedup();
    }
    let refused = of_members(seen, |ack| {
        let keys = kids.iter().filter(|kid| !ack.served.iter().any(|served| served == **kid));
        let others = issuers.iter().filter(|issuer| !ack.issuers.iter().any(|known| known == **issuer));
        let lacking: Vec<String> =
            keys.map(|kid| format!("key {kid}")).chain(others.map(|issuer| format!("issuer {issuer}"))).collect();
        (!lacking.is_empty()).then(|| format!("does not accept {}", lacking.join(" and ")))
    });
    none(refused, "its turn comes by itself where the rollout goes on; irsad status says whether it does")
}

/// What a rollout that goes on has not come to yet is no failure.
fn follows(seen: Across<'_>, policy: &Policy, now: Timestamp) -> Outcome {
    let behind = of_members(seen, |ack| {
        let reasons = restart_reasons(seen.keyring, ack);
        (!reasons.is_empty()).then(|| format!("is to {}", reasons.join(" and ")))
    });
    match keyring_report("", seen.keyring, seen.acks, policy, now).rollout {
        Some(rollout) => match rollout.how_to_go_on {
            Some(how) => Outcome::Fails(format!("{}: {}; {how}", rollout.holder, rollout.why)),
            None => Outcome::Skipped(format!("{} is being changed: {}", rollout.holder, rollout.why)),
        },
        None => none(behind, "irsad status there says what it waits for"),
    }
}

fn kubeadm(seen: Across<'_>) -> Outcome {
    let wanted = &seen.keyring.issuers;
    match seen.kubeadm_issuers {
        Probe::Absent => Outcome::Skipped("this cluster has none".to_owned()),
        Probe::Unknown(why) => Outcome::Unknown(why.clone()),
        // An issuer that only kubeadm knows of stays, behind ours.
        Probe::Present(found) if found.starts_with(wanted) => Outcome::Holds,
        Probe::Present(found) => Outcome::Fails(format!(
            "it has {}, the keyring {}: a node that joins, and kubeadm upgrade, take it from there; the leader writes it, irsad status there \
             says what it waits for",
            if found.is_empty() { "none".to_owned() } else { found.join(", ") },
            wanted.join(", ")
        )),
    }
}

fn overdue(seen: Across<'_>, policy: &Policy, now: Timestamp) -> Outcome {
    let is_late = |key: &KeyringKey, at: Option<Timestamp>| match (key.state, at) {
        // Not before every node has proven that it signs with another key: no clock says when.
        (KeyState::Draining, None) => now.duration_since(key.since) > LONGEST_DELAY,
        // What still needs it is a check of its own.
        (KeyState::VerifyOnly, _) | (_, None) => false,
        (_, Some(at)) => now.duration_since(at) > LONGEST_DELAY,
    };
    let late = seen.keyring.keys.iter().filter_map(|key| {
        let step = next_step(seen.keyring, key, policy, now)?;
        is_late(key, step.at).then(|| format!("key {} {}", key.kid, step.what))
    });
    none(late.collect(), "irsad status of the leader says what it waits for")
}

/// A check for each key that something still needs although nothing signs with it any more.
fn held(seen: Across<'_>, policy: &Policy, now: Timestamp) -> Vec<Check> {
    let held = match seen.held {
        Probe::Absent => return Vec::new(),
        Probe::Unknown(why) => {
            let statement = "nothing needs a key that no kube-apiserver signs with".to_owned();
            return vec![Check { statement, outcome: Outcome::Unknown(why.clone()) }];
        }
        Probe::Present(held) => held,
    };
    let check = |held: &Held| {
        let key = seen.keyring.key(&held.kid)?;
        let outcome = match key.state {
            KeyState::Standby | KeyState::Signing | KeyState::Draining => return None,
            KeyState::VerifyOnly if !is_due(seen, key, policy, now) => {
                Outcome::Skipped(format!("{}; it stays accepted anyway", held.why))
            }
            KeyState::VerifyOnly => {
                Outcome::Fails(format!("{}; its time is over, and it stays accepted until then", held.why))
            }
            KeyState::Retired | KeyState::Revoked => {
                Outcome::Fails(format!("{}; that is refused, as the key is {}", held.why, key.state))
            }
        };
        Some(Check { statement: format!("nothing needs key {} any more", held.kid), outcome })
    };
    held.iter().filter_map(check).collect()
}

fn is_due(seen: Across<'_>, key: &KeyringKey, policy: &Policy, now: Timestamp) -> bool {
    next_step(seen.keyring, key, policy, now).and_then(|step| step.at).is_some_and(|at| at <= now)
}

#[cfg(test)]
mod tests;
