//! Figures: how they are measured of a process, and how they are printed.

pub mod process;

use std::{collections::BTreeMap, env, fmt::Display, fs, path::Path, time::Duration};

use tempfile::TempDir;

pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the unit sets.
pub const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "60000000");
/// What the host itself trusts: reading it is a good part of the daemon's memory.
const HOST_TRUST: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
const MIB: f64 = 1_048_576.0;
const SECONDS_A_DAY: usize = 86_400;

/// Requests by what they ask for.
pub type Requests = BTreeMap<String, usize>;

/// One line of the table: what, measured, goal.
pub struct Figure(pub String, pub String, pub &'static str);

impl Figure {
    /// One without a goal.
    pub fn plain(name: impl Into<String>, measured: impl Into<String>) -> Self {
        Self(name.into(), measured.into(), "")
    }
}

/// How long irsad is left alone.
pub fn idle_seconds() -> Result<u32> {
    Ok(env::var("IRSAD_BENCH_SECONDS").map_or(Ok(600), |text| text.parse())?)
}

/// A file with what this host trusts, and the authority of the cloud.
pub fn trust(authority: &Path) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let host = HOST_TRUST.iter().find_map(|path| fs::read_to_string(path).ok());
    let host = host.ok_or("this host has no trust store that is known here; install ca-certificates")?;
    fs::write(folder.path().join("ca.pem"), host + &fs::read_to_string(authority)?)?;
    Ok(folder)
}

/// The service that is asked by an operation of AWS; none for the instance's own metadata.
pub fn service(operation: &str) -> Option<&'static str> {
    match operation {
        "InstanceMetadata" => None,
        "Decrypt" | "DescribeKey" | "GenerateDataKey" => Some("KMS"),
        "GetCallerIdentity" => Some("IAM and STS"),
        operation if operation.contains("OpenIDConnectProvider") => Some("IAM and STS"),
        _ => Some("S3"),
    }
}

/// Those of `after` that were not there before.
pub fn new_requests(before: &Requests, after: &Requests) -> Requests {
    let new = after.iter().map(|(what, count)| (what.clone(), count - before.get(what).unwrap_or(&0)));
    new.filter(|(_, count)| *count > 0).collect()
}

/// Those that one service of AWS is asked.
pub fn of_service(requests: &Requests, name: &str) -> Requests {
    let asks = requests.iter().filter(|(operation, _)| service(operation) == Some(name));
    asks.map(|(operation, count)| (operation.clone(), *count)).collect()
}

/// Requests of `seconds`, as those of a day.
pub fn a_day(requests: &Requests, seconds: u32) -> String {
    let all: usize = requests.values().sum();
    format!("{} ({} in {} min)", all * SECONDS_A_DAY / seconds as usize, each(requests), seconds / 60)
}

/// Requests one by one.
pub fn each(requests: &Requests) -> String {
    let each: Vec<String> = requests.iter().map(|(what, count)| format!("{what} {count}")).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

pub fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.2} ms") } else { format!("{milliseconds:.0} ms") }
}

#[expect(clippy::cast_precision_loss, reason = "printed with one digit")]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}

/// Markdown, aligned.
pub fn print(figures: &[Figure]) {
    let width =
        |column: fn(&Figure) -> &str| figures.iter().map(|figure| column(figure).chars().count()).max().unwrap_or(0);
    let (first, second) = (width(|figure| &figure.0), width(|figure| &figure.1));
    let line = |a: &dyn Display, b: &dyn Display, c: &dyn Display| println!("| {a:<first$} | {b:<second$} | {c:<8} |");
    line(&"figure", &"measured", &"goal");
    line(&"-".repeat(first), &"-".repeat(second), &"-".repeat(8));
    for Figure(name, measured, goal) in figures {
        line(name, measured, goal);
    }
}
