//! `webhook`: who changes pods so that they have a token for AWS, and how.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use crate::model::{
    issuer::Audience,
    pod_identity::{Composition, ContainerCredentialsToken, PodIdentity, WEB_IDENTITY_VOLUME},
    region::{AccountId, Region},
};

use super::{
    AnnotationPrefix, DnsLabel, EndpointUrl, Image, MountPath, ProviderSettings, RotationSettings, Settings, TokenPath,
    section::Section,
    values::{HostPath, Span},
};

const DAY: Duration = Duration::from_secs(86_400);
/// Shortest token that kube-apiserver grants (TokenRequest `expirationSeconds`).
const SHORTEST_TOKEN: Duration = Duration::from_secs(600);
/// How long an API server waits for the webhook.
const LONGEST_GRACE: Duration = Duration::from_secs(10);

/// `webhook`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// `webhook.mode` (`builtIn`).
    pub mode: WebhookMode,
    /// `webhook.port` (`23443`, 1 to 65535): where the built-in webhook listens on 127.0.0.1.
    pub port: u16,
    /// `webhook.failurePolicy` (`Ignore`).
    pub failure_policy: FailurePolicy,
    /// `webhook.exemptNamespaces` (`[]`): namespaces whose pods are left alone.
    pub exempt_namespaces: Vec<DnsLabel>,
    /// `webhook.tokenExpiration` (`24h`, or `rotation.tokenLifetime` where that is shorter; at least `10m`): life of the tokens that pods get
    /// for AWS.
    pub token_expiration: Duration,
    /// `webhook.audience` (`sts.amazonaws.com`, or the first of `provider.audiences` where that is none of them): audience of these tokens.
    pub audience: Audience,
    /// `webhook.annotationPrefix` (`eks.amazonaws.com`): what annotations of service accounts and pods begin with.
    pub annotation_prefix: AnnotationPrefix,
    /// `webhook.tokenMountPath` (`/var/run/secrets/eks.amazonaws.com/serviceaccount`): folder of the token in a container.
    pub token_mount_path: MountPath,
    /// `webhook.defaultRegion` (empty, `None`): value of `AWS_REGION` and `AWS_DEFAULT_REGION`.
    ///
    /// Off by default, also where the region of this node is known: a variable goes before the region in a pod's own AWS
    /// configuration, so that pods would move that had chosen another one there.
    pub default_region: Option<Region>,
    /// `webhook.stsRegionalEndpoints` (`false`): whether pods get `AWS_STS_REGIONAL_ENDPOINTS=regional`.
    pub sts_regional_endpoints: bool,
    /// `webhook.composeRoleArn` (`false`, `None`): account of roles that annotations give by their name only.
    pub compose_role_arn: Option<AccountId>,
    /// `webhook.configMapNamespace` (empty, `None`): where the ConfigMap `pod-identity-webhook` is, whose roles count for service accounts
    /// without annotation.
    pub config_map_namespace: Option<DnsLabel>,
    /// `webhook.lookupGracePeriod` (`5s`, `1s` to `10s`): how long a pod waits for its service account where that is not known yet.
    pub lookup_grace_period: Duration,
    /// `webhook.containerCredentials`
    pub container_credentials: ContainerCredentialsSettings,
    /// `webhook.upstream`
    pub upstream: UpstreamSettings,
}

/// `webhook.containerCredentials`: pods that ask an agent on their node for credentials (EKS Pod Identity).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerCredentialsSettings {
    /// `file` (empty, `None`): JSON file that lists the service accounts of such pods; watched.
    pub file: Option<PathBuf>,
    /// `audience` (`pods.eks.amazonaws.com`): audience of their tokens.
    pub audience: Audience,
    /// `tokenMountPath` (`/var/run/secrets/pods.eks.amazonaws.com/serviceaccount`): folder of the token in a container.
    pub token_mount_path: MountPath,
    /// `volumeName` (`eks-pod-identity-token`): name of the token's volume.
    pub volume_name: DnsLabel,
    /// `tokenPath` (`eks-pod-identity-token`): name of the token's file.
    pub token_path: TokenPath,
    /// `fullUri` (`http://169.254.170.23/v1/credentials`): where SDKs ask for credentials.
    pub full_uri: String,
}

/// `webhook.upstream`: the Deployment of `mode: upstream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// `image` (`public.ecr.aws/eks/amazon-eks-pod-identity-webhook:v0.6.17`), with a tag or a digest.
    pub image: Image,
    /// `namespace` (`kube-system`): where its objects are.
    pub namespace: DnsLabel,
    /// `replicas` (`2`, 1 to 10).
    pub replicas: u8,
}

