//! The proxy itself: HTTP, CONNECT with TLS, and the way to moto.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Frame, Incoming},
    header::{AGE, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderValue},
    rt::{Read, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::{
    INSTANCE_REGION, Shared, denials,
    fault::Fault,
    front::{self, Front},
    kms,
    request::{Asked, Service},
    rules::{self, Refusal},
};

/// Where an issuer's discovery document stands (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = ".well-known/openid-configuration";

type Answer = Response<BoxBody<Bytes, Infallible>>;
type Moto = Client<HttpConnector, Full<Bytes>>;

/// A free port of the loopback interface.
pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("a listener for tokio");
    let address = listener.local_addr().expect("a bound listener");
    (listener, address)
}

/// Serves until `stopped` resolves, then drops every connection.
pub fn run(listener: TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let moto: Moto = Client::builder(TokioExecutor::new()).build_http();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(TokioIo::new(stream), None, Arc::clone(&shared), moto.clone()));
            }
        };
        tokio::select! {
            () = accept => (),
            _ = stopped => (),
        }
    });
}

/// One connection; `host` is what a CONNECT asked for.
async fn serve<S>(stream: S, host: Option<String>, shared: Arc<Shared>, moto: Moto)
where
    S: Read + Write + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (host, shared, moto) = (host.clone(), Arc::clone(&shared), moto.clone());
        async move {
            if request.method() == Method::CONNECT {
                Ok(tunnel(request, shared, moto))
            } else {
                answer(request, host.as_deref(), &shared, &moto).await
            }
        }
    });
    // Clients that go away and faults that cut the connection are what tests are made of.
    drop(http1::Builder::new().serve_connection(stream, service).with_upgrades().await);
}

/// Plays the host that is asked for.
fn tunnel(request: Request<Incoming>, shared: Arc<Shared>, moto: Moto) -> Answer {
    let host = request.uri().host().unwrap_or_default().to_owned();
    if !is_played(&host, &shared) || shared.is_cut() {
        return with_body(Response::builder().status(502), Bytes::new());
    }
    tokio::spawn(async move {
        let Ok(stream) = hyper::upgrade::on(request).await else { return };
        let acceptor = TlsAcceptor::from(shared.authority.server(&host));
        if let Ok(stream) = acceptor.accept(TokioIo::new(stream)).await {
            // A future that names its own type must be boxed.
            let served: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(serve(TokioIo::new(stream), Some(host), shared, moto));
            served.await;
        }
    });
    with_body(Response::builder().status(200), Bytes::new())
}

fn is_played(host: &str, shared: &Shared) -> bool {
    let of_aws =
        host.contains(".s3.") || ["s3.", "iam.", "sts.", "kms."].iter().any(|service| host.starts_with(service));
    let state = shared.state();
    of_aws || state.folders.contains_key(host) || state.fronts.contains_key(host)
}

