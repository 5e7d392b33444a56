//! From the global options to the settings every command works with.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use thiserror::Error;

use crate::{
    aws,
    config::{Distribution, Inputs, Settings},
    host::{Root, files::LARGEST_FILE_BYTES},
    model::{memory, region::Region},
};

use super::Global;

/// The configuration is to be mended before anything can be done: exit code 2.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Unusable(String);

/// The error for a wrong use that clap cannot see.
pub(super) fn unusable(why: impl Into<String>) -> anyhow::Error {
    Unusable(why.into()).into()
}

/// The folder that stands before every path of this host.
pub(super) fn root(global: &Global) -> anyhow::Result<Root> {
    Ok(Root::new(&global.root)?)
}

/// The configuration file and its drop-in folder.
pub(super) fn files(global: &Global) -> Vec<PathBuf> {
    vec![global.config.clone(), drop_ins(global)]
}

pub(super) fn drop_ins(global: &Global) -> PathBuf {
    global.config.with_file_name("irsad.d")
}

/// Reads configuration file and drop-ins and asks the instance for what they leave open.
pub(super) async fn load(global: &Global) -> anyhow::Result<Settings> {
    let root = root(global)?;
    let inputs = read(global, &root)?;
    let region = if inputs.needs_region() { Some(region(&root).await?) } else { None };
    let settings = inputs.settle(region, || distribution(&root)).map_err(|mistakes| Unusable(mistakes.to_string()))?;
    Ok(settings)
}

/// The instance's region; the one that it told last where it does not answer. An open change must be followed without a network.
async fn region(root: &Root) -> anyhow::Result<Region> {
    let told = aws::region_from_instance().await;
    let known = || text(root, Path::new(memory::REGION)).ok().flatten()?.trim().parse().ok();
    // Not a mistake of the configuration: the instance may answer next time, and the daemon is started again.
    told.or_else(|error| known().ok_or(error)).context("aws.region is not set")
}

fn read(global: &Global, root: &Root) -> anyhow::Result<Inputs> {
    let main = text(root, &global.config)?.ok_or_else(|| {
        Unusable(format!(
            "{} does not exist; write one, the smallest has version: 1, cluster and issuer.store",
            global.config.display()
        ))
    })?;
    let mut texts = vec![(global.config.clone(), main)];
    let folder = drop_ins(global);
    for name in root.names(&folder)?.unwrap_or_default() {
        let path = folder.join(&name);
        if !name.as_encoded_bytes().starts_with(b".") && path.extension().is_some_and(|ending| ending == "yaml") {
            let text = text(root, &path)?.unwrap_or_default();
            texts.push((path, text));
        }
    }
    Inputs::from_texts(&texts).map_err(|mistakes| Unusable(mistakes.to_string()).into())
}

fn text(root: &Root, path: &Path) -> anyhow::Result<Option<String>> {
    let Some(found) = root.read_through_links(path, LARGEST_FILE_BYTES)? else { return Ok(None) };
    let text = String::from_utf8(found.bytes);
    text.map(Some).map_err(|_| Unusable(format!("{} is not UTF-8 text; save it as UTF-8", path.display())).into())
}

/// kops writes its manifest under a name of its own.
pub(super) fn distribution(root: &Root) -> Distribution {
    match root.locate(Path::new(Distribution::Kops.manifest())) {
        Ok(path) if path.exists() => Distribution::Kops,
        Ok(_) | Err(_) => Distribution::Kubeadm,
    }
}
