//! The webhook's figures: reviews a second and how long each takes, memory, and the time until the first right answer.
//!
//! The daemon is the release binary on a node whose API server is a stand-in with as many service accounts as wanted. The load comes
//! from this process, on the same cores: one HTTP/2 connection with one or 16 streams.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener as Socket},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::stream::{self, Pending};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    client::conn::http2::{SendRequest, handshake},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    Figure, Result, goal, mebibytes,
    real::irsad::{Daemon, Machine, wait_until},
    status_bytes,
};

const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const CERTIFICATE: &str = "/var/lib/irsad/webhook/current.pem";
const MANY: usize = 20_000;
/// Time before a measurement, and its own.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(3);
const STARTS: usize = 5;

type Silence = StreamBody<Pending<std::result::Result<Frame<Bytes>, Infallible>>>;
type Sender = SendRequest<Full<Bytes>>;

/// Every figure of the webhook.
pub fn figures() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (few, many) = (runtime.block_on(ApiServer::start(3))?, runtime.block_on(ApiServer::start(MANY))?);
    let mut figures = Vec::new();

    let node = Node::new(&few)?;
    let daemon = node.daemon()?;
    runtime.block_on(node.first_answer())?;
    figures.push(goal("webhook: resident memory, idle", resident(&daemon)?, "≤ 15 MiB (AWS: 36 MiB)"));
    for (pod, [one, sixteen]) in [(small(), GOALS[0]), (medium(), GOALS[1]), (large(), GOALS[2])] {
        let body = review(&pod);
        for (streams, (name, wanted)) in [(1, one), (16, sixteen)] {
            figures.push(goal(name, runtime.block_on(node.load(&body, streams))?, wanted));
        }
    }
    figures.push(goal("webhook: resident memory, after load", resident(&daemon)?, "AWS: 43 MiB"));
    drop(daemon);

    let node = Node::new(&many)?;
    let mut times = Vec::new();
    let mut memory = String::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let daemon = node.daemon()?;
        runtime.block_on(node.first_answer())?;
        times.push(start.elapsed());
        memory = resident(&daemon)?;
    }
    figures.push(goal("webhook: resident memory, 20,000 service accounts", memory, "≤ 40 MiB (AWS: 74 MiB)"));
    // The first start makes the certificate too.
    figures.push(goal(
        "webhook: start until the first right answer, 20,000 service accounts",
        super::spread(times),
        "≤ 720 ms (AWS)",
    ));
    Ok(figures)
}

/// What the AWS program was measured to do on two such cores, for 1 and 16 streams.
const GOALS: [[(&str, &str); 2]; 3] = [
    [
        ("webhook: 0.7 KB pod, 1 stream", "AWS: 6,070/s, 0.15 and 0.41 ms"),
        ("webhook: 0.7 KB pod, 16 streams", "AWS: 20,950/s, 0.62 and 2.40 ms"),
    ],
    [
        ("webhook: 3.5 KB pod, 1 stream", "AWS: 3,270/s, 0.26 and 1.17 ms"),
        ("webhook: 3.5 KB pod, 16 streams", "AWS: 8,000/s, 1.76 and 4.76 ms"),
    ],
    [
        ("webhook: 55 KB pod, 1 stream", "AWS: 840/s, 1.00 and 2.46 ms"),
        ("webhook: 55 KB pod, 16 streams", "AWS: 1,020/s, 13.2 and 49.8 ms"),
    ],
];

fn resident(daemon: &Daemon) -> Result<String> {
    let (all, own) = (status_bytes(daemon, "VmRSS")?, status_bytes(daemon, "RssAnon")?);
    Ok(format!("{}, of which {} its own", mebibytes(all), mebibytes(own)))
}

/// A node with the quickstart's files whose API server is the stand-in.
struct Node {
    machine: Machine,
    port: u16,
}

impl Node {
    fn new(api: &ApiServer) -> Result<Self> {
        let machine = Machine::quickstart()?;
        let manifest = machine.read(MANIFEST)?;
        let address =
            manifest.lines().find_map(|line| line.split_once("--advertise-address=")).map(|(_, it)| it.trim());
        let address = address.ok_or("the manifest of the quickstart has no advertise address")?.to_owned();
        let manifest = manifest.replace(&address, "127.0.0.1").replace("6443", &api.server.port().to_string());
        machine.write(MANIFEST, &manifest)?;
        machine.write("/etc/kubernetes/admin.conf", &api.kubeconfig)?;
        // Free at this moment; nobody else takes ports on this machine while it is measured.
        let port = Socket::bind("127.0.0.1:0")?.local_addr()?.port();
        let more = format!("webhook: {{ mode: builtIn, port: {port} }}\napiServer: {{ restart: never }}\n");
        machine.write("/etc/irsad/irsad.d/bench.yaml", &more)?;
        Ok(Self { machine, port })
    }

    fn daemon(&self) -> Result<Daemon> {
        self.machine.daemon(&[])
    }

    /// Waits until a pod whose account has a role gets its token.
    async fn first_answer(&self) -> Result {
        let body = review(&small());
        wait_until("the webhook has a certificate", || Ok(self.machine.path(CERTIFICATE).exists()))?;
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Ok(mut sender) = self.connect().await
                && let Ok(true) = ask(&mut sender, &body).await
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err("the webhook gives no right answer within a minute".into())
    }