/// # Errors
/// Cuts the connection.
async fn answer(
    request: Request<Incoming>,
    host: Option<&str>,
    shared: &Shared,
    moto: &Moto,
) -> Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if shared.is_cut() && host.is_some() {
        return Err(io::Error::other("cut off by script"));
    }
    let folder = host.and_then(|host| shared.state().folders.get(host).cloned());
    if let Some(folder) = folder {
        shared.count("FolderGet");
        return Ok(file(&folder, head.uri.path()));
    }
    let front = host.and_then(|host| Some((host, shared.state().fronts.get(host).cloned()?)));
    if let Some((host, front)) = front {
        shared.count("FrontGet");
        return through_front(&head, host, &front, shared, moto).await;
    }
    let asked = Asked::new(host, head.method, &head.uri, head.headers, body);
    match take_fault(shared, &asked.operation) {
        None => pass(&asked, shared, moto).await,
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            pass(&asked, shared, moto).await
        }
        Some(Fault::AnswerLost) => {
            pass(&asked, shared, moto).await?;
            Err(io::Error::other("answer lost by script"))
        }
        Some(Fault::Refused(status, code, message)) => Ok(refuse(&asked, status, &code, &message, None)),
        Some(Fault::ClockOff) => {
            let message = "The difference between the request time and the server's time is too large.";
            let mut answer = refuse(&asked, 403, "RequestTimeTooSkewed", message, None);
            answer.headers_mut().insert(DATE, HeaderValue::from_static("Fri, 01 Jan 2100 00:00:00 GMT"));
            Ok(answer)
        }
        Some(Fault::Redirected { status, region }) => {
            let code = if status == 301 { "PermanentRedirect" } else { "TemporaryRedirect" };
            let message = "Please re-send this request to the specified endpoint.";
            Ok(refuse(&asked, status, code, message, region))
        }
        Some(Fault::Garbage) => Ok(with_body(Response::builder().status(200), "<html>\u{0}</p>".into())),
        Some(Fault::Large(size)) => {
            let builder = Response::builder().status(200).header("etag", "\"0\"");
            // Without a length: the reader has to count.
            Ok(builder.body(pieces(vec![b'x'; size])).expect("an answer"))
        }
        Some(Fault::Damaged) => damage(pass(&asked, shared, moto).await?).await,
        Some(Fault::Truncated) => truncate(pass(&asked, shared, moto).await?).await,
    }
}

/// Counts the request, and takes the first fault that waits for it.
fn take_fault(shared: &Shared, operation: &str) -> Option<Fault> {
    shared.count(operation);
    let mut state = shared.state();
    let (_, fault, times) = state.faults.iter_mut().find(|(waits, _, times)| waits == operation && *times > 0)?;
    *times -= 1;
    Some(fault.clone())
}

/// Checks what moto does not, lets it answer, and puts right what it answers otherwise than AWS.
async fn pass(asked: &Asked, shared: &Shared, moto: &Moto) -> Result<Answer, io::Error> {
    let checked = match asked.service {
        Service::Metadata => return Ok(metadata(asked)),
        Service::S3 => rules::check_s3(shared, asked),
        Service::IamOrSts => rules::check_iam(shared, asked),
        Service::Kms => return ask_kms(asked, shared, moto).await,
    };
    if let Err(Refusal { status, code, message, region }) = checked {
        return Ok(refuse(asked, status, code, &message, region));
    }
    if asked.operation == "AnonymousGet" && asked.key.ends_with(DISCOVERY) {
        return read_discovery(asked, shared, moto).await;
    }
    if asked.operation == "AddClientIDToOpenIDConnectProvider" {
        return add_audience(asked, shared, moto).await;
    }
    let for_moto = (asked.operation == "PutBucketPolicy")
        .then(|| (asked.method.clone(), asked.target.clone(), denials::without_denials(&asked.body).into()));
    let (head, body) = forward(shared, moto, asked, for_moto).await?;
    if head.status.is_success() {
        if asked.service == Service::S3 {
            rules::note_s3(shared, asked);
        }
        if asked.operation == "CreateBucket" {
            block_new_bucket(shared, moto, asked).await?;
            tag_new_bucket(shared, moto, asked).await?;
        }
    } else if head.status == 404 && !asked.is_signed() {
        // Nobody but the owner may list, so S3 does not say what is not there.
        return Ok(refuse(asked, 403, "AccessDenied", "Access Denied", None));
    }
    let body = match asked.operation.as_str() {
        "GetOpenIDConnectProvider" => with_audiences(shared, asked, &body),
        "GetBucketPolicy" if head.status.is_success() => {
            shared.state().buckets.get(&asked.bucket).and_then(|it| it.policy.clone()).map_or(body, Bytes::from)
        }
        // moto names the answer's element after the call.
        "GetBucketVersioning" => String::from_utf8_lossy(&body)
            .replace("GetBucketVersioningResponse", "VersioningConfiguration")
            .into_bytes()
            .into(),
        _ => body,
    };
    let mut builder = Response::builder().status(head.status);
    for (name, value) in &head.headers {
        let recomputed = name == CONNECTION || (name == CONTENT_LENGTH && asked.method != Method::HEAD);
        if !recomputed {
            builder = builder.header(name, value);
        }
    }
    Ok(with_body(builder, body))
}

