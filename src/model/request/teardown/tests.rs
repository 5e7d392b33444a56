use super::*;
use crate::model::{
    keyring::{KeyringKey, Member, Origin, Revoke},
    plan::{BucketContent, RolesLeft},
    rotation::{
        fixtures::{self, OURS, at},
        found,
    },
};

const OLD: &str = "https://kubernetes.default.svc.cluster.local";
const WAIT: WantedTeardown = WantedTeardown { issuer: None, at_once: false, keeps_bucket: false };

fn keyring(issuers: &[&str]) -> Keyring {
    let key = KeyringKey { origin: Origin::Made, ..KeyringKey::adopted("signer", "", KeyState::Signing, at(0)) };
    let mut keyring = found("prod-1", OURS, key);
    keyring.issuers = issuers.iter().map(|issuer| (*issuer).to_owned()).collect();
    keyring.members = ["n1", "n2", "n3"].map(|node| Member { node: node.to_owned(), since: at(0) }).to_vec();
    keyring
}

fn ack(node: &str, issuers: &[&str]) -> Ack {
    let issuers = issuers.iter().map(|issuer| (*issuer).to_owned()).collect();
    Ack { issuers, ..fixtures::ack(node, "signer", &["signer"]) }
}

#[test]
fn cluster_goes_back_to_the_issuer_of_before_or_to_the_one_that_is_named() {
    let other = WantedTeardown { issuer: Some("https://other.example.com".to_owned()), ..WAIT };
    for (issuers, wanted, expected) in [
        (&[OURS, OLD, "https://older.example.com"][..], &WAIT, OLD),
        (&[OURS], &WAIT, "https://default.example.com"),
        (&[OURS, OLD], &other, "https://other.example.com"),
    ] {
        let before = Keyring { rotate_since: Some(at(1)), ..keyring(issuers) };
        let asked = teardown(&before, OURS, wanted, Some("https://default.example.com"), at(9)).expect("a teardown");
        assert_eq!(asked.teardown.as_ref().map(|teardown| teardown.issuer.as_str()), Some(expected));
        assert_eq!((asked.rotate_since, &asked.issuers), (None, &before.issuers), "the rollout changes the issuers");
        assert_eq!(cancel_teardown(&asked), Ok(Keyring { teardown: None, ..asked.clone() }));
    }
    assert_eq!(default_issuer("k8s.test"), "https://kubernetes.default.svc.k8s.test");
}

#[test]
fn issuer_that_nothing_tells_has_to_be_named() {
    let refused = teardown(&keyring(&[OURS]), OURS, &WAIT, None, at(9)).expect_err("a refusal");
    assert_eq!(
        refused.to_string(),
        "no issuer was there before irsad's, and kubeadm's cannot be told: ConfigMap kube-system/kubeadm-config could not be read (nothing \
         changed); name the one that is to sign: --issuer URL"
    );
    let named = WantedTeardown { issuer: Some(OLD.to_owned()), ..WAIT };
    for (issuers, wanted) in [(&[OURS, OLD][..], &WAIT), (&[OURS], &named)] {
        assert!(teardown(&keyring(issuers), OURS, wanted, None, at(9)).is_ok(), "{issuers:?}");
    }
}

#[test]
fn what_cannot_be_asked_for_is_refused_with_the_cure() {
    let plain = keyring(&[OURS, OLD]);
    let asked = teardown(&plain, OURS, &WAIT, Some(OLD), at(0)).expect("a teardown");
    let mut revoking = plain.clone();
    revoking.keys[0].revoke = Some(Revoke::Drain);
    let ours = WantedTeardown { issuer: Some(OURS.to_owned()), ..WAIT };
    let other = WantedTeardown { issuer: Some("https://other.example.com".to_owned()), ..WAIT };
    for (refused, expected) in [
        (
            teardown(&revoking, OURS, &WAIT, Some(OLD), at(0)),
            "key signer is being revoked (nothing changed); wait until every kube-apiserver refuses it: irsad status says how far it is",
        ),
        (
            teardown(&plain, OURS, &ours, Some(OLD), at(0)),
            "https://oidc.example.com is the issuer that irsad brought (nothing changed); name the one that is to sign in its place",
        ),
        (
            teardown(&asked, OURS, &other, Some(OLD), at(0)),
            "the cluster goes back to issuer https://kubernetes.default.svc.cluster.local already (nothing changed); irsad teardown --cancel \
             first, then ask for another one",
        ),
        (cancel_teardown(&plain), "no teardown is under way (nothing changed)"),
        (
            super::super::rotate(&asked, at(0)),
            "the cluster goes back to issuer https://kubernetes.default.svc.cluster.local (nothing changed): keys stay as they are until that \
             is done; irsad teardown --cancel ends it",
        ),
    ] {
        assert_eq!(refused.map_err(|error| error.to_string()), Err(expected.to_owned()));
    }
}

#[test]
fn asking_again_changes_only_what_may_still_change() {
    let asked = teardown(&keyring(&[OURS, OLD]), OURS, &WAIT, Some(OLD), at(0)).expect("a teardown");
    assert_eq!(teardown(&asked, OURS, &WAIT, Some(OLD), at(9)), Ok(asked.clone()));
    let hurry = WantedTeardown { at_once: true, keeps_bucket: true, issuer: Some(OLD.to_owned()) };
    let again = teardown(&asked, OURS, &hurry, Some(OLD), at(9)).expect("a teardown");
    let teardown_of = |keyring: &Keyring| keyring.teardown.clone().expect("a teardown");
    assert_eq!(
        (teardown_of(&again).at_once, teardown_of(&again).keeps_bucket, teardown_of(&again).since),
        (true, true, at(0))
    );
    let calm = teardown(&again, OURS, &WAIT, Some(OLD), at(10)).expect("a teardown");
    assert!(teardown_of(&calm).at_once, "what was asked for is not taken back by the way");
}

