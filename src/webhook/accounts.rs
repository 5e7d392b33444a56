//! The service accounts of the cluster, as far as they matter: kept in step by a watch, asked for where they are missing.
//!
//! What stands here is trusted while the watch stands. A service account that is missing was made a moment ago, for the API server
//! lets no pod through to a webhook whose account does not exist (kubernetes/kubernetes `plugin/pkg/admission/serviceaccount`), so
//! it is asked for and never guessed. While the watch is cut, every account is asked for.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::watch as flag,
    time::{Instant, sleep, timeout_at},
};

use crate::model::pod_identity::Account;

/// Pause before an API server that could not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// What the API server says of one service account: `None` where it does not exist, a sentence where it gave no answer.
pub type Answer = Result<Option<Account>, String>;
/// An answer that is under way.
pub type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;
/// Asks the API server for the service account of this namespace and name.
pub type Ask = dyn Fn(String, String) -> Asking + Send + Sync;

/// How far what is kept can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The first list is not complete.
    Filling,
    /// Complete once, but changes may have been missed since.
    Cut,
    /// Every change is told within moments.
    Stands,
}

/// The API server gave no answer in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Why, as a sentence.
    pub why: String,
    /// The account as it was before the watch was cut.
    pub last_known: Option<Account>,
}

/// All service accounts of the cluster.
pub struct Accounts {
    known: RwLock<HashMap<Box<str>, Account>>,
    standing: flag::Sender<Standing>,
    asked: Mutex<HashMap<String, flag::Receiver<Option<Answer>>>>,
    ask: Box<Ask>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("known", &self.len()).field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl Accounts {
    /// None yet; what is missing is asked for by `ask`.
    pub fn new(ask: Box<Ask>) -> Arc<Self> {
        let standing = flag::Sender::new(Standing::Filling);
        Arc::new(Self { known: RwLock::default(), standing, asked: Mutex::default(), ask })
    }

    /// Takes these accounts, by `NAMESPACE/NAME`, in the place of all others: what a complete list said.
    pub fn replace(&self, all: HashMap<Box<str>, Account>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// This account was made or changed.
    pub fn put(&self, namespace: &str, name: &str, account: Account) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key(namespace, name).into(), account);
    }

