//! The Kubernetes API of this node: one API server, asked directly.
//!
//! It does not know the manifest, the key files or what should be true: it is told an address and says what it sees. It
//! never goes through the control-plane endpoint, where another node's API server may answer.

mod apiserver;
mod control_plane;
mod events;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod fake_secrets;
mod irsa_manager;
pub mod lease;
mod lines;
mod no_answer;
mod objects;
mod pods;
mod registrations;
mod request;
pub mod secrets;
mod service_account_roles;
mod service_accounts;
mod watched;

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

pub use apiserver::{Depth, Evidence, KubeadmConfigMap, ProbeToken, Proof};
pub use control_plane::{ControllerLease, LegacyToken};
pub use events::{RoleEvent, is_ending};
use kube::{
    Client, Config,
    config::{AuthInfo, Cluster, Kubeconfig, KubeconfigError},
};
pub use pods::LabelledPod;
pub use request::{NoAnswer, Said};
pub use service_accounts::{ConfigMap, ServiceAccount};
use sha2::{Digest, Sha256};
use thiserror::Error;
pub use watched::{Change, Listed};

/// Longest time until a connection stands, TLS included. The server is this machine: it answers at once or is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Longest time for one request with its whole answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Client of the one API server that listens on an address of this node.
///
/// Connections are made when first needed and kept for the next request. Cloning shares them.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    /// `ADDRESS:PORT`
    server: String,
    answer_limit: Duration,
    made_from: MadeFrom,
}

/// What a client was made from, without keeping the private key that a kubeconfig holds.
#[derive(Clone, PartialEq, Eq)]
enum MadeFrom {
    /// Everything stands in the kubeconfig: the SHA-256 of its bytes.
    Bytes([u8; 32]),
    /// It names files, which may be renewed while the kubeconfig stays the same.
    Files,
}

/// Why there is no client. The caller adds the path of the kubeconfig; nothing of its text is in the message, because it
/// holds a private key.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Not an IP address, or one that names no host.
    #[error(
        "{0:?} is not an address at which this node's API server can be asked; set --advertise-address in its manifest to the IP address of this node"
    )]
    Address(String),
    /// Not text.
    #[error("the kubeconfig is not UTF-8 text; {MAKE_AGAIN}")]
    Encoding,
    /// Not YAML, or not a kubeconfig.
    #[error("the kubeconfig cannot be understood{}; {MAKE_AGAIN}", at_line(*.line))]
    Syntax {
        /// Line of the first mistake, from 1.
        line: Option<u64>,
    },
    /// Without a context, a cluster, or a readable certificate.
    #[error("the kubeconfig has no usable context, cluster or certificate; {MAKE_AGAIN}")]
    Incomplete(#[source] Box<dyn Error + Send + Sync>),
    /// Relative paths depend on where a program was started.
    #[error("the kubeconfig names the file {0} by a relative path; write the whole path")]
    RelativePath(String),
    /// Whoever answers on the port would be believed.
    #[error(
        "the kubeconfig has no certificate authority or turns verification off, so that anyone's answer would count; give it the cluster's certificate-authority and remove insecure-skip-tls-verify"
    )]
    Unverified,
    /// An exec plugin or an auth provider.
    #[error("the kubeconfig gets its credentials from another program; give it a client certificate or a token")]
    Program,
    /// Neither certificate nor token.
    #[error("the kubeconfig has neither a client certificate nor a token for its user; {MAKE_AGAIN}")]
    Anonymous,
    /// Certificate, key or token that TLS or HTTP does not take.
    #[error("the certificates or the token of the kubeconfig cannot be used; {MAKE_AGAIN}")]
    Credentials(#[source] Box<dyn Error + Send + Sync>),
}

/// The cure for a damaged administrator kubeconfig on kubeadm.
const MAKE_AGAIN: &str = "put a good copy back, or on kubeadm make it again with `kubeadm init phase kubeconfig admin`";

