//! `ServiceAccountRole` objects, and the service accounts that get their roles from them.
//!
//! It does not know what they are for: it lists, watches, and writes what it is told.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ApiServer,
    request::NoAnswer,
    watched::{Change, Kind},
};
use crate::model::{
    probe::Probe,
    service_account_role::{
        AccountName, FIELD_MANAGER, GROUP, PLURAL, ServiceAccountRole, Status, VERSION, status_body,
    },
};

const JSON: &str = "application/json";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const ACCOUNTS: Kind<'static> = Kind {
    path: "/api/v1/serviceaccounts",
    selector: "",
    list: METADATA_LIST,
    object: METADATA,
    expected: "a list of service accounts",
};

/// A service account with all of its labels and annotations.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Object")]
pub struct LabelledAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Labels.
    pub labels: HashMap<String, String>,
    /// Annotations.
    pub annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
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

impl From<Object> for LabelledAccount {
    fn from(Object { metadata }: Object) -> Self {
        let Metadata { name, namespace, uid, labels, annotations } = metadata;
        let (labels, annotations) = (labels.unwrap_or_default(), annotations.unwrap_or_default());
        Self { namespace, name, uid, labels, annotations }
    }
}

impl ApiServer {
    /// Hands over every object, page by page, and gives the version for [`ApiServer::watch_service_account_roles`]. `begin` is called
    /// before the first one, and again where the list is begun anew.
    ///
    /// # Errors
    /// The list is not complete; [`NoAnswer::NotFound`] where the cluster does not know such objects (yet).
    pub async fn list_service_account_roles(
        &self,
        begin: impl FnMut(),
        take: impl FnMut(ServiceAccountRole),
    ) -> Result<String, NoAnswer> {
        let path = collection();
        self.list_all(&roles(&path), begin, take).await
    }

    /// Tells every change of an object after the version `from`, which it keeps up to date, until the server ends it after some
    /// minutes.
    ///
    /// # Errors
    /// The watch broke; it can be resumed from `from`, but after [`NoAnswer::Expired`] all has to be listed anew.
    pub async fn watch_service_account_roles(
        &self,
        from: &mut String,
        tell: impl FnMut(Change<ServiceAccountRole>),
    ) -> Result<(), NoAnswer> {
        let path = collection();
        self.watch(&roles(&path), from, || (), tell).await
    }

    /// As [`ApiServer::list_service_account_roles`], for all service accounts.
    ///
    /// # Errors
    /// The list is not complete.
    pub async fn list_labelled_accounts(
        &self,
        begin: impl FnMut(),
        take: impl FnMut(LabelledAccount),
    ) -> Result<String, NoAnswer> {
        self.list_all(&ACCOUNTS, begin, take).await
    }

    /// As [`ApiServer::watch_service_account_roles`], for all service accounts.
    ///
    /// # Errors
    /// As there.
    pub async fn watch_labelled_accounts(
        &self,
        from: &mut String,
        tell: impl FnMut(Change<LabelledAccount>),
    ) -> Result<(), NoAnswer> {
        self.watch(&ACCOUNTS, from, || (), tell).await
    }

    /// Keeps an object from going away before [`ApiServer::hold_role`] lets it go, or lets it go. Only the object that was observed.
    ///
    /// # Errors
    /// It is as it was, or, where the answer was lost, as it was or changed; one that is gone is let go of.
    pub async fn hold_role(&self, object: &ServiceAccountRole, is_held: bool) -> Result<(), NoAnswer> {
        let patch = json!({ "metadata": {
            "uid": object.uid,
            "resourceVersion": object.resource_version,
            "finalizers": object.finalizers_if(is_held),
        } });
        let path = format!("{}/{}?fieldManager={FIELD_MANAGER}", collection(), object.name);
        match self.merge_patch(&path, &patch).await?.success() {
            Err(NoAnswer::NotFound { .. }) if !is_held => Ok(()),
            other => other.map(drop),
        }
    }

    /// Writes the status of an object, of that one only.
    ///
    /// # Errors
    /// It is as it was, or, where the answer was lost, as it was or written.
    pub async fn tell_role_status(&self, object: &ServiceAccountRole, status: &Status) -> Result<(), NoAnswer> {
        let path = format!(
            "{}/{}/status?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force=true",
            collection(),
            object.name
        );
        self.apply_patch(&path, &status_body(&object.name, &object.uid, status)).await?.success().map(drop)
    }

