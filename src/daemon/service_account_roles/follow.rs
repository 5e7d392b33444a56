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

use super::Duty;
use crate::{
    cluster::{ApiServer, Change, LabelledAccount, NoAnswer},
    model::{
        cluster_object::{OWNER, OWNER_LABEL},
        service_account_role::{AccountName, Known, MARK, SeenAccount, ServiceAccountRole},
    },
};

/// Pause before an API server that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// After so many failures in a row all is listed anew: the version may be one that the server does not know.
const MOST_FAILURES: u32 = 5;

/// What two followers fill and the worker reads.
#[derive(Debug, Default)]
pub(super) struct Watched {
    known: Mutex<Known>,
    news: Notify,
}

impl Watched {
    /// All that is known. Not to be held across a wait.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.known)
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
    let mut attempts = Attempts::default();
    while let Some(api) = api(&duties) {
        let outcome = follow_objects(&api, &watched, &mut attempts).await;
        attempts.after(outcome, "ServiceAccountRoles").await;
    }
}

/// Follows all service accounts, of which `annotation` names the role.
pub(super) async fn accounts(duties: flag::Receiver<Option<Duty>>, annotation: String, watched: Arc<Watched>) {
    let mut attempts = Attempts::default();
    while let Some(api) = api(&duties) {
        let outcome = follow_accounts(&api, &annotation, &watched, &mut attempts).await;
        attempts.after(outcome, "service accounts").await;
    }
}

fn api(duties: &flag::Receiver<Option<Duty>>) -> Option<ApiServer> {
    duties.borrow().as_ref().map(|duty| duty.hands.api.clone())
}

async fn follow_objects(api: &ApiServer, watched: &Watched, attempts: &mut Attempts) -> Result<(), NoAnswer> {
    let mut version = match attempts.version.take() {
        Some(version) => version,
        None => {
            let all = Mutex::new(Vec::new());
            let (begin, take) = (|| locked(&all).clear(), |object| locked(&all).push(object));
            let version = api.list_service_account_roles(begin, take).await?;
            let all = std::mem::take(&mut *locked(&all));
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
) -> Result<(), NoAnswer> {
    let mut version = match attempts.version.take() {
        Some(version) => version,
        None => {
            let all = Mutex::new(HashMap::new());
            let take = |found: LabelledAccount| locked(&all).extend(seen(found, annotation));
            let version = api.list_labelled_accounts(|| locked(&all).clear(), take).await?;
            let all = std::mem::take(&mut *locked(&all));
            watched.change(|known| known.replace_accounts(all));
            version
        }
    };
    let change = |change: Change<LabelledAccount>| match change {
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
    let ended = api.watch_labelled_accounts(&mut version, change).await;
    attempts.ended(version, ended)
}

fn seen(found: LabelledAccount, annotation: &str) -> Option<(AccountName, SeenAccount)> {
    let LabelledAccount { namespace, name, uid, labels, mut annotations } = found;
    let name = AccountName::new(&namespace, &name).ok()?;
    let account = SeenAccount {
        uid,
        role_arn: annotations.remove(annotation),
        mark: annotations.remove(MARK),
        is_made: labels.get(OWNER_LABEL).is_some_and(|owner| owner == OWNER),
    };
    Some((name, account))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How following one source has gone so far.
#[derive(Debug, Default)]
struct Attempts {
    /// Where to resume; without it all is listed.
    version: Option<String>,
    failures: u32,
    said: String,
}

impl Attempts {
    fn ended(&mut self, version: String, ended: Result<(), NoAnswer>) -> Result<(), NoAnswer> {
        let is_expired = matches!(ended, Err(NoAnswer::Expired { .. } | NoAnswer::NotFound { .. }));
        self.version = (!is_expired && self.failures < MOST_FAILURES).then_some(version);
        match ended {
            Err(NoAnswer::Expired { .. }) => Ok(()),
            other => other,
        }
    }

    /// Says what is new about the outcome, and waits where it was a failure.
    async fn after(&mut self, outcome: Result<(), NoAnswer>, what: &str) {
        let Err(error) = outcome else {
            self.failures = 0;
            self.said.clear();
            return;
        };
        self.failures = self.failures.saturating_add(1);
        let why = error.reason();
        // An API server that restarts is no news, nor is a definition that is about to be applied.
        if self.failures > 10 && self.said != why {
            tracing::warn!("cannot follow {what}: {why}");
            self.said.clone_from(&why);
        }
        sleep(PAUSE).await;
    }
}
