//! What systemd and its journal are told: ready, status, alive, log lines (sd_notify(3), systemd.exec(5)).
//!
//! Without systemd all of it is silence, and log lines go to standard error.

use std::{
    env,
    io::{self, Stderr},
    net::TcpListener,
    time::Duration,
};

use listenfd::ListenFd;
use nix::sys::stat;
use sd_notify::NotifyState;
use thiserror::Error;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, layer::SubscriberExt, util::SubscriberInitExt};

/// Beginnings of the names of crates that are heard from at `warn` only, unless asked for by a longer name.
const QUIET_CRATES: [&str; 6] = ["aws_", "h2", "hyper", "kube", "rustls", "tower"];

/// Longest status line, in characters.
const LONGEST_STATUS: usize = 300;

/// `READY=1` with a first status line: the service has started.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// `STATUS=`: one line that `systemctl status` shows.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(&one_line(status))]);
}

/// `STOPPING=1`: the service is going down by its own will or was told to.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
}

/// `WATCHDOG=1`: the loop is alive. To be called from the loop only, more often than [`watchdog_interval`].
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// `EXTEND_TIMEOUT_USEC=`: start or stop takes up to `longer` from now (at most 71 minutes can be said).
pub fn extend_timeout(longer: Duration) {
    notify(&[NotifyState::ExtendTimeoutUsec(u32::try_from(longer.as_micros()).unwrap_or(u32::MAX))]);
}

/// Time without [`alive`] after which systemd kills the service (`WATCHDOG_USEC`); `None` where it does not watch.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// The listening TCP sockets that systemd opened and keeps for us under `FileDescriptorName=` `name` (sd_listen_fds(3)). To be called
/// once, before there is a second thread: it takes the variables out of the environment.
///
/// # Errors
/// One of them is no TCP socket that listens.
pub fn held_sockets(name: &str) -> io::Result<Vec<TcpListener>> {
    let names: Vec<String> = sd_notify::listen_fds_with_names()?.map(|(_, name)| name).collect();
    let mut found = ListenFd::from_env();
    let places = names.iter().enumerate().filter(|(_, found)| *found == name);
    places.filter_map(|(place, _)| found.take_tcp_listener(place).transpose()).collect()
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// A line break would begin another assignment of the protocol; of a long text the beginning is enough, `irsad status` has the rest.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST_STATUS {
        return line;
    }
    let beginning: String = line.chars().take(LONGEST_STATUS).collect();
    format!("{} … (irsad status)", beginning.rsplit_once(' ').map_or(beginning.as_str(), |(whole, _)| whole))
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The filter is not understood.
    #[error("log level {level:?} is not understood; write error, warn, info, debug or trace")]
    Level {
        /// As it was given.
        level: String,
        /// The cause.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Called twice.
    #[error("logging was already set up")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends log lines to the journal with their fields (`IRSAD_KID=` for `kid`) where standard error is connected to it, else
/// to standard error with the time in RFC 3339. `level` is `info` or the like, or an
/// [`EnvFilter`] directive list such as `irsad=debug,hyper=info`.
///
/// # Errors
/// There is no log.
pub fn init_logging(level: &str) -> Result<(), LoggingError> {
    let journal = is_journal(io::stderr()).then(tracing_journald::Layer::new).and_then(Result::ok);
    let journal = journal.map(|journal| {
        journal.with_field_prefix(Some("IRSAD".to_owned())).with_syslog_identifier("irsad".to_owned()).boxed()
    });
    let lines = || tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false).boxed();
    let layer = journal.unwrap_or_else(lines);
    Registry::default().with(layer.with_filter(filter(level)?)).try_init().map_err(LoggingError::Twice)
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let quiet: Vec<String> = QUIET_CRATES.iter().map(|name| format!("{name}=warn")).collect();
    // The longest name that fits wins, whatever stands first.
    let directives = format!("{},{level}", quiet.join(","));
    EnvFilter::builder().parse(directives).map_err(|source| LoggingError::Level { level: level.to_owned(), source })
}

