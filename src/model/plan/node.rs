//! This node: key files, manifest, and the API server that runs from them.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::model::{
    file::{Digest, ExpectedFile},
    manifest::{self, APPLIED_ANNOTATION, Manifest},
    memory::{Change, Version1},
    probe::Probe,
};

use super::{
    Action, ApiServer, Desired, Evidence, KeyKeeping, NodeFacts, Plan, ProbeToken, PublishedState, RESTART_INTERVAL,
    RestartPolicy, WAITING_INTERVAL,
    keys::{Keys, plan_keys},
};

/// Generation that the annotation names while the node works from the keys on its own disk.
const GENERATION: u64 = 1;

pub(super) fn plan(desired: &Desired, node: &NodeFacts, now: Timestamp, plan: &mut Plan) {
    let Some(keys) = plan_keys(desired, node, plan) else { return };
    let (found, digest) = match &node.manifest {
        Probe::Present(found) => (&found.0, &found.1),
        Probe::Absent => return plan_without_manifest(desired, node, plan),
        Probe::Unknown(why) => return plan.needs_a_person.push(why.clone()),
    };
    let change = match &node.change {
        Probe::Present(change) => Some(change),
        Probe::Absent => None,
        Probe::Unknown(why) => return plan.needs_a_person.push(why.clone()),
    };
    let edit = match Edit::new(desired, found, digest, &keys) {
        Ok(edit) => edit,
        Err(why) => return plan.needs_a_person.push(why),
    };
    match change {
        Some(change) => edit.follow(change, node, now, plan),
        None => edit.begin(node, now, plan),
    }
}

fn plan_without_manifest(desired: &Desired, node: &NodeFacts, plan: &mut Plan) {
    plan.notices.push(format!("no {} yet: kubeadm has not run on this node", desired.manifest.display()));
    if node.change.present().is_some() {
        plan.actions.push(Action::ForgetChange);
    }
}

/// The manifest as it is and as it should be.
pub(super) struct Edit<'a> {
    pub desired: &'a Desired,
    pub keys: &'a Keys<'a>,
    pub found: &'a Manifest,
    pub digest: &'a Digest,
    /// Value of the annotation that goes with the wanted state.
    pub applied: String,
    wanted_text: String,
    flags_are_right: bool,
}

impl<'a> Edit<'a> {
    fn new(desired: &'a Desired, found: &'a Manifest, digest: &'a Digest, keys: &'a Keys<'a>) -> Result<Self, String> {
        let path = desired.manifest.display();
        reads_our_key_files(desired, found)?;
        let issuers = desired.issuers(found.issuers());
        let audiences = wanted_audiences(desired, found)?;
        let wanted = manifest::Desired {
            applied: Some(applied(desired, &issuers, audiences.as_deref(), keys)),
            issuers,
            jwks_uri: Some(desired.jwks_uri()),
            api_audiences: audiences,
        };
        let edited = found.with(&wanted).map_err(|error| format!("{path}: {error}"))?;
        let flags_are_right = found.issuers() == wanted.issuers.as_slice()
            && found.jwks_uri() == wanted.jwks_uri.as_deref()
            && (wanted.api_audiences.is_none() || found.api_audiences() == wanted.api_audiences.as_deref());
        Ok(Self {
            desired,
            keys,
            found,
            digest,
            applied: wanted.applied.unwrap_or_default(),
            wanted_text: edited.text().to_owned(),
            flags_are_right,
        })
    }

    /// No change is under way: is one needed, and may it begin?
    fn begin(&self, node: &NodeFacts, now: Timestamp, plan: &mut Plan) {
        let path = self.desired.manifest.display();
        let evidence = match &node.api_server {
            ApiServer::None => return self.write_unseen(plan),
            ApiServer::NoKubeconfig(why) => return plan.wait(why.clone(), WAITING_INTERVAL),
            ApiServer::Silent(why) if self.flags_are_right => return plan.wait(why.clone(), WAITING_INTERVAL),
            ApiServer::Silent(why) => {
                self.mention_refusal(node, plan);
                return plan.wait(format!("{why}; {path} is left alone meanwhile"), WAITING_INTERVAL);
            }
            ApiServer::Seen(evidence) => evidence,
        };
        if !evidence.ready {
            return plan.wait("kube-apiserver of this node to be ready", RESTART_INTERVAL);
        }
        if let Some(why) = self.forgotten_keys(evidence) {
            return plan.needs_a_person.push(why);
        }
        if self.flags_are_right && self.keys_are_current(evidence) {
            return self.check_process(evidence, plan);
        }
        if self.mention_refusal(node, plan) {
            return;
        }
        match self.hindrance(node, evidence, plan.published) {
            Some(why) => {
                plan.later.push(self.replacement());
                plan.wait(why, WAITING_INTERVAL);
            }
            None => self.replace(evidence, now, plan),
        }
    }