fn at_line(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

impl ApiServer {
    /// A client for the API server at `https://ADDRESS:PORT` with the identity and the certificate authority of the
    /// kubeconfig's current context. The context's own server and proxy, and the proxies of the environment, are not used.
    ///
    /// The server's certificate must be valid for the address (kubeadm writes the advertise address into it), or for the
    /// kubeconfig's `tls-server-name` where it has one. No connection is made yet. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The address or the kubeconfig cannot be used, or a file it names cannot be read.
    pub fn connect(kubeconfig: &[u8], address: &str, port: u16) -> Result<Self, ClusterError> {
        let server = socket_address(address, port)?;
        let document = parse(kubeconfig)?;
        let made_from =
            if names_files(&document)? { MadeFrom::Files } else { MadeFrom::Bytes(Sha256::digest(kubeconfig).into()) };
        let client = Client::try_from(configure(document, &server.to_string())?)
            .map_err(|error| ClusterError::Credentials(error.to_string().into()))?;
        Ok(Self { client, server: server.to_string(), answer_limit: ANSWER_LIMIT, made_from })
    }

    /// A client for the server that the kubeconfig names: some API server of the cluster, whichever its load balancer picks. For a
    /// node whose own one has never started; what it says is no evidence of any process.
    ///
    /// # Errors
    /// As [`ApiServer::connect`].
    pub fn connect_to_any(kubeconfig: &[u8]) -> Result<Self, ClusterError> {
        let document = parse(kubeconfig)?;
        let current = document.current_context.as_deref().unwrap_or_default();
        let context =
            document.contexts.iter().find(|named| named.name == current).and_then(|named| named.context.as_ref());
        let name = context.map(|context| context.cluster.as_str()).unwrap_or_default();
        let cluster =
            document.clusters.iter().find(|named| named.name == name).and_then(|named| named.cluster.as_ref());
        let url = cluster.and_then(|cluster| cluster.server.clone()).unwrap_or_default();
        let server = url.strip_prefix("https://").ok_or(ClusterError::Unverified)?.trim_end_matches('/').to_owned();
        let client = Client::try_from(configure(document, &server)?)
            .map_err(|error| ClusterError::Credentials(error.to_string().into()))?;
        Ok(Self { client, server, answer_limit: ANSWER_LIMIT, made_from: MadeFrom::Files })
    }

    /// Whether [`ApiServer::connect`] would make the same client again, so that this one can be kept.
    ///
    /// Always false where the kubeconfig names certificate or key files: kubelet and kubeadm renew them in place.
    pub fn is_made_from(&self, kubeconfig: &[u8], address: &str, port: u16) -> bool {
        socket_address(address, port).is_ok_and(|server| server.to_string() == self.server)
            && self.made_from == MadeFrom::Bytes(Sha256::digest(kubeconfig).into())
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("server", &self.server).finish_non_exhaustive()
    }
}

fn socket_address(address: &str, port: u16) -> Result<SocketAddr, ClusterError> {
    match address.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() && port != 0 => Ok(SocketAddr::new(ip, port)),
        Ok(_) | Err(_) => Err(ClusterError::Address(address.to_owned())),
    }
}

fn parse(kubeconfig: &[u8]) -> Result<Kubeconfig, ClusterError> {
    let text = std::str::from_utf8(kubeconfig).map_err(|_| ClusterError::Encoding)?;
    Kubeconfig::from_yaml(text).map_err(|error| match error {
        // The parser quotes the lines around a mistake, and those may be the private key: only the place is told.
        KubeconfigError::Parse(error) => ClusterError::Syntax { line: error.location().map(|place| place.line()) },
        other => incomplete(&other),
    })
}

/// Every cause that kube reports is already in its text; as a chain it would be printed twice.
fn incomplete(error: &KubeconfigError) -> ClusterError {
    ClusterError::Incomplete(error.to_string().into())
}

/// Whether certificates or keys stand in files of their own. A token file does not count: it is read again each minute.
fn names_files(kubeconfig: &Kubeconfig) -> Result<bool, ClusterError> {
    let clusters = || kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let users = || kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let certificates: Vec<&String> = clusters()
        .filter_map(|cluster| cluster.certificate_authority.as_ref())
        .chain(users().flat_map(|user| [&user.client_certificate, &user.client_key]).flatten())
        .collect();
    let tokens = users().filter_map(|user| user.token_file.as_ref());
    match certificates.iter().copied().chain(tokens).find(|path| !Path::new(path).is_absolute()) {
        Some(relative) => Err(ClusterError::RelativePath(relative.clone())),
        None => Ok(!certificates.is_empty()),
    }
}

