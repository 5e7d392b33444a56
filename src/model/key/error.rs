//! Why a file holds no key to work with.

use thiserror::Error;

use super::Kid;

/// Smallest RSA key that is no weak one, in bits (RFC 7518, section 3.3).
pub const SMALLEST_RSA_BITS: usize = 2048;
/// Largest RSA signing key that is read, in bits.
pub const LARGEST_RSA_SIGNING_BITS: usize = 4096;

/// Why a file's bytes are not the keys that were looked for. Reads well behind `PATH: `.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing but white space.
    #[error("the file is empty; restore it from a backup or from another control-plane node")]
    Empty,
    /// Longer than any key file.
    #[error("the file has {bytes} bytes and is no key file; is it the right one?")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// No `-----BEGIN` line.
    #[error(
        "there is no PEM block in it; a key file has lines -----BEGIN ...----- and -----END ...-----, is it the right file?"
    )]
    NotPem,
    /// `BEGIN` without its `END`.
    #[error(
        "PEM block {0:?} has no matching END line, the file is cut off; restore it from a backup or from another control-plane node"
    )]
    Truncated(String),
    /// The body is no base64, or not what the label says.
    #[error("PEM block {0:?} is damaged; restore the file from a backup or from another control-plane node")]
    Damaged(String),
    /// Needs a passphrase.
    #[error(
        "the private key is encrypted and kube-apiserver has no passphrase for it; write it unencrypted with `openssl pkey`"
    )]
    Encrypted,
    /// A public half where the private one belongs.
    #[error("it holds a {0} and no private key; are the signing and the verification file mixed up?")]
    NotPrivate(&'static str),
    /// PEM blocks, but no key among them.
    #[error("PEM block {0:?} is no private key that kube-apiserver reads; use PKCS#1, PKCS#8 or SEC1")]
    UnknownBlock(String),
    /// An RSA key below [`SMALLEST_RSA_BITS`].
    #[error(
        "RSA key {kid} has only {bits} bits and is too weak to sign tokens; use one with at least {SMALLEST_RSA_BITS}"
    )]
    FewBits {
        /// The key.
        kid: Kid,
        /// Its size.
        bits: usize,
    },
    /// An RSA key above [`LARGEST_RSA_SIGNING_BITS`].
    #[error("RSA key {kid} has {bits} bits; irsad reads signing keys of at most {LARGEST_RSA_SIGNING_BITS}")]
    ManyBits {
        /// The key.
        kid: Kid,
        /// Its size.
        bits: usize,
    },
    /// An RSA key with an exponent below 65537 (FIPS 186-5, section 5.1).
    #[error("RSA key {0} has a public exponent below 65537 and is too weak to sign tokens; use 65537")]
    SmallExponent(Kid),
    /// Parts of a private key that do not belong together.
    #[error(
        "the parts of the private key in PEM block {0:?} contradict each other; restore the file from a backup or from another control-plane node"
    )]
    Inconsistent(String),
    /// An EC key on another curve than P-256.
    #[error("the private key is an EC key on {0}; irsad takes RSA and EC P-256 keys for signing")]
    Curve(&'static str),
    /// Ed25519 and others.
    #[error(
        "the private key is neither RSA nor EC (algorithm {0}) and kube-apiserver does not start with it; use an RSA or EC P-256 key"
    )]
    Type(String),
    /// A verification file in which kube-apiserver would find nothing.
    #[error(
        "it holds no public key that kube-apiserver can use ({found}); write RSA or EC keys as PEM blocks \"PUBLIC KEY\" (SubjectPublicKeyInfo)"
    )]
    NoVerificationKey {
        /// Labels of the blocks that were found, or `no PEM block`.
        found: String,
    },
    /// Making or writing a key failed in the library.
    #[error("cannot make a key: {0}")]
    Make(String),
}
