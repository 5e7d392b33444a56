//! The way back to the issuer of before, for one node and for several.

mod held_back;

use super::super::*;
use super::world::{DAY, Fleet};
use crate::model::{
    checks::{self, Outcome},
    request::{self, WantedTeardown},
};

pub(super) const WAIT: WantedTeardown = WantedTeardown { issuer: None, at_once: false, keeps_bucket: false };

impl Fleet {
    /// An adopted cluster with a provider of its own.
    pub(super) fn with_provider(count: usize) -> Self {
        let mut fleet = Self::of_kubeadm(count);
        fleet.desired.provider = desired().provider;
        fleet.settle();
        fleet.nodes.iter_mut().for_each(|node| node.restarts = 0);
        assert!(fleet.provider.is_some() && fleet.bucket_is_ours);
        fleet
    }

    pub(super) fn ask(&mut self, wanted: &WantedTeardown) {
        let asked = request::teardown(&self.state(), OURS, wanted, Some(OLD), self.now).expect("a teardown");
        let bytes = self.keyring.clone().expect("a keyring");
        let version = self.version.to_string();
        assert!(self.put_keyring(&asked.next(&bytes), Some(&version)).is_ok());
    }

    /// Waits as long as the last token may live.
    fn outlive(&mut self) {
        self.settle();
        self.pass_time(2 * DAY);
        self.settle();
    }

    fn is_looked_after(&self, number: usize) -> bool {
        is_looked_after(&self.desired, &self.facts(number), self.now)
    }

    fn assert_torn_down(&self) {
        assert_eq!((self.keyring.is_some(), self.acks.len(), &self.provider), (false, 0, &None), "{:?}", self.waits());
        for node in &self.nodes {
            assert!(node.torn_down.is_some() && node.proven.is_none(), "{}", node.name);
            let manifest = node.manifest.clone().expect("a manifest");
            let parsed = Manifest::parse(manifest.as_bytes()).expect("a manifest");
            assert_eq!((parsed.issuers(), parsed.jwks_uri()), (&[OLD.to_owned(), OURS.to_owned()][..], None));
            assert!(!manifest.contains("irsad"), "{manifest}");
        }
    }
}

#[test]
fn cluster_goes_back_with_one_restart_a_node_and_nothing_of_ours_is_left() {
    for count in [1, 3] {
        let mut fleet = Fleet::with_provider(count);
        fleet.ask(&WAIT);
        fleet.settle();
        assert!(fleet.provider.is_some() && !fleet.objects.is_empty(), "tokens of ours live");
        assert!((0..count).all(|number| fleet.is_looked_after(number)), "and need both");
        fleet.pass_time(2 * DAY);
        assert!(!(0..count).any(|number| fleet.is_looked_after(number)), "it is time to remove them");
        fleet.settle();
        fleet.assert_torn_down();
        assert!(!(0..count).any(|number| fleet.is_looked_after(number)), "they are gone");
        assert_eq!((fleet.restarts(), fleet.waits()), (vec![1; count], Vec::new()));
        assert_eq!((&fleet.bucket, fleet.objects.len()), (&None, 0));
        let config = KubeadmConfig::parse(fleet.kubeadm_config.as_bytes()).expect("a configuration");
        assert_eq!(config.api_server_arg("service-account-issuer"), [OLD, OURS]);
        assert_eq!(config.api_server_arg("service-account-jwks-uri"), [""; 0]);
        fleet.pass_time(30 * DAY);
        assert!(fleet.rounds(3), "somebody still does something");
        fleet.assert_torn_down();
    }
}

#[test]
fn teardown_that_is_stopped_after_any_action_of_any_node_comes_to_the_same_end() {
    for most in 1..4 {
        let mut fleet = Fleet::with_provider(3);
        fleet.ask(&WAIT);
        for after in [0, 2 * DAY] {
            fleet.pass_time(after);
            for round in 0..300_usize {
                for (number, node) in fleet.nodes.iter_mut().enumerate() {
                    node.leads = (round / 3) % 3 == number || round % 5 == number;
                }
                fleet.pass(round * 7 % 3, most);
                fleet.pass_time(7);
            }
        }
        fleet.nodes.iter_mut().for_each(|node| node.leads = node.name == "n3");
        fleet.outlive();
        fleet.assert_torn_down();
        assert_eq!((fleet.restarts(), &fleet.bucket), (vec![1; 3], &None), "{most} actions a pass");
    }
}

#[test]
fn issuer_that_no_api_server_accepts_yet_is_accepted_everywhere_first() {
    let mut fleet = Fleet::with_provider(3);
    fleet.ask(&WantedTeardown { issuer: Some("https://other.example.com".to_owned()), ..WAIT });
    fleet.outlive();
    assert_eq!((fleet.restarts(), fleet.waits()), (vec![2; 3], Vec::new()));
    assert!(fleet.nodes.iter().all(|node| node.torn_down.is_some()));
}

#[test]
fn teardown_at_once_waits_for_the_api_servers_and_for_no_token() {
    let mut fleet = Fleet::with_provider(3);
    fleet.gives_up_outside = true;
    fleet.ask(&WantedTeardown { at_once: true, ..WAIT });
    fleet.settle();
    fleet.assert_torn_down();
}