/// The connection to `server` with what the current context says about trust and identity.
fn configure(mut kubeconfig: Kubeconfig, server: &str) -> Result<Config, ClusterError> {
    let url = format!("https://{server}");
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        *cluster = Cluster { server: Some(url.clone()), proxy_url: Some(url.clone()), ..cluster.clone() };
    }
    let mut config = Config::try_from(kubeconfig).map_err(|error| incomplete(&error))?;
    // Only a proxy in the kubeconfig keeps kube from reading the environment's, so one was set above; none is used.
    config.proxy_url = None;
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.default_retry = false;
    if config.root_cert.is_none() || config.accept_invalid_certs {
        return Err(ClusterError::Unverified);
    }
    check_identity(&config.auth_info)?;
    Ok(config)
}

fn check_identity(user: &AuthInfo) -> Result<(), ClusterError> {
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(ClusterError::Program);
    }
    let certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let token = user.token.is_some() || user.token_file.is_some();
    if certificate || token { Ok(()) } else { Err(ClusterError::Anonymous) }
}

#[cfg(test)]
mod tests {
    use super::{
        fake::{Fake, Outcome, Reply, TOKEN, kubeconfig},
        *,
    };

    fn not_here(_: &fake::Seen) -> Reply {
        Reply::Text(404, String::new())
    }

    /// Text of the error of a kubeconfig that is refused, with its causes.
    fn refusal(kubeconfig: &str) -> String {
        match ApiServer::connect(kubeconfig.as_bytes(), "10.0.0.10", 6443) {
            Ok(api) => format!("accepted: {api:?}"),
            Err(error) => error.source().map_or(error.to_string(), |source| format!("{error}: {source}")),
        }
    }

    #[tokio::test]
    async fn server_of_the_kubeconfig_and_its_proxy_are_never_asked() -> Outcome<()> {
        for address in ["127.0.0.1", "::1"] {
            let fake = Fake::start(address, &[address], not_here).await?;
            let kubeconfig = fake.kubeconfig("proxy-url: not a URL");
            let api = ApiServer::connect(kubeconfig.as_bytes(), address, fake.server.port())?;
            let error = api.ask_evidence(Depth::Served).await.err().ok_or("evidence of an empty server")?;
            assert_eq!(
                error.to_string(),
                format!("https://{}/readyz answered 404: there is no such thing on this kube-apiserver", fake.server)
            );
        }
        Ok(())
    }

