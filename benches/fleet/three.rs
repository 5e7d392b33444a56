//! Three nodes with irsad on each, and what is measured of them.

use std::{fs, path::Path, time::Duration};

use ::irsad::model::{
    keyring::KeyState,
    report::{Health, MemberReport, Report, Role},
};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    cloud::Cloud,
    cpu_of_a_pass,
    fifty::MOST,
    figure::{
        Figure, Requests, Result, WATCHDOG, a_day, idle_seconds, mebibytes, new_requests, of_service,
        process::status_bytes, trust,
    },
    fleet::{Fleet, KUBEADM},
    network::NETWORK,
    node::Node,
    rotation::{Rotation, Watched},
};

/// `rotation.tokenLifetime` of the bench; with the defaults it is a day.
pub const TOKEN_LIFETIME_SECONDS: u32 = 60;
const IRSAD: &str = "/etc/irsad/irsad.yaml";
/// Below the certificates, which every node has and the API server's container mounts.
const AUDIT: &str = "etc/kubernetes/pki/audit.yaml";
/// Requests of irsad's kubeconfig, and no others.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
                            - { level: Metadata, users: [kubernetes-admin] }\n- { level: None }\n";
const AUDIT_FLAGS: &str = "apiServer:\n  extraArgs:\n\
                           \x20 - { name: audit-policy-file, value: /etc/kubernetes/pki/audit.yaml }\n\
                           \x20 - { name: audit-log-path, value: '-' }\n";
/// Longest wait for anything that irsad does by itself.
const PATIENCE: Duration = Duration::from_secs(1200);
const TICK: Duration = Duration::from_millis(100);

/// A fleet of three.
pub struct Three {
    pub fleet: Fleet,
    issuer: String,
    config: String,
    _trust: TempDir,
}

impl Three {
    /// As kubeadm leaves them, with the API servers' audit logs switched on. irsad does not run yet; it is to publish to `bucket`
    /// and keep its keyring as `keyring` says.
    pub async fn start(cloud: Cloud, bucket: &str, keyring: &str) -> Result<Self> {
        let trust = trust(&cloud.authority_pem())?;
        let mut fleet = Fleet::start_with(3, cloud, prepare).await?;
        for node in &mut fleet.nodes {
            node.machine.set("SSL_CERT_FILE", &trust.path().join("ca.pem").display().to_string());
            node.machine.set(WATCHDOG.0, WATCHDOG.1);
        }
        let config = format!(
            "version: 1\ncluster: bench\nissuer: {{ store: \"s3://{bucket}\" }}\naws: {{ region: eu-west-1 }}\n\
             rotation: {{ belowFloors: true, period: never, publishLead: 10s, tokenLifetime: {TOKEN_LIFETIME_SECONDS}s, \
             verifyRetention: 120s }}\n{keyring}"
        );
        let issuer = format!("https://{bucket}.s3.eu-west-1.amazonaws.com");
        Ok(Self { fleet, issuer, config, _trust: trust })
    }

    /// Starts irsad on each, and waits until all is as it should be.
    pub async fn adopt(&mut self) -> Result<Figure> {
        let (begin, config) = (Instant::now(), self.config.clone());
        self.fleet.nodes.iter_mut().try_for_each(|node| {
            node.machine.write(IRSAD, &config)?;
            node.start_irsad()
        })?;
        let issuer = self.issuer.clone();
        self.until("the nodes are adopted", |reports| is_adopted(reports, &issuer)).await?;
        let (took, restarts) = (begin.elapsed().as_secs_f64(), self.restarts(&[1; 3]));
        self.until("a key stands by", |reports| reports.iter().all(|report| report.health == Health::Converged))
            .await?;
        Ok(Figure::plain("adoption of 3 nodes, until all sign as our issuer", format!("{took:.0} s, {restarts}")))
    }

    /// Leaves irsad alone.
    pub async fn idle(&self) -> Result<Idle> {
        let seconds = idle_seconds()?;
        eprintln!("irsad is left alone on 3 nodes for {seconds} s");
        let before = self.requests();
        sleep(Duration::from_secs(seconds.into())).await;
        let requests = before.iter().zip(self.requests()).map(|(before, after)| before.until(&after)).collect();
        Ok(Idle { seconds, requests, leader: self.leader()? })
    }

    /// What the leader's irsad takes.
    pub fn memory(&self, nodes: &str) -> Result<Figure> {
        let leader = self.leader()?;
        let daemon = self.fleet.nodes[leader].daemon.as_ref().ok_or("the leader is gone")?;
        let [all, own] = [status_bytes(daemon, "VmRSS")?, status_bytes(daemon, "RssAnon")?].map(mebibytes);
        let name = format!("resident memory of the leader, {nodes}");
        Ok(Figure::plain(name, format!("{all}, of which {own} are its own")))
    }

    /// What a pass of the leader takes.
    pub fn pass(&mut self, nodes: &str) -> Result<Figure> {
        let leader = self.leader()?;
        let cpu = cpu_of_a_pass(self.fleet.nodes[leader].daemon.as_mut().ok_or("the leader is gone")?)?;
        Ok(Figure::plain(format!("CPU of a pass of the leader that looks at everything, {nodes}"), cpu))
    }

    /// Asks for another signing key, and waits until the old one is no longer published.
    pub async fn rotate(&self) -> Result<Rotation> {
        let old = self.reports().iter().find_map(signing_kid).ok_or("no key signs")?;
        let (starts, before, asked_at) = (self.fleet.starts(), self.requests(), Timestamp::now());
        let said = self.fleet.nodes[0].machine.run(&["rotate", "--yes"])?;
        if said.code != Some(0) {
            return Err(format!("irsad rotate: {said:?}").into());
        }
        let mut watched = Watched::new(old);
        self.until("every API server signs with another key", |reports| watched.see(reports).is_proven()).await?;
        let (restarts, after) = (self.restarts(&starts), self.requests());
        self.until("the old key is no longer published", |reports| watched.see(reports).is_over()).await?;
        let mut requests = Asked::default();
        before.iter().zip(&after).for_each(|(before, after)| requests.add(&before.until(after)));
        Ok(Rotation { asked_at, watched, restarts, requests })
    }

