//! Many control-plane nodes where there are three: the others have a Node object, an address, evidence as theirs, and are
//! registered as kube-apiserver registers itself. Who asks one of them is answered by a real one.

use std::{fs, process::Command, sync::mpsc, thread, time::Duration};

use ::irsad::{
    cluster::{ApiServer, secrets::SecretStore},
    model::{
        report::{Health, KeyringReport, Report},
        rotation::Ack,
    },
    store::{Condition, Store},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{alone::block_on, api::Api, figure::Result, network::NETWORK, node::Node, three::Three};

/// Nodes then.
pub const MOST: usize = 50;
const PORT: u16 = 6443;
/// Where kube-apiserver registers itself in etcd (kubernetes/kubernetes `pkg/controlplane/reconcilers/lease.go`).
const REGISTERED: &str = "/registry/masterleases/";

/// Lets the control plane grow, and waits until all is as it should be.
pub async fn join(three: &Three) -> Result {
    let fleet = &three.fleet;
    for number in 1..=MOST {
        // Replaced, because the first ones are there.
        let said = Command::new("ip").args(["address", "replace", &address(number), "dev", "lo"]).output()?;
        if !said.status.success() {
            return Err(format!("ip address replace: {}", String::from_utf8_lossy(&said.stderr)).into());
        }
    }
    answer(fleet.nodes.len())?;
    let first = &fleet.nodes[0];
    let (administrator, etcd) = (Api::administrator(&first.root(), &first.address)?, etcd(first)?);
    let store = keyring(first)?;
    let evidence = store.get(&format!("acks/{}.json", first.name)).await?.ok_or("no evidence of the first node")?;
    let evidence: Ack = serde_json::from_slice(&evidence.body)?;
    for number in fleet.nodes.len() + 1..=MOST {
        let (name, address) = (format!("simulated-{number}"), address(number));
        let ack =
            Ack { node: name.clone(), machine: format!("{number:032x}"), address: address.clone(), ..evidence.clone() };
        store.put(&format!("acks/{name}.json"), &serde_json::to_vec_pretty(&ack)?, &Condition::Absent).await?;
        accepted(administrator.post("/api/v1/nodes", &node(&name, &address)).await?)?;
        accepted(etcd.post("/v3/kv/put", &registration(&address)).await?)?;
    }
    while registered(first).await? < MOST {
        sleep(Duration::from_secs(1)).await;
    }
    // Each looks at the control plane once in ten minutes by itself.
    three.look_again()?;
    let is_whole = |keyring: &KeyringReport| keyring.members.len() == MOST;
    let is_done = |report: &Report| report.health == Health::Converged && report.keyring.as_ref().is_some_and(is_whole);
    three.until("there are 50 nodes", |reports| reports.iter().all(is_done)).await
}

fn address(number: usize) -> String {
    format!("{NETWORK}.{number}")
}

/// Serves at the addresses that are nobody's, until the process ends.
fn answer(real: usize) -> Result {
    let (bound, is_bound) = mpsc::channel();
    thread::spawn(move || {
        block_on(async {
            for number in real + 1..=MOST {
                match TcpListener::bind((address(number), PORT)).await {
                    Ok(listener) => drop(tokio::spawn(pass_on(listener, address(number % real + 1)))),
                    Err(error) => return drop(bound.send(Err(error))),
                }
            }
            drop(bound.send(Ok(())));
            std::future::pending::<()>().await;
        });
    });
    Ok(is_bound.recv()??)
}

async fn pass_on(listener: TcpListener, to: String) {
    while let Ok((mut here, _)) = listener.accept().await {
        let to = to.clone();
        tokio::spawn(async move {
            if let Ok(mut there) = TcpStream::connect((to, PORT)).await {
                // Who goes away goes away.
                drop(copy_bidirectional(&mut here, &mut there).await);
            }
        });
    }
}

fn keyring(node: &Node) -> Result<SecretStore> {
    let kubeconfig = fs::read(node.machine.path("/etc/kubernetes/super-admin.conf"))?;
    Ok(SecretStore::new(ApiServer::connect(&kubeconfig, &node.address, PORT)?))
}

/// etcd's own API, as kube-apiserver may ask it.
fn etcd(node: &Node) -> Result<Api> {
    let pki = node.machine.path("/etc/kubernetes/pki");
    let certificate = CertificateDer::from_pem_file(pki.join("apiserver-etcd-client.crt"))?;
    let key = PrivateKeyDer::from_pem_file(pki.join("apiserver-etcd-client.key"))?;
    Api::holder(&pki.join("etcd/ca.crt"), certificate, key, "https://127.0.0.1:2379".to_owned())
}

fn node(name: &str, address: &str) -> Value {
    let labels = json!({ "kubernetes.io/hostname": name, "node-role.kubernetes.io/control-plane": "" });
    let status = json!({ "addresses": [{ "type": "InternalIP", "address": address }] });
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels }, "status": status })
}

fn registration(address: &str) -> Value {
    let subsets = json!([{ "addresses": [{ "ip": address }] }]);
    let endpoints =
        json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": address }, "subsets": subsets });
    json!({ "key": STANDARD.encode(format!("{REGISTERED}{address}")), "value": STANDARD.encode(endpoints.to_string()) })
}

/// How many API servers are.
async fn registered(node: &Node) -> Result<usize> {
    let slice = node.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await?;
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    Ok(endpoints.filter_map(|endpoint| endpoint["addresses"].as_array()).map(Vec::len).sum())
}

fn accepted(answer: crate::api::Answer) -> Result {
    match answer.status {
        200 | 201 => Ok(()),
        status => Err(format!("{status} {}", String::from_utf8_lossy(&answer.body)).into()),
    }
}
