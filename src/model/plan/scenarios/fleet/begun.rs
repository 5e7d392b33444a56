//! A keyring that is begun before the first API server runs.

use super::*;

#[test]
fn keyring_that_is_begun_before_kubeadm_keeps_the_keys_of_a_control_plane_that_was_there_before() {
    let mut fleet = Fleet::of_kubeadm(1);
    let node = &mut fleet.nodes[0];
    (node.never_started, node.process, node.starts_at) = (true, None, None);
    node.verifying = vec![key(0), key(1)];
    let mut facts = fleet.facts(0);
    facts.cluster.bucket = None;
    let body = Jwks::of([&key(0), &key(1), &key(2)]).expect("a JWKS").render();
    facts.cluster.stored_jwks = Probe::Present(StoredDocument { body, version: "1".to_owned() });
    let begun = plan(&fleet.desired, &facts, fleet.now).actions.into_iter().find_map(|action| match action {
        Action::WriteKeyring { keyring, .. } => Some(keyring),
        _ => None,
    });
    let begun = begun.expect("a keyring");
    let keys: Vec<_> = begun.keys.iter().map(|key| (key.kid.clone(), key.state)).collect();
    let expected = [(0, keyring::KeyState::Signing), (1, keyring::KeyState::Draining)];
    assert_eq!(keys, expected.map(|(number, state)| (key(number).kid().to_string(), state)));
    let leaving: Vec<_> = begun.leaving.iter().filter_map(|left| left.jwk.kid()).collect();
    assert_eq!(leaving, [key(2).kid().as_str()]);
}
