//! The options of each section: type, default, limits, and what cannot stand together.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use crate::model::{
    issuer::{Audience, IssuerUrl},
    location::{BucketName, Location},
    region::{Partition, Region},
};

use super::{
    Access, ApiServerSettings, AwsSettings, Distribution, EndpointUrl, Endpoints, IssuerSettings, Keys,
    MetricsSettings, ProviderSettings, Restart, RotationSettings,
    section::Section,
    values::{HostPath, Span},
};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
/// Most client IDs of one provider (IAM and AWS STS quotas).
const MOST_AUDIENCES: usize = 100;
/// IAM takes 50 tags; two are kept for irsad's own.
const MOST_TAGS: usize = 48;

/// What the machine decides where the files leave it open.
pub(super) struct Surroundings {
    /// Region of the instance; `None` where it could not be had.
    pub region: Option<Region>,
    /// Whose control plane this is.
    pub distribution: Distribution,
}

/// `issuer`; `None` without a store, or while its URL is not known.
pub(super) fn issuer(section: Section<'_>, region: Option<&Region>) -> Option<IssuerSettings> {
    section.require("store", "store: s3://prod-1-oidc");
    let store: Option<Location> = section.text("store");
    let given: Option<IssuerUrl> = section.text("url");
    let jwks_path = section.text("jwksPath").or_else(|| "openid/v1/jwks".parse().ok());
    let create_bucket = section.boolean("createBucket");
    let access = section
        .one_of("access", &[("bucketPolicy", Access::BucketPolicy), ("external", Access::External)])
        .unwrap_or(Access::BucketPolicy);
    let url = match &store {
        Some(Location::S3 { bucket, prefix }) => s3_url(&section, bucket, prefix, region, given, access),
        Some(Location::File(_)) => {
            if !section.has("url") {
                section.blame(
                    "url",
                    "it is missing; a file:// store needs the URL under which a web server serves the folder",
                );
            }
            given
        }
        None => None,
    };
    section.finish();
    let create_bucket = create_bucket.unwrap_or(true);
    Some(IssuerSettings { store: store?, url: url?, jwks_path: jwks_path?, create_bucket, access })
}

/// The issuer of documents in a bucket: as given, or the bucket's own address.
fn s3_url(
    section: &Section<'_>,
    bucket: &BucketName,
    prefix: &str,
    region: Option<&Region>,
    given: Option<IssuerUrl>,
    access: Access,
) -> Option<IssuerUrl> {
    if access == Access::External {
        if !section.has("url") {
            section.blame(
                "url",
                "it is missing; with issuer.access: external write the URL under which CloudFront or a web server of yours serves the documents",
            );
        }
        return given;
    }
    let addresses = addresses(bucket, prefix, region?);
    let [first, ..] = addresses.as_slice() else { return None };
    match given {
        None if section.has("url") => None,
        None => first.parse().map_err(|error| section.blame("store", format!("it makes no issuer: {error}"))).ok(),
        Some(url) if addresses.iter().any(|address| address == url.base()) => Some(url),
        Some(url) => {
            let text = format!(
                "{url} is not an address of the bucket, and nobody would find the documents there; leave it out for {first}, \
                 or set issuer.access to external and serve them there"
            );
            section.blame("url", text);
            None
        }
    }
}

/// URLs under which S3 itself serves what stands below `prefix`, the default first.
fn addresses(bucket: &BucketName, prefix: &str, region: &Region) -> Vec<String> {
    let suffix = region.partition().dns_suffix();
    let path = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    let mut endpoints = vec![format!("s3.{region}.{suffix}"), format!("s3.dualstack.{region}.{suffix}")];
    if region.partition() == Partition::Commercial {
        // Older forms, which the AWS guide for self-hosted clusters and its followers have put into issuers.
        endpoints.extend([format!("s3-{region}.{suffix}"), format!("s3.{suffix}")]);
    }
    let by_host = endpoints.iter().map(|endpoint| format!("https://{bucket}.{endpoint}{path}"));
    let by_path = endpoints.iter().map(|endpoint| format!("https://{endpoint}/{bucket}{path}"));
    by_host.chain(by_path).collect()
}

/// `aws`; the region is needed where anything is `in_aws`.
pub(super) fn aws(
    section: Section<'_>,
    around: Option<&Surroundings>,
    in_aws: bool,
    needs_region: &Cell<bool>,
) -> AwsSettings {
    let given: Option<Region> = section.text("region");
    if in_aws && !section.has("region") {
        needs_region.set(true);
        if around.is_some_and(|around| around.region.is_none()) {
            section.blame(
                "region",
                "it is missing and the instance metadata gave none; add it, for example `region: eu-west-1`",
            );
        }
    }
    let region = given.or_else(|| around?.region.clone()).filter(|_| in_aws);
    let endpoints = endpoints(&section);
    section.finish();
    AwsSettings { region, endpoints }
}

