//! Why one pod has or lacks AWS credentials, step by step, each with its cure.

mod registration;
mod token;

use super::{
    checks::{Check, Outcome},
    issuer::IssuerUrl,
    missed_pods::{Sources, Standing},
    pod::{Container, Pod, PodName, ROLE_ARN, TOKEN_FILE, TokenVolume, WEB_IDENTITY},
    pod_identity::{Account, Intent, Method},
    probe::Probe,
    region::AccountId,
    webhook::OPT_OUT_LABEL,
};

pub use registration::{Labels, Registration, Selector, exempt_namespaces};

/// What is known of one pod and of what it hangs on.
#[derive(Debug, Clone)]
pub struct PodLook {
    /// Which pod.
    pub name: PodName,
    /// The pod.
    pub pod: Probe<Pod>,
    /// Its labels.
    pub labels: Labels,
    /// Labels of its namespace; empty where they could not be asked.
    pub namespace_labels: Labels,
    /// Whether its service account is there; its annotations stand in `sources`.
    pub account: Probe<()>,
    /// How pods are changed, its service account among the accounts.
    pub sources: Sources,
    /// Webhooks that give credentials to pods.
    pub registrations: Probe<Vec<Registration>>,
    /// Issuer that tokens shall carry.
    pub issuer: IssuerUrl,
    /// The account that this node's credentials belong to, where they told.
    pub own_account: Option<AccountId>,
    /// Audiences of the IAM OIDC provider; `None` where it is not ours to look after.
    pub provider_audiences: Option<Probe<Vec<String>>>,
    /// Longest life of a token for which its key stays published, in seconds.
    pub token_lifetime_seconds: i64,
    /// Trust policy of the role as JSON.
    pub trust_policy: TrustPolicy,
}

/// What IAM says of the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustPolicy {
    /// Its trust policy; Absent: there is no such role.
    Asked(Probe<String>),
    /// It was not asked; why.
    NotAsked(String),
}

/// Name of a role and the account that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleArn {
    /// Second field of the ARN.
    pub partition: String,
    /// Its account.
    pub account: AccountId,
    /// Its name, without the path.
    pub name: String,
}

impl RoleArn {
    /// Reads `arn:PARTITION:iam::ACCOUNT:role/[PATH/]NAME` (IAM user guide, "IAM identifiers"); `None` where it is none.
    pub fn read(text: &str) -> Option<Self> {
        let mut fields = text.splitn(6, ':');
        let mut next = || fields.next();
        let (arn, partition, service, region, account, role) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let path = role.strip_prefix("role/")?;
        let is_path = !path.is_empty()
            && path.chars().all(|c| c.is_ascii_alphanumeric() || "_/-.@+=,".contains(c))
            && !path.ends_with('/');
        let is_partition = partition
            .strip_prefix("aws")
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        (arn == "arn" && is_partition && service == "iam" && region.is_empty() && is_path).then_some(())?;
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        Some(Self { partition: partition.to_owned(), account: account.parse().ok()?, name })
    }
}

fn check(statement: impl Into<String>, outcome: Outcome) -> Check {
    Check { statement: statement.into(), outcome }
}

impl PodLook {
    /// What the webhook gives to pods of its service account; `None` where that is nothing.
    pub fn intent(&self) -> Option<Intent> {
        let service_account = &self.pod.present()?.service_account;
        let Sources { settings, fallback, credentials, .. } = &self.sources;
        settings.intent(&self.name.namespace, service_account, self.own_annotations(), fallback, credentials)
    }

    fn own_annotations(&self) -> Option<&Account> {
        let service_account = &self.pod.present()?.service_account;
        let known = self.sources.accounts.get(&format!("{}/{service_account}", self.name.namespace));
        known.map(|known| &known.account)
    }

    /// The role, where it is one that can be asked about.
    pub fn role(&self) -> Option<RoleArn> {
        self.intent().and_then(|intent| RoleArn::read(&intent.role_arn))
    }

    /// Where the role stands.
    fn place(&self) -> String {
        match self.own_annotations().and_then(Account::role_arn) {
            Some(_) => format!("annotation {}/role-arn", self.sources.settings.annotation_prefix),
            None => "ConfigMap pod-identity-webhook".to_owned(),
        }
    }

