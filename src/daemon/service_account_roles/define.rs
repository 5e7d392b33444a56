//! The definition of the objects, as the API server is to have it.

use crate::{
    cluster::ApiServer,
    model::{
        probe::Probe,
        role::{FaultKind, RoleFault},
        service_account_role::definition,
    },
};

/// Applies the definition of the objects where it is not as it should be.
pub(super) async fn define(api: &ApiServer) -> Result<(), RoleFault> {
    let fault = |kind, reason, sentence| RoleFault { kind, reason, sentence };
    let wanted = definition();
    let found = api.object(wanted.place()).await;
    let replaces = match &found {
        Probe::Unknown(why) => return Err(fault(FaultKind::Wait, "NotReachable", why.clone())),
        Probe::Present(stored) if !stored.is_ours() => {
            let sentence = format!(
                "{} was made by somebody else (left as it is), so that no role is made from objects; remove it, or set roles.mode to none",
                wanted.place()
            );
            return Err(fault(FaultKind::Person, "DefinitionNotOurs", sentence));
        }
        Probe::Present(stored) if stored.has(&wanted) => return Ok(()),
        Probe::Present(stored) => Some(stored.uid()),
        Probe::Absent => None,
    };
    let applied = api.apply_object(&wanted, replaces).await;
    applied.map_err(|error| fault(FaultKind::Wait, "NotReachable", error.reason()))?;
    tracing::info!("applied {}", wanted.place());
    Ok(())
}