fn endpoints(section: &Section<'_>) -> Endpoints {
    fn url(section: &Section<'_>, key: &'static str) -> Option<EndpointUrl> {
        section.raw(key).filter(|text| !text.is_empty())?;
        section.text(key)
    }
    if !section.has_map("endpointUrl") {
        return Endpoints { all: url(section, "endpointUrl"), ..Endpoints::default() };
    }
    let services = section.section("endpointUrl");
    let [s3, iam, kms, sts] = ["s3", "iam", "kms", "sts"].map(|service| url(&services, service));
    services.finish();
    Endpoints { all: None, s3, iam, kms, sts }
}

/// `provider`
pub(super) fn provider(section: Section<'_>) -> ProviderSettings {
    let manage = section.boolean("manage").unwrap_or(true);
    let audiences = audiences(&section, section.list("audiences")).unwrap_or_else(|| vec![Audience::sts()]);
    let tags = tags(&section);
    section.finish();
    ProviderSettings { manage, audiences, tags }
}

/// The tags, where IAM takes them (`TagOpenIDConnectProvider`, `TagRole`).
pub(super) fn tags(provider: &Section<'_>) -> BTreeMap<String, String> {
    let section = provider.section("tags");
    let tags = section.texts();
    if tags.len() > MOST_TAGS {
        provider.blame("tags", format!("{} tags are too many; IAM takes 50 and two are kept for irsad", tags.len()));
    }
    let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c));
    for (key, value) in &tags {
        let (key_length, value_length) = (key.chars().count(), value.chars().count());
        if !(1..=128).contains(&key_length) || value_length > 256 || !plain(key) || !plain(value) {
            let text = "IAM takes keys of 1 to 128 and values of at most 256 letters, digits, spaces and _.:/=+-@; reword the tag";
            section.blame(key, text);
        } else if key.to_lowercase().starts_with("aws:") || key.starts_with("irsad") {
            section.blame(key, "tags that begin with aws: or irsad are taken; use another key");
        }
    }
    tags.into_iter().collect()
}

/// The list under `audiences` if it has at least one, none twice, and no more than IAM takes.
fn audiences(section: &Section<'_>, list: Option<Vec<Audience>>) -> Option<Vec<Audience>> {
    let list = list?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = list.iter().find(|audience| !seen.insert(*audience)) {
        section.blame("audiences", format!("{twice} stands twice; keep one"));
    }
    if list.is_empty() {
        section.blame("audiences", "the list is empty; leave it out for the default");
    }
    if list.len() > MOST_AUDIENCES {
        section.blame("audiences", format!("{} audiences are too many; IAM takes {MOST_AUDIENCES}", list.len()));
    }
    Some(list)
}

/// `apiServer`; `None` while the distribution is not known.
pub(super) fn api_server(
    section: Section<'_>,
    around: Option<&Surroundings>,
    below_floors: bool,
) -> Option<ApiServerSettings> {
    let words = [("auto", None), ("kubeadm", Some(Distribution::Kubeadm)), ("kops", Some(Distribution::Kops))];
    let given = section.one_of("distribution", &words).flatten();
    let path = |key| section.text::<HostPath>(key).map(|path| path.0);
    let (manifest, signing_key) = (path("manifest"), path("signingKey"));
    let (verifying_keys, kubeconfig) = (path("verifyingKeys"), path("kubeconfig"));
    let keys = section.one_of("keys", &[("manage", Keys::Manage), ("follow", Keys::Follow)]);
    let audiences = api_audiences(&section);
    let persist = section.boolean("persist");
    let restarts =
        [("rolling", Restart::Rolling), ("opportunistic", Restart::Opportunistic), ("never", Restart::Never)];
    let restart = section.one_of("restart", &restarts).unwrap_or(Restart::Rolling);
    let evidence_timeout = evidence_timeout(&section, below_floors);
    let restart_deadline = span(&section, "restartDeadline", 30 * DAY);

    let distribution = given.or_else(|| around.map(|around| around.distribution));
    if distribution == Some(Distribution::Kops) && persist == Some(true) {
        section.blame("persist", "a kops cluster has no kubeadm-config; set it to false or leave it out");
    }
    let settings = distribution.map(|distribution| ApiServerSettings {
        distribution,
        manifest: manifest.unwrap_or_else(|| distribution.manifest().into()),
        signing_key: signing_key.unwrap_or_else(|| distribution.signing_key().into()),
        verifying_keys: verifying_keys.unwrap_or_else(|| distribution.verifying_keys().into()),
        kubeconfig: kubeconfig.unwrap_or_else(|| distribution.kubeconfig().into()),
        keys: keys.unwrap_or_else(|| distribution.keys()),
        audiences,
        persist: persist.unwrap_or(distribution == Distribution::Kubeadm),
        restart,
        restart_deadline,
        evidence_timeout,
    });
    if let Some(settings) = &settings {
        check_paths(&section, settings);
    }
    section.finish();
    settings
}

