//! `irsad restore`, which runs before kubelet: what a real API server proved comes back, byte for byte, and nothing else.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::irsad::{Machine, Result};

const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const SIGNING_KEY: &str = "/etc/kubernetes/pki/sa.key";
const VERIFYING_KEYS: &str = "/etc/kubernetes/pki/sa.pub";

/// The quickstart's node after its API server has proven our flags; what it wrote down then is made here by hand.
fn proven() -> Result<Machine> {
    let machine = Machine::quickstart()?;
    assert_eq!(machine.run(&["run", "--once"])?.code, Some(0));
    remember(&machine)?;
    Ok(machine)
}

fn remember(machine: &Machine) -> Result {
    let manifest = machine.read(MANIFEST)?;
    let value = |flag: &str| -> Vec<String> {
        let flags = manifest.lines().filter_map(|line| line.trim().strip_prefix(&format!("- --{flag}=")));
        flags.map(str::to_owned).collect()
    };
    let jwks: serde_json::Value = serde_json::from_str(&machine.read("/srv/oidc/openid/v1/jwks")?)?;
    let annotation = manifest.lines().find_map(|line| line.trim().strip_prefix("irsad/applied: "));
    let record = serde_json::json!({
        "version": 1,
        "manifest": MANIFEST,
        "manifestDigest": irsad::model::file::Digest::of(manifest.as_bytes()).to_string(),
        "issuers": value("service-account-issuer"),
        "jwksUri": value("service-account-jwks-uri")[0],
        "apiAudiences": null,
        "applied": annotation.map(|value| value.trim_matches('"')),
        "signingKey": SIGNING_KEY,
        "signingKid": jwks["keys"][0]["kid"],
        "verifyingKeys": VERIFYING_KEYS,
        "kids": [jwks["keys"][0]["kid"]],
        "keepsKeys": true,
    });
    machine.write("/var/lib/irsad/proven.json", &record.to_string())?;
    for (file, copy) in [(MANIFEST, "kube-apiserver.yaml"), (SIGNING_KEY, "sa.key"), (VERIFYING_KEYS, "sa.pub")] {
        machine.write(&format!("/var/lib/irsad/proven/{copy}"), &machine.read(file)?)?;
    }
    Ok(())
}

#[test]
fn files_that_a_boot_finds_wrong_come_back_without_configuration_or_network() -> Result {
    let machine = proven()?;
    fs::remove_dir_all(machine.path("/etc/irsad"))?;
    let before = machine.everything()?;
    assert_eq!(machine.run(&["restore"])?.stderr, "", "something was done on a node that is as it should be");
    assert_eq!(machine.everything()?, before);

    let kubeadm = fs::read_to_string(crate::irsad::project().join("examples/quickstart").join(&MANIFEST[1..]))?;
    machine.write(MANIFEST, &kubeadm)?;
    fs::remove_file(machine.path(SIGNING_KEY))?;
    machine.write(VERIFYING_KEYS, "")?;
    let said = machine.run(&["restore"])?;
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (
            Some(0),
            "done: put back /etc/kubernetes/pki/sa.pub from /var/lib/irsad/proven/sa.pub: a power cut left it incomplete\n\
             done: put back /etc/kubernetes/pki/sa.key from /var/lib/irsad/proven/sa.key: it was missing\n\
             done: put our flags back into /etc/kubernetes/manifests/kube-apiserver.yaml: it was written anew without them\n"
        )
    );
    assert_eq!(machine.everything()?, before);
    assert_eq!(fs::metadata(machine.path(SIGNING_KEY))?.permissions().mode() & 0o777, 0o600);
    Ok(())
}

#[test]
fn torn_manifest_comes_back_as_it_was_proven() -> Result {
    let machine = proven()?;
    let before = machine.everything()?;
    let manifest = machine.read(MANIFEST)?;
    for length in [0, 1, 700, manifest.len() - 1] {
        machine.write(MANIFEST, &manifest[..length])?;
        let said = machine.run(&["restore"])?;
        assert_eq!(said.code, Some(0), "{length} bytes: {said:?}");
        assert_eq!(machine.everything()?, before, "{length} bytes");
    }
    Ok(())
}

#[test]
fn node_without_memory_or_with_one_that_is_not_ours_is_left_alone() -> Result {
    let machine = Machine::quickstart()?;
    let before = machine.everything()?;
    let said = machine.run(&["restore"])?;
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (Some(0), "note: nothing to put back: kube-apiserver of this node has proven nothing yet\n")
    );
    assert_eq!(machine.everything()?, before);
    machine.write("/var/lib/irsad/proven.json", "{\"version\": 2}")?;
    let said = machine.run(&["restore"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stderr.starts_with(
            "needs a person: /var/lib/irsad/proven.json is not what this version of irsad writes (nothing changed)"
        ),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn running_daemon_is_left_to_look_after_its_node() -> Result {
    let machine = proven()?;
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("STATUS=ok", |message| message.contains("STATUS=ok"))?;
    let said = machine.run(&["restore"])?;
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), "note: irsad runs, and looks after this node itself\n"));
    Ok(())
}
