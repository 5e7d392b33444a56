//! The flags of kube-apiserver in `command` and `args`: `--flag=value` or `--flag` and `value` in two entries.

use std::collections::HashMap;

use super::ManifestError;
use crate::model::{
    splice,
    yaml::{Layout, Node},
};

/// Flags that are written; each must be one entry (or two) of one line.
pub(super) const ISSUER: &str = "service-account-issuer";
pub(super) const JWKS_URI: &str = "service-account-jwks-uri";
pub(super) const API_AUDIENCES: &str = "api-audiences";

/// The flag that hands the keys to an external signer (KEP-740).
const SIGNING_ENDPOINT: &str = "service-account-signing-endpoint";

/// Flags whose value must be known for certain.
const OURS: [&str; 6] =
    [ISSUER, JWKS_URI, API_AUDIENCES, "service-account-key-file", "service-account-signing-key-file", SIGNING_ENDPOINT];

/// What kubelet starts: `command` and behind it `args`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arguments {
    /// Every entry of both lists.
    pub(super) entries: Vec<Argument>,
    /// The flags of kube-apiserver among them, in order.
    pub(super) flags: Vec<Flag>,
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Argument {
    /// `command` or `args`.
    pub(super) list: &'static str,
    /// The scalar.
    pub(super) node: Node,
}

/// A flag with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Flag {
    /// Without dashes before it, `-` for `_`.
    pub(super) name: String,
    /// `None` for a flag that stands alone.
    value: Option<String>,
    /// 1-based line.
    pub(super) line: usize,
    /// Entry with the name.
    pub(super) entry: usize,
    /// Whether the value is an entry of its own, behind the name.
    pub(super) in_two: bool,
}

impl Argument {
    pub(super) fn text(&self) -> &str {
        self.node.as_text().unwrap_or_default()
    }
}

impl Flag {
    pub(super) fn value(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }

    /// Entry that ends the flag: its value where that stands alone.
    pub(super) fn last_entry(&self) -> usize {
        self.entry + usize::from(self.in_two)
    }

    /// Whether it has no value: the entry behind it could be taken for one.
    pub(super) fn is_alone(&self) -> bool {
        self.value.is_none()
    }

    fn is_ours(&self) -> bool {
        OURS.contains(&self.name.as_str())
    }
}

impl Arguments {
    /// Every occurrence of a flag.
    pub(super) fn named(&self, name: &str) -> Vec<&Flag> {
        self.flags.iter().filter(|flag| flag.name == name).collect()
    }

    /// Values of every occurrence of a flag.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        self.named(name).into_iter().map(|flag| flag.value().to_owned()).collect()
    }

    /// Values of `--service-account-issuer`: not split at commas; kube-apiserver refuses an empty one and one that stands twice.
    pub(super) fn issuers(&self) -> Result<Vec<String>, ManifestError> {
        let mut lines = HashMap::new();
        for flag in self.named(ISSUER) {
            let issuer = flag.value().to_owned();
            if let Some(first) = lines.insert(issuer.clone(), flag.line) {
                return Err(ManifestError::DuplicateIssuer { line: flag.line, first, issuer });
            }
        }
        Ok(self.values(ISSUER))
    }

    /// Values of `--api-audiences`: split at commas, further occurrences add to the first (pflag `StringSlice`).
    pub(super) fn api_audiences(&self) -> Option<Vec<String>> {
        let all: Vec<String> = self
            .named(API_AUDIENCES)
            .into_iter()
            .filter(|flag| !flag.value().is_empty())
            .flat_map(|flag| flag.value().split(','))
            .map(str::to_owned)
            .collect();
        (!all.is_empty()).then_some(all)
    }
}

/// Reads the flags of the kube-apiserver container.
pub(super) fn read(text: &str, container: &Node) -> Result<Arguments, ManifestError> {
    let mut entries = entries_of(container, "command")?;
    if entries.is_empty() {
        return Err(ManifestError::NotAList { line: container.place.line, what: "command" });
    }
    entries.extend(entries_of(container, "args")?);
    let flags = flags_of(&entries)?;
    for (position, flag) in flags.iter().enumerate().filter(|(_, flag)| flag.is_ours()) {
        check_place(&entries, &flags[..position], flag)?;
        check_form(text, &entries, flag)?;
        check_value(&entries, flag)?;
    }
    Ok(Arguments { entries, flags })
}

