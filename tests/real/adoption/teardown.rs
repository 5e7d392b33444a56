//! A cluster that was adopted goes back to the issuer of before, and nothing of irsad's is left that others could meet.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use hyper::Method;
use irsad::model::service_account_role::{FINALIZER, definition};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{CONFIG, ISSUER as FOLDER_ISSUER, MANIFEST, Scene, TICK, world_outside};
use crate::{
    cloud::{
        ACCOUNT, Fault,
        client::{ask, call},
    },
    irsad::{Machine, PATIENCE, Result, Said},
    kubernetes::{KUBEADM_ISSUER, Node, free_ports},
};

const TORN_DOWN: &str = "/var/lib/irsad/torn-down.json";
/// Short lives, so that a test can wait for their end.
const SOON: &str = "rotation: { belowFloors: true, publishLead: 1s, tokenLifetime: 3s }\n";
/// What is deleted outside of the cluster.
const DELETIONS: [&str; 3] = ["DeleteOpenIDConnectProvider", "DeleteObject", "DeleteBucket"];

fn issuer(bucket: &str) -> String {
    format!("https://{bucket}.s3.eu-west-1.amazonaws.com")
}

/// A node whose documents are to be in `bucket`; `None`, and said, where this machine lacks a part.
async fn in_s3(bucket: &str) -> Result<Option<Scene>> {
    let Some(cloud) = world_outside() else { return Ok(None) };
    let node = Node::start().await?;
    let mut machine = Machine::at(&node.root());
    cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
    let [port, ..] = free_ports()?;
    let issuer = format!("version: 1\ncluster: adoption\nissuer: {{ store: \"s3://{bucket}\" }}\n");
    machine.write(CONFIG, &format!("{issuer}webhook: {{ port: {port} }}\nmetrics: {{ port: 0 }}\n{SOON}"))?;
    Ok(Some(Scene { node, cloud, machine }))
}

async fn provider(bucket: &str, action: &str, more: &[(&str, &str)]) -> Result<String> {
    let arn = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{}", issuer(bucket).trim_start_matches("https://"));
    let named = [("Action", action), ("Version", "2010-05-08"), ("OpenIDConnectProviderArn", arn.as_str())];
    call("iam", &[&named[..], more].concat()).await
}

async fn bucket_is_there(bucket: &str) -> bool {
    ask("s3", Method::GET, &format!("/{bucket}"), "").await.is_ok()
}

impl Scene {
    fn teardown(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.machine.command(&[&["teardown"], arguments].concat());
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Waits for the end of a command; every token of `tokens` has to be taken meanwhile.
    async fn ends(&self, mut command: Child, tokens: &[&str]) -> Result<Said> {
        let until = Instant::now() + PATIENCE;
        while command.try_wait()?.is_none() {
            for token in tokens {
                if let Ok(false) = self.node.accepts(token).await {
                    return Err(format!("a valid token was refused; {}", self.node.log()).into());
                }
            }
            if Instant::now() > until {
                command.kill()?;
                let said: Said = command.wait_with_output()?.into();
                return Err(format!("it did not end: {said:?}\n{}", self.machine.run(&["status"])?.stdout).into());
            }
            sleep(TICK).await;
        }
        Ok(command.wait_with_output()?.into())
    }

    fn deletions(&self) -> usize {
        DELETIONS.iter().map(|operation| self.cloud.requests(operation)).sum()
    }
}

#[tokio::test]
async fn cluster_in_s3_goes_back_and_leaves_nothing_behind() -> Result {
    const BUCKET: &str = "irsad-teardown-all";
    let Some(scene) = in_s3(BUCKET).await? else { return Ok(()) };
    let (old_token, old_manifest) = (scene.node.mint(None).await?, scene.machine.read(MANIFEST)?);
    let mut daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&old_token).await?;
    let token = scene.node.mint(None).await?;

