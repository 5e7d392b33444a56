//! An issuer whose documents somebody has put into a bucket by hand: URL, layout and keys are taken over as they are.

use std::{collections::BTreeMap, path::Path};

use crate::model::{
    discovery::{DISCOVERY_PATH, Discovery},
    issuer::{Audience, IssuerUrl},
    key::{Kid, PublicKey},
    location::Location,
    plan::{BucketFacts, PublicAccessBlock},
    probe::Probe,
    region::Region,
    trust_policy,
};

use super::{
    FoundApiServer, FoundDocuments, IrsaManager, KopsState, Migration, Source, Step, configuration::Configuration,
    documents::Judged, place::place,
};

/// Where the roles from objects of others go, beside the configuration.
pub const ROLES_FILE: &str = "service-account-roles.yaml";

/// What the person asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Who set it up.
    pub source: Source,
    /// Name that the cluster gets.
    pub cluster: String,
    /// Where the documents lie, where the URL does not say it.
    pub store: Option<Location>,
    /// Region of the bucket, where the URL does not say it.
    pub region: Option<Region>,
    /// Kids of published keys that may go although nobody knows whose they are.
    pub let_go: Vec<String>,
    /// A configuration file that is there may be replaced.
    pub replace: bool,
}

/// How this node's kube-apiserver runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFiles {
    /// `--service-account-issuer` in order.
    pub issuers: Vec<String>,
    /// `--service-account-jwks-uri`.
    pub jwks_uri: Option<String>,
    /// `--service-account-signing-key-file`.
    pub signing_key_file: String,
    /// Key in that file.
    pub signing_key: Probe<Kid>,
    /// `--service-account-key-file` in order, with the keys of each.
    pub key_files: Vec<(String, Probe<Vec<PublicKey>>)>,
    /// Where the distribution has the two files, signing key first.
    pub usual: [String; 2],
}

/// Where the documents are and what tokens carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it stands in tokens.
    pub issuer: IssuerUrl,
    /// Path of the JWK Set below the issuer.
    pub jwks_path: String,
    /// Bucket and prefix.
    pub store: Location,
    /// Region of the bucket.
    pub region: Region,
    /// The URL is not one of S3's: something stands between.
    pub is_external: bool,
}

/// All that was found.
#[derive(Debug)]
pub struct Found<'a> {
    /// This node.
    pub files: &'a FoundFiles,
    /// Every API server.
    pub api_servers: &'a [FoundApiServer],
    /// The published documents.
    pub documents: &'a FoundDocuments,
    /// Bucket and provider.
    pub cloud: &'a FoundCloud,
    /// The configuration file: its path, and its text where it is there.
    pub configuration: (&'a Path, Option<&'a str>),
    /// What the source keeps of its own.
    pub own: Own<'a>,
}

/// What a source keeps of its own.
#[derive(Debug)]
pub enum Own<'a> {
    /// Nothing.
    Nothing,
    /// Its objects, and the text of the file with roles that is there.
    IrsaManager(&'a IrsaManager, Option<&'a str>),
    /// Its state, and what the two key files of this node hold, signing key first.
    Kops(&'a KopsState, &'a [Probe<Vec<PublicKey>>; 2]),
}

/// What the account has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCloud {
    /// The bucket.
    pub bucket: Probe<BucketFacts>,
    /// The IAM OIDC provider of the issuer.
    pub provider: Probe<FoundProvider>,
    /// Its ARN.
    pub provider_arn: String,
    /// Tag of a provider that irsad of this cluster looks after.
    pub owner: (String, String),
    /// `Sid` of our statement in the bucket's policy.
    pub policy_sid: String,
}

/// An IAM OIDC provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProvider {
    /// Client IDs.
    pub audiences: Vec<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// Where to look in AWS, from what the node, its API servers and the issuer URL show.
///
/// # Errors
/// Why nothing can be taken over, one sentence each.
pub fn target(
    wish: &Wish,
    files: &FoundFiles,
    api_servers: &[FoundApiServer],
    discovery: impl Fn(&IssuerUrl) -> Probe<Vec<u8>>,
) -> Result<Target, Vec<String>> {
    let issuer = issuer(files).map_err(|why| vec![why])?;
    let disagreeing = disagreeing(&issuer, api_servers);
    if !disagreeing.is_empty() {
        return Err(disagreeing);
    }
    let jwks_path = jwks_path(&issuer, &discovery(&issuer)).map_err(|why| vec![why])?;
    let found = place(&issuer);
    let is_external = found.is_none();
    let store = match (&wish.store, &found) {
        (Some(store), _) => store.clone(),
        (None, Some(place)) => place.store.clone(),
        (None, None) => {
            return Err(vec![format!(
                "{issuer} is no address of S3 (nothing changed); name the bucket that its documents come from: --store s3://BUCKET[/PREFIX]"
            )]);
        }
    };
    if !matches!(store, Location::S3 { .. }) {
        return Err(vec![format!(
            "store {store} is no bucket (nothing changed); name one: --store s3://BUCKET[/PREFIX]"
        )]);
    }
    let region = found.and_then(|place| place.region).or_else(|| wish.region.clone());
    let Some(region) = region else {
        return Err(vec![format!(
            "{issuer} does not say in which region its bucket is (nothing changed); add --region"
        )]);
    };
    Ok(Target { issuer, jwks_path, store, region, is_external })
}

