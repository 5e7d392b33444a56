//! The pod-identity webhook: what is registered, and what comes of calling it as the API server does.

use std::{path::Path, time::Instant};

use serde_json::Value;

use super::{Closeness, LARGEST_FILE_BYTES, read};
use crate::{
    cluster::ApiServer as Client,
    model::{
        cluster_object::{ClusterObject, StoredObject},
        manifest::Manifest,
        plan::{ApiServer, Desired, NodeFacts, Shared, UpstreamFacts, WebhookFacts},
        probe::{Probe, sentence},
        webhook::{
            Mode, built_in_place,
            egress::{self, EGRESS_FLAG},
            probe, trusted,
            upstream::{self, Upstream, is_available},
        },
    },
    webhook::probe::call,
    world::{SeenUpstream, World},
};

pub(super) async fn observe_webhook(
    world: &mut World,
    desired: &Desired,
    node: &NodeFacts,
    shared: &Shared,
    closeness: Closeness,
) -> WebhookFacts {
    let own = world.webhook.clone();
    let api = match (&node.api_server, world.asked_api_server()) {
        (ApiServer::Seen(_), Some(api)) => api,
        _ => return WebhookFacts { own, ..WebhookFacts::unasked() },
    };
    let built_in = api.object(&built_in_place()).await;
    let call = call_built_in(world, &built_in, closeness).await;
    WebhookFacts {
        own,
        out_of_reach: node.manifest.present().and_then(|(manifest, _)| out_of_reach(world, desired, manifest)),
        built_in,
        call,
        upstream: if leads(shared) { Some(observe_upstream(world, desired, &api, closeness).await) } else { None },
    }
}

/// Whether this node may have to look after the program in the cluster.
fn leads(shared: &Shared) -> bool {
    match shared {
        Shared::Seen(shared) => {
            shared.leads || shared.control_plane.present().is_some_and(|members| members.servers().len() <= 1)
        }
        Shared::Nothing | Shared::Unknown(_) => false,
    }
}

/// Why 127.0.0.1 is not this node to its kube-apiserver.
fn out_of_reach(world: &World, desired: &Desired, manifest: &Manifest) -> Option<String> {
    let path = desired.manifest.display();
    if !manifest.host_network() {
        return Some(format!(
            "{path}: kube-apiserver does not use the network of this node (no hostNetwork: true), and cannot call a webhook on 127.0.0.1 \
             (it is not registered); set webhook.mode: upstream"
        ));
    }
    let file = manifest.flag(EGRESS_FLAG)?;
    let found = read(&world.root, Path::new(file), LARGEST_FILE_BYTES, |found| {
        egress::is_direct(&found.bytes).map_err(|error| sentence(&error))
    });
    let why = match found {
        Probe::Present(true) => return None,
        Probe::Present(false) => "sends calls of the control plane through a tunnel".to_owned(),
        Probe::Absent => "is not on this node".to_owned(),
        Probe::Unknown(why) => format!("cannot be understood ({why})"),
    };
    Some(format!(
        "{file}, which {path} names as --{EGRESS_FLAG}, {why}, so that a webhook on 127.0.0.1 may be called somewhere else (it is not \
         registered); let egress selection controlplane be Direct, or set webhook.mode: upstream"
    ))
}

/// The steps of the API server: at each full look, and where what is registered has changed or could not be called last time.
async fn call_built_in(
    world: &mut World,
    built_in: &Probe<StoredObject>,
    closeness: Closeness,
) -> Option<Result<(), String>> {
    let Some(stored) = built_in.present().filter(|stored| stored.is_ours()) else {
        world.webhook_call = None;
        return None;
    };
    if let Some((version, Ok(()))) = &world.webhook_call
        && version == stored.resource_version()
        && closeness == Closeness::Idle
    {
        return Some(Ok(()));
    }
    let url = stored.body()["webhooks"][0]["clientConfig"]["url"].as_str().unwrap_or_default();
    let outcome = match call(url, &trusted(stored), probe::review("v1").to_string().into_bytes()).await {
        Ok(answer) => probe::judge(&answer),
        Err(error) => Err(sentence(&error)),
    };
    world.webhook_call = Some((stored.resource_version().to_owned(), outcome.clone()));
    Some(outcome)
}

/// The program in the cluster: at every look where it is wanted or seen, else at full ones.
async fn observe_upstream(world: &mut World, desired: &Desired, api: &Client, closeness: Closeness) -> UpstreamFacts {
    let is_wanted = desired.webhook.mode == Mode::Upstream;
    if let Some(seen) = &world.upstream
        && !is_wanted
        && closeness == Closeness::Idle
        && seen.is_nothing
    {
        return seen.facts.clone();
    }
    let facts = ask_upstream(world, desired, api, closeness).await;
    // A Namespace may be there for others.
    let objects = facts.objects.iter().skip(1).chain([&facts.configuration, &facts.secret]);
    let is_nothing = objects.into_iter().all(|found| *found == Probe::Absent);
    world.upstream = Some(SeenUpstream { facts: facts.clone(), is_nothing });
    facts
}

async fn ask_upstream(world: &mut World, desired: &Desired, api: &Client, closeness: Closeness) -> UpstreamFacts {
    let wanted = &desired.webhook.upstream;
    let objects = wanted.objects();
    let asked = objects.iter().map(ClusterObject::place).map(|place| api.object(place));
    let objects = futures_util::future::join_all(asked).await;
    let secret = api.object(&wanted.secret_place()).await;
    let (certificates, renew_at) = match &secret {
        Probe::Present(stored) => {
            let (certificates, renew_at) = upstream::read_secret(stored);
            (certificates.map_or(Probe::Absent, Probe::Present), renew_at)
        }
        Probe::Absent => (Probe::Absent, None),
        Probe::Unknown(why) => (Probe::Unknown(why.clone()), None),
    };
    let configuration = api.object(&Upstream::configuration_place()).await;
    let since = match &configuration {
        Probe::Absent => *world.unregistered_since.get_or_insert_with(Instant::now),
        Probe::Present(_) | Probe::Unknown(_) => {
            world.unregistered_since = None;
            Instant::now()
        }
    };
    let is_ready = objects.last().and_then(Probe::present).is_some_and(|stored| is_available(stored.body()));
    UpstreamFacts {
        call: if is_ready { Some(call_upstream(world, wanted, api, closeness).await) } else { None },
        objects,
        secret: secret.map(StoredObject::without_data),
        certificates,
        renew_at,
        configuration,
        unregistered_for: since.elapsed(),
    }
}

/// A review through the API server's proxy for Services.
async fn call_upstream(world: &World, wanted: &Upstream, api: &Client, closeness: Closeness) -> Result<(), String> {
    let known = world.upstream.as_ref().and_then(|seen| seen.facts.call.clone());
    if let (Some(Ok(())), Closeness::Idle) = (known, closeness) {
        return Ok(());
    }
    let version = wanted.review_versions().first().copied().unwrap_or("v1beta1");
    match api.ask_service(&wanted.probe_path(), &probe::review(version)).await {
        Ok(answer) => probe::judge(Value::to_string(&answer).as_bytes()),
        Err(error) => Err(error.reason()),
    }
}
