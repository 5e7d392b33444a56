//! The server as its clients meet it, over real TLS.

use std::{error::Error, net::TcpListener as Socket, time::Duration};

use http::HeaderMap;
use http_body_util::Full;
use hyper::client::conn;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream as ClientStream};

use super::*;
use crate::{
    model::pod_identity::{Account, ContainerCredentials, ContainerCredentialsToken, PodIdentity, RoleMap},
    webhook::{
        Mutation,
        accounts::{Accounts, Answer, Asking},
        certificate::{Certificate, Shown},
        socket::Sockets,
    },
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const PREFIX: &str = "eks.amazonaws.com";
const ROLE: &str = "arn:aws:iam::111122223333:role/app";
const JSON_TYPE: &str = "application/json";

fn settings() -> PodIdentity {
    PodIdentity {
        annotation_prefix: PREFIX.to_owned(),
        audience: "sts.amazonaws.com".to_owned(),
        mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
        token_expiration_seconds: 86_400,
        default_region: None,
        regional_sts: false,
        composition: None,
        container_credentials: ContainerCredentialsToken {
            audience: "pods.eks.amazonaws.com".to_owned(),
            mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
            volume_name: "eks-pod-identity-token".to_owned(),
            token_path: "eks-pod-identity-token".to_owned(),
            full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
        },
    }
}

fn account() -> Account {
    Account::read([("eks.amazonaws.com/role-arn", ROLE)], PREFIX)
}

/// A review of a pod of this service account with so many containers.
fn pod_review(service_account: &str, containers: usize) -> String {
    let containers: Vec<Value> =
        (0..containers).map(|number| json!({"name": format!("c{number}"), "image": "app"})).collect();
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "u1", "namespace": "ns", "operation": "CREATE", "object": {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"},
            "spec": {"serviceAccountName": service_account, "containers": containers},
        }},
    })
    .to_string()
}

/// Short limits, so that what is too slow ends soon.
fn impatient() -> Limits {
    let short = Duration::from_millis(200);
    Limits { handshake: short, head: short, body: short, idle: Duration::from_secs(60), ..Limits::default() }
}

/// A running server.
struct Served {
    port: u16,
    certificate: Certificate,
    accounts: Arc<Accounts>,
    stop: flag::Sender<bool>,
    task: JoinHandle<()>,
}

impl Served {
    /// Serves on a port of its own. All accounts are known, `ns/app` with a role; others are asked for by `ask`.
    fn start(limits: Limits, ask: impl Fn() -> Asking + Send + Sync + 'static) -> Outcome<Self> {
        let socket = Socket::bind("127.0.0.1:0")?;
        let certificate = Certificate::make(Timestamp::now())?;
        let served = Self::on(&socket, &Shown::new(&certificate), certificate, limits, ask)?;
        served.fill();
        Ok(served)
    }

    fn plain(limits: Limits) -> Outcome<Self> {
        Self::start(limits, || Box::pin(std::future::ready(Ok(None))))
    }

    /// Serves on a socket that somebody else holds. No account is known yet.
    fn on(
        socket: &Socket,
        shown: &Arc<Shown>,
        certificate: Certificate,
        limits: Limits,
        ask: impl Fn() -> Asking + Send + Sync + 'static,
    ) -> Outcome<Self> {
        let port = socket.local_addr()?.port();
        let listener = Sockets::new(vec![socket.try_clone()?]).listen(port)?;
        let accounts = Accounts::new(Box::new(move |_, _| ask()));
        let mutation = Mutation {
            settings: settings(),
            grace: Duration::from_secs(5),
            fallback: RoleMap::default(),
            credentials: ContainerCredentials::default(),
        };
        let reviewer = Reviewer::new(Arc::clone(&accounts), mutation);
        let (stop, stopped) = flag::channel(false);
        let task = tokio::spawn(serve(listener, shown.server_config(), reviewer, Arc::default(), limits, stopped));
        Ok(Self { port, certificate, accounts, stop, task })
    }

    fn fill(&self) {
        self.accounts.put("ns", "app", account());
        self.accounts.stand();
    }

    async fn client(&self, alpn: &str) -> Outcome<Client> {
        Client::connect(self.port, &self.certificate, alpn, &[&TLS13]).await
    }

    /// Stops the server and waits until it has ended.
    async fn end(self) -> Outcome {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

enum Client {
    Http1(conn::http1::SendRequest<Full<Bytes>>),
    Http2(conn::http2::SendRequest<Full<Bytes>>),
}

#[derive(Debug)]
struct Heard {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Heard {
    fn review(&self) -> Outcome<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Whether the pod gets a token.
    fn is_patched(&self) -> bool {
        self.review().is_ok_and(|review| review["response"]["patch"].is_string())
    }
}

async fn tls(
    port: u16,
    trusted: &Certificate,
    alpn: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Outcome<ClientStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes())?)?;
    let mut config =
        ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.split_whitespace().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("127.0.0.1")?, stream).await?)
}

