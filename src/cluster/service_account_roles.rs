//! `ServiceAccountRole` objects, and what is written into the service accounts that get their roles from them.
//!
//! It does not know what they are for: it lists, watches, and writes what it is told.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ApiServer,
    request::{JSON, NoAnswer},
    watched::{Change, Kind, Listed},
};
use crate::model::{
    probe::Probe,
    service_account_role::{
        AccountName, FIELD_MANAGER, GROUP, PLURAL, ServiceAccountRole, Status, VERSION, disowned, made, status_body,
    },
};

impl ApiServer {
    /// Every object, and the version for [`ApiServer::watch_service_account_roles`].
    ///
    /// # Errors
    /// The list is not complete; [`NoAnswer::NotFound`] where the cluster does not know such objects (yet).
    pub async fn list_service_account_roles(&self) -> Result<(Vec<ServiceAccountRole>, String), NoAnswer> {
        let (mut all, path) = (Vec::new(), collection());
        let take = |step| match step {
            Listed::Begun => all.clear(),
            Listed::One(object) => all.push(object),
        };
        let version = self.list_all(&roles(&path), take).await?;
        Ok((all, version))
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

    /// Makes a service account, and gives its uid. One of that name that is there already, or appears meanwhile, stays untouched.
    ///
    /// # Errors
    /// [`NoAnswer::Conflict`] where there is one; else there is none, or, where the answer was lost, none or this one.
    pub async fn make_account(&self, name: &AccountName) -> Result<String, NoAnswer> {
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts?fieldManager={FIELD_MANAGER}&fieldValidation=Strict",
            name.namespace()
        );
        let answer = self.post(&path, &made(name)).await?.success()?;
        let account: Value = answer.json("a service account")?;
        let uid = account["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
        uid.map(str::to_owned).ok_or_else(|| answer.garbled("a service account with a uid"))
    }

    /// Says no longer that irsad has made a service account, of the one that was observed.
    ///
    /// # Errors
    /// It says so as before, or, where the answer was lost, as before or no longer.
    pub async fn disown_account(&self, name: &AccountName, uid: &str) -> Result<(), NoAnswer> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", account_path(name));
        self.merge_patch(&path, &disowned(uid)).await?.success().map(drop)
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
    async fn account_is_made_without_a_role_and_never_in_the_place_of_another() -> Outcome<()> {
        let name = AccountName::new("shop", "checkout")?;
        for (status, body, expected) in [
            (201, r#"{"metadata":{"uid":"u7"}}"#, Some("u7")),
            (201, "{}", None),
            (409, r#"{"message":"serviceaccounts \"checkout\" already exists"}"#, None),
        ] {
            let (fake, api) = answering(status, body).await?;
            let made = api.make_account(&name).await;
            assert_eq!(made.as_deref().ok(), expected, "{made:?}");
            assert_eq!(status == 409, matches!(made, Err(NoAnswer::Conflict { .. })));
            let seen = fake.seen().pop().ok_or("a request")?;
            assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/api/v1/namespaces/shop/serviceaccounts"));
            let sent: Value = serde_json::from_str(&seen.body)?;
            let labels = json!({ "app.kubernetes.io/managed-by": "irsad" });
            assert_eq!(sent["metadata"], json!({ "namespace": "shop", "name": "checkout", "labels": labels }));
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
