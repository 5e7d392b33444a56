//! The objects that the API servers of the small world keep, and the pods that come of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{super::*, world::Fleet};
use crate::model::{
    cluster_object::{ClusterObject, ObjectPlace, StoredObject},
    webhook::{
        built_in_place, is_trusted,
        upstream::{self, Upstream, is_available},
    },
};

/// Objects by their paths.
#[derive(Clone, Default)]
pub struct Objects {
    pub stored: BTreeMap<String, Value>,
    /// What was done, in order.
    pub done: Vec<String>,
    /// Pods of Deployments start.
    pub pods_start: bool,
    /// Their webhook answers.
    pub pods_answer: bool,
    /// From now on somebody has to be registered after every action.
    pub stays_registered: bool,
    versions: usize,
    pub unregistered_since: Option<Timestamp>,
}

impl Objects {
    pub fn get(&self, place: &ObjectPlace) -> Probe<StoredObject> {
        self.stored.get(&place.path()).map_or(Probe::Absent, |body| Probe::Present(StoredObject::new(body.clone())))
    }

    pub fn put(&mut self, place: &ObjectPlace, mut body: Value) {
        self.versions += 1;
        let known = self.stored.get(&place.path()).map(|known| known["metadata"]["uid"].clone());
        body["metadata"]["uid"] = known.unwrap_or_else(|| json!(format!("uid-{}", self.versions)));
        body["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        if place.kind() == crate::model::cluster_object::Kind::Deployment && self.pods_start {
            body["metadata"]["generation"] = json!(1);
            body["status"] = json!({ "observedGeneration": 1, "availableReplicas": 2, "updatedReplicas": 2 });
        }
        self.stored.insert(place.path(), body);
    }

    fn has(&self, place: &ObjectPlace) -> bool {
        self.stored.contains_key(&place.path())
    }

    pub fn carry_out(&mut self, action: Action, now: Timestamp) {
        self.done.push(action.to_string());
        match action {
            Action::ApplyObject { object, replaces, .. } => {
                let found = self.get(object.place());
                assert_eq!(found.present().map(StoredObject::uid), replaces.as_deref(), "{}", object.place());
                assert!(found.present().is_none_or(StoredObject::is_ours), "{} is not ours", object.place());
                let body = found.present().map_or(object.body().clone(), |found| found.with_content_of(&object));
                self.put(object.place(), body);
            }
            Action::ReplaceObject { place, body, .. } => {
                let found = self.get(&place);
                let version = found.present().map(|found| found.resource_version().to_owned());
                assert_eq!(body["metadata"]["resourceVersion"].as_str(), version.as_deref());
                self.put(&place, *body);
            }
            Action::DeleteObject { place, uid, resource_version } => {
                let found = self.get(&place);
                let found = found.present().expect("an object");
                assert_eq!((found.uid(), found.resource_version()), (uid.as_str(), resource_version.as_str()));
                assert!(found.is_ours(), "{place} is not ours");
                self.stored.remove(&place.path());
                if place == Upstream::configuration_place() {
                    self.unregistered_since = Some(now);
                }
            }
            Action::MakeWebhookCertificate { secret, is_next, at, .. } => {
                let mut body = self.stored.get(&secret.path()).cloned();
                let body = body.get_or_insert_with(|| upstream::secret(secret.clone()).body().clone());
                let (certificate, key, annotation) = match is_next {
                    true => (upstream::NEXT, upstream::NEXT_KEY, upstream::NEXT_RENEW_AT),
                    false => (upstream::CURRENT, upstream::CURRENT_KEY, upstream::RENEW_AT),
                };
                // "certificate N" and "key" in base64.
                let made = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("certificate {at}"));
                body["data"][certificate] = json!(made);
                body["data"][key] = json!("a2V5");
                let over = at.checked_add(SignedDuration::from_hours(60 * 24)).expect("a time");
                body["metadata"]["annotations"][annotation] = json!(over.to_string());
                let body = body.clone();
                self.put(&secret, body);
            }
            Action::UseNextWebhookCertificate { secret, replaces } => {
                let found = self.get(&secret);
                let found = found.present().expect("a Secret");
                assert_eq!(found.resource_version(), replaces);
                let mut body = found.body().clone();
                upstream::use_next(&mut body);
                self.put(&secret, body);
            }
            other => panic!("{other} in a fleet"),
        }
        self.check();
    }

    /// Whoever is registered can be called.
    fn check(&self) {
        if self.has(&Upstream::configuration_place()) {
            assert!(self.pods_start && self.pods_answer, "registered before it answered");
        }
        let is_registered = self.has(&built_in_place()) || self.has(&Upstream::configuration_place());
        assert!(is_registered || !self.stays_registered, "nobody is registered after {:?}", self.done.last());
    }
}

impl Fleet {
    pub fn webhook(&self, number: usize) -> WebhookFacts {
        let node = &self.nodes[number];
        let built_in = self.cluster.get(&built_in_place());
        let certificate = node.webhook.as_ref().and_then(|state| state.certificates.first());
        let call = built_in.present().filter(|stored| stored.is_ours()).map(|stored| match certificate {
            Some(certificate) if is_trusted(stored, certificate) => Ok(()),
            Some(_) => Err("its certificate is not trusted".to_owned()),
            None => Err("nothing listens".to_owned()),
        });
        WebhookFacts {
            own: probe(node.webhook.clone()),
            out_of_reach: node.out_of_reach.clone(),
            built_in,
            call,
            upstream: node.leads.then(|| self.upstream()),
        }
    }

    fn upstream(&self) -> UpstreamFacts {
        let wanted = &self.desired.webhook.upstream;
        let objects: Vec<Probe<StoredObject>> =
            wanted.objects().iter().map(ClusterObject::place).map(|place| self.cluster.get(place)).collect();
        let secret = self.cluster.get(&wanted.secret_place());
        let (certificates, renew_at) = secret.present().map(upstream::read_secret).unwrap_or_default();
        let is_ready = objects.last().and_then(Probe::present).is_some_and(|stored| is_available(stored.body()));
        let answer = if self.cluster.pods_answer { Ok(()) } else { Err("no answer".to_owned()) };
        let since = self.cluster.unregistered_since.unwrap_or(self.now);
        UpstreamFacts {
            objects,
            secret,
            certificates: certificates.map_or(Probe::Absent, Probe::Present),
            renew_at,
            configuration: self.cluster.get(&Upstream::configuration_place()),
            call: is_ready.then_some(answer),
            unregistered_for: self.now.duration_since(since).unsigned_abs(),
        }
    }
}
