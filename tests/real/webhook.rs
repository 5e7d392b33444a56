//! The built-in webhook behind a real kube-apiserver that was told of it by hand.

use std::{
    fs,
    net::TcpListener,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use irsad::model::webhook::{DesiredWebhook, FailurePolicy, built_in};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::{
    irsad::{Machine, PATIENCE, Result},
    kubernetes::{Node, PROGRAMS, programs},
    missing,
    registration::settings,
};

const CERTIFICATE: &str = "/var/lib/irsad/webhook/current.pem";
const ROLE: &str = "arn:aws:iam::111122223333:role/app";

/// The daemon with a listening socket that outlives it, as systemd holds one.
struct Held {
    socket: TcpListener,
    machine: Machine,
    daemon: Option<Child>,
}

impl Held {
    fn start(root: &Path) -> Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0")?;
        let machine = Machine::at(root);
        machine.write(
            "/etc/irsad/irsad.yaml",
            &format!(
                "version: 1\ncluster: webhook\nissuer: {{ store: \"file:///srv/oidc\", url: https://oidc.example.com }}\n\
                 provider: {{ manage: false }}\napiServer: {{ restart: never }}\nwebhook: {{ mode: builtIn, port: {} }}\nmetrics: {{ port: 0 }}\n",
                socket.local_addr()?.port()
            ),
        )?;
        let mut held = Self { socket, machine, daemon: None };
        held.run()?;
        Ok(held)
    }

    /// Starts the daemon with the socket as its descriptor 3 (sd_listen_fds(3)).
    fn run(&mut self) -> Result {
        let irsad = self.machine.command(&["run"]);
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=webhook exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(irsad.get_program()).args(irsad.get_args());
        let log = fs::File::options().create(true).append(true).open(self.machine.path("/irsad.log"))?;
        command.stdin(Stdio::from(OwnedFd::from(self.socket.try_clone()?))).stdout(log.try_clone()?).stderr(log);
        self.daemon = Some(command.spawn()?);
        Ok(())
    }

    fn signal(&mut self, name: &str) -> Result {
        let Some(mut daemon) = self.daemon.take() else { return Err("there is no daemon".into()) };
        let status = Command::new("kill").arg(format!("-{name}")).arg(daemon.id().to_string()).status()?;
        assert!(status.success(), "kill -{name}: {status}");
        daemon.wait()?;
        Ok(())
    }

    fn bundle(&self) -> Result<String> {
        let text = self.machine.read(CERTIFICATE)?;
        let end = text.find("-----BEGIN PRIVATE KEY").ok_or("no key after the certificate")?;
        Ok(text[..end].to_owned())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn configuration(port: u16, bundle: &str) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "by-hand"},
        "webhooks": [{
            "name": "pod-identity.irsad.io",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "timeoutSeconds": 10,
            "clientConfig": {
                "url": format!("https://127.0.0.1:{port}/mutate"),
                "caBundle": BASE64_STANDARD.encode(bundle),
            },
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }],
    })
}

fn pod(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "serviceAccountName": account, "automountServiceAccountToken": false,
            "initContainers": [{"name": "init", "image": "registry.example.com/init"}],
            "containers": [{"name": "app", "image": "registry.example.com/app", "env": [{"name": "A", "value": "b"}]}],
        },
    })
}

async fn create(node: &Node, object: &Value) -> Result<Value> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), object.to_string())?;
    let path = file.path().display().to_string();
    let stored = node.kubectl(&["create", "--output=json", "--filename", &path]).await;
    Ok(serde_json::from_str(&stored.map_err(|error| error.to_string())?)?)
}

/// Whether the stored pod has what a pod with a role has.
fn is_patched(pod: &Value) -> bool {
    let has_volume = pod["spec"]["volumes"].as_array().is_some_and(|volumes| {
        volumes.iter().any(|volume| {
            let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
            volume["name"] == "aws-iam-token" && token["audience"] == "sts.amazonaws.com" && token["path"] == "token"
        })
    });
    let has_all = |container: &Value| {
        let env = container["env"].as_array();
        let value = |name: &str| env?.iter().find(|env| env["name"] == name)?["value"].as_str();
        let mount = &container["volumeMounts"][0];
        value("AWS_ROLE_ARN") == Some(ROLE)
            && value("AWS_WEB_IDENTITY_TOKEN_FILE") == Some("/var/run/secrets/eks.amazonaws.com/serviceaccount/token")
            && mount["name"] == "aws-iam-token"
            && mount["readOnly"] == true
    };
    has_volume && has_all(&pod["spec"]["containers"][0]) && has_all(&pod["spec"]["initContainers"][0])
}

