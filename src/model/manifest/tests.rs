use super::*;

const OURS: &str = "https://oidc.example.com";
const DEFAULT: &str = "https://kubernetes.default.svc.cluster.local";

/// A manifest with these lines as its command and what stands above and below.
const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  annotations:
    a.example.com/x: y
  name: kube-apiserver
spec:
  containers:
  - command:
    - kube-apiserver
    - --secure-port=7443
    - --service-account-issuer=https://kubernetes.default.svc.cluster.local
    - --service-account-key-file=/etc/kubernetes/pki/sa.pub
    - --service-account-signing-key-file=/etc/kubernetes/pki/sa.key
    image: registry.k8s.io/kube-apiserver:v1.36.3
    name: kube-apiserver
  hostNetwork: true
";

const ISSUER_LINE: &str = "    - --service-account-issuer=https://kubernetes.default.svc.cluster.local\n";

fn issuers(issuers: &[&str]) -> Desired {
    let issuers = issuers.iter().map(|issuer| (*issuer).to_owned()).collect();
    Desired { issuers, jwks_uri: None, api_audiences: None, applied: None }
}

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(text.as_bytes()).map_err(|error| error.to_string())
}

fn edit(text: &str, desired: &Desired) -> Result<String, String> {
    let edited = parse(text)?.with(desired).map_err(|error| error.to_string())?;
    let again = parse(edited.text())?.with(desired).map_err(|error| error.to_string())?;
    assert_eq!((again.text(), again.is_changed()), (edited.text(), false), "the second edit changes nothing");
    Ok(edited.text().to_owned())
}

