//! EC private keys in their own form (SEC 1, appendix C.4; RFC 5915).

use rsa::pkcs8::{
    ObjectIdentifier,
    der::{
        Decode, Reader, SliceReader, TagNumber,
        asn1::{BitStringRef, ContextSpecific, OctetStringRef},
    },
};

use super::Curve;

/// The members of an `ECPrivateKey` that matter.
pub(super) struct Sec1<'a> {
    /// The secret number, as long as the field.
    pub secret: &'a [u8],
    /// The curve; `None` for one that kube-apiserver does not sign with.
    pub curve: Option<Curve>,
    /// Public point, where the file has it.
    pub point: Option<&'a [u8]>,
}

impl<'a> Sec1<'a> {
    /// Reads the DER, or nothing where it is something else.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(der).ok()?;
        let key = reader.sequence(|inner| {
            u8::decode(inner)?;
            let secret = OctetStringRef::decode(inner)?.as_bytes();
            let curve = ContextSpecific::<ObjectIdentifier>::decode_explicit(inner, TagNumber::N0)?;
            let point = ContextSpecific::<BitStringRef<'a>>::decode_explicit(inner, TagNumber::N1)?;
            let curve = curve.and_then(|field| Curve::of(field.value));
            Ok(Self { secret, curve, point: point.and_then(|field| field.value.as_bytes()) })
        });
        reader.finish(key.ok()?).ok()
    }
}
