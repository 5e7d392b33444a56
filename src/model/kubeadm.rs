//! kubeadm configuration files: the API server's `extraArgs` in the ClusterConfiguration, read and edited with every other
//! byte left as it is.
//!
//! It must not know where the file lies. The formats are `kubeadm.k8s.io/v1beta4` (a list, a name may stand more than once)
//! and `v1beta3` (a map, one value a name: kubernetes/kubeadm issue 2735).

mod edit;
mod issuers;
mod proof;
mod refusal;

pub use edit::EditedConfig;
pub use issuers::{ISSUER, IssuersToWrite, JWKS_URI, api_server_arguments, cannot_hold, issuers_to_write};
pub use refusal::KubeadmError;

use super::yaml::{self, Layout, Limits, Node};

/// Longest configuration that is read, in bytes.
pub const LONGEST_CONFIG_BYTES: usize = 256 << 10;

const LIMITS: Limits = Limits { bytes: LONGEST_CONFIG_BYTES, references: false };

const GROUP: &str = "kubeadm.k8s.io/";

/// `networking.dnsDomain` where it is left out.
const DEFAULT_DNS_DOMAIN: &str = "cluster.local";

/// Format of kubeadm's own documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiVersion {
    /// `extraArgs` is a map.
    V1Beta3,
    /// `extraArgs` is a list (kubeadm 1.31 and later).
    V1Beta4,
}

impl ApiVersion {
    /// As it stands in `apiVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1Beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1Beta4 => "kubeadm.k8s.io/v1beta4",
        }
    }
}

/// A kubeadm configuration file: any number of documents, at most one of them a ClusterConfiguration.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeadmConfig {
    text: String,
    version: ApiVersion,
    /// Whether any document has content.
    has_documents: bool,
    cluster: Option<Node>,
    arguments: Vec<Argument>,
}

/// One entry of `extraArgs`.
#[derive(Debug, Clone, PartialEq)]
struct Argument {
    name: String,
    value: String,
    /// The list item, or the map's value.
    node: Node,
    /// What begins the entry: the list item, or the map's key.
    start: Node,
}

impl KubeadmConfig {
    /// Reads a configuration of at most [`LONGEST_CONFIG_BYTES`].
    ///
    /// # Errors
    ///
    /// The first thing that cannot be understood for certain, with its line.
    pub fn parse(bytes: &[u8]) -> Result<Self, KubeadmError> {
        let stream = yaml::parse(bytes, &LIMITS)?;
        // kubeadm's reader is of the second one's family.
        stream.values()?;
        let roots = || stream.documents.iter().map(|document| &document.root).filter(|root| !root.is_empty());
        let mut version = None;
        for root in roots() {
            version = version_of(root)?.or(version);
        }
        let mut clusters = roots().filter(|root| kind(root) == "ClusterConfiguration");
        let cluster = clusters.next();
        if let (Some(first), Some(second)) = (cluster, clusters.next()) {
            let (first, line) = (first.place.line, second.place.line);
            return Err(KubeadmError::TwoClusterConfigurations { line, first });
        }
        let any = |wanted| roots().find(|root| kind(root) == wanted);
        if let (None, None, Some(join)) = (cluster, any("InitConfiguration"), any("JoinConfiguration")) {
            return Err(KubeadmError::JoinOnly { line: join.place.line });
        }
        let version = match cluster {
            Some(cluster) => version_of(cluster)?.ok_or(KubeadmError::UnknownVersion {
                line: cluster.place.line,
                version: text_at(cluster, &["apiVersion"]).unwrap_or_default().to_owned(),
            })?,
            None => version.unwrap_or(ApiVersion::V1Beta4),
        };
        let arguments = cluster.map(|cluster| arguments_of(cluster, version)).transpose()?.unwrap_or_default();
        let has_documents = roots().next().is_some();
        Ok(Self { text: stream.text.to_owned(), version, has_documents, cluster: cluster.cloned(), arguments })
    }

    /// The configuration as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Format of the ClusterConfiguration; where there is none, that of kubeadm's other documents, else v1beta4.
    pub fn api_version(&self) -> ApiVersion {
        self.version
    }

