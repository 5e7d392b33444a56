//! One request to the API server: limited in time and size, and every way in which it can fail told apart.
//!
//! It does not know what an answer means.

mod stream;

use std::{error::Error, io};

use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::de::DeserializeOwned;
use tracing::{Dispatch, instrument::WithSubscriber};

pub use super::no_answer::{NoAnswer, Said};
use super::{ApiServer, CONNECT_LIMIT, lines::Lines};

/// Largest answer that is kept in memory, in bytes. A JWKS of 100 keys has 60 kB; a Secret of 1 MiB, the largest that there
/// can be, has 1.4 MB as JSON.
const LARGEST_ANSWER_BYTES: usize = 2 << 20;

/// Largest page of a list of whole objects that is kept in memory, in bytes: 500 pods of 60 kB.
const LARGEST_PAGE_BYTES: usize = 32 << 20;

/// Largest answer that is looked through line by line, in bytes. A large cluster's metrics have some 30 MB.
const LARGEST_LISTING_BYTES: usize = 256 << 20;

/// One whole answer of any status.
pub(super) struct Answer {
    url: String,
    pub(super) status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    /// The answer where the status is a success.
    pub(super) fn success(self) -> Result<Self, NoAnswer> {
        let Self { url, status, body } = self;
        if status.is_success() {
            return Ok(Self { url, status, body });
        }
        let source = Said::new(&body);
        Err(match status.as_u16() {
            401 => NoAnswer::Unauthorized { url, source },
            403 => NoAnswer::Forbidden { url, source },
            404 => NoAnswer::NotFound { url },
            409 => NoAnswer::Conflict { url, source },
            status @ (400 | 422) => NoAnswer::Refused { url, status, source },
            410 => NoAnswer::Expired { url },
            status @ (429 | 500..) => NoAnswer::Busy { url, status, source },
            status => NoAnswer::Unexpected { url, status, source },
        })
    }

    /// The body as `T`. The cause is left out of the error: a body may hold a token.
    pub(super) fn json<T: DeserializeOwned>(&self, expected: &'static str) -> Result<T, NoAnswer> {
        serde_json::from_slice(&self.body).map_err(|_| self.garbled(expected))
    }

    pub(super) fn garbled(&self, expected: &'static str) -> NoAnswer {
        NoAnswer::Garbled { url: self.url.clone(), expected }
    }
}

pub(super) const JSON: &str = "application/json";

/// Names and annotations of the objects in a list, without the objects (Kubernetes API concepts, "Fetching metadata").
pub(super) const LIST_OF_METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// One request, complete.
struct Question<'a> {
    method: Method,
    path: &'a str,
    accept: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
}

impl<'a> Question<'a> {
    /// Any media type is taken: `/openid/v1/jwks` answers 406 to `application/json`, which it is not called.
    fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, accept: "*/*", content_type: JSON, body: Vec::new() }
    }

    fn write(method: Method, path: &'a str, content_type: &'static str, json: &serde_json::Value) -> Self {
        Self { method, content_type, body: json.to_string().into_bytes(), ..Self::get(path) }
    }

    fn request(self) -> Result<Request<Body>, http::Error> {
        Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::ACCEPT, self.accept)
            .header(header::CONTENT_TYPE, self.content_type)
            .body(Body::from(self.body))
    }
}