    let before = scene.machine.everything()?;
    let said = scene.machine.run(&["teardown", "--dry-run", "-o", "json"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let planned: Value = serde_json::from_str(&said.stdout)?;
    assert_eq!((&planned["version"], &planned["state"]), (&1.into(), &"planned".into()));
    let effect = planned["effect"].to_string();
    for part in
        ["kube-apiserver of", "restarts once", &format!("provider of {} is deleted", issuer(BUCKET)), "is deleted last"]
    {
        assert!(effect.contains(part), "{part:?} is missing in {effect}");
    }
    assert_eq!((scene.machine.everything()? == before, scene.deletions()), (true, 0), "a dry run changed something");
    let said = scene.machine.run(&["teardown"])?;
    assert_eq!((said.code, scene.deletions()), (Some(2), 0), "nobody was asked: {said:?}");

    let said = scene.ends(scene.teardown(&["--yes"])?, &[&old_token, &token]).await?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.stdout.contains(&format!("kube-apiserver signs as {KUBEADM_ISSUER}, irsad does nothing more")),
        "{said:?}"
    );
    daemon.hears("STATUS=torn down", |message| message.contains("STATUS=torn down"))?;
    assert_eq!(scene.starts(), 3, "one restart to adopt, one to go back");
    let line = format!("    - --service-account-issuer={KUBEADM_ISSUER}\n");
    let ours = format!("    - --service-account-issuer={}\n", issuer(BUCKET));
    assert_eq!(scene.machine.read(MANIFEST)?, old_manifest.replace(&line, &format!("{line}{ours}")));
    assert!(provider(BUCKET, "GetOpenIDConnectProvider", &[]).await.is_err() && !bucket_is_there(BUCKET).await);

    scene.until("the keyring to be deleted", &old_token, |scene| Ok(scene.health()? == "converged")).await?;
    let until = Instant::now() + PATIENCE;
    let secrets = ["-n", "kube-system", "get", "secrets", "-l", "app.kubernetes.io/component=keyring", "-o", "name"];
    while !scene.node.kubectl(&secrets).await?.trim().is_empty() {
        assert!(Instant::now() < until, "{}", scene.node.kubectl(&secrets).await?);
        sleep(TICK).await;
    }
    let counts = scene.deletions();
    scene.passes(&daemon, &old_token).await?;
    assert!(scene.node.accepts(&token).await? && scene.node.accepts(&old_token).await?);
    assert_eq!((scene.starts(), scene.deletions()), (3, counts), "{:?}", scene.cloud.all_requests());
    assert_eq!(scene.cloud.requests("CreateBucket"), 1, "something was made anew");
    let again = scene.machine.run(&["teardown", "--yes"])?;
    assert_eq!(
        (again.code, again.stdout),
        (Some(0), said.stdout[said.stdout.find("torn down").unwrap_or(0)..].to_owned())
    );
    Ok(())
}

#[tokio::test]
async fn teardown_whose_daemon_is_killed_at_every_deletion_comes_to_its_end() -> Result {
    const BUCKET: &str = "irsad-teardown-killed";
    let Some(scene) = in_s3(BUCKET).await? else { return Ok(()) };
    let old_token = scene.node.mint(None).await?;
    let mut daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&old_token).await?;
    let token = scene.node.mint(None).await?;
    let said = scene.machine.run(&["teardown", "--yes", "--no-wait"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    // Each goes on for longer than it takes to be noticed here.
    DELETIONS.iter().for_each(|operation| scene.cloud.fail(operation, Fault::Slow(Duration::from_secs(2)), 2));
    let mut kills = 0;
    let is_done = |scene: &Scene| scene.machine.path(TORN_DOWN).exists();
    while !is_done(&scene) {
        let before = scene.deletions();
        scene
            .until("another deletion, or the end", &token, |scene| Ok(scene.deletions() > before || is_done(scene)))
            .await?;
        if is_done(&scene) {
            break;
        }
        daemon.signal("KILL")?;
        daemon.ended()?;
        kills += 1;
        assert!(kills < 20, "it never ends: {:?}", scene.cloud.all_requests());
        daemon = scene.machine.daemon(&[])?;
    }
    assert!(kills >= 4, "only {kills} kills: {:?}", scene.cloud.all_requests());
    let said = scene.ends(scene.teardown(&["--yes"])?, &[&old_token, &token]).await?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(provider(BUCKET, "GetOpenIDConnectProvider", &[]).await.is_err() && !bucket_is_there(BUCKET).await);
    assert_eq!(scene.starts(), 3);
    Ok(())
}

#[tokio::test]
async fn provider_and_objects_of_somebody_else_stay_and_are_named() -> Result {
    const BUCKET: &str = "irsad-teardown-foreign";
    let Some(scene) = in_s3(BUCKET).await? else { return Ok(()) };
    let url = issuer(BUCKET);
    let theirs = [("Url", url.as_str()), ("ClientIDList.member.1", "sts.amazonaws.com")];
    provider(BUCKET, "CreateOpenIDConnectProvider", &theirs).await?;
    let old_token = scene.node.mint(None).await?;
    let daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&old_token).await?;
    ask("s3", Method::PUT, &format!("/{BUCKET}/theirs"), "{}").await?;

    let said = scene.ends(scene.teardown(&["--yes"])?, &[&old_token]).await?;
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in [
        format!("the IAM OIDC provider of {url} stays: it is not irsad's"),
        format!("bucket {BUCKET} stays: an IAM OIDC provider may trust it"),
    ] {
        assert!(said.stdout.contains(&part), "{part:?} is missing in {said:?}");
    }
    assert!(provider(BUCKET, "GetOpenIDConnectProvider", &[]).await.is_ok() && bucket_is_there(BUCKET).await);
    assert!(ask("s3", Method::GET, &format!("/{BUCKET}/theirs"), "").await.is_ok());
    assert!(ask("s3", Method::GET, &format!("/{BUCKET}/openid/v1/jwks"), "").await.is_err());
    let counted = ["DeleteOpenIDConnectProvider", "DeleteBucket"].map(|operation| scene.cloud.requests(operation));
    assert_eq!(counted, [0, 0]);
    drop(daemon);
    Ok(())
}

#[tokio::test]
async fn bucket_that_a_provider_of_another_url_points_at_stays_and_both_are_named() -> Result {
    const BUCKET: &str = "irsad-teardown-pointed";
    let Some(scene) = in_s3(BUCKET).await? else { return Ok(()) };
    let by_path = format!("s3.eu-west-1.amazonaws.com/{BUCKET}");
    let url = format!("https://{by_path}");
    let theirs = [("Url", url.as_str()), ("ClientIDList.member.1", "sts.amazonaws.com")];
    provider(BUCKET, "CreateOpenIDConnectProvider", &theirs).await?;
    let old_token = scene.node.mint(None).await?;
    hold_an_object(&scene).await?;
    let daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&old_token).await?;

