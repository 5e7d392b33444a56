//! Whether a trust policy lets a token take its role with `AssumeRoleWithWebIdentity` (IAM user guide, "Policy evaluation logic" and
//! "IAM JSON policy elements: Condition operators").
//!
//! Judged is what a token of a service account brings: the provider, `sub` and `aud`. What hangs on anything else (an address, a
//! session name) is not guessed: it is [`Verdict::Undecided`].

use serde_json::{Map, Value};

const ACTION: &str = "sts:AssumeRoleWithWebIdentity";
/// Context keys that are of the request and not of the token.
const OF_THE_REQUEST: [&str; 3] = ["aws:", "sts:", "ec2:"];

/// What STS takes from a token.
#[derive(Debug, Clone, Copy)]
pub struct WebIdentity<'a> {
    /// ARN of the IAM OIDC provider of its issuer.
    pub provider_arn: &'a str,
    /// Its issuer without `https://`: what condition keys begin with.
    pub provider: &'a str,
    /// `sub`.
    pub subject: &'a str,
    /// `aud`.
    pub audience: &'a str,
}

/// What a policy says to a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may take the role.
    Allows,
    /// It may not; what stands in the way, as the end of a sentence about the policy.
    Refuses(String),
    /// That hangs on what the token does not say, or the policy is not understood; why.
    Undecided(String),
}

/// What the trust policy `policy` (JSON) says to `token`. A statement that denies wins over any that allow.
pub fn verdict(policy: &str, token: &WebIdentity<'_>) -> Verdict {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else {
        return Verdict::Undecided("the policy is not JSON".to_owned());
    };
    let statements = match &policy["Statement"] {
        Value::Array(list) => list.as_slice(),
        single @ Value::Object(_) => std::slice::from_ref(single),
        _ => return Verdict::Undecided("the policy has no Statement".to_owned()),
    };
    let (denials, others): (Vec<&Value>, Vec<&Value>) =
        statements.iter().partition(|statement| statement["Effect"] == "Deny");
    let denies = any(denials.iter().map(|statement| applies(statement, token)));
    let allows = any(others.iter().map(|statement| applies(statement, token)));
    match (denies, allows) {
        (Match::Yes, _) => Verdict::Refuses("has a statement that denies it".to_owned()),
        (_, Match::No(why)) => Verdict::Refuses(why.text),
        (Match::Unknown(why), _) | (Match::No(_), Match::Unknown(why)) => Verdict::Undecided(why),
        (Match::No(_), Match::Yes) => Verdict::Allows,
    }
}

/// Whether something holds for the token.
enum Match {
    Yes,
    No(Mismatch),
    /// What it hangs on.
    Unknown(String),
}

/// How far a statement fits, so that of several the nearest is told.
#[derive(Default)]
struct Mismatch {
    depth: u8,
    text: String,
}

impl Match {
    fn no(depth: u8, text: impl Into<String>) -> Self {
        Self::No(Mismatch { depth, text: text.into() })
    }
}

/// Whether one of them holds; else the nearest reason.
fn any(matches: impl Iterator<Item = Match>) -> Match {
    let mut unknown = None;
    let mut nearest = Mismatch { depth: 0, text: format!("has no statement that allows {ACTION}") };
    for one in matches {
        match one {
            Match::Yes => return Match::Yes,
            Match::Unknown(why) => unknown = unknown.or(Some(why)),
            Match::No(other) if other.depth > nearest.depth => nearest = other,
            Match::No(_) => {}
        }
    }
    unknown.map_or(Match::No(nearest), Match::Unknown)
}

/// Whether all of them hold; what certainly does not decides.
fn all(matches: impl Iterator<Item = Match>) -> Match {
    let mut unknown = None;
    for one in matches {
        match one {
            Match::Yes => {}
            Match::No(why) => return Match::No(why),
            Match::Unknown(why) => unknown = unknown.or(Some(why)),
        }
    }
    unknown.map_or(Match::Yes, Match::Unknown)
}

fn applies(statement: &Value, token: &WebIdentity<'_>) -> Match {
    if let Some(element) = ["NotAction", "NotPrincipal"].iter().find(|name| statement.get(**name).is_some()) {
        return Match::Unknown(format!("the policy has a statement with {element}"));
    }
    all([action(&statement["Action"]), principal(&statement["Principal"], token), conditions(statement, token)]
        .into_iter())
}