#[test]
fn manifest_that_is_not_understood_for_certain_is_refused_with_the_line_and_the_cure() {
    let with_command = |entries: &str| {
        let (head, rest) = POD.split_once("    - kube-apiserver\n").unwrap_or_default();
        let (_, tail) = rest.split_once("sa.key\n").unwrap_or_default();
        format!("{head}{entries}{tail}")
    };
    let with_issuer = |entries: &str| POD.replace(ISSUER_LINE, entries);
    let named_twice = POD.replace("  hostNetwork", "  - name: kube-apiserver\n    image: x\n  hostNetwork");
    for (text, message) in [
        (String::new(), "the file is empty; put the kube-apiserver Pod back"),
        ("# only this\n".to_owned(), "the file is empty; put the kube-apiserver Pod back"),
        (
            format!("{POD}---\na: 1\n"),
            "line 19: a second document; a static Pod file holds one Pod, move the other to a file of its own",
        ),
        (
            "a: 1\n".to_owned(),
            "line 1: not a Pod with apiVersion v1, kind Pod, metadata and spec; is it the right file?",
        ),
        (
            POD.replace("kind: Pod", "kind: Deployment"),
            "line 1: not a Pod with apiVersion v1, kind Pod, metadata and spec; is it the right file?",
        ),
        (
            "{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}".to_owned(),
            "line 1: the Pod is written in one line with brackets; write one entry a line",
        ),
        (
            POD.replace("    name: kube-apiserver", "    name: etcd"),
            "line 8: no container is named kube-apiserver; is it the right file?",
        ),
        (named_twice, "line 17: a second container named kube-apiserver (first in line 9); keep one"),
        (
            with_command("").replace("  - command:\n", "  - command: [kube-apiserver, --v=2]\n"),
            "line 9: command is written in one line with brackets; write one entry a line",
        ),
        (
            with_command("    - kube-apiserver\n    - a: b\n"),
            "line 11: command is not a list of texts; write one flag an entry",
        ),
        (with_command(""), "line 9: command is not a list of texts; write one flag an entry"),
        (
            with_command("    - sh\n    - -c\n    - kube-apiserver --service-account-issuer=https://a\n"),
            "line 10: the container starts \"sh\"; only kube-apiserver, alone or behind go-runner, with one flag an entry is understood, no shell",
        ),
        (
            with_command("    - /bin/sh\n    - -c\n    - exec\n    - kube-apiserver\n"),
            "line 10: the container starts \"/bin/sh\"; only kube-apiserver, alone or behind go-runner, with one flag an entry is understood, no shell",
        ),
        (
            with_command("    - kube-apiserver --v=2\n"),
            "line 10: the container starts \"kube-apiserver --v=2\"; only kube-apiserver, alone or behind go-runner, with one flag an entry is understood, no shell",
        ),
        (
            with_command("    - kube-apiserver\n    - --v=2\n    - stray\n"),
            "line 12: \"stray\" is neither a flag nor the value of one, kube-apiserver would not start; take it out",
        ),
        (
            with_command("    - kube-apiserver\n    - --\n    - --service-account-issuer=https://a\n"),
            "line 11: -- ends the flags, what follows has no effect; take it out",
        ),
        (
            with_issuer("    - --service-account-issuer\n"),
            "line 12: --service-account-issuer has no value, kube-apiserver would not start; write --service-account-issuer=VALUE",
        ),
        (
            with_issuer("    - --profiling\n    - --service-account-issuer=https://a\n"),
            "line 13: --service-account-issuer follows --profiling and could be taken for its value; write --profiling=VALUE in one entry, --profiling=true for a switch",
        ),
        (
            with_issuer("    - --service-account-issuer=$(ISSUER)\n"),
            "line 12: \"--service-account-issuer=$(ISSUER)\" has a $ in it, which kubelet may replace from the environment; write the value out",
        ),
        (
            with_issuer("    - --service-account-issuer\n    - $(ISSUER)\n"),
            "line 12: \"$(ISSUER)\" has a $ in it, which kubelet may replace from the environment; write the value out",
        ),
        (
            with_issuer("    - --$(NAME)=https://a\n"),
            "line 12: \"--$(NAME)=https://a\" has a $ in it, which kubelet may replace from the environment; write the value out",
        ),
        (
            POD.replace("    image:", "    args:\n    - --service-account-issuer=https://a\n    image:"),
            "line 16: --service-account-issuer stands in both command and args (first in line 12); keep it in one of them",
        ),
        (
            POD.replace("    - --service-account-signing-key-file=/etc/kubernetes/pki/sa.key\n", "")
                .replace(ISSUER_LINE, "")
                .replace("    image:", "    - --service-account-issuer\n    args:\n    - https://a\n    image:"),
            "line 15: --service-account-issuer stands in both command and args (first in line 13); keep it in one of them",
        ),
        (
            with_issuer("    - >-\n      --service-account-issuer=https://a\n"),
            "line 13: --service-account-issuer is spread over lines or written in a way that cannot be edited; write it as one entry in one line",
        ),
        (
            with_issuer("    -\n      --service-account-issuer=https://a\n"),
            "line 13: --service-account-issuer is spread over lines or written in a way that cannot be edited; write it as one entry in one line",
        ),
        (
            with_issuer("    - --service-account-signing-endpoint=/run/signer.sock\n"),
            "line 12: --service-account-signing-endpoint gives the keys to an external signer; irsad works with key files only, take the flag out or stop irsad",
        ),
        (
            with_issuer("    - --service-account-issuer=https://a\n    - --service_account_issuer=https://a\n"),
            "line 13: issuer https://a stands twice (first in line 12), kube-apiserver would not start; keep one",
        ),
        (
            with_issuer("    - --service-account-issuer=\n"),
            "line 12: --service-account-issuer=\"\" is empty or has white space, quotes or other unexpected characters in it; correct it",
        ),
        (
            with_issuer("    - --service-account-issuer=https://a --v=2\n"),
            "line 12: --service-account-issuer=\"https://a --v=2\" is empty or has white space, quotes or other unexpected characters in it; correct it",
        ),
        (POD.replace("7443", "70000"), "line 11: --secure-port=70000 is not a port from 1 to 65535; correct it"),
        (
            POD.replace("command:", "command: &flags"),
            "line 10: an anchor (&), which is not understood here; write the value out",
        ),
        (
            POD.replace("  name:", "  <<: {}\n  name:"),
            "line 6: a merge key (<<), which is not understood here; write the value out",
        ),
        (
            POD.replace("image: registry", "ports: [: x]\n    image: registry"),
            "not YAML to every reader, and perhaps not to kubelet and kubeadm: did not find expected node content at line 15 column 13, while parsing a flow node; write that place more plainly",
        ),
        (POD.replace("  hostNetwork", "\thostNetwork"), "line 17: indented with a tab; indent with spaces"),
        (POD.replace('\n', "\r\n"), "line 1: a carriage return; save the file with Unix line ends (LF)"),
        (format!("\u{feff}{POD}"), "line 1: a byte order mark (U+FEFF); save the file as UTF-8 without one"),
        (POD.replace("a.example.com/x: y", "a.example.com/x: \0"), "line 5: control character U+0000; take it out"),
        (
            POD.replace("  hostNetwork: true", "  hostNetwork: true\n  hostNetwork: true"),
            "line 18: key \"hostNetwork\" stands twice (first in line 17); keep one",
        ),
    ] {
        assert_eq!(parse(&text).err().as_deref(), Some(message), "{text}");
    }
}

