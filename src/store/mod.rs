//! Where bytes live: one contract for every store, and the stores that need no cloud.
//!
//! A store knows keys and bytes. It does not know what they mean: not issuers, not keys, not who may read them.

pub mod file;
pub mod proof;
pub mod public;

use std::{fmt, future::Future};

use thiserror::Error;

/// Largest object that is read, in bytes; a longer one is refused without being kept in memory.
pub const LARGEST_OBJECT_BYTES: u64 = 1 << 20;

/// Media type and lifetime of both public documents (OpenID Connect Discovery 1.0, section 4.2; RFC 9111).
pub const CONTENT_TYPE: &str = "application/json";
/// Five minutes: short enough that a new key is seen soon, long enough to spare the store.
pub const CACHE_CONTROL: &str = "public, max-age=300";

/// One stored object.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    /// The bytes as stored.
    pub body: Vec<u8>,
    /// What a conditional write compares.
    pub version: Version,
}

/// The body may be a private key: only its length is shown.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("bytes", &self.body.len()).field("version", &self.version).finish()
    }
}

/// Names one state of one object: an ETag, a resourceVersion, or a hash of the bytes. Only good for [`Condition::Unchanged`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// What must hold in the store for a write to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is no object of that key (`If-None-Match: *`, RFC 9110 section 13.1.2).
    Absent,
    /// The object is the one that was read (`If-Match`, RFC 9110 section 13.1.1).
    Unchanged(Version),
}

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Someone else wrote first; read again and decide anew.
    #[error("{place} was changed by someone else since it was read (nothing written); the next pass reads it again")]
    Conflict {
        /// Key or URL.
        place: String,
    },
    /// The store could not be asked, or refused. The sentence says what to do.
    #[error("{sentence}")]
    Failed {
        /// What failed, on what, what state we left and what to do.
        sentence: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reads and conditional writes of whole objects.
pub trait Store: fmt::Display {
    /// The object of `key`, or `None` where there is certainly none.
    ///
    /// # Errors
    /// Could not be asked, not allowed, or larger than [`LARGEST_OBJECT_BYTES`]. Nothing is known then.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Object>, StoreError>>;

    /// Writes the whole object if `condition` holds at that moment. A store for the world serves it as [`CONTENT_TYPE`] with
    /// [`CACHE_CONTROL`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where it does not hold: nothing was written. Any other error leaves the old object or the
    /// new one, never a part: read again.
    fn put(&self, key: &str, body: &[u8], condition: &Condition) -> impl Future<Output = Result<Version, StoreError>>;

    /// Deletes the object of `key`, whatever it holds. Success where there is none.
    ///
    /// # Errors
    /// Could not be asked, or not allowed. The object is there or gone: read again.
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Keys that begin with `prefix`, at most 1000, in byte order.
    ///
    /// # Errors
    /// Could not be asked.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<String>, StoreError>>;
}

#[cfg(test)]
#[path = "../../tests/contract/store.rs"]
pub(crate) mod contract;
