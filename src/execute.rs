//! Carries out one action. It decides nothing: what to do stands in the action, whether to do it was the planner's.

mod keyring;
mod migration;
mod objects;
mod pods;
pub mod roles;
pub mod service_account_roles;
mod teardown;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    aws::s3::S3Store,
    host::{
        Root,
        files::{KUBERNETES_STAGING, LARGEST_FILE_BYTES, Replacement},
    },
    model::{
        file::ExpectedFile,
        issuer::{Audience, IssuerUrl},
        key::{SigningKey, rand_core, verification_pem},
        location::BucketName,
        memory::{self, Change, Proven},
        plan::{Action, Content, PutBack},
    },
    store::{Condition, Store as _, Version},
    world::{AwsClients, World},
};

pub use migration::migrate;

/// Modes as kubeadm writes them.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const FOLDER: u32 = 0o700;

/// Carries out `action`.
///
/// # Errors
/// What failed, what it left behind and what to do. Carrying out the same action again later is safe.
pub async fn execute(world: &mut World, action: &Action) -> anyhow::Result<()> {
    let root = &world.root;
    match action {
        Action::MakeKeyPair { signing_key, verifying_keys } => make_key_pair(root, signing_key, verifying_keys),
        Action::WriteVerifyingKeys { path, pem } => write_new(root, path, pem.as_bytes(), PUBLIC),
        Action::KeepPrivateKey { path, kid } => keyring::keep_private_key(world, path, kid).await,
        Action::FoundKeyring { cluster, issuer, others, leaving, at } => {
            keyring::found(world, (cluster, issuer), others, leaving, *at).await
        }
        Action::WriteKeyring { keyring, replaces, .. } => keyring::write(world, keyring, replaces.as_deref()).await,
        Action::AddStandby { keyring, promotes, replaces, at } => {
            keyring::add_standby(world, keyring, *promotes, replaces, *at).await
        }
        Action::Acknowledge { ack, replaces } => keyring::acknowledge(world, ack, replaces.as_deref()).await,
        Action::RememberKeyring { bytes, .. } => keyring::remember(root, bytes),
        Action::ForgetStandbyKey => forget(root, memory::STANDBY_KEY),
        Action::ReplaceVerifyingKeys { path, pem, expected } => replace(root, path, pem.as_bytes(), PUBLIC, expected),
        Action::ReplaceSigningKey { path, kid, expected } => {
            keyring::replace_signing_key(world, path, kid, expected).await
        }
        Action::RememberPublishedKeys(keys) => remember(root, memory::PUBLISHED_KEYS, keys),
        Action::SaveLastGood { manifest, key_files } => save_last_good(world, manifest, key_files),
        Action::BeginChange(change) => begin_change(root, change),
        Action::RefuseChange(refused) => remember(root, memory::REFUSED_CHANGE, refused),
        Action::ForgetChange => forget(root, memory::CHANGE),
        Action::ConfirmChange => {
            forget(root, memory::REFUSED_CHANGE)?;
            forget(root, memory::CHANGE)
        }
        Action::PersistToKubeadm { text, resource_version } => {
            let api_server = world.asked_api_server().context("no API server has been asked (nothing changed)")?;
            Ok(api_server.replace_kubeadm_configuration(text, resource_version).await?)
        }
        Action::ApplyObject { object, replaces, .. } => objects::apply(world, object, replaces.as_deref()).await,
        Action::ReplaceObject { place, body, .. } => objects::replace(world, place, body).await,
        Action::DeleteObject { place, uid, resource_version } => {
            objects::delete(world, place, uid, resource_version).await
        }
        Action::MakeWebhookCertificate { secret, names, replaces, is_next, at } => {
            let wanted = objects::NewCertificate { names, is_next: *is_next, at: *at };
            objects::make_certificate(world, secret, &wanted, replaces.as_deref()).await
        }
        Action::UseNextWebhookCertificate { secret, replaces } => {
            objects::use_next_certificate(world, secret, replaces).await
        }
        Action::RememberProven { proven, manifest } => remember_proven(root, proven, manifest),
        Action::ForgetProven(proven) => forget_proven(root, proven),
        Action::ReplaceManifest { path, text, expected, .. } => replace_manifest(root, path, text, expected),
        Action::CreateBucket { bucket, tag, .. } => Ok(bucket_named(world, bucket).await?.create(tag.as_ref()).await?),
        Action::SetPublicAccessBlock { bucket, block } => {
            Ok(bucket_named(world, bucket).await?.put_public_access_block(*block).await?)
        }
        Action::EnableVersioning { bucket } => Ok(bucket_named(world, bucket).await?.enable_versioning().await?),
        Action::SetBucketPolicy { bucket, policy } | Action::SetKeyringBucketPolicy { bucket, policy } => {
            Ok(bucket_named(world, bucket).await?.put_policy(policy).await?)
        }
        Action::Publish { key, body, replaces, .. } => publish(world, key, body, replaces.as_deref()).await,
        Action::CreateProvider { issuer, audiences, tags } => create_provider(world, issuer, audiences, tags).await,
        Action::AddProviderAudience { audience } => add_audience(world, audience).await,
        Action::DeleteProvider { .. } => teardown::delete_provider(world).await,
        Action::DeleteDocument { key, .. } => teardown::delete_document(world, key).await,
        Action::CloseBucket { bucket, policy } => teardown::close_bucket(world, bucket, policy.as_deref()).await,
        Action::DeleteBucket { bucket } => Ok(bucket_named(world, bucket).await?.delete_bucket().await?),
        Action::RemoveRole { name, owner } => teardown::remove_role(world, name, owner).await,
        Action::LetGoOfRoleObject(object) => teardown::let_go(world, object).await,
        Action::RememberTornDown(torn_down) => teardown::remember_torn_down(root, torn_down),
        Action::ForgetTornDown => forget(root, memory::TORN_DOWN),
        Action::DeleteKeyring { version } => teardown::delete_keyring(world, version).await,
        Action::TellOfMissedPods { pods, node, at } => pods::tell_of_missed(world, pods, node, *at).await,
    }
}

