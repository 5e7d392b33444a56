//! What the API server proved is remembered, and put back before kubelet starts it again.
//!
//! kops' nodeup writes the manifest anew on every boot, `kubeadm upgrade` may have done so just before one, and a file that was
//! not flushed may be empty after a power cut. While nothing runs, mending costs no restart; and it needs no network, because
//! only what the API server has proven before is put back.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{Action, Desired, Evidence, KeyKeeping, NodeFacts, Plan, RestartPolicy, keys::Keys, kops};
use crate::model::{
    file::{Digest, ExpectedFile},
    key::PublicKey,
    manifest::{self, APPLIED_ANNOTATION, Manifest},
    memory::{self, Change, Proven, RefusedChange, Version1},
    probe::{Probe, sentence},
};

/// Keeps what the running API server proves: it is ready and runs with the flags and keys that the files hold.
pub(super) fn remember(
    desired: &Desired,
    (found, digest): (&Manifest, &Digest),
    keys: &Keys<'_>,
    node: &NodeFacts,
    plan: &mut Plan,
) {
    match (&node.proven, desired.restart) {
        (Probe::Unknown(why), _) => plan.notices.push(why.clone()),
        (Probe::Present(proven), RestartPolicy::Never) => plan.actions.push(Action::ForgetProven(proven.clone())),
        (Probe::Absent, RestartPolicy::Never) => {}
        (known, RestartPolicy::Rolling | RestartPolicy::Opportunistic) => {
            let proven = Proven {
                version: Version1,
                manifest: desired.manifest.clone(),
                manifest_digest: digest.to_string(),
                issuers: found.issuers().to_vec(),
                jwks_uri: desired.jwks_uri(),
                api_audiences: found.api_audiences().map(<[String]>::to_vec),
                applied: found.annotation(APPLIED_ANNOTATION).map(str::to_owned),
                signing_key: desired.signing_key.clone(),
                signing_kid: keys.signing.kid().to_string(),
                verifying_keys: desired.verifying_keys.clone(),
                kids: kids(keys.verifying),
                keeps_keys: desired.keys == KeyKeeping::Manage,
            };
            if known.present() != Some(&proven) {
                plan.actions.push(Action::RememberProven { proven, manifest: found.text().to_owned() });
            }
        }
    }
}

/// Whether a process shows by a token that it signs as `issuer` with the key of the file: an idle look asks for none.
pub(super) fn is_proof(evidence: &Evidence, issuer: &str, keys: &Keys<'_>) -> bool {
    let token = evidence.probe_token.present();
    token.is_some_and(|token| token.issuer == issuer && token.kid == keys.signing.kid().as_str())
        && keys.verifying.iter().all(|key| evidence.served.has(key.kid()))
}

/// Whether what a manifest of this digest proves would be remembered, and is not yet.
pub(super) fn lacks_proof(desired: &Desired, digest: &Digest, node: &NodeFacts) -> bool {
    let is_known = match &node.proven {
        Probe::Present(proven) => proven.manifest_digest == digest.to_string(),
        Probe::Absent => false,
        Probe::Unknown(_) => true,
    };
    !is_known && desired.restart != RestartPolicy::Never
}

/// A file that has a proven copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState<T> {
    /// Not there.
    Absent,
    /// Empty, nothing but NUL bytes, or only the beginning of the proven copy: a write that a power cut has torn.
    Torn(Digest),
    /// As it was read.
    Whole(T, Digest),
    /// Could not be read or is not understood.
    Unknown(String),
}

/// What this node's memory and files say before kubelet starts.
#[derive(Debug, Clone)]
pub struct RestoreFacts {
    /// What the API server proved last.
    pub proven: Probe<Proven>,
    /// A change that was not proven yet.
    pub change: Probe<Change>,
    /// A change that failed or that somebody has undone.
    pub refused: Probe<RefusedChange>,
    /// A process that may use or write the files right now.
    pub running: Option<String>,
    /// The manifest.
    pub manifest: FileState<Manifest>,
    /// Its proven copy.
    pub manifest_copy: Probe<Digest>,
    /// Public half of the key in the signing key file.
    pub signing_key: FileState<PublicKey>,
    /// Its proven copy.
    pub signing_copy: Probe<PublicKey>,
    /// Keys of the verification file.
    pub verifying_keys: FileState<Vec<PublicKey>>,
    /// Its proven copy.
    pub verifying_copy: Probe<Vec<PublicKey>>,
}

