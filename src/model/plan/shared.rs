//! The keyring: whether this node may follow it, what this node tells the others, and what the leader changes in it.

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    jwks::Jwks,
    key::PublicKey,
    keyring::{KeyState, Keyring, KeyringKey, hash},
    memory::{self, PublishedKey},
    probe::Probe,
    rotation::{self, Ack, Adoption, Next, Seen, adopt, next},
};

use super::{
    Action, ApiServer, CHECK_INTERVAL, Desired, Facts, KeyKeeping, NodeFacts, Plan, RestartPolicy, Shared, SharedFacts,
    StoredKeyring, WAITING_INTERVAL, ack, keyring_bucket::keyring_bucket, kubeadm, published,
};

/// A node that began to report so short a time ago, and is no member, may just have joined: the leader asks for the control plane. One
/// that was taken out of the cluster stays silent.
const NEWCOMER: SignedDuration = SignedDuration::from_mins(10);

/// What decides about this node's keys and issuers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Following<'a> {
    /// The files on its own disk: nothing runs that could be asked.
    Disk,
    /// Somebody else, who writes the key files of every node.
    Somebody(&'a SharedFacts),
    /// The keyring, and this node's evidence where it has some.
    Keyring(Followed<'a>),
    /// Nothing: what is there is left as it is. Documents that are certainly missing are published from this node's files.
    Nothing,
}

/// A keyring that this node follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed<'a> {
    pub stored: &'a StoredKeyring,
    pub shared: &'a SharedFacts,
}

impl<'a> Followed<'a> {
    pub fn keyring(&self) -> &'a Keyring {
        &self.stored.keyring
    }

    /// Writes `keyring` as the next generation.
    pub fn write(&self, keyring: &Keyring, what: impl Into<String>) -> Action {
        Action::WriteKeyring {
            keyring: Box::new(keyring.next(&self.stored.bytes)),
            replaces: Some(self.stored.version.clone()),
            what: what.into(),
        }
    }
}

impl Following<'_> {
    /// Whether this node writes what the whole cluster shares.
    pub fn leads(&self) -> bool {
        match self {
            Self::Disk => true,
            Self::Somebody(shared) => leads_or_is_alone(shared),
            // Without an API server nobody can lead, and where there is one node nobody else does.
            Self::Keyring(Followed { stored, shared }) => {
                let members = stored.keyring.members.iter().map(|member| &member.node);
                shared.leads || members.eq([&shared.node])
            }
            Self::Nothing => false,
        }
    }
}

pub(super) fn plan<'a>(desired: &Desired, facts: &'a Facts, now: Timestamp, plan: &mut Plan) -> Following<'a> {
    let shared = match &facts.shared {
        Shared::Nothing => return Following::Disk,
        Shared::Unknown(why) => {
            let path = desired.manifest.display();
            plan.wait(format!("{why}; {path} is left alone meanwhile"), WAITING_INTERVAL);
            return Following::Nothing;
        }
        Shared::Seen(shared) => shared.as_ref(),
    };
    if let Some(why) = forbidden(shared) {
        plan.needs_a_person.push(why);
        return Following::Nothing;
    }
    if let Some((wanted, found)) = &shared.bucket
        && !keyring_bucket(wanted, found, plan)
    {
        return Following::Nothing;
    }
    let own = ack::own(facts, shared, now);
    // The last generation is told of by those who have written down that it is the last.
    if !has_ended(shared) {
        ack::tell(shared, own.as_ref(), now, plan);
    }
    if desired.keys == KeyKeeping::Follow {
        return Following::Somebody(shared);
    }
    let stored = match &shared.keyring {
        Probe::Unknown(why) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            return Following::Nothing;
        }
        Probe::Absent => {
            begin(desired, facts, shared, now, plan);
            return Following::Nothing;
        }
        Probe::Present(stored) => stored,
    };
    if let Err(why) = is_next(shared, stored) {
        plan.needs_a_person.push(why);
        return Following::Nothing;
    }
    let followed = Followed { stored, shared };
    if shared.applied.present().is_none_or(|mark| mark.generation < stored.keyring.generation) {
        plan.actions
            .push(Action::RememberKeyring { generation: stored.keyring.generation, bytes: stored.bytes.clone() });
    }
    if facts.node.standby_key.present().is_some() {
        plan.actions.push(Action::ForgetStandbyKey);
    }
    if shared.leads {
        lead(desired, facts, followed, own, now, plan);
    }
    Following::Keyring(followed)
}

