//! Refusals of AWS as one sentence with the cure.
//!
//! The error code decides; the service's own words go into the cause. Neither ever holds credentials: only codes,
//! messages and the transport's error chain are taken over.

use std::{error::Error, fmt};

use super::{HttpResponse, ProvideErrorMetadata, SdkError};
use crate::{
    model::{location::BucketName, probe::Probe, region::AccountId},
    store::{LARGEST_OBJECT_BYTES, StoreError},
};

/// A call to AWS that did not do what it should.
///
/// The text is one sentence with the cure, the source is what AWS or the network said.
#[derive(Debug)]
pub struct AwsError {
    call: Call,
    reason: Reason,
    cause: Cause,
}

/// What stood in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// IAM, a bucket policy or an organisation's policy says no.
    Denied,
    /// S3 says no and does not say why: the bucket is someone else's, or a permission is missing.
    DeniedOrForeign(AccountId),
    /// Expired, unknown or wrongly signed credentials.
    Credentials,
    /// The credential chain found none.
    NoCredentials,
    /// This node's clock is too far off for a signature.
    Clock,
    /// No connection, or it broke.
    Unreachable,
    /// No answer within the limits.
    TimedOut,
    /// Throttled or failing on the service's side, in every attempt.
    Busy,
    /// The bucket is in another region, named where AWS told it.
    WrongRegion(Option<String>),
    /// A redirect without a region.
    Redirected,
    /// The bucket name is taken by another account.
    BucketTaken(BucketName),
    /// There is no such bucket.
    BucketMissing,
    /// Block Public Access of the account or organisation refuses the policy.
    PublicPolicyBlocked,
    /// A quota of the account: what there are too many of.
    Quota(Quota),
    /// The object is larger than [`LARGEST_OBJECT_BYTES`].
    TooLarge,
    /// The body ended early or does not match its checksum.
    BrokenBody,
    /// The answer makes no sense as one of AWS.
    NotAws,
    /// Anything else, by its error code.
    Other(String),
}

/// A quota that IAM names `LimitExceeded` (IAM and AWS STS quotas).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// OIDC providers of an account: 100 unless raised.
    Providers,
    /// Audiences (client IDs) of one provider: 100.
    Audiences,
}

/// One call, as messages name it.
#[derive(Debug, Clone)]
pub(super) struct Call {
    action: &'static str,
    resource: String,
    writes: bool,
    owner: Option<AccountId>,
}

impl Call {
    pub(super) fn read(action: &'static str, resource: impl Into<String>) -> Self {
        Self { action, resource: resource.into(), writes: false, owner: None }
    }

    pub(super) fn write(action: &'static str, resource: impl Into<String>) -> Self {
        Self { writes: true, ..Self::read(action, resource) }
    }

    /// The same call with `ExpectedBucketOwner`: a bare 403 may then mean another owner.
    pub(super) fn expecting(self, owner: &AccountId) -> Self {
        Self { owner: Some(owner.clone()), ..self }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)
    }
}

