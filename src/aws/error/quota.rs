//! Quotas of IAM, which it all calls `LimitExceeded`.

/// A quota of the account (IAM and AWS STS quotas).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// OIDC providers of an account: 100 unless raised.
    Providers,
    /// Audiences (client IDs) of one provider: 100.
    Audiences,
    /// Roles of an account: 1000 unless raised.
    Roles,
    /// Length of a role's trust policy: 2048 characters unless raised.
    TrustPolicy,
    /// Managed policies of one role: 10 unless raised.
    RolePolicies,
    /// Length of the inline policies of one role: 10,240 characters.
    InlinePolicies,
    /// Tags of one role: 50.
    RoleTags,
}

impl Quota {
    /// What a call would have been too much of, and the cure.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Providers => (
                "would be one OIDC provider more than the account's quota, 100 unless raised",
                "delete a provider that no cluster uses, or raise the quota in Service Quotas",
            ),
            Self::Audiences => (
                "would be one audience more than IAM allows for a provider",
                "take an audience out of provider.audiences, or remove an unused one from the provider",
            ),
            Self::Roles => (
                "would be one role more than the account's quota, 1000 unless raised",
                "delete roles that nobody uses, or raise the quota in Service Quotas",
            ),
            Self::TrustPolicy => (
                "has a trust policy that is longer than the account's quota, 2048 characters unless raised",
                "let fewer service accounts share the role, use a wildcard for them, or raise the quota in Service Quotas",
            ),
            Self::RolePolicies => (
                "would be one managed policy more than the account's quota for a role, 10 unless raised",
                "join policies, or raise the quota in Service Quotas",
            ),
            Self::InlinePolicies => (
                "would be more than the 10240 characters that IAM takes as a role's inline policies",
                "make a managed policy of it, or join statements",
            ),
            Self::RoleTags => (
                "would be more tags than the 50 that IAM takes for a role",
                "take tags out of roles.tags, or unused ones off the role",
            ),
        }
    }
}
