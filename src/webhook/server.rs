//! HTTPS on the webhook's socket: HTTP/2 and HTTP/1.1, with a limit to everything that a client can take its time or its size with.
//!
//! Any local user can connect, so nothing that a client sends may harm another one. It does not know what a review is.

mod activity;

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch as flag},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use activity::{Activity, Busy};

use super::{
    reviewer::{Reply, Reviewer},
    stats::{Outcome, Stats},
};

/// Where reviews are taken.
pub const PATH: &str = "/mutate";
/// What the API server waits for an answer where it does not say (`timeoutSeconds` of a webhook).
const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);
/// Longest `timeoutSeconds` that there can be.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted: the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest head of a request, in bytes.
const LONGEST_HEAD_BYTES: u32 = 16 << 10;
/// Of a body that is too long, so many bytes are still taken and dropped, so that the client hears the answer.
const MOST_DROPPED_BYTES: usize = 64 << 20;
/// Bytes of one answer that wait for a client which does not read, beside what counts as [`Limits::bodies_bytes`].
const LARGEST_BUFFER_BYTES: usize = 64 << 10;
/// So much memory is set aside for a body before its bytes come.
const LONGEST_PROMISE_BYTES: usize = 128 << 10;

/// What a client may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more wait in the socket's queue.
    pub connections: usize,
    /// HTTP/2 streams at once on one connection.
    pub streams: u32,
    /// Longest body, in bytes.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being read, worked on or sent at once.
    pub bodies_bytes: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the head of an HTTP/1.1 request.
    pub head: Duration,
    /// Time for a body.
    pub body: Duration,
    /// A connection without a request for so long is closed. Longer than the 90 s after which Kubernetes' own clients do so.
    pub idle: Duration,
    /// How often an HTTP/2 client is asked whether it is there, and how long it may take to say so.
    pub ping: Duration,
    /// Time for what is under way when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            streams: 128,
            body_bytes: 8 << 20,
            bodies_bytes: 24 << 20,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            ping: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// Answers on `listener` until `stop` is true or its sender is gone, then finishes what is under way. The socket itself stays open
/// where somebody else holds it too, and clients wait there for the next process.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    reviewer: Arc<Reviewer>,
    stats: Arc<Stats>,
    limits: Limits,
    mut stop: flag::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(limits.connections));
    let drain = limits.drain;
    let bodies = Arc::new(Semaphore::new(limits.bodies_bytes));
    let shared = Arc::new(Shared { reviewer, stats, limits, bodies, stop: stop.clone() });
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            io::Result::Ok((stream, place))
        };
        tokio::select! {
            biased;
            () = told(&mut stop) => break,
            accepted = accepted => match accepted {
                Ok((stream, place)) => {
                    connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&shared), place));
                }
                Err(error) => {
                    tracing::debug!("a connection to the webhook could not be accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let ended = timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!("{} connections of the webhook were closed before they were answered", connections.len());
    }
}

/// Waits until the server has to stop.
async fn told(stop: &mut flag::Receiver<bool>) {
    // Without a sender nobody can ever say it.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What all connections have in common.
struct Shared {
    reviewer: Arc<Reviewer>,
    stats: Arc<Stats>,
    limits: Limits,
    /// Bytes of bodies that there is room for.
    bodies: Arc<Semaphore>,
    stop: flag::Receiver<bool>,
}

/// One client, from the handshake on. What it does wrong ends its connection and nothing else.
async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>, _place: OwnedSemaphorePermit) {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    let limit = shared.limits.handshake;
    let stream = match timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("a client of the webhook made no TLS connection: {error}"),
        Err(_) => return tracing::debug!("a client of the webhook made no TLS connection within {limit:?}"),
    };
    let activity = Arc::new(Activity::default());
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => by_http2(stream, shared, activity).await,
        Some(_) | None => by_http1(stream, shared, activity).await,
    }
}

async fn by_http2(stream: TlsStream<TcpStream>, shared: Arc<Shared>, activity: Arc<Activity>) {
    let (for_requests, busy) = (Arc::clone(&shared), Arc::clone(&activity));
    let service = service_fn(move |request| answer(request, Arc::clone(&for_requests), busy.begin()));
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .max_concurrent_streams(shared.limits.streams)
        .max_header_list_size(LONGEST_HEAD_BYTES)
        .max_send_buf_size(LARGEST_BUFFER_BYTES)
        .keep_alive_interval(shared.limits.ping)
        .keep_alive_timeout(shared.limits.ping);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let mut end = pin!(end(&shared, &activity));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = end.as_mut() => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(shared.limits.drain, connection).await;
}

async fn by_http1(stream: TlsStream<TcpStream>, shared: Arc<Shared>, activity: Arc<Activity>) {
    let (for_requests, busy) = (Arc::clone(&shared), Arc::clone(&activity));
    let service = service_fn(move |request| answer(request, Arc::clone(&for_requests), busy.begin()));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(shared.limits.head).max_buf_size(LARGEST_BUFFER_BYTES);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let mut end = pin!(end(&shared, &activity));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = end.as_mut() => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(shared.limits.drain, connection).await;
}

