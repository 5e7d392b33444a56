//! Calls to AWS by what came of them.

use super::{Family, Sample, counter};

/// One kind of call with one kind of end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AwsCall {
    /// As the SDK names it: `IAM`, `KMS`, `S3`, `STS`.
    pub service: String,
    /// As in the service's API reference.
    pub operation: String,
    /// Its end, all attempts together.
    pub result: CallResult,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallResult {
    /// It was done.
    Ok,
    /// There is no such thing.
    Absent,
    /// Somebody else was faster, or the thing is there already.
    Conflict,
    /// These credentials may not.
    Denied,
    /// Too many calls, in every attempt.
    Throttled,
    /// Refused for another reason.
    Refused,
    /// The service failed, or its answer made no sense.
    Failed,
    /// No answer in time, or it could not be sent.
    NoAnswer,
}

impl CallResult {
    /// From the HTTP status of the last answer, if there was one, and its body. IAM and KMS say with status 400 what others have a status
    /// for (AWS API references, "Common errors").
    pub fn of(status: Option<u16>, body: &str, is_understood: bool) -> Self {
        const THROTTLED: [&str; 4] = ["Throttl", "RequestLimitExceeded", "SlowDown", "TooManyRequests"];
        let says = |words: &[&str]| words.iter().any(|word| body.contains(word));
        match status {
            None => Self::NoAnswer,
            Some(200..=299) if is_understood => Self::Ok,
            Some(429) => Self::Throttled,
            Some(400..=599) if says(&THROTTLED) => Self::Throttled,
            Some(400..=499) if says(&["LimitExceeded"]) => Self::Refused,
            Some(404) => Self::Absent,
            Some(400) if says(&["NoSuchEntity", "NotFoundException"]) => Self::Absent,
            Some(409 | 412) => Self::Conflict,
            Some(401 | 403) => Self::Denied,
            Some(400) if says(&["AccessDenied", "UnrecognizedClient", "ExpiredToken", "InvalidClientTokenId"]) => {
                Self::Denied
            }
            Some(300..=499) => Self::Refused,
            Some(_) => Self::Failed,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::NoAnswer => "noAnswer",
        }
    }
}

/// All calls so far.
pub fn calls(counted: impl IntoIterator<Item = (AwsCall, u64)>) -> Family {
    let sample = |(call, number): (AwsCall, u64)| Sample {
        labels: vec![
            ("service", call.service),
            ("operation", call.operation),
            ("result", call.result.word().to_owned()),
        ],
        #[expect(clippy::cast_precision_loss, reason = "2^52 calls take longer than anybody waits")]
        value: number as f64,
    };
    counter("irsad_aws_calls", "Calls to AWS, each with all its attempts.", counted.into_iter().map(sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_is_counted_by_what_it_means_whatever_status_the_service_has_for_it() {
        for (status, body, is_understood, result) in [
            (None, "", false, CallResult::NoAnswer),
            (Some(200), "", true, CallResult::Ok),
            (Some(204), "", true, CallResult::Ok),
            (Some(200), "<html>", false, CallResult::Failed),
            (Some(301), "PermanentRedirect", false, CallResult::Refused),
            (Some(404), "", false, CallResult::Absent),
            (Some(404), "<Code>NoSuchEntity</Code>", false, CallResult::Absent),
            (Some(400), "{\"__type\":\"NotFoundException\"}", false, CallResult::Absent),
            (Some(403), "", false, CallResult::Denied),
            (Some(400), "{\"__type\":\"AccessDeniedException\"}", false, CallResult::Denied),
            (Some(409), "<Code>EntityAlreadyExists</Code>", false, CallResult::Conflict),
            (Some(409), "<Code>LimitExceeded</Code>", false, CallResult::Refused),
            (Some(412), "", false, CallResult::Conflict),
            (Some(400), "<Code>Throttling</Code>", false, CallResult::Throttled),
            (Some(400), "<Code>RequestLimitExceeded</Code>", false, CallResult::Throttled),
            (Some(503), "<Code>SlowDown</Code>", false, CallResult::Throttled),
            (Some(429), "", false, CallResult::Throttled),
            (Some(400), "<Code>MalformedPolicyDocument</Code>", false, CallResult::Refused),
            (Some(500), "", false, CallResult::Failed),
        ] {
            assert_eq!(CallResult::of(status, body, is_understood), result, "{status:?} {body}");
        }
    }
}
