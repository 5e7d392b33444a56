//! What a real Prometheus makes of a real irsad: metrics, alerts and dashboard.

use std::{collections::BTreeSet, fs};

use hyper::Method;
use serde_json::Value;

use super::pods::{apply, pod, scene};
use crate::{
    cloud::client::ask,
    echoer,
    irsad::{Result, project, wait_until},
    kubernetes::free_ports,
    prometheus::{Prometheus, programs, rules},
};

const BUCKET: &str = "irsad-watched";
/// Metrics that only trouble, or work at this moment, shows.
const NOT_ALWAYS: [&str; 3] = [
    "irsad_action_failures_total",
    "irsad_rollout_since_timestamp_seconds",
    "irsad_rotation_wanted_since_timestamp_seconds",
];

/// Every expression below `value`, as Grafana asks it for the job of this test.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value) {
                ("expr", Value::String(text)) => {
                    vec![text.replace("$job", "irsad").replace("$__rate_interval", "1m")]
                }
                _ => expressions(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// Those of the alerts.
fn conditions() -> Result<Vec<String>> {
    let rules = fs::read_to_string(rules())?;
    let lines = rules.lines().filter_map(|line| line.trim_start().strip_prefix("expr: "));
    Ok(lines.map(|line| line.trim_matches('\'').to_owned()).collect())
}

fn metrics(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("irsad_")).collect()
}

#[tokio::test]
async fn prometheus_scrapes_irsad_and_answers_every_question_of_alerts_and_dashboard() -> Result {
    let Some(programs) = programs() else { return Ok(()) };
    let [port, ..] = free_ports()?;
    let Some((scene, daemon)) =
        scene(BUCKET, &format!("metrics: {{ port: {port} }}\nroles: {{ mode: list, list: [] }}\n")).await?
    else {
        return Ok(());
    };
    scene.node.kubectl(&["apply", "--filename", echoer::FILE]).await?;
    apply(&scene, &pod(&scene, "s3-echoer-1").await?).await?;
    let prometheus = Prometheus::start(&programs, port)?;

    let dashboard: Value = serde_json::from_str(&fs::read_to_string(project().join("packaging/grafana/irsad.json"))?)?;
    let (asked, names) = ([expressions(&dashboard), conditions()?].concat(), prometheus.names()?);
    assert!(asked.len() > 40, "{asked:#?}");
    for expression in &asked {
        prometheus.query(expression)?;
        for name in metrics(expression).into_iter().filter(|name| !NOT_ALWAYS.contains(name)) {
            assert!(names.contains(name), "{expression}: no {name} among {names:#?}");
        }
    }
    for holds in [
        "irsad_leader == 1",
        "irsad_members == 1",
        "irsad_members_behind == 0",
        "irsad_keys{state=\"signing\"} == 1",
        "irsad_apiserver_ready == 1",
        "irsad_apiserver_restarts_total >= 1",
        "irsad_provider_drift == 0",
        "irsad_webhook_ready == 1",
        "irsad_webhook_registered == 1",
        "irsad_webhook_requests_total{result=\"patched\"} >= 1",
        "irsad_aws_calls_total{service=\"S3\", operation=\"PutObject\", result=\"ok\"} >= 2",
        "irsad_aws_calls_total{service=\"IAM\", operation=\"CreateOpenIDConnectProvider\", result=\"ok\"} == 1",
        "irsad_webhook_certificate_expiry_timestamp_seconds - time() > 20 * 86400",
        "time() - irsad_published_timestamp_seconds < 120",
        "irsad_heals_total{what=\"object\"} == 0",
        "irsad_roles{state=\"refused\"} == 0",
    ] {
        assert_eq!(prometheus.query(holds)?.len(), 1, "{holds}: {:#?}", prometheus.query("{job=\"irsad\"}")?);
    }
    wait_until("Prometheus has evaluated every alert", || {
        Ok(prometheus.alerts()?.iter().all(|(_, health, _)| health != "unknown"))
    })?;
    let alerts = prometheus.alerts()?;
    assert_eq!(alerts.len(), conditions()?.len());
    let faulty: Vec<_> = alerts.iter().filter(|(_, health, state)| health != "ok" || state == "firing").collect();
    assert!(faulty.is_empty(), "{faulty:#?}");

    // Somebody takes the registration and the keys away.
    scene.node.kubectl(&["delete", "mutatingwebhookconfiguration", "irsad-pod-identity"]).await?;
    ask("s3", Method::DELETE, &format!("/{BUCKET}/openid/v1/jwks"), "").await?;
    daemon.signal("HUP")?;
    wait_until("both heals are counted", || {
        Ok(prometheus.query("irsad_heals_total{what=~\"object|document\"} == 1")?.len() == 2)
    })
}
