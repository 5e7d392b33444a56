//! Actions of a teardown: what was ours goes. Each is a success where it is gone already.

use std::path::Path;

use anyhow::Context as _;

use super::{bucket_named, forget, provider, remember, roles};
use crate::{
    host::Root,
    model::{
        location::BucketName,
        memory::{self, TornDown},
        role::{Owner, RoleName},
        service_account_role::ServiceAccountRole,
    },
    observe::{ACKS, STATE},
    private_keys,
    store::{Store as _, proof},
    world::World,
};

pub(super) async fn delete_provider(world: &mut World) -> anyhow::Result<()> {
    let clients = provider(world).await?;
    clients.iam.delete(&clients.provider_arn).await?;
    Ok(())
}

pub(super) async fn remove_role(world: &mut World, name: &RoleName, owner: &Owner) -> anyhow::Result<()> {
    let clients = provider(world).await?;
    roles::remove(&clients.iam, name, owner, &|| true).await?;
    Ok(())
}

pub(super) async fn let_go(world: &World, object: &ServiceAccountRole) -> anyhow::Result<()> {
    let api_server = world.asked_api_server().context("no API server has been asked (nothing changed)")?;
    Ok(api_server.hold_role(object, false).await?)
}

pub(super) async fn delete_document(world: &mut World, key: &str) -> anyhow::Result<()> {
    let store = world.documents().await.map_err(anyhow::Error::msg)?;
    store.delete(key).await?;
    Ok(())
}

pub(super) async fn close_bucket(world: &mut World, bucket: &BucketName, policy: Option<&str>) -> anyhow::Result<()> {
    let bucket = bucket_named(world, bucket).await?;
    match policy {
        Some(policy) => bucket.put_policy(policy).await?,
        None => bucket.delete_policy().await?,
    }
    Ok(())
}

/// The record first: without it a keyring that is gone would be one that was lost.
pub(super) fn remember_torn_down(root: &Root, torn_down: &TornDown) -> anyhow::Result<()> {
    remember(root, memory::TORN_DOWN, torn_down)?;
    for path in [memory::KEYRING, memory::PUBLISHED_KEYS, memory::REFUSED_CHANGE] {
        root.remove_own(Path::new(path))?;
    }
    Ok(())
}

/// The shared document last: it says that the rest is to go. One that is not there any more has taken the rest with it, and one of another
/// `version` may be another cluster's beginning.
pub(super) async fn delete_keyring(world: &mut World, version: &str) -> anyhow::Result<()> {
    let place = super::keyring::place(world).await?;
    let found = place.store.get(&place.key(STATE)).await?;
    anyhow::ensure!(
        found.is_none_or(|found| found.version.0 == version),
        "the keyring has changed since it was looked at (nothing deleted)"
    );
    for folder in [ACKS.to_owned(), format!("{}/", private_keys::FOLDER)] {
        for key in place.store.list(&place.key(&folder)).await? {
            place.store.delete(&key).await?;
        }
    }
    for name in [proof::PROOF, STATE] {
        place.store.delete(&place.key(name)).await?;
    }
    forget(&world.root, memory::KEYRING)
}
