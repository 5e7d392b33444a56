//! Private halves as the keyring's store holds them: sealed, or as plain PKCS#8.
//!
//! A sealed one opens only for who may use the KMS key, and only as the key and of the cluster that it was sealed for. Pure:
//! data keys come from KMS (AWS KMS developer guide, "Envelope encryption"), the nonce from the caller. It must not know where
//! the object lies; the errors here are sentences for behind its place.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize, de};
use thiserror::Error;

use super::{
    key::{KeyError, Kid, SigningKey, Zeroizing},
    memory::Version1,
};

/// Bytes of a data key: AES-256.
pub const DATA_KEY_BYTES: usize = 32;
/// Bytes of a nonce: the 96 bits of AES-GCM (NIST SP 800-38D, section 8.2).
pub const NONCE_BYTES: usize = NONCE_LEN;

/// One private half, whichever way it is kept.
#[derive(Debug)]
pub enum PrivateHalf {
    /// As PKCS#8, or in another form that kube-apiserver reads: where no KMS key is configured.
    Plain(Box<SigningKey>),
    /// Sealed.
    Sealed(Sealed),
}

/// A private half that only its data key opens: `keys/KID` of the keyring's store, version 1 of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    version: Version1,
    /// What it says it is of, so that an exchanged object is named. Believed only once it has opened.
    cluster: String,
    kid: String,
    /// ARN of the KMS key, for a person: it decides nothing.
    kms_key: String,
    wrapped_key: Base64<Vec<u8>>,
    nonce: Base64<[u8; NONCE_BYTES]>,
    ciphertext: Base64<Vec<u8>>,
}

/// What a private half is sealed for.
#[derive(Debug, Clone, Copy)]
pub struct SealContext<'a> {
    /// Name of the cluster. A DNS label, so that it has no `|`.
    pub cluster: &'a str,
    /// The key.
    pub kid: &'a Kid,
}

impl SealContext<'_> {
    /// The encryption context that KMS binds the data key to and writes into CloudTrail.
    pub fn encryption_context(&self) -> [(&'static str, String); 3] {
        [("app", "irsad".to_owned()), ("cluster", self.cluster.to_owned()), ("kid", self.kid.to_string())]
    }

    fn associated_data(&self) -> Aad<Vec<u8>> {
        Aad::from(format!("{}|{}", self.cluster, self.kid).into_bytes())
    }
}

/// A data key in the clear. Wiped from memory on drop, never printed.
pub struct PlainDataKey(Zeroizing<[u8; DATA_KEY_BYTES]>);

impl TryFrom<Zeroizing<Vec<u8>>> for PlainDataKey {
    type Error = WrongLength;

    fn try_from(bytes: Zeroizing<Vec<u8>>) -> Result<Self, Self::Error> {
        let mut key = Zeroizing::new([0; DATA_KEY_BYTES]);
        if bytes.len() != DATA_KEY_BYTES {
            return Err(WrongLength(bytes.len()));
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }
}

/// Not the length of a data key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a data key has {DATA_KEY_BYTES} bytes, not {0}")]
pub struct WrongLength(usize);

/// A new data key. It seals one object: [`Sealed::seal`] takes it away.
pub struct DataKey {
    /// In the clear.
    pub plain: PlainDataKey,
    /// As KMS alone can unwrap it.
    pub wrapped: Vec<u8>,
    /// ARN of the KMS key that wrapped it.
    pub kms_key: String,
}

/// Why there is no private half in an object. Nothing has been changed. Reads well behind `PLACE: `.
#[derive(Debug, Error)]
pub enum PrivateHalfError {
    /// Neither JSON of the format nor PEM.
    #[error(
        "it is not a sealed private half as irsad writes it; put it back from a backup, or from an older version of the object"
    )]
    Format(#[source] serde_json::Error),
    /// Written by a later irsad.
    #[error("version {0} of its format is not known; a newer irsad wrote it, upgrade this node")]
    Newer(u64),
    /// Another object lies in its place.
    #[error(
        "it is sealed for key {kid} of cluster {cluster}, so objects have been exchanged; put the right one back from a backup, or from an older version of the object"
    )]
    Exchanged {
        /// The cluster that it names.
        cluster: String,
        /// The key that it names.
        kid: String,
    },
    /// AES-GCM refuses it.
    #[error(
        "it does not open, so it was damaged or changed after it was sealed; put it back from a backup, or from an older version of the object"
    )]
    Damaged,
    /// No key to work with.
    #[error(
        "it holds no private key that irsad can use; put it back from a backup, or from an older version of the object"
    )]
    Key(#[source] KeyError),
    /// A key, but of another id.
    #[error(
        "it holds key {0}, so objects have been exchanged; put the right one back from a backup, or from an older version of the object"
    )]
    OtherKey(Kid),
    /// The library failed.
    #[error("AES-256-GCM of this build fails (nothing written); install an irsad of a package")]
    Library,
}

