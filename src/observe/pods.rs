//! Pods and their AWS credentials: all of them for the leader, one of them for a person who asks.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

use super::LARGEST_FILE_BYTES;
use crate::{
    aws::Reason,
    cluster::{ApiServer as Client, LabelledPod},
    config::Settings,
    host::Root,
    model::{
        missed_pods::{KnownAccount, Sources},
        plan::{ApiServer, CHECK_INTERVAL, Facts, NodeFacts, PodsFacts, Shared},
        pod::PodName,
        pod_check::{Labels, PodLook, Registration, RoleArn, TrustPolicy, exempt_namespaces},
        pod_identity::{ContainerCredentials, Method, RoleMap},
        probe::{Probe, sentence},
        region::AccountId,
        roles_in_use::RolesInUse,
    },
    world::{SLOW_INTERVAL, World},
};

/// ConfigMap with roles, its name as in the AWS program.
const ROLE_MAP: &str = "pod-identity-webhook";
/// Longest time for the whole list, page by page: the watchdog waits for the pass.
const LIST_LIMIT: Duration = Duration::from_secs(60);

/// Pods without credentials, for the leader every [`SLOW_INTERVAL`] and for a person at once.
pub(super) async fn observe_pods(
    world: &mut World,
    node: &NodeFacts,
    shared: &Shared,
    now: Timestamp,
) -> Option<Probe<PodsFacts>> {
    let leads = matches!(shared, Shared::Seen(shared) if shared.leads);
    if world.acts && !leads {
        world.pods = None;
        return None;
    }
    let client = asked(world, node)?;
    if let Some((at, found)) = &world.pods
        && world.acts
    {
        let interval = if found.unknown().is_some() { CHECK_INTERVAL } else { SLOW_INTERVAL };
        if (0..interval.as_secs() as i64).contains(&now.duration_since(*at).as_secs()) {
            return Some(found.clone());
        }
    }
    let found = match tokio::time::timeout(LIST_LIMIT, look(&client, &world.root, &world.settings, now)).await {
        Ok(found) => found.map_or_else(Probe::Unknown, Probe::Present),
        Err(_) => Probe::Unknown(format!("their list did not come within {LIST_LIMIT:?}")),
    };
    world.pods = Some((now, found.clone()));
    Some(found)
}

/// This node's API server, where it answered this look.
fn asked(world: &World, node: &NodeFacts) -> Option<Client> {
    match node.api_server {
        ApiServer::Seen(_) => world.asked_api_server(),
        ApiServer::None | ApiServer::NoKubeconfig(_) | ApiServer::Silent(_) => None,
    }
}

/// Who has a role by our issuer, and uses it.
///
/// # Errors
/// A list did not come.
pub async fn look_at_roles_in_use(world: &World, node: &NodeFacts) -> Result<RolesInUse, String> {
    let client = asked(world, node).ok_or("kube-apiserver of this node does not answer")?;
    let mut sources = sources(&world.settings, &Probe::Absent);
    add_other_sources(&client, &world.root, &world.settings, &mut sources).await?;
    let prefix = sources.settings.annotation_prefix.clone();
    let accounts = client.each_account(&prefix, |name, account| drop(sources.accounts.insert(name, account))).await;
    accounts.map_err(|error| error.reason())?;
    let mut found = RolesInUse::of(&sources);
    let pods = client.each_pod(&prefix, |pod| found.add(&pod, &sources.standing(&pod))).await;
    pods.map_err(|error| error.reason())?;
    Ok(found)
}

async fn look(client: &Client, root: &Root, settings: &Settings, now: Timestamp) -> Result<PodsFacts, String> {
    let mut sources = sources(settings, &client.registrations().await);
    add_other_sources(client, root, settings, &mut sources).await?;
    let prefix = sources.settings.annotation_prefix.clone();
    let accounts = client.each_account(&prefix, |name, account| drop(sources.accounts.insert(name, account))).await;
    accounts.map_err(|error| error.reason())?;
    let mut facts = PodsFacts { looked_at: now, ..PodsFacts::default() };
    if sources.name_nobody() {
        return Ok(facts);
    }
    let pods = client.each_pod(&prefix, |pod| facts.missed.add(&pod, sources.standing(&pod))).await;
    pods.map_err(|error| error.reason())?;
    if facts.missed.count > 0 {
        // Without an answer the Events are written again, which changes nothing.
        facts.told = client.told_of_missed().await.present().cloned().unwrap_or_default();
    }
    Ok(facts)
}

/// Without service accounts.
fn sources(settings: &Settings, registrations: &Probe<Vec<Registration>>) -> Sources {
    Sources {
        settings: settings.pod_identity(),
        accounts: HashMap::new(),
        fallback: RoleMap::default(),
        credentials: ContainerCredentials::default(),
        exempt_namespaces: registrations.present().map(|found| exempt_namespaces(found)).unwrap_or_default(),
        registered_at: match registrations {
            Probe::Unknown(why) => Probe::Unknown(why.clone()),
            Probe::Absent => Probe::Absent,
            Probe::Present(found) => {
                found.iter().map(|registration| registration.since).min().map_or(Probe::Absent, Probe::Present)
            }
        },
    }
}

