//! What AWS checks and moto does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, Weak},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{ACCOUNT, Shared, State, denials, fault, request::Asked};

/// Stands in the first line of every private key in PEM.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";

/// What the proxy knows of a bucket.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    pub foreign: bool,
    /// Known from its creation.
    pub region: Option<String>,
    pub blocks_public_policy: bool,
    pub restricts_public_buckets: bool,
    /// Its policy as it was put.
    pub policy: Option<String>,
    /// Content-Type and Cache-Control of the last object that was put.
    pub last_served: (Option<String>, Option<String>),
    /// Keys that were put through the proxy: an object of before has lost its ACL then, and moto keeps it.
    pub written: BTreeSet<String>,
}

impl Bucket {
    /// It did not come through the proxy: made before April 2023, it heeds ACLs.
    fn is_old(&self) -> bool {
        self.region.is_none()
    }
}

/// A refusal: status, code, message, and the bucket's region where that is the reason.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    pub region: Option<String>,
}

fn refusal(status: u16, code: &'static str, message: &str) -> Refusal {
    Refusal { status, code, message: message.to_owned(), region: None }
}

/// Checks a request to S3 before moto sees it.
pub fn check_s3(shared: &Shared, asked: &Asked) -> Result<(), Refusal> {
    let bucket = shared.state().buckets.get(&asked.bucket).cloned().unwrap_or_default();
    if !asked.is_signed() {
        return check_anonymous(shared, asked, &bucket);
    }
    check_alone(shared, asked);
    if asked.operation == "CreateBucket" {
        return check_create(asked, &bucket);
    }
    check_owner(shared, asked, &bucket)?;
    if bucket.region.is_some() && bucket.region != asked.region {
        let message = "The bucket you are attempting to access must be addressed using the specified endpoint.";
        return Err(Refusal { region: bucket.region, ..refusal(301, "PermanentRedirect", message) });
    }
    if bucket.policy.as_ref().is_some_and(|policy| denials::denies(policy, asked)) {
        let message = "User is not authorized to perform this action with an explicit deny in a resource-based policy";
        return Err(refusal(403, "AccessDenied", message));
    }
    match asked.operation.as_str() {
        "PutObject" => check_put(shared, asked),
        "PutBucketPolicy" => check_policy(asked, &bucket),
        _ => Ok(()),
    }
}

/// Of a bucket that two clouds share each knows one half, and tests of both fail by chance.
fn check_alone(shared: &Shared, asked: &Asked) {
    static USERS: LazyLock<Mutex<BTreeMap<String, Weak<Mutex<State>>>>> = LazyLock::new(Mutex::default);
    let mut users = USERS.lock().expect("no test thread panics while it looks");
    let user = users.entry(asked.bucket.clone()).or_insert_with(|| Arc::downgrade(&shared.state));
    if !user.ptr_eq(&Arc::downgrade(&shared.state)) {
        shared.state().violations.push(format!("{} in {}, a bucket of another test", asked.operation, asked.bucket));
    }
}

fn check_anonymous(shared: &Shared, asked: &Asked, bucket: &Bucket) -> Result<(), Refusal> {
    let reads = matches!(asked.operation.as_str(), "AnonymousGet" | "AnonymousHead") && !asked.key.is_empty();
    if !reads {
        shared.state().violations.push(format!("{} of {:?} without credentials", asked.method, asked.target));
    }
    let is_open = |policy: &String| lets_anyone_read(policy.as_bytes(), &asked.bucket, &asked.key);
    let lost_its_acl = bucket.is_old() && bucket.written.contains(&asked.key);
    let is_closed = bucket.restricts_public_buckets || (lost_its_acl && !bucket.policy.as_ref().is_some_and(is_open));
    // Else whether the policy allows the object is for moto to say.
    if reads && !is_closed { Ok(()) } else { Err(refusal(403, "AccessDenied", "Access Denied")) }
}

fn check_create(asked: &Asked, bucket: &Bucket) -> Result<(), Refusal> {
    if bucket.foreign {
        return Err(refusal(409, "BucketAlreadyExists", "The requested bucket name is not available."));
    }
    let (region, constraint) = (asked.region.as_deref().unwrap_or_default(), constraint(asked));
    match constraint.as_deref() {
        Some("us-east-1") => {
            Err(refusal(400, "InvalidLocationConstraint", "The specified location-constraint is not valid"))
        }
        None if region == "us-east-1" => Ok(()),
        Some(constraint) if constraint == region => Ok(()),
        Some(_) | None => Err(refusal(
            400,
            "IllegalLocationConstraintException",
            "The location constraint is incompatible for the region specific endpoint this request was sent to.",
        )),
    }
}

/// `LocationConstraint` of a CreateBucket.
fn constraint(asked: &Asked) -> Option<String> {
    element(&String::from_utf8_lossy(&asked.body), "LocationConstraint")
}

/// The tags of a CreateBucket, as XML.
pub fn tags(asked: &Asked) -> Option<String> {
    let body = String::from_utf8_lossy(&asked.body);
    let (_, rest) = body.split_once("<Tags>")?;
    rest.split_once("</Tags>").map(|(tags, _)| tags.to_owned())
}

