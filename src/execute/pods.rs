//! What pods' owners are told.

use anyhow::Context as _;
use jiff::Timestamp;

use crate::{
    model::{missed_pods::MissedPod, probe::Probe},
    world::World,
};

/// One after the other; those that were told before a failure are not told again.
pub(super) async fn tell_of_missed(
    world: &mut World,
    pods: &[MissedPod],
    node: &str,
    at: Timestamp,
) -> anyhow::Result<()> {
    let api_server = world.asked_api_server().context("no API server has been asked (nothing written)")?;
    for pod in pods {
        api_server.tell_of_missed(pod, node, at).await?;
        // The next look is minutes away.
        if let Some((_, Probe::Present(found))) = &mut world.pods {
            found.told.insert(pod.uid.clone());
        }
    }
    Ok(())
}