fn issuer(files: &FoundFiles) -> Result<IssuerUrl, String> {
    let Some(first) = files.issuers.first() else {
        return Err(
            "kube-apiserver has no --service-account-issuer (nothing changed): there is nothing to take over, \
             write a configuration of your own"
                .to_owned(),
        );
    };
    // EKS Anywhere joins podIamConfig with an issuer of the operator's; the flag does not split (kubernetes/kubernetes
    // pkg/kubeapiserver/options/authentication.go, StringArrayVar).
    if first.contains(',') {
        return Err(format!(
            "kube-apiserver signs as {first:?}, several issuers in one value (nothing changed): no verifier has a document for that; give \
             each --service-account-issuer a line of its own first, the one in AWS first of all"
        ));
    }
    first.parse().map_err(|error| format!("{error} (nothing changed)"))
}

/// Those that sign as somebody else, or could not be asked.
fn disagreeing(issuer: &IssuerUrl, api_servers: &[FoundApiServer]) -> Vec<String> {
    let other = |server: &FoundApiServer| match &server.shows {
        Probe::Present(shown) if shown.issuer == issuer.as_str() => None,
        Probe::Present(shown) => Some(format!(
            "kube-apiserver of {} signs as {} and not as {issuer} (nothing changed); give all of them the same flags first",
            server.name, shown.issuer
        )),
        Probe::Absent => Some(format!("kube-apiserver of {} is not there (nothing changed)", server.name)),
        Probe::Unknown(why) => Some(format!(
            "kube-apiserver of {} cannot be asked for its keys (nothing changed): {why}; all of them have to run",
            server.name
        )),
    };
    match api_servers {
        [] => vec!["no kube-apiserver of this cluster could be asked for its keys (nothing changed)".to_owned()],
        servers => servers.iter().filter_map(other).collect(),
    }
}

/// Path of the JWK Set below the issuer, as the published document has it.
fn jwks_path(issuer: &IssuerUrl, discovery: &Probe<Vec<u8>>) -> Result<String, String> {
    let url = issuer.document(DISCOVERY_PATH);
    let body = match discovery {
        Probe::Present(body) => body,
        Probe::Absent => {
            return Err(format!(
                "{url} is not there (nothing changed): strangers cannot verify tokens of {issuer}, there is nothing to take over; write a \
                 configuration of your own"
            ));
        }
        Probe::Unknown(why) => return Err(format!("{why} (nothing changed)")),
    };
    let found =
        Discovery::parse(body).map_err(|error| format!("{url}: {error} (nothing changed); put the right one there"))?;
    if found.issuer.trim_end_matches('/') != issuer.base() {
        return Err(format!(
            "{url} is the document of {} and tokens carry {issuer} (nothing changed); put the right one there",
            found.issuer
        ));
    }
    let below = found.jwks_uri.strip_prefix(issuer.base()).and_then(|rest| rest.strip_prefix('/'));
    below.map(str::to_owned).ok_or_else(|| {
        format!(
            "the JWK Set of {issuer} lies at {}, not below the issuer (nothing changed); irsad publishes both documents in one place: \
             publish it there too, and name that in {url}",
            found.jwks_uri
        )
    })
}

