//! `irsad teardown`: back to the issuer of before, and nothing of ours left.

use std::{process::ExitCode, time::Duration};

use anyhow::{anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    daemon::{Irsad, keyring_of},
    model::{
        issuer::IssuerUrl,
        keyring::Keyring,
        plan::{self, Facts, KeyKeeping, SharedFacts, StoredKeyring},
        probe::Probe,
        report::waits,
        request::{self, WantedTeardown},
    },
};

use super::{Global, Output, ask::Ask, output, settings};

/// How often it is looked how far the daemons are.
const INTERVAL: Duration = Duration::from_secs(3);

/// Let the API servers sign as before irsad, then remove webhook, provider, documents, roles and bucket
#[derive(Debug, Args)]
pub(super) struct Teardown {
    /// Say what would come of it, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Issuer that signs again [default: the one before irsad's, else kubeadm's]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Do not wait for the last token of irsad's issuer before provider and documents go: AWS refuses live tokens then
    #[arg(long)]
    now: bool,
    /// Leave the bucket of the documents
    #[arg(long)]
    keep_bucket: bool,
    /// Ask for it, and do not wait for its end
    #[arg(long)]
    no_wait: bool,
    /// Have irsad's issuer after all
    #[arg(long, conflicts_with_all = ["issuer", "now", "keep_bucket", "no_wait"])]
    cancel: bool,
    #[command(flatten)]
    ask: Ask,
}

/// JSON form; a promise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TeardownOutput<'a> {
    version: u32,
    state: State,
    /// What will come of it, or how far it is.
    effect: &'a [String],
    /// Whose IAM role is lost, with the number of pods that use it.
    roles_in_use: Vec<(&'a str, usize)>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Planned,
    AskedFor,
    TornDown,
    Cancelled,
}

impl Teardown {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        if !self.dry_run {
            self.ask.check()?;
        }
        let mut irsad = global.onlooker().await?;
        let (facts, _) = irsad.look().await;
        if self.cancel {
            return self.cancel(global, &mut irsad, &facts).await;
        }
        if let Some(code) = said_that_it_is_done(global, &facts)? {
            return Ok(code);
        }
        if irsad.desired().keys == KeyKeeping::Follow {
            return Err(settings::unusable(BY_HAND));
        }
        let (stored, shared) = readable(&facts)?;
        let (default, now) = (default_issuer(&facts), Timestamp::now());
        let ours = irsad.desired().issuer.to_string();
        let wanted = self.wanted(&stored.keyring)?;
        let asked = request::teardown(&stored.keyring, &ours, &wanted, default.as_deref(), now)?;
        let is_new = stored.keyring.teardown.is_none();
        if (is_new || asked != stored.keyring || self.dry_run)
            && let Some(code) = self.tell_and_ask(global, &mut irsad, &facts, &asked, shared).await?
        {
            return Ok(code);
        }
        irsad
            .change_keyring(|keyring, now| Ok(request::teardown(keyring, &ours, &wanted, default.as_deref(), now)?))
            .await?;
        if self.no_wait {
            return finish(global, State::AskedFor, &["asked for; irsad status says how far it is".to_owned()]);
        }
        watch(global, &mut irsad).await
    }

    fn wanted(&self, keyring: &Keyring) -> anyhow::Result<WantedTeardown> {
        if let Some(issuer) = self.issuer.as_ref().filter(|issuer| !keyring.issuers.contains(issuer)) {
            issuer.parse::<IssuerUrl>().map_err(|error| settings::unusable(format!("--issuer: {error}")))?;
        }
        Ok(WantedTeardown { issuer: self.issuer.clone(), at_once: self.now, keeps_bucket: self.keep_bucket })
    }

    /// Says what will come of it; the exit code where it is not gone on with.
    async fn tell_and_ask(
        &self,
        global: &Global,
        irsad: &mut Irsad,
        facts: &Facts,
        asked: &Keyring,
        shared: &SharedFacts,
    ) -> anyhow::Result<Option<ExitCode>> {
        let found = irsad.look_at_what_goes().await;
        let in_use = irsad.roles_in_use(facts).await?;
        let mut effect = request::teardown_effect(asked, &shared.acks, irsad.desired(), &found);
        effect.extend(in_use.sentence());
        if self.dry_run {
            match global.output {
                Output::Json => {
                    let roles_in_use = in_use.accounts().collect();
                    output::json(&TeardownOutput { version: 1, state: State::Planned, effect: &effect, roles_in_use })?;
                }
                Output::Text | Output::Svg => effect.iter().for_each(|sentence| output::say!("- {sentence}")),
            }
            return Ok(Some(ExitCode::SUCCESS));
        }
        if !in_use.is_empty() && !self.ask.is_answered() {
            effect.iter().for_each(|sentence| output::say!("- {sentence}"));
            bail!(
                "service accounts still have IAM roles by this issuer (nothing changed); take their annotations away and make their pods \
                 anew, or add --yes"
            );
        }
        match self.confirm(global, &effect)? {
            true => Ok(None),
            false => Ok(Some(ExitCode::FAILURE)),
        }
    }

    /// Says what will happen, and asks; a program that reads the output has answered before.
    fn confirm(&self, global: &Global, effect: &[String]) -> anyhow::Result<bool> {
        match (global.output, self.ask.is_answered()) {
            (Output::Json, true) => Ok(true),
            (Output::Json, false) => Err(settings::unusable("-o json asks nobody (nothing changed); add --yes")),
            (Output::Text | Output::Svg, _) => self.ask.confirm(effect),
        }
    }

    async fn cancel(&self, global: &Global, irsad: &mut Irsad, facts: &Facts) -> anyhow::Result<ExitCode> {
        let (stored, _) = readable(facts)?;
        request::cancel_teardown(&stored.keyring)?;
        let effect = request::cancel_effect(irsad.desired().issuer.as_str());
        if self.dry_run {
            return finish(global, State::Planned, &effect);
        }
        if !self.confirm(global, &effect)? {
            return Ok(ExitCode::FAILURE);
        }
        irsad.change_keyring(|keyring, _| Ok(request::cancel_teardown(keyring)?)).await?;
        finish(
            global,
            State::Cancelled,
            &["the cluster is to have our issuer after all; irsad status says how far it is".to_owned()],
        )
    }
}

