//! A rotation meets what goes wrong around it: it waits, and goes on when that is over.

use std::time::Duration;

use tokio::time::sleep;

use crate::{cloud::Fault, control_plane::Result, network::within, scene::Scene};

#[test]
fn rotation_waits_for_what_is_missing_and_goes_on_when_it_is_back() {
    within(async || -> Result<()> {
        let mut scene = Scene::prepared().await?;
        assert_eq!(scene.fleet.starts(), [1, 1, 1], "{}", scene.nodes());
        let mut kid = scene.kid().ok_or("a key")?;

        kid = while_a_node_is_off(&mut scene, &kid).await?;
        // The third node's own start is one more.
        assert_eq!(scene.fleet.starts(), [2, 2, 3], "{}", scene.nodes());
        kid = while_a_node_has_no_s3(&scene, &kid).await?;
        assert_eq!(scene.fleet.starts(), [3, 3, 4], "{}", scene.nodes());
        kid = while_s3_fails(&scene, &kid).await?;
        assert_eq!(scene.fleet.starts(), [4, 4, 5], "{}", scene.nodes());
        while_two_lead(&scene, &kid).await?;
        assert_eq!(scene.fleet.starts(), [5, 5, 6], "{}", scene.nodes());
        scene.finish().await.map(drop)
    });
}

async fn while_a_node_is_off(scene: &mut Scene, old: &str) -> Result<String> {
    scene.fleet.nodes[2].power_off();
    scene.command(0, &["rotate", "--yes"])?;
    scene.until_it_says(0, "kube-apiserver of node-3 to be ready").await?;
    scene.rounds(3).await?;
    assert_eq!(scene.fleet.starts()[..2], [1, 1], "{}", scene.nodes());
    scene.fleet.nodes[2].power_on()?;
    scene.until_rotated(old).await
}

async fn while_a_node_has_no_s3(scene: &Scene, old: &str) -> Result<String> {
    let before = scene.fleet.starts();
    scene.fleet.nodes[1].door.cut_off(true);
    scene.command(0, &["rotate", "--yes"])?;
    // It can neither publish nor look, and changes nothing that depends on it.
    scene.rounds(20).await?;
    assert_eq!(scene.fleet.starts()[1], before[1], "{}", scene.nodes());
    scene.fleet.nodes[1].door.cut_off(false);
    scene.until_rotated(old).await
}

async fn while_s3_fails(scene: &Scene, old: &str) -> Result<String> {
    let cloud = &scene.fleet.cloud;
    let precondition =
        Fault::refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
    for fault in [Fault::internal_error(), Fault::slow_down(), precondition, Fault::Slow(Duration::from_secs(3))] {
        cloud.fail("PutObject", fault.clone(), 4);
        cloud.fail("GetObject", fault, 4);
    }
    scene.command(0, &["rotate", "--yes"])?;
    scene.until_rotated(old).await
}

async fn while_two_lead(scene: &Scene, old: &str) -> Result<String> {
    scene.command(0, &["rotate", "--yes"])?;
    while scene.kid().is_none_or(|kid| kid == old) {
        scene.free_lease().await?;
        sleep(Duration::from_secs(1)).await;
    }
    scene.until_rotated(old).await
}