/// Whether the keyring says that nothing is left to do.
fn has_ended(shared: &SharedFacts) -> bool {
    let teardown = shared.keyring.present().and_then(|stored| stored.keyring.teardown.as_ref());
    teardown.is_some_and(|teardown| teardown.ended.is_some())
}

/// The keyring that a node may follow.
///
/// # Errors
/// There is none, it could not be read, or it does not continue what this node has followed.
pub fn followed(shared: &SharedFacts) -> Result<&StoredKeyring, String> {
    if let Some(why) = forbidden(shared) {
        return Err(why);
    }
    match &shared.keyring {
        Probe::Unknown(why) => Err(why.clone()),
        Probe::Absent => Err("there is no keyring yet; irsad status says what it waits for".to_owned()),
        Probe::Present(stored) => is_next(shared, stored).map(|()| stored),
    }
}

/// Without rights on the Lease one API server by itself has nobody else to wait for.
fn leads_or_is_alone(shared: &SharedFacts) -> bool {
    let servers = shared.control_plane.present().map(rotation::ControlPlane::servers);
    shared.leads || (shared.leader.is_none() && servers.is_some_and(|servers| servers.len() <= 1))
}

fn forbidden(shared: &SharedFacts) -> Option<String> {
    if let Some(damage) = &shared.damage {
        return Some(damage.clone());
    }
    if shared.name_is_taken {
        return Some(format!(
            "another machine reports as {} too (nothing changed); give each control-plane node a name of its own, then systemctl restart \
             irsad",
            shared.node
        ));
    }
    let servers = shared.control_plane.present().map(rotation::ControlPlane::servers).unwrap_or_default();
    (shared.is_for_one_node && servers.len() > 1).then(|| {
        format!(
            "keyring.store is a folder, which one node can use, and this cluster has {} API servers: {} (nothing changed); leave \
             keyring.store out, or set it to an s3:// bucket",
            servers.len(),
            servers.join(", ")
        )
    })
}

/// A keyring that went back in time, or that is another one, is not followed.
fn is_next(shared: &SharedFacts, stored: &StoredKeyring) -> Result<(), String> {
    match &shared.applied {
        Probe::Absent => Ok(()),
        Probe::Unknown(why) => Err(why.clone()),
        Probe::Present(mark) => {
            let hash = hash(&stored.bytes);
            let next = stored.keyring.continues(&hash, mark);
            next.map_err(|error| {
                format!(
                    "{error}: irsad rebuild, on the node that irsad rebuild names; where the other nodes follow the keyring and only this \
                     one does not: rm {} and systemctl reload irsad",
                    memory::KEYRING
                )
            })
        }
    }
}

/// There is no keyring yet.
fn begin(desired: &Desired, facts: &Facts, shared: &SharedFacts, now: Timestamp, plan: &mut Plan) {
    match &shared.applied {
        Probe::Absent => {}
        Probe::Unknown(why) => return plan.needs_a_person.push(why.clone()),
        Probe::Present(mark) => {
            return plan.needs_a_person.push(format!(
                "the keyring is gone from its store, and this node has followed its generation {} (nothing changed): put it back from a \
                 backup, or have it rebuilt from the nodes: irsad rebuild; only where kubeadm reset and init have made a new cluster: rm \
                 {} and systemctl reload irsad",
                mark.generation,
                memory::KEYRING
            ));
        }
    }
    if facts.node.nothing_runs() {
        return found(desired, facts, shared, now, plan);
    }
    if !leads_or_is_alone(shared) {
        let who = shared.leader.as_deref().unwrap_or("a leader");
        return plan.wait(format!("for {who} to begin the keyring"), WAITING_INTERVAL);
    }
    let Some(control_plane) = present_or_wait(&shared.control_plane, plan) else { return };
    let Some(leaving) = present_or_wait(&left_by_others(facts, now), plan).cloned() else { return };
    match adopt(&shared.cluster, &shared.acks, control_plane, leaving, now) {
        Adoption::Wait(waits) => waits.into_iter().for_each(|what| plan.wait(what, WAITING_INTERVAL)),
        Adoption::Differ(why) => plan.needs_a_person.push(why),
        Adoption::Begin(mut keyring) => {
            let kid = keyring.signing().map(|key| key.kid.clone()).unwrap_or_default();
            plan.actions.push(Action::KeepPrivateKey { path: desired.signing_key.clone(), kid });
            keep_standby(&facts.node, &mut keyring, plan);
            plan.actions.push(Action::WriteKeyring {
                what: "the keys and issuers that the cluster has".to_owned(),
                keyring,
                replaces: None,
            });
        }
    }
}

