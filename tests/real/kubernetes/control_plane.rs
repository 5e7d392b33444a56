//! What a control plane of these tests is made of: the programs, what kubeadm writes, one etcd, the first objects.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Output},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::process::Kept;

/// What the bench returns: an error is a sentence for the person who reads the test's output.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Names the folder of the programs, made by `tests/kubernetes/build`.
pub const PROGRAMS: &str = "IRSAD_TEST_KUBERNETES";
/// The issuer kubeadm gives to every cluster.
pub const KUBEADM_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Longest time of a command.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// The folder of the programs; `None` when this machine has none and the test cannot run.
pub fn programs() -> Option<PathBuf> {
    env::var_os(PROGRAMS).filter(|folder| !folder.is_empty()).map(PathBuf::from)
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

/// One etcd member with the certificates kubeadm made for it, its data and log below `folder`, for clients at
/// `https://127.0.0.1:PORT`.
///
/// # Errors
/// When it cannot be started. That it does not serve shows in its log only.
pub fn etcd(folder: &Path, root: &Path, [port, peer_port]: [u16; 2]) -> Result<Kept> {
    let programs = programs().ok_or_else(|| format!("{PROGRAMS} is not set"))?;
    let arguments = etcd_arguments(folder, &root.join("etc/kubernetes/pki/etcd"), port, peer_port);
    Ok(Kept::start(programs.join("etcd"), arguments, folder.join("etcd.log"))?)
}

fn etcd_arguments(folder: &Path, pki: &Path, port: u16, peer_port: u16) -> Vec<String> {
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

/// What `kubeadm init` and the controller manager make through the API, as far as tests need it.
pub const OBJECTS: &str = "\
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

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// When it fails; the message is what it said on stderr. When it does not end: kubectl can wait for ever for an API server that is gone.
pub async fn said(command: &mut Command) -> Result<String> {
    let ended = timeout(COMMAND_LIMIT, command.kill_on_drop(true).output()).await;
    let Output { status, stdout, stderr } =
        ended.map_err(|_| format!("{:?} did not end within {COMMAND_LIMIT:?}", command.as_std()))??;
    if status.success() {
        return Ok(String::from_utf8(stdout)?);
    }
    Err(format!("{status}: {}", String::from_utf8_lossy(&stderr).trim()).into())
}