    /// `kubernetesVersion`: a version like `v1.36.3`, or a label like `stable-1.36` that kubeadm looks up.
    pub fn kubernetes_version(&self) -> Option<&str> {
        text_at(self.cluster.as_ref()?, &["kubernetesVersion"]).filter(|version| !version.is_empty())
    }

    /// `networking.dnsDomain`, `cluster.local` where it is left out.
    pub fn dns_domain(&self) -> &str {
        let domain = self.cluster.as_ref().and_then(|cluster| text_at(cluster, &["networking", "dnsDomain"]));
        domain.filter(|domain| !domain.is_empty()).unwrap_or(DEFAULT_DNS_DOMAIN)
    }

    /// Names (without dashes) and values of `apiServer.extraArgs`, in order.
    pub fn api_server_args(&self) -> Vec<(&str, &str)> {
        self.arguments.iter().map(|argument| (argument.name.as_str(), argument.value.as_str())).collect()
    }

    /// Values of one of the API server's extra arguments, in order.
    pub fn api_server_arg(&self, name: &str) -> Vec<&str> {
        self.arguments.iter().filter(|argument| argument.name == name).map(|argument| argument.value.as_str()).collect()
    }
}

fn kind(root: &Node) -> &str {
    text_at(root, &["kind"]).unwrap_or_default()
}

fn text_at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n str> {
    path.iter().try_fold(node, |node, key| node.get(key))?.as_text()
}

/// Format of one document; `None` for a document that is not kubeadm's own.
fn version_of(root: &Node) -> Result<Option<ApiVersion>, KubeadmError> {
    let line = root.place.line;
    if root.layout() != Some(Layout::Block) || root.entries().is_none() {
        return Err(KubeadmError::NotBlock { line });
    }
    let version = text_at(root, &["apiVersion"]).unwrap_or_default();
    match version {
        "kubeadm.k8s.io/v1beta3" => Ok(Some(ApiVersion::V1Beta3)),
        "kubeadm.k8s.io/v1beta4" => Ok(Some(ApiVersion::V1Beta4)),
        _ if version.starts_with(GROUP) => Err(KubeadmError::UnknownVersion { line, version: version.to_owned() }),
        _ => Ok(None),
    }
}

/// The entries of `apiServer.extraArgs`.
fn arguments_of(cluster: &Node, version: ApiVersion) -> Result<Vec<Argument>, KubeadmError> {
    let Some(entry) = cluster.get("apiServer").and_then(|api_server| api_server.entry("extraArgs")) else {
        return Ok(Vec::new());
    };
    let list = &entry.value;
    let wrong = |line| KubeadmError::ExtraArgs { line, version: version.as_str() };
    match version {
        _ if is_nothing(list) => Ok(Vec::new()),
        ApiVersion::V1Beta4 => {
            let items = list.items().ok_or(wrong(entry.key.place.line))?;
            let argument = |item: &Node| -> Option<Argument> {
                let text = |key| text_at(item, &[key]).map(str::to_owned);
                let known = item.entries()?.iter().all(|entry| matches!(entry.key.as_text(), Some("name" | "value")));
                let value = if item.get("value").is_some() { text("value") } else { Some(String::new()) };
                known.then_some(())?;
                Some(Argument { name: text("name")?, value: value?, node: item.clone(), start: item.clone() })
            };
            items.iter().map(|item| argument(item).ok_or(wrong(item.place.line))).collect()
        }
        ApiVersion::V1Beta3 => {
            let entries = list.entries().ok_or(wrong(entry.key.place.line))?;
            let argument = |entry: &yaml::Entry| -> Option<Argument> {
                let text = |node: &Node| node.as_text().map(str::to_owned);
                let (name, value) = (text(&entry.key)?, text(&entry.value)?);
                Some(Argument { name, value, node: entry.value.clone(), start: entry.key.clone() })
            };
            entries.iter().map(|entry| argument(entry).ok_or(wrong(entry.key.place.line))).collect()
        }
    }
}

/// Whether a collection was left out or written without entries: `key:`, `{}`, `[]`, `null`, `~`.
fn is_nothing(node: &Node) -> bool {
    let no_entries =
        node.entries().is_some_and(<[yaml::Entry]>::is_empty) || node.items().is_some_and(<[Node]>::is_empty);
    no_entries || node.is_empty() || matches!(node.as_text(), Some("null" | "~"))
}

#[cfg(test)]
mod tests;
