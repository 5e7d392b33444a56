//! What a teardown removes outside of the cluster.

use jiff::Timestamp;

use crate::{
    aws::iam::Iam,
    cluster::NoAnswer,
    config::RolesMode,
    model::{
        issuer::Audience,
        plan::{BucketContent, Desired, ProviderFacts, RolesLeft, Shared, TeardownFacts},
        probe::{Probe, sentence},
        role::{self, Owner},
        rotation::Stage,
        s3_address::providers_in,
        service_account_role::ServiceAccountRole,
    },
    world::{AwsClients, World},
};

/// So many roles are removed in one pass.
const MOST_ROLES: usize = 20;
/// So many objects are let go of in one pass.
const MOST_OBJECTS: usize = 50;

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

/// Provider, bucket, roles and the objects that asked for them, as ones that may go.
pub async fn look_at_what_goes(world: &mut World, desired: &Desired) -> TeardownFacts {
    let removes_roles = world.settings.roles.mode != RolesMode::None;
    let held = ask_held(world).await;
    let nothing =
        TeardownFacts { provider: None, bucket: None, pointing: Probe::Absent, roles: None, removes_roles, held };
    if desired.provider.is_none() && desired.bucket.is_none() && !removes_roles {
        return nothing;
    }
    match world.aws().await {
        Ok(clients) => {
            let owner = world.settings.owner_tag();
            let (provider, bucket, pointing) = tokio::join!(
                ask_provider(&clients, &owner),
                ask_bucket(&clients, &owner),
                ask_pointing(&clients, desired)
            );
            let roles = ask_roles(&clients.iam, world.settings.cluster.as_str(), removes_roles).await;
            TeardownFacts { provider: Some(provider), bucket, pointing, roles: Some(roles), ..nothing }
        }
        Err(why) => TeardownFacts {
            provider: Some(Probe::Unknown(why.clone())),
            bucket: desired.bucket.as_ref().map(|_| Probe::Unknown(why.clone())),
            pointing: Probe::Unknown(why.clone()),
            roles: Some(Probe::Unknown(why)),
            ..nothing
        },
    }
}

/// Objects with our finalizer. A cluster that does not know such objects has none.
async fn ask_held(world: &World) -> Probe<Vec<ServiceAccountRole>> {
    let Some(api_server) = world.asked_api_server() else {
        return Probe::Unknown("for an API server, which has the ServiceAccountRoles".to_owned());
    };
    match api_server.list_service_account_roles().await {
        Ok((all, _)) => {
            let held: Vec<_> = all.into_iter().filter(ServiceAccountRole::is_held).take(MOST_OBJECTS).collect();
            if held.is_empty() { Probe::Absent } else { Probe::Present(held) }
        }
        Err(NoAnswer::NotFound { .. }) => Probe::Absent,
        Err(error) => Probe::Unknown(error.reason()),
    }
}

/// Tags are asked for one by one: a list of roles does not show them (IAM API reference, `ListRoles`).
/// With `roles.mode: none` nobody may ask for tags, and names are enough.
async fn ask_roles(iam: &Iam, cluster: &str, asks_tags: bool) -> Probe<RolesLeft> {
    let path = role::path(cluster);
    let listed = match asks_tags {
        true => iam.roles_below(&path).await,
        false => iam.roles_left_below(&path).await,
    };
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => return Probe::Unknown(sentence(&error)),
    };
    if !asks_tags {
        let others = listed.into_iter().map(|role| role.name.to_string()).collect();
        return Probe::Present(RolesLeft { ours: Vec::new(), others });
    }
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
/// A bucket that irsad has not made stays anyway, and nodes may not list providers for it.
async fn ask_pointing(clients: &AwsClients, desired: &Desired) -> Probe<Vec<String>> {
    let Some(bucket) = clients.bucket.as_ref().filter(|_| desired.bucket.as_ref().is_some_and(|it| it.create)) else {
        return Probe::Absent;
    };
    match clients.iam.providers().await {
        Ok(arns) => match providers_in(&arns, bucket.bucket(), &clients.provider_arn) {
            found if found.is_empty() => Probe::Absent,
            found => Probe::Present(found),
        },
        Err(error) => Probe::Unknown(sentence(&error)),
    }
}
