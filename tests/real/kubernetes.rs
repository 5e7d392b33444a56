//! A live control-plane node with one API server, below a folder.
//!
//! Real are kube-apiserver, etcd, kubectl, and the certificates, keys, kubeconfigs and manifest, which kubeadm made. Kubelet is
//! a stand-in (see [`kubelet`]). There is no kube-controller-manager, so service accounts do not come by themselves.

mod kubelet;

use std::{
    collections::BTreeSet,
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{self, Output},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

pub use kubelet::Start;
use kubelet::{Kubelet, Record, Setup};
use tokio::{
    process::Command,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};

/// What the bench returns: an error is a sentence for the person who reads the test's output.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Names the folder of the programs, made by `tests/kubernetes/build`.
pub const PROGRAMS: &str = "IRSAD_TEST_KUBERNETES";
/// The issuer kubeadm gives to every cluster.
pub const KUBEADM_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What kubeadm 1.36.3 wrote for a node at 192.0.2.10:6443 with etcd beside it.
const MANIFEST: &str = include_str!("../fixtures/kubeadm-1.36.3/default.yaml");
/// Longest wait for anything the bench waits for.
const LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
/// Each live node takes about 350 MiB and, while it starts, a whole core.
static PLACES: Semaphore = Semaphore::const_new(2);

/// The folder of the programs; `None` when this machine has none and the test cannot run.
pub fn programs() -> Option<PathBuf> {
    env::var_os(PROGRAMS).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// A live node; everything it started ends when it is dropped, also when the test is killed.
#[derive(Debug)]
pub struct Node {
    // Dropped first: its processes write below the folder.
    kubelet: Kubelet,
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
        let kubelet = Kubelet::start(Setup {
            manifests: root.join("etc/kubernetes/manifests"),
            programs: programs.clone(),
            logs: folder.path().join("logs"),
            etcd: etcd(folder.path(), &root.join("etc/kubernetes/pki/etcd"), etcd_port, peer_port),
            root,
        })?;
        let node = Self { kubelet, folder, programs, port, _place: place };
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
            let pid = self.kubelet.record().running;
            // The same process before and after: an old one that is just ending may still answer.
            if pid.is_some() && self.get("/readyz").await.is_ok() && self.kubelet.record().running == pid {
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

const OBJECTS: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: 'kubeadm:cluster-admins' }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'kubeadm:cluster-admins' }]
---
{ apiVersion: v1, kind: ServiceAccount, metadata: { name: default, namespace: kube-system } }
---
{ apiVersion: v1, kind: ServiceAccount, metadata: { name: default, namespace: default } }
";

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

/// One member, with the certificates kubeadm made for it.
fn etcd(folder: &Path, pki: &Path, port: u16, peer_port: u16) -> Vec<String> {
    let (client, peer) = (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let pki = pki.display();
    vec![
        format!("--data-dir={}/etcd", folder.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        format!("--cert-file={pki}/server.crt"),
        format!("--key-file={pki}/server.key"),
        format!("--trusted-ca-file={pki}/ca.crt"),
        "--client-cert-auth=true".to_owned(),
        // The data lives as long as the test.
        "--unsafe-no-fsync=true".to_owned(),
        "--heartbeat-interval=10".to_owned(),
        "--election-timeout=100".to_owned(),
    ]
}

/// Ports that nothing listens on, below the range from which the kernel gives ports to clients.
///
/// The API server must find its port free again after each restart, so a port of that range would not do.
fn free_ports() -> Result<[u16; 3]> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = 20_000_u32..32_000;
    let mut found = Vec::new();
    for _ in range.clone() {
        // Test processes side by side begin at different places.
        let step = process::id().wrapping_mul(97) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
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

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    Ok(fs::File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())?)
}

/// Runs the real kubeadm with `root` as its whole file system, and any of its configurations: it writes where it is told to.
pub fn kubeadm_within(root: &Path, arguments: &[&str]) -> Result<()> {
    let programs = programs().ok_or_else(|| format!("{PROGRAMS} is not set"))?;
    for folder in ["tmp", "etc/ssl/certs"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(programs.join("kubeadm"), root.join("kubeadm"))?;
    let script = "[ \"$(id -u)\" = 0 ] || set -- unshare --map-root-user \"$@\"; exec \"$@\"";
    let mut command = process::Command::new("sh");
    command.args(["-c", script, "sh", "chroot"]).arg(root).arg("/kubeadm").args(arguments);
    let Output { status, stderr, .. } = command.output()?;
    if status.success() { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&stderr).trim()).into()) }
}

