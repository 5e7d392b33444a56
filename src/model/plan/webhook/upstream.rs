//! The AWS program: deployed, tried, and only then registered.

use std::time::Duration;

use jiff::Timestamp;

use super::{Look, built_in::foreign, remove};
use crate::model::{
    cluster_object::{ClusterObject, ObjectPlace, StoredObject},
    plan::{Action, Plan, WAITING_INTERVAL},
    probe::Probe,
    webhook::{
        has_additions, is_as_wanted, is_trusted,
        upstream::{Certificates, Upstream, is_available},
    },
};

/// API servers may call a webhook for so long after its registration is gone: they read of it a little later.
const LAST_CALLS: Duration = Duration::from_secs(60);

/// What is known of the AWS program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamFacts {
    /// Its objects, in the order of [`Upstream::objects`].
    pub objects: Vec<Probe<StoredObject>>,
    /// Its Secret, without what is private in it.
    pub secret: Probe<StoredObject>,
    /// Certificates of the Secret; Absent where there is no Secret or no certificate in it.
    pub certificates: Probe<Certificates>,
    /// From when on its certificate is to be replaced; `None` where that is not known.
    pub renew_at: Option<Timestamp>,
    /// Its configuration.
    pub configuration: Probe<StoredObject>,
    /// What a review that was handed to one of its pods came to; `None` where none was.
    pub call: Option<Result<(), String>>,
    /// How long this process has seen it without a registration.
    pub unregistered_for: Duration,
}

