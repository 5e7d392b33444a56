//! Actions on the keyring's store: the shared document, evidence, private halves.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;

use super::{PRIVATE, condition, make_key, overwrite, replace};
use crate::{
    host::{Root, files::LARGEST_FILE_BYTES},
    model::{
        file::ExpectedFile,
        key::SigningKey,
        keyring::{KeyState, Keyring, KeyringKey, Origin, check_room},
        memory::{self, PublishedKey},
        rotation,
        rotation::Ack,
    },
    observe::{STATE, ack_name},
    store::Store as _,
    world::{KeyringStore, World},
};

pub(super) async fn place(world: &mut World) -> anyhow::Result<KeyringStore> {
    let api = world.keyring_api.clone();
    world.keyring(api.as_ref()).await.map_err(anyhow::Error::msg)
}

pub(super) async fn write(world: &mut World, keyring: &Keyring, replaces: Option<&str>) -> anyhow::Result<()> {
    keyring.check()?;
    let place = place(world).await?;
    place.store.put(&place.key(STATE), &keyring.render(), &condition(replaces)).await?;
    Ok(())
}

pub(super) async fn acknowledge(world: &mut World, ack: &Ack, replaces: Option<&str>) -> anyhow::Result<()> {
    let place = place(world).await?;
    let mut body = serde_json::to_vec_pretty(ack)?;
    body.push(b'\n');
    // What the others knew is read again, whatever becomes of this.
    world.acks_of = None;
    place.store.put(&place.key(&ack_name(&ack.node)), &body, &condition(replaces)).await?;
    world.has_told = true;
    Ok(())
}

/// Keeps the private half of the key in the file `path`.
pub(super) async fn keep_private_key(world: &mut World, path: &Path, kid: &str) -> anyhow::Result<()> {
    let found = world.root.read(path, LARGEST_FILE_BYTES)?;
    let found = found.with_context(|| format!("{} is gone (nothing changed)", path.display()))?;
    let key = SigningKey::read(&found.bytes).with_context(|| format!("{} (nothing changed)", path.display()))?;
    anyhow::ensure!(
        key.kid().as_str() == kid,
        "{} holds another key than {kid} by now (nothing changed)",
        path.display()
    );
    keep(world, &key).await
}

async fn keep(world: &mut World, key: &SigningKey) -> anyhow::Result<()> {
    let place = place(world).await?;
    let private_keys = world.private_keys().await.map_err(anyhow::Error::msg)?;
    Ok(private_keys.keep(&place.store, key).await?)
}

/// A key of whose private half this process holds the only copy until it is kept.
async fn make(world: &mut World, state: KeyState, at: Timestamp) -> anyhow::Result<KeyringKey> {
    let key = make_key()?;
    keep(world, &key).await?;
    Ok(KeyringKey::new(key.public(), state, Origin::Made, at))
}

pub(super) async fn found(
    world: &mut World,
    (cluster, issuer): (&str, &str),
    others: &[KeyringKey],
    leaving: &[PublishedKey],
    at: Timestamp,
) -> anyhow::Result<()> {
    // Before keys are made that could never be used, and that no store forgets.
    check_room(others, 2)?;
    let key = make(world, KeyState::Signing, at).await?;
    let standby = make(world, KeyState::Standby, at).await?;
    let keyring = rotation::with_standby(&rotation::found(cluster, issuer, key), standby);
    write(world, &rotation::beside(keyring, others, leaving), None).await
}

pub(super) async fn add_standby(
    world: &mut World,
    keyring: &Keyring,
    promotes: bool,
    replaces: &str,
    at: Timestamp,
) -> anyhow::Result<()> {
    check_room(&keyring.keys, 1)?;
    let standby = make(world, KeyState::Standby, at).await?;
    let changed = match promotes {
        true => rotation::promote(keyring, standby, at),
        false => rotation::with_standby(keyring, standby),
    };
    write(world, &changed, Some(replaces)).await
}

pub(super) fn remember(root: &Root, bytes: &[u8]) -> anyhow::Result<()> {
    overwrite(root, Path::new(memory::KEYRING), bytes)
}

pub(super) async fn replace_signing_key(
    world: &mut World,
    path: &Path,
    kid: &str,
    expected: &ExpectedFile,
) -> anyhow::Result<()> {
    let place = place(world).await?;
    let kid = kid.parse().with_context(|| format!("{kid} is no key id (nothing changed)"))?;
    let private_keys = world.private_keys().await.map_err(anyhow::Error::msg)?;
    let fetched = private_keys.fetch(&place.store, &kid).await?;
    if let Some(notice) = &fetched.notice {
        tracing::warn!("{notice}");
    }
    replace(&world.root, path, fetched.key.to_pem()?.as_bytes(), PRIVATE, expected)
}