    /// Every step, in the order in which one hangs on the other. It ends where nothing more can follow.
    pub fn checks(&self) -> Vec<Check> {
        let pod = match &self.pod {
            Probe::Present(pod) => pod,
            other => return vec![check(format!("pod {} exists", self.name), self.missing_pod(other))],
        };
        let mut checks = vec![check(format!("pod {} exists", self.name), Outcome::Holds), self.account(pod)];
        let Some(intent) = self.intent() else {
            checks.push(check("its service account has an IAM role", self.no_role(pod)));
            return checks;
        };
        let method = intent.method;
        checks.extend(self.role_checks(&intent));
        checks.push(self.exemption(pod));
        checks.push(self.registration());
        checks.push(self.volume(pod, method));
        checks.extend(self.containers(pod, &intent));
        if method == Method::WebIdentity {
            checks.extend(token::checks(self, pod, &intent));
        }
        checks
    }

    fn missing_pod(&self, pod: &Probe<Pod>) -> Outcome {
        match pod {
            Probe::Unknown(why) => Outcome::Unknown(why.clone()),
            Probe::Present(_) | Probe::Absent => Outcome::Fails(format!(
                "there is none of that name; kubectl -n {} get pods lists those that there are",
                self.name.namespace
            )),
        }
    }

    fn account(&self, pod: &Pod) -> Check {
        let name = format!("{}/{}", self.name.namespace, pod.service_account);
        let outcome = match &self.account {
            Probe::Present(()) => Outcome::Holds,
            Probe::Unknown(why) => Outcome::Unknown(why.clone()),
            Probe::Absent => Outcome::Fails(format!(
                "it was deleted, and tokens of the pod are refused with it; make it again, then {}",
                pod.cure()
            )),
        };
        check(format!("its service account {name} exists"), outcome)
    }

    fn no_role(&self, pod: &Pod) -> Outcome {
        if let Some(why) = self.account.unknown() {
            return Outcome::Unknown(why.to_owned());
        }
        let (namespace, name) = (&self.name.namespace, &pod.service_account);
        let annotation = format!("{}/role-arn", self.sources.settings.annotation_prefix);
        Outcome::Fails(format!(
            "{namespace}/{name} has no annotation {annotation}; kubectl -n {namespace} annotate serviceaccount {name} \
             {annotation}=arn:aws:iam::ACCOUNT:role/NAME, then {}",
            pod.cure()
        ))
    }

    fn role_checks(&self, intent: &Intent) -> Vec<Check> {
        if intent.method == Method::ContainerCredentials {
            return vec![check("its service account is listed for container credentials", Outcome::Holds)];
        }
        let has_role =
            check(format!("its service account has role {} ({})", intent.role_arn, self.place()), Outcome::Holds);
        let Some(role) = self.role() else {
            let cure = "write arn:aws:iam::ACCOUNT:role/NAME there, as aws iam get-role shows it";
            return vec![has_role, check("that is the ARN of a role", Outcome::Fails(format!("it is not; {cure}")))];
        };
        let outcome = match &self.own_account {
            Some(own) if *own == role.account => Outcome::Holds,
            Some(own) => Outcome::Skipped(format!(
                "it is in {}, this cluster in {own}; the other account needs an OIDC provider of {} of its own",
                role.account, self.issuer
            )),
            None => Outcome::Skipped("AWS did not tell this node's account".to_owned()),
        };
        vec![
            has_role,
            check("that is the ARN of a role", Outcome::Holds),
            check("the role is in the account of this cluster", outcome),
        ]
    }

    fn exemption(&self, pod: &Pod) -> Check {
        let outcome = if pod.is_mirror {
            Outcome::Fails(
                "it is kubelet's copy of a static Pod, which no webhook changes; run it as a DaemonSet or a Deployment"
                    .to_owned(),
            )
        } else if pod.opted_out {
            Outcome::Fails(format!("it has label {OPT_OUT_LABEL}; take it off its template, then {}", pod.cure()))
        } else {
            let registrations = self.registrations.present().map(Vec::as_slice).unwrap_or_default();
            let reasons: Vec<String> =
                registrations.iter().filter_map(|it| it.leaves_out(&self.labels, &self.namespace_labels)).collect();
            match reasons.first() {
                Some(why) if reasons.len() == registrations.len() => {
                    Outcome::Fails(format!("{why}; run it with other labels or in another namespace"))
                }
                Some(_) | None => Outcome::Holds,
            }
        };
        check("nothing keeps the pod out of the webhook", outcome)
    }

