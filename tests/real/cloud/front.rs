//! A cache before a closed bucket.

use std::collections::BTreeMap;

/// What the cache says of the age of every copy.
pub const AGE_SECONDS: u32 = 47;

/// Who answers for a host name, from which bucket, and with what it has kept.
#[derive(Debug, Clone)]
pub struct Front {
    pub bucket: String,
    /// By path.
    pub copies: BTreeMap<String, Vec<u8>>,
    /// Copies are given as long as there are some; otherwise what the bucket holds.
    pub keeps: bool,
}

impl Front {
    pub fn of(bucket: &str) -> Self {
        Self { bucket: bucket.to_owned(), copies: BTreeMap::new(), keeps: false }
    }
}
