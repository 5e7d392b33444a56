//! HTTP/1.1 on loopback for one page. Any local user can connect, so everything that a client can take its time with has a limit:
//! it knows neither the loop nor the webhook, and what it is asked costs one small text.

use std::{convert::Infallible, net::TcpListener as StdListener, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch as flag},
    time::{sleep, timeout},
};

use super::{Listening, listen};

/// The one page.
const PATH: &str = "/metrics";
/// Longest head, and bytes that wait for a client which does not read.
const BUFFER_BYTES: usize = 16 << 10;
/// Pause before a port that is taken is tried again, and after a connection could not be accepted.
const PAUSE: Duration = Duration::from_secs(5);

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once; more wait in the socket's queue.
    connections: usize,
    /// Life of a connection, which is of one request.
    connection: Duration,
    /// Time for the head of a request.
    head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4, connection: Duration::from_secs(10), head: Duration::from_secs(5) }
    }
}

/// Writes the page for a client with this `Accept`: content type and text.
pub(super) trait Text: Fn(&str) -> (&'static str, String) + Clone {}
impl<T: Fn(&str) -> (&'static str, String) + Clone> Text for T {}

/// Serves at the port that is wanted at the moment until nobody can say another one. `first` is what came of listening there already.
pub(super) async fn keep(
    mut first: Option<Listening>,
    mut ports: flag::Receiver<Option<u16>>,
    problems: flag::Sender<Option<String>>,
    text: impl Text + Send + Sync + 'static,
    limits: Limits,
) {
    let mut said = None;
    loop {
        let wanted = *ports.borrow_and_update();
        let listening = first.take().or_else(|| wanted.map(listen));
        let listening = listening.map(|socket| socket.and_then(registered));
        let problem = listening.as_ref().and_then(|socket| socket.as_ref().err()).cloned();
        if let Some(why) = problem.as_ref().filter(|_| said != problem) {
            tracing::warn!("{why}");
        }
        said.clone_from(&problem);
        problems.send_replace(problem);
        let serve = async {
            match listening {
                Some(Ok(listener)) => serve(listener, text.clone(), limits).await,
                Some(Err(_)) => sleep(PAUSE).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = ports.changed() => if changed.is_err() { return },
            () = serve => {}
        }
    }
}

fn registered(socket: StdListener) -> Result<TcpListener, String> {
    TcpListener::from_std(socket)
        .map_err(|error| format!("nobody can read irsad's metrics; it is tried again: {error}"))
}

/// Answers for ever. What is under way ends with it.
async fn serve(listener: TcpListener, text: impl Text + Send + Sync + 'static, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let text = text.clone();
                connections.spawn(async move {
                    let _place = place;
                    // A client that is slow or goes away has nobody to hear of it.
                    let _ = timeout(limits.connection, connection(stream, text, limits.head)).await;
                });
            }
            Err(error) => {
                tracing::debug!("a connection to the metrics could not be accepted: {error}");
                sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, text: impl Text, head: Duration) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let answer = answer(&request, &text);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(BUFFER_BYTES).keep_alive(false);
    server.serve_connection(TokioIo::new(stream), service).await
}

fn answer(request: &Request<Incoming>, text: &impl Text) -> Response<Full<Bytes>> {
    let plain = |status, sentence: &'static str| page(status, "text/plain; charset=utf-8", sentence.to_owned());
    match (request.uri().path(), request.method()) {
        (PATH, &Method::GET | &Method::HEAD) => {
            let accept = request.headers().get_all(header::ACCEPT).iter();
            let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
            let (content_type, text) = text(&accept.join(","));
            page(StatusCode::OK, content_type, text)
        }
        (PATH, _) => {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are taken here\n");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            refusal
        }
        _ => plain(StatusCode::NOT_FOUND, "there is nothing here but /metrics\n"),
    }
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
