//! A Prometheus of Debian's, with the alerts of the package.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    irsad::{Machine, Result, project, wait_until},
    kubernetes::{free_ports, process::Kept},
};

/// Folder of prometheus and promtool.
const PROGRAMS: &str = "IRSAD_TEST_PROMETHEUS";

/// The folder; `None`, and said, where this machine has none.
pub fn programs() -> Option<PathBuf> {
    let folder = env::var_os(PROGRAMS).map(PathBuf::from);
    if folder.is_none() {
        crate::missing("prometheus", &format!("{PROGRAMS} is not set"));
    }
    folder
}

pub fn rules() -> PathBuf {
    project().join("packaging/prometheus/irsad.rules.yaml")
}

/// A server that scrapes one irsad every second.
pub struct Prometheus {
    port: u16,
    folder: TempDir,
    _process: Kept,
}

impl Prometheus {
    /// Starts it, and waits until it has scraped some times.
    pub fn start(programs: &Path, metrics_port: u16) -> Result<Self> {
        let (folder, [port, ..]) = (tempfile::tempdir()?, free_ports()?);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let target = format!("127.0.0.1:{metrics_port}");
        let configuration = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules()],
            "scrape_configs": [{ "job_name": "irsad", "static_configs": [{ "targets": [target] }] }],
        });
        fs::write(path("prometheus.yml"), configuration.to_string())?;
        let arguments = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let process = Kept::start(programs.join("prometheus"), arguments.to_vec(), path("log").into())?;
        let prometheus = Self { port, folder, _process: process };
        wait_until("Prometheus has scraped irsad three times", || {
            let scrapes = prometheus.query("count_over_time(irsad_build_info[1m]) >= 3");
            Ok(!scrapes.map_err(|error| format!("{error}: {}", prometheus.log()))?.is_empty())
        })?;
        Ok(prometheus)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What the HTTP API has at `path` (Prometheus documentation, "HTTP API").
    fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = get(self.port, path, "")?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{status}: {error}: {body}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(format!("{path}: {body}").into()) }
    }

    /// Series that `expression` gives now.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={encoded}"))?;
        Ok(data["result"].as_array().cloned().ok_or_else(|| format!("{expression}: {data}"))?)
    }

    /// Names of all series.
    pub fn names(&self) -> Result<BTreeSet<String>> {
        let names = self.get("/api/v1/label/__name__/values")?;
        Ok(serde_json::from_value(names)?)
    }

    /// Every alert with what became of its last evaluation, and its state.
    pub fn alerts(&self) -> Result<Vec<(String, String, String)>> {
        let rules = self.get("/api/v1/rules")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = rules["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        Ok(all.iter().map(|rule| (text(&rule["name"]), text(&rule["health"]), text(&rule["state"]))).collect())
    }
}

/// Head and body of an answer.
pub fn get(port: u16, path: &str, accept: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no whole answer")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// Runs promtool, which has to find no fault.
fn promtool(programs: &Path, arguments: &[&str], input: &str) -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("input");
    fs::write(&file, input)?;
    let output = Command::new(programs.join("promtool")).args(arguments).stdin(fs::File::open(&file)?).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if output.status.success() { Ok(()) } else { Err(format!("promtool {arguments:?}: {said}").into()) }
}

#[test]
fn alerts_fire_when_they_should_and_keep_quiet_otherwise() -> Result {
    let Some(programs) = programs() else { return Ok(()) };
    let (rules, tried) = (rules(), project().join("tests/prometheus/irsad.rules.test.yaml"));
    promtool(&programs, &["check", "rules", &rules.display().to_string()], "")?;
    promtool(&programs, &["test", "rules", &tried.display().to_string()], "")
}

#[test]
fn metrics_are_served_moved_and_switched_off_as_the_configuration_says() -> Result {
    let machine = Machine::quickstart()?;
    let [first, second, webhook] = free_ports()?;
    let configure = |port: u16| {
        let text = format!("metrics: {{ port: {port} }}\nwebhook: {{ port: {webhook} }}\n");
        machine.write("/etc/irsad/irsad.d/metrics.yaml", &text)
    };
    configure(first)?;
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("STATUS=ok", |message| message.contains("STATUS=ok"))?;
    let (head, text) = get(first, "/metrics", "text/plain")?;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    if let Some(programs) = programs() {
        promtool(&programs, &["check", "metrics"], &text)?;
    }
    assert!(text.contains("\nirsad_health{state=\"converged\"} 1.0\n"), "{text}");

    configure(second)?;
    daemon.signal("HUP")?;
    wait_until("the other port is served", || Ok(get(second, "/metrics", "").is_ok()))?;
    wait_until("the first one is closed", || Ok(TcpStream::connect(("127.0.0.1", first)).is_err()))?;
    configure(0)?;
    daemon.signal("HUP")?;
    wait_until("none is served", || Ok(TcpStream::connect(("127.0.0.1", second)).is_err()))
}

#[test]
fn port_that_another_program_has_is_said_by_status_and_ends_nothing() -> Result {
    let machine = Machine::quickstart()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    machine.write("/etc/irsad/irsad.d/metrics.yaml", &format!("metrics: {{ port: {port} }}\n"))?;
    let mut daemon = machine.daemon(&[])?;
    daemon.hears("STATUS=ok", |message| message.contains("STATUS=ok"))?;
    let said = machine.run(&["status"])?;
    let sentence = format!("port {port} on 127.0.0.1 is taken by another program, so nobody can read irsad's metrics");
    assert!(said.code == Some(0) && said.stdout.contains(&sentence), "{said:?}");
    Ok(())
}
