//! A control plane of several nodes: one etcd, and on each node an API server with an address of its own.
//!
//! As after `kubeadm init` and `kubeadm join --control-plane`: the same authorities and service-account keys everywhere, manifests
//! and ConfigMap kubeadm-config by kubeadm itself. There is no kube-controller-manager and no kubelet but a stand-in.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    cloud::Cloud,
    control_plane::{OBJECTS, Result, etcd, kubeadm_within, programs, said},
    irsad::copy as copy_folder,
    network::NETWORK,
    node::Node,
    process::Kept,
};

/// Where the configuration that kubeadm is called with stands below a root.
pub const KUBEADM: &str = "/etc/kubeadm.yaml";
/// What etcd calls its data.
const ETCD: &str = "etcd";
const BACKUP: &str = "etcd-backup";
const ETCD_PORTS: [u16; 2] = [2379, 2380];

/// Control-plane nodes; everything ends with it.
pub struct Fleet {
    /// In order of their names.
    pub nodes: Vec<Node>,
    /// AWS, as all of them see it.
    pub cloud: Cloud,
    etcd: Option<Kept>,
    folder: TempDir,
}

impl Fleet {
    /// A cluster of `count` nodes as kubeadm leaves it: every API server is ready and registered.
    pub async fn start(count: usize) -> Result<Self> {
        Self::start_with(count, Cloud::start().ok_or("no moto")?, |_| Ok(())).await
    }

    /// The same, but `prepare` is called with the root folder of the first node when it holds nothing but [`KUBEADM`].
    pub async fn start_with(count: usize, cloud: Cloud, prepare: impl Fn(&Path) -> Result<()>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut nodes: Vec<Node> = Vec::new();
        let mut cluster = cluster_configuration();
        for number in 1..=count {
            let (name, address) = (format!("node-{number}"), format!("{NETWORK}.{number}"));
            let place = folder.path().join(&name);
            let root = place.join("root");
            make_configuration(&root, &name, &address, &cluster)?;
            match nodes.first() {
                None => {
                    prepare(&root)?;
                    cluster = fs::read_to_string(root.join(&KUBEADM[1..]))?.split("---\n").skip(1).collect();
                    make_first(&root)?;
                }
                Some(first) => make_joining(&root, &first.root())?,
            }
            make_manifest(&root, &address)?;
            nodes.push(Node::new(&name, &address, &place, &cloud)?);
        }
        let mut fleet = Self { nodes, cloud, etcd: None, folder };
        fleet.start_etcd()?;
        fleet.nodes.iter_mut().try_for_each(Node::start_kubelet)?;
        fleet.ready().await?;
        fleet.make_objects().await?;
        Ok(fleet)
    }

    /// Waits until every API server is ready.
    pub async fn ready(&self) -> Result<()> {
        try_join_all(self.nodes.iter().map(Node::ready)).await.map(drop)
    }

    /// How often the API server of each node was started, without the attempts that ended by themselves at once.
    pub fn starts(&self) -> Vec<usize> {
        self.nodes.iter().map(Node::good_starts).collect()
    }

    async fn ready_node(&self) -> Result<&Node> {
        for node in &self.nodes {
            if node.is_ready().await {
                return Ok(node);
            }
        }
        Err("no API server is ready".into())
    }

