//! What KMS checks and moto does not: the state of a key, and which key a ciphertext is of.

use serde_json::{Value, json};

use super::{Shared, request::Asked, rules::Refusal};

/// Members of the encryption context of each data key.
const CONTEXT: [&str; 3] = ["app", "cluster", "kid"];

/// Whether the request works with a data key.
pub fn is_cryptographic(asked: &Asked) -> bool {
    matches!(asked.operation.as_str(), "GenerateDataKey" | "Decrypt")
}

/// Notes what a request of irsad must never leave out.
pub fn check(shared: &Shared, asked: &Asked) {
    let body = asked.json();
    let note = |what: &str| shared.state().violations.push(format!("{} without {what}", asked.operation));
    if body["KeyId"].is_null() {
        note("the KMS key, so that the ciphertext chooses it");
    }
    let context = body["EncryptionContext"].as_object().map(|context| context.keys().map(String::as_str).collect());
    if context != Some(CONTEXT.to_vec()) {
        note("the encryption context");
    }
}

/// The question for moto that tells the state of the request's key.
pub fn describe(asked: &Asked) -> Asked {
    asked.of_kms("DescribeKey", &json!({ "KeyId": asked.json()["KeyId"] }))
}

/// A refusal because of the state that moto told (AWS KMS developer guide, "Key states of AWS KMS keys").
pub fn check_state(described: &[u8]) -> Result<(), Refusal> {
    let key = serde_json::from_slice::<Value>(described).unwrap_or_default()["KeyMetadata"].take();
    let arn = key["Arn"].as_str().unwrap_or_default();
    let refused = |code, message| Err(Refusal { status: 400, code, message, region: None });
    match key["KeyState"].as_str() {
        Some("Disabled") => refused("DisabledException", format!("{arn} is disabled.")),
        Some("PendingDeletion") => refused("KMSInvalidStateException", format!("{arn} is pending deletion.")),
        _ => Ok(()),
    }
}

/// moto calls it forbidden where another key than the named one has encrypted.
pub fn is_of_another_key(asked: &Asked, answer: &[u8]) -> bool {
    asked.operation == "Decrypt" && String::from_utf8_lossy(answer).contains("AccessDeniedException")
}

/// What KMS says then.
pub fn other_key() -> Refusal {
    let message = "The key ID in the request does not identify a CMK that can perform this operation.";
    Refusal { status: 400, code: "IncorrectKeyException", message: message.to_owned(), region: None }
}

/// A refusal in the words of KMS.
pub fn error(code: &str, message: &str) -> String {
    json!({ "__type": code, "message": message }).to_string()
}
