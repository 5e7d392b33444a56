//! The issuer and the audiences of service-account tokens: parsed once, then trusted.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Longest issuer URL that is accepted, in bytes: IAM takes an OIDC provider URL of at most 255 characters
/// (`CreateOpenIDConnectProvider`).
const LONGEST_ISSUER_BYTES: usize = 255;

/// OIDC issuer: `https`, no user, port, query or fragment (OpenID Connect Discovery 1.0, section 3).
///
/// A port is allowed by OpenID Connect, but IAM refuses a provider URL that has one. A slash at the end belongs to the issuer: a
/// cluster whose tokens carry one can neither lose nor gain it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IssuerUrl(String);

/// Why a text is not an issuer that kube-apiserver and IAM both take.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IssuerError {
    /// Another scheme, or none.
    #[error("issuer {0} does not begin with https://; kube-apiserver serves no discovery for it and IAM refuses it")]
    NotHttps(String),
    /// No host, or characters that a host name cannot have.
    #[error("issuer {0} has no valid host name; write https://HOST[/PATH] in lower case")]
    Host(String),
    /// `:443` and the like.
    #[error("issuer {0} has a port; IAM OIDC providers allow none, leave it out")]
    Port(String),
    /// `?` or `#`.
    #[error("issuer {0} has a query or fragment; OpenID Connect Discovery allows neither, leave it out")]
    QueryOrFragment(String),
    /// Empty, `.` or `..` path segments, or characters that need escaping.
    #[error(
        "issuer {0} has an empty, dot or escaped path segment; use letters, digits, '-', '_', '.' and '~' between single slashes"
    )]
    Path(String),
    /// Longer than IAM takes.
    #[error("issuer {0} is longer than {LONGEST_ISSUER_BYTES} characters, the most that IAM takes")]
    TooLong(String),
}

impl IssuerUrl {
    /// The URL as it stands in `iss`, in the flag and in the discovery document.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and path without the scheme: how IAM names the provider (`oidc-provider/HOST/PATH`, trust policy condition keys).
    pub fn without_scheme(&self) -> &str {
        self.0.trim_start_matches("https://")
    }

    /// The host alone.
    pub fn host(&self) -> &str {
        self.without_scheme().split('/').next().unwrap_or_default()
    }

    /// The path with its leading slash, or the empty string.
    pub fn path(&self) -> &str {
        &self.without_scheme()[self.host().len()..]
    }

    /// Whether it ends with a slash, which every verifier then has to compare too.
    pub fn ends_with_slash(&self) -> bool {
        self.0.ends_with('/')
    }

    /// The URL without a slash at its end: what documents stand below.
    pub fn base(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }

    /// URL of a document below the issuer (OpenID Connect Discovery 1.0, section 4: a terminating slash is removed first).
    pub fn document(&self, path: &str) -> String {
        format!("{}/{path}", self.base())
    }
}

impl FromStr for IssuerUrl {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let own = || text.to_owned();
        let rest = text.strip_prefix("https://").ok_or_else(|| IssuerError::NotHttps(own()))?;
        if text.len() > LONGEST_ISSUER_BYTES {
            return Err(IssuerError::TooLong(own()));
        }
        if rest.contains(['?', '#']) {
            return Err(IssuerError::QueryOrFragment(own()));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
        if host.contains(':') {
            return Err(IssuerError::Port(own()));
        }
        if !is_host_name(host) {
            return Err(IssuerError::Host(own()));
        }
        if path.is_some_and(|path| !is_path(path)) {
            return Err(IssuerError::Path(own()));
        }
        Ok(Self(own()))
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 1123 host name in lower case, as certificates and S3 endpoints have it.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// Whether `text` can be what stands behind the host of an issuer or below it: plain segments between single slashes, none at its ends.
pub fn is_path(text: &str) -> bool {
    text.len() <= LONGEST_ISSUER_BYTES && text.split('/').all(is_plain_segment)
}

/// Unreserved characters of RFC 3986 only: such a path is the same text in a flag, a URL and an S3 key.
fn is_plain_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
}

/// A value for `aud`: what a verifier calls itself. Printable, without spaces or commas (`--api-audiences` splits at them),
/// at most 255 characters (IAM client ID).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audience(String);

/// Why a text is not an audience.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "audience {0:?} is empty, longer than 255 characters or has a space or comma in it; IAM and --api-audiences take none such"
)]
pub struct AudienceError(String);

