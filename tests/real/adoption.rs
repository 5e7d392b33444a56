//! irsad on a live control-plane node, from its first look to the last restart that it may cause.

mod front;
mod pods;
mod roles;
mod s3;
mod teardown;
mod trouble;
mod watching;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use irsad::model::key::SigningKey;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    cloud::Cloud,
    irsad::{Machine, PATIENCE, Result},
    kubernetes::{self, KUBEADM_ISSUER, Node, PROGRAMS, kubeadm_within},
    outsider,
};

const HOST: &str = "oidc.adoption.example";
const ISSUER: &str = "https://oidc.adoption.example";
const CONFIG: &str = "/etc/irsad/irsad.yaml";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const JWKS: &str = "/srv/oidc/openid/v1/jwks";
const STS: &str = "sts.amazonaws.com";
const TICK: Duration = Duration::from_millis(50);

/// A live node, irsad's configuration on it, and the world outside that sees `/srv/oidc` as [`ISSUER`].
struct Scene {
    node: Node,
    cloud: Cloud,
    machine: Machine,
}

/// A world outside; `None`, and said, where this machine lacks a part.
fn world_outside() -> Option<Cloud> {
    if kubernetes::programs().is_none() {
        crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
        return None;
    }
    Cloud::start()
}

/// irsad below `root`: documents in a folder, nothing in AWS, `more` at the end of the configuration.
fn folder_issuer(root: &Path, cloud: &Cloud, more: &str) -> Result<Machine> {
    let mut machine = Machine::at(root);
    machine.set("HTTPS_PROXY", &cloud.proxy_url());
    machine.set("SSL_CERT_FILE", &cloud.authority_pem().display().to_string());
    cloud.serve_folder(HOST, &machine.path("/srv/oidc"));
    machine.write(CONFIG, &configuration(more))?;
    Ok(machine)
}

fn configuration(more: &str) -> String {
    let issuer = format!("issuer: {{ store: \"file:///srv/oidc\", url: \"{ISSUER}\" }}\n");
    format!(
        "version: 1\ncluster: adoption\n{issuer}provider: {{ manage: false }}\nwebhook: {{ mode: none }}\nmetrics: {{ port: 0 }}\n{more}"
    )
}

impl Scene {
    /// `None`, and said, where this machine lacks a part.
    async fn start() -> Result<Option<Self>> {
        Self::start_with("", |_| Ok(())).await
    }

    /// The same with `more` configuration, and a change below the root before anything runs.
    async fn start_with(more: &str, change: impl FnOnce(&Machine) -> Result) -> Result<Option<Self>> {
        let Some(cloud) = world_outside() else { return Ok(None) };
        let node = Node::start_with(|root| change(&Machine::at(root))).await?;
        let machine = folder_issuer(&node.root(), &cloud, more)?;
        Ok(Some(Self { node, cloud, machine }))
    }

    /// A node that finds AWS as it would on an instance, with irsad's whole `configuration`.
    async fn in_aws(cloud: Cloud, configuration: &str) -> Result<Self> {
        let node = Node::start().await?;
        let mut machine = Machine::at(&node.root());
        cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
        machine.write(CONFIG, configuration)?;
        Ok(Self { node, cloud, machine })
    }

    /// What the daemon saw last.
    fn report(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.machine.read("/run/irsad/status.json")?)?)
    }

    fn health(&self) -> Result<String> {
        Ok(self.report()?["health"].as_str().unwrap_or_default().to_owned())
    }

    fn starts(&self) -> usize {
        self.node.starts().len()
    }

    /// Waits until `is_so`. Meanwhile the API server, whenever it answers, has to take `token`.
    async fn until(&self, what: &str, token: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result {
        let until = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < until {
            // That it does not answer is part of a restart; that it refuses is not.
            if let Ok(false) = self.node.accepts(token).await {
                return Err(format!("a valid token was refused before {what}; {}", self.node.log()).into());
            }
            match is_so(self) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = error.to_string(),
            }
            sleep(TICK).await;
        }
        let status = self.machine.run(&["status"])?.stdout;
        Err(format!("waited in vain for {what} {last}\n{status}\n{}", self.node.log()).into())
    }

    async fn until_converged(&self, token: &str) -> Result {
        self.until("the daemon to have nothing left to do", token, |scene| Ok(scene.health()? == "converged")).await
    }

    /// Lets the daemon make two whole passes more.
    async fn passes(&self, daemon: &crate::irsad::Daemon, token: &str) -> Result {
        for _ in 0..2 {
            let before = self.report()?["writtenAt"].clone();
            daemon.signal("HUP")?;
            self.until("another pass", token, |scene| Ok(scene.report()?["writtenAt"] != before)).await?;
        }
        self.node.settled().await
    }

    /// The claims of a new token, which an outsider takes for good by the documents in the folder.
    async fn good_outside(&self, audience: Option<&str>) -> Result<Value> {
        let token = self.node.mint(audience).await?;
        let documents = self.machine.path("/srv/oidc").display().to_string();
        Ok(outsider::verify(&token, ISSUER, audience.unwrap_or(ISSUER), &documents).await??)
    }
}