async fn account(node: &Node, name: &str) -> Result {
    node.kubectl(&["create", "serviceaccount", name]).await.map_err(|error| error.to_string())?;
    let annotation = format!("eks.amazonaws.com/role-arn={ROLE}");
    node.kubectl(&["annotate", "serviceaccount", name, &annotation]).await.map_err(|error| error.to_string())?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_of_an_annotated_account_is_stored_with_its_token_through_every_restart_of_irsad() -> Result {
    if programs().is_none() {
        missing(PROGRAMS, "the webhook behind a real kube-apiserver");
        return Ok(());
    }
    let node = Node::start().await.map_err(|error| error.to_string())?;
    let mut held = Held::start(&node.root())?;
    crate::irsad::wait_until("the webhook has a certificate", || Ok(held.machine.path(CERTIFICATE).exists()))?;
    let port = held.socket.local_addr()?.port();
    create(&node, &configuration(port, &held.bundle()?)).await?;
    account(&node, "app").await?;
    create(
        &node,
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "plain", "namespace": "default"}}),
    )
    .await?;

    // The API server takes a moment to hear of the registration.
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut number = 0;
    loop {
        number += 1;
        let stored = create(&node, &pod(&format!("first-{number}"), "app")).await;
        match stored {
            Ok(stored) if is_patched(&stored) => break,
            _ if tokio::time::Instant::now() < until => sleep(Duration::from_millis(100)).await,
            other => return Err(format!("{other:?}\n{}", held.machine.read("/irsad.log")?).into()),
        }
    }
    let plain = create(&node, &pod("plain", "plain")).await?;
    assert!(plain["spec"]["volumes"].is_null(), "{plain:#}");
    // Made and used at once: the watch may not have told it.
    account(&node, "new").await?;
    let new = create(&node, &pod("new", "new")).await?;
    assert!(is_patched(&new), "{new:#}");

    let bundle = held.bundle()?;
    let (created, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let pods = async {
        let mut failed = Vec::new();
        while !ended.load(Ordering::SeqCst) {
            let number = created.fetch_add(1, Ordering::SeqCst);
            match create(&node, &pod(&format!("load-{number}"), "app")).await {
                Ok(stored) if is_patched(&stored) => {}
                Ok(stored) => failed.push(stored.to_string()),
                Err(error) => failed.push(error.to_string()),
            }
        }
        failed
    };
    let restarts = async {
        for signal in ["KILL", "TERM", "KILL"] {
            let before = created.load(Ordering::SeqCst);
            tokio::task::block_in_place(|| held.signal(signal))?;
            sleep(Duration::from_millis(500)).await;
            held.run()?;
            while created.load(Ordering::SeqCst) < before + 5 {
                sleep(Duration::from_millis(20)).await;
            }
        }
        ended.store(true, Ordering::SeqCst);
        Result::Ok(())
    };
    let (failed, outcome) = tokio::join!(pods, restarts);
    outcome?;
    assert!(
        failed.is_empty(),
        "{} of {created:?}: {:?}\n{}",
        failed.len(),
        failed.first(),
        held.machine.read("/irsad.log")?
    );
    assert_eq!(held.bundle()?, bundle, "a restart made another certificate");
    Ok(())
}

/// Calls of an API server on their way to irsad, one of which can be lost with its connection, as when irsad is killed.
struct Way {
    port: u16,
    loses_next: Arc<AtomicBool>,
    server: JoinHandle<()>,
}

impl Way {
    async fn open(to: u16) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let loses_next = Arc::new(AtomicBool::new(false));
        let lost = loses_next.clone();
        let server = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            while let Ok((call, _)) = listener.accept().await {
                calls.spawn(pass(call, to, lost.clone()));
            }
        });
        Ok(Self { port, loses_next, server })
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(mut call: TcpStream, to: u16, loses_next: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut irsad = TcpStream::connect(("127.0.0.1", to)).await?;
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = call.read(&mut asked) => match read? {
                0 => return Ok(()),
                _ if loses_next.swap(false, Ordering::SeqCst) => return Ok(()),
                read => irsad.write_all(&asked[..read]).await?,
            },
            read = irsad.read(&mut answered) => match read? {
                0 => return Ok(()),
                read => call.write_all(&answered[..read]).await?,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_whose_call_is_lost_under_way_is_asked_about_again_and_gets_its_token() -> Result {
    if programs().is_none() {
        missing(PROGRAMS, "a lost call of a real kube-apiserver");
        return Ok(());
    }
    let node = Node::start().await.map_err(|error| error.to_string())?;
    // What irsad registers itself goes straight to it.
    Machine::at(&node.root()).write("/etc/irsad/irsad.d/own.yaml", "webhook: { exemptNamespaces: [default] }\n")?;
    let held = Held::start(&node.root())?;
    crate::irsad::wait_until("the webhook has a certificate", || Ok(held.machine.path(CERTIFICATE).exists()))?;
    let way = Way::open(held.socket.local_addr()?.port()).await?;
    account(&node, "app").await?;
    for policy in [FailurePolicy::Ignore, FailurePolicy::Fail] {
        let wanted = DesiredWebhook { port: way.port, exempt_namespaces: Vec::new(), ..settings(policy) };
        let mut registration = built_in(&wanted, &[held.bundle()?]).body().clone();
        registration["metadata"]["name"] = json!("by-hand");
        create(&node, &registration).await?;
        let name = |what: &str, number: usize| format!("{what}-{}-{number}", policy.as_str().to_lowercase());
        let mut number = 0;
        // The API server takes a moment to hear of the registration.
        while !create(&node, &pod(&name("first", number), "app")).await.is_ok_and(|stored| is_patched(&stored)) {
            number += 1;
            assert!(number < 300, "{}", held.machine.read("/irsad.log")?);
        }
        for number in 0..5 {
            way.loses_next.store(true, Ordering::SeqCst);
            let stored = create(&node, &pod(&name("lost", number), "app")).await?;
            assert!(!way.loses_next.load(Ordering::SeqCst), "nothing was lost");
            assert!(is_patched(&stored), "{stored:#}");
        }
        node.kubectl(&["delete", "mutatingwebhookconfiguration", "by-hand"])
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}