fn check_owner(shared: &Shared, asked: &Asked, bucket: &Bucket) -> Result<(), Refusal> {
    let expected = asked.header("x-amz-expected-bucket-owner");
    if expected.is_none() {
        shared
            .state()
            .violations
            .push(format!("{} of {:?} without expected bucket owner", asked.operation, asked.target));
    }
    if bucket.foreign || expected != Some(ACCOUNT) {
        Err(refusal(403, "AccessDenied", "Access Denied"))
    } else {
        Ok(())
    }
}

fn check_put(shared: &Shared, asked: &Asked) -> Result<(), Refusal> {
    if asked.header("if-match").is_none() && asked.header("if-none-match").is_none() {
        shared.state().violations.push(format!("PutObject of {:?} without a condition", asked.target));
    }
    if asked.body.windows(PRIVATE_KEY.len()).any(|part| part == PRIVATE_KEY) {
        shared
            .state()
            .violations
            .push(format!("PutObject of {:?} with a private key that is not sealed", asked.target));
    }
    let checksum = STANDARD.encode(Sha256::digest(&asked.body));
    match asked.header("x-amz-checksum-sha256") {
        Some(sent) if sent == checksum => Ok(()),
        Some(_) => Err(refusal(400, "BadDigest", "The SHA256 you specified did not match the calculated checksum.")),
        None => {
            shared.state().violations.push(format!("PutObject of {:?} without a SHA-256 checksum", asked.target));
            Ok(())
        }
    }
}

fn check_policy(asked: &Asked, bucket: &Bucket) -> Result<(), Refusal> {
    // moto takes any text and then fails on every request to the bucket.
    let Ok(policy) = serde_json::from_slice::<Value>(&asked.body) else {
        return Err(refusal(400, "MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'"));
    };
    if bucket.blocks_public_policy && is_public(&policy) {
        return Err(refusal(403, "AccessDenied", &fault::blocked(&asked.bucket)));
    }
    Ok(())
}

fn is_public(policy: &Value) -> bool {
    public_statements(policy).next().is_some()
}

fn public_statements(policy: &Value) -> impl Iterator<Item = &Value> {
    let anyone = |principal: &Value| principal == "*" || has(&principal["AWS"], "*");
    let statements = policy["Statement"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    statements.filter(move |statement| statement["Effect"] == "Allow" && anyone(&statement["Principal"]))
}

/// Whether a policy allows the world exactly this object, without any wildcard.
pub fn lets_anyone_read(policy: &[u8], bucket: &str, key: &str) -> bool {
    let policy: Value = serde_json::from_slice(policy).unwrap_or_default();
    let object = format!("arn:aws:s3:::{bucket}/{key}");
    public_statements(&policy).any(|it| has(&it["Action"], "s3:GetObject") && has(&it["Resource"], &object))
}

/// Whether an object's own ACL opens it, as it did in buckets made before April 2023.
pub fn acl_lets_anyone_read(shared: &Shared, asked: &Asked, acl: &[u8]) -> bool {
    let bucket = shared.state().buckets.get(&asked.bucket).cloned().unwrap_or_default();
    bucket.is_old()
        && !bucket.written.contains(&asked.key)
        && String::from_utf8_lossy(acl).contains("http://acs.amazonaws.com/groups/global/AllUsers")
}

/// One text, or a list with it.
fn has(value: &Value, text: &str) -> bool {
    value == text || value.as_array().is_some_and(|list| list.contains(&text.into()))
}

/// Notes what a request changed that moto then did.
pub fn note_s3(shared: &Shared, asked: &Asked) {
    let mut state = shared.state();
    let bucket = state.buckets.entry(asked.bucket.clone()).or_default();
    let body = String::from_utf8_lossy(&asked.body);
    match asked.operation.as_str() {
        "CreateBucket" => {
            bucket.region = asked.region.clone();
            // The default of every bucket since April 2023.
            (bucket.blocks_public_policy, bucket.restricts_public_buckets) = (true, true);
        }
        "PutPublicAccessBlock" => {
            bucket.blocks_public_policy = element(&body, "BlockPublicPolicy").as_deref() == Some("true");
            bucket.restricts_public_buckets = element(&body, "RestrictPublicBuckets").as_deref() == Some("true");
        }
        "PutBucketPolicy" => bucket.policy = Some(body.into_owned()),
        "DELETE policy" => bucket.policy = None,
        "PutObject" => {
            let header = |name| asked.header(name).map(str::to_owned);
            bucket.last_served = (header("content-type"), header("cache-control"));
            bucket.written.insert(asked.key.clone());
        }
        "DeleteBucket" => *bucket = Bucket::default(),
        _ => (),
    }
}

/// Checks a request to IAM before moto sees it.
pub fn check_iam(shared: &Shared, asked: &Asked) -> Result<(), Refusal> {
    if asked.operation != "CreateOpenIDConnectProvider" {
        return Ok(());
    }
    if !asked.form.keys().any(|name| name.starts_with("Tags.member.")) {
        shared.state().violations.push("CreateOpenIDConnectProvider without tags".to_owned());
    }
    if asked.parameter("Url").starts_with("https://") {
        Ok(())
    } else {
        Err(refusal(400, "InvalidInput", "Invalid Open ID Connect Provider URL"))
    }
}

/// Text of the first element of that name.
pub fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text.to_owned())
}
