//! The ConfigMap with the trust policy of this cluster.

use super::Closeness;
use crate::{
    model::{
        plan::{ApiServer, Desired, NodeFacts, Shared, TrustPolicyFacts},
        trust_policy::boilerplate_place,
    },
    world::World,
};

/// Asked for at full looks only, by the leader, once AWS has said in which account the provider is.
pub(super) async fn observe_trust_policy(
    world: &mut World,
    desired: &Desired,
    node: &NodeFacts,
    shared: &Shared,
    closeness: Closeness,
) -> Option<TrustPolicyFacts> {
    let leads = matches!(shared, Shared::Seen(shared) if shared.leads);
    let is_ready = matches!(&node.api_server, ApiServer::Seen(evidence) if evidence.ready);
    if !leads || !is_ready || desired.provider.is_none() {
        world.trust_policy = None;
        return None;
    }
    let provider_arn = world.known_aws()?.provider_arn.clone();
    let known = world.trust_policy.clone().filter(|_| closeness == Closeness::Idle);
    let stored = match known {
        Some(stored) => stored,
        None => world.asked_api_server()?.object(&boilerplate_place()).await,
    };
    world.trust_policy = Some(stored.clone());
    Some(TrustPolicyFacts { provider_arn, stored })
}
