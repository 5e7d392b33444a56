//! Trust policy of a role for several service accounts and, while a cluster changes its issuer, several issuers.

use serde_json::{Map, Value, json};

use super::{PolicyError, Statement, Subject, one_or_many, render};
use crate::model::{
    issuer::{Audience, IssuerUrl},
    region::{AccountId, Partition, oidc_provider_arn},
};

/// Longest trust policy that IAM can be made to take, in characters without white space. Without a raised quota it takes 2048 and
/// says so by itself (IAM and AWS STS quotas).
const LONGEST: usize = 4096;

/// Trust policy of a role that any of `subjects` may take with a token of any of `issuers`: `sub` and `aud` are both compared, with
/// patterns only where a subject is one. One statement for each issuer, and one more where both names and patterns are trusted.
///
/// # Errors
/// No subject, no issuer, no audience, or more characters than IAM can be made to take.
pub fn role_trust_policy(
    partition: Partition,
    account: &AccountId,
    issuers: &[IssuerUrl],
    subjects: &[Subject],
    audiences: &[Audience],
) -> Result<String, PolicyError> {
    if audiences.is_empty() {
        return Err(PolicyError::NoAudience);
    }
    if subjects.is_empty() || issuers.is_empty() {
        return Err(PolicyError::NoSubject);
    }
    let audiences: Vec<&str> = audiences.iter().map(Audience::as_str).collect();
    let (patterns, names): (Vec<&Subject>, Vec<&Subject>) = subjects.iter().partition(|subject| subject.is_pattern());
    let mut statements = Vec::new();
    for issuer in issuers {
        let principal = json!({ "Federated": oidc_provider_arn(partition, account, issuer) });
        for subjects in [&names, &patterns].into_iter().filter(|subjects| !subjects.is_empty()) {
            statements.push(Statement {
                principal: principal.clone(),
                condition: condition(issuer, subjects, &audiences),
                ..Statement::allow(&["sts:AssumeRoleWithWebIdentity"])
            });
        }
    }
    let cure = "let fewer service accounts share the role, use a wildcard for them, or shorten the issuer";
    render(statements, "trust policy", LONGEST, cure)
}

fn condition(issuer: &IssuerUrl, subjects: &[&Subject], audiences: &[&str]) -> Value {
    let provider = issuer.without_scheme();
    let mut texts: Vec<String> = subjects.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    texts.dedup();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let sub = (format!("{provider}:sub"), one_or_many(&texts));
    let mut equals = Map::from_iter([(format!("{provider}:aud"), one_or_many(audiences))]);
    if subjects.iter().any(|subject| subject.is_pattern()) {
        return json!({ "StringEquals": equals, "StringLike": Map::from_iter([sub]) });
    }
    equals.extend([sub]);
    json!({ "StringEquals": equals })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const ACCOUNT: &str = "123456789012";

    fn policy(issuers: &[&str], subjects: &[(&str, &str)]) -> Result<Value, Box<dyn std::error::Error>> {
        let issuers: Vec<IssuerUrl> = issuers.iter().map(|issuer| issuer.parse()).collect::<Result<_, _>>()?;
        let subjects: Vec<Subject> =
            subjects.iter().map(|(namespace, name)| Subject::new(namespace, name)).collect::<Result<_, _>>()?;
        let audiences = ["sts.amazonaws.com".parse()?];
        let text = role_trust_policy(Partition::Commercial, &ACCOUNT.parse()?, &issuers, &subjects, &audiences)?;
        let mut policy: Value = serde_json::from_str(&text)?;
        Ok(policy["Statement"].take())
    }

    #[test]
    fn every_statement_compares_sub_and_aud_with_patterns_only_where_one_is() -> Outcome {
        let accounts = [("shop", "cart"), ("shop-*", "cart"), ("blog", "web"), ("shop", "cart")];
        let statements = policy(&["https://oidc.example.com/a", "https://oidc.example.com/b"], &accounts)?;
        let mut expected = Vec::new();
        for issuer in ["oidc.example.com/a", "oidc.example.com/b"] {
            let (aud, sub) = (format!("{issuer}:aud"), format!("{issuer}:sub"));
            let names = ["system:serviceaccount:blog:web", "system:serviceaccount:shop:cart"];
            for condition in [
                json!({ "StringEquals": { &aud: "sts.amazonaws.com", &sub: names } }),
                json!({
                    "StringEquals": { &aud: "sts.amazonaws.com" },
                    "StringLike": { &sub: "system:serviceaccount:shop-*:cart" },
                }),
            ] {
                expected.push(json!({
                    "Effect": "Allow",
                    "Principal": { "Federated": format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}") },
                    "Action": "sts:AssumeRoleWithWebIdentity",
                    "Condition": condition,
                }));
            }
        }
        assert_eq!(statements, Value::from(expected));
        Ok(())
    }

    /// White space is not counted, so that the limit is met to the character.
    #[test]
    fn trust_policy_of_4097_characters_is_refused_and_of_4096_is_not() -> Outcome {
        let issuer = ["https://oidc.example.com/a"];
        let accounts = |last: usize| {
            let mut names: Vec<String> = (0..16).map(|n| format!("{n:0>200}")).collect();
            names.push("x".repeat(last));
            names
        };
        let length = |last: usize| -> Result<usize, Box<dyn std::error::Error>> {
            let names = accounts(last);
            let subjects: Vec<(&str, &str)> = names.iter().map(|name| ("shop", name.as_str())).collect();
            let statement = policy(&issuer, &subjects)?;
            Ok(json!({ "Version": "2012-10-17", "Statement": statement }).to_string().len())
        };
        let longest = 4096 - length(1)? + 1;
        assert_eq!(length(longest)?, 4096);
        assert_eq!(
            length(longest + 1).err().map(|error| error.to_string()).as_deref(),
            Some(
                "the trust policy would have 4097 characters and AWS takes 4096; let fewer service accounts share the role, use a wildcard for them, or shorten the issuer"
            )
        );
        Ok(())
    }

    #[test]
    fn trust_policy_of_nobody_is_refused() {
        let message = "a trust policy needs at least one service account and one issuer; name them";
        for refused in [policy(&[], &[("a", "b")]), policy(&["https://oidc.example.com/a"], &[])] {
            assert_eq!(refused.err().map(|error| error.to_string()).as_deref(), Some(message));
        }
    }
}
