//! The ConfigMap that gives roles to service accounts without annotations.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use thiserror::Error;

/// Any namespace.
const ANY: &str = "*";

/// Roles by service account: data key `config` of the ConfigMap `pod-identity-webhook`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleMap(HashMap<String, HashMap<String, Role>>);

/// What the map gives to one service account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Role {
    pub role_arn: String,
    pub audience: String,
    pub regional_sts: bool,
    /// 0 for the default.
    pub token_expiration_seconds: i64,
}

/// The text is not such a map. The map that was read before goes on.
#[derive(Debug, Error)]
pub enum RoleMapError {
    /// It is not JSON, or of another form.
    #[error(
        "the roles in the ConfigMap cannot be read (those before are kept); write a JSON object of NAMESPACE/NAME and role"
    )]
    Form(#[source] serde_json::Error),
    /// A key that names no account.
    #[error(
        "{0:?} in the ConfigMap names no service account (the roles before are kept); write NAMESPACE/NAME, or */NAME for any namespace"
    )]
    Key(String),
    /// A key without an entry.
    #[error("{0:?} in the ConfigMap has no role (the roles before are kept); give it one, or take the key out")]
    Null(String),
}

impl RoleMap {
    /// Reads the text, keys as in the AWS program: behind a second slash they are not looked at.
    ///
    /// # Errors
    /// It is not a JSON object, a key has no slash or an entry is null. Keep the map that was read last.
    pub fn parse(text: &str) -> Result<Self, RoleMapError> {
        let entries: Option<HashMap<String, Option<Role>>> = serde_json::from_str(text).map_err(RoleMapError::Form)?;
        let mut map = Self::default();
        for (key, role) in entries.into_iter().flatten() {
            let mut parts = key.split('/');
            let (Some(namespace), Some(name)) = (parts.next(), parts.next()) else {
                return Err(RoleMapError::Key(key));
            };
            let Some(role) = role else { return Err(RoleMapError::Null(key)) };
            map.0.entry(namespace.to_owned()).or_default().insert(name.to_owned(), role);
        }
        Ok(map)
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry with the account's own namespace.
    pub(super) fn exact(&self, namespace: &str, service_account: &str) -> Option<&Role> {
        self.0.get(namespace)?.get(service_account)
    }

    /// The entry for the account: its own, else that for any namespace.
    pub(super) fn role(&self, namespace: &str, service_account: &str) -> Option<&Role> {
        self.exact(namespace, service_account).or_else(|| self.exact(ANY, service_account))
    }
}

impl<'de> Deserialize<'de> for Role {
    /// Keys in any case, and null for the default, as Go's encoding/json reads them.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Role;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a role with RoleARN, Audience, UseRegionalSTS and TokenExpiration")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Role, A::Error> {
                let mut role = Role::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.to_ascii_lowercase().as_str() {
                        "rolearn" => role.role_arn = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        "audience" => role.audience = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        "useregionalsts" => role.regional_sts = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        "tokenexpiration" => {
                            role.token_expiration_seconds = map.next_value::<Option<_>>()?.unwrap_or_default();
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(role)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}