#[test]
fn what_is_not_ours_stays_and_is_named() {
    type Change = fn(&mut Fleet);
    let cases: [(Change, bool, &str); 5] = [
        (
            |fleet| fleet.bucket_is_ours = false,
            false,
            "bucket prod-1-oidc stays: it lacks the tag irsad/cluster=prod-1",
        ),
        (
            |fleet| fleet.others_objects = vec!["theirs".to_owned()],
            false,
            "bucket prod-1-oidc stays: it holds what is not irsad's: theirs",
        ),
        (
            |fleet| fleet.provider.as_mut().expect("a provider").is_ours = false,
            true,
            "the IAM OIDC provider of https://prod-1-oidc.s3.eu-west-1.amazonaws.com stays: it is not irsad's",
        ),
        (
            |fleet| fleet.desired.bucket.as_mut().expect("a bucket").create = false,
            false,
            "bucket prod-1-oidc stays: issuer.createBucket is false, so it is yours",
        ),
        (
            |fleet| fleet.ask(&WantedTeardown { keeps_bucket: true, ..WAIT }),
            false,
            "bucket prod-1-oidc stays: irsad teardown --keep-bucket",
        ),
    ];
    for (change, provider_stays, expected) in cases {
        let mut fleet = Fleet::with_provider(2);
        change(&mut fleet);
        fleet.ask(&WAIT);
        fleet.outlive();
        assert!(fleet.bucket.is_some() && fleet.objects.is_empty(), "{expected}");
        assert_eq!((fleet.provider.is_some(), fleet.waits()), (provider_stays, Vec::new()), "{expected}");
        let remains = fleet.nodes[1].torn_down.as_ref().expect("torn down").remains.clone();
        assert!(remains.iter().any(|what| what.starts_with(expected)), "{remains:?}");
    }
}

#[test]
fn provider_that_cannot_be_looked_at_keeps_the_bucket_and_the_keyring() {
    let mut fleet = Fleet::with_provider(1);
    fleet.ask(&WAIT);
    fleet.settle();
    fleet.pass_time(2 * DAY);
    let mut facts = fleet.facts(0);
    facts.teardown.as_mut().expect("a look").provider = Some(Probe::Unknown("AWS is away".to_owned()));
    let plan = plan(&fleet.desired, &facts, fleet.now);
    let acts: Vec<&str> = plan.actions.iter().map(Action::name).filter(|name| *name != "acknowledge").collect();
    assert_eq!(acts, [""; 0]);
    assert!(plan.waiting_for.contains(&"AWS is away".to_owned()), "{:?}", plan.waiting_for);
}

#[test]
fn rotation_that_waits_is_forgotten_and_keys_stay_as_they_are() {
    let mut fleet = Fleet::with_provider(3);
    fleet.pass_time(89 * DAY);
    fleet.settle();
    let keys = fleet.state().keys;
    fleet.ask(&WAIT);
    fleet.pass_time(30 * DAY);
    fleet.settle();
    assert!(fleet.nodes.iter().all(|node| node.signing == Some(key(0))));
    assert_eq!(keys.len(), 2);
}

#[test]
fn cluster_that_is_to_have_our_issuer_after_all_is_brought_back_to_it() {
    for wait in [0, 2 * DAY] {
        let mut fleet = Fleet::with_provider(3);
        fleet.ask(&WAIT);
        fleet.settle();
        fleet.pass_time(wait);
        for _ in 0..3 {
            fleet.pass(0, usize::MAX);
        }
        let back = request::cancel_teardown(&fleet.state()).expect("a teardown");
        let (bytes, version) = (fleet.keyring.clone().expect("a keyring"), fleet.version.to_string());
        assert!(fleet.put_keyring(&back.next(&bytes), Some(&version)).is_ok());
        fleet.settle();
        assert_eq!((fleet.restarts(), fleet.waits()), (vec![2; 3], Vec::new()));
        assert!(fleet.provider.is_some() && fleet.bucket.is_some() && !fleet.objects.is_empty());
        assert!(fleet.nodes.iter().all(|node| node.process.as_ref().is_some_and(|process| process.issuers[0] == OURS)));
    }
}

#[test]
fn node_whose_change_fails_is_put_back_and_the_others_wait() {
    let mut fleet = Fleet::with_provider(3);
    fleet.nodes[1].starts_with = |manifest| manifest.issuers()[0] == OURS;
    fleet.ask(&WAIT);
    for _ in 0..300 {
        for number in 0..3 {
            fleet.pass(number, usize::MAX);
        }
        fleet.pass_time(5);
    }
    let waits = fleet.waits();
    assert!(waits.iter().any(|what| what.contains("mend it, then irsad resume")), "{waits:?}");
    assert!(fleet.provider.is_some() && fleet.nodes[1].process.is_some());
    fleet.nodes[1].starts_with = |_| true;
    fleet.nodes[1].refused = None;
    fleet.outlive();
    fleet.assert_torn_down();
}