    #[test]
    fn proxies_of_the_environment_are_never_asked() -> Outcome<()> {
        // The environment belongs to the whole process, so another one runs the test above with it.
        for proxy in ["http://127.0.0.1:1", "not a URL"] {
            let mut tests = std::process::Command::new(std::env::current_exe()?);
            tests.args(["--exact", "cluster::tests::server_of_the_kubeconfig_and_its_proxy_are_never_asked"]);
            tests.envs(["HTTPS_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, proxy)));
            let output = tests.output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{proxy}: {text}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn certificate_must_be_for_the_address_or_for_the_tls_server_name() -> Outcome<()> {
        let fake = Fake::start("127.0.0.1", &["api.internal.example.com"], not_here).await?;
        let ask = async |kubeconfig: String| -> Outcome<NoAnswer> {
            let api = ApiServer::connect(kubeconfig.as_bytes(), "127.0.0.1", fake.server.port())?;
            Ok(api.ask_evidence(Depth::Served).await.err().ok_or("evidence of an empty server")?)
        };
        let named = ask(fake.kubeconfig("tls-server-name: api.internal.example.com")).await?;
        assert!(matches!(named, NoAnswer::NotFound { .. }), "{named}");

        let other_authority = Fake::start("127.0.0.1", &["127.0.0.1"], not_here).await?;
        for (kubeconfig, cause) in [
            (fake.kubeconfig(""), "certificate not valid for name"),
            (other_authority.kubeconfig("tls-server-name: api.internal.example.com"), "invalid peer certificate: "),
        ] {
            let reason = ask(kubeconfig).await?.reason();
            let sentence = format!(
                "the certificate of https://{}/readyz is not valid for this address and the kubeconfig's certificate authority; compare both with apiserver.crt and ca.crt of this node: invalid peer certificate: ",
                fake.server
            );
            assert!(reason.starts_with(&sentence) && reason.contains(cause), "{reason}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn kubeconfig_that_cannot_be_used_is_refused_with_the_cure_and_without_its_text() -> Outcome<()> {
        let ca = format!("certificate-authority-data: {}", fake::authority()?);
        let token = format!("token: {TOKEN}");
        for (kubeconfig, expected) in [
            (
                String::new(),
                format!(
                    "the kubeconfig has no usable context, cluster or certificate; {MAKE_AGAIN}: failed to determine current context"
                ),
            ),
            (
                kubeconfig(&ca, "client-key-data: [SECRET"),
                format!("the kubeconfig cannot be understood (line 15); {MAKE_AGAIN}"),
            ),
            (
                kubeconfig("certificate-authority-data: '*'", &token),
                format!(
                    "the kubeconfig has no usable context, cluster or certificate; {MAKE_AGAIN}: failed to load certificate authority: failed to decode base64 data: Invalid symbol 42, offset 0."
                ),
            ),
            (
                kubeconfig("certificate-authority: /nowhere/ca.crt", &token),
                format!(
                    "the kubeconfig has no usable context, cluster or certificate; {MAKE_AGAIN}: failed to load certificate authority: failed to read file '\"/nowhere/ca.crt\"': No such file or directory (os error 2)"
                ),
            ),
            (
                kubeconfig(&ca, "client-certificate: /nowhere/c.crt\n    client-key: /nowhere/c.key"),
                format!(
                    "the certificates or the token of the kubeconfig cannot be used; {MAKE_AGAIN}: Failed to infer provided configuration: failed to load client certificate: failed to read file '\"/nowhere/c.crt\"': No such file or directory (os error 2)"
                ),
            ),
            (
                kubeconfig("certificate-authority: pki/ca.crt", &token),
                "the kubeconfig names the file pki/ca.crt by a relative path; write the whole path".to_owned(),
            ),
            (
                kubeconfig(&ca, "tokenFile: token"),
                "the kubeconfig names the file token by a relative path; write the whole path".to_owned(),
            ),
            (kubeconfig("", &token), ClusterError::Unverified.to_string()),
            (
                kubeconfig(&format!("{ca}\n    insecure-skip-tls-verify: true"), &token),
                ClusterError::Unverified.to_string(),
            ),
            (kubeconfig(&ca, "exec: {command: /bin/false}"), ClusterError::Program.to_string()),
            (kubeconfig(&ca, "auth-provider: {name: gcp}"), ClusterError::Program.to_string()),
            (
                kubeconfig(&ca, "as: nobody"),
                format!("the kubeconfig has neither a client certificate nor a token for its user; {MAKE_AGAIN}"),
            ),
        ] {
            let refusal = refusal(&kubeconfig);
            assert_eq!(refusal, expected);
            assert!(!refusal.contains("SECRET") && !refusal.contains(TOKEN), "{refusal}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn address_that_names_no_host_is_refused() {
        for address in ["", "0.0.0.0", "::", "224.0.0.1", "node-1", "10.0.0.10:6443"] {
            let error = ApiServer::connect(b"", address, 6443).err().map(|error| error.to_string());
            let expected = format!(
                "{address:?} is not an address at which this node's API server can be asked; set --advertise-address in its manifest to the IP address of this node"
            );
            assert_eq!(error, Some(expected));
        }
    }

    #[tokio::test]
    async fn client_is_kept_while_kubeconfig_and_address_stay_the_same_unless_files_may_be_renewed() -> Outcome<()> {
        let ca = fake::authority()?;
        let embedded = kubeconfig(&format!("certificate-authority-data: {ca}"), &format!("token: {TOKEN}"));
        let api = ApiServer::connect(embedded.as_bytes(), "10.0.0.10", 6443)?;
        for (kubeconfig, address, port, kept) in [
            (embedded.clone(), "10.0.0.10", 6443, true),
            (embedded.clone() + "\n", "10.0.0.10", 6443, false),
            (embedded.clone(), "10.0.0.11", 6443, false),
            (embedded.clone(), "10.0.0.10", 443, false),
        ] {
            assert_eq!(api.is_made_from(kubeconfig.as_bytes(), address, port), kept, "{address}:{port}");
        }

        let folder = tempfile::tempdir()?;
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &ca)?)?;
        let referring = kubeconfig(&format!("certificate-authority: {}", file.display()), &format!("token: {TOKEN}"));
        let api = ApiServer::connect(referring.as_bytes(), "10.0.0.10", 6443)?;
        assert!(!api.is_made_from(referring.as_bytes(), "10.0.0.10", 6443));
        Ok(())
    }
}
