//! The house rules that no compiler checks: layers, homes of crates, size of files, banned names, promises in the tree.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Longest file, in lines before its tests.
const LONGEST_FILE: usize = 400;

/// Layers from the bottom up: a module may use those of an earlier row, and its own.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["host", "store", "aws", "cluster", "webhook"],
    &["config"],
    &["private_keys"],
    &["world"],
    &["observe", "execute"],
    &["daemon"],
    &["cli"],
    &["main"],
];

/// The one exception among neighbours: the stores in S3 and in Secrets keep the stores' contract.
const ALLOWED: &[(&str, &str)] = &[("aws/", "store"), ("cluster/secrets.rs", "store")];

/// Crates that only one module may know, beside the standard ones.
const HOMES: &[(&str, &[&str])] = &[
    ("aws_config", &["aws/mod.rs", "aws/"]),
    ("aws_lc_rs", &["model/sealed.rs"]),
    ("aws_sdk_iam", &["aws/"]),
    ("aws_sdk_kms", &["aws/kms.rs"]),
    ("aws_sdk_s3", &["aws/"]),
    ("aws_sdk_sts", &["aws/"]),
    ("aws_smithy_runtime_api", &["aws/calls.rs"]),
    ("aws_smithy_types", &["aws/calls.rs"]),
    ("clap", &["cli/", "main.rs"]),
    ("clap_complete", &["cli/completions.rs"]),
    ("granit_parser", &["model/yaml.rs"]),
    ("hyper", &["webhook/", "cluster/fake.rs", "daemon/metrics/"]),
    ("hyper_rustls", &["store/public.rs"]),
    ("hyper_util", &["store/public.rs", "cluster/fake.rs", "webhook/", "daemon/metrics/"]),
    ("inotify", &["host/watch.rs"]),
    ("k8s_openapi", &["cluster/"]),
    ("kube", &["cluster/"]),
    ("listenfd", &["host/systemd.rs"]),
    ("nix", &["host/"]),
    ("p256", &["model/key"]),
    ("pem", &["model/key"]),
    ("prometheus_client", &["daemon/metrics"]),
    ("rcgen", &["webhook/", "cluster/fake.rs"]),
    ("rsa", &["model/key"]),
    ("sd_notify", &["host/systemd.rs"]),
    ("serde_yaml", &["model/yaml.rs"]),
    ("similar", &["cli/"]),
    ("tokio_rustls", &["webhook/", "cluster/fake.rs"]),
    ("tracing_journald", &["host/systemd.rs"]),
    ("tracing_subscriber", &["host/systemd.rs"]),
    ("x509_cert", &["model/key", "webhook/certificate.rs"]),
];

/// Words that say nothing about what a module is.
const BANNED_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager"];

/// What the pure layer must not reach for.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio::",
    "tracing::",
    "async fn",
    "Timestamp::now",
    "OsRng",
    "thread_rng",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with one of `endings`, with its path relative to the project.
fn files(folder: &str, endings: &[&str]) -> BTreeMap<String, String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() && !path.is_symlink() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found
        .into_iter()
        .filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)))
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            Some((path.strip_prefix(root()).ok()?.to_string_lossy().into_owned(), text))
        })
        .collect()
}

