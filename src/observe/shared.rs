//! The keyring, the evidence of the nodes, and the control plane that they are of.

use jiff::Timestamp;

use super::{Closeness, cluster::ask_private_bucket, read};
use crate::{
    cluster::{ApiServer as Client, ControllerLease, LegacyToken, lease},
    config::Settings,
    host::{files::LARGEST_FILE_BYTES, machine},
    model::{
        keyring::{self, HighWater, Keyring},
        location::{KeyringLocation, Location},
        manifest::Manifest,
        memory,
        plan::{ApiServer, DesiredKeyringBucket, KeyringBucketFacts, NodeFacts, Shared, SharedFacts, StoredKeyring},
        probe::{Probe, sentence},
        rotation::{Ack, ControlPlane, Controller, Held, held, of_the_control_plane},
    },
    store::{
        Store as _,
        proof::{self, ProofError},
    },
    world::{KeyringStore, SeenControlPlane, World},
};

/// The shared document.
pub const STATE: &str = "state.json";
/// Folder of the evidence.
pub const ACKS: &str = "acks/";

/// Where the evidence of a node lies.
pub fn ack_name(node: &str) -> String {
    format!("{ACKS}{node}.json")
}

pub(super) async fn observe_shared(world: &mut World, node: &NodeFacts, closeness: Closeness) -> Shared {
    let api = match reachable(world, node) {
        Reachable::Nobody => return Shared::Nothing,
        Reachable::Unknown(why) => return Shared::Unknown(why),
        Reachable::Without => None,
        Reachable::Through(api) => Some(api),
    };
    world.keyring_api = api.as_deref().cloned();
    let bucket = match world.settings.keyring_bucket() {
        None => None,
        Some(wanted) => Some((wanted, bucket_facts(world).await)),
    };
    let keyring = match &bucket {
        // Nothing can be asked of a bucket that has still to be made and closed.
        Some((_, Probe::Absent | Probe::Unknown(_))) => Ok(Probe::Unknown("for the keyring's bucket".to_owned())),
        Some((_, Probe::Present(_))) | None => read_keyring(world, closeness).await,
    };
    shared(world, node, keyring, bucket).await
}

/// Through whom the keyring is read.
enum Reachable {
    /// It is in the cluster, and this node has never followed one.
    Nobody,
    /// Through nobody now.
    Unknown(String),
    /// It needs no API server.
    Without,
    /// Through this one.
    Through(Box<Client>),
}

fn reachable(world: &World, node: &NodeFacts) -> Reachable {
    let in_cluster = world.settings.keyring.store == KeyringLocation::Kubernetes;
    let own = world.asked_api_server().map(Box::new);
    match (&node.api_server, in_cluster) {
        (ApiServer::None, true) => match applied(world) {
            Probe::Absent => Reachable::Nobody,
            // A person restarts an API server by moving its manifest out of the folder: the others go on from the keyring meanwhile.
            Probe::Present(_) | Probe::Unknown(_) => Reachable::Unknown(
                "for kube-apiserver of this node, which has the keyring: its manifest is gone, as while somebody restarts it by hand, \
                 or after kubeadm reset"
                    .to_owned(),
            ),
        },
        (ApiServer::NoKubeconfig(why), true) => Reachable::Unknown(why.clone()),
        (ApiServer::Silent(why), true) if node.never_started => match any_api_server(world) {
            Ok(client) => Reachable::Through(Box::new(client)),
            Err(cause) => Reachable::Unknown(format!("{why}, and no other API server can be asked: {cause}")),
        },
        (ApiServer::Silent(why), true) => Reachable::Unknown(why.clone()),
        (ApiServer::Seen(_), _) => own.map_or(Reachable::Without, Reachable::Through),
        (ApiServer::None | ApiServer::NoKubeconfig(_) | ApiServer::Silent(_), false) => Reachable::Without,
    }
}

/// The server that the kubeconfig names: this node is only joining.
fn any_api_server(world: &World) -> Result<Client, String> {
    let path = &world.settings.api_server.kubeconfig;
    let found = world.root.read_through_links(path, LARGEST_FILE_BYTES).map_err(|error| sentence(&error))?;
    let found = found.ok_or_else(|| format!("{} is not there", path.display()))?;
    Client::connect_to_any(&found.bytes).map_err(|error| format!("{}: {}", path.display(), sentence(&error)))
}

async fn bucket_facts(world: &mut World) -> Probe<KeyringBucketFacts> {
    if let Some((_, slow)) = &world.slow
        && let Some(found) = &slow.keyring_bucket
    {
        return found.clone();
    }
    match world.aws().await {
        Ok(clients) => ask_private_bucket(&clients).await.unwrap_or(Probe::Absent),
        Err(why) => Probe::Unknown(why),
    }
}