#[test]
fn progress_tells_what_is_done_and_who_is_to_go() {
    let policy = fixtures::policy();
    let asked = |issuers: &[&str]| teardown(&keyring(issuers), OURS, &WAIT, Some(OLD), at(0)).expect("a teardown");
    let acks = [ack("n1", &[OLD, OURS]), ack("n2", &[OURS, OLD]), ack("n3", &[OURS, OLD])];
    assert_eq!(
        teardown_progress(&asked(&[OLD, OURS]), &acks, &policy, at(0)),
        "1 of 3: 1 of 3 API servers sign as https://kubernetes.default.svc.cluster.local, n2, n3 to go"
    );
    let mut waiting = asked(&[OLD, OURS]);
    waiting.teardown.as_mut().expect("a teardown").signed_since = Some(at(0));
    assert_eq!(
        teardown_progress(&waiting, &acks, &policy, at(1)),
        "2 of 3: every kube-apiserver signs as https://kubernetes.default.svc.cluster.local; provider and documents go at 1970-01-02 00:05 \
         UTC, when the last token of ours has expired"
    );
    let removing = "3 of 3: webhook, provider, documents and bucket are being removed";
    assert_eq!(teardown_progress(&waiting, &acks, &policy, at(90_000)), removing);
}

#[test]
fn effect_names_restarts_and_what_is_ours_and_what_is_not() {
    let desired = crate::model::plan::desired_in_tests();
    let ours = desired.issuer.as_str();
    let before = keyring(&[ours, OLD]);
    let asked = teardown(&before, ours, &WAIT, Some(OLD), at(0)).expect("a teardown");
    let acks = [ack("n1", &[ours, OLD]), ack("n2", &[ours, OLD]), ack("n3", &[ours])];
    let content = |is_ours| BucketContent { is_ours, objects: Vec::new(), policy: Probe::Absent };
    let provider = |is_ours| ProviderFacts { audiences: Vec::new(), is_ours };
    let found = |is_ours| TeardownFacts {
        provider: Some(Probe::Present(provider(is_ours))),
        bucket: Some(Probe::Present(content(is_ours))),
        pointing: Probe::Absent,
        roles: Some(Probe::Present(RolesLeft::default())),
        removes_roles: true,
        held: Probe::Absent,
    };
    let said = teardown_effect(&asked, &acks, &desired, &found(true)).join("\n");
    for part in [
        "kube-apiserver of n1, n2 restarts once, one node after the other, to sign as https://kubernetes.default.svc.cluster.local",
        "kube-apiserver of n3 restarts twice",
        "provider and documents go 1d",
        "the IAM OIDC provider of https://prod-1-oidc.s3.eu-west-1.amazonaws.com is deleted",
        "bucket prod-1-oidc is deleted last, if it is empty",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    let said = teardown_effect(&asked, &acks, &desired, &found(false)).join("\n");
    for part in
        ["is not irsad's and stays: delete it before its bucket", "bucket prod-1-oidc stays: irsad did not make it"]
    {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    let by_path = "arn:aws:iam::123456789012:oidc-provider/s3.eu-west-1.amazonaws.com/prod-1-oidc".to_owned();
    for (pointing, expected) in [
        (
            Probe::Present(vec![by_path]),
            "bucket prod-1-oidc stays: the issuer of IAM OIDC provider \
             arn:aws:iam::123456789012:oidc-provider/s3.eu-west-1.amazonaws.com/prod-1-oidc lies in it",
        ),
        (
            Probe::Unknown("AWS is away".to_owned()),
            "bucket prod-1-oidc stays until it can be asked who else points at it: AWS is away",
        ),
    ] {
        let said = teardown_effect(&asked, &acks, &desired, &TeardownFacts { pointing, ..found(true) }).join("\n");
        assert!(said.contains(expected), "{expected:?} is missing in {said}");
    }
    let left = |others: &[&str]| {
        let others = others.iter().map(|name| (*name).to_owned()).collect();
        Some(Probe::Present(RolesLeft { ours: Vec::new(), others }))
    };
    for (removes_roles, roles, expected) in [
        (true, left(&["theirs"]), "IAM roles theirs stay: they lack irsad's tags"),
        (
            false,
            left(&["checkout"]),
            "IAM roles below /irsad/prod-1/ stay, because roles.mode is none: checkout; to have irsad remove",
        ),
        (
            false,
            Some(Probe::Unknown("forbidden".to_owned())),
            "IAM roles below /irsad/prod-1/ may be left (roles.mode is none, and they could not be listed: forbidden); aws iam list-roles \
             --path-prefix /irsad/prod-1/ names them",
        ),
    ] {
        let said = teardown_effect(&asked, &acks, &desired, &TeardownFacts { roles, removes_roles, ..found(true) });
        assert!(said.iter().any(|what| what.starts_with(expected)), "{expected:?} is missing in {said:?}");
    }
}
