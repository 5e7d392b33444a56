//! Stands in for kubelet: runs the API server of a manifest folder as a process, and restarts it when kubelet would.
//!
//! Follows kubernetes/kubernetes pkg/kubelet/config/file.go and file_linux.go: every file whose name does not begin with a
//! dot is a pod; a file that does not parse changes nothing until the next scan of the folder, which drops its pod; a pod
//! is replaced when its object changes, not when its bytes do. Two differences: times are short, and the process sees its
//! mounts as paths below a root folder, because it runs in no container.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use inotify::{Inotify, WatchMask};
use serde_json::Value;

use super::process::{end, spawn};

/// How often the folder is read as a whole (kubelet's `fileCheckFrequency`, there 20 s).
const SCAN_PERIOD: Duration = Duration::from_secs(1);
/// How long a process may take to end after SIGTERM (the pod's grace period, there 30 s).
const GRACE: Duration = Duration::from_secs(1);
/// First and longest wait before a process that ended by itself is started again (there 10 s and 5 min).
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
const TICK: Duration = Duration::from_millis(20);

/// Where the stand-in finds what it runs.
#[derive(Debug)]
pub struct Setup {
    /// The folder of static pods.
    pub manifests: PathBuf,
    /// What the pods' hostPath volumes are relative to.
    pub root: PathBuf,
    /// The folder of kube-apiserver.
    pub programs: PathBuf,
    /// Where API servers write their logs: `kube-apiserver-1.log` and on.
    pub logs: PathBuf,
}

/// One start of an API server.
#[derive(Clone, Debug)]
pub struct Start {
    /// Process id; stays the same from start to end.
    pub pid: u32,
    /// When it was started.
    pub at: SystemTime,
    /// The program and its flags as the process has them: paths are below the root folder.
    pub argv: Vec<String>,
    /// The file whose pod this is.
    pub file: String,
    /// Where it writes its log.
    pub log: PathBuf,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Every start of an API server, the latest last.
    pub starts: Vec<Start>,
    /// The process that runs now, if any.
    pub running: Option<u32>,
    /// How often a process ended by itself, or could not be started.
    pub failures: usize,
    /// Every name that was ever seen in the folder and that kubelet would have taken for a pod.
    pub seen: BTreeSet<String>,
    /// How often the whole folder was read and acted on.
    pub scans: u64,
}

/// A running stand-in; ends its processes when dropped.
#[derive(Debug)]
pub struct Kubelet {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Kubelet {
    /// Starts the API server as soon as the folder holds one.
    ///
    /// # Errors
    /// When the folder cannot be watched; then nothing runs. That the API server does not start shows in the record and the logs.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mask =
            WatchMask::CREATE | WatchMask::MODIFY | WatchMask::MOVED_TO | WatchMask::DELETE | WatchMask::MOVED_FROM;
        inotify.watches().add(&setup.manifests, mask)?;
        let (record, stop) = (Arc::default(), Arc::default());
        let node = Node { setup, inotify, record: Arc::clone(&record), pods: Vec::new(), running: None, hold: None };
        let stopped = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || node.run(&stopped)));
        Ok(Self { record, stop, thread })
    }

    /// What happened so far.
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed, and its end has ended its processes.
            let _ = thread.join();
        }
    }
}

/// A pod and the file it stands in.
#[derive(Clone, Debug, PartialEq)]
struct Pod {
    file: String,
    object: Value,
}

impl Pod {
    /// Reads a file as kubelet does; `None` when it would refuse it, or when it is no API server.
    fn read(manifests: &Path, file: &str) -> Option<Self> {
        let object: Value = serde_yaml::from_slice(&fs::read(manifests.join(file)).ok()?).ok()?;
        let pod = Self { file: file.to_owned(), object };
        let complete = pod.object["kind"] == "Pod" && pod.object["metadata"]["name"].is_string();
        (complete && pod.flags().is_some()).then_some(pod)
    }

    fn container(&self) -> Option<&Value> {
        self.object["spec"]["containers"].as_array()?.iter().find(|container| container["name"] == "kube-apiserver")
    }

    /// What stands behind the program in `command` and `args` together: kops starts it through another one.
    fn flags(&self) -> Option<Vec<&str>> {
        let container = self.container()?;
        let words = ["command", "args"].iter().filter_map(|field| container[field].as_array()).flatten();
        let words = words.map(Value::as_str).collect::<Option<Vec<_>>>()?;
        let program =
            words.iter().position(|word| Path::new(word).file_name().is_some_and(|name| name == "kube-apiserver"))?;
        Some(words[program + 1..].to_vec())
    }

    /// Where each mounted path of the container stands on the host.
    fn mounts(&self) -> Vec<(&str, &str)> {
        let volumes = self.object["spec"]["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let host_path = |name: &Value| {
            volumes.iter().find(|volume| volume["name"] == *name).and_then(|volume| volume["hostPath"]["path"].as_str())
        };
        let mounts = self.container().and_then(|container| container["volumeMounts"].as_array());
        let mounts = mounts.map(Vec::as_slice).unwrap_or_default().iter();
        mounts.filter_map(|mount| Some((mount["mountPath"].as_str()?, host_path(&mount["name"])?))).collect()
    }

