//! The pod-identity webhook at a live kube-apiserver: what irsad keeps there, and what becomes of it when somebody changes it.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use irsad::{
    cluster::ApiServer,
    model::{
        cluster_object::{ClusterObject, StoredObject},
        pod_identity::{ContainerCredentialsToken, PodIdentity},
        probe::Probe,
        webhook::{
            DesiredWebhook, FailurePolicy, Mode, built_in, built_in_place, has_additions, is_as_wanted,
            upstream::{Certificates, Upstream, secret},
        },
    },
    webhook::certificate::self_signed,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    irsad::{Machine, PATIENCE, Result},
    kubernetes::{Node, PROGRAMS, programs},
};

pub fn settings(failure_policy: FailurePolicy) -> DesiredWebhook {
    DesiredWebhook {
        mode: Mode::BuiltIn,
        port: 23_443,
        failure_policy,
        exempt_namespaces: vec!["tools".to_owned()],
        upstream: Upstream {
            image: "registry.example.com/webhook:v0.6.17@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
                .to_owned(),
            namespace: "webhooks".to_owned(),
            replicas: 2,
            lookup_grace: Duration::from_secs(5),
            settings: PodIdentity {
                annotation_prefix: "eks.amazonaws.com".to_owned(),
                audience: "sts.amazonaws.com".to_owned(),
                mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
                token_expiration_seconds: 86_400,
                default_region: Some("eu-west-1".to_owned()),
                regional_sts: true,
                composition: None,
                container_credentials: ContainerCredentialsToken {
                    audience: "pods.eks.amazonaws.com".to_owned(),
                    mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
                    volume_name: "eks-pod-identity-token".to_owned(),
                    token_path: "eks-pod-identity-token".to_owned(),
                    full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
                },
            },
            role_map_namespace: Some("default".to_owned()),
        },
    }
}

fn certificate() -> Result<String> {
    let names = ["pod-identity-webhook.webhooks.svc".to_owned()];
    Ok(self_signed(&names, "webhook", Timestamp::now(), SignedDuration::from_hours(1))?.certificate)
}

/// A live API server, asked as irsad asks it.
struct Bench {
    node: Node,
    api: ApiServer,
}

impl Bench {
    /// `None`, and said, where this machine lacks a part.
    async fn start() -> Result<Option<Self>> {
        if programs().is_none() {
            crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
            return Ok(None);
        }
        let node = Node::start().await?;
        let server: SocketAddr = node.url().trim_start_matches("https://").parse()?;
        let api = ApiServer::connect(&fs::read(node.kubeconfig())?, &server.ip().to_string(), server.port())?;
        Ok(Some(Self { node, api }))
    }

    async fn stored(&self, object: &ClusterObject) -> Result<StoredObject> {
        match self.api.object(object.place()).await {
            Probe::Present(stored) => Ok(stored),
            other => Err(format!("{}: {other:?}", object.place()).into()),
        }
    }

    /// Changes the registration as somebody with `kubectl` does.
    async fn patch(&self, kind: &str, patch: &Value) -> Result {
        let target = ["patch", "mutatingwebhookconfiguration", "irsad-pod-identity"];
        self.node.kubectl(&[&target[..], &["--type", kind, "-p", &patch.to_string()]].concat()).await?;
        Ok(())
    }
}

