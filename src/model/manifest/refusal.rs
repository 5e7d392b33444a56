//! Why a manifest is not read or not edited: sentences for the operator who has to change it.

use thiserror::Error;

use crate::model::yaml::YamlError;

/// Why a manifest is refused. Nothing has been changed; lines are counted from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    /// The text is no YAML that can be edited for certain.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// No document.
    #[error("the file is empty; put the kube-apiserver Pod back")]
    Empty,
    /// More than one document.
    #[error("line {line}: a second document; a static Pod file holds one Pod, move the other to a file of its own")]
    SeveralDocuments {
        /// Where the second one begins.
        line: usize,
    },
    /// Another kind of object.
    #[error("line {line}: not a Pod with apiVersion v1, kind Pod, metadata and spec; is it the right file?")]
    NotAPod {
        /// Where the document begins.
        line: usize,
    },
    /// No container of that name.
    #[error("line {line}: no container is named kube-apiserver; is it the right file?")]
    NoContainer {
        /// Where the spec begins.
        line: usize,
    },
    /// Two containers of that name.
    #[error("line {line}: a second container named kube-apiserver (first in line {first}); keep one")]
    TwoContainers {
        /// The second.
        line: usize,
        /// The first.
        first: usize,
    },
    /// `[…]` or `{…}` where lines are needed.
    #[error("line {line}: {what} is written in one line with brackets; write one entry a line")]
    FlowStyle {
        /// Where.
        line: usize,
        /// What is written so.
        what: &'static str,
    },
    /// A list of texts is something else.
    #[error("line {line}: {what} is not a list of texts; write one flag an entry")]
    NotAList {
        /// Where.
        line: usize,
        /// `command` or `args`.
        what: &'static str,
    },
    /// The program is not kube-apiserver itself or go-runner in front of it.
    #[error(
        "line {line}: the container starts {program:?}; only kube-apiserver, alone or behind go-runner, with one flag an entry is understood, no shell"
    )]
    Launcher {
        /// Where.
        line: usize,
        /// First word of the command.
        program: String,
    },
    /// A word that is neither flag nor value.
    #[error(
        "line {line}: {text:?} is neither a flag nor the value of one, kube-apiserver would not start; take it out"
    )]
    StrayText {
        /// Where.
        line: usize,
        /// The word.
        text: String,
    },
    /// `--` ends the flags.
    #[error("line {line}: -- ends the flags, what follows has no effect; take it out")]
    EndOfFlags {
        /// Where.
        line: usize,
    },
    /// A flag that stands alone.
    #[error("line {line}: --{flag} has no value, kube-apiserver would not start; write --{flag}=VALUE")]
    NoValue {
        /// Where.
        line: usize,
        /// Its name.
        flag: String,
    },
    /// One of our flags could be the value of the flag before it.
    #[error(
        "line {line}: --{flag} follows {before} and could be taken for its value; write {before}=VALUE in one entry, {before}=true for a switch"
    )]
    Ambiguous {
        /// Where our flag stands.
        line: usize,
        /// Our flag.
        flag: String,
        /// The flag before it, with its dashes.
        before: String,
    },
    /// `$(VAR)` in a flag that must be read.
    #[error("line {line}: {text:?} has a $ in it, which kubelet may replace from the environment; write the value out")]
    Expansion {
        /// Where.
        line: usize,
        /// The entry.
        text: String,
    },
    /// One of our flags in both lists.
    #[error("line {line}: --{flag} stands in both command and args (first in line {first}); keep it in one of them")]
    BothLists {
        /// The second.
        line: usize,
        /// The first.
        first: usize,
        /// Its name.
        flag: String,
    },
    /// One of our flags is not one entry in one line.
    #[error(
        "line {line}: {what} is spread over lines or written in a way that cannot be edited; write it as one entry in one line"
    )]
    NotOneLine {
        /// Where.
        line: usize,
        /// What is written so.
        what: String,
    },
    /// An external signer has the keys.
    #[error(
        "line {line}: --service-account-signing-endpoint gives the keys to an external signer; irsad works with key files only, take the flag out or stop irsad"
    )]
    ExternalSigner {
        /// Where.
        line: usize,
    },
    /// An issuer twice.
    #[error(
        "line {line}: issuer {issuer} stands twice (first in line {first}), kube-apiserver would not start; keep one"
    )]
    DuplicateIssuer {
        /// The second.
        line: usize,
        /// The first.
        first: usize,
        /// The issuer.
        issuer: String,
    },
    /// A value kube-apiserver does not take.
    #[error(
        "line {line}: --{flag}={value:?} is empty or has white space, quotes or other unexpected characters in it; correct it"
    )]
    Value {
        /// Where.
        line: usize,
        /// Its name.
        flag: String,
        /// Its value.
        value: String,
    },
    /// A port that is none.
    #[error("line {line}: --secure-port={value} is not a port from 1 to 65535; correct it")]
    SecurePort {
        /// Where.
        line: usize,
        /// Its value.
        value: String,
    },
    /// What is to be written would not be taken.
    #[error("{what} {value:?} cannot be written into the manifest (nothing changed); {cure}")]
    Desired {
        /// Which of the wanted values.
        what: &'static str,
        /// The value.
        value: String,
        /// What to do.
        cure: &'static str,
    },
    /// The edited text does not mean exactly what was intended.
    #[error(
        "the edit would also change {what} (nothing changed); write the flags by hand and report this manifest as a mistake of irsad"
    )]
    Unproven {
        /// What differs.
        what: &'static str,
    },
}
