//! A node whose cluster does without our issuer again: nothing is begun anew, and the keyring goes when no node needs it.

use jiff::Timestamp;

use super::{Action, Facts, Plan, Shared, SharedFacts, StoredKeyring, WAITING_INTERVAL, ack};
use crate::model::{
    keyring::{self, HighWater, KeyringError},
    memory::{self, LastKeyring, TornDown},
    probe::Probe,
    rotation,
};

/// What is left to do on a node that has written down that nothing is; `None` where it has not.
pub(super) fn rest(facts: &Facts, now: Timestamp) -> Option<Plan> {
    let torn_down = match &facts.node.torn_down {
        Probe::Absent => return None,
        Probe::Present(torn_down) => torn_down,
        Probe::Unknown(why) => {
            let mut plan = Plan::new();
            plan.needs_a_person.push(why.clone());
            return Some(plan);
        }
    };
    let mut plan = Plan::new();
    plan.notices.extend(sentences(torn_down, now));
    let Shared::Seen(shared) = &facts.shared else { return Some(plan) };
    match &shared.keyring {
        Probe::Present(stored) if stored.keyring.has_ended() => leave_keyring(facts, shared, stored, now, &mut plan),
        Probe::Present(stored) => match of_another_time(torn_down, stored) {
            None => plan.actions.push(Action::ForgetTornDown),
            Some(why) => plan.needs_a_person.push(why),
        },
        Probe::Absent | Probe::Unknown(_) => {}
    }
    Some(plan)
}

/// Why a node that remembers the end of a teardown cannot rest: the keyring that is there wants our issuer, and is not of its time.
pub fn contradiction(facts: &Facts) -> Option<String> {
    let (torn_down, Shared::Seen(shared)) = (facts.node.torn_down.present()?, &facts.shared) else { return None };
    let stored = shared.keyring.present().filter(|stored| !stored.keyring.has_ended())?;
    of_another_time(torn_down, stored)
}

/// What is wrong with a keyring that wants our issuer; `None` where it is the one of the teardown, which was taken back.
///
/// A restore of etcd brings back the keyring of before. Whoever followed it would sign as an issuer again whose provider and documents are
/// gone.
fn of_another_time(torn_down: &TornDown, stored: &StoredKeyring) -> Option<String> {
    let LastKeyring { generation, hash } = torn_down.keyring.clone()?;
    let mark = HighWater { generation, hash };
    let what = match stored.keyring.continues(&keyring::hash(&stored.bytes), &mark) {
        Ok(()) => return None,
        Err(KeyringError::WentBack { found, known }) => format!(
            "the keyring, generation {found}, is of before the teardown, which ended with generation {known}: etcd or its store was restored"
        ),
        Err(_) => format!("the keyring, generation {}, is not the one of the teardown", stored.keyring.generation),
    };
    Some(format!(
        "{what} (nothing changed, kube-apiserver signs as {}); to have irsad's issuer again, on every node rm {} and systemctl reload irsad, \
         to be without it, irsad teardown after that, or take irsad off the nodes",
        torn_down.issuer,
        memory::TORN_DOWN
    ))
}

/// Tells that this node needs no keyring any more; the leader deletes it when no node does. One in S3 stays: nothing there deletes.
fn leave_keyring(facts: &Facts, shared: &SharedFacts, stored: &StoredKeyring, now: Timestamp, plan: &mut Plan) {
    let keyring = &stored.keyring;
    let own = ack::own(facts, shared, now);
    ack::tell(shared, own.as_ref(), now, plan);
    if shared.bucket.is_some() {
        return;
    }
    let alone = keyring.members.iter().map(|member| &member.node).eq([&shared.node]);
    if !shared.leads && !alone {
        return;
    }
    let Some(control_plane) = shared.control_plane.present() else {
        plan.look_closer = true;
        return;
    };
    let required = rotation::required(control_plane, &shared.acks);
    let knows =
        |node: &&String| shared.acks.iter().any(|ack| ack.node == **node && ack.generation >= keyring.generation);
    let behind: Vec<&str> = required.iter().filter(|node| !knows(node)).map(String::as_str).collect();
    match behind.is_empty() {
        true if plan.actions.is_empty() => plan.actions.push(Action::DeleteKeyring { version: stored.version.clone() }),
        true => {}
        false => plan.wait(
            format!(
                "for irsad of {} to note that nothing is left to do, before the keyring is deleted",
                behind.join(", ")
            ),
            WAITING_INTERVAL,
        ),
    }
}

/// What a torn down cluster is, for people.
pub fn sentences(torn_down: &TornDown, now: Timestamp) -> Vec<String> {
    let TornDown { at, issuer, accepts, accepts_until, remains, .. } = torn_down;
    let day = |moment: &Timestamp| moment.strftime("%Y-%m-%d").to_string();
    let mut said = vec![format!(
        "torn down on {}: kube-apiserver signs as {issuer}, irsad does nothing more; take irsad off the nodes and out of their images",
        day(at)
    )];
    said.push(match accepts_until {
        Some(until) if *until > now => format!(
            "kube-apiserver goes on accepting {accepts}; leave its --service-account-issuer line in the manifests and in \
             kube-system/kubeadm-config until {}",
            day(until)
        ),
        Some(_) | None => format!(
            "no token of {accepts} lives any more: its --service-account-issuer line may leave the manifests and kube-system/kubeadm-config"
        ),
    });
    said.extend(remains.iter().cloned());
    said
}