#[test]
fn huge_file_is_refused_without_being_parsed() {
    let huge = "a: [".repeat(25 << 20);
    assert_eq!(
        parse(&huge).err().as_deref(),
        Some("the file has 104857600 bytes, more than the 262144 that are read; is it the right file?")
    );
}

#[test]
fn flags_are_read_in_either_form_and_the_last_one_counts() -> Result<(), String> {
    let text = POD.replace(
        ISSUER_LINE,
        "    - --service-account-issuer
    - 'https://a'
    # between
    - \"--service_account_issuer=https://b\"   # behind
    - --service-account-key-file
    - /first.pub
    - --service-account-signing-key-file=/first.key
    - --api-audiences=a,b
    - --api-audiences
    - c
    - --service-account-jwks-uri=https://a/keys
    - --advertise-address=$(HOST_IP)
    - -v
    - '2'
",
    );
    let manifest = parse(&text)?;
    assert_eq!(manifest.issuers(), ["https://a", "https://b"]);
    assert_eq!(manifest.key_files(), ["/first.pub", "/etc/kubernetes/pki/sa.pub"]);
    assert_eq!(manifest.signing_key_file(), Some("/etc/kubernetes/pki/sa.key"));
    assert_eq!(manifest.api_audiences(), Some(&["a", "b", "c"].map(str::to_owned)[..]));
    assert_eq!(manifest.jwks_uri(), Some("https://a/keys"));
    assert_eq!(manifest.advertise_address(), None);
    assert_eq!((manifest.secure_port(), manifest.host_network()), (7443, true));
    assert_eq!(manifest.image(), Some("registry.k8s.io/kube-apiserver:v1.36.3"));
    assert_eq!((manifest.flag("v"), manifest.flag("missing")), (Some("2"), None));
    assert_eq!((manifest.annotation("a.example.com/x"), manifest.annotation(APPLIED_ANNOTATION)), (Some("y"), None));
    Ok(())
}

