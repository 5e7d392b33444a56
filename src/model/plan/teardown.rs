//! The last part of the way back: what the cluster had for our issuer goes, in an order in which nothing ever points at what is gone.
//!
//! The provider goes first and is seen to be gone before the bucket may: whoever took its name would speak for this cluster.

mod bucket;
mod evidence;
mod roles;

pub use bucket::pointed_at_by;
pub use roles::left_alone;

use jiff::Timestamp;

use super::{
    Action, Desired, Facts, Plan, ProviderFacts, Shared, StoredDocument, WAITING_INTERVAL, kubeadm,
    shared::{Followed, Following},
    webhook,
};
use crate::model::{
    discovery::{DISCOVERY_PATH, Discovery},
    jwks::{Jwk, Jwks},
    keyring::{self, Ended, Keyring, Teardown},
    location::Location,
    memory::{LastKeyring, TornDown, Version1},
    probe::Probe,
    role::{Owner, RoleName},
    rotation::{Stage, acceptable_until},
    service_account_role::ServiceAccountRole,
};

/// What is to be removed outside of the cluster, looked at in every pass that may remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeardownFacts {
    /// The IAM provider, whoever looks after it; `None` where irsad asks AWS for nothing.
    pub provider: Option<Probe<ProviderFacts>>,
    /// The issuer's bucket; `None` for a folder.
    pub bucket: Option<Probe<BucketContent>>,
    /// ARNs of this account's other providers whose issuer lies in that bucket.
    pub pointing: Probe<Vec<String>>,
    /// Roles below the path of this cluster; `None` where irsad asks AWS for nothing.
    pub roles: Option<Probe<RolesLeft>>,
    /// Whether irsad removes those that are its own; otherwise (`roles.mode: none`) it may not, and all of them are others.
    pub removes_roles: bool,
    /// `ServiceAccountRole` objects that nobody but irsad lets go of; a few are enough. Absent where there are none.
    pub held: Probe<Vec<ServiceAccountRole>>,
}

/// IAM roles below the path of this cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolesLeft {
    /// Those with our tags, and what asked for each; not all where there are many.
    pub ours: Vec<(RoleName, Owner)>,
    /// Names of those without.
    pub others: Vec<String>,
}

/// The issuer's bucket as one that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketContent {
    /// It carries the tag that irsad sets when it creates one for this cluster.
    pub is_ours: bool,
    /// Keys of objects in it, old versions included; a few are enough.
    pub objects: Vec<String>,
    /// Its policy; Absent where it has none.
    pub policy: Probe<String>,
}

/// Whether documents and provider are no longer looked after.
pub(super) fn is_removing(desired: &Desired, following: Following<'_>, now: Timestamp) -> bool {
    matches!(of(desired, following, now), Some((_, Stage::Removing | Stage::Ended)))
}

/// Whether the cluster is on its way back, and how far.
fn of<'k>(desired: &Desired, following: Following<'k>, now: Timestamp) -> Option<(&'k Teardown, Stage)> {
    let Following::Keyring(followed) = following else { return None };
    let teardown = followed.keyring().teardown.as_ref()?;
    Some((teardown, teardown.stage(&desired.policy(), now)))
}

/// Who changes pods, as long as tokens of ours are minted that their changes are for.
pub(super) fn gives_credentials(desired: &Desired, following: Following<'_>, now: Timestamp) -> bool {
    matches!(of(desired, following, now), None | Some((_, Stage::Rolling)))
}

/// Whether tokens of ours are minted, or may be: pods are given them, and roles are kept for them.
///
/// Not on a node that remembers the end of a teardown, whatever keyring a restore of etcd has brought back: a person decides there.
pub fn is_in_use(desired: &Desired, facts: &Facts, now: Timestamp) -> bool {
    let gives = |followed| gives_credentials(desired, Following::Keyring(followed), now);
    facts.node.torn_down.present().is_none() && followed(facts).is_none_or(gives)
}

