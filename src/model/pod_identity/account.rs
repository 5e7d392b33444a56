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

    /// `role-arn` as it is written, `None` where it is missing; an empty one counts as none unless ARNs are composed.
    pub fn role_arn(&self) -> Option<&str> {
        self.role_arn.as_deref()
    }
}
