//! ServiceAccountRoles at a live kube-apiserver, with the roles that come of them in IAM.

mod definition;
mod leaders;
mod life;
mod refused;

use std::{fs, net::SocketAddr, time::Duration};

use irsad::cluster::ApiServer;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    cloud::{ACCOUNT, Cloud, client::call},
    irsad::{Daemon, Machine, PATIENCE, Result},
    kubernetes::{Node, PROGRAMS, programs},
};

const IAM: (&str, &str) = ("Version", "2010-05-08");
const ANNOTATION: &str = "eks.amazonaws.com/role-arn";
const INLINE: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":"*"}]}"#;

/// A live node with irsad that makes roles from objects, and the account that they are made in.
struct Scene {
    node: Node,
    cloud: Cloud,
    machine: Machine,
    cluster: &'static str,
}

impl Scene {
    /// `None`, and said, where this machine lacks a part. The account is every test's, so each has a cluster of its own.
    async fn start(cluster: &'static str) -> Result<Option<Self>> {
        if programs().is_none() {
            crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
            return Ok(None);
        }
        let Some(cloud) = Cloud::start() else { return Ok(None) };
        let node = Node::start().await?;
        let mut machine = Machine::at(&node.root());
        cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
        let host = format!("oidc.{cluster}.example");
        cloud.serve_folder(&host, &machine.path("/srv/oidc"));
        let configuration = format!(
            "version: 1\ncluster: {cluster}\nissuer: {{ store: \"file:///srv/oidc\", url: \"https://{host}\" }}\n\
             provider: {{ manage: false }}\napiServer: {{ restart: never }}\nwebhook: {{ mode: none }}\nmetrics: {{ port: 0 }}\nroles: {{ mode: crd }}\n"
        );
        machine.write("/etc/irsad/irsad.yaml", &configuration)?;
        for namespace in ["shop", "ops"] {
            node.kubectl(&["create", "namespace", namespace]).await?;
        }
        Ok(Some(Self { node, cloud, machine, cluster }))
    }

    /// The daemon, once the cluster knows the objects.
    async fn daemon(&self) -> Result<Daemon> {
        let daemon = self.machine.daemon(&[])?;
        self.until("the definition of the objects", async || {
            let found = self.node.kubectl(&["get", "serviceaccountroles"]).await;
            Ok(found.is_ok())
        })
        .await?;
        Ok(daemon)
    }

    /// Name of a role of this test.
    fn role(&self, name: &str) -> String {
        format!("{}-{name}", self.cluster)
    }

    fn arn(&self, name: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/irsad/{}/{}", self.cluster, self.role(name))
    }

    /// An object `name` for these service accounts, each NAMESPACE/NAME, with `more` in its specification.
    fn object(&self, name: &str, accounts: &[&str], more: &Value) -> Value {
        let accounts: Vec<Value> = accounts
            .iter()
            .filter_map(|account| account.split_once('/'))
            .map(|(namespace, name)| json!({ "namespace": namespace, "name": name }))
            .collect();
        let mut spec = json!({ "roleName": self.role(name), "serviceAccounts": accounts });
        if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
            spec.extend(more.clone());
        }
        json!({ "apiVersion": "irsad.dev/v1alpha1", "kind": "ServiceAccountRole", "metadata": { "name": name }, "spec": spec })
    }

    async fn apply(&self, object: &Value) -> Result {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let file = format!("/tmp/{name}.json");
        self.machine.write(&file, &object.to_string())?;
        let path = self.machine.path(&file).display().to_string();
        self.node.kubectl(&["apply", "--filename", &path]).await.map(drop)
    }

    /// As JSON; `None` where it does not exist.
    async fn get(&self, arguments: &[&str]) -> Result<Option<Value>> {
        let text = self.node.kubectl(&[&["get", "--ignore-not-found", "-o", "json"], arguments].concat()).await?;
        Ok(if text.trim().is_empty() { None } else { Some(serde_json::from_str(&text)?) })
    }

    async fn status(&self, name: &str) -> Result<Value> {
        Ok(self.get(&["serviceaccountrole", name]).await?.map(|object| object["status"].clone()).unwrap_or_default())
    }

    /// Annotation of a service account, NAMESPACE/NAME; `None` where it has none, an error where there is no account.
    async fn given(&self, account: &str) -> Result<Option<String>> {
        let (namespace, name) = account.split_once('/').ok_or("a namespace")?;
        let found = self.get(&["serviceaccount", name, "--namespace", namespace]).await?.ok_or("no such account")?;
        Ok(found["metadata"]["annotations"][ANNOTATION].as_str().map(str::to_owned))
    }

    async fn is_there(&self, account: &str) -> Result<bool> {
        let (namespace, name) = account.split_once('/').ok_or("a namespace")?;
        Ok(self.get(&["serviceaccount", name, "--namespace", namespace]).await?.is_some())
    }

    /// What IAM answers about a role; an error where there is none.
    async fn iam(&self, action: &str, name: &str, more: &[(&str, &str)]) -> Result<String> {
        let role = self.role(name);
        let parameters = [&[("Action", action), IAM, ("RoleName", role.as_str())], more].concat();
        call("iam", &parameters).await
    }

    async fn has_role(&self, name: &str) -> bool {
        self.iam("GetRole", name, &[]).await.is_ok()
    }

    /// A managed policy that exists.
    async fn policy(&self, name: &str) -> Result<String> {
        let name = self.role(name);
        call("iam", &[("Action", "CreatePolicy"), IAM, ("PolicyName", &name), ("PolicyDocument", INLINE)]).await?;
        Ok(format!("arn:aws:iam::{ACCOUNT}:policy/{name}"))
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result {
        let until = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < until {
            match is_so().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = error.to_string(),
            }
            sleep(Duration::from_millis(100)).await;
        }
        let objects = self.node.kubectl(&["get", "serviceaccountroles", "-o", "wide"]).await.unwrap_or_default();
        let status = self.machine.run(&["status"])?.stdout;
        Err(format!("waited in vain for {what} {last}\n{objects}\n{status}\n{:?}", self.cloud.all_requests()).into())
    }

    /// Waits until the condition of what the object says now has this reason, and gives its message.
    async fn until_reason(&self, name: &str, reason: &str) -> Result<String> {
        self.until(&format!("{name} to be {reason}"), async || {
            let object = self.get(&["serviceaccountrole", name]).await?.ok_or("no object")?;
            let condition = &object["status"]["conditions"][0];
            Ok(condition["reason"] == reason && condition["observedGeneration"] == object["metadata"]["generation"])
        })
        .await?;
        Ok(self.status(name).await?["conditions"][0]["message"].as_str().unwrap_or_default().to_owned())
    }

    async fn until_gone(&self, name: &str) -> Result {
        self.until(&format!("{name} to be gone"), async || Ok(self.get(&["serviceaccountrole", name]).await?.is_none()))
            .await
    }

    /// Asks IAM and the API server past irsad.
    fn api(&self) -> Result<ApiServer> {
        let server: SocketAddr = self.node.url().trim_start_matches("https://").parse()?;
        Ok(ApiServer::connect(&fs::read(self.node.kubeconfig())?, &server.ip().to_string(), server.port())?)
    }
}
