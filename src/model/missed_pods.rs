//! Pods that run without the AWS credentials that their service accounts have for them, and why.
//!
//! Such pods do not fail by themselves: their SDKs fall back to the node's role, or find nothing when they first ask. What a pod
//! got was decided when it was created, so only another pod mends it.

use std::{collections::HashMap, fmt};

use jiff::Timestamp;

use super::{
    pod::{Pod, PodName},
    pod_identity::{Account, ContainerCredentials, PodIdentity, RoleMap},
    probe::Probe,
};

/// Most missed pods that are named; the others are counted.
pub const MOST_NAMED: usize = 50;
/// `reason` of the Event on a missed pod.
pub const REASON: &str = "NoAWSCredentials";
/// Longest `note` that Kubernetes takes (kubernetes/kubernetes `pkg/apis/core/validation/events.go`).
const LONGEST_NOTE_BYTES: usize = 1024;

/// Whose pods get credentials, and what could keep a pod from them.
#[derive(Debug, Clone)]
pub struct Sources {
    /// How pods are changed.
    pub settings: PodIdentity,
    /// Service accounts with annotations, by `NAMESPACE/NAME`.
    pub accounts: HashMap<String, KnownAccount>,
    /// Roles for others.
    pub fallback: RoleMap,
    /// Accounts whose pods ask an agent.
    pub credentials: ContainerCredentials,
    /// Namespaces that are left out of the webhook.
    pub exempt_namespaces: Vec<String>,
    /// Since when a webhook is registered; Absent: none is.
    pub registered_at: Probe<Timestamp>,
}

/// A service account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownAccount {
    /// Its annotations.
    pub account: Account,
    /// When the role was written into it; `None` where the server does not tell: it does not of an account that was made without any
    /// label or annotation (`metadata.managedFields`).
    pub since: Option<Timestamp>,
}

/// How it stands with the credentials of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its service account has no role.
    NoRole,
    /// It has ended or is being deleted.
    Ended,
    /// kubelet's copy of a static Pod, which no webhook can change.
    Mirror,
    /// It has the label of those that stay out.
    OptedOut,
    /// Its namespace is left out.
    Exempt,
    /// Its annotation `skip-containers` names every container.
    SkipsAll,
    /// It has credentials.
    Has,
    /// It should have credentials.
    Missed(Why),
}

/// Why a pod has no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is older than the role of its service account.
    BeforeRole,
    /// It is older than the registration of the webhook.
    BeforeWebhook,
    /// No webhook is registered.
    NoWebhook,
    /// It was created while the webhook was registered and its service account had the role.
    NotAnswered,
    /// One of [`Why::BeforeRole`] and [`Why::NotAnswered`]: the server does not tell since when the role is there.
    BeforeRoleOrNotAnswered,
    /// Some containers have credentials, these do not.
    Containers(Vec<String>),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeRole => f.write_str("it was created before its service account named the role"),
            Self::BeforeWebhook => f.write_str("it was created before the webhook was registered"),
            Self::NoWebhook => f.write_str("no webhook is registered that gives credentials to pods"),
            Self::NotAnswered => {
                f.write_str("the webhook did not answer when it was created, and webhook.failurePolicy let it pass")
            }
            Self::BeforeRoleOrNotAnswered => f.write_str(
                "it was created before its service account named the role, or while the webhook did not answer",
            ),
            Self::Containers(names) => {
                write!(f, "container {} came into it after the webhook, by another one", names.join(", "))
            }
        }
    }
}

impl Sources {
    /// Whether no pod of the cluster can be missed.
    pub fn name_nobody(&self) -> bool {
        self.fallback.is_empty()
            && self.credentials == ContainerCredentials::default()
            && self.with_role().next().is_none()
    }

    /// Service accounts with annotations that have a role, `NAMESPACE/NAME`.
    pub fn with_role(&self) -> impl Iterator<Item = &str> {
        let has_role = |(name, known): &(&String, &KnownAccount)| {
            name.split_once('/').is_some_and(|(namespace, name)| self.gives(namespace, name, Some(&known.account)))
        };
        self.accounts.iter().filter(has_role).map(|(name, _)| name.as_str())
    }

