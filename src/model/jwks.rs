//! JWK Set (RFC 7517): the public keys as verifiers fetch them.
//!
//! Rendering is a pure function of the keys: same keys, same bytes.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::key::{Kid, Numbers, PublicKey};

/// Most keys in one document: AWS STS does not look for a kid beyond its first hundred keys of a type.
pub const MOST_KEYS: usize = 100;

/// Keys in the order of the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    keys: Vec<Jwk>,
}

/// One key; the members stand in the order in which kube-apiserver writes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Jwk {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

/// Why there is no JWK Set.
#[derive(Debug, Error)]
pub enum JwksError {
    /// A document without keys would have every token refused.
    #[error("there is no key to publish; a JWK Set without keys would have every token refused")]
    Empty,
    /// More keys than STS looks at.
    #[error(
        "{0} keys are too many to publish, AWS STS looks at {MOST_KEYS}; remove old keys from the verification file"
    )]
    TooMany(usize),
    /// Not JSON, or without `keys`.
    #[error("it is not a JWK Set (RFC 7517)")]
    Parse(#[source] serde_json::Error),
}

impl Jwks {
    /// The document of these keys: the signing key first, then as given; a repeated key stands once, at its first place.
    ///
    /// # Errors
    /// [`JwksError::Empty`] and [`JwksError::TooMany`].
    pub fn of<'k>(keys: impl IntoIterator<Item = &'k PublicKey>) -> Result<Self, JwksError> {
        let mut seen = HashSet::new();
        Self::from_keys(keys.into_iter().filter(|key| seen.insert(key.kid())).map(Jwk::of))
    }

    /// The document of these entries, in their order.
    ///
    /// # Errors
    /// [`JwksError::Empty`] and [`JwksError::TooMany`].
    pub fn from_keys(keys: impl IntoIterator<Item = Jwk>) -> Result<Self, JwksError> {
        let keys: Vec<Jwk> = keys.into_iter().collect();
        match keys.len() {
            0 => Err(JwksError::Empty),
            1..=MOST_KEYS => Ok(Self { keys }),
            more => Err(JwksError::TooMany(more)),
        }
    }

    /// The entries in their order.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// Reads any JWK Set: members in any order, unknown ones ignored, keys of other types kept.
    ///
    /// # Errors
    /// [`JwksError::Parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksError> {
        serde_json::from_slice(bytes).map_err(JwksError::Parse)
    }

    /// The bytes to publish: indented by two spaces, with a newline at the end.
    pub fn render(&self) -> Vec<u8> {
        render(self)
    }

    /// Key ids in the order of the document; keys without one are left out.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(Jwk::kid)
    }

    /// Whether a key of this id is in the document.
    pub fn has(&self, kid: &Kid) -> bool {
        self.kids().any(|other| other == kid.as_str())
    }

    /// Key ids of `other` that are missing here, or stand here for another key.
    pub fn missing_from<'o>(&self, other: &'o Self) -> impl Iterator<Item = &'o str> {
        let own: Vec<Jwk> = self.keys.clone();
        other.keys.iter().filter(move |key| !own.contains(key)).map(|key| key.kid.as_deref().unwrap_or("(no kid)"))
    }

    /// Whether both have the same keys, in whatever order.
    pub fn has_same_keys(&self, other: &Self) -> bool {
        self.missing_from(other).next().is_none() && other.missing_from(self).next().is_none()
    }

    /// Names of the signature algorithms, sorted, each once.
    pub fn algorithms(&self) -> Vec<String> {
        let mut names: Vec<String> = self.keys.iter().filter_map(|key| key.alg.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Jwk {
    /// The entry of one public key.
    pub fn of(key: &PublicKey) -> Self {
        let encode = |number: &[u8]| Some(URL_SAFE_NO_PAD.encode(number));
        let (kty, crv, [n, e, x, y]) = match key.numbers() {
            Numbers::Rsa { n, e } => ("RSA", None, [encode(n), encode(e), None, None]),
            Numbers::Ec { curve, x, y } => ("EC", Some(curve.as_str().to_owned()), [None, None, encode(x), encode(y)]),
        };
        Self {
            usage: Some("sig".to_owned()),
            kty: kty.to_owned(),
            kid: Some(key.kid().to_string()),
            crv,
            alg: Some(key.algorithm().to_string()),
            n,
            e,
            x,
            y,
        }
    }

    /// Key id, where it has one. An empty one names nothing: the AWS guide for self-hosted clusters has it for Kubernetes before 1.16.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref().filter(|kid| !kid.is_empty())
    }

    /// Whether it is the same public key, under whatever id.
    pub fn is_same_key(&self, other: &Self) -> bool {
        let numbers = |key: &Self| [&key.crv, &key.n, &key.e, &key.x, &key.y].map(Clone::clone);
        self.kty == other.kty && numbers(self) == numbers(other)
    }

    /// Signature algorithm, where it names one.
    pub fn algorithm(&self) -> Option<&str> {
        self.alg.as_deref()
    }
}

/// JSON as both public documents are written.
pub(super) fn render(document: &impl Serialize) -> Vec<u8> {
    // Text and lists under fixed names: this cannot fail, and the pretty form is one that a person can read with curl.
    let mut bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<PublicKey> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/test-keys");
        let read = |name: &&str| std::fs::read(format!("{folder}/{name}.spki.pem")).expect("a test key");
        names.iter().flat_map(|name| PublicKey::read_all(&read(name)).expect("a public key")).collect()
    }

    #[test]
    fn document_is_byte_stable_with_the_signing_key_first_and_each_key_once() {
        let jwks = Jwks::of(&keys(&["rsa-2048", "p256", "rsa-2048"])).expect("two keys");
        let expected = concat!(
            "{\n  \"keys\": [\n    {\n      \"use\": \"sig\",\n      \"kty\": \"RSA\",\n",
            "      \"kid\": \"VsHC94W1exar4osqSKoNFGcbBdWP9dP-Cq5GanSemOk\",\n      \"alg\": \"RS256\",\n      \"n\": \"N\",\n",
            "      \"e\": \"AQAB\"\n    },\n    {\n      \"use\": \"sig\",\n      \"kty\": \"EC\",\n",
            "      \"kid\": \"JfkpZgVW9G-rutvXc15_57GK_34q3FboMwg71bSeXHo\",\n      \"crv\": \"P-256\",\n      \"alg\": \"ES256\",\n",
            "      \"x\": \"X\",\n      \"y\": \"Y\"\n    }\n  ]\n}\n"
        );
        let mut rendered = String::from_utf8(jwks.render()).expect("UTF-8");
        assert_eq!(Jwks::parse(rendered.as_bytes()).expect("a JWK Set"), jwks);
        for (number, name) in [(&jwks.keys[0].n, "N"), (&jwks.keys[1].x, "X"), (&jwks.keys[1].y, "Y")] {
            rendered = rendered.replace(number.as_deref().expect("a number"), name);
        }
        assert_eq!(rendered, expected);
        assert_eq!(jwks.algorithms(), ["ES256", "RS256"]);
    }

    #[test]
    fn numbers_are_those_of_openssl() {
        let jwks = Jwks::of(&keys(&["rsa-2048", "p256"])).expect("two keys");
        // openssl pkey -pubin -text, as base64url.
        assert_eq!(
            jwks.keys[0].n.as_deref(),
            Some(
                "uIV8sfuqNmNIKbubIbUYVs3D_0xdSqvRVeVaaPNjmIcvEopoKnuUgKn6d4iDvcq-npWjsJ4QZblm8PihjXBTCjfYvdtpWVnDVeNv0OqHpR61UKYWpBl5qVbBAVRI4YxOfstpmbtxIAN53jD0PBrdRvz19corcEbfmoIovuUmId-9uUfOr4aUwxt-8Rw9ufp36EyZvhNBJ0-GCv7JDsl97XVz7yqWGuxVqfs92jO7_2Fjes-Ka2dpNb4etrrBathsmAEQzTleQaAae7dOo5fP6RRIDQob0AeElOWlXh-9lGar_7UECIesIx_lMNJmyVQ5MPTXMS4GowWSuW5H5D65Nw"
            )
        );
        assert_eq!(
            (jwks.keys[1].x.as_deref(), jwks.keys[1].y.as_deref()),
            (Some("Rd4M9ezEeCV755GTbTPJfTQ-D46auIihXmmBvNqyZPY"), Some("2hplbJDIX7nkKWMz3s-_2VLC5vnSTlk5gthpo139D2s"))
        );
    }

    #[test]
    fn documents_are_compared_by_content() {
        let ours = Jwks::of(&keys(&["rsa-2048", "p256"])).expect("two keys");
        let theirs = Jwks::of(&keys(&["p256", "rsa-2048"])).expect("two keys");
        let more = Jwks::of(&keys(&["p384", "p256", "rsa-2048"])).expect("three keys");
        assert!(ours != theirs && ours.has_same_keys(&theirs) && !ours.has_same_keys(&more));
        assert_eq!(ours.missing_from(&more).collect::<Vec<_>>(), ["DMzbNr1yWes-M6-zj8FrBWRu58cn5X9nkXFppSw1w20"]);
        assert_eq!(more.missing_from(&ours).count(), 0);

        let mut forged = theirs.clone();
        forged.keys[1].n = Some("AQAB".to_owned());
        assert_eq!(forged.missing_from(&ours).collect::<Vec<_>>(), ["VsHC94W1exar4osqSKoNFGcbBdWP9dP-Cq5GanSemOk"]);
    }

    #[test]
    fn foreign_document_is_read_in_any_order_with_unknown_members() {
        let text =
            r#"{"x":1,"keys":[{"kid":"a","alg":"PS256","kty":"RSA","x5c":["A"],"e":"AQAB","n":"AQ"},{"kty":"OKP"}]}"#;
        let jwks = Jwks::parse(text.as_bytes()).expect("a JWK Set");
        assert_eq!(jwks.kids().collect::<Vec<_>>(), ["a"]);
        for text in ["", "<html>", "{}", "[]", r#"{"keys":{}}"#] {
            let error = Jwks::parse(text.as_bytes()).expect_err("refused");
            assert_eq!(error.to_string(), "it is not a JWK Set (RFC 7517)");
        }
    }

    #[test]
    fn document_without_keys_or_with_more_than_sts_reads_is_refused() {
        assert_eq!(
            Jwks::of([]).expect_err("refused").to_string(),
            "there is no key to publish; a JWK Set without keys would have every token refused"
        );
        let [key] = keys(&["p256"]).try_into().expect("one key");
        let many: Vec<PublicKey> = (1..=101).map(PublicKey::numbered).collect();
        assert_eq!(Jwks::of(std::iter::repeat_n(&key, 101)).expect("one key").kids().count(), 1);
        assert_eq!(Jwks::of(&many[..MOST_KEYS]).expect("a hundred").kids().count(), MOST_KEYS);
        assert_eq!(
            Jwks::of(&many).expect_err("refused").to_string(),
            "101 keys are too many to publish, AWS STS looks at 100; remove old keys from the verification file"
        );
    }
}
