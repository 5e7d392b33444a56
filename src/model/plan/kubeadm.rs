//! `kube-system/kubeadm-config`: from it `kubeadm upgrade` and `kubeadm join` write manifests, so our flags have to stand there too.
//!
//! What the keyring lists stands there before the first API server runs with it: a node that joins meanwhile has to accept the issuer
//! that comes, and signs as the one that the others sign as. Without a keyring it is written when an API server has proven it.

use super::{Action, Desired, NodeFacts, Plan, SharedFacts, restore::joined};
use crate::model::{
    keyring::Keyring,
    kubeadm::{ISSUER, JWKS_URI, KubeadmConfig, api_server_arguments, cannot_hold},
    manifest::Manifest,
    probe::{Probe, sentence},
    rotation::issuer_to_sign,
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
    if !desired.kubeadm_config {
        return;
    }
    let wanted = wanted(desired, found, &stored.config);
    let write = put(desired.issuer.as_str(), stored, &wanted, several(node), plan);
    plan.actions.extend(write.filter(|_| is_proven));
}

/// Has `issuers` stand in kubeadm's configuration before or while API servers run with them. Whether it does, or cannot and that is
/// said; false where it is not known.
pub(super) fn assert(
    desired: &Desired,
    keyring: &Keyring,
    node: &NodeFacts,
    shared: &SharedFacts,
    plan: &mut Plan,
) -> bool {
    if !desired.kubeadm_config {
        return true;
    }
    let stored = match &node.kubeadm_config {
        Probe::Present(stored) => stored,
        Probe::Absent => return true,
        Probe::Unknown(_) => {
            // An idle look does not ask for it.
            plan.look_closer = true;
            return false;
        }
    };
    let standing: Vec<String> = stored.config.api_server_arg(ISSUER).into_iter().map(str::to_owned).collect();
    let issuers = joined(&keyring.issuers, &standing);
    let signs_as_us = issuers.first().is_some_and(|first| *first == desired.issuer.as_str());
    let audiences: Option<Vec<String>> =
        desired.api_audiences.as_ref().map(|audiences| audiences.iter().map(ToString::to_string).collect());
    let mut wanted = api_server_arguments(issuers, desired.jwks_uri(), audiences.as_deref());
    if !signs_as_us {
        wanted.retain(|(name, _)| *name == ISSUER);
        // The issuer of before has its own address for its keys, and not ours.
        if stored.config.api_server_arg(JWKS_URI) == [desired.jwks_uri()] {
            wanted.push((JWKS_URI, Vec::new()));
        }
    }
    let is_of_cluster_api = shared.control_plane.present().is_some_and(|seen| seen.is_of_cluster_api);
    // Every node that it makes takes its flags from there; on disk irsad puts them right before the API server starts.
    let by_cluster_api = is_of_cluster_api.then(|| {
        "Cluster API writes ConfigMap kube-system/kubeadm-config from KubeadmControlPlane, put the issuers into \
         spec.kubeadmConfigSpec.clusterConfiguration.apiServer.extraArgs there"
            .to_owned()
    });
    let signs = issuer_to_sign(keyring, desired.issuer.as_str());
    let write = put(signs, stored, &wanted, by_cluster_api, plan);
    plan.actions.extend(write);
    true
}

/// The write by which kubeadm's configuration holds `wanted`, the issuers first. `None` where it does, and where it cannot: that is
/// said, with the issuer that `signs`.
fn put(
    signs: &str,
    stored: &StoredKubeadmConfig,
    wanted: &[(&'static str, Vec<String>)],
    hindrance: Option<String>,
    plan: &mut Plan,
) -> Option<Action> {
    if holds(&stored.config, wanted) {
        return None;
    }
    let hindrance = hindrance.or_else(|| cannot_hold(&stored.config, &wanted[0].1));
    let edited = match hindrance {
        Some(why) => Err(why),
        None => stored.config.with_api_server_args(wanted).map_err(|error| sentence(&error)),
    };
    match edited {
        Ok(edited) => Some(Action::PersistToKubeadm {
            text: edited.text().to_owned(),
            resource_version: stored.resource_version.clone(),
        }),
        Err(why) => {
            plan.notices.push(would_undo(signs, &why));
            None
        }
    }
}

/// What a person has to put there when a teardown is over; `None` where `issuers` stand there.
pub(super) fn left_to_a_person(
    desired: &Desired,
    issuers: &[String],
    node: &NodeFacts,
    shared: &SharedFacts,
) -> Option<String> {
    let is_of_cluster_api = shared.control_plane.present().is_some_and(|seen| seen.is_of_cluster_api);
    let place = match is_of_cluster_api {
        true => "KubeadmControlPlane, spec.kubeadmConfigSpec.clusterConfiguration",
        false if !desired.kubeadm_config => "ConfigMap kube-system/kubeadm-config",
        false => return None,
    };
    let standing = node.kubeadm_config.present().map(|stored| stored.config.api_server_arg(ISSUER));
    (standing.is_none_or(|standing| standing.as_slice() != issuers)).then(|| {
        format!(
            "{place}: put --{ISSUER} {} into apiServer.extraArgs, in this order: kubeadm upgrade and kubeadm join write manifests from there",
            issuers.join(", then ")
        )
    })
}

fn would_undo(signs: &str, why: &str) -> String {
    format!(
        "kubeadm upgrade and kubeadm join would write manifests without issuer {signs}, whose tokens are then refused: {why} \
         (docs/kubeadm-upgrade.md)"
    )
}

/// What one API server has proven is nothing that another one accepts.
fn several(node: &NodeFacts) -> Option<String> {
    match &node.api_servers {
        Probe::Present(servers) if servers.len() > 1 => Some(
            "with apiServer.keys: follow and several API servers ConfigMap kube-system/kubeadm-config is left to you, put it into \
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
