//! One S3 bucket: its objects by the store's contract, and the calls that set it up.
//!
//! Every call that can carries `ExpectedBucketOwner`, so that nothing is read from or written to a bucket that someone else
//! made under our name. Which keys there are and what the policy says is the caller's business.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use aws_sdk_s3::{
    Client,
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef},
    error::BoxError,
    operation::put_object::PutObjectError,
    primitives::ByteStream,
    types::{
        BucketVersioningStatus, ChecksumAlgorithm, ChecksumMode, PublicAccessBlockConfiguration,
        VersioningConfiguration,
    },
};

use super::{
    AwsConfig, AwsError, OPERATION_TIMEOUT, ProvideErrorMetadata, Reason, SdkError,
    error::{Call, chain},
};
use crate::{
    model::{
        location::BucketName,
        plan::PublicAccessBlock,
        probe::Probe,
        region::{AccountId, Region},
    },
    store::{CACHE_CONTROL, CONTENT_TYPE, Condition, LARGEST_OBJECT_BYTES, Object, Store, StoreError, Version},
};

/// Most keys that one listing gives.
const MOST_KEYS: i32 = 1000;

/// One bucket of one account in one region. Keys come complete, with their prefix. Keep it: it holds the connections.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: BucketName,
    region: Region,
    owner: AccountId,
    is_public: bool,
}

impl S3Store {
    /// Access to `bucket` with private objects, which are served to nobody, otherwise as [`S3Store::new`].
    pub fn private(aws: &AwsConfig, bucket: &BucketName, owner: &AccountId) -> Self {
        Self { is_public: false, ..Self::new(aws, bucket, owner) }
    }

    /// Access to `bucket` with public documents, which `owner` owns or will own. Nothing is sent yet.
    pub fn new(aws: &AwsConfig, bucket: &BucketName, owner: &AccountId) -> Self {
        let mut config = aws_sdk_s3::config::Builder::from(&aws.sdk).interceptor(aws.calls.clone());
        if let Some(url) = aws.endpoint(&aws.endpoints.s3) {
            // By path: there is no DNS name of the bucket at an endpoint of the operator's own.
            config = config.endpoint_url(url).force_path_style(true);
        }
        Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.clone(),
            region: aws.region.clone(),
            owner: owner.clone(),
            is_public: true,
        }
    }

    /// Name of the bucket.
    pub fn bucket(&self) -> &BucketName {
        &self.bucket
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn owner(&self) -> &AccountId {
        &self.owner
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    pub(super) fn read(&self, action: &'static str, key: &str) -> Call {
        Call::read(action, self.place(key)).expecting(&self.owner)
    }

    pub(super) fn write(&self, action: &'static str, key: &str) -> Call {
        Call::write(action, self.place(key)).expecting(&self.owner)
    }

    pub(super) fn place(&self, key: &str) -> String {
        if key.is_empty() { self.to_string() } else { format!("{self}/{key}") }
    }

    /// `get` without its time limit: the SDK's limits end with the headers, a body may drip for ever.
    async fn read_object(&self, key: &str) -> Result<Option<Object>, AwsError> {
        // Without s3:ListBucket S3 answers 403 for a key that is not there (Amazon S3 API reference, GetObject).
        let call = self.read("s3:GetObject and s3:ListBucket", key);
        let request = self.client.get_object().bucket(self.bucket.as_str()).key(key);
        let request = request.expected_bucket_owner(self.owner.as_str()).checksum_mode(ChecksumMode::Enabled);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if matches!(error.code(), Some("NoSuchKey" | "NoSuchBucket")) => return Ok(None),
            Err(error) => return Err(AwsError::from_sdk(call, &error)),
        };
        if answer.content_length().and_then(|length| u64::try_from(length).ok()) > Some(LARGEST_OBJECT_BYTES) {
            return Err(AwsError::new(call, Reason::TooLarge, format!("content-length {:?}", answer.content_length())));
        }
        let Some(version) = answer.e_tag().map(|tag| Version(tag.to_owned())) else {
            return Err(AwsError::new(call, Reason::NotAws, "no ETag"));
        };
        Ok(Some(Object { body: read_body(answer.body, call).await?, version }))
    }

    /// `put` without its time limit.
    async fn write_object(&self, key: &str, body: &[u8], condition: &Condition) -> Result<Version, StoreError> {
        let (call, attempts) = (self.write("s3:PutObject", key), Attempts::default());
        let request =
            self.client.put_object().bucket(self.bucket.as_str()).key(key).body(ByteStream::from(body.to_vec()));
        let request = request.expected_bucket_owner(self.owner.as_str()).checksum_algorithm(ChecksumAlgorithm::Sha256);
        let request = match self.is_public {
            true => request.content_type(CONTENT_TYPE).cache_control(CACHE_CONTROL),
            false => request,
        };
        let request = match condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::Unchanged(version) => request.if_match(&version.0),
        };
        match request.customize().interceptor(attempts.clone()).send().await {
            Ok(answer) => match answer.e_tag() {
                Some(tag) => Ok(Version(tag.to_owned())),
                None => Err(AwsError::new(call, Reason::NotAws, "no ETag"))?,
            },
            Err(error) if is_conflict(&error, condition) => match self.own_write(key, body).await {
                Some(version) if attempts.several() => Ok(version),
                Some(_) | None => Err(StoreError::Conflict { place: self.place(key) }),
            },
            Err(error) => Err(AwsError::from_sdk(call, &error))?,
        }
    }

    /// Whether the object already has our bytes: a write whose answer was lost looks like a conflict when it is repeated.
    async fn own_write(&self, key: &str, body: &[u8]) -> Option<Version> {
        let object = self.read_object(key).await.ok()??;
        (object.body == body).then_some(object.version)
    }
}