#[test]
fn issuers_are_written_in_the_form_of_the_flag_next_to_them() -> Result<(), String> {
    for (standing, wanted, expected) in [
        // New before old; the comment stays with its line.
        (
            "    - --service-account-issuer=https://old # kept\n",
            &["https://new", "https://old"][..],
            "    - --service-account-issuer=https://new\n    - --service-account-issuer=https://old # kept\n",
        ),
        (
            "    - \"--service-account-issuer=https://old\"\n",
            &["https://new"],
            "    - \"--service-account-issuer=https://new\"\n",
        ),
        (
            "    -   '--service-account-issuer=https://old'\n",
            &["https://new"],
            "    -   '--service-account-issuer=https://new'\n",
        ),
        (
            "    - --service-account-issuer\n    # why\n    - 'https://old'\n",
            &["https://new", "https://old"],
            "    - --service-account-issuer\n    - https://new\n    - --service-account-issuer\n    # why\n    - 'https://old'\n",
        ),
        // Wrong order: the first line stays where it is.
        (
            "    - --service-account-issuer=https://old\n    - --v=2\n    - --service-account-issuer=https://new\n",
            &["https://new", "https://old"],
            "    - --service-account-issuer=https://new\n    - --service-account-issuer=https://old\n    - --v=2\n",
        ),
        (
            "    - --service-account-issuer=https://new\n    # above\n\n    - --v=2\n",
            &["https://new", "https://old"],
            "    - --service-account-issuer=https://new\n    - --service-account-issuer=https://old\n    # above\n\n    - --v=2\n",
        ),
        (
            "    - --v=2\n    - --service-account-issuer=https://a\n    - --service-account-issuer=https://b\n    - --service-account-issuer=https://c\n",
            &["https://b"],
            "    - --v=2\n    - --service-account-issuer=https://b\n",
        ),
        (
            "    - --service_account_issuer=https://old\n",
            &["https://old"],
            "    - --service_account_issuer=https://old\n",
        ),
    ] {
        let text = edit(&POD.replace(ISSUER_LINE, standing), &issuers(wanted))?;
        assert_eq!(text, POD.replace(ISSUER_LINE, expected));
    }
    Ok(())
}

#[test]
fn manifest_without_an_issuer_gets_it_behind_the_last_flag() -> Result<(), String> {
    let old = POD.replace(ISSUER_LINE, "");
    let expected = old.replace("    image:", "    - --service-account-issuer=https://oidc.example.com\n    image:");
    assert_eq!(edit(&old, &issuers(&[OURS]))?, expected);

    let alone = old.replace("    image:", "    - --profiling\n    image:");
    assert_eq!(
        edit(&alone, &issuers(&[OURS])),
        Err("line 14: --service-account-issuer follows --profiling and could be taken for its value; write --profiling=VALUE in one entry, --profiling=true for a switch".to_owned())
    );
    Ok(())
}

#[test]
fn jwks_uri_and_audiences_are_changed_in_place_or_put_behind_the_issuers() -> Result<(), String> {
    let desired = Desired {
        jwks_uri: Some("https://oidc.example.com/keys.json".to_owned()),
        api_audiences: Some(vec!["a".to_owned(), "b".to_owned()]),
        ..issuers(&[OURS, DEFAULT])
    };
    let issuer_lines = format!("    - --service-account-issuer={OURS}\n{ISSUER_LINE}");
    for (standing, expected) in [
        (
            ISSUER_LINE.to_owned(),
            format!(
                "{issuer_lines}    - --service-account-jwks-uri=https://oidc.example.com/keys.json\n    - --api-audiences=a,b\n"
            ),
        ),
        (
            format!(
                "    - --api-audiences=x # one\n    - --service_account_jwks_uri=https://x\n    - --service-account-jwks-uri\n    - \"https://y\"\n{ISSUER_LINE}    - --api-audiences\n    - z\n"
            ),
            format!(
                "    - --api-audiences=a,b # one\n    - --service_account_jwks_uri=https://x\n    - --service-account-jwks-uri\n    - \"https://oidc.example.com/keys.json\"\n{issuer_lines}"
            ),
        ),
    ] {
        assert_eq!(edit(&POD.replace(ISSUER_LINE, &standing), &desired)?, POD.replace(ISSUER_LINE, &expected));
    }
    Ok(())
}

