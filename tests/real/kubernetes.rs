//! A live control-plane node with one API server, below a folder.
//!
//! Real are kube-apiserver, etcd, kubectl, and the certificates, keys, kubeconfigs and manifest, which kubeadm made. Kubelet is
//! a stand-in (see [`kubelet`]). There is no kube-controller-manager, so service accounts do not come by themselves.

mod control_plane;
mod kubelet;
pub mod process;

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

pub use control_plane::{KUBEADM_ISSUER, PROGRAMS, Result, kubeadm_within, programs};
use control_plane::{OBJECTS, etcd, said};
pub use kubelet::Start;
use kubelet::{Kubelet, Record, Setup};
use process::Kept;
use tokio::{
    process::Command,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};

/// What kubeadm 1.36.3 wrote for a node at 192.0.2.10:6443 with etcd beside it.
const MANIFEST: &str = include_str!("../fixtures/kubeadm-1.36.3/default.yaml");
/// Longest wait for anything the bench waits for.
const LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
/// Each live node takes about 350 MiB and, while it starts, a whole core; then its test mostly waits.
static PLACES: Semaphore = Semaphore::const_new(3);

/// A live node; everything it started ends when it is dropped, also when the test is killed.
#[derive(Debug)]
pub struct Node {
    // Dropped first: its processes write below the folder.
    kubelet: Kubelet,
    _etcd: Kept,
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    _place: SemaphorePermit<'static>,
}

impl Node {
    /// A node as `kubeadm init` leaves it: the API server is ready, `kube-system/default` is there.
    ///
    /// # Errors
    /// When [`PROGRAMS`] is not set or a part does not start; nothing is left running.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| Ok(())).await
    }

    /// The same, but `change` is called with the root folder before anything runs: files are there, processes are not.
    /// The manifest is still that of 192.0.2.10:6443 then, and gets this node's own addresses afterwards.
    ///
    /// # Errors
    /// As [`Node::start`], and those of `change`.
    pub async fn start_with(change: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let programs =
            programs().ok_or_else(|| format!("{PROGRAMS} is not set; run tests/setup and source its environment"))?;
        let place = PLACES.acquire().await?;
        let folder = tempfile::Builder::new().prefix("irsad-node-").tempdir()?;
        let root = folder.path().join("root");
        let [port, etcd_port, peer_port] = free_ports()?;
        for below in ["root/etc/kubernetes/manifests", "kubectl-cache", "logs"] {
            fs::create_dir_all(folder.path().join(below))?;
        }
        kubeadm(&programs, folder.path(), port).await?;
        let manifest = root.join("etc/kubernetes/manifests/kube-apiserver.yaml");
        write_private(&manifest, MANIFEST)?;
        change(&root)?;
        let text = fs::read_to_string(&manifest)?
            .replace("192.0.2.10", "127.0.0.1")
            .replace("6443", &port.to_string())
            .replace("127.0.0.1:2379", &format!("127.0.0.1:{etcd_port}"));
        fs::write(&manifest, text)?;
        let etcd = etcd(folder.path(), &root, [etcd_port, peer_port])?;
        let kubelet = Kubelet::start(Setup {
            manifests: root.join("etc/kubernetes/manifests"),
            programs: programs.clone(),
            logs: folder.path().join("logs"),
            root,
        })?;
        let node = Self { kubelet, _etcd: etcd, folder, programs, port, _place: place };
        node.ready().await?;
        node.finish_as_kubeadm().await?;
        Ok(node)
    }

    /// The folder that stands for the node's `/`: give it to `irsad --root`.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The API server's manifest.
    pub fn manifest(&self) -> PathBuf {
        self.root().join("etc/kubernetes/manifests/kube-apiserver.yaml")
    }

    /// The administrator's kubeconfig, as kubeadm makes it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root().join("etc/kubernetes/admin.conf")
    }

    /// `https://127.0.0.1:PORT`, the same as advertise address and secure port in the manifest.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Every start of the API server so far; the first is that of [`Node::start`].
    pub fn starts(&self) -> Vec<Start> {
        self.kubelet.record().starts
    }

    /// The API server that runs now, by process id.
    pub fn running(&self) -> Option<u32> {
        self.kubelet.record().running
    }

    /// Every name that ever stood in the manifest folder, however short, and that kubelet would have taken for a pod.
    pub fn seen(&self) -> BTreeSet<String> {
        self.kubelet.record().seen
    }

    /// The last lines of the latest API server's log.
    pub fn log(&self) -> String {
        let log = self.starts().pop().and_then(|start| fs::read_to_string(start.log).ok()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits until everything that stands in the manifest folder now has been read and acted on.
    ///
    /// After it, [`Node::starts`] holds the restart that an edit before it caused, or will never hold one.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub async fn settled(&self) -> Result<()> {
        // The scan that runs now may have read the folder before the edit.
        let enough = self.kubelet.record().scans + 2;
        self.wait_for("the manifest folder to be read", |record| record.scans >= enough).await
    }

    /// Waits until the API server that the manifest folder asks for now runs and is ready.
    ///
    /// # Errors
    /// When it is not ready within a minute; the message ends with its log.
    pub async fn ready(&self) -> Result<()> {
        self.settled().await?;
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            let pid = self.running();
            // The same process before and after: an old one that is just ending may still answer.
            if pid.is_some() && self.get("/readyz").await.is_ok() && self.running() == pid {
                return Ok(());
            }
            sleep(TICK).await;
        }
        Err(format!("the API server is not ready after {LIMIT:?}:\n{}", self.log()).into())
    }

    /// Waits until the API server was started `count` times in all, the first start included.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub async fn started(&self, count: usize) -> Result<()> {
        self.wait_for(&format!("start {count} of the API server"), |record| record.starts.len() >= count).await
    }

    /// Waits until the API server ended by itself `count` times in all.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub async fn failed(&self, count: usize) -> Result<()> {
        self.wait_for(&format!("failure {count} of the API server"), |record| record.failures >= count).await
    }

    /// A token of `kube-system/default` for one audience, or with none for the API server's own.
    ///
    /// # Errors
    /// When the API server refuses; the message is kubectl's.
    pub async fn mint(&self, audience: Option<&str>) -> Result<String> {
        let mut arguments = vec!["create", "token", "default", "--namespace=kube-system"];
        arguments.extend(audience.iter().flat_map(|audience| ["--audience", audience]));
        Ok(self.kubectl(&arguments).await?.trim().to_owned())
    }

    /// Whether the API server takes this token for its own.
    ///
    /// # Errors
    /// When it could not be asked.
    pub async fn accepts(&self, token: &str) -> Result<bool> {
        let authority = self.root().join("etc/kubernetes/pki/ca.crt");
        let mut command = self.kubectl_command(Path::new("/dev/null"));
        command.args(["--server", &self.url(), "--token", token, "--certificate-authority"]).arg(authority);
        match said(command.args(["auth", "whoami"])).await {
            Ok(_) => Ok(true),
            Err(error) if error.to_string().contains("Unauthorized") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The body the API server gives an administrator at `path`.
    ///
    /// # Errors
    /// When the answer is not 200; the message is kubectl's.
    pub async fn get(&self, path: &str) -> Result<String> {
        said(self.kubectl_command(&self.super_admin()).args(["get", "--raw", path])).await
    }

    /// Runs kubectl as the administrator of [`Node::kubeconfig`] and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the message is kubectl's.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        said(self.kubectl_command(&self.kubeconfig()).args(arguments)).await
    }

    fn kubectl_command(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.arg("--kubeconfig").arg(kubeconfig).args(["--request-timeout", "10s"]);
        command.env("KUBECACHEDIR", self.folder.path().join("kubectl-cache")).env_remove("KUBECONFIG");
        command
    }

    fn super_admin(&self) -> PathBuf {
        self.root().join("etc/kubernetes/super-admin.conf")
    }

    /// What `kubeadm init` and the controller manager do through the API once it answers.
    async fn finish_as_kubeadm(&self) -> Result<()> {
        let manifests = self.folder.path().join("objects.yaml");
        fs::write(&manifests, OBJECTS)?;
        let until = Instant::now() + LIMIT;
        loop {
            let applied =
                said(self.kubectl_command(&self.super_admin()).args(["apply", "--filename"]).arg(&manifests)).await;
            // The namespace is made by the API server itself, shortly after it is ready.
            if applied.is_ok() || Instant::now() >= until {
                return applied.map(drop);
            }
            sleep(TICK).await;
        }
    }

    async fn wait_for(&self, what: &str, arrived: impl Fn(&Record) -> bool) -> Result<()> {
        let until = Instant::now() + LIMIT;
        while !arrived(&self.kubelet.record()) {
            if Instant::now() >= until {
                return Err(format!("waited {LIMIT:?} for {what}; {:?}\n{}", self.kubelet.record(), self.log()).into());
            }
            sleep(TICK).await;
        }
        Ok(())
    }
}