/// kubeadm waits 4 minutes for a control plane that it has just started; less than half of that gives up on a slow machine.
fn evidence_timeout(section: &Section<'_>, below_floors: bool) -> Duration {
    let (value, floor) = (span(section, "evidenceTimeout", 5 * MINUTE), 2 * MINUTE);
    if value < floor && !below_floors {
        let text = "a slow kube-apiserver would be taken for a broken one; raise it, or set rotation.belowFloors: true for a test";
        section.blame("evidenceTimeout", format!("{} is less than {}; {text}", Span(value), Span(floor)));
    }
    value
}

/// `keep`, or the list that becomes `--api-audiences`.
fn api_audiences(section: &Section<'_>) -> Option<Vec<Audience>> {
    if section.has_list("audiences") {
        return audiences(section, section.list("audiences"));
    }
    section.one_of("audiences", &[("keep", None), ("a list of audiences", None)]).flatten()
}

/// Two of the files must not be one: irsad would write one over the other.
fn check_paths(section: &Section<'_>, settings: &ApiServerSettings) {
    let files: [(&str, &PathBuf); 4] = [
        ("manifest", &settings.manifest),
        ("signingKey", &settings.signing_key),
        ("verifyingKeys", &settings.verifying_keys),
        ("kubeconfig", &settings.kubeconfig),
    ];
    for (number, (key, path)) in files.iter().enumerate() {
        let Some((other, _)) = files[..number].iter().find(|(_, earlier)| earlier == path) else { continue };
        // kube-apiserver can verify with the public half inside a private key; without irsad writing there that works.
        if !(settings.keys == Keys::Follow && *key == "verifyingKeys" && *other == "signingKey") {
            section.blame(key, format!("{} is also apiServer.{other}; give each its own file", path.display()));
        }
    }
}

/// `rotation`
pub(super) fn rotation(section: Section<'_>, notices: &mut Vec<String>) -> RotationSettings {
    let below_floors = section.boolean("belowFloors").unwrap_or(false);
    let never = section.raw("period").is_some_and(|text| text == "never");
    let period = if never { None } else { Some(span(&section, "period", 90 * DAY)) };
    let settings = RotationSettings {
        period,
        publish_lead: span(&section, "publishLead", DAY),
        token_lifetime: span(&section, "tokenLifetime", DAY),
        verify_retention: span(&section, "verifyRetention", 366 * DAY),
        below_floors,
    };
    let floors = [
        ("period", settings.period, DAY),
        ("publishLead", Some(settings.publish_lead), DAY),
        ("tokenLifetime", Some(settings.token_lifetime), HOUR),
    ];
    for (key, value, floor) in floors {
        if let Some(value) = value.filter(|value| *value < floor && !below_floors) {
            let text =
                "valid tokens could be refused below that; raise it, or set rotation.belowFloors: true for a test";
            section.blame(key, format!("{} is less than {}; {text}", Span(value), Span(floor)));
        }
    }
    if let Some(period) = settings.period.filter(|period| *period < settings.publish_lead) {
        let lead = Span(settings.publish_lead);
        let text = format!(
            "{} is less than rotation.publishLead ({lead}); a key could not be published before it signs, raise it",
            Span(period)
        );
        section.blame("period", text);
    }
    if settings.verify_retention < settings.token_lifetime {
        let (value, lifetime) = (Span(settings.verify_retention), Span(settings.token_lifetime));
        let text = format!(
            "{value} is less than rotation.tokenLifetime ({lifetime}); valid tokens would be refused, raise it"
        );
        section.blame("verifyRetention", text);
    }
    if below_floors {
        notices.push("rotation.belowFloors is true: keys may leave before tokens do, valid tokens can be refused; only for tests".to_owned());
    }
    section.finish();
    settings
}

/// `metrics`; `taken` is the port of the webhook.
pub(super) fn metrics(section: Section<'_>, taken: Option<u16>) -> MetricsSettings {
    let number = section.number("port").unwrap_or(23444);
    let port = u16::try_from(number).ok();
    if port.is_none() {
        section.blame("port", format!("{number} is not a port; use 1 to 65535, or 0 for none"));
    }
    if port.is_some() && port == taken {
        section.blame("port", format!("{number} is also webhook.port; give each its own"));
    }
    section.finish();
    MetricsSettings { port: port.filter(|port| *port > 0) }
}

fn span(section: &Section<'_>, key: &'static str, default: Duration) -> Duration {
    section.text::<Span>(key).map_or(default, |span| span.0)
}
