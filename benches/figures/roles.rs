//! Figures of ServiceAccountRoles: how long until many of them are ready for the first time, and what AWS is asked while they rest.
//!
//! API server and etcd are live, IAM is moto: what one call takes there says nothing of AWS, how many there are does. So many objects as
//! `IRSAD_BENCH_ROLES` says (2,000).

use std::{
    env, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Figure, Result, WATCHDOG,
    figure::{each, idle_seconds, new_requests},
    goal, mebibytes,
    real::{cloud::Cloud, irsad::Machine, kubernetes::Node},
    status_bytes, trust,
};

const CONFIGURATION: &str = "version: 1\ncluster: bench-roles\nissuer: { store: \"file:///srv/oidc\", url: https://oidc.bench.example }\n\
                             provider: { manage: false }\napiServer: { restart: never }\nwebhook: { mode: none }\nroles: { mode: crd }\n";
const NAMESPACE: &str = "bench";
/// Objects in one call of kubectl.
const TOGETHER: usize = 200;
/// Longest wait for all of them.
const LIMIT: Duration = Duration::from_secs(3600);
const SECONDS_AN_HOUR: usize = 3600;

/// Every figure of ServiceAccountRoles.
pub fn figures() -> Result<Vec<Figure>> {
    let many: usize = env::var("IRSAD_BENCH_ROLES").map_or(Ok(2_000), |text| text.parse())?;
    let Some(cloud) = Cloud::start() else { return Err("moto is missing; tests/setup installs it".into()) };
    let runtime = tokio::runtime::Runtime::new()?;
    let node = runtime.block_on(Node::start()).map_err(|error| error.to_string())?;
    let trust = trust(&cloud.authority_pem())?;
    let mut machine = Machine::at(&node.root());
    machine.write("/etc/irsad/irsad.yaml", CONFIGURATION)?;
    cloud.serve_folder("oidc.bench.example", &machine.path("/srv/oidc"));
    for (name, value) in cloud.environment() {
        let trusted = trust.path().join("ca.pem").display().to_string();
        machine.set(name, if name == "SSL_CERT_FILE" { &trusted } else { &value });
    }
    machine.set(WATCHDOG.0, WATCHDOG.1);

    let daemon = machine.daemon(&[])?;
    until("the definition of the objects", || Ok(runtime.block_on(node.kubectl(&["get", "sarole"])).is_ok()))?;
    runtime.block_on(node.kubectl(&["create", "namespace", NAMESPACE])).map_err(|error| error.to_string())?;
    let start = Instant::now();
    for first in (0..many).step_by(TOGETHER) {
        let objects: Vec<Value> = (first..many.min(first + TOGETHER)).map(object).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        machine.write("/tmp/objects.json", &list.to_string())?;
        let path = machine.path("/tmp/objects.json").display().to_string();
        runtime.block_on(node.kubectl(&["create", "--filename", &path])).map_err(|error| error.to_string())?;
    }
    let applied = start.elapsed();
    until("every role", || ready(&machine).map(|ready| ready == many))?;
    let synced = start.elapsed();
    let first = cloud.all_requests();
    let calls: usize = first.values().sum();

    let seconds = idle_seconds()?;
    eprintln!("irsad is left alone with {many} objects for {seconds} s");
    thread::sleep(Duration::from_secs(seconds.into()));
    let mut idle = new_requests(&first, &cloud.all_requests());
    idle.remove("FolderGet");
    let idle_calls: usize = idle.values().sum();
    let hourly = idle_calls * SECONDS_AN_HOUR / seconds as usize;
    let whole = |name: &str| format!("{many} ServiceAccountRoles: {name}");
    Ok(vec![
        Figure::plain(
            whole("until all are ready for the first time"),
            format!("{:.0} s, of which kubectl took {:.0} s", synced.as_secs_f64(), applied.as_secs_f64()),
        ),
        Figure::plain(whole("calls to AWS until then"), format!("{calls}, {:.1} each", per(calls, many))),
        goal(&whole("calls to AWS an hour, idle"), format!("{hourly} ({} in {seconds} s)", each(&idle)), "≤ 1,000"),
        Figure::plain(whole("resident memory"), mebibytes(status_bytes(&daemon, "VmRSS")?)),
    ])
}

fn object(number: usize) -> Value {
    let account = json!({ "namespace": NAMESPACE, "name": format!("app-{number}") });
    let statement = json!({ "Effect": "Allow", "Action": "sqs:*", "Resource": "*" });
    json!({
        "apiVersion": "irsad.dev/v1alpha1",
        "kind": "ServiceAccountRole",
        "metadata": { "name": format!("app-{number}") },
        "spec": {
            "roleName": format!("bench-app-{number}"),
            "serviceAccounts": [account],
            "inlinePolicy": { "Version": "2012-10-17", "Statement": [statement] },
        },
    })
}

/// How many the leader says are ready.
fn ready(machine: &Machine) -> Result<usize> {
    let report: Value = serde_json::from_str(&machine.read("/run/irsad/status.json")?)?;
    Ok(report["roles"]["ready"].as_u64().unwrap_or_default().try_into()?)
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        if matches!(is_so(), Ok(true)) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Err(format!("waited in vain for {what}").into())
}

#[expect(clippy::cast_precision_loss, reason = "printed with one digit")]
fn per(calls: usize, objects: usize) -> f64 {
    calls as f64 / objects.max(1) as f64
}