    /// What an API server that is ready gives an administrator at `path`, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.ready_node().await?.get(path).await
    }

    /// Runs kubectl as an administrator by the first API server that is ready, and returns what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        loop {
            match self.kubectl_once(arguments).await {
                // Between the look and the call it was its turn in a roll; nothing was done, and the next look finds another one.
                Err(error) if error.to_string().contains(":6443 was refused") => {}
                said => return said,
            }
        }
    }

    async fn kubectl_once(&self, arguments: &[&str]) -> Result<String> {
        let node = self.ready_node().await?;
        let mut command = Command::new(programs().ok_or("no programs")?.join("kubectl"));
        command.arg("--kubeconfig").arg(node.machine.path("/etc/kubernetes/super-admin.conf"));
        command.args(["--server", &format!("https://{}:6443", node.address), "--request-timeout", "10s"]);
        command.env("KUBECACHEDIR", self.folder.path().join("kubectl-cache")).env_remove("KUBECONFIG");
        said(command.args(arguments)).await
    }

    /// Copies etcd's data as they are now, while it stands still.
    pub fn back_up(&mut self) -> Result<()> {
        self.etcd = None;
        let [data, copy] = [ETCD, BACKUP].map(|name| self.folder.path().join(name));
        copy_folder(&data, &copy)?;
        self.start_etcd()
    }

    /// Goes back to the copy as the etcd documentation says: no API server runs meanwhile.
    pub async fn restore(&mut self) -> Result<()> {
        self.nodes.iter_mut().for_each(Node::kill_kubelet);
        self.etcd = None;
        let [data, copy] = [ETCD, BACKUP].map(|name| self.folder.path().join(name));
        fs::remove_dir_all(&data)?;
        copy_folder(&copy, &data)?;
        self.start_etcd()?;
        self.nodes.iter_mut().try_for_each(Node::start_kubelet)?;
        self.ready().await
    }

    /// Puts a new machine in the place of a node: the same name, `address`, nothing left of the old one. It joins as kubeadm has
    /// it: keys by the Secret of certificates, uploaded just now, flags by ConfigMap kubeadm-config. Nothing runs on it yet.
    pub async fn replace(&mut self, index: usize, address: &str) -> Result<()> {
        let name = self.nodes[index].name.clone();
        self.nodes[index].power_off();
        let place = self.folder.path().join(&name);
        fs::remove_dir_all(&place)?;
        self.kubectl(&["delete", "node", &name, "--wait=false"]).await?;
        let query = ["-n", "kube-system", "get", "configmap", "kubeadm-config", "-o"];
        let cluster = self.kubectl(&[&query[..], &["jsonpath={.data.ClusterConfiguration}"]].concat()).await?;
        let root = place.join("root");
        make_configuration(&root, &name, address, &cluster)?;
        make_joining(&root, &self.nodes[0].root())?;
        make_manifest(&root, address)?;
        self.nodes[index] = Node::new(&name, address, &place, &self.cloud)?;
        self.register(&self.nodes[index]).await?;
        Ok(())
    }

    fn start_etcd(&mut self) -> Result<()> {
        self.etcd = Some(etcd(self.folder.path(), &self.nodes[0].root(), ETCD_PORTS)?);
        Ok(())
    }

    /// Makes the Node object as kubelet registers it and kubeadm marks it.
    async fn register(&self, node: &Node) -> Result<()> {
        let labels = json!({ "kubernetes.io/hostname": node.name, "node-role.kubernetes.io/control-plane": "" });
        let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node.name, "labels": labels } });
        let path = self.folder.path().join("node.json");
        fs::write(&path, object.to_string())?;
        self.kubectl(&["create", "--filename", &path.display().to_string()]).await?;
        let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": node.address }] } });
        let patch = ["patch", "node", &node.name, "--subresource=status", "--patch", &status.to_string()];
        self.kubectl(&patch).await.map(drop)
    }

    async fn make_objects(&self) -> Result<()> {
        let objects = self.folder.path().join("objects.yaml");
        fs::write(&objects, OBJECTS)?;
        self.kubectl(&["apply", "--filename", &objects.display().to_string()]).await?;
        for node in &self.nodes {
            self.register(node).await?;
        }
        let upload = ["upload-config", "kubeadm", "--kubeconfig", "/etc/kubernetes/super-admin.conf"];
        kubeadm(&self.nodes[0].root(), &upload)
    }
}

/// What a person gives a new machine: the configuration for kubeadm.
fn make_configuration(root: &Path, name: &str, address: &str, cluster: &str) -> Result<()> {
    for below in ["etc/kubernetes/manifests", "etc/kubernetes/pki"] {
        fs::create_dir_all(root.join(below))?;
    }
    static MACHINES: AtomicU64 = AtomicU64::new(1);
    fs::write(root.join("etc/machine-id"), format!("{:032x}\n", MACHINES.fetch_add(1, Ordering::Relaxed)))?;
    Ok(fs::write(root.join(&KUBEADM[1..]), format!("{}---\n{cluster}", init_configuration(name, address)))?)
}

fn kubeadm(root: &Path, phase: &[&str]) -> Result<()> {
    kubeadm_within(root, &[&["init", "phase"], phase, &["--config", KUBEADM]].concat())
}

/// Authorities, certificates, keys and kubeconfigs of a new cluster.
fn make_first(root: &Path) -> Result<()> {
    [&["certs", "all"], &["kubeconfig", "admin"], &["kubeconfig", "super-admin"]]
        .iter()
        .try_for_each(|phase| kubeadm(root, *phase))
}

/// Those of a cluster that is there already.
fn make_joining(root: &Path, first: &Path) -> Result<()> {
    let below = "etc/kubernetes";
    copy_folder(&first.join(below).join("pki"), &root.join(below).join("pki"))?;
    for file in ["admin.conf", "super-admin.conf"] {
        fs::copy(first.join(below).join(file), root.join(below).join(file))?;
    }
    Ok(())
}

fn make_manifest(root: &Path, address: &str) -> Result<()> {
    kubeadm(root, &["control-plane", "apiserver"])?;
    // All nodes are one machine: each server listens on its own address only.
    let manifest = root.join("etc/kubernetes/manifests/kube-apiserver.yaml");
    let flag = format!("    - --advertise-address={address}\n");
    let text = fs::read_to_string(&manifest)?.replace(&flag, &format!("{flag}    - --bind-address={address}\n"));
    Ok(fs::write(&manifest, text)?)
}

fn init_configuration(name: &str, address: &str) -> String {
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {{ advertiseAddress: {address} }}\n\
         nodeRegistration: {{ name: {name}, criSocket: 'unix:///run/containerd/containerd.sock' }}\n"
    )
}

fn cluster_configuration() -> String {
    let names: String = (1..=5).map(|number| format!("  - {NETWORK}.{number}\n")).collect();
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n\
         controlPlaneEndpoint: {NETWORK}.1:6443\napiServer:\n  certSANs:\n{names}"
    )
}