/// Roles and container credentials that stand elsewhere than in annotations. What cannot be understood gives none: the webhook says so.
async fn add_other_sources(
    client: &Client,
    root: &Root,
    settings: &Settings,
    sources: &mut Sources,
) -> Result<(), String> {
    if let Some(namespace) = &settings.webhook.config_map_namespace {
        match client.config_map_entry(namespace.as_str(), ROLE_MAP, "config").await {
            Probe::Present(text) => sources.fallback = RoleMap::parse(&text).unwrap_or_default(),
            Probe::Absent => {}
            Probe::Unknown(why) => return Err(why),
        }
    }
    if let Some(file) = &settings.webhook.container_credentials.file {
        let found = root.read_through_links(file, LARGEST_FILE_BYTES).map_err(|error| sentence(&error))?;
        let found = found.map(|found| ContainerCredentials::parse(&found.bytes).unwrap_or_default());
        sources.credentials = found.unwrap_or_default();
    }
    Ok(())
}

/// One pod with everything that its credentials hang on, after `facts` were observed.
pub async fn look_at_pod(world: &mut World, facts: &Facts, name: &PodName) -> PodLook {
    let client = asked(world, &facts.node);
    let unasked = || match &facts.node.api_server {
        ApiServer::Silent(why) | ApiServer::NoKubeconfig(why) => why.clone(),
        ApiServer::None | ApiServer::Seen(_) => "no kube-apiserver runs here yet".to_owned(),
    };
    let settings = &world.settings;
    let mut look = PodLook {
        name: name.clone(),
        pod: Probe::Unknown(unasked()),
        labels: Labels::new(),
        namespace_labels: Labels::new(),
        account: Probe::Unknown(unasked()),
        sources: sources(settings, &Probe::Unknown(unasked())),
        registrations: Probe::Unknown(unasked()),
        issuer: settings.issuer.url.clone(),
        own_account: None,
        provider_audiences: facts
            .cluster
            .provider
            .clone()
            .map(|provider| provider.map(|provider| provider.audiences.iter().map(ToString::to_string).collect())),
        token_lifetime_seconds: i64::try_from(settings.rotation.token_lifetime.as_secs()).unwrap_or(i64::MAX),
        trust_policy: TrustPolicy::NotAsked("there is no role to ask about".to_owned()),
    };
    if let Some(client) = client {
        ask_cluster(&client, &world.root, settings, &mut look).await;
        ask_aws(world, &mut look).await;
    }
    look
}

async fn ask_cluster(client: &Client, root: &Root, settings: &Settings, look: &mut PodLook) {
    let PodName { namespace, .. } = look.name.clone();
    look.registrations = client.registrations().await;
    look.sources = sources(settings, &look.registrations);
    if let Err(why) = add_other_sources(client, root, settings, &mut look.sources).await {
        return look.pod = Probe::Unknown(why);
    }
    let prefix = look.sources.settings.annotation_prefix.clone();
    let LabelledPod { pod, labels } = match client.pod(&look.name, &prefix).await {
        Probe::Present(found) => found,
        Probe::Absent => return look.pod = Probe::Absent,
        Probe::Unknown(why) => return look.pod = Probe::Unknown(why),
    };
    let account: Probe<KnownAccount> = client.account(&namespace, &pod.service_account, &prefix).await;
    if let Probe::Present(account) = &account {
        look.sources.accounts.insert(format!("{namespace}/{}", pod.service_account), account.clone());
    }
    look.account = account.map(drop);
    look.namespace_labels = client.namespace_labels(&namespace).await.present().cloned().unwrap_or_default();
    (look.pod, look.labels) = (Probe::Present(pod), labels);
}

async fn ask_aws(world: &mut World, look: &mut PodLook) {
    let Some(intent) = look.intent() else { return };
    let clients = match world.aws().await {
        Ok(clients) => clients,
        Err(why) => return look.trust_policy = TrustPolicy::NotAsked(why),
    };
    // arn:PARTITION:iam::ACCOUNT:oidc-provider/…
    look.own_account = clients.provider_arn.split(':').nth(4).and_then(|account| account.parse::<AccountId>().ok());
    let role = RoleArn::read(&intent.role_arn).filter(|_| intent.method == Method::WebIdentity);
    let Some(role) = role else { return };
    look.trust_policy = if look.own_account.as_ref() == Some(&role.account) {
        match clients.iam.trust_policy(&role.name).await {
            Ok(policy) => TrustPolicy::Asked(policy.map_or(Probe::Absent, Probe::Present)),
            Err(error) if *error.reason() == Reason::Denied => TrustPolicy::NotAsked(
                "iam:GetRole is not allowed with the credentials of this command; run it with those of an administrator of IAM".to_owned(),
            ),
            Err(error) => TrustPolicy::Asked(Probe::Unknown(sentence(&error))),
        }
    } else {
        TrustPolicy::NotAsked(format!("the role is in account {}", role.account))
    };
}
