//! The file that lists whose pods get container credentials instead of a role.

use std::collections::HashSet;

use serde::Deserialize;
use thiserror::Error;

/// Service accounts whose pods ask an agent on their node for credentials (EKS Pod Identity).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerCredentials(HashSet<Identity>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Identity {
    namespace: String,
    service_account: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    identities: Option<Vec<Identity>>,
}

/// The file is not what it should be.
#[derive(Debug, Error)]
#[error(
    "the list of container credentials cannot be read (the one before is kept); write \
     {{\"identities\": [{{\"namespace\": \"N\", \"serviceAccount\": \"S\"}}]}}"
)]
pub struct ContainerCredentialsError(#[source] serde_json::Error);

impl ContainerCredentials {
    /// Reads the file; an empty one lists nobody.
    ///
    /// # Errors
    /// It is not JSON of that form. Keep the list that was read last.
    pub fn parse(text: &[u8]) -> Result<Self, ContainerCredentialsError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let file: File = serde_json::from_slice(text).map_err(ContainerCredentialsError)?;
        Ok(Self(file.identities.into_iter().flatten().collect()))
    }

    /// Whether the service account is listed, by its exact name.
    pub fn lists(&self, namespace: &str, service_account: &str) -> bool {
        if self.0.is_empty() {
            return false; // the usual case, at no cost for each pod
        }
        let identity = Identity { namespace: namespace.to_owned(), service_account: service_account.to_owned() };
        self.0.contains(&identity)
    }
}
