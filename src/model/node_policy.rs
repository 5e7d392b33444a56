//! IAM policy of the control-plane nodes: the least that irsad needs.
//!
//! Pure text: nothing here asks AWS.

use serde_json::{Value, json};

use super::{
    issuer::IssuerUrl,
    keyring_bucket::KeyringBucket,
    kms_key::KmsKey,
    region::{AccountId, Partition, Region, oidc_provider_arn},
    role::{PolicyArn, path},
    trust_policy::{PolicyError, PublicObjects, Statement, render},
};

/// Longest customer managed policy, in characters; IAM does not count white space (IAM and AWS STS quotas).
const LONGEST_MANAGED_POLICY: usize = 6144;

/// What a node asks of the KMS key.
pub(super) const SEALING: [&str; 2] = ["kms:GenerateDataKey", "kms:Decrypt"];

/// Which of a cluster's permissions a policy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Every one: [`Part::Node`] and [`Part::Leader`] together.
    All,
    /// What every control-plane node asks for, the leader too.
    Node,
    /// What a node asks for only while it leads. Any control-plane node can come to lead.
    Leader,
}

impl Part {
    /// Those of `actions` that belong here, as a statement; `None` where there are none.
    fn allow(self, sid: &str, actions: &[Action], resource: impl Into<Value>) -> Option<Statement> {
        let own = actions.iter().filter(|(_, part)| self == Self::All || self == *part);
        let own: Vec<&str> = own.map(|(action, _)| *action).collect();
        (!own.is_empty()).then(|| Statement::of_role(sid, &own, resource))
    }
}

/// An action of IAM's and who asks for it.
type Action = (&'static str, Part);

/// What irsad does with AWS, for the policy of its nodes' role.
#[derive(Debug, Clone)]
pub struct NodeDuties<'a> {
    /// The objects to publish; `None` where they are not in S3.
    pub objects: Option<PublicObjects<'a>>,
    /// Whether the buckets may have to be created, and the keyring's set up.
    pub creates_bucket: bool,
    /// Whether the documents' bucket policy and public access block are irsad's to set.
    pub opens_bucket: bool,
    /// Account and issuer of the IAM OIDC provider; `None` where someone else looks after it.
    pub provider: Option<(Partition, &'a AccountId, &'a IssuerUrl)>,
    /// The keyring; `None` where it is not in S3.
    pub keyring: Option<KeyringBucket<'a>>,
    /// Sealing of private halves; `None` where no KMS key is configured.
    pub sealing: Option<Sealing<'a>>,
    /// Roles of service accounts; `None` where irsad makes none.
    pub roles: Option<RoleDuties<'a>>,
}

/// The roles of a cluster.
#[derive(Debug, Clone)]
pub struct RoleDuties<'a> {
    /// Partition of the account.
    pub partition: Partition,
    /// The account.
    pub account: &'a AccountId,
    /// The cluster whose roles they are.
    pub cluster: &'a str,
    /// The permissions boundary that each must have, where one is configured.
    pub boundary: Option<&'a PolicyArn>,
}

impl RoleDuties<'_> {
    /// Whose a role is shows only when it is found, so that roles are looked at wherever they stand; changed are those below our path
    /// alone. What gives permissions is allowed on roles with the boundary only (IAM user guide, "Permissions boundaries for IAM
    /// entities").
    fn statements(&self) -> [Statement; 3] {
        let ours = format!("arn:{}:iam::{}:role{}*", self.partition, self.account, path(self.cluster));
        let looks = ["iam:GetPolicy", "iam:GetRole", "iam:ListRoles"];
        let keeps = [
            "iam:DeleteRole",
            "iam:DeleteRolePolicy",
            "iam:DetachRolePolicy",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
            "iam:TagRole",
            "iam:UpdateAssumeRolePolicy",
            "iam:UpdateRole",
        ];
        let gives = ["iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"];
        let gives: Vec<&str> =
            gives.into_iter().filter(|it| self.boundary.is_some() || !it.contains("Boundary")).collect();
        let gives = Statement::of_role("IrsadRolePermissions", &gives, ours.clone());
        let gives = match self.boundary {
            Some(arn) => gives.with_condition(json!({ "StringEquals": { "iam:PermissionsBoundary": arn.as_str() } })),
            None => gives,
        };
        [Statement::of_role("IrsadRolesSeen", &looks, "*"), Statement::of_role("IrsadRoles", &keeps, ours), gives]
    }
}

/// A KMS key and what it seals.
#[derive(Debug, Clone)]
pub struct Sealing<'a> {
    /// As configured.
    pub key: &'a KmsKey,
    /// Partition and region that KMS is asked in.
    pub region: &'a Region,
    /// The nodes' account, which the key is of where its name does not say another.
    pub account: &'a AccountId,
    /// Cluster whose private halves it seals.
    pub cluster: &'a str,
}

