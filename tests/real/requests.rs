//! What a person asks of the keyring: the effect first, then the change, and nothing without an answer.

use serde_json::Value;

use crate::irsad::{Machine, Result};

const STATE: &str = "/srv/keyring/state.json";
const KID: &str = "TZ7IOHO2PrFbIveAPHJT9zOaTS7KYj2WIgj2ojBimLQ";

/// A node before its first API server, with the keyring in a folder.
fn machine() -> Result<Machine> {
    let machine = Machine::quickstart()?;
    machine.write("/etc/irsad/irsad.d/keyring.yaml", "keyring: { store: \"file:///srv/keyring\" }\n")?;
    let first = machine.run(&["run", "--once"])?;
    assert_eq!(first.code, Some(0), "{first:?}");
    Ok(machine)
}

fn state(machine: &Machine) -> Result<Value> {
    Ok(serde_json::from_str(&machine.read(STATE)?)?)
}

#[test]
fn nothing_is_changed_where_nobody_can_be_asked_and_yes_is_not_said() -> Result {
    let machine = machine()?;
    let before = machine.everything()?;
    for arguments in
        [&["rotate"][..], &["revoke", KID, "--level", "now"], &["resume"], &["resume", "--node", "n2"], &["rebuild"]]
    {
        let said = machine.run(arguments)?;
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        assert_eq!(
            said.stderr,
            "irsad: this asks before it changes anything, and there is no terminal to ask on (nothing changed); add --yes\n"
        );
    }
    assert_eq!(machine.everything()?, before);
    Ok(())
}

#[test]
fn rotation_and_revocation_are_written_to_the_keyring_with_their_effect_said_first() -> Result {
    let machine = machine()?;
    let rotated = machine.run(&["rotate", "--yes"])?;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert!(rotated.stdout.starts_with("- a new key is made; it signs in place of TZ7IOHO2"), "{rotated:?}");
    assert!(rotated.stdout.contains("- no token is refused\n"), "{rotated:?}");
    assert!(state(&machine)?["rotateSince"].is_string());

    let again = machine.run(&["rotate", "--yes"])?;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.starts_with("irsad: another signing key is wanted since "), "{again:?}");

    let revoked = machine.run(&["revoke", "TZ7IOHO2", "--level", "now", "--yes"])?;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    assert!(revoked.stdout.contains("outsiders refuse every token of TZ7IOHO2"), "{revoked:?}");
    let state = state(&machine)?;
    assert_eq!((&state["generation"], &state["keys"][0]["revoke"]), (&3.into(), &"now".into()));

    let unknown = machine.run(&["revoke", "-unknown", "--level", "drain", "--yes"])?;
    assert_eq!(
        (unknown.code, unknown.stderr.as_str()),
        (Some(1), "irsad: the keyring has no key -unknown (nothing changed); irsad status lists its keys\n")
    );
    Ok(())
}

#[test]
fn keyring_that_went_back_in_time_is_changed_by_nobody_and_rebuilt_from_the_node() -> Result {
    let machine = machine()?;
    let old = machine.read(STATE)?;
    assert_eq!(machine.run(&["rotate", "--yes"])?.code, Some(0));
    assert_eq!(machine.run(&["run", "--once"])?.code, Some(0), "the node follows it");
    let not_lost = machine.run(&["rebuild", "--yes"])?;
    assert_eq!(not_lost.code, Some(1), "{not_lost:?}");
    assert!(not_lost.stderr.contains("nothing is to be rebuilt"), "{not_lost:?}");

    machine.write(STATE, &old)?;
    let refused = machine.run(&["rotate", "--yes"])?;
    assert_eq!((refused.code, machine.read(STATE)?), (Some(1), old), "{refused:?}");
    assert!(refused.stderr.contains("have it rebuilt from the nodes: irsad rebuild"), "{refused:?}");

    let rebuilt = machine.run(&["rebuild", "--yes"])?;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(
        rebuilt.stdout.starts_with(
            "- the store has generation 1 of the keyring; what this node remembers, generation 2, is written as generation 3\n"
        ),
        "{rebuilt:?}"
    );
    assert!(state(&machine)?["rotateSince"].is_string(), "what was asked for is not lost");
    assert_eq!(machine.run(&["plan"])?.stdout, "1. remember generation 3 of the keyring\n");
    Ok(())
}

#[test]
fn timeline_is_drawn_without_a_daemon_and_a_picture_of_nothing_else() -> Result {
    let machine = machine()?;
    let text = machine.run(&["status", "--timeline"])?;
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.stdout.starts_with("Keys of quickstart, generation 1, at ") && text.stdout.contains(KID), "{text:?}");
    let svg = machine.run(&["status", "--timeline", "-o", "svg"])?;
    assert!(svg.stdout.starts_with("<svg ") && svg.stdout.ends_with("</svg>\n"), "{svg:?}");
    for arguments in [&["status", "-o", "svg"][..], &["plan", "-o", "svg"]] {
        let said = machine.run(arguments)?;
        assert_eq!(
            (said.code, said.stderr.as_str()),
            (Some(2), "irsad: -o svg is for irsad status --timeline; nothing else is a picture\n")
        );
    }
    Ok(())
}