/// The keyring, after its store has proven that it honours conditions; evidence is read with it where it may have changed. An
/// error will not mend by itself.
async fn read_keyring(world: &mut World, closeness: Closeness) -> Result<Probe<StoredKeyring>, String> {
    let api = world.keyring_api.clone();
    let place = match world.keyring(api.as_ref()).await {
        Ok(place) => place,
        Err(why) => return Ok(Probe::Unknown(why)),
    };
    if world.acts && !world.store_is_proven {
        let nonce = format!("{}-{}", std::process::id(), Timestamp::now().as_nanosecond());
        match proof::prove(&place.store, &place.key(proof::PROOF), &nonce).await {
            Ok(()) => {}
            Err(error @ ProofError::Refused { .. }) => return Err(sentence(&error)),
            Err(error) => return Ok(Probe::Unknown(sentence(&error))),
        }
        world.store_is_proven = true;
    }
    let found = match place.store.get(&place.key(STATE)).await {
        Err(error) => return Ok(Probe::Unknown(sentence(&error))),
        Ok(found) => found,
    };
    let version = found.as_ref().map(|object| object.version.0.clone());
    let is_fresh = version.is_some() && version == world.acks_of;
    if !is_fresh || closeness == Closeness::Full || world.leadership.leads {
        match read_acks(&place).await {
            Ok(acks) => (world.acks, world.acks_of) = (acks, version),
            Err(why) => return Ok(Probe::Unknown(why)),
        }
    }
    let Some(object) = found else { return Ok(Probe::Absent) };
    match Keyring::parse(&object.body, world.settings.cluster.as_str()) {
        Ok(keyring) => Ok(Probe::Present(StoredKeyring { keyring, bytes: object.body, version: object.version.0 })),
        Err(error) => Err(format!("{}: {}", place.store, sentence(&error))),
    }
}

/// Evidence that is not understood is no evidence.
async fn read_acks(place: &KeyringStore) -> Result<Vec<(Ack, String)>, String> {
    let mut acks = Vec::new();
    for key in place.store.list(&place.key(ACKS)).await.map_err(|error| sentence(&error))? {
        let Some(object) = place.store.get(&key).await.map_err(|error| sentence(&error))? else { continue };
        match serde_json::from_slice::<Ack>(&object.body) {
            Ok(ack) => acks.push((ack, object.version.0)),
            Err(error) => tracing::warn!("{key} of {} is not what this version of irsad writes: {error}", place.store),
        }
    }
    Ok(acks)
}

async fn shared(
    world: &mut World,
    node: &NodeFacts,
    keyring: Result<Probe<StoredKeyring>, String>,
    bucket: Option<(DesiredKeyringBucket, Probe<KeyringBucketFacts>)>,
) -> Shared {
    let (keyring, damage) = match keyring {
        Ok(keyring) => (keyring, None),
        Err(damage) => (Probe::Unknown(damage.clone()), Some(damage)),
    };
    let control_plane = world.control_plane.clone();
    let members = control_plane.as_ref().map_or_else(unasked, |seen| seen.members.clone());
    let address = node.manifest.present().map(|(manifest, _)| address(manifest)).unwrap_or_default();
    let name = match node_name(world, node, &members, &address) {
        Ok(name) => name,
        Err(why) => return Shared::Unknown(why),
    };
    let (machine, boot_id) = machine::identity(&world.root);
    let own = world.acks.iter().find(|(ack, _)| ack.node == name);
    let name_is_taken = world.has_told && own.is_some_and(|(ack, _)| ack.machine != machine);
    let (leads, leader) = leadership(world, &name).await;
    let acks: Vec<Ack> = world.acks.iter().map(|(ack, _)| ack.clone()).collect();
    let acks = members.present().map_or_else(|| acks.clone(), |members| of_the_control_plane(&acks, members));
    let held = match (&keyring, &control_plane) {
        (Probe::Present(stored), Some(seen)) => held_keys(&stored.keyring, seen, &acks),
        _ => unasked(),
    };
    let controllers = control_plane.as_ref().and_then(|seen| seen.controllers.present().cloned()).unwrap_or_default();
    Shared::Seen(Box::new(SharedFacts {
        cluster: world.settings.cluster.to_string(),
        own_version: own.map(|(_, version)| version.clone()),
        name_is_taken,
        node: name,
        keyring,
        damage,
        applied: applied(world),
        acks,
        machine,
        boot_id,
        address,
        leads,
        leader,
        control_plane: members,
        not_ready: control_plane.map(|seen| seen.not_ready).unwrap_or_default(),
        controllers: controllers.into_iter().map(|lease| lease.node).collect(),
        held,
        bucket,
        is_for_one_node: is_a_folder(&world.settings),
    }))
}

fn unasked<T>() -> Probe<T> {
    Probe::Unknown("for the control plane to be listed".to_owned())
}