impl ApiServer {
    /// The answer to GET.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.ask(Question::get(path)).await
    }

    /// The answer to GET of a list, with the metadata of its objects only: what the objects hold never leaves the server.
    pub(super) async fn get_metadata(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.ask(Question { accept: LIST_OF_METADATA, ..Question::get(path) }).await
    }

    /// The answer to POST of a JSON object.
    pub(super) async fn post(&self, path: &str, json: &serde_json::Value) -> Result<Answer, NoAnswer> {
        self.ask(Question::write(Method::POST, path, JSON, json)).await
    }

    /// The answer to PUT of a JSON object, whole.
    pub(super) async fn put(&self, path: &str, json: &serde_json::Value) -> Result<Answer, NoAnswer> {
        self.ask(Question::write(Method::PUT, path, JSON, json)).await
    }

    /// The answer to PATCH with a JSON merge patch (RFC 7396).
    pub(super) async fn merge_patch(&self, path: &str, json: &serde_json::Value) -> Result<Answer, NoAnswer> {
        self.ask(Question::write(Method::PATCH, path, "application/merge-patch+json", json)).await
    }

    /// The answer to PATCH by server-side apply; JSON is YAML.
    pub(super) async fn apply_patch(&self, path: &str, json: &serde_json::Value) -> Result<Answer, NoAnswer> {
        self.ask(Question::write(Method::PATCH, path, "application/apply-patch+yaml", json)).await
    }

    /// The answer to DELETE with options.
    pub(super) async fn delete(&self, path: &str, options: &serde_json::Value) -> Result<Answer, NoAnswer> {
        self.ask(Question::write(Method::DELETE, path, JSON, options)).await
    }

    /// The answer to GET of a page of whole objects.
    pub(super) async fn get_long(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.ask_within(Question::get(path), LARGEST_PAGE_BYTES).await
    }

    async fn ask(&self, question: Question<'_>) -> Result<Answer, NoAnswer> {
        self.ask_within(question, LARGEST_ANSWER_BYTES).await
    }

    async fn ask_within(&self, question: Question<'_>, limit_bytes: usize) -> Result<Answer, NoAnswer> {
        let url = self.url(question.path);
        let mut body = Vec::new();
        let status = self.exchange(question, limit_bytes, |_, part| body.extend_from_slice(part)).await?;
        Ok(Answer { url, status, body })
    }

    /// The rest of the first line of a text that begins with `start`, without keeping the text in memory.
    ///
    /// It is read to its end: a connection that is dropped in the middle has to be made again.
    pub(super) async fn find_line(&self, path: &str, start: &str) -> Result<Option<String>, NoAnswer> {
        let mut lines = Lines::beginning_with(start);
        let mut refusal = Vec::new();
        let take = |status: StatusCode, part: &[u8]| {
            if status.is_success() {
                lines.push(part);
            } else if refusal.len() + part.len() <= LARGEST_ANSWER_BYTES {
                refusal.extend_from_slice(part);
            }
        };
        let status = self.exchange(Question::get(path), LARGEST_LISTING_BYTES, take).await?;
        Answer { url: self.url(path), status, body: refusal }.success()?;
        Ok(lines.found())
    }

    /// What is asked, for messages.
    pub(super) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.server)
    }

    /// Asks within the limit of time and hands the status and the body on, part by part.
    async fn exchange(
        &self,
        question: Question<'_>,
        limit_bytes: usize,
        take: impl FnMut(StatusCode, &[u8]),
    ) -> Result<StatusCode, NoAnswer> {
        let (url, limit) = (self.url(question.path), self.answer_limit);
        let answer = self.unlimited_exchange(question, limit_bytes, take);
        // kube logs every refused connection as an error of its own; here a closed port is an observation.
        let quiet = tokio::time::timeout(limit, answer).with_subscriber(Dispatch::none());
        quiet.await.unwrap_or(Err(NoAnswer::TimedOut { url, limit }))
    }

    async fn unlimited_exchange(
        &self,
        question: Question<'_>,
        limit_bytes: usize,
        mut take: impl FnMut(StatusCode, &[u8]),
    ) -> Result<StatusCode, NoAnswer> {
        let url = self.url(question.path);
        let failed = |error: Box<dyn Error + Send + Sync>| failure(url.clone(), error);
        let request = question.request().map_err(|error| failed(error.into()))?;
        let mut response = self.client.send(request).await.map_err(|error| failed(error.into()))?;
        let status = response.status();
        let mut rest = limit_bytes;
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| failed(error.into()))?;
            let Some(part) = frame.data_ref() else { continue };
            rest = rest.checked_sub(part.len()).ok_or_else(|| NoAnswer::TooLong { url: url.clone(), limit_bytes })?;
            take(status, part);
        }
        Ok(status)
    }
}

/// Tells a closed port and a bad certificate from other failures of the connection.
fn failure(url: String, error: Box<dyn Error + Send + Sync>) -> NoAnswer {
    for cause in causes(&*error) {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return tls_failure(url, tls.clone());
        }
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return NoAnswer::Down { url },
            Some(io::ErrorKind::TimedOut) => return NoAnswer::TimedOut { url, limit: CONNECT_LIMIT },
            _ => (),
        }
    }
    // The outer errors of the HTTP client only say that something failed.
    let innermost = causes(&*error).last().map_or_else(String::new, ToString::to_string);
    NoAnswer::Broken { url, source: innermost.into() }
}

/// An error and what caused it. An `io::Error` hides the error that it was made from: its source is that error's source.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(hidden) => Some(hidden),
        None => error.source(),
    })
}

fn tls_failure(url: String, error: rustls::Error) -> NoAnswer {
    match error {
        rustls::Error::InvalidCertificate(_) => NoAnswer::Untrusted { url, source: error.into() },
        _ => NoAnswer::Broken { url, source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::{
        super::fake::{Fake, Outcome, Reply},
        *,
    };

    #[tokio::test]
    async fn failed_request_is_not_logged_below_the_caller() -> Outcome<()> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt().with_writer(move || Log(Arc::clone(&writer))).finish();
        let _guard = tracing::subscriber::set_default(subscriber);

        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], |_| Reply::Text(503, String::new())).await?;
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        for server in [fake.server, nobody] {
            let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", server.port())?;
            assert!(api.get("/readyz").await.and_then(Answer::success).is_err());
        }
        tracing::info!("the caller's own line");
        let text = String::from_utf8(log.lock().unwrap_or_else(PoisonError::into_inner).clone())?;
        assert_eq!(text.lines().count(), 1, "{text}");
        Ok(())
    }

    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(part);
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