/// `webhook.mode`: who changes pods so that they have a token for AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookMode {
    /// `builtIn`: irsad.
    BuiltIn,
    /// `upstream`: amazon-eks-pod-identity-webhook, deployed by irsad.
    Upstream,
    /// `none`: someone else, or nobody.
    None,
}

/// `webhook.failurePolicy`: what happens to a new pod while the webhook does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// `Ignore`: it starts without a token for AWS.
    Ignore,
    /// `Fail`: it is not created.
    Fail,
}

impl Settings {
    /// How pods are changed.
    pub fn pod_identity(&self) -> PodIdentity {
        let (webhook, token) = (&self.webhook, &self.webhook.container_credentials);
        let composition = |account: &AccountId| Composition { partition: self.partition(), account: account.clone() };
        PodIdentity {
            annotation_prefix: webhook.annotation_prefix.to_string(),
            audience: webhook.audience.to_string(),
            mount_path: webhook.token_mount_path.to_string(),
            token_expiration_seconds: webhook.token_expiration.as_secs().try_into().unwrap_or(i64::MAX),
            default_region: webhook.default_region.as_ref().map(Region::to_string),
            regional_sts: webhook.sts_regional_endpoints,
            composition: webhook.compose_role_arn.as_ref().map(composition),
            container_credentials: ContainerCredentialsToken {
                audience: token.audience.to_string(),
                mount_path: token.token_mount_path.to_string(),
                volume_name: token.volume_name.to_string(),
                token_path: token.token_path.to_string(),
                full_uri: token.full_uri.clone(),
            },
        }
    }
}

/// Reads the section; `None` where a value has no use, which is in the log then.
pub(super) fn webhook(
    section: Section<'_>,
    rotation: &RotationSettings,
    provider: &ProviderSettings,
) -> Option<WebhookSettings> {
    let mode = mode(&section);
    let policies = [("Ignore", FailurePolicy::Ignore), ("Fail", FailurePolicy::Fail)];
    let failure_policy = section.one_of("failurePolicy", &policies).unwrap_or(FailurePolicy::Ignore);
    let (port, exempt_namespaces) = (port(&section), exempt_namespaces(&section));
    let token_expiration = token_expiration(&section, rotation);
    let audience = audience(&section, provider);
    let annotation_prefix = text(&section, "annotationPrefix", "eks.amazonaws.com");
    let token_mount_path = text(&section, "tokenMountPath", "/var/run/secrets/eks.amazonaws.com/serviceaccount");
    let default_region = unless_empty(&section, "defaultRegion");
    let sts_regional_endpoints = section.boolean("stsRegionalEndpoints").unwrap_or(false);
    let compose_role_arn = compose_role_arn(&section);
    let config_map_namespace = unless_empty(&section, "configMapNamespace");
    let lookup_grace_period = lookup_grace_period(&section);
    let container_credentials = container_credentials(section.section("containerCredentials"));
    let upstream = upstream(section.section("upstream"));
    section.finish();
    Some(WebhookSettings {
        mode,
        port,
        failure_policy,
        exempt_namespaces,
        token_expiration,
        audience: audience?,
        annotation_prefix: annotation_prefix?,
        token_mount_path: token_mount_path?,
        default_region,
        sts_regional_endpoints,
        compose_role_arn,
        config_map_namespace,
        lookup_grace_period,
        container_credentials: container_credentials?,
        upstream: upstream?,
    })
}

fn mode(section: &Section<'_>) -> WebhookMode {
    let modes = [("builtIn", WebhookMode::BuiltIn), ("upstream", WebhookMode::Upstream), ("none", WebhookMode::None)];
    section.one_of("mode", &modes).unwrap_or(WebhookMode::BuiltIn)
}

fn port(section: &Section<'_>) -> u16 {
    let port = section.number("port").unwrap_or(23443);
    u16::try_from(port).ok().filter(|port| *port > 0).unwrap_or_else(|| {
        section.blame("port", format!("{port} is not a port; use 1 to 65535"));
        1
    })
}

fn exempt_namespaces(section: &Section<'_>) -> Vec<DnsLabel> {
    let list: Vec<DnsLabel> = section.list("exemptNamespaces").unwrap_or_default();
    let mut seen = BTreeSet::new();
    if let Some(twice) = list.iter().find(|namespace| !seen.insert(*namespace)) {
        section.blame("exemptNamespaces", format!("{twice} stands twice; keep one"));
    }
    list
}