#[test]
fn annotation_is_added_or_changed_wherever_it_can_stand() -> Result<(), String> {
    let desired = Desired { applied: Some("7-4f2a".to_owned()), ..issuers(&[DEFAULT]) };
    let block = "  annotations:\n    a.example.com/x: y\n";
    let ours = "    irsad/applied: \"7-4f2a\"\n";
    for (standing, expected) in [
        (block.to_owned(), format!("  annotations:\n{ours}    a.example.com/x: y\n")),
        (
            "  annotations: # ours come first\n    # about x\n    a.example.com/x: |\n      y\n\n".to_owned(),
            format!("  annotations: # ours come first\n{ours}    # about x\n    a.example.com/x: |\n      y\n\n"),
        ),
        (
            "  annotations:\n    irsad/applied: 6-0000 # by irsad\n    z: \"1\"\n".to_owned(),
            "  annotations:\n    irsad/applied: \"7-4f2a\" # by irsad\n    z: \"1\"\n".to_owned(),
        ),
        (
            "  annotations: {\"irsad/applied\": '6', a: b}\n".to_owned(),
            "  annotations: {\"irsad/applied\": \"7-4f2a\", a: b}\n".to_owned(),
        ),
        (String::new(), format!("  annotations:\n{ours}")),
        ("  annotations: {} # none\n".to_owned(), format!("  annotations: # none\n{ours}")),
        ("  annotations:\n".to_owned(), format!("  annotations:\n{ours}")),
        ("  annotations: null\n".to_owned(), format!("  annotations:\n{ours}")),
    ] {
        assert_eq!(edit(&POD.replace(block, &standing), &desired)?, POD.replace(block, &expected));
    }
    for (standing, message) in [
        ("  annotations: {a: b}\n", "line 4: annotations is written in one line with brackets; write one entry a line"),
        (
            "  ? annotations\n  : a: b\n",
            "line 4: annotations is spread over lines or written in a way that cannot be edited; write it as one entry in one line",
        ),
        (
            "  annotations:\n    irsad/applied: >-\n      6\n",
            "line 5: irsad/applied is spread over lines or written in a way that cannot be edited; write it as one entry in one line",
        ),
    ] {
        assert_eq!(edit(&POD.replace(block, standing), &desired), Err(message.to_owned()));
    }
    Ok(())
}

#[test]
fn missing_line_end_is_added_with_a_change_and_not_without_one() -> Result<(), ManifestError> {
    let text = POD.trim_end();
    let manifest = Manifest::parse(text.as_bytes())?;
    let same = manifest.with(&issuers(&[DEFAULT]))?;
    assert_eq!((same.text(), same.is_changed(), same.newline_added()), (text, false, false));
    let changed = manifest.with(&issuers(&[OURS, DEFAULT]))?;
    assert!(changed.is_changed() && changed.newline_added() && changed.text().ends_with("hostNetwork: true\n"));
    Ok(())
}

#[test]
fn wanted_value_that_kube_apiserver_would_not_take_is_refused() {
    let base = || issuers(&[OURS]);
    for (desired, message) in [
        (
            issuers(&[]),
            "issuer \"\" cannot be written into the manifest (nothing changed); kube-apiserver needs at least one",
        ),
        (
            issuers(&[OURS, OURS]),
            "issuer \"https://oidc.example.com\" cannot be written into the manifest (nothing changed); it is wanted twice, and kube-apiserver would not start; give each one once",
        ),
        (
            issuers(&["https://a\n"]),
            "issuer \"https://a\\n\" cannot be written into the manifest (nothing changed); give an https URL without white space, quotes or $",
        ),
        (
            Desired { jwks_uri: Some("http://a".to_owned()), ..base() },
            "JWKS address \"http://a\" cannot be written into the manifest (nothing changed); give an https URL without white space, quotes or $",
        ),
        (
            Desired { api_audiences: Some(vec!["a,b".to_owned()]), ..base() },
            "audience \"a,b\" cannot be written into the manifest (nothing changed); give one without white space, quotes, commas or $",
        ),
        (
            Desired { api_audiences: Some(Vec::new()), ..base() },
            "audience list \"\" cannot be written into the manifest (nothing changed); give at least one audience, or leave --api-audiences alone",
        ),
        (
            Desired { applied: Some("a\"".to_owned()), ..base() },
            "annotation irsad/applied \"a\\\"\" cannot be written into the manifest (nothing changed); give one without white space, quotes or backslashes",
        ),
    ] {
        assert_eq!(edit(POD, &desired), Err(message.to_owned()));
    }
}