/// What is put back, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restoration {
    /// In order; stopping after any one leaves a node that is no worse.
    pub put_back: Vec<PutBack>,
    /// What a person has to do.
    pub needs_a_person: Vec<String>,
    /// Why nothing more is done, where that is as it should be.
    pub notices: Vec<String>,
}

/// One file that is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub content: Content,
    /// What must still be in its place.
    pub expected: ExpectedFile,
    /// Permission bits; `None`: those of the file that is replaced.
    pub mode: Option<u32>,
    /// Why, for the journal.
    why: &'static str,
}

/// Bytes to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Those of a proven copy.
    CopyOf(PathBuf),
    /// A manifest, edited.
    Text(String),
}

impl fmt::Display for PutBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::CopyOf(copy) => {
                write!(f, "put back {} from {}: {}", self.path.display(), copy.display(), self.why)
            }
            Content::Text(_) => write!(f, "put our flags back into {}: {}", self.path.display(), self.why),
        }
    }
}

/// What to put back before kubelet starts.
pub fn restore(facts: &RestoreFacts) -> Restoration {
    let mut outcome = Restoration::default();
    let proven = match &facts.proven {
        Probe::Present(proven) => proven,
        Probe::Absent => {
            outcome.notices.push("nothing to put back: kube-apiserver of this node has proven nothing yet".to_owned());
            return outcome;
        }
        Probe::Unknown(why) => {
            outcome.needs_a_person.push(why.clone());
            return outcome;
        }
    };
    if let Some(name) = &facts.running {
        outcome.notices.push(format!("nothing put back: {name} runs, and irsad run looks after a node that is up"));
        return outcome;
    }
    if facts.manifest == FileState::Absent {
        let path = proven.manifest.display();
        outcome.notices.push(format!("nothing put back: there is no {path}, as after kubeadm reset"));
        return outcome;
    }
    if proven.keeps_keys {
        restore_keys(facts, proven, &mut outcome);
    }
    restore_manifest(facts, proven, &mut outcome);
    outcome
}

/// Key files that are gone or torn. One with another key in it is somebody's will: the daemon tells what it means. The public
/// half first: stopping in between leaves no key that signs and is not accepted.
fn restore_keys(facts: &RestoreFacts, proven: &Proven, outcome: &mut Restoration) {
    if !stays_a_pair(facts, proven) {
        return outcome.needs_a_person.push(format!(
            "one of {} and {} was replaced and the other is missing or incomplete, and what kube-apiserver proved is no pair with the \
             new one (nothing written): put the missing half of the new key there",
            proven.signing_key.display(),
            proven.verifying_keys.display()
        ));
    }
    // Keys of other files that the manifest names come after those of this one.
    let verifying_copy = facts.verifying_copy.present().map(|keys| kids(keys));
    let verifying_copy = verifying_copy.is_some_and(|copy| !copy.is_empty() && proven.kids.starts_with(&copy));
    restore_copy(&facts.verifying_keys, &proven.verifying_keys, verifying_copy, Some(0o644), outcome);
    let signing_copy = facts.signing_copy.present().is_some_and(|key| key.kid().as_str() == proven.signing_kid);
    restore_copy(&facts.signing_key, &proven.signing_key, signing_copy, Some(0o600), outcome);
}

