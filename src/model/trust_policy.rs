//! IAM and S3 policy documents, as JSON text: who may take a role, who may read the two public objects.
//!
//! Pure text: nothing here asks AWS.

mod boilerplate;
mod fronts;
mod several;
mod web_identity;

use std::{collections::BTreeSet, fmt};

pub use boilerplate::{TRUST_POLICY_KEY, boilerplate, boilerplate_place};
pub use fronts::lets_a_front_read;
use serde::Serialize;
use serde_json::{Map, Value, json};
pub use several::role_trust_policy;
use thiserror::Error;
pub use web_identity::{Verdict, WebIdentity, verdict};

use super::{
    issuer::{Audience, IssuerUrl},
    location::BucketName,
    region::{AccountId, Partition, oidc_provider_arn},
};

/// Longest trust policy without a raised quota, in characters; IAM does not count white space (IAM and AWS STS quotas).
const LONGEST_TRUST_POLICY: usize = 2048;
/// Longest bucket policy, in bytes (S3 quotas).
const LONGEST_BUCKET_POLICY: usize = 20 * 1024;

/// Why there is no policy.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// A namespace that Kubernetes would not take.
    #[error(
        "{0:?} is not a namespace; use at most 63 lower-case letters, digits and hyphens, or a pattern with * and ?"
    )]
    Namespace(String),
    /// A service account that Kubernetes would not take.
    #[error(
        "{0:?} is not a service account; use at most 253 lower-case letters, digits, hyphens and dots, or a pattern with * and ?"
    )]
    ServiceAccount(String),
    /// `*` in both places.
    #[error(
        "namespace {namespace:?} with service account {name:?} would let every pod of the cluster take the role; name at least one of them"
    )]
    Everyone {
        /// As given.
        namespace: String,
        /// As given.
        name: String,
    },
    /// Without an audience the role would be open to tokens that were made for someone else.
    #[error("a trust policy needs at least one audience; use sts.amazonaws.com")]
    NoAudience,
    /// Nobody could take the role.
    #[error("a trust policy needs at least one service account and one issuer; name them")]
    NoSubject,
    /// More than the quota.
    #[error("the {kind} would have {length} characters and AWS takes {limit}; {cure}")]
    TooLong {
        /// Which policy.
        kind: &'static str,
        /// Characters that AWS counts.
        length: usize,
        /// Most that AWS takes.
        limit: usize,
        /// What to do.
        cure: &'static str,
    },
    /// A bucket policy that cannot be extended.
    #[error(
        "the bucket's policy is not one that a statement can be added to (nothing changed): {0}; repair it by hand"
    )]
    NotPolicy(String),
}

/// Whose tokens a role trusts: `sub` of a service account, or a pattern for several (`*` and `?`, as in `StringLike`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    namespace: String,
    name: String,
}

impl Subject {
    /// The service account `name` of `namespace`.
    ///
    /// # Errors
    /// A name that Kubernetes does not take (RFC 1123), or wildcards alone in both.
    pub fn new(namespace: &str, name: &str) -> Result<Self, PolicyError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let anything = |text: &str| text.bytes().all(|byte| byte == b'*' || byte == b'?');
        if namespace.len() > 63 || namespace.contains('.') || !is_dns_pattern(&namespace) {
            return Err(PolicyError::Namespace(namespace));
        }
        if name.len() > 253 || !is_dns_pattern(&name) {
            return Err(PolicyError::ServiceAccount(name));
        }
        if anything(&namespace) && anything(&name) {
            return Err(PolicyError::Everyone { namespace, name });
        }
        Ok(Self { namespace, name })
    }

    /// The namespace, or a pattern.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account, or a pattern.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it stands for several.
    pub fn is_pattern(&self) -> bool {
        self.namespace.contains(['*', '?']) || self.name.contains(['*', '?'])
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// Labels of RFC 1123 between dots, where `*` and `?` may stand for any character.
fn is_dns_pattern(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'*' | b'?');
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-');
    text.split('.').all(label)
}

/// A policy document (IAM JSON policy elements).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statement {
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    effect: &'static str,
    #[serde(skip_serializing_if = "Value::is_null")]
    principal: Value,
    action: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    resource: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    condition: Value,
}

impl Statement {
    /// Allows `action` on `resource`, as a part of a policy that is attached to a role.
    pub fn of_role(sid: &str, action: &[&str], resource: impl Into<Value>) -> Self {
        Self { sid: Some(sid.to_owned()), resource: resource.into(), ..Self::allow(action) }
    }

    /// Only under `condition`.
    pub fn with_condition(self, condition: Value) -> Self {
        Self { condition, ..self }
    }

