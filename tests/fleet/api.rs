//! One kube-apiserver, asked directly and by nobody of irsad's own code.

use std::{fs, path::Path, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::control_plane::Result;

/// Longest time for one answer. A server on the same machine answers at once, or restarts.
const LIMIT: Duration = Duration::from_secs(5);
/// What kubeadm's certificates of API servers are of, below a root.
const AUTHORITY: &str = "etc/kubernetes/pki/ca.crt";

/// A client of one server; connections are kept.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
}

/// What a server said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Api {
    /// A client without any identity for the server at `address:6443` that has a certificate of the authority below `root`.
    pub fn stranger(root: &Path, address: &str) -> Result<Self> {
        Ok(Self::with(configure(&root.join(AUTHORITY))?.with_no_client_auth(), url(address)))
    }

    /// The same with the administrator's certificate, which every RBAC rule takes.
    pub fn administrator(root: &Path, address: &str) -> Result<Self> {
        let text = fs::read_to_string(root.join("etc/kubernetes/super-admin.conf"))?;
        let field = |name: &str| -> Result<Vec<u8>> {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
            Ok(STANDARD.decode(line.ok_or_else(|| format!("the kubeconfig has no {name}"))?)?)
        };
        let certificate = CertificateDer::from_pem_slice(&field("client-certificate-data")?)?;
        let key = PrivateKeyDer::from_pem_slice(&field("client-key-data")?)?;
        Self::holder(&root.join(AUTHORITY), certificate, key, url(address))
    }

    /// A client with a certificate for the server at `url`, which has one of that authority.
    pub fn holder(
        authority: &Path,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        url: String,
    ) -> Result<Self> {
        Ok(Self::with(configure(authority)?.with_client_auth_cert(vec![certificate], key)?, url))
    }

    fn with(config: ClientConfig, url: String) -> Self {
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        Self { client: Client::builder(TokioExecutor::new()).build(connector), url }
    }

    /// A GET, as whoever holds `token`.
    pub async fn get(&self, path: &str, token: Option<&str>) -> Result<Answer> {
        self.send(Method::GET, path, token, None).await
    }

    /// A POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, None, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, token: Option<&str>, body: Option<&Value>) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let asked = async {
            let answer = self.client.request(request.body(Full::new(body.into()))?).await?;
            let status = answer.status().as_u16();
            Ok(Answer { status, body: answer.into_body().collect().await?.to_bytes() })
        };
        timeout(LIMIT, asked).await?
    }
}

fn url(address: &str) -> String {
    format!("https://{address}:6443")
}

fn configure(authority: &Path) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}
