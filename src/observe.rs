//! Looks at the world and decides nothing: everything that a plan needs, as [`Facts`].

use std::{collections::BTreeSet, path::Path};

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use control_plane::Peers;

use crate::{
    cluster::{Depth, Evidence as Seen, KubeadmConfigMap, NoAnswer},
    host::{
        Root,
        files::{FileContent, LARGEST_FILE_BYTES},
        machine,
    },
    model::{
        file::Digest,
        key::{PublicKey, SigningKey},
        kubeadm::KubeadmConfig,
        manifest::{LONGEST_MANIFEST_BYTES, Manifest},
        memory,
        plan::{
            ApiServer, ClusterFacts, Desired, Evidence, Facts, FileMark, NodeFacts, ProbeToken, StoredKubeadmConfig,
            WebhookFacts,
        },
        probe::{Probe, sentence},
    },
    world::World,
};

mod cluster;
mod control_plane;
mod migration;
mod pods;
mod restore;
mod shared;
mod teardown;
mod trust_policy;
mod webhook;

pub use migration::{Prepared, Request, prepare_migration};
pub use pods::{look_at_pod, look_at_roles_in_use};
pub use restore::observe_restore;
pub use shared::{ACKS, STATE, ack_name};
pub use teardown::look_at_what_goes;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closeness {
    /// What an idle pass needs.
    Idle,
    /// Also what costs more: the API server's start time and a probe token, bucket settings, the provider.
    Full,
}

/// Observes everything once.
pub async fn observe(world: &mut World, desired: &Desired, closeness: Closeness, now: Timestamp) -> Facts {
    world.look_again();
    let node = observe_node(world, desired, closeness).await;
    if node.torn_down.present().is_some() {
        // Who took our bucket's name since is not asked for anything.
        let shared = shared::observe_shared(world, &node, closeness).await;
        let cluster = ClusterFacts::unasked();
        let webhook = WebhookFacts { built_in: Probe::Absent, ..WebhookFacts::unasked() };
        return Facts { node, cluster, shared, webhook, pods: None, trust_policy: None, teardown: None };
    }
    let cluster = cluster::observe_cluster(world, desired, &node, closeness, now).await;
    let shared = shared::observe_shared(world, &node, closeness).await;
    let webhook = webhook::observe_webhook(world, desired, &node, &shared, closeness).await;
    let pods = pods::observe_pods(world, &node, &shared, now).await;
    let trust_policy = trust_policy::observe_trust_policy(world, desired, &node, &shared, closeness).await;
    let teardown = teardown::observe_teardown(world, desired, &shared, now).await;
    Facts { node, cluster, shared, webhook, pods, trust_policy, teardown }
}

/// Observes this node alone.
pub async fn observe_node(world: &mut World, desired: &Desired, closeness: Closeness) -> NodeFacts {
    let (manifest, manifest_file) = read_manifest(world, &desired.manifest);
    let change: Probe<memory::Change> = memory(&world.root, memory::CHANGE);
    let closeness = if change.present().is_some() { Closeness::Full } else { closeness };
    let seen = observe_api_server(world, &manifest, closeness).await;
    let mut remarks = Vec::new();
    let (signing_key, signing_file) = read_signing_key(world, &desired.signing_key, &mut remarks);
    let (verifying_keys, verifying_file) = read_verifying_keys(world, desired, manifest.present());
    NodeFacts {
        verifying_keys,
        signing_key,
        standby_key: read_signing_key(world, Path::new(memory::STANDBY_KEY), &mut remarks).0,
        published_keys: memory(&world.root, memory::PUBLISHED_KEYS),
        api_server: seen.api_server,
        api_servers: seen.api_servers,
        kubeadm_config: seen.kubeadm_config,
        signing_file,
        verifying_file,
        manifest_modified: manifest_file.map(|file| file.modified),
        never_started: never_started(&world.root),
        kubeadm_runs: machine::is_running(&world.root, "kubeadm").unwrap_or(true),
        change_is_of_this_boot: is_of_this_boot(world, change.present()),
        change_watched_for: world.watch_change(change.present()),
        change,
        refused: memory(&world.root, memory::REFUSED_CHANGE),
        proven: memory(&world.root, memory::PROVEN),
        torn_down: memory(&world.root, memory::TORN_DOWN),
        last_good_manifest: read_last_good(world, desired),
        manifest,
        remarks,
    }
}

/// kubelet keeps the logs of a pod's containers from its first start on (kubernetes/kubernetes
/// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`, `podLogsRootDirectory`).
fn never_started(root: &Root) -> bool {
    let pods = root.names(Path::new("/var/log/pods"));
    let is_ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("kube-system_kube-apiserver-");
    root.is_host() && pods.is_ok_and(|names| !names.unwrap_or_default().iter().any(is_ours))
}

