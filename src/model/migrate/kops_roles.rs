//! The roles that kops has made for service accounts, as entries of `roles.list` (kubernetes/kops `pkg/model/awsmodel/iam.go`).
//!
//! kops' own roles keep their names and stay kops' to delete: irsad's are new ones beside them, so that a pod changes from one to the
//! other while both are there.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Migration, configuration::scalar};
use crate::model::{
    probe::sentence,
    role::{InlinePolicy, ManagedPolicy, MaxSession, Owner, PolicyArn, RoleName, RoleRequest, RoleTerms},
    trust_policy::Subject,
};

/// `spec.iam` of a Cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Iam {
    service_account_external_permissions: Vec<Permission>,
    /// Of every role that kops makes.
    permissions_boundary: Option<String>,
    /// kops' own add-ons have roles too.
    use_service_account_external_permissions: bool,
}

#[derive(Debug, Deserialize)]
struct Permission {
    name: String,
    namespace: String,
    #[serde(default)]
    aws: Option<AwsPermission>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AwsPermission {
    #[serde(rename = "policyARNs")]
    policy_arns: Vec<String>,
    /// A JSON list of statements.
    inline_policy: String,
}

impl Iam {
    /// What stands under `roles` of the configuration; empty where there is nothing to make, or nothing that is safe to.
    pub fn roles(&self, cluster: &str, terms: &RoleTerms, migration: &mut Migration) -> Vec<(&'static str, String)> {
        self.say_what_kops_deletes(migration);
        let boundary = match self.boundary(terms) {
            Ok(boundary) => boundary,
            Err(why) => {
                migration.find(why);
                return Vec::new();
            }
        };
        let (mut names, mut requests) = (BTreeSet::new(), Vec::new());
        for permission in &self.service_account_external_permissions {
            match permission.request(terms) {
                // IAM does not tell names apart by their case.
                Ok(request) if names.insert(request.name.as_str().to_ascii_lowercase()) => requests.push(request),
                Ok(request) => {
                    migration.find(permission.left_out(&format!("role {} is in the list already", request.name)));
                }
                Err(why) => migration.find(permission.left_out(&why)),
            }
        }
        if requests.is_empty() {
            return Vec::new();
        }
        advise(cluster, terms, &requests, migration);
        let list: String = requests.iter().map(entry).collect();
        let boundary = boundary.map(|arn| ("permissionsBoundary", scalar(arn.as_str())));
        let mode = ("mode", "list".to_owned());
        std::iter::once(mode).chain(boundary).chain([("list", list)]).collect()
    }

    fn say_what_kops_deletes(&self, migration: &mut Migration) {
        let roles = &self.service_account_external_permissions;
        if !roles.is_empty() {
            let names: Vec<String> = roles.iter().map(|role| format!("{}/{}", role.namespace, role.name)).collect();
            migration.find(format!(
                "kops made the roles of {} service accounts and deletes them with the cluster: {}",
                roles.len(),
                names.join(", ")
            ));
        }
        if self.use_service_account_external_permissions {
            migration.find(
                "kops' own add-ons have roles that the cluster spec does not list (useServiceAccountExternalPermissions) and that go with \
                 the cluster too: give those that stay roles of their own before",
            );
        }
    }