impl Client {
    async fn connect(
        port: u16,
        trusted: &Certificate,
        alpn: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Outcome<Self> {
        let stream = tls(port, trusted, alpn, versions).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    async fn ask(&mut self, method: &str, target: &str, content_type: &str, body: impl Into<Bytes>) -> Outcome<Heard> {
        let mut request = Request::builder().method(method).header(header::CONTENT_TYPE, content_type);
        let body = Full::new(body.into());
        let response = match self {
            Self::Http1(sender) => {
                request = request.header(header::HOST, "127.0.0.1");
                sender.send_request(request.uri(target).body(body)?).await?
            }
            Self::Http2(sender) => {
                sender.send_request(request.uri(format!("https://127.0.0.1{target}")).body(body)?).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Heard { status: head.status.as_u16(), headers: head.headers, body })
    }

    async fn review(&mut self, body: impl Into<Bytes>) -> Outcome<Heard> {
        self.ask("POST", "/mutate?timeout=10s", JSON_TYPE, body).await
    }
}

#[tokio::test]
async fn pod_is_answered_over_each_version_of_tls_and_http() -> Outcome {
    let served = Served::plain(Limits::default())?;
    for (version, alpn) in
        [(&TLS12, "h2"), (&TLS13, "h2 http/1.1"), (&TLS12, "http/1.1"), (&TLS13, "http/1.1"), (&TLS13, "")]
    {
        let mut client = Client::connect(served.port, &served.certificate, alpn, &[version]).await?;
        assert_eq!(matches!(client, Client::Http2(_)), alpn.contains("h2"), "{alpn}");
        let heard = client.review(pod_review("app", 1)).await?;
        assert!(heard.status == 200 && heard.is_patched(), "{version:?} {alpn}: {heard:?}");
        assert_eq!(heard.headers.get("content-type").map(HeaderValue::as_bytes), Some(&b"application/json"[..]));
        let without_role = client.review(pod_review("other", 1)).await?;
        assert!(
            !without_role.is_patched() && without_role.review()?["response"]["allowed"] == true,
            "{without_role:?}"
        );
    }
    served.end().await
}

#[tokio::test]
async fn only_the_certificate_of_this_node_is_trusted() -> Outcome {
    let served = Served::plain(Limits::default())?;
    let other = Certificate::make(Timestamp::now())?;
    let refused = Client::connect(served.port, &other, "h2", &[&TLS13]).await.err().ok_or("a stranger is trusted")?;
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
    served.end().await
}

#[tokio::test]
async fn tls_1_1_is_refused() -> Outcome {
    let served = Served::plain(Limits::default())?;
    // ClientHello of version 3.2 with one cipher suite (RFC 4346, 7.4.1.2) and one signature algorithm (RFC 5246, 7.4.1.4.1).
    let algorithms = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    let hello: Vec<u8> = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x13], &[1, 0], &algorithms].concat();
    let length = u8::try_from(hello.len())?;
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", served.port)).await?;
    stream.write_all(&record).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    // A fatal alert, protocol_version.
    assert_eq!((answer.first(), answer.get(5..7)), (Some(&21), Some(&[2, 70][..])), "{answer:?}");
    served.end().await
}

#[tokio::test]
async fn request_that_is_no_review_is_told_what_is_wrong_with_it() -> Outcome {
    let served = Served::plain(Limits::default())?;
    let review = pod_review("app", 1);
    for alpn in ["h2", "http/1.1"] {
        let mut client = served.client(alpn).await?;
        for (method, target, content_type, status) in [
            ("GET", "/mutate", JSON_TYPE, 405),
            ("PUT", "/mutate", JSON_TYPE, 405),
            ("POST", "/", JSON_TYPE, 404),
            ("POST", "/mutate/", JSON_TYPE, 404),
            ("POST", "/metrics", JSON_TYPE, 404),
            ("GET", "/healthz", JSON_TYPE, 200),
            ("POST", "/mutate?a=%zz", JSON_TYPE, 400),
            ("POST", "/mutate?a=1;b=2", JSON_TYPE, 400),
            ("POST", "/mutate?a=%20&timeout=3s", JSON_TYPE, 200),
            ("POST", "/mutate", "application/json; charset=utf-8", 415),
            ("POST", "/mutate", "Application/JSON", 415),
            ("POST", "/mutate", "text/plain", 415),
        ] {
            let heard = client.ask(method, target, content_type, review.clone()).await?;
            assert_eq!(heard.status, status, "{alpn} {method} {target} {content_type}: {heard:?}");
        }
    }
    served.end().await
}

#[tokio::test]
async fn body_that_is_no_review_of_a_pod_is_refused_with_the_reason() -> Outcome {
    let served = Served::plain(Limits::default())?;
    let mut client = served.client("h2").await?;
    // Each object of a few bytes would become hundreds in the answer.
    let many = client.review(format!("[{}{{}}]", "{},".repeat(50_000))).await?;
    assert_eq!((many.status, &many.body[..]), (413, &b"the body has more than 40000 objects\n"[..]));
    let deep = format!(r#"{{"request":{}"#, "[".repeat(100_000));
    for body in ["", "pod", "[]", "{}", "\u{0}", r#"{"request":null}"#, r#"{"request":{"uid":"u1"}}"#, &deep] {
        let heard = client.review(body.to_owned()).await?;
        let response = &heard.review()?["response"];
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert!(heard.status == 200 && response["allowed"] == false && !message.is_empty(), "{body:.40}: {heard:?}");
    }
    let heard = client.review(pod_review("app", 1)).await?;
    assert!(heard.is_patched(), "{heard:?}");
    served.end().await
}

#[tokio::test]
async fn body_of_9_mib_is_too_long_and_one_of_10_000_containers_is_answered() -> Outcome {
    let served = Served::plain(Limits::default())?;
    for alpn in ["h2", "http/1.1"] {
        let mut client = served.client(alpn).await?;
        let heard = client.review(vec![b' '; 9 << 20]).await?;
        assert_eq!((heard.status, &heard.body[..]), (413, &b"the body has more than 8388608 bytes\n"[..]), "{alpn}");
        let mut client = served.client(alpn).await?;
        let body = pod_review("app", 10_000);
        assert!(body.len() > 256 << 10, "{} bytes are not large", body.len());
        let heard = client.review(body).await?;
        assert!(heard.status == 200 && heard.is_patched(), "{alpn}: {}", heard.status);
    }
    served.end().await
}

#[tokio::test]
async fn bodies_that_would_take_too_much_memory_together_are_to_be_sent_again() -> Outcome {
    let served = Served::plain(Limits { bodies_bytes: 64 << 10, ..Limits::default() })?;
    let mut client = served.client("h2").await?;
    // The second one is small enough, but its answer is not.
    for body in [" ".repeat(65 << 10), pod_review("app", 400)] {
        let heard = client.review(body).await?;
        assert_eq!((heard.status, heard.headers.get("retry-after").map(HeaderValue::as_bytes)), (503, Some(&b"1"[..])));
    }
    assert!(client.review(pod_review("app", 1)).await?.is_patched());
    served.end().await
}

#[tokio::test]
async fn client_that_takes_its_time_is_not_waited_for() -> Outcome {
    let served = Served::plain(impatient())?;
    let head =
        format!("POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON_TYPE}\r\nContent-Length: 100\r\n");
    for (sent, answer) in [("", ""), ("POST /mutate HT", ""), (&format!("{head}\r\n{{"), "HTTP/1.1 408")] {
        let mut stream = tls(served.port, &served.certificate, "http/1.1", &[&TLS13]).await?;
        stream.write_all(sent.as_bytes()).await?;
        let mut heard = Vec::new();
        // Its end may come without a farewell of TLS.
        let _ = stream.read_to_end(&mut heard).await;
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.starts_with(answer) && (heard.is_empty() == answer.is_empty()), "{sent}: {heard}");
    }
    // One that connects and does not even begin with TLS.
    let mut silent = TcpStream::connect(("127.0.0.1", served.port)).await?;
    assert_eq!(silent.read(&mut [0; 16]).await?, 0);
    assert!(served.client("h2").await?.review(pod_review("app", 1)).await?.is_patched());
    served.end().await
}

#[tokio::test]
async fn plain_http_is_closed_without_harm() -> Outcome {
    let served = Served::plain(Limits::default())?;
    let mut plain = TcpStream::connect(("127.0.0.1", served.port)).await?;
    plain.write_all(b"POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}").await?;
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard).await;
    assert!(!String::from_utf8_lossy(&heard).contains("HTTP"), "{heard:?}");
    assert!(served.client("h2").await?.review(pod_review("app", 1)).await?.is_patched());
    served.end().await
}