impl Sealing<'_> {
    /// Encryption context of this cluster's data keys, as condition keys.
    pub(super) fn context(cluster: &str) -> Value {
        json!({ "kms:EncryptionContext:app": "irsad", "kms:EncryptionContext:cluster": cluster })
    }

    /// Nobody who has this policy can open another cluster's private halves, though one key may seal them all: KMS compares the
    /// encryption context (AWS KMS developer guide, "Encryption context").
    fn statement(&self) -> Statement {
        let resource = self.key.policy_resource(self.region.partition(), self.region, self.account);
        let mut equals = Self::context(self.cluster);
        if let Some(alias) = self.key.alias() {
            equals["kms:RequestAlias"] = alias.into();
        }
        let statement = Statement::of_role("IrsadSealing", &SEALING, resource);
        statement.with_condition(json!({ "StringEquals": equals }))
    }
}

/// The least that a control-plane node's role must allow for its `part` of `duties`; `None` where irsad asks AWS for nothing.
///
/// `sts:GetCallerIdentity`, the one other call, needs no permission.
///
/// # Errors
/// More characters than IAM takes.
pub fn node_policy(duties: &NodeDuties<'_>, part: Part) -> Result<Option<String>, PolicyError> {
    let mut statements = Vec::new();
    if let Some(objects) = &duties.objects {
        statements.extend(document_statements(objects, duties, part));
    }
    if let Some((partition, account, issuer)) = duties.provider {
        let actions = [
            ("iam:GetOpenIDConnectProvider", Part::Node),
            ("iam:CreateOpenIDConnectProvider", Part::Leader),
            ("iam:TagOpenIDConnectProvider", Part::Leader),
            ("iam:AddClientIDToOpenIDConnectProvider", Part::Leader),
        ];
        statements.extend(part.allow("IrsadProvider", &actions, oidc_provider_arn(partition, account, issuer)));
    }
    if let Some(keyring) = &duties.keyring {
        statements.extend(keyring_statements(keyring, duties.creates_bucket, part));
    }
    if part != Part::Leader {
        statements.extend(duties.sealing.as_ref().map(Sealing::statement));
    }
    if part != Part::Node {
        statements.extend(duties.roles.iter().flat_map(RoleDuties::statements));
    }
    if statements.is_empty() {
        return Ok(None);
    }
    render(statements, "node policy", LONGEST_MANAGED_POLICY, "use a shorter issuer").map(Some)
}

fn document_statements(
    objects: &PublicObjects<'_>,
    duties: &NodeDuties<'_>,
    part: Part,
) -> impl Iterator<Item = Statement> {
    // Without ListBucket a missing object is answered with 403: it could not be told from one that is forbidden.
    let mut actions = vec![("s3:ListBucket", Part::Node)];
    if duties.creates_bucket {
        // A bucket is tagged by the call that creates it, which asks for both (Amazon S3 API reference, `CreateBucketConfiguration`).
        actions.splice(0..0, [("s3:CreateBucket", Part::Leader), ("s3:TagResource", Part::Leader)]);
        actions.push(("s3:GetBucketPolicy", Part::Node));
    }
    if duties.opens_bucket {
        actions.push(("s3:PutBucketPolicy", Part::Leader));
        actions.push(("s3:GetBucketPublicAccessBlock", Part::Node));
        actions.push(("s3:PutBucketPublicAccessBlock", Part::Leader));
    }
    let on_objects = [("s3:GetObject", Part::Node), ("s3:PutObject", Part::Leader)];
    let bucket = part.allow("IrsadBucket", &actions, objects.bucket_arn());
    bucket.into_iter().chain(part.allow("IrsadDocuments", &on_objects, objects.arns()))
}