/// The private halves first: should we stop in between, the public ones follow from them, the reverse is lost. An API server that
/// reads the standby at its first start needs one restart, not two, when that is to sign.
fn make_key_pair(root: &Root, signing_key: &Path, verifying_keys: &Path) -> anyhow::Result<()> {
    let (key, standby) = (make_key()?, make_key()?);
    overwrite(root, Path::new(memory::STANDBY_KEY), standby.to_pem()?.as_bytes())?;
    write_new(root, signing_key, key.to_pem()?.as_bytes(), PRIVATE)?;
    let keys = [key.public().clone(), standby.public().clone()];
    write_new(root, verifying_keys, verification_pem(&keys).as_bytes(), PUBLIC)
}

fn make_key() -> anyhow::Result<SigningKey> {
    SigningKey::generate_rsa_2048(&mut rand_core::OsRng).context("cannot make an RSA-2048 key (nothing written)")
}

fn write_new(root: &Root, path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    replace(root, path, bytes, mode, &ExpectedFile::Absent)
}

/// Puts a file in the place of `expected`, with its permissions; where there is none, with `mode`, in a folder that is made.
fn replace(root: &Root, path: &Path, bytes: &[u8], mode: u32, expected: &ExpectedFile) -> anyhow::Result<()> {
    let mode = (*expected == ExpectedFile::Absent).then_some(mode);
    if let (Some(folder), Some(_)) = (path.parent(), mode) {
        root.make_folder(folder, 0o755)?;
    }
    root.replace(path, bytes, &Replacement { mode, owner: None, expected: expected.clone(), staging: staging(path) })?;
    Ok(())
}

/// Files that kubelet or kubeadm may read are made where nobody looks, on the same mount.
fn staging(path: &Path) -> Option<&'static Path> {
    path.starts_with("/etc/kubernetes").then(|| Path::new(KUBERNETES_STAGING))
}

fn replace_manifest(root: &Root, path: &Path, text: &str, expected: &ExpectedFile) -> anyhow::Result<()> {
    // Wherever it lies: kubelet starts what it finds beside it.
    let staging = Some(Path::new(KUBERNETES_STAGING));
    root.replace(path, text.as_bytes(), &Replacement { mode: None, owner: None, expected: expected.clone(), staging })?;
    Ok(())
}

fn remember(root: &Root, path: &str, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    overwrite(root, Path::new(path), text.as_bytes())
}

fn overwrite(root: &Root, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        root.make_folder(folder, FOLDER)?;
    }
    root.replace_own(path, bytes, PRIVATE)?;
    Ok(())
}

fn forget(root: &Root, path: &str) -> anyhow::Result<()> {
    root.remove_own(Path::new(path))?;
    Ok(())
}

