//! Service accounts with their annotations, and the ConfigMap that gives roles to those without.
//!
//! Only metadata is asked for. It does not know which annotations matter, and keeps nothing.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    ApiServer,
    request::{JSON, LIST_OF_METADATA, NoAnswer},
    watched::{Change, Kind, Listed},
};

/// One object's metadata (Kubernetes API concepts, "Fetching metadata").
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const SERVICE_ACCOUNTS: Kind<'static> = Kind {
    path: "/api/v1/serviceaccounts",
    selector: "",
    list: LIST_OF_METADATA,
    object: METADATA,
    expected: "a list of service accounts",
};
/// Largest metadata of one service account, in bytes.
const LARGEST_METADATA_BYTES: usize = 2 << 20;
/// The one ConfigMap that is listed, under the name that amazon-eks-pod-identity-webhook gives it.
const ROLE_MAP: &str = "&fieldSelector=metadata.name%3Dpod-identity-webhook";
/// Data key in it.
const ROLE_MAP_KEY: &str = "config";

/// What is known of one service account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Object")]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// All of its labels.
    pub labels: HashMap<String, String>,
    /// All of its annotations.
    pub annotations: HashMap<String, String>,
}

/// The ConfigMap `pod-identity-webhook`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Object")]
pub struct ConfigMap {
    /// Data key `config`, where it has one.
    pub config: Option<String>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    data: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

impl From<Object> for ServiceAccount {
    fn from(Object { metadata, .. }: Object) -> Self {
        let Metadata { name, namespace, uid, labels, annotations } = metadata;
        let (labels, annotations) = (labels.unwrap_or_default(), annotations.unwrap_or_default());
        Self { namespace, name, uid, labels, annotations }
    }
}

impl From<Object> for ConfigMap {
    fn from(Object { data, .. }: Object) -> Self {
        Self { config: data.and_then(|mut data| data.remove(ROLE_MAP_KEY)) }
    }
}

impl ApiServer {
    /// Hands over every service account of the cluster, page by page, and gives the version for
    /// [`ApiServer::watch_service_accounts`].
    ///
    /// # Errors
    /// The list is not complete.
    pub async fn list_service_accounts(&self, take: impl FnMut(Listed<ServiceAccount>)) -> Result<String, NoAnswer> {
        self.list_all(&SERVICE_ACCOUNTS, take).await
    }

    /// Tells every change of a service account after the version `from`, which it keeps up to date, until the server ends it after
    /// some minutes. `opened` is called once the changes are being told.
    ///
    /// # Errors
    /// The watch broke; it can be resumed from `from`, but after [`NoAnswer::Expired`] all has to be listed anew.
    pub async fn watch_service_accounts(
        &self,
        from: &mut String,
        opened: impl FnOnce(),
        tell: impl FnMut(Change<ServiceAccount>),
    ) -> Result<(), NoAnswer> {
        self.watch(&SERVICE_ACCOUNTS, from, opened, tell).await
    }

    /// One service account as etcd has it; `None` where there is none.
    ///
    /// # Errors
    /// Nothing is known of it.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<ServiceAccount>, NoAnswer> {
        // What is no name would be another path.
        if !is_name(namespace) || !is_name(name) {
            return Ok(None);
        }
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
        match self.get_as(&path, METADATA, LARGEST_METADATA_BYTES).await?.success() {
            Ok(answer) => answer.json("a service account").map(Some),
            Err(NoAnswer::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The ConfigMap `pod-identity-webhook` of this namespace, `None` where there is none, and the version for
    /// [`ApiServer::watch_role_map`].
    ///
    /// # Errors
    /// Nothing is known of it.
    pub async fn role_map(&self, namespace: &str) -> Result<(Option<ConfigMap>, String), NoAnswer> {
        let (mut found, path) = (None, role_map_path(namespace));
        let take = |step| match step {
            Listed::Begun => {}
            Listed::One(map) => found = Some(map),
        };
        let version = self.list_all(&role_map(&path), take).await?;
        Ok((found, version))
    }

    /// As [`ApiServer::watch_service_accounts`], for the ConfigMap.
    ///
    /// # Errors
    /// As there.
    pub async fn watch_role_map(
        &self,
        namespace: &str,
        from: &mut String,
        opened: impl FnOnce(),
        tell: impl FnMut(Change<ConfigMap>),
    ) -> Result<(), NoAnswer> {
        let path = role_map_path(namespace);
        self.watch(&role_map(&path), from, opened, tell).await
    }
}

fn role_map_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn role_map(path: &str) -> Kind<'_> {
    Kind { path, selector: ROLE_MAP, list: JSON, object: JSON, expected: "a list of ConfigMaps" }
}

/// A name of a namespace or a service account (RFC 1123 subdomain).
fn is_name(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_inside) && !text.starts_with('.')
}
