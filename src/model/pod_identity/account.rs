//! What is kept of a service account.

/// The annotations of one service account that matter here, as they are written; the rest is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    role_arn: Option<Box<str>>,
    audience: Option<Box<str>>,
    sts_regional_endpoints: Option<Box<str>>,
    token_expiration: Option<Box<str>>,
}

impl Account {
    /// Picks the annotations that begin with `prefix` and a slash.
    pub fn read<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>, prefix: &str) -> Self {
        let mut account = Self::default();
        for (key, value) in annotations {
            let Some(name) = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) else { continue };
            let place = match name {
                "role-arn" => &mut account.role_arn,
                "audience" => &mut account.audience,
                "sts-regional-endpoints" => &mut account.sts_regional_endpoints,
                "token-expiration" => &mut account.token_expiration,
                _ => continue,
            };
            *place = Some(value.into());
        }
        account
    }

    /// `role-arn`; an empty one counts as none unless ARNs are composed.
    pub fn role_arn(&self) -> Option<&str> {
        self.role_arn.as_deref()
    }

    /// `audience`, which may be empty.
    pub fn audience(&self) -> Option<&str> {
        self.audience.as_deref()
    }

    /// `sts-regional-endpoints`, which may be anything.
    pub fn sts_regional_endpoints(&self) -> Option<&str> {
        self.sts_regional_endpoints.as_deref()
    }

    /// `token-expiration`, which may be anything.
    pub fn token_expiration(&self) -> Option<&str> {
        self.token_expiration.as_deref()
    }
}
