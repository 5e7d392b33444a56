//! The demo as a user sees it, and what a wrong input does to it: nothing but a clear sentence.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use serde_json::Value;

use crate::irsad::{Machine, Result};

const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const ISSUER: &str = "https://oidc.quickstart.example";

#[test]
fn quickstart_converges_at_once_and_then_has_nothing_to_do() -> Result {
    let machine = Machine::quickstart()?;
    let (old, key) = (machine.read(MANIFEST)?, machine.read("/etc/kubernetes/pki/sa.key")?);
    let planned = machine.run(&["plan", "--detailed-exitcode"])?;
    assert_eq!(planned.code, Some(2), "{planned:?}");

    let first = machine.run(&["run", "--once"])?;
    assert_eq!(first.code, Some(0), "{first:?}");
    let second = machine.run(&["run", "--once"])?;
    assert_eq!((second.code, second.stdout.as_str()), (Some(0), "nothing to do\n"), "{second:?}");
    assert_eq!(machine.run(&["plan", "--detailed-exitcode"])?.code, Some(0));

    let added: Vec<String> = machine
        .read(MANIFEST)?
        .lines()
        .filter(|line| !old.lines().any(|known| known == *line))
        .map(str::to_owned)
        .collect();
    assert_eq!(added.len(), 3, "issuer, JWKS URI and annotation: {added:#?}");
    assert_eq!(machine.read("/etc/kubernetes/pki/sa.key")?, key);

    let discovery: Value = serde_json::from_str(&machine.read("/srv/oidc/.well-known/openid-configuration")?)?;
    let jwks: Value = serde_json::from_str(&machine.read("/srv/oidc/openid/v1/jwks")?)?;
    assert_eq!(discovery["issuer"], ISSUER);
    assert_eq!(discovery["jwks_uri"], format!("{ISSUER}/openid/v1/jwks"));
    assert_eq!(jwks["keys"].as_array().map(Vec::len), Some(1));

    let status = machine.run(&["status"])?;
    assert_eq!(status.code, Some(4), "no daemon runs: {status:?}");
    assert!(status.stdout.contains(ISSUER), "{}", status.stdout);
    Ok(())
}

#[test]
fn plan_changes_no_file() -> Result {
    let machine = Machine::quickstart()?;
    let before = machine.everything()?;
    let said = machine.run(&["plan"])?;
    assert!(said.stdout.contains("+    - --service-account-issuer=https://oidc.quickstart.example"), "{said:?}");
    assert_eq!(machine.everything()?, before);
    assert!(!machine.path("/run/irsad").exists());
    Ok(())
}

#[test]
fn node_without_keys_gets_rsa_2048_keys_that_openssl_reads_one_that_signs_and_one_that_stands_by() -> Result {
    let machine = Machine::quickstart()?;
    fs::remove_dir_all(machine.path("/etc/kubernetes/pki"))?;
    let said = machine.run(&["run", "--once"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut derived = String::new();
    for path in ["/etc/kubernetes/pki/sa.key", "/var/lib/irsad/standby.key"] {
        let key = machine.path(path);
        assert_eq!(fs::metadata(&key)?.permissions().mode() & 0o777, 0o600, "{path}");
        let output =
            std::process::Command::new("openssl").args(["rsa", "-noout", "-text", "-in"]).arg(&key).output()?;
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("Private-Key: (2048 bit"), "{output:?}");
        let public = std::process::Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).output()?;
        derived += &String::from_utf8(public.stdout)?;
    }
    assert_eq!(derived, machine.read("/etc/kubernetes/pki/sa.pub")?);
    Ok(())
}