    /// This account was deleted.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(key(namespace, name).as_str());
    }

    /// From now on every change is told.
    pub fn stand(&self) {
        self.standing.send_replace(Standing::Stands);
    }

    /// Changes may be missed from now on.
    pub fn cut(&self) {
        self.standing.send_modify(|standing| {
            if *standing == Standing::Stands {
                *standing = Standing::Cut;
            }
        });
    }

    /// Waits until the first list was complete, but no longer than `limit`; whether it was.
    pub async fn is_full(&self, limit: Duration) -> bool {
        // Without a timer, where the answer is there: this is asked for every pod.
        if *self.standing.borrow() != Standing::Filling {
            return true;
        }
        let mut standing = self.standing.subscribe();
        let full = standing.wait_for(|standing| *standing != Standing::Filling);
        matches!(tokio::time::timeout(limit, full).await, Ok(Ok(_)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The account of this namespace and name; `None` where there certainly is none. Asks the API server where it has to, again and
    /// again until `limit` has passed, and once for all who ask at the same time.
    ///
    /// # Errors
    /// It had to be asked and gave no answer.
    pub async fn find(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
        limit: Duration,
    ) -> Result<Option<Account>, Unanswered> {
        let key = key(namespace, name);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(key.as_str()).cloned();
        if known.is_some() && *self.standing.borrow() == Standing::Stands {
            return Ok(known);
        }
        let now = Instant::now();
        let until = now.checked_add(limit).unwrap_or(now);
        let mut why = format!("kube-apiserver did not say within {limit:?} what service account {key} is");
        while Instant::now() < until {
            let mut answer = self.ask_once(&key, namespace, name);
            match timeout_at(until, answer.wait_for(Option::is_some)).await {
                Ok(Ok(answer)) => match answer.clone() {
                    Some(Ok(account)) => return Ok(account),
                    Some(Err(reason)) => why = reason,
                    None => {}
                },
                // The question was dropped, which it is when the runtime ends.
                Ok(Err(_)) => {}
                Err(_) => break,
            }
            sleep(PAUSE.min(until.saturating_duration_since(Instant::now()))).await;
        }
        Err(Unanswered { why, last_known: known })
    }

    /// The answer to a question that is under way, or to a new one.
    fn ask_once(self: &Arc<Self>, key: &str, namespace: &str, name: &str) -> flag::Receiver<Option<Answer>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = asked.get(key) {
            return answer.clone();
        }
        let (sender, receiver) = flag::channel(None);
        asked.insert(key.to_owned(), receiver.clone());
        let (accounts, key) = (Arc::clone(self), key.to_owned());
        let asking = (self.ask)(namespace.to_owned(), name.to_owned());
        tokio::spawn(async move {
            let answer = asking.await;
            accounts.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            sender.send_replace(Some(answer));
        });
        receiver
    }
}

/// No namespace and no name holds a slash.
fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    fn account(role: &str) -> Account {
        Account::read([("eks.amazonaws.com/role-arn", role)], "eks.amazonaws.com")
    }

    /// Accounts whose API server says in turn what `script` says, with the number of questions.
    fn asked_of(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> (Arc<Accounts>, Arc<AtomicUsize>) {
        let questions = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&questions);
        let ask = move |_, _| -> Asking {
            let answer = script(count.fetch_add(1, Ordering::SeqCst));
            Box::pin(std::future::ready(answer))
        };
        (Accounts::new(Box::new(ask)), questions)
    }

    #[tokio::test]
    async fn known_account_is_not_asked_for_while_the_watch_stands() {
        let (accounts, questions) = asked_of(|_| Ok(Some(account("asked"))));
        accounts.replace(HashMap::from([("ns/app".into(), account("listed"))]));
        accounts.stand();
        assert_eq!(accounts.find("ns", "app", LIMIT).await, Ok(Some(account("listed"))));
        accounts.put("ns", "app", account("changed"));
        assert_eq!(accounts.find("ns", "app", LIMIT).await, Ok(Some(account("changed"))));
        assert_eq!(questions.load(Ordering::SeqCst), 0);
        accounts.remove("ns", "app");
        assert_eq!(accounts.find("ns", "app", LIMIT).await, Ok(Some(account("asked"))));
        accounts.put("ns", "app", account("late"));
        accounts.cut();
        assert_eq!(accounts.find("ns", "app", LIMIT).await, Ok(Some(account("asked"))));
        assert_eq!((questions.load(Ordering::SeqCst), accounts.len()), (2, 1));
    }

    #[tokio::test]
    async fn all_who_ask_at_once_for_the_same_account_ask_once() {
        let (gate, questions) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (held, count) = (Arc::clone(&gate), Arc::clone(&questions));
        let accounts = Accounts::new(Box::new(move |_, name| {
            count.fetch_add(1, Ordering::SeqCst);
            let held = Arc::clone(&held);
            Box::pin(async move {
                let _permit = held.acquire().await;
                Ok(Some(account(&name)))
            })
        }));
        let ask = |name: &'static str| {
            let accounts = Arc::clone(&accounts);
            tokio::spawn(async move { accounts.find("ns", name, LIMIT).await })
        };
        let all: Vec<_> = ["a", "a", "b", "a"].into_iter().map(|name| (name, ask(name))).collect();
        while questions.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(9);
        for (name, answer) in all {
            assert_eq!(answer.await.ok(), Some(Ok(Some(account(name)))));
        }
        assert_eq!(questions.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn failed_question_is_asked_again_until_the_limit() {
        let (accounts, questions) = asked_of(|earlier| if earlier < 3 { Err("busy".to_owned()) } else { Ok(None) });
        assert_eq!(accounts.find("ns", "app", LIMIT).await, Ok(None));
        assert_eq!(questions.load(Ordering::SeqCst), 4);

        let (accounts, _) = asked_of(|_| Err("busy".to_owned()));
        accounts.put("ns", "app", account("last"));
        let error = Unanswered { why: "busy".to_owned(), last_known: Some(account("last")) };
        assert_eq!(accounts.find("ns", "app", LIMIT).await, Err(error));
    }

    #[tokio::test]
    async fn question_without_an_answer_ends_at_the_limit() {
        let accounts = Accounts::new(Box::new(|_, _| Box::pin(std::future::pending())));
        let why = "kube-apiserver did not say within 1s what service account ns/app is".to_owned();
        assert_eq!(accounts.find("ns", "app", LIMIT).await, Err(Unanswered { why, last_known: None }));
    }

    #[tokio::test]
    async fn accounts_are_full_once_the_first_list_is_complete() {
        let (accounts, _) = asked_of(|_| Ok(None));
        assert!(!accounts.is_full(Duration::from_millis(1)).await);
        accounts.cut();
        assert!(!accounts.is_full(Duration::from_millis(1)).await);
        let waiting = Arc::clone(&accounts);
        let waiting = tokio::spawn(async move { waiting.is_full(LIMIT).await });
        tokio::task::yield_now().await;
        accounts.stand();
        assert_eq!(waiting.await.ok(), Some(true));
        accounts.cut();
        assert!(accounts.is_full(Duration::ZERO).await);
    }
}