/// Runs a program to its end and returns what it printed; its error is what it said on stderr.
async fn said(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.kill_on_drop(true).output().await?;
    if status.success() {
        return Ok(String::from_utf8(stdout)?);
    }
    Err(format!("{status}: {}", String::from_utf8_lossy(&stderr).trim()).into())
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::Value;

    use super::*;

    /// A node, or `None` where the programs are missing: `tests/setup` names that at the end.
    async fn node() -> Result<Option<Node>> {
        if programs().is_none() {
            crate::missing("Kubernetes programs", "make kubernetes builds them");
            return Ok(None);
        }
        Node::start().await.map(Some)
    }

    /// Puts a manifest in place as a careful editor does: written elsewhere, then renamed.
    fn replace(node: &Node, text: &str) -> Result<()> {
        let staged = node.root().join("etc/kubernetes/.staged");
        fs::write(&staged, text)?;
        Ok(fs::rename(staged, node.manifest())?)
    }

    fn part(token: &str, index: usize) -> Result<Value> {
        let part = token.split('.').nth(index).ok_or("a token has three parts")?;
        Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
    }

    #[tokio::test]
    async fn node_mints_tokens_it_accepts_and_serves_their_key() -> Result<()> {
        let Some(node) = node().await? else {
            return Ok(());
        };
        let token = node.mint(Some("sts.amazonaws.com")).await?;
        assert_eq!(part(&token, 1)?["iss"], KUBEADM_ISSUER);
        assert_eq!(part(&token, 1)?["aud"], serde_json::json!(["sts.amazonaws.com"]));
        let jwks: Value = serde_json::from_str(&node.get("/openid/v1/jwks").await?)?;
        assert_eq!(part(&token, 0)?["kid"], jwks["keys"][0]["kid"]);
        assert!(!node.accepts(&token).await?, "a token for STS is none for the API");
        assert!(node.accepts(&node.mint(None).await?).await?);
        assert_eq!(node.starts().len(), 1);
        Ok(())
    }

    #[tokio::test]
    async fn api_server_restarts_for_a_changed_pod_and_only_for_that() -> Result<()> {
        let Some(node) = node().await? else {
            return Ok(());
        };
        let before = fs::read_to_string(node.manifest())?;
        replace(&node, &format!("# a comment\n{before}"))?;
        node.settled().await?;
        assert_eq!(node.starts().len(), 1, "a comment is not part of the pod");

        let annotated = before.replace("  annotations:\n", "  annotations:\n    irsad/applied: \"1\"\n");
        assert_ne!(annotated, before);
        replace(&node, &annotated)?;
        node.ready().await?;
        let starts = node.starts();
        assert_eq!(starts.len(), 2, "{starts:?}");
        assert_eq!(starts[0].argv, starts[1].argv);
        assert_ne!(starts[0].pid, starts[1].pid);
        assert!(starts[0].at < starts[1].at);

        let ours = "https://oidc.example.com";
        let flag = "    - --service-account-issuer=";
        replace(&node, &annotated.replace(flag, &format!("{flag}{ours}\n{flag}")))?;
        node.ready().await?;
        assert_eq!(node.starts().len(), 3);
        let token = node.mint(None).await?;
        assert_eq!(part(&token, 1)?["iss"], ours);
        assert_eq!(part(&token, 1)?["aud"], serde_json::json!([ours, KUBEADM_ISSUER]));
        assert_eq!(node.seen(), BTreeSet::from(["kube-apiserver.yaml".to_owned()]));
        Ok(())
    }

    #[tokio::test]
    async fn broken_missing_and_refused_manifests_stop_the_api_server_until_it_is_put_right() -> Result<()> {
        let Some(node) = node().await? else {
            return Ok(());
        };
        let before = fs::read_to_string(node.manifest())?;
        let pid = node.starts()[0].pid;

        // Torn: kubelet drops the pod at its next scan.
        fs::write(node.manifest(), &before[..700])?;
        node.settled().await?;
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        replace(&node, &before)?;
        node.ready().await?;
        assert_eq!(node.starts().len(), 2);

        replace(&node, &before.replace("--service-account-issuer=", "--service-account-issuer=not a url:%%"))?;
        node.failed(2).await?;
        assert!(node.log().contains("was not a valid URL"), "{}", node.log());
        assert!(node.get("/readyz").await.is_err());
        replace(&node, &before)?;
        node.ready().await?;
        let starts = node.starts();
        assert!(starts.len() >= 5, "the refused one is tried again with back-off: {starts:?}");

        fs::remove_file(node.manifest())?;
        node.settled().await?;
        assert_eq!(node.kubelet.record().running, None);
        Ok(())
    }

    #[tokio::test]
    async fn backup_beside_the_manifest_is_a_pod_that_takes_over_at_the_next_edit() -> Result<()> {
        let Some(node) = node().await? else {
            return Ok(());
        };
        let before = fs::read_to_string(node.manifest())?;
        fs::write(node.root().join("etc/kubernetes/manifests/.hidden"), &before)?;
        fs::write(node.root().join("etc/kubernetes/manifests/kube-apiserver.yaml.bak"), &before)?;
        node.settled().await?;
        assert_eq!(node.starts().len(), 1);
        assert_eq!(
            node.seen(),
            BTreeSet::from(["kube-apiserver.yaml".to_owned(), "kube-apiserver.yaml.bak".to_owned()])
        );
        replace(&node, &before.replace("  labels:\n", "  labels:\n    edited: \"1\"\n"))?;
        node.started(2).await?;
        assert_eq!(node.starts()[1].file, "kube-apiserver.yaml.bak");
        Ok(())
    }

    #[tokio::test]
    async fn dropped_node_leaves_no_process_and_no_file() -> Result<()> {
        let Some(node) = node().await? else {
            return Ok(());
        };
        let (folder, pid) = (node.folder.path().to_owned(), node.starts()[0].pid);
        drop(node);
        assert!(!folder.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        Ok(())
    }

    #[tokio::test]
    async fn file_that_is_not_mounted_is_not_there_for_the_api_server() -> Result<()> {
        let Some(node) = node().await? else {
            return Ok(());
        };
        fs::copy(node.root().join("etc/kubernetes/pki/sa.pub"), node.root().join("etc/kubernetes/elsewhere.pub"))?;
        let flag = "--service-account-key-file=/etc/kubernetes/";
        let text =
            fs::read_to_string(node.manifest())?.replace(&format!("{flag}pki/sa.pub"), &format!("{flag}elsewhere.pub"));
        replace(&node, &text)?;
        node.failed(1).await?;
        assert!(node.log().contains("elsewhere.pub: no such file or directory"), "{}", node.log());
        Ok(())
    }
}
