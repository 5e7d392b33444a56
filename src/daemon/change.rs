//! What a person asks of the keyring, from a command beside the daemon.

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use super::Irsad;
use crate::{
    execute::execute,
    model::{
        keyring::Keyring,
        plan::{self, Action, Shared},
    },
    store::StoreError,
};

/// How often a change begins anew because a node wrote in between.
const ATTEMPTS: usize = 10;

impl Irsad {
    /// Writes what `change` makes of the newest keyring, and gives what was written.
    ///
    /// # Errors
    /// The keyring could not be read, is not followed by this node, was changed by others all the time, or `change` refused:
    /// nothing was written.
    pub async fn change_keyring(
        &mut self,
        change: impl Fn(&Keyring, Timestamp) -> anyhow::Result<Keyring>,
    ) -> anyhow::Result<Keyring> {
        for _ in 0..ATTEMPTS {
            let (facts, _) = self.look().await;
            let shared = match &facts.shared {
                Shared::Seen(shared) => shared,
                Shared::Unknown(why) => bail!("{why} (nothing changed)"),
                Shared::Nothing => bail!("no API server runs here yet, so there is no keyring (nothing changed)"),
            };
            let stored = plan::followed(shared).map_err(|why| anyhow::anyhow!("{why} (nothing changed)"))?;
            let now = Timestamp::now();
            let changed = change(&stored.keyring, now)?.next(&stored.bytes);
            let action = Action::WriteKeyring {
                keyring: Box::new(changed.clone()),
                replaces: Some(stored.version.clone()),
                what: "asked for".to_owned(),
            };
            match execute(&mut self.world, &action).await {
                Ok(()) => return Ok(changed),
                Err(error) if matches!(error.downcast_ref(), Some(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error).context("the keyring"),
            }
        }
        bail!("the keyring changed between each look and the write, {ATTEMPTS} times (nothing changed); try again")
    }
}
