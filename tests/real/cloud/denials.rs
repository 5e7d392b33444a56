//! Denials of a bucket policy with the condition keys of conditional writes. moto knows no conditions and would deny always,
//! so that these statements are kept from it.

use serde_json::{Value, json};

use super::request::Asked;

/// The policy without its denials, for moto.
pub fn without_denials(policy: &[u8]) -> Vec<u8> {
    let mut policy: Value = serde_json::from_slice(policy).unwrap_or_default();
    let rest: Vec<Value> =
        statements(&policy).iter().filter(|statement| statement["Effect"] != "Deny").cloned().collect();
    policy["Statement"] = json!(rest);
    policy.to_string().into_bytes()
}

/// Whether the policy denies this request for an object.
pub fn denies(policy: &str, asked: &Asked) -> bool {
    let action = match asked.operation.as_str() {
        "PutObject" => "s3:PutObject",
        "DeleteObject" if asked.target.contains("versionId=") => "s3:DeleteObjectVersion",
        "DeleteObject" => "s3:DeleteObject",
        _ => return false,
    };
    let object = format!("arn:aws:s3:::{}/{}", asked.bucket, asked.key);
    let policy: Value = serde_json::from_str(policy).unwrap_or_default();
    statements(&policy).iter().filter(|statement| statement["Effect"] == "Deny").any(|statement| {
        let acts = texts(&statement["Action"]).contains(&action);
        let covers = texts(&statement["Resource"]).iter().any(|pattern| matches(pattern, &object));
        acts && covers && is_met(&statement["Condition"], asked)
    })
}

/// Of all conditions only `Null` with `true`: the request does not have the header.
fn is_met(condition: &Value, asked: &Asked) -> bool {
    condition.as_object().is_none_or(|operators| {
        operators.iter().all(|(operator, keys)| {
            let mut keys = keys.as_object().into_iter().flatten();
            operator == "Null"
                && keys.all(|(key, value)| value == "true" && asked.header(key.trim_start_matches("s3:")).is_none())
        })
    })
}

fn matches(pattern: &str, object: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == object, |start| object.starts_with(start))
}

fn statements(policy: &Value) -> &[Value] {
    policy["Statement"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}
