//! `kube-system/kubeadm-config`: from it `kubeadm upgrade` and `kubeadm join` write manifests, so our flags have to stand there too.
//!
//! Written only after an API server has proven the flags: a joining node must not sign as an issuer that nobody accepts yet.

use super::{Action, Desired, NodeFacts, Plan, restore::joined};
use crate::model::{
    kubeadm::{ISSUER, KubeadmConfig, api_server_arguments, cannot_hold},
    manifest::Manifest,
    probe::{Probe, sentence},
};

/// What `kubeadm upgrade` and `kubeadm join` work from.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredKubeadmConfig {
    /// The ClusterConfiguration.
    pub config: KubeadmConfig,
    /// `resourceVersion` of the ConfigMap, for a conditional write.
    pub resource_version: String,
}

/// Puts what runs into kubeadm's configuration once it is proven, and says so while kubeadm would undo it.
pub(super) fn persist(desired: &Desired, found: &Manifest, node: &NodeFacts, is_proven: bool, plan: &mut Plan) {
    let Probe::Present(stored) = &node.kubeadm_config else { return };
    let wanted = wanted(desired, found, &stored.config);
    if !desired.kubeadm_config || holds(&stored.config, &wanted) {
        return;
    }
    let issuers = &wanted[0].1;
    let hindrance = several(node).or_else(|| cannot_hold(&stored.config, issuers));
    if let Some(why) = hindrance {
        return plan.notices.push(would_undo(desired, &why));
    }
    match stored.config.with_api_server_args(&wanted) {
        Err(error) => plan.notices.push(would_undo(desired, &sentence(&error))),
        Ok(_) if !is_proven => {}
        Ok(edited) => plan.actions.push(Action::PersistToKubeadm {
            text: edited.text().to_owned(),
            resource_version: stored.resource_version.clone(),
        }),
    }
}

fn would_undo(desired: &Desired, why: &str) -> String {
    format!(
        "kubeadm upgrade and kubeadm join would write manifests without issuer {}, whose tokens are then refused: {why} (README, \
         \"kubeadm upgrade\")",
        desired.issuer
    )
}

/// What one API server has proven is nothing that another one accepts.
fn several(node: &NodeFacts) -> Option<String> {
    match &node.api_servers {
        Probe::Present(servers) if servers.len() > 1 => Some(
            "with several API servers this version leaves ConfigMap kube-system/kubeadm-config to you, put it into \
             apiServer.extraArgs there"
                .to_owned(),
        ),
        Probe::Present(_) | Probe::Absent => None,
        Probe::Unknown(why) => Some(why.clone()),
    }
}

/// The arguments as the API server runs with them; an issuer or audience that only kubeadm knows of stays.
fn wanted(desired: &Desired, found: &Manifest, config: &KubeadmConfig) -> Vec<(&'static str, Vec<String>)> {
    let standing: Vec<String> = config.api_server_arg(ISSUER).into_iter().map(str::to_owned).collect();
    let audiences = desired.api_audiences.as_ref().and(found.api_audiences());
    api_server_arguments(joined(found.issuers(), &standing), desired.jwks_uri(), audiences)
}

fn holds(config: &KubeadmConfig, wanted: &[(&str, Vec<String>)]) -> bool {
    wanted.iter().all(|(name, values)| config.api_server_arg(name) == *values)
}
