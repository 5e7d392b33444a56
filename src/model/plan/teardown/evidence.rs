//! What has to be certain in the very pass that removes something: a clock alone is no proof that tokens of ours are over.

use super::Removal;
use crate::model::{
    plan::{Plan, WAITING_INTERVAL, ack},
    rotation::{self, Ack},
};

impl Removal<'_> {
    /// Whether something speaks against removing now. Who asked not to wait for tokens is asked for nothing more.
    pub(super) fn is_held_back(&self, plan: &mut Plan) -> bool {
        if self.teardown.at_once {
            return false;
        }
        if let Some(why) = self.facts.cluster.clock_differs(self.now) {
            plan.wait(format!("for this machine's clock, before more is removed: {why}"), WAITING_INTERVAL);
            return true;
        }
        let Some(behind) = self.behind() else {
            plan.look_closer = true;
            plan.wait("for a closer look at the control plane", WAITING_INTERVAL);
            return true;
        };
        if !behind.is_empty() {
            plan.wait(
                format!(
                    "for kube-apiserver of {} to prove that it signs as {}, before more is removed",
                    behind.join(", "),
                    self.teardown.issuer
                ),
                WAITING_INTERVAL,
            );
        }
        !behind.is_empty()
    }

    /// Nodes of the control plane without fresh evidence that they sign as the issuer of before; `None` where it could not be asked who
    /// they are.
    fn behind(&self) -> Option<Vec<String>> {
        let shared = self.followed.shared;
        let own = ack::own(self.facts, shared, self.now);
        let others = shared.acks.iter().filter(|ack| own.as_ref().is_none_or(|own| own.node != ack.node));
        let is_proof = |ack: &&Ack| {
            self.now.duration_since(ack.at) < ack::EXPIRY && ack.issuers.first() == Some(&self.teardown.issuer)
        };
        let proven: Vec<&Ack> = own.iter().chain(others).filter(is_proof).collect();
        let mut required = rotation::required(shared.control_plane.present()?, &shared.acks);
        for member in &self.followed.keyring().members {
            if !required.contains(&member.node) {
                required.push(member.node.clone());
            }
        }
        required.retain(|node| proven.iter().all(|ack| ack.node != *node));
        Some(required)
    }
}
