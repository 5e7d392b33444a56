//! What a person has to decide: a node that does not come back, an etcd that went back in time. And a machine that is new.

use crate::{
    control_plane::Result,
    network::{NETWORK, within},
    scene::{ISSUER, Scene},
};

#[test]
fn node_that_refuses_a_flag_is_rolled_back_and_freezes_the_roll_until_a_person_resumes_it() {
    within(async || -> Result<()> {
        let mut scene = Scene::adopt_with(|fleet| {
            fleet.nodes[1].gate(&format!("case \"$*\" in *{ISSUER}*) echo no such issuer; exit 1;; esac\n"))
        })
        .await?;
        scene.until_it_says(1, "irsad resume").await?;
        scene.fleet.nodes[1].ready().await?;
        let starts = scene.fleet.starts();
        assert_eq!(starts[1], 2, "its own start and that of the old manifest: {}", scene.nodes());
        scene.rounds(5).await?;
        assert_eq!(scene.fleet.starts(), starts, "the roll goes on although it is frozen: {}", scene.nodes());

        scene.fleet.nodes[1].gate("")?;
        scene.command(1, &["resume", "--yes"])?;
        scene.until("every API server signs as ours", async |scene| Ok(scene.kid().is_some())).await?;
        assert_eq!(scene.fleet.starts(), [3, 4, 3], "{}", scene.nodes());
        joins_with_the_right_keys_and_flags(&mut scene).await?;
        scene.finish().await.map(drop)
    });
}

/// A new machine of an old name, with irsad on it before kubeadm.
async fn joins_with_the_right_keys_and_flags(scene: &mut Scene) -> Result<()> {
    let kid = scene.kid().ok_or("a key")?;
    scene.replace(2, &format!("{NETWORK}.4")).await?;
    scene.rounds(5).await?;
    assert_eq!((scene.kid().as_ref(), scene.fleet.starts()), (Some(&kid), vec![3, 4, 1]), "{}", scene.nodes());
    scene.command(2, &["rotate", "--yes"])?;
    scene.until_rotated(&kid).await?;
    assert_eq!(scene.fleet.starts(), [4, 5, 2], "{}", scene.nodes());
    Ok(())
}

#[test]
fn etcd_of_before_a_rotation_changes_nothing_until_a_person_rebuilds_the_keyring() {
    within(async || -> Result<()> {
        let mut scene = Scene::prepared().await?;
        let first = scene.kid().ok_or("a key")?;
        scene.fleet.back_up()?;
        scene.command(0, &["rotate", "--yes"])?;
        let second = scene.until_rotated(&first).await?;
        assert_eq!(scene.fleet.starts(), [2, 2, 2], "{}", scene.nodes());

        scene.fleet.restore().await?;
        for node in 0..3 {
            scene.until_it_says(node, "irsad rebuild").await?;
        }
        scene.rounds(5).await?;
        assert_eq!((scene.kid().as_ref(), scene.fleet.starts()), (Some(&second), vec![3, 3, 3]), "{}", scene.nodes());

        let (_, newest) = scene.newest();
        scene.command(newest, &["rebuild", "--yes"])?;
        scene.command(0, &["rotate", "--yes"])?;
        scene.until_rotated(&second).await?;
        // The private half of the standby went with the store: another one had to be accepted first.
        assert_eq!(scene.fleet.starts(), [5, 5, 5], "{}", scene.nodes());
        scene.finish().await.map(drop)
    });
}