/// IAM compares actions without regard to case.
fn action(element: &Value) -> Match {
    let wanted = ACTION.to_ascii_lowercase();
    match texts(element).iter().any(|pattern| is_like(&pattern.to_ascii_lowercase(), &wanted)) {
        true => Match::Yes,
        false => Match::no(0, ""),
    }
}

fn principal(element: &Value, token: &WebIdentity<'_>) -> Match {
    if element == "*" {
        return Match::Yes;
    }
    let trusted = texts(&element["Federated"]);
    match trusted.iter().any(|arn| arn == token.provider_arn) {
        true => Match::Yes,
        false if trusted.is_empty() => {
            Match::no(1, format!("trusts no OIDC provider, it is to trust {}", token.provider_arn))
        }
        false => Match::no(1, format!("trusts {}, not {}", trusted.join(", "), token.provider_arn)),
    }
}

fn conditions(statement: &Value, token: &WebIdentity<'_>) -> Match {
    let empty = Map::new();
    let blocks = statement["Condition"].as_object().unwrap_or(&empty);
    let tests = blocks.iter().flat_map(|(operator, keys)| {
        keys.as_object().into_iter().flatten().map(move |(key, values)| (operator, key, values))
    });
    all(tests.map(|(operator, key, values)| condition(operator, key, &texts(values), token)))
}

/// A condition operator taken apart.
struct Operator<'a> {
    base: &'a str,
    /// `ForAllValues:`, or `…IfExists`: it holds where the key is not there.
    holds_without: bool,
}

impl<'a> Operator<'a> {
    fn new(name: &'a str) -> Self {
        let (for_all, rest) = match name.split_once(':') {
            Some(("ForAllValues", rest)) => (true, rest),
            Some((_, rest)) => (false, rest),
            None => (false, name),
        };
        let base = rest.strip_suffix("IfExists");
        Self { base: base.unwrap_or(rest), holds_without: for_all || base.is_some() }
    }
}

fn condition(operator: &str, key: &str, wanted: &[String], token: &WebIdentity<'_>) -> Match {
    let found = match claim(key, token) {
        Claim::Is(found) => Some(found),
        Claim::Missing => None,
        Claim::OfTheRequest => return Match::Unknown(format!("the policy compares {key}")),
    };
    if let Some(variable) = wanted.iter().find(|text| text.contains("${")) {
        return Match::Unknown(format!("the policy compares {key} with {variable}"));
    }
    let Operator { base, holds_without } = Operator::new(operator);
    if base == "Null" {
        let holds = wanted.iter().any(|text| text.eq_ignore_ascii_case("true")) == found.is_none();
        return if holds { Match::Yes } else { Match::no(2, format!("tests with Null whether a token has {key}")) };
    }
    let fits: fn(&str, &str) -> bool = match base {
        "StringEquals" | "StringNotEquals" => |wanted, found| wanted == found,
        "StringEqualsIgnoreCase" | "StringNotEqualsIgnoreCase" => |wanted, found| wanted.eq_ignore_ascii_case(found),
        "StringLike" | "StringNotLike" => is_like,
        _ => return Match::Unknown(format!("the policy compares {key} with {operator}")),
    };
    let negated = base.starts_with("StringNot");
    let list = wanted.join(" or ");
    match found {
        None if negated || holds_without => Match::Yes,
        None => Match::no(2, format!("wants {key}, which a token of {} does not have", token.provider)),
        Some(found) if wanted.iter().any(|text| fits(text, found)) != negated => Match::Yes,
        Some(found) => {
            let not = if negated { "not " } else { "" };
            Match::no(3, format!("wants {key} {not}to be {list}, the token has {found}"))
        }
    }
}

/// What a condition key stands for.
enum Claim<'a> {
    Is(&'a str),
    Missing,
    OfTheRequest,
}

/// Condition keys are compared without regard to case; those of other providers are not in the request.
fn claim<'a>(key: &str, token: &WebIdentity<'a>) -> Claim<'a> {
    let is = |name: &str| key.eq_ignore_ascii_case(&format!("{}:{name}", token.provider));
    if is("sub") {
        Claim::Is(token.subject)
    } else if is("aud") {
        Claim::Is(token.audience)
    } else if OF_THE_REQUEST.iter().any(|prefix| key.to_ascii_lowercase().starts_with(prefix)) {
        Claim::OfTheRequest
    } else {
        Claim::Missing
    }
}

