//! What `irsad teardown` asks of the cluster, beside a running daemon.

use std::path::Path;

use anyhow::anyhow;

use super::{Irsad, STATUS_FILE};
use crate::{
    host::files::LARGEST_FILE_BYTES,
    model::{
        plan::{self, Facts, Shared, SharedFacts, StoredKeyring, TeardownFacts},
        report::Report,
        roles_in_use::RolesInUse,
    },
    observe::{look_at_roles_in_use, look_at_what_goes},
};

impl Irsad {
    /// The provider and the bucket, as ones that may go.
    pub async fn look_at_what_goes(&mut self) -> TeardownFacts {
        look_at_what_goes(&mut self.world, &self.desired).await
    }

    /// Who has an IAM role by our issuer, after `facts` were observed.
    ///
    /// # Errors
    /// A list did not come. Nothing was changed.
    pub async fn roles_in_use(&self, facts: &Facts) -> anyhow::Result<RolesInUse> {
        look_at_roles_in_use(&self.world, &facts.node)
            .await
            .map_err(|why| anyhow!("cannot tell who uses IAM roles (nothing changed): {why}"))
    }

    /// What the daemon of this node last said that stands in its way.
    pub fn trouble_of_this_node(&self) -> Option<String> {
        let found = self.world.root.read(Path::new(STATUS_FILE), LARGEST_FILE_BYTES).ok()??;
        let report: Report = serde_json::from_slice(&found.bytes).ok()?;
        report.needs_a_person.into_iter().next().or(report.failure)
    }
}

/// The keyring that `facts` have, where this node may follow it.
///
/// # Errors
/// There is none, or it must not be followed.
pub fn keyring_of(facts: &Facts) -> Result<(&StoredKeyring, &SharedFacts), String> {
    match &facts.shared {
        Shared::Seen(shared) => plan::followed(shared).map(|stored| (stored, shared.as_ref())),
        Shared::Nothing => Err("no kube-apiserver runs here, and the keyring is kept in the cluster".to_owned()),
        Shared::Unknown(why) => Err(why.clone()),
    }
}
