//! The daemon as systemd and a person at the shell meet it.

use std::fs;

use crate::irsad::{Machine, Result, wait_until};

const JWKS: &str = "/srv/oidc/openid/v1/jwks";
const OURS: &str = "--service-account-issuer=https://oidc.quickstart.example";

#[test]
fn service_manager_hears_ready_after_the_first_pass_then_status_and_watchdog() -> Result {
    let machine = Machine::quickstart()?;
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("READY=1", |message| message.contains("READY=1"))?;
    assert!(machine.path(JWKS).exists(), "ready before the first pass was made");
    daemon.hears("STATUS=ok: …", |message| message.contains("STATUS=ok: key "))?;
    daemon.hears("WATCHDOG=1", |message| message.contains("WATCHDOG=1"))?;
    let status = machine.run(&["status"])?;
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(status.stdout.contains(&format!("runs as process {}", daemon.pid())), "{}", status.stdout);
    Ok(())
}

#[test]
fn stop_signal_ends_the_daemon_and_changes_nothing() -> Result {
    let machine = Machine::quickstart()?;
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("STATUS=ok", |message| message.contains("STATUS=ok"))?;
    let certificate = machine.path("/var/lib/irsad/webhook/current.pem");
    wait_until("the webhook, which starts beside the loop, has its certificate", || Ok(certificate.exists()))?;
    let before = machine.everything()?;
    daemon.signal("TERM")?;
    daemon.hears("STOPPING=1", |message| message.contains("STOPPING=1"))?;
    assert_eq!(daemon.ended()?, Some(0), "{}", daemon.log());
    assert_eq!(machine.everything()?, before);
    assert_eq!(machine.run(&["status"])?.code, Some(4));
    Ok(())
}

#[test]
fn reload_with_an_invalid_file_keeps_the_old_settings_and_says_so() -> Result {
    let machine = Machine::quickstart()?;
    let config = machine.read("/etc/irsad/irsad.yaml")?;
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("STATUS=ok", |message| message.contains("STATUS=ok"))?;
    machine.write("/etc/irsad/irsad.yaml", "version: 1\ncluster: quickstart\nisuer: {}\n")?;
    daemon.signal("HUP")?;
    let status = daemon.hears("that the configuration is not usable", |message| message.contains("not usable"))?;
    assert!(status.contains("the old one holds") && status.contains("isuer"), "{status}");
    fs::remove_file(machine.path(JWKS))?;
    daemon.signal("HUP")?;
    wait_until("the documents are there again, by the old settings", || Ok(machine.path(JWKS).exists()))?;
    machine.write("/etc/irsad/irsad.yaml", &config)?;
    daemon.signal("HUP")?;
    daemon.hears("STATUS=ok", |message| message.contains("STATUS=ok"))?;
    Ok(())
}

#[test]
fn changed_key_file_manifest_or_configuration_wakes_the_daemon() -> Result {
    let machine = Machine::quickstart()?;
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("STATUS=ok", |message| message.contains("STATUS=ok"))?;
    let other = std::process::Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output()?.stdout;
    let path = machine.path("/etc/kubernetes/pki/other.key");
    fs::write(&path, other)?;
    let public = std::process::Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(&path).output()?.stdout;
    let pub_path = "/etc/kubernetes/pki/sa.pub";
    machine.write(pub_path, &format!("{}{}", machine.read(pub_path)?, String::from_utf8(public)?))?;
    let keys = |machine: &Machine| -> Result<usize> {
        let jwks: serde_json::Value = serde_json::from_str(&machine.read(JWKS)?)?;
        Ok(jwks["keys"].as_array().map_or(0, Vec::len))
    };
    wait_until("both keys are published", || Ok(keys(&machine)? == 2))?;

    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let original = fs::read_to_string(crate::irsad::project().join("examples/quickstart").join(&manifest[1..]))?;
    machine.write(manifest, &original)?;
    wait_until("our flags are back in the manifest", || Ok(machine.read(manifest)?.contains(OURS)))?;

    let config = machine.read("/etc/irsad/irsad.yaml")?.replace("oidc.quickstart.example", "other.quickstart.example");
    machine.write("/etc/irsad/irsad.yaml", &config)?;
    wait_until("the new issuer is in the manifest", || {
        Ok(machine.read(manifest)?.contains("https://other.quickstart.example"))
    })?;
    Ok(())
}
