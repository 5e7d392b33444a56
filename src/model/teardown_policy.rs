//! IAM policy of one teardown: what nodes may not do at any other time.
//!
//! Pure text: nothing here asks AWS.

use serde_json::json;

use super::{
    issuer::IssuerUrl,
    region::{AccountId, Partition, oidc_provider_arn},
    trust_policy::{PolicyError, PublicObjects, Statement, render},
};

/// Longest customer managed policy, in characters; IAM does not count white space (IAM and AWS STS quotas).
const LONGEST_MANAGED_POLICY: usize = 6144;

/// What a teardown deletes.
#[derive(Debug, Clone)]
pub struct TeardownDuties<'a> {
    /// The public objects; `None` where they are not in S3.
    pub objects: Option<PublicObjects<'a>>,
    /// Whether irsad may have created their bucket.
    pub created_bucket: bool,
    /// Account and issuer of the IAM OIDC provider; `None` where someone else looks after it.
    pub provider: Option<(Partition, &'a AccountId, &'a IssuerUrl)>,
    /// Key and value of the tag on what irsad created for this cluster.
    pub owner_tag: (String, String),
}

/// What to attach to the nodes' role for a teardown, and to take away after it; `None` where it deletes nothing in AWS.
///
/// # Errors
/// More characters than IAM takes.
pub fn teardown_policy(duties: &TeardownDuties<'_>) -> Result<Option<String>, PolicyError> {
    let mut statements = Vec::new();
    if let Some((partition, account, issuer)) = duties.provider {
        let (key, value) = &duties.owner_tag;
        let provider = oidc_provider_arn(partition, account, issuer);
        let ours = json!({ "StringEquals": { format!("aws:ResourceTag/{key}"): value } });
        let delete = Statement::of_role("IrsadTeardownProvider", &["iam:DeleteOpenIDConnectProvider"], provider);
        statements.push(delete.with_condition(ours));
    }
    if duties.objects.is_some() || duties.provider.is_some() {
        let mut lists = vec!["iam:ListRoles"];
        if duties.objects.is_some() && duties.created_bucket {
            lists.insert(0, "iam:ListOpenIDConnectProviders");
        }
        // A list has no resource of its own (service authorization reference, "Actions, resources, and condition keys for IAM").
        statements.push(Statement::of_role("IrsadTeardownSeen", &lists, "*"));
    }
    if let Some(objects) = &duties.objects {
        statements.push(Statement::of_role("IrsadTeardownDocuments", &["s3:DeleteObject"], objects.arns()));
        let mut actions = vec!["s3:GetBucketTagging", "s3:ListBucketVersions", "s3:GetBucketPolicy"];
        if duties.created_bucket {
            actions.extend(["s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:DeleteBucket"]);
        }
        statements.push(Statement::of_role("IrsadTeardownBucket", &actions, objects.bucket_arn()));
    }
    if statements.is_empty() {
        return Ok(None);
    }
    render(statements, "teardown policy", LONGEST_MANAGED_POLICY, "use a shorter issuer").map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::location::BucketName;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn teardown_may_delete_what_is_ours_and_nothing_else() -> Outcome {
        let (bucket, account): (BucketName, AccountId) = ("prod-1-oidc".parse()?, "123456789012".parse()?);
        let issuer: IssuerUrl = "https://oidc.example.com/prod-1".parse()?;
        let keys = [".well-known/openid-configuration", "openid/v1/jwks"].map(str::to_owned);
        let all = TeardownDuties {
            objects: Some(PublicObjects { partition: Partition::Commercial, bucket: &bucket, keys: &keys }),
            created_bucket: true,
            provider: Some((Partition::Commercial, &account, &issuer)),
            owner_tag: ("irsad/cluster".to_owned(), "prod-1".to_owned()),
        };
        let policy: Value = serde_json::from_str(&teardown_policy(&all)?.ok_or("a policy")?)?;
        let expected = json!([
            {
                "Sid": "IrsadTeardownProvider", "Effect": "Allow", "Action": "iam:DeleteOpenIDConnectProvider",
                "Resource": "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/prod-1",
                "Condition": { "StringEquals": { "aws:ResourceTag/irsad/cluster": "prod-1" } },
            },
            {
                "Sid": "IrsadTeardownSeen", "Effect": "Allow", "Action": ["iam:ListOpenIDConnectProviders", "iam:ListRoles"],
                "Resource": "*",
            },
            {
                "Sid": "IrsadTeardownDocuments", "Effect": "Allow", "Action": "s3:DeleteObject",
                "Resource": [
                    "arn:aws:s3:::prod-1-oidc/.well-known/openid-configuration",
                    "arn:aws:s3:::prod-1-oidc/openid/v1/jwks",
                ],
            },
            {
                "Sid": "IrsadTeardownBucket", "Effect": "Allow",
                "Action": [
                    "s3:GetBucketTagging", "s3:ListBucketVersions", "s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy",
                    "s3:DeleteBucket",
                ],
                "Resource": "arn:aws:s3:::prod-1-oidc",
            },
        ]);
        assert_eq!(policy["Statement"], expected);
        let theirs = TeardownDuties { created_bucket: false, provider: None, ..all.clone() };
        let policy = teardown_policy(&theirs)?.ok_or("a policy")?;
        assert!(!policy.contains("s3:DeleteBucket") && !policy.contains("OpenIDConnect"), "{policy}");
        assert!(policy.contains("iam:ListRoles"), "roles that are left are named: {policy}");
        let provider_alone = TeardownDuties { objects: None, ..all.clone() };
        let policy = teardown_policy(&provider_alone)?.ok_or("a policy")?;
        assert!(policy.contains("iam:ListRoles") && !policy.contains("iam:ListOpenID"), "{policy}");
        assert_eq!(teardown_policy(&TeardownDuties { objects: None, provider: None, ..all })?, None);
        Ok(())
    }
}
