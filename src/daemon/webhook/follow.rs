//! Keeps the webhook's service accounts, ConfigMap and file of container credentials in step with their sources.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::super::attempts::Attempts;
use crate::{
    cluster::{ApiServer, Change, ConfigMap, Listed, ServiceAccount},
    host::{Root, watch},
    model::{
        manifest::{LONGEST_MANIFEST_BYTES, Manifest},
        pod_identity::{Account, ContainerCredentials, RoleMap},
        probe::sentence,
    },
    webhook::{
        Reviewer,
        accounts::{Accounts, Ask},
    },
};

/// Pause before an API server that does not answer is asked again. Its own restart is over in seconds.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest time for one question about one service account, so that the next one is asked on a new connection.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);
/// So many failures in a row are no news: an API server that restarts.
const PATIENCE: u32 = 2;
/// The file of container credentials is read again after so long, even if no change of it was told.
const FILE_INTERVAL: Duration = Duration::from_secs(60);
const LARGEST_FILE_BYTES: u64 = 8 << 20;

/// This node's API server, as its manifest and the kubeconfig describe it at the moment.
#[derive(Debug)]
pub(super) struct Api {
    root: Root,
    manifest: PathBuf,
    kubeconfig: PathBuf,
    client: RwLock<Option<ApiServer>>,
}

impl Api {
    /// The API server of this manifest, asked by this kubeconfig.
    pub fn new(root: Root, manifest: &Path, kubeconfig: &Path) -> Arc<Self> {
        let (manifest, kubeconfig) = (manifest.to_owned(), kubeconfig.to_owned());
        Arc::new(Self { root, manifest, kubeconfig, client: RwLock::new(None) })
    }

    /// A client; the last one where nothing has changed.
    fn connect(&self) -> Result<ApiServer, String> {
        let read = |path: &Path, limit_bytes| match self.root.read_through_links(path, limit_bytes) {
            Ok(Some(found)) => Ok(found.bytes),
            Ok(None) => Err(format!("{}, which says how kube-apiserver is asked, is not there yet", path.display())),
            Err(error) => Err(sentence(&error)),
        };
        let manifest = Manifest::parse(&read(&self.manifest, LONGEST_MANIFEST_BYTES as u64)?)
            .map_err(|error| format!("{}: {}", self.manifest.display(), sentence(&error)))?;
        let kubeconfig = read(&self.kubeconfig, LARGEST_FILE_BYTES)?;
        let (address, port) = (manifest.advertise_address().unwrap_or("127.0.0.1"), manifest.secure_port());
        if let Some(known) = self.client().filter(|known| known.is_made_from(&kubeconfig, address, port)) {
            return Ok(known);
        }
        let client = ApiServer::connect(&kubeconfig, address, port)
            .map_err(|error| format!("{}: {}", self.kubeconfig.display(), sentence(&error)))?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    fn client(&self) -> Option<ApiServer> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for one service account.
    pub fn ask(self: &Arc<Self>, prefix: &str) -> Box<Ask> {
        let (api, prefix) = (Arc::clone(self), prefix.to_owned());
        Box::new(move |namespace, name| {
            let (client, prefix) = (api.client(), prefix.clone());
            Box::pin(async move {
                let client = client.ok_or("kube-apiserver was not reached yet")?;
                let answer = timeout(QUESTION_LIMIT, client.service_account(&namespace, &name)).await;
                let late = |_| format!("kube-apiserver did not say within {QUESTION_LIMIT:?} what it is");
                let found = answer.map_err(late)?.map_err(|error| error.reason())?;
                Ok(found.map(|found| account(&found, &prefix)))
            })
        })
    }
}

fn account(found: &ServiceAccount, prefix: &str) -> Account {
    Account::read(found.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())), prefix)
}

/// What follows a source tells after each attempt: nothing, or why it could not.
pub(super) trait Tell: Fn(Result<(), String>) {}
impl<T: Fn(Result<(), String>)> Tell for T {}

/// Keeps `accounts` in step, for ever.
pub(super) async fn service_accounts(api: &Api, accounts: &Accounts, prefix: &str, tell: impl Tell) {
    let mut attempts = Attempts::new("the webhook cannot follow service accounts", PATIENCE);
    loop {
        let outcome = match api.connect() {
            Ok(client) => follow_accounts(&client, accounts, prefix, &mut attempts, &tell).await,
            Err(why) => Err(why),
        };
        accounts.cut();
        after(outcome, &mut attempts, &tell).await;
    }
}

