//! What the packages hold beside the program says what the program does.

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::CommandFactory as _;
use irsad::cli::Cli;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Switches that every command has without anybody saying so.
const BUILT_IN: [&str; 2] = ["help", "version"];

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// irsad(8) as a person reads it, without escapes.
fn manual() -> Result<String> {
    Ok(fs::read_to_string(packaging().join("man/irsad.8"))?.replace("\\-", "-"))
}

/// The part below `heading`, up to the next one.
fn part<'a>(manual: &'a str, heading: &str) -> Option<&'a str> {
    let (_, after) = manual.split_once(&format!("\n{heading}\n"))?;
    after.split("\n.S").next()
}

/// The options that `text` has an entry of.
fn described(text: &str) -> Vec<&str> {
    let entries = text.lines().filter(|line| line.starts_with(".B"));
    let words = entries.flat_map(|line| line.split([' ', '"', ',']));
    let mut options: Vec<&str> = words.filter_map(|word| word.strip_prefix("--")).collect();
    options.sort_unstable();
    options.dedup();
    options
}

/// The long options of `command` and of what stands below it, without those of every command.
fn options(command: &clap::Command) -> Vec<&str> {
    let below = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let own = command.get_arguments().chain(below).filter(|argument| !argument.is_global_set());
    let mut options: Vec<&str> =
        own.filter_map(|argument| argument.get_long()).filter(|name| !BUILT_IN.contains(name)).collect();
    options.sort_unstable();
    options.dedup();
    options
}

#[test]
fn manual_has_every_command_with_its_options_and_no_other() -> Result {
    let (manual, cli) = (manual()?, Cli::command());
    let mut named: Vec<&str> = manual.lines().filter_map(|line| line.strip_prefix(".SS irsad ")).collect();
    let mut commands: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    named.sort_unstable();
    commands.sort_unstable();
    assert_eq!(named, commands);

    for command in cli.get_subcommands() {
        let text = part(&manual, &format!(".SS irsad {}", command.get_name())).ok_or("no part")?;
        let entries: String = text
            .split("\n.TP\n")
            .skip(1)
            .filter_map(|entry| entry.lines().next())
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(described(&entries), options(command), "irsad {}", command.get_name());
    }
    Ok(())
}

#[test]
fn manual_has_the_options_of_every_command() -> Result {
    let manual = manual()?;
    let cli = Cli::command();
    let global = cli.get_arguments().filter_map(|argument| argument.get_long());
    let mut expected: Vec<&str> = global.chain(BUILT_IN).collect();
    expected.sort_unstable();
    expected.dedup();
    let text = part(&manual, ".SH OPTIONS").ok_or("no part")?;
    assert_eq!(described(text), expected);
    Ok(())
}

#[test]
fn iam_policies_are_those_that_irsad_prints() -> Result {
    let root = tempfile::tempdir()?;
    let configuration = root.path().join("irsad.yaml");
    let smallest = "version: 1\ncluster: prod-1\nissuer: { store: s3://prod-1-oidc }\naws: { region: eu-west-1 }\n";
    let keyring = "keyring: { store: s3://prod-1-keys, kmsKey: alias/irsad }\n";
    for (file, more, arguments) in [
        ("node-policy.json", "", &["iam-policy"][..]),
        ("node-policy-keyring-in-s3.json", keyring, &["iam-policy"]),
        ("role-trust-policy.json", "", &["trust-policy", "--namespace", "shop", "--service-account", "checkout"]),
    ] {
        fs::write(&configuration, [smallest, more].concat())?;
        let output = Command::new(env!("CARGO_BIN_EXE_irsad"))
            .args(arguments)
            .args(["--account", "123456789012", "--config"])
            .arg(&configuration)
            .output()?;
        assert!(output.status.success(), "{output:?}");
        let shipped = fs::read_to_string(packaging().join("iam").join(file))?;
        assert_eq!(String::from_utf8(output.stdout)?.trim_end(), shipped.trim_end(), "packaging/iam/{file}");
    }
    Ok(())
}

/// The file of alerts.
fn rules() -> Result<String> {
    Ok(fs::read_to_string(packaging().join("prometheus/irsad.rules.yaml"))?)
}

/// What stands behind `key` in each line that begins with it.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(key)).map(str::trim).collect()
}

/// Names of irsad's metrics in `text`.
fn metrics(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("irsad_")).collect()
}

#[test]
fn manual_says_what_to_do_about_each_alert_and_each_points_there() -> Result {
    let (manual, rules) = (manual()?, rules()?);
    let section = part(&manual, ".SH ALERTS").ok_or("no section ALERTS")?;
    let entries: Vec<&str> =
        section.split("\n.TP\n.B ").skip(1).filter_map(|entry| entry.split_once('\n').map(|(name, _)| name)).collect();
    let alerts = values(&rules, "alert:");
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(entries, alerts, "in the same order");
    let pointers: Vec<String> = alerts.iter().map(|name| format!("\"man 8 irsad, section ALERTS, {name}\"")).collect();
    assert_eq!(values(&rules, "runbook:"), pointers);
    Ok(())
}

#[test]
fn each_alert_is_tried_firing_and_quiet() -> Result {
    let (rules, tried) =
        (rules()?, Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prometheus/irsad.rules.test.yaml"));
    let tried = fs::read_to_string(tried)?;
    for alert in values(&rules, "alert:") {
        let quiet = tried.matches(&format!("alertname: {alert}, exp_alerts: [] }}")).count();
        let fires = tried.matches(&format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels:")).count();
        assert!(fires > 0 && quiet > 2, "{alert}: {fires} times firing, {quiet} times quiet");
    }
    Ok(())
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() -> Result {
    let manual = manual()?;
    let known = metrics(part(&manual, ".SH METRICS").ok_or("no section METRICS")?);
    let dashboard = fs::read_to_string(packaging().join("grafana/irsad.json"))?;
    let rules = rules()?;
    for (file, text) in
        [("alerts", values(&rules, "expr:").join("\n")), ("dashboard", values(&dashboard, "\"expr\":").join("\n"))]
    {
        let asked: BTreeSet<&str> = metrics(&text).into_iter().map(|name| name.trim_end_matches("_bucket")).collect();
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(asked.len() > 10 && unknown.is_empty(), "{file}: {unknown:?}");
    }
    Ok(())
}
