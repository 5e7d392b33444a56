//! A fleet on which irsad runs, with documents in S3, under the eyes of the oracle.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    cloud::Cloud,
    control_plane::Result,
    fleet::{Fleet, KUBEADM},
    irsad::{Machine, Said},
    node::{MANIFEST, Node},
    oracle::{Expected, Oracle, Verdict},
};

/// The issuer of [`CONFIG`].
pub const ISSUER: &str = "https://irsad-fleet.s3.eu-west-1.amazonaws.com";
const IRSAD: &str = "/etc/irsad/irsad.yaml";
/// Short clocks. The oracle's are the same, less what a round takes.
const CONFIG: &str = "version: 1\ncluster: fleet\nissuer: { store: \"s3://irsad-fleet\" }\naws: { region: eu-west-1 }\n\
                      rotation: { belowFloors: true, period: never, publishLead: 5s, tokenLifetime: 20s, verifyRetention: 60s }\n\
                      apiServer: { evidenceTimeout: 40s }\nwebhook: { mode: none }\nmetrics: { port: 0 }\n";
const CACHE: Duration = Duration::from_secs(4);
const OUTSIDE: Duration = Duration::from_secs(18);
const INSIDE: Duration = Duration::from_secs(58);
/// Longest wait for anything that irsad is to do by itself, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(600);
const PACE: Duration = Duration::from_secs(3);
const SHORTEST_PACE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);
/// What a daemon writes after each pass.
const REPORT: &str = "/run/irsad/status.json";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/irsad";

/// A fleet, irsad on each node, and the oracle.
pub struct Scene {
    oracle: Oracle,
    pub fleet: Fleet,
    config: String,
    _pace: mpsc::Sender<()>,
}

impl Scene {
    /// Three nodes as kubeadm leaves them; irsad starts now.
    pub async fn adopt() -> Result<Self> {
        Self::adopt_with(|_| Ok(())).await
    }

    /// The same after `change`.
    pub async fn adopt_with(change: impl Fn(&Fleet) -> Result<()>) -> Result<Self> {
        let fleet = Fleet::start(3).await?;
        change(&fleet)?;
        let mut scene = Self::over(fleet, CONFIG.to_owned())?;
        scene.oracle.rounds(1).await?;
        scene.start_irsad()?;
        Ok(scene)
    }

    /// Three nodes of a cluster that `irsad prepare` was there for before kubeadm: it signs as ours from its first token. irsad runs
    /// and has nothing to do.
    pub async fn prepared() -> Result<Self> {
        Self::prepared_with(Cloud::start().ok_or("no moto")?, "").await
    }

    /// The same with `more` in the configuration.
    pub async fn prepared_with(cloud: Cloud, more: &str) -> Result<Self> {
        let config = format!("{CONFIG}{more}");
        let prepare = |root: &Path| {
            let machine = Machine::at(root);
            machine.write(IRSAD, &config)?;
            let said = machine.run(&["prepare", "--kubeadm-config", KUBEADM])?;
            if said.code == Some(0) { Ok(()) } else { Err(format!("irsad prepare: {said:?}").into()) }
        };
        let fleet = Fleet::start_with(3, cloud, prepare).await?;
        let mut scene = Self::over(fleet, config)?;
        // As `kubeadm init` comes before `kubeadm join`: this node has the key that `irsad prepare` made to sign next.
        scene.start_irsad_on(0)?;
        scene.until("the first node leads", async |scene| Ok(scene.leader().await == Some(0))).await?;
        (1..3).try_for_each(|index| scene.start_irsad_on(index))?;
        scene.until_converged().await?;
        // What it saw before the first publication was the first node's way to start, not irsad's.
        scene.oracle = oracle(&scene.fleet)?;
        scene.oracle.rounds(1).await?;
        Ok(scene)
    }

    fn over(fleet: Fleet, config: String) -> Result<Self> {
        Ok(Self { oracle: oracle(&fleet)?, _pace: quicken(&fleet), fleet, config })
    }

    fn start_irsad(&mut self) -> Result<()> {
        (0..self.fleet.nodes.len()).try_for_each(|index| self.start_irsad_on(index))
    }

    fn start_irsad_on(&mut self, index: usize) -> Result<()> {
        let node = &mut self.fleet.nodes[index];
        node.machine.write(IRSAD, &self.config)?;
        node.start_irsad()
    }

    /// Puts a new machine in the place of a node, with irsad on it from the start.
    pub async fn replace(&mut self, index: usize, address: &str) -> Result<()> {
        self.fleet.replace(index, address).await?;
        let node = &mut self.fleet.nodes[index];
        node.machine.write(IRSAD, &self.config)?;
        node.power_on()?;
        self.oracle.watch(&node.name, &node.address, &node.root())?;
        node.ready().await
    }

    /// A command on a node, which has to succeed.
    pub fn command(&self, index: usize, arguments: &[&str]) -> Result<Said> {
        let said = self.fleet.nodes[index].machine.run(arguments)?;
        if said.code == Some(0) { Ok(said) } else { Err(format!("irsad {arguments:?}: {said:?}").into()) }
    }

    /// The node whose irsad leads, by its place; `None` while nobody does.
    pub async fn leader(&self) -> Option<usize> {
        let lease = self.fleet.get(LEASE).await.ok()?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        self.fleet.nodes.iter().position(|node| holder.starts_with(&format!("{}_", node.name)))
    }

    /// Ends the leader's irsad at whatever it does, frees its Lease, as a person may, and starts it again. False where nobody leads.
    pub async fn kill_leader(&mut self) -> Result<bool> {
        let Some(leader) = self.leader().await else { return Ok(false) };
        self.fleet.nodes[leader].kill_irsad();
        self.free_lease().await?;
        self.fleet.nodes[leader].start_irsad()?;
        Ok(true)
    }