impl fmt::Display for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)
    }
}

impl Store for S3Store {
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        match tokio::time::timeout(OPERATION_TIMEOUT, self.read_object(key)).await {
            Ok(object) => Ok(object?),
            Err(elapsed) => Err(AwsError::new(self.read("s3:GetObject", key), Reason::TimedOut, elapsed.to_string()))?,
        }
    }

    async fn put(&self, key: &str, body: &[u8], condition: &Condition) -> Result<Version, StoreError> {
        match tokio::time::timeout(OPERATION_TIMEOUT, self.write_object(key, body, condition)).await {
            Ok(written) => written,
            Err(elapsed) => Err(AwsError::new(self.write("s3:PutObject", key), Reason::TimedOut, elapsed.to_string()))?,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let request = self.client.delete_object().bucket(self.bucket.as_str()).key(key);
        let call = self.write("s3:DeleteObject", key).of_teardown();
        match request.expected_bucket_owner(self.owner.as_str()).send().await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Some("NoSuchKey" | "NoSuchBucket")) => Ok(()),
            Err(error) => Err(AwsError::from_sdk(call, &error))?,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let request = self.client.list_objects_v2().bucket(self.bucket.as_str()).prefix(prefix).max_keys(MOST_KEYS);
        match request.expected_bucket_owner(self.owner.as_str()).send().await {
            Ok(answer) => Ok(answer.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()),
            Err(error) => Err(AwsError::from_sdk(self.read("s3:ListBucket", prefix), &error))?,
        }
    }
}

/// Counts the attempts of one call.
#[derive(Debug, Clone, Default)]
struct Attempts(Arc<AtomicU32>);

impl Attempts {
    fn several(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// 412, or 409 when a write of the same key is under way; 404 when the object that we read has gone (Amazon S3 user guide,
/// "How to prevent object overwrites with conditional writes").
fn is_conflict(error: &SdkError<PutObjectError>, condition: &Condition) -> bool {
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    match error.code() {
        Some("PreconditionFailed" | "ConditionalRequestConflict") => true,
        Some("NoSuchKey") => matches!(condition, Condition::Unchanged(_)),
        Some(_) => false,
        None => status == Some(412),
    }
}

async fn read_body(mut body: ByteStream, call: Call) -> Result<Vec<u8>, AwsError> {
    let mut bytes = Vec::new();
    loop {
        match body.try_next().await {
            Ok(Some(part)) if (bytes.len() + part.len()) as u64 <= LARGEST_OBJECT_BYTES => {
                bytes.extend_from_slice(&part)
            }
            Ok(Some(_)) => return Err(AwsError::new(call, Reason::TooLarge, "more bytes than content-length")),
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(AwsError::new(call, Reason::BrokenBody, chain(&error))),
        }
    }
}

/// What a bucket of ours looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketState {
    /// The bucket's own Block Public Access; absent means that nothing is blocked.
    pub public_access_block: Probe<PublicAccessBlock>,
    /// Text of the bucket policy.
    pub policy: Probe<String>,
}

/// The bucket itself. Each of these is one call, but for [`S3Store::observe`].
impl S3Store {
    /// Whether the bucket is there and ours to write to. [`Probe::Unknown`] where it is in another region or may be another
    /// account's: the sentence says so, and nothing may be written.
    pub async fn is_there(&self) -> Probe<()> {
        let request = self.client.head_bucket().bucket(self.bucket.as_str()).expected_bucket_owner(self.owner.as_str());
        let call = self.read("s3:ListBucket", "");
        let region = match request.send().await {
            Ok(answer) => answer.bucket_region().map(str::to_owned),
            Err(error) => match error.raw_response().map(|answer| answer.status().as_u16()) {
                Some(404) => return Probe::Absent,
                // A refused HEAD has no words. Listing needs the same permission and has some.
                Some(_) => match self.list_one().await {
                    Ok(()) => None,
                    Err(error) => return error.unknown(),
                },
                None => return AwsError::from_sdk(call, &error).unknown(),
            },
        };
        if let Some(region) = region.filter(|region| region != self.region.as_str()) {
            return AwsError::new(call, Reason::WrongRegion(Some(region)), "HTTP 200").unknown();
        }
        Probe::Present(())
    }

