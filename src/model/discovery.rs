//! OpenID provider metadata: where verifiers find the keys of an issuer (OpenID Connect Discovery 1.0, section 3).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{issuer::IssuerUrl, jwks, jwks::Jwks};

/// Where the document stands below its issuer (OpenID Connect Discovery 1.0, section 4).
pub const DISCOVERY_PATH: &str = ".well-known/openid-configuration";

/// The discovery document. Members that kube-apiserver does not write are optional when read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// The issuer: must equal `iss` byte for byte.
    pub issuer: String,
    /// URL of the JWK Set.
    pub jwks_uri: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    authorization_endpoint: String,
    #[serde(default)]
    response_types_supported: Vec<String>,
    #[serde(default)]
    subject_types_supported: Vec<String>,
    /// Signature algorithms of the keys, sorted.
    #[serde(default)]
    pub id_token_signing_alg_values_supported: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claims_supported: Vec<String>,
}

/// A text that is no provider metadata.
#[derive(Debug, Error)]
#[error("it is not an OpenID discovery document")]
pub struct DiscoveryError(#[source] serde_json::Error);

impl Discovery {
    /// The document of `issuer`, whose JWK Set stands at `jwks_path` below it.
    pub fn of(issuer: &IssuerUrl, jwks_path: &str, jwks: &Jwks) -> Self {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        Self {
            issuer: issuer.to_string(),
            jwks_uri: issuer.document(jwks_path),
            // Nobody can log in here; some verifiers want the member all the same (the AWS guide for self-hosted clusters has it).
            authorization_endpoint: "urn:kubernetes:programmatic_authorization".to_owned(),
            response_types_supported: list(&["id_token"]),
            subject_types_supported: list(&["public"]),
            id_token_signing_alg_values_supported: jwks.algorithms(),
            claims_supported: list(&["sub", "iss"]),
        }
    }

    /// Reads a document of anyone's: members in any order, unknown ones ignored.
    ///
    /// # Errors
    /// Not JSON, or without `issuer` or `jwks_uri`.
    pub fn parse(bytes: &[u8]) -> Result<Self, DiscoveryError> {
        serde_json::from_slice(bytes).map_err(DiscoveryError)
    }

    /// The bytes to publish: indented by two spaces, with a newline at the end.
    pub fn render(&self) -> Vec<u8> {
        jwks::render(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::PublicKey;

    fn ours() -> Discovery {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/test-keys");
        let read = |name| std::fs::read(format!("{folder}/{name}.spki.pem")).expect("a test key");
        let file = [read("rsa-2048"), read("p256"), read("kubernetes-keyid-test")].concat();
        let jwks = Jwks::of(&PublicKey::read_all(&file).expect("keys")).expect("a JWK Set");
        Discovery::of(&"https://oidc.example.com/prod-1".parse().expect("an issuer"), "openid/v1/jwks", &jwks)
    }

    #[test]
    fn document_is_byte_stable() {
        let expected = r#"{
  "issuer": "https://oidc.example.com/prod-1",
  "jwks_uri": "https://oidc.example.com/prod-1/openid/v1/jwks",
  "authorization_endpoint": "urn:kubernetes:programmatic_authorization",
  "response_types_supported": [
    "id_token"
  ],
  "subject_types_supported": [
    "public"
  ],
  "id_token_signing_alg_values_supported": [
    "ES256",
    "RS256"
  ],
  "claims_supported": [
    "sub",
    "iss"
  ]
}
"#;
        assert_eq!(String::from_utf8_lossy(&ours().render()), expected);
        assert_eq!(Discovery::parse(expected.as_bytes()).expect("a document"), ours());
    }

    #[test]
    fn document_of_kube_apiserver_is_read_and_anything_else_refused() {
        let text = r#"{"issuer":"https://a","jwks_uri":"https://a/openid/v1/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["RS256"]}"#;
        let document = Discovery::parse(text.as_bytes()).expect("a document");
        assert_eq!((document.issuer.as_str(), document.jwks_uri.as_str()), ("https://a", "https://a/openid/v1/jwks"));
        assert!(document != ours());
        for text in ["", "<html>", "{}", r#"{"issuer":"https://a"}"#] {
            let error = Discovery::parse(text.as_bytes()).expect_err("refused");
            assert_eq!(error.to_string(), "it is not an OpenID discovery document");
        }
    }
}