    /// How it stands with `pod`.
    pub fn standing(&self, pod: &Pod) -> Standing {
        let PodName { namespace, .. } = &pod.name;
        let known = self.accounts.get(&format!("{namespace}/{}", pod.service_account));
        if !self.gives(namespace, &pod.service_account, known.map(|known| &known.account)) {
            return Standing::NoRole;
        }
        if pod.has_ended {
            return Standing::Ended;
        }
        let skipped = pod.skipped();
        let (has, lacks): (Vec<_>, Vec<_>) = pod
            .containers
            .iter()
            .filter(|container| !skipped.contains(&container.name))
            .partition(|container| container.has_credentials());
        match (has.is_empty(), lacks.is_empty()) {
            (true, true) => Standing::SkipsAll,
            (false, true) => Standing::Has,
            _ if pod.is_mirror => Standing::Mirror,
            _ if pod.opted_out => Standing::OptedOut,
            _ if self.exempt_namespaces.contains(namespace) => Standing::Exempt,
            (false, false) => Standing::Missed(Why::Containers(lacks.iter().map(|lacks| lacks.name.clone()).collect())),
            (true, false) => Standing::Missed(self.why(pod, known)),
        }
    }

    fn gives(&self, namespace: &str, name: &str, account: Option<&Account>) -> bool {
        self.settings.method(namespace, name, account, &self.fallback, &self.credentials).is_some()
    }

    /// Times are whole seconds: a pod of the same second may have been first.
    fn why(&self, pod: &Pod, known: Option<&KnownAccount>) -> Why {
        let since = known.and_then(|known| known.since);
        match &self.registered_at {
            Probe::Absent => Why::NoWebhook,
            _ if since.is_some_and(|since| pod.created_at <= since) => Why::BeforeRole,
            Probe::Present(registered_at) if pod.created_at <= *registered_at => Why::BeforeWebhook,
            Probe::Present(_) | Probe::Unknown(_) if since.is_some() => Why::NotAnswered,
            Probe::Present(_) | Probe::Unknown(_) => Why::BeforeRoleOrNotAnswered,
        }
    }
}

/// A pod that runs without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedPod {
    /// Which.
    pub name: PodName,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
    /// Why.
    pub why: Why,
    /// Command that has it made anew.
    pub cure: String,
}

impl MissedPod {
    /// What the Event on it says, in at most 1024 bytes.
    pub fn note(&self) -> String {
        let Self { name, service_account, why, cure, .. } = self;
        let note = format!(
            "service account {service_account} has an IAM role, and this pod runs without credentials for it: {why}. Have the pod made \
             anew: {cure}. More: irsad verify --pod {name}"
        );
        let within = |bytes: &mut usize, c: char| {
            *bytes += c.len_utf8();
            (*bytes <= LONGEST_NOTE_BYTES).then_some(c)
        };
        note.chars().scan(0, within).collect()
    }
}

/// What one look at all pods found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissedPods {
    /// How many run without credentials that they should have.
    pub count: usize,
    /// The first [`MOST_NAMED`] of them, by namespace and name.
    pub named: Vec<MissedPod>,
    /// Pods with a role that stay out by their label or namespace.
    pub opted_out: usize,
    /// Copies of static Pods with a role.
    pub mirrors: usize,
}

impl MissedPods {
    /// Takes one pod into account.
    pub fn add(&mut self, pod: &Pod, standing: Standing) {
        match standing {
            Standing::NoRole | Standing::Ended | Standing::SkipsAll | Standing::Has => {}
            Standing::Mirror => self.mirrors += 1,
            Standing::OptedOut | Standing::Exempt => self.opted_out += 1,
            Standing::Missed(why) => {
                self.count += 1;
                if self.named.len() < MOST_NAMED {
                    self.named.push(MissedPod {
                        name: pod.name.clone(),
                        uid: pod.uid.clone(),
                        service_account: pod.service_account.clone(),
                        why,
                        cure: pod.cure(),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
