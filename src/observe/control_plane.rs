//! The other API servers, each asked directly, and who leads the controllers.

use futures_util::future::join_all;

use crate::{
    cluster::ApiServer as Client,
    model::{
        plan::StoredKubeadmConfig,
        probe::{Probe, sentence},
        rotation::ControlPlane,
    },
    world::SeenControlPlane,
};

/// How other API servers are asked: as this node's own, at their addresses.
pub(super) struct Peers<'a> {
    /// Kubeconfig.
    pub kubeconfig: &'a [u8],
    /// Address of this node's own.
    pub own: &'a str,
    /// Port of all of them.
    pub port: u16,
}

pub(super) async fn observe(
    client: &Client,
    peers: &Peers<'_>,
    kubeadm_config: Probe<StoredKubeadmConfig>,
    asks_for_tokens: bool,
) -> SeenControlPlane {
    let members = client.control_plane().await;
    let not_ready = match &members {
        Probe::Present(members) => not_ready(members, peers).await,
        Probe::Absent => Vec::new(),
        Probe::Unknown(why) => vec![format!("the others ({why})")],
    };
    SeenControlPlane {
        not_ready,
        members,
        controllers: client.controller_leases().await,
        legacy_tokens: match asks_for_tokens {
            true => client.legacy_tokens().await,
            false => Probe::Unknown("only the leader asks for tokens that never expire".to_owned()),
        },
        kubeadm_config,
    }
}

/// Those that do not answer as ready ones, and nodes that have none registered.
async fn not_ready(members: &ControlPlane, peers: &Peers<'_>) -> Vec<String> {
    let others = members.api_servers.iter().filter(|address| *address != peers.own);
    let asked = join_all(others.map(|address| ask(members, peers, address))).await;
    let is_registered = |address: &String| members.api_servers.contains(address) || address == peers.own;
    let unregistered =
        members.nodes.iter().filter(|node| !node.addresses.is_empty() && !node.addresses.iter().any(is_registered));
    asked.into_iter().flatten().chain(unregistered.map(|node| node.name.clone())).collect()
}

async fn ask(members: &ControlPlane, peers: &Peers<'_>, address: &str) -> Option<String> {
    let name = members.node_at(address).unwrap_or(address);
    let asked = match Client::connect(peers.kubeconfig, address, peers.port) {
        Ok(client) => client.ask_ready().await,
        Err(error) => Err(sentence(&error)),
    };
    asked.err().map(|why| format!("{name} ({why})"))
}
