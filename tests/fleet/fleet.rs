//! A control plane of several nodes: one etcd, and on each node an API server with an address of its own.
//!
//! As after `kubeadm init` and `kubeadm join --control-plane`: the same authorities and service-account keys everywhere, manifests
//! and ConfigMap kubeadm-config by kubeadm itself. There is no kube-controller-manager and no kubelet but a stand-in.

use std::{fs, path::Path};

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    cloud::Cloud,
    control_plane::{OBJECTS, Result, etcd, kubeadm_within, programs, said},
    irsad::copy,
    network::NETWORK,
    node::Node,
    process::Kept,
};

/// Where the configuration that kubeadm is called with stands below a root.
const KUBEADM: &str = "/etc/kubeadm.yaml";
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
            make_files(&place.join("root"), &name, &address, nodes.first().map(Node::root).as_deref())?;
            nodes.push(Node::new(&name, &address, &place, &cloud)?);
        }
        let mut fleet = Self { nodes, cloud, etcd: None, folder };
        fleet.start_etcd()?;
        fleet.nodes.iter_mut().try_for_each(Node::power_on)?;
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

    /// Runs kubectl as an administrator by the API server of the first node and returns what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let node = &self.nodes[0];
        let mut command = Command::new(programs().ok_or("no programs")?.join("kubectl"));
        command.arg("--kubeconfig").arg(node.machine.path("/etc/kubernetes/super-admin.conf"));
        command.args(["--server", &format!("https://{}:6443", node.address), "--request-timeout", "10s"]);
        command.env("KUBECACHEDIR", self.folder.path().join("kubectl-cache")).env_remove("KUBECONFIG");
        said(command.args(arguments)).await
    }

    fn start_etcd(&mut self) -> Result<()> {
        self.etcd = Some(etcd(self.folder.path(), &self.nodes[0].root(), ETCD_PORTS)?);
        Ok(())
    }

    async fn make_objects(&self) -> Result<()> {
        let objects = self.folder.path().join("objects.yaml");
        let nodes: Vec<Value> = self.nodes.iter().map(node_object).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": nodes });
        fs::write(&objects, format!("{OBJECTS}---\n{list}\n"))?;
        self.kubectl(&["apply", "--filename", &objects.display().to_string()]).await?;
        for node in &self.nodes {
            let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": node.address }] } });
            let patch = status.to_string();
            self.kubectl(&["patch", "node", &node.name, "--subresource=status", "--patch", &patch]).await?;
        }
        let upload = ["init", "phase", "upload-config", "kubeadm", "--config", KUBEADM, "--kubeconfig"];
        kubeadm_within(&self.nodes[0].root(), &[&upload[..], &["/etc/kubernetes/super-admin.conf"]].concat())
    }
}

/// As kubelet registers it and kubeadm marks it.
fn node_object(node: &Node) -> Value {
    let labels = json!({ "kubernetes.io/hostname": node.name, "node-role.kubernetes.io/control-plane": "" });
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node.name, "labels": labels } })
}

/// What kubeadm writes below the root of a node: all of it on the first one, with authorities and keys of `first` on another.
fn make_files(root: &Path, name: &str, address: &str, first: Option<&Path>) -> Result<()> {
    for below in ["etc/kubernetes/manifests", "etc/kubernetes/pki"] {
        fs::create_dir_all(root.join(below))?;
    }
    fs::write(root.join("etc/machine-id"), format!("{:0>32}\n", name.replace(|c: char| !c.is_ascii_hexdigit(), "")))?;
    fs::write(root.join(&KUBEADM[1..]), kubeadm_configuration(name, address))?;
    let kubeadm = |phase: &[&str]| kubeadm_within(root, &[&["init", "phase"], phase, &["--config", KUBEADM]].concat());
    match first {
        None => {
            kubeadm(&["certs", "all"])?;
            kubeadm(&["kubeconfig", "admin"])?;
            kubeadm(&["kubeconfig", "super-admin"])?;
        }
        Some(first) => copy(&first.join("etc/kubernetes"), &root.join("etc/kubernetes"))?,
    }
    kubeadm(&["control-plane", "apiserver"])?;
    // All nodes are one machine: each server listens on its own address only.
    let manifest = root.join("etc/kubernetes/manifests/kube-apiserver.yaml");
    let flag = format!("    - --advertise-address={address}\n");
    let text = fs::read_to_string(&manifest)?.replace(&flag, &format!("{flag}    - --bind-address={address}\n"));
    Ok(fs::write(&manifest, text)?)
}

fn kubeadm_configuration(name: &str, address: &str) -> String {
    let names: Vec<String> = (1..=5).map(|number| format!("{NETWORK}.{number}")).collect();
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {{ advertiseAddress: {address} }}\n\
         nodeRegistration: {{ name: {name}, criSocket: 'unix:///run/containerd/containerd.sock' }}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n\
         controlPlaneEndpoint: {NETWORK}.1:6443\napiServer: {{ certSANs: [{}] }}\n",
        names.join(", ")
    )
}
