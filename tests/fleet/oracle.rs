//! The judge of every scenario: is a token that has not expired ever refused?
//!
//! Each second it has every API server mint a token for its own audience and one for STS, and presents live tokens to every
//! API server, without a client certificate, and to relying parties outside, who keep the issuer's documents for a while.
//! A server that does not answer, or answers something else than 401, has not refused a token: those wait for it to come back.

mod outside;
mod verdict;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use outside::{Judgement, Outsider};
pub use verdict::Verdict;
use verdict::{Refusal, Token};

use crate::{alone::block_on, api::Api, control_plane::Result, fleet::Fleet};

const PERIOD: Duration = Duration::from_secs(1);
/// Longest wait for a round to end.
const LIMIT: Duration = Duration::from_secs(60);
const STS: &str = "sts.amazonaws.com";
/// kube-apiserver gives no token for less (`pkg/apis/authentication/validation`).
const SHORTEST_SECONDS: u64 = 600;
const TOKEN_REQUEST: &str = "/api/v1/namespaces/kube-system/serviceaccounts/default/token";
/// Everybody may read it, but a token that is shown has to be good.
const ANYTHING: &str = "/version";
/// Every so many rounds tokens that are no good are presented too.
const CONTROLS_EVERY: usize = 5;

/// What the oracle has to know.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Whose documents the outsiders read; tokens of other issuers are not shown to them.
    pub issuer: String,
    /// How long each outsider keeps documents.
    pub caches: Vec<Duration>,
    /// How long a token counts as live outside: `rotation.tokenLifetime`.
    pub outside: Duration,
    /// How long a token counts as live for API servers: `rotation.verifyRetention`, at most ten minutes.
    pub inside: Duration,
}

/// One API server under its eyes.
#[derive(Clone, Debug)]
struct Server {
    name: String,
    administrator: Api,
    stranger: Api,
}

/// A running oracle; [`Oracle::finish`] gives its verdict.
pub struct Oracle {
    latest: Arc<Mutex<BTreeMap<String, Token>>>,
    servers: Arc<Mutex<Vec<Server>>>,
    rounds: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Verdict>>>,
}

impl Oracle {
    /// Starts it over every node of the fleet.
    pub fn start(fleet: &Fleet, expected: Expected) -> Result<Self> {
        let (rounds, stop, latest) = (Arc::default(), Arc::default(), Arc::default());
        let servers = Arc::<Mutex<Vec<Server>>>::default();
        let ways = (fleet.cloud.authority_pem(), fleet.cloud.proxy_url());
        let mut run = Run {
            expected,
            latest: Arc::clone(&latest),
            servers: Arc::clone(&servers),
            rounds: Arc::clone(&rounds),
            stop: Arc::clone(&stop),
            outsiders: Vec::new(),
            tokens: Vec::new(),
            verdict: Verdict::default(),
            begin: Instant::now(),
        };
        let thread = Some(thread::spawn(move || block_on(async { run.run(&ways).await.map(|()| run.verdict) })));
        let oracle = Self { latest, servers, rounds, stop, thread };
        fleet.nodes.iter().try_for_each(|node| oracle.watch(&node.name, &node.address, &node.root()))?;
        Ok(oracle)
    }

    /// From now on this server mints and judges too; another one of that name no longer does.
    pub fn watch(&self, name: &str, address: &str, root: &Path) -> Result<()> {
        let (administrator, stranger) = (Api::administrator(root, address)?, Api::stranger(root, address)?);
        let mut servers = lock(&self.servers);
        servers.retain(|server| server.name != name);
        servers.push(Server { name: name.to_owned(), administrator, stranger });
        Ok(())
    }

    /// The last token that each API server minted for its own audience, by node.
    pub fn latest(&self) -> BTreeMap<String, Token> {
        lock(&self.latest).clone()
    }

