//! Who has to follow the keyring: every control-plane node, whether irsad has reported from it or not.

use jiff::Timestamp;

use super::{Ack, Keyring, Seen};
use crate::model::keyring::Member;

/// The control plane as one API server lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlPlane {
    /// Its Node objects.
    pub nodes: Vec<ControlPlaneNode>,
    /// Addresses of the API servers that have registered themselves (EndpointSlice `default/kubernetes`).
    pub api_servers: Vec<String>,
    /// Cluster API made its nodes (kubernetes-sigs/cluster-api `api/core/v1beta1/machine_types.go`): KubeadmControlPlane writes
    /// kubeadm's configuration then.
    pub is_of_cluster_api: bool,
}

/// One Node object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlaneNode {
    /// Its name.
    pub name: String,
    /// Its internal addresses.
    pub addresses: Vec<String>,
}

impl ControlPlane {
    /// Its API servers: their addresses or the names of the nodes, whichever are more.
    pub fn servers(&self) -> Vec<String> {
        if self.nodes.len() > self.api_servers.len() {
            self.nodes.iter().map(|node| node.name.clone()).collect()
        } else {
            self.api_servers.clone()
        }
    }

    /// Name of the node with the API server at `address`.
    pub fn node_at(&self, address: &str) -> Option<&str> {
        let has_it = |node: &&ControlPlaneNode| node.addresses.iter().any(|known| known == address);
        self.nodes.iter().find(has_it).map(|node| node.name.as_str())
    }
}

/// Evidence of nodes that are still part of the control plane: what a node told before it left is about nothing.
pub fn of_the_control_plane(acks: &[Ack], control_plane: &ControlPlane) -> Vec<Ack> {
    let lists_nobody = control_plane.nodes.is_empty() && control_plane.api_servers.is_empty();
    let is_part = |ack: &&Ack| {
        lists_nobody
            || control_plane.nodes.iter().any(|node| node.name == ack.node)
            || control_plane.api_servers.contains(&ack.address)
    };
    acks.iter().filter(is_part).cloned().collect()
}

/// Names of all that must follow: Node objects, and API servers that have none; one that nothing else names goes by its address.
/// Where nothing is listed, whoever reports is one.
pub fn required(control_plane: &ControlPlane, acks: &[Ack]) -> Vec<String> {
    let mut names: Vec<String> = control_plane.nodes.iter().map(|node| node.name.clone()).collect();
    for address in &control_plane.api_servers {
        let reporting = acks.iter().find(|ack| ack.address == *address).map(|ack| ack.node.as_str());
        let name = control_plane.node_at(address).or(reporting).unwrap_or(address);
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        names = acks.iter().map(|ack| ack.node.clone()).collect();
    }
    names
}

/// The members as they are required now. One that is no longer listed is gone, and gives back what it held: its Node object was
/// deleted and its API server is not registered.
pub(super) fn take(keyring: &Keyring, seen: Seen<'_>, now: Timestamp) -> Option<Keyring> {
    let required = required(seen.control_plane?, seen.acks);
    let is_required = |member: &&Member| required.contains(&member.node);
    let kept = keyring.members.iter().filter(is_required).cloned();
    let is_new = |name: &&String| !keyring.members.iter().any(|member| member.node == **name);
    let new = required.iter().filter(is_new).map(|node| Member { node: node.clone(), since: now });
    let members: Vec<Member> = kept.chain(new).collect();
    if members == keyring.members || members.is_empty() {
        return None;
    }
    let rollout = keyring.rollout.clone().filter(|rollout| required.contains(&rollout.holder));
    Some(Keyring { members, rollout, ..keyring.clone() })
}