fn token_expiration(section: &Section<'_>, rotation: &RotationSettings) -> Duration {
    let default = DAY.min(rotation.token_lifetime).max(SHORTEST_TOKEN);
    let token_expiration = section.text::<Span>("tokenExpiration").map_or(default, |span| span.0);
    if token_expiration < SHORTEST_TOKEN {
        let (value, shortest) = (Span(token_expiration), Span(SHORTEST_TOKEN));
        let text = format!("{value} is less than {shortest}, the least that kube-apiserver grants; raise it");
        section.blame("tokenExpiration", text);
    }
    if token_expiration > rotation.token_lifetime && !rotation.below_floors {
        let (value, lifetime) = (Span(token_expiration), Span(rotation.token_lifetime));
        let text = format!(
            "{value} is more than rotation.tokenLifetime ({lifetime}); keys would leave before their tokens expire, lower it \
             or raise the other"
        );
        section.blame("tokenExpiration", text);
    }
    token_expiration
}

/// STS refuses tokens with an audience that the provider does not have.
fn audience(section: &Section<'_>, provider: &ProviderSettings) -> Option<Audience> {
    let given: Option<Audience> = section.text("audience");
    if !section.has("audience") {
        let usual: Audience = "sts.amazonaws.com".parse().ok()?;
        return if provider.audiences.contains(&usual) { Some(usual) } else { provider.audiences.first().cloned() };
    }
    let given = given?;
    if provider.manage && !provider.audiences.contains(&given) {
        let text = format!("{given} is none of provider.audiences, and AWS would refuse the tokens; add it there too");
        section.blame("audience", text);
    }
    Some(given)
}

fn compose_role_arn(section: &Section<'_>) -> Option<AccountId> {
    let given = section.raw("composeRoleArn").filter(|text| text != "false")?;
    if given == "true" {
        let text = "name the account of the roles instead of true, as twelve digits: pods must get their role also while AWS cannot be asked";
        section.blame("composeRoleArn", text);
        return None;
    }
    section.text("composeRoleArn")
}

fn lookup_grace_period(section: &Section<'_>) -> Duration {
    let period = section.text::<Span>("lookupGracePeriod").map_or(Duration::from_secs(5), |span| span.0);
    if period.is_zero() || period > LONGEST_GRACE {
        let text =
            format!("{} is not 1s to {}, after which the API server gives up", Span(period), Span(LONGEST_GRACE));
        section.blame("lookupGracePeriod", text);
    }
    period
}

fn container_credentials(section: Section<'_>) -> Option<ContainerCredentialsSettings> {
    let file: Option<HostPath> = unless_empty(&section, "file");
    let audience = text(&section, "audience", "pods.eks.amazonaws.com");
    let path = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
    let token_mount_path = text(&section, "tokenMountPath", path);
    let volume_name: Option<DnsLabel> = text(&section, "volumeName", "eks-pod-identity-token");
    let token_path = text(&section, "tokenPath", "eks-pod-identity-token");
    let usual = "http://169.254.170.23/v1/credentials";
    // As it is written: a slash at its end may be the agent's.
    let full_uri = text::<EndpointUrl>(&section, "fullUri", usual)
        .map(|_| section.raw("fullUri").unwrap_or_else(|| usual.to_owned()));
    if volume_name.as_ref().is_some_and(|name| name.as_str() == WEB_IDENTITY_VOLUME) {
        let text = format!("{WEB_IDENTITY_VOLUME} is the volume of the tokens for roles; use another name");
        section.blame("volumeName", text);
    }
    section.finish();
    Some(ContainerCredentialsSettings {
        file: file.map(|path| path.0),
        audience: audience?,
        token_mount_path: token_mount_path?,
        volume_name: volume_name?,
        token_path: token_path?,
        full_uri: full_uri?,
    })
}

fn upstream(section: Section<'_>) -> Option<UpstreamSettings> {
    let image = text(&section, "image", "public.ecr.aws/eks/amazon-eks-pod-identity-webhook:v0.6.17");
    let namespace = text(&section, "namespace", "kube-system");
    let number = section.number("replicas").unwrap_or(2);
    let replicas = u8::try_from(number).ok().filter(|replicas| (1..=10).contains(replicas));
    if replicas.is_none() {
        section.blame("replicas", format!("{number} is not a number of pods to run; use 1 to 10"));
    }
    section.finish();
    Some(UpstreamSettings { image: image?, namespace: namespace?, replicas: replicas? })
}

/// The value at `key`, or the default; `None` where the value is wrong, which is in the log then.
fn text<T: std::str::FromStr<Err: std::fmt::Display>>(
    section: &Section<'_>,
    key: &'static str,
    default: &str,
) -> Option<T> {
    let given = section.text(key);
    if section.has(key) { given } else { default.parse().ok() }
}

/// The value at `key`; `None` where it is left out or empty.
fn unless_empty<T: std::str::FromStr<Err: std::fmt::Display>>(section: &Section<'_>, key: &'static str) -> Option<T> {
    section.raw(key).filter(|text| !text.is_empty())?;
    section.text(key)
}