/// Ports that nothing listens on, below the range from which the kernel gives ports to clients.
///
/// The API server must find its port free again after each restart, so a port of that range would not do.
///
/// # Errors
/// When there are not so many.
pub fn free_ports() -> Result<[u16; 3]> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = 20_000_u32..32_000;
    let mut found = Vec::new();
    for _ in range.clone() {
        // Test processes side by side begin at different places.
        let step = std::process::id().wrapping_mul(97) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(range.start + step % (range.end - range.start))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.push(port);
        }
        if let [api_server, etcd, peer] = found[..] {
            return Ok([api_server, etcd, peer]);
        }
    }
    Err("no free port between 20000 and 32000".into())
}

/// Lets kubeadm make certificates, keys and kubeconfigs below the root folder.
async fn kubeadm(programs: &Path, folder: &Path, port: u16) -> Result<()> {
    let kubernetes = folder.join("root/etc/kubernetes");
    let configuration = folder.join("kubeadm.yaml");
    // kubeadm refuses a loopback advertise address; as endpoint and name in the certificate it takes one.
    let text = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n\
         localAPIEndpoint: {{ advertiseAddress: 192.0.2.10 }}\n\
         nodeRegistration: {{ name: node-1, criSocket: 'unix:///run/containerd/containerd.sock' }}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n\
         certificatesDir: {}\ncontrolPlaneEndpoint: 127.0.0.1:{port}\n",
        kubernetes.join("pki").display()
    );
    fs::write(&configuration, text)?;
    for phase in [["certs", "all"], ["kubeconfig", "admin"], ["kubeconfig", "super-admin"]] {
        let mut command = Command::new(programs.join("kubeadm"));
        command.args(["init", "phase"]).args(phase).arg("--config").arg(&configuration);
        if phase[0] == "kubeconfig" {
            command.arg("--kubeconfig-dir").arg(&kubernetes);
        }
        said(&mut command).await?;
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    Ok(fs::File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())?)
}
