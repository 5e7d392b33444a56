//! What a person asks for to be without our issuer again, and what will come of it.

use jiff::Timestamp;

use super::{RequestError, minute};
use crate::model::{
    keyring::{KeyState, Keyring, KeyringKey, Teardown},
    location::Location,
    outlook::duration,
    plan::{Desired, ProviderFacts, TeardownFacts, left_alone, pointed_at_by},
    probe::Probe,
    rotation::{Ack, Policy, Stage},
};

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTeardown {
    /// Issuer that signs again; `None`: the one that did before ours.
    pub issuer: Option<String>,
    /// Provider and documents do not wait for the last token of ours.
    pub at_once: bool,
    /// The issuer's bucket stays.
    pub keeps_bucket: bool,
}

/// kubeadm's issuer where its configuration gives none (kubernetes/kubernetes `cmd/kubeadm/app/phases/controlplane/manifests.go`).
pub fn default_issuer(dns_domain: &str) -> String {
    format!("https://kubernetes.default.svc.{dns_domain}")
}

/// The keyring in which the cluster goes back to another issuer than `ours`; `default` (kubeadm's, `None` where that is not
/// known) where none was there before. Asking again changes what may still be changed: not to wait, and to keep the bucket.
///
/// # Errors
/// A key is being revoked, the issuer is ours or not known, or another one was asked for before.
pub fn teardown(
    keyring: &Keyring,
    ours: &str,
    wanted: &WantedTeardown,
    default: Option<&str>,
    now: Timestamp,
) -> Result<Keyring, RequestError> {
    if let Some(asked) = &keyring.teardown {
        return again(keyring, asked, wanted);
    }
    let is_leaving = |key: &&KeyringKey| key.revoke.is_some() && key.state != KeyState::Revoked;
    if let Some(key) = keyring.keys.iter().find(is_leaving) {
        return Err(RequestError::Revoking(key.kid.clone()));
    }
    let before = keyring.issuers.iter().find(|issuer| *issuer != ours);
    let issuer = wanted.issuer.as_ref().or(before).map(String::as_str).or(default);
    let issuer = issuer.ok_or(RequestError::NoIssuer)?.to_owned();
    if issuer == ours {
        return Err(RequestError::OwnIssuer(issuer));
    }
    let teardown = Some(Teardown {
        since: now,
        issuer,
        at_once: wanted.at_once,
        keeps_bucket: wanted.keeps_bucket,
        signed_since: None,
        ended: None,
    });
    // A rotation that only waits does not come any more.
    Ok(Keyring { rotate_since: None, teardown, ..keyring.clone() })
}

fn again(keyring: &Keyring, asked: &Teardown, wanted: &WantedTeardown) -> Result<Keyring, RequestError> {
    match &wanted.issuer {
        Some(issuer) if *issuer != asked.issuer => Err(RequestError::OtherIssuer(asked.issuer.clone())),
        Some(_) | None => Ok(Keyring {
            teardown: Some(Teardown {
                at_once: asked.at_once || wanted.at_once,
                keeps_bucket: asked.keeps_bucket || wanted.keeps_bucket,
                ..asked.clone()
            }),
            ..keyring.clone()
        }),
    }
}

/// The keyring in which the cluster has our issuer after all.
///
/// # Errors
/// Nothing else was asked for.
pub fn cancel_teardown(keyring: &Keyring) -> Result<Keyring, RequestError> {
    match &keyring.teardown {
        None => Err(RequestError::NoTeardown),
        Some(_) => Ok(Keyring { teardown: None, ..keyring.clone() }),
    }
}

/// What [`cancel_teardown`] comes to.
pub fn cancel_effect(ours: &str) -> Vec<String> {
    vec![
        format!("the cluster is brought back to issuer {ours} as one that irsad adopts, one restart after the other; no token is refused"),
        "what was removed by then is made anew: webhook, provider, documents, bucket; a bucket name that another account took meanwhile is \
         lost"
            .to_owned(),
    ]
}