/// Whether the cluster's documents and provider are looked after: not while a teardown removes them, and not after it.
pub fn is_looked_after(desired: &Desired, facts: &Facts, now: Timestamp) -> bool {
    let removes = followed(facts).is_some_and(|followed| is_removing(desired, Following::Keyring(followed), now));
    facts.node.torn_down.present().is_none() && !removes
}

fn followed(facts: &Facts) -> Option<Followed<'_>> {
    let Shared::Seen(shared) = &facts.shared else { return None };
    Some(Followed { stored: shared.keyring.present()?, shared })
}

pub(super) fn plan(desired: &Desired, facts: &Facts, following: Following<'_>, now: Timestamp, plan: &mut Plan) {
    let (Following::Keyring(followed), Some((teardown, stage))) = (following, of(desired, following, now)) else {
        return;
    };
    let removal = Removal { desired, facts, followed, teardown, now };
    if stage != Stage::Ended {
        plan.notices.push(format!(
            "the cluster goes back to issuer {} since {}; irsad teardown shows how far it is",
            teardown.issuer,
            teardown.since.strftime("%Y-%m-%d %H:%M UTC")
        ));
    }
    match stage {
        Stage::Rolling | Stage::Waiting(_) => {}
        Stage::Removing if following.leads() => removal.remove(plan),
        Stage::Removing => {
            if matches!(desired.store, Location::File(_)) && !removal.is_held_back(plan) {
                removal.documents(&mut Vec::new(), plan);
            }
            plan.wait(format!("for the leader to remove what is left of {}", desired.issuer), WAITING_INTERVAL);
        }
        Stage::Ended => removal.write_down(plan),
    }
}

/// One pass of removing.
struct Removal<'a> {
    desired: &'a Desired,
    facts: &'a Facts,
    followed: Followed<'a>,
    teardown: &'a Teardown,
    now: Timestamp,
}

