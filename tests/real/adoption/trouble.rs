//! What irsad does when the API server does not come back, was down already, or somebody else writes its manifest too.

use std::fs;

use super::{CONFIG, ISSUER, JWKS, MANIFEST, Scene, configuration, replace};
use crate::irsad::{Machine, Result};

const AUTHENTICATION: &str = "/etc/kubernetes/authentication/config.yaml";
const CHANGE: &str = "/var/lib/irsad/change.json";
const REFUSED: &str = "/var/lib/irsad/refused-change.json";

/// One that kube-apiserver takes, unless its issuer is one that the API server itself signs as.
fn structured_authentication(issuer: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\njwt:\n\
         - issuer: {{ url: \"{issuer}\", audiences: [kubernetes] }}\n  \
         claimMappings: {{ username: {{ claim: sub, prefix: \"login:\" }} }}\n"
    )
}

#[tokio::test]
async fn api_server_that_refuses_the_change_gets_its_manifest_back_and_is_not_asked_again() -> Result {
    let impatient = "apiServer: { evidenceTimeout: 20s }\nrotation: { belowFloors: true }\n";
    let scene = Scene::start_with(impatient, |machine| {
        let manifest = include_str!("../../fixtures/kubeadm-1.36.3/structured-authentication.yaml");
        machine.write(MANIFEST, manifest)?;
        machine.write(AUTHENTICATION, &structured_authentication(ISSUER))
    })
    .await?;
    let Some(scene) = scene else { return Ok(()) };
    let (token, old) = (scene.node.mint(None).await?, scene.machine.read(MANIFEST)?);
    let daemon = scene.machine.daemon(&[])?;
    scene.node.failed(1).await?;
    assert!(
        scene.node.log().contains("URL must not overlap with disallowed issuers"),
        "refused for another reason: {}",
        scene.node.log()
    );

    scene.until("the manifest to be put back", &token, |scene| Ok(scene.machine.path(REFUSED).exists())).await?;
    scene.until("a person to be asked for", &token, |scene| Ok(scene.health()? == "needsAPerson")).await?;
    scene.node.ready().await?;
    assert_eq!(scene.machine.read(MANIFEST)?, old);
    assert!(scene.node.accepts(&token).await?);
    let starts = scene.starts();
    scene.passes(&daemon, &token).await?;
    assert_eq!((scene.starts(), scene.machine.read(MANIFEST)?), (starts, old));
    let said = scene.machine.run(&["status"])?;
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.stdout.contains("mend it, then irsad resume"), "{}", said.stdout);

    scene.machine.write(AUTHENTICATION, &structured_authentication("https://login.example.com"))?;
    // A loaded test machine may take its time now.
    scene.machine.write(CONFIG, &configuration(""))?;
    fs::remove_file(scene.machine.path(REFUSED))?;
    daemon.signal("HUP")?;
    scene.until("the restart", &token, |scene| Ok(scene.starts() > starts)).await?;
    scene.until_converged(&token).await?;
    scene.passes(&daemon, &token).await?;
    assert_eq!((scene.starts(), scene.health()?.as_str()), (starts + 1, "converged"));
    assert_eq!(scene.good_outside(None).await?["iss"], ISSUER);
    Ok(())
}

#[tokio::test]
async fn api_server_that_is_down_is_left_alone() -> Result {
    let Some(scene) = Scene::start().await? else { return Ok(()) };
    let (token, old) = (scene.node.mint(None).await?, scene.machine.read(MANIFEST)?);
    let (key, away) = (scene.machine.path("/etc/kubernetes/pki/apiserver.key"), scene.machine.path("/root/away.key"));
    fs::create_dir_all(scene.machine.path("/root"))?;
    fs::rename(&key, &away)?;
    kill(scene.node.starts()[0].pid)?;
    scene.node.failed(2).await?;

    let daemon = scene.machine.daemon(&[])?;
    scene.until("the documents to be published", &token, |scene| Ok(scene.machine.path(JWKS).exists())).await?;
    scene.until("the daemon to wait", &token, |scene| Ok(scene.health()? == "waiting")).await?;
    fs::remove_file(scene.machine.path(JWKS))?;
    scene.passes(&daemon, &token).await?;
    scene.until("the documents to be published again", &token, |scene| Ok(scene.machine.path(JWKS).exists())).await?;
    assert_eq!(scene.machine.read(MANIFEST)?, old, "changed while nobody could say whether that is safe");
    assert!(!scene.machine.path(CHANGE).exists());
    let said = scene.machine.run(&["status"])?;
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.stdout.contains("kube-apiserver.yaml is left alone meanwhile"), "{}", said.stdout);

    fs::rename(&away, &key)?;
    scene.node.ready().await?;
    let starts = scene.starts();
    daemon.signal("HUP")?;
    scene.until("the adoption", &token, |scene| Ok(scene.starts() > starts)).await?;
    scene.until_converged(&token).await?;
    assert_eq!(scene.starts(), starts + 1);
    Ok(())
}

#[tokio::test]
async fn manifest_that_somebody_else_writes_during_the_change_is_not_rolled_back() -> Result {
    let Some(scene) = Scene::start().await? else { return Ok(()) };
    let (token, old) = (scene.node.mint(None).await?, scene.machine.read(MANIFEST)?);
    let daemon = scene.machine.daemon(&[])?;
    scene.node.started(2).await?;
    assert!(scene.machine.path(CHANGE).exists(), "irsad waits for the evidence");
    // As kubeadm does from a configuration that knows nothing of us.
    let theirs = old.replace("    - --secure-port=", "    - --profiling=false\n    - --secure-port=");
    assert_ne!(theirs, old);
    replace(&scene.machine, MANIFEST, &theirs)?;
    scene.node.started(3).await?;

    scene
        .until(
            "our flags beside theirs",
            &token,
            |scene| Ok(is_ours(&scene.machine)? && scene.health()? == "converged"),
        )
        .await?;
    scene.passes(&daemon, &token).await?;
    assert!(scene.machine.read(MANIFEST)?.contains("--profiling=false"));
    assert!(!scene.machine.path(REFUSED).exists());
    assert_eq!((scene.starts(), scene.health()?.as_str()), (4, "converged"));
    assert_eq!(scene.good_outside(None).await?["iss"], ISSUER);
    Ok(())
}

fn is_ours(machine: &Machine) -> Result<bool> {
    Ok(machine.read(MANIFEST)?.contains(&format!("--service-account-issuer={ISSUER}\n")))
}

/// Ends a process that this test's node started.
fn kill(pid: u32) -> Result {
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { Err(format!("kill {pid}: {status}").into()) }
}
