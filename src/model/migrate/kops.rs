//! A cluster whose issuer kops has made (kubernetes/kops `pkg/apis/kops/v1alpha2`), when its control plane leaves kops or kops leaves the
//! documents to irsad.

use std::{path::PathBuf, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{
    Content, FoundApiServer, FoundCloud, FoundFiles, Migration, NewFile, PrivateKey, Shown, Step, kops_roles::Iam,
};
use crate::model::{
    issuer::Audience,
    jwks::Jwks,
    key::{PublicKey, SigningKey, Zeroizing, verification_pem},
    location::{BucketName, Location, LocationError},
    probe::{Probe, sentence},
    role::RoleTerms,
    yaml,
};

/// Private and public halves of the service-account keys (kubernetes/kops `upup/pkg/fi/vfs_keystorereader.go`).
const KEYSET: &str = "pki/private/service-account/keyset.yaml";
/// The whole specification of the cluster.
const SPECIFICATION: &str = "cluster-completed.spec";

/// The parts of kops' state store that irsad reads, below the folder of the cluster.
pub const STATE_FILES: [&str; 2] = [SPECIFICATION, KEYSET];

/// Where kops' state of one cluster lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KopsStore {
    /// A copy in a folder of this host.
    Folder(PathBuf),
    /// The cluster's folder in the state store itself.
    Bucket {
        /// Bucket.
        bucket: BucketName,
        /// Folder in it, without slashes at its ends.
        prefix: String,
    },
}

/// Why a text is no such place.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}; where that cannot be, copy the cluster's folder and name the copy")]
pub struct KopsStoreError(LocationError);

impl FromStr for KopsStore {
    type Err = KopsStoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with("s3://") {
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        match text.parse().map_err(KopsStoreError)? {
            Location::S3 { bucket, prefix } => Ok(Self::Bucket { bucket, prefix }),
            Location::File(folder) => Ok(Self::Folder(folder)),
        }
    }
}

/// What kops' state store says of the issuer and its keys.
#[derive(Debug)]
pub struct KopsState {
    name: String,
    issuer: String,
    other_issuers: Vec<String>,
    jwks_uri: Option<String>,
    api_audiences: Vec<String>,
    iam: Iam,
    signing: SigningKey,
    trusted: Vec<PublicKey>,
    distrusted: usize,
}

