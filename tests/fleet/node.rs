//! One control-plane node of a fleet.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    api::Api,
    cloud::{Cloud, Door},
    control_plane::{Result, programs},
    irsad::{Daemon, Machine},
    kubelet::{Kubelet, Setup, Start},
};

/// The API server's manifest.
pub const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
/// Longest wait for an API server: three start at once on two cores.
const LIMIT: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(100);

/// kube-apiserver as kubelet starts it. The node's `gate`, where there is one, may refuse. The host name is part of its identity.
/// A third of its time is garbage collection, for memory that these machines have.
const LAUNCHER: &str = "#!/bin/sh\nset -e\n[ ! -e GATE ] || . GATE\nexport GOGC=400\n\
                        exec unshare --uts sh -c 'hostname \"$0\" && exec PROGRAM \"$@\"' NAME \"$@\"\n";

/// A node: its root folder, its kubelet, its irsad.
pub struct Node {
    /// Name of the Node object and of the host.
    pub name: String,
    /// Where its API server listens.
    pub address: String,
    /// irsad's view of it.
    pub machine: Machine,
    /// irsad's way to AWS.
    pub door: Door,
    /// Its irsad, while it runs. Dropped before the folder is.
    pub daemon: Option<Daemon>,
    kubelet: Option<Kubelet>,
    past: Vec<Start>,
    administrator: Api,
    folder: PathBuf,
}

impl Node {
    /// A node whose files are below `folder`/root. Nothing runs yet.
    pub fn new(name: &str, address: &str, folder: &Path, cloud: &Cloud) -> Result<Self> {
        let root = folder.join("root");
        for below in ["programs", "logs"] {
            fs::create_dir_all(folder.join(below))?;
        }
        let program = programs().ok_or("no programs")?.join("kube-apiserver");
        let launcher = LAUNCHER.replace("GATE", &folder.join("gate").display().to_string());
        let path = folder.join("programs/kube-apiserver");
        fs::write(&path, launcher.replace("PROGRAM", &program.display().to_string()).replace("NAME", name))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let door = cloud.another_door();
        let mut machine = Machine::at(&root);
        cloud.environment_through(&door).iter().for_each(|(variable, value)| machine.set(variable, value));
        // A host name of its own.
        let launcher = ["unshare", "--uts", "sh", "-c", "hostname \"$0\" && exec \"$@\"", name];
        machine.launcher = launcher.map(str::to_owned).to_vec();
        Ok(Self {
            name: name.to_owned(),
            address: address.to_owned(),
            machine,
            door,
            daemon: None,
            kubelet: None,
            past: Vec::new(),
            administrator: Api::administrator(&root, address)?,
            folder: folder.to_owned(),
        })
    }

    /// The folder that stands for its `/`.
    pub fn root(&self) -> PathBuf {
        self.machine.root().to_owned()
    }

    /// Starts kubelet, which starts the API server.
    pub fn start_kubelet(&mut self) -> Result<()> {
        let root = self.root();
        let setup = Setup {
            manifests: root.join("etc/kubernetes/manifests"),
            programs: self.folder.join("programs"),
            logs: self.folder.join("logs"),
            root,
        };
        self.kubelet = Some(Kubelet::start(setup)?);
        Ok(())
    }

    /// Ends kubelet and, at once, the API server.
    pub fn kill_kubelet(&mut self) {
        self.past = self.starts();
        self.kubelet = None;
    }

    /// Ends everything on it at once.
    pub fn power_off(&mut self) {
        self.kill_irsad();
        self.kill_kubelet();
    }

    /// Starts what runs on it.
    pub fn power_on(&mut self) -> Result<()> {
        self.start_kubelet()?;
        self.start_irsad()
    }

    /// Starts the daemon.
    pub fn start_irsad(&mut self) -> Result<()> {
        self.daemon = Some(self.machine.daemon(&[])?);
        Ok(())
    }

    /// Ends the daemon at whatever it does, as `kill -9`.
    pub fn kill_irsad(&mut self) {
        self.daemon = None;
    }

    /// Every start of the API server so far.
    pub fn starts(&self) -> Vec<Start> {
        let now = self.kubelet.as_ref().map(|kubelet| kubelet.record().starts).unwrap_or_default();
        [self.past.clone(), now].concat()
    }

    /// How often the API server was started and did not end by itself at once.
    pub fn good_starts(&self) -> usize {
        self.starts().len() - self.failures()
    }

    fn failures(&self) -> usize {
        self.kubelet.as_ref().map(|kubelet| kubelet.record().failures).unwrap_or_default()
    }

    /// The API server that runs now, by process id.
    pub fn running(&self) -> Option<u32> {
        self.kubelet.as_ref().and_then(|kubelet| kubelet.record().running)
    }

    /// From the next start on the API server runs `script` before it starts, which may `exit 1`; empty: no longer.
    pub fn gate(&self, script: &str) -> Result<()> {
        let path = self.folder.join("gate");
        if script.is_empty() { Ok(fs::remove_file(path)?) } else { Ok(fs::write(path, script)?) }
    }

    /// Replaces a file as a careful editor does.
    pub fn replace(&self, path: &str, text: &str) -> Result<()> {
        let staged = "/etc/kubernetes/.staged";
        self.machine.write(staged, text)?;
        Ok(fs::rename(self.machine.path(staged), self.machine.path(path))?)
    }

    /// Replaces the API server's manifest by what `change` makes of it.
    pub fn edit(&self, change: impl Fn(&str) -> String) -> Result<()> {
        self.replace(MANIFEST, &change(&self.machine.read(MANIFEST)?))
    }

    /// Waits until everything that stands in the manifest folder now has been read, and the API server that it asks for is ready.
    pub async fn ready(&self) -> Result<()> {
        let scans = || self.kubelet.as_ref().map(|kubelet| kubelet.record().scans).unwrap_or_default();
        // The scan that runs now may have read the folder before the edit.
        let enough = scans() + 2;
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            let pid = self.running();
            // The same process before and after: an old one that is just ending may still answer.
            let ready = scans() >= enough && pid.is_some() && self.is_ready().await && self.running() == pid;
            if ready {
                return Ok(());
            }
            sleep(TICK).await;
        }
        Err(format!("{}: the API server is not ready after {LIMIT:?}:\n{}", self.name, self.log()).into())
    }

    /// Waits until the API server ended by itself `count` times in all.
    pub async fn failed(&self, count: usize) -> Result<()> {
        let until = Instant::now() + LIMIT;
        while self.failures() < count {
            if Instant::now() >= until {
                return Err(format!("{}: the API server does not fail", self.name).into());
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// What its API server gives an administrator at `path`, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.administrator.get(path, None).await?;
        match answer.status {
            200 => Ok(serde_json::from_slice(&answer.body)?),
            status => Err(format!("{path}: {status} {}", String::from_utf8_lossy(&answer.body)).into()),
        }
    }

    /// Whether its API server says that it is ready.
    pub async fn is_ready(&self) -> bool {
        self.administrator.get("/readyz", None).await.is_ok_and(|answer| answer.status == 200)
    }

    /// The keys that its API server accepts, as a JWK Set.
    pub async fn jwks(&self) -> Result<Value> {
        self.get("/openid/v1/jwks").await
    }

    /// The last lines of the latest API server's log.
    pub fn log(&self) -> String {
        let log = self.starts().pop().and_then(|start| fs::read_to_string(start.log).ok()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// What its daemon has said.
    pub fn journal(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }
}
