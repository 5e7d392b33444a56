//! What is known of a file without its bytes.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256 of a file's bytes, lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest(pub String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("{:x}", Sha256::digest(bytes)))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What must be in a file's place for a write to go ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedFile {
    /// No file.
    Absent,
    /// The file that was observed.
    Unchanged(Digest),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_the_hex_sha256_that_sha256sum_prints() {
        assert_eq!(Digest::of(b"abc").to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