    /// Has every irsad look at everything.
    pub fn look_again(&self) -> Result {
        self.fleet.nodes.iter().filter_map(|node| node.daemon.as_ref()).try_for_each(|daemon| daemon.signal("HUP"))
    }

    /// Waits until `is_so` of what the nodes say.
    pub async fn until(&self, what: &str, mut is_so: impl FnMut(&[Report]) -> bool) -> Result {
        eprintln!("waiting until {what}");
        let until = Instant::now() + PATIENCE;
        while !is_so(&self.reports()) {
            if Instant::now() > until {
                let said = self.reports().iter().map(|report| report.summary.clone()).collect::<Vec<_>>().join("\n");
                return Err(format!("waited in vain until {what}:\n{said}").into());
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// What each node last said; fewer while one has said nothing yet.
    fn reports(&self) -> Vec<Report> {
        let read = |node: &Node| serde_json::from_str(&node.machine.read("/run/irsad/status.json").ok()?).ok();
        self.fleet.nodes.iter().filter_map(read).collect()
    }

    /// The place of the node that leads.
    pub fn leader(&self) -> Result<usize> {
        let leads = |report: &Report| report.role == Role::Leader;
        Ok(self.reports().iter().position(leads).ok_or("nobody leads")?)
    }

    fn requests(&self) -> Vec<Asked> {
        self.fleet.nodes.iter().map(|node| Asked { aws: node.door.requests(), kubernetes: audited(node) }).collect()
    }

    fn restarts(&self, before: &[usize]) -> String {
        let restarts =
            self.fleet.starts().iter().zip(before).map(|(now, before)| (now - before).to_string()).collect::<Vec<_>>();
        format!("API-server restarts {}", restarts.join(", "))
    }
}

/// Gives kubeadm the audit log and the names of all API servers that will ever be asked.
fn prepare(root: &Path) -> Result {
    fs::write(root.join(AUDIT), AUDIT_POLICY)?;
    let path = root.join(KUBEADM.trim_start_matches('/'));
    let names: String = (1..=MOST).map(|number| format!("  - {NETWORK}.{number}\n")).collect();
    let text = fs::read_to_string(&path)?.replace("apiServer:\n", AUDIT_FLAGS);
    Ok(fs::write(path, text.replace("certSANs:\n", &format!("certSANs:\n{names}")))?)
}

/// Whether one of them has seen evidence that all sign as `issuer`.
fn is_adopted(reports: &[Report], issuer: &str) -> bool {
    let signs = |member: &MemberReport| {
        member.evidence.as_ref().is_some_and(|evidence| evidence.issuers.first().is_some_and(|first| first == issuer))
    };
    let keyrings = reports.iter().filter_map(|report| report.keyring.as_ref());
    keyrings.into_iter().any(|keyring| keyring.members.len() == 3 && keyring.members.iter().all(signs))
}

fn signing_kid(report: &Report) -> Option<String> {
    let keys = &report.keyring.as_ref()?.keys;
    keys.iter().find(|key| key.state == KeyState::Signing).map(|key| key.kid.clone())
}

/// Requests of one node's irsad to AWS, and of all to one node's API server.
#[derive(Default)]
pub struct Asked {
    pub aws: Requests,
    pub kubernetes: Requests,
}

impl Asked {
    fn until(&self, after: &Self) -> Self {
        Self { aws: new_requests(&self.aws, &after.aws), kubernetes: new_requests(&self.kubernetes, &after.kubernetes) }
    }

    fn add(&mut self, more: &Self) {
        let sums = [(&mut self.aws, &more.aws), (&mut self.kubernetes, &more.kubernetes)];
        for (sum, more) in sums {
            more.iter().for_each(|(what, count)| *sum.entry(what.clone()).or_default() += count);
        }
    }
}

/// What the audit logs of a node's API server have of irsad, by resource.
fn audited(node: &Node) -> Requests {
    let logs = node.starts().into_iter().filter_map(|start| fs::read_to_string(start.log).ok());
    let mut requests = Requests::new();
    for log in logs {
        let events = log.lines().filter(|line| line.contains("audit.k8s.io"));
        for event in events.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let path = event["requestURI"].as_str().unwrap_or_default();
            let what = event["objectRef"]["resource"].as_str().unwrap_or(path);
            *requests.entry(what.to_owned()).or_default() += 1;
        }
    }
    requests
}

/// Requests while nothing happened, of each node.
pub struct Idle {
    seconds: u32,
    requests: Vec<Asked>,
    leader: usize,
}

impl Idle {
    /// A row for each service, of the leader and of one of the others.
    pub fn figures(&self, keyring: &str) -> Vec<Figure> {
        let follower = (self.leader + 1) % self.requests.len();
        let mut figures = Vec::new();
        for (who, index) in [("the leader", self.leader), ("a follower", follower)] {
            let asked = &self.requests[index];
            for service in ["S3", "KMS"] {
                let name = format!("requests to {service} a day, idle, {who}, {keyring}");
                figures.push(Figure::plain(name, a_day(&of_service(&asked.aws, service), self.seconds)));
            }
            let name = format!("requests to the Kubernetes API a day, idle, {who}, {keyring}");
            figures.push(Figure::plain(name, a_day(&asked.kubernetes, self.seconds)));
        }
        figures
    }
}