#[tokio::test]
async fn idle_connection_is_closed_and_one_over_the_limit_waits_for_its_place() -> Outcome {
    let limits = Limits { connections: 1, idle: Duration::from_millis(300), ..Limits::default() };
    let served = Served::plain(limits)?;
    let mut first = served.client("h2").await?;
    assert!(first.review(pod_review("app", 1)).await?.is_patched());
    // It is served once the first one, which asks nothing more, was closed.
    let mut second = served.client("http/1.1").await?;
    assert!(second.review(pod_review("app", 1)).await?.is_patched());
    assert!(first.review(pod_review("app", 1)).await.is_err());
    served.end().await
}

#[tokio::test]
async fn api_server_is_told_to_ask_again_until_all_accounts_are_known() -> Outcome {
    let socket = Socket::bind("127.0.0.1:0")?;
    let certificate = Certificate::make(Timestamp::now())?;
    let shown = Shown::new(&certificate);
    let served = Served::on(&socket, &shown, certificate, Limits::default(), || Box::pin(std::future::pending()))?;
    let mut client = served.client("h2").await?;
    let heard = client.review(pod_review("app", 1)).await?;
    assert_eq!((heard.status, heard.headers.get("retry-after").map(HeaderValue::as_bytes)), (503, Some(&b"1"[..])));
    served.fill();
    assert!(client.review(pod_review("app", 1)).await?.is_patched());
    served.end().await
}