    /// No API server can tell anything and none depends on the file: it is written when an outsider sees the documents.
    fn write_unseen(&self, plan: &mut Plan) {
        let annotation = self.found.annotation(APPLIED_ANNOTATION);
        if self.flags_are_right && annotation.is_none_or(|applied| applied == self.applied) {
            return;
        }
        match plan.published {
            PublishedState::Seen => plan.actions.push(self.replacement()),
            PublishedState::NotYet => plan.later.push(self.replacement()),
        }
    }

    fn replacement(&self) -> Action {
        Action::ReplaceManifest {
            path: self.desired.manifest.clone(),
            text: self.wanted_text.clone(),
            old_text: self.found.text().to_owned(),
            expected: ExpectedFile::Unchanged(self.digest.clone()),
        }
    }

    fn replace(&self, evidence: &Evidence, now: Timestamp, plan: &mut Plan) {
        plan.actions.extend([
            Action::SaveLastGood {
                manifest: self.found.text().to_owned(),
                key_files: vec![self.desired.verifying_keys.clone(), self.desired.signing_key.clone()],
            },
            Action::BeginChange(Change {
                version: Version1,
                manifest_digest: Digest::of(self.wanted_text.as_bytes()).to_string(),
                applied: self.applied.clone(),
                begun_at: now,
                old_process_started_at: evidence.started_at,
            }),
            self.replacement(),
        ]);
        plan.next_check = RESTART_INTERVAL;
    }

    /// Keys that the running API server accepts and the files no longer hold: a restart would refuse their tokens.
    fn forgotten_keys(&self, evidence: &Evidence) -> Option<String> {
        let on_disk = |kid: &&str| self.keys.verifying.iter().any(|key| key.kid().as_str() == *kid);
        let forgotten: Vec<&str> = evidence.served.kids().filter(|kid| !on_disk(kid)).collect();
        if forgotten.is_empty() {
            return None;
        }
        Some(format!(
            "{} no longer holds key {}, which the running kube-apiserver accepts: its next restart would refuse the tokens of that \
             key (nothing written); put the public key back, a copy may be in /var/lib/irsad/last-good",
            self.desired.verifying_keys.display(),
            forgotten.join(", ")
        ))
    }

    /// Whether the running process verifies and signs with what the files hold.
    fn keys_are_current(&self, evidence: &Evidence) -> bool {
        match self.desired.keys {
            KeyKeeping::Follow => true,
            KeyKeeping::Manage => {
                let signs_with_it = |token: &ProbeToken| token.kid == self.keys.signing.kid().as_str();
                self.keys.verifying.iter().all(|key| evidence.served.has(key.kid()))
                    && evidence.probe_token.present().is_none_or(signs_with_it)
            }
        }
    }

    /// The files are right: does the process say so too?
    fn check_process(&self, evidence: &Evidence, plan: &mut Plan) {
        let minted = match &evidence.probe_token {
            Probe::Present(token) => Some(token.issuer.as_str()),
            Probe::Absent => evidence.issuer.as_deref(),
            Probe::Unknown(why) => {
                plan.notices.push(format!("no probe token: {why}"));
                evidence.issuer.as_deref()
            }
        };
        if minted != Some(self.desired.issuer.as_str()) {
            plan.wait(
                format!(
                    "kube-apiserver to run with the flags of {}: it signs as {}",
                    self.desired.manifest.display(),
                    minted.unwrap_or("nobody (its discovery is off)")
                ),
                WAITING_INTERVAL,
            );
        }
    }

