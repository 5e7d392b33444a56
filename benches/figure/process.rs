//! What a running daemon takes, as the kernel counts it.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use super::{Result, milliseconds};
use crate::Daemon;

const PASSES: u32 = 50;

/// `systemctl reload` wakes the daemon for a pass that reads its configuration again and looks at everything: CPU time of one.
pub fn cpu_of_a_pass(daemon: &mut Daemon) -> Result<String> {
    // Those of earlier passes would be taken for the ends of these.
    while daemon.messages.try_recv().is_ok() {}
    let before = cpu(daemon)?;
    for _ in 0..PASSES {
        daemon.signal("HUP")?;
        hears_ok(daemon)?;
    }
    Ok(milliseconds((cpu(daemon)? - before) / PASSES))
}

/// Waits until a pass has ended with nothing to do.
pub fn hears_ok(daemon: &mut Daemon) -> Result {
    daemon.hears("STATUS=ok", |message| message.contains("STATUS=ok")).map(drop)
}

/// User and system time so far (proc_pid_stat(5), fields 14 and 15).
pub fn cpu(daemon: &Daemon) -> Result<Duration> {
    let stat = fs::read_to_string(proc(daemon).join("stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process name in stat")?;
    let ticks =
        fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<std::result::Result<u64, _>>()?;
    let per_second: u64 = String::from_utf8(Command::new("getconf").arg("CLK_TCK").output()?.stdout)?.trim().parse()?;
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

/// A size out of proc_pid_status(5), which gives it in KiB.
pub fn status_bytes(daemon: &Daemon, name: &str) -> Result<u64> {
    let status = fs::read_to_string(proc(daemon).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or_else(|| format!("no {name} in status"))?;
    Ok(number.parse::<u64>()? * 1024)
}

fn proc(daemon: &Daemon) -> PathBuf {
    PathBuf::from(format!("/proc/{}", daemon.pid()))
}