/// Where this node's API server listens.
pub(super) fn address(manifest: &Manifest) -> String {
    manifest.advertise_address().unwrap_or("127.0.0.1").to_owned()
}

/// Name of this node's Node object; where it has none, what kubelet would call it. What an API server once said holds until it says
/// otherwise: nothing may be told under a second name.
fn node_name(
    world: &mut World,
    node: &NodeFacts,
    members: &Probe<ControlPlane>,
    address: &str,
) -> Result<String, String> {
    match (members, &node.api_server) {
        (Probe::Unknown(_), _) if world.node_name.is_some() => {}
        (Probe::Unknown(why), ApiServer::Seen(_)) => return Err(why.clone()),
        (Probe::Present(members), _) => {
            world.node_name = members.node_at(address).map(str::to_owned);
        }
        (Probe::Unknown(_) | Probe::Absent, _) => {}
    }
    match &world.node_name {
        Some(name) => Ok(name.clone()),
        None => machine::host_name().map_err(|error| sentence(&error)),
    }
}

fn is_a_folder(settings: &Settings) -> bool {
    matches!(settings.keyring.store, KeyringLocation::Outside(Location::File(_)))
}

/// The keyring that this node has followed last.
fn applied(world: &World) -> Probe<HighWater> {
    read(&world.root, std::path::Path::new(memory::KEYRING), LARGEST_FILE_BYTES, |found| {
        let keyring = Keyring::parse(&found.bytes, world.settings.cluster.as_str())
            .map_err(|error| format!("{}: {}", memory::KEYRING, sentence(&error)))?;
        Ok(HighWater { generation: keyring.generation, hash: keyring::hash(&found.bytes) })
    })
}

/// Whether this process leads, and who does. One that only looks goes by the Lease.
async fn leadership(world: &World, name: &str) -> (bool, Option<String>) {
    let known = world.leadership.clone();
    if world.acts || known.leads {
        return (known.leads, known.leader);
    }
    let leader = match &world.keyring_api {
        Some(api) => lease::holder(api).await,
        None => None,
    };
    (leader.as_deref() == Some(name), leader)
}

fn held_keys(keyring: &Keyring, seen: &SeenControlPlane, acks: &[Ack]) -> Probe<Vec<Held>> {
    let legacy = match &seen.legacy_tokens {
        Probe::Present(tokens) => tokens,
        Probe::Absent => return Probe::Present(Vec::new()),
        Probe::Unknown(why) => return Probe::Unknown(why.clone()),
    };
    let legacy: Vec<(String, String)> =
        legacy.iter().map(|LegacyToken { secret, kid }| (secret.clone(), kid.clone())).collect();
    let controllers = match &seen.controllers {
        Probe::Present(leases) => leases.as_slice(),
        Probe::Absent => &[],
        Probe::Unknown(why) => return Probe::Unknown(why.clone()),
    };
    let controller = controllers.iter().find_map(|ControllerLease { name, node, acquired_at }| {
        (name == "kube-controller-manager")
            .then(|| Controller { node: node.clone(), since: acquired_at.unwrap_or_default() })
    });
    Probe::Present(held(keyring, &legacy, controller.as_ref(), acks))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::{
        config::{Distribution, Inputs},
        host::Root,
        model::plan::Desired,
        observe::observe_node,
        store::public::PublicClient,
    };

    type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

    const KEYRING: &[u8] = include_bytes!("../../tests/fixtures/formats/keyring-v1.json");

    fn world(root: &Path) -> Outcome<World> {
        let text = "version: 1\ncluster: prod-1\nissuer: { url: https://oidc.example.com, store: file:///srv/oidc }\n";
        let inputs = Inputs::from_texts(&[("irsad.yaml", text)])?;
        let settings = inputs.settle(Some("eu-west-1".parse()?), || Distribution::Kubeadm)?;
        Ok(World::new(Root::new(root)?, settings, Arc::new(PublicClient::from_environment()?)))
    }

    #[tokio::test]
    async fn node_that_has_followed_a_keyring_is_not_alone_while_its_manifest_is_away() -> Outcome<()> {
        let root = tempfile::TempDir::new()?;
        let mut world = world(root.path())?;
        let desired: Desired = world.settings.desired();
        let node = observe_node(&mut world, &desired, Closeness::Idle).await;
        assert!(matches!(observe_shared(&mut world, &node, Closeness::Idle).await, Shared::Nothing));

        world.root.make_folder(Path::new(memory::FOLDER), 0o700)?;
        for bytes in [KEYRING, b"damaged"] {
            world.root.replace_own(Path::new(memory::KEYRING), bytes, 0o600)?;
            let shared = observe_shared(&mut world, &node, Closeness::Idle).await;
            assert!(
                matches!(shared, Shared::Unknown(why) if why.starts_with("for kube-apiserver of this node, which has"))
            );
        }
        Ok(())
    }
}