async fn follow_accounts(
    client: &ApiServer,
    accounts: &Accounts,
    prefix: &str,
    attempts: &mut Attempts,
    tell: &impl Tell,
) -> Result<(), String> {
    let mut version = match attempts.resume() {
        Some(version) => version,
        None => {
            let mut all = HashMap::new();
            let version = client.list_service_accounts(|step| match step {
                Listed::Begun => all.clear(),
                Listed::One(found) => {
                    let name = format!("{}/{}", found.namespace, found.name).into_boxed_str();
                    all.insert(name, account(&found, prefix));
                }
            });
            let version = version.await.map_err(|error| error.reason())?;
            accounts.replace(all);
            version
        }
    };
    let opened = || {
        accounts.stand();
        tell(Ok(()));
    };
    let change = |change: Change<ServiceAccount>| match change {
        Change::Put(found) => accounts.put(&found.namespace, &found.name, account(&found, prefix)),
        Change::Gone(found) => accounts.remove(&found.namespace, &found.name),
    };
    let ended = client.watch_service_accounts(&mut version, opened, change).await;
    attempts.ended(version, ended)
}

/// Keeps the ConfigMap in step, for ever. One that cannot be understood changes nothing.
pub(super) async fn role_map(api: &Api, namespace: &str, reviewer: &Reviewer, tell: impl Tell) {
    let mut attempts = Attempts::new("the webhook cannot follow the ConfigMap pod-identity-webhook", PATIENCE);
    loop {
        let outcome = match api.connect() {
            Ok(client) => follow_role_map(&client, namespace, reviewer, &mut attempts, &tell).await,
            Err(why) => Err(why),
        };
        after(outcome, &mut attempts, &tell).await;
    }
}

async fn follow_role_map(
    client: &ApiServer,
    namespace: &str,
    reviewer: &Reviewer,
    attempts: &mut Attempts,
    tell: &impl Tell,
) -> Result<(), String> {
    let mut version = match attempts.resume() {
        Some(version) => version,
        None => {
            let (found, version) = client.role_map(namespace).await.map_err(|error| error.reason())?;
            if let Some(found) = found {
                take_role_map(&found, namespace, reviewer);
            }
            version
        }
    };
    let change = |change: Change<ConfigMap>| match change {
        Change::Put(found) => take_role_map(&found, namespace, reviewer),
        // As the AWS program: roles do not vanish with the object.
        Change::Gone(_) => tracing::warn!(
            "ConfigMap {namespace}/pod-identity-webhook was deleted; its roles hold until irsad restarts"
        ),
    };
    let ended = client.watch_role_map(namespace, &mut version, || tell(Ok(())), change).await;
    attempts.ended(version, ended)
}

fn take_role_map(found: &ConfigMap, namespace: &str, reviewer: &Reviewer) {
    match found.config.as_deref().map(RoleMap::parse) {
        None => {}
        Some(Ok(map)) => reviewer.change(|mutation| mutation.fallback = map),
        Some(Err(error)) => tracing::error!(
            "key config of ConfigMap {namespace}/pod-identity-webhook is not usable, the last one holds: {}",
            sentence(&error)
        ),
    }
}

/// Says what came of an attempt, and waits where it was a failure.
async fn after(outcome: Result<(), String>, attempts: &mut Attempts, tell: &impl Tell) {
    attempts.note(&outcome);
    if let Err(why) = outcome {
        tell(Err(why));
        sleep(PAUSE).await;
    }
}

/// Keeps the list of container credentials in step with its file, for ever.
pub(super) async fn credentials(root: &Root, path: &Path, reviewer: &Reviewer, tell: impl Tell) {
    let located = root.locate(path).into_iter().collect::<Vec<_>>();
    let mut files = watch::watch(located).map_err(|error| tracing::warn!("{}", sentence(&error))).ok();
    let mut said = String::new();
    loop {
        let outcome = read_credentials(root, path);
        match &outcome {
            Ok(list) => {
                said.clear();
                reviewer.change(|mutation| mutation.credentials.clone_from(list));
            }
            Err(why) if *why != said => {
                tracing::error!("{why}");
                said.clone_from(why);
            }
            Err(_) => {}
        }
        tell(outcome.map(drop));
        match &mut files {
            Some(files) => drop(timeout(FILE_INTERVAL, files.changes.recv()).await),
            None => sleep(FILE_INTERVAL).await,
        }
    }
}

/// A missing file lists nobody.
fn read_credentials(root: &Root, path: &Path) -> Result<ContainerCredentials, String> {
    let found = root.read_through_links(path, LARGEST_FILE_BYTES).map_err(|error| sentence(&error))?;
    let Some(found) = found else { return Ok(ContainerCredentials::default()) };
    ContainerCredentials::parse(&found.bytes).map_err(|error| format!("{}: {}", path.display(), sentence(&error)))
}

#[cfg(test)]
pub(super) mod tests;