    fn allow(action: &[&str]) -> Self {
        let (principal, resource, condition) = (Value::Null, Value::Null, Value::Null);
        Self { sid: None, effect: "Allow", principal, action: one_or_many(action), resource, condition }
    }
}

/// Trust policy of a role that `subject` may take with `AssumeRoleWithWebIdentity`: `sub` and `aud` are both compared.
///
/// # Errors
/// No audience, or more characters than IAM takes.
pub fn trust_policy(
    partition: Partition,
    account: &AccountId,
    issuer: &IssuerUrl,
    subject: &Subject,
    audiences: &[Audience],
) -> Result<String, PolicyError> {
    trust_policy_for(&oidc_provider_arn(partition, account, issuer), issuer, subject, audiences)
}

/// The same for the provider of that ARN.
fn trust_policy_for(
    provider_arn: &str,
    issuer: &IssuerUrl,
    subject: &Subject,
    audiences: &[Audience],
) -> Result<String, PolicyError> {
    if audiences.is_empty() {
        return Err(PolicyError::NoAudience);
    }
    let provider = issuer.without_scheme();
    let audiences: Vec<&str> = audiences.iter().map(Audience::as_str).collect();
    let mut equals = Map::from_iter([(format!("{provider}:aud"), one_or_many(&audiences))]);
    let sub = (format!("{provider}:sub"), Value::from(subject.to_string()));
    let mut condition = Map::new();
    if subject.is_pattern() {
        condition.insert("StringLike".to_owned(), Map::from_iter([sub]).into());
    } else {
        equals.extend([sub]);
    }
    condition.insert("StringEquals".to_owned(), equals.into());
    let statement = Statement {
        principal: json!({ "Federated": provider_arn }),
        condition: condition.into(),
        ..Statement::allow(&["sts:AssumeRoleWithWebIdentity"])
    };
    let cure = "use a shorter issuer or fewer audiences, or ask AWS to raise the quota and write the policy by hand";
    render(vec![statement], "trust policy", LONGEST_TRUST_POLICY, cure)
}

/// The two public objects of a cluster in a bucket, and nothing else of it.
#[derive(Debug, Clone)]
pub struct PublicObjects<'a> {
    /// Partition of the bucket.
    pub partition: Partition,
    /// The bucket.
    pub bucket: &'a BucketName,
    /// Keys of the discovery document and the JWK Set.
    pub keys: &'a [String; 2],
}

impl PublicObjects<'_> {
    pub(super) fn bucket_arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    pub(super) fn arns(&self) -> Vec<String> {
        self.keys.iter().map(|key| format!("{}/{key}", self.bucket_arn())).collect()
    }
}

/// The bucket's policy with one statement of ours, which lets anyone read exactly the objects `keys`. `None` where `existing` has it.
///
/// Statements of others stay as they are; ours is known by `sid`, see [`statement_id`].
///
/// # Errors
/// [`PolicyError::NotPolicy`] where `existing` is no policy, and more bytes than S3 takes. Nothing must be written then.
pub fn bucket_policy(
    existing: Option<&str>,
    sid: &str,
    partition: Partition,
    bucket: &BucketName,
    keys: &[String; 2],
) -> Result<Option<String>, PolicyError> {
    let objects = PublicObjects { partition, bucket, keys };
    let ours = Statement {
        sid: Some(sid.to_owned()),
        principal: json!("*"),
        resource: objects.arns().into(),
        ..Statement::allow(&["s3:GetObject"])
    };
    match existing {
        None => render(vec![ours], BUCKET_POLICY, LONGEST_BUCKET_POLICY, SHORTEN).map(Some),
        Some(text) => with_statements(text, vec![serde_json::to_value(ours).unwrap_or_default()]),
    }
}

const BUCKET_POLICY: &str = "bucket policy";
const SHORTEN: &str = "remove statements that are no longer needed";

/// The bucket policy `existing` without our statement: `None` where it has none of ours, `Some(None)` where nothing else stands in it.
///
/// # Errors
/// [`PolicyError::NotPolicy`] where `existing` is no policy. Nothing must be written then.
pub fn without_statement(existing: &str, sid: &str) -> Result<Option<Option<String>>, PolicyError> {
    let (mut policy, mut list) = read(existing)?;
    let before = list.len();
    list.retain(|statement| statement["Sid"] != sid);
    if list.len() == before {
        return Ok(None);
    }
    let is_empty = list.is_empty();
    policy["Statement"] = list.into();
    Ok(Some((!is_empty).then(|| policy.to_string())))
}

