//! This node, following the keyring: its key files, its manifest, and the API server that runs from them.

mod before_start;
mod others;
mod unknown_keys;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    file::ExpectedFile,
    key::{PublicKey, verification_pem},
    keyring::{KeyState, Keyring},
    manifest::Manifest,
    probe::Probe,
    rotation::{self, Ack, Follow, Here, follow, restart_reasons},
};
use before_start::BeforeStart;

use super::{
    Action, ApiServer, CHECK_INTERVAL, Desired, Evidence, Facts, NodeFacts, Plan, PublishedState, RESTART_INTERVAL,
    RestartPolicy, WAITING_INTERVAL, ack,
    flags::Wanted,
    keys::Keys,
    node::{Edit, forgotten_keys},
    published,
    restore::joined,
    shared::Followed,
};

pub(super) fn plan(desired: &Desired, facts: &Facts, followed: Followed<'_>, now: Timestamp, plan: &mut Plan) {
    let node = &facts.node;
    let Some(keys) = wanted_keys(followed.keyring()) else {
        return plan.needs_a_person.push("the keyring has no key that signs (nothing changed)".to_owned());
    };
    let (found, digest) = match &node.manifest {
        Probe::Present(found) => (&found.0, &found.1),
        Probe::Absent => {
            plan.notices.push(format!("no {} yet: kubeadm has not run on this node", desired.manifest.display()));
            if !node.kubeadm_runs && node.proven == Probe::Absent {
                BeforeStart { desired, node, followed, keys: &keys, now }.write(plan);
            }
            return;
        }
        Probe::Unknown(why) => return plan.needs_a_person.push(why.clone()),
    };
    let wanted = Wanted {
        issuers: joined(&followed.keyring().issuers, found.issuers()),
        keys: Keys { signing: &keys[0], verifying: &keys },
        generation: followed.keyring().generation,
        is_reverted: signs_as_before(followed.keyring()),
    };
    // What is put back before a boot would sign as ours.
    if let (true, Probe::Present(proven)) = (wanted.is_reverted, &node.proven) {
        plan.actions.push(Action::ForgetProven(proven.clone()));
    }
    let edit = match Edit::new(desired, found, digest, &wanted) {
        Ok(edit) => edit,
        Err(why) => return plan.needs_a_person.push(why),
    };
    let follower = Follower { desired, facts, followed, keys: &keys, edit, now };
    match &node.api_server {
        _ if node.nothing_runs() => follower.write_at_once(found, plan),
        ApiServer::None => {}
        ApiServer::NoKubeconfig(why) => plan.wait(why.clone(), WAITING_INTERVAL),
        ApiServer::Silent(why) => {
            follower.edit.mention_refusal(node, plan);
            plan.wait(why.clone(), WAITING_INTERVAL);
        }
        ApiServer::Seen(evidence) if !evidence.ready => {
            plan.wait("for kube-apiserver of this node to be ready", RESTART_INTERVAL);
        }
        ApiServer::Seen(evidence) => follower.follow(evidence, plan),
    }
}

/// Whether another issuer than ours is to sign from now on.
fn signs_as_before(keyring: &Keyring) -> bool {
    keyring.teardown.as_ref().is_some_and(|teardown| keyring.issuers.first() == Some(&teardown.issuer))
}

/// Keys that API servers are to accept, the one that signs first.
fn wanted_keys(keyring: &Keyring) -> Option<Vec<PublicKey>> {
    keyring.signing()?;
    let keys: Vec<PublicKey> = keyring.accepted().filter_map(|key| key.public().ok()).collect();
    (!keys.is_empty()).then_some(keys)
}

/// The key files as they are wanted, in an order in which at no moment a key stands in the signing key file that is not accepted.
fn key_files(desired: &Desired, node: &NodeFacts, keys: &[PublicKey]) -> Vec<Action> {
    let signing = signing_file(desired, node, &keys[0]);
    let leaves = node.signing_key.present().filter(|key| !keys.contains(key));
    let accepts_the_next = node.verifying_keys.present().is_some_and(|found| found.contains(&keys[0]));
    match leaves {
        Some(_) if accepts_the_next => signing.into_iter().chain(verifying_file(desired, node, keys)).collect(),
        // What is too much then leaves with the next change.
        Some(leaves) => {
            let both: Vec<PublicKey> = keys.iter().chain([leaves]).cloned().collect();
            verifying_file(desired, node, &both).into_iter().chain(signing).collect()
        }
        None => verifying_file(desired, node, keys).into_iter().chain(signing).collect(),
    }
}

fn verifying_file(desired: &Desired, node: &NodeFacts, keys: &[PublicKey]) -> Option<Action> {
    let is_right = node.verifying_keys.present().is_some_and(|found| found == keys);
    (!is_right).then(|| Action::ReplaceVerifyingKeys {
        path: desired.verifying_keys.clone(),
        pem: verification_pem(keys),
        expected: expected(node.verifying_file.as_ref()),
    })
}

