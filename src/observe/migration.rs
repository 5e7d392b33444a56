//! What an issuer that others have set up looks like from this control-plane node: its flags and files, every API server, the published
//! documents, the bucket and the provider.

mod kops;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use futures_util::future::join_all;

use super::shared::address;
use crate::{
    aws::{self, Endpoints, Identity, iam::Iam, s3::S3Store},
    cluster::{ApiServer as Client, Depth},
    config::{Distribution, Inputs, OWNER_TAG},
    host::{Root, files::LARGEST_FILE_BYTES},
    model::{
        discovery::{DISCOVERY_PATH, Discovery},
        issuer::IssuerUrl,
        key::{PublicKey, SigningKey},
        location::Location,
        manifest::{LONGEST_MANIFEST_BYTES, Manifest},
        migrate::{
            Content, Found, FoundApiServer, FoundCloud, FoundDocuments, FoundFiles, FoundProvider, IrsaManager,
            KopsState, KopsStore, Migration, Own, ROLES_FILE, Shown, Source, Target, Wish, take_over, target,
        },
        plan::BucketFacts,
        probe::{Probe, sentence},
        region::{Region, oidc_provider_arn},
        rotation::ControlPlane,
        s3_address,
        trust_policy::statement_id,
    },
    store::{
        Store as _,
        public::{PublicClient, ServedBy},
    },
};

/// What is to be taken over, and on what machine.
pub struct Request<'a> {
    /// Host files.
    pub root: &'a Root,
    /// Whose control plane this is.
    pub distribution: Distribution,
    /// The configuration file that is written.
    pub configuration: &'a Path,
    /// Drop-ins beside it that are there already, path and text.
    pub drop_ins: &'a [(PathBuf, String)],
    /// kops' state of the cluster, for a control plane that is still to be made.
    pub state: Option<&'a KopsStore>,
    /// Where AWS is asked.
    pub endpoints: Endpoints,
    /// What the person wants.
    pub wish: Wish,
}

/// A migration, and the ways to carry it out.
pub struct Prepared {
    /// What is going to be done.
    pub migration: Migration,
    /// The bucket; `None` where the migration never came to AWS.
    pub bucket: Option<S3Store>,
    /// IAM, likewise.
    pub iam: Option<Iam>,
}

/// The control plane, running or still to be made, and what its source keeps of its own.
struct Seen {
    files: FoundFiles,
    api_servers: Vec<FoundApiServer>,
    irsa_manager: Option<IrsaManager>,
    kops: Option<(KopsState, [Probe<Vec<PublicKey>>; 2])>,
}

impl Seen {
    fn own<'a>(&'a self, roles: Option<&'a str>) -> Own<'a> {
        match (&self.irsa_manager, &self.kops) {
            (Some(manager), _) => Own::IrsaManager(manager, roles),
            (None, Some((state, keys))) => Own::Kops(state, keys),
            (None, None) => Own::Nothing,
        }
    }
}

impl Prepared {
    fn refused(refusals: Vec<String>) -> Self {
        Self { migration: Migration { refusals, ..Migration::default() }, bucket: None, iam: None }
    }
}

/// Looks at everything and changes nothing.
///
/// # Errors
/// The manifest or the kubeconfig of this node cannot be read, or this host has no trusted certificates.
pub async fn prepare_migration(mut request: Request<'_>) -> anyhow::Result<Prepared> {
    let public = PublicClient::from_environment()?;
    let seen = match look_at_control_plane(&request).await? {
        Ok(seen) => seen,
        Err(why) => return Ok(Prepared::refused(vec![why])),
    };
    request.wish.region = region(&request.wish, &seen.files).await;
    let discovery = match issuer(&seen.files) {
        Some(issuer) => public.get(&issuer.document(DISCOVERY_PATH), ServedBy::Front).await.map(|found| found.body),
        None => Probe::Absent,
    };
    let target = match target(&request.wish, &seen.files, &seen.api_servers, |_| discovery.clone()) {
        Ok(target) => target,
        Err(refusals) => return Ok(Prepared::refused(refusals)),
    };
    let Location::S3 { bucket, .. } = &target.store else {
        return Ok(Prepared::refused(vec![format!("{} is no bucket (nothing changed)", target.store)]));
    };
    let config = aws::connect(&target.region, request.endpoints.clone()).await;
    let identity = match aws::identity(&config).await {
        Ok(identity) => identity,
        Err(error) => return Ok(Prepared::refused(vec![format!("{} (nothing changed)", sentence(&error))])),
    };
    let (bucket, iam) = (S3Store::new(&config, bucket, &identity.account), Iam::new(&config));
    let provider_arn = oidc_provider_arn(identity.partition, &identity.account, &target.issuer);
    let documents = look_at_documents(&public, &bucket, &target, discovery).await;
    let cloud = look_at_cloud(&bucket, &iam, &identity, provider_arn, &request.wish.cluster).await;
    let (there, roles) = (
        read_text(request.root, request.configuration)?,
        read_text(request.root, &request.configuration.with_file_name(ROLES_FILE))?,
    );
    let found = Found {
        files: &seen.files,
        api_servers: &seen.api_servers,
        documents: &documents,
        cloud: &cloud,
        configuration: (request.configuration, there.as_deref()),
        own: seen.own(roles.as_deref()),
    };
    let mut migration = take_over(&request.wish, &target, &found);
    check(&request, &mut migration);
    Ok(Prepared { migration, bucket: Some(bucket), iam: Some(iam) })
}

