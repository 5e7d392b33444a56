//! `irsad prepare`: right files before kubeadm, so that the API server never has to restart for us.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{
    daemon::Irsad,
    host::{
        Root,
        files::{LARGEST_FILE_BYTES, Replacement},
        machine,
    },
    model::{
        file::ExpectedFile,
        kubeadm::{KubeadmConfig, api_server_arguments, issuers_to_write},
        plan::Desired,
    },
};

use super::{Global, output, settings};

/// Before kubeadm: make the signing key and put our flags into the kubeadm configuration.
#[derive(Debug, Args)]
pub(super) struct Prepare {
    /// kubeadm configuration to put issuer and JWKS URI into, in place; an absolute path is taken below --root
    #[arg(long, value_name = "FILE")]
    kubeadm_config: Option<PathBuf>,
    /// Print the changed kubeadm configuration and leave the file as it is
    #[arg(long, requires = "kubeadm_config")]
    stdout: bool,
}

impl Prepare {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        global.init_logging()?;
        let root = settings::root(global)?;
        let settings = settings::load(global).await?;
        let edited = match &self.kubeadm_config {
            Some(file) => Some(Edited::new(global, file, &settings.desired())?),
            None => None,
        };
        let mut irsad = Irsad::acting(root, settings)?;
        if let Some(edited) = edited {
            edited.give_out(self.stdout)?;
        }
        let plan = irsad.prepare().await?;
        for done in &plan.actions {
            eprintln!("done: {done}");
        }
        eprint!("{}", output::open_ends(&plan));
        Ok(ExitCode::from(u8::from(!plan.is_ready())))
    }
}

/// A kubeadm configuration before and after.
struct Edited {
    root: Root,
    path: PathBuf,
    found: crate::host::files::FileContent,
    text: String,
    note: Option<String>,
}

impl Edited {
    fn new(global: &Global, file: &Path, desired: &Desired) -> anyhow::Result<Self> {
        let (root, path) = place(global, file)?;
        let Some(found) = root.read(&path, LARGEST_FILE_BYTES)? else { bail!("{} does not exist", file.display()) };
        let in_file = || format!("{} (left as it is)", file.display());
        let config = KubeadmConfig::parse(&found.bytes).with_context(in_file)?;
        let issuers = issuers_to_write(&config, &desired.issuer, machine::kubeadm_version(&root).as_deref());
        let audiences = desired.api_audiences.as_deref();
        let audiences: Option<Vec<String>> = audiences.map(|list| list.iter().map(ToString::to_string).collect());
        let arguments = api_server_arguments(issuers.issuers, desired.jwks_uri(), audiences.as_deref());
        let edited = config.with_api_server_args(&arguments).with_context(in_file)?;
        Ok(Self { root, path, found, text: edited.text().to_owned(), note: issuers.note })
    }

    fn give_out(&self, stdout: bool) -> anyhow::Result<()> {
        if let Some(note) = &self.note {
            eprintln!("note: {note}");
        }
        if stdout {
            output::print(format_args!("{}", self.text));
        } else if self.text.as_bytes() == self.found.bytes {
            eprintln!("{} has our issuer already", self.path.display());
        } else {
            let expected = ExpectedFile::Unchanged(self.found.digest.clone());
            let how = Replacement { mode: None, owner: None, expected, staging: None };
            self.root.replace(&self.path, self.text.as_bytes(), &how).with_context(|| {
                format!(
                    "{} is not changed and no key is made; keep it in a folder that only root may write, or take what --stdout prints",
                    self.path.display()
                )
            })?;
            eprintln!("done: put our issuer into {}", self.path.display());
        }
        Ok(())
    }
}

/// An absolute path is one of the host and stands below the root; a relative one is taken from here.
fn place(global: &Global, file: &Path) -> anyhow::Result<(Root, PathBuf)> {
    if file.is_absolute() {
        return Ok((settings::root(global)?, file.to_owned()));
    }
    let here = env::current_dir().context("cannot tell the working folder")?;
    let path = fs::canonicalize(here.join(file)).with_context(|| format!("{} cannot be found", file.display()))?;
    Ok((Root::host(), path))
}
