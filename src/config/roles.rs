//! `roles`: IAM roles for service accounts that irsad makes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value as Json;

use crate::model::{
    issuer::IssuerUrl,
    region::{AccountId, Partition},
    role::{InlinePolicy, ManagedPolicy, MaxSession, Owner, PolicyArn, RoleName, RoleRequest, RoleTerms},
    trust_policy::Subject,
};

use super::{
    ClusterName, Settings,
    options::tags,
    section::Section,
    tree::{Tree, Value},
    values::Span,
};

const HOUR: Duration = Duration::from_secs(3600);

/// `roles`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolesSettings {
    /// `roles.mode` (`none`).
    pub mode: RolesMode,
    /// `roles.permissionsBoundary` (empty, `None`): permissions boundary of every role that irsad makes.
    pub boundary: Option<PolicyArn>,
    /// `roles.tags` (`{}`): tags of every role, beside irsad's own; at most 48.
    pub tags: BTreeMap<String, String>,
    /// `roles.additionalIssuers` (`[]`): issuers whose tokens the roles trust too, while a cluster moves from one to another. Each needs its own
    /// IAM OIDC provider.
    pub additional_issuers: Vec<IssuerUrl>,
    /// `roles.removalDelay` (`1h`): how long a role stays after it has left the list.
    pub removal_delay: Duration,
    /// `roles.list`: with `mode: list` (required there), the roles.
    pub list: Vec<RoleRequest>,
}

/// `roles.mode`: what IAM roles are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolesMode {
    /// `none`: irsad makes none.
    None,
    /// `list`: `roles.list`.
    List,
    /// `crd`: `ServiceAccountRole` objects of the cluster.
    Crd,
}

impl Settings {
    /// What holds for every role of this cluster in `account`.
    pub fn role_terms(&self, partition: Partition, account: &AccountId) -> RoleTerms {
        let additional = self.roles.additional_issuers.iter().cloned();
        RoleTerms {
            partition,
            account: account.clone(),
            cluster: self.cluster.to_string(),
            issuers: std::iter::once(self.issuer.url.clone()).chain(additional).collect(),
            audiences: self.provider.audiences.clone(),
            boundary: self.roles.boundary.clone(),
            tags: self.roles.tags.clone(),
        }
    }
}

/// Reads the section. `cluster` is `None` where its name is wrong, which is in the log then.
pub(super) fn roles(section: &Section<'_>, cluster: Option<&ClusterName>) -> RolesSettings {
    let modes = [("none", RolesMode::None), ("list", RolesMode::List), ("crd", RolesMode::Crd)];
    let mode = section.one_of("mode", &modes).unwrap_or(RolesMode::None);
    let boundary = boundary(section);
    let max_session = max_session(section, MaxSession::DEFAULT);
    let tags = tags(section);
    let additional_issuers = section.list("additionalIssuers").unwrap_or_default();
    let removal_delay = section.text::<Span>("removalDelay").map_or(HOUR, |span| span.0);
    let cluster = cluster.map_or("cluster", ClusterName::as_str);
    let list: Vec<RoleRequest> =
        section.sections("list").iter().filter_map(|entry| role(entry, cluster, max_session)).collect();
    if mode == RolesMode::List {
        section
            .require("list", "list: [{ serviceAccount: checkout, namespace: shop, policies: [AmazonSQSFullAccess] }]");
    }
    RolesSettings { mode, boundary, tags, additional_issuers, removal_delay, list }
}

/// What shows only when issuer and provider are known: names that stand twice, and roles that IAM would refuse.
pub(super) fn check(section: &Section<'_>, settings: &Settings) {
    // Of the account only the length counts here.
    let Ok(account) = "000000000000".parse::<AccountId>() else { return };
    let terms = settings.role_terms(settings.partition(), &account);
    if terms.issuers[1..].contains(&terms.issuers[0]) {
        section.blame(
            "additionalIssuers",
            format!("{} is the issuer of this cluster already; leave it out", terms.issuers[0]),
        );
    }
    let (mut names, entries) = (BTreeSet::new(), section.sections("list"));
    // One that has a mistake of its own is no role: which is whose is not known then.
    if entries.len() != settings.roles.list.len() {
        return;
    }
    // IAM does not tell names apart by their case.
    for (entry, request) in entries.iter().zip(&settings.roles.list) {
        if !names.insert(request.name.as_str().to_ascii_lowercase()) {
            entry.blame_all(format!("role {} stands twice; join the entries, or give one another name", request.name));
        }
        if let Err(refusal) = terms.role(request) {
            entry.blame_all(refusal.to_string().replace(" (nothing changed)", ""));
        }
    }
}

fn boundary(section: &Section<'_>) -> Option<PolicyArn> {
    section.raw("permissionsBoundary").filter(|text| !text.is_empty())?;
    section.text("permissionsBoundary")
}

fn max_session(section: &Section<'_>, default: MaxSession) -> MaxSession {
    let Some(Span(given)) = section.text::<Span>("maxSession") else { return default };
    MaxSession::try_from(given).unwrap_or_else(|_| {
        section.blame("maxSession", format!("{} is no session of a role; IAM takes 1h to 12h", Span(given)));
        default
    })
}

/// One entry of the list; `None` where it has a mistake, which is in the log then.
fn role(entry: &Section<'_>, cluster: &str, default_session: MaxSession) -> Option<RoleRequest> {
    entry.require("serviceAccount", "serviceAccount: checkout");
    entry.require("namespace", "namespace: shop");
    let given: Option<RoleName> = entry.text("name");
    let (account, namespace) = (entry.raw("serviceAccount"), entry.raw("namespace"));
    let managed: Option<Vec<ManagedPolicy>> = entry.list("policies");
    let managed = if entry.has("policies") { managed } else { Some(Vec::new()) };
    let inline = inline(entry);
    let max_session = max_session(entry, default_session);
    entry.blame_unknown();
    let subject = subject(entry, &namespace?, &account?)?;
    let name = if entry.has("name") { given? } else { RoleName::of(&subject, cluster) };
    let (managed, inline) = (managed?, inline?);
    Some(RoleRequest { name, owner: Owner::list(cluster), subjects: vec![subject], managed, inline, max_session })
}

/// Names with at most one wildcard where there may be one: in the namespace.
fn subject(entry: &Section<'_>, namespace: &str, account: &str) -> Option<Subject> {
    match Subject::new(namespace, account) {
        Ok(subject) => Some(subject),
        Err(error) => {
            let key = match error {
                crate::model::trust_policy::PolicyError::Namespace(_) => "namespace",
                _ => "serviceAccount",
            };
            entry.blame(key, error.to_string());
            None
        }
    }
}

/// `inlinePolicy`, a mapping or JSON text; the outer `None` where it has a mistake.
fn inline(entry: &Section<'_>) -> Option<Option<InlinePolicy>> {
    let Some(tree) = entry.tree("inlinePolicy") else { return Some(None) };
    let policy = match &tree.value {
        Value::Scalar { text, .. } => text.parse(),
        Value::Map(_) | Value::List(_) | Value::Nothing => InlinePolicy::new(json(tree)),
    };
    policy.map_err(|error| entry.blame("inlinePolicy", error.to_string())).ok().map(Some)
}

/// The same as JSON. Numbers stay texts, which IAM takes as well: an account may begin with a zero.
fn json(tree: &Tree) -> Json {
    match &tree.value {
        Value::Nothing => Json::Null,
        Value::Scalar { text, .. } => Json::from(text.as_str()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|(key, tree)| (key.clone(), json(tree))).collect(),
    }
}
