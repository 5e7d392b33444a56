//! The built-in webhook: registered once every API server has one beside it.

use std::fmt;

use jiff::Timestamp;

use super::{Look, NEWCOMER, consequence, remove};
use crate::model::{
    cluster_object::ObjectPlace,
    plan::{Action, Desired, Plan, SharedFacts, WAITING_INTERVAL, ack},
    probe::Probe,
    rotation::{Ack, required},
    webhook::{DesiredWebhook, STARTING, built_in, built_in_place, called_at, has_additions, is_as_wanted},
};

/// An API server whose node has no webhook that is ready.
struct Missing {
    node: String,
    why: String,
    /// It will come by itself, as far as is known.
    comes_by_itself: bool,
    /// It is ready, but configured for another port.
    is_elsewhere: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.node, self.why)
    }
}

impl Look<'_> {
    /// Whether the built-in webhook is registered as it is to be, and this node's kube-apiserver can call it.
    pub(super) fn built_in(&self, plan: &mut Plan) -> bool {
        if let Some(why) = self.shared.control_plane.unknown() {
            plan.wait(why, WAITING_INTERVAL);
            return false;
        }
        let missing = missing(self.desired, self.shared, self.now);
        match &self.webhook.built_in {
            Probe::Unknown(why) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                false
            }
            Probe::Absent if missing.is_empty() => {
                let names = servers(self.shared).join(", ");
                plan.actions.push(Action::ApplyObject {
                    object: Box::new(built_in(&self.desired.webhook, &self.certificates())),
                    replaces: None,
                    what: format!("register the pod-identity webhook of {names}"),
                });
                false
            }
            Probe::Absent => {
                let names = missing.iter().map(ToString::to_string);
                plan.wait(
                    format!(
                        "for a pod-identity webhook beside every kube-apiserver before it is registered; there is none on {}",
                        names.collect::<Vec<_>>().join(", ")
                    ),
                    WAITING_INTERVAL,
                );
                false
            }
            Probe::Present(stored) if !stored.is_ours() => {
                plan.needs_a_person.push(foreign(&built_in_place()));
                false
            }
            Probe::Present(stored) => {
                let port = self.port(called_at(stored));
                self.say(missing, port, plan);
                self.keep(port, plan) && matches!(self.webhook.call, Some(Ok(())))
            }
        }
    }

    /// The port that API servers are to call: the one of before as long as a node is configured for another one than this.
    fn port(&self, before: Option<u16>) -> u16 {
        let (servers, wanted) = (servers(self.shared), self.desired.webhook.port);
        let is_elsewhere = |ack: &Ack| ack.webhook.as_ref().is_some_and(|state| state.port != wanted);
        let mut acks = self.shared.acks.iter().filter(|ack| servers.contains(&ack.node) && is_fresh(ack, self.now));
        let stays = acks.any(is_elsewhere);
        before.filter(|_| stays).unwrap_or(wanted)
    }

    /// Mends what differs from what is wanted; whether nothing did.
    fn keep(&self, port: u16, plan: &mut Plan) -> bool {
        let certificates = self.certificates();
        let Some(stored) = self.webhook.built_in.present() else { return false };
        // Without any report there is nothing to trust: a registration that trusts nobody would be worse than the one that is there.
        if certificates.is_empty() {
            return false;
        }
        let wanted = built_in(&DesiredWebhook { port, ..self.desired.webhook.clone() }, &certificates);
        if is_as_wanted(stored, &wanted) {
            return true;
        }
        let what = "bring the registration of the pod-identity webhook up to date".to_owned();
        plan.actions.push(match has_additions(stored, &wanted) {
            true => Action::ReplaceObject {
                place: wanted.place().clone(),
                body: Box::new(stored.with_content_of(&wanted)),
                what,
            },
            false => Action::ApplyObject { object: Box::new(wanted), replaces: Some(stored.uid().to_owned()), what },
        });
        false
    }

    /// Removes the registration, where it is ours.
    pub(super) fn remove_built_in(&self, plan: &mut Plan) {
        remove(&built_in_place(), &self.webhook.built_in, plan);
    }

    /// API servers that have no webhook to call although they are told to call `port`, where every daemon serves, whatever port it is
    /// configured for.
    fn say(&self, missing: Vec<Missing>, port: u16, plan: &mut Plan) {
        let (elsewhere, missing): (Vec<_>, Vec<_>) = missing.into_iter().partition(|missing| missing.is_elsewhere);
        if !elsewhere.is_empty() {
            let names = elsewhere.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            plan.wait(
                format!("for one webhook.port on every node: {names}; until then kube-apiserver calls port {port}, and each node serves it"),
                WAITING_INTERVAL,
            );
        }
        for Missing { node, why, comes_by_itself, .. } in missing {
            let consequence = consequence(self.desired.webhook.failure_policy);
            let text = format!(
                "kube-apiserver of {node} has no pod-identity webhook to call ({why}): {consequence}; the registration stays for the \
                 other nodes"
            );
            match comes_by_itself {
                true => plan.wait(text, WAITING_INTERVAL),
                false => plan.needs_a_person.push(text),
            }
        }
    }

    /// Certificates of all nodes, in an order that stays. One that is silent may only be restarting.
    fn certificates(&self) -> Vec<String> {
        let servers = servers(self.shared);
        let mut acks: Vec<&Ack> = self.shared.acks.iter().filter(|ack| servers.contains(&ack.node)).collect();
        acks.sort_by(|one, other| one.node.cmp(&other.node));
        let mut certificates: Vec<String> = Vec::new();
        for certificate in acks.into_iter().filter_map(|ack| ack.webhook.as_ref()).flat_map(|state| &state.certificates)
        {
            if !certificates.contains(certificate) {
                certificates.push(certificate.clone());
            }
        }
        certificates
    }
}

