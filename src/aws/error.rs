//! Refusals of AWS as one sentence with the cure.
//!
//! The error code decides; the service's own words go into the cause. Neither ever holds credentials: only codes,
//! messages and the transport's error chain are taken over.

mod cause;
mod quota;

use std::{error::Error, fmt};

pub(super) use cause::{Cause, chain};
use cause::{has_no_credentials, spoken};
pub use quota::Quota;

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
    /// IAM has no such role or policy, or no longer.
    Missing,
    /// There is one of that name already.
    Exists,
    /// Something still belongs to what is to be deleted.
    InUse,
    /// IAM does not take the policy document.
    MalformedPolicy,
    /// The managed policy is not one for roles, or the role is one of AWS that nobody changes.
    NotChangeable,
    /// The object is larger than [`LARGEST_OBJECT_BYTES`].
    TooLarge,
    /// The body ended early or does not match its checksum.
    BrokenBody,
    /// The answer makes no sense as one of AWS.
    NotAws,
    /// Anything else, by its error code.
    Other(String),
}

/// One call, as messages name it.
#[derive(Debug, Clone)]
pub(super) struct Call {
    action: &'static str,
    resource: Box<str>,
    writes: bool,
    owner: Option<AccountId>,
    /// Only a teardown makes it.
    of_teardown: bool,
}

impl Call {
    pub(super) fn read(action: &'static str, resource: impl Into<String>) -> Self {
        Self { action, resource: resource.into().into_boxed_str(), writes: false, owner: None, of_teardown: false }
    }

    pub(super) fn write(action: &'static str, resource: impl Into<String>) -> Self {
        Self { writes: true, ..Self::read(action, resource) }
    }

    /// The command that prints the statement which allows it.
    fn policy(&self) -> &'static str {
        if self.of_teardown { "irsad iam-policy --part teardown" } else { "irsad iam-policy" }
    }

    /// The same call as one that only a teardown makes: what nodes may do always does not allow it.
    pub(super) fn of_teardown(self) -> Self {
        Self { of_teardown: true, ..self }
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
                "{call} is not allowed to this node ({left}); `{policy}` prints the statement to attach to its role",
                policy = call.policy()
            ),
            Reason::DeniedOrForeign(owner) => write!(
                f,
                "{call} was refused ({left}): the bucket belongs to another account than {owner}, or this node's role may not do it; \
                 name another bucket, or attach the statement that `{policy}` prints",
                policy = call.policy()
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
            Reason::Quota(quota) => {
                let (excess, cure) = quota.words();
                write!(f, "{call} {excess} ({left}); {cure}")
            }
            Reason::Missing => write!(
                f,
                "{call} found that what it names does not exist ({left}); it is looked at again, if it lasts create it or \
                 correct its name"
            ),
            Reason::Exists => write!(f, "{call} found one of that name already ({left}); it is looked at again"),
            Reason::InUse => write!(
                f,
                "{call} was refused because something still belongs to it, perhaps an instance profile ({left}); take the role \
                 out of it: aws iam list-instance-profiles-for-role names them"
            ),
            Reason::MalformedPolicy => write!(
                f,
                "{call} was refused because IAM does not understand the policy ({left}); correct it as the IAM user guide, \
                 \"Policies and permissions\", has it"
            ),
            Reason::NotChangeable => write!(
                f,
                "{call} was refused because AWS keeps that policy or role for itself ({left}); choose another one"
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
        | "EntityTemporarilyUnmodifiable"
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
        "NoSuchEntity" => Reason::Missing,
        "EntityAlreadyExists" => Reason::Exists,
        "DeleteConflict" => Reason::InUse,
        "MalformedPolicyDocument" => Reason::MalformedPolicy,
        "PolicyNotAttachable" | "UnmodifiableEntity" => Reason::NotChangeable,
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
            Reason::Quota(Quota::Roles),
            Reason::Quota(Quota::TrustPolicy),
            Reason::Quota(Quota::RolePolicies),
            Reason::Quota(Quota::InlinePolicies),
            Reason::Quota(Quota::RoleTags),
            Reason::Missing,
            Reason::Exists,
            Reason::InUse,
            Reason::MalformedPolicy,
            Reason::NotChangeable,
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
    fn what_only_a_teardown_does_is_allowed_by_a_policy_of_its_own() {
        let call = || Call::write("s3:DeleteBucket", "s3://prod-1-oidc");
        for (call, policy) in [(call(), "irsad iam-policy"), (call().of_teardown(), "irsad iam-policy --part teardown")]
        {
            assert_eq!(
                AwsError::new(call, Reason::Denied, "").to_string(),
                format!(
                    "s3:DeleteBucket on s3://prod-1-oidc is not allowed to this node (nothing written); `{policy}` prints the statement to attach to its role"
                )
            );
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
