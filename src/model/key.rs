//! Service-account keys: what PEM files hold, which key id a key has, and new keys.
//!
//! The only module that knows private keys, RSA, EC and PEM. It never signs anything: kube-apiserver does. It must not know
//! where a file stands; the errors here are sentences for behind its path.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use rsa::{
    pkcs1,
    pkcs8::{
        AlgorithmIdentifierRef, ObjectIdentifier, PrivateKeyInfo, SubjectPublicKeyInfoRef,
        der::{Decode, Encode, asn1},
    },
};
use sha2::{Digest, Sha256};
use thiserror::Error;

mod error;
mod pem_blocks;
mod sec1;
mod signing;

pub use error::{KeyError, LARGEST_RSA_SIGNING_BITS, SMALLEST_RSA_BITS};
pub use p256::elliptic_curve::zeroize::Zeroizing;
pub use rsa::rand_core;
pub use signing::SigningKey;

use pem_blocks::PemBlocks;
use sec1::Sec1;

/// RFC 3279, section 2.3.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 5480, section 2.1.1.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// Key id: unpadded base64url of SHA-256 over the DER SubjectPublicKeyInfo, as kube-apiserver's `kid`
/// (kubernetes/kubernetes `pkg/serviceaccount/jwt.go`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(String);

/// Why a text is no key id of kube-apiserver's.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no key id; kube-apiserver's are 43 characters of base64url")]
pub struct KidError(String);

impl Kid {
    /// The text as it stands in a token's header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(spki: &[u8]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(Sha256::digest(spki)))
    }
}

impl FromStr for Kid {
    type Err = KidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let decoded = URL_SAFE_NO_PAD.decode(text);
        if decoded.is_ok_and(|digest| digest.len() == 32) {
            Ok(Self(text.to_owned()))
        } else {
            Err(KidError(text.to_owned()))
        }
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Signature algorithm that kube-apiserver uses with a key: it follows from the key (RFC 7518, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// EC P-256.
    Es256,
    /// EC P-384.
    Es384,
    /// EC P-521.
    Es512,
    /// RSA of any size.
    Rs256,
}

impl Algorithm {
    /// Name in `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The numbers of a public key, big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbers {
    /// Without leading zeros.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Public exponent.
        e: Vec<u8>,
    },
    /// Each as long as the curve's field.
    Ec {
        /// The curve.
        curve: Curve,
        /// First coordinate.
        x: Vec<u8>,
        /// Second coordinate.
        y: Vec<u8>,
    },
}

/// Curves that kube-apiserver signs and verifies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1
    P256,
    /// secp384r1
    P384,
    /// secp521r1
    P521,
}

impl Curve {
    /// Name in `crv` (RFC 7518, section 6.2.1.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
            Self::P384 => ObjectIdentifier::new_unwrap("1.3.132.0.34"),
            Self::P521 => ObjectIdentifier::new_unwrap("1.3.132.0.35"),
        }
    }

    fn of(oid: ObjectIdentifier) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|curve| curve.oid() == oid)
    }
}