#[tokio::test]
async fn account_that_is_missing_is_asked_for_and_never_guessed() -> Outcome {
    for (answer, status, is_patched) in [
        (Ok(Some(account())), 200, true),
        // Deleted while it was asked for.
        (Ok(None), 200, false),
        (Err("busy".to_owned()), 500, false),
    ] {
        let script: Answer = answer.clone();
        let served = Served::start(Limits::default(), move || Box::pin(std::future::ready(script.clone())))?;
        let mut client = served.client("h2").await?;
        let heard = client.ask("POST", "/mutate?timeout=1s", JSON_TYPE, pod_review("new", 1)).await?;
        assert_eq!((heard.status, heard.is_patched()), (status, is_patched), "{answer:?}: {heard:?}");
        served.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn role_of_a_moment_ago_holds_where_a_cut_watch_and_a_silent_api_server_leave_nothing_better() -> Outcome {
    let served = Served::start(Limits::default(), || Box::pin(std::future::ready(Err("down".to_owned()))))?;
    served.accounts.put("ns", "none", Account::default());
    served.accounts.cut();
    let mut client = served.client("h2").await?;
    for (name, status, is_patched) in [("app", 200, true), ("none", 500, false)] {
        let heard = client.ask("POST", "/mutate?timeout=1s", JSON_TYPE, pod_review(name, 1)).await?;
        assert_eq!((heard.status, heard.is_patched()), (status, is_patched), "{name}: {heard:?}");
    }
    served.end().await
}

#[tokio::test]
async fn stop_finishes_what_is_under_way() -> Outcome {
    for alpn in ["h2", "http/1.1"] {
        let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (Arc::clone(&asked), Arc::clone(&go));
        let served = Served::start(Limits::default(), move || {
            let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
            Box::pin(async move {
                tell.notify_one();
                wait.notified().await;
                Ok(Some(account()))
            })
        })?;
        let mut client = served.client(alpn).await?;
        let under_way = tokio::spawn(async move { client.review(pod_review("new", 1)).await });
        asked.notified().await;
        // The other side of a stop: what is idle is closed at once and not waited for.
        let _idle = served.client(alpn).await?;
        served.stop.send_replace(true);
        // Nobody listens any more, as the server has the only socket.
        while TcpStream::connect(("127.0.0.1", served.port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        // A server that waits for nothing has ended by then.
        sleep(Duration::from_millis(50)).await;
        assert!(!served.task.is_finished(), "{alpn}");
        go.notify_one();
        let heard = under_way.await??;
        assert!(heard.is_patched(), "{alpn}: {heard:?}");
        served.end().await?;
    }
    Ok(())
}

type Sender = conn::http2::SendRequest<Full<Bytes>>;

/// Asks as the API server does: HTTP/2 on one kept connection, on a new one where the server says goodbye before it has taken the
/// request, and again after a second where it is told to.
async fn as_the_api_server(
    port: u16,
    trusted: &[Certificate],
    kept: &tokio::sync::Mutex<Option<Sender>>,
) -> Outcome<Heard> {
    for _ in 0..10 {
        let mut sender = connected(port, trusted, &mut *kept.lock().await).await?;
        let request = Request::post("https://127.0.0.1/mutate?timeout=10s").header(header::CONTENT_TYPE, JSON_TYPE);
        let response = match sender.try_send_request(request.body(Full::from(pod_review("app", 1)))?).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                // It was not sent: the connection is going away.
                Some(_) => continue,
                None => return Err(error.into_error().into()),
            },
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        let heard = Heard { status: head.status.as_u16(), headers: head.headers, body };
        if heard.status != 503 {
            return Ok(heard);
        }
        sleep(Duration::from_secs(1)).await;
    }
    Err("told to ask again for ever".into())
}

async fn connected(port: u16, trusted: &[Certificate], kept: &mut Option<Sender>) -> Outcome<Sender> {
    if let Some(sender) = kept
        && sender.ready().await.is_ok()
    {
        return Ok(sender.clone());
    }
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(CertificateDer::from_pem_slice(certificate.pem().as_bytes())?)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("127.0.0.1")?, stream).await?;
    let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(kept.insert(sender).clone())
}

/// 200 reviews a second for as long as `during` takes; what was not answered with a token.
async fn under_load(
    port: u16,
    trusted: &[Certificate],
    during: impl Future<Output = Outcome>,
) -> Outcome<(usize, Vec<String>)> {
    let kept = Arc::new(tokio::sync::Mutex::new(None));
    let mut asked = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut during = pin!(during);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let (trusted, kept) = (trusted.to_vec(), Arc::clone(&kept));
                asked.spawn(async move { as_the_api_server(port, &trusted, &kept).await });
            }
            done = &mut during => {
                done?;
                break;
            }
        }
    }
    let (mut answered, mut failed) = (0, Vec::new());
    while let Some(heard) = asked.join_next().await {
        match heard? {
            Ok(heard) if heard.is_patched() => answered += 1,
            Ok(heard) => failed.push(format!("{heard:?}")),
            Err(error) => failed.push(format!("{error:?}")),
        }
    }
    Ok((answered, failed))
}