#[tokio::test]
async fn live_api_server_takes_every_object_of_both_modes_and_nothing_is_left_to_apply() -> Result {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    for policy in [FailurePolicy::Ignore, FailurePolicy::Fail] {
        let wanted = settings(policy);
        let pem = certificate()?;
        let certificates = Certificates { current: pem.clone(), next: Some(certificate()?), previous: None };
        let mut of_secret = secret(wanted.upstream.secret_place()).body().clone();
        of_secret["data"] = json!({ "tls.crt": "YQ==", "tls.key": "YQ==" });
        let of_secret = ClusterObject::with_body(wanted.upstream.secret_place(), of_secret);
        let mut objects = wanted.upstream.objects();
        objects.extend([of_secret, wanted.upstream.configuration(&wanted, &certificates), built_in(&wanted, &[pem])]);
        for object in &objects {
            let known = bench.api.object(object.place()).await;
            let replaces = known.present().map(StoredObject::uid);
            bench
                .api
                .apply_object(object, replaces)
                .await
                .map_err(|error| format!("{}: {}", object.place(), error.reason()))?;
            let stored = bench.stored(object).await?;
            assert!(stored.is_ours() && stored.has(object), "{}: {}", object.place(), stored.body());
            assert!(!has_additions(&stored, object), "{}: {}", object.place(), stored.body());
            bench.api.apply_object(object, Some(stored.uid())).await?;
            assert_eq!(bench.stored(object).await?.resource_version(), stored.resource_version(), "{}", object.place());
        }
    }
    for object in settings(FailurePolicy::Ignore).upstream.objects().into_iter().skip(1) {
        let stored = bench.stored(&object).await?;
        let stale = bench.api.delete_object(object.place(), stored.uid(), "1").await;
        assert!(stale.is_err(), "{} was deleted although it had changed", object.place());
        bench.api.delete_object(object.place(), stored.uid(), stored.resource_version()).await?;
        bench.api.delete_object(object.place(), stored.uid(), stored.resource_version()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn registration_that_somebody_has_changed_at_a_live_api_server_becomes_the_wanted_one_again() -> Result {
    let Some(bench) = Bench::start().await? else { return Ok(()) };
    let wanted = built_in(&settings(FailurePolicy::Ignore), &[certificate()?]);
    bench.api.apply_object(&wanted, None).await?;
    let service = json!({ "name": "a", "namespace": "b" });
    let mut other = wanted.body()["webhooks"][0].clone();
    other["name"] = json!("other.example.com");
    let condition = json!({ "name": "nobody", "expression": "false" });
    let at = "/webhooks/0";
    for patch in [
        json!([{ "op": "replace", "path": format!("{at}/failurePolicy"), "value": "Fail" }]),
        json!([{ "op": "replace", "path": format!("{at}/clientConfig"), "value": { "service": service } }]),
        json!([{ "op": "add", "path": format!("{at}/matchConditions/0"), "value": condition }]),
        json!([{ "op": "add", "path": format!("{at}/namespaceSelector"), "value": { "matchLabels": { "a": "b" } } }]),
        json!([{ "op": "remove", "path": format!("{at}/rules") }]),
        json!([{ "op": "add", "path": "/webhooks/0", "value": other }]),
        json!([{ "op": "remove", "path": "/webhooks" }]),
    ] {
        bench.patch("json", &patch).await?;
        let changed = bench.stored(&wanted).await?;
        assert!(!is_as_wanted(&changed, &wanted), "{patch} is not noticed");
        match has_additions(&changed, &wanted) {
            true => bench.api.replace_object(wanted.place(), &changed.with_content_of(&wanted)).await?,
            false => bench.api.apply_object(&wanted, Some(changed.uid())).await?,
        }
        let mended = bench.stored(&wanted).await?;
        assert!(is_as_wanted(&mended, &wanted), "{patch}: {}", mended.body());
    }
    // What was there is not overwritten by somebody who has seen another one.
    let stale = bench.api.apply_object(&wanted, Some("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")).await;
    let refused = stale.err().map(|error| error.reason()).unwrap_or_default();
    assert!(refused.contains("answered 422") && refused.contains("metadata.uid"), "{refused}");
    assert_eq!(built_in_place(), *wanted.place());
    Ok(())
}

/// irsad with its webhook on a live node.
struct Daemon {
    node: Node,
    machine: Machine,
}

impl Daemon {
    fn write(machine: &Machine, mode: &str, port: u16) -> Result {
        let configuration = format!(
            "version: 1\ncluster: webhook\nissuer: {{ store: \"file:///srv/oidc\", url: https://oidc.example.com }}\n\
             provider: {{ manage: false }}\napiServer: {{ restart: never }}\nwebhook: {{ mode: {mode}, port: {port} }}\n\
             metrics: {{ port: 0 }}\n"
        );
        machine.write("/etc/irsad/irsad.yaml", &configuration)
    }

    /// Waits until `is_so`, given the registration where there is one and what `irsad status` says of the webhook.
    async fn until(&self, what: &str, is_so: impl Fn(Option<&Value>, &str) -> bool) -> Result {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let (registration, summary) = self.seen().await?;
            if is_so(registration.as_ref(), &summary) {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("waited in vain for {what}\n{}", self.machine.run(&["status"])?.stdout).into())
    }

    /// The registration where there is one, and what `irsad status` says of the webhook.
    async fn seen(&self) -> Result<(Option<Value>, String)> {
        let report = self.machine.read("/run/irsad/status.json").unwrap_or_default();
        let report: Value = serde_json::from_str(&report).unwrap_or_default();
        let summary = report["webhook"]["summary"].as_str().unwrap_or_default();
        let get = ["get", "mutatingwebhookconfiguration", "irsad-pod-identity", "--ignore-not-found", "-o", "json"];
        let text = self.node.kubectl(&get).await?;
        let registration = if text.trim().is_empty() { None } else { Some(serde_json::from_str(&text)?) };
        Ok((registration, summary.to_owned()))
    }

    /// Volumes that a new pod of service account `app` would have.
    async fn volumes_of_a_pod(&self) -> Result<String> {
        let overrides = json!({ "spec": { "serviceAccountName": "app", "automountServiceAccountToken": false } });
        let run =
            ["run", "probe", "--image", "registry.example.com/app", "--dry-run=server", "-o", "json", "--overrides"];
        let pod: Value =
            serde_json::from_str(&self.node.kubectl(&[&run[..], &[&overrides.to_string()]].concat()).await?)?;
        Ok(pod["spec"]["volumes"].to_string())
    }
}

#[tokio::test]
async fn webhook_is_registered_by_the_daemon_tried_by_it_mended_and_taken_back() -> Result {
    if programs().is_none() {
        crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
        return Ok(());
    }
    let node = Node::start().await?;
    let machine = Machine::at(&node.root());
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    Daemon::write(&machine, "builtIn", port)?;
    let daemon = Daemon { node, machine };
    for arguments in [
        &["create", "serviceaccount", "app"][..],
        &["annotate", "serviceaccount", "app", "eks.amazonaws.com/role-arn=arn:aws:iam::111122223333:role/app"],
    ] {
        daemon.node.kubectl(arguments).await?;
    }
    let process = daemon.machine.daemon(&[])?;
    let serves = format!("built in, serves on 127.0.0.1:{port}, registered, answers");
    daemon.until("a webhook that answers", |registration, summary| registration.is_some() && summary == serves).await?;
    assert!(daemon.volumes_of_a_pod().await?.contains("aws-iam-token"));
    let said = daemon.machine.run(&["verify"])?.stdout;
    for statement in [
        "ok       the pod-identity webhook is registered",
        "ok       this node's kube-apiserver can call it",
        "ok       there is one beside every kube-apiserver",
    ] {
        assert!(said.contains(statement), "{statement}: {said}");
    }

    daemon.node.kubectl(&["delete", "mutatingwebhookconfiguration", "irsad-pod-identity"]).await?;
    process.signal("HUP")?;
    daemon
        .until("a registration that is back", |registration, summary| registration.is_some() && summary == serves)
        .await?;

    let other = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    Daemon::write(&daemon.machine, "builtIn", other)?;
    process.signal("HUP")?;
    let serves = format!("built in, serves on 127.0.0.1:{other}, registered, answers");
    let until = Instant::now() + PATIENCE;
    loop {
        // At either port, and while the daemon is between the two.
        assert!(daemon.volumes_of_a_pod().await?.contains("aws-iam-token"));
        let (registration, summary) = daemon.seen().await?;
        if summary == serves && registration.is_some_and(|found| found.to_string().contains(&other.to_string())) {
            break;
        }
        assert!(Instant::now() < until, "the registration stays at {port}: {summary}");
    }
    assert!(daemon.volumes_of_a_pod().await?.contains("aws-iam-token"));

    Daemon::write(&daemon.machine, "none", other)?;
    process.signal("HUP")?;
    daemon.until("no registration", |registration, summary| registration.is_none() && summary.is_empty()).await?;
    assert_eq!(daemon.volumes_of_a_pod().await?, "null");
    Ok(())
}
