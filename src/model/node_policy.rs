//! IAM policy of the control-plane nodes: the least that irsad needs.
//!
//! Pure text: nothing here asks AWS.

use super::{
    issuer::IssuerUrl,
    region::{AccountId, Partition, oidc_provider_arn},
    trust_policy::{PolicyError, PublicObjects, Statement, render},
};

/// Longest customer managed policy, in characters; IAM does not count white space (IAM and AWS STS quotas).
const LONGEST_MANAGED_POLICY: usize = 6144;

/// What irsad does with AWS, for the policy of its nodes' role.
#[derive(Debug, Clone)]
pub struct NodeDuties<'a> {
    /// The objects to publish; `None` where they are not in S3.
    pub objects: Option<PublicObjects<'a>>,
    /// Whether the bucket may have to be created.
    pub creates_bucket: bool,
    /// Whether the bucket's policy and public access block are irsad's to set.
    pub opens_bucket: bool,
    /// Account and issuer of the IAM OIDC provider; `None` where someone else looks after it.
    pub provider: Option<(Partition, &'a AccountId, &'a IssuerUrl)>,
}

/// The least that a control-plane node's role must allow for `duties`; `None` where irsad asks AWS for nothing.
///
/// `sts:GetCallerIdentity`, the one other call, needs no permission.
///
/// # Errors
/// More characters than IAM takes.
pub fn node_policy(duties: &NodeDuties<'_>) -> Result<Option<String>, PolicyError> {
    let mut statements = Vec::new();
    if let Some(objects) = &duties.objects {
        // Without ListBucket a missing object is answered with 403: it could not be told from one that is forbidden.
        let mut actions = vec!["s3:ListBucket"];
        if duties.creates_bucket {
            actions.insert(0, "s3:CreateBucket");
        }
        if duties.opens_bucket {
            actions.extend(["s3:GetBucketPolicy", "s3:PutBucketPolicy"]);
            actions.extend(["s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"]);
        }
        statements.push(Statement::of_role("IrsadBucket", &actions, objects.bucket_arn()));
        statements.push(Statement::of_role("IrsadDocuments", &["s3:GetObject", "s3:PutObject"], objects.arns()));
    }
    if let Some((partition, account, issuer)) = duties.provider {
        let actions = [
            "iam:GetOpenIDConnectProvider",
            "iam:CreateOpenIDConnectProvider",
            "iam:TagOpenIDConnectProvider",
            "iam:AddClientIDToOpenIDConnectProvider",
        ];
        let provider = oidc_provider_arn(partition, account, issuer);
        statements.push(Statement::of_role("IrsadProvider", &actions, provider));
    }
    if statements.is_empty() {
        return Ok(None);
    }
    render(statements, "node policy", LONGEST_MANAGED_POLICY, "use a shorter issuer").map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::location::BucketName;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn keys() -> [String; 2] {
        [".well-known/openid-configuration", "openid/v1/jwks"].map(str::to_owned)
    }

    #[test]
    fn node_policy_allows_what_the_duties_need_and_no_more() -> Outcome {
        let (bucket, account): (BucketName, AccountId) = ("prod-1-oidc".parse()?, "123456789012".parse()?);
        let (issuer, keys): (IssuerUrl, _) = ("https://oidc.example.com/prod-1".parse()?, keys());
        let all = NodeDuties {
            objects: Some(PublicObjects { partition: Partition::GovCloud, bucket: &bucket, keys: &keys }),
            creates_bucket: true,
            opens_bucket: true,
            provider: Some((Partition::GovCloud, &account, &issuer)),
        };
        let expected = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "IrsadBucket",
      "Effect": "Allow",
      "Action": [
        "s3:CreateBucket",
        "s3:ListBucket",
        "s3:GetBucketPolicy",
        "s3:PutBucketPolicy",
        "s3:GetBucketPublicAccessBlock",
        "s3:PutBucketPublicAccessBlock"
      ],
      "Resource": "arn:aws-us-gov:s3:::prod-1-oidc"
    },
    {
      "Sid": "IrsadDocuments",
      "Effect": "Allow",
      "Action": [
        "s3:GetObject",
        "s3:PutObject"
      ],
      "Resource": [
        "arn:aws-us-gov:s3:::prod-1-oidc/.well-known/openid-configuration",
        "arn:aws-us-gov:s3:::prod-1-oidc/openid/v1/jwks"
      ]
    },
    {
      "Sid": "IrsadProvider",
      "Effect": "Allow",
      "Action": [
        "iam:GetOpenIDConnectProvider",
        "iam:CreateOpenIDConnectProvider",
        "iam:TagOpenIDConnectProvider",
        "iam:AddClientIDToOpenIDConnectProvider"
      ],
      "Resource": "arn:aws-us-gov:iam::123456789012:oidc-provider/oidc.example.com/prod-1"
    }
  ]
}
"#;
        assert_eq!(node_policy(&all)?.as_deref(), Some(expected));

        let less = NodeDuties { creates_bucket: false, opens_bucket: false, provider: None, ..all.clone() };
        let policy: Value = serde_json::from_str(&node_policy(&less)?.ok_or("a policy")?)?;
        assert_eq!(policy["Statement"][0]["Action"], json!("s3:ListBucket"));
        assert_eq!(policy["Statement"].as_array().map(Vec::len), Some(2));
        let nothing = NodeDuties { objects: None, provider: None, ..all };
        assert_eq!(node_policy(&nothing)?, None);
        Ok(())
    }
}
