use super::*;

fn look<'a>(ack: &'a Ack, outside: &'a [String]) -> Here<'a> {
    Here { ack, own_reasons: &[], is_told: true, not_ready: &[], outside, after: &[] }
}

/// The standby signs: both nodes have to switch.
fn promoted() -> Keyring {
    promote(&keyring(), key("k3", KeyState::Standby, Origin::Made), at(0))
}

fn held_by(holder: &str) -> Keyring {
    Keyring { rollout: Some(Rollout { holder: holder.to_owned(), since: at(DAY) }), ..promoted() }
}

#[test]
fn node_takes_the_rollout_changes_and_gives_it_back_when_it_has_told() {
    let outside = ["k2".to_owned()];
    let behind = ack("n1", "k1", &["k1", "k2"]);
    let switched = ack("n1", "k2", &["k1", "k2", "k3"]);
    assert_eq!(follow(&promoted(), look(&behind, &outside), at(DAY)), Follow::Take(Box::new(held_by("n1"))));
    assert_eq!(follow(&held_by("n1"), look(&behind, &outside), at(DAY)), Follow::Change);
    let untold = Here { is_told: false, ..look(&switched, &outside) };
    let wait = Follow::Wait("to tell the other nodes what kube-apiserver proved".to_owned());
    assert_eq!(follow(&held_by("n1"), untold, at(DAY)), wait);
    assert_eq!(follow(&held_by("n1"), look(&switched, &outside), at(DAY)), Follow::Release(Box::new(promoted())));
    assert_eq!(follow(&promoted(), look(&switched, &outside), at(DAY)), Follow::Settled);
}

#[test]
fn node_says_what_it_waits_for_before_it_restarts_its_api_server() {
    let (outside, two) = (["k2".to_owned()], ["n2".to_owned(), "n3".to_owned()]);
    let (behind, stranger) = (ack("n1", "k1", &["k1", "k2"]), ack("n9", "k1", &["k1", "k2"]));
    let free = look(&behind, &outside);
    let cases = [
        (held_by("n2"), free, "for kube-apiserver of n2 to be done with its change, begun at 1970-01-02T00:00:00Z"),
        (promoted(), look(&stranger, &outside), "for the leader to take n9 into the keyring"),
        (promoted(), Here { not_ready: &two, ..free }, "for kube-apiserver of n2, n3 to be ready"),
        (held_by("n1"), Here { not_ready: &two[..1], ..free }, "for kube-apiserver of n2 to be ready"),
        (promoted(), look(&behind, &[]), "for key k2 to be found at the issuer URL, before it signs here"),
        (
            promoted(),
            Here { after: &two, ..free },
            "for kube-apiserver of n2, n3 to be changed first: this node holds a lease of kube-controller-manager or kube-scheduler",
        ),
    ];
    for (keyring, here, expected) in cases {
        assert_eq!(follow(&keyring, here, at(DAY)), Follow::Wait(expected.to_owned()));
    }
}
