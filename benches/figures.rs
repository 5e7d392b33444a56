//! The figures of docs/figures.md, measured on the release binary and printed as a table; `make bench` runs it.
//!
//! The daemon runs below the root of a live control-plane node and keeps its documents in S3 and its provider in IAM, both moto.
//! It is left alone for `IRSAD_BENCH_SECONDS` (600). Nothing fails here for being slow: the table has the goals beside it.

#[path = "../tests/real"]
#[expect(dead_code, unused_imports, reason = "the tests use more of the bench than the figures do")]
mod real {
    pub mod cloud;
    pub mod irsad;
    pub mod kubernetes;
}
#[path = "figures/roles.rs"]
mod roles;
#[path = "figures/webhook.rs"]
mod webhook;

mod figure;

use std::{
    fs,
    hint::black_box,
    io, thread,
    time::{Duration, Instant},
};

use figure::{
    Figure, Result, WATCHDOG, a_day, idle_seconds, mebibytes, milliseconds, new_requests, of_service, print,
    process::{cpu, cpu_of_a_pass, hears_ok, status_bytes},
    trust,
};
use irsad::model::{
    key::PublicKey,
    manifest::{Desired, Manifest},
    memory::Version1,
    rotation::{Ack, AckKey, Adoption, ControlPlane, Policy, Seen, adopt, next},
};
use jiff::{SignedDuration, Timestamp};
use real::{
    cloud::Cloud,
    irsad::{Daemon, Machine},
    kubernetes::Node,
};

const MANIFEST: &str = include_str!("../tests/fixtures/kubeadm-1.36.3/default.yaml");
const KEYS: &str = include_str!("../tests/fixtures/keys/24-p256.pub");
const CONFIGURATION: &str = "version: 1\ncluster: bench\nissuer: { store: s3://irsad-bench }\n";
const STARTS: usize = 10;

fn main() -> Result {
    let mut figures = vec![goal("binary", mebibytes(binary_bytes()?), "≤ 18 MiB"), editor()?];
    figures.push(deciding("what the leader decides, 3 members", 3)?);
    figures.push(deciding("what the leader decides, 50 members", 50)?);
    let mut quickstart = Machine::quickstart()?;
    quickstart.set(WATCHDOG.0, WATCHDOG.1);
    let with_folder = start_times(&quickstart)?;
    figures.push(goal("start until READY, documents in a folder", with_folder, "≤ 100 ms"));
    match webhook::figures() {
        Ok(more) => figures.extend(more),
        Err(error) => figures.push(Figure::plain("webhook", format!("not measured: {error}"))),
    }
    match roles::figures() {
        Ok(more) => figures.extend(more),
        Err(error) => figures.push(Figure::plain("ServiceAccountRoles", format!("not measured: {error}"))),
    }
    match on_a_live_node() {
        Ok(more) => figures.extend(more),
        Err(error) => figures.push(Figure::plain("on a live node", format!("not measured: {error}"))),
    }
    print(&figures);
    Ok(())
}

fn goal(name: &str, measured: String, goal: &'static str) -> Figure {
    Figure(name.to_owned(), measured, goal)
}

/// Called where a part of the bench is missing on this machine.
fn missing(part: &str, why: &str) {
    eprintln!("no {part}: {why}");
}

fn binary_bytes() -> io::Result<u64> {
    Ok(fs::metadata(env!("CARGO_BIN_EXE_irsad"))?.len())
}

/// Reading a manifest and adding our lines to it, on one core.
fn editor() -> Result<Figure> {
    let round = || -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..100 {
            let manifest = Manifest::parse(black_box(MANIFEST.as_bytes()))?;
            let mut issuers = vec!["https://oidc.example.com/prod-1".to_owned()];
            issuers.extend_from_slice(manifest.issuers());
            let desired = Desired {
                issuers,
                jwks_uri: Some("https://oidc.example.com/prod-1/openid/v1/jwks".to_owned()),
                api_audiences: None,
                applied: Some("1".to_owned()),
            };
            black_box(manifest.with(&desired)?.text().len());
        }
        Ok(start.elapsed() / 100)
    };
    let rounds = (0..10).map(|_| round()).collect::<Result<Vec<_>>>()?;
    Ok(goal("edit of a manifest", spread(rounds), "≤ 1 ms"))
}