    let named = format!(
        "bucket {BUCKET} stays: the issuer of IAM OIDC provider arn:aws:iam::{ACCOUNT}:oidc-provider/{by_path} lies in it"
    );
    let planned = scene.machine.run(&["teardown", "--dry-run"])?;
    assert!(planned.stdout.contains(&named), "{planned:?}");
    let said = scene.ends(scene.teardown(&["--yes"])?, &[&old_token]).await?;
    assert_eq!((said.code, said.stdout.contains(&named)), (Some(0), true), "{said:?}");
    assert!(provider(BUCKET, "GetOpenIDConnectProvider", &[]).await.is_err() && bucket_is_there(BUCKET).await);
    assert_eq!(scene.cloud.requests("DeleteBucket"), 0);
    let said = scene.machine.run(&["verify"])?;
    assert!(said.code == Some(0) && said.stdout.starts_with("ok       torn down on "), "{said:?}");
    // Nobody would ever take a finalizer away that is left.
    scene.node.kubectl(&["delete", "crd", DEFINITION, "--timeout", "9s"]).await?;
    drop(daemon);
    Ok(())
}

/// Definition of the objects that irsad makes IAM roles for.
const DEFINITION: &str = "serviceaccountroles.irsad.dev";

/// An object of an irsad that looked after roles once.
async fn hold_an_object(scene: &Scene) -> Result {
    let object = serde_json::json!({
        "apiVersion": "irsad.dev/v1alpha1",
        "kind": "ServiceAccountRole",
        "metadata": { "name": "checkout", "finalizers": [FINALIZER] },
        "spec": { "roleName": "adoption-checkout", "serviceAccounts": [{ "namespace": "default", "name": "default" }] },
    });
    for (file, body) in [("definition.json", definition().body().to_string()), ("object.json", object.to_string())] {
        let path = scene.machine.path(file);
        std::fs::write(&path, body)?;
        let until = Instant::now() + PATIENCE;
        while let Err(error) = scene.node.kubectl(&["create", "-f", &path.to_string_lossy()]).await {
            assert!(Instant::now() < until, "{file}: {error}");
            sleep(TICK).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_node_with_a_folder_goes_back_and_its_documents_are_gone() -> Result {
    let Some(scene) = Scene::start_with(SOON, |_| Ok(())).await? else { return Ok(()) };
    let old_token = scene.node.mint(None).await?;
    let daemon = scene.machine.daemon(&[])?;
    scene.until_converged(&old_token).await?;
    let token = scene.node.mint(None).await?;
    let said = scene.ends(scene.teardown(&["--yes", "--now"])?, &[&old_token, &token]).await?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let left: Vec<_> = scene.machine.everything()?.into_keys().filter(|path| path.starts_with("srv/oidc")).collect();
    assert_eq!(left, [""; 0].map(std::path::PathBuf::from));
    let manifest = scene.machine.read(MANIFEST)?;
    assert!(
        manifest.contains(FOLDER_ISSUER) && !manifest.contains("irsad") && !manifest.contains("jwks-uri"),
        "{manifest}"
    );
    assert_eq!(scene.starts(), 3);
    // Nobody makes roles for tokens that nobody mints.
    let roles = "aws: { region: eu-west-1 }\nroles: { mode: crd }\n";
    scene.machine.write("/etc/irsad/irsad.d/roles.yaml", roles)?;
    let said = scene.machine.run(&["plan"])?;
    assert!(said.code == Some(0) && !said.stdout.contains("roles") && !said.stdout.contains("apply "), "{said:?}");
    std::fs::remove_file(scene.machine.path("/etc/irsad/irsad.d/roles.yaml"))?;
    // What is put back before a boot is no longer ours.
    drop(daemon);
    let before = scene.machine.everything()?;
    let said = scene.machine.run(&["restore"])?;
    assert_eq!((said.code, scene.machine.everything()? == before), (Some(0), true), "{said:?}");
    Ok(())
}
