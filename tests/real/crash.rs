//! irsad is killed at every system call that changes a file, and errors are put in the place of such calls: each file is the old one
//! or the new one, and the next run converges.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, Output},
};

use crate::{
    irsad::{Machine, Result},
    missing,
};

/// Calls that change files or make a change last.
const CALLS: [&str; 7] = ["write", "fsync", "renameat", "renameat2", "unlinkat", "mkdirat", "fchmod"];
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/// strace, or `None` where it may not trace here; the test is then named as not run.
fn strace() -> Option<String> {
    let found = std::env::var("IRSAD_TEST_STRACE").ok();
    if found.is_none() {
        missing("strace", "kills and errors at every file operation of a pass");
    }
    found
}

/// One pass under strace.
fn traced(strace: &str, machine: &Machine, arguments: &[&str]) -> Result<Output> {
    let irsad = machine.command(&["run", "--once"]);
    let mut command = Command::new(strace);
    command.args(["-f", "-qq", "--seccomp-bpf"]).args(arguments).arg(irsad.get_program()).args(irsad.get_args());
    for (name, value) in irsad.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ok(command.output()?)
}

/// How often one undisturbed pass makes `call`.
fn count(strace: &str, machine: &Machine, call: &str) -> Result<usize> {
    let trace = tempfile::NamedTempFile::new()?;
    let output = traced(strace, machine, &["-o", &trace.path().display().to_string(), "-e", &format!("trace={call}")])?;
    assert!(output.status.success(), "{output:?}");
    Ok(fs::read_to_string(trace.path())?.lines().filter(|line| line.contains(&format!("{call}("))).count())
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(machine: &Machine) -> Result<Files> {
    // Each machine has a port of its own.
    let all = machine.everything()?.into_iter().filter(|(path, _)| !path.ends_with("00-ports.yaml"));
    Ok(all.map(|(path, (_, bytes))| (path, without_times(bytes))).collect())
}

/// When a key was first seen differs from run to run.
fn without_times(bytes: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            text.split_inclusive('\n').filter(|line| !line.contains("\"seenSince\"")).collect::<String>().into_bytes()
        }
        Err(error) => error.into_bytes(),
    }
}

/// Every file is as before or as after, but for dot-files that are being made.
fn assert_old_or_new(found: &Files, before: &Files, after: &Files, when: &str) {
    for path in before.keys().chain(after.keys()) {
        let found = found.get(path);
        let whole = found == before.get(path) || found == after.get(path);
        assert!(whole, "{when}: {} is neither the old file nor the new one", path.display());
    }
    for path in found.keys().filter(|path| !before.contains_key(*path) && !after.contains_key(*path)) {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let beside_the_manifest = path.parent().is_some_and(|folder| folder.ends_with("manifests"));
        assert!(name.starts_with(b".") && !beside_the_manifest, "{when}: {} was left behind", path.display());
    }
}

/// What a node with keys looks like before and after the one pass, and irsad on a fresh copy of it.
fn before_and_after() -> Result<(Files, Files)> {
    let machine = Machine::quickstart()?;
    let before = files(&machine)?;
    assert_eq!(machine.run(&["run", "--once"])?.code, Some(0));
    Ok((before, files(&machine)?))
}

/// Makes a pass with `fault` in the `number`th `call`, then an undisturbed one.
fn survives(strace: &str, call: &str, number: usize, fault: &str, before: &Files, after: &Files) -> Result<Output> {
    let when = format!("{fault} in {call} number {number}");
    let machine = Machine::quickstart()?;
    let output = traced(strace, &machine, &["-o", "/dev/null", "-e", &format!("inject={call}:{fault}:when={number}")])?;
    assert_old_or_new(&files(&machine)?, before, after, &when);
    let next = machine.run(&["run", "--once"])?;
    assert_eq!(next.code, Some(0), "{when}: the next run does not converge: {next:?}");
    assert_eq!(files(&machine)?, *after, "{when}: the next run comes to another end");
    Ok(output)
}

#[test]
fn killed_at_any_file_operation_every_file_is_old_or_new_and_the_next_run_converges() -> Result {
    let Some(strace) = strace() else { return Ok(()) };
    let (before, after) = before_and_after()?;
    let mut kills = 0;
    for call in CALLS {
        for number in 1..=count(&strace, &Machine::quickstart()?, call)? {
            let output = survives(&strace, call, number, "signal=KILL", &before, &after)?;
            kills += usize::from(output.status.signal() == Some(9) || output.status.code() == Some(137));
        }
    }
    assert!(kills > 30, "only {kills} kills: are the calls still the ones that irsad makes?");
    Ok(())
}

#[test]
fn failing_file_operation_is_said_and_leaves_every_file_old_or_new() -> Result {
    let Some(strace) = strace() else { return Ok(()) };
    let (before, after) = before_and_after()?;
    let mut failures = 0;
    for (call, errors) in [
        ("fsync", ["EIO", "ENOSPC"].as_slice()),
        ("renameat", ["EXDEV", "EROFS", "ENOSPC"].as_slice()),
        ("mkdirat", ["EROFS"].as_slice()),
    ] {
        let number_of_calls = count(&strace, &Machine::quickstart()?, call)?;
        for error in errors {
            for number in 1..=number_of_calls {
                let output = survives(&strace, call, number, &format!("error={error}"), &before, &after)?;
                let said =
                    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                let is_told = said.contains("failed: ") || said.contains("cannot ") || said.contains("irsad: ");
                assert!(is_told, "{error} in {call} number {number} was not said: {said}");
                failures += 1;
            }
        }
    }
    assert!(failures > 10, "only {failures} errors: are the calls still the ones that irsad makes?");
    Ok(())
}

#[test]
fn killed_while_it_makes_keys_the_next_run_still_ends_with_files_that_belong_together() -> Result {
    let Some(strace) = strace() else { return Ok(()) };
    let without_keys = || -> Result<Machine> {
        let machine = Machine::quickstart()?;
        fs::remove_dir_all(machine.path("/etc/kubernetes/pki"))?;
        Ok(machine)
    };
    for number in 1..=count(&strace, &without_keys()?, "renameat")? {
        let machine = without_keys()?;
        traced(&strace, &machine, &["-o", "/dev/null", "-e", &format!("inject=renameat:signal=KILL:when={number}")])?;
        let next = machine.run(&["run", "--once"])?;
        assert_eq!(next.code, Some(0), "killed at rename {number}: {next:?}");
        let mut derived = String::new();
        for key in ["/etc/kubernetes/pki/sa.key", "/var/lib/irsad/standby.key"] {
            let output = Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(machine.path(key)).output()?;
            derived += &String::from_utf8(output.stdout)?;
        }
        assert_eq!(derived, machine.read("/etc/kubernetes/pki/sa.pub")?, "killed at rename {number}");
        assert!(machine.read(MANIFEST)?.contains("https://oidc.quickstart.example"));
    }
    Ok(())
}