/// KMS as moto plays it, with the refusals that moto does not know.
async fn ask_kms(asked: &Asked, shared: &Shared, moto: &Moto) -> Result<Answer, io::Error> {
    if kms::is_cryptographic(asked) {
        kms::check(shared, asked);
        let (_, described) = forward(shared, moto, &kms::describe(asked), None).await?;
        if let Err(Refusal { status, code, message, .. }) = kms::check_state(&described) {
            return Ok(refuse(asked, status, code, &message, None));
        }
    }
    let (head, body) = forward(shared, moto, asked, None).await?;
    if kms::is_of_another_key(asked, &body) {
        let Refusal { status, code, message, .. } = kms::other_key();
        return Ok(refuse(asked, status, code, &message, None));
    }
    Ok(with_body(Response::builder().status(head.status).header(CONTENT_TYPE, "application/x-amz-json-1.1"), body))
}

/// moto's answer to the request, or to `other` with the same signature (which moto does not check).
async fn forward(
    shared: &Shared,
    moto: &Moto,
    asked: &Asked,
    other: Option<(Method, String, Bytes)>,
) -> Result<(hyper::http::response::Parts, Bytes), io::Error> {
    let (method, target, body) =
        other.unwrap_or_else(|| (asked.method.clone(), asked.target.clone(), asked.body.clone()));
    let mut request = Request::builder().method(method).uri(format!("http://{}{target}", shared.moto));
    for (name, value) in asked.headers.iter().filter(|(name, _)| *name != HOST && *name != CONTENT_LENGTH) {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body)).map_err(io::Error::other)?;
    let (head, body) = moto.request(request).await.map_err(io::Error::other)?.into_parts();
    Ok((head, body.collect().await.map_err(io::Error::other)?.to_bytes()))
}

/// What moto answers a stranger at this path is Cognito's. So it is asked as the owner, after a look at the bucket policy and the ACL.
async fn read_discovery(asked: &Asked, shared: &Shared, moto: &Moto) -> Result<Answer, io::Error> {
    let owner = asked.signed();
    let policy = (Method::GET, format!("/{}?policy", asked.bucket), Bytes::new());
    let (_, policy) = forward(shared, moto, &owner, Some(policy)).await?;
    let acl = (Method::GET, format!("/{}/{}?acl", asked.bucket, asked.key), Bytes::new());
    let (_, acl) = forward(shared, moto, &owner, Some(acl)).await?;
    let (head, body) = forward(shared, moto, &owner, None).await?;
    let is_open =
        rules::lets_anyone_read(&policy, &asked.bucket, &asked.key) || rules::acl_lets_anyone_read(shared, asked, &acl);
    if !is_open || head.status == 404 {
        return Ok(refuse(asked, 403, "AccessDenied", "Access Denied", None));
    }
    let media_type = head.headers.get(CONTENT_TYPE).cloned();
    let builder = Response::builder().status(head.status);
    Ok(with_body(media_type.into_iter().fold(builder, |builder, it| builder.header(CONTENT_TYPE, it)), body))
}

/// S3 blocks all public access to a new bucket; moto blocks nothing.
async fn block_new_bucket(shared: &Shared, moto: &Moto, asked: &Asked) -> Result<(), io::Error> {
    let flags = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    let flags: String = flags.map(|flag| format!("<{flag}>true</{flag}>")).concat();
    let body = format!("<PublicAccessBlockConfiguration>{flags}</PublicAccessBlockConfiguration>");
    let target = format!("/{}?publicAccessBlock", asked.bucket);
    forward(shared, moto, asked, Some((Method::PUT, target, body.into()))).await.map(drop)
}

