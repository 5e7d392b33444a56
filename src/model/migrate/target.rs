//! Where to look, from what this node, its API servers and the issuer URL show.

use crate::model::{
    discovery::{DISCOVERY_PATH, Discovery},
    issuer::IssuerUrl,
    key::{Kid, PublicKey},
    location::Location,
    probe::Probe,
    region::Region,
    s3_address::place,
};

use super::{FoundApiServer, Source};

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
    /// Services that stand in for AWS and were asked in its place, by their keys in `aws.endpointUrl`.
    pub endpoints: Vec<(String, String)>,
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