    /// Looks at the bucket, see [`S3Store::is_there`], and at who may read it.
    pub async fn observe(&self) -> Probe<BucketState> {
        match self.is_there().await {
            Probe::Present(()) => {
                let (public_access_block, policy) =
                    tokio::join!(self.observe_public_access_block(), self.observe_policy());
                Probe::Present(BucketState { public_access_block, policy })
            }
            Probe::Absent => Probe::Absent,
            Probe::Unknown(why) => Probe::Unknown(why),
        }
    }

    async fn list_one(&self) -> Result<(), AwsError> {
        let request = self.client.list_objects_v2().bucket(self.bucket.as_str()).max_keys(1);
        let answer = request.expected_bucket_owner(self.owner.as_str()).send().await;
        answer.map(drop).map_err(|error| AwsError::from_sdk(self.read("s3:ListBucket", ""), &error))
    }

    async fn observe_public_access_block(&self) -> Probe<PublicAccessBlock> {
        let request = self.client.get_public_access_block().bucket(self.bucket.as_str());
        match request.expected_bucket_owner(self.owner.as_str()).send().await {
            Ok(answer) => answer.public_access_block_configuration.map_or(Probe::Absent, |found| {
                Probe::Present(PublicAccessBlock {
                    block_public_acls: found.block_public_acls.unwrap_or_default(),
                    ignore_public_acls: found.ignore_public_acls.unwrap_or_default(),
                    block_public_policy: found.block_public_policy.unwrap_or_default(),
                    restrict_public_buckets: found.restrict_public_buckets.unwrap_or_default(),
                })
            }),
            Err(error) if error.code() == Some("NoSuchPublicAccessBlockConfiguration") => Probe::Absent,
            Err(error) => AwsError::from_sdk(self.read("s3:GetBucketPublicAccessBlock", ""), &error).unknown(),
        }
    }

    /// Text of the bucket policy.
    pub async fn observe_policy(&self) -> Probe<String> {
        let request = self.client.get_bucket_policy().bucket(self.bucket.as_str());
        match request.expected_bucket_owner(self.owner.as_str()).send().await {
            Ok(answer) => answer.policy.map_or(Probe::Absent, Probe::Present),
            Err(error) if error.code() == Some("NoSuchBucketPolicy") => Probe::Absent,
            Err(error) => AwsError::from_sdk(self.read("s3:GetBucketPolicy", ""), &error).unknown(),
        }
    }

    /// Sets the bucket's Block Public Access.
    ///
    /// # Errors
    /// See [`Reason`]; the old or the new setting holds.
    pub async fn put_public_access_block(&self, block: PublicAccessBlock) -> Result<(), AwsError> {
        let configuration = PublicAccessBlockConfiguration::builder()
            .block_public_acls(block.block_public_acls)
            .ignore_public_acls(block.ignore_public_acls)
            .block_public_policy(block.block_public_policy)
            .restrict_public_buckets(block.restrict_public_buckets)
            .build();
        let request = self.client.put_public_access_block().bucket(self.bucket.as_str());
        let request =
            request.expected_bucket_owner(self.owner.as_str()).public_access_block_configuration(configuration);
        let call = self.write("s3:PutBucketPublicAccessBlock", "");
        request.send().await.map(drop).map_err(|error| AwsError::from_sdk(call, &error))
    }

    /// Replaces the bucket policy by `text`.
    ///
    /// # Errors
    /// [`Reason::PublicPolicyBlocked`] where the account or organisation forbids public policies, otherwise see [`Reason`];
    /// the old or the new policy holds.
    pub async fn put_policy(&self, text: &str) -> Result<(), AwsError> {
        let request = self.client.put_bucket_policy().bucket(self.bucket.as_str()).policy(text);
        let request = request.expected_bucket_owner(self.owner.as_str()).checksum_algorithm(ChecksumAlgorithm::Sha256);
        let call = self.write("s3:PutBucketPolicy", "");
        request.send().await.map(drop).map_err(|error| AwsError::from_sdk(call, &error))
    }

    /// Lets S3 keep every version of every object from now on.
    ///
    /// # Errors
    /// See [`Reason`]; the old or the new setting holds.
    pub async fn enable_versioning(&self) -> Result<(), AwsError> {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = self.client.put_bucket_versioning().bucket(self.bucket.as_str());
        let request = request.expected_bucket_owner(self.owner.as_str()).versioning_configuration(enabled);
        let call = self.write("s3:PutBucketVersioning", "");
        request.send().await.map(drop).map_err(|error| AwsError::from_sdk(call, &error))
    }
}