fn begin_change(root: &Root, change: &Change) -> anyhow::Result<()> {
    overwrite(root, Path::new(memory::CHANGE_OF_THIS_BOOT), change.manifest_digest.as_bytes())?;
    remember(root, memory::CHANGE, change)
}

fn save_last_good(world: &World, manifest: &str, key_files: &[PathBuf]) -> anyhow::Result<()> {
    let path = &world.settings.api_server.manifest;
    overwrite(&world.root, &memory::last_good(path), manifest.as_bytes())?;
    key_files.iter().try_for_each(|file| copy(&world.root, file, &memory::last_good(file)))
}

fn copy(root: &Root, file: &Path, to: &Path) -> anyhow::Result<()> {
    match root.read(file, LARGEST_FILE_BYTES)? {
        Some(found) => overwrite(root, to, &found.bytes),
        None => Ok(()),
    }
}

/// The record last: it may only speak of copies that are there.
fn remember_proven(root: &Root, proven: &Proven, manifest: &str) -> anyhow::Result<()> {
    overwrite(root, &memory::proven(&proven.manifest), manifest.as_bytes())?;
    if proven.keeps_keys {
        copy(root, &proven.verifying_keys, &memory::proven(&proven.verifying_keys))?;
        copy(root, &proven.signing_key, &memory::proven(&proven.signing_key))?;
    } else {
        root.remove_own(&memory::proven(&proven.signing_key))?;
        root.remove_own(&memory::proven(&proven.verifying_keys))?;
    }
    remember(root, memory::PROVEN, proven)
}

fn forget_proven(root: &Root, proven: &Proven) -> anyhow::Result<()> {
    forget(root, memory::PROVEN)?;
    for file in [&proven.signing_key, &proven.verifying_keys, &proven.manifest] {
        root.remove_own(&memory::proven(file))?;
    }
    Ok(())
}

/// Puts one file of this node back.
///
/// # Errors
/// What failed and what was left behind. Trying again is safe: only what was observed is replaced.
pub fn put_back(root: &Root, file: &PutBack) -> anyhow::Result<()> {
    let bytes = match &file.content {
        Content::Text(text) => text.clone().into_bytes(),
        Content::CopyOf(copy) => {
            let found = root.read(copy, LARGEST_FILE_BYTES)?;
            found.with_context(|| format!("{} is gone (nothing written)", copy.display()))?.bytes
        }
    };
    let how =
        Replacement { mode: file.mode, owner: None, expected: file.expected.clone(), staging: staging(&file.path) };
    root.replace(&file.path, &bytes, &how)?;
    Ok(())
}

/// The issuer's or the keyring's bucket, which is looked at anew after it was changed.
async fn bucket_named(world: &mut World, name: &BucketName) -> anyhow::Result<S3Store> {
    world.slow = None;
    let clients = world.aws().await.map_err(anyhow::Error::msg)?;
    let found = [clients.bucket, clients.keyring_bucket].into_iter().flatten().find(|store| store.bucket() == name);
    found.with_context(|| format!("bucket {name} is not in the configuration (nothing changed)"))
}

/// Our account's clients; the provider is looked at anew after it was changed.
async fn provider(world: &mut World) -> anyhow::Result<AwsClients> {
    world.slow = None;
    world.aws().await.map_err(anyhow::Error::msg)
}

async fn create_provider(
    world: &mut World,
    issuer: &IssuerUrl,
    audiences: &[Audience],
    tags: &[(String, String)],
) -> anyhow::Result<()> {
    let clients = provider(world).await?;
    clients.iam.create(&clients.provider_arn, issuer, audiences, &tags.iter().cloned().collect()).await?;
    Ok(())
}

async fn add_audience(world: &mut World, audience: &Audience) -> anyhow::Result<()> {
    let clients = provider(world).await?;
    clients.iam.add_audience(&clients.provider_arn, audience).await?;
    Ok(())
}

async fn publish(world: &mut World, key: &str, body: &[u8], replaces: Option<&str>) -> anyhow::Result<()> {
    let store = world.documents().await.map_err(anyhow::Error::msg)?;
    store.put(key, body, &condition(replaces)).await?;
    Ok(())
}

/// That nobody has written since `replaces` was read; `None`: that nobody has written at all.
fn condition(replaces: Option<&str>) -> Condition {
    replaces.map_or(Condition::Absent, |version| Condition::Unchanged(Version(version.to_owned())))
}