fn issuer(files: &FoundFiles) -> Option<IssuerUrl> {
    files.issuers.first().and_then(|first| first.parse().ok())
}

/// The control plane that runs here; where a copy of kops' state is given, the one that is going to. The inner error is a refusal.
async fn look_at_control_plane(request: &Request<'_>) -> anyhow::Result<Result<Seen, String>> {
    if let Some(store) = request.state {
        return kops::look(request, store).await;
    }
    let manifest = read_manifest(request.root, Path::new(request.distribution.manifest()))?;
    let files = look_at_files(request, &manifest)?;
    let (client, api_servers) = look_at_api_servers(request, &manifest).await?;
    let irsa_manager = match request.wish.source {
        Source::IrsaManager => {
            match client.irsa_manager().await {
                Probe::Present([setups, roles]) => match IrsaManager::read(setups, roles) {
                    Ok(found) => Some(found),
                    Err(why) => return Ok(Err(format!("{why} (nothing changed)"))),
                },
                Probe::Absent => {
                    return Ok(Err("this cluster does not know IRSASetup (nothing changed): irsa-manager is not installed; where its \
                               documents are still in use, irsad migrate aws-guide takes them over"
                    .to_owned()));
                }
                Probe::Unknown(why) => return Ok(Err(format!("{why} (nothing changed)"))),
            }
        }
        Source::AwsGuide | Source::EksAnywhere | Source::Kops => None,
    };
    Ok(Ok(Seen { files, api_servers, irsa_manager, kops: None }))
}

fn usual(distribution: Distribution) -> [String; 2] {
    [distribution.signing_key().to_owned(), distribution.verifying_keys().to_owned()]
}

/// The keys of a file, private or public halves.
fn keys_of(root: &Root, file: &str) -> Probe<Vec<PublicKey>> {
    super::read(root, Path::new(file), LARGEST_FILE_BYTES, |found| {
        PublicKey::read_all(&found.bytes).map_err(|error| format!("{file}: {}", sentence(&error)))
    })
}

fn read_manifest(root: &Root, path: &Path) -> anyhow::Result<Manifest> {
    let found = root.read(path, LONGEST_MANIFEST_BYTES as u64)?;
    let found = found.with_context(|| {
        format!(
            "{} does not exist (nothing changed); call this on a control-plane node of the running cluster",
            path.display()
        )
    })?;
    Manifest::parse(&found.bytes).with_context(|| format!("{} (nothing changed)", path.display()))
}

fn look_at_files(request: &Request<'_>, manifest: &Manifest) -> anyhow::Result<FoundFiles> {
    let usual = usual(request.distribution);
    let signing_key_file = manifest.signing_key_file().unwrap_or(&usual[0]).to_owned();
    Ok(FoundFiles {
        issuers: manifest.issuers().to_vec(),
        jwks_uri: manifest.jwks_uri().map(str::to_owned),
        signing_key: super::read(request.root, Path::new(&signing_key_file), LARGEST_FILE_BYTES, |found| {
            let key =
                SigningKey::read(&found.bytes).map_err(|error| format!("{signing_key_file}: {}", sentence(&error)))?;
            Ok(key.kid().clone())
        }),
        key_files: manifest.key_files().iter().map(|file| (file.clone(), keys_of(request.root, file))).collect(),
        signing_key_file,
        usual,
    })
}

