//! A call of the webhook as the API server makes it: HTTPS to its URL, trusting exactly the registered `caBundle`, HTTP/2 where the
//! server has it.
//!
//! The issuer's documents have a client of their own, which trusts the machine's authorities and goes through its proxies: here neither
//! may happen. It does not know what a review is.

use std::{error::Error, io, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use thiserror::Error;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Longest time for all of it: as long as the API server waits.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const LARGEST_ANSWER_BYTES: usize = 1 << 20;
/// Most of a refusal that is passed on, in characters.
const LONGEST_REFUSAL: usize = 200;

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// What is registered is no URL of an HTTPS server at an address with a port.
    #[error("{0} is no https:// URL with an address and a port; the leader registers it anew")]
    Url(String),
    /// The bundle has no certificate.
    #[error("the registered caBundle holds no usable certificate; the leader registers it anew")]
    Bundle,
    /// TLS could not be set up.
    #[error("cannot set up TLS for calling {url}; this build of irsad is broken")]
    Tls {
        /// What was called.
        url: String,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The port is closed.
    #[error("nothing listens at {0}; systemctl status irsad")]
    Down(String),
    /// The server's certificate is not one of the bundle.
    #[error(
        "the certificate at {url} is not one that the registered caBundle trusts; the leader adds it once this node has reported it"
    )]
    Untrusted {
        /// What was called.
        url: String,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// The connection broke.
    #[error("no answer from {url}: the connection failed; systemctl status irsad")]
    Broken {
        /// What was called.
        url: String,
        /// What happened to it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Too slow.
    #[error("no answer from {0} within {LIMIT:?}; systemctl status irsad")]
    TimedOut(String),
    /// Not 200.
    #[error("{url} answered {status}: {said}")]
    Refused {
        /// What was called.
        url: String,
        /// HTTP status.
        status: StatusCode,
        /// What the server said.
        said: String,
    },
}

/// The answer to POST of `review` at `url`, where the server shows a certificate that `bundle` (PEM) trusts.
///
/// # Errors
/// No such server, no such certificate, or no answer with 200; the call is not repeated.
pub async fn call(url: &str, bundle: &str, review: Vec<u8>) -> Result<Vec<u8>, ProbeError> {
    let limited = tokio::time::timeout(LIMIT, send(url, bundle, review)).await;
    limited.unwrap_or_else(|_| Err(ProbeError::TimedOut(url.to_owned())))
}

async fn send(url: &str, bundle: &str, review: Vec<u8>) -> Result<Vec<u8>, ProbeError> {
    let broken = |error: Box<dyn Error + Send + Sync>| ProbeError::Broken { url: url.to_owned(), source: error };
    let (uri, host, port) = parse(url)?;
    let tls = TlsConnector::from(Arc::new(trusting(bundle, url)?));
    let name = ServerName::try_from(host.clone()).map_err(|_| ProbeError::Url(url.to_owned()))?;
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => ProbeError::Down(url.to_owned()),
        _ => broken(error.into()),
    })?;
    let stream = tls.connect(name, stream).await.map_err(|error| handshake_failure(url, error))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::HOST, format!("{host}:{port}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(review)))
        .map_err(|error| broken(error.into()))?;
    let (response, _connection) = exchange(stream, request).await.map_err(|error| broken(error.into()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER_BYTES).collect().await.map_err(broken)?;
    let body = body.to_bytes().to_vec();
    match status {
        StatusCode::OK => Ok(body),
        status => Err(ProbeError::Refused { url: url.to_owned(), status, said: said(&body) }),
    }
}

/// The connection lives as long as the second value.
async fn exchange(
    stream: TlsStream<TcpStream>,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Ended), hyper::Error> {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        let task = Ended(tokio::spawn(async { drop(connection.await) }));
        return Ok((sender.send_request(request).await?, task));
    }
    let (mut sender, connection) = http1::handshake(stream).await?;
    let task = Ended(tokio::spawn(async { drop(connection.await) }));
    let (mut head, body) = request.into_parts();
    // HTTP/1.1 asks for a path (RFC 9112 section 3.2.1).
    head.uri = head.uri.path().parse().unwrap_or(head.uri);
    Ok((sender.send_request(Request::from_parts(head, body)).await?, task))
}

/// A task that ends with this value.
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn parse(url: &str) -> Result<(Uri, String, u16), ProbeError> {
    let no_url = || ProbeError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| no_url())?;
    let host = uri.host().map(|host| host.trim_matches(['[', ']']).to_owned());
    match (uri.scheme_str(), host, uri.port_u16()) {
        (Some("https"), Some(host), Some(port)) => Ok((uri, host, port)),
        _ => Err(no_url()),
    }
}

fn trusting(bundle: &str, url: &str) -> Result<ClientConfig, ProbeError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle.as_bytes()).flatten());
    if added == 0 {
        return Err(ProbeError::Bundle);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| ProbeError::Tls { url: url.to_owned(), source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn handshake_failure(url: &str, error: io::Error) -> ProbeError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(source @ rustls::Error::InvalidCertificate(_)) => {
            ProbeError::Untrusted { url: url.to_owned(), source: source.clone() }
        }
        Some(_) | None => ProbeError::Broken { url: url.to_owned(), source: error.into() },
    }
}

/// The beginning of an answer, as one line.
fn said(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text: String = text.trim().chars().take(LONGEST_REFUSAL).collect();
    if text.is_empty() { "no message".to_owned() } else { text }
}

#[cfg(test)]
mod tests;
