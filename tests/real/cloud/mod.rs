//! S3, IAM, STS, KMS and instance metadata for tests: moto, which keeps the state, behind a proxy that adds what moto does not check.
//!
//! One moto serves the whole test binary; each test has a [`Cloud`] of its own with its own faults and counters, and
//! should use bucket names and issuers of its own.

mod authority;
pub mod client;
mod denials;
mod fault;
mod front;
mod kms;
mod moto;
mod request;
mod rules;
mod server;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tempfile::TempDir;
use tokio::sync::oneshot;

use self::authority::Authority;
pub use self::{fault::Fault, moto::address as moto_address};

/// The account that every credential belongs to.
pub const ACCOUNT: &str = "123456789012";
/// The region that the instance metadata name.
pub const INSTANCE_REGION: &str = "eu-west-1";

/// A cloud for one test. Ends with it; a broken rule (a call without the expected owner, a write without a condition)
/// fails the test then.
pub struct Cloud {
    door: Door,
    folder: TempDir,
}

/// One way into a cloud, for a client that can be cut off by itself. Ends when dropped.
pub struct Door {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the connections of one door share, and with those of others.
struct Shared {
    moto: SocketAddr,
    authority: Arc<Authority>,
    state: Arc<Mutex<State>>,
    is_cut: AtomicBool,
    /// Requests of this door.
    counts: Mutex<BTreeMap<String, usize>>,
}

/// What the proxy knows beside moto.
#[derive(Default)]
struct State {
    /// Operation, fault, how many times more.
    faults: Vec<(String, Fault, usize)>,
    counts: BTreeMap<String, usize>,
    violations: Vec<String>,
    buckets: BTreeMap<String, rules::Bucket>,
    /// Audiences that were added to a provider, by ARN: moto cannot.
    audiences: BTreeMap<String, Vec<String>>,
    folders: BTreeMap<String, PathBuf>,
    /// What stands before buckets, by host name.
    fronts: BTreeMap<String, front::Front>,
}

impl Shared {
    fn new(moto: SocketAddr, authority: Arc<Authority>, state: Arc<Mutex<State>>) -> Self {
        Self { moto, authority, state, is_cut: AtomicBool::new(false), counts: Mutex::default() }
    }

    fn count(&self, operation: &str) {
        *self.state().counts.entry(operation.to_owned()).or_default() += 1;
        let mut counts = self.counts.lock().expect("no test thread panics while it counts");
        *counts.entry(operation.to_owned()).or_default() += 1;
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test thread panics while it holds the state")
    }
}

impl Cloud {
    /// Starts a cloud, or names it as missing.
    pub fn start() -> Option<Self> {
        let moto = match moto::address() {
            Ok(address) => address,
            Err(why) => {
                crate::missing("moto", &why);
                return None;
            }
        };
        let folder = TempDir::new().expect("a temporary folder");
        let authority = Arc::new(Authority::new());
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("the CA is written");
        let door = Door::open(Shared::new(moto, authority, Arc::default()));
        Some(Self { door, folder })
    }

    /// Another way in: everything is the same behind it.
    pub fn another_door(&self) -> Door {
        let Shared { moto, authority, state, .. } = &*self.door.shared;
        let (authority, state) = (Arc::clone(authority), Arc::clone(state));
        Door::open(Shared::new(*moto, authority, state))
    }

    /// For `aws.endpointUrl`, and for `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub fn endpoint_url(&self) -> String {
        self.door.url()
    }

    /// For `SSL_CERT_FILE`: the CA that signs for every host behind [`Self::proxy_url`].
    pub fn authority_pem(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For `HTTPS_PROXY`: plays every AWS endpoint, and every host given to [`Self::serve_folder`].
    pub fn proxy_url(&self) -> String {
        self.endpoint_url()
    }

    /// Environment of a process that reaches this cloud as it would reach AWS: by the real host names, through a proxy, with
    /// an instance profile. Set it on an empty environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.environment_through(&self.door)
    }

    /// The same through another door.
    pub fn environment_through(&self, door: &Door) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", door.url()),
            ("HTTPS_PROXY", door.url()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            ("SSL_CERT_FILE", self.authority_pem().display().to_string()),
        ]
    }

    /// Answers anonymous GETs for `host` from the files below `folder`.
    pub fn serve_folder(&self, host: &str, folder: &Path) {
        self.door.shared.state().folders.insert(host.to_owned(), folder.to_owned());
    }

    /// Answers anonymous GETs for `host` from the closed `bucket`, as CloudFront with origin access control does, and keeps copies while
    /// [`Self::keep_copies`] says so.
    pub fn serve_bucket(&self, host: &str, bucket: &str) {
        self.door.shared.state().fronts.insert(host.to_owned(), front::Front::of(bucket));
    }

    /// From now on the front at `host` gives what it has fetched last; or what the bucket holds.
    pub fn keep_copies(&self, host: &str, keeps: bool) {
        if let Some(front) = self.door.shared.state().fronts.get_mut(host) {
            front.keeps = keeps;
        }
    }

    /// The front at `host` gives these bytes for the path, while it keeps copies.
    pub fn put_copy(&self, host: &str, path: &str, body: &[u8]) {
        if let Some(front) = self.door.shared.state().fronts.get_mut(host) {
            front.copies.insert(path.to_owned(), body.to_vec());
        }
    }

    /// Lets the next `times` requests of `operation` meet `fault`. Operations have their API names (`PutObject`,
    /// `CreateOpenIDConnectProvider`, `GetCallerIdentity`); a GET without credentials is `AnonymousGet`.
    pub fn fail(&self, operation: &str, fault: Fault, times: usize) {
        self.door.shared.state().faults.push((operation.to_owned(), fault, times));
    }

    /// How many requests of `operation` came, repeated attempts included.
    pub fn requests(&self, operation: &str) -> usize {
        self.door.shared.state().counts.get(operation).copied().unwrap_or_default()
    }

    /// Requests by operation.
    pub fn all_requests(&self) -> BTreeMap<String, usize> {
        self.door.shared.state().counts.clone()
    }

    /// Makes `bucket` one of another account.
    pub fn give_away(&self, bucket: &str) {
        self.door.shared.state().buckets.entry(bucket.to_owned()).or_default().foreign = true;
    }

    /// Content-Type and Cache-Control of the last object that was put into `bucket`.
    pub fn last_served(&self, bucket: &str) -> (Option<String>, Option<String>) {
        self.door.shared.state().buckets.get(bucket).map(|bucket| bucket.last_served.clone()).unwrap_or_default()
    }

    /// Rules that requests broke, and forgets them.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.door.shared.state().violations)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.take_violations(), Vec::<String>::new(), "requests broke these rules");
        }
    }
}

impl Door {
    fn open(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let (stop, stopped) = oneshot::channel();
        let (listener, address) = server::listen();
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || server::run(listener, shared, stopped)
        });
        Self { shared, address, stop: Some(stop), thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that came through this door, by operation.
    pub fn requests(&self) -> BTreeMap<String, usize> {
        self.shared.counts.lock().expect("no test thread panics while it counts").clone()
    }

    /// From now on every connection through this door breaks, but for those to the instance's own metadata; or no longer.
    pub fn cut_off(&self, is_cut: bool) {
        self.shared.is_cut.store(is_cut, Ordering::Relaxed);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking() {
                assert!(ended.is_ok(), "the cloud's thread panicked");
            }
        }
    }
}