    async fn connect(&self) -> Result<Sender> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.machine.read(CERTIFICATE)?.as_bytes())?)?;
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("127.0.0.1")?, stream).await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// As many reviews as one connection with so many streams can ask for.
    async fn load(&self, body: &Bytes, streams: usize) -> Result<String> {
        let sender = self.connect().await?;
        let start = Instant::now();
        let tasks: Vec<_> = (0..streams)
            .map(|_| {
                let (mut sender, body) = (sender.clone(), body.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while start.elapsed() < WARM_UP + MEASURED {
                        let asked = Instant::now();
                        if !ask(&mut sender, &body).await? {
                            return Err("a pod was left without a token".into());
                        }
                        if asked.duration_since(start) >= WARM_UP {
                            times.push(asked.elapsed());
                        }
                    }
                    Result::Ok(times)
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await??);
        }
        times.sort();
        let place = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        let rate = times.len() as u64 * 1000 / MEASURED.as_millis() as u64;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        Ok(format!(
            "{rate}/s, {:.2} and {:.2} ms (p50, p99; {:.1} KB)",
            milliseconds(place(50)),
            milliseconds(place(99)),
            body.len() as f64 / 1000.0
        ))
    }
}

/// Whether the pod gets a token.
async fn ask(sender: &mut Sender, body: &Bytes) -> Result<bool> {
    let request =
        Request::post("https://127.0.0.1/mutate?timeout=10s").header(header::CONTENT_TYPE, "application/json");
    let response = sender.send_request(request.body(Full::new(body.clone()))?).await?;
    let is_ok = response.status() == StatusCode::OK;
    let answer = response.into_body().collect().await?.to_bytes();
    Ok(is_ok && answer.windows(9).any(|part| part == b"JSONPatch"))
}

fn small() -> Value {
    pod(0, 1, 1)
}

fn medium() -> Value {
    pod(1, 2, 20)
}

fn large() -> Value {
    pod(2, 10, 98)
}

/// A pod with so many containers of so many variables each.
fn pod(init: usize, containers: usize, variables: usize) -> Value {
    let env: Vec<Value> =
        (0..variables).map(|number| json!({"name": format!("VARIABLE_{number}"), "value": "some value"})).collect();
    let container = |number: usize| {
        json!({
            "name": format!("container-{number}"), "image": "registry.example.com/app:1.2.3", "env": env,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}, "imagePullPolicy": "IfNotPresent",
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "app-7d9c5b8f6d-x2x7k", "namespace": "ns-0", "labels": {"app": "app"}},
        "spec": {
            "serviceAccountName": "sa-0", "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "initContainers": (0..init).map(|number| container(100 + number)).collect::<Vec<_>>(),
            "containers": (0..containers).map(container).collect::<Vec<_>>(),
        },
    })
}

fn review(pod: &Value) -> Bytes {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "namespace": "ns-0", "operation": "CREATE", "object": pod},
    });
    review.to_string().into()
}

/// Stands for kube-apiserver: lists service accounts, tells no change, and knows nothing else.
struct ApiServer {
    server: SocketAddr,
    kubeconfig: String,
}

impl ApiServer {
    async fn start(accounts: usize) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate.der().clone()], private)?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = listener.local_addr()?;
        let pages = Arc::new(pages(accounts));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, pages) = (acceptor.clone(), Arc::clone(&pages));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| answer(request, &pages));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context: {{cluster: c, user: u}}\n\
             clusters:\n- name: c\n  cluster:\n    server: https://{server}\n    certificate-authority-data: {}\n\
             users:\n- name: u\n  user: {{token: bench}}\n",
            BASE64_STANDARD.encode(certificate.pem())
        );
        Ok(Self { server, kubeconfig })
    }
}

/// Pages of 500, as metadata. One account in ten has a role.
fn pages(accounts: usize) -> Vec<Bytes> {
    let numbers: Vec<usize> = (0..accounts).collect();
    let pages = numbers.chunks(500).map(|numbers| numbers.iter().copied().map(account).collect::<Vec<_>>());
    let count = accounts.div_ceil(500);
    pages
        .enumerate()
        .map(|(number, items)| {
            let more = if number + 1 < count { (number + 1).to_string() } else { String::new() };
            let metadata = json!({"resourceVersion": "1000", "continue": more});
            json!({"kind": "PartialObjectMetadataList", "metadata": metadata, "items": items}).to_string().into()
        })
        .collect()
}

fn account(number: usize) -> Value {
    let managed = json!([{
        "manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:eks.amazonaws.com/role-arn": {}}}},
    }]);
    let role = number.is_multiple_of(10).then(|| format!("arn:aws:iam::111122223333:role/team/role-{number}"));
    json!({"metadata": {
        "name": format!("sa-{number}"), "namespace": format!("ns-{}", number / 50), "uid": format!("{number:032}"),
        "resourceVersion": "900", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": managed,
        "annotations": role.map(|role| json!({"eks.amazonaws.com/role-arn": role})),
    }})
}

async fn answer(
    request: Request<Incoming>,
    pages: &[Bytes],
) -> std::result::Result<Response<Either<Full<Bytes>, Silence>>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let continued = query.split('&').find_map(|pair| pair.strip_prefix("continue=")?.parse().ok());
    let mut response = match request.uri().path() {
        "/api/v1/serviceaccounts" if query.starts_with("watch=1") => {
            Response::new(Either::Right(StreamBody::new(stream::pending())))
        }
        "/api/v1/serviceaccounts" => Response::new(Either::Left(Full::from(
            pages.get(continued.unwrap_or(0_usize)).cloned().unwrap_or_default(),
        ))),
        _ => {
            let mut response = Response::new(Either::Left(Full::default()));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}