/// What AWS or the network said.
#[derive(Debug)]
pub(super) struct Cause(pub(super) String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Cause {}

impl AwsError {
    pub(super) fn new(call: Call, reason: Reason, cause: impl Into<String>) -> Self {
        Self { call, reason, cause: Cause(cause.into()) }
    }

    /// Takes an SDK error apart.
    pub(super) fn from_sdk<E>(call: Call, error: &SdkError<E>) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let answer = error.raw_response();
        let reason = match (answer, error) {
            (Some(answer), _) => refusal(&call, answer, error.code(), error.message()),
            (None, SdkError::TimeoutError(_)) => Reason::TimedOut,
            (None, _) if has_no_credentials(error) => Reason::NoCredentials,
            (None, _) => Reason::Unreachable,
        };
        let cause = match answer {
            // IAM and STS repeat the canonical request, session token included, where a signature is wrong.
            Some(answer) if reason == Reason::Credentials => spoken(answer.status().as_u16(), error.code(), None),
            Some(answer) => spoken(answer.status().as_u16(), error.code(), error.message()),
            None => chain(error),
        };
        Self::new(call, reason, cause)
    }

    /// What stood in the way.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What AWS or the network said, for another sentence.
    pub(super) fn into_cause(self) -> Cause {
        self.cause
    }

    pub(super) fn with_reason(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// An observation that could not be made: the sentence, then the cause.
    pub(super) fn unknown<T>(&self) -> Probe<T> {
        Probe::Unknown(format!("{self}: {}", self.cause))
    }

    /// Whether an outcome must be looked up before it is believed: no clear answer came to a call that writes.
    fn may_have_written(&self) -> bool {
        self.call.writes
            && matches!(self.reason, Reason::Unreachable | Reason::TimedOut | Reason::Busy | Reason::NotAws)
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (call, resource) = (&self.call, &self.call.resource);
        let left = if self.may_have_written() { "it may have been written" } else { "nothing written" };
        match &self.reason {
            Reason::Denied => write!(
                f,
                "{call} is not allowed to this node ({left}); `irsad iam-policy` prints the statement to attach to its role"
            ),
            Reason::DeniedOrForeign(owner) => write!(
                f,
                "{call} was refused ({left}): the bucket belongs to another account than {owner}, or this node's role may not do it; \
                 name another bucket, or attach the statement that `irsad iam-policy` prints"
            ),
            Reason::Credentials => write!(
                f,
                "{call} was refused because AWS does not take this node's credentials ({left}); renew them, or take them out of \
                 irsad's environment and AWS profile so that the instance profile is used"
            ),
            Reason::NoCredentials => write!(
                f,
                "found no AWS credentials for {call} ({left}); attach an instance profile to this node, and where HTTP_PROXY is set \
                 put 169.254.169.254 into NO_PROXY"
            ),
            Reason::Clock => write!(
                f,
                "{call} was refused because this node's clock is wrong ({left}); set the clock, `chronyc tracking` shows how far \
                 it is off"
            ),
            Reason::Unreachable => write!(
                f,
                "cannot reach AWS for {call} ({left}); check this node's DNS, routes, HTTPS_PROXY and NO_PROXY, the next pass \
                 tries again"
            ),
            Reason::TimedOut => write!(
                f,
                "{call} had no answer in time ({left}); the next pass tries again, if it lasts check this node's network"
            ),
            Reason::Busy => write!(
                f,
                "{call} found the service overloaded or failing {ATTEMPTS} times ({left}); the next pass tries again, if it \
                 lasts look at the AWS Health Dashboard",
                ATTEMPTS = super::ATTEMPTS
            ),
            Reason::WrongRegion(Some(region)) => {
                write!(f, "{call} was refused because the bucket is in {region} ({left}); set aws.region: {region}")
            }
            Reason::WrongRegion(None) => write!(
                f,
                "{call} was refused because the bucket is in another region ({left}); set aws.region to the bucket's region"
            ),
            Reason::Redirected => write!(
                f,
                "{call} was answered with a redirect, which is never followed ({left}); set aws.region to the bucket's region and \
                 check aws.endpointUrl"
            ),
            Reason::BucketTaken(bucket) => write!(
                f,
                "bucket {bucket} belongs to another account ({left}); bucket names are shared by all of AWS, write another one \
                 into issuer.store or keyring.store"
            ),
            Reason::BucketMissing => write!(
                f,
                "{call} found no such bucket ({left}); create it, or set issuer.createBucket: true and let irsad do it"
            ),
            Reason::PublicPolicyBlocked => write!(
                f,
                "{call} was refused because S3 Block Public Access of the account or organisation forbids public policies \
                 ({left}); set issuer.access: external and serve the documents by CloudFront, or lift BlockPublicPolicy there"
            ),
            Reason::Quota(Quota::Providers) => write!(
                f,
                "{call} would be one OIDC provider more than the account's quota, 100 unless raised ({left}); delete a provider \
                 that no cluster uses, or raise the quota in Service Quotas"
            ),
            Reason::Quota(Quota::Audiences) => write!(
                f,
                "{call} would be one audience more than IAM allows for a provider ({left}); take an audience out of \
                 provider.audiences, or remove an unused one from the provider"
            ),
            Reason::TooLarge => write!(
                f,
                "object {resource} is larger than {LARGEST_OBJECT_BYTES} bytes, so irsad did not write it ({left}); remove it or \
                 move it away"
            ),
            Reason::BrokenBody => {
                write!(f, "{call} gave a body that is cut off or damaged ({left}); the next pass reads it again")
            }
            Reason::NotAws => write!(
                f,
                "{call} was answered by something that does not speak as AWS does ({left}); check aws.endpointUrl and any proxy on \
                 the way"
            ),
            Reason::Other(code) => write!(
                f,
                "{call} failed with {code} ({left}); the AWS API reference of the call explains the code, the next pass tries again"
            ),
        }
    }
}

impl Error for AwsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

impl From<AwsError> for StoreError {
    fn from(error: AwsError) -> Self {
        Self::Failed { sentence: error.to_string(), source: Box::new(error.cause) }
    }
}

/// What an answer other than success means, by its code first and its status second.
fn refusal(call: &Call, answer: &HttpResponse, code: Option<&str>, message: Option<&str>) -> Reason {
    let (status, message) = (answer.status().as_u16(), message.unwrap_or_default());
    if let Some(reason) = code.and_then(|code| by_code(call, code, message)) {
        return reason;
    }
    let region = answer.headers().get("x-amz-bucket-region").map(str::to_owned);
    match (status, code) {
        (301 | 307 | 308, _) if region.is_some() => Reason::WrongRegion(region),
        (300..=399, _) => Reason::Redirected,
        (403, None) => denied(call, message),
        (429 | 500..=599, _) => Reason::Busy,
        (_, Some(code)) => Reason::Other(code.to_owned()),
        (_, None) => Reason::NotAws,
    }
}

/// What an error code means (Amazon S3 "Error responses", IAM and STS "Common errors").
fn by_code(call: &Call, code: &str, message: &str) -> Option<Reason> {
    Some(match code {
        "AccessDenied" | "AccessDeniedException" | "AllAccessDisabled" => denied(call, message),
        "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "InvalidToken"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationTokenException" => Reason::Credentials,
        // What services with a JSON protocol say for both.
        "InvalidSignatureException" if ["expired", "not yet current"].iter().any(|sign| message.contains(sign)) => {
            Reason::Clock
        }
        "InvalidSignatureException" => Reason::Credentials,
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => Reason::Clock,
        "SlowDown"
        | "ServiceUnavailable"
        | "ServiceFailure"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "InternalError"
        | "InternalFailure"
        | "OperationAborted"
        | "ConcurrentModification"
        | "RequestTimeout" => Reason::Busy,
        "AuthorizationHeaderMalformed" if message.contains("region") => Reason::WrongRegion(
            message.split("expecting '").nth(1).and_then(|rest| rest.split('\'').next()).map(str::to_owned),
        ),
        "IllegalLocationConstraintException" => Reason::WrongRegion(None),
        "NoSuchBucket" => Reason::BucketMissing,
        _ => return None,
    })
}

fn denied(call: &Call, message: &str) -> Reason {
    if message.contains("BlockPublicPolicy") || message.to_ascii_lowercase().contains("block public") {
        return Reason::PublicPolicyBlocked;
    }
    // Only a refusal by policy names principal and action; one by ExpectedBucketOwner says no more than "Access Denied".
    match &call.owner {
        Some(owner) if !message.contains("is not authorized to perform") => Reason::DeniedOrForeign(owner.clone()),
        _ => Reason::Denied,
    }
}

fn spoken(status: u16, code: Option<&str>, message: Option<&str>) -> String {
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    format!("HTTP {status}{code}{message}")
}

/// The texts of an error and its sources, without repetition.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

/// The SDK has no public type for an empty credential chain that reaches its callers unwrapped, so its text decides.
fn has_no_credentials(error: &dyn Error) -> bool {
    let text = chain(error);
    ["credential", "failed to select an auth scheme", "no valid auth"].iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_reasons() -> Vec<Reason> {
        let owner: AccountId = "123456789012".parse().expect("an account");
        let bucket: BucketName = "prod-1-oidc".parse().expect("a bucket name");
        vec![
            Reason::Denied,
            Reason::DeniedOrForeign(owner),
            Reason::Credentials,
            Reason::NoCredentials,
            Reason::Clock,
            Reason::Unreachable,
            Reason::TimedOut,
            Reason::Busy,
            Reason::WrongRegion(Some("eu-west-1".to_owned())),
            Reason::WrongRegion(None),
            Reason::Redirected,
            Reason::BucketTaken(bucket),
            Reason::BucketMissing,
            Reason::PublicPolicyBlocked,
            Reason::Quota(Quota::Providers),
            Reason::Quota(Quota::Audiences),
            Reason::TooLarge,
            Reason::BrokenBody,
            Reason::NotAws,
            Reason::Other("MalformedXML".to_owned()),
        ]
    }

    #[test]
    fn every_refusal_is_one_sentence_that_says_what_was_left() {
        for reason in all_reasons() {
            let call = Call::write("s3:PutObject", "s3://prod-1-oidc/openid/v1/jwks");
            let text = AwsError::new(call, reason, "what AWS said").to_string();
            assert!(text.starts_with(|first: char| first.is_lowercase()) && !text.ends_with('.'), "{text}");
            assert!(text.contains("; ") && !text.contains(". ") && !text.contains("what AWS said"), "{text}");
            assert_eq!(
                text.matches("(nothing written)").count() + text.matches("(it may have been written)").count(),
                1
            );
        }
    }

    /// Only a call that writes and got no clear answer leaves a doubt.
    #[test]
    fn write_without_a_clear_answer_is_left_in_doubt() {
        for (reason, doubt) in [
            (Reason::TimedOut, true),
            (Reason::Unreachable, true),
            (Reason::Busy, true),
            (Reason::NotAws, true),
            (Reason::Denied, false),
            (Reason::Clock, false),
        ] {
            let place = "s3://prod-1-oidc";
            let write = AwsError::new(Call::write("s3:PutObject", place), reason.clone(), "").to_string();
            let read = AwsError::new(Call::read("s3:GetObject", place), reason, "").to_string();
            assert_eq!(write.contains("it may have been written"), doubt, "{write}");
            assert!(read.contains("nothing written"), "{read}");
        }
    }

    #[test]
    fn call_without_an_answer_in_time_is_named() {
        let error = AwsError::new(Call::write("s3:PutObject", "s3://prod-1-oidc/a"), Reason::TimedOut, "");
        assert_eq!(
            error.to_string(),
            "s3:PutObject on s3://prod-1-oidc/a had no answer in time (it may have been written); the next pass tries again, if it lasts check this node's network"
        );
    }

    #[test]
    fn only_a_refusal_that_names_no_policy_may_mean_another_owner() {
        let owner: AccountId = "123456789012".parse().expect("an account");
        let foreign = Reason::DeniedOrForeign(owner.clone());
        let with_owner = Call::read("s3:GetObject", "s3://prod-1-oidc/a").expecting(&owner);
        let without = Call::read("iam:GetOpenIDConnectProvider", "arn");
        let policy = "User: arn is not authorized to perform: s3:GetObject because no identity-based policy allows it";
        let block = "User: arn is not authorized to perform: s3:PutBucketPolicy because public policies are blocked by the BlockPublicPolicy block public access setting.";
        for (call, message, reason) in [
            (&with_owner, "Access Denied", &foreign),
            (&with_owner, "", &foreign),
            (&with_owner, policy, &Reason::Denied),
            (&with_owner, block, &Reason::PublicPolicyBlocked),
            (&without, "Access Denied", &Reason::Denied),
        ] {
            assert_eq!(by_code(call, "AccessDenied", message).as_ref(), Some(reason), "{message}");
        }
    }
}