/// Replaces a file as a careful editor does.
fn replace(machine: &Machine, path: &str, text: &str) -> Result {
    let staged = "/etc/kubernetes/.staged";
    machine.write(staged, text)?;
    Ok(fs::rename(machine.path(staged), machine.path(path))?)
}

fn kid(token: &str) -> Result<String> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap_or_default())?;
    Ok(serde_json::from_slice::<Value>(&header)?["kid"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn running_api_server_is_adopted_with_exactly_one_restart_and_every_token_stays_accepted() -> Result {
    let Some(scene) = Scene::start().await? else { return Ok(()) };
    let (old_token, old_manifest) = (scene.node.mint(None).await?, scene.machine.read(MANIFEST)?);
    let mut daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&old_token).await?;
    daemon.hears("STATUS=ok", |message| message.contains(&format!("STATUS=ok: kube-apiserver signs as {ISSUER}")))?;
    assert_eq!(scene.starts(), 2);
    assert!(scene.node.accepts(&old_token).await?);
    assert_ne!(scene.machine.read(MANIFEST)?, old_manifest);

    let claims = scene.good_outside(None).await?;
    assert_eq!((&claims["iss"], &claims["aud"]), (&ISSUER.into(), &serde_json::json!([ISSUER, KUBEADM_ISSUER])));
    assert_eq!(scene.good_outside(Some(STS)).await?["sub"], "system:serviceaccount:kube-system:default");
    assert!(scene.node.accepts(&scene.node.mint(None).await?).await?);

    for command in ["verify", "status"] {
        let said = scene.machine.run(&[command])?;
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    scene.passes(&daemon, &old_token).await?;
    assert_eq!((scene.starts(), scene.health()?.as_str()), (2, "converged"));
    assert_eq!(scene.machine.read("/var/lib/irsad/proven/kube-apiserver.yaml")?, scene.machine.read(MANIFEST)?);
    drop(daemon);
    let adopted = scene.machine.everything()?;
    scene.machine.write(MANIFEST, &old_manifest)?;
    let said = scene.machine.run(&["restore"])?;
    assert_eq!((said.code, scene.machine.everything()? == adopted), (Some(0), true), "{said:?}");
    assert_eq!(scene.node.seen().into_iter().collect::<Vec<_>>(), ["kube-apiserver.yaml"]);
    Ok(())
}

#[tokio::test]
async fn prepared_cluster_never_restarts() -> Result {
    let Some(cloud) = world_outside() else { return Ok(()) };
    let (mut daemon, mut made_by_kubeadm) = (None, String::new());
    let node = Node::start_with(|root| {
        let machine = folder_issuer(root, &cloud, "")?;
        // As before kubeadm: nothing of the API server is there.
        for file in ["manifests/kube-apiserver.yaml", "pki/sa.key", "pki/sa.pub"] {
            fs::remove_file(root.join("etc/kubernetes").join(file))?;
        }
        machine.write("/root/kubeadm.yaml", include_str!("../fixtures/kubeadm-configs/default.yaml"))?;
        let said = machine.run(&["prepare", "--kubeadm-config", "/root/kubeadm.yaml"])?;
        assert_eq!(said.code, Some(0), "{said:?}");
        let mut started = machine.daemon(&[])?;
        started.hears("that no API server runs yet", |message| message.contains("no kube-apiserver runs here yet"))?;
        daemon = Some(started);
        let phase = ["init", "phase", "control-plane", "apiserver", "--config", "/root/kubeadm.yaml"];
        kubeadm_within(root, &phase)?;
        made_by_kubeadm = machine.read(MANIFEST)?;
        Ok(())
    })
    .await?;
    let scene = Scene { machine: Machine::at(&node.root()), node, cloud };
    let daemon = daemon.ok_or("a daemon")?;
    // What the node's own addresses did to it.
    let at_start = scene.machine.read(MANIFEST)?;
    let token = scene.node.mint(None).await?;
    scene
        .until("the daemon to see that it signs as ours", &token, |scene| {
            Ok(scene.report()?["apiServer"]["issuer"] == ISSUER && scene.health()? == "converged")
        })
        .await?;
    scene.passes(&daemon, &token).await?;
    assert_eq!((scene.starts(), scene.health()?.as_str()), (1, "converged"));
    assert_eq!(scene.machine.read(MANIFEST)?, at_start, "the manifest is still the one that kubeadm wrote");
    assert!(!at_start.contains("irsad"), "{at_start}");
    assert_eq!(scene.good_outside(Some(STS)).await?["iss"], ISSUER);
    assert!(made_by_kubeadm.contains(&format!("--service-account-issuer={ISSUER}\n")), "{made_by_kubeadm}");
    Ok(())
}

#[tokio::test]
async fn key_put_into_sa_key_by_hand_is_seen_outside_and_accepted_before_it_signs() -> Result {
    let soon = "rotation: { belowFloors: true, publishLead: 3s }\n";
    let Some(scene) = Scene::start_with(soon, |_| Ok(())).await? else { return Ok(()) };
    let old_token = scene.node.mint(None).await?;
    let daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&old_token).await?;

    // From here on the web server serves a copy, which this test brings up to date.
    let served = scene.machine.path("/srv/served");
    copy_documents(&scene.machine, &served)?;
    scene.cloud.serve_folder(HOST, &served);
    let old_keys = scene.machine.read("/etc/kubernetes/pki/sa.pub")?;
    let (private, public) = rsa_pair()?;
    replace(&scene.machine, "/etc/kubernetes/pki/sa.pub", &format!("{public}{old_keys}"))?;
    replace(&scene.machine, "/etc/kubernetes/pki/sa.key", &private)?;
    let theirs = SigningKey::read(private.as_bytes())?.kid().to_string();
    let in_file = |scene: &Scene| -> Result<String> {
        Ok(SigningKey::read(scene.machine.read("/etc/kubernetes/pki/sa.key")?.as_bytes())?.kid().to_string())
    };
    scene
        .until("the key to be in the folder", &old_token, |scene| Ok(scene.machine.read(JWKS)?.contains(&theirs)))
        .await?;
    scene.until("the old key to be put back", &old_token, |scene| Ok(in_file(scene)? == kid(&old_token)?)).await?;
    let stored_at = fs::metadata(scene.machine.path(JWKS))?.modified()?;
    scene.passes(&daemon, &old_token).await?;
    let waiting = scene.report()?["summary"].clone();
    assert!(waiting.as_str().is_some_and(|text| text.starts_with("waiting")), "{waiting}");
    assert_eq!(scene.starts(), 2, "restarted although nobody outside sees the key");

    let shown_at = SystemTime::now();
    copy_documents(&scene.machine, &served)?;
    daemon.signal("HUP")?;
    scene.until("the restart", &old_token, |scene| Ok(scene.starts() > 2)).await?;
    let restarted_at = scene.node.starts()[2].at;
    assert!(stored_at < shown_at && shown_at < restarted_at, "{stored_at:?} {shown_at:?} {restarted_at:?}");
    scene
        .until("the new key to sign", &old_token, |scene| {
            copy_documents(&scene.machine, &served)?;
            Ok(in_file(scene)? == theirs && scene.health()? == "converged")
        })
        .await?;
    scene.passes(&daemon, &old_token).await?;
    assert_eq!((scene.starts(), scene.health()?.as_str()), (4, "converged"), "one restart to accept, one to sign");

    let new_token = scene.node.mint(None).await?;
    assert_ne!(kid(&new_token)?, kid(&old_token)?);
    assert!(scene.node.accepts(&old_token).await? && scene.node.accepts(&new_token).await?);
    let good = outsider::verify_published(&new_token, ISSUER, ISSUER, &scene.cloud).await?;
    assert!(good.is_ok(), "{good:?}");
    Ok(())
}

fn copy_documents(machine: &Machine, to: &Path) -> Result {
    for path in ["openid/v1/jwks", ".well-known/openid-configuration"] {
        let target = to.join(path);
        fs::create_dir_all(target.parent().ok_or("a document stands in a folder")?)?;
        fs::copy(machine.path("/srv/oidc").join(path), target)?;
    }
    Ok(())
}

/// A test key pair in PEM, by openssl.
pub fn rsa_pair() -> Result<(String, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("test.key");
    let openssl = |arguments: &[&str]| -> Result {
        let output = Command::new("openssl").args(arguments).arg(&path).output()?;
        if output.status.success() { Ok(()) } else { Err(format!("openssl {arguments:?}: {output:?}").into()) }
    };
    openssl(&["genrsa", "-traditional", "-out"])?;
    let private = fs::read_to_string(&path)?;
    let public = Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(&path).output()?;
    Ok((private, String::from_utf8(public.stdout)?))
}