/// What `asked`, a keyring with a teardown, comes to. `found` is what there is in AWS.
pub fn teardown_effect(asked: &Keyring, acks: &[Ack], desired: &Desired, found: &TeardownFacts) -> Vec<String> {
    let Some(teardown) = &asked.teardown else { return Vec::new() };
    let (ours, policy) = (&desired.issuer, desired.policy());
    let mut effect = restarts(asked, teardown, acks, ours.as_str());
    effect.push(format!(
        "pods get tokens that AWS does not take as soon as their API server signs as {}: those with an IAM role lose it when their token is \
         renewed, new ones never have it",
        teardown.issuer
    ));
    effect.push(match teardown.at_once {
        true => "provider and documents go as soon as every kube-apiserver has proven it: AWS refuses live tokens of ours from then on".to_owned(),
        false => format!(
            "provider and documents go {} after every kube-apiserver has proven it, when the last token of ours has expired (--now does not \
             wait)",
            duration(policy.token_lifetime + policy.clock_margin)
        ),
    });
    effect.push(
        "the pod-identity webhook is removed, the built-in one and the upstream one, where irsad made it".to_owned(),
    );
    effect.push(provider(desired, found));
    effect.push(format!("the public documents in {} are deleted", desired.store));
    effect.extend(bucket(teardown, desired, found));
    effect.extend(roles(&asked.cluster, found));
    if found.held != Probe::Absent {
        effect.push(
            "ServiceAccountRole objects stay and lose irsad's finalizer when their roles are gone: kubectl delete them, or the CRD, when you like"
                .to_owned(),
        );
    }
    effect.push("the signing key stays as it is".to_owned());
    effect.push(
        "the keyring is deleted last, where it is in Secrets or in a folder: sa.key of each node is then the only copy"
            .to_owned(),
    );
    effect.push(format!(
        "every kube-apiserver goes on accepting {ours} for tokens that live longer; its line may leave the manifests and \
         kube-system/kubeadm-config {} later",
        duration(policy.verify_retention)
    ));
    effect.push(
        "--service-account-jwks-uri leaves the manifests where it is irsad's; a value of before irsad is not known any more: who had one sets it \
         again, in the manifests and in kube-system/kubeadm-config"
            .to_owned(),
    );
    effect.push(
        "a node that joins later with irsad on it would begin anew: take irsad out of images and user data first"
            .to_owned(),
    );
    effect
}

fn restarts(asked: &Keyring, teardown: &Teardown, acks: &[Ack], ours: &str) -> Vec<String> {
    let members = || asked.members.iter().map(|member| member.node.as_str());
    let accepts = |node: &str| acks.iter().any(|ack| ack.node == node && ack.issuers.contains(&teardown.issuer));
    let is_alone = asked.members.len() == 1;
    let twice: Vec<&str> = members().filter(|node| !is_alone && !accepts(node)).collect();
    let once: Vec<&str> = members().filter(|node| !twice.contains(node)).collect();
    let mut said = Vec::new();
    if !once.is_empty() {
        said.push(format!(
            "kube-apiserver of {} restarts once, one node after the other, to sign as {}; tokens of {ours} stay accepted",
            once.join(", "),
            teardown.issuer
        ));
    }
    if !twice.is_empty() {
        said.push(format!(
            "kube-apiserver of {} restarts twice, one node after the other: first to accept {}, then to sign as it; tokens of {ours} stay \
             accepted",
            twice.join(", "),
            teardown.issuer
        ));
    }
    said
}

fn provider(desired: &Desired, found: &TeardownFacts) -> String {
    let issuer = &desired.issuer;
    match (&found.provider, &desired.provider) {
        (None | Some(Probe::Absent), _) => format!("there is no IAM OIDC provider of {issuer} in this account"),
        (Some(Probe::Present(ProviderFacts { is_ours: true, .. })), Some(_)) => {
            format!("the IAM OIDC provider of {issuer} is deleted")
        }
        (Some(Probe::Present(_)), _) => {
            format!("the IAM OIDC provider of {issuer} is not irsad's and stays: delete it before its bucket")
        }
        (Some(Probe::Unknown(why)), _) => format!("the IAM OIDC provider of {issuer} could not be looked at: {why}"),
    }
}

