//! A published document as a stranger sees it: anonymous HTTPS, the machine's own trust roots and proxy, nothing else.
//!
//! Nothing here knows what a document means, or where it was put.

use std::{error::Error, io, sync::Arc, time::Duration};

use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::{
        legacy::{
            Client,
            connect::{Connect, HttpConnector, proxy::Tunnel},
        },
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioExecutor,
};
use jiff::{Timestamp, fmt::rfc2822};
use rustls::{CertificateError, ClientConfig, RootCertStore, crypto};
use thiserror::Error;

use super::LARGEST_OBJECT_BYTES;
use crate::model::probe::Probe;

/// Longest time for one document: name, connection, TLS, proxy and all bytes.
const LIMIT: Duration = Duration::from_secs(10);

/// A document as an outsider gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicDocument {
    /// Bytes as served.
    pub body: Vec<u8>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The server's clock, to be compared with ours: `Date` (RFC 9110 section 6.6.1), and the time that a cache has kept the answer since.
    pub date: Option<Timestamp>,
    /// How long a cache has kept it (`Age`, RFC 9111 section 5.1); `None` where the answer says nothing of one.
    pub age: Option<Duration>,
}

/// Who answers for a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedBy {
    /// The bucket itself: no cache of anybody's is wanted between.
    Store,
    /// A web server or CloudFront before it. What its cache gives is what verifiers get, so that is what is asked for.
    Front,
}

/// Fetches documents as anybody on the internet can: no credentials, no redirects.
#[derive(Debug)]
pub struct PublicClient {
    tls: ClientConfig,
    proxies: Matcher,
    limit: Duration,
}

/// Why there is no client.
#[derive(Debug, Error)]
pub enum PublicClientError {
    /// TLS could not be set up.
    #[error("cannot set up TLS for looking at the public documents; this build of irsad is broken")]
    Tls(#[from] rustls::Error),
    /// No certificate authority is trusted.
    #[error(
        "cannot read this machine's trusted certificates; install the package ca-certificates or point SSL_CERT_FILE at a file"
    )]
    Roots(#[source] io::Error),
}

impl PublicClient {
    /// With the machine's trust roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` come first) and with `HTTPS_PROXY` and `NO_PROXY`,
    /// all as they are now.
    ///
    /// # Errors
    /// No trust roots.
    pub fn from_environment() -> Result<Self, PublicClientError> {
        let tls = tls_builder()?.with_native_roots().map_err(PublicClientError::Roots)?.with_no_client_auth();
        Ok(Self { tls, proxies: Matcher::from_env(), limit: LIMIT })
    }

    /// With these trust roots and proxies, whatever the environment says.
    ///
    /// # Errors
    /// TLS could not be set up.
    pub fn new(roots: RootCertStore, proxies: Matcher) -> Result<Self, PublicClientError> {
        let tls = tls_builder()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls, proxies, limit: LIMIT })
    }

    /// The document at `url`, which must be `https://`.
    ///
    /// Absent is 404 or 410 only. S3 answers 403 both for an object that is private and, to strangers that may not list the
    /// bucket, for one that is not there: that is Unknown, with a text that says so. Unknown, too, are redirects, more than
    /// [`LARGEST_OBJECT_BYTES`], every other status, and no answer within 10 s.
    pub async fn get(&self, url: &str, served_by: ServedBy) -> Probe<PublicDocument> {
        let answer = tokio::time::timeout(self.limit, self.fetch(url, served_by)).await;
        answer.unwrap_or_else(|_| {
            let limit = self.limit.as_secs();
            Probe::Unknown(format!("cannot fetch {url}: no full answer within {limit} s; check network, proxy and DNS"))
        })
    }

    async fn fetch(&self, url: &str, served_by: ServedBy) -> Probe<PublicDocument> {
        let uri = match url.parse::<Uri>() {
            Ok(uri) if uri.scheme_str() == Some("https") && uri.host().is_some() => uri,
            _ => return Probe::Unknown(format!("cannot fetch {url}: it is no https:// URL; correct the issuer")),
        };
        match self.proxies.intercept(&uri) {
            None => send(self.tls(tcp()), url, uri, "", served_by).await,
            Some(proxy) => {
                let through = format!(" through proxy {}", proxy.uri().authority().map_or("?", |a| a.as_str()));
                if !matches!(proxy.uri().scheme_str(), Some("http" | "https")) {
                    return Probe::Unknown(format!(
                        "cannot fetch {url}{through}: only http:// and https:// proxies are known"
                    ));
                }
                send(self.tls(self.tunnel(&proxy)), url, uri, &through, served_by).await
            }
        }
    }

    fn tls<C>(&self, below: C) -> HttpsConnector<C> {
        HttpsConnectorBuilder::new().with_tls_config(self.tls.clone()).https_only().enable_http1().wrap_connector(below)
    }

    fn tunnel(&self, proxy: &Intercept) -> Tunnel<HttpsConnector<HttpConnector>> {
        let to_proxy = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone()).https_or_http().enable_http1();
        let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy.wrap_connector(tcp()));
        match proxy.basic_auth() {
            Some(auth) => tunnel.with_auth(auth.clone()),
            None => tunnel,
        }
    }
}