/// The whole migration of such an issuer.
pub fn take_over(wish: &Wish, target: &Target, found: &Found<'_>) -> Migration {
    let mut migration = Migration::default();
    let (files, issuer) = (found.files, &target.issuer);
    migration.effects.push(format!("tokens keep {issuer} as iss: roles that trust it stay as they are"));
    let key_files = key_files(files, &mut migration);
    if let Some((signing, _)) = &key_files {
        migration.effects.push(format!("key {signing} keeps signing: no token becomes invalid"));
        let store = format!("{} ({})", target.store, target.store.key(&target.jwks_path));
        Judged {
            jwks_uri: &issuer.document(&target.jwks_path),
            store: &store,
            documents: found.documents,
            api_servers: found.api_servers,
            signing,
            let_go: &wish.let_go,
        }
        .judge(&mut migration);
    }
    if !matches!(found.own, Own::Kops(..)) {
        flags(files, target, &mut migration);
    }
    discovery(target, found.documents, &mut migration);
    reading(target, found.cloud, &mut migration);
    let audiences = provider(target, found.cloud, &mut migration);
    let verifying = key_files.as_ref().map_or(files.usual[1].as_str(), |(_, file)| file.as_str());
    let unusual = |index: usize, file: &str| (files.usual[index] != file).then(|| file.to_owned());
    let own_files = [unusual(0, &files.signing_key_file), unusual(1, verifying)];
    origin(wish, target, found, &mut migration);
    let text = configuration(wish, target, &found.own, &audiences, &own_files);
    let (path, there) = found.configuration;
    migration.write(path.to_owned(), text, there, wish.replace);
    migration
}

fn configuration(
    wish: &Wish,
    target: &Target,
    own: &Own<'_>,
    audiences: &[Audience],
    [signing_key, verifying_keys]: &[Option<String>; 2],
) -> String {
    let api_audiences = match own {
        Own::Kops(state, _) => state.api_audiences(),
        Own::Nothing | Own::IrsaManager(..) => Vec::new(),
    };
    Configuration {
        remark: &format!(
            "Written by irsad migrate {}: issuer, layout and keys are those that were there.",
            wish.source
        ),
        cluster: &wish.cluster,
        store: &target.store,
        url: &target.issuer,
        jwks_path: &target.jwks_path,
        is_external: target.is_external,
        region: Some(&target.region),
        audiences,
        signing_key: signing_key.as_deref(),
        verifying_keys: verifying_keys.as_deref(),
        api_audiences: &api_audiences,
        has_role_objects: matches!(own, Own::IrsaManager(manager, _) if manager.has_roles()),
    }
    .text()
}

/// The key that signs, and the file in which irsad will keep the keys that are accepted.
fn key_files(files: &FoundFiles, migration: &mut Migration) -> Option<(Kid, String)> {
    let signing = match &files.signing_key {
        Probe::Present(kid) => kid.clone(),
        Probe::Absent => {
            migration.refuse(format!(
                "{} is not there (nothing changed), and kube-apiserver signs with it",
                files.signing_key_file
            ));
            return None;
        }
        Probe::Unknown(why) => {
            migration.refuse(format!("{why} (nothing changed)"));
            return None;
        }
    };
    for (file, keys) in &files.key_files {
        match keys {
            Probe::Present(_) => {}
            Probe::Absent => {
                migration.refuse(format!("{file} is not there (nothing changed), and the manifest names it"))
            }
            Probe::Unknown(why) => migration.refuse(format!("{why} (nothing changed)")),
        }
    }
    let has =
        |keys: &Probe<Vec<PublicKey>>| keys.present().is_some_and(|keys| keys.iter().any(|key| *key.kid() == signing));
    let mut fitting = files.key_files.iter().filter(|(_, keys)| has(keys)).map(|(file, _)| file);
    let first = fitting.clone().next();
    let Some(file) = fitting.find(|file| **file == files.usual[1]).or(first) else {
        migration.refuse(format!(
            "none of the files that kube-apiserver verifies with has key {signing} of {} (nothing changed): it refuses its own tokens; put \
             the public half into one of them",
            files.signing_key_file
        ));
        return None;
    };
    Some((signing, file.clone()))
}

/// What irsad changes of the flags.
fn flags(files: &FoundFiles, target: &Target, migration: &mut Migration) {
    let jwks_uri = target.issuer.document(&target.jwks_path);
    migration.effects.push(match files.jwks_uri.as_deref() == Some(jwks_uri.as_str()) {
        true => "no kube-apiserver is restarted for it".to_owned(),
        false => format!(
            "irsad adds --service-account-jwks-uri={jwks_uri}, so that kube-apiserver names the same document: one restart of each, one \
             after the other"
        ),
    });
    let others = files.issuers.get(1..).unwrap_or_default();
    if !others.is_empty() {
        migration.effects.push(format!("{} stays accepted by kube-apiserver", others.join(", ")));
    }
}

fn discovery(target: &Target, documents: &FoundDocuments, migration: &mut Migration) {
    let found = documents.discovery.present().and_then(|body| Discovery::parse(body).ok());
    if let Some(found) = found.filter(|found| found.issuer != target.issuer.as_str()) {
        migration.find(format!(
            "the published discovery document names {}, tokens carry {}: AWS passes over the slash, strict verifiers do not; irsad writes it \
             as tokens have it",
            found.issuer, target.issuer
        ));
    }
}

