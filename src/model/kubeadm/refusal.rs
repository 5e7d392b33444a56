//! Why a kubeadm configuration is not read or not edited: sentences for the operator who has to change it.

use thiserror::Error;

use crate::model::yaml::YamlError;

/// Why a kubeadm configuration is refused. Nothing has been changed; lines are counted from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KubeadmError {
    /// The text is no YAML that can be edited for certain.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// JSON, or a text that is no mapping.
    #[error("line {line}: the document is JSON or no mapping at all; write it as block YAML, KEY: VALUE in each line")]
    NotBlock {
        /// Where the document begins.
        line: usize,
    },
    /// Another version of kubeadm's format.
    #[error(
        "line {line}: apiVersion {version:?} is not understood, only kubeadm.k8s.io/v1beta3 and v1beta4; run kubeadm config migrate"
    )]
    UnknownVersion {
        /// Where the document begins.
        line: usize,
        /// What stands there.
        version: String,
    },
    /// Two ClusterConfigurations.
    #[error("line {line}: a second ClusterConfiguration (first in line {first}); keep one")]
    TwoClusterConfigurations {
        /// The second.
        line: usize,
        /// The first.
        first: usize,
    },
    /// A configuration for joining nodes.
    #[error(
        "line {line}: only a JoinConfiguration; a joining node takes the API server's flags from the cluster, so there is nothing to prepare in this file"
    )]
    JoinOnly {
        /// Where the document begins.
        line: usize,
    },
    /// `extraArgs` in the other version's form, or with surprising entries.
    #[error(
        "line {line}: apiServer.extraArgs is not what {version} takes; v1beta4 is a list of name and value, v1beta3 a map of texts"
    )]
    ExtraArgs {
        /// Where.
        line: usize,
        /// The document's version.
        version: &'static str,
    },
    /// A part that would have to be edited is written in brackets or over lines.
    #[error("line {line}: {what} is written in a way that cannot be edited; write it as block YAML, one entry a line")]
    Form {
        /// Where.
        line: usize,
        /// Which part.
        what: String,
    },
    /// More than one value for a name in v1beta3.
    #[error(
        "--{name} cannot have {count} values in kubeadm.k8s.io/v1beta3, whose extraArgs hold one value a name (kubernetes/kubeadm issue 2735); run kubeadm config migrate to get v1beta4, or give one value"
    )]
    OneValueOnly {
        /// The argument.
        name: String,
        /// How many were wanted.
        count: usize,
    },
    /// A name or value that cannot be written.
    #[error(
        "argument {name:?} with value {value:?} cannot be written (nothing changed); use printable ASCII and name each argument once, without dashes before it"
    )]
    Wanted {
        /// The argument.
        name: String,
        /// Its value.
        value: String,
    },
    /// The edited text does not mean exactly what was intended.
    #[error(
        "the edit would also change {what} (nothing changed); write extraArgs by hand and report this file as a mistake of irsad"
    )]
    Unproven {
        /// What differs.
        what: &'static str,
    },
}
