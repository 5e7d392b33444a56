//! The keyring: whether this node may follow it, what this node tells the others, and what the leader changes in it.

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    keyring::{KeyState, Keyring, Origin, hash},
    memory,
    probe::Probe,
    rotation::{self, Ack, Next, Seen, next},
};

use super::{
    Action, ApiServer, CHECK_INTERVAL, Desired, Facts, KeyKeeping, NodeFacts, Plan, RestartPolicy, Shared, SharedFacts,
    StoredKeyring, WAITING_INTERVAL, ack, begin::begin, keyring_bucket::keyring_bucket, kubeadm, published,
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
    if !shared.keyring.present().is_some_and(|stored| stored.keyring.has_ended()) {
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
    let_prepared_key_go(followed, &facts.node, plan);
    if shared.leads && !plan.actions.iter().any(Action::writes_keyring) {
        lead(desired, facts, followed, own, now, plan);
    }
    Following::Keyring(followed)
}

/// The key that `irsad prepare` made here to sign next. Where another node has begun the keyring, its private half is not there, and it
/// never signs: it goes when its time is over, as every key of ours does, and for no person.
fn let_prepared_key_go(followed: Followed<'_>, node: &NodeFacts, plan: &mut Plan) {
    let Some(prepared) = node.standby_key.present() else { return };
    let kid = prepared.kid().as_str();
    let is_on_disk = node.verifying_keys.present().is_some_and(|keys| keys.contains(prepared));
    match followed.keyring().key(kid) {
        Some(key)
            if key.origin == Origin::Adopted && matches!(key.state, KeyState::Draining | KeyState::VerifyOnly) =>
        {
            let what = format!("key {kid} was made by irsad prepare and has never signed: it is not kept for ever");
            plan.actions.push(followed.write(&rotation::of_ours(followed.keyring(), kid), what));
        }
        // The leader takes it in first, or it leaves the file of a node that has never used it.
        None if is_on_disk => {}
        Some(_) | None => plan.actions.push(Action::ForgetStandbyKey),
    }
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
pub(super) fn leads_or_is_alone(shared: &SharedFacts) -> bool {
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
