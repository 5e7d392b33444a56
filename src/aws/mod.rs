//! AWS: how it is reached, who we are there, and what its refusals mean in one sentence.
//!
//! Nothing here knows what the objects mean or what should be in the account: callers bring names, bytes and policies, and
//! each function is one call. Redirects are never followed.

mod bucket;
pub mod calls;
mod error;
pub mod iam;
pub mod kms;
pub mod s3;

use std::time::Duration;

use aws_config::{
    BehaviorVersion, SdkConfig, imds, provider_config::ProviderConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_sts::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use thiserror::Error;

pub use self::error::{AwsError, Quota, Reason};
use self::{
    calls::Calls,
    error::{Call, Cause, chain},
};
use crate::model::region::{AccountId, Partition, Region};

/// Longest wait for a TCP connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for the answer to one attempt.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for one call with all its attempts and, for an object, its whole body: an action must end within 30 s.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(25);
/// Attempts of one call, the first one included.
pub const ATTEMPTS: u32 = 3;
/// Upper limit of the random wait before the second attempt; it doubles after that.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait for the instance metadata service; it is link-local and answers within milliseconds.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts to read the instance metadata.
const METADATA_ATTEMPTS: u32 = 2;

/// Endpoint URLs of another AWS-like service; an empty text means AWS itself. A service's own wins over `all`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For every service.
    pub all: String,
    /// For S3; buckets are then addressed by path.
    pub s3: String,
    /// For IAM.
    pub iam: String,
    /// For KMS.
    pub kms: String,
    /// For STS.
    pub sts: String,
}

impl Endpoints {
    /// Those that the environment names: `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_<SERVICE>` (AWS SDKs and Tools Reference Guide,
    /// "Service-specific endpoints").
    pub fn from_environment() -> Self {
        let is_ignored = variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").eq_ignore_ascii_case("true");
        let url = |name: &str| if is_ignored { String::new() } else { variable(name) };
        Self {
            all: url("AWS_ENDPOINT_URL"),
            s3: url("AWS_ENDPOINT_URL_S3"),
            iam: url("AWS_ENDPOINT_URL_IAM"),
            kms: url("AWS_ENDPOINT_URL_KMS"),
            sts: url("AWS_ENDPOINT_URL_STS"),
        }
    }

    /// What each service is asked at that is not AWS itself, by its key in `aws.endpointUrl`.
    pub fn by_service(&self) -> Vec<(String, String)> {
        let services = [("s3", &self.s3), ("iam", &self.iam), ("kms", &self.kms), ("sts", &self.sts)];
        let asked = services.map(|(service, own)| (service, if own.is_empty() { &self.all } else { own }));
        let asked = asked.iter().filter(|(_, url)| !url.is_empty());
        asked.map(|(service, url)| ((*service).to_owned(), (*url).clone())).collect()
    }
}

/// The region that the environment names, as for other programs that use AWS; the daemon goes by `aws.region` alone.
pub fn region_from_environment() -> Option<Region> {
    ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| variable(name).parse().ok())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

// A stop waits for the action at hand, and systemd does not wait for ever.
const _: () = assert!(OPERATION_TIMEOUT.as_secs() < 30 && ATTEMPT_TIMEOUT.as_secs() < OPERATION_TIMEOUT.as_secs());

/// How AWS is reached: region, endpoints, limits, credential chain. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct AwsConfig {
    sdk: SdkConfig,
    endpoints: Endpoints,
    region: Region,
    calls: Calls,
}

impl AwsConfig {
    /// The same access, with every call counted in `calls`.
    pub fn counting(self, calls: &Calls) -> Self {
        Self { calls: calls.clone(), ..self }
    }

    /// The region that calls go to.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The endpoint to use for a service whose own one is `own`.
    fn endpoint<'a>(&'a self, own: &'a str) -> Option<&'a str> {
        [own, &self.endpoints.all].into_iter().find(|url| !url.is_empty())
    }
}

/// Sets up access to AWS in `region`. Nothing is sent yet.
///
/// Credentials come from the SDK's default chain (environment, profile, web identity, container, instance profile through
/// IMDSv2) and are renewed by it. `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` hold, as do `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`.
pub async fn connect(region: &Region, endpoints: Endpoints) -> AwsConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF);
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .region(aws_config::Region::new(region.as_str().to_owned()))
        .timeout_config(timeouts)
        .retry_config(retries)
        .load()
        .await;
    AwsConfig { sdk, endpoints, region: region.clone(), calls: Calls::default() }
}