/// With `apiServer.keys: follow` there is no keyring that the nodes could follow back.
const BY_HAND: &str = "with apiServer.keys: follow there is no keyring by which nodes go back one after the other (nothing changed); stop irsad \
    on every node, put the issuer of before first in the cluster spec or the manifests and keep ours accepted, then delete provider, \
    documents and bucket, in that order";

fn readable(facts: &Facts) -> anyhow::Result<(&StoredKeyring, &SharedFacts)> {
    keyring_of(facts).map_err(|why| match why.starts_with("for ") {
        true => anyhow!("{} (nothing changed)", waits(&why)),
        false => anyhow!("{why}"),
    })
}

/// kubeadm's issuer; `None` where its configuration could not be read.
fn default_issuer(facts: &Facts) -> Option<String> {
    let domain = match &facts.node.kubeadm_config {
        Probe::Present(stored) => stored.config.dns_domain(),
        Probe::Absent => "cluster.local",
        Probe::Unknown(_) => return None,
    };
    Some(request::default_issuer(domain))
}

/// The exit code where this node has written down that nothing is left to do, and nothing but the leader's last step is.
fn said_that_it_is_done(global: &Global, facts: &Facts) -> anyhow::Result<Option<ExitCode>> {
    let Probe::Present(torn_down) = &facts.node.torn_down else { return Ok(None) };
    finish(global, State::TornDown, &plan::torn_down(torn_down, Timestamp::now())).map(Some)
}

fn finish(global: &Global, state: State, said: &[String]) -> anyhow::Result<ExitCode> {
    match global.output {
        Output::Json => {
            output::json(&TeardownOutput { version: 1, state, effect: said, roles_in_use: Vec::new() })?;
        }
        Output::Text | Output::Svg => said.iter().for_each(|sentence| output::say!("{sentence}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows how far the daemons are until this node has nothing left to do. Stopping it stops nothing else.
async fn watch(global: &Global, irsad: &mut Irsad) -> anyhow::Result<ExitCode> {
    let policy = irsad.desired().policy();
    let mut said = String::new();
    let mut say = |line: String| {
        if line != said {
            eprintln!("{line}");
            said = line;
        }
    };
    loop {
        let (facts, _) = irsad.look().await;
        if let Some(code) = said_that_it_is_done(global, &facts)? {
            return Ok(code);
        }
        match keyring_of(&facts) {
            Ok((stored, shared)) => {
                if let Some((node, why)) = request::failed_member(&stored.keyring, &shared.acks) {
                    bail!(
                        "kube-apiserver of {node} did not take its change ({why}); its manifest of before is back and the others wait: mend it, \
                         irsad resume there, and run irsad teardown again"
                    );
                }
                let progress = request::teardown_progress(&stored.keyring, &shared.acks, &policy, Timestamp::now());
                let trouble = irsad.trouble_of_this_node().map(|why| format!(" ({why})")).unwrap_or_default();
                say(format!("{progress}{trouble}"));
            }
            Err(why) => say(waits(&why)),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Cli;

    #[test]
    fn taking_it_back_goes_with_nothing_that_asks_for_it() {
        for (arguments, is_taken) in [
            (&["--dry-run"][..], true),
            (&["--yes", "--now", "--keep-bucket", "--no-wait", "--issuer", "https://a.example.com"], true),
            (&["--cancel", "--yes"], true),
            (&["--cancel", "--now"], false),
            (&["--cancel", "--issuer", "https://a.example.com"], false),
        ] {
            let line = ["irsad", "teardown"].iter().chain(arguments);
            assert_eq!(Cli::try_parse_from(line).is_ok(), is_taken, "{arguments:?}");
        }
    }
}
