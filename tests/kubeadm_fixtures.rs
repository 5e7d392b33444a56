//! kubeadm configurations that real kubeadm has read: the edit changes exactly our lines, in every form.

use std::{error::Error, fs, path::PathBuf};

use irsad::model::{
    kubeadm::{ApiVersion, KubeadmConfig, issuers_to_write},
    yaml::{self, Limits},
};
use proptest::{collection::vec, prelude::*, sample::select};

const ISSUER: &str = "service-account-issuer";
const JWKS_URI: &str = "service-account-jwks-uri";
const OURS: &str = "https://oidc.example.com/prod-1";

type Outcome = Result<(), Box<dyn Error>>;

fn configs() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kubeadm-configs");
    let mut found = Vec::new();
    for file in fs::read_dir(&root)?.collect::<Result<Vec<_>, _>>()? {
        found.push((file.file_name().to_string_lossy().into_owned(), fs::read_to_string(file.path())?));
    }
    found.sort();
    assert!(found.len() >= 9, "only {} configurations in {}", found.len(), root.display());
    Ok(found)
}

/// The text with these lines put below (`>`), or in the place of (`=`), the first line that contains the mark.
fn replaced(old: &str, changes: &[(&str, char, &str)]) -> String {
    let mut lines: Vec<String> = old.lines().map(str::to_owned).collect();
    for (mark, how, new) in changes {
        let at = lines.iter().position(|line| line.contains(mark)).unwrap_or(usize::MAX);
        match how {
            '>' => lines[at] += &format!("\n{new}"),
            _ => lines[at] = (*new).to_owned(),
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn preparing_a_real_configuration_changes_exactly_our_lines() -> Outcome {
    let list = |indent: &str, second: &str| {
        format!(
            "{indent}- name: {ISSUER}\n{indent}  value: {OURS}\n{indent}- name: {ISSUER}\n{indent}  value: {second}\n{indent}- name: {JWKS_URI}\n{indent}  value: {OURS}/jwks"
        )
    };
    let default = "https://kubernetes.default.svc.cluster.local";
    for (name, old) in configs()? {
        let config = KubeadmConfig::parse(old.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
        let chosen = issuers_to_write(&config, &OURS.parse()?, None).issuers;
        let wanted = [(ISSUER, chosen), (JWKS_URI, vec![format!("{OURS}/jwks")])];
        let edited = config.with_api_server_args(&wanted).map_err(|error| format!("{name}: {error}"))?;
        let api_server = format!("apiServer:\n  extraArgs:\n{}", list("  ", default));
        let expected = match name.as_str() {
            "default.yaml" => old.replacen(
                "kind: ClusterConfiguration\n",
                &format!("kind: ClusterConfiguration\n{api_server}\n"),
                1,
            ),
            "extra-args.yaml" | "extra-volumes.yaml" => replaced(&old, &[("  extraArgs:", '>', &list("    ", default))]),
            "structured-authentication.yaml" => replaced(&old, &[("  extraArgs:", '>', &list("  ", default))]),
            "audience.yaml" => old.replace(
                "extraArgs: [",
                &format!(
                    "extraArgs: [{{name: {ISSUER}, value: \"{OURS}\"}}, {{name: {ISSUER}, value: \"{default}\"}}, {{name: {JWKS_URI}, value: \"{OURS}/jwks\"}}, "
                ),
            ),
            "two-issuers.yaml" => replaced(
                &old,
                &[(
                    "  extraArgs:",
                    '>',
                    &format!("  - name: {ISSUER}\n    value: {OURS}\n  - name: {JWKS_URI}\n    value: {OURS}/jwks"),
                )],
            ),
            "keys-by-hand.yaml" => replaced(
                &old,
                &[
                    ("  extraArgs:", '>', &format!("    - name: {ISSUER}\n      value: {OURS}")),
                    ("/keys.json", '=', &format!("      value: {OURS}/jwks")),
                ],
            ),
            "v1beta3.yaml" => replaced(
                &old,
                &[
                    ("  extraArgs:", '>', &format!("    {JWKS_URI}: {OURS}/jwks")),
                    ("service-account-issuer:", '=', &format!("    {ISSUER}: {OURS}")),
                ],
            ),
            "v1beta3-without-extra-args.yaml" => replaced(
                &old,
                &[(
                    "kind: ClusterConfiguration",
                    '>',
                    &format!("apiServer:\n  extraArgs:\n    {ISSUER}: {OURS}\n    {JWKS_URI}: {OURS}/jwks"),
                )],
            ),
            other => return Err(format!("no expectation for {other}").into()),
        };
        assert_eq!(edited.text(), expected, "{name}");
        let again = KubeadmConfig::parse(edited.text().as_bytes())?.with_api_server_args(&wanted)?;
        assert_eq!((again.text(), again.is_changed()), (edited.text(), false), "{name}");
    }
    Ok(())
}

#[test]
fn real_configurations_are_read() -> Outcome {
    for (name, text) in configs()? {
        let config = KubeadmConfig::parse(text.as_bytes())?;
        let version = if name.starts_with("v1beta3") { ApiVersion::V1Beta3 } else { ApiVersion::V1Beta4 };
        assert_eq!((config.api_version(), config.kubernetes_version()), (version, Some("v1.36.3")), "{name}");
        assert_eq!(config.dns_domain(), "cluster.local", "{name}");
        let arguments = match name.as_str() {
            "default.yaml" | "v1beta3-without-extra-args.yaml" => 0,
            "structured-authentication.yaml" => 1,
            "audience.yaml" | "two-issuers.yaml" => 2,
            "extra-volumes.yaml" | "v1beta3.yaml" => 3,
            "keys-by-hand.yaml" => 6,
            _ => 11,
        };
        assert_eq!(config.api_server_args().len(), arguments, "{name}");
    }
    Ok(())
}

/// One entry of a generated list: its name and value, how it is written, and what stands above it.
type Entry = (&'static str, &'static str, usize, &'static str);

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let name = select(vec![ISSUER, ISSUER, "v", "api-audiences", "audit-log-path"]);
    let value = select(vec!["https://a", "https://b", "https://c", "x", ""]);
    vec((name, value, 0..4_usize, select(vec!["", "", "# above\n", "\n", "      # deep\n"])), 0..8)
}

fn written((name, value, form, above): &Entry, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let entry = match form {
        0 => format!("{pad}- name: {name}\n{pad}  value: \"{value}\"\n"),
        1 => format!("{pad}-   value: '{value}' # mine\n{pad}    name: {name}\n"),
        2 => format!("{pad}- {{name: {name}, value: \"{value}\"}}   # short\n"),
        _ => format!("{pad}- name: '{name}'\n{pad}  # between\n\n{pad}  value: \"{value}\"\n"),
    };
    format!("{above}{entry}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wanted_values_are_set_and_every_other_argument_and_line_stays(
        entries in entries(),
        wanted in vec(select(vec!["https://a", "https://b", "https://c", "https://ours"]), 0..4),
        indent in select(vec![2, 4, 6]),
        flow in any::<bool>(),
        line_end in any::<bool>(),
        around in any::<(bool, bool)>(),
    ) {
        let list = match flow {
            true => {
                let list: Vec<String> = entries.iter().map(|(name, value, ..)| format!("{{name: {name}, value: '{value}'}}")).collect();
                format!(" [{}] # flow\n", list.join(", "))
            }
            false => format!("\n{}", entries.iter().map(|entry| written(entry, indent)).collect::<String>()),
        };
        let other = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n# kept\n";
        let mut old = format!(
            "{}apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer:\n  extraArgs:{list}scheduler: {{}}\n{}",
            if around.0 { format!("{other}---\n") } else { String::new() },
            if around.1 { format!("---\n{other}") } else { String::new() },
        );
        if !line_end {
            old.pop();
        }
        let fail = |error: &dyn Error| TestCaseError::fail(format!("{error}\n{old}"));
        let config = KubeadmConfig::parse(old.as_bytes()).map_err(|error| fail(&error))?;
        let wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
        let edited = match config.with_api_server_args(&[(ISSUER, wanted.clone())]) {
            Ok(edited) => edited,
            // Taking several entries out of brackets at once is the one thing that may be refused.
            Err(error) => {
                prop_assert!(flow && wanted.is_empty(), "{error}\n{old}");
                return Ok(());
            }
        };
        let new = KubeadmConfig::parse(edited.text().as_bytes()).map_err(|error| fail(&error))?;
        prop_assert_eq!(new.api_server_arg(ISSUER), wanted.iter().map(String::as_str).collect::<Vec<_>>());
        let others = |config: &KubeadmConfig| -> Vec<(String, String)> {
            let others = config.api_server_args().into_iter().filter(|(name, _)| *name != ISSUER);
            others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        prop_assert_eq!(others(&new), others(&config));
        let rest = |text: &str| -> Result<Vec<serde_json::Value>, TestCaseError> {
            let stream = yaml::parse(text.as_bytes(), &Limits::PLAIN).map_err(|error| fail(&error))?;
            let mut values = stream.values().map_err(|error| fail(&error))?;
            values.iter_mut().filter(|value| value["apiServer"].is_object()).for_each(|value| value["apiServer"] = true.into());
            Ok(values)
        };
        prop_assert_eq!(rest(edited.text())?, rest(&old)?);
        // Every old line that is no part of one of our entries is still there, in order.
        let mut lines = edited.text().lines();
        let ours = |line: &str| ["service-account-issuer", "https://", "extraArgs:", "# between"].iter().any(|mark| line.contains(mark));
        for line in old.lines().filter(|line| !ours(line) && !line.trim().is_empty() && !line.contains("value: ")) {
            prop_assert!(lines.any(|new| new == line), "{line:?} is gone\n{old}\n{}", edited.text());
        }
        let again = new.with_api_server_args(&[(ISSUER, wanted)]).map_err(|error| fail(&error))?;
        prop_assert!(!again.is_changed());
    }

    #[test]
    fn arbitrary_configuration_never_panics(tokens in vec(token(), 0..40), bytes in vec(any::<u8>(), 0..100)) {
        let head = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer:";
        for text in [tokens.concat().into_bytes(), format!("{head}{}", tokens.concat()).into_bytes(), bytes] {
            let wanted = [(ISSUER, vec![OURS.to_owned()])];
            let Ok(config) = KubeadmConfig::parse(&text) else { continue };
            let Ok(edited) = config.with_api_server_args(&wanted) else { continue };
            let new = KubeadmConfig::parse(edited.text().as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(new.api_server_arg(ISSUER), vec![OURS]);
            let again = new.with_api_server_args(&wanted).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(!again.is_changed());
        }
    }
}

fn token() -> impl Strategy<Value = String> {
    let tokens = [
        " ",
        "\n",
        "\n  ",
        "\n    ",
        "\n  - ",
        "- ",
        ": ",
        "extraArgs:",
        "extraArgs: {",
        "extraArgs: [",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "name: ",
        "value: ",
        "service-account-issuer",
        "x",
        "'",
        "\"",
        "#",
        " # c",
        "|",
        ">-",
        "---\n",
        "~",
        "null",
        "é",
        "kind: ClusterConfiguration\n",
        "apiVersion: kubeadm.k8s.io/v1beta3\n",
    ];
    select(tokens.map(str::to_owned).to_vec())
}