/// Waits until the connection has to be closed: the server stops, or the client has asked nothing for long.
async fn end(shared: &Shared, activity: &Activity) {
    let mut stop = shared.stop.clone();
    let idle = async {
        while let Some(until) = activity.idle_until(shared.limits.idle) {
            sleep_until(until).await;
        }
    };
    tokio::select! {
        () = told(&mut stop) => {}
        () = idle => {}
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>, _busy: Busy) -> Result<Response<Sent>, Infallible> {
    let (head, body) = request.into_parts();
    let begun = Instant::now();
    let reply = match refusal(&head) {
        Some(reply) => reply,
        None => review(&head, body, &shared).await,
    };
    let (reply, room) = match take(&shared.bodies, reply.body.len()) {
        Ok(room) => (reply, Some(room)),
        Err(none_left) => (none_left, None),
    };
    if head.uri.path() == PATH {
        shared.stats.count(reply.outcome, begun.elapsed());
    }
    Ok(response(reply, room))
}

/// The body of an answer, with the room that it takes until the client has it.
struct Sent {
    rest: Option<Bytes>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.rest.take().map(|rest| Ok(Frame::data(rest))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.as_ref().map_or(0, Bytes::len).try_into().unwrap_or(u64::MAX))
    }
}

/// Room for so many bytes, or the answer that there is none.
fn take(bodies: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Reply> {
    let room = u32::try_from(bytes).ok().and_then(|bytes| Arc::clone(bodies).try_acquire_many_owned(bytes).ok());
    room.ok_or_else(|| Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, "too many large reviews at once; ask again"))
}

/// What is answered without looking at a body; `None` for a review.
fn refusal(head: &Parts) -> Option<Reply> {
    let refuse = |status, sentence| Some(Reply::refusal(status, sentence));
    match (head.uri.path(), &head.method) {
        ("/healthz", _) => Some(Reply { status: StatusCode::OK, body: b"ok".to_vec(), outcome: Outcome::Unchanged }),
        (PATH, &Method::POST) if !is_readable(head.uri.query().unwrap_or_default()) => {
            refuse(StatusCode::BAD_REQUEST, "the query of the URL cannot be read")
        }
        (PATH, &Method::POST) if head.headers.get(header::CONTENT_TYPE) == Some(&JSON) => None,
        (PATH, &Method::POST) => refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type is not application/json"),
        (PATH, _) => refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST is taken here"),
        _ => refuse(StatusCode::NOT_FOUND, "there is nothing here but /mutate"),
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Whether every `%` begins an encoded byte and no semicolon separates (Go's `net/url.ParseQuery`).
fn is_readable(query: &str) -> bool {
    let is_byte = |hex: &str| hex.get(..2).is_some_and(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
    !query.contains(';') && query.split('%').skip(1).all(is_byte)
}

/// Half of the time that the API server waits, which it says as `timeout=10s`.
fn patience(query: Option<&str>) -> Duration {
    let said = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("timeout=")?.strip_suffix('s'));
    let seconds = said.and_then(|seconds| seconds.parse().ok()).filter(|seconds| *seconds > 0);
    let whole = seconds.map_or(DEFAULT_PATIENCE, Duration::from_secs).min(LONGEST_PATIENCE);
    // Half of it is left for the way back, and for the API server to ask again.
    whole.checked_div(2).unwrap_or(whole)
}

async fn review(head: &Parts, body: Incoming, shared: &Shared) -> Reply {
    let now = Instant::now();
    let patience = patience(head.uri.query());
    let until = now.checked_add(shared.limits.body).unwrap_or(now);
    match timeout_at(until, read(body, shared)).await {
        Ok(Ok((body, _room))) => shared.reviewer.review(body, patience).await,
        Ok(Err(reply)) => reply,
        Err(_) => {
            let why = format!("the body did not come within {:?}", shared.limits.body);
            Reply::refusal(StatusCode::REQUEST_TIMEOUT, &why)
        }
    }
}

/// The whole body, and the room it takes.
async fn read(mut body: Incoming, shared: &Shared) -> Result<(Bytes, OwnedSemaphorePermit), Reply> {
    let broken = |_| Reply::refusal(StatusCode::BAD_REQUEST, "the body is not complete");
    let most = shared.limits.body_bytes;
    let said = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    if said.is_some_and(|said| said > most) {
        pass_over(body).await;
        return Err(too_long(most));
    }
    // Room is taken as bytes come: a client that says much and sends nothing keeps nobody out.
    let mut room = take(&shared.bodies, 0)?;
    let mut bytes = Vec::with_capacity(said.unwrap_or_default().min(LONGEST_PROMISE_BYTES));
    while let Some(frame) = body.frame().await {
        let Ok(part) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len().saturating_add(part.len()) > most {
            pass_over(body).await;
            return Err(too_long(most));
        }
        room.merge(take(&shared.bodies, part.len())?);
        bytes.extend_from_slice(&part);
    }
    Ok((bytes.into(), room))
}

fn too_long(most: usize) -> Reply {
    Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body has more than {most} bytes"))
}

/// A client that is still sending would not hear the answer.
async fn pass_over(mut body: Incoming) {
    let mut rest = MOST_DROPPED_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(left) = rest.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        rest = left;
    }
}

fn response(reply: Reply, room: Option<OwnedSemaphorePermit>) -> Response<Sent> {
    let Reply { status, body, .. } = reply;
    let is_json = body.first() == Some(&b'{');
    let mut response = Response::new(Sent { rest: Some(body.into()), _room: room });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, if is_json { JSON } else { text });
    match status {
        // With this header Kubernetes' client asks again within the webhook's timeout (k8s.io/client-go `rest/with_retry.go`).
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        _ => {}
    }
    response
}

#[cfg(test)]
mod tests;