fn bucket(teardown: &Teardown, desired: &Desired, found: &TeardownFacts) -> Vec<String> {
    let Location::S3 { bucket, .. } = &desired.store else { return Vec::new() };
    let ours = match &found.bucket {
        Some(Probe::Present(content)) => content.is_ours && desired.bucket.as_ref().is_some_and(|bucket| bucket.create),
        None | Some(Probe::Absent) => return vec![format!("there is no bucket {bucket}")],
        Some(Probe::Unknown(why)) => return vec![format!("bucket {bucket} could not be looked at: {why}")],
    };
    if teardown.keeps_bucket || !ours {
        return vec![format!(
            "bucket {bucket} stays: {}",
            if ours { "--keep-bucket" } else { "irsad did not make it" }
        )];
    }
    match &found.pointing {
        Probe::Absent => {}
        Probe::Present(arns) => return vec![format!("bucket {bucket} stays: {}", pointed_at_by(arns))],
        Probe::Unknown(why) => {
            return vec![format!("bucket {bucket} stays until it can be asked who else points at it: {why}")];
        }
    }
    vec![format!(
        "bucket {bucket} is deleted last, if it is empty and no provider of this account trusts it: delete providers of other accounts that \
         trust {} before (or --keep-bucket), whoever takes the name later could speak for this cluster",
        desired.issuer
    )]
}

fn roles(cluster: &str, found: &TeardownFacts) -> Vec<String> {
    let left = match &found.roles {
        None | Some(Probe::Absent) => return Vec::new(),
        Some(roles) if !found.removes_roles => return left_alone(roles, cluster).into_iter().collect(),
        Some(Probe::Unknown(why)) => {
            return vec![format!("the IAM roles of this cluster could not be looked at: {why}")];
        }
        Some(Probe::Present(left)) => left,
    };
    let ours = "the IAM roles that irsad made for this cluster are removed, and their policies".to_owned();
    let others = format!("IAM roles {} stay: they lack irsad's tags", left.others.join(", "));
    [(!left.ours.is_empty()).then_some(ours), (!left.others.is_empty()).then_some(others)]
        .into_iter()
        .flatten()
        .collect()
}

/// How far a teardown is, in one line.
pub fn teardown_progress(keyring: &Keyring, acks: &[Ack], policy: &Policy, now: Timestamp) -> String {
    let Some(teardown) = &keyring.teardown else { return "no teardown is under way".to_owned() };
    let signs = |node: &str| acks.iter().any(|ack| ack.node == node && ack.issuers.first() == Some(&teardown.issuer));
    match teardown.stage(policy, now) {
        Stage::Rolling => {
            let (there, behind): (Vec<&str>, Vec<&str>) =
                keyring.members.iter().map(|member| member.node.as_str()).partition(|node| signs(node));
            let changing = keyring.rollout.as_ref().map(|rollout| format!(", {} is being changed", rollout.holder));
            format!(
                "1 of 3: {} of {} API servers sign as {}, {} to go{}",
                there.len(),
                keyring.members.len(),
                teardown.issuer,
                if behind.is_empty() { "none".to_owned() } else { behind.join(", ") },
                changing.unwrap_or_default()
            )
        }
        Stage::Waiting(until) => format!(
            "2 of 3: every kube-apiserver signs as {}; provider and documents go at {}, when the last token of ours has expired",
            teardown.issuer,
            minute(until)
        ),
        Stage::Removing => "3 of 3: webhook, provider, documents and bucket are being removed".to_owned(),
        Stage::Ended => {
            let noted = |node: &&str| acks.iter().any(|ack| ack.node == **node && ack.generation >= keyring.generation);
            let members = keyring.members.iter().map(|member| member.node.as_str());
            let silent: Vec<&str> = members.filter(|node| !noted(node)).collect();
            match silent.is_empty() {
                true => "done; the keyring is being deleted".to_owned(),
                false => format!("done; waiting for irsad of {} to note it", silent.join(", ")),
            }
        }
    }
}

/// The member whose change failed, and why.
pub fn failed_member(keyring: &Keyring, acks: &[Ack]) -> Option<(String, String)> {
    let holder = &keyring.rollout.as_ref()?.holder;
    let ack = acks.iter().find(|ack| ack.node == *holder)?;
    Some((holder.clone(), ack.failure.clone()?))
}

#[cfg(test)]
mod tests;
