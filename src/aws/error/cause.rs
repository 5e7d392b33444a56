//! What AWS or the transport said, in their words.

use std::{error::Error, fmt};

/// What AWS or the network said.
#[derive(Debug)]
pub(in crate::aws) struct Cause(pub(in crate::aws) String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Cause {}

/// What an answer of AWS says of itself.
pub(super) fn spoken(status: u16, code: Option<&str>, message: Option<&str>) -> String {
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    format!("HTTP {status}{code}{message}")
}

/// The texts of an error and its sources, without repetition.
pub(in crate::aws) fn chain(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

/// The SDK has no public type for an empty credential chain that reaches its callers unwrapped, so its text decides.
pub(super) fn has_no_credentials(error: &dyn Error) -> bool {
    let text = chain(error);
    ["credential", "failed to select an auth scheme", "no valid auth"].iter().any(|sign| text.contains(sign))
}