impl Removal<'_> {
    /// Webhook, provider, documents, bucket; each is planned again until it is seen to be gone.
    fn remove(&self, plan: &mut Plan) {
        if self.is_held_back(plan) {
            return;
        }
        let Some(found) = &self.facts.teardown else {
            plan.look_closer = true;
            return plan.wait("for a closer look at what is to be removed", WAITING_INTERVAL);
        };
        let mut remains = Vec::new();
        let webhook = webhook::is_gone(&self.facts.webhook);
        if !webhook {
            plan.wait("for the pod-identity webhook to be removed", WAITING_INTERVAL);
        }
        let Some(trusted) = self.provider(found, &mut remains, plan) else { return };
        if self.documents(&mut remains, plan)
            && self.roles(found, &mut remains, plan)
            && roles::let_go(found, plan)
            && self.bucket(found, trusted, &mut remains, plan)
            && webhook
        {
            self.end(remains, plan);
        }
    }

    /// Whether a provider stays that trusts our issuer; `None` where that is not known yet.
    fn provider(&self, found: &TeardownFacts, remains: &mut Vec<String>, plan: &mut Plan) -> Option<bool> {
        let issuer = &self.desired.issuer;
        let is_managed = self.desired.provider.is_some();
        match &found.provider {
            None | Some(Probe::Absent) => Some(false),
            Some(Probe::Unknown(why)) if is_managed => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                None
            }
            Some(Probe::Unknown(why)) => {
                remains.push(format!(
                    "an IAM OIDC provider of {issuer} may be there (provider.manage is false, and it could not be looked for: {why})"
                ));
                Some(true)
            }
            Some(Probe::Present(provider)) if is_managed && provider.is_ours => {
                plan.actions.push(Action::DeleteProvider { issuer: issuer.clone() });
                // Only a look that does not find it lets its bucket go.
                Some(true)
            }
            Some(Probe::Present(_)) => {
                remains.push(format!(
                    "the IAM OIDC provider of {issuer} stays: it is not irsad's; aws iam delete-open-id-connect-provider \
                     --open-id-connect-provider-arn ARN"
                ));
                Some(true)
            }
        }
    }

    /// Whether no public document of ours is left. The discovery document first: it names the other.
    fn documents(&self, remains: &mut Vec<String>, plan: &mut Plan) -> bool {
        let (cluster, desired) = (&self.facts.cluster, self.desired);
        let mut is_gone = true;
        for (path, stored) in [(DISCOVERY_PATH, cluster.discovery()), (desired.jwks_path.as_str(), cluster.jwks())] {
            match stored {
                Probe::Absent => {}
                Probe::Unknown(why) => {
                    plan.wait(why.clone(), WAITING_INTERVAL);
                    return false;
                }
                Probe::Present(found) if path == DISCOVERY_PATH && !self.is_our_discovery(found) => {
                    plan.needs_a_person.push(format!(
                        "{} in {} is not the discovery document of {} (left as it is); see whose it is, and delete it",
                        desired.store.key(path),
                        desired.store,
                        desired.issuer
                    ));
                    return false;
                }
                Probe::Present(found) if path != DISCOVERY_PATH && !self.is_our_jwks(found) => remains.push(format!(
                    "{} in {} stays: it has keys that the keyring does not know; see whose they are",
                    desired.store.key(path),
                    desired.store
                )),
                Probe::Present(_) => {
                    is_gone = false;
                    plan.actions.push(Action::DeleteDocument {
                        key: desired.store.key(path),
                        url: desired.issuer.document(path),
                    });
                }
            }
        }
        is_gone
    }

    fn is_our_discovery(&self, found: &StoredDocument) -> bool {
        Discovery::parse(&found.body).is_ok_and(|discovery| discovery.issuer == self.desired.issuer.as_str())
    }

    /// Whether every key in it is one that the keyring knows: others may have put it there, and the discovery document that said so may
    /// be gone.
    fn is_our_jwks(&self, found: &StoredDocument) -> bool {
        let keyring = self.followed.keyring();
        let is_leaving = |kid: &str| keyring.leaving.iter().any(|left| left.jwk.kid() == Some(kid));
        let is_known = |jwk: &Jwk| jwk.kid().is_some_and(|kid| keyring.key(kid).is_some() || is_leaving(kid));
        Jwks::parse(&found.body).is_ok_and(|jwks| jwks.keys().iter().all(is_known))
    }

    fn end(&self, mut remains: Vec<String>, plan: &mut Plan) {
        if !plan.actions.is_empty() || !plan.is_ready() {
            return;
        }
        if let Some((bucket, _)) = &self.followed.shared.bucket {
            remains.push(format!(
                "the keyring's bucket {} stays: it holds private keys, one of which signs, and its policy lets nobody delete them",
                bucket.name
            ));
        }
        let (keyring, shared) = (self.followed.keyring(), self.followed.shared);
        remains.extend(kubeadm::left_to_a_person(self.desired, &keyring.issuers, &self.facts.node, shared));
        remains.push(
            "Lease kube-system/irsad stays: kubectl -n kube-system delete lease irsad, when irsad is off the nodes"
                .to_owned(),
        );
        let ended = Some(Ended { at: self.now, remains });
        let teardown = Some(Teardown { ended, ..self.teardown.clone() });
        let keyring = Keyring { teardown, ..keyring.clone() };
        plan.actions.push(self.followed.write(&keyring, "nothing of ours is left to remove"));
    }

    /// This node has followed the keyring to its end.
    fn write_down(&self, plan: &mut Plan) {
        let Some(ended) = &self.teardown.ended else { return };
        let stored = self.followed.stored;
        let mut own = Vec::new();
        if matches!(self.desired.store, Location::File(_)) && !self.documents(&mut own, plan) {
            return;
        }
        own.retain(|what| !ended.remains.contains(what));
        if !plan.actions.iter().all(|action| matches!(action, Action::RememberKeyring { .. })) || !plan.is_ready() {
            return;
        }
        plan.actions.push(Action::RememberTornDown(TornDown {
            version: Version1,
            at: ended.at,
            issuer: self.teardown.issuer.clone(),
            accepts: self.desired.issuer.to_string(),
            accepts_until: acceptable_until(self.teardown, self.desired.policy().verify_retention),
            remains: [ended.remains.clone(), own].concat(),
            keyring: Some(LastKeyring { generation: stored.keyring.generation, hash: keyring::hash(&stored.bytes) }),
        }));
    }
}
