use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use hyper::{
    server::conn::{http1 as serve_http1, http2 as serve_http2},
    service::service_fn,
};
use jiff::{SignedDuration, Timestamp};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::webhook::certificate::self_signed;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A server of one connection and its certificate.
struct Server {
    url: String,
    certificate: String,
    /// Version, method, path and content type of what it was asked.
    asked: Arc<Mutex<Vec<String>>>,
    _task: Ended,
}

impl Server {
    async fn start(names: &[&str], protocols: &[&[u8]], status: StatusCode, body: &'static str) -> Outcome<Self> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = self_signed(&names, "test", Timestamp::now(), SignedDuration::from_hours(1))?;
        let certificate = CertificateDer::from_pem_slice(made.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(made.private_key.as_bytes())?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}/mutate", listener.local_addr()?);
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let Ok((stream, _)) = listener.accept().await else { return };
            let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(move |request: Request<Incoming>| {
                let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
                let said = format!(
                    "{:?} {} {} {}",
                    request.version(),
                    request.method(),
                    request.uri().path(),
                    kind.unwrap_or_default()
                );
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
                *response.status_mut() = status;
                async { Ok::<_, Infallible>(response) }
            });
            let stream = TokioIo::new(stream);
            // That the client goes away is no failure of a test.
            if is_http2 {
                drop(serve_http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await);
            } else {
                drop(serve_http1::Builder::new().serve_connection(stream, service).await);
            }
        });
        Ok(Self { url, certificate: made.certificate, asked, _task: Ended(task) })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tokio::test]
async fn webhook_is_called_as_the_api_server_calls_it() -> Outcome {
    for (protocols, version) in
        [(&[b"h2".as_slice(), b"http/1.1"] as &[&[u8]], "HTTP/2.0"), (&[b"http/1.1"], "HTTP/1.1")]
    {
        let server = Server::start(&["127.0.0.1"], protocols, StatusCode::OK, "answer").await?;
        let others = Server::start(&["127.0.0.1"], protocols, StatusCode::OK, "").await?.certificate;
        let bundle = format!("{others}{}", server.certificate);
        assert_eq!(call(&server.url, &bundle, b"{}".to_vec()).await?, b"answer");
        assert_eq!(server.asked(), [format!("{version} POST /mutate application/json")]);
    }
    Ok(())
}

#[tokio::test]
async fn each_way_in_which_a_call_fails_is_told_with_its_cure() -> Outcome {
    let told = |outcome: Result<Vec<u8>, ProbeError>| match outcome {
        Ok(_) => "an answer".to_owned(),
        Err(error) => crate::model::probe::sentence(&error),
    };
    let protocols: &[&[u8]] = &[b"h2"];
    let other = Server::start(&["127.0.0.1"], protocols, StatusCode::OK, "").await?;
    let server = Server::start(&["127.0.0.1"], protocols, StatusCode::OK, "").await?;
    let said = told(call(&server.url, &other.certificate, Vec::new()).await);
    let expected = format!(
        "the certificate at {} is not one that the registered caBundle trusts; the leader adds it once this node has reported it: invalid \
         peer certificate: ",
        server.url
    );
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(server.asked(), [""; 0]);

    let server = Server::start(&["example.com"], protocols, StatusCode::OK, "").await?;
    let said = told(call(&server.url, &server.certificate, Vec::new()).await);
    assert!(said.contains("certificate not valid for name"), "{said}");

    let server = Server::start(&["127.0.0.1"], protocols, StatusCode::SERVICE_UNAVAILABLE, "not\nready").await?;
    let said = told(call(&server.url, &server.certificate, Vec::new()).await);
    assert_eq!(said, format!("{} answered 503 Service Unavailable: not ready", server.url));

    let closed = format!("https://{}/mutate", TcpListener::bind("127.0.0.1:0").await?.local_addr()?);
    let said = told(call(&closed, &server.certificate, Vec::new()).await);
    assert_eq!(said, format!("nothing listens at {closed}; systemctl status irsad"));

    for (url, bundle, expected) in [
        (closed.as_str(), "", "the registered caBundle holds no usable certificate; the leader registers it anew"),
        (
            "http://127.0.0.1:1/",
            "",
            "http://127.0.0.1:1/ is no https:// URL with an address and a port; the leader registers it anew",
        ),
        ("", "", " is no https:// URL with an address and a port; the leader registers it anew"),
    ] {
        assert_eq!(told(call(url, bundle, Vec::new()).await), expected);
    }
    Ok(())
}
