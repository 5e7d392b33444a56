//! What a request asks for: the API operation and what it works on.

use std::collections::BTreeMap;

use hyper::{
    HeaderMap, Method, Uri,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName},
    http::uri::PathAndQuery,
};
use serde_json::Value;

/// A request, read to its end, with the bucket in its path.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub service: Service,
    /// Name in the API reference.
    pub operation: String,
    /// Region that the signature is for; none without a signature.
    pub region: Option<String>,
    pub bucket: String,
    pub key: String,
    /// Parameters of IAM and STS.
    pub form: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    S3,
    IamOrSts,
    Kms,
    Metadata,
}

impl Asked {
    /// `host` is the name that the client asked for, where it came through the proxy.
    pub fn new(host: Option<&str>, method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Self {
        let target = path_style(host, uri);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (region, scope) = signed_for(&headers).unzip();
        let form = if is_form(&headers) { parse_form(&String::from_utf8_lossy(&body)) } else { BTreeMap::new() };
        let service = match scope.as_deref() {
            Some("iam" | "sts") => Service::IamOrSts,
            Some("kms") => Service::Kms,
            None if form.contains_key("Action") => Service::IamOrSts,
            None if path.starts_with("/latest/") => Service::Metadata,
            Some(_) | None => Service::S3,
        };
        let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let operation = match service {
            Service::IamOrSts => form.get("Action").cloned().unwrap_or_default(),
            Service::Kms => kms_operation(&headers),
            Service::Metadata => "InstanceMetadata".to_owned(),
            Service::S3 => s3_operation(&method, region.is_some(), key, query),
        };
        let (bucket, key) = (bucket.to_owned(), decode(key));
        Self { method, headers, body, service, operation, region, bucket, key, form, target }
    }

    pub fn is_signed(&self) -> bool {
        self.region.is_some()
    }

    /// The same request as the bucket's owner sends it.
    pub fn signed(&self) -> Self {
        let mut headers = self.headers.clone();
        let scope = "test/20260101/us-east-1/s3/aws4_request";
        let value = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        headers.insert(AUTHORIZATION, value.parse().expect("a header value"));
        Self { headers, ..self.clone() }
    }

    /// The same client asks KMS for something else.
    pub fn of_kms(&self, operation: &str, body: &Value) -> Self {
        let mut headers = self.headers.clone();
        headers.insert("x-amz-target", format!("TrentService.{operation}").parse().expect("a header value"));
        Self { headers, body: body.to_string().into(), operation: operation.to_owned(), ..self.clone() }
    }

    /// The body of a request to KMS.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name.parse::<HeaderName>().expect("a header name")).and_then(|value| value.to_str().ok())
    }

    pub fn parameter(&self, name: &str) -> &str {
        self.form.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// `BUCKET.s3.REGION.SUFFIX` names the bucket in the host; moto takes it from the path.
fn path_style(host: Option<&str>, uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    match host.and_then(|host| host.split_once(".s3.")) {
        Some((bucket, _)) => format!("/{bucket}{target}"),
        None => target.to_owned(),
    }
}

/// Region and service of the credential scope (AWS Signature Version 4).
fn signed_for(headers: &HeaderMap) -> Option<(String, String)> {
    let scope = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once("Credential=")?.1;
    let mut parts = scope.split([',', '/']).skip(2).map(str::to_owned);
    Some((parts.next()?, parts.next()?))
}

/// `X-Amz-Target: TrentService.Decrypt` (AWS JSON 1.1).
fn kms_operation(headers: &HeaderMap) -> String {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    target.strip_prefix("TrentService.").unwrap_or_default().to_owned()
}

fn s3_operation(method: &Method, signed: bool, key: &str, query: &str) -> String {
    let has = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
    let name = match (method.as_str(), key.is_empty()) {
        (verb, _) if !signed => return format!("Anonymous{}{}", &verb[..1], verb[1..].to_ascii_lowercase()),
        ("HEAD", true) => "HeadBucket",
        ("GET", true) if has("policy") => "GetBucketPolicy",
        ("GET", true) if has("versioning") => "GetBucketVersioning",
        ("GET", true) if has("publicAccessBlock") => "GetPublicAccessBlock",
        ("GET", true) if has("location") => "GetBucketLocation",
        ("GET", true) => "ListObjectsV2",
        ("PUT", true) if has("policy") => "PutBucketPolicy",
        ("PUT", true) if has("versioning") => "PutBucketVersioning",
        ("PUT", true) if has("publicAccessBlock") => "PutPublicAccessBlock",
        ("PUT", true) if query.is_empty() || query == "x-id=CreateBucket" => "CreateBucket",
        ("DELETE", true) if query.is_empty() => "DeleteBucket",
        ("HEAD", false) => "HeadObject",
        ("GET", false) => "GetObject",
        ("PUT", false) => "PutObject",
        ("DELETE", false) => "DeleteObject",
        (verb, _) => return format!("{verb} {query}"),
    };
    name.to_owned()
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.starts_with("application/x-www-form-urlencoded")
}

fn parse_form(text: &str) -> BTreeMap<String, String> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(&value.replace('+', " ")))
    };
    text.split('&').map(pair).collect()
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        let hex = (first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
