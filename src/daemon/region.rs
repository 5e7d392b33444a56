//! The region of this instance, kept for a boot at which its metadata do not answer yet.

use std::path::Path;

use crate::{config::Settings, host::Root, model::memory};

/// For a start at which the instance does not tell it.
pub(super) fn remember_region(root: &Root, settings: &Settings) {
    let Some(region) = &settings.aws.region else { return };
    let kept = root
        .make_folder(Path::new(memory::FOLDER), 0o700)
        .and_then(|()| root.replace_own(Path::new(memory::REGION), format!("{region}\n").as_bytes(), 0o600).map(drop));
    if let Err(error) = kept {
        tracing::warn!("cannot keep the region: {error:#}");
    }
}