/// moto passes over the tags of a new bucket.
async fn tag_new_bucket(shared: &Shared, moto: &Moto, asked: &Asked) -> Result<(), io::Error> {
    let Some(tags) = rules::tags(asked) else { return Ok(()) };
    let body = format!("<Tagging><TagSet>{tags}</TagSet></Tagging>");
    forward(shared, moto, asked, Some((Method::PUT, format!("/{}?tagging", asked.bucket), body.into()))).await.map(drop)
}

/// moto has no `AddClientIDToOpenIDConnectProvider`: the audience is kept here and shown with the provider.
async fn add_audience(asked: &Asked, shared: &Shared, moto: &Moto) -> Result<Answer, io::Error> {
    let arn = asked.parameter("OpenIDConnectProviderArn").to_owned();
    let escaped = arn.replace(':', "%3A").replace('/', "%2F");
    let form = format!("Action=GetOpenIDConnectProvider&Version=2010-05-08&OpenIDConnectProviderArn={escaped}");
    let (head, body) = forward(shared, moto, asked, Some((Method::POST, "/".to_owned(), form.into()))).await?;
    if !head.status.is_success() {
        return Ok(with_body(Response::builder().status(head.status).header(CONTENT_TYPE, "text/xml"), body));
    }
    let (audience, mut state) = (asked.parameter("ClientID").to_owned(), shared.state());
    let known = state.audiences.entry(arn).or_default();
    if !known.contains(&audience) && !String::from_utf8_lossy(&body).contains(&format!("<member>{audience}</member>")) {
        known.push(audience);
    }
    let done = "<AddClientIDToOpenIDConnectProviderResponse><ResponseMetadata><RequestId>TEST</RequestId></ResponseMetadata></AddClientIDToOpenIDConnectProviderResponse>";
    Ok(with_body(Response::builder().status(200).header(CONTENT_TYPE, "text/xml"), done.into()))
}

fn with_audiences(shared: &Shared, asked: &Asked, body: &Bytes) -> Bytes {
    let state = shared.state();
    let added = state.audiences.get(asked.parameter("OpenIDConnectProviderArn")).into_iter().flatten();
    let members: String = added.map(|audience| format!("<member>{audience}</member>")).collect();
    let text = String::from_utf8_lossy(body);
    text.replacen("</ClientIDList>", &format!("{members}</ClientIDList>"), 1).into()
}

/// The instance metadata service, version 2, of an instance with a role.
fn metadata(asked: &Asked) -> Answer {
    let credentials = r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIATEST","SecretAccessKey":"test",
        "Token":"test","Expiration":"2099-01-01T00:00:00Z","LastUpdated":"2026-01-01T00:00:00Z"}"#;
    let token = asked.header("x-aws-ec2-metadata-token").is_some();
    let body = match (asked.method.as_str(), asked.target.trim_end_matches('/')) {
        ("PUT", "/latest/api/token") => "token",
        ("GET", _) if !token => return with_body(Response::builder().status(401), Bytes::new()),
        ("GET", "/latest/meta-data/placement/region") => INSTANCE_REGION,
        (
            "GET",
            "/latest/meta-data/iam/security-credentials" | "/latest/meta-data/iam/security-credentials-extended",
        ) => "control-plane",
        ("GET", path) if path.ends_with("/control-plane") => credentials,
        _ => return with_body(Response::builder().status(404), Bytes::new()),
    };
    with_body(Response::builder().status(200).header("x-aws-ec2-metadata-token-ttl-seconds", "21600"), body.into())
}

