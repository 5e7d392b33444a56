//! What a teardown removes outside of the cluster.

use jiff::Timestamp;

use crate::{
    aws::iam::Iam,
    config::RolesMode,
    model::{
        issuer::Audience,
        plan::{BucketContent, Desired, ProviderFacts, RolesLeft, Shared, TeardownFacts},
        probe::{Probe, sentence},
        role::{self, Owner},
        rotation::Stage,
        s3_address::providers_in,
    },
    world::{AwsClients, World},
};

/// So many roles are removed in one pass.
const MOST_ROLES: usize = 20;

/// Looks at it where this node is about to remove it.
pub(super) async fn observe_teardown(
    world: &mut World,
    desired: &Desired,
    shared: &Shared,
    now: Timestamp,
) -> Option<TeardownFacts> {
    let Shared::Seen(shared) = shared else { return None };
    let keyring = &shared.keyring.present()?.keyring;
    let stage = keyring.teardown.as_ref()?.stage(&desired.policy(), now);
    let leads = shared.leads || keyring.members.iter().map(|member| &member.node).eq([&shared.node]);
    if stage != Stage::Removing || !leads {
        return None;
    }
    Some(look_at_what_goes(world, desired).await)
}

/// Provider, bucket and roles, as ones that may go.
pub async fn look_at_what_goes(world: &mut World, desired: &Desired) -> TeardownFacts {
    let keeps_roles = world.settings.roles.mode != RolesMode::None;
    if desired.provider.is_none() && desired.bucket.is_none() && !keeps_roles {
        return TeardownFacts { provider: None, bucket: None, pointing: Probe::Absent, roles: None };
    }
    match world.aws().await {
        Ok(clients) => {
            let owner = world.settings.owner_tag();
            let (provider, bucket, pointing) =
                tokio::join!(ask_provider(&clients, &owner), ask_bucket(&clients, &owner), ask_pointing(&clients));
            let roles = match keeps_roles {
                true => Some(ask_roles(&clients.iam, world.settings.cluster.as_str()).await),
                false => None,
            };
            TeardownFacts { provider: Some(provider), bucket, pointing, roles }
        }
        Err(why) => TeardownFacts {
            provider: Some(Probe::Unknown(why.clone())),
            bucket: desired.bucket.as_ref().map(|_| Probe::Unknown(why.clone())),
            pointing: Probe::Unknown(why.clone()),
            roles: keeps_roles.then_some(Probe::Unknown(why)),
        },
    }
}

/// Tags are asked for one by one: a list of roles does not show them (IAM API reference, `ListRoles`).
async fn ask_roles(iam: &Iam, cluster: &str) -> Probe<RolesLeft> {
    let listed = match iam.roles_below(&role::path(cluster)).await {
        Ok(listed) => listed,
        Err(error) => return Probe::Unknown(sentence(&error)),
    };
    let mut left = RolesLeft::default();
    for listed in listed {
        if left.ours.len() == MOST_ROLES {
            break;
        }
        match iam.role(&listed.name).await {
            Ok(None) => {}
            Ok(Some(found)) => match Owner::of_tags(&found.tags).filter(|owner| found.is_of(owner)) {
                Some(owner) if owner.cluster() == cluster => left.ours.push((found.name, owner)),
                Some(_) | None => left.others.push(found.name.to_string()),
            },
            Err(error) => return Probe::Unknown(sentence(&error)),
        }
    }
    Probe::Present(left)
}

async fn ask_provider(clients: &AwsClients, (key, value): &(String, String)) -> Probe<ProviderFacts> {
    let found = clients.iam.observe(&clients.provider_arn).await;
    found.map(|found| ProviderFacts {
        is_ours: found.tags.get(key) == Some(value),
        audiences: found.audiences.iter().filter_map(|text| text.parse::<Audience>().ok()).collect(),
    })
}

async fn ask_bucket(clients: &AwsClients, owner: &(String, String)) -> Option<Probe<BucketContent>> {
    Some(clients.bucket.as_ref()?.observe_content(owner).await)
}

/// Other providers whose issuer lies in the bucket: their ARNs tell their issuers, so that none has to be asked for one by one.
async fn ask_pointing(clients: &AwsClients) -> Probe<Vec<String>> {
    let Some(bucket) = &clients.bucket else { return Probe::Absent };
    match clients.iam.providers().await {
        Ok(arns) => match providers_in(&arns, bucket.bucket(), &clients.provider_arn) {
            found if found.is_empty() => Probe::Absent,
            found => Probe::Present(found),
        },
        Err(error) => Probe::Unknown(sentence(&error)),
    }
}
