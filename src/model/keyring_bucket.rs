//! Policy of the private bucket with a keyring: what nobody may do there, whatever their own permissions are.
//!
//! Pure text: nothing here asks S3. It allows nothing, so that nobody gets in by it; a person who must remove or overwrite an
//! object removes our statements first, which CloudTrail notes.

use serde_json::{Value, json};

use super::{
    location::BucketName,
    region::Partition,
    trust_policy::{PolicyError, with_statements},
};

/// A policy that says nothing.
pub(super) const NO_STATEMENTS: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

/// Where a keyring lies in S3.
#[derive(Debug, Clone, Copy)]
pub struct KeyringBucket<'a> {
    /// Partition of the bucket.
    pub partition: Partition,
    /// The bucket.
    pub bucket: &'a BucketName,
    /// What stands before every key, without slashes at its ends; empty for the bucket's root.
    pub prefix: &'a str,
}

impl KeyringBucket<'_> {
    pub(super) fn bucket_arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    /// Every object whose key begins with `below`, behind the prefix.
    pub(super) fn objects(&self, below: &str) -> String {
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        format!("{}/{prefix}{below}*", self.bucket_arn())
    }

    /// The bucket's policy with our four statements, `None` where `existing` has them. `sid` is
    /// [`statement_id`](super::trust_policy::statement_id): keyrings of several clusters in one bucket do not disturb each
    /// other.
    ///
    /// Those of [`KeyringBucket::kept_policy`], and:
    /// - Nothing is asked for without TLS (condition key `aws:SecureTransport`; Amazon S3 user guide, "Security best practices").
    ///
    /// # Errors
    /// As [`KeyringBucket::kept_policy`].
    pub fn policy(&self, existing: Option<&str>, sid: &str) -> Result<Option<String>, PolicyError> {
        let plain = json!({
            "Sid": format!("{sid}TlsOnly"),
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [self.bucket_arn(), format!("{}/*", self.bucket_arn())],
            "Condition": { "Bool": { "aws:SecureTransport": "false" } },
        });
        let ours = [&self.kept(sid)[..], &[plain]].concat();
        with_statements(existing.unwrap_or(NO_STATEMENTS), ours)
    }

    /// The bucket's policy with the three statements by which nothing is lost, `None` where `existing` has them.
    ///
    /// - Objects below `keys/` are only ever created (condition key `s3:if-none-match`; Amazon S3 user guide, "Enforce
    ///   conditional writes on Amazon S3 buckets").
    /// - Every other object is written with a condition, so that a copy by hand does not undo what a node has just written.
    /// - Nothing is deleted, no version either.
    ///
    /// # Errors
    /// [`PolicyError::NotPolicy`] where `existing` is no policy, and more bytes than S3 takes. Nothing must be written then.
    pub fn kept_policy(&self, existing: Option<&str>, sid: &str) -> Result<Option<String>, PolicyError> {
        with_statements(existing.unwrap_or(NO_STATEMENTS), self.kept(sid).to_vec())
    }

    fn kept(&self, sid: &str) -> [Value; 3] {
        let unconditional = json!({ "s3:if-match": "true", "s3:if-none-match": "true" });
        [
            self.denial(sid, "KeysOnce", "keys/", json!("s3:PutObject"), Some(json!({ "s3:if-none-match": "true" }))),
            self.denial(sid, "Conditional", "", json!("s3:PutObject"), Some(unconditional)),
            self.denial(sid, "Kept", "", json!(["s3:DeleteObject", "s3:DeleteObjectVersion"]), None),
        ]
    }

    /// `missing`: only where the request has none of these condition keys.
    fn denial(&self, sid: &str, name: &str, below: &str, action: Value, missing: Option<Value>) -> Value {
        let mut statement = json!({
            "Sid": format!("{sid}{name}"),
            "Effect": "Deny",
            "Principal": "*",
            "Action": action,
            "Resource": self.objects(below),
        });
        if let Some(missing) = missing {
            statement["Condition"] = json!({ "Null": missing });
        }
        statement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn policy(prefix: &str, existing: Option<&str>, sid: &str) -> Result<Option<Value>, Box<dyn std::error::Error>> {
        let bucket: BucketName = "prod-1-keys".parse()?;
        let place = KeyringBucket { partition: Partition::Commercial, bucket: &bucket, prefix };
        Ok(place.policy(existing, sid)?.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    #[test]
    fn keys_are_only_created_and_nothing_is_deleted_or_written_blindly_or_without_tls() -> Outcome {
        for (prefix, objects) in [("", "arn:aws:s3:::prod-1-keys/"), ("a/prod-1", "arn:aws:s3:::prod-1-keys/a/prod-1/")]
        {
            let expected = json!({ "Version": "2012-10-17", "Statement": [
                {
                    "Sid": "IrsadprodKeysOnce", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
                    "Resource": format!("{objects}keys/*"),
                    "Condition": { "Null": { "s3:if-none-match": "true" } },
                },
                {
                    "Sid": "IrsadprodConditional", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
                    "Resource": format!("{objects}*"),
                    "Condition": { "Null": { "s3:if-match": "true", "s3:if-none-match": "true" } },
                },
                {
                    "Sid": "IrsadprodKept", "Effect": "Deny", "Principal": "*",
                    "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
                    "Resource": format!("{objects}*"),
                },
                {
                    "Sid": "IrsadprodTlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
                    "Resource": ["arn:aws:s3:::prod-1-keys", "arn:aws:s3:::prod-1-keys/*"],
                    "Condition": { "Bool": { "aws:SecureTransport": "false" } },
                },
            ]});
            assert_eq!(policy(prefix, None, "Irsadprod")?, Some(expected), "{prefix:?}");
        }
        Ok(())
    }

    #[test]
    fn own_statements_are_put_right_and_those_of_others_stay() -> Outcome {
        let ours = policy("", None, "Irsadprod")?.ok_or("a policy")?;
        assert_eq!(policy("", Some(&ours.to_string()), "Irsadprod")?, None);

        let theirs = json!({ "Sid": "Theirs", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*" });
        let mut damaged = ours.clone();
        damaged["Statement"] = json!([theirs, ours["Statement"][2], ours["Statement"][0]]);
        damaged["Statement"][2]["Condition"] = json!({ "Null": { "s3:if-none-match": "false" } });
        let repaired = policy("", Some(&damaged.to_string()), "Irsadprod")?.ok_or("a policy")?;
        let all = [&[theirs], ours["Statement"].as_array().ok_or("a list")?.as_slice()].concat();
        assert_eq!(repaired["Statement"], json!(all));

        let second = policy("two", Some(&ours.to_string()), "Irsadtwo")?.ok_or("a policy")?;
        assert_eq!(second["Statement"].as_array().map(Vec::len), Some(8));
        Ok(())
    }

    #[test]
    fn policy_that_is_none_is_never_overwritten() {
        let error = policy("", Some("{}"), "Irsadprod").map_err(|error| error.to_string());
        let message = "the bucket's policy is not one that a statement can be added to (nothing changed): it has no Statement; repair it by hand";
        assert_eq!(error, Err(message.to_owned()));
    }
}
