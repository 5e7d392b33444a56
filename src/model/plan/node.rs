//! This node: key files, manifest, and the API server that runs from them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    file::{Digest, ExpectedFile},
    manifest::{self, APPLIED_ANNOTATION, Manifest, Reverted},
    memory::{Change, Version1},
    probe::Probe,
};

use super::{
    Action, ApiServer, CHECK_INTERVAL, Desired, Evidence, Facts, KeyKeeping, NodeFacts, Plan, PublishedState,
    RESTART_INTERVAL, RestartPolicy, WAITING_INTERVAL,
    flags::{Wanted, applied, change, reads_our_key_files, revert, wanted_audiences, wants_the_same},
    keys::{Keys, plan_keys},
    kubeadm, restore,
};

/// Generation that the annotation names while the node works from the keys on its own disk.
const GENERATION: u64 = 1;

pub(super) fn plan(desired: &Desired, facts: &Facts, now: Timestamp, plan: &mut Plan) {
    let node = &facts.node;
    let Some(keys) = plan_keys(desired, node, facts.cluster.jwks(), plan) else { return };
    let (found, digest) = match &node.manifest {
        Probe::Present(found) => (&found.0, &found.1),
        Probe::Absent => {
            plan.notices.push(format!("no {} yet: kubeadm has not run on this node", desired.manifest.display()));
            return;
        }
        Probe::Unknown(why) => return plan.needs_a_person.push(why.clone()),
    };
    let wanted = Wanted { issuers: desired.issuers(found.issuers()), keys, generation: GENERATION, is_reverted: false };
    match Edit::new(desired, found, digest, &wanted) {
        Ok(edit) => edit.begin(facts, now, plan),
        Err(why) => plan.needs_a_person.push(why),
    }
}

/// Why nothing may restart: the running API server accepts keys that are not known from anywhere else.
pub(super) fn forgotten_keys(
    desired: &Desired,
    evidence: &Evidence,
    is_known: impl Fn(&str) -> bool,
) -> Option<String> {
    let forgotten: Vec<&str> = evidence.served.kids().filter(|kid| !is_known(kid)).collect();
    (!forgotten.is_empty()).then(|| {
        format!(
            "{} no longer holds key {}, which the running kube-apiserver accepts: its next restart would refuse the tokens of that \
             key (nothing written); put the public key back, a copy may be in /var/lib/irsad/last-good",
            desired.verifying_keys.display(),
            forgotten.join(", ")
        )
    })
}

/// The manifest as it is and as it should be.
pub(super) struct Edit<'a> {
    desired: &'a Desired,
    keys: &'a Keys<'a>,
    pub found: &'a Manifest,
    pub digest: &'a Digest,
    /// Issuer that signs.
    issuer: String,
    /// Value of the annotation that goes with the wanted state.
    applied: String,
    pub wanted_text: String,
    pub flags_are_right: bool,
    /// The same, whatever the issuers are.
    pub other_flags_are_right: bool,
    /// Our issuer no longer signs with it, and no public document is needed.
    pub is_reverted: bool,
}

impl<'a> Edit<'a> {
    pub fn new(
        desired: &'a Desired,
        found: &'a Manifest,
        digest: &'a Digest,
        wanted: &'a Wanted<'a>,
    ) -> Result<Self, String> {
        let path = desired.manifest.display();
        reads_our_key_files(desired, found)?;
        let audiences = wanted_audiences(desired, found)?;
        let issuer = wanted.issuers.first().cloned().unwrap_or_default();
        let keys = &wanted.keys;
        // The document of another issuer goes on naming the place that its verifiers know.
        let jwks_uri = (issuer == desired.issuer.as_str()).then(|| desired.jwks_uri());
        let applied = applied(desired, wanted, jwks_uri.as_deref(), audiences.as_deref());
        let reverted =
            wanted.is_reverted.then(|| Reverted { issuers: wanted.issuers.clone(), jwks_uri: desired.jwks_uri() });
        let wanted = manifest::Desired {
            applied: Some(applied.clone()),
            issuers: wanted.issuers.clone(),
            jwks_uri,
            api_audiences: audiences.filter(|_| reverted.is_none()),
        };
        let (text, flags_are_right, other_flags_are_right) = match &reverted {
            Some(reverted) => revert(found, reverted, &wanted),
            None => change(found, &wanted),
        }
        .map_err(|error| format!("{path}: {error}"))?;
        let (wanted_text, is_reverted) = (text, reverted.is_some());
        Ok(Self {
            desired,
            keys,
            found,
            digest,
            issuer,
            applied,
            wanted_text,
            flags_are_right,
            other_flags_are_right,
            is_reverted,
        })
    }

