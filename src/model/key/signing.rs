//! The private half: the key that kube-apiserver signs with.

use std::fmt;

use p256::elliptic_curve::zeroize::Zeroizing;
use rsa::{
    RsaPrivateKey, pkcs1,
    pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey, LineEnding},
    pkcs8::{DecodePrivateKey, EncodePrivateKey, PrivateKeyInfo, der::Decode},
    rand_core::CryptoRngCore,
    traits::PublicKeyParts,
};

use super::{
    Curve, EC_PUBLIC_KEY, KeyError, Kid, LARGEST_RSA_SIGNING_BITS, Numbers, PublicKey, RSA_ENCRYPTION, bit_length,
    pem_blocks::{self, Block, PemBlocks},
    sec1::Sec1,
};

/// A private key with its public half: RSA of 2048 to 4096 bits, or EC P-256. Wiped from memory on drop, never printed.
pub struct SigningKey {
    secret: Secret,
    public: PublicKey,
}

/// Both wipe themselves on drop.
enum Secret {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::SecretKey),
}

impl SigningKey {
    /// The key that kube-apiserver signs with when it is given this file: the first block that it can read
    /// (client-go `util/keyutil.ParsePrivateKeyPEM`).
    ///
    /// # Errors
    /// No such block, or its key is none that should sign; the error names the first reason.
    pub fn read(bytes: &[u8]) -> Result<Self, KeyError> {
        let pem = PemBlocks::read(bytes)?;
        let mut reasons = Vec::new();
        for block in &pem.blocks {
            match Secret::read(block) {
                Ok(secret) => return Self::of(secret, &block.label),
                // kube-apiserver skips what it cannot parse, but what it parses it takes.
                Err(reason @ (KeyError::Curve(_) | KeyError::Type(_) | KeyError::ManyBits { .. })) => {
                    return Err(reason);
                }
                Err(reason) => reasons.push(reason),
            }
        }
        // A block that should have been the key says more than a block beside it, as `EC PARAMETERS` is.
        reasons.extend(pem.unfinished.map(KeyError::Truncated));
        let telling = reasons.iter().position(|reason| !matches!(reason, KeyError::UnknownBlock(_)));
        Err(if reasons.is_empty() { KeyError::NotPem } else { reasons.swap_remove(telling.unwrap_or_default()) })
    }

    /// A new RSA key of 2048 bits with exponent 65537, as kubeadm makes them.
    ///
    /// # Errors
    /// [`KeyError::Make`] where the library fails.
    pub fn generate_rsa_2048(random: &mut impl CryptoRngCore) -> Result<Self, KeyError> {
        let key = RsaPrivateKey::new(random, 2048).map_err(|error| KeyError::Make(error.to_string()))?;
        Self::of(Secret::Rsa(Box::new(key)), "RSA PRIVATE KEY")
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key's id.
    pub fn kid(&self) -> &Kid {
        self.public.kid()
    }

    /// One PEM block: PKCS#1 `RSA PRIVATE KEY` as kubeadm writes it, or for EC PKCS#8 `PRIVATE KEY`. For a file of mode 0600.
    ///
    /// # Errors
    /// [`KeyError::Make`] where the library fails.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        match &self.secret {
            Secret::Rsa(key) => key.to_pkcs1_pem(LineEnding::LF).map_err(|error| KeyError::Make(error.to_string())),
            // Not SEC1: the library leaves the curve out of it, and kube-apiserver wants it there.
            Secret::P256(_) => self.to_pkcs8_pem(),
        }
    }

    /// One PEM block PKCS#8 `PRIVATE KEY`, as the keyring keeps private halves.
    ///
    /// # Errors
    /// [`KeyError::Make`] where the library fails.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let der = match &self.secret {
            Secret::Rsa(key) => key.to_pkcs8_der(),
            Secret::P256(key) => key.to_pkcs8_der(),
        };
        let der = der.map_err(|error| KeyError::Make(error.to_string()))?;
        Ok(Zeroizing::new(pem_blocks::write("PRIVATE KEY", der.as_bytes())))
    }

    fn of(secret: Secret, label: &str) -> Result<Self, KeyError> {
        let public = secret.public().ok_or_else(|| KeyError::Inconsistent(label.to_owned()))?;
        match public.weakness() {
            Some(weakness) => Err(weakness),
            None => Ok(Self { secret, public }),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", self.kid()).finish_non_exhaustive()
    }
}