#[derive(Deserialize)]
struct Cluster {
    metadata: Metadata,
    spec: Specification,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Specification {
    #[serde(rename = "kubeAPIServer")]
    api_server: ApiServerSpecification,
    iam: Iam,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ApiServerSpecification {
    service_account_issuer: Option<String>,
    additional_service_account_issuers: Vec<String>,
    #[serde(rename = "serviceAccountJWKSURI")]
    service_account_jwks_uri: Option<String>,
    api_audiences: Vec<String>,
}

#[derive(Deserialize)]
struct Keyset {
    spec: KeysetSpecification,
}

#[derive(Deserialize)]
struct KeysetSpecification {
    #[serde(rename = "primaryID", alias = "primaryId")]
    primary: String,
    keys: Vec<KeysetItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeysetItem {
    id: String,
    #[serde(default)]
    public_material: String,
    #[serde(default)]
    private_material: String,
    #[serde(default)]
    distrust_timestamp: Option<String>,
}

impl KopsState {
    /// Reads [`STATE_FILES`].
    ///
    /// # Errors
    /// One of them is none of kops', or lacks what is needed; never with anything of a key in it.
    pub fn read(specification: &[u8], keyset: &[u8]) -> Result<Self, String> {
        let cluster: Cluster = read(specification, SPECIFICATION)?;
        let keyset: Keyset = read(keyset, KEYSET)?;
        let api_server = cluster.spec.api_server;
        let issuer = api_server.service_account_issuer.ok_or_else(|| {
            format!("{SPECIFICATION} has no kubeAPIServer.serviceAccountIssuer (nothing changed): kops made no issuer that AWS could ask")
        })?;
        let primary = keyset.spec.keys.iter().find(|item| item.id == keyset.spec.primary);
        let primary =
            primary.ok_or_else(|| format!("{KEYSET} has no key with its primary id {}", keyset.spec.primary))?;
        let signing = SigningKey::read(&decoded(&primary.private_material, &primary.id)?)
            .map_err(|error| format!("{KEYSET}, key {}: {}", primary.id, sentence(&error)))?;
        let mut trusted = vec![signing.public().clone()];
        for item in keyset.spec.keys.iter().filter(|item| item.distrust_timestamp.is_none()) {
            let keys = PublicKey::read_all(&decoded(&item.public_material, &item.id)?)
                .map_err(|error| format!("{KEYSET}, key {}: {}", item.id, sentence(&error)))?;
            for key in keys {
                if !trusted.iter().any(|known| known.kid() == key.kid()) {
                    trusted.push(key);
                }
            }
        }
        Ok(Self {
            name: cluster.metadata.name,
            issuer,
            other_issuers: api_server.additional_service_account_issuers,
            jwks_uri: api_server.service_account_jwks_uri,
            api_audiences: api_server.api_audiences,
            iam: cluster.spec.iam,
            signing,
            trusted,
            distrusted: keyset.spec.keys.iter().filter(|item| item.distrust_timestamp.is_some()).count(),
        })
    }

    /// As the API servers of the new control plane are going to run: nothing runs here yet.
    pub fn files(&self, usual: [String; 2]) -> FoundFiles {
        FoundFiles {
            issuers: vec![self.issuer.clone()],
            jwks_uri: self.jwks_uri.clone(),
            signing_key_file: usual[0].clone(),
            signing_key: Probe::Present(self.signing.kid().clone()),
            key_files: vec![(usual[1].clone(), Probe::Present(self.trusted.clone()))],
            usual,
        }
    }

    /// What its API servers verify, by the keyset.
    pub fn api_servers(&self) -> Vec<FoundApiServer> {
        let keys = Jwks::of(&self.trusted);
        let shows = match keys {
            Ok(keys) => Probe::Present(Shown { issuer: self.issuer.clone(), keys }),
            Err(error) => Probe::Unknown(sentence(&error)),
        };
        vec![FoundApiServer { name: format!("{} (by its keyset)", self.name), shows }]
    }

    pub(super) fn api_audiences(&self) -> Vec<Audience> {
        self.api_audiences.iter().filter_map(|audience| audience.parse().ok()).collect()
    }

    /// The key files of the new control plane. Those that are there are never replaced.
    pub(super) fn write_keys(
        &self,
        usual: &[String; 2],
        found: &[Probe<Vec<PublicKey>>; 2],
        migration: &mut Migration,
    ) {
        let kid = self.signing.kid().clone();
        let pem = match self.signing.to_pem() {
            Ok(pem) => pem,
            Err(error) => return migration.refuse(sentence(&error)),
        };
        let contents = [
            (Content::PrivateKey(PrivateKey::new(kid.clone(), pem)), vec![kid]),
            (
                Content::Text(verification_pem(&self.trusted)),
                self.trusted.iter().map(|key| key.kid().clone()).collect(),
            ),
        ];
        for ((path, found), (content, wanted)) in usual.iter().zip(found).zip(contents) {
            let has_all = |keys: &[PublicKey]| wanted.iter().all(|kid| keys.iter().any(|key| key.kid() == kid));
            match found {
                Probe::Absent => migration.files.push(NewFile { path: path.into(), content, replaces: None }),
                Probe::Present(keys) if has_all(keys) => {}
                Probe::Present(_) => migration.refuse(format!(
                    "{path} is there with other keys than kops' (left as it is): move it away, before kubeadm runs"
                )),
                Probe::Unknown(why) => migration.refuse(format!("{why} (nothing changed)")),
            }
        }
        migration.effects.push(format!(
            "the new control plane signs with kops' primary key {} and accepts all {} keys that kops trusts: tokens of pods stay good",
            self.signing.kid(),
            self.trusted.len()
        ));
        if self.distrusted > 0 {
            migration.find(format!("{} keys that kops distrusts are left behind", self.distrusted));
        }
    }

    /// Tokens of issuers that kops' API servers accept beside the one that signs have to be accepted by the new ones too.
    pub(super) fn keep_issuers(&self, migration: &mut Migration) {
        if self.other_issuers.is_empty() {
            return;
        }
        let all = std::iter::once(&self.issuer).chain(&self.other_issuers);
        let lines: String = all.map(|issuer| format!("\n- name: service-account-issuer\n  value: {issuer}")).collect();
        migration.refuse(format!(
            "kops' API servers also accept tokens of {} (nothing changed), which new ones would refuse; put these lines into \
             apiServer.extraArgs of the kubeadm configuration, then take additionalServiceAccountIssuers out of the copy of \
             {SPECIFICATION}:{lines}",
            self.other_issuers.join(", ")
        ));
    }

    /// What stands under `roles` of the configuration, for the roles that kops has made.
    pub(super) fn roles(&self, terms: &RoleTerms, migration: &mut Migration) -> Vec<(&'static str, String)> {
        self.iam.roles(&self.name, terms, migration)
    }

    pub(super) fn advise(&self, migration: &mut Migration) {
        migration.find(format!(
            "kops delete cluster {} also deletes the documents of the issuer: take serviceAccountIssuerDiscovery out of the cluster spec first \
             (kops edit cluster, and no kops update cluster after it)",
            self.name
        ));
    }
}

/// Tags by which kops knows what it deletes with a cluster (kubernetes/kops `pkg/resources/aws/aws.go`).
pub(super) fn release(cloud: &FoundCloud, migration: &mut Migration) {
    let Probe::Present(provider) = &cloud.provider else { return };
    let is_of_kops = |key: &&String| *key == "KubernetesCluster" || key.starts_with("kubernetes.io/cluster/");
    let keys: Vec<String> = provider.tags.keys().filter(is_of_kops).cloned().collect();
    if !keys.is_empty() {
        migration.steps.push(Step::Disown { arn: cloud.provider_arn.clone(), keys });
        migration.effects.push("kops delete cluster leaves the IAM OIDC provider alone from then on".to_owned());
    }
}

/// On a node that kops still looks after: who publishes from now on.
pub(super) fn hand_over(issuer: &str, migration: &mut Migration) {
    migration.find(format!(
        "kops writes documents and tags again at each kops update cluster: in the cluster spec, put kubeAPIServer.serviceAccountIssuer: \
         {issuer} in the place of serviceAccountIssuerDiscovery"
    ));
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T, String> {
    // The reason could quote the text, and with it a key.
    let refused = || format!("{name} is not what kops writes (nothing changed)");
    let stream = yaml::parse(bytes, &yaml::Limits::PLAIN).map_err(|_| refused())?;
    let value: Value = stream.values().map_err(|_| refused())?.into_iter().next().ok_or_else(refused)?;
    serde_json::from_value(value).map_err(|_| refused())
}

fn decoded(material: &str, id: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let text: String = material.split_whitespace().collect();
    BASE64_STANDARD
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| format!("{KEYSET}, key {id} is not base64 (nothing changed)"))
}