/// Whether the half that is put back fits the one that is there: else kube-apiserver would refuse the tokens that it signs.
fn stays_a_pair(facts: &RestoreFacts, proven: &Proven) -> bool {
    let accepted = |kid: &str, keys: &[PublicKey]| keys.iter().any(|key| key.kid().as_str() == kid);
    match (&facts.signing_key, &facts.verifying_keys) {
        (FileState::Whole(key, _), FileState::Absent | FileState::Torn(_)) => {
            facts.verifying_copy.present().is_none_or(|copy| accepted(key.kid().as_str(), copy))
        }
        (FileState::Absent | FileState::Torn(_), FileState::Whole(keys, _)) => accepted(&proven.signing_kid, keys),
        (FileState::Whole(..) | FileState::Unknown(_), FileState::Whole(..) | FileState::Unknown(_))
        | (FileState::Absent | FileState::Torn(_), FileState::Absent | FileState::Torn(_) | FileState::Unknown(_))
        | (FileState::Unknown(_), FileState::Absent | FileState::Torn(_)) => true,
    }
}

/// Puts the copy back where the file is gone or torn.
fn restore_copy<T>(
    state: &FileState<T>,
    path: &Path,
    copy_is_proven: bool,
    mode: Option<u32>,
    outcome: &mut Restoration,
) {
    let (expected, why) = match state {
        FileState::Absent => (ExpectedFile::Absent, "it was missing"),
        FileState::Torn(digest) => (ExpectedFile::Unchanged(digest.clone()), "a power cut left it incomplete"),
        FileState::Whole(..) => return,
        FileState::Unknown(why) => return outcome.needs_a_person.push(why.clone()),
    };
    if copy_is_proven {
        let content = Content::CopyOf(memory::proven(path));
        outcome.put_back.push(PutBack { path: path.to_owned(), content, expected, mode, why });
    } else {
        outcome.needs_a_person.push(format!(
            "{} is not as kube-apiserver proved it ({why}), and {} has no copy of that (nothing written); put it back from a backup",
            path.display(),
            memory::PROVEN_FILES
        ));
    }
}

fn restore_manifest(facts: &RestoreFacts, proven: &Proven, outcome: &mut Restoration) {
    let path = &proven.manifest;
    match &facts.change {
        Probe::Absent => {}
        // Its own record says what may follow, and the daemon follows it.
        Probe::Present(change) => {
            outcome.notices.push(format!("{} is left as change {} has it", path.display(), change.applied));
            return;
        }
        Probe::Unknown(why) => return outcome.needs_a_person.push(why.clone()),
    }
    match &facts.refused {
        // Nobody would roll it back here.
        Probe::Present(refused) if proven.applied.as_ref().is_none_or(|applied| *applied == refused.applied) => {
            let said =
                format!("{} is left as it is: change {} failed ({})", path.display(), refused.applied, refused.reason);
            return match facts.manifest {
                FileState::Whole(..) | FileState::Absent => outcome.notices.push(said),
                FileState::Torn(_) | FileState::Unknown(_) => outcome.needs_a_person.push(said),
            };
        }
        Probe::Present(_) | Probe::Absent => {}
        Probe::Unknown(why) => return outcome.needs_a_person.push(why.clone()),
    }
    if let FileState::Whole(found, digest) = &facts.manifest {
        return restore_flags(facts, proven, (found, digest), outcome);
    }
    let copy_is_proven = facts.manifest_copy.present().is_some_and(|copy| copy.0 == proven.manifest_digest);
    restore_copy(&facts.manifest, path, copy_is_proven, None, outcome);
}