    /// Without it roles could do more than kops' can.
    fn boundary(&self, terms: &RoleTerms) -> Result<Option<PolicyArn>, String> {
        let Some(text) = self.permissions_boundary.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        match text.parse::<PolicyArn>() {
            Ok(arn) if arn.partition() == terms.partition.as_str() => Ok(Some(arn)),
            Ok(_) | Err(_) => Err(format!(
                "permissions boundary {text} of kops' roles is none that irsad takes, and without it roles could do more: none of them is \
                 taken over; write roles.permissionsBoundary and roles.list yourself"
            )),
        }
    }
}

impl Permission {
    /// The role that irsad would make.
    fn request(&self, terms: &RoleTerms) -> Result<RoleRequest, String> {
        // kops knows one wildcard, in the namespace; to irsad the other one means something too.
        if self.name.contains(['*', '?']) || self.namespace.contains('?') {
            return Err("kops takes no such wildcard".to_owned());
        }
        let subject = Subject::new(&self.namespace, &self.name).map_err(|error| sentence(&error))?;
        let aws = self.aws.as_ref().ok_or("it names no policy")?;
        let arns: Result<Vec<PolicyArn>, _> = aws.policy_arns.iter().map(|arn| arn.parse()).collect();
        let managed: Vec<_> = arns.map_err(|error| sentence(&error))?.into_iter().map(ManagedPolicy::Arn).collect();
        let inline = inline(&aws.inline_policy)?;
        if managed.is_empty() && inline.is_none() {
            return Err("it names no policy".to_owned());
        }
        let request = RoleRequest {
            name: RoleName::of(&subject, &terms.cluster),
            owner: Owner::list(&terms.cluster),
            subjects: vec![subject],
            managed,
            inline,
            max_session: MaxSession::DEFAULT,
        };
        let refused = |refusal: crate::model::role::Refusal| refusal.to_string().replace(" (nothing changed)", "");
        terms.role(&request).map(|_| request).map_err(refused)
    }

    fn left_out(&self, why: &str) -> String {
        format!(
            "the role of service account {}/{} is not taken over: {why}; it keeps kops' role until kops delete cluster, give it one before",
            self.namespace, self.name
        )
    }
}

/// kops puts the statements into a document of that version (kubernetes/kops `pkg/model/awsmodel/iam.go`, `buildPolicy`).
fn inline(text: &str) -> Result<Option<InlinePolicy>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let statements: Value =
        serde_json::from_str(text).map_err(|error| format!("its inlinePolicy is not JSON: {error}"))?;
    if !statements.is_array() {
        return Err("its inlinePolicy is not a list of statements".to_owned());
    }
    let document = json!({ "Version": "2012-10-17", "Statement": statements });
    InlinePolicy::new(document).map(Some).map_err(|error| sentence(&error))
}

/// One entry of `roles.list`, whose name is the default.
fn entry(request: &RoleRequest) -> String {
    let mut text = String::new();
    for subject in &request.subjects {
        let (account, namespace) = (scalar(subject.name()), scalar(subject.namespace()));
        let _ = write!(text, "\n    - serviceAccount: {account}\n      namespace: {namespace}");
    }
    let policies: Vec<String> = request
        .managed
        .iter()
        .map(|policy| match policy {
            ManagedPolicy::Arn(arn) => scalar(arn.as_str()),
            ManagedPolicy::OfAws(name) => scalar(name),
        })
        .collect();
    if !policies.is_empty() {
        let _ = write!(text, "\n      policies: [{}]", policies.join(", "));
    }
    if let Some(policy) = &request.inline {
        let _ = write!(text, "\n      inlinePolicy: {}", policy.to_json());
    }
    text
}

/// How pods come from kops' roles to these, each having one of the two all the time.
fn advise(cluster: &str, terms: &RoleTerms, requests: &[RoleRequest], migration: &mut Migration) {
    migration.find(format!(
        "irsad makes roles of its own for {} of them, below /irsad/{}/, and pods go on with kops' until you change them. In this order no pod \
         is without one: attach what irsad iam-policy prints with this configuration and start irsad; when irsad status of the leader says \
         that the roles are ready, annotate the service accounts as below, and put the new ARN in the place of AWS_ROLE_ARN where a pod \
         template has it; let their pods be made anew (kubectl rollout restart) and look at one with irsad verify --pod; only then kops \
         delete cluster {cluster}. Keep kops' webhook and its ConfigMap kube-system/pod-identity-webhook until all of them are annotated: \
         kops' roles come by it, and an annotation goes before it",
        requests.len(),
        terms.cluster,
    ));
    for request in requests {
        let arn = terms.arn(&request.name);
        for subject in &request.subjects {
            let (namespace, account) = (subject.namespace(), subject.name());
            let annotate = |namespace: &str| {
                format!(
                    "kubectl -n {namespace} annotate --overwrite serviceaccount {account} eks.amazonaws.com/role-arn={arn}"
                )
            };
            migration.find(match subject.is_pattern() {
                true => format!("in each namespace {namespace}: {}", annotate("NAMESPACE")),
                false => annotate(namespace),
            });
        }
    }
}