    /// Frees the Lease: whoever is first leads, whoever led believes so for a moment longer.
    pub async fn free_lease(&self) -> Result<()> {
        // The API server may be the next to restart: kubectl would wait there for the end of what is already there anew.
        let delete = ["-n", "kube-system", "delete", "lease", "irsad", "--ignore-not-found", "--wait=false"];
        self.fleet.kubectl(&delete).await.map(drop)
    }

    /// The newest generation of the keyring that a node remembers, 0 before there is one, and that node's place.
    pub fn newest(&self) -> (u64, usize) {
        let generation = |node: &Node| {
            let keyring: Value = serde_json::from_str(&node.machine.read("/var/lib/irsad/keyring.json").ok()?).ok()?;
            keyring["generation"].as_u64()
        };
        let all = self.fleet.nodes.iter().enumerate();
        all.map(|(index, node)| (generation(node).unwrap_or_default(), index)).max().unwrap_or_default()
    }

    /// Waits until `is_so`.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> Result<bool>) -> Result<()> {
        let (until, mut last) = (Instant::now() + PATIENCE, String::new());
        while Instant::now() < until {
            match is_so(self).await {
                Ok(true) => return Ok(()),
                Ok(false) => (),
                Err(error) => last = error.to_string(),
            }
            sleep(TICK).await;
        }
        Err(format!("waited in vain until {what} {last}\n{}", self.nodes()).into())
    }

    /// Waits until the irsad of a node says something with these words.
    pub async fn until_it_says(&self, index: usize, words: &str) -> Result<()> {
        let says = |scene: &Self| report(&scene.fleet.nodes[index]).map(|report| report.to_string().contains(words));
        self.until(&format!("node {} says: {words}", index + 1), async |scene| says(scene)).await
    }

    /// Waits until every irsad has nothing to do and nothing to wait for.
    pub async fn until_converged(&self) -> Result<()> {
        let is_converged = |node: &Node| report(node).is_ok_and(|report| report["health"] == "converged");
        self.until("every node is converged", async |scene| Ok(scene.fleet.nodes.iter().all(is_converged))).await
    }

    /// The kid that every API server signs with, if it is one and the issuer is ours.
    pub fn kid(&self) -> Option<String> {
        let latest = self.oracle.latest();
        let signs: BTreeSet<_> = latest.values().map(|token| (&token.kid, &token.issuer)).collect();
        let one = (latest.len() == self.fleet.nodes.len() && signs.len() == 1).then(|| signs.first()).flatten();
        one.filter(|(_, issuer)| *issuer == ISSUER).map(|(kid, _)| (*kid).clone())
    }

    /// Waits until every API server signs as ours with one key that is not `old`, and returns its kid.
    pub async fn until_rotated(&self, old: &str) -> Result<String> {
        let next = |scene: &Self| scene.kid().filter(|kid| kid != old);
        self.until("every API server signs with another key", async |scene| Ok(next(scene).is_some())).await?;
        next(self).ok_or_else(|| "the key has changed again".into())
    }

    /// What the nodes say, for a person who looks why a test fails.
    pub fn nodes(&self) -> String {
        let say = |node: &Node| {
            let said = node.machine.run(&["status"]).map(|said| said.stdout).unwrap_or_default();
            let starts = node.starts().len();
            format!("--- {}, {starts} starts\n{said}{}\n{}\n", node.name, node.journal(), node.log())
        };
        self.fleet.nodes.iter().map(say).collect()
    }

    /// Lets the oracle make rounds.
    pub async fn rounds(&self, count: usize) -> Result<()> {
        self.oracle.rounds(count).await
    }

    /// Ends the oracle, which must have nothing to say.
    pub async fn finish(self) -> Result<Verdict> {
        let verdict = self.oracle.finish().await?;
        verdict.assert_clean();
        Ok(verdict)
    }
}

fn oracle(fleet: &Fleet) -> Result<Oracle> {
    let caches = vec![Duration::ZERO, CACHE];
    Oracle::start(fleet, Expected { issuer: ISSUER.to_owned(), caches, outside: OUTSIDE, inside: INSIDE })
}

/// Has every irsad look at everything when one of them has done something, and each [`PACE`], until what this returns is dropped: one
/// of its files seems to change.
fn quicken(fleet: &Fleet) -> mpsc::Sender<()> {
    let paths = |path: &str| fleet.nodes.iter().map(|node| node.machine.path(path)).collect::<Vec<PathBuf>>();
    let (manifests, reports) = (paths(MANIFEST), paths(REPORT));
    let (stop, stopped) = mpsc::channel();
    thread::spawn(move || {
        let (mut looked_at, mut known) = (Instant::now(), Vec::new());
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let done: Vec<Option<Value>> = reports.iter().map(|path| last_action(path)).collect();
            let pace = if done == known { PACE } else { SHORTEST_PACE };
            if looked_at.elapsed() < pace {
                continue;
            }
            (looked_at, known) = (Instant::now(), done);
            for manifest in &manifests {
                // One that is not there has nobody who looks.
                let _ = fs::metadata(manifest).and_then(|found| fs::set_permissions(manifest, found.permissions()));
            }
        }
    });
    stop
}

/// What a daemon did last, and when.
fn last_action(report: &Path) -> Option<Value> {
    Some(serde_json::from_slice::<Value>(&fs::read(report).ok()?).ok()?["lastAction"].take())
}

/// What the daemon saw last.
fn report(node: &Node) -> Result<Value> {
    Ok(serde_json::from_str(&node.machine.read(REPORT)?)?)
}