/// Somebody wrote the manifest anew: only our flags are put back into it.
fn restore_flags(facts: &RestoreFacts, proven: &Proven, found: (&Manifest, &Digest), outcome: &mut Restoration) {
    let (manifest, digest) = found;
    let ours = proven.issuers.first().map(String::as_str).unwrap_or_default();
    if let Some(issuer) = kops::its_issuer(manifest, ours) {
        let path = proven.manifest.display();
        outcome
            .notices
            .push(format!("{path} is left as kops wrote it: kops publishes the documents of {issuer} itself"));
        return;
    }
    let (wanted, why) = match signs_with_the_proven_key(facts, proven, manifest) {
        true => (proven_flags(proven, manifest), "it was written anew without them"),
        // What signs now may not be public yet, so it does not sign as us; tokens that are out stay accepted.
        false => {
            (accepting(proven, manifest), "its signing key is another one, so our issuer is accepted and does not sign")
        }
    };
    // Who writes our flags himself (kops from its cluster spec, kubeadm upgrade) shall find his file as he left it.
    if manifest.has_flags(&wanted) {
        return;
    }
    match manifest.with(&wanted) {
        Ok(edited) => outcome.put_back.push(PutBack {
            path: proven.manifest.clone(),
            content: Content::Text(edited.text().to_owned()),
            expected: ExpectedFile::Unchanged(digest.clone()),
            mode: None,
            why,
        }),
        Err(error) => outcome.needs_a_person.push(format!("{}: {}", proven.manifest.display(), sentence(&error))),
    }
}

fn signs_with_the_proven_key(facts: &RestoreFacts, proven: &Proven, manifest: &Manifest) -> bool {
    let reads_our_file = manifest.signing_key_file() == proven.signing_key.to_str();
    let holds_our_key = match &facts.signing_key {
        FileState::Whole(key, _) => key.kid().as_str() == proven.signing_kid,
        // It is put back, or a person is told.
        FileState::Absent | FileState::Torn(_) => proven.keeps_keys,
        FileState::Unknown(_) => false,
    };
    reads_our_file && holds_our_key
}

fn proven_flags(proven: &Proven, manifest: &Manifest) -> manifest::Desired {
    let audiences = proven.api_audiences.as_ref().map(|audiences| {
        // Without the flag kube-apiserver takes its issuers as audiences.
        joined(audiences, manifest.api_audiences().unwrap_or_else(|| manifest.issuers()))
    });
    manifest::Desired {
        issuers: joined(&proven.issuers, manifest.issuers()),
        jwks_uri: Some(proven.jwks_uri.clone()),
        api_audiences: audiences,
        applied: proven.applied.clone(),
    }
}

fn accepting(proven: &Proven, manifest: &Manifest) -> manifest::Desired {
    let issuers = joined(manifest.issuers(), &proven.issuers);
    manifest::Desired { issuers, jwks_uri: None, api_audiences: None, applied: None }
}

/// `first`, then what only `second` has.
pub(super) fn joined(first: &[String], second: &[String]) -> Vec<String> {
    first.iter().chain(second.iter().filter(|one| !first.contains(one))).cloned().collect()
}