/// One text or a list of them; numbers and booleans as IAM writes them.
pub(super) fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Null => Vec::new(),
        Value::Array(list) => list.iter().map(text).collect(),
        single => vec![text(single)],
    }
}

/// `StringLike`: `*` for any characters, `?` for one.
pub(super) fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where the last star stands, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&one) if one == '?' || one == text[from] => (at, from) = (at + 1, from + 1),
            Some(_) | None => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    (at, from) = (place + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|one| *one == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Subject, trust_policy},
        *,
    };
    use crate::model::region::Partition;

    const ARN: &str = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/prod-1";
    const SUB: &str = "system:serviceaccount:shop:checkout";

    fn token() -> WebIdentity<'static> {
        WebIdentity {
            provider_arn: ARN,
            provider: "oidc.example.com/prod-1",
            subject: SUB,
            audience: "sts.amazonaws.com",
        }
    }

    /// What a policy with this condition says.
    fn under(condition: Value) -> Verdict {
        let statement =
            json!({ "Effect": "Allow", "Principal": { "Federated": ARN }, "Action": ACTION, "Condition": condition });
        verdict(&json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string(), &token())
    }

    fn refuses(why: &str) -> Verdict {
        Verdict::Refuses(why.to_owned())
    }

    fn undecided(why: &str) -> Verdict {
        Verdict::Undecided(why.to_owned())
    }

    #[test]
    fn printed_trust_policy_lets_exactly_its_subjects_in() {
        for (namespace, name, verdict_of_it) in [
            ("shop", "checkout", Verdict::Allows),
            ("shop", "check*", Verdict::Allows),
            ("s??p", "checkout", Verdict::Allows),
            ("*", "checkout", Verdict::Allows),
            (
                "shop",
                "cart",
                refuses(
                    "wants oidc.example.com/prod-1:sub to be system:serviceaccount:shop:cart, the token has system:serviceaccount:shop:checkout",
                ),
            ),
            (
                "sho?p",
                "*",
                refuses(
                    "wants oidc.example.com/prod-1:sub to be system:serviceaccount:sho?p:*, the token has system:serviceaccount:shop:checkout",
                ),
            ),
        ] {
            let policy = trust_policy(
                Partition::Commercial,
                &"123456789012".parse().expect("an account"),
                &"https://oidc.example.com/prod-1".parse().expect("an issuer"),
                &Subject::new(namespace, name).expect("a subject"),
                &["sts.amazonaws.com".parse().expect("an audience")],
            )
            .expect("a policy");
            assert_eq!(verdict(&policy, &token()), verdict_of_it, "{namespace}/{name}");
            let vault = WebIdentity { audience: "vault", ..token() };
            assert!(matches!(verdict(&policy, &vault), Verdict::Refuses(_)), "{namespace}/{name}");
        }
    }

    #[test]
    fn conditions_are_compared_as_iam_does() {
        let (sub, aud) = ("oidc.example.com/prod-1:sub", "oidc.example.com/prod-1:aud");
        for (condition, expected) in [
            (json!(null), Verdict::Allows),
            (json!({ "StringEquals": { sub: [SUB, "other"] } }), Verdict::Allows),
            (json!({ "StringEquals": { sub.to_uppercase(): SUB } }), Verdict::Allows),
            (json!({ "StringLike": { sub: "system:serviceaccount:*:checkout" } }), Verdict::Allows),
            (json!({ "ForAnyValue:StringEquals": { aud: ["sts.amazonaws.com"] } }), Verdict::Allows),
            (json!({ "ForAnyValue:StringLike": { aud: "sts.*" } }), Verdict::Allows),
            (json!({ "StringEqualsIgnoreCase": { aud: "STS.amazonaws.com" } }), Verdict::Allows),
            (json!({ "StringNotEquals": { sub: "other" } }), Verdict::Allows),
            (json!({ "StringNotLike": { "oidc.example.com/other:sub": "*" } }), Verdict::Allows),
            (json!({ "StringEqualsIfExists": { "oidc.example.com/prod-1:amr": "x" } }), Verdict::Allows),
            (json!({ "ForAllValues:StringEquals": { "oidc.example.com/prod-1:amr": "x" } }), Verdict::Allows),
            (json!({ "Null": { sub: "false" } }), Verdict::Allows),
            (
                json!({ "StringEquals": { sub: SUB, aud: "vault" } }),
                refuses("wants oidc.example.com/prod-1:aud to be vault, the token has sts.amazonaws.com"),
            ),
            (
                json!({ "StringEquals": { sub: "system:serviceaccount:*:checkout" } }),
                refuses(
                    "wants oidc.example.com/prod-1:sub to be system:serviceaccount:*:checkout, the token has system:serviceaccount:shop:checkout",
                ),
            ),
            (
                json!({ "StringNotLike": { sub: "system:*" } }),
                refuses(
                    "wants oidc.example.com/prod-1:sub not to be system:*, the token has system:serviceaccount:shop:checkout",
                ),
            ),
            (
                json!({ "StringEquals": { "oidc.example.com/other:sub": SUB } }),
                refuses("wants oidc.example.com/other:sub, which a token of oidc.example.com/prod-1 does not have"),
            ),
            (
                json!({ "Null": { sub: "true" } }),
                refuses("tests with Null whether a token has oidc.example.com/prod-1:sub"),
            ),
            (json!({ "IpAddress": { "aws:SourceIp": "10.0.0.0/8" } }), undecided("the policy compares aws:SourceIp")),
            (
                json!({ "StringEquals": { sub: "${aws:username}" } }),
                undecided("the policy compares oidc.example.com/prod-1:sub with ${aws:username}"),
            ),
            (
                json!({ "ArnLike": { sub: "x" } }),
                undecided("the policy compares oidc.example.com/prod-1:sub with ArnLike"),
            ),
            // What certainly does not hold decides, whatever else is not known.
            (
                json!({ "IpAddress": { "aws:SourceIp": "10.0.0.0/8" }, "StringEquals": { aud: "vault" } }),
                refuses("wants oidc.example.com/prod-1:aud to be vault, the token has sts.amazonaws.com"),
            ),
        ] {
            assert_eq!(under(condition.clone()), expected, "{condition}");
        }
    }

    #[test]
    fn statement_counts_only_with_its_action_and_our_provider() {
        let of = |statement: Value| verdict(&json!({ "Statement": statement }).to_string(), &token());
        let allow = json!({ "Effect": "Allow", "Principal": { "Federated": [ARN, "other"] }, "Action": ["sts:TagSession", ACTION] });
        let with = |name: &str, value: Value| {
            let mut statement = allow.clone();
            statement[name] = value;
            statement
        };
        let without = |name: &str, other: &str| {
            let mut statement = allow.clone();
            let taken = statement[name].take();
            statement.as_object_mut().expect("an object").remove(name);
            statement[other] = taken;
            statement
        };
        let deny = with("Effect", json!("Deny"));
        for (statement, expected) in [
            (allow.clone(), Verdict::Allows),
            (json!([allow]), Verdict::Allows),
            (with("Action", json!("STS:assumerole*")), Verdict::Allows),
            (with("Principal", json!("*")), Verdict::Allows),
            (json!([allow, deny]), refuses("has a statement that denies it")),
            (json!([]), refuses("has no statement that allows sts:AssumeRoleWithWebIdentity")),
            (
                with("Action", json!("sts:AssumeRole")),
                refuses("has no statement that allows sts:AssumeRoleWithWebIdentity"),
            ),
            (
                with("Principal", json!({ "Service": "ec2.amazonaws.com" })),
                refuses(&format!("trusts no OIDC provider, it is to trust {ARN}")),
            ),
            (with("Principal", json!({ "Federated": "other" })), refuses(&format!("trusts other, not {ARN}"))),
            (without("Action", "NotAction"), undecided("the policy has a statement with NotAction")),
            (without("Principal", "NotPrincipal"), undecided("the policy has a statement with NotPrincipal")),
            (json!("text"), undecided("the policy has no Statement")),
        ] {
            assert_eq!(of(statement.clone()), expected, "{statement}");
        }
        assert_eq!(verdict("%7B", &token()), undecided("the policy is not JSON"));
    }

    #[test]
    fn star_and_question_mark_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "a", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a?c", "abc", true),
            ("*a*a", "aaa", true),
            ("", "a", false),
            ("a", "", false),
            ("a?", "a", false),
            ("a*c", "abd", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