impl Audience {
    /// What STS asks for, and what a provider has where nothing else is configured.
    pub fn sts() -> Self {
        Self("sts.amazonaws.com".to_owned())
    }

    /// The audience as it stands in `aud`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Audience {
    type Err = AudienceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        if valid { Ok(Self(text.to_owned())) } else { Err(AudienceError(text.to_owned())) }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_keeps_its_text_and_gives_its_parts() {
        for (text, host, path) in [
            ("https://prod-1-oidc.s3.eu-west-1.amazonaws.com", "prod-1-oidc.s3.eu-west-1.amazonaws.com", ""),
            ("https://oidc.example.com/clusters/a_b~1", "oidc.example.com", "/clusters/a_b~1"),
        ] {
            let issuer: IssuerUrl = text.parse().expect("a valid issuer");
            assert_eq!((issuer.as_str(), issuer.host(), issuer.path()), (text, host, path));
            assert_eq!(issuer.without_scheme(), format!("{host}{path}"));
            assert_eq!(issuer.document("openid/v1/jwks"), format!("{text}/openid/v1/jwks"));
        }
    }

    #[test]
    fn issuer_that_kube_apiserver_or_iam_would_refuse_is_refused_with_the_reason() {
        let own = str::to_owned;
        for (text, error) in [
            ("http://oidc.example.com", IssuerError::NotHttps as fn(String) -> IssuerError),
            ("oidc.example.com", IssuerError::NotHttps),
            ("https://", IssuerError::Host),
            ("https://Oidc.example.com", IssuerError::Host),
            ("https://user@oidc.example.com", IssuerError::Host),
            ("https://-a.example.com", IssuerError::Host),
            ("https://a..example.com", IssuerError::Host),
            ("https://oidc.example.com:443", IssuerError::Port),
            ("https://oidc.example.com:8443/a", IssuerError::Port),
            ("https://oidc.example.com?a=b", IssuerError::QueryOrFragment),
            ("https://oidc.example.com/a#b", IssuerError::QueryOrFragment),
            ("https://oidc.example.com//", IssuerError::Path),
            ("https://oidc.example.com/a//", IssuerError::Path),
            ("https:///", IssuerError::Host),
            ("https://oidc.example.com//a", IssuerError::Path),
            ("https://oidc.example.com/a/../b", IssuerError::Path),
            ("https://oidc.example.com/a%20b", IssuerError::Path),
            ("https://oidc.example.com/a b", IssuerError::Path),
        ] {
            assert_eq!(text.parse::<IssuerUrl>(), Err(error(own(text))), "{text}");
        }
        let long = format!("https://oidc.example.com/{}", "a".repeat(255));
        assert_eq!(long.parse::<IssuerUrl>(), Err(IssuerError::TooLong(long)));
    }

    #[test]
    fn slash_at_the_end_stays_in_the_issuer_and_is_no_part_of_its_documents() {
        for (text, without_scheme, document) in [
            ("https://oidc.example.com/", "oidc.example.com/", "https://oidc.example.com/keys.json"),
            ("https://oidc.example.com/a/", "oidc.example.com/a/", "https://oidc.example.com/a/keys.json"),
        ] {
            let issuer: IssuerUrl = text.parse().expect("a valid issuer");
            assert_eq!((issuer.as_str(), issuer.without_scheme()), (text, without_scheme));
            assert!(issuer.ends_with_slash());
            assert_eq!(issuer.document("keys.json"), document);
        }
    }

    #[test]
    fn audience_that_the_flag_would_split_is_refused() {
        for text in ["", "a,b", "a b", "\n"] {
            assert_eq!(text.parse::<Audience>(), Err(AudienceError(text.to_owned())));
        }
        assert_eq!("sts.amazonaws.com".parse::<Audience>().map(|a| a.to_string()), Ok("sts.amazonaws.com".to_owned()));
    }
}