/// Nothing here deletes: what the bucket's own policy denies is not allowed either. Every node makes sure of the bucket before it writes
/// what it has to tell.
fn keyring_statements(
    keyring: &KeyringBucket<'_>,
    creates_bucket: bool,
    part: Part,
) -> impl Iterator<Item = Statement> {
    let mut actions = vec!["s3:ListBucket"];
    actions.extend(["s3:GetBucketPolicy", "s3:GetBucketPublicAccessBlock", "s3:GetBucketVersioning"]);
    if creates_bucket {
        actions.insert(0, "s3:CreateBucket");
        actions.extend(["s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock", "s3:PutBucketVersioning"]);
    }
    let actions: Vec<Action> = actions.into_iter().map(|action| (action, Part::Node)).collect();
    let on_objects = ["s3:GetObject", "s3:PutObject"].map(|action| (action, Part::Node));
    let bucket = part.allow("IrsadKeyringBucket", &actions, keyring.bucket_arn());
    bucket.into_iter().chain(part.allow("IrsadKeyring", &on_objects, keyring.objects("")))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
            keyring: None,
            sealing: None,
            roles: None,
        };
        let expected = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "IrsadBucket",
      "Effect": "Allow",
      "Action": [
        "s3:CreateBucket",
        "s3:TagResource",
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
        assert_eq!(node_policy(&all, Part::All)?.as_deref(), Some(expected));

        let less = NodeDuties { creates_bucket: false, opens_bucket: false, provider: None, ..all.clone() };
        let policy: Value = serde_json::from_str(&node_policy(&less, Part::All)?.ok_or("a policy")?)?;
        assert_eq!(policy["Statement"][0]["Action"], json!("s3:ListBucket"));
        assert_eq!(policy["Statement"].as_array().map(Vec::len), Some(2));

        let front = NodeDuties { opens_bucket: false, ..all.clone() };
        let bucket = |part| -> Result<Value, Box<dyn std::error::Error>> {
            let policy: Value = serde_json::from_str(&node_policy(&front, part)?.ok_or("a policy")?)?;
            Ok(policy["Statement"][0]["Action"].clone())
        };
        assert_eq!(bucket(Part::Node)?, json!(["s3:ListBucket", "s3:GetBucketPolicy"]));
        assert_eq!(bucket(Part::Leader)?, json!(["s3:CreateBucket", "s3:TagResource"]));
        let nothing = NodeDuties { objects: None, provider: None, ..all };
        assert_eq!(node_policy(&nothing, Part::All)?, None);
        Ok(())
    }

    fn statements(duties: &NodeDuties<'_>) -> Result<Value, Box<dyn std::error::Error>> {
        let mut policy: Value = serde_json::from_str(&node_policy(duties, Part::All)?.ok_or("a policy")?)?;
        Ok(policy["Statement"].take())
    }

    #[test]
    fn node_policy_of_a_keyring_writes_seals_and_opens_for_its_own_cluster() -> Outcome {
        let (bucket, region): (BucketName, Region) = ("prod-1-keys".parse()?, "eu-west-1".parse()?);
        let (account, key): (AccountId, KmsKey) = ("123456789012".parse()?, "alias/irsad".parse()?);
        let keyring = KeyringBucket { partition: Partition::Commercial, bucket: &bucket, prefix: "prod-1" };
        let sealing = Sealing { key: &key, region: &region, account: &account, cluster: "prod-1" };
        let duties = NodeDuties {
            objects: None,
            creates_bucket: true,
            opens_bucket: true,
            provider: None,
            keyring: Some(keyring),
            sealing: Some(sealing.clone()),
            roles: None,
        };
        let sealing_by = |resource: &str, more: Option<&str>| {
            let mut equals = json!({ "kms:EncryptionContext:app": "irsad", "kms:EncryptionContext:cluster": "prod-1" });
            if let Some(alias) = more {
                equals["kms:RequestAlias"] = json!(alias);
            }
            json!({
                "Sid": "IrsadSealing", "Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                "Resource": resource, "Condition": { "StringEquals": equals },
            })
        };
        let by_alias = sealing_by("arn:aws:kms:eu-west-1:123456789012:key/*", Some("alias/irsad"));
        let set_up = json!([
            "s3:CreateBucket",
            "s3:ListBucket",
            "s3:GetBucketPolicy",
            "s3:GetBucketPublicAccessBlock",
            "s3:GetBucketVersioning",
            "s3:PutBucketPolicy",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketVersioning",
        ]);
        let expected = json!([
            { "Sid": "IrsadKeyringBucket", "Effect": "Allow", "Action": set_up, "Resource": "arn:aws:s3:::prod-1-keys" },
            {
                "Sid": "IrsadKeyring", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": "arn:aws:s3:::prod-1-keys/prod-1/*",
            },
            by_alias,
        ]);
        assert_eq!(statements(&duties)?, expected);

        let own = NodeDuties { creates_bucket: false, ..duties.clone() };
        let look =
            json!(["s3:ListBucket", "s3:GetBucketPolicy", "s3:GetBucketPublicAccessBlock", "s3:GetBucketVersioning"]);
        assert_eq!(statements(&own)?[0]["Action"], look);

        let arn = "arn:aws:kms:eu-west-1:210987654321:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        let named = arn.parse()?;
        let duties = NodeDuties { keyring: None, sealing: Some(Sealing { key: &named, ..sealing }), ..duties };
        assert_eq!(statements(&duties)?, json!([sealing_by(arn, None)]));
        Ok(())
    }

    /// Action and resource of every statement.
    fn allowed(duties: &NodeDuties<'_>, part: Part) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
        let Some(text) = node_policy(duties, part)? else { return Ok(Vec::new()) };
        let policy: Value = serde_json::from_str(&text)?;
        let texts = |value: &Value| -> Vec<String> {
            let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let statements = policy["Statement"].as_array().ok_or("a list")?.iter();
        let pairs = statements.flat_map(|statement| {
            let resources = texts(&statement["Resource"]);
            texts(&statement["Action"])
                .into_iter()
                .flat_map(move |action| resources.clone().into_iter().map(move |resource| (action.clone(), resource)))
        });
        Ok(pairs.collect())
    }

    #[test]
    fn both_parts_together_are_the_whole_and_only_the_leader_writes_what_the_world_reads() -> Outcome {
        let (bucket, account): (BucketName, AccountId) = ("prod-1-oidc".parse()?, "123456789012".parse()?);
        let (issuer, keys): (IssuerUrl, _) = ("https://oidc.example.com/prod-1".parse()?, keys());
        let (keys_bucket, region): (BucketName, Region) = ("prod-1-keys".parse()?, "eu-west-1".parse()?);
        let key: KmsKey = "alias/irsad".parse()?;
        let duties = NodeDuties {
            objects: Some(PublicObjects { partition: Partition::Commercial, bucket: &bucket, keys: &keys }),
            creates_bucket: true,
            opens_bucket: true,
            provider: Some((Partition::Commercial, &account, &issuer)),
            keyring: Some(KeyringBucket { partition: Partition::Commercial, bucket: &keys_bucket, prefix: "" }),
            sealing: Some(Sealing { key: &key, region: &region, account: &account, cluster: "prod-1" }),
            roles: Some(RoleDuties {
                partition: Partition::Commercial,
                account: &account,
                cluster: "prod-1",
                boundary: None,
            }),
        };
        let (node, leader) = (allowed(&duties, Part::Node)?, allowed(&duties, Part::Leader)?);
        let mut both = [node.clone(), leader.clone()].concat();
        let mut all = allowed(&duties, Part::All)?;
        both.sort();
        all.sort();
        assert_eq!(both, all);
        let writes = |(action, resource): &&(String, String)| {
            (action.contains(":Put") || action.contains(":Create")) && !resource.contains("prod-1-keys")
        };
        assert_eq!(node.iter().filter(writes).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
        assert!(leader.iter().all(|(_, resource)| !resource.contains("prod-1-keys") && !resource.contains(":kms:")));

        let folder = NodeDuties { objects: None, provider: None, roles: None, ..duties };
        assert_eq!(node_policy(&folder, Part::Leader)?, None);
        Ok(())
    }

    #[test]
    fn node_policy_of_roles_changes_none_outside_its_path_and_gives_permissions_within_the_boundary_only() -> Outcome {
        let (account, boundary): (AccountId, PolicyArn) =
            ("123456789012".parse()?, "arn:aws-cn:iam::123456789012:policy/apps".parse()?);
        let roles =
            RoleDuties { partition: Partition::China, account: &account, cluster: "prod-1", boundary: Some(&boundary) };
        let of = |roles: RoleDuties<'_>| {
            statements(&NodeDuties {
                objects: None,
                creates_bucket: false,
                opens_bucket: false,
                provider: None,
                keyring: None,
                sealing: None,
                roles: Some(roles),
            })
        };
        let with_boundary = of(roles.clone())?;
        let ours = "arn:aws-cn:iam::123456789012:role/irsad/prod-1/*";
        let writes = |action: &Value| {
            !["iam:Get", "iam:List"].iter().any(|read| action.as_str().is_some_and(|it| it.contains(read)))
        };
        for statement in with_boundary.as_array().ok_or("a list")? {
            let actions = statement["Action"].as_array().ok_or("actions")?;
            if actions.iter().any(writes) {
                assert_eq!(statement["Resource"], ours);
            }
            let gives = actions.iter().any(|it| {
                ["iam:Create", "iam:Attach", "iam:Put"]
                    .iter()
                    .any(|give| it.as_str().is_some_and(|it| it.contains(give)))
            });
            let condition = json!({ "StringEquals": { "iam:PermissionsBoundary": boundary.as_str() } });
            assert_eq!(statement.get("Condition"), gives.then_some(&condition), "{statement}");
        }
        assert!(!with_boundary.to_string().contains("DeleteRolePermissionsBoundary"));
        let without = of(RoleDuties { boundary: None, ..roles })?;
        assert!(!without.to_string().contains("Boundary"), "{without}");
        Ok(())
    }
}