/// A file of this host as what `understand` makes of it; what it refuses is Unknown.
fn read<T>(
    root: &Root,
    path: &Path,
    limit_bytes: u64,
    understand: impl FnOnce(FileContent) -> Result<T, String>,
) -> Probe<T> {
    read_marked(root, path, limit_bytes, understand).0
}

/// The same, and the file that it was, also where it is refused: whoever replaces it later replaces what was read here.
fn read_marked<T>(
    root: &Root,
    path: &Path,
    limit_bytes: u64,
    understand: impl FnOnce(FileContent) -> Result<T, String>,
) -> (Probe<T>, Option<FileMark>) {
    match root.read(path, limit_bytes) {
        Ok(None) => (Probe::Absent, None),
        Err(error) => (Probe::Unknown(sentence(&error)), None),
        Ok(Some(found)) => {
            let mark = FileMark { digest: found.digest.clone(), modified: found.modified };
            (understand(found).map_or_else(Probe::Unknown, Probe::Present), Some(mark))
        }
    }
}

fn read_manifest(world: &World, path: &Path) -> (Probe<(Manifest, Digest)>, Option<FileMark>) {
    read_marked(&world.root, path, LONGEST_MANIFEST_BYTES as u64, |found| match Manifest::parse(&found.bytes) {
        Ok(manifest) => Ok((manifest, found.digest)),
        Err(error) => Err(format!("{} is left as it is: {}", path.display(), sentence(&error))),
    })
}

fn read_signing_key(world: &World, path: &Path, remarks: &mut Vec<String>) -> (Probe<PublicKey>, Option<FileMark>) {
    read_marked(&world.root, path, LARGEST_FILE_BYTES, |found| {
        if found.is_open_to_others() {
            remarks.push(format!("{} can be read by others (mode {:04o}); chmod 600 it", path.display(), found.mode));
        }
        let key =
            SigningKey::read(&found.bytes).map_err(|error| format!("{}: {}", path.display(), sentence(&error)))?;
        Ok(key.public().clone())
    })
}

/// The keys of our verification file, which is marked, then those of every other file that the manifest names.
fn read_verifying_keys(
    world: &World,
    desired: &Desired,
    manifest: Option<&(Manifest, Digest)>,
) -> (Probe<Vec<PublicKey>>, Option<FileMark>) {
    let read_keys = |path: &Path| {
        read_marked(&world.root, path, LARGEST_FILE_BYTES, |found| {
            PublicKey::read_all(&found.bytes).map_err(|error| format!("{}: {}", path.display(), sentence(&error)))
        })
    };
    let (ours, mark) = read_keys(&desired.verifying_keys);
    let Probe::Present(mut keys) = ours else { return (ours, mark) };
    let named = manifest.map(|(manifest, _)| manifest.key_files()).unwrap_or_default();
    for path in named.iter().map(Path::new).filter(|path| *path != desired.verifying_keys) {
        match read_keys(path).0 {
            Probe::Present(found) => keys.extend(found),
            Probe::Absent => {
                let why = format!("{} is missing although the manifest names it", path.display());
                return (Probe::Unknown(why), mark);
            }
            Probe::Unknown(why) => return (Probe::Unknown(why), mark),
        }
    }
    let mut known = BTreeSet::new();
    keys.retain(|key| known.insert(key.kid().to_string()));
    (Probe::Present(keys), mark)
}

fn read_last_good(world: &World, desired: &Desired) -> Probe<String> {
    let path = memory::last_good(&desired.manifest);
    read(&world.root, &path, LARGEST_FILE_BYTES, |found| {
        String::from_utf8(found.bytes).map_err(|_| format!("{} is not text; remove it", path.display()))
    })
}

/// One file of this node's memory.
fn memory<T: DeserializeOwned>(root: &Root, path: &str) -> Probe<T> {
    read(root, Path::new(path), LARGEST_FILE_BYTES, |found| {
        serde_json::from_slice(&found.bytes).map_err(|error| {
            format!(
                "{path} is not what this version of irsad writes (nothing changed); if no newer version wrote it, remove it: {error}"
            )
        })
    })
}

/// A mark that does not outlive the boot names the change.
fn is_of_this_boot(world: &World, change: Option<&memory::Change>) -> bool {
    let mark = read(&world.root, Path::new(memory::CHANGE_OF_THIS_BOOT), LARGEST_FILE_BYTES, |found| Ok(found.bytes));
    change.is_some_and(|change| mark.present().is_some_and(|digest| digest == change.manifest_digest.as_bytes()))
}

