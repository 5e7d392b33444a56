//! What a person asks for, beside a running daemon: changes of the keyring, and of this node's memory of a failed change.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;

use super::Irsad;
use crate::{
    aws::Identity,
    execute::execute,
    host::files::LARGEST_FILE_BYTES,
    model::{
        keyring::Keyring,
        memory,
        plan::{self, Action, Shared, SharedFacts, StoredKeyring},
        probe::Probe,
        report::waits,
        request, rotation,
    },
    private_keys,
    store::{Store as _, StoreError},
};

/// So many times a change is tried where somebody else wrote first: the daemons write a few times in a rotation.
const ATTEMPTS: u32 = 5;

/// A keyring that went back in time, and what is to be written in its place.
#[derive(Debug)]
pub struct Rebuilt {
    /// To be written.
    pub keyring: Keyring,
    /// What the store has.
    pub stored: Option<Keyring>,
    /// What is known of the nodes.
    pub shared: SharedFacts,
    /// Version of it in the store.
    replaces: Option<String>,
}

impl Irsad {
    /// Who AWS takes this node for.
    ///
    /// # Errors
    /// No region, no credentials or no answer, as one sentence.
    pub async fn identity(&self) -> Result<Identity, String> {
        self.world.identity().await
    }

    /// The newest keyring, which continues what this node has followed, and what is known of all control-plane nodes.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it went back in time: the other nodes would refuse a change of it. Nothing was changed.
    pub async fn newest_keyring(&mut self) -> anyhow::Result<(StoredKeyring, SharedFacts)> {
        let shared = self.look_at_all_nodes().await?;
        let stored = plan::followed(&shared).map_err(|why| anyhow!(refusal(&why)))?.clone();
        Ok((stored, shared))
    }

    /// Writes what `change` makes of the newest keyring as the next generation. Where somebody else writes first, `change` is asked
    /// again, with what they wrote.
    ///
    /// # Errors
    /// As [`Irsad::newest_keyring`]; `change` refuses; the store does. Nothing was changed then.
    pub async fn change_keyring(
        &mut self,
        change: impl Fn(&Keyring, Timestamp) -> anyhow::Result<Keyring>,
    ) -> anyhow::Result<Keyring> {
        for _ in 0..ATTEMPTS {
            let (stored, _) = self.newest_keyring().await?;
            let changed = change(&stored.keyring, Timestamp::now())?;
            if changed == stored.keyring {
                return Ok(changed);
            }
            let next = changed.next(&stored.bytes);
            let what = rotation::difference(&stored.keyring, &next);
            if self.write(&next, Some(stored.version.clone()), what).await? {
                return Ok(next);
            }
        }
        bail!(
            "other nodes changed the keyring {ATTEMPTS} times meanwhile (nothing changed by us); try again in a minute"
        )
    }

    /// What this node remembers, to be written in the place of a keyring that went back in time.
    ///
    /// # Errors
    /// This node remembers none, another one has seen a newer one, or nothing was lost. Nothing was changed.
    pub async fn rebuilt_keyring(&mut self) -> anyhow::Result<Rebuilt> {
        let found = self.world.root.read(Path::new(memory::KEYRING), LARGEST_FILE_BYTES)?;
        let bytes = found
            .with_context(|| format!("this node has never followed a keyring: there is no {}", memory::KEYRING))?
            .bytes;
        let remembered = Keyring::parse(&bytes, self.world.settings.cluster.as_str()).context(memory::KEYRING)?;
        let shared = self.look_at_all_nodes().await?;
        let (stored, replaces) = match &shared.keyring {
            Probe::Present(stored) => (Some(stored.keyring.clone()), Some(stored.version.clone())),
            Probe::Absent => (None, None),
            Probe::Unknown(why) if shared.damage.is_some() => {
                bail!("{why} (nothing changed); take it out of its store, keep a copy, and run irsad rebuild again")
            }
            Probe::Unknown(why) => bail!("cannot read the keyring (nothing changed): {}", waits(why)),
        };
        let kept = self.kept_private_keys().await?;
        let has_private = |kid: &str| kept.iter().any(|name| name.ends_with(kid));
        let now = Timestamp::now();
        let keyring = request::rebuild(&remembered, &bytes, stored.as_ref(), &shared.acks, has_private, now)?;
        Ok(Rebuilt { keyring, stored, shared, replaces })
    }

    /// Writes a keyring that was rebuilt, if the store still has what was read.
    ///
    /// # Errors
    /// It has not, or it could not be written. Nothing was changed.
    pub async fn write_rebuilt(&mut self, rebuilt: &Rebuilt) -> anyhow::Result<()> {
        let what = "rebuilt from what this node remembers".to_owned();
        match self.write(&rebuilt.keyring, rebuilt.replaces.clone(), what).await? {
            true => Ok(()),
            false => {
                Err(anyhow!("another node changed the keyring meanwhile (nothing changed); run irsad rebuild again"))
            }
        }
    }

    /// Forgets the change that failed on this node, so that it is tried again.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub fn forget_refused_change(&self) -> anyhow::Result<()> {
        self.world.root.remove_own(Path::new(memory::REFUSED_CHANGE))?;
        Ok(())
    }

    async fn look_at_all_nodes(&mut self) -> anyhow::Result<SharedFacts> {
        match self.look().await.0.shared {
            Shared::Seen(shared) => Ok(*shared),
            Shared::Nothing => {
                bail!("no kube-apiserver runs here, and the keyring is kept in the cluster (nothing changed)")
            }
            Shared::Unknown(why) => bail!("cannot read the keyring (nothing changed): {}", waits(&why)),
        }
    }

    /// Whether it was written; not where somebody else wrote first.
    async fn write(&mut self, keyring: &Keyring, replaces: Option<String>, what: String) -> anyhow::Result<bool> {
        let action = Action::WriteKeyring { keyring: Box::new(keyring.clone()), replaces, what };
        match execute(&mut self.world, &action).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.downcast_ref(), Some(StoreError::Conflict { .. })) => Ok(false),
            Err(error) => Err(error.context(format!("could not {action}"))),
        }
    }

    /// Names of the private halves in the store.
    async fn kept_private_keys(&mut self) -> anyhow::Result<Vec<String>> {
        let api = self.world.keyring_api.clone();
        let place = self.world.keyring(api.as_ref()).await.map_err(|why| anyhow!("{}", waits(&why)))?;
        Ok(place.store.list(&place.key(&format!("{}/", private_keys::FOLDER))).await?)
    }
}

/// Why a keyring is not changed; what is only waited for does not say that nothing was.
fn refusal(why: &str) -> String {
    if why.starts_with("for ") { format!("{} (nothing changed)", waits(why)) } else { why.to_owned() }
}