#[tokio::test]
async fn restart_on_a_socket_that_stays_open_fails_no_review_and_leaves_no_pod_without_a_token() -> Outcome {
    let socket = Socket::bind("127.0.0.1:0")?;
    let certificate = Certificate::make(Timestamp::now())?;
    let shown = Shown::new(&certificate);
    let start =
        || Served::on(&socket, &shown, certificate.clone(), Limits::default(), || Box::pin(std::future::pending()));
    let port = socket.local_addr()?.port();
    let restarts = async {
        // How long the new process needs to list all accounts.
        for list in [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(1200)] {
            let served = start()?;
            sleep(list).await;
            served.fill();
            sleep(Duration::from_millis(300)).await;
            served.end().await?;
            // While no process is there at all.
            sleep(Duration::from_millis(100)).await;
        }
        let last = start()?;
        last.fill();
        std::mem::forget(last.stop);
        Ok(())
    };
    let (answered, failed) = under_load(port, std::slice::from_ref(&certificate), restarts).await?;
    assert!(failed.is_empty() && answered > 100, "{answered} answered, {} not: {:?}", failed.len(), failed.first());
    Ok(())
}

#[tokio::test]
async fn change_of_the_certificate_fails_no_review() -> Outcome {
    let socket = Socket::bind("127.0.0.1:0")?;
    let certificates = [Certificate::make(Timestamp::now())?, Certificate::make(Timestamp::now())?];
    let [old, next] = &certificates;
    let shown = Shown::new(old);
    let served = Served::on(&socket, &shown, next.clone(), Limits::default(), || Box::pin(std::future::pending()))?;
    served.fill();
    let changes = async {
        sleep(Duration::from_millis(200)).await;
        shown.change(next);
        // New connections are shown the new one alone, while the old connection goes on.
        assert!(Client::connect(served.port, old, "h2", &[&TLS13]).await.is_err());
        assert!(served.client("h2").await?.review(pod_review("app", 1)).await?.is_patched());
        sleep(Duration::from_millis(200)).await;
        Ok(())
    };
    let (answered, failed) = under_load(served.port, &certificates, changes).await?;
    assert!(failed.is_empty() && answered > 40, "{answered} answered, {} not: {:?}", failed.len(), failed.first());
    served.end().await
}

#[test]
fn patience_is_half_of_what_the_api_server_says() {
    for (query, whole) in [
        (None, 10),
        (Some("timeout=3s"), 3),
        (Some("a=1&timeout=30s"), 30),
        (Some("timeout=99999999999s"), 30),
        (Some("timeout=0s"), 10),
        (Some("timeout=1m"), 10),
    ] {
        assert_eq!(patience(query) * 2, Duration::from_secs(whole), "{query:?}");
    }
}
