//! Carries a migration out, step by step.

use anyhow::Context as _;

use crate::{
    host::{Root, files::Replacement},
    model::{
        file::{Digest, ExpectedFile},
        migrate::{Content, NewFile, Step},
    },
    observe::Prepared,
};

/// Modes of a file without a secret, and with one.
const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// Does everything that the migration says, AWS first, and calls `done` after each step with its sentence.
///
/// # Errors
/// The step that failed; those before it are done, and doing all of it again is safe.
pub async fn migrate(root: &Root, prepared: &Prepared, mut done: impl FnMut(&str)) -> anyhow::Result<()> {
    for step in &prepared.migration.steps {
        let what = step.to_string();
        take(prepared, step).await.with_context(|| format!("could not {what}"))?;
        done(&what);
    }
    for file in &prepared.migration.files {
        write(root, file)?;
        done(&format!("write {}", file.path.display()));
    }
    Ok(())
}

async fn take(prepared: &Prepared, step: &Step) -> anyhow::Result<()> {
    const UNASKED: &str = "AWS was never asked (nothing changed)";
    match step {
        Step::AdmitPublicPolicy { block, .. } => {
            Ok(prepared.bucket.as_ref().context(UNASKED)?.put_public_access_block(*block).await?)
        }
        Step::AllowReading { policy, .. } => Ok(prepared.bucket.as_ref().context(UNASKED)?.put_policy(policy).await?),
        Step::OwnProvider { arn, tag } => {
            Ok(prepared.iam.as_ref().context(UNASKED)?.tag(arn, std::slice::from_ref(tag)).await?)
        }
        Step::Disown { arn, keys } => Ok(prepared.iam.as_ref().context(UNASKED)?.untag(arn, keys).await?),
    }
}

fn write(root: &Root, file: &NewFile) -> anyhow::Result<()> {
    if let Some(folder) = file.path.parent() {
        root.make_folder(folder, 0o755)?;
    }
    let expected = match &file.replaces {
        Some(text) => ExpectedFile::Unchanged(Digest::of(text.as_bytes())),
        None => ExpectedFile::Absent,
    };
    let (bytes, mode) = match &file.content {
        Content::Text(text) => (text.as_bytes(), PUBLIC),
        Content::PrivateKey(key) => (key.pem().as_bytes(), PRIVATE),
    };
    let mode = file.replaces.is_none().then_some(mode);
    let how = Replacement { mode, owner: None, expected, staging: super::staging(&file.path) };
    root.replace(&file.path, bytes, &how)?;
    Ok(())
}