/// This node's API server and every other one, each asked at its own address.
async fn look_at_api_servers(
    request: &Request<'_>,
    manifest: &Manifest,
) -> anyhow::Result<(Client, Vec<FoundApiServer>)> {
    let path = Path::new(request.distribution.kubeconfig());
    let kubeconfig = request.root.read_through_links(path, LARGEST_FILE_BYTES)?;
    let kubeconfig = kubeconfig.with_context(|| format!("{} does not exist (nothing changed)", path.display()))?.bytes;
    let (own, port) = (address(manifest), manifest.secure_port());
    let client = Client::connect(&kubeconfig, &own, port).with_context(|| path.display().to_string())?;
    let members = match client.control_plane().await {
        Probe::Present(members) => members,
        Probe::Absent => ControlPlane { nodes: Vec::new(), api_servers: Vec::new(), is_of_cluster_api: false },
        Probe::Unknown(why) => return Ok((client, vec![FoundApiServer { name: own, shows: Probe::Unknown(why) }])),
    };
    let others = members.api_servers.iter().filter(|address| **address != own);
    let asked = join_all(std::iter::once(&own).chain(others).map(|address| async {
        let name = members.node_at(address).unwrap_or(address).to_owned();
        FoundApiServer { name, shows: shows(&kubeconfig, address, port).await }
    }));
    let mut found = asked.await;
    let is_registered = |address: &String| members.api_servers.contains(address) || *address == own;
    let silent =
        members.nodes.iter().filter(|node| !node.addresses.is_empty() && !node.addresses.iter().any(is_registered));
    found.extend(silent.map(|node| FoundApiServer { name: node.name.clone(), shows: Probe::Absent }));
    Ok((client, found))
}

async fn shows(kubeconfig: &[u8], address: &str, port: u16) -> Probe<Shown> {
    let client = match Client::connect(kubeconfig, address, port) {
        Ok(client) => client,
        Err(error) => return Probe::Unknown(sentence(&error)),
    };
    client.observe(Depth::Served).await.map(|seen| Shown { issuer: seen.issuer, keys: seen.served })
}

/// The instance knows its region where neither the person nor the URL says one.
async fn region(wish: &Wish, files: &FoundFiles) -> Option<Region> {
    let is_said = issuer(files).as_ref().and_then(s3_address::place).is_some_and(|place| place.region.is_some());
    match &wish.region {
        Some(region) => Some(region.clone()),
        None if is_said => None,
        None => aws::region_from_instance().await.ok(),
    }
}

async fn look_at_documents(
    public: &PublicClient,
    bucket: &S3Store,
    target: &Target,
    discovery: Probe<Vec<u8>>,
) -> FoundDocuments {
    let jwks_uri = discovery.present().and_then(|body| Discovery::parse(body).ok()).map(|found| found.jwks_uri);
    let jwks_uri = jwks_uri.unwrap_or_else(|| target.issuer.document(&target.jwks_path));
    let key = target.store.key(&target.jwks_path);
    let (jwks, stored) = tokio::join!(public.get(&jwks_uri, ServedBy::Front), bucket.get(&key));
    FoundDocuments {
        discovery,
        jwks: jwks.map(|found| found.body),
        stored_jwks: match stored {
            Ok(Some(object)) => Probe::Present(object.body),
            Ok(None) => Probe::Absent,
            Err(error) => Probe::Unknown(sentence(&error)),
        },
    }
}

async fn look_at_cloud(
    bucket: &S3Store,
    iam: &Iam,
    identity: &Identity,
    provider_arn: String,
    cluster: &str,
) -> FoundCloud {
    let (found, provider) = tokio::join!(bucket.observe(), iam.observe(&provider_arn));
    FoundCloud {
        bucket: found.map(|found| BucketFacts { public_access_block: found.public_access_block, policy: found.policy }),
        provider: provider.map(|found| FoundProvider { audiences: found.audiences, tags: found.tags }),
        account: identity.account.clone(),
        provider_arn,
        owner: (OWNER_TAG.to_owned(), cluster.to_owned()),
        policy_sid: statement_id(cluster),
    }
}

fn read_text(root: &Root, path: &Path) -> anyhow::Result<Option<String>> {
    let Some(found) = root.read(path, LARGEST_FILE_BYTES)? else { return Ok(None) };
    let text = String::from_utf8(found.bytes);
    text.map(Some).with_context(|| format!("{} is not UTF-8 text (left as it is)", path.display()))
}

/// irsad itself has to take what is written, together with the drop-ins that are there.
fn check(request: &Request<'_>, migration: &mut Migration) {
    let Some(file) = migration.files.iter().find(|file| file.path == request.configuration) else { return };
    let Content::Text(text) = &file.content else { return };
    let drop_ins = request.drop_ins.iter().map(|(path, text)| (path.clone(), text.clone()));
    let texts: Vec<(PathBuf, String)> = std::iter::once((file.path.clone(), text.clone())).chain(drop_ins).collect();
    let settled = Inputs::from_texts(&texts).and_then(|inputs| inputs.settle(None, || request.distribution));
    if let Err(mistakes) = settled {
        migration
            .refusals
            .extend(mistakes.iter().map(|mistake| format!("irsad would not take the configuration: {mistake}")));
    }
    if !request.drop_ins.is_empty() {
        let names: Vec<String> = request.drop_ins.iter().map(|(path, _)| path.display().to_string()).collect();
        migration.findings.push(format!("{} is merged into the configuration", names.join(", ")));
    }
}
