//! Adoption and rotation of a fleet, whoever leads.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;

use crate::{
    cloud::{Cloud, client::new_kms_key},
    control_plane::Result,
    network::within,
    scene::Scene,
};

#[test]
fn cluster_is_adopted_by_two_restarts_and_rotated_by_one_each_whoever_leads() {
    within(async || -> Result<()> {
        let mut scene = Scene::adopt().await?;
        scene.until("every API server signs as ours", async |scene| Ok(scene.kid().is_some())).await?;
        let mut kid = scene.kid().ok_or("a key")?;
        assert_eq!(scene.fleet.starts(), [3, 3, 3], "{}", scene.nodes());
        for number in 0..3 {
            scene.command(number, &["rotate", "--yes"])?;
            kid = if number == 1 {
                rotate_under_fire(&mut scene, &kid).await?
            } else {
                scene.until_rotated(&kid).await?
            };
            assert_eq!(scene.fleet.starts(), [4 + number; 3], "{}", scene.nodes());
        }
        let verdict = scene.finish().await?;
        let kids: BTreeSet<_> = verdict.classes.iter().map(|(_, kid, _)| kid).collect();
        assert_eq!(kids.len(), 4, "{verdict}");
        Ok(())
    });
}

/// The leader is killed whenever the keyring has changed.
async fn rotate_under_fire(scene: &mut Scene, old: &str) -> Result<String> {
    let (mut known, _) = scene.newest();
    let mut kills = 0;
    while scene.kid().is_none_or(|kid| kid == old) {
        let (generation, _) = scene.newest();
        if generation > known && scene.kill_leader().await? {
            (known, kills) = (generation, kills + 1);
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(kills > 3, "only {kills} leaders were killed");
    scene.until_rotated(old).await
}

#[test]
fn keyring_in_s3_rotates_as_the_one_in_the_cluster() {
    within(async || -> Result<()> {
        let cloud = Cloud::start().ok_or("no moto")?;
        let key = new_kms_key(&cloud).await?;
        let keyring = format!("keyring: {{ store: \"s3://irsad-fleet-keys\", kmsKey: \"{key}\" }}\n");
        let scene = Scene::prepared_with(cloud, &keyring).await?;
        let kid = scene.kid().ok_or("a key")?;
        scene.command(0, &["rotate", "--yes"])?;
        scene.until_rotated(&kid).await?;
        assert_eq!(scene.fleet.starts(), [2, 2, 2], "{}", scene.nodes());
        scene.finish().await.map(drop)
    });
}
