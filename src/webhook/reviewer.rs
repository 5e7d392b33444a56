//! From the body of a request to the body of its answer: reads the review, finds the pod's account, lets the model answer.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use hyper::body::Bytes;
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    accounts::{Accounts, Unanswered},
    stats::Outcome,
};
use crate::model::pod_identity::{Account, ContainerCredentials, PodIdentity, Review, ReviewError, RoleMap};

/// From this size on, in bytes, a review is worked on beside the thread that answers all others.
const LARGE_BYTES: usize = 256 << 10;
/// So many large reviews at once: each may need some ten times its size in memory.
const LARGE_AT_ONCE: usize = 1;
/// Most objects in one review. A container of two bytes becomes one of hundreds in the answer, and a pod that etcd takes has room for
/// no more than this.
const MOST_OBJECTS: usize = 40_000;
/// How long a review waits for the first list of service accounts before the API server is told to ask again.
const FILLING_LIMIT: Duration = Duration::from_secs(1);

/// All that decides how a pod is changed, beside its account.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// What the configuration says.
    pub settings: PodIdentity,
    /// Longest time that a pod waits for its service account.
    pub grace: Duration,
    /// The ConfigMap, empty where there is none.
    pub fallback: RoleMap,
    /// The file of container credentials, empty where there is none.
    pub credentials: ContainerCredentials,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// A review, or a sentence where the status is no success.
    pub body: Vec<u8>,
    /// What it means.
    pub outcome: Outcome,
}

impl Reply {
    /// A status with a sentence.
    pub fn refusal(status: StatusCode, sentence: &str) -> Self {
        let outcome = match status {
            StatusCode::SERVICE_UNAVAILABLE => Outcome::Unavailable,
            status if status.is_server_error() => Outcome::Failed,
            _ => Outcome::Refused,
        };
        Self { status, body: format!("{sentence}\n").into_bytes(), outcome }
    }
}

/// Answers reviews.
#[derive(Debug)]
pub struct Reviewer {
    accounts: Arc<Accounts>,
    mutation: RwLock<Arc<Mutation>>,
    large: Semaphore,
    /// The last review was not answered because the API server did not answer.
    is_failing: AtomicBool,
    jitter: (RandomState, AtomicU64),
}

impl Reviewer {
    /// A reviewer of pods with these accounts.
    pub fn new(accounts: Arc<Accounts>, mutation: Mutation) -> Arc<Self> {
        Arc::new(Self {
            accounts,
            mutation: RwLock::new(Arc::new(mutation)),
            large: Semaphore::new(LARGE_AT_ONCE),
            is_failing: AtomicBool::new(false),
            jitter: (RandomState::new(), AtomicU64::new(0)),
        })
    }

    /// Changes how pods are changed from the next review on.
    pub fn change(&self, change: impl FnOnce(&mut Mutation)) {
        let mut mutation = self.mutation.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut mutation));
    }

    /// How pods are changed at the moment.
    pub fn mutation(&self) -> Arc<Mutation> {
        Arc::clone(&self.mutation.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers one review within `limit`, which the caller has from the API server.
    ///
    /// An own failure is a status from 500 on: then the registration's failure policy decides about the pod. 503 means that the
    /// same request can be made again.
    pub async fn review(self: &Arc<Self>, body: Bytes, limit: Duration) -> Reply {
        if !self.accounts.is_full(FILLING_LIMIT.min(limit)).await {
            let why = "the service accounts of this cluster are still being listed; ask again";
            return Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, why);
        }
        if body.iter().filter(|byte| **byte == b'{').count() > MOST_OBJECTS {
            let why = format!("the body has more than {MOST_OBJECTS} objects");
            return Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &why);
        }
        if body.len() < LARGE_BYTES {
            return self.answer(&body, limit).await;
        }
        let Ok(_place) = self.large.acquire().await else { return broken() };
        let (reviewer, handle) = (Arc::clone(self), Handle::current());
        let work = tokio::task::spawn_blocking(move || handle.block_on(reviewer.answer(&body, limit)));
        work.await.unwrap_or_else(|_| broken())
    }

    async fn answer(self: &Arc<Self>, body: &[u8], limit: Duration) -> Reply {
        let review = match Review::parse(body) {
            Ok(review) => review,
            Err(error) => return refused(&error),
        };
        let mutation = self.mutation();
        let account = match self.find(&review, &mutation, limit).await {
            Ok(account) => account,
            Err(why) => return Reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, &why),
        };
        let Mutation { settings, fallback, credentials, .. } = &*mutation;
        let decision = settings.decide(&review, account.as_ref(), fallback, credentials, self.jitter());
        let outcome = if decision.patches { Outcome::Patched } else { Outcome::Unchanged };
        Reply { status: StatusCode::OK, body: decision.body, outcome }
    }

    /// The pod's account, or why nobody knows.
    async fn find(&self, review: &Review<'_>, mutation: &Mutation, limit: Duration) -> Result<Option<Account>, String> {
        let (namespace, name) = (review.namespace(), review.service_account());
        if name.is_empty() {
            return Ok(None);
        }
        match self.accounts.find(namespace, name, limit.min(mutation.grace)).await {
            Ok(account) => {
                self.is_failing.store(false, Ordering::Relaxed);
                Ok(account)
            }
            Err(Unanswered { why, last_known }) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        namespace,
                        service_account = name,
                        "a pod's service account could not be asked for: {why}"
                    );
                }
                let Mutation { settings, fallback, credentials, .. } = mutation;
                // A role that it had a moment ago is better than a pod without credentials; that it had none is no answer.
                let had_role = last_known.is_some()
                    && settings.method(namespace, name, last_known.as_ref(), fallback, credentials).is_some();
                if had_role { Ok(last_known) } else { Err(why) }
            }
        }
    }

    /// Any number, another one each time.
    fn jitter(&self) -> u64 {
        let (state, counter) = &self.jitter;
        state.hash_one(counter.fetch_add(1, Ordering::Relaxed))
    }
}

fn refused(error: &ReviewError) -> Reply {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    Reply { status, body: error.answer(), outcome: Outcome::Refused }
}

/// Only while the process ends.
fn broken() -> Reply {
    Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, "irsad is stopping; ask again")
}