    /// Waits until `count` whole rounds have been made after this call.
    pub async fn rounds(&self, count: usize) -> Result<()> {
        // The one that runs now may have begun before.
        let enough = self.rounds.load(Ordering::Relaxed) + 1 + count;
        let made = async {
            while self.rounds.load(Ordering::Relaxed) < enough && !self.is_over() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LIMIT, made).await.map_err(|_| "the oracle makes no rounds")?;
        if self.is_over() { Err("the oracle has ended".into()) } else { Ok(()) }
    }

    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Makes two rounds more and ends.
    pub async fn finish(mut self) -> Result<Verdict> {
        let made = self.rounds(2).await;
        self.stop.store(true, Ordering::Relaxed);
        let verdict = self.thread.take().ok_or("no oracle")?.join().map_err(|_| "the oracle panicked")??;
        made.map(|()| verdict)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

/// What the thread works on.
struct Run {
    expected: Expected,
    latest: Arc<Mutex<BTreeMap<String, Token>>>,
    servers: Arc<Mutex<Vec<Server>>>,
    rounds: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    outsiders: Vec<Outsider>,
    tokens: Vec<Token>,
    verdict: Verdict,
    begin: Instant,
}

impl Run {
    async fn run(&mut self, (authority, proxy): &(PathBuf, String)) -> Result<()> {
        for cache in self.expected.caches.clone() {
            self.outsiders.push(Outsider::start(&self.expected.issuer, cache, authority, proxy)?);
        }
        while !self.stop.load(Ordering::Relaxed) {
            let next = Instant::now() + PERIOD;
            let servers = lock(&self.servers).clone();
            self.mint(&servers).await;
            self.present_inside(&servers).await;
            self.present_outside().await?;
            let made = self.rounds.fetch_add(1, Ordering::Relaxed);
            if made.is_multiple_of(CONTROLS_EVERY) {
                self.present_controls(&servers).await?;
            }
            sleep_until(next).await;
        }
        Ok(())
    }

    async fn mint(&mut self, servers: &[Server]) {
        let begin = self.begin;
        let minted = join_all(servers.iter().map(|server| mint(server, begin))).await;
        let (inside, outside, now) = (self.expected.inside, self.expected.outside, begin.elapsed());
        self.tokens.retain(|token| now < token.at + if token.is_for_sts { outside } else { inside });
        for token in minted.into_iter().flatten() {
            self.verdict.minted += 1;
            self.verdict.classes.insert(token.class());
            lock(&self.latest).insert(token.minter.clone(), token.clone());
            self.tokens.push(token);
        }
    }

    /// The newest and the oldest of each class: the fate of those between them is theirs.
    fn chosen(&self, is_for_sts: bool) -> Vec<Token> {
        let mut ends: BTreeMap<_, (&Token, &Token)> = BTreeMap::new();
        for token in self.tokens.iter().filter(|token| token.is_for_sts == is_for_sts) {
            ends.entry(token.class()).or_insert((token, token)).1 = token;
        }
        ends.into_values().flat_map(|(oldest, newest)| [oldest.clone(), newest.clone()]).collect()
    }

    async fn present_inside(&mut self, servers: &[Server]) {
        let tokens = self.chosen(false);
        let judged = join_all(servers.iter().map(|server| judge(server, &tokens))).await;
        for (server, good) in servers.iter().zip(judged) {
            for (token, good) in tokens.iter().zip(good) {
                self.note(&server.name, token, if good { Ok(()) } else { Err("401".to_owned()) });
            }
        }
    }

    async fn present_outside(&mut self) -> Result<()> {
        let mut tokens = self.chosen(true);
        tokens.retain(|token| token.issuer == self.expected.issuer);
        let mut outsiders = std::mem::take(&mut self.outsiders);
        for outsider in &mut outsiders {
            for token in &tokens {
                match outsider.ask(STS, &token.text).await? {
                    Judgement::Good => self.note(&outsider.name, token, Ok(())),
                    Judgement::Refused(why) => self.note(&outsider.name, token, Err(why)),
                    Judgement::Unreadable(why) => self.verdict.unreadable.push(why),
                }
            }
        }
        self.outsiders = outsiders;
        Ok(())
    }

    /// A token with a broken signature, and one for another audience: whoever takes them judges nothing.
    async fn present_controls(&mut self, servers: &[Server]) -> Result<()> {
        let find = |is_for_sts| self.tokens.iter().rfind(|token| token.is_for_sts == is_for_sts).cloned();
        let (Some(inside), Some(outside)) = (find(false), find(true)) else { return Ok(()) };
        let inside_controls = [broken(&inside), outside.clone()];
        let judged = join_all(servers.iter().map(|server| judge(server, &inside_controls))).await;
        for (server, good) in servers.iter().zip(judged) {
            good.into_iter().for_each(|good| self.verdict.control(&server.name, good));
        }
        for outsider in &mut self.outsiders {
            let broken = outsider.ask(STS, &broken(&outside).text).await?;
            let misdirected = outsider.ask("vault", &outside.text).await?;
            for judgement in [broken, misdirected] {
                match judgement {
                    Judgement::Unreadable(_) => (),
                    known => self.verdict.control(&outsider.name, known == Judgement::Good),
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, judge: &str, token: &Token, judged: std::result::Result<(), String>) {
        self.verdict.checks += 1;
        if let Err(why) = judged {
            let (judge, token, at) = (judge.to_owned(), token.clone(), self.begin.elapsed());
            self.verdict.refused.push(Refusal { judge, token, why, at });
        }
    }
}

/// One token of each kind, as far as the server gives them.
async fn mint(server: &Server, begin: Instant) -> Vec<Token> {
    let mut tokens = Vec::new();
    for audiences in [vec![], vec![STS]] {
        let spec = json!({ "audiences": audiences, "expirationSeconds": SHORTEST_SECONDS });
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
        let at = begin.elapsed();
        let Ok(answer) = server.administrator.post(TOKEN_REQUEST, &request).await else { return tokens };
        let text = || Some(serde_json::from_slice::<Value>(&answer.body).ok()?["status"]["token"].as_str()?.to_owned());
        tokens.extend(text().and_then(|text| read(&server.name, &text, at, !audiences.is_empty())));
    }
    tokens
}

fn read(minter: &str, text: &str, at: Duration, is_for_sts: bool) -> Option<Token> {
    let part = |index| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(text.split('.').nth(index)?).ok()?).ok();
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let (kid, issuer) = (word(&part(0)?["kid"])?, word(&part(1)?["iss"])?);
    Some(Token { minter: minter.to_owned(), kid, issuer, is_for_sts, at, text: text.to_owned() })
}

/// Whether the server takes each token, as far as it answers: one that is down is not asked further.
async fn judge(server: &Server, tokens: &[Token]) -> Vec<bool> {
    let mut judged = Vec::new();
    for token in tokens {
        match server.stranger.get(ANYTHING, Some(&token.text)).await.map(|answer| answer.status) {
            Ok(401) => judged.push(false),
            Ok(200) => judged.push(true),
            Ok(_) | Err(_) => return judged,
        }
    }
    judged
}

/// The same with other bits in the middle of its signature.
fn broken(token: &Token) -> Token {
    let middle = token.text.rfind('.').unwrap_or_default() + 100;
    let (head, tail) = token.text.split_at(middle);
    let other = if tail.starts_with('A') { "B" } else { "A" };
    Token { text: format!("{head}{other}{}", &tail[1..]), ..token.clone() }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