/// The leader's rules over the evidence of so many nodes, and the size of the keyring that they share, on one core.
fn deciding(name: &str, members: usize) -> Result<Figure> {
    let key = PublicKey::read_all(KEYS.as_bytes())?.swap_remove(0);
    let now = Timestamp::now();
    let ack = |number: usize| Ack {
        version: Version1,
        node: format!("ip-10-0-0-{number}.eu-west-1.compute.internal"),
        machine: String::new(),
        address: format!("10.0.0.{number}"),
        at: now,
        generation: 1,
        served: vec![key.kid().to_string()],
        signing_kid: key.kid().to_string(),
        issuers: vec!["https://oidc.example.com".to_owned()],
        key_on_disk: key.kid().to_string(),
        key_on_disk_since: now,
        keys: vec![AckKey { kid: key.kid().to_string(), public_key: key.to_pem() }],
        process_started_at: now,
        boot_id: String::new(),
        failure: None,
        webhook: None,
    };
    let acks: Vec<Ack> = (0..members).map(ack).collect();
    let control_plane = ControlPlane::default();
    let Adoption::Begin(keyring) = adopt("bench", &acks, &control_plane, Vec::new(), now) else {
        return Err("the cluster of the bench cannot be adopted".into());
    };
    let policy = Policy {
        issuer: "https://oidc.example.com".to_owned(),
        period: None,
        publish_lead: SignedDuration::from_hours(24),
        token_lifetime: SignedDuration::from_hours(24),
        verify_retention: SignedDuration::from_hours(24),
        clock_margin: SignedDuration::from_mins(10),
    };
    let seen = Seen { acks: &acks, outside: &[], control_plane: Some(&control_plane), held: Some(&[]) };
    let round = || {
        let start = Instant::now();
        for _ in 0..100 {
            black_box(next(black_box(&keyring), seen, &policy, now));
        }
        start.elapsed() / 100
    };
    let rounds = (0..10).map(|_| round()).collect();
    let kibibytes = keyring.render().len() as f64 / 1024.0;
    Ok(Figure::plain(name, format!("{}, keyring {kibibytes:.1} KiB", spread(rounds))))
}

/// The daemon with clients of S3, IAM and a live API server: started, left alone, then woken again and again.
fn on_a_live_node() -> Result<Vec<Figure>> {
    let Some(cloud) = Cloud::start() else { return Err("moto is missing; tests/setup installs it".into()) };
    let runtime = tokio::runtime::Runtime::new()?;
    let node = runtime.block_on(Node::start()).map_err(|error| error.to_string())?;
    let trust = trust(&cloud.authority_pem())?;
    let mut machine = Machine::at(&node.root());
    machine.write("/etc/irsad/irsad.yaml", CONFIGURATION)?;
    let mut environment = cloud.environment();
    environment.retain(|(name, _)| *name != "SSL_CERT_FILE");
    environment.push(("SSL_CERT_FILE", trust.path().join("ca.pem").display().to_string()));
    environment.push((WATCHDOG.0, WATCHDOG.1.to_owned()));
    for (name, value) in &environment {
        machine.set(name, value);
    }

    let mut daemon = machine.daemon(&[])?;
    hears_ok(&mut daemon)?;
    drop(daemon);
    let starts = start_times(&machine)?;
    let mut daemon = machine.daemon(&[])?;
    hears_ok(&mut daemon)?;

    let idle = Idle::of(&daemon, &cloud)?;
    let woken = cpu_of_a_pass(&mut daemon)?;
    Ok(vec![
        goal("start until READY, documents in S3", starts, "≤ 1 s"),
        goal("resident memory, idle, with clients of S3, IAM and the API server", idle.resident, "≤ 15 MiB"),
        Figure::plain("of which is its own (RssAnon)", idle.anonymous),
        goal("CPU in 10 idle minutes", idle.cpu, "≤ 1 s"),
        goal("CPU of a pass with nothing to do that looks at everything", woken, "≤ 20 ms"),
        Figure::plain("requests to S3 a day, idle", idle.s3),
        Figure::plain("requests to IAM and STS a day, idle", idle.iam),
    ])
}

/// Times from the start of the process until the service manager hears that it is ready.
fn start_times(machine: &Machine) -> Result<String> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let mut daemon = machine.daemon(&[])?;
        daemon.hears("READY=1", |message| message.contains("READY=1"))?;
        times.push(start.elapsed());
    }
    Ok(spread(times))
}

/// What the daemon takes while nothing happens.
struct Idle {
    resident: String,
    anonymous: String,
    cpu: String,
    s3: String,
    iam: String,
}

impl Idle {
    fn of(daemon: &Daemon, cloud: &Cloud) -> Result<Self> {
        let seconds = idle_seconds()?;
        let (before_cpu, before) = (cpu(daemon)?, cloud.all_requests());
        eprintln!("irsad is left alone for {seconds} s");
        thread::sleep(Duration::from_secs(seconds.into()));
        let spent = cpu(daemon)? - before_cpu;
        let requests = new_requests(&before, &cloud.all_requests());
        Ok(Self {
            resident: mebibytes(status_bytes(daemon, "VmRSS")?),
            anonymous: mebibytes(status_bytes(daemon, "RssAnon")?),
            cpu: format!("{:.2} s", spent.as_secs_f64() * 600.0 / f64::from(seconds)),
            s3: a_day(&of_service(&requests, "S3"), seconds),
            iam: a_day(&of_service(&requests, "IAM and STS"), seconds),
        })
    }
}

/// The median, and the longest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) => format!("{}, at most {}", milliseconds(*median), milliseconds(*longest)),
        _ => String::new(),
    }
}
