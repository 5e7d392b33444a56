//! The key files of this node: a pair that belongs together, or what stands in the way of one.

use super::{Action, ApiServer, Desired, KeyKeeping, NodeFacts, Plan, StoredDocument, WAITING_INTERVAL};
use crate::model::{
    key::{PublicKey, verification_pem},
    probe::Probe,
};

/// The keys on this node's disk, known to belong together.
pub(super) struct Keys<'a> {
    /// The signing key's public half.
    pub signing: &'a PublicKey,
    /// Keys that the files accept, the signing one among them.
    pub verifying: &'a [PublicKey],
}

pub(super) fn prepare(desired: &Desired, node: &NodeFacts, plan: &mut Plan) {
    plan_keys(desired, &NodeFacts { published_keys: Probe::Absent, ..node.clone() }, &Probe::Absent, plan);
}

/// The keys of the key files, or what stands in the way of having them.
pub(super) fn plan_keys<'a>(
    desired: &Desired,
    node: &'a NodeFacts,
    published: &Probe<StoredDocument>,
    plan: &mut Plan,
) -> Option<Keys<'a>> {
    let (private, public) = (desired.signing_key.display(), desired.verifying_keys.display());
    let before = plan.needs_a_person.len();
    for file in [node.signing_key.unknown(), node.verifying_keys.unknown()].into_iter().flatten() {
        plan.needs_a_person.push(file.to_owned());
    }
    if plan.needs_a_person.len() > before {
        return None;
    }
    let nothing_runs = node.api_server == ApiServer::None;
    match (node.signing_key.present(), node.verifying_keys.present()) {
        (Some(signing), Some(verifying)) if verifying.iter().any(|key| key.kid() == signing.kid()) => {
            return Some(Keys { signing, verifying });
        }
        (Some(signing), Some(_)) => plan.needs_a_person.push(format!(
            "{private} and {public} do not belong together: key {} of {private} is not among the keys of {public}, so tokens it signs \
             would be refused (nothing written); put the pair back that belongs together",
            signing.kid()
        )),
        (None, None) if desired.keys == KeyKeeping::Follow => {
            plan.wait(format!("{private} and {public}: apiServer.keys is follow and nobody has written them yet"), WAITING_INTERVAL);
        }
        (None, None) if nothing_runs && !node.had_keys() => make_keys(desired, node, published, plan),
        (None, None) if nothing_runs => plan.wait(
            format!(
                "{private} and {public}: this node had keys and has none now, as after kubeadm reset; kubeadm join brings them, \
                 irsad prepare makes new ones for a new cluster"
            ),
            WAITING_INTERVAL,
        ),
        (Some(signing), None) if nothing_runs && !node.had_keys() && desired.keys == KeyKeeping::Manage => {
            let keys: Vec<PublicKey> = [Some(signing), node.standby_key.present()].into_iter().flatten().cloned().collect();
            plan.actions.push(Action::WriteVerifyingKeys {
                path: desired.verifying_keys.clone(),
                pem: verification_pem(&keys),
            });
        }
        (signing, _) => plan.needs_a_person.push(format!(
            "{} is missing although this node has used it (nothing written); put it back before kube-apiserver starts again, a copy may \
             be in /var/lib/irsad/last-good",
            if signing.is_none() { &private } else { &public }
        )),
    }
    None
}

/// A key of ours where the cluster has none: not beside kubeadm, which makes one too, and not where one is published already.
fn make_keys(desired: &Desired, node: &NodeFacts, published: &Probe<StoredDocument>, plan: &mut Plan) {
    match published {
        _ if node.kubeadm_runs => plan.wait("for kubeadm to finish, before a key is made", WAITING_INTERVAL),
        Probe::Unknown(why) => plan.wait(why.clone(), WAITING_INTERVAL),
        Probe::Present(_) => plan.wait(
            format!(
                "{} holds keys already, so this cluster has some: kubeadm join brings them to this node; irsad prepare makes new ones \
                 for a new cluster",
                desired.store
            ),
            WAITING_INTERVAL,
        ),
        Probe::Absent => plan.actions.push(Action::MakeKeyPair {
            signing_key: desired.signing_key.clone(),
            verifying_keys: desired.verifying_keys.clone(),
        }),
    }
}
