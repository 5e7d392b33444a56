//! What the other nodes ask of this one, before its API server is changed.

use super::{Ack, Follower, restart_reasons};

impl Follower<'_> {
    /// Why nothing may restart to sign otherwise than now: not one of the other members has shown that it accepts what would be signed, and
    /// this API server never has. A keyring that was begun before a node joined a control plane that does not follow it is such a one.
    pub(super) fn would_be_refused(&self, own: &Ack) -> Option<String> {
        let keyring = self.followed.keyring();
        let (key, issuer) = (keyring.signing()?, keyring.issuers.first()?);
        let signs_so_already = own.signing_kid == key.kid && own.issuers.first() == Some(issuer);
        // Where manifests or key files were put back everywhere, the nodes shall not wait for one another.
        let proven = self.node().proven.present();
        let has_accepted =
            proven.is_some_and(|proven| proven.kids.contains(&key.kid) && proven.issuers.contains(issuer));
        let others: Vec<&str> =
            keyring.members.iter().map(|member| member.node.as_str()).filter(|node| *node != own.node).collect();
        let accepts = |ack: &&Ack| ack.served.contains(&key.kid) && ack.issuers.contains(issuer);
        let is_accepted =
            self.followed.shared.acks.iter().filter(accepts).any(|ack| others.contains(&ack.node.as_str()));
        (!signs_so_already && !has_accepted && !others.is_empty() && !is_accepted).then(|| {
            format!(
                "for kube-apiserver of {} to show that it accepts issuer {issuer} and key {}, before this one signs so: install irsad \
                 there; where it has irsad, and the key that signs now signs for the keyring too, add the issuer there by hand, as the last \
                 --service-account-issuer",
                others.join(", "),
                key.kid
            )
        })
    }

    /// While this node has a leading controller: the others that have to be changed and have none, so that the lease moves once.
    pub(super) fn nodes_to_go_first(&self, own: &Ack) -> Vec<String> {
        let (keyring, shared) = (self.followed.keyring(), self.followed.shared);
        let leads = |node: &String| shared.controllers.contains(node);
        if !leads(&own.node) || keyring.rollout.is_some() {
            return Vec::new();
        }
        let behind = shared
            .acks
            .iter()
            .filter(|ack| ack.node != own.node && !leads(&ack.node) && !restart_reasons(keyring, ack).is_empty());
        behind.map(|ack| ack.node.clone()).collect()
    }
}
