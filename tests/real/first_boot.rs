//! Nodes that boot at the same moment, before any of them has an API server: one of them makes the cluster's key, all have it.

use std::{thread, time::Duration};

use irsad::model::key::{PublicKey, SigningKey};

use crate::{
    cloud::{Cloud, client::new_kms_key},
    irsad::{Machine, Result, Said},
};

const NODES: usize = 4;

#[tokio::test]
async fn nodes_that_boot_at_once_on_an_empty_keyring_in_s3_have_one_key() -> Result {
    let Some(cloud) = Cloud::start() else { return Ok(()) };
    let kms_key = new_kms_key(&cloud).await?;
    let configuration = format!(
        "version: 1\ncluster: boot\nissuer: {{ store: \"s3://irsad-boot-oidc\" }}\n\
         keyring: {{ store: \"s3://irsad-boot-keys\", kmsKey: \"{kms_key}\" }}\n"
    );
    let folders = (0..NODES).map(|_| tempfile::tempdir()).collect::<std::io::Result<Vec<_>>>()?;
    let machines = folders
        .iter()
        .map(|folder| {
            let mut machine = Machine::at(folder.path());
            cloud.environment().iter().for_each(|(name, value)| machine.set(name, value));
            machine.write("/etc/irsad/irsad.yaml", &configuration)?;
            Ok(machine)
        })
        .collect::<Result<Vec<_>>>()?;

    // As the unit does: a pass that lost against another node's is made again.
    let boot = |machine: &Machine| -> Result<Said> {
        let mut said = machine.run(&["run", "--once"])?;
        for _ in 0..20 {
            if machine.path("/etc/kubernetes/pki/sa.key").exists() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
            said = machine.run(&["run", "--once"])?;
        }
        Ok(said)
    };
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