fn tls_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    // TLS 1.2 and 1.3.
    ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp
}

async fn send<C>(connector: C, url: &str, uri: Uri, through: &str, served_by: ServedBy) -> Probe<PublicDocument>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let mut request = Request::new(Empty::<&'static [u8]>::new());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(concat!("irsad/", env!("CARGO_PKG_VERSION"))));
    if served_by == ServedBy::Store {
        // A copy in between would tell us what was true a while ago (RFC 9111 section 5.2.1.4).
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache"));
    }
    // One connection for each look, as a stranger has; none is kept open between two passes.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return Probe::Unknown(format!("cannot fetch {url}{through}: {}", reason(&error))),
    };
    let (head, body) = response.into_parts();
    if let Some(refusal) = refusal(head.status, &head.headers, url, served_by) {
        return refusal;
    }
    let limit_bytes = usize::try_from(LARGEST_OBJECT_BYTES).unwrap_or(usize::MAX);
    match Limited::new(body, limit_bytes).collect().await {
        Ok(body) => {
            let age = age(&head.headers);
            let date = text(&head.headers, header::DATE)
                .and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
            Probe::Present(PublicDocument {
                body: body.to_bytes().to_vec(),
                content_type: text(&head.headers, header::CONTENT_TYPE),
                // A cache hands on the date of the answer that it keeps (RFC 9111 section 4.2.3).
                date: date.and_then(|date| date.checked_add(age.unwrap_or_default()).ok()),
                age,
            })
        }
        Err(error) if error.is::<LengthLimitError>() => Probe::Unknown(format!(
            "cannot fetch {url}: it has more than {LARGEST_OBJECT_BYTES} bytes; that is not our document"
        )),
        Err(error) => {
            Probe::Unknown(format!("cannot fetch {url}{through}: the answer breaks off: {}", reason(&*error)))
        }
    }
}

/// What a status other than 200 says of the document; `None` for 200.
fn refusal(status: StatusCode, headers: &HeaderMap, url: &str, served_by: ServedBy) -> Option<Probe<PublicDocument>> {
    let why = match status {
        StatusCode::OK => return None,
        StatusCode::NOT_FOUND | StatusCode::GONE => return Some(Probe::Absent),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED if served_by == ServedBy::Front => format!(
            "{url} is refused ({status}); what serves the URL may not read the document, or it is not there: let it read the store \
             (CloudFront: origin access control, and a bucket policy for the distribution alone), which stays closed to everybody else"
        ),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => format!(
            "{url} is not public or not there ({status}); check the bucket policy, its public access block and that of the \
             account, or what serves the URL"
        ),
        status if status.is_redirection() => format!(
            "{url} redirects to {} ({status}), and verifiers do not follow; let the issuer URL itself serve the document",
            text(headers, header::LOCATION).unwrap_or_else(|| "another place".to_owned())
        ),
        status => format!("cannot fetch {url}: the server answers {status}; look at what serves the URL"),
    };
    Some(Probe::Unknown(why))
}

