//! How kube-apiserver reaches webhooks that are given by URL: its egress selection (KEP-1281,
//! kubernetes/kubernetes `staging/src/k8s.io/apiserver/pkg/apis/apiserver/v1beta1/types.go`).

use thiserror::Error;

use crate::model::yaml::{self, Limits, Node, YamlError};

/// Flag of kube-apiserver that names the file.
pub const EGRESS_FLAG: &str = "egress-selector-config-file";

/// A file that is no EgressSelectorConfiguration.
#[derive(Debug, Error)]
pub enum EgressError {
    /// Not YAML.
    #[error("it is no YAML that irsad understands")]
    Yaml(#[source] YamlError),
    /// Another kind of file.
    #[error("it is no EgressSelectorConfiguration")]
    Kind,
}

/// Whether calls of the control plane leave kube-apiserver directly: no selection is made for them, or it says so. `master` is their
/// name in `v1alpha1`.
///
/// # Errors
/// The file is something else.
pub fn is_direct(file: &[u8]) -> Result<bool, EgressError> {
    let stream = yaml::parse(file, &Limits::PLAIN).map_err(EgressError::Yaml)?;
    let root = stream.documents.first().map(|document| &document.root).ok_or(EgressError::Kind)?;
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_text).map(str::to_owned);
    if text(root, "kind").as_deref() != Some("EgressSelectorConfiguration") {
        return Err(EgressError::Kind);
    }
    let selections = root.get("egressSelections").and_then(Node::items).unwrap_or_default();
    let is_ours =
        |selection: &&Node| text(selection, "name").is_some_and(|name| name == "controlplane" || name == "master");
    let protocol = |selection: &Node| text(selection.get("connection")?, "proxyProtocol");
    Ok(selections.iter().filter(is_ours).all(|selection| protocol(selection).as_deref() == Some("Direct")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tunnel_for_the_control_plane_is_in_the_way() {
        let file = |name: &str, protocol: &str| {
            format!(
                "apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\negressSelections:\n- name: cluster\n  \
                 connection:\n    proxyProtocol: GRPC\n- name: {name}\n  connection:\n    proxyProtocol: {protocol}\n"
            )
        };
        for (name, protocol, direct) in [
            ("controlplane", "Direct", true),
            ("controlplane", "HTTPConnect", false),
            ("controlplane", "GRPC", false),
            ("master", "GRPC", false),
            ("etcd", "GRPC", true),
        ] {
            assert!(matches!(is_direct(file(name, protocol).as_bytes()), Ok(is) if is == direct), "{name} {protocol}");
        }
        for other in ["", "kind: Pod", "a: [", "[]"] {
            assert!(is_direct(other.as_bytes()).is_err(), "{other}");
        }
    }
}
