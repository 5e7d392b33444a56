//! The Secrets of a kube-apiserver for tests: kept, with resourceVersions, pages and refusals as the real one has them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::Method;
use serde_json::{Value, json};

use super::fake::{Reply, Seen};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

#[derive(Default)]
pub(super) struct Secrets {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<String, Value>,
}

impl Secrets {
    /// The answer to one request.
    pub(super) fn answer(&self, seen: &Seen) -> Reply {
        let mut state = self.state();
        let body: Value = serde_json::from_str(&seen.body).unwrap_or_default();
        let name = seen.path.strip_prefix(SECRETS).unwrap_or_default().trim_start_matches('/').to_owned();
        match (&seen.method, name.as_str()) {
            (&Method::GET, "") => state.page(seen),
            (&Method::GET, name) => {
                state.objects.get(name).map_or_else(|| status(404, "not found"), |it| reply(200, it))
            }
            (&Method::POST, "") => state.create(body),
            (&Method::PUT, name) => state.replace(name, body),
            (&Method::DELETE, name) => state.delete(name, body),
            _ => status(405, "the server does not allow this method on the requested resource"),
        }
    }

    /// Every Secret, by name.
    pub(super) fn all(&self) -> BTreeMap<String, Value> {
        self.state().objects.clone()
    }

    /// Changes a Secret as a person with kubectl does.
    pub(super) fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        if let Some(mut object) = state.objects.remove(name) {
            change(&mut object);
            state.store(object);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn store(&mut self, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.objects.insert(name, object.clone());
        object
    }

    fn create(&mut self, object: Value) -> Reply {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        match self.objects.contains_key(name) {
            true => status(409, &format!("secrets {name:?} already exists")),
            false => reply(201, &self.store(object)),
        }
    }

    fn replace(&mut self, name: &str, object: Value) -> Reply {
        match self.objects.get(name) {
            None => status(404, &format!("secrets {name:?} not found")),
            Some(found) if found["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => {
                status(409, "the object has been modified; please apply your changes to the latest version")
            }
            Some(_) => reply(200, &self.store(object)),
        }
    }

    fn delete(&mut self, name: &str, options: Value) -> Reply {
        let found = self.objects.get(name).map(|found| found["metadata"]["resourceVersion"].clone());
        match found {
            None => status(404, &format!("secrets {name:?} not found")),
            Some(version) if version != options["preconditions"]["resourceVersion"] => {
                status(409, "the ResourceVersion in the precondition does not match")
            }
            Some(_) => {
                self.objects.remove(name);
                status(200, "deleted")
            }
        }
    }

    /// One page of metadata; `continue` is the name to go on with.
    fn page(&self, seen: &Seen) -> Reply {
        let asked: BTreeMap<&str, &str> = seen.query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let selector = "app.kubernetes.io%2Fmanaged-by%3Dirsad%2Capp.kubernetes.io%2Fcomponent%3Dkeyring";
        let metadata_only = seen
            .headers
            .get("accept")
            .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains("as=PartialObjectMetadataList")));
        if asked.get("labelSelector") != Some(&selector) || !metadata_only {
            return status(400, "not a list of ours");
        }
        let limit = asked.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let from = asked.get("continue").copied().unwrap_or_default();
        let mut rest = self.objects.range(from.to_owned()..).filter(|(_, object)| is_labelled(object));
        let items: Vec<Value> =
            rest.by_ref().take(limit).map(|(_, object)| json!({"metadata": object["metadata"]})).collect();
        let next = rest.next().map(|(name, _)| name.as_str()).unwrap_or_default();
        let items = (!items.is_empty()).then_some(items);
        reply(200, &json!({"kind": "PartialObjectMetadataList", "metadata": {"continue": next}, "items": items}))
    }
}

fn is_labelled(object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    labels["app.kubernetes.io/managed-by"] == "irsad" && labels["app.kubernetes.io/component"] == "keyring"
}

fn reply(code: u16, object: &Value) -> Reply {
    Reply::Text(code, object.to_string())
}

fn status(code: u16, message: &str) -> Reply {
    reply(code, &json!({"kind": "Status", "code": code, "message": message}))
}
