//! What one pod gets: settings, account, ConfigMap and the pod's own annotations in their order of precedence.

use std::{borrow::Cow, collections::HashSet, fmt};

use super::{
    Account, Composition, ContainerCredentials, Intent, Method, PodIdentity, RoleMap, SHORTEST_TOKEN_SECONDS,
    WEB_IDENTITY_VOLUME, go,
    pod::Pod,
    review::Review,
    role_map::Role,
    skip_containers,
    warnings::{Shown, Warnings},
};

/// Name of the token's file where the token is for a role.
const WEB_IDENTITY_FILE: &str = "token";
/// Life of a token where nothing says otherwise, and the longest of those that jitter shortens.
const DEFAULT_SECONDS: i64 = 86_400;
/// Shortest life that jitter leaves.
const JITTER_FLOOR_SECONDS: i64 = 79_200;

/// What is added to a pod.
pub(super) struct Grant<'a> {
    pub method: Method,
    pub audience: &'a str,
    pub volume_name: &'a str,
    pub mount_path: &'a str,
    pub token_path: &'a str,
    pub token_expiration_seconds: i64,
    pub regional_sts: bool,
    pub default_region: Option<&'a str>,
    /// The two variables by which an SDK finds the credentials: added together or not at all.
    pub pointers: [(&'static str, Cow<'a, str>); 2],
    /// Containers that are left alone.
    pub skipped: HashSet<String>,
}

/// Where credentials come from, before the pod's own annotations.
struct Source<'a> {
    method: Method,
    role_arn: Cow<'a, str>,
    audience: &'a str,
    regional_sts: bool,
    token_expiration_seconds: i64,
}

/// All that the answer to one review depends on.
pub(super) struct Question<'a> {
    pub settings: &'a PodIdentity,
    pub namespace: &'a str,
    pub service_account: &'a str,
    pub account: Option<&'a Account>,
    pub fallback: &'a RoleMap,
    pub credentials: &'a ContainerCredentials,
}