fn age(headers: &HeaderMap) -> Option<Duration> {
    text(headers, header::AGE)?.parse().ok().map(Duration::from_secs)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The cause that a person can do something about, and what.
fn reason(error: &(dyn Error + 'static)) -> String {
    let causes = causes(error);
    for cause in &causes {
        if let Some(rustls::Error::InvalidCertificate(error)) = cause.downcast_ref() {
            return certificate_reason(error);
        }
    }
    let innermost = causes.last().map_or_else(String::new, ToString::to_string);
    // These two errors have no type outside their crate.
    for cause in &causes {
        match cause.to_string().as_str() {
            "dns error" => {
                return format!("its host name is not found ({innermost}); check DNS, and the issuer for a mistake");
            }
            "tunnel error: proxy authorization required" => {
                return "the proxy wants a name and password; write them into HTTPS_PROXY".to_owned();
            }
            "tunnel error: unsuccessful" => {
                return "the proxy refuses to connect; allow this host there, or name it in NO_PROXY".to_owned();
            }
            _ => (),
        }
    }
    format!("{innermost}; check network, proxy and what serves the URL")
}

fn certificate_reason(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "its certificate is not from an authority that this machine trusts; \
            check what serves the URL, or add the authority to ca-certificates or SSL_CERT_FILE"
            .to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew it, or set this machine's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; set this machine's clock".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host name; check what serves the URL".to_owned()
        }
        other => format!("its certificate is refused ({other}); check what serves the URL"),
    }
}