/// What the API server says of itself and of the cluster.
struct Asked {
    api_server: ApiServer,
    api_servers: Probe<Vec<String>>,
    kubeadm_config: Probe<StoredKubeadmConfig>,
}

impl Asked {
    /// It was asked of itself at most.
    fn alone(api_server: ApiServer) -> Self {
        const UNASKED: &str = "for the cluster's API servers to be counted";
        Self {
            api_server,
            api_servers: Probe::Unknown(UNASKED.to_owned()),
            kubeadm_config: Probe::Unknown(UNASKED.to_owned()),
        }
    }
}

async fn observe_api_server(world: &mut World, manifest: &Probe<(Manifest, Digest)>, closeness: Closeness) -> Asked {
    let path = world.settings.api_server.kubeconfig.clone();
    let kubeconfig = match world.root.read_through_links(&path, LARGEST_FILE_BYTES) {
        Ok(found) => found,
        Err(error) => return Asked::alone(ApiServer::NoKubeconfig(sentence(&error))),
    };
    let (manifest, kubeconfig) = match (manifest, kubeconfig) {
        (Probe::Absent, _) => return Asked::alone(ApiServer::None),
        (_, None) if !world.root.is_host() => return Asked::alone(ApiServer::None),
        (_, None) => {
            return Asked::alone(ApiServer::NoKubeconfig(format!(
                "for {} to ask kube-apiserver with; without it the manifest is left alone",
                path.display()
            )));
        }
        (Probe::Unknown(_), _) => {
            return Asked::alone(ApiServer::Silent(
                "the manifest does not say where kube-apiserver listens".to_owned(),
            ));
        }
        (Probe::Present((manifest, _)), Some(kubeconfig)) => (manifest, kubeconfig),
    };
    let address = shared::address(manifest);
    let client = match world.api_server(&path, &kubeconfig.bytes, &address, manifest.secure_port()) {
        Ok(client) => client,
        Err(why) => return Asked::alone(ApiServer::NoKubeconfig(why)),
    };
    let depth = if closeness == Closeness::Full { Depth::Proof } else { Depth::Served };
    let api_server = seen(client.ask_evidence(depth).await);
    // What a server did not answer while it restarted is asked again as soon as it answers.
    let is_unknown = world.control_plane.as_ref().is_none_or(|seen| seen.members.unknown().is_some());
    if closeness == Closeness::Full || (is_unknown && matches!(api_server, ApiServer::Seen(_))) {
        let configuration = kubeadm_config(client.kubeadm_configuration().await);
        let peers = Peers { kubeconfig: &kubeconfig.bytes, own: &address, port: manifest.secure_port() };
        // Every Secret with a token is read for it: nobody but who lets go of keys, or looks for a person, needs that.
        let asks_for_tokens = !world.acts || world.leadership.leads;
        world.control_plane = Some(control_plane::observe(&client, &peers, configuration, asks_for_tokens).await);
    }
    match world.control_plane.clone() {
        Some(seen) => Asked {
            api_server,
            api_servers: match seen.members {
                Probe::Present(members) if members.servers().is_empty() => Probe::Absent,
                Probe::Present(members) => Probe::Present(members.servers()),
                Probe::Absent => Probe::Absent,
                Probe::Unknown(why) => Probe::Unknown(why),
            },
            kubeadm_config: seen.kubeadm_config,
        },
        None => Asked::alone(api_server),
    }
}

fn kubeadm_config(found: Probe<KubeadmConfigMap>) -> Probe<StoredKubeadmConfig> {
    match found {
        Probe::Absent => Probe::Absent,
        Probe::Unknown(why) => Probe::Unknown(why),
        Probe::Present(KubeadmConfigMap { text, resource_version }) => match KubeadmConfig::parse(text.as_bytes()) {
            Ok(config) => Probe::Present(StoredKubeadmConfig { config, resource_version }),
            Err(error) => Probe::Unknown(format!("ConfigMap kube-system/kubeadm-config: {}", sentence(&error))),
        },
    }
}

fn seen(found: Result<Seen, NoAnswer>) -> ApiServer {
    let found = match found {
        Ok(found) => found,
        Err(why) => return ApiServer::Silent(why.reason()),
    };
    let (started_at, probe_token) = match found.proof {
        Some(proof) => {
            (Some(proof.started_at), proof.probe_token.map(|token| ProbeToken { kid: token.kid, issuer: token.iss }))
        }
        None => (None, Probe::Absent),
    };
    ApiServer::Seen(Evidence {
        ready: found.ready,
        started_at,
        served: found.served,
        issuer: Some(found.issuer),
        probe_token,
    })
}
