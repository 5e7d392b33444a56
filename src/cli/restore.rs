//! `irsad restore`: right files before kubelet, from this node's memory alone.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;

use crate::{
    daemon::{LOCK_FILE, RUN_FOLDER},
    execute::put_back,
    host::lock::Lock,
    model::plan,
    observe::observe_restore,
};

use super::{Global, settings};

/// Puts back what is missing; needs neither configuration nor network.
pub(super) fn execute(global: &Global) -> anyhow::Result<ExitCode> {
    global.init_logging()?;
    let root = settings::root(global)?;
    let lock_file = Path::new(LOCK_FILE);
    if Lock::holder(&root, lock_file)?.is_some() {
        eprintln!("note: irsad runs, and looks after this node itself");
        return Ok(ExitCode::SUCCESS);
    }
    root.make_folder(Path::new(RUN_FOLDER), 0o755)?;
    let _lock = Lock::take(&root, lock_file)?;
    let outcome = plan::restore(&observe_restore(&root));
    for file in &outcome.put_back {
        put_back(&root, file).with_context(|| format!("could not {file}"))?;
        eprintln!("done: {file}");
    }
    outcome.needs_a_person.iter().for_each(|why| eprintln!("needs a person: {why}"));
    outcome.notices.iter().for_each(|notice| eprintln!("note: {notice}"));
    Ok(ExitCode::from(u8::from(!outcome.needs_a_person.is_empty())))
}
