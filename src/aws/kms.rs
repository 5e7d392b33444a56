//! Data keys from KMS, each bound to one private half of one cluster.
//!
//! It must not know what is sealed with a data key, nor where it lies. KMS keeps nothing of what is asked here: every call only
//! reads.

use std::error::Error;

use aws_sdk_kms::{
    Client,
    primitives::Blob,
    types::{DataKeySpec, EncryptionAlgorithmSpec},
};

use super::{ATTEMPTS, AwsConfig, AwsError, ProvideErrorMetadata, Reason, SdkError, error::Call};
use crate::model::{
    key::Zeroizing,
    kms_key::KmsKey,
    sealed::{DataKey, PlainDataKey, SealContext, WrongLength},
};

/// One symmetric KMS key. Keep it: it holds the connections.
#[derive(Debug, Clone)]
pub struct Kms {
    client: Client,
    key: KmsKey,
}

/// Why there is no data key. Nothing has been written; a cluster that runs needs none, only a key that is to be made, put to
/// use or brought to a new node does.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// KMS says no.
    #[error("{call} {}", refusal.sentence(key))]
    Refused {
        /// Which call, on which key.
        call: String,
        /// The key, as configured.
        key: KmsKey,
        /// What stood in the way.
        refusal: Refusal,
        /// What KMS said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// What can happen to every call to AWS.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

/// What KMS has against a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The key is disabled.
    Disabled,
    /// The key is to be deleted, lacks its material, or is for another use.
    NotUsable,
    /// No such key or alias in this region.
    NotFound,
    /// The role's or the key's policy.
    Denied,
    /// Above the quota in every attempt.
    Throttled,
    /// The data key is bound to something else, or damaged.
    WrongContext,
    /// Another KMS key than the configured one wrapped the data key.
    OtherKey,
}

impl Refusal {
    /// By the code of the answer: KMS answers most refusals with 400 (AWS KMS API reference, `Decrypt` and `GenerateDataKey`).
    fn of(code: &str) -> Option<Self> {
        Some(match code {
            "DisabledException" => Self::Disabled,
            "KMSInvalidStateException" | "InvalidKeyUsageException" | "UnsupportedOperationException" => {
                Self::NotUsable
            }
            "NotFoundException" | "InvalidArnException" => Self::NotFound,
            "AccessDenied" | "AccessDeniedException" => Self::Denied,
            "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => Self::Throttled,
            "InvalidCiphertextException" => Self::WrongContext,
            "IncorrectKeyException" => Self::OtherKey,
            _ => return None,
        })
    }

    fn sentence(self, key: &KmsKey) -> String {
        match self {
            Self::Disabled => {
                format!("was refused because the key is disabled (nothing written); enable it: aws kms enable-key --key-id {key}")
            }
            Self::NotUsable => format!(
                "was refused because of the key's state or use (nothing written); look at it with aws kms describe-key --key-id {key}: \
                 cancel a pending deletion, or name a symmetric key in keyring.kmsKey"
            ),
            Self::NotFound => "found no such key (nothing written); correct keyring.kmsKey, or make the key or alias in the region of aws.region"
                .to_owned(),
            Self::Denied => "is not allowed to this node (nothing written); attach the statement that `irsad iam-policy` prints to its role, \
                             and let the key's own policy admit that role, or the account and so its IAM policies"
                .to_owned(),
            Self::Throttled => format!(
                "was throttled in each of {ATTEMPTS} attempts (nothing written); the next pass tries again, if it lasts see who else \
                 uses KMS in this account and raise its request quota"
            ),
            Self::WrongContext => "does not unwrap the data key (nothing written): it was made for another key id or cluster, or it is \
                                   damaged; put its object back from a backup, or from an older version"
                .to_owned(),
            Self::OtherKey => "does not unwrap the data key (nothing written), because another KMS key has wrapped it; set keyring.kmsKey to \
                               the one that its object names as kmsKey"
                .to_owned(),
        }
    }
}

impl Kms {
    /// Access to `key`. Nothing is sent yet.
    pub fn new(aws: &AwsConfig, key: &KmsKey) -> Self {
        let mut config = aws_sdk_kms::config::Builder::from(&aws.sdk).interceptor(aws.calls.clone());
        if let Some(url) = aws.endpoint(&aws.endpoints.kms) {
            config = config.endpoint_url(url);
        }
        Self { client: Client::from_conf(config.build()), key: key.clone() }
    }

    /// A new data key, bound to `context` (`GenerateDataKey`).
    ///
    /// # Errors
    /// No data key: see [`KmsError`].
    pub async fn data_key(&self, context: &SealContext<'_>) -> Result<DataKey, KmsError> {
        let call = self.call("kms:GenerateDataKey");
        let mut request = self.client.generate_data_key().key_id(self.key.as_str()).key_spec(DataKeySpec::Aes256);
        for (name, value) in context.encryption_context() {
            request = request.encryption_context(name, value);
        }
        let answer = request.send().await.map_err(|error| self.refused(call.clone(), &error))?;
        let plain = plain(answer.plaintext).map_err(|error| not_aws(call.clone(), error))?;
        match (answer.ciphertext_blob, answer.key_id) {
            (Some(wrapped), Some(kms_key)) => Ok(DataKey { plain, wrapped: wrapped.into_inner(), kms_key }),
            _ => Err(not_aws(call, "no CiphertextBlob or no KeyId")),
        }
    }

    /// The data key that KMS wrapped for `context` (`Decrypt`).
    ///
    /// Asked for with the configured key: one that another key wrapped is refused, so that whoever can write to the store
    /// cannot choose the key.
    ///
    /// # Errors
    /// [`Refusal::WrongContext`] where it was wrapped for another key id or cluster, otherwise see [`KmsError`].
    pub async fn unwrap(&self, wrapped: &[u8], context: &SealContext<'_>) -> Result<PlainDataKey, KmsError> {
        let call = self.call("kms:Decrypt");
        let request = self.client.decrypt().key_id(self.key.as_str()).ciphertext_blob(Blob::new(wrapped));
        let mut request = request.encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault);
        for (name, value) in context.encryption_context() {
            request = request.encryption_context(name, value);
        }
        let answer = request.send().await.map_err(|error| self.refused(call.clone(), &error))?;
        plain(answer.plaintext).map_err(|error| not_aws(call, error))
    }

    fn call(&self, action: &'static str) -> Call {
        Call::read(action, self.key.as_str())
    }

    fn refused<E>(&self, call: Call, error: &SdkError<E>) -> KmsError
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let (said, source) = (call.to_string(), AwsError::from_sdk(call, error));
        match error.code().and_then(Refusal::of) {
            Some(refusal) => {
                KmsError::Refused { call: said, key: self.key.clone(), refusal, source: Box::new(source.into_cause()) }
            }
            None => KmsError::Aws(source),
        }
    }
}

/// The bytes are moved, not copied: what is left of them elsewhere is the SDK's own buffer of the answer.
fn plain(answered: Option<Blob>) -> Result<PlainDataKey, WrongLength> {
    PlainDataKey::try_from(Zeroizing::new(answered.map(Blob::into_inner).unwrap_or_default()))
}

fn not_aws(call: Call, why: impl ToString) -> KmsError {
    KmsError::Aws(AwsError::new(call, Reason::NotAws, why.to_string()))
}