    /// Applies a service account by server-side apply: what others have written stays. With `takes`, what they have written over
    /// ours is ours again; without, it is a conflict.
    ///
    /// # Errors
    /// It is as it was, or, where the answer was lost, as it was or applied.
    pub async fn apply_account(&self, name: &AccountName, body: &Value, takes: bool) -> Result<(), NoAnswer> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force={takes}", account_path(name));
        self.apply_patch(&path, body).await?.success().map(drop)
    }

    /// The whole service account.
    pub async fn whole_account(&self, name: &AccountName) -> Probe<Value> {
        self.look_up(&account_path(name), "a service account").await
    }

    /// Deletes a service account, if it still is the one that was observed. One that is gone is no error.
    ///
    /// # Errors
    /// It is still there, or, where the answer was lost, there or gone.
    pub async fn delete_account(&self, name: &AccountName, uid: &str, resource_version: &str) -> Result<(), NoAnswer> {
        let options = json!({
            "apiVersion": "meta/v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": uid, "resourceVersion": resource_version },
        });
        match self.delete(&account_path(name), &options).await?.success() {
            Ok(_) | Err(NoAnswer::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether some pod runs as this service account.
    ///
    /// # Errors
    /// That is not known.
    pub async fn is_account_used(&self, name: &AccountName) -> Result<bool, NoAnswer> {
        #[derive(Deserialize)]
        struct List {
            items: Option<Vec<Value>>,
        }
        let path = format!(
            "/api/v1/namespaces/{}/pods?fieldSelector=spec.serviceAccountName%3D{}&limit=1",
            name.namespace(),
            name.name()
        );
        let list: List = self.get_metadata(&path).await?.success()?.json("a list of pods")?;
        Ok(!list.items.unwrap_or_default().is_empty())
    }
}

fn collection() -> String {
    format!("/apis/{GROUP}/{VERSION}/{PLURAL}")
}

fn roles(path: &str) -> Kind<'_> {
    Kind { path, selector: "", list: JSON, object: JSON, expected: "a list of ServiceAccountRoles" }
}

fn account_path(name: &AccountName) -> String {
    format!("/api/v1/namespaces/{}/serviceaccounts/{}", name.namespace(), name.name())
}

#[cfg(test)]
mod tests {
    use super::{
        super::fake::{Fake, Outcome, Reply},
        *,
    };

    fn object() -> Outcome<ServiceAccountRole> {
        Ok(serde_json::from_value(json!({
            "metadata": {
                "name": "checkout", "uid": "u1", "resourceVersion": "7", "creationTimestamp": "2026-11-21T12:00:00Z",
                "finalizers": ["other/one"],
            },
            "spec": { "roleName": "checkout", "serviceAccounts": [{ "namespace": "shop", "name": "checkout" }] },
        }))?)
    }

    async fn answering(status: u16, body: &'static str) -> Outcome<(Fake, ApiServer)> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], move |_| Reply::Text(status, body.to_owned())).await?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
        Ok((fake, api))
    }

    #[tokio::test]
    async fn object_is_held_and_let_go_of_only_as_it_was_observed_and_with_what_others_hold_it_by() -> Outcome<()> {
        for (status, is_held, is_done) in [
            (200, true, true),
            (404, true, false),
            (409, true, false),
            (200, false, true),
            (404, false, true),
            (409, false, false),
        ] {
            let (fake, api) = answering(status, "{}").await?;
            assert_eq!(api.hold_role(&object()?, is_held).await.is_ok(), is_done, "{status} {is_held}");
            let seen = fake.seen().pop().ok_or("a request")?;
            assert_eq!(seen.path, "/apis/irsad.dev/v1alpha1/serviceaccountroles/checkout");
            let sent: Value = serde_json::from_str(&seen.body)?;
            let finalizers = if is_held { json!(["other/one", "irsad.dev/role"]) } else { json!(["other/one"]) };
            assert_eq!(sent["metadata"], json!({ "uid": "u1", "resourceVersion": "7", "finalizers": finalizers }));
        }
        Ok(())
    }

    #[tokio::test]
    async fn account_is_used_only_where_the_server_shows_a_pod_of_it() -> Outcome<()> {
        let name = AccountName::new("shop", "checkout")?;
        for (status, body, expected) in [
            (200, r#"{"items":[{"metadata":{"name":"p"}}]}"#, Some(true)),
            (200, r#"{"items":null}"#, Some(false)),
            (500, "{}", None),
        ] {
            let (fake, api) = answering(status, body).await?;
            assert_eq!(api.is_account_used(&name).await.ok(), expected);
            let seen = fake.seen().pop().ok_or("a request")?;
            assert_eq!(seen.query, "fieldSelector=spec.serviceAccountName%3Dcheckout&limit=1");
        }
        Ok(())
    }
}