    /// Whether this change failed before; then a person is told.
    fn mention_refusal(&self, node: &NodeFacts, plan: &mut Plan) -> bool {
        match &node.refused {
            Probe::Present(refused) if refused.applied == self.applied => {
                plan.needs_a_person.push(format!(
                    "kube-apiserver did not come back from change {} ({}); the previous manifest was put back at {} and the change \
                     is not tried again: find the reason in its last log below /var/log/pods/kube-system_kube-apiserver-*, mend it, \
                     then remove /var/lib/irsad/refused-change.json",
                    refused.applied, refused.reason, refused.rolled_back_at
                ));
                true
            }
            Probe::Present(_) | Probe::Absent => false,
            Probe::Unknown(why) => {
                plan.needs_a_person.push(why.clone());
                true
            }
        }
    }

    /// What has to come true before the API server may be restarted.
    fn hindrance(&self, node: &NodeFacts, evidence: &Evidence, published: PublishedState) -> Option<String> {
        let path = self.desired.manifest.display();
        if published == PublishedState::NotYet {
            return Some(format!("the public documents, before {path} is changed"));
        }
        if node.kubeadm_runs {
            return Some(format!("kubeadm to finish, before {path} is changed"));
        }
        match self.desired.restart {
            RestartPolicy::Rolling => {}
            RestartPolicy::Opportunistic => {
                return Some(format!(
                    "a restart that happens anyway (apiServer.restart is opportunistic), to change {path}"
                ));
            }
            RestartPolicy::Never => {
                return Some(format!("somebody to change {path} as irsad plan shows (apiServer.restart is never)"));
            }
        }
        match &node.api_server_addresses {
            Probe::Present(addresses) if addresses.len() > 1 => Some(format!(
                "a version that restarts several API servers in turn: this cluster has {} ({}), {path} is left alone",
                addresses.len(),
                addresses.join(", ")
            )),
            Probe::Present(_) | Probe::Absent => match evidence.started_at {
                Some(_) => None,
                None => Some("the start time of the kube-apiserver process, to tell a new one from it".to_owned()),
            },
            Probe::Unknown(why) => Some(why.clone()),
        }
    }
}

/// kube-apiserver must read the files that we look after, or nothing we say of keys would be true.
fn reads_our_key_files(desired: &Desired, found: &Manifest) -> Result<(), String> {
    let path = desired.manifest.display();
    let signing = desired.signing_key.to_string_lossy();
    if found.signing_key_file() != Some(signing.as_ref()) {
        return Err(format!(
            "{path} has --service-account-signing-key-file={} but apiServer.signingKey is {signing} (nothing written); make them agree",
            found.signing_key_file().unwrap_or_default()
        ));
    }
    let verifying = desired.verifying_keys.to_string_lossy();
    if !found.key_files().iter().any(|file| *file == verifying) {
        return Err(format!(
            "{path} has no --service-account-key-file={verifying} as apiServer.verifyingKeys says, but {:?} (nothing written); make them \
             agree",
            found.key_files()
        ));
    }
    Ok(())
}

/// The complete `--api-audiences`, or `None` to leave the flag alone. Audiences in use never leave: their tokens would be
/// refused.
fn wanted_audiences(desired: &Desired, found: &Manifest) -> Result<Option<Vec<String>>, String> {
    let Some(wanted) = &desired.api_audiences else { return Ok(None) };
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    // Without the flag kube-apiserver takes its issuers as audiences.
    let in_use = found.api_audiences().unwrap_or_else(|| found.issuers());
    match in_use.iter().find(|audience| !wanted.contains(audience)) {
        None => Ok(Some(wanted)),
        Some(audience) => Err(format!(
            "apiServer.audiences leaves out {audience}, which tokens in use carry: they would be refused (nothing written); add it to \
             the list or write apiServer.audiences: keep"
        )),
    }
}

/// Value of the annotation `irsad/applied`: changes exactly when the API server must restart.
fn applied(desired: &Desired, issuers: &[String], audiences: Option<&[String]>, keys: &Keys<'_>) -> String {
    let mut hash = Sha256::new();
    let mut line = |name: &str, value: &str| hash.update(format!("{name}={value}\n"));
    issuers.iter().for_each(|issuer| line("issuer", issuer));
    line("jwks-uri", &desired.jwks_uri());
    audiences.unwrap_or_default().iter().for_each(|audience| line("audience", audience));
    if desired.keys == KeyKeeping::Manage {
        line("signs", keys.signing.kid().as_str());
        keys.verifying.iter().for_each(|key| line("verifies", key.kid().as_str()));
    }
    let digest = format!("{:x}", hash.finalize());
    format!("{GENERATION}-{}", &digest[..12])
}