impl<'a> Question<'a> {
    /// What the pod gets; `None` where it gets nothing.
    pub fn grant(&self, review: &Review<'_>, jitter: u64, warnings: &mut Warnings) -> Option<Grant<'a>> {
        let source = self.source(warnings)?;
        let (pod, settings) = (&review.object, self.settings);
        let expiration = self.pod_expiration(pod, source.token_expiration_seconds, warnings);
        let skipped = self.skipped(pod, warnings);
        let token = &settings.container_credentials;
        let (volume_name, mount_path, token_path) = match source.method {
            Method::WebIdentity => (WEB_IDENTITY_VOLUME, &settings.mount_path, WEB_IDENTITY_FILE),
            Method::ContainerCredentials => (token.volume_name.as_str(), &token.mount_path, token.token_path.as_str()),
        };
        let mut file = go::join(mount_path, token_path);
        if pod.is_for_windows() {
            file = format!("C:{}", file.replace('/', "\\"));
        }
        let file = Cow::Owned(file);
        let pointers = match source.method {
            Method::WebIdentity => [("AWS_ROLE_ARN", source.role_arn), ("AWS_WEB_IDENTITY_TOKEN_FILE", file)],
            Method::ContainerCredentials => [
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Cow::Borrowed(token.full_uri.as_str())),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file),
            ],
        };
        Some(Grant {
            method: source.method,
            audience: source.audience,
            volume_name,
            mount_path,
            token_path,
            token_expiration_seconds: jittered(source.method, expiration, jitter),
            regional_sts: source.regional_sts,
            default_region: settings.default_region.as_deref().filter(|region| !region.is_empty()),
            pointers,
            skipped,
        })
    }

    /// How a pod of this account gets credentials.
    pub fn method(&self) -> Option<Method> {
        self.source(&mut Warnings::default()).map(|source| source.method)
    }

    /// What a pod of this account gets.
    pub fn intent(&self) -> Option<Intent> {
        let Source { method, role_arn, audience, .. } = self.source(&mut Warnings::default())?;
        Some(Intent { method, role_arn: role_arn.into_owned(), audience: audience.to_owned() })
    }

    /// The list of container credentials goes before a role, the account's role before the ConfigMap's.
    fn source(&self, warnings: &mut Warnings) -> Option<Source<'a>> {
        if self.credentials.lists(self.namespace, self.service_account) {
            return Some(self.container_credentials(warnings));
        }
        let composition = self.settings.composition.as_ref();
        let own = self.account.and_then(|account| Some((account, composed(composition, account.role_arn()?))));
        let source = match own.filter(|(_, role_arn)| !role_arn.is_empty()) {
            Some((account, role_arn)) => self.of_account(account, role_arn, warnings),
            None => self.of_map(self.fallback.role(self.namespace, self.service_account)?)?,
        };
        if !is_role_arn(&source.role_arn) {
            let arn = Shown(&source.role_arn);
            warnings.add(format_args!("{self}: {arn} is not the ARN of a role; AWS will refuse it"));
        }
        if source.audience.trim().is_empty() {
            warnings.add(format_args!("{self}: the audience is blank; AWS will refuse the token"));
        }
        Some(source)
    }

    fn of_account(&self, account: &'a Account, role_arn: Cow<'a, str>, warnings: &mut Warnings) -> Source<'a> {
        Source {
            method: Method::WebIdentity,
            role_arn,
            audience: account.audience().unwrap_or(&self.settings.audience),
            regional_sts: self.regional_sts(account, warnings),
            token_expiration_seconds: self.expiration(account, warnings),
        }
    }

    /// Only the expiration falls back to the settings: the AWS program takes the rest from the entry even where it says nothing.
    fn of_map(&self, role: &'a Role) -> Option<Source<'a>> {
        (!role.role_arn.is_empty()).then(|| Source {
            method: Method::WebIdentity,
            role_arn: Cow::Borrowed(&role.role_arn),
            audience: &role.audience,
            regional_sts: role.regional_sts,
            token_expiration_seconds: self.map_expiration(role),
        })
    }

    fn container_credentials(&self, warnings: &mut Warnings) -> Source<'a> {
        let (regional_sts, token_expiration_seconds) = if let Some(account) = self.account {
            (self.regional_sts(account, warnings), self.expiration(account, warnings))
        } else if let Some(role) = self.fallback.exact(self.namespace, self.service_account) {
            (role.regional_sts, self.map_expiration(role))
        } else {
            (false, DEFAULT_SECONDS) // as the AWS program: nothing of the settings without an account
        };
        Source {
            method: Method::ContainerCredentials,
            role_arn: Cow::Borrowed(""),
            audience: &self.settings.container_credentials.audience,
            regional_sts,
            token_expiration_seconds,
        }
    }

    fn map_expiration(&self, role: &Role) -> i64 {
        if role.token_expiration_seconds == 0 { self.default_expiration() } else { role.token_expiration_seconds }
    }

    fn default_expiration(&self) -> i64 {
        self.settings.token_expiration_seconds.max(SHORTEST_TOKEN_SECONDS)
    }

    fn regional_sts(&self, account: &Account, warnings: &mut Warnings) -> bool {
        let Some(text) = account.sts_regional_endpoints() else { return self.settings.regional_sts };
        go::parse_bool(text).unwrap_or_else(|| {
            let (key, text, default) =
                (self.annotation("sts-regional-endpoints"), Shown(text), self.settings.regional_sts);
            warnings.add(format_args!("{self}: {text} in {key} is not true or false; {default} is used"));
            default
        })
    }

    fn expiration(&self, account: &Account, warnings: &mut Warnings) -> i64 {
        let default = self.default_expiration();
        account.token_expiration().map_or(default, |text| self.read_expiration(self, text, default, warnings))
    }

    fn pod_expiration(&self, pod: &Pod<'_>, default: i64, warnings: &mut Warnings) -> i64 {
        let text = pod.annotation(&self.settings.annotation_prefix, "token-expiration");
        text.map_or(default, |text| self.read_expiration(&"this pod", text, default, warnings))
    }

    fn read_expiration(&self, whose: &dyn fmt::Display, text: &str, default: i64, warnings: &mut Warnings) -> i64 {
        let (key, shown) = (self.annotation("token-expiration"), Shown(text));
        // The same texts as Go's strconv.ParseInt(text, 10, 64): digits behind at most one sign.
        let Ok(seconds) = text.parse::<i64>() else {
            warnings.add(format_args!("{whose}: {shown} in {key} is not a number of seconds; {default} is used"));
            return default;
        };
        if seconds < SHORTEST_TOKEN_SECONDS {
            let shortest = SHORTEST_TOKEN_SECONDS;
            warnings.add(format_args!("{whose}: {shown} in {key} is less than {shortest} seconds; {shortest} is used"));
        }
        seconds.max(SHORTEST_TOKEN_SECONDS)
    }

    fn skipped(&self, pod: &Pod<'_>, warnings: &mut Warnings) -> HashSet<String> {
        let prefix = &self.settings.annotation_prefix;
        let Some(text) = pod.annotation(prefix, "skip-containers") else { return HashSet::new() };
        let key = self.annotation("skip-containers");
        let Some(names) = skip_containers::names(text) else {
            let text = Shown(text);
            warnings.add(format_args!("this pod: {text} in {key} is not a line of CSV; no container is skipped"));
            return HashSet::new();
        };
        if let Some(name) = names.iter().find(|name| name.trim() != *name) {
            let name = Shown(name);
            warnings
                .add(format_args!("this pod: {name} in {key} is no name of a container; write names without blanks"));
        }
        names.into_iter().collect()
    }

    fn annotation(&self, name: &str) -> String {
        format!("{}/{name}", self.settings.annotation_prefix)
    }
}

/// Begins a warning.
impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service account {}/{}", self.namespace, self.service_account)
    }
}

/// The ARN of a role given by its name, in any way that the AWS program takes: nothing is cleaned, an empty name is one too.
fn composed<'a>(composition: Option<&Composition>, role: &'a str) -> Cow<'a, str> {
    match composition {
        Some(Composition { partition, account }) if !role.contains("arn:") => {
            Cow::Owned(format!("arn:{partition}:iam::{account}:role/{role}"))
        }
        Some(_) | None => Cow::Borrowed(role),
    }
}

fn jittered(method: Method, seconds: i64, jitter: u64) -> i64 {
    match method {
        Method::ContainerCredentials if seconds == DEFAULT_SECONDS => {
            let width = (DEFAULT_SECONDS - JITTER_FLOOR_SECONDS + 1).unsigned_abs();
            JITTER_FLOOR_SECONDS.saturating_add_unsigned(jitter % width)
        }
        Method::ContainerCredentials | Method::WebIdentity => seconds,
    }
}

/// Whether a text looks like the ARN of an IAM role (IAM identifiers).
fn is_role_arn(text: &str) -> bool {
    let parsed = || {
        let (partition, rest) = text.strip_prefix("arn:aws")?.split_once(":iam::")?;
        let (account, role) = rest.split_once(":role/")?;
        let partition = partition.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        let role = !role.is_empty() && role.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/-.@+=,".contains(&b));
        Some(partition && account && role)
    };
    parsed().unwrap_or(false)
}