    fn registration(&self) -> Check {
        let statement = "a webhook is registered that gives credentials to pods";
        match &self.registrations {
            Probe::Present(found) if !found.is_empty() => {
                let names: Vec<String> = found
                    .iter()
                    .map(|it| format!("{}, failurePolicy {}", it.configuration, it.failure_policy))
                    .collect();
                check(format!("{statement} ({})", names.join("; ")), Outcome::Holds)
            }
            Probe::Unknown(why) => check(statement, Outcome::Unknown(why.clone())),
            Probe::Present(_) | Probe::Absent => check(
                statement,
                Outcome::Fails("there is none; irsad status says what its registration waits for".to_owned()),
            ),
        }
    }

    /// The pod's volume with a token for this purpose.
    fn token_volume<'p>(&self, pod: &'p Pod, method: Method) -> Option<&'p TokenVolume> {
        let name = method.volume_name(&self.sources.settings);
        pod.token_volumes.iter().find(|volume| volume.name == name)
    }

    fn volume(&self, pod: &Pod, method: Method) -> Check {
        let name = method.volume_name(&self.sources.settings);
        let by_hand = pod.containers.iter().any(|container| container.has_credentials());
        let outcome = match self.token_volume(pod, method) {
            Some(_) => Outcome::Holds,
            None if by_hand => Outcome::Skipped("its containers were given credentials by somebody else".to_owned()),
            None => self.missed(pod),
        };
        check(format!("it has volume {name} with a token"), outcome)
    }

    /// Why the pod lacks what the webhook adds.
    fn missed(&self, pod: &Pod) -> Outcome {
        match self.sources.standing(pod) {
            Standing::Missed(why) => Outcome::Fails(format!("{why}; {}", pod.cure())),
            Standing::SkipsAll => Outcome::Fails(format!(
                "annotation {}/skip-containers names every container; take it off its template, then {}",
                self.sources.settings.annotation_prefix,
                pod.cure()
            )),
            Standing::Mirror | Standing::OptedOut | Standing::Exempt => {
                Outcome::Fails("it is kept out of the webhook, as said above".to_owned())
            }
            Standing::Ended | Standing::NoRole | Standing::Has => {
                Outcome::Fails(format!("it was made without one; {}", pod.cure()))
            }
        }
    }

    fn containers(&self, pod: &Pod, intent: &Intent) -> Vec<Check> {
        let skipped = pod.skipped();
        let outcome = |container: &Container| {
            if skipped.contains(&container.name) {
                let annotation = format!("{}/skip-containers", self.sources.settings.annotation_prefix);
                return Outcome::Skipped(format!("annotation {annotation} names it"));
            }
            if !container.has_credentials() {
                return self.missed(pod);
            }
            match intent.method {
                Method::WebIdentity => web_identity(pod, container, intent),
                Method::ContainerCredentials => Outcome::Holds,
            }
        };
        let statement = |container: &Container| format!("container {} has credentials", container.name);
        pod.containers.iter().map(|container| check(statement(container), outcome(container))).collect()
    }
}

/// A container that has some of the variables.
fn web_identity(pod: &Pod, container: &Container, intent: &Intent) -> Outcome {
    let is_set = |name: &&&str| container.variables.contains_key(**name);
    if !WEB_IDENTITY.iter().any(|name| is_set(&name)) {
        return Outcome::Skipped("it asks an agent for credentials, not STS".to_owned());
    }
    if let Some(missing) = WEB_IDENTITY.iter().find(|name| !is_set(name)) {
        return Outcome::Fails(format!(
            "its own variables lack {missing}, and the webhook leaves a container alone that has one of the two; set both, or none"
        ));
    }
    let (arn, file) = (container.variable(ROLE_ARN), container.variable(TOKEN_FILE));
    match (arn, file) {
        (Some(arn), _) if arn != intent.role_arn => Outcome::Fails(format!(
            "it has {ROLE_ARN}={arn}, and its service account another role; to have that one, {}",
            pod.cure()
        )),
        (_, Some(file)) if !is_mounted(container, file) => Outcome::Fails(format!(
            "no volume with a token is mounted at {TOKEN_FILE}={file}; mount one there, or leave both variables to the webhook"
        )),
        _ => Outcome::Holds,
    }
}

/// Whether the file lies in a token volume. On Windows paths have a drive and backslashes, mount paths have not.
fn is_mounted(container: &Container, file: &str) -> bool {
    let plain = |path: &str| {
        let path = path.split_once(':').map_or(path, |(_, behind)| behind).replace('\\', "/");
        path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    };
    let file = plain(file);
    container.mounts.iter().any(|mount| file.starts_with(&plain(&mount.path)))
}

#[cfg(test)]
mod tests;