#[test]
fn edit_that_would_mean_something_else_is_not_given_out() -> Result<(), ManifestError> {
    // Without its line end the block scalar ends without one too; adding it would change the annotation.
    let text = format!("{}\n  x: |\n    last", POD.trim_end()).replace("metadata:\n", "metadata:\n  labels: {}\n");
    let manifest = Manifest::parse(text.as_bytes())?;
    assert_eq!(manifest.with(&issuers(&[OURS])), Err(ManifestError::Unproven { what: "other parts of the Pod" }));
    Ok(())
}

fn reverted(issuers: &[&str]) -> Reverted {
    let issuers = issuers.iter().map(|issuer| (*issuer).to_owned()).collect();
    Reverted { issuers, jwks_uri: format!("{OURS}/openid/v1/jwks") }
}

fn revert(text: &str, reverted: &Reverted) -> Result<String, String> {
    let edited = parse(text)?.reverted(reverted).map_err(|error| error.to_string())?;
    let again = parse(edited.text())?;
    assert!(again.is_reverted(reverted), "{}", edited.text());
    let again = again.reverted(reverted).map_err(|error| error.to_string())?;
    assert_eq!((again.text(), again.is_changed()), (edited.text(), false), "the second edit changes nothing");
    Ok(edited.text().to_owned())
}

#[test]
fn what_was_added_goes_again_and_the_issuer_of_before_signs() -> Result<(), String> {
    let adopted = Desired {
        issuers: vec![OURS.to_owned(), DEFAULT.to_owned()],
        jwks_uri: Some(format!("{OURS}/openid/v1/jwks")),
        api_audiences: None,
        applied: Some("7-4f2a".to_owned()),
    };
    let ours = format!("    - --service-account-issuer={OURS}\n");
    let back = POD.replace(ISSUER_LINE, &format!("{ISSUER_LINE}{ours}"));
    assert_eq!(revert(&edit(POD, &adopted)?, &reverted(&[DEFAULT, OURS]))?, back);
    assert_eq!(revert(&edit(POD, &adopted)?, &reverted(&[DEFAULT]))?, POD);
    // Where nobody had annotations none are left.
    let bare = POD.replace("  annotations:\n    a.example.com/x: y\n", "");
    assert_eq!(revert(&edit(&bare, &adopted)?, &reverted(&[DEFAULT]))?, bare);
    Ok(())
}

#[test]
fn address_of_somebody_elses_keys_stays() -> Result<(), String> {
    let theirs = "    - --service-account-jwks-uri=https://theirs.example.com/keys\n";
    let text = POD.replace(ISSUER_LINE, &format!("{ISSUER_LINE}{theirs}"));
    assert_eq!(revert(&text, &reverted(&[DEFAULT]))?, text);
    let both = POD.replace(
        ISSUER_LINE,
        &format!("{ISSUER_LINE}    - --service-account-jwks-uri\n    - {OURS}/openid/v1/jwks\n{theirs}"),
    );
    assert_eq!(revert(&both, &reverted(&[DEFAULT]))?, text);
    Ok(())
}

#[test]
fn annotation_that_cannot_be_taken_out_for_certain_is_refused() {
    for annotations in ["{a: b, irsad/applied: \"1-a\"}", "\n    irsad/applied: >-\n      1-a"] {
        let text = POD.replace("annotations:\n    a.example.com/x: y", &format!("annotations: {annotations}"));
        let refused = revert(&text, &reverted(&[DEFAULT]));
        assert!(refused.as_ref().is_err_and(|why| why.starts_with("line ")), "{refused:?}");
    }
    let twice = parse(POD).map(|pod| pod.reverted(&reverted(&[DEFAULT, DEFAULT])).is_err());
    assert_eq!(twice, Ok(true), "kube-apiserver would not start");
}