/// A key that tokens are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kid: Kid,
    numbers: Numbers,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Every key that kube-apiserver finds in a `--service-account-key-file`, in order, repeats included.
    ///
    /// Accepted as by client-go `util/keyutil.ParsePublicKeysPEM`, whatever a block's label says: SubjectPublicKeyInfo,
    /// X.509 certificates, and the private forms PKCS#1, PKCS#8 (RSA only) and SEC1. Other blocks are skipped. Weak keys are
    /// returned too, because the running API server accepts their tokens: see [`PublicKey::is_weak`].
    ///
    /// # Errors
    /// [`KeyError::NoVerificationKey`], [`KeyError::Empty`]: kube-apiserver would not start with such a file.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, KeyError> {
        let pem = PemBlocks::read(bytes)?;
        let keys: Vec<Self> = pem.blocks.iter().filter_map(|block| Self::from_any_der(block.der.as_ref()?)).collect();
        match pem.unfinished {
            _ if !keys.is_empty() => Ok(keys),
            Some(label) => Err(KeyError::Truncated(label)),
            None => Err(KeyError::NoVerificationKey { found: pem.labels() }),
        }
    }

    /// The key's id.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// What kube-apiserver signs and verifies with this key.
    pub fn algorithm(&self) -> Algorithm {
        match &self.numbers {
            Numbers::Rsa { .. } => Algorithm::Rs256,
            Numbers::Ec { curve: Curve::P256, .. } => Algorithm::Es256,
            Numbers::Ec { curve: Curve::P384, .. } => Algorithm::Es384,
            Numbers::Ec { curve: Curve::P521, .. } => Algorithm::Es512,
        }
    }

    /// The numbers that a JWK carries.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Whether nothing should be signed with it: RSA with less than [`SMALLEST_RSA_BITS`] or an exponent below 65537.
    pub fn is_weak(&self) -> bool {
        self.weakness().is_some()
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// One PEM block `PUBLIC KEY`.
    pub fn to_pem(&self) -> String {
        pem_blocks::write("PUBLIC KEY", &self.spki)
    }

    fn weakness(&self) -> Option<KeyError> {
        let Numbers::Rsa { n, e } = &self.numbers else { return None };
        let bits = bit_length(n);
        if bits < SMALLEST_RSA_BITS {
            return Some(KeyError::FewBits { kid: self.kid.clone(), bits });
        }
        (value(e) < 65537).then(|| KeyError::SmallExponent(self.kid.clone()))
    }

    fn from_any_der(der: &[u8]) -> Option<Self> {
        Self::from_rsa_private_der(der)
            .or_else(|| Self::from_sec1_der(der))
            .or_else(|| Self::from_spki(&SubjectPublicKeyInfoRef::from_der(der).ok()?))
            .or_else(|| {
                let certificate = x509_cert::Certificate::from_der(der).ok()?;
                let spki = certificate.tbs_certificate.subject_public_key_info.to_der().ok()?;
                Self::from_spki(&SubjectPublicKeyInfoRef::from_der(&spki).ok()?)
            })
    }

    fn from_spki(spki: &SubjectPublicKeyInfoRef<'_>) -> Option<Self> {
        let body = spki.subject_public_key.as_bytes()?;
        match spki.algorithm.oid {
            // RFC 3279, section 2.3.1: the parameters are NULL; Go refuses anything else.
            RSA_ENCRYPTION if spki.algorithm.parameters_any().ok()?.is_null() => {
                let key = pkcs1::RsaPublicKey::from_der(body).ok()?;
                Self::from_rsa(key.modulus.as_bytes(), key.public_exponent.as_bytes())
            }
            EC_PUBLIC_KEY => Self::from_point(Curve::of(spki.algorithm.parameters_oid().ok()?)?, body),
            _ => None,
        }
    }

    fn from_rsa_private_der(der: &[u8]) -> Option<Self> {
        let inner = match PrivateKeyInfo::from_der(der) {
            Ok(info) if info.algorithm.oid == RSA_ENCRYPTION => info.private_key,
            Ok(_) => return None,
            Err(_) => der,
        };
        let key = pkcs1::RsaPrivateKey::from_der(inner).ok()?;
        Self::from_rsa(key.modulus.as_bytes(), key.public_exponent.as_bytes())
    }

    fn from_sec1_der(der: &[u8]) -> Option<Self> {
        let key = Sec1::read(der)?;
        match (key.curve?, key.point) {
            (Curve::P256, _) => Self::from_p256(&p256::SecretKey::from_slice(key.secret).ok()?),
            (curve, point) => Self::from_point(curve, point?),
        }
    }

    fn from_p256(key: &p256::SecretKey) -> Option<Self> {
        Self::from_point(Curve::P256, key.public_key().to_encoded_point(false).as_bytes())
    }

    fn from_rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        // Go keeps the exponent in an int.
        if n.iter().all(|byte| *byte == 0) || value(e) < 2 || e.len() > 8 {
            return None;
        }
        let (modulus, public_exponent) = (asn1::UintRef::new(n).ok()?, asn1::UintRef::new(e).ok()?);
        let key = pkcs1::RsaPublicKey { modulus, public_exponent }.to_der().ok()?;
        let spki = encode_spki(RSA_ENCRYPTION, asn1::AnyRef::NULL, &key)?;
        Some(Self { kid: Kid::of(&spki), numbers: Numbers::Rsa { n: n.to_vec(), e: e.to_vec() }, spki })
    }

    /// Uncompressed points only, as in Go. Whether the point is on the curve is known for P-256 alone.
    fn from_point(curve: Curve, point: &[u8]) -> Option<Self> {
        let Some((4, coordinates)) = point.split_first() else { return None };
        let length = curve.field_bytes();
        if coordinates.len() != 2 * length || (curve == Curve::P256 && p256::PublicKey::from_sec1_bytes(point).is_err())
        {
            return None;
        }
        let (x, y) = (coordinates[..length].to_vec(), coordinates[length..].to_vec());
        let oid = curve.oid();
        let spki = encode_spki(EC_PUBLIC_KEY, asn1::AnyRef::from(&oid), point)?;
        Some(Self { kid: Kid::of(&spki), numbers: Numbers::Ec { curve, x, y }, spki })
    }
}

