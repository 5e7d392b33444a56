//! irsa-manager (kkb0318/irsa-manager `api/v1alpha1`): its IRSASetup says where the documents are, its IRSA objects become
//! ServiceAccountRole objects.

use std::fmt::Write as _;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Migration, Target, configuration::scalar};
use crate::model::{
    location::Location,
    service_account_role::{GROUP, KIND, VERSION},
};

/// Longest name of an IAM role (IAM and AWS STS quotas).
const LONGEST_ROLE_NAME: usize = 64;

/// What irsa-manager has in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IrsaManager {
    setups: Vec<Setup>,
    roles: Vec<Irsa>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Setup {
    metadata: Metadata,
    #[serde(default)]
    spec: SetupSpec,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct SetupSpec {
    /// `selfhosted` where it is left out: older versions knew nothing else.
    #[serde(default)]
    mode: String,
    #[serde(default)]
    discovery: Discovery,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Discovery {
    #[serde(default)]
    s3: Bucket,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    #[serde(default)]
    region: String,
    #[serde(default)]
    bucket_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Irsa {
    metadata: Metadata,
    #[serde(default)]
    spec: IrsaSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IrsaSpec {
    #[serde(default)]
    cleanup: bool,
    #[serde(default)]
    service_account: Account,
    #[serde(default)]
    iam_role: Role,
    #[serde(default)]
    iam_policies: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Account {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespaces: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Role {
    #[serde(default)]
    name: String,
}

impl IrsaManager {
    /// Reads the two lists as the API server gives them.
    ///
    /// # Errors
    /// One of them is none of irsa-manager's.
    pub fn read(setups: Value, irsas: Value) -> Result<Self, String> {
        fn items<T: DeserializeOwned>(kind: &str, list: Value) -> Result<Vec<T>, String> {
            let list: Result<List<T>, _> = serde_json::from_value(list);
            list.map(|list| list.items).map_err(|error| format!("the {kind} objects cannot be understood: {error}"))
        }
        Ok(Self { setups: items("IRSASetup", setups)?, roles: items("IRSA", irsas)? })
    }

    /// Whether the configuration has to switch objects on.
    pub(super) fn has_roles(&self) -> bool {
        !self.roles.is_empty()
    }

    /// Whether what was found is what its IRSASetup says.
    pub(super) fn check(&self, target: &Target, migration: &mut Migration) {
        let [setup] = self.setups.as_slice() else {
            let names: Vec<&str> = self.setups.iter().map(|setup| setup.metadata.name.as_str()).collect();
            return migration.refuse(format!(
                "there are {} IRSASetup objects ({}) and irsa-manager works with exactly one (nothing changed); leave the one that is in use",
                names.len(),
                names.join(", ")
            ));
        };
        if setup.spec.mode == "eks" {
            return migration.refuse(
                "the IRSASetup has mode: eks (nothing changed): EKS serves its issuer itself and has no control-plane \
                 nodes of yours, irsad has nothing to do there",
            );
        }
        let Bucket { region, bucket_name } = &setup.spec.discovery.s3;
        let is_the_same = matches!(&target.store, Location::S3 { bucket, .. } if bucket.as_str() == bucket_name)
            && target.region.as_str() == region;
        if !is_the_same {
            migration.refuse(format!(
                "IRSASetup {} publishes to bucket {bucket_name} in {region}, and kube-apiserver signs as {}, whose documents are in {} in {} \
                 (nothing changed): its flags were never set for irsa-manager; without them there is nothing to take over",
                setup.metadata.name, target.issuer, target.store, target.region
            ));
        }
    }

    /// What a person does with it, in this order.
    pub(super) fn advise(&self, cluster: &str, migration: &mut Migration) {
        migration.find(
            "stop irsa-manager before irsad starts, so that two do not write the same documents: kubectl --namespace irsa-manager-system \
             scale deployment --all --replicas=0",
        );
        for irsa in self.roles.iter().filter(|irsa| !irsa.spec.iam_role.name.is_empty()) {
            let role = &irsa.spec.iam_role.name;
            migration.find(format!(
                "role {role} stays as it is, nobody looks after it any more; irsad makes {} beside it, with the audience in its trust \
                 policy: where another policy names the ARN of {role}, add the new one before pods start anew",
                new_name(role, cluster)
            ));
        }
        let cleaning: Vec<&str> =
            self.roles.iter().filter(|irsa| irsa.spec.cleanup).map(|irsa| irsa.metadata.name.as_str()).collect();
        if !cleaning.is_empty() {
            migration.find(format!(
                "never delete IRSA {} with spec.cleanup: true while irsa-manager runs: it deletes role and service accounts with it; set it \
                 to false first",
                cleaning.join(", ")
            ));
        }
        migration.find(
            "service accounts keep the old role until their annotation eks.amazonaws.com/role-arn is removed: irsad takes over none that \
             somebody else annotated",
        );
        migration.find("Secret kube-system/irsa-manager-key holds the signing key: delete it once irsad status is healthy everywhere");
    }

    /// The ServiceAccountRole objects, YAML for `kubectl apply`.
    pub(super) fn roles(&self, cluster: &str, migration: &mut Migration) -> String {
        let mut text = String::from(
            "# Written by irsad migrate irsa-manager, one for each IRSA object. Apply it once irsad runs.\n",
        );
        let mut names: Vec<String> = Vec::new();
        for Irsa { metadata, spec } in &self.roles {
            let (role, account) = (&spec.iam_role.name, &spec.service_account);
            if role.is_empty() || account.name.is_empty() || account.namespaces.is_empty() {
                migration.find(format!(
                    "IRSA {}/{} names no role or no service account and is left out",
                    metadata.namespace, metadata.name
                ));
                continue;
            }
            // They are of the cluster and not of a namespace.
            let is_taken = names.contains(&metadata.name);
            let name =
                if is_taken { format!("{}-{}", metadata.namespace, metadata.name) } else { metadata.name.clone() };
            text.push_str(&document(&name, &new_name(role, cluster), spec));
            names.push(name);
        }
        text
    }
}

/// A role of that name is there, and IAM knows no second one of it in an account, whatever its path.
fn new_name(role: &str, cluster: &str) -> String {
    let room = LONGEST_ROLE_NAME.saturating_sub(cluster.len() + 1);
    let role: String = role.chars().take(room).collect();
    format!("{role}.{cluster}")
}

fn document(name: &str, role: &str, spec: &IrsaSpec) -> String {
    let mut text = format!(
        "---\napiVersion: {GROUP}/{VERSION}\nkind: {KIND}\nmetadata:\n  name: {}\nspec:\n  roleName: {}\n  serviceAccounts:\n",
        scalar(name),
        scalar(role)
    );
    for namespace in &spec.service_account.namespaces {
        let _ =
            writeln!(text, "  - namespace: {}\n    name: {}", scalar(namespace), scalar(&spec.service_account.name));
    }
    if !spec.iam_policies.is_empty() {
        text.push_str("  policies:\n");
        spec.iam_policies.iter().for_each(|policy| {
            let _ = writeln!(text, "  - {}", scalar(policy));
        });
    }
    let deletion = if spec.cleanup { "Delete" } else { "Keep" };
    let _ = writeln!(text, "  deletionPolicy: {deletion}");
    text
}
