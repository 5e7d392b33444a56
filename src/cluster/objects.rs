//! Objects of the cluster that irsad keeps: read, applied, replaced and deleted one by one.
//!
//! It does not know what they are for.

use serde_json::{Value, json};

use super::{ApiServer, request::NoAnswer};
use crate::model::{
    cluster_object::{ClusterObject, ObjectPlace, StoredObject},
    probe::Probe,
};

/// Who writes, as the API server notes it (Kubernetes "Server-Side Apply", field managers). What is misspelt is refused, not dropped.
const AS_IRSAD: &str = "fieldManager=irsad&fieldValidation=Strict";

impl ApiServer {
    /// The object at `place`.
    pub async fn object(&self, place: &ObjectPlace) -> Probe<StoredObject> {
        let asked = async { self.get(&place.path()).await?.success()?.json::<Value>("an object") };
        match asked.await {
            Ok(body) => Probe::Present(StoredObject::new(body)),
            Err(NoAnswer::NotFound { .. }) => Probe::Absent,
            Err(error) => Probe::Unknown(error.reason()),
        }
    }

    /// Applies an object by server-side apply: what others have added to it stays.
    ///
    /// With `replaces`, the `metadata.uid` of an object of ours, every field is taken that is ours to say. Without it nothing is taken
    /// from anybody: an object that somebody else has made meanwhile is a conflict.
    ///
    /// # Errors
    /// It is as it was, or, where the answer was lost, as it was or applied: the next look tells.
    pub async fn apply_object(&self, object: &ClusterObject, replaces: Option<&str>) -> Result<(), NoAnswer> {
        let mut body = object.body().clone();
        if let Some(uid) = replaces {
            body["metadata"]["uid"] = json!(uid);
        }
        let path = format!("{}?{AS_IRSAD}&force={}", object.place().path(), replaces.is_some());
        self.apply_patch(&path, &body).await?.success().map(drop)
    }

    /// Replaces the object at `place`, if it still has the `resourceVersion` that stands in `body`.
    ///
    /// # Errors
    /// As [`ApiServer::apply_object`].
    pub async fn replace_object(&self, place: &ObjectPlace, body: &Value) -> Result<(), NoAnswer> {
        self.put(&format!("{}?{AS_IRSAD}", place.path()), body).await?.success().map(drop)
    }

    /// Deletes the object at `place`, if it still is the one that was observed. One that is gone is no error.
    ///
    /// # Errors
    /// It is still there, or, where the answer was lost, there or gone: the next look tells.
    pub async fn delete_object(&self, place: &ObjectPlace, uid: &str, resource_version: &str) -> Result<(), NoAnswer> {
        let options = json!({
            "apiVersion": "meta/v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": uid, "resourceVersion": resource_version },
            "propagationPolicy": "Background",
        });
        match self.delete(&place.path(), &options).await?.success() {
            Ok(_) | Err(NoAnswer::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The answer of a pod to which the API server hands `body`, JSON both ways.
    ///
    /// # Errors
    /// No pod answered with JSON.
    pub async fn ask_service(&self, path: &str, body: &Value) -> Result<Value, NoAnswer> {
        self.post(path, body).await?.success()?.json("JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fake::{Fake, Outcome, Reply},
        *,
    };
    use crate::model::cluster_object::Kind;

    fn place() -> ObjectPlace {
        ObjectPlace::in_namespace(Kind::Service, "ns", "name")
    }

    async fn answering(status: u16, body: &'static str) -> Outcome<(Fake, ApiServer)> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], move |_| Reply::Text(status, body.to_owned())).await?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
        Ok((fake, api))
    }

    #[tokio::test]
    async fn object_of_nobody_is_taken_over_by_nobody_and_ours_only_where_it_still_is_that_one() -> Outcome<()> {
        let object = ClusterObject::new(place(), json!({ "spec": {} }));
        for (replaces, force, uid) in [(None, "false", Value::Null), (Some("u1"), "true", json!("u1"))] {
            let (fake, api) = answering(200, "{}").await?;
            api.apply_object(&object, replaces).await?;
            let seen = fake.seen().pop().ok_or("a request")?;
            assert_eq!((seen.method.as_str(), seen.path.as_str()), ("PATCH", "/api/v1/namespaces/ns/services/name"));
            assert_eq!(seen.query, format!("fieldManager=irsad&fieldValidation=Strict&force={force}"));
            assert_eq!(seen.headers["content-type"], "application/apply-patch+yaml");
            assert_eq!(serde_json::from_str::<Value>(&seen.body)?["metadata"]["uid"], uid);
        }
        Ok(())
    }

    #[tokio::test]
    async fn delete_names_the_object_that_was_observed_and_one_that_is_gone_is_deleted() -> Outcome<()> {
        for (status, is_deleted) in [(200, true), (404, true), (409, false), (403, false)] {
            let (fake, api) = answering(status, "{}").await?;
            assert_eq!(api.delete_object(&place(), "u1", "7").await.is_ok(), is_deleted, "{status}");
            let sent: Value = serde_json::from_str(&fake.seen().pop().ok_or("a request")?.body)?;
            assert_eq!(sent["preconditions"], json!({ "uid": "u1", "resourceVersion": "7" }));
        }
        Ok(())
    }

    #[tokio::test]
    async fn object_is_absent_only_where_the_server_says_so() -> Outcome<()> {
        let (_fake, api) = answering(404, "{}").await?;
        assert_eq!(api.object(&place()).await, Probe::Absent);
        let (fake, api) = answering(422, r#"{"message":"spec: Invalid"}"#).await?;
        let expected = format!(
            "https://{}/api/v1/namespaces/ns/services/name answered 422: kube-apiserver refuses what was asked (left as it was): spec: \
             Invalid",
            fake.server
        );
        assert_eq!(api.object(&place()).await, Probe::Unknown(expected));
        Ok(())
    }
}
