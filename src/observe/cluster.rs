//! What the whole cluster shares: the public documents as stored and as an outsider finds them, buckets, the IAM provider.

use jiff::Timestamp;

use super::Closeness;
use crate::{
    aws::s3::BucketState,
    model::{
        discovery::DISCOVERY_PATH,
        issuer::Audience,
        location::Location,
        plan::{
            ApiServer, BucketFacts, ClusterFacts, Desired, KeyringBucketFacts, NodeFacts, ProviderFacts,
            PublicDocument, StoredDocument,
        },
        probe::{Probe, sentence},
    },
    store::{Store as _, public::ServedBy},
    world::{AnyStore, AwsClients, SLOW_INTERVAL, SlowFacts, World},
};

pub(super) async fn observe_cluster(
    world: &mut World,
    desired: &Desired,
    node: &NodeFacts,
    closeness: Closeness,
    now: Timestamp,
) -> ClusterFacts {
    let slow = observe_slow(world, desired, closeness, now).await;
    // Below a root whose API server nobody can ask there is no outsider either: the folder is all there is to see.
    let has_outsider =
        matches!(desired.store, Location::S3 { .. }) || node.api_server != ApiServer::None || world.root.is_host();
    let served_by = if desired.is_served_by_front() { ServedBy::Front } else { ServedBy::Store };
    let store = world.documents().await;
    // Side by side: each may take its whole time limit where the network is gone, and the watchdog waits for the sum.
    let (stored_jwks, stored_discovery, public_jwks, public_discovery) = tokio::join!(
        stored(&store, desired.store.key(&desired.jwks_path)),
        stored(&store, desired.store.key(DISCOVERY_PATH)),
        public(world, has_outsider, served_by, desired.jwks_uri()),
        public(world, has_outsider, served_by, desired.issuer.document(DISCOVERY_PATH)),
    );
    ClusterFacts {
        bucket: slow.bucket,
        stored_discovery,
        stored_jwks,
        public_discovery,
        public_jwks,
        provider: slow.provider,
    }
}

async fn stored(store: &Result<AnyStore, String>, key: String) -> Probe<StoredDocument> {
    let store = match store {
        Ok(store) => store,
        Err(why) => return Probe::Unknown(why.clone()),
    };
    match store.get(&key).await {
        Ok(None) => Probe::Absent,
        Ok(Some(object)) => Probe::Present(StoredDocument { body: object.body, version: object.version.0 }),
        Err(error) => Probe::Unknown(sentence(&error)),
    }
}

async fn public(world: &World, has_outsider: bool, served_by: ServedBy, url: String) -> Option<Probe<PublicDocument>> {
    if !has_outsider {
        return None;
    }
    let found = world.public.get(&url, served_by).await;
    Some(found.map(|found| PublicDocument {
        body: found.body,
        content_type: found.content_type,
        date: found.date,
        age: found.age,
    }))
}

/// Bucket settings and provider: asked anew by a full look, and by an idle one when the last answer is old.
async fn observe_slow(world: &mut World, desired: &Desired, closeness: Closeness, now: Timestamp) -> SlowFacts {
    let has_keyring_bucket = world.settings.keyring_bucket().is_some();
    if desired.bucket.is_none() && desired.provider.is_none() && !has_keyring_bucket {
        return SlowFacts { bucket: None, provider: None, keyring_bucket: None };
    }
    let is_fresh = |at: &Timestamp| (0..SLOW_INTERVAL.as_secs() as i64).contains(&now.duration_since(*at).as_secs());
    if closeness == Closeness::Idle
        && let Some((at, facts)) = &world.slow
        && is_fresh(at)
    {
        return facts.clone();
    }
    let facts = match world.aws().await {
        Ok(clients) => ask_slow(&clients, desired).await,
        Err(why) => SlowFacts {
            bucket: desired.bucket.as_ref().map(|_| Probe::Unknown(why.clone())),
            provider: desired.provider.as_ref().map(|_| Probe::Unknown(why.clone())),
            keyring_bucket: has_keyring_bucket.then(|| Probe::Unknown(why.clone())),
        },
    };
    world.slow = Some((now, facts.clone()));
    facts
}

async fn ask_slow(clients: &AwsClients, desired: &Desired) -> SlowFacts {
    let (bucket, provider, keyring_bucket) =
        tokio::join!(ask_bucket(clients, desired), ask_provider(clients, desired), ask_private_bucket(clients));
    SlowFacts { bucket, provider, keyring_bucket }
}

/// Asks for what the plan makes something of, and no more: nodes may do nothing else, see [`crate::model::node_policy`].
async fn ask_bucket(clients: &AwsClients, desired: &Desired) -> Option<Probe<BucketFacts>> {
    let (bucket, wanted) = (clients.bucket.as_ref()?, desired.bucket.as_ref()?);
    if wanted.create && wanted.public_by_policy {
        let of =
            |found: BucketState| BucketFacts { public_access_block: found.public_access_block, policy: found.policy };
        return Some(bucket.observe().await.map(of));
    }
    let found = bucket.is_there().await;
    let policy = if wanted.create && found.present().is_some() { bucket.observe_policy().await } else { unasked() };
    Some(found.map(|()| BucketFacts { public_access_block: unasked(), policy }))
}

fn unasked<T>() -> Probe<T> {
    Probe::Unknown("not looked at: the bucket's settings are not irsad's".to_owned())
}

pub(super) async fn ask_private_bucket(clients: &AwsClients) -> Option<Probe<KeyringBucketFacts>> {
    Some(clients.keyring_bucket.as_ref()?.observe_private().await)
}

async fn ask_provider(clients: &AwsClients, desired: &Desired) -> Option<Probe<ProviderFacts>> {
    let wanted = desired.provider.as_ref()?;
    let found = clients.iam.observe(&clients.provider_arn).await;
    Some(found.map(|found| ProviderFacts {
        is_ours: wanted.tags.first().is_some_and(|(key, value)| found.tags.get(key) == Some(value)),
        audiences: found.audiences.iter().filter_map(|text| text.parse::<Audience>().ok()).collect(),
    }))
}
