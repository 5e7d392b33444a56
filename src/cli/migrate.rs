//! `irsad migrate`: an issuer that others have set up comes under irsad.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    aws::{Endpoints, region_from_environment},
    config::{ClusterName, Inputs},
    execute::migrate,
    host::{Root, files::LARGEST_FILE_BYTES},
    model::{
        location::Location,
        migrate::{Content, KopsStore, Migration, NewFile, Source, Wish},
        region::Region,
    },
    observe::{Prepared, Request, prepare_migration},
    world::endpoints,
};

use super::{Global, Output, output, settings};

/// Take over an issuer that others have set up: says first what is going to be done, and does it with --yes.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(subcommand)]
    source: From,
}

/// Who set it up.
#[derive(Debug, Subcommand)]
enum From {
    /// A bucket with keys.json, by the AWS guide for self-hosted clusters
    AwsGuide(Options),
    /// A bucket with keys.json, beside podIamConfig of EKS Anywhere
    EksAnywhere(Options),
    /// The bucket and the roles of irsa-manager (IRSASetup and IRSA objects)
    IrsaManager(Options),
    /// The discovery store of a kops cluster, on its nodes or for the control plane that comes after kops
    Kops(Kops),
}

#[derive(Debug, Args)]
struct Kops {
    /// Before kubeadm makes a new control plane: the cluster's folder in kops' state store (s3://STATE_STORE/CLUSTER), or a copy of it
    /// (cluster-completed.spec and pki/private/service-account/keyset.yaml); its keys are put into this node's files
    #[arg(long, value_name = "STORE")]
    state: Option<KopsStore>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// Name that the cluster gets: a DNS label of at most 40 characters
    #[arg(long, value_name = "NAME")]
    cluster: ClusterName,
    /// Where the documents lie (s3://BUCKET[/PREFIX]) [default: where the issuer URL leads]
    #[arg(long, value_name = "STORE")]
    store: Option<Location>,
    /// Region of the bucket [default: the issuer URL's, else aws.region of the drop-ins, AWS_REGION or the instance's]
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
    /// A published key that no API server of this cluster verifies, and that nobody else needs; repeat it for more
    // A key id is base64url: it may begin with a hyphen.
    #[arg(long, value_name = "KID", allow_hyphen_values = true)]
    let_go: Vec<String>,
    /// Replace a configuration file that is there
    #[arg(long)]
    replace: bool,
    /// Do it
    #[arg(short, long)]
    yes: bool,
}

/// JSON form; a promise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MigrationOutput<'a> {
    version: u32,
    effects: &'a [String],
    steps: Vec<String>,
    files: Vec<FileOutput>,
    findings: &'a [String],
    refusals: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileOutput {
    path: PathBuf,
    diff: String,
}

impl Migrate {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        global.init_logging()?;
        let (source, options, state) = self.asked();
        let root = settings::root(global)?;
        let drop_ins = drop_ins(&root, &settings::drop_ins(global))?;
        let aws = stated_aws(&root, &global.config, &drop_ins)?;
        let request = Request {
            root: &root,
            distribution: settings::distribution(&root),
            configuration: &global.config,
            drop_ins: &drop_ins,
            state,
            wish: options.wish(source, &aws),
            endpoints: aws.endpoints,
        };
        let prepared = prepare_migration(request).await?;
        match global.output {
            Output::Text | Output::Svg => output::print(format_args!("{}", text(&prepared.migration))),
            Output::Json => output::json(&output_of(&prepared.migration))?,
        }
        if !prepared.migration.refusals.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        carry_out(&root, &prepared, options.yes).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn asked(&self) -> (Source, &Options, Option<&KopsStore>) {
        match &self.source {
            From::AwsGuide(options) => (Source::AwsGuide, options, None),
            From::EksAnywhere(options) => (Source::EksAnywhere, options, None),
            From::IrsaManager(options) => (Source::IrsaManager, options, None),
            From::Kops(kops) => (Source::Kops, &kops.options, kops.state.as_ref()),
        }
    }
}

impl Options {
    fn wish(&self, source: Source, aws: &StatedAws) -> Wish {
        Wish {
            source,
            cluster: self.cluster.to_string(),
            store: self.store.clone(),
            region: self.region.clone().or_else(|| aws.region.clone()),
            let_go: self.let_go.clone(),
            replace: self.replace,
            endpoints: aws.endpoints.by_service(),
        }
    }
}

