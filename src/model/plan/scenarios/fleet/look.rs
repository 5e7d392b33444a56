//! What each node of the small world observes.

use super::{
    super::*,
    world::{Fleet, Node},
};
use crate::model::{
    keyring::{self, HighWater, Keyring},
    role::Owner,
    rotation::{ControlPlane, ControlPlaneNode},
};

impl Fleet {
    pub fn restarts(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.restarts).collect()
    }

    /// What each node waits for.
    pub fn waits(&self) -> Vec<String> {
        let plans = (0..self.nodes.len()).map(|number| self.plan(number));
        plans.flat_map(|plan| [plan.waiting_for, plan.needs_a_person].concat()).collect()
    }

    pub fn plan(&self, number: usize) -> Plan {
        plan(&self.desired, &self.facts(number), self.now)
    }

    pub fn facts(&self, number: usize) -> Facts {
        let node = &self.nodes[number];
        let api_server = match (&node.manifest, &node.process) {
            (None, _) => ApiServer::None,
            (Some(_), None) => ApiServer::Silent("connection refused".to_owned()),
            (Some(_), Some(process)) => ApiServer::Seen(process.evidence()),
        };
        let mark = || Some(FileMark { digest: Digest::of(b"file"), modified: node.written_at });
        let shared = match (&api_server, node.never_started) {
            _ if self.in_s3 => Shared::Seen(Box::new(self.shared(number))),
            (ApiServer::None, _) if node.applied.is_none() => Shared::Nothing,
            (ApiServer::None, _) => Shared::Unknown("for kube-apiserver of this node".to_owned()),
            (ApiServer::Silent(why), false) => Shared::Unknown(why.clone()),
            _ => Shared::Seen(Box::new(self.shared(number))),
        };
        Facts {
            node: NodeFacts {
                manifest: node.manifest.as_ref().map_or(Probe::Absent, |text| {
                    Probe::Present((Manifest::parse(text.as_bytes()).expect("a manifest"), Digest::of(text.as_bytes())))
                }),
                signing_key: probe(node.signing.clone()),
                standby_key: probe(node.standby.clone()),
                verifying_keys: Probe::Present(node.verifying.clone()),
                signing_file: mark(),
                verifying_file: mark(),
                manifest_modified: Some(node.written_at),
                never_started: node.never_started,
                published_keys: Probe::Absent,
                api_server,
                api_servers: Probe::Present(self.nodes.iter().map(|node| node.name.clone()).collect()),
                kubeadm_config: {
                    let config = KubeadmConfig::parse(self.kubeadm_config.as_bytes()).expect("a configuration");
                    Probe::Present(StoredKubeadmConfig { config, resource_version: "7".to_owned() })
                },
                kubeadm_runs: false,
                change_is_of_this_boot: true,
                change_watched_for: self.now.duration_since(node.begun_at).unsigned_abs(),
                change: probe(node.change.clone()),
                refused: probe(node.refused.clone()),
                proven: probe(node.proven.clone()),
                torn_down: probe(node.torn_down.clone()),
                remarks: Vec::new(),
                last_good_manifest: probe(node.last_good.clone()),
            },
            cluster: ClusterFacts {
                bucket: Some(probe(self.bucket.clone())),
                stored_discovery: stored(&self.objects, DISCOVERY_PATH),
                stored_jwks: stored(&self.objects, "openid/v1/jwks"),
                public_discovery: Some(public(&self.objects, DISCOVERY_PATH, self.now)),
                public_jwks: Some(public(&self.objects, "openid/v1/jwks", self.now)),
                provider: Some(probe(self.provider.clone())),
            },
            shared,
            webhook: self.webhook(number),
            pods: None,
            trust_policy: None,
            teardown: Some(self.what_goes()),
        }
    }

    /// Provider and bucket, as ones that may go.
    pub fn what_goes(&self) -> TeardownFacts {
        let content = self.bucket.as_ref().map_or(Probe::Absent, |bucket| {
            Probe::Present(BucketContent {
                is_ours: self.bucket_is_ours,
                objects: self.objects.keys().chain(&self.others_objects).cloned().collect(),
                policy: bucket.policy.clone(),
            })
        });
        let owner = Owner::list("prod-1");
        let roles = self.roles.iter().map(|name| (name.parse().expect("a name"), owner.clone())).collect();
        let left = match self.keeps_no_roles {
            true => RolesLeft { ours: Vec::new(), others: self.roles.clone() },
            false => RolesLeft { ours: roles, others: vec!["theirs".to_owned()] },
        };
        let (roles, removes_roles) = (Some(Probe::Present(left)), !self.keeps_no_roles);
        let held: Vec<_> = self.held.iter().map(|name| held(name)).collect();
        let held = if held.is_empty() { Probe::Absent } else { Probe::Present(held) };
        let (provider, pointing) = (Some(probe(self.provider.clone())), self.pointing.clone());
        TeardownFacts { provider, bucket: Some(content), pointing, roles, removes_roles, held }
    }

    fn shared(&self, number: usize) -> SharedFacts {
        let node = &self.nodes[number];
        let address = |name: &str| format!("192.0.2.{}", name.trim_start_matches('n'));
        let is_up = |node: &&Node| node.process.is_some();
        let keyring = self.keyring.as_ref().map_or(Probe::Absent, |bytes| match Keyring::parse(bytes, "prod-1") {
            Ok(keyring) => {
                Probe::Present(StoredKeyring { keyring, bytes: bytes.clone(), version: self.version.to_string() })
            }
            Err(error) => Probe::Unknown(error.to_string()),
        });
        SharedFacts {
            cluster: "prod-1".to_owned(),
            node: node.name.clone(),
            keyring,
            damage: None,
            applied: node.applied.as_ref().map_or(Probe::Absent, |bytes| {
                let generation = Keyring::parse(bytes, "prod-1").expect("a keyring").generation;
                Probe::Present(HighWater { generation, hash: keyring::hash(bytes) })
            }),
            acks: self.acks.values().map(|(ack, _)| ack.clone()).collect(),
            own_version: self.acks.get(&node.name).map(|(_, version)| version.to_string()),
            name_is_taken: false,
            machine: node.machine.clone(),
            boot_id: String::new(),
            address: address(&node.name),
            leads: node.leads,
            leader: None,
            control_plane: Probe::Present(ControlPlane {
                nodes: self
                    .nodes
                    .iter()
                    .map(|node| ControlPlaneNode { name: node.name.clone(), addresses: vec![address(&node.name)] })
                    .collect(),
                api_servers: self.nodes.iter().filter(is_up).map(|node| address(&node.name)).collect(),
                is_of_cluster_api: self.is_of_cluster_api,
            }),
            not_ready: self
                .nodes
                .iter()
                .filter(|other| other.name != node.name && other.process.is_none())
                .map(|other| other.name.clone())
                .collect(),
            controllers: self.controllers.clone(),
            held: match node.leads {
                true => Probe::Present(Vec::new()),
                false => Probe::Unknown("only the leader asks for tokens that never expire".to_owned()),
            },
            bucket: None,
            is_for_one_node: false,
        }
    }
}

/// An object with our finalizer.
fn held(name: &str) -> crate::model::service_account_role::ServiceAccountRole {
    let metadata = serde_json::json!({
        "name": name, "creationTimestamp": "2026-11-21T12:00:00Z", "finalizers": [crate::model::service_account_role::FINALIZER],
    });
    serde_json::from_value(serde_json::json!({ "metadata": metadata, "spec": {} })).expect("an object")
}
