//! Whether STS takes the pod's token for the role.

use super::{PodLook, RoleArn, TrustPolicy, check};
use crate::model::{
    checks::{Check, Outcome},
    pod::{Pod, TokenVolume},
    pod_identity::{Intent, Method, SHORTEST_TOKEN_SECONDS},
    probe::Probe,
    trust_policy::{Verdict, WebIdentity, verdict},
};

pub(super) fn checks(look: &PodLook, pod: &Pod, intent: &Intent) -> Vec<Check> {
    let volume = look.token_volume(pod, Method::WebIdentity);
    let mut checks = Vec::new();
    if let Some(volume) = volume {
        checks.push(audience(look, pod, volume));
        checks.push(expiration(look, volume));
    }
    let subject = format!("system:serviceaccount:{}:{}", pod.name.namespace, pod.service_account);
    // What the token of the next pod is for, where this one has none.
    let audience =
        volume.map_or(Some(intent.audience.as_str()), |volume| volume.audience.as_deref()).unwrap_or_default();
    checks.push(check(
        format!("the role's trust policy takes a token of {subject} for {audience}"),
        trust(look, &subject, audience),
    ));
    checks
}

fn audience(look: &PodLook, pod: &Pod, volume: &TokenVolume) -> Check {
    let prefix = &look.sources.settings.annotation_prefix;
    let Some(audience) = &volume.audience else {
        let why = format!(
            "it is for kube-apiserver itself; take annotation {prefix}/audience off the service account, then {}",
            pod.cure()
        );
        return check("the token is for AWS", Outcome::Fails(why));
    };
    let outcome = match &look.provider_audiences {
        None => Outcome::Skipped("provider.manage is false".to_owned()),
        Some(Probe::Unknown(why)) => Outcome::Unknown(why.clone()),
        Some(Probe::Absent) => Outcome::Fails("there is no IAM OIDC provider of this issuer yet".to_owned()),
        Some(Probe::Present(known)) if known.contains(audience) => Outcome::Holds,
        Some(Probe::Present(known)) => Outcome::Fails(format!(
            "it takes {}; add it to provider.audiences, or set annotation {prefix}/audience of the service account to one of them",
            known.join(", ")
        )),
    };
    check(format!("the token is for {audience}, which the IAM OIDC provider takes"), outcome)
}

fn expiration(look: &PodLook, volume: &TokenVolume) -> Check {
    let (found, most) = (volume.expiration_seconds, look.token_lifetime_seconds);
    let annotation = format!("{}/token-expiration", look.sources.settings.annotation_prefix);
    let outcome = if found < SHORTEST_TOKEN_SECONDS {
        Outcome::Fails(format!(
            "kube-apiserver grants no token of less than {SHORTEST_TOKEN_SECONDS} s; raise annotation {annotation}"
        ))
    } else if found > most {
        Outcome::Fails(format!(
            "keys leave the published documents {most} s after their last use, and the last tokens of a key could be refused; lower \
             annotation {annotation}, or raise rotation.tokenLifetime"
        ))
    } else {
        Outcome::Holds
    };
    check(format!("the token lives {found} s"), outcome)
}

fn trust(look: &PodLook, subject: &str, audience: &str) -> Outcome {
    let Some(role) = look.role() else {
        return Outcome::Skipped("the service account names no role that could be asked about".to_owned());
    };
    let policy = match &look.trust_policy {
        TrustPolicy::NotAsked(why) => return Outcome::Skipped(format!("not looked at: {why}")),
        TrustPolicy::Asked(Probe::Unknown(why)) => return Outcome::Unknown(why.clone()),
        TrustPolicy::Asked(Probe::Absent) => {
            return Outcome::Fails(format!(
                "there is no role {} in account {}; {}",
                role.name,
                role.account,
                commands(
                    &role,
                    subject,
                    &format!("create-role --role-name {} --assume-role-policy-document", role.name)
                )
            ));
        }
        TrustPolicy::Asked(Probe::Present(policy)) => policy,
    };
    let provider = look.issuer.without_scheme();
    let provider_arn = format!("arn:{}:iam::{}:oidc-provider/{provider}", role.partition, role.account);
    match verdict(policy, &WebIdentity { provider_arn: &provider_arn, provider, subject, audience }) {
        Verdict::Allows => Outcome::Holds,
        Verdict::Undecided(why) => Outcome::Skipped(format!("not looked at: {why}")),
        Verdict::Refuses(why) => {
            let how = format!("update-assume-role-policy --role-name {} --policy-document", role.name);
            Outcome::Fails(format!("it {why}; {}", commands(&role, subject, &how)))
        }
    }
}

/// Commands that give the role the policy that is wanted.
fn commands(role: &RoleArn, subject: &str, how: &str) -> String {
    let mut parts = subject.rsplitn(3, ':');
    let (name, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let account = &role.account;
    format!(
        "irsad trust-policy --account {account} --namespace {namespace} --service-account {name} > trust.json, then aws iam {how}=file://trust.json"
    )
}
