//! A control plane of several nodes: one etcd, and on each node an API server with an address of its own.
//!
//! As after `kubeadm init` and `kubeadm join --control-plane`: the same authorities and service-account keys everywhere, manifests
//! and ConfigMap kubeadm-config by kubeadm itself. There is no kube-controller-manager and no kubelet but a stand-in.

use std::{fs, path::Path};

use futures_util::future::try_join_all;
use serde_json::json;
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
const KUBEADM: &str = "/etc/kubeadm.yaml";
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
        let cloud = Cloud::start().ok_or("no moto")?;
        let folder = tempfile::tempdir()?;
        let mut nodes = Vec::new();
        for number in 1..=count {
            let (name, address) = (format!("node-{number}"), format!("{NETWORK}.{number}"));
            let place = folder.path().join(&name);
            make_files(
                &place.join("root"),
                &name,
                &address,
                &cluster_configuration(),
                nodes.first().map(Node::root).as_deref(),
            )?;
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

    /// How often the API server of each node was started.
    pub fn starts(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.starts().len()).collect()
    }

    /// Runs kubectl as an administrator by the API server of the first node that has one, and returns what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let node = self.nodes.iter().find(|node| node.running().is_some()).ok_or("no API server runs")?;
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
        self.kubectl(&["delete", "node", &name]).await?;
        let query = ["-n", "kube-system", "get", "configmap", "kubeadm-config", "-o"];
        let cluster = self.kubectl(&[&query[..], &["jsonpath={.data.ClusterConfiguration}"]].concat()).await?;
        make_files(&place.join("root"), &name, address, &cluster, Some(&self.nodes[0].root()))?;
        fs::write(place.join("root/etc/machine-id"), format!("{:032x}\n", u128::MAX - index as u128))?;
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
        let upload = ["init", "phase", "upload-config", "kubeadm", "--config", KUBEADM, "--kubeconfig"];
        kubeadm_within(&self.nodes[0].root(), &[&upload[..], &["/etc/kubernetes/super-admin.conf"]].concat())
    }
}

/// What kubeadm writes below the root of a node: all of it on the first one, with authorities and keys of `first` on another.
fn make_files(root: &Path, name: &str, address: &str, cluster: &str, first: Option<&Path>) -> Result<()> {
    for below in ["etc/kubernetes/manifests", "etc/kubernetes/pki"] {
        fs::create_dir_all(root.join(below))?;
    }
    fs::write(root.join("etc/machine-id"), format!("{:0>32}\n", name.replace(|c: char| !c.is_ascii_hexdigit(), "")))?;
    fs::write(root.join(&KUBEADM[1..]), format!("{}---\n{cluster}", init_configuration(name, address)))?;
    let kubeadm = |phase: &[&str]| kubeadm_within(root, &[&["init", "phase"], phase, &["--config", KUBEADM]].concat());
    match first {
        None => {
            kubeadm(&["certs", "all"])?;
            kubeadm(&["kubeconfig", "admin"])?;
            kubeadm(&["kubeconfig", "super-admin"])?;
        }
        Some(first) => copy_folder(&first.join("etc/kubernetes"), &root.join("etc/kubernetes"))?,
    }
    kubeadm(&["control-plane", "apiserver"])?;
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
    let names: Vec<String> = (1..=5).map(|number| format!("{NETWORK}.{number}")).collect();
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n\
         controlPlaneEndpoint: {NETWORK}.1:6443\napiServer: {{ certSANs: [{}] }}\n",
        names.join(", ")
    )
}
