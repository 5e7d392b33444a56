//! Policies of what is private, the keyring's bucket and the KMS key that seals: the control plane's role and nobody else.
//!
//! Pure text: nothing here asks AWS. A role of worker nodes, or a person's, that is allowed everything in its own account is denied
//! here all the same: an explicit denial comes before what any other policy allows (IAM user guide, "Policy evaluation logic").
//! Who may change these policies still can, which CloudTrail notes.

use std::{fmt, str::FromStr};

use serde_json::{Value, json};
use thiserror::Error;

use super::{
    keyring_bucket::{KeyringBucket, NO_STATEMENTS},
    node_policy::{SEALING, Sealing},
    pod_check::RoleArn,
    region::AccountId,
    trust_policy::{PolicyError, with_statements},
};

/// What reads, writes or removes an object, in any of its versions. Bucket settings stay with who looks after the account.
const OBJECT_ACTIONS: [&str; 4] = ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*", "s3:RestoreObject"];
/// What opens, makes or hands on what the key has sealed (AWS KMS developer guide, "AWS KMS permissions").
const KEY_USE: [&str; 5] = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant"];
/// What the account's administrators do with a key without being able to use it (AWS KMS developer guide, "Default key policy").
const KEY_ADMINISTRATION: [&str; 14] = [
    "kms:CancelKeyDeletion",
    "kms:Create*",
    "kms:Delete*",
    "kms:Describe*",
    "kms:Disable*",
    "kms:Enable*",
    "kms:Get*",
    "kms:List*",
    "kms:Put*",
    "kms:Revoke*",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:Update*",
];

/// ARN of the role of a cluster's control-plane nodes, with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlaneRole(String);

/// Why a text names no role.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not the ARN of a role; write one like arn:aws:iam::123456789012:role/prod-1-control-plane")]
pub struct ControlPlaneRoleError(String);

impl FromStr for ControlPlaneRole {
    type Err = ControlPlaneRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        RoleArn::read(text).map(|_| Self(text.to_owned())).ok_or_else(|| ControlPlaneRoleError(text.to_owned()))
    }
}

impl fmt::Display for ControlPlaneRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ControlPlaneRole {
    /// Denies `action` to everybody else. Of a session of the role `aws:PrincipalArn` is the role's ARN (IAM user guide, "AWS global
    /// condition context keys"); who has none, as a stranger, is denied as well.
    fn denies_others(&self, sid: &str, action: &[&str], resource: Value) -> Value {
        json!({
            "Sid": sid,
            "Effect": "Deny",
            "Principal": "*",
            "Action": action,
            "Resource": resource,
            "Condition": { "ArnNotEquals": { "aws:PrincipalArn": self.0 } },
        })
    }

    /// Policy of the bucket with a keyring: what irsad itself keeps there (see [`KeyringBucket::policy`]), and its objects for this role
    /// alone. `sid` is [`statement_id`](super::trust_policy::statement_id).
    ///
    /// # Errors
    /// More bytes than S3 takes.
    pub fn keyring_bucket_policy(&self, bucket: &KeyringBucket<'_>, sid: &str) -> Result<String, PolicyError> {
        let others = self.denies_others(&format!("{sid}ControlPlaneOnly"), &OBJECT_ACTIONS, bucket.objects("").into());
        let own = bucket.policy(None, sid)?.unwrap_or_else(|| NO_STATEMENTS.to_owned());
        Ok(with_statements(&own, vec![others])?.unwrap_or(own))
    }