impl Look<'_> {
    /// Whether the AWS program is deployed, answers and is registered as it is to be.
    pub(super) fn upstream(&self, plan: &mut Plan) -> bool {
        let Some(found) = &self.webhook.upstream else { return false };
        if !self.namespace(found, plan) {
            return false;
        }
        let certificates = self.certificate(found, plan);
        if !self.deploy(found, plan) {
            return false;
        }
        let Some(certificates) = certificates else { return false };
        match &found.call {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                plan.look_closer = true;
                plan.wait(format!("the upstream webhook does not answer a review: {why}"), WAITING_INTERVAL);
                return false;
            }
            None => {
                plan.look_closer = true;
                plan.wait("for a pod of the upstream webhook that is ready", WAITING_INTERVAL);
                return false;
            }
        }
        self.register(found, certificates, plan)
    }

    fn wanted(&self) -> &Upstream {
        &self.desired.webhook.upstream
    }

    /// Whether its Namespace is there or will be; whose it is does not matter.
    fn namespace(&self, found: &UpstreamFacts, plan: &mut Plan) -> bool {
        match (self.wanted().objects().into_iter().next(), found.objects.first()) {
            (Some(namespace), Some(found @ (Probe::Absent | Probe::Unknown(_)))) => self.apply(namespace, found, plan),
            (_, Some(Probe::Present(_))) => true,
            (None, _) | (_, None) => false,
        }
    }

    /// Its certificates, where they are fit for use.
    fn certificate<'f>(&self, found: &'f UpstreamFacts, plan: &mut Plan) -> Option<&'f Certificates> {
        let secret = match &found.secret {
            Probe::Unknown(why) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                return None;
            }
            Probe::Present(stored) if !stored.is_ours() => {
                plan.needs_a_person.push(foreign(&self.wanted().secret_place()));
                return None;
            }
            Probe::Present(stored) => Some(stored),
            Probe::Absent => None,
        };
        let make = |plan: &mut Plan, is_next: bool| {
            plan.actions.push(Action::MakeWebhookCertificate {
                secret: self.wanted().secret_place(),
                names: self.wanted().service_names(),
                replaces: secret.map(|stored| stored.resource_version().to_owned()),
                is_next,
                at: self.now,
            });
        };
        let Probe::Present(certificates) = &found.certificates else {
            make(plan, false);
            return None;
        };
        let is_due = found.renew_at.is_none_or(|at| at <= self.now);
        match &certificates.next {
            None if is_due => make(plan, true),
            Some(next) if self.is_known(found, next) => {
                plan.actions.push(Action::UseNextWebhookCertificate {
                    secret: self.wanted().secret_place(),
                    replaces: secret.map(|stored| stored.resource_version().to_owned()).unwrap_or_default(),
                });
            }
            None | Some(_) => {}
        }
        Some(certificates)
    }

    /// Whether every API server that calls the webhook trusts this certificate.
    fn is_known(&self, found: &UpstreamFacts, certificate: &str) -> bool {
        match &found.configuration {
            Probe::Present(stored) => is_trusted(stored, certificate),
            Probe::Absent => true,
            Probe::Unknown(_) => false,
        }
    }

    /// Brings its objects up to date; whether they were and its pods can be called.
    fn deploy(&self, found: &UpstreamFacts, plan: &mut Plan) -> bool {
        let actions = plan.actions.len();
        for (wanted, found) in self.wanted().objects().into_iter().zip(&found.objects).skip(1) {
            if !self.apply(wanted, found, plan) {
                return false;
            }
        }
        if plan.actions.len() > actions {
            return false;
        }
        let deployment = found.objects.last().and_then(Probe::present);
        let is_available = deployment.is_some_and(|stored| is_available(stored.body()));
        if !is_available {
            let place = self.wanted().deployment_place();
            plan.look_closer = true;
            plan.wait(format!("for a ready pod of {place}; kubectl get pods says what it lacks"), WAITING_INTERVAL);
        }
        is_available
    }

    /// Whether the others may be applied after it.
    fn apply(&self, wanted: ClusterObject, found: &Probe<StoredObject>, plan: &mut Plan) -> bool {
        let replaces = match found {
            Probe::Unknown(why) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                return false;
            }
            Probe::Present(stored) if !stored.is_ours() => {
                plan.needs_a_person.push(foreign(wanted.place()));
                return false;
            }
            Probe::Present(stored) if stored.has(&wanted) => return true,
            Probe::Present(stored) => Some(stored.uid().to_owned()),
            Probe::Absent => None,
        };
        let what = format!("apply {} of the upstream webhook", wanted.place());
        plan.actions.push(Action::ApplyObject { object: Box::new(wanted), replaces, what });
        true
    }

    fn register(&self, found: &UpstreamFacts, certificates: &Certificates, plan: &mut Plan) -> bool {
        let wanted = self.wanted().configuration(&self.desired.webhook, certificates);
        let what = "register the upstream webhook".to_owned();
        let stored = match &found.configuration {
            Probe::Unknown(why) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                return false;
            }
            Probe::Absent => None,
            Probe::Present(stored) if !stored.is_ours() => {
                plan.needs_a_person.push(foreign(&Upstream::configuration_place()));
                return false;
            }
            Probe::Present(stored) if is_as_wanted(stored, &wanted) => return true,
            Probe::Present(stored) => Some(stored),
        };
        plan.actions.push(match stored.filter(|stored| has_additions(stored, &wanted)) {
            Some(stored) => Action::ReplaceObject {
                place: wanted.place().clone(),
                body: Box::new(stored.with_content_of(&wanted)),
                what,
            },
            None => Action::ApplyObject {
                object: Box::new(wanted),
                replaces: stored.map(|stored| stored.uid().to_owned()),
                what,
            },
        });
        false
    }

    /// Removes the registration, then, once no API server calls it any more, the program. Only what is ours.
    pub(super) fn remove_upstream(&self, plan: &mut Plan) {
        let Some(found) = &self.webhook.upstream else { return };
        let is_registered = found.configuration.present().is_some_and(StoredObject::is_ours);
        if !remove(&Upstream::configuration_place(), &found.configuration, plan) || is_registered {
            return;
        }
        let objects = self.wanted().objects();
        // Its Namespace may have come to hold what others need.
        let places = objects.iter().map(ClusterObject::place).zip(&found.objects).skip(1);
        let secret = self.wanted().secret_place();
        let all: Vec<(&ObjectPlace, &Probe<StoredObject>)> =
            places.chain(std::iter::once((&secret, &found.secret))).collect();
        let is_left =
            |(_, found): &&(&ObjectPlace, &Probe<StoredObject>)| found.present().is_some_and(StoredObject::is_ours);
        if !all.iter().any(|object| is_left(&object)) {
            return;
        }
        if found.unregistered_for < LAST_CALLS {
            return plan.wait("for the last calls of the upstream webhook before it is removed", WAITING_INTERVAL);
        }
        // Its pods first: they need the rest.
        for (place, found) in all.iter().rev() {
            if !remove(place, found, plan) {
                return;
            }
        }
    }
}