/// A policy and its statements, which are taken out of it.
fn read(existing: &str) -> Result<(Value, Vec<Value>), PolicyError> {
    let refused = |reason: &str| PolicyError::NotPolicy(reason.to_owned());
    let mut policy: Value = serde_json::from_str(existing).map_err(|error| refused(&error.to_string()))?;
    let statements = policy.get_mut("Statement").ok_or_else(|| refused("it has no Statement"))?;
    match statements.take() {
        Value::Array(list) if list.iter().all(Value::is_object) => Ok((policy, list)),
        single @ Value::Object(_) => Ok((policy, vec![single])),
        _ => Err(refused("its Statement is not a list of objects")),
    }
}

/// The bucket policy `existing` with the statements `ours`, known by their Sids, in place of those with the same Sids. `None` where it has
/// them.
pub(super) fn with_statements(existing: &str, ours: Vec<Value>) -> Result<Option<String>, PolicyError> {
    let (mut policy, list) = read(existing)?;
    let is_ours = |other: &Value| ours.iter().any(|own| own["Sid"] == other["Sid"]);
    let (own, mut list): (Vec<Value>, Vec<Value>) = list.into_iter().partition(is_ours);
    let has = |wanted: &Value| own.iter().any(|own| means_the_same(own, wanted));
    if own.len() == ours.len() && ours.iter().all(has) {
        return Ok(None);
    }
    list.extend(ours);
    policy["Statement"] = list.into();
    let text = serde_json::to_string_pretty(&policy).map_err(|error| PolicyError::NotPolicy(error.to_string()))?;
    within(text, &policy.to_string(), BUCKET_POLICY, LONGEST_BUCKET_POLICY, SHORTEN).map(Some)
}

/// Whether the bucket policy `text` has a statement with that `sid`.
pub fn has_statement(text: &str, sid: &str) -> bool {
    let policy: Value = serde_json::from_str(text).unwrap_or_default();
    policy["Statement"].as_array().is_some_and(|list| list.iter().any(|statement| statement["Sid"] == sid))
}

/// Sid of our statement for a cluster: `Irsad` and its name. A Sid takes letters and digits only, and clusters that share a
/// bucket must not have the same.
pub fn statement_id(cluster: &str) -> String {
    // A DNS label has no capital, so that `a-b` and `adashb` stay apart.
    format!("Irsad{}", cluster.replace('-', "Dash"))
}