    /// Policy of the KMS key that seals `cluster`'s private halves: this role uses it, for that cluster only; the account looks after it
    /// and cannot use it.
    pub fn key_policy(&self, account: &AccountId, cluster: &str) -> String {
        let partition = self.0.split(':').nth(1).unwrap_or_default();
        let policy = json!({ "Version": "2012-10-17", "Statement": [
            {
                "Sid": "IrsadAdministration",
                "Effect": "Allow",
                "Principal": { "AWS": format!("arn:{partition}:iam::{account}:root") },
                "Action": KEY_ADMINISTRATION,
                "Resource": "*",
            },
            {
                "Sid": "IrsadSealing",
                "Effect": "Allow",
                "Principal": { "AWS": self.0 },
                "Action": SEALING,
                "Resource": "*",
                "Condition": { "StringEquals": Sealing::context(cluster) },
            },
            self.denies_others("IrsadControlPlaneOnly", &KEY_USE, json!("*")),
        ]});
        serde_json::to_string_pretty(&policy).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{location::BucketName, region::Partition, trust_policy::statement_id};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const ROLE: &str = "arn:aws:iam::123456789012:role/nodes/prod-1-control-plane";

    #[test]
    fn keyring_bucket_is_for_the_control_plane_by_tls_and_irsad_finds_nothing_to_change_there() -> Outcome {
        let (bucket, role): (BucketName, ControlPlaneRole) = ("prod-1-keys".parse()?, ROLE.parse()?);
        let (place, sid) =
            (KeyringBucket { partition: Partition::Commercial, bucket: &bucket, prefix: "a" }, statement_id("prod-1"));
        let text = role.keyring_bucket_policy(&place, &sid)?;
        assert_eq!(place.policy(Some(&text), &sid)?, None);
        let policy: Value = serde_json::from_str(&text)?;
        let statements = policy["Statement"].as_array().ok_or("a list")?;
        assert!(statements.iter().all(|statement| statement["Effect"] == "Deny"), "it lets nobody in: {text}");
        let expected = json!([
            {
                "Sid": "IrsadprodDash1TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
                "Resource": ["arn:aws:s3:::prod-1-keys", "arn:aws:s3:::prod-1-keys/*"],
                "Condition": { "Bool": { "aws:SecureTransport": "false" } },
            },
            {
                "Sid": "IrsadprodDash1ControlPlaneOnly", "Effect": "Deny", "Principal": "*",
                "Action": ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*", "s3:RestoreObject"],
                "Resource": "arn:aws:s3:::prod-1-keys/a/*",
                "Condition": { "ArnNotEquals": { "aws:PrincipalArn": ROLE } },
            },
        ]);
        assert_eq!(json!(statements[3..]), expected);
        Ok(())
    }

    #[test]
    fn kms_key_opens_for_the_control_plane_and_its_cluster_and_is_denied_to_everybody_else() -> Outcome {
        let role: ControlPlaneRole = ROLE.replace("arn:aws:", "arn:aws-cn:").parse()?;
        let policy: Value = serde_json::from_str(&role.key_policy(&"123456789012".parse()?, "prod-1"))?;
        let statements = policy["Statement"].as_array().ok_or("a list")?;
        assert_eq!(statements[0]["Principal"]["AWS"], "arn:aws-cn:iam::123456789012:root");
        let administration = statements[0]["Action"].as_array().ok_or("a list")?;
        assert!(!administration.iter().any(|action| action == "kms:*" || action == "kms:Decrypt"));
        let expected = json!([
            {
                "Sid": "IrsadSealing", "Effect": "Allow", "Principal": { "AWS": role.to_string() },
                "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*",
                "Condition": {
                    "StringEquals": { "kms:EncryptionContext:app": "irsad", "kms:EncryptionContext:cluster": "prod-1" },
                },
            },
            {
                "Sid": "IrsadControlPlaneOnly", "Effect": "Deny", "Principal": "*",
                "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant"],
                "Resource": "*", "Condition": { "ArnNotEquals": { "aws:PrincipalArn": role.to_string() } },
            },
        ]);
        assert_eq!(json!(statements[1..]), expected);
        Ok(())
    }

    #[test]
    fn text_that_is_no_role_is_refused() {
        for text in ["", "control-plane", "arn:aws:iam::123456789012:user/me", "arn:aws:iam::1:role/a"] {
            assert_eq!(text.parse::<ControlPlaneRole>(), Err(ControlPlaneRoleError(text.to_owned())));
        }
    }
}