fn kids(keys: &[PublicKey]) -> Vec<String> {
    keys.iter().map(|key| key.kid().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = include_str!("../../../tests/fixtures/keys/three-rsa-2048.pub");
    const KUBEADM: &str = include_str!("../../../tests/fixtures/kubeadm-1.36.3/default.yaml");
    const OURS: &str = "https://prod-1-oidc.s3.eu-west-1.amazonaws.com";
    const OLD: &str = "https://kubernetes.default.svc.cluster.local";
    const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

    fn key(number: usize) -> PublicKey {
        PublicKey::read_all(KEYS.as_bytes()).expect("three keys")[number].clone()
    }

    fn whole(text: &str) -> FileState<Manifest> {
        FileState::Whole(Manifest::parse(text.as_bytes()).expect("a manifest"), Digest::of(text.as_bytes()))
    }

    fn torn<T>() -> FileState<T> {
        FileState::Torn(Digest::of(b""))
    }

    /// A kubeadm manifest with `issuers` and, where ours is first, with what the API server proved.
    fn manifest(issuers: &[&str]) -> String {
        let wanted = manifest::Desired {
            issuers: issuers.iter().map(|issuer| (*issuer).to_owned()).collect(),
            jwks_uri: (issuers[0] == OURS).then(|| format!("{OURS}/openid/v1/jwks")),
            api_audiences: None,
            applied: (issuers[0] == OURS).then(|| "1-0123456789ab".to_owned()),
        };
        let kubeadm = Manifest::parse(KUBEADM.as_bytes()).expect("a manifest");
        kubeadm.with(&wanted).expect("an edit").text().to_owned()
    }

    fn proven() -> Proven {
        Proven {
            version: Version1,
            manifest: MANIFEST.into(),
            manifest_digest: Digest::of(manifest(&[OURS, OLD]).as_bytes()).to_string(),
            issuers: vec![OURS.to_owned(), OLD.to_owned()],
            jwks_uri: format!("{OURS}/openid/v1/jwks"),
            api_audiences: None,
            applied: Some("1-0123456789ab".to_owned()),
            signing_key: "/etc/kubernetes/pki/sa.key".into(),
            signing_kid: key(0).kid().to_string(),
            verifying_keys: "/etc/kubernetes/pki/sa.pub".into(),
            kids: vec![key(0).kid().to_string(), key(1).kid().to_string()],
            keeps_keys: true,
        }
    }

    /// A node that is as its API server proved it.
    fn facts() -> RestoreFacts {
        let digest = Digest::of(b"keys");
        RestoreFacts {
            proven: Probe::Present(proven()),
            change: Probe::Absent,
            refused: Probe::Absent,
            running: None,
            manifest: whole(&manifest(&[OURS, OLD])),
            manifest_copy: Probe::Present(Digest(proven().manifest_digest)),
            signing_key: FileState::Whole(key(0), digest.clone()),
            signing_copy: Probe::Present(key(0)),
            verifying_keys: FileState::Whole(vec![key(0), key(1)], digest),
            verifying_copy: Probe::Present(vec![key(0), key(1)]),
        }
    }

    fn change() -> Change {
        serde_json::from_str(include_str!("../../../tests/fixtures/formats/change-v1.json")).expect("a change")
    }

    fn sentences(outcome: &Restoration) -> Vec<String> {
        let done = outcome.put_back.iter().map(ToString::to_string);
        done.chain(outcome.needs_a_person.iter().cloned()).chain(outcome.notices.iter().cloned()).collect()
    }

    /// The text that the manifest gets.
    fn new_text(outcome: &Restoration) -> &str {
        match outcome.put_back.as_slice() {
            [PutBack { content: Content::Text(text), .. }] => text,
            other => panic!("{other:?} is not one edit"),
        }
    }

    #[test]
    fn node_that_is_as_proven_is_left_alone() {
        assert_eq!(restore(&facts()), Restoration::default());
    }

    #[test]
    fn manifest_written_anew_gets_back_what_was_proven_and_keeps_what_is_new() {
        let mut facts = facts();
        let anew = manifest(&[OLD]).replace("v1.36.3", "v1.36.4");
        facts.manifest = whole(&anew);
        let outcome = restore(&facts);
        assert_eq!(new_text(&outcome), manifest(&[OURS, OLD]).replace("v1.36.3", "v1.36.4"));
        assert_eq!(
            sentences(&outcome),
            [format!("put our flags back into {MANIFEST}: it was written anew without them")]
        );
        assert_eq!(outcome.put_back[0].expected, ExpectedFile::Unchanged(Digest::of(anew.as_bytes())));
    }

    #[test]
    fn manifest_that_somebody_wrote_with_our_flags_is_left_as_it_is() {
        let mut facts = facts();
        facts.manifest = whole(&manifest(&[OURS, OLD]).replace("irsad/applied: ", "another/annotation: "));
        assert_eq!(restore(&facts), Restoration::default());
    }

    #[test]
    fn issuer_that_somebody_added_stays_accepted() {
        let mut facts = facts();
        facts.manifest = whole(&manifest(&["https://new.example", OLD]));
        let restored = Manifest::parse(new_text(&restore(&facts)).as_bytes()).expect("a manifest");
        assert_eq!(restored.issuers(), [OURS, OLD, "https://new.example"]);
    }

    #[test]
    fn manifest_of_a_kops_that_publishes_itself_is_left_as_it_is() {
        let bucket = "https://discovery.s3.eu-west-1.amazonaws.com/prod-1.example.com";
        let mut facts = facts();
        let kubeadm = manifest(&[bucket, OLD]);
        facts.manifest =
            whole(&kubeadm.replace("/etc/kubernetes/pki/sa.", "/srv/kubernetes/kube-apiserver/service-account."));
        let expected = format!("{MANIFEST} is left as kops wrote it: kops publishes the documents of {bucket} itself");
        assert_eq!(sentences(&restore(&facts)), [expected]);
    }

    #[test]
    fn audiences_that_were_proven_come_back_and_none_in_use_leaves() {
        let mut facts = facts();
        let audiences = vec!["sts.amazonaws.com".to_owned()];
        facts.proven = Probe::Present(Proven { api_audiences: Some(audiences), ..proven() });
        facts.manifest = whole(&manifest(&[OLD]));
        let restored = Manifest::parse(new_text(&restore(&facts)).as_bytes()).expect("a manifest");
        assert_eq!(restored.api_audiences(), Some(&["sts.amazonaws.com".to_owned(), OLD.to_owned()][..]));
    }

    #[test]
    fn another_signing_key_never_signs_as_us_and_our_tokens_stay_accepted() {
        let other = FileState::Whole(key(2), Digest::of(b"other"));
        let elsewhere = manifest(&[OLD])
            .replace("signing-key-file=/etc/kubernetes/pki/sa.key", "signing-key-file=/etc/kubernetes/pki/other.key");
        for (signing_key, text) in [(other, manifest(&[OLD])), (facts().signing_key, elsewhere)] {
            let facts = RestoreFacts { signing_key, manifest: whole(&text), ..facts() };
            let restored = Manifest::parse(new_text(&restore(&facts)).as_bytes()).expect("a manifest");
            assert_eq!(restored.issuers(), [OLD, OURS]);
            assert_eq!(restored.jwks_uri(), None);
        }
    }

    #[test]
    fn missing_or_torn_key_file_comes_back_public_half_first() {
        let mut facts = facts();
        (facts.signing_key, facts.verifying_keys) = (FileState::Absent, torn());
        let outcome = restore(&facts);
        assert_eq!(
            sentences(&outcome),
            [
                "put back /etc/kubernetes/pki/sa.pub from /var/lib/irsad/proven/sa.pub: a power cut left it incomplete",
                "put back /etc/kubernetes/pki/sa.key from /var/lib/irsad/proven/sa.key: it was missing",
            ]
        );
        let modes: Vec<_> = outcome.put_back.iter().map(|file| file.mode).collect();
        assert_eq!(modes, [Some(0o644), Some(0o600)]);
    }

    #[test]
    fn key_files_of_somebody_else_are_never_written() {
        let mut facts = facts();
        facts.proven = Probe::Present(Proven { keeps_keys: false, ..proven() });
        (facts.signing_key, facts.verifying_keys) = (FileState::Absent, FileState::Absent);
        assert_eq!(restore(&facts), Restoration::default());
    }

    #[test]
    fn copy_that_is_not_what_was_proven_is_not_put_back() {
        let mut facts = facts();
        (facts.signing_key, facts.signing_copy) = (FileState::Absent, Probe::Present(key(2)));
        let outcome = restore(&facts);
        assert_eq!(outcome.put_back, []);
        assert_eq!(
            outcome.needs_a_person,
            [
                "/etc/kubernetes/pki/sa.key is not as kube-apiserver proved it (it was missing), and /var/lib/irsad/proven has no copy of \
              that (nothing written); put it back from a backup"
            ]
        );
    }

    #[test]
    fn torn_manifest_comes_back_and_a_missing_one_does_not() {
        let mut facts = facts();
        facts.manifest = torn();
        assert_eq!(
            sentences(&restore(&facts)),
            [format!(
                "put back {MANIFEST} from /var/lib/irsad/proven/kube-apiserver.yaml: a power cut left it incomplete"
            )]
        );
        (facts.manifest, facts.signing_key) = (FileState::Absent, FileState::Absent);
        assert_eq!(
            sentences(&restore(&facts)),
            [format!("nothing put back: there is no {MANIFEST}, as after kubeadm reset")]
        );
    }

    #[test]
    fn nothing_is_written_while_something_runs_or_without_a_proof() {
        let mut facts = facts();
        (facts.manifest, facts.signing_key) = (whole(&manifest(&[OLD])), FileState::Absent);
        let with = |change: fn(&mut RestoreFacts)| {
            let mut facts = facts.clone();
            change(&mut facts);
            let outcome = restore(&facts);
            assert_eq!(outcome.put_back, []);
            sentences(&outcome)
        };
        assert_eq!(
            with(|facts| facts.running = Some("kubelet".to_owned())),
            ["nothing put back: kubelet runs, and irsad run looks after a node that is up"]
        );
        assert_eq!(
            with(|facts| facts.proven = Probe::Absent),
            ["nothing to put back: kube-apiserver of this node has proven nothing yet"]
        );
        assert_eq!(with(|facts| facts.proven = Probe::Unknown("no JSON".to_owned())), ["no JSON"]);
    }

    #[test]
    fn manifest_of_an_open_change_is_left_to_the_daemon() {
        let mut facts = facts();
        facts.manifest = whole(&manifest(&[OLD]));
        facts.change = Probe::Present(change());
        assert_eq!(sentences(&restore(&facts)), [format!("{MANIFEST} is left as change 1-0123456789ab has it")]);
        facts.change = Probe::Unknown("no JSON".to_owned());
        assert_eq!(sentences(&restore(&facts)), ["no JSON"]);
    }

    #[test]
    fn change_that_failed_or_was_undone_does_not_come_back_by_a_boot() {
        let refused: RefusedChange =
            serde_json::from_str(include_str!("../../../tests/fixtures/formats/refused-change-v1.json"))
                .expect("a refusal");
        let applied = refused.applied.clone();
        for (known, text) in [(Some(applied.clone()), manifest(&[OLD])), (None, manifest(&[OLD]))] {
            let mut facts = RestoreFacts { refused: Probe::Present(refused.clone()), ..facts() };
            facts.proven = Probe::Present(Proven { applied: known, ..proven() });
            facts.manifest = whole(&text);
            assert_eq!(restore(&facts).put_back, []);
            facts.manifest = torn();
            let outcome = restore(&facts);
            assert_eq!((outcome.put_back.len(), outcome.needs_a_person.len()), (0, 1));
        }
        let mut another = RestoreFacts { refused: Probe::Present(refused), ..facts() };
        another.proven = Probe::Present(Proven { applied: Some("1-ffffffffffff".to_owned()), ..proven() });
        another.manifest = whole(&manifest(&[OLD]));
        assert_eq!(restore(&another).put_back.len(), 1, "the refusal of another change holds this one up");
    }

    #[test]
    fn half_of_the_old_pair_never_joins_half_of_a_new_one() {
        let digest = Digest::of(b"new");
        let new_key =
            RestoreFacts { signing_key: FileState::Whole(key(2), digest.clone()), verifying_keys: torn(), ..facts() };
        let new_public =
            RestoreFacts { signing_key: torn(), verifying_keys: FileState::Whole(vec![key(2)], digest), ..facts() };
        for facts in [new_key, new_public] {
            let outcome = restore(&facts);
            assert!(outcome.put_back.iter().all(|file| file.path == Path::new(MANIFEST)), "{outcome:?}");
            assert_eq!(outcome.needs_a_person.len(), 1, "{outcome:?}");
        }
    }

    #[test]
    fn keys_of_a_second_verification_file_do_not_keep_the_first_from_coming_back() {
        let mut kids = proven().kids;
        kids.push(key(2).kid().to_string());
        let proven = Probe::Present(Proven { kids, ..proven() });
        let outcome = restore(&RestoreFacts { proven, verifying_keys: torn(), ..facts() });
        assert_eq!((outcome.put_back.len(), outcome.needs_a_person.len()), (1, 0), "{outcome:?}");
    }
}