/// Who makes the documents public, once irsad has replaced them: an object's ACL does not outlive it (Amazon S3 user guide, "Access
/// control list overview").
fn reading(target: &Target, cloud: &FoundCloud, migration: &mut Migration) {
    let Location::S3 { bucket, .. } = &target.store else { return };
    let found = match &cloud.bucket {
        Probe::Present(found) => found,
        Probe::Absent => return migration.refuse(format!("bucket {bucket} does not exist (nothing changed)")),
        Probe::Unknown(why) => return migration.refuse(format!("{why} (nothing changed)")),
    };
    if target.is_external {
        return migration.find(format!(
            "{} is served by something in front of bucket {bucket}: it has to read the documents by the bucket's policy and not by an ACL, \
             which a replaced object loses",
            target.issuer
        ));
    }
    if let Some(why) = found.policy.unknown().or_else(|| found.public_access_block.unknown()) {
        return migration.refuse(format!("{why} (nothing changed)"));
    }
    let keys = [target.store.key(DISCOVERY_PATH), target.store.key(&target.jwks_path)];
    let policy = found.policy.present().map(String::as_str);
    let partition = target.region.partition();
    match trust_policy::bucket_policy(policy, &cloud.policy_sid, partition, bucket, &keys) {
        Err(error) => return migration.refuse(format!("policy of bucket {bucket}: {error}")),
        Ok(None) => {}
        Ok(Some(policy)) => {
            migration.steps.push(Step::AllowReading { bucket: bucket.clone(), policy });
            migration.effects.push(
                "AWS reads the documents by the bucket's policy from now on: an ACL (public-read) would be lost when irsad writes them"
                    .to_owned(),
            );
        }
    }
    if let Some(block) = found.public_access_block.present().filter(|block| block.blocks_public_policy()) {
        let block = PublicAccessBlock { block_public_policy: false, restrict_public_buckets: false, ..*block };
        // Before the policy, which would be refused.
        migration.steps.insert(0, Step::AdmitPublicPolicy { bucket: bucket.clone(), block });
    }
}

/// Takes the provider over; the audiences for the configuration.
fn provider(target: &Target, cloud: &FoundCloud, migration: &mut Migration) -> Vec<Audience> {
    let (key, cluster) = &cloud.owner;
    let found = match &cloud.provider {
        Probe::Present(found) => found,
        Probe::Absent => {
            migration.find(format!("{} has no IAM OIDC provider in this account; irsad makes it", target.issuer));
            return Vec::new();
        }
        Probe::Unknown(why) => {
            migration.refuse(format!("{why} (nothing changed)"));
            return Vec::new();
        }
    };
    match found.tags.get(key) {
        Some(owner) if owner == cluster => {}
        Some(owner) => migration.refuse(format!(
            "{} has the tag {key}={owner}: irsad of cluster {owner} looks after it (nothing changed); use --cluster {owner}, or remove the \
             tag where that cluster is gone",
            cloud.provider_arn
        )),
        None => {
            let (arn, tag) = (cloud.provider_arn.clone(), cloud.owner.clone());
            migration.steps.push(Step::OwnProvider { arn, tag });
        }
    }
    if found.audiences.is_empty() {
        migration.find(format!("{} has no audience; irsad adds sts.amazonaws.com", cloud.provider_arn));
    }
    found.audiences.iter().filter_map(|audience| audience.parse().ok()).collect()
}

/// What is particular about where it comes from.
fn origin(wish: &Wish, target: &Target, found: &Found<'_>, migration: &mut Migration) {
    match &found.own {
        Own::Nothing => {}
        Own::IrsaManager(manager, there) => {
            manager.check(target, migration);
            if manager.has_roles() {
                let text = manager.roles(&wish.cluster, migration);
                let path = found.configuration.0.with_file_name(ROLES_FILE);
                migration.write(path, text, *there, wish.replace);
            }
            manager.advise(&wish.cluster, migration);
        }
        Own::Kops(state, key_files) => {
            state.write_keys(&found.files.usual, key_files, migration);
            state.advise(migration);
        }
    }
    match wish.source {
        Source::AwsGuide | Source::IrsaManager => {}
        Source::EksAnywhere => migration.find(
            "Cluster API makes control-plane nodes anew: put irsad and this configuration into their image or their bootstrap data; the \
             issuer in podIamConfig stays as it is",
        ),
        Source::Kops => {
            super::kops::release(found.cloud, migration);
            if matches!(found.own, Own::Nothing) {
                super::kops::hand_over(target.issuer.as_str(), migration);
            }
        }
    }
    migration.find(
        "the webhook that gives pods their tokens stays until you remove it; irsad's own leaves containers alone that have the variables \
         already",
    );
}