/// Where AWS is, by the configuration that is there, else by the environment.
struct StatedAws {
    region: Option<Region>,
    endpoints: Endpoints,
}

fn stated_aws(root: &Root, configuration: &Path, drop_ins: &[(PathBuf, String)]) -> anyhow::Result<StatedAws> {
    let there = root.read_through_links(configuration, LARGEST_FILE_BYTES)?.map(|found| found.bytes);
    let there = there.map(|bytes| (configuration.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
    let texts: Vec<(PathBuf, String)> = there.into_iter().chain(drop_ins.iter().cloned()).collect();
    let stated = Inputs::aws(&texts);
    let endpoints = match endpoints(&stated.endpoints) {
        none if none == Endpoints::default() => Endpoints::from_environment(),
        some => some,
    };
    Ok(StatedAws { region: stated.region.or_else(region_from_environment), endpoints })
}

async fn carry_out(root: &Root, prepared: &Prepared, yes: bool) -> anyhow::Result<()> {
    if prepared.migration.is_done() {
        eprintln!("nothing to do: all of it is done already");
    } else if yes {
        migrate(root, prepared, |what| eprintln!("done: {what}")).await?;
        eprintln!(
            "next: irsad plan says what irsad will do here; the same configuration goes to every control-plane node"
        );
    } else {
        eprintln!("nothing changed; add --yes to do it");
    }
    Ok(())
}

/// Drop-ins that are there: they hold for what is written too.
fn drop_ins(root: &Root, folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut texts = Vec::new();
    for name in root.names(folder)?.unwrap_or_default() {
        let path = folder.join(&name);
        if !name.as_encoded_bytes().starts_with(b".") && path.extension().is_some_and(|ending| ending == "yaml") {
            let found = root.read_through_links(&path, LARGEST_FILE_BYTES)?;
            let text = found.map(|found| String::from_utf8_lossy(&found.bytes).into_owned()).unwrap_or_default();
            texts.push((path, text));
        }
    }
    Ok(texts)
}

/// The whole migration for a person, in the order in which it matters to them.
fn text(migration: &Migration) -> String {
    let refusals = list("Not possible yet:", migration.refusals.iter().cloned());
    let effects = list("Tokens and API servers:", migration.effects.iter().cloned());
    let findings = list("Good to know:", migration.findings.iter().cloned());
    let steps = list("In AWS:", migration.steps.iter().map(ToString::to_string));
    let files: String =
        migration.files.iter().map(|file| format!("Write {}:\n{}\n", file.path.display(), diff(file))).collect();
    format!("{effects}{steps}{files}{findings}{refusals}")
}

fn list(title: &str, sentences: impl Iterator<Item = String>) -> String {
    let lines: String = sentences.map(|sentence| format!("- {sentence}\n")).collect();
    if lines.is_empty() { lines } else { format!("{title}\n{lines}\n") }
}

/// A private key is never shown.
fn diff(file: &NewFile) -> String {
    match &file.content {
        Content::Text(text) => output::diff(&file.path, file.replaces.as_deref().unwrap_or_default(), text),
        Content::PrivateKey(key) => format!("(private key {}, mode 0600)\n", key.kid),
    }
}

fn output_of(migration: &Migration) -> MigrationOutput<'_> {
    MigrationOutput {
        version: 1,
        effects: &migration.effects,
        steps: migration.steps.iter().map(ToString::to_string).collect(),
        files: migration.files.iter().map(|file| FileOutput { path: file.path.clone(), diff: diff(file) }).collect(),
        findings: &migration.findings,
        refusals: &migration.refusals,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_migration_is_shown_and_what_is_empty_is_not() {
        let content = Content::Text("a\n".to_owned());
        let file = NewFile { path: "/etc/irsad/irsad.yaml".into(), content, replaces: None };
        let migration = Migration { files: vec![file], effects: vec!["one".to_owned()], ..Migration::default() };
        let expected = "Tokens and API servers:\n- one\n\nWrite /etc/irsad/irsad.yaml:\n--- /etc/irsad/irsad.yaml\n\
                        +++ /etc/irsad/irsad.yaml\n@@ -0,0 +1 @@\n+a\n\n";
        assert_eq!(text(&migration), expected);
    }
}
