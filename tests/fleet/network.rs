//! A machine of its own for each test, as far as the kernel gives one: network, processes, and a folder for what is temporary.
//!
//! kube-apiserver registers no loopback address in EndpointSlice `default/kubernetes`, so the nodes need addresses that are
//! nobody else's. When the test ends, or is killed, its first process ends, and with it everything that it started.

use std::{
    env, fs,
    process::{Command, Stdio},
};

use tokio::sync::Semaphore;

use crate::{
    alone::{block_on, is_alone, run_by, test_name},
    control_plane::{PROGRAMS, Result, programs},
};

/// Names a Python that has tests/requirements.txt.
pub const PYTHON: &str = "IRSAD_TEST_PYTHON";
/// The nodes' addresses, beginning with `.1`.
pub const NETWORK: &str = "10.77.0";

/// Namespaces of a test. The child is killed with its parent, and the namespace of processes with the child.
const UNSHARE: &[&str] = &["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// Where each test has a file system of its own; the folder itself stays empty.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// Then addresses, and a place for files that nobody else sees.
const SET_UP: &str = "set -e; ip link set lo up; for node in 1 2 3 4 5; do ip address add \"$0.$node/32\" dev lo; done; \
                      mount -t tmpfs tmpfs \"$TMPDIR\"; exec \"$@\"";

static PLACES: Semaphore = Semaphore::const_new(2);

/// Runs `body` in a network of its own. Where a part is missing, that is said instead.
pub fn within<F: AsyncFn() -> Result<()>>(body: F) {
    if is_alone() {
        if let Err(error) = block_on(body()) {
            panic!("{error}");
        }
        return;
    }
    if let Some((part, why)) = lacking() {
        return crate::missing(part, &why);
    }
    let _place = block_on(PLACES.acquire()).expect("nobody closes it");
    let (program, environment) = network();
    run_by(&program, &test_name::<F>(), &environment);
}

/// What starts a process in a network of its own, and its environment.
pub fn network() -> (Vec<&'static str>, Vec<(&'static str, String)>) {
    fs::create_dir_all(FOLDER).expect("a folder to mount on");
    let passed = ["PATH", "HOME", "RUST_BACKTRACE", PROGRAMS, PYTHON].iter();
    let mut environment: Vec<_> = passed.filter_map(|name| Some((*name, env::var(name).ok()?))).collect();
    environment.push(("TMPDIR", FOLDER.to_owned()));
    let set_up = ["sh", "-c", SET_UP, NETWORK];
    ([&["setpriv", "--pdeathsig", "KILL"][..], &unshare(), &set_up].concat(), environment)
}

fn unshare() -> Vec<&'static str> {
    let as_root: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &["--map-root-user"] };
    [UNSHARE, as_root].concat()
}

/// The first part that is missing, and why.
pub fn lacking() -> Option<(&'static str, String)> {
    if programs().is_none() {
        return Some(("kube-apiserver", format!("{PROGRAMS} is not set")));
    }
    if env::var_os(PYTHON).is_none() {
        return Some(("moto and PyJWT", format!("{PYTHON} is not set")));
    }
    let words = [&unshare()[..], &["ip", "link", "set", "lo", "up"]].concat();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(("network of its own", String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) => Some(("network of its own", format!("cannot run unshare: {error}"))),
    }
}