    fn argv(&self, setup: &Setup) -> Vec<String> {
        let mounts = self.mounts();
        let mut argv = vec![setup.programs.join("kube-apiserver").display().to_string()];
        argv.extend(self.flags().unwrap_or_default().into_iter().map(|flag| match flag.split_once('=') {
            Some((name, value)) => format!("{name}={}", on_host(&setup.root, &mounts, value)),
            None => on_host(&setup.root, &mounts, flag),
        }));
        argv
    }
}

/// The path outside the container for a flag's value; values that are no path of a node stay as they are.
fn on_host(root: &Path, mounts: &[(&str, &str)], value: &str) -> String {
    if !["/etc/", "/srv/", "/var/"].iter().any(|prefix| value.starts_with(prefix)) {
        return value.to_owned();
    }
    let below = |mount: &str| Path::new(value).strip_prefix(mount).ok().map(Path::to_owned);
    let mounted = mounts.iter().filter_map(|(inside, outside)| Some((inside.len(), outside, below(inside)?)));
    match mounted.max_by_key(|(depth, ..)| *depth) {
        Some((_, outside, rest)) => root.join(outside.trim_start_matches('/')).join(rest).display().to_string(),
        // As in a container: what is not mounted is not there, however real it is on the node.
        None => format!("{}/not-mounted{value}", root.display()),
    }
}

/// The pod that runs, and its process.
#[derive(Debug)]
struct Running {
    pod: Pod,
    process: Child,
}

/// A pod that ended by itself: when it may start again, and how long it waited for that.
#[derive(Debug)]
struct Hold {
    pod: Pod,
    until: Instant,
    wait: Duration,
}

/// What the thread works on.
struct Node {
    setup: Setup,
    inotify: Inotify,
    record: Arc<Mutex<Record>>,
    /// In the order of arrival: of two pods with one name kubelet starts the earlier.
    pods: Vec<Pod>,
    running: Option<Running>,
    hold: Option<Hold>,
}

impl Node {
    fn run(mut self, stop: &AtomicBool) {
        let mut next_scan = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.read_events();
            let scan = Instant::now() >= next_scan;
            if scan {
                next_scan = Instant::now() + SCAN_PERIOD;
                self.scan();
            }
            self.act();
            lock(&self.record).scans += u64::from(scan);
            thread::sleep(TICK);
        }
        if let Some(running) = self.running.take() {
            end(running.process, Duration::ZERO);
        }
    }

    fn read_events(&mut self) {
        let mut buffer = [0; 4096];
        let Ok(events) = self.inotify.read_events(&mut buffer) else {
            return;
        };
        let names: Vec<_> = events.filter_map(|event| event.name?.to_str().map(str::to_owned)).collect();
        for name in names.into_iter().filter(|name| !name.starts_with('.')) {
            if let Some(pod) = Pod::read(&self.setup.manifests, &name) {
                self.arrive(pod);
            } else if !self.setup.manifests.join(&name).exists() {
                self.pods.retain(|pod| pod.file != name);
            }
            lock(&self.record).seen.insert(name);
        }
    }

    fn scan(&mut self) {
        let entries = fs::read_dir(&self.setup.manifests).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let names: BTreeSet<_> = names.filter(|name| !name.starts_with('.')).collect();
        let pods: Vec<_> = names.iter().filter_map(|name| Pod::read(&self.setup.manifests, name)).collect();
        self.pods.retain(|known| pods.iter().any(|pod| pod.file == known.file));
        pods.into_iter().for_each(|pod| self.arrive(pod));
        lock(&self.record).seen.extend(names);
    }

    fn arrive(&mut self, pod: Pod) {
        if !self.pods.contains(&pod) {
            self.pods.retain(|known| known.file != pod.file);
            self.pods.push(pod);
        }
    }

    fn act(&mut self) {
        if let Some(running) = self.running.take_if(|running| !self.pods.contains(&running.pod)) {
            lock(&self.record).running = None;
            end(running.process, GRACE);
        }
        if let Some(running) = self.running.take_if(|running| !matches!(running.process.try_wait(), Ok(None))) {
            self.failed(running.pod);
        }
        if self.running.is_none()
            && let Some(pod) = self.pods.first().cloned()
            && !self.hold.as_ref().is_some_and(|hold| hold.pod == pod && Instant::now() < hold.until)
        {
            self.start(pod);
        }
    }

    fn start(&mut self, pod: Pod) {
        let argv = pod.argv(&self.setup);
        let mut record = lock(&self.record);
        let log = self.setup.logs.join(format!("kube-apiserver-{}.log", record.starts.len() + 1));
        let Ok(process) = spawn(Path::new(&argv[0]), &argv[1..], &log) else {
            drop(record);
            return self.failed(pod);
        };
        let pid = process.id();
        record.running = Some(pid);
        record.starts.push(Start { pid, at: SystemTime::now(), argv, file: pod.file.clone(), log });
        self.running = Some(Running { pod, process });
    }

    fn failed(&mut self, pod: Pod) {
        let before = self.hold.take().filter(|hold| hold.pod == pod).map(|hold| hold.wait * 2);
        let wait = before.unwrap_or(BACK_OFF.0).min(BACK_OFF.1);
        self.hold = Some(Hold { pod, until: Instant::now() + wait, wait });
        let mut record = lock(&self.record);
        record.running = None;
        record.failures += 1;
    }
}

/// The record stays readable when the thread has panicked.
fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
