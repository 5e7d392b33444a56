//! A kube-apiserver for tests: TLS on a free port of the loopback address, with answers by script.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, Either, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The bearer token in every kubeconfig of a fake server.
pub(crate) const TOKEN: &str = "test-bearer-token";

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// How many requests for this path there were before.
    pub(crate) earlier: usize,
}

/// What the script answers.
pub(crate) enum Reply {
    Text(u16, String),
    /// Nothing, for ever.
    Silence,
    /// These lines of a watch, and what comes after them.
    Lines(Vec<String>, Then),
}

/// How a watch goes on.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// It ends.
    End,
    /// The connection breaks.
    Break,
    /// Nothing happens any more.
    Silence,
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

pub(crate) struct Fake {
    pub(crate) server: SocketAddr,
    pub(crate) ca_pem: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Serves `script` on `address` with a certificate for `names`.
    pub(crate) async fn start(
        address: &str,
        names: &[&str],
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Outcome<Self> {
        let (acceptor, ca_pem) = tls(names)?;
        let listener = TcpListener::bind((address.parse::<IpAddr>()?, 0)).await?;
        let server = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&seen), Arc::new(script)));
        Ok(Self { server, ca_pem, seen, task })
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A kubeconfig whose server is another one; `more` stands in its cluster.
    pub(crate) fn kubeconfig(&self, more: &str) -> String {
        kubeconfig(
            &format!("certificate-authority-data: {}\n    {more}", BASE64_STANDARD.encode(&self.ca_pem)),
            &format!("token: {TOKEN}"),
        )
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A kubeconfig with these lines in its cluster and its user.
pub(crate) fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: admin\ncontexts:\n- name: admin\n  context: {{cluster: c, user: u}}\n\
         clusters:\n- name: c\n  cluster:\n    server: https://endpoint.invalid:6443\n    {cluster}\nusers:\n- name: u\n  user:\n    {user}\n"
    )
}

/// A certificate authority of its own, as it stands in `certificate-authority-data`.
pub(crate) fn authority() -> Outcome<String> {
    Ok(BASE64_STANDARD.encode(tls(&["127.0.0.1"])?.1))
}

fn tls(names: &[&str]) -> Outcome<(TlsAcceptor, String)> {
    let ca_key = KeyPair::generate()?;
    let mut ca_params = CertificateParams::new(Vec::new())?;
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca_params.self_signed(&ca_key)?.pem();
    let key = KeyPair::generate()?;
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(ca_params, ca_key))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), ca_pem))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&seen), Arc::clone(&script)));
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| answer(request, &seen, &*script));
    // A client that goes away is no failure of a test.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<Seen>>,
    script: &Script,
) -> Result<Response<UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>>, io::Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
    let this = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = seen.iter().filter(|other| other.path == path).count();
        let body = String::from_utf8_lossy(&body).into_owned();
        let this = Seen { method: head.method, path, query, headers: head.headers, body, earlier };
        seen.push(this.clone());
        this
    };
    let (status, body) = match script(&this) {
        Reply::Silence => std::future::pending().await,
        Reply::Text(status, text) => (status, Either::Left(Full::from(text).map_err(|never| match never {}))),
        Reply::Lines(lines, then) => {
            let lines = stream::iter(lines).map(|line| Ok(Frame::data(Bytes::from(line + "\n"))));
            let rest = match then {
                Then::End => stream::empty().boxed(),
                // What was said before is sent first.
                Then::Break => stream::once(async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err(io::Error::other("cut"))
                })
                .boxed(),
                Then::Silence => stream::pending().boxed(),
            };
            (200, Either::Right(StreamBody::new(lines.chain(rest))))
        }
    };
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::IM_A_TEAPOT);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}