/// The entries of one list; none where it is absent.
fn entries_of(container: &Node, what: &'static str) -> Result<Vec<Argument>, ManifestError> {
    let Some(list) = container.get(what).filter(|list| !list.is_empty()) else {
        return Ok(Vec::new());
    };
    let line = list.place.line;
    let items = list.items().ok_or(ManifestError::NotAList { line, what })?;
    if list.layout() == Some(Layout::Flow) && !items.is_empty() {
        return Err(ManifestError::FlowStyle { line, what });
    }
    let argument = |node: &Node| match node.as_text() {
        Some(_) => Ok(Argument { list: what, node: node.clone() }),
        None => Err(ManifestError::NotAList { line: node.place.line, what }),
    };
    items.iter().map(argument).collect()
}

/// Position behind the name of the program: kube-apiserver first, or go-runner, its flags and kube-apiserver.
fn first_flag(entries: &[Argument]) -> Result<usize, ManifestError> {
    let program = |argument: &Argument| argument.text().rsplit('/').next().unwrap_or_default().to_owned();
    let is_api_server =
        |argument: &Argument| !argument.text().starts_with('-') && program(argument) == "kube-apiserver";
    let launcher = || ManifestError::Launcher {
        line: entries[0].node.place.line,
        program: entries[0].text().chars().take(60).collect(),
    };
    match entries.iter().position(is_api_server) {
        Some(0) => Ok(1),
        Some(position) if program(&entries[0]) == "go-runner" => Ok(position + 1),
        Some(_) | None => Err(launcher()),
    }
}

fn flags_of(entries: &[Argument]) -> Result<Vec<Flag>, ManifestError> {
    let (mut flags, mut at) = (Vec::new(), first_flag(entries)?);
    while let Some(argument) = entries.get(at) {
        let (text, line) = (argument.text(), argument.node.place.line);
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        if name.contains("$(") {
            return Err(ManifestError::Expansion { line, text: text.to_owned() });
        }
        match text {
            "" => (),
            "--" => return Err(ManifestError::EndOfFlags { line }),
            _ if !text.starts_with('-') => return Err(ManifestError::StrayText { line, text: text.to_owned() }),
            _ => {
                // kube-apiserver takes --service_account_issuer for --service-account-issuer (WordSepNormalizeFunc).
                let name = name.trim_start_matches('-').replace('_', "-");
                let next =
                    entries.get(at + 1).map(Argument::text).filter(|next| value.is_none() && !next.starts_with('-'));
                let in_two = next.is_some();
                flags.push(Flag { name, value: value.or(next.map(str::to_owned)), line, entry: at, in_two });
                at += usize::from(in_two);
            }
        }
        at += 1;
    }
    Ok(flags)
}

/// Refuses a flag of ours that is another flag's value, in both lists, or for an external signer.
fn check_place(entries: &[Argument], before: &[Flag], flag: &Flag) -> Result<(), ManifestError> {
    let line = flag.line;
    if flag.name == SIGNING_ENDPOINT {
        return Err(ManifestError::ExternalSigner { line });
    }
    if let Some(bare) = before.last().filter(|previous| previous.is_alone()) {
        let before = entries[bare.entry].text().to_owned();
        return Err(ManifestError::Ambiguous { line, flag: flag.name.clone(), before });
    }
    let list = entries[flag.entry].list;
    let elsewhere = |other: &&Flag| other.name == flag.name && entries[other.entry].list != list;
    match before.iter().find(elsewhere) {
        Some(other) => Err(ManifestError::BothLists { line, first: other.line, flag: flag.name.clone() }),
        None if entries[flag.last_entry()].list != list => Err(ManifestError::BothLists {
            line: entries[flag.last_entry()].node.place.line,
            first: line,
            flag: flag.name.clone(),
        }),
        None => Ok(()),
    }
}

/// Refuses a flag of ours that is not one scalar a line.
fn check_form(text: &str, entries: &[Argument], flag: &Flag) -> Result<(), ManifestError> {
    for argument in &entries[flag.entry..=flag.last_entry()] {
        if splice::item_prefix(text, &argument.node).is_none() {
            return Err(ManifestError::NotOneLine { line: argument.node.place.line, what: format!("--{}", flag.name) });
        }
    }
    Ok(())
}

/// Refuses a value that kube-apiserver or kubelet would take for something else.
fn check_value(entries: &[Argument], flag: &Flag) -> Result<(), ManifestError> {
    let Some(value) = &flag.value else {
        return Err(ManifestError::NoValue { line: flag.line, flag: flag.name.clone() });
    };
    if value.contains('$') {
        return Err(ManifestError::Expansion { line: flag.line, text: entries[flag.last_entry()].text().to_owned() });
    }
    let may_be_empty = flag.name == API_AUDIENCES;
    let printable = value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\''));
    if printable && (may_be_empty || !value.is_empty()) {
        return Ok(());
    }
    Err(ManifestError::Value { line: flag.line, flag: flag.name.clone(), value: value.clone() })
}
