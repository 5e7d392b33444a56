//! The kube-apiserver static Pod manifest: found, read, and edited with every other byte left as it is.
//!
//! It must not know where the file lies or when it is written. What is not understood for certain is refused with the
//! reason and the line; a manifest is never written anew from its values.

mod edit;
mod flags;
mod proof;
mod refusal;
mod revert;

pub use edit::{Desired, Edited};
pub use refusal::ManifestError;
pub use revert::Reverted;

use flags::{Arguments, Flag};

use super::yaml::{self, Limits, Node, ScalarStyle};

/// Longest manifest that is read, in bytes. A kubeadm manifest has 4 KiB; kubelet itself stops at 10 MiB.
pub const LONGEST_MANIFEST_BYTES: usize = 256 << 10;

/// Annotation with what irsad has written last. Changing it restarts the Pod: kubelet sees another Pod object.
pub const APPLIED_ANNOTATION: &str = "irsad/applied";

/// Name of the container, in kubeadm and in kops.
const CONTAINER: &str = "kube-apiserver";

/// Port of `--secure-port` when the flag is absent (`k8s.io/apiserver`, `SecureServingOptions`).
const DEFAULT_SECURE_PORT: u16 = 6443;

const LIMITS: Limits = Limits { bytes: LONGEST_MANIFEST_BYTES, references: false };

/// A static Pod manifest with one kube-apiserver in it, understood completely as far as service-account tokens go.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    text: String,
    metadata: Metadata,
    arguments: Arguments,
    issuers: Vec<String>,
    key_files: Vec<String>,
    api_audiences: Option<Vec<String>>,
    secure_port: u16,
    host_network: bool,
    image: Option<String>,
}

/// The Pod's metadata: the entry as a whole, for putting annotations into it.
#[derive(Debug, Clone, PartialEq)]
struct Metadata {
    key: Node,
    value: Node,
}

impl Manifest {
    /// Reads a manifest of at most [`LONGEST_MANIFEST_BYTES`]; a longer one is refused without being looked at.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be understood for certain, or with which kube-apiserver would not start, with its line.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let stream = yaml::parse(bytes, &LIMITS)?;
        // Kubelet's reader is of the second one's family: what that refuses is no Pod, however well we understand it.
        stream.values()?;
        let pod = match stream.documents.as_slice() {
            [] => return Err(ManifestError::Empty),
            [document] => &document.root,
            [_, second, ..] => return Err(ManifestError::SeveralDocuments { line: second.root.place.line }),
        };
        check_is_pod(pod)?;
        let metadata = pod.entry("metadata").ok_or(ManifestError::NotAPod { line: pod.place.line })?;
        let spec = pod.get("spec").ok_or(ManifestError::NotAPod { line: pod.place.line })?;
        let container = find_container(spec)?;
        let arguments = flags::read(stream.text, container)?;
        let manifest = Self {
            text: stream.text.to_owned(),
            metadata: Metadata { key: metadata.key.clone(), value: metadata.value.clone() },
            issuers: arguments.issuers()?,
            key_files: arguments.values("service-account-key-file"),
            api_audiences: arguments.api_audiences(),
            secure_port: secure_port(&arguments)?,
            arguments,
            host_network: spec.get("hostNetwork").is_some_and(is_true),
            image: container.get("image").and_then(Node::as_text).map(str::to_owned),
        };
        Ok(manifest)
    }

    /// The manifest as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Values of `--service-account-issuer` in order: the first signs, all are accepted. Empty where the flag is missing.
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// Value of `--service-account-jwks-uri`.
    pub fn jwks_uri(&self) -> Option<&str> {
        self.flag("service-account-jwks-uri")
    }

    /// Values of `--service-account-key-file` in order: files with the keys that tokens are checked with.
    pub fn key_files(&self) -> &[String] {
        &self.key_files
    }

    /// Value of `--service-account-signing-key-file`: the file with the private key that signs. The last one where the flag
    /// stands more than once, as kube-apiserver takes it.
    pub fn signing_key_file(&self) -> Option<&str> {
        self.flag("service-account-signing-key-file")
    }

    /// Values of `--api-audiences`, split at commas; `None` where the flag gives none, and the issuers are the audiences.
    pub fn api_audiences(&self) -> Option<&[String]> {
        self.api_audiences.as_deref()
    }

    /// Whether every flag is as `desired` says. The annotation is none: it only tells kubelet of a change.
    pub fn has_flags(&self, desired: &Desired) -> bool {
        self.issuers() == desired.issuers
            && desired.jwks_uri.as_deref().is_none_or(|uri| self.jwks_uri() == Some(uri))
            && desired.api_audiences.as_deref().is_none_or(|audiences| self.api_audiences() == Some(audiences))
    }

    /// Value of `--advertise-address`; `None` where it is left to the environment (`$(HOST_IP)`).
    pub fn advertise_address(&self) -> Option<&str> {
        self.flag("advertise-address").filter(|value| !value.contains("$("))
    }

    /// Value of `--secure-port`, 6443 where it is absent.
    pub fn secure_port(&self) -> u16 {
        self.secure_port
    }

    /// An annotation of the Pod, for example [`APPLIED_ANNOTATION`].
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.value.get("annotations")?.get(name)?.as_text()
    }

    /// Value of a flag, named without its dashes: the last one where it stands more than once, the empty text where it has
    /// no value.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.arguments.flags.iter().rfind(|flag| flag.name == name).map(Flag::value)
    }

    /// Whether the Pod shares the node's network, and so answers on the node's own addresses.
    pub fn host_network(&self) -> bool {
        self.host_network
    }

    /// Image of the kube-apiserver container.
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }
}

fn check_is_pod(pod: &Node) -> Result<(), ManifestError> {
    let line = pod.place.line;
    let text = |key| pod.get(key).and_then(Node::as_text);
    if text("kind") != Some("Pod") || text("apiVersion") != Some("v1") {
        return Err(ManifestError::NotAPod { line });
    }
    match pod.layout() {
        Some(yaml::Layout::Block) => Ok(()),
        _ => Err(ManifestError::FlowStyle { line, what: "the Pod" }),
    }
}

/// The one container named kube-apiserver.
fn find_container(spec: &Node) -> Result<&Node, ManifestError> {
    let containers = spec.get("containers").and_then(Node::items).unwrap_or_default();
    let named = |node: &&Node| node.get("name").and_then(Node::as_text) == Some(CONTAINER);
    let mut found = containers.iter().filter(named);
    match (found.next(), found.next()) {
        (None, _) => Err(ManifestError::NoContainer { line: spec.place.line }),
        (Some(container), None) => Ok(container),
        (Some(first), Some(second)) => {
            Err(ManifestError::TwoContainers { line: second.place.line, first: first.place.line })
        }
    }
}

fn secure_port(arguments: &Arguments) -> Result<u16, ManifestError> {
    let Some(flag) = arguments.flags.iter().rfind(|flag| flag.name == "secure-port") else {
        return Ok(DEFAULT_SECURE_PORT);
    };
    match flag.value().parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ManifestError::SecurePort { line: flag.line, value: flag.value().to_owned() }),
    }
}

/// YAML 1.1 booleans, as kubelet's YAML reader takes them.
fn is_true(node: &Node) -> bool {
    let word = node.as_text().unwrap_or_default().to_ascii_lowercase();
    node.style() == Some(ScalarStyle::Plain) && matches!(word.as_str(), "true" | "yes" | "on" | "y")
}

#[cfg(test)]
mod tests;
