//! Answers by script instead of, or around, those of moto.

use std::time::Duration;

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Refused with this status, error code and message.
    Refused(u16, String, String),
    /// Refused because of the request's time, by a server that is decades ahead.
    ClockOff,
    /// Answered with this status, a header that tells the bucket's region, and no usable body.
    Redirected {
        /// 301, 307 or 308.
        status: u16,
        /// `x-amz-bucket-region`.
        region: Option<String>,
    },
    /// Answered as usual, after this time.
    Slow(Duration),
    /// Done, but the answer never comes.
    AnswerLost,
    /// The answer's body ends half-way.
    Truncated,
    /// The answer's body has other bytes than were written.
    Damaged,
    /// A web page instead of the answer, as captive portals and wrong endpoints give.
    Garbage,
    /// The answer's body has this many bytes.
    Large(usize),
}

impl Fault {
    /// A refusal with an error code of the service.
    pub fn refused(status: u16, code: &str, message: &str) -> Self {
        Self::Refused(status, code.to_owned(), message.to_owned())
    }

    /// No policy of ours allows it.
    pub fn not_authorized(action: &str, resource: &str) -> Self {
        let message = format!(
            "User: arn:aws:sts::123456789012:assumed-role/control-plane/i-0 is not authorized to perform: {action} on \
             resource: {resource} because no identity-based policy allows the {action} action"
        );
        Self::Refused(403, "AccessDenied".to_owned(), message)
    }

    /// Block Public Access of the account, for `PutBucketPolicy`.
    pub fn account_blocks_public_policies(bucket: &str) -> Self {
        Self::refused(403, "AccessDenied", &blocked(bucket))
    }

    /// S3 wants fewer requests.
    pub fn slow_down() -> Self {
        Self::refused(503, "SlowDown", "Please reduce your request rate.")
    }

    /// The service fails.
    pub fn internal_error() -> Self {
        Self::refused(500, "InternalError", "We encountered an internal error. Please try again.")
    }

    /// The signature's time is too far off.
    pub fn clock_skewed() -> Self {
        let message = "The difference between the request time and the server's time is too large.";
        Self::refused(403, "RequestTimeTooSkewed", message)
    }

    /// Another write of the same key is under way.
    pub fn conditional_request_conflict() -> Self {
        let message = "The conditional request cannot succeed due to a conflicting operation against this resource.";
        Self::refused(409, "ConditionalRequestConflict", message)
    }
}

/// S3's words where a Block Public Access setting refuses a public policy.
pub fn blocked(bucket: &str) -> String {
    format!(
        "User: arn:aws:sts::123456789012:assumed-role/control-plane/i-0 is not authorized to perform: s3:PutBucketPolicy on \
         resource: \"arn:aws:s3:::{bucket}\" because public policies are blocked by the BlockPublicPolicy block public access \
         setting."
    )
}