/// The keys as one verification file: SubjectPublicKeyInfo blocks, which every version of kube-apiserver reads.
pub fn verification_pem(keys: &[PublicKey]) -> String {
    keys.iter().map(PublicKey::to_pem).collect()
}

/// DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
fn encode_spki(oid: ObjectIdentifier, parameters: asn1::AnyRef<'_>, key: &[u8]) -> Option<Vec<u8>> {
    let algorithm = AlgorithmIdentifierRef { oid, parameters: Some(parameters) };
    let subject_public_key = asn1::BitStringRef::from_bytes(key).ok()?;
    SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().ok()
}

/// Bits of a big-endian number without leading zeros.
fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

/// A big-endian number, or the largest possible one where it is larger.
fn value(number: &[u8]) -> u64 {
    if number.len() > 8 { u64::MAX } else { number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    macro_rules! test_key {
        ($name:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/test-keys/", $name, ".pem")).as_slice()
        };
    }

    const RSA: &str = "VsHC94W1exar4osqSKoNFGcbBdWP9dP-Cq5GanSemOk";
    const P256: &str = "JfkpZgVW9G-rutvXc15_57GK_34q3FboMwg71bSeXHo";
    const P384: &str = "DMzbNr1yWes-M6-zj8FrBWRu58cn5X9nkXFppSw1w20";
    const P521: &str = "wkLvNNnzBNYlvNyhZ_xEbEfjlpX8EUfcW32PUtGICBo";

    impl PublicKey {
        /// The EC key whose private half is `number`: a quick way to many different keys.
        pub(crate) fn numbered(number: u8) -> Self {
            let mut secret = [0; 32];
            secret[31] = number;
            let key = p256::SecretKey::from_slice(&secret).expect("a number from 1");
            Self::from_p256(&key).expect("a public key")
        }
    }

    fn kids(file: &[u8]) -> Result<Vec<String>, KeyError> {
        Ok(PublicKey::read_all(file)?.iter().map(|key| key.kid().to_string()).collect())
    }

    #[test]
    fn kid_is_the_one_of_kube_apiserver() {
        // The first is TestKeyIDStability of kubernetes/kubernetes, the others are computed by
        // openssl pkey -pubin -pubout -outform DER | openssl dgst -sha256 -binary | base64
        for (file, kid, algorithm) in [
            (test_key!("kubernetes-keyid-test.spki"), "JHJehTTTZlsspKHT-GaJxK7Kd1NQgZJu3fyK6K_QDYU", Algorithm::Rs256),
            (test_key!("rsa-2048.spki"), RSA, Algorithm::Rs256),
            (test_key!("p256.spki"), P256, Algorithm::Es256),
            (test_key!("p384.spki"), P384, Algorithm::Es384),
            (test_key!("p521.spki"), P521, Algorithm::Es512),
        ] {
            let keys = PublicKey::read_all(file).expect("one key");
            let [key] = keys.as_slice() else { panic!("{kid}: {keys:?}") };
            assert_eq!((key.kid().as_str(), key.algorithm(), key.is_weak()), (kid, algorithm, false));
            assert_eq!(key.to_pem().as_bytes(), file, "{kid}");
            assert_eq!(kid.parse::<Kid>().as_ref(), Ok(key.kid()));
        }
        for text in [
            "",
            "VsHC94W1",
            "VsHC94W1exar4osqSKoNFGcbBdWP9dP-Cq5GanSemOk=",
            "V+HC94W1exar4osqSKoNFGcbBdWP9dP+Cq5GanSemOk",
        ] {
            assert_eq!(text.parse::<Kid>(), Err(KidError(text.to_owned())));
        }
    }

    #[test]
    fn verification_file_is_read_as_kube_apiserver_reads_it() {
        // As client-go 0.36.3 reads these files (util/keyutil.ParsePublicKeysPEM).
        for (file, kid) in [
            (test_key!("rsa-2048.kops"), RSA),
            (test_key!("rsa-2048.certificate"), RSA),
            (test_key!("rsa-2048.pkcs1"), RSA),
            (test_key!("rsa-2048.pkcs8"), RSA),
            (test_key!("p256.certificate"), P256),
            (test_key!("p256.sec1"), P256),
            (test_key!("p384.sec1"), P384),
            (test_key!("p521.sec1"), P521),
        ] {
            assert_eq!(kids(file), Ok(vec![kid.to_owned()]));
            let crlf = String::from_utf8_lossy(file).replace('\n', "\r\n");
            assert_eq!(kids(crlf.as_bytes()), Ok(vec![kid.to_owned()]), "with CRLF");
        }
        let label = |text: &str| Err(KeyError::NoVerificationKey { found: text.to_owned() });
        for (file, expected) in [
            (test_key!("rsa-2048.pkcs1-public"), label("\"RSA PUBLIC KEY\"")),
            (test_key!("p256.pkcs8"), label("\"PRIVATE KEY\"")),
            (test_key!("ed25519.pkcs8"), label("\"PRIVATE KEY\"")),
            (test_key!("rsa-2048.encrypted-pkcs1"), label("\"RSA PRIVATE KEY\"")),
            (b"hello", Err(KeyError::NotPem)),
            (b" \n", Err(KeyError::Empty)),
            (&test_key!("rsa-2048.spki")[..200], Err(KeyError::Truncated("PUBLIC KEY".to_owned()))),
        ] {
            assert_eq!(kids(file), expected);
        }
    }

    #[test]
    fn verification_file_gives_every_key_and_skips_the_rest() {
        let weak = test_key!("rsa-1024.pkcs1");
        let damaged = b"-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----\n-----BEGIN PUBLIC KEY-----\nAAAA\n";
        let note = b"old key, keep until March\n";
        let file =
            [note, test_key!("rsa-2048.spki"), damaged, test_key!("ed25519.pkcs8"), weak, test_key!("p256.spki")]
                .concat();
        let keys = PublicKey::read_all(&file).expect("three keys");
        let found: Vec<_> = keys.iter().map(|key| (&key.kid().as_str()[..8], key.is_weak())).collect();
        assert_eq!(found, [("VsHC94W1", false), ("wSgdu1qf", true), ("JfkpZgVW", false)]);
        assert_eq!(PublicKey::read_all(verification_pem(&keys).as_bytes()), Ok(keys));
    }

    #[test]
    fn base64_with_blank_lines_and_headers_is_read_as_go_does() {
        let text = String::from_utf8_lossy(test_key!("rsa-2048.spki")).into_owned();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(3, "");
        assert_eq!(kids(lines.join("\n").as_bytes()), Ok(vec![RSA.to_owned()]));
        lines.insert(1, "Comment: of 2024");
        let spaced = lines[6].replace('A', "A \t");
        lines[6] = &spaced;
        assert_eq!(kids(lines.join("\n").as_bytes()), Ok(vec![RSA.to_owned()]));
    }

    #[test]
    fn signing_key_is_read_in_every_form_of_kube_apiserver() {
        let parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n".as_slice();
        for (file, kid) in [
            (test_key!("rsa-2048.pkcs1").to_vec(), RSA),
            (test_key!("rsa-2048.pkcs8").to_vec(), RSA),
            (test_key!("p256.sec1").to_vec(), P256),
            (test_key!("p256.pkcs8").to_vec(), P256),
            ([parameters, test_key!("p256.sec1")].concat(), P256),
            ([test_key!("rsa-2048.spki"), test_key!("rsa-2048.pkcs1")].concat(), RSA),
            ([test_key!("rsa-2048.pkcs1"), test_key!("p256.sec1")].concat(), RSA),
        ] {
            let key = SigningKey::read(&file).expect("a signing key");
            assert_eq!(key.kid().as_str(), kid);
            let again = SigningKey::read(key.to_pem().expect("PEM").as_bytes()).expect("the same key");
            assert_eq!(again.public(), key.public());
        }
        let pkcs1 = SigningKey::read(test_key!("rsa-2048.pkcs8")).expect("a signing key").to_pem().expect("PEM");
        assert_eq!(pkcs1.as_bytes(), test_key!("rsa-2048.pkcs1"));
    }

    #[test]
    fn file_that_is_no_signing_key_is_refused_with_the_reason() {
        let restore = "restore it from a backup or from another control-plane node";
        let relabelled = String::from_utf8_lossy(test_key!("rsa-2048.pkcs8")).replace("PRIVATE", "RSA PRIVATE");
        let foreign_point = {
            let blocks = pem::parse_many(test_key!("p256.sec1")).expect("PEM");
            let mut der = blocks.last().expect("a key").contents().to_vec();
            *der.last_mut().expect("a byte") ^= 1;
            pem_blocks::write("EC PRIVATE KEY", &der)
        };
        for (file, message) in [
            (b"\n".as_slice(), format!("the file is empty; {restore}")),
            (
                b"not a key",
                "there is no PEM block in it; a key file has lines -----BEGIN ...----- and -----END ...-----, is it the right file?"
                    .to_owned(),
            ),
            (
                &test_key!("rsa-2048.pkcs1")[..900],
                format!("PEM block \"RSA PRIVATE KEY\" has no matching END line, the file is cut off; {restore}"),
            ),
            (
                b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                format!("PEM block \"RSA PRIVATE KEY\" is damaged; {}", restore.replace("it", "the file")),
            ),
            (
                relabelled.as_bytes(),
                "PEM block \"RSA PRIVATE KEY\" is damaged; restore the file from a backup or from another control-plane node".to_owned(),
            ),
            (
                test_key!("rsa-2048.encrypted-pkcs1"),
                "the private key is encrypted and kube-apiserver has no passphrase for it; write it unencrypted with `openssl pkey`"
                    .to_owned(),
            ),
            (
                test_key!("rsa-2048.encrypted-pkcs8"),
                "the private key is encrypted and kube-apiserver has no passphrase for it; write it unencrypted with `openssl pkey`"
                    .to_owned(),
            ),
            (
                test_key!("rsa-2048.spki"),
                "it holds a public key and no private key; are the signing and the verification file mixed up?".to_owned(),
            ),
            (
                test_key!("rsa-2048.certificate"),
                "it holds a certificate and no private key; are the signing and the verification file mixed up?".to_owned(),
            ),
            (
                test_key!("rsa-1024.pkcs1"),
                "RSA key wSgdu1qfTsykBe4WVaqR9XWSDg7XgPfULeILaaKg6Qw has only 1024 bits and is too weak to sign tokens; use one with at least 2048"
                    .to_owned(),
            ),
            (
                test_key!("rsa-2048-exponent-3.pkcs1"),
                "RSA key jv8qrDf0R6Fpm9RUI7vDbb_cRB8RPMPFOWI-4v7Q4mA has a public exponent below 65537 and is too weak to sign tokens; use 65537".to_owned(),
            ),
            (
                test_key!("rsa-5120.pkcs1"),
                "RSA key aWyZ4zW17tp359sqkXoM00BNzZceqe4QPM4gglS4o_8 has 5120 bits; irsad reads signing keys of at most 4096".to_owned(),
            ),
            (
                test_key!("p384.sec1"),
                "the private key is an EC key on P-384; irsad takes RSA and EC P-256 keys for signing".to_owned(),
            ),
            (
                test_key!("p521.pkcs8"),
                "the private key is an EC key on P-521; irsad takes RSA and EC P-256 keys for signing".to_owned(),
            ),
            (
                test_key!("ed25519.pkcs8"),
                "the private key is neither RSA nor EC (algorithm 1.3.101.112) and kube-apiserver does not start with it; use an RSA or EC P-256 key"
                    .to_owned(),
            ),
            (
                foreign_point.as_bytes(),
                "the parts of the private key in PEM block \"EC PRIVATE KEY\" contradict each other; restore the file from a backup or from another control-plane node"
                    .to_owned(),
            ),
            (
                b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n",
                "PEM block \"DH PARAMETERS\" is no private key that kube-apiserver reads; use PKCS#1, PKCS#8 or SEC1".to_owned(),
            ),
        ] {
            let error = SigningKey::read(file).expect_err("refused");
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn rsa_key_whose_parts_contradict_each_other_is_refused() {
        let mut der = pem::parse(test_key!("rsa-2048.pkcs1")).expect("PEM").into_contents();
        der[300] ^= 1;
        let file = pem_blocks::write("RSA PRIVATE KEY", &der);
        let error = SigningKey::read(file.as_bytes()).expect_err("refused");
        assert_eq!(error, KeyError::Inconsistent("RSA PRIVATE KEY".to_owned()));
    }

    #[test]
    fn key_that_is_not_the_first_usable_one_is_not_taken_for_it() {
        // kube-apiserver would sign with the P-384 key.
        let file = [test_key!("p384.sec1"), test_key!("rsa-2048.pkcs1")].concat();
        assert_eq!(SigningKey::read(&file).map(|key| key.kid().clone()), Err(KeyError::Curve("P-384")));
        let file = [test_key!("rsa-1024.pkcs1"), test_key!("rsa-2048.pkcs1")].concat();
        assert!(matches!(SigningKey::read(&file), Err(KeyError::FewBits { bits: 1024, .. })));
    }

    #[test]
    fn new_key_is_rsa_2048_and_its_debug_form_shows_the_kid_alone() {
        let key = SigningKey::generate_rsa_2048(&mut rand_core::OsRng).expect("a key");
        let Numbers::Rsa { n, e } = key.public().numbers() else { panic!("{key:?}") };
        assert_eq!((bit_length(n), value(e)), (2048, 65537));
        assert_eq!(format!("{key:?}"), format!("SigningKey {{ kid: Kid(\"{}\"), .. }}", key.kid()));
        let pem = key.to_pem().expect("PEM");
        assert!(
            pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\n") && pem.ends_with("-----END RSA PRIVATE KEY-----\n")
        );
        assert_eq!(SigningKey::read(pem.as_bytes()).expect("a key").public(), key.public());
    }

    proptest! {
        #[test]
        fn blocks_in_any_order_give_the_keys_that_kube_apiserver_finds(picked in vec(select(blocks()), 1..8)) {
            let file: Vec<u8> = picked.iter().flat_map(|(file, _)| file.iter().copied()).collect();
            let expected: Vec<String> = picked.iter().filter_map(|(_, kid)| kid.map(str::to_owned)).collect();
            prop_assert_eq!(kids(&file).unwrap_or_default(), expected);
        }

        #[test]
        fn damaged_file_gives_no_other_signing_key(at in 0_usize..1675, byte in any::<u8>()) {
            for file in [test_key!("rsa-2048.pkcs1"), test_key!("p256.sec1")] {
                let mut damaged = file.to_vec();
                let at = at % file.len();
                damaged[at] = byte;
                let _ = PublicKey::read_all(&damaged);
                if let Ok(key) = SigningKey::read(&damaged) {
                    prop_assert!([RSA, P256].contains(&key.kid().as_str()), "{}", key.kid());
                }
            }
        }
    }

    /// Blocks and the key that kube-apiserver finds in each.
    fn blocks() -> Vec<(&'static [u8], Option<&'static str>)> {
        vec![
            (test_key!("rsa-2048.kops"), Some(RSA)),
            (test_key!("rsa-2048.certificate"), Some(RSA)),
            (test_key!("rsa-2048.pkcs8"), Some(RSA)),
            (test_key!("p256.sec1"), Some(P256)),
            (test_key!("p384.spki"), Some(P384)),
            (test_key!("p521.sec1"), Some(P521)),
            (test_key!("p256.pkcs8"), None),
            (test_key!("rsa-2048.pkcs1-public"), None),
            (test_key!("rsa-2048.encrypted-pkcs8"), None),
            (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", None),
            (b"some words\n\n", None),
        ]
    }
}