/// `error` and all that caused it. What an [`io::Error`] wraps is not its source, so that is looked at as well.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    causes
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        net::SocketAddr,
        process::Command,
        sync::{Arc, Mutex},
    };

    use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };
    use tempfile::TempDir;
    use tokio::{
        io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional},
        net::{TcpListener, TcpStream},
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const DOCUMENT: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
        Date: Sat, 21 Nov 2026 04:01:23 GMT\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}";

    /// A certificate authority of the test's own.
    struct Authority {
        certificate: Certificate,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            Self { certificate: params.self_signed(&key).expect("a certificate"), issuer: Issuer::new(params, key) }
        }

        fn roots(&self) -> RootCertStore {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).expect("a root");
            roots
        }

        /// TLS of a server for `names`, valid from the first year's to the last year's beginning.
        fn server(&self, names: &[&str], years: (i32, i32)) -> TlsAcceptor {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).expect("parameters");
            params.not_before = date_time_ymd(years.0, 1, 1);
            params.not_after = date_time_ymd(years.1, 1, 1);
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let config = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("protocol versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key);
            TlsAcceptor::from(Arc::new(config.expect("a server")))
        }
    }

    /// Heads of the requests that a server or proxy has seen.
    type Seen = Arc<Mutex<Vec<String>>>;

    /// A server that answers every request with `answer` and closes, or with nothing at all if that is empty.
    async fn serve(tls: TlsAcceptor, answer: impl Into<Vec<u8>>) -> (SocketAddr, Seen) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Seen::default();
        let (log, answer) = (seen.clone(), answer.into());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let head = read_head(&mut stream).await;
                log.lock().expect("not poisoned").push(head);
                if answer.is_empty() {
                    // Read on, so that the connection stays open until the client gives up.
                    let _ = stream.read(&mut [0]).await;
                }
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        (address, seen)
    }

    /// A proxy that leads every CONNECT to `target`, or answers with `refusal`.
    async fn proxy(target: SocketAddr, refusal: Option<&'static str>) -> (SocketAddr, Seen) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Seen::default();
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = read_head(&mut stream).await;
                log.lock().expect("not poisoned").push(head);
                let answer = refusal.unwrap_or("HTTP/1.1 200 OK\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
                if refusal.is_none() {
                    let mut server = TcpStream::connect(target).await.expect("the server");
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                }
            }
        });
        (address, seen)
    }

    async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    fn heads(seen: &Seen) -> Vec<String> {
        seen.lock().expect("not poisoned").clone()
    }

    fn direct(authority: &Authority) -> PublicClient {
        PublicClient::new(authority.roots(), Matcher::builder().build()).expect("a client")
    }

    fn through(authority: &Authority, proxy: &str, no: &str) -> PublicClient {
        let proxies = Matcher::builder().https(proxy.to_owned()).no(no.to_owned()).build();
        PublicClient::new(authority.roots(), proxies).expect("a client")
    }

    async fn get_answer(answer: impl Into<Vec<u8>>) -> (String, Probe<PublicDocument>) {
        let authority = Authority::new("test");
        let (address, _) = serve(authority.server(&["localhost"], (2000, 3000)), answer).await;
        let url = format!("https://localhost:{}/openid/v1/jwks", address.port());
        let found = direct(&authority).get(&url, ServedBy::Store).await;
        (url, found)
    }

    fn document() -> Probe<PublicDocument> {
        Probe::Present(PublicDocument {
            body: b"{\"keys\":[]}".to_vec(),
            content_type: Some("application/json".to_owned()),
            date: Some("2026-11-21T04:01:23Z".parse().expect("a time")),
            age: None,
        })
    }

    #[tokio::test]
    async fn document_comes_with_its_type_and_the_servers_clock_and_is_asked_for_as_by_anybody() {
        let authority = Authority::new("test");
        let (address, seen) = serve(authority.server(&["localhost"], (2000, 3000)), DOCUMENT).await;
        let url = format!("https://localhost:{}/a/openid/v1/jwks", address.port());
        assert_eq!(direct(&authority).get(&url, ServedBy::Store).await, document());
        let version = env!("CARGO_PKG_VERSION");
        let asked = format!(
            "GET /a/openid/v1/jwks HTTP/1.1\r\nuser-agent: irsad/{version}\r\ncache-control: no-cache\r\n\
             host: localhost:{}\r\n\r\n",
            address.port()
        );
        assert_eq!(heads(&seen), [asked]);
    }

    #[tokio::test]
    async fn cache_before_the_store_is_believed_and_its_copy_has_an_age_and_the_servers_clock_of_now() {
        let authority = Authority::new("test");
        let answer = DOCUMENT.replace("Content-Length", "Age: 60\r\nContent-Length");
        let (address, seen) = serve(authority.server(&["localhost"], (2000, 3000)), answer).await;
        let url = format!("https://localhost:{}/jwks", address.port());
        let found = direct(&authority).get(&url, ServedBy::Front).await;
        let clock_and_age = found.present().map(|found| (found.date.map(|date| date.to_string()), found.age));
        let minute = Duration::from_secs(60);
        assert_eq!(clock_and_age, Some((Some("2026-11-21T04:02:23Z".to_owned()), Some(minute))));
        assert!(!heads(&seen).concat().contains("cache-control"), "what verifiers get is asked for");
    }

    #[tokio::test]
    async fn refusal_of_a_front_is_its_own_and_the_bucket_stays_closed() {
        let authority = Authority::new("test");
        let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        let (address, _) = serve(authority.server(&["localhost"], (2000, 3000)), answer).await;
        let url = format!("https://localhost:{}/jwks", address.port());
        let why = format!(
            "{url} is refused (403 Forbidden); what serves the URL may not read the document, or it is not there: let it read the store \
             (CloudFront: origin access control, and a bucket policy for the distribution alone), which stays closed to everybody else"
        );
        assert_eq!(direct(&authority).get(&url, ServedBy::Front).await, Probe::Unknown(why));
    }

    #[tokio::test]
    async fn only_404_and_410_mean_that_a_document_is_not_there() {
        for status in ["404 Not Found", "410 Gone"] {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\ngone");
            assert_eq!(get_answer(answer).await.1, Probe::Absent, "{status}");
        }
    }

    #[tokio::test]
    async fn every_other_answer_is_unknown_and_says_what_to_look_at() {
        let private = "is not public or not there (403 Forbidden); check the bucket policy, its public access block and that \
                       of the account, or what serves the URL";
        for (answer, why) in [
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", format!("<url> {private}")),
            (
                "HTTP/1.1 301 Moved Permanently\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
                "<url> redirects to https://elsewhere/ (301 Moved Permanently), and verifiers do not follow; let the issuer URL \
                 itself serve the document"
                    .to_owned(),
            ),
            (
                "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
                "cannot fetch <url>: the server answers 503 Service Unavailable; look at what serves the URL".to_owned(),
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                "cannot fetch <url>: the server answers 204 No Content; look at what serves the URL".to_owned(),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"keys\"",
                "cannot fetch <url>: the answer breaks off: end of file before message length reached; check network, proxy and \
                 what serves the URL"
                    .to_owned(),
            ),
        ] {
            let (url, found) = get_answer(answer).await;
            assert_eq!(found, Probe::Unknown(why.replace("<url>", &url)));
        }
    }

    #[tokio::test]
    async fn body_without_a_length_is_cut_off_at_the_limit() {
        let large = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 2 << 20]].concat();
        let (url, found) = get_answer(large).await;
        let why = format!("cannot fetch {url}: it has more than 1048576 bytes; that is not our document");
        assert_eq!(found, Probe::Unknown(why));
    }

    #[tokio::test]
    async fn server_that_never_answers_is_given_up() {
        let authority = Authority::new("test");
        let (address, _) = serve(authority.server(&["localhost"], (2000, 3000)), "").await;
        let client = PublicClient { limit: Duration::from_millis(50), ..direct(&authority) };
        let url = format!("https://localhost:{}/", address.port());
        let why = format!("cannot fetch {url}: no full answer within 0 s; check network, proxy and DNS");
        assert_eq!(client.get(&url, ServedBy::Store).await, Probe::Unknown(why));
    }

    #[tokio::test]
    async fn certificate_that_a_stranger_would_refuse_is_refused_with_the_cure() {
        let authority = Authority::new("test");
        for (name, years, by_us, why) in [
            (
                "localhost",
                (2000, 3000),
                false,
                "its certificate is not from an authority that this machine trusts; check what serves the URL, or add the \
                 authority to ca-certificates or SSL_CERT_FILE",
            ),
            ("localhost", (2000, 2001), true, "its certificate has expired; renew it, or set this machine's clock"),
            ("localhost", (2999, 3000), true, "its certificate is not valid yet; set this machine's clock"),
            (
                "oidc.example.com",
                (2000, 3000),
                true,
                "its certificate is for another host name; check what serves the URL",
            ),
        ] {
            let (address, seen) = serve(authority.server(&[name], years), DOCUMENT).await;
            let url = format!("https://localhost:{}/", address.port());
            let other;
            let trusted = if by_us {
                &authority
            } else {
                other = Authority::new("other");
                &other
            };
            assert_eq!(
                direct(trusted).get(&url, ServedBy::Store).await,
                Probe::Unknown(format!("cannot fetch {url}: {why}"))
            );
            assert_eq!(heads(&seen), [""; 0], "asked in spite of it");
        }
    }

    #[tokio::test]
    async fn place_that_cannot_be_reached_is_unknown_with_the_reason() {
        let client = direct(&Authority::new("test"));
        let closed = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a port");
        let refused = format!("https://{closed}/");
        for (url, beginning, end) in [
            (refused.as_str(), "Connection refused (os error 111)", "; check network, proxy and what serves the URL"),
            ("http://localhost/", "it is no https:// URL; correct the issuer", ""),
            ("localhost", "it is no https:// URL; correct the issuer", ""),
        ] {
            let Probe::Unknown(why) = client.get(url, ServedBy::Store).await else { panic!("{url} is not unknown") };
            assert!(why.starts_with(&format!("cannot fetch {url}: {beginning}")) && why.ends_with(end), "{why}");
        }
    }

    #[test]
    fn host_name_that_is_not_found_is_called_that() {
        #[derive(Debug, Error)]
        #[error("dns error")]
        struct Dns(#[source] io::Error);
        let error = io::Error::other(Dns(io::Error::other("Name or service not known")));
        assert_eq!(
            reason(&error),
            "its host name is not found (Name or service not known); check DNS, and the issuer for a mistake"
        );
    }

    #[tokio::test]
    async fn proxy_is_used_except_for_hosts_that_need_none() {
        let authority = Authority::new("test");
        let (server, _) = serve(authority.server(&["oidc.example.com", "localhost"], (2000, 3000)), DOCUMENT).await;
        let (proxy, seen) = proxy(server, None).await;
        let client = through(&authority, &format!("http://me:secret@{proxy}"), "localhost,.internal");
        assert_eq!(client.get("https://oidc.example.com/jwks", ServedBy::Store).await, document());
        let asked = "CONNECT oidc.example.com:443 HTTP/1.1\r\nHost: oidc.example.com:443\r\n\
                     Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n";
        assert_eq!(heads(&seen), [asked]);
        assert_eq!(client.get(&format!("https://localhost:{}/jwks", server.port()), ServedBy::Store).await, document());
        assert_eq!(heads(&seen).len(), 1, "a host of NO_PROXY went through the proxy");
    }

    #[tokio::test]
    async fn proxy_that_refuses_is_named() {
        let authority = Authority::new("test");
        let nobody: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let (wants_password, _) = proxy(nobody, Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")).await;
        let (refuses, _) = proxy(nobody, Some("HTTP/1.1 403 Forbidden\r\n\r\n")).await;
        for (proxy, why) in [
            (
                format!("http://{wants_password}"),
                format!("proxy {wants_password}: the proxy wants a name and password; write them into HTTPS_PROXY"),
            ),
            (
                format!("http://{refuses}"),
                format!("proxy {refuses}: the proxy refuses to connect; allow this host there, or name it in NO_PROXY"),
            ),
            (
                "socks5://127.0.0.1:1".to_owned(),
                "proxy 127.0.0.1:1: only http:// and https:// proxies are known".to_owned(),
            ),
        ] {
            let found = through(&authority, &proxy, "").get("https://oidc.example.com/", ServedBy::Store).await;
            assert_eq!(found, Probe::Unknown(format!("cannot fetch https://oidc.example.com/ through {why}")));
        }
    }

    #[tokio::test]
    #[ignore = "runs as a child of trust_roots_and_proxy_come_from_the_environment"]
    async fn gets_with_the_environment() {
        let client = PublicClient::from_environment().expect("a client");
        assert_eq!(client.get("https://oidc.example.com/jwks", ServedBy::Store).await, document());
    }

    /// In a process of its own: environment variables belong to a whole process.
    #[tokio::test]
    async fn trust_roots_and_proxy_come_from_the_environment() {
        let authority = Authority::new("test");
        let folder = TempDir::new().expect("a folder");
        let roots = folder.path().join("ca.pem");
        fs::write(&roots, authority.certificate.pem()).expect("a file");
        let (server, _) = serve(authority.server(&["oidc.example.com"], (2000, 3000)), DOCUMENT).await;
        let (proxy, seen) = proxy(server, None).await;
        let mut child = Command::new(env::current_exe().expect("this program"));
        child.args(["--ignored", "--exact", "store::public::tests::gets_with_the_environment"]).env_clear();
        child.env("SSL_CERT_FILE", &roots).env("HTTPS_PROXY", format!("http://{proxy}"));
        let output = tokio::task::spawn_blocking(move || child.output()).await.expect("not panicked").expect("a child");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(heads(&seen).len(), 1);
    }
}