fn sources() -> BTreeMap<String, String> {
    let found = files("src", &[".rs"]);
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The text before the tests.
fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// Code lines without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    before_tests(text).lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn module(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

#[test]
fn imports_go_downwards_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let from = module(&path);
        if from == "lib" {
            continue;
        }
        let Some(from_layer) = layer(from) else {
            wrong.push(format!("{path}: module {from} has no place in LAYERS"));
            continue;
        };
        for (number, line) in code(&text) {
            let Some(used) = line.split("crate::").nth(1).or_else(|| line.split("irsad::").nth(1)) else { continue };
            let to = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            let Some(to_layer) = layer(to) else { continue };
            let place = path.trim_start_matches("src/");
            let is_exception = ALLOWED.iter().any(|(files, used)| place.starts_with(files) && *used == to);
            let allowed = to == from || to_layer < from_layer || is_exception;
            if !allowed {
                wrong.push(format!("{path}:{}: {from} must not use {to}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_crate_is_used_in_its_home_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let place = path.trim_start_matches("src/");
        for (name, homes) in HOMES {
            if homes.iter().any(|home| place.starts_with(home)) {
                continue;
            }
            for (number, line) in code(&text) {
                let uses = line.trim_start().starts_with(&format!("use {name}::"))
                    || line
                        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                        .any(|word| word.starts_with(&format!("{name}::")));
                if uses {
                    wrong.push(format!("{path}:{}: {name} is at home in {homes:?}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn model_reaches_for_nothing_outside() {
    let mut wrong = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("src/model/")) {
        for (number, line) in code(&text) {
            if let Some(found) = IMPURE.iter().find(|found| line.contains(*found)) {
                wrong.push(format!("{path}:{}: {found}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Modules that are compiled for tests only.
fn test_modules(sources: &BTreeMap<String, String>) -> Vec<String> {
    let declared = |text: &String| {
        let lines: Vec<&str> = text.lines().collect();
        let pairs = lines.windows(2).filter(|pair| pair[0].trim() == "#[cfg(test)]");
        pairs
            .filter_map(|pair| pair[1].trim().strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned))
            .collect::<Vec<_>>()
    };
    sources.values().flat_map(declared).collect()
}

#[test]
fn files_are_short_enough_to_be_read_at_once() {
    let tests = test_modules(&sources());
    let is_test = |path: &str| tests.iter().any(|name| path.ends_with(&format!("/{name}.rs")));
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, before_tests(&text).lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("{path}: {lines} lines before its tests, at most {LONGEST_FILE}"))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Name, version and checksum of every package in a lock file.
fn locked(path: &str) -> Vec<[String; 3]> {
    let text = fs::read_to_string(root().join(path)).unwrap_or_default();
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let packages = text.split("[[package]]").skip(1);
    packages.map(|package| ["name", "version", "checksum"].map(|name| field(package, name))).collect()
}

#[test]
fn what_is_fuzzed_is_built_from_the_crates_of_the_program() {
    const OF_FUZZING: [&str; 3] = ["arbitrary", "irsad-fuzz", "libfuzzer-sys"];
    let (fuzzed, program) = (locked("fuzz/Cargo.lock"), locked("Cargo.lock"));
    assert!(fuzzed.len() > 20 && program.len() > fuzzed.len(), "the lock files were not found");
    let others: Vec<_> = fuzzed.iter().filter(|package| !program.contains(package)).collect();
    let wrong: Vec<_> = others.iter().filter(|[name, ..]| !OF_FUZZING.contains(&name.as_str())).collect();
    assert!(
        wrong.is_empty(),
        "cp Cargo.lock fuzz/Cargo.lock && cargo update --workspace --manifest-path fuzz/Cargo.toml; not as in Cargo.lock: {wrong:?}"
    );
}

#[test]
fn names_say_what_a_thing_is() {
    let wrong: Vec<String> = files("src", &[".rs"])
        .into_keys()
        .chain(files("tests", &[".rs", ".py"]).into_keys())
        .filter(|path| path.split(['/', '.']).any(|part| BANNED_NAMES.contains(&part)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nothing_is_left_for_later_without_an_owner_and_an_end() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let word = ["TODO", "FIXME", "XXX"].iter().find(|word| line.contains(*word));
            if word.is_some_and(|word| !line.contains(&format!("{word}("))) {
                wrong.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn private_keys_in_the_tree_are_test_keys_and_say_so() {
    let allowed = ["tests/fixtures/", "examples/quickstart/"];
    let mut wrong = Vec::new();
    for folder in ["src", "packaging", "examples", "tests", "cloud-init", "vm-tests"] {
        for (path, text) in files(folder, &["", ".rs", ".key", ".pem", ".yaml", ".md"]) {
            let holds_a_key =
                text.lines().any(|line| line.trim().starts_with("-----BEGIN") && line.contains("PRIVATE KEY-----"));
            if holds_a_key && !allowed.iter().any(|place| path.starts_with(place)) {
                wrong.push(path);
            }
        }
    }
    assert!(wrong.is_empty(), "private keys outside {allowed:?}: {wrong:?}");
}

/// The repository's pages, by their paths.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for folder in ["docs", "examples", "packaging", "tests", "cloud-init", "vm-tests"] {
        pages.extend(files(folder, &[".md"]));
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    pages.insert("README.md".to_owned(), readme);
    pages
}

/// Addresses of its links, without those to elsewhere.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links.filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
}

/// What stands behind `#` in links to its headings, as GitHub makes it of them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    headings.map(anchor).collect()
}

/// The file that a link of `page` leads to; an empty path is the page itself.
fn target(page: &str, path: &str) -> PathBuf {
    let mut target = PathBuf::from(page);
    if path.is_empty() {
        return target;
    }
    target.pop();
    for part in Path::new(path) {
        match part.to_str() {
            Some("..") => drop(target.pop()),
            Some(".") => {}
            Some(_) | None => target.push(part),
        }
    }
    target
}

#[test]
fn links_between_pages_lead_somewhere() {
    let (pages, mut wrong) = (pages(), Vec::new());
    assert!(pages.len() > 20, "the pages were not found: {:?}", pages.keys());
    for (page, text) in &pages {
        for link in links(text) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = target(page, path);
            let is_there = root().join(&target).exists();
            let known = pages.get(&*target.to_string_lossy()).map(|text| anchors(text)).unwrap_or_default();
            if !is_there || !(anchor.is_empty() || known.iter().any(|known| known == anchor)) {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_page_of_docs_is_in_the_table_of_the_readme() {
    let pages = pages();
    let linked: Vec<&str> = pages.get("README.md").map(|text| links(text).collect()).unwrap_or_default();
    let missing: Vec<_> =
        pages.keys().filter(|page| page.starts_with("docs/") && !linked.contains(&page.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