/// Runs once after `change` and gives what irsad says to a person; nothing but its memory may have changed.
fn refusal(change: impl FnOnce(&Machine) -> Result) -> Result<String> {
    let machine = Machine::quickstart()?;
    change(&machine)?;
    let before = machine.everything()?;
    let said = machine.run(&["run", "--once"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    let mut after = machine.everything()?;
    after.retain(|path, _| !path.starts_with("srv") && !path.starts_with("var"));
    assert_eq!(after, before, "something was written: {}", said.stdout);
    Ok(format!("{}{}", said.stdout, said.stderr).replace(&machine.root().display().to_string(), ""))
}

#[test]
fn manifest_that_is_not_understood_is_left_alone_and_the_reason_is_said() -> Result {
    type Change = fn(&str) -> String;
    let cases: [(&str, Change, &str); 11] = [
        ("two documents", |text| format!("{text}---\n{text}"), "document"),
        ("anchors", |text| text.replace("metadata:", "metadata: &a"), "anchor"),
        ("tabs", |text| text.replace("metadata:\n  ", "metadata:\n\t"), "tab"),
        ("CR LF", |text| text.replace('\n', "\r\n"), "carriage return"),
        ("byte order mark", |text| format!("\u{feff}{text}"), "byte order mark"),
        ("NUL", |text| text.replace("kind: Pod", "kind: Pod\0"), "control character"),
        ("100 MB", |text| format!("{text}# {}\n", "x".repeat(100 << 20)), "bytes"),
        (
            "no kube-apiserver container",
            |text| text.replace("name: kube-apiserver\n    ports", "name: other\n    ports"),
            "kube-apiserver",
        ),
        ("duplicate issuer", |text| duplicate(text, "--service-account-issuer"), "stands twice"),
        (
            "a shell string",
            |text| text.replace("    - kube-apiserver\n", "    - sh\n    - -c\n    - kube-apiserver\n"),
            "shell",
        ),
        (
            "external signer",
            |text| text.replace("    - --allow-privileged=true", "    - --service-account-signing-endpoint=/run/s"),
            "signing-endpoint",
        ),
    ];
    for (what, change, expected) in cases {
        let said = refusal(|machine| {
            let (old, new) = (machine.read(MANIFEST)?, change(&machine.read(MANIFEST)?));
            assert_ne!(old, new, "{what}: the case changes nothing");
            machine.write(MANIFEST, &new)
        })?;
        assert!(
            said.contains("needs a person: ") && said.contains(MANIFEST) && said.contains(expected),
            "{what}: {said}"
        );
    }
    Ok(())
}

fn duplicate(text: &str, flag: &str) -> String {
    text.lines()
        .flat_map(|line| std::iter::repeat_n(line, if line.contains(flag) { 2 } else { 1 }))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn manifest_behind_a_symbolic_link_is_refused() -> Result {
    let said = refusal(|machine| {
        fs::rename(machine.path(MANIFEST), machine.path("/etc/kubernetes/elsewhere.yaml"))?;
        Ok(symlink("/etc/kubernetes/elsewhere.yaml", machine.path(MANIFEST))?)
    })?;
    assert!(said.contains("symbolic link"), "{said}");
    Ok(())
}

#[test]
fn key_file_that_is_not_a_usable_key_is_refused_by_name() -> Result {
    let openssl = |arguments: &[&str]| -> Result<String> {
        Ok(String::from_utf8(std::process::Command::new("openssl").args(arguments).output()?.stdout)?)
    };
    let (key, public) = ("/etc/kubernetes/pki/sa.key", "/etc/kubernetes/pki/sa.pub");
    let own = Machine::quickstart()?.read(key)?;
    let cases = [
        ("not a key", key, "hello\n".to_owned(), "sa.key"),
        ("empty", key, String::new(), "sa.key"),
        ("truncated", key, own[..own.len() / 2].to_owned(), "sa.key"),
        ("encrypted", key, openssl(&["genpkey", "-algorithm", "RSA", "-aes256", "-pass", "pass:test"])?, "encrypted"),
        ("weak", key, openssl(&["genrsa", "-traditional", "1024"])?, "1024"),
        ("another pair's", key, openssl(&["genrsa", "-traditional", "2048"])?, "do not belong together"),
        ("not a public key", public, "hello\n".to_owned(), "sa.pub"),
    ];
    for (what, path, text, expected) in cases {
        let said = refusal(|machine| machine.write(path, &text))?;
        assert!(said.contains("needs a person: ") && said.contains(expected), "{what}: {said}");
    }
    Ok(())
}

#[test]
fn every_mistake_of_a_configuration_is_named_with_its_line_and_exit_code_2() -> Result {
    let machine = Machine::quickstart()?;
    machine.write(
        "/etc/irsad/irsad.yaml",
        "version: 1\ncluster: Prod_1\nissuer:\n  store: file:///srv/oidc\n  url: http://oidc.example.com\n  jwks: a\nrotation:\n  publishLead: -1h\n",
    )?;
    for command in [["check-config"], ["plan"], ["verify"]] {
        let said = machine.run(&command)?;
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said:?}");
        for place in [
            "irsad.yaml: line 2: cluster: ",
            "irsad.yaml: line 5: issuer.url: ",
            "irsad.yaml: line 6: issuer.jwks: ",
            "irsad.yaml: line 8: rotation.publishLead: ",
        ] {
            assert!(said.stderr.contains(place), "{command:?} does not name {place}: {}", said.stderr);
        }
    }
    Ok(())
}

#[test]
fn second_irsad_on_a_machine_does_nothing_and_says_who_runs() -> Result {
    let machine = Machine::quickstart()?;
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("READY=1", |message| message.contains("READY=1"))?;
    let said = machine.run(&["run", "--once"])?;
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains(&format!("as process {}", daemon.pid())), "{}", said.stderr);
    Ok(())
}

#[test]
fn reader_that_goes_away_stops_nothing() -> Result {
    let machine = Machine::quickstart()?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let said = machine.command(&["run", "--once"]).stdout(writer).output()?;
    assert_eq!((said.status.code(), said.stderr.as_slice()), (Some(0), [].as_slice()), "{said:?}");
    assert!(machine.read(MANIFEST)?.contains(ISSUER));
    for command in [["plan"].as_slice(), &["status", "-o", "json"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let said = machine.command(command).stdout(writer).output()?;
        assert!(!String::from_utf8_lossy(&said.stderr).contains("panicked"), "{command:?}: {said:?}");
    }
    Ok(())
}

#[test]
fn prepare_puts_configured_audiences_beside_the_issuer_so_that_no_restart_is_left_for_them() -> Result {
    let machine = Machine::quickstart()?;
    let config = machine.read("/etc/irsad/irsad.yaml")?;
    machine
        .write("/etc/irsad/irsad.yaml", &format!("{config}apiServer:\n  audiences: [one.example, two.example]\n"))?;
    let kubeadm = include_str!("../fixtures/kubeadm-configs/default.yaml");
    machine.write("/root/kubeadm.yaml", kubeadm)?;
    let said = machine.run(&["prepare", "--stdout", "--kubeadm-config", "/root/kubeadm.yaml"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let added: Vec<&str> = said.stdout.lines().filter(|line| !kubeadm.lines().any(|known| known == *line)).collect();
    for argument in [ISSUER, "one.example,two.example"] {
        assert!(added.iter().any(|line| line.contains(argument)), "{argument}: {added:#?}");
    }
    assert_eq!(machine.read("/root/kubeadm.yaml")?, kubeadm, "--stdout leaves the file alone");
    Ok(())
}
