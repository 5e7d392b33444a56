//! Requests of tests themselves: those of an administrator, and those that break a rule.

use std::{error::Error, fmt::Write};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::Cloud;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A signature that nobody checks, for the region and service that it names.
pub fn signed(service: &str) -> (&'static str, String) {
    let scope = format!("test/20260101/eu-west-1/{service}/aws4_request");
    ("authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"))
}

/// Status and body.
pub async fn send<S>(
    stream: S,
    host: &str,
    method: Method,
    target: &str,
    headers: &[(&str, String)],
    body: &str,
) -> (u16, String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(target).header(HOST, host);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    connection.abort();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// What an administrator does in KMS.
pub async fn administer(cloud: &Cloud, operation: &str, body: Value) -> Result<Value> {
    let address = cloud.endpoint_url().replace("http://", "");
    let headers = [signed("kms"), ("x-amz-target", format!("TrentService.{operation}"))];
    let stream = TcpStream::connect(&address).await?;
    let (status, answer) = send(stream, &address, Method::POST, "/", &headers, &body.to_string()).await;
    if status == 200 {
        Ok(serde_json::from_str(&answer)?)
    } else {
        Err(format!("{operation}: {status} {answer}").into())
    }
}

/// ARN of a new KMS key.
pub async fn new_kms_key(cloud: &Cloud) -> Result<String> {
    let made = administer(cloud, "CreateKey", json!({})).await?;
    Ok(made["KeyMetadata"]["Arn"].as_str().ok_or("an ARN")?.to_owned())
}

/// Asks moto itself, past all rules: as somebody with every permission.
pub async fn ask(service: &str, method: Method, target: &str, body: &str) -> Result<String> {
    let address = super::moto_address()?;
    // As irsad's own objects have it: that alone must not tell an edited one.
    let media_type = if service == "s3" { "application/json" } else { "application/x-www-form-urlencoded" };
    let headers = [signed(service), ("content-type", media_type.to_owned())];
    let stream = TcpStream::connect(address).await?;
    let (status, answer) = send(stream, &address.to_string(), method, target, &headers, body).await;
    if status < 300 { Ok(answer) } else { Err(format!("{status} {answer}").into()) }
}

/// Calls a query API with its parameters.
pub async fn call(service: &str, parameters: &[(&str, &str)]) -> Result<String> {
    let mut form = String::new();
    for (name, value) in parameters {
        write!(form, "{name}=")?;
        value.bytes().try_for_each(|byte| write!(form, "%{byte:02X}"))?;
        form.push('&');
    }
    ask(service, Method::POST, "/", form.trim_end_matches('&')).await
}
