//! The control plane as this node's API server lists it: its nodes, its API servers, and who of its controllers leads.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::Deserialize;

use super::{ApiServer, apiserver::kid_of, request::NoAnswer};
use crate::model::{
    probe::Probe,
    rotation::{ControlPlane, ControlPlaneNode},
};

const API_SERVERS: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
const NODES: &str = "/api/v1/nodes?labelSelector=node-role.kubernetes.io/control-plane";
const CONTROLLER_LEASES: [&str; 2] = [
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager",
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler",
];
/// Secrets with tokens that never expire (kubernetes/kubernetes `pkg/controller/serviceaccount/tokens_controller.go`).
const LEGACY_TOKENS: &str = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io/service-account-token&limit=250";
/// Annotation that Cluster API puts on every node that it makes.
const CLUSTER_API: &str = "cluster.x-k8s.io/cluster-name";
/// Most pages of them that are read: more are as good as unknown.
const MOST_PAGES: usize = 40;

/// Who leads one of the control plane's controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerLease {
    /// Name of the Lease.
    pub name: String,
    /// Node of the process that leads; empty where none does.
    pub node: String,
    /// Since when it leads.
    pub acquired_at: Option<Timestamp>,
}

/// A Secret with a token that never expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyToken {
    /// `NAMESPACE/NAME`.
    pub secret: String,
    /// Key that it is signed with.
    pub kid: String,
}

impl ApiServer {
    /// Its nodes and registered API servers. A server that restarts leaves the second list, its node does not leave the first.
    pub async fn control_plane(&self) -> Probe<ControlPlane> {
        let registered = self.list::<EndpointSlice>(API_SERVERS, "an EndpointSlice").await;
        let nodes = self.list::<NodeList>(NODES, "a list of nodes").await;
        match (registered, nodes) {
            (Ok(registered), Ok(nodes)) => Probe::Present(ControlPlane {
                is_of_cluster_api: nodes.are_of_cluster_api(),
                nodes: nodes.nodes(),
                api_servers: registered.addresses(),
            }),
            (Err(error), _) | (_, Err(error)) => Probe::Unknown(error.reason()),
        }
    }

    /// Who leads kube-controller-manager and kube-scheduler. A controller without a Lease is left out.
    pub async fn controller_leases(&self) -> Probe<Vec<ControllerLease>> {
        let mut leases = Vec::new();
        for path in CONTROLLER_LEASES {
            let Lease { metadata, spec } = match self.list::<Lease>(path, "a Lease").await {
                Ok(lease) => lease,
                Err(error) => return Probe::Unknown(error.reason()),
            };
            // client-go names a candidate NODE_RANDOM.
            let holder = spec.holder_identity.unwrap_or_default();
            let node = holder.rsplit_once('_').map_or(holder.as_str(), |(node, _)| node).to_owned();
            if !node.is_empty() {
                leases.push(ControllerLease { name: metadata.name, node, acquired_at: spec.acquire_time });
            }
        }
        Probe::Present(leases)
    }

    /// Keys that tokens in Secrets are signed with. They never expire, and nothing signs them anew.
    pub async fn legacy_tokens(&self) -> Probe<Vec<LegacyToken>> {
        match self.read_legacy_tokens().await {
            Ok(Some(tokens)) => Probe::Present(tokens),
            Ok(None) => {
                Probe::Unknown("there are too many Secrets with service-account tokens to read them all".to_owned())
            }
            Err(error) => Probe::Unknown(error.reason()),
        }
    }

    async fn read_legacy_tokens(&self) -> Result<Option<Vec<LegacyToken>>, NoAnswer> {
        let (mut tokens, mut more) = (Vec::new(), String::new());
        for _ in 0..MOST_PAGES {
            let page: SecretList = self.list(&format!("{LEGACY_TOKENS}{more}"), "a list of Secrets").await?;
            for secret in page.items.unwrap_or_default() {
                let token = secret.data.get("token").and_then(|token| BASE64_STANDARD.decode(token).ok());
                let kid = token.and_then(|token| kid_of(&String::from_utf8_lossy(&token)));
                // Without a token there is nothing that could be refused.
                if let Some(kid) = kid {
                    tokens.push(LegacyToken {
                        secret: format!("{}/{}", secret.metadata.namespace, secret.metadata.name),
                        kid,
                    });
                }
            }
            if page.metadata.r#continue.is_empty() {
                return Ok(Some(tokens));
            }
            more = format!("&continue={}", page.metadata.r#continue);
        }
        Ok(None)
    }

    /// Whether this API server answers as a ready one, as a sentence where it does not.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ask_ready(&self) -> Result<(), String> {
        match self.is_ready().await {
            Ok(true) => Ok(()),
            Ok(false) => Err("it is not ready".to_owned()),
            Err(error) => Err(error.reason()),
        }
    }
}

#[derive(Default, Deserialize)]
struct NodeList {
    #[serde(default)]
    items: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    addresses: Vec<NodeAddress>,
}

#[derive(Deserialize)]
struct NodeAddress {
    r#type: String,
    address: String,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl NodeList {
    fn are_of_cluster_api(&self) -> bool {
        self.items.iter().any(|node| node.metadata.annotations.contains_key(CLUSTER_API))
    }

    fn nodes(self) -> Vec<ControlPlaneNode> {
        let internal = |node: &Node| {
            let addresses = node.status.addresses.iter().filter(|address| address.r#type == "InternalIP");
            addresses.map(|address| address.address.clone()).collect()
        };
        let node = |node: Node| ControlPlaneNode { addresses: internal(&node), name: node.metadata.name };
        let mut nodes: Vec<ControlPlaneNode> = self.items.into_iter().map(node).collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        nodes
    }
}

#[derive(Default, Deserialize)]
struct EndpointSlice {
    /// `null` in a slice without endpoints.
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Deserialize)]
struct Endpoint {
    addresses: Vec<String>,
}

impl EndpointSlice {
    fn addresses(self) -> Vec<String> {
        let endpoints = self.endpoints.unwrap_or_default();
        let mut addresses: Vec<String> = endpoints.into_iter().flat_map(|endpoint| endpoint.addresses).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }
}

#[derive(Default, Deserialize)]
struct Lease {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: LeaseSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaseSpec {
    holder_identity: Option<String>,
    acquire_time: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
struct SecretList {
    #[serde(default)]
    metadata: PageMetadata,
    /// `null` where there is none.
    items: Option<Vec<Secret>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default)]
    r#continue: String,
}

/// No `Debug`: it holds a token.
#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
}