fn signing_file(desired: &Desired, node: &NodeFacts, key: &PublicKey) -> Option<Action> {
    let is_right = node.signing_key.present().is_some_and(|found| found.kid() == key.kid());
    (!is_right).then(|| Action::ReplaceSigningKey {
        path: desired.signing_key.clone(),
        kid: key.kid().to_string(),
        expected: expected(node.signing_file.as_ref()),
    })
}

fn expected(file: Option<&super::FileMark>) -> ExpectedFile {
    file.map_or(ExpectedFile::Absent, |file| ExpectedFile::Unchanged(file.digest.clone()))
}

struct Follower<'a> {
    desired: &'a Desired,
    facts: &'a Facts,
    followed: Followed<'a>,
    keys: &'a [PublicKey],
    edit: Edit<'a>,
    now: Timestamp,
}

impl Follower<'_> {
    fn node(&self) -> &NodeFacts {
        &self.facts.node
    }

    /// No API server has ever run from these files: they are put right before the first one does, kubeadm running or not.
    fn write_at_once(&self, found: &Manifest, plan: &mut Plan) {
        if self.node().api_server == ApiServer::None && self.lacks_documents(plan) {
            return plan.later.push(self.edit.replacement());
        }
        let (desired, node) = (self.desired, self.node());
        if !(BeforeStart { desired, node, followed: self.followed, keys: self.keys, now: self.now }).write(plan) {
            return;
        }
        if !self.edit.flags_are_right && self.edit.wanted_text != found.text() {
            plan.actions.push(self.edit.replacement());
        }
        if let ApiServer::Silent(why) = &self.node().api_server {
            plan.wait(format!("{why}; its files are as the keyring wants them"), RESTART_INTERVAL);
        }
    }

    fn follow(&self, evidence: &Evidence, plan: &mut Plan) {
        let shared = self.followed.shared;
        let Some(own) = ack::own(self.facts, shared, self.now) else {
            plan.look_closer = true;
            // What a full look has not shown will not be there in a moment.
            let again = if evidence.started_at.is_some() { WAITING_INTERVAL } else { RESTART_INTERVAL };
            return plan.wait(self.why_no_evidence(evidence), again);
        };
        if let Some(why) = self.forgotten_keys(evidence) {
            return plan.needs_a_person.push(why);
        }
        if self.has_a_key_of_somebody(&own, plan) {
            return;
        }
        let own_reasons = self.own_reasons();
        let reasons = [restart_reasons(self.followed.keyring(), &own), own_reasons.clone()].concat();
        if !reasons.is_empty() {
            self.edit.forget_what_a_person_took_back(evidence, self.node(), plan);
            if self.edit.mention_refusal(self.node(), plan) || self.is_held_back(evidence, &own, &reasons, plan) {
                return;
            }
        }
        let outside = published::seen_outside(&self.facts.cluster);
        let here = Here {
            ack: &own,
            own_reasons: &own_reasons,
            is_told: ack::is_told(shared, &own),
            not_ready: &shared.not_ready,
            outside: &outside,
            after: &self.nodes_to_go_first(&own),
        };
        match follow(self.followed.keyring(), here, self.now) {
            Follow::Settled => self.settle(evidence, plan),
            // As leader, this node already writes in this pass: a second write would replace what is no longer there.
            Follow::Take(_) | Follow::Release(_) if plan.actions.iter().any(Action::writes_keyring) => {
                plan.next_check = plan.next_check.min(RESTART_INTERVAL);
            }
            Follow::Wait(why) => {
                plan.later.push(self.edit.replacement());
                plan.look_closer |= self.followed.keyring().rollout.is_none();
                plan.wait(why, WAITING_INTERVAL);
            }
            Follow::Take(keyring) => {
                let what = format!("kube-apiserver of {} is changed, to {}", own.node, reasons.join(", to "));
                plan.actions.push(self.followed.write(&keyring, what));
                plan.next_check = RESTART_INTERVAL;
            }
            Follow::Release(keyring) => {
                let what = format!("kube-apiserver of {} has proven its change", own.node);
                plan.actions.push(self.followed.write(&keyring, what));
            }
            Follow::Change => {
                let files = key_files(self.desired, self.node(), self.keys);
                self.edit.replace_with(files, evidence, self.now, plan);
            }
        }
    }

    /// Why the API server has to restart though keys and issuers are right: the rest of what this node's configuration asks for.
    fn own_reasons(&self) -> Vec<String> {
        let is_right = self.edit.other_flags_are_right || self.edit.wanted_text == self.edit.found.text();
        if is_right { Vec::new() } else { vec!["have its other flags as irsad.yaml says".to_owned()] }
    }

    fn why_no_evidence(&self, evidence: &Evidence) -> String {
        match &evidence.probe_token {
            Probe::Unknown(why) => format!("for a probe token, to prove what kube-apiserver signs with: {why}"),
            Probe::Absent if evidence.started_at.is_some() => {
                "for service account kube-system/default, which kube-controller-manager makes, to prove the change with"
                    .to_owned()
            }
            Probe::Absent => "for a closer look at kube-apiserver".to_owned(),
            Probe::Present(_) => format!(
                "for kube-apiserver to run with the flags of {}, which was written after it started; where kubelet sees no reason to restart \
                 it, move the file out of its folder until the process is gone, and back",
                self.desired.manifest.display()
            ),
        }
    }

    /// Keys that the running API server accepts and nothing else knows of: a restart would refuse their tokens.
    fn forgotten_keys(&self, evidence: &Evidence) -> Option<String> {
        let on_disk = self.node().verifying_keys.present().map(Vec::as_slice).unwrap_or_default();
        let is_on_disk = |kid: &str| on_disk.iter().any(|key| key.kid().as_str() == kid);
        forgotten_keys(self.desired, evidence, |kid| self.followed.keyring().key(kid).is_some() || is_on_disk(kid))
    }

    /// Whether what is to sign needs documents that no outsider sees.
    fn lacks_documents(&self, plan: &Plan) -> bool {
        plan.published == PublishedState::NotYet && !self.edit.is_reverted
    }

    /// What stands in the way of a restart beside the other nodes.
    fn is_held_back(&self, evidence: &Evidence, own: &Ack, reasons: &[String], plan: &mut Plan) -> bool {
        let path = self.desired.manifest.display();
        let why = if let Some(why) = self.would_be_refused(own) {
            why
        } else if self.lacks_documents(plan) {
            format!("for the public documents, before {path} is changed")
        } else if self.node().kubeadm_runs {
            format!("for kubeadm to finish, before {path} is changed")
        } else {
            match self.desired.restart {
                RestartPolicy::Rolling => return lacks_proof(evidence, plan),
                RestartPolicy::Never => {
                    // Whoever restarts it finds the files of the new key.
                    plan.actions.extend(key_files(self.desired, self.node(), self.keys));
                    format!("for somebody to change {path} as irsad plan shows (apiServer.restart is never)")
                }
                RestartPolicy::Opportunistic => match self.waits_until(own) {
                    None => return lacks_proof(evidence, plan),
                    Some(until) => {
                        // Every API server accepts the key already: whichever restart comes first may bring it.
                        plan.actions.extend(key_files(self.desired, self.node(), self.keys));
                        format!(
                            "for a restart of kube-apiserver that happens anyway, at the latest {until} (apiServer.restart is \
                             opportunistic): to {}",
                            reasons.join(", to ")
                        )
                    }
                },
            }
        };
        plan.later.push(self.edit.replacement());
        plan.wait(why, WAITING_INTERVAL);
        true
    }

    /// Until when a restart that happens anyway is waited for; `None` where that is over, or where a key is revoked.
    fn waits_until(&self, own: &Ack) -> Option<Timestamp> {
        let keyring = self.followed.keyring();
        let is_revoked = |kid: &String| keyring.key(kid).is_some_and(|key| key.state == KeyState::Revoked);
        if own.served.iter().any(is_revoked) {
            return None;
        }
        let deadline = SignedDuration::try_from(self.desired.restart_deadline).ok()?;
        let joined = keyring.members.iter().find(|member| member.node == own.node).map(|member| member.since);
        let since = match keyring.issuers.first() == own.issuers.first() {
            true => keyring.rotate_since.or(keyring.signing().map(|key| key.since))?,
            false => joined?,
        };
        since.checked_add(deadline).ok().filter(|until| *until > self.now)
    }

    /// The process is as it should be: its files may have to be brought up to date for the next start.
    fn settle(&self, evidence: &Evidence, plan: &mut Plan) {
        let node = self.node();
        let keyring = self.followed.keyring();
        let wanted = rotation::issuer_to_sign(keyring, self.desired.issuer.as_str());
        if keyring.issuers.first().is_none_or(|issuer| issuer != wanted) && !self.followed.shared.leads {
            plan.wait(
                format!("for every kube-apiserver to accept issuer {wanted}, before this one signs as it"),
                WAITING_INTERVAL,
            );
        }
        let on_disk = node.verifying_keys.present().map(Vec::as_slice).unwrap_or_default();
        let lacks = self.keys.iter().any(|key| !on_disk.iter().any(|known| known.kid() == key.kid()));
        if lacks {
            plan.actions.extend(verifying_file(self.desired, node, self.keys));
        }
        if let Some(action) = signing_file(self.desired, node, &self.keys[0]) {
            plan.actions.push(action);
        }
        let Some(signing) = node.signing_key.present() else { return };
        if lacks {
            return;
        }
        // The standby may be on disk before the process has read it: what it has not read is nothing that it proves.
        let proven: Vec<PublicKey> = on_disk.iter().filter(|key| evidence.served.has(key.kid())).cloned().collect();
        if proven.len() == on_disk.len() {
            self.edit.prove(&Keys { signing, verifying: on_disk }, evidence, node, plan);
        }
        plan.next_check = plan.next_check.min(CHECK_INTERVAL);
    }
}

/// An idle look is not enough to restart an API server by; whether a closer one has to come first.
fn lacks_proof(evidence: &Evidence, plan: &mut Plan) -> bool {
    if evidence.started_at.is_some() {
        return false;
    }
    plan.look_closer = true;
    plan.wait("for a closer look at kube-apiserver", RESTART_INTERVAL);
    true
}