/// API servers without a webhook beside them that can be called, each with the reason, as `irsad verify` says them.
pub fn webhooks_missing(desired: &Desired, shared: &SharedFacts, now: Timestamp) -> Vec<String> {
    missing(desired, shared, now).iter().map(ToString::to_string).collect()
}

fn missing(desired: &Desired, shared: &SharedFacts, now: Timestamp) -> Vec<Missing> {
    let why = |node: String| {
        let ack = shared.acks.iter().find(|ack| ack.node == node);
        let why = why_not(desired.webhook.port, ack, now)?;
        let state = ack.filter(|ack| is_fresh(ack, now)).and_then(|ack| ack.webhook.as_ref());
        let is_elsewhere = state.is_some_and(|state| why_not(state.port, ack, now).is_none());
        Some(Missing { comes_by_itself: why == STARTING || is_new(shared, &node, now), is_elsewhere, why, node })
    };
    servers(shared).into_iter().filter_map(why).collect()
}

/// Every API server, by the name of its node.
fn servers(shared: &SharedFacts) -> Vec<String> {
    let control_plane = shared.control_plane.present().cloned().unwrap_or_default();
    let mut names = required(&control_plane, &shared.acks);
    names.sort();
    names
}

/// Whether a node has reported lately.
fn is_fresh(ack: &Ack, now: Timestamp) -> bool {
    now.duration_since(ack.at) < ack::EXPIRY
}

/// Why the webhook of a node cannot be called at `port`; `None` where it can.
fn why_not(port: u16, ack: Option<&Ack>, now: Timestamp) -> Option<String> {
    let Some(ack) = ack else { return Some("irsad has not reported from there; install and start it".to_owned()) };
    if !is_fresh(ack, now) {
        let minutes = now.duration_since(ack.at).as_secs() / 60;
        return Some(format!("irsad has not reported from there for {minutes} min; systemctl status irsad there"));
    }
    match &ack.webhook {
        None => Some("its irsad serves none; the daemon is to run there, with webhook.mode builtIn".to_owned()),
        Some(state) if state.is_ready_at(port) => None,
        Some(state) => Some(match &state.problem {
            Some(problem) => problem.clone(),
            None if state.port != port => {
                format!(
                    "it listens on port {} and not on {port}; webhook.port is to be the same on every node",
                    state.port
                )
            }
            None => "it has no certificate yet".to_owned(),
        }),
    }
}

/// Whether a node has only just joined.
fn is_new(shared: &SharedFacts, node: &str, now: Timestamp) -> bool {
    let members = shared.keyring.present().map(|stored| stored.keyring.members.as_slice()).unwrap_or_default();
    let since = members.iter().find(|member| member.node == node).map(|member| member.since);
    since.is_none_or(|since| now.duration_since(since) < NEWCOMER)
}

/// An object of somebody else under our name.
pub(super) fn foreign(place: &ObjectPlace) -> String {
    format!(
        "{place} was made by somebody else (left as it is): it lacks the label app.kubernetes.io/managed-by: irsad; delete it, or set \
         webhook.mode: none"
    )
}