/// Why the region is not known.
#[derive(Debug, Error)]
#[error(
    "cannot learn the region from the instance metadata service (nothing changed); set aws.region, or switch IMDSv2 on for this instance, and where HTTP_PROXY is set put 169.254.169.254 into NO_PROXY"
)]
pub struct MetadataError {
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// The region of the EC2 instance that we run on (IMDSv2, `/latest/meta-data/placement/region`).
///
/// # Errors
/// No metadata service within a few seconds, or it names no region.
pub async fn region_from_instance() -> Result<Region, MetadataError> {
    let provider = ProviderConfig::without_region().with_behavior_version(Some(BehaviorVersion::latest()));
    let client = imds::Client::builder()
        .configure(&provider)
        .connect_timeout(METADATA_TIMEOUT)
        .read_timeout(METADATA_TIMEOUT)
        .operation_attempt_timeout(METADATA_TIMEOUT)
        .operation_timeout(METADATA_TIMEOUT * METADATA_ATTEMPTS)
        .max_attempts(METADATA_ATTEMPTS)
        .build();
    let answer = client.get("/latest/meta-data/placement/region").await;
    let answer = answer.map_err(|error| MetadataError { source: Box::new(Cause(chain(&error))) })?;
    answer.as_ref().trim().parse().map_err(|error| MetadataError { source: Box::new(error) })
}

/// Who AWS takes us for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account that our credentials belong to; it owns the buckets and the provider.
    pub account: AccountId,
    /// Its partition.
    pub partition: Partition,
}

/// Asks STS who we are (`GetCallerIdentity`, which every principal may call).
///
/// # Errors
/// See [`Reason`]. Nothing is known then.
pub async fn identity(aws: &AwsConfig) -> Result<Identity, AwsError> {
    let call = Call::read("sts:GetCallerIdentity", "this node's own credentials");
    let mut config = aws_sdk_sts::config::Builder::from(&aws.sdk).interceptor(aws.calls.clone());
    if let Some(url) = aws.endpoint(&aws.endpoints.sts) {
        config = config.endpoint_url(url);
    }
    let client = aws_sdk_sts::Client::from_conf(config.build());
    let answer = client.get_caller_identity().send().await.map_err(|error| AwsError::from_sdk(call.clone(), &error))?;
    let (account, arn) = (answer.account().unwrap_or_default(), answer.arn().unwrap_or_default());
    let partition = Partition::ALL.into_iter().find(|known| arn.split(':').nth(1) == Some(known.as_str()));
    match (account.parse(), partition) {
        (Ok(account), Some(partition)) => Ok(Identity { account, partition }),
        _ => Err(AwsError::new(call, Reason::NotAws, format!("account {account:?}, ARN {arn:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(endpoints: Endpoints) -> AwsConfig {
        let region: Region = "eu-west-1".parse().expect("a region");
        AwsConfig { sdk: SdkConfig::builder().build(), endpoints, region, calls: Calls::default() }
    }

    #[test]
    fn services_that_stand_in_for_aws_are_named_each() {
        let url = |service: &str, url: &str| (service.to_owned(), url.to_owned());
        let (all, s3) = ("http://a".to_owned(), "http://b".to_owned());
        for (endpoints, named) in [
            (Endpoints::default(), vec![]),
            (Endpoints { s3: s3.clone(), ..Endpoints::default() }, vec![url("s3", "http://b")]),
            (
                Endpoints { all, s3, ..Endpoints::default() },
                vec![url("s3", "http://b"), url("iam", "http://a"), url("kms", "http://a"), url("sts", "http://a")],
            ),
        ] {
            assert_eq!(endpoints.by_service(), named);
        }
    }

    #[test]
    fn own_endpoint_of_a_service_wins_and_an_empty_one_means_aws() {
        let (all, s3) = ("http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned());
        for (endpoints, s3_url, iam_url) in [
            (Endpoints::default(), None, None),
            (Endpoints { all: all.clone(), ..Endpoints::default() }, Some(&all), Some(&all)),
            (Endpoints { all: all.clone(), s3: s3.clone(), ..Endpoints::default() }, Some(&s3), Some(&all)),
            (Endpoints { s3: s3.clone(), ..Endpoints::default() }, Some(&s3), None),
        ] {
            let aws = aws(endpoints);
            assert_eq!(aws.endpoint(&aws.endpoints.s3), s3_url.map(String::as_str));
            assert_eq!(aws.endpoint(&aws.endpoints.iam), iam_url.map(String::as_str));
        }
    }
}
