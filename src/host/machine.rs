//! The machine itself: its name, and what else runs on it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    time::{ClockId, clock_gettime},
    unistd,
};
use thiserror::Error;

use super::Root;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Longest identifier of a machine that is read, in bytes.
const LONGEST_ID_BYTES: u64 = 256;

/// Why the machine could not be asked.
#[derive(Debug, Error)]
pub enum MachineError {
    /// `/proc` is not to be had.
    #[error("cannot list processes in {} (nothing changed); check that it is mounted", path.display())]
    Processes {
        /// `/proc`.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// gethostname(2) failed, or the name is not text.
    #[error("cannot read the host name; set one with hostnamectl set-hostname NAME")]
    HostName(#[source] io::Error),
}

/// What `kubeadm version -o short` says (`v1.36.3`), or `None` where there is no kubeadm to ask: below another root than `/`, or
/// not installed.
pub fn kubeadm_version(root: &Root) -> Option<String> {
    if !root.is_host() {
        return None;
    }
    let output = Command::new("kubeadm").args(["version", "-o", "short"]).stdin(Stdio::null()).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| version.trim().to_owned())
}

/// Whether a process of that name (`comm`, at most 15 characters) runs on the machine whose files are below `root`.
/// Below another root than `/` nothing runs.
///
/// # Errors
/// Could not be asked; nothing is known then.
pub fn is_running(root: &Root, name: &str) -> Result<bool, MachineError> {
    if !root.is_host() {
        return Ok(false);
    }
    let path = PathBuf::from("/proc");
    let entries = fs::read_dir(&path).map_err(|source| MachineError::Processes { path: path.clone(), source })?;
    for entry in entries {
        let entry = entry.map_err(|source| MachineError::Processes { path: path.clone(), source })?;
        // A process may end between the two looks.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.trim_end_matches('\n') == name {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What tells this machine and its present boot from others: `/etc/machine-id` (machine-id(5)) and the kernel's boot id. Empty texts
/// where there is none, as below another root than `/`.
pub fn identity(root: &Root) -> (String, String) {
    let line = |path: &str| {
        let found = root.read(Path::new(path), LONGEST_ID_BYTES).ok().flatten();
        found.map(|found| String::from_utf8_lossy(&found.bytes).trim().to_owned()).unwrap_or_default()
    };
    let boot =
        if root.is_host() { fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned() } else { String::new() };
    (line("/etc/machine-id"), boot)
}

/// Time since this machine was switched on, sleep included: a clock that nobody sets (`CLOCK_BOOTTIME`, clock_gettime(2)).
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The host name in lower case: what kubelet calls the node unless it is told otherwise
/// (`k8s.io/component-helpers/node/util/hostname.go`).
///
/// # Errors
/// There is none, or it is not text.
pub fn host_name() -> Result<String, MachineError> {
    let name = unistd::gethostname().map_err(|errno| MachineError::HostName(errno.into()))?;
    let name = name.to_string_lossy().trim().to_lowercase();
    if name.is_empty() { Err(MachineError::HostName(io::ErrorKind::NotFound.into())) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_found_by_its_name_and_only_on_this_host() {
        let ours = fs::read_to_string("/proc/self/comm").expect("a name");
        let elsewhere = Root::new(Path::new("/tmp")).expect("a root");
        assert!(is_running(&Root::host(), ours.trim()).expect("asked"));
        assert!(!is_running(&elsewhere, ours.trim()).expect("asked"));
        assert!(!is_running(&Root::host(), "no such name").expect("asked"));
    }

    #[test]
    fn host_name_is_what_kubelet_would_take() {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        assert_eq!(host_name().expect("a name"), name.trim().to_lowercase());
    }
}