/// What stands before a bucket reads it with the owner's permission, and says how old a copy is (RFC 9111 section 5.1).
async fn through_front(
    head: &hyper::http::request::Parts,
    host: &str,
    front: &Front,
    shared: &Shared,
    moto: &Moto,
) -> Result<Answer, io::Error> {
    let path = head.uri.path();
    let builder = Response::builder().status(200).header(CONTENT_TYPE, "application/json");
    if let Some(copy) = front.copies.get(path).filter(|_| front.keeps) {
        return Ok(with_body(builder.header(AGE, front::AGE_SECONDS), copy.clone().into()));
    }
    let uri = format!("/{}{path}", front.bucket).parse().map_err(io::Error::other)?;
    let owner = Asked::new(None, Method::GET, &uri, head.headers.clone(), Bytes::new()).signed();
    let (found, body) = forward(shared, moto, &owner, None).await?;
    if !found.status.is_success() {
        // Who may not list the bucket is not told what is missing.
        return Ok(with_body(Response::builder().status(403), Bytes::new()));
    }
    if let Some(front) = shared.state().fronts.get_mut(host) {
        front.copies.insert(path.to_owned(), body.to_vec());
    }
    Ok(with_body(builder, body))
}

/// A file below `folder`, as a web server of an operator's own gives it.
fn file(folder: &Path, path: &str) -> Answer {
    match std::fs::read(folder.join(path.trim_start_matches('/'))) {
        Ok(bytes) => with_body(Response::builder().status(200).header(CONTENT_TYPE, "application/json"), bytes.into()),
        Err(_) => with_body(Response::builder().status(404), Bytes::new()),
    }
}

/// A refusal in the words of the service.
fn refuse(asked: &Asked, status: u16, code: &str, message: &str, region: Option<String>) -> Answer {
    if asked.service == Service::Kms {
        let builder = Response::builder().status(status).header(CONTENT_TYPE, "application/x-amz-json-1.1");
        return with_body(builder, kms::error(code, message).into());
    }
    let message = message.replace('<', "&lt;");
    let error = format!("<Code>{code}</Code><Message>{message}</Message>");
    let body = match asked.service {
        _ if asked.method == Method::HEAD => String::new(),
        Service::S3 => format!("<Error>{error}<RequestId>TEST</RequestId></Error>"),
        Service::IamOrSts | Service::Kms | Service::Metadata => {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>TEST</RequestId></ErrorResponse>"
            )
        }
    };
    let mut builder = Response::builder().status(status).header(CONTENT_TYPE, "application/xml");
    if (300..400).contains(&status) {
        builder = builder.header("location", "http://127.0.0.1:1/never-followed");
    }
    if let Some(region) = region {
        builder = builder.header("x-amz-bucket-region", region);
    }
    with_body(builder, body.into())
}

/// The same answer, ended half-way.
async fn truncate(answer: Answer) -> Result<Answer, io::Error> {
    let (head, body) = answer.into_parts();
    let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut builder = Response::builder().status(head.status).header(CONTENT_LENGTH, bytes.len());
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        builder = builder.header(name, value);
    }
    builder.body(pieces(bytes[..bytes.len() / 2].to_vec())).map_err(io::Error::other)
}

/// The same answer with its first byte changed.
async fn damage(answer: Answer) -> Result<Answer, io::Error> {
    let (head, body) = answer.into_parts();
    let mut bytes = body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
    if let Some(first) = bytes.first_mut() {
        *first = first.wrapping_add(1);
    }
    Ok(Response::from_parts(head, BoxBody::new(Full::new(bytes.into()))))
}

fn with_body(builder: hyper::http::response::Builder, body: Bytes) -> Answer {
    builder.body(BoxBody::new(Full::new(body))).expect("an answer")
}

/// A body of unknown length. It stops for a moment before it ends, so that what there is of it is sent.
fn pieces(bytes: Vec<u8>) -> BoxBody<Bytes, Infallible> {
    let parts: Vec<_> = bytes.chunks(64 << 10).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect();
    let pause = stream::once(async {
        tokio::task::yield_now().await;
        Ok(Frame::data(Bytes::new()))
    });
    BoxBody::new(StreamBody::new(stream::iter(parts).chain(pause)))
}