/// Whether `stderr` is the stream that systemd connected to the journal, and not something that was put in its place.
fn is_journal(stderr: Stderr) -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    stat::fstat(stderr).is_ok_and(|found| stream == format!("{}:{}", found.st_dev, found.st_ino))
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::OwnedFd, unix::net::UnixDatagram},
        process::{Command, Stdio},
    };

    use tempfile::TempDir;

    use super::*;

    /// Runs one ignored test below in a process of its own: environment variables belong to a whole process.
    fn child(test: &str) -> Command {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--ignored", "--exact", &format!("host::systemd::tests::{test}")]);
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        command
    }

    #[test]
    #[ignore = "runs as a child of service_manager_is_told_each_state_in_its_protocol"]
    fn tells_everything() {
        ready("1 key published");
        status("two\nlines\u{a0}\t");
        alive();
        extend_timeout(Duration::from_secs(30));
        extend_timeout(Duration::from_secs(86_400));
        stopping("stopping");
        assert_eq!(watchdog_interval(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn service_manager_is_told_each_state_in_its_protocol() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let output = child("tells_everything").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "60000000").output();
        let output = output.expect("a child");
        assert!(output.status.success(), "{output:?}");
        socket.set_nonblocking(true).expect("non-blocking");
        let mut told = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(length) = socket.recv(&mut buffer) {
            told.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        assert_eq!(
            told,
            [
                "READY=1\nSTATUS=1 key published\n",
                "STATUS=two lines\n",
                "WATCHDOG=1\n",
                "EXTEND_TIMEOUT_USEC=30000000\n",
                "EXTEND_TIMEOUT_USEC=4294967295\n",
                "STOPPING=1\nSTATUS=stopping\n",
            ]
        );
    }

    #[test]
    fn status_of_any_length_is_one_line_that_a_person_reads() {
        assert_eq!(one_line("all\nis  well"), "all is well");
        let long = one_line(&"word ".repeat(200));
        assert!(long.ends_with("word … (irsad status)") && long.chars().count() < 330, "{long}");
    }

    #[test]
    #[ignore = "runs as a child of log_lines_go_to_standard_error_without_a_journal"]
    fn logs() {
        init_logging("info").expect("logging");
        status("without systemd this is silence");
        assert_eq!(watchdog_interval(), None);
        assert!(!is_journal(io::stderr()));
        tracing::info!(kid = "a1", "key is active");
        tracing::debug!("not asked for");
        tracing::info!(target: "hyper_util::client", "not ours");
        tracing::warn!(target: "hyper_util::client", "a warning of theirs");
    }

    #[test]
    fn log_lines_go_to_standard_error_without_a_journal() {
        // A stream that was put in place of the journal's.
        let output = child("logs").env("JOURNAL_STREAM", "8:1").output().expect("a child");
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8_lossy(&output.stderr).into_owned();
        let shown: Vec<&str> = lines.lines().filter_map(|line| line.split_once('Z')).map(|(_, rest)| rest).collect();
        assert_eq!(shown, ["  INFO key is active kid=\"a1\"", "  WARN a warning of theirs"], "{lines}");
        let time = lines.split(' ').next().unwrap_or_default();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time} is no RFC 3339 time");
    }

    #[test]
    #[ignore = "runs as a child of journal_is_recognised_by_device_and_inode_of_standard_error"]
    fn sees_the_journal() {
        assert!(is_journal(io::stderr()));
    }

    #[test]
    fn journal_is_recognised_by_device_and_inode_of_standard_error() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a stream");
        let found = stat::fstat(&theirs).expect("a stream");
        let stream = format!("{}:{}", found.st_dev, found.st_ino);
        let mut command = child("sees_the_journal");
        command.env("JOURNAL_STREAM", stream).stderr(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        assert!(command.status().expect("a child").success());
        drop(ours);
    }

    #[test]
    fn log_level_that_is_none_is_refused() {
        assert_eq!(
            filter("loud=very=much").map(drop).map_err(|error| error.to_string()),
            Err("log level \"loud=very=much\" is not understood; write error, warn, info, debug or trace".to_owned())
        );
    }
}