/// The key that `irsad prepare` made to sign next, which the API servers have read at their first start.
fn keep_standby(node: &NodeFacts, keyring: &mut Keyring, plan: &mut Plan) {
    let Some(standby) = node.standby_key.present() else { return };
    rotation::stand_by(keyring, standby.kid().as_str());
    if keyring.standby().is_some_and(|key| key.kid == standby.kid().as_str()) {
        let kid = standby.kid().to_string();
        plan.actions.push(Action::KeepPrivateKey { path: memory::STANDBY_KEY.into(), kid });
    }
}

/// The cluster is only being made, and its keyring does not need an API server: whoever writes first makes its key.
fn found(desired: &Desired, facts: &Facts, shared: &SharedFacts, now: Timestamp, plan: &mut Plan) {
    match &facts.node.signing_key {
        Probe::Unknown(why) => plan.needs_a_person.push(why.clone()),
        Probe::Absent => plan.actions.push(Action::FoundKeyring {
            cluster: shared.cluster.clone(),
            issuer: desired.issuer.to_string(),
            at: now,
        }),
        Probe::Present(key) => {
            let Some(others) = others_of_before(&facts.node, key, now, plan) else { return };
            let Some(mut leaving) = present_or_wait(&left_by_others(facts, now), plan).cloned() else { return };
            let made = KeyringKey::adopted(key.kid().as_str(), &key.to_pem(), KeyState::Signing, now);
            plan.actions.push(Action::KeepPrivateKey { path: desired.signing_key.clone(), kid: key.kid().to_string() });
            let mut keyring = rotation::found(&shared.cluster, desired.issuer.as_str(), made);
            keyring.keys.extend(others);
            leaving.retain(|left| left.jwk.kid().is_none_or(|kid| keyring.key(kid).is_none()));
            keyring.leaving = leaving;
            keep_standby(&facts.node, &mut keyring, plan);
            plan.actions.push(Action::WriteKeyring {
                keyring: Box::new(keyring),
                replaces: None,
                what: "the key of this node".to_owned(),
            });
        }
    }
}

/// Keys that this node accepts beside the one that signs: that of `irsad prepare`, and those of a control plane that was here before.
fn others_of_before(node: &NodeFacts, signing: &PublicKey, now: Timestamp, plan: &mut Plan) -> Option<Vec<KeyringKey>> {
    let accepted = match &node.verifying_keys {
        Probe::Present(keys) => keys.as_slice(),
        Probe::Absent => &[],
        Probe::Unknown(why) => {
            plan.needs_a_person.push(why.clone());
            return None;
        }
    };
    let mut others: Vec<KeyringKey> = Vec::new();
    for key in node.standby_key.present().into_iter().chain(accepted).filter(|key| key.kid() != signing.kid()) {
        if others.iter().all(|known| known.kid != key.kid().as_str()) {
            others.push(KeyringKey::adopted(key.kid().as_str(), &key.to_pem(), KeyState::Draining, now));
        }
    }
    Some(others)
}