/// Whether two statements say the same, however S3 has written them down.
fn means_the_same(one: &Value, other: &Value) -> bool {
    let texts = |value: &Value| -> Option<BTreeSet<String>> {
        match value {
            Value::String(text) => Some(BTreeSet::from([text.clone()])),
            Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    };
    let anyone = |value: &Value| texts(value.get("AWS").unwrap_or(value)) == Some(BTreeSet::from(["*".to_owned()]));
    let members = |value: &Value| value.as_object().map(|members| members.keys().cloned().collect::<BTreeSet<_>>());
    members(one) == members(other)
        && one["Sid"] == other["Sid"]
        && one["Condition"] == other["Condition"]
        && one["Effect"] == other["Effect"]
        && anyone(&one["Principal"])
        && anyone(&other["Principal"])
        && texts(&one["Action"]) == texts(&other["Action"])
        && texts(&one["Resource"]) == texts(&other["Resource"])
}

fn one_or_many(texts: &[&str]) -> Value {
    match texts {
        [one] => Value::from(*one),
        many => Value::from(many.to_vec()),
    }
}

pub(super) fn render(
    statement: Vec<Statement>,
    kind: &'static str,
    limit: usize,
    cure: &'static str,
) -> Result<String, PolicyError> {
    let policy = Policy { version: "2012-10-17", statement };
    // Text and lists only: writing them cannot fail.
    let text = serde_json::to_string_pretty(&policy).unwrap_or_default();
    let compact = serde_json::to_string(&policy).unwrap_or_default();
    within(text, &compact, kind, limit, cure)
}

fn within(
    text: String,
    compact: &str,
    kind: &'static str,
    limit: usize,
    cure: &'static str,
) -> Result<String, PolicyError> {
    let length = compact.chars().count();
    if length > limit { Err(PolicyError::TooLong { kind, length, limit, cure }) } else { Ok(text + "\n") }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn issuer() -> IssuerUrl {
        "https://oidc.example.com/prod-1".parse().expect("an issuer")
    }

    fn account() -> AccountId {
        "123456789012".parse().expect("an account")
    }

    fn bucket() -> BucketName {
        "prod-1-oidc".parse().expect("a bucket name")
    }

    static KEYS: LazyLock<[String; 2]> =
        LazyLock::new(|| [".well-known/openid-configuration".to_owned(), "openid/v1/jwks".to_owned()]);

    fn audiences(texts: &[&str]) -> Vec<Audience> {
        texts.iter().map(|text| text.parse().expect("an audience")).collect()
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn trust_policy_compares_sub_and_aud() {
        let subject = Subject::new("default", "app").expect("a subject");
        let audiences = audiences(&["sts.amazonaws.com"]);
        let text = trust_policy(Partition::Commercial, &account(), &issuer(), &subject, &audiences).expect("a policy");
        let expected = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {
        "Federated": "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/prod-1"
      },
      "Action": "sts:AssumeRoleWithWebIdentity",
      "Condition": {
        "StringEquals": {
          "oidc.example.com/prod-1:aud": "sts.amazonaws.com",
          "oidc.example.com/prod-1:sub": "system:serviceaccount:default:app"
        }
      }
    }
  ]
}
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn pattern_is_compared_with_string_like_and_the_audience_still_exactly() {
        for (namespace, name) in [("team-*", "app"), ("team", "app-?"), ("*", "app"), ("team", "*")] {
            let subject = Subject::new(namespace, name).expect("a subject");
            let audiences = audiences(&["sts.amazonaws.com", "vault"]);
            let text = trust_policy(Partition::China, &account(), &issuer(), &subject, &audiences).expect("a policy");
            let statement = &value(&text)["Statement"][0];
            assert_eq!(
                statement["Condition"],
                json!({
                    "StringEquals": { "oidc.example.com/prod-1:aud": ["sts.amazonaws.com", "vault"] },
                    "StringLike": { "oidc.example.com/prod-1:sub": format!("system:serviceaccount:{namespace}:{name}") },
                })
            );
            assert_eq!(
                statement["Principal"]["Federated"],
                "arn:aws-cn:iam::123456789012:oidc-provider/oidc.example.com/prod-1"
            );
        }
    }

    #[test]
    fn trust_policy_that_is_too_open_or_too_long_is_refused() {
        for (namespace, name, message) in [
            (
                "*",
                "*",
                "namespace \"*\" with service account \"*\" would let every pod of the cluster take the role; name at least one of them",
            ),
            (
                "Team",
                "app",
                "\"Team\" is not a namespace; use at most 63 lower-case letters, digits and hyphens, or a pattern with * and ?",
            ),
            (
                "a:b",
                "app",
                "\"a:b\" is not a namespace; use at most 63 lower-case letters, digits and hyphens, or a pattern with * and ?",
            ),
            (
                "",
                "app",
                "\"\" is not a namespace; use at most 63 lower-case letters, digits and hyphens, or a pattern with * and ?",
            ),
            (
                "team",
                "-app",
                "\"-app\" is not a service account; use at most 253 lower-case letters, digits, hyphens and dots, or a pattern with * and ?",
            ),
        ] {
            assert_eq!(Subject::new(namespace, name).expect_err("refused").to_string(), message);
        }
        let subject = Subject::new("default", "app").expect("a subject");
        let policy = |audiences: &[Audience]| {
            let policy = trust_policy(Partition::Commercial, &account(), &issuer(), &subject, audiences);
            policy.expect_err("refused").to_string()
        };
        assert_eq!(policy(&[]), "a trust policy needs at least one audience; use sts.amazonaws.com");
        assert_eq!(
            policy(&vec![audiences(&["a".repeat(200).as_str()]).remove(0); 10]),
            "the trust policy would have 2349 characters and AWS takes 2048; use a shorter issuer or fewer audiences, \
             or ask AWS to raise the quota and write the policy by hand"
        );
    }

    #[test]
    fn new_bucket_policy_opens_exactly_two_objects() {
        for partition in Partition::ALL {
            let bucket = bucket();
            let text = bucket_policy(None, &statement_id("prod-1"), partition, &bucket, &KEYS)
                .expect("a policy")
                .expect("a text");
            let expected = json!({
                "Version": "2012-10-17",
                "Statement": [{
                    "Sid": "IrsadprodDash1", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
                    "Resource": [
                        format!("arn:{partition}:s3:::prod-1-oidc/.well-known/openid-configuration"),
                        format!("arn:{partition}:s3:::prod-1-oidc/openid/v1/jwks"),
                    ],
                }],
            });
            assert_eq!(value(&text), expected);
            assert_eq!(
                bucket_policy(Some(&text), &statement_id("prod-1"), partition, &bucket, &KEYS).expect("a policy"),
                None
            );
        }
    }

    #[test]
    fn bucket_policy_keeps_the_statements_of_others() {
        let bucket = bucket();
        let theirs = json!({ "Sid": "Theirs", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*" });
        let list = json!({ "Version": "2008-10-17", "Id": "x", "Statement": [theirs] });
        let single = json!({ "Version": "2008-10-17", "Id": "x", "Statement": theirs });
        for existing in [list, single] {
            let text =
                bucket_policy(Some(&existing.to_string()), &statement_id("a-b"), Partition::Commercial, &bucket, &KEYS)
                    .expect("a policy")
                    .expect("a text");
            let both = value(&text);
            assert_eq!(
                (&both["Version"], &both["Id"], &both["Statement"][0]),
                (&json!("2008-10-17"), &json!("x"), &theirs)
            );
            assert_eq!(both["Statement"][1]["Sid"], "IrsadaDashb");
            let third = bucket_policy(Some(&text), &statement_id("adashb"), Partition::Commercial, &bucket, &KEYS)
                .expect("a policy")
                .expect("another cluster's own");
            assert_eq!(value(&third)["Statement"].as_array().map(Vec::len), Some(3));
        }
    }

    #[test]
    fn own_statement_is_put_right_and_left_alone_however_s3_writes_it() {
        let bucket = bucket();
        let text = bucket_policy(None, &statement_id("prod-1"), Partition::Commercial, &bucket, &KEYS)
            .expect("a policy")
            .expect("a text");
        let changed = |change: fn(&mut Value)| {
            let mut policy = value(&text);
            change(&mut policy["Statement"][0]);
            bucket_policy(Some(&policy.to_string()), &statement_id("prod-1"), Partition::Commercial, &bucket, &KEYS)
                .expect("a policy")
        };
        for same in [
            (|own| own["Principal"] = json!({ "AWS": "*" })) as fn(&mut Value),
            |own| own["Principal"] = json!({ "AWS": ["*"] }),
            |own| own["Action"] = json!(["s3:GetObject"]),
            |own| own["Resource"].as_array_mut().expect("a list").reverse(),
        ] {
            assert_eq!(changed(same), None);
        }
        for wrong in [
            (|own| own["Effect"] = json!("Deny")) as fn(&mut Value),
            |own| own["Principal"] = json!({ "AWS": "arn:aws:iam::123456789012:root" }),
            |own| own["Action"] = json!("s3:*"),
            |own| own["Resource"] = json!("*"),
            |own| own["Condition"] = json!({ "Bool": { "aws:SecureTransport": "true" } }),
        ] {
            assert_eq!(changed(wrong).as_deref().map(value), Some(value(&text)));
        }
    }

    #[test]
    fn bucket_policy_that_is_none_is_never_overwritten() {
        let bucket = bucket();
        let refused = |text: &str| {
            let policy = bucket_policy(Some(text), &statement_id("prod-1"), Partition::Commercial, &bucket, &KEYS);
            policy.expect_err("refused").to_string()
        };
        let message = |reason: &str| {
            format!(
                "the bucket's policy is not one that a statement can be added to (nothing changed): {reason}; repair it by hand"
            )
        };
        for (text, reason) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[]", "it has no Statement"),
            ("{}", "it has no Statement"),
            (r#"{"Statement":"x"}"#, "its Statement is not a list of objects"),
            (r#"{"Statement":["x"]}"#, "its Statement is not a list of objects"),
        ] {
            assert_eq!(refused(text), message(reason));
        }
        let full = json!({ "Statement": [{ "Sid": "a".repeat(21_000) }] }).to_string();
        let error = refused(&full);
        assert!(error.ends_with("AWS takes 20480; remove statements that are no longer needed"), "{error}");
    }

    #[test]
    fn statement_of_ours_leaves_a_bucket_policy_and_those_of_others_stay() {
        let theirs = r#"{"Effect":"Deny","Sid":"Theirs"}"#;
        let with = |list: &str| format!(r#"{{"Statement":{list},"Version":"2012-10-17"}}"#);
        for (existing, expected) in [
            (with(&format!(r#"[{theirs},{{"Sid":"Irsadprod"}}]"#)), Some(Some(with(&format!("[{theirs}]"))))),
            (with(r#"[{"Sid":"Irsadprod"}]"#), Some(None)),
            (with(r#"{"Sid":"Irsadprod"}"#), Some(None)),
            (with(&format!("[{theirs}]")), None),
        ] {
            assert_eq!(without_statement(&existing, "Irsadprod").expect("a policy"), expected, "{existing}");
        }
        assert!(without_statement("{}", "Irsadprod").is_err());
    }
}
