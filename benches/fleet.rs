//! The figures of several control-plane nodes, measured on the release binary and printed as a table; `make bench` runs it.
//!
//! The nodes are those of `tests/fleet/`, without its oracle and at irsad's own pace. irsad adopts them, is left alone for
//! `IRSAD_BENCH_SECONDS` (600), rotates the signing key, and then leads 50 nodes, 47 of them simulated.

#[path = "../tests/real/alone.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod alone;
#[path = "../tests/fleet/api.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod api;
#[path = "../tests/real/cloud/mod.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod cloud;
#[path = "../tests/real/kubernetes/control_plane.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod control_plane;
#[path = "fleet/fifty.rs"]
mod fifty;
mod figure;
#[path = "../tests/fleet/fleet.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod fleet;
#[path = "../tests/real/irsad.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod irsad;
#[path = "../tests/real/kubernetes/kubelet.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod kubelet;
#[path = "../tests/fleet/network.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod network;
#[path = "../tests/fleet/node.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod node;
#[path = "../tests/real/kubernetes/process.rs"]
mod process;
#[path = "fleet/rotation.rs"]
mod rotation;
#[path = "fleet/three.rs"]
mod three;

use std::env;

use alone::{again, block_on, is_alone};
use cloud::{Cloud, client::new_kms_key};
use figure::{Figure, Result, print, process::cpu_of_a_pass};
use irsad::Daemon;
use network::{lacking, network};
use three::Three;

const FIFTY: &str = "50 nodes, 47 of them simulated";
const SECONDS: &str = "IRSAD_BENCH_SECONDS";

fn main() -> Result {
    ::irsad::install_crypto_provider();
    if is_alone() {
        return block_on(figures());
    }
    if let Some((part, why)) = lacking() {
        print(&[not_measured("three nodes", &format!("no {part}: {why}"))]);
        return Ok(());
    }
    let (program, mut environment) = network();
    environment.extend(env::var(SECONDS).ok().map(|seconds| (SECONDS, seconds)));
    let status = again(&program, &environment).status()?;
    if status.success() { Ok(()) } else { Err(format!("in a network of its own: {status}").into()) }
}

/// Called where a part of the bench is missing on this machine.
fn missing(part: &str, why: &str) {
    eprintln!("no {part}: {why}");
}

fn not_measured(name: &str, why: &str) -> Figure {
    Figure::plain(name, format!("not measured: {why}"))
}

/// Each table as soon as it is there: the second one takes a while.
async fn figures() -> Result {
    print(
        &in_the_cluster()
            .await
            .unwrap_or_else(|error| vec![not_measured("keyring in the cluster", &error.to_string())]),
    );
    print(&in_s3().await.unwrap_or_else(|error| vec![not_measured("keyring in S3", &error.to_string())]));
    Ok(())
}

/// The keyring in Secrets, private halves sealed through KMS.
async fn in_the_cluster() -> Result<Vec<Figure>> {
    let cloud = Cloud::start().ok_or("no moto")?;
    let keyring = format!("keyring: {{ kmsKey: \"{}\" }}\n", new_kms_key(&cloud).await?);
    let mut three = Three::start(cloud, "irsad-bench-secrets", &keyring).await?;
    let mut figures = vec![three.adopt().await?];
    let idle = three.idle().await?;
    figures.push(three.memory("3 nodes")?);
    figures.push(three.pass("3 nodes")?);
    figures.extend(idle.figures("keyring in the cluster"));
    let rotation = three.rotate().await?;
    figures.extend(rotation.phases());
    figures.push(rotation.requests("keyring in the cluster"));
    fifty::join(&three).await?;
    figures.push(three.pass(FIFTY)?);
    figures.push(three.memory(FIFTY)?);
    Ok(figures)
}

/// The keyring in a private bucket.
async fn in_s3() -> Result<Vec<Figure>> {
    let cloud = Cloud::start().ok_or("no moto")?;
    let key = new_kms_key(&cloud).await?;
    let keyring = format!("keyring: {{ store: \"s3://irsad-bench-keys\", kmsKey: \"{key}\" }}\n");
    let mut three = Three::start(cloud, "irsad-bench-s3", &keyring).await?;
    three.adopt().await?;
    let mut figures = three.idle().await?.figures("keyring in S3");
    figures.push(three.rotate().await?.requests("keyring in S3"));
    Ok(figures)
}