#[test]
fn roles_that_irsad_made_are_removed_before_the_bucket_and_others_stay() {
    let mut fleet = Fleet::with_provider(2);
    fleet.roles = vec!["checkout".to_owned(), "billing".to_owned()];
    fleet.ask(&WAIT);
    fleet.settle();
    assert_eq!(fleet.roles.len(), 2, "tokens of ours live");
    fleet.outlive();
    fleet.assert_torn_down();
    assert_eq!((fleet.roles.len(), &fleet.bucket), (0, &None));
    let remains = fleet.nodes[0].torn_down.as_ref().expect("torn down").remains.clone();
    assert_eq!(remains[0], "role theirs stays: it lacks irsad's tags");
}

#[test]
fn verify_says_how_far_a_teardown_is_and_finds_nothing_wrong_in_what_it_has_removed() {
    let mut fleet = Fleet::with_provider(1);
    let said = |fleet: &Fleet| -> (Option<String>, usize) {
        let checks = checks::teardown(&fleet.desired, &fleet.facts(0), fleet.now);
        let wrong: Vec<_> = checks.iter().flatten().filter(|check| check.outcome != Outcome::Holds).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        (checks.as_ref().map(|checks| checks[0].statement.clone()), checks.map_or(0, |checks| checks.len()))
    };
    assert_eq!(said(&fleet), (None, 0));
    fleet.ask(&WAIT);
    let begins = |found: (Option<String>, usize), text: &str, count: usize| {
        assert!(found.0.as_ref().is_some_and(|line| line.starts_with(text)) && found.1 == count, "{found:?}");
    };
    begins(said(&fleet), "a teardown is under way, 1 of 3: 0 of 1 API servers sign as", 9);
    fleet.settle();
    begins(said(&fleet), "a teardown is under way, 2 of 3: every kube-apiserver signs as", 9);
    fleet.pass_time(2 * DAY);
    begins(said(&fleet), "a teardown is under way, 3 of 3:", 4);
    fleet.settle();
    begins(said(&fleet), "torn down on 2026-", 4);
}

#[test]
fn objects_are_let_go_of_when_their_roles_are_gone() {
    let mut fleet = Fleet::with_provider(2);
    (fleet.roles, fleet.held) = (vec!["checkout".to_owned()], vec!["checkout".to_owned(), "billing".to_owned()]);
    fleet.ask(&WAIT);
    fleet.settle();
    assert_eq!(fleet.held.len(), 2, "tokens of ours live");
    fleet.outlive();
    fleet.assert_torn_down();
    assert_eq!((fleet.roles.len(), fleet.held.len()), (0, 0));
}

#[test]
fn roles_that_irsad_may_not_remove_are_named_with_what_to_do() {
    let mut fleet = Fleet::with_provider(2);
    (fleet.roles, fleet.held) = (vec!["checkout".to_owned()], vec!["checkout".to_owned()]);
    fleet.keeps_no_roles = true;
    fleet.ask(&WAIT);
    fleet.outlive();
    fleet.assert_torn_down();
    assert_eq!((fleet.roles.len(), fleet.held.len()), (1, 0));
    let remains = fleet.nodes[0].torn_down.as_ref().expect("torn down").remains.clone();
    let expected = "IAM roles below /irsad/prod-1/ stay, because roles.mode is none: checkout; those with tag irsad/cluster=prod-1 (aws \
                    iam list-role-tags) may be deleted by hand: detach and delete their policies, then aws iam delete-role";
    assert_eq!(remains[0], expected);
}

#[test]
fn member_that_signs_as_ours_again_begins_the_wait_anew() {
    let mut fleet = Fleet::with_provider(2);
    let adopted = fleet.nodes[1].manifest.clone();
    fleet.ask(&WAIT);
    fleet.settle();
    fleet.pass_time(DAY / 2);
    // A person puts the manifest of before back.
    fleet.nodes[1].manifest = adopted;
    let now = fleet.now;
    fleet.nodes[1].stop(now, 1);
    fleet.settle();
    fleet.pass_time(DAY * 3 / 4);
    fleet.settle();
    assert!(fleet.provider.is_some() && !fleet.objects.is_empty(), "{:?}", fleet.waits());
    fleet.outlive();
    fleet.assert_torn_down();
}

#[test]
fn keyring_stays_until_every_node_has_written_down_that_it_is_done() {
    let mut fleet = Fleet::with_provider(3);
    fleet.ask(&WAIT);
    fleet.settle();
    fleet.pass_time(2 * DAY);
    for number in 0..3 {
        fleet.pass(number, 1);
    }
    for _ in 0..20 {
        fleet.pass(0, usize::MAX);
        fleet.pass_time(5);
    }
    assert!(fleet.keyring.is_some() && fleet.nodes[0].torn_down.is_some());
    let waits = fleet.waits();
    let expected = "for irsad of n2, n3 to note that nothing is left to do, before the keyring is deleted";
    assert!(waits.contains(&expected.to_owned()), "{waits:?}");
    fleet.settle();
    fleet.assert_torn_down();
}
