//! For every manifest of a large family the edit is exact or refused; for arbitrary bytes it is at least no panic.

use std::error::Error;

use irsad::model::{
    manifest::{Desired, Edited, Manifest, ManifestError, Reverted},
    yaml::{self, Limits},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::Value;

const OURS: &str = "https://oidc.example.com";

/// How a flag is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    Single,
    Double,
    TwoEntries,
    TwoQuotedEntries,
}

/// A piece of the list of flags.
#[derive(Debug, Clone)]
enum Piece {
    Issuer(Form, Option<&'static str>),
    Other(&'static str),
    Comment(&'static str),
}

/// Everything that is varied.
#[derive(Debug, Clone)]
struct Shape {
    pieces: Vec<Piece>,
    list_indent: usize,
    gap: usize,
    in_args: bool,
    annotations: &'static str,
    container_before: bool,
    container_behind: bool,
    line_end_at_end: bool,
}

fn piece() -> impl Strategy<Value = Piece> {
    let form = select(vec![Form::Plain, Form::Single, Form::Double, Form::TwoEntries, Form::TwoQuotedEntries]);
    let behind = option::of(select(vec![" # why", "   # --service-account-key-file='x'"]));
    prop_oneof![
        3 => (form, behind).prop_map(|(form, behind)| Piece::Issuer(form, behind)),
        3 => select(vec![
            "--v=2", "'--audit-log-path=/a b'", "\"--feature-gates=A=true\"  # gate", "--etcd-servers\n- http://127.0.0.1:2379",
            "--tls-cipher-suites=>-", "--authorization-mode=Node,RBAC",
        ]).prop_map(Piece::Other),
        2 => select(vec!["", "# plain", "#- --v=3", "      # deep", "  # - x: 'y"]).prop_map(Piece::Comment),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let annotations = select(vec![
        "",
        "  annotations:\n    a.example.com/x: y\n",
        "  annotations: {}  # none\n",
        "  annotations:\n",
        "  annotations: ~\n",
        "  annotations: # below\n  # shallow\n      z: 'a'   # deep\n      irsad/applied: \"old\" # ours\n",
        "  annotations:\n    # about x\n    x: |\n      text\n\n    y: >-\n      more\n",
        "  annotations: {a: b}\n",
    ]);
    (
        (vec(piece(), 0..10), select(vec![0, 2, 4]), 1..4_usize, any::<bool>()),
        (annotations, any::<bool>(), any::<bool>(), any::<bool>()),
    )
        .prop_map(|((pieces, list_indent, gap, in_args), rest)| {
            let (annotations, container_before, container_behind, line_end_at_end) = rest;
            Shape {
                pieces,
                list_indent,
                gap,
                in_args,
                annotations,
                container_before,
                container_behind,
                line_end_at_end,
            }
        })
}

fn issuer(number: usize) -> String {
    format!("https://issuer-{number}.example.com")
}

impl Shape {
    /// The lines of one list entry.
    fn entry(&self, text: &str) -> String {
        let (indent, gap) = (" ".repeat(4 + self.list_indent), " ".repeat(self.gap));
        text.split("\n- ").map(|part| format!("{indent}-{gap}{part}\n")).collect()
    }

    fn flags(&self) -> String {
        let mut text = self.entry("--secure-port=6443");
        for (number, piece) in self.pieces.iter().enumerate() {
            let issuer = issuer(number);
            text += &match piece {
                Piece::Comment(comment) => format!("{comment}\n"),
                Piece::Other(flag) => self.entry(flag),
                Piece::Issuer(form, behind) => {
                    let flag = "--service-account-issuer";
                    let behind = behind.unwrap_or_default();
                    self.entry(&match form {
                        Form::Plain => format!("{flag}={issuer}{behind}"),
                        Form::Single => format!("'{flag}={issuer}'{behind}"),
                        Form::Double => format!("\"{flag}={issuer}\"{behind}"),
                        Form::TwoEntries => format!("{flag}{behind}\n- {issuer}"),
                        Form::TwoQuotedEntries => format!("'{flag}'\n- \"{issuer}\"{behind}"),
                    })
                }
            };
        }
        text
    }

    fn text(&self) -> String {
        let other = |name| format!("  - name: {name}\n    command: [x, --service-account-issuer=https://not-ours]\n");
        let list = if self.in_args {
            let launcher: String =
                ["/go-runner", "--log-file=/var/log/kube-apiserver"].iter().map(|text| self.entry(text)).collect();
            let program = self.entry("/usr/local/bin/kube-apiserver");
            format!("command:\n{launcher}    args:\n{program}{}", self.flags())
        } else {
            format!("command:\n{}{}", self.entry("kube-apiserver"), self.flags())
        };
        let mut text = format!(
            "# top\napiVersion: v1\nkind: Pod\nmetadata:\n{}  name: kube-apiserver\nspec:\n  hostNetwork: true\n  containers:\n{}  - {list}    name: kube-apiserver\n{}# end\nstatus: {{}}\n",
            self.annotations,
            if self.container_before { other("before") } else { String::new() },
            if self.container_behind { other("behind") } else { String::new() },
        );
        if !self.line_end_at_end {
            text.pop();
        }
        text
    }

    fn issuers(&self) -> Vec<String> {
        let numbers = self.pieces.iter().enumerate().filter(|(_, piece)| matches!(piece, Piece::Issuer(..)));
        numbers.map(|(number, _)| issuer(number)).collect()
    }
}

/// The lines that are not ours. The family gives nobody else's line an `https://` at the end of a list entry.
fn other_lines(text: &str) -> Vec<&str> {
    let ours = |line: &str| {
        let line = line.trim();
        let entry = line.starts_with('-') && !line.contains("not-ours");
        let flag =
            ["service-account-issuer", "service-account-jwks-uri", "https://"].iter().any(|mark| line.contains(mark));
        (entry && flag) || line.starts_with("irsad/applied:") || line.starts_with("annotations:")
    };
    text.lines().filter(|line| !ours(line)).collect()
}

/// The rest of the Pod, the issuers, and the other words that kubelet starts.
type Meaning = (Value, Vec<String>, Vec<String>);

/// What a manifest means, found in another way than the editor's own proof: over the words that kubelet starts.
fn meaning(text: &str) -> Result<Meaning, Box<dyn Error>> {
    let stream = yaml::parse(text.as_bytes(), &Limits::PLAIN)?;
    let mut pod = stream.values()?.remove(0);
    let (mut issuers, mut others) = (Vec::new(), Vec::new());
    let containers = pod["spec"]["containers"].as_array_mut().ok_or("no containers")?;
    for container in containers.iter_mut().filter(|container| container["name"] == "kube-apiserver") {
        let words =
            ["command", "args"].iter().flat_map(|list| container[*list].as_array().cloned().unwrap_or_default());
        let mut words = words.map(|word| word.as_str().map(str::to_owned).unwrap_or_default());
        while let Some(word) = words.next() {
            match word.split_once('=').unwrap_or((&word, "")) {
                ("--service-account-issuer", "") => issuers.push(words.next().unwrap_or_default()),
                ("--service-account-issuer", value) => issuers.push(value.to_owned()),
                ("--service-account-jwks-uri", "") => drop(words.next()),
                ("--service-account-jwks-uri", _) => (),
                _ => others.push(word),
            }
        }
        container["command"] = Value::Null;
        container["args"] = Value::Null;
    }
    let annotations = pod["metadata"]["annotations"].take();
    let mut annotations = annotations.as_object().cloned().unwrap_or_default();
    annotations.remove("irsad/applied");
    pod["metadata"]["annotations"] = Value::Object(annotations);
    Ok((pod, issuers, others))
}

fn edit(text: &[u8], desired: &Desired) -> Result<Edited, ManifestError> {
    Manifest::parse(text)?.with(desired)
}

/// A wanted list: ours and some of those that stand, in any order.
fn wanted(standing: &[String], order: &[usize]) -> Vec<String> {
    let mut wanted = vec![OURS.to_owned()];
    for position in order {
        if let Some(issuer) = standing.get(position % standing.len().max(1)).filter(|issuer| !wanted.contains(issuer)) {
            wanted.insert(position % (wanted.len() + 1), issuer.clone());
        }
    }
    wanted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_edit_added_goes_again_and_nothing_else_changes(shape in shape()) {
        let text = shape.text();
        let issuers = shape.issuers();
        prop_assume!(!issuers.is_empty());
        let uri = format!("{OURS}/openid/v1/jwks");
        let adopted = Desired {
            issuers: wanted(&issuers, &(0..issuers.len()).collect::<Vec<_>>()),
            jwks_uri: Some(uri.clone()),
            api_audiences: None,
            applied: Some("1-abc".to_owned()),
        };
        let Ok(adopted) = edit(text.as_bytes(), &adopted) else { return Ok(()) };
        let back = Reverted { issuers: issuers.clone(), jwks_uri: uri };
        let parsed = Manifest::parse(adopted.text().as_bytes()).expect("what was written can be read");
        let reverted = parsed.reverted(&back).expect("what was added can be taken out");
        prop_assert_eq!(other_lines(reverted.text()), other_lines(&text));
        prop_assert_eq!(meaning(reverted.text()).ok(), meaning(&text).ok());
        let reverted = Manifest::parse(reverted.text().as_bytes()).expect("what was written can be read");
        prop_assert_eq!((reverted.issuers(), reverted.jwks_uri()), (&issuers[..], None));
    }

    #[test]
    fn edit_is_exact_idempotent_and_touches_only_our_lines(
        shape in shape(),
        order in vec(0..10_usize, 0..6),
        with_uri in any::<bool>(),
        with_annotation in any::<bool>(),
    ) {
        let old = shape.text();
        let manifest = Manifest::parse(old.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}\n{old}")))?;
        prop_assert_eq!(manifest.issuers(), shape.issuers());
        let desired = Desired {
            issuers: wanted(&shape.issuers(), &order),
            jwks_uri: with_uri.then(|| "https://oidc.example.com/keys".to_owned()),
            api_audiences: None,
            applied: with_annotation.then(|| "7-4f2a".to_owned()),
        };
        let edited = match manifest.with(&desired) {
            Ok(edited) => edited,
            Err(error) => {
                let refused = "line 5: annotations is written in one line with brackets; write one entry a line";
                prop_assert_eq!(error.to_string(), refused);
                prop_assert_eq!(shape.annotations, "  annotations: {a: b}\n");
                return Ok(());
            }
        };
        prop_assert!(edited.is_changed() && edited.text().ends_with('\n'));
        prop_assert_eq!(other_lines(edited.text()), other_lines(&old));
        let fail = |error: Box<dyn Error>| TestCaseError::fail(error.to_string());
        let (before, after) = (meaning(&old).map_err(fail)?, meaning(edited.text()).map_err(fail)?);
        prop_assert_eq!((before.0, before.2), (after.0, after.2));
        prop_assert_eq!(&after.1, &desired.issuers);
        let new = Manifest::parse(edited.text().as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(new.jwks_uri(), desired.jwks_uri.as_deref());
        if with_annotation {
            prop_assert_eq!(new.annotation("irsad/applied"), Some("7-4f2a"));
        }
        let again = new.with(&desired).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(!again.is_changed());
        prop_assert_eq!(again.text(), edited.text());
    }

    #[test]
    fn bytes_that_yaml_readers_disagree_about_are_refused_anywhere(
        shape in shape(),
        place in any::<prop::sample::Index>(),
        foreign in select(vec!["\r", "\u{feff}", "\0", "\u{85}", "\u{2028}", "\u{7f}", "\n\t"]),
    ) {
        let mut text = shape.text();
        let mut at = place.index(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, foreign);
        prop_assert!(Manifest::parse(text.as_bytes()).is_err(), "{text:?}");
    }

    #[test]
    fn damaged_manifest_is_edited_as_wanted_or_refused(
        shape in shape(),
        damage in vec((any::<prop::sample::Index>(), 0..12_usize, token()), 1..4),
    ) {
        let mut text = shape.text().into_bytes();
        for (place, length, token) in damage {
            let at = place.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, token.bytes());
        }
        check_any(&text)?;
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        check_any(&bytes)?;
    }

    #[test]
    fn arbitrary_yaml_tokens_never_panic(tokens in vec(token(), 0..60)) {
        check_any(tokens.concat().as_bytes())?;
        check_any(format!("apiVersion: v1\nkind: Pod\nmetadata: {{}}\nspec:\n  containers:\n  - {}", tokens.concat()).as_bytes())?;
    }
}

fn token() -> impl Strategy<Value = String> {
    let tokens = [
        "",
        " ",
        "  ",
        "    ",
        "\n",
        "\n  ",
        "\n    - ",
        "- ",
        ": ",
        ":",
        "? ",
        "| ",
        "|-\n",
        ">",
        "#",
        " # x",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "&a ",
        "*a",
        "!!str ",
        "<<: *a",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "\\",
        "kube-apiserver",
        "command",
        "args",
        "name",
        "metadata",
        "annotations",
        "irsad/applied",
        "--service-account-issuer",
        "=https://a",
        "$(A)",
        "null",
        "~",
        "é",
    ];
    select(tokens.map(str::to_owned).to_vec())
}

/// Whatever comes out of any input says what was wanted, means the same otherwise, and stays.
fn check_any(text: &[u8]) -> Result<(), TestCaseError> {
    let desired = Desired {
        issuers: vec![OURS.to_owned(), "https://second.example.com".to_owned()],
        jwks_uri: None,
        api_audiences: None,
        applied: Some("1-0".to_owned()),
    };
    let Ok(edited) = edit(text, &desired) else { return Ok(()) };
    let old = std::str::from_utf8(text).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let fail = |error: Box<dyn Error>| TestCaseError::fail(error.to_string());
    let (before, after) = (meaning(old).map_err(fail)?, meaning(edited.text()).map_err(fail)?);
    prop_assert_eq!((before.0, before.2), (after.0, after.2));
    prop_assert_eq!(&after.1, &desired.issuers);
    let again = edit(edited.text().as_bytes(), &desired).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(!again.is_changed());
    Ok(())
}