    /// Is a change needed, and may it begin?
    fn begin(&self, facts: &Facts, now: Timestamp, plan: &mut Plan) {
        let (node, path) = (&facts.node, self.desired.manifest.display());
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
            return plan.wait("for kube-apiserver of this node to be ready", RESTART_INTERVAL);
        }
        if let Some(why) = self.forgotten_keys(evidence) {
            return plan.needs_a_person.push(why);
        }
        if self.flags_are_right && self.keys_are_current(evidence) {
            return self.check_process(evidence, node, plan);
        }
        self.forget_what_a_person_took_back(evidence, node, plan);
        if self.mention_refusal(node, plan) {
            return;
        }
        if self.wanted_text == self.found.text() {
            return plan.needs_a_person.push(format!(
                "kube-apiserver runs with other keys than its files hold, and {path} is as it should be already; restart it: move the \
                 manifest out of its folder, wait until the process is gone, move it back"
            ));
        }
        if evidence.started_at.is_none() {
            // An idle look does not ask for it, nor for the probe token and the other API servers.
            plan.look_closer = true;
            return plan.wait("for a closer look at kube-apiserver", RESTART_INTERVAL);
        }
        match self.hindrance(facts, evidence, now, plan.published) {
            Some((why, look_again)) => {
                plan.later.push(self.replacement());
                // An idle look could only say that it needs a closer one.
                plan.look_closer = look_again <= WAITING_INTERVAL;
                plan.wait(why, look_again);
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

    pub fn replacement(&self) -> Action {
        Action::ReplaceManifest {
            path: self.desired.manifest.clone(),
            text: self.wanted_text.clone(),
            old_text: self.found.text().to_owned(),
            expected: ExpectedFile::Unchanged(self.digest.clone()),
        }
    }

    fn replace(&self, evidence: &Evidence, now: Timestamp, plan: &mut Plan) {
        self.replace_with(Vec::new(), evidence, now, plan);
    }

    /// Begins the change: `key_files` are written before the manifest.
    pub fn replace_with(&self, key_files: Vec<Action>, evidence: &Evidence, now: Timestamp, plan: &mut Plan) {
        plan.actions.extend([
            Action::SaveLastGood {
                manifest: self.found.text().to_owned(),
                // Files that the process does not run from are not good yet; the copies of those that were stay.
                key_files: match self.runs_from_the_key_files(evidence) {
                    true => vec![self.desired.verifying_keys.clone(), self.desired.signing_key.clone()],
                    false => Vec::new(),
                },
            },
            Action::BeginChange(Change {
                version: Version1,
                manifest_digest: Digest::of(self.wanted_text.as_bytes()).to_string(),
                old_manifest_digest: self.digest.to_string(),
                applied: self.applied.clone(),
                issuer: self.issuer.clone(),
                signing_kid: self.keys.signing.kid().to_string(),
                kids: self.keys.verifying.iter().map(|key| key.kid().to_string()).collect(),
                begun_at: now,
                old_process_started_at: evidence.started_at,
            }),
        ]);
        plan.actions.extend(key_files);
        plan.actions.push(self.replacement());
        plan.next_check = RESTART_INTERVAL;
    }

    /// Keys that the running API server accepts and the files no longer hold: a restart would refuse their tokens.
    fn forgotten_keys(&self, evidence: &Evidence) -> Option<String> {
        forgotten_keys(self.desired, evidence, |kid| self.keys.verifying.iter().any(|key| key.kid().as_str() == kid))
    }

    /// Whether the running process verifies and signs with what the files hold.
    fn keys_are_current(&self, evidence: &Evidence) -> bool {
        match self.desired.keys {
            KeyKeeping::Follow => true,
            KeyKeeping::Manage => self.runs_from_the_key_files(evidence),
        }
    }

    fn runs_from_the_key_files(&self, evidence: &Evidence) -> bool {
        self.keys.verifying.iter().all(|key| evidence.served.has(key.kid())) && !self.signs_with_another_key(evidence)
    }

    fn signs_with_another_key(&self, evidence: &Evidence) -> bool {
        evidence.probe_token.present().is_some_and(|token| token.kid != self.keys.signing.kid().as_str())
    }

    /// The files are right: does the process say so too?
    fn check_process(&self, evidence: &Evidence, node: &NodeFacts, plan: &mut Plan) {
        if let Some(is_proven) = self.prove(self.keys, evidence, node, plan) {
            kubeadm::persist(self.desired, self.found, node, is_proven, plan);
        }
    }

    /// Remembers what the process proves with the keys of the files; `None` where it does not run with the flags yet.
    pub fn prove(&self, keys: &Keys<'_>, evidence: &Evidence, node: &NodeFacts, plan: &mut Plan) -> Option<bool> {
        if let Probe::Unknown(why) = &evidence.probe_token {
            plan.notices.push(format!("no probe token: {why}"));
        }
        let minted = evidence.signs_as();
        if minted != Some(self.issuer.as_str()) {
            plan.wait(
                format!(
                    "for kube-apiserver to run with the flags of {}: it signs as {}",
                    self.desired.manifest.display(),
                    minted.unwrap_or("nobody (its discovery is off)")
                ),
                WAITING_INTERVAL,
            );
            return None;
        }
        // While another issuer still signs, nothing of this is to be put back at a boot.
        if self.issuer != self.desired.issuer.as_str() {
            return Some(false);
        }
        let is_proven = restore::is_proof(evidence, &self.issuer, keys);
        if is_proven {
            restore::remember(self.desired, (self.found, self.digest), keys, node, plan);
        } else if evidence.probe_token == Probe::Absent && restore::lacks_proof(self.desired, self.digest, node) {
            // An idle look asks for no token, and a node that may boot soon has to have its memory by then.
            plan.look_closer = true;
            plan.next_check = plan.next_check.min(WAITING_INTERVAL);
        }
        Some(is_proven)
    }

    /// Where manifests are left to people, flags that one took out must not come back by a boot: other API servers may not accept
    /// our issuer.
    pub fn forget_what_a_person_took_back(&self, evidence: &Evidence, node: &NodeFacts, plan: &mut Plan) {
        let is_left_to_people = self.desired.restart != RestartPolicy::Rolling
            || node.api_servers.present().is_some_and(|servers| servers.len() > 1);
        let runs_without_us = !self.flags_are_right
            && evidence.signs_as().is_some_and(|issuer| {
                issuer != self.desired.issuer.as_str()
                    && self.found.issuers().first().is_some_and(|first| first == issuer)
            });
        if let (true, true, Probe::Present(proven)) = (is_left_to_people, runs_without_us, &node.proven) {
            plan.actions.push(Action::ForgetProven(proven.clone()));
        }
    }

    /// Whether this change failed before; then a person is told.
    pub fn mention_refusal(&self, node: &NodeFacts, plan: &mut Plan) -> bool {
        match &node.refused {
            Probe::Present(refused) if wants_the_same(&refused.applied, &self.applied) => {
                plan.needs_a_person.push(format!(
                    "change {} failed ({}); the previous manifest is back since {} and the change is not tried again: find the \
                     reason in the last log below /var/log/pods/kube-system_kube-apiserver-*, mend it, then irsad resume",
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

    /// What has to come true before the API server may be restarted, and when to look again.
    fn hindrance(
        &self,
        facts: &Facts,
        evidence: &Evidence,
        now: Timestamp,
        published: PublishedState,
    ) -> Option<(String, Duration)> {
        let path = self.desired.manifest.display();
        let soon = |why: String| Some((why, WAITING_INTERVAL));
        if published == PublishedState::NotYet {
            return soon(format!("for the public documents, before {path} is changed"));
        }
        if facts.node.kubeadm_runs {
            return soon(format!("for kubeadm to finish, before {path} is changed"));
        }
        if let Some(why) = self.forbidden(&facts.node) {
            return Some((why, CHECK_INTERVAL));
        }
        if let Some(found) = self.too_young(facts, evidence, now) {
            return Some(found);
        }
        match &evidence.probe_token {
            Probe::Present(_) => None,
            Probe::Unknown(why) => soon(format!("for a probe token, to prove the change with: {why}")),
            Probe::Absent => soon(
                "for service account kube-system/default, which kube-controller-manager makes, to prove the change with".to_owned(),
            ),
        }
    }

    /// Why the configuration lets no API server be restarted here.
    fn forbidden(&self, node: &NodeFacts) -> Option<String> {
        let path = self.desired.manifest.display();
        match self.desired.restart {
            RestartPolicy::Rolling => {}
            RestartPolicy::Opportunistic => {
                return Some(format!(
                    "for a restart that happens anyway (apiServer.restart is opportunistic), to change {path}"
                ));
            }
            RestartPolicy::Never => {
                return Some(format!("for somebody to change {path} as irsad plan shows (apiServer.restart is never)"));
            }
        }
        match &node.api_servers {
            Probe::Present(servers) if servers.len() > 1 => Some(format!(
                "for somebody to change {path} as irsad plan shows, on one node after the other: with apiServer.keys: follow irsad restarts \
                 none of several API servers, and this cluster has {} ({})",
                servers.len(),
                servers.join(", ")
            )),
            Probe::Present(_) | Probe::Absent => None,
            Probe::Unknown(why) => Some(why.clone()),
        }
    }

    /// A key that the process does not sign with yet must be public for so long that every verifier has fetched it.
    fn too_young(&self, facts: &Facts, evidence: &Evidence, now: Timestamp) -> Option<(String, Duration)> {
        if !self.signs_with_another_key(evidence) {
            return None;
        }
        let (kid, lead) = (self.keys.signing.kid().as_str(), self.desired.publish_lead);
        let keys = facts.node.published_keys.present().map(|published| published.keys.as_slice()).unwrap_or_default();
        let seen = keys.iter().find(|key| key.jwk.kid() == Some(kid)).and_then(|key| key.seen_since);
        let age = seen.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
        let is_old_enough = age >= SignedDuration::try_from(lead).unwrap_or(SignedDuration::MAX);
        (!is_old_enough || facts.cluster.clock_differs(now).is_some()).then(|| {
            let why = format!(
                "for key {kid} to be public for {} s (rotation.publishLead) before kube-apiserver signs with it ({} s so far)",
                lead.as_secs(),
                age.as_secs()
            );
            (why, lead.saturating_sub(age.unsigned_abs()).clamp(RESTART_INTERVAL, CHECK_INTERVAL))
        })
    }
}
