//! Nodes that boot before any of them has an API server: one of them makes the cluster's key, all have it, and no key that lies on one
//! of them is lost.

use std::{path::Path, thread, time::Duration};

use irsad::model::key::{PublicKey, SigningKey};

use crate::{
    cloud::{Cloud, client::new_kms_key},
    irsad::{Machine, Result, Said},
};

const NODES: usize = 4;
/// Public keys of a control plane that was there before.
const OF_BEFORE: &str = include_str!("../fixtures/keys/three-rsa-2048.pub");

/// Of a cluster of this name, with buckets of its own.
fn configuration(cluster: &str, kms_key: &str) -> String {
    format!(
        "version: 1\ncluster: {cluster}\nissuer: {{ store: \"s3://irsad-{cluster}-oidc\" }}\n\
         keyring: {{ store: \"s3://irsad-{cluster}-keys\", kmsKey: \"{kms_key}\" }}\n"
    )
}

fn machine(cloud: &Cloud, root: &Path, configuration: &str) -> Result<Machine> {
    let mut machine = Machine::at(root);
    cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
    machine.write("/etc/irsad/irsad.yaml", configuration)?;
    Ok(machine)
}

/// As the unit does: a pass that lost against another node's is made again.
fn boot(machine: &Machine) -> Result<Said> {
    let mut said = machine.run(&["run", "--once"])?;
    for _ in 0..20 {
        if machine.path("/etc/kubernetes/pki/sa.key").exists() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        said = machine.run(&["run", "--once"])?;
    }
    Ok(said)
}

fn accepted(machine: &Machine) -> Result<Vec<PublicKey>> {
    Ok(PublicKey::read_all(machine.read("/etc/kubernetes/pki/sa.pub")?.as_bytes())?)
}

#[tokio::test]
async fn public_keys_without_a_private_one_stay_accepted_and_a_late_prepared_node_gives_up_its_own() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let configuration = configuration("remains", &new_kms_key(&cloud).await?);
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let first = machine(&cloud, folders[0].path(), &configuration)?;
    first.write("/etc/kubernetes/pki/sa.pub", OF_BEFORE)?;
    let said = boot(&first)?;
    let keys = accepted(&first)?;
    let of_before = PublicKey::read_all(OF_BEFORE.as_bytes())?;
    assert!(of_before.iter().all(|key| keys.contains(key)), "{keys:?}: {said:?}");
    let private = first.read("/etc/kubernetes/pki/sa.key")?;
    assert_eq!(keys.first(), Some(SigningKey::read(private.as_bytes())?.public()), "{said:?}");

    let late = machine(&cloud, folders[1].path(), &configuration)?;
    let prepared = late.run(&["prepare"])?;
    assert_eq!((prepared.code, accepted(&late)?.len()), (Some(0), 2), "{prepared:?}");
    let mut said = late.run(&["run", "--once"])?;
    if late.path("/var/lib/irsad/standby.key").exists() {
        said = late.run(&["run", "--once"])?;
    }
    assert_eq!(accepted(&late)?, accepted(&first)?, "{said:?}");
    assert_eq!(late.read("/etc/kubernetes/pki/sa.key")?, private, "{said:?}");
    assert!(!late.path("/var/lib/irsad/standby.key").exists(), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn nodes_that_boot_at_once_on_an_empty_keyring_in_s3_have_one_key() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let kms_key = new_kms_key(&cloud).await?;
    let configuration = configuration("boot", &kms_key);
    let folders = (0..NODES).map(|_| tempfile::tempdir()).collect::<std::io::Result<Vec<_>>>()?;
    let machines =
        folders.iter().map(|folder| machine(&cloud, folder.path(), &configuration)).collect::<Result<Vec<_>>>()?;

    let said = thread::scope(|scope| {
        let running: Vec<_> = machines.iter().map(|machine| scope.spawn(|| boot(machine))).collect();
        running.into_iter().map(|boot| boot.join().map_err(|_| "a panic")?).collect::<Result<Vec<Said>>>()
    })?;

    let mut kids = Vec::new();
    for (machine, said) in machines.iter().zip(&said) {
        let private = machine.read("/etc/kubernetes/pki/sa.key").map_err(|error| format!("{error}: {said:?}"))?;
        let key = SigningKey::read(private.as_bytes())?;
        let accepted = PublicKey::read_all(machine.read("/etc/kubernetes/pki/sa.pub")?.as_bytes())?;
        assert_eq!(accepted.first().map(PublicKey::kid), Some(key.kid()));
        kids.push(key.kid().to_string());
    }
    kids.dedup();
    assert_eq!(kids.len(), 1, "{kids:?}");
    Ok(())
}