impl Secret {
    fn read(block: &Block) -> Result<Self, KeyError> {
        let label = || block.label.clone();
        if block.encrypted || block.label == "ENCRYPTED PRIVATE KEY" {
            return Err(KeyError::Encrypted);
        }
        let read = match block.label.as_str() {
            "RSA PRIVATE KEY" => Self::read_pkcs1,
            "PRIVATE KEY" => Self::read_pkcs8,
            "EC PRIVATE KEY" => Self::read_sec1,
            "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(KeyError::NotPrivate("public key")),
            "CERTIFICATE" => return Err(KeyError::NotPrivate("certificate")),
            _ => return Err(KeyError::UnknownBlock(label())),
        };
        read(block.der.as_ref().ok_or_else(|| KeyError::Damaged(label()))?, &block.label)
    }

    fn read_pkcs1(der: &[u8], label: &str) -> Result<Self, KeyError> {
        // kube-apiserver does not look for PKCS#8 under this label.
        pkcs1::RsaPrivateKey::from_der(der).map_err(|_| KeyError::Damaged(label.to_owned()))?;
        Self::read_rsa(der, label)
    }

    fn read_rsa(der: &[u8], label: &str) -> Result<Self, KeyError> {
        let public = PublicKey::from_rsa_private_der(der).ok_or_else(|| KeyError::Damaged(label.to_owned()))?;
        // The library would refuse it without saying why.
        if let Numbers::Rsa { n, .. } = public.numbers()
            && bit_length(n) > LARGEST_RSA_SIGNING_BITS
        {
            return Err(KeyError::ManyBits { kid: public.kid().clone(), bits: bit_length(n) });
        }
        let key = RsaPrivateKey::from_pkcs1_der(der).or_else(|_| RsaPrivateKey::from_pkcs8_der(der));
        key.map(|key| Self::Rsa(Box::new(key))).map_err(|_| KeyError::Inconsistent(label.to_owned()))
    }

    fn read_pkcs8(der: &[u8], label: &str) -> Result<Self, KeyError> {
        let damaged = || KeyError::Damaged(label.to_owned());
        let info = PrivateKeyInfo::from_der(der).map_err(|_| damaged())?;
        match info.algorithm.oid {
            RSA_ENCRYPTION => Self::read_rsa(der, label),
            EC_PUBLIC_KEY => {
                let curve = info.algorithm.parameters_oid().ok().and_then(Curve::of);
                Self::read_ec(&Sec1::read(info.private_key).ok_or_else(damaged)?, curve, label)
            }
            other => Err(KeyError::Type(other.to_string())),
        }
    }

    fn read_sec1(der: &[u8], label: &str) -> Result<Self, KeyError> {
        let key = Sec1::read(der).ok_or_else(|| KeyError::Damaged(label.to_owned()))?;
        Self::read_ec(&key, key.curve, label)
    }

    fn read_ec(key: &Sec1<'_>, curve: Option<Curve>, label: &str) -> Result<Self, KeyError> {
        let inconsistent = || KeyError::Inconsistent(label.to_owned());
        match curve {
            Some(Curve::P256) => (),
            Some(other) => return Err(KeyError::Curve(other.as_str())),
            None => return Err(KeyError::Curve("a curve that kube-apiserver does not sign with")),
        }
        let secret = p256::SecretKey::from_slice(key.secret).map_err(|_| inconsistent())?;
        let point = secret.public_key().to_sec1_bytes();
        if key.point.is_some_and(|stated| stated != point.as_ref()) {
            Err(inconsistent())
        } else {
            Ok(Self::P256(secret))
        }
    }

    fn public(&self) -> Option<PublicKey> {
        match self {
            Self::Rsa(key) => PublicKey::from_rsa(&key.n().to_bytes_be(), &key.e().to_bytes_be()),
            Self::P256(key) => PublicKey::from_p256(key),
        }
    }
}