/// Keys that stand in the published JWKS and that no node has: tokens of theirs may live.
fn left_by_others(facts: &Facts, now: Timestamp) -> Probe<Vec<PublishedKey>> {
    let body = match facts.cluster.jwks() {
        Probe::Absent => return Probe::Present(Vec::new()),
        Probe::Unknown(why) => return Probe::Unknown(why.clone()),
        Probe::Present(found) => &found.body,
    };
    let Shared::Seen(shared) = &facts.shared else { return Probe::Present(Vec::new()) };
    let is_on_a_node = |kid: &str| shared.acks.iter().any(|ack| ack.has(kid));
    let published = Jwks::parse(body).map(|jwks| jwks.keys().to_vec()).unwrap_or_default();
    let left = published.into_iter().filter(|jwk| jwk.kid().is_some_and(|kid| !is_on_a_node(kid)));
    Probe::Present(left.map(|jwk| PublishedKey { jwk, seen_since: None, gone_since: Some(now) }).collect())
}

fn present_or_wait<'p, T>(probe: &'p Probe<T>, plan: &mut Plan) -> Option<&'p T> {
    match probe {
        Probe::Present(found) => Some(found),
        Probe::Absent => None,
        Probe::Unknown(why) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            None
        }
    }
}

/// What the leader changes next.
fn lead(desired: &Desired, facts: &Facts, followed: Followed<'_>, own: Option<Ack>, now: Timestamp, plan: &mut Plan) {
    let (keyring, shared) = (followed.keyring(), followed.shared);
    if let Some(why) = facts.cluster.clock_differs(now) {
        return plan.notices.push(why);
    }
    let wanted = rotation::issuer_to_sign(keyring, desired.issuer.as_str());
    let is_adopting = keyring.issuers.first().is_none_or(|issuer| issuer != wanted);
    // An idle look goes by a list of nodes that may be old.
    let looked_closely = matches!(&facts.node.api_server, ApiServer::Seen(evidence) if evidence.started_at.is_some());
    if is_adopting && !looked_closely {
        plan.look_closer = true;
        return plan.wait("for a closer look at the control plane", WAITING_INTERVAL);
    }
    // One API server alone may sign as us at once, if it is restarted at once: else a node that joins would sign what it refuses.
    let takes_its_time = desired.restart != RestartPolicy::Rolling || facts.node.refused != Probe::Absent;
    let control_plane = shared.control_plane.present();
    let control_plane = control_plane.filter(|_| looked_closely && !(is_adopting && takes_its_time));
    let mut acks: Vec<Ack> =
        shared.acks.iter().filter(|ack| now.duration_since(ack.at) < ack::EXPIRY).cloned().collect();
    if let Some(own) = own {
        acks.retain(|ack| ack.node != own.node);
        acks.push(own);
    }
    let outside = published::seen_outside(&facts.cluster);
    let seen = Seen { acks: &acks, outside: &outside, control_plane, held: shared.held.present().map(Vec::as_slice) };
    match next(keyring, seen, &desired.policy(), now) {
        Next::Wait(waits) => {
            waits.into_iter().for_each(|what| plan.wait(what, WAITING_INTERVAL));
            kubeadm::assert(desired, keyring, &facts.node, shared, plan);
        }
        Next::Write(changed) => {
            // Before any API server changes: a node that joins meanwhile takes its issuers from there.
            if changed.issuers != keyring.issuers && !kubeadm::assert(desired, &changed, &facts.node, shared, plan) {
                return;
            }
            plan.actions.push(followed.write(&changed, rotation::difference(keyring, &changed)));
        }
        next @ (Next::MakeStandby | Next::Promote) => plan.actions.push(Action::AddStandby {
            keyring: Box::new(keyring.next(&followed.stored.bytes)),
            promotes: next == Next::Promote,
            replaces: followed.stored.version.clone(),
            at: now,
        }),
    }
    let is_news = |ack: &Ack| {
        now.duration_since(ack.at) < NEWCOMER && keyring.members.iter().all(|member| member.node != ack.node)
    };
    if acks.iter().any(is_news) {
        plan.look_closer = true;
        plan.next_check = plan.next_check.min(WAITING_INTERVAL);
    }
    plan.next_check = plan.next_check.min(CHECK_INTERVAL);
}