impl PrivateHalf {
    /// Reads an object: sealed where it is JSON, otherwise PEM.
    ///
    /// # Errors
    /// It is neither, or of a later version.
    pub fn parse(bytes: &[u8]) -> Result<Self, PrivateHalfError> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            return Sealed::parse(bytes).map(Self::Sealed);
        }
        SigningKey::read(bytes).map(|key| Self::Plain(Box::new(key))).map_err(PrivateHalfError::Key)
    }
}

impl Sealed {
    /// Seals the PEM of a private half for `context`.
    ///
    /// `nonce` may be any bytes, random ones are good: the pair of key and nonce cannot come twice, because the data key is
    /// new and used up here.
    ///
    /// # Errors
    /// [`PrivateHalfError::Library`] where the library fails.
    pub fn seal(
        data_key: DataKey,
        nonce: [u8; NONCE_BYTES],
        context: &SealContext<'_>,
        private_pem: &str,
    ) -> Result<Self, PrivateHalfError> {
        // With room for the tag, so that growing leaves no copy of the private half behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(private_pem.len() + AES_256_GCM.tag_len()));
        bytes.extend_from_slice(private_pem.as_bytes());
        aes(&data_key.plain)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), context.associated_data(), &mut *bytes)
            .map_err(|_| PrivateHalfError::Library)?;
        Ok(Self {
            version: Version1,
            cluster: context.cluster.to_owned(),
            kid: context.kid.to_string(),
            kms_key: data_key.kms_key,
            wrapped_key: Base64(data_key.wrapped),
            nonce: Base64(nonce),
            ciphertext: Base64(std::mem::take(&mut *bytes)),
        })
    }

    /// The data key as KMS unwraps it, where this object says that it is sealed for `context`.
    ///
    /// # Errors
    /// [`PrivateHalfError::Exchanged`] where it names another key or cluster: KMS need not be asked then.
    pub fn wrapped_key(&self, context: &SealContext<'_>) -> Result<&[u8], PrivateHalfError> {
        if self.cluster == context.cluster && self.kid == context.kid.as_str() {
            return Ok(&self.wrapped_key.0);
        }
        Err(PrivateHalfError::Exchanged { cluster: self.cluster.clone(), kid: self.kid.clone() })
    }

    /// Opens it, if it was sealed for `context` with this data key and is unchanged since.
    ///
    /// # Errors
    /// Exchanged, damaged, or it holds another key than that of `context`.
    pub fn open(&self, data_key: &PlainDataKey, context: &SealContext<'_>) -> Result<SigningKey, PrivateHalfError> {
        self.wrapped_key(context)?;
        let nonce = Nonce::assume_unique_for_key(self.nonce.0);
        let mut bytes = Zeroizing::new(self.ciphertext.0.clone());
        let pem = aes(data_key)?
            .open_in_place(nonce, context.associated_data(), &mut bytes)
            .map_err(|_| PrivateHalfError::Damaged)?;
        let key = SigningKey::read(pem).map_err(PrivateHalfError::Key)?;
        if key.kid() == context.kid { Ok(key) } else { Err(PrivateHalfError::OtherKey(key.kid().clone())) }
    }

    /// ARN of the KMS key as it stands in the object, for a person.
    pub fn kms_key(&self) -> &str {
        &self.kms_key
    }

    /// The bytes to store: indented by two spaces, with a newline at the end.
    pub fn render(&self) -> Vec<u8> {
        // Nothing in it can fail to be written as JSON.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    fn parse(bytes: &[u8]) -> Result<Self, PrivateHalfError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } = serde_json::from_slice(bytes).map_err(PrivateHalfError::Format)?;
        match version {
            1 => serde_json::from_slice(bytes).map_err(PrivateHalfError::Format),
            other => Err(PrivateHalfError::Newer(other)),
        }
    }
}

fn aes(key: &PlainDataKey) -> Result<LessSafeKey, PrivateHalfError> {
    let key = UnboundKey::new(&AES_256_GCM, key.0.as_slice()).map_err(|_| PrivateHalfError::Library)?;
    Ok(LessSafeKey::new(key))
}

/// Bytes as a text of RFC 4648, section 4, with padding.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base64<B>(B);

impl<B: AsRef<[u8]>> Serialize for Base64<B> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de, B: TryFrom<Vec<u8>>> Deserialize<'de> for Base64<B> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(de::Error::custom)?;
        let length = bytes.len();
        B::try_from(bytes)
            .map(Self)
            .map_err(|_| de::Error::custom(format!("{length} bytes are not the length of this")))
    }
}

#[cfg(test)]
mod tests;
