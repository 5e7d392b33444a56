//! Keeps what is known of objects and service accounts in step with the API server.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch as flag},
    time::sleep,
};

use super::{super::attempts::Attempts, Duty};
use crate::{
    cluster::{ApiServer, Change, Listed, NoAnswer, ServiceAccount},
    model::{
        cluster_object::{OWNER, OWNER_LABEL},
        service_account_role::{AccountName, Known, MARK, SeenAccount, ServiceAccountRole},
    },
};

/// Pause before an API server that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// So many failures in a row are no news: an API server that restarts, a definition that is about to be applied.
const PATIENCE: u32 = 10;

/// What two followers fill and the worker reads.
#[derive(Debug, Default)]
pub(super) struct Watched {
    known: Mutex<Known>,
    news: Notify,
}

impl Watched {
    /// All that is known. Not to be held across a wait.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed since the last time.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known());
        self.news.notify_one();
    }
}

/// Follows the objects for as long as there is a duty.
pub(super) async fn objects(duties: flag::Receiver<Option<Duty>>, watched: Arc<Watched>) {
    let mut attempts = Attempts::new("cannot follow ServiceAccountRoles", PATIENCE);
    while let Some(api) = api(&duties) {
        let outcome = follow_objects(&api, &watched, &mut attempts).await;
        after(outcome, &mut attempts).await;
    }
}

/// Follows all service accounts, of which `annotation` names the role.
pub(super) async fn accounts(duties: flag::Receiver<Option<Duty>>, annotation: String, watched: Arc<Watched>) {
    let mut attempts = Attempts::new("cannot follow service accounts", PATIENCE);
    while let Some(api) = api(&duties) {
        let outcome = follow_accounts(&api, &annotation, &watched, &mut attempts).await;
        after(outcome, &mut attempts).await;
    }
}

/// Says what came of an attempt, and waits where it was a failure.
async fn after(outcome: Result<(), String>, attempts: &mut Attempts) {
    attempts.note(&outcome);
    if outcome.is_err() {
        sleep(PAUSE).await;
    }
}

fn api(duties: &flag::Receiver<Option<Duty>>) -> Option<ApiServer> {
    duties.borrow().as_ref().map(|duty| duty.hands.api.clone())
}

async fn follow_objects(api: &ApiServer, watched: &Watched, attempts: &mut Attempts) -> Result<(), String> {
    let mut version = match attempts.resume() {
        Some(version) => version,
        None => {
            let (all, version) = api.list_service_account_roles().await.map_err(|error| error.reason())?;
            watched.change(|known| known.replace_objects(all));
            version
        }
    };
    let change = |change: Change<ServiceAccountRole>| {
        watched.change(|known| match change {
            Change::Put(object) => known.put_object(object),
            Change::Gone(object) => known.remove_object(&object.name),
        });
    };
    let ended = api.watch_service_account_roles(&mut version, change).await;
    attempts.ended(version, ended)
}

async fn follow_accounts(
    api: &ApiServer,
    annotation: &str,
    watched: &Watched,
    attempts: &mut Attempts,
) -> Result<(), String> {
    let mut version = match attempts.resume() {
        Some(version) => version,
        None => {
            let (all, version) = all_accounts(api, annotation).await.map_err(|error| error.reason())?;
            watched.change(|known| known.replace_accounts(all));
            version
        }
    };
    let change = |change: Change<ServiceAccount>| match change {
        Change::Put(found) => {
            if let Some((name, account)) = seen(found, annotation) {
                watched.change(|known| known.put_account(name, account));
            }
        }
        Change::Gone(found) => {
            if let Some((name, _)) = seen(found, annotation) {
                watched.change(|known| known.remove_account(&name));
            }
        }
    };
    let ended = api.watch_service_accounts(&mut version, || (), change).await;
    attempts.ended(version, ended)
}

/// All service accounts at this moment, and the resource version to watch from.
pub(super) async fn all_accounts(
    api: &ApiServer,
    annotation: &str,
) -> Result<(HashMap<AccountName, SeenAccount>, String), NoAnswer> {
    let mut all = HashMap::new();
    let take = |step| match step {
        Listed::Begun => all.clear(),
        Listed::One(found) => all.extend(seen(found, annotation)),
    };
    let version = api.list_service_accounts(take).await?;
    Ok((all, version))
}

/// What matters of a service account; `None` where its name is none.
fn seen(found: ServiceAccount, annotation: &str) -> Option<(AccountName, SeenAccount)> {
    let ServiceAccount { namespace, name, uid, labels, mut annotations } = found;
    let name = AccountName::new(&namespace, &name).ok()?;
    let account = SeenAccount {
        uid,
        role_arn: annotations.remove(annotation),
        mark: annotations.remove(MARK),
        is_made: labels.get(OWNER_LABEL).is_some_and(|owner| owner == OWNER),
    };
    Some((name, account))
}
