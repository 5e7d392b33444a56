//! Values that only the configuration has: parsed once, then trusted.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use thiserror::Error;

use crate::model::{discovery::DISCOVERY_PATH, issuer::is_path};

/// Name of a cluster: a DNS label (RFC 1123) of at most 40 characters, which leaves room for what is built from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName(String);

/// Why a text is no cluster name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a cluster name; use at most 40 lower-case letters, digits and hyphens, a letter or digit at both ends"
)]
pub struct ClusterNameError(String);

impl ClusterName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid =
            (1..=40).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        if valid { Ok(Self(text.to_owned())) } else { Err(ClusterNameError(text.to_owned())) }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the JWK Set stands below the issuer: plain path segments without a slash at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksPath(String);

/// Why a text is no such path.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a path below the issuer; use letters, digits, '-', '_', '.' and '~' between single slashes, as in openid/v1/jwks, \
     and not the discovery document's path"
)]
pub struct JwksPathError(String);

impl JwksPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JwksPath {
    type Err = JwksPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The path becomes part of jwks_uri, so the issuer's rules for paths hold for it.
        let valid = text != DISCOVERY_PATH && is_path(text);
        if valid { Ok(Self(text.to_owned())) } else { Err(JwksPathError(text.to_owned())) }
    }
}

impl fmt::Display for JwksPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Address of a service that stands in for AWS, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl(String);

/// Why a text is no such address.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not an endpoint; write http://HOST[:PORT] or https://HOST[:PORT][/PATH]")]
pub struct EndpointUrlError(String);

impl EndpointUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        let valid = !host.is_empty()
            && !host.starts_with(':')
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@'));
        let url = text.strip_suffix('/').unwrap_or(text);
        if valid { Ok(Self(url.to_owned())) } else { Err(EndpointUrlError(text.to_owned())) }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file of this host: absolute, one way of writing it.
pub(super) struct HostPath(pub PathBuf);

/// Why a text is no such path.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not the path of a file; write an absolute one without '.', '..' and double slashes")]
pub(super) struct HostPathError(String);

impl FromStr for HostPath {
    type Err = HostPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').all(plain) => Ok(Self(PathBuf::from(text))),
            _ => Err(HostPathError(text.to_owned())),
        }
    }
}

/// A length of time as in `90d`, `24h`, `5m`, `30s` or `1d12h`: whole numbers, larger units first, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub Duration);

/// Why a text is no length of time.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum SpanError {
    /// With a minus sign.
    #[error("{0} is negative; durations are not")]
    Negative(String),
    /// Anything else.
    #[error(
        "{0:?} is not a duration; write whole numbers with d, h, m or s, larger units first, as in 90d, 24h or 1d12h"
    )]
    Form(String),
}

/// Seconds of each unit, largest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('-') {
            return Err(SpanError::Negative(text.to_owned()));
        }
        let form = || SpanError::Form(text.to_owned());
        let (mut rest, mut units, mut seconds) = (text, UNITS.as_slice(), 0_u64);
        while !rest.is_empty() || text.is_empty() {
            let end = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(form)?;
            let (number, behind) = rest.split_at(end);
            let unit = behind.chars().next().and_then(|unit| units.iter().position(|(name, _)| *name == unit));
            let unit = unit.ok_or_else(form)?;
            let number: u64 = number.parse().map_err(|_| form())?;
            let part = number.checked_mul(units[unit].1);
            seconds = part.and_then(|part| seconds.checked_add(part)).ok_or_else(form)?;
            (rest, units) = (&behind[1..], &units[unit + 1..]);
        }
        // Times are added to these: a century is more than anyone means, and nothing overflows.
        if seconds > 100 * 366 * 86_400 { Err(form()) } else { Ok(Self(Duration::from_secs(seconds))) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, seconds) in UNITS {
            if rest >= seconds {
                write!(f, "{}{name}", rest / seconds)?;
            }
            rest %= seconds;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_reads_back_as_it_is_written() {
        for (text, seconds) in [
            ("90d", 7_776_000),
            ("24h", 86_400),
            ("5m", 300),
            ("30s", 30),
            ("1d12h", 129_600),
            ("1d2h3m4s", 93_784),
            ("0s", 0),
        ] {
            let span: Span = text.parse().expect("a duration");
            assert_eq!(span.0, Duration::from_secs(seconds), "{text}");
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        assert_eq!(Span(Duration::from_secs(129_600)).to_string(), "1d12h");
    }

    #[test]
    fn text_that_is_no_duration_is_refused() {
        for text in [
            "",
            "90",
            "d",
            "1h1d",
            "1h1h",
            "1.5h",
            "1 h",
            "1w",
            "h1",
            "99999999999999999999d",
            "40000d",
            "1µs",
            "never",
        ] {
            assert_eq!(text.parse::<Span>(), Err(SpanError::Form(text.to_owned())));
        }
        assert_eq!("-24h".parse::<Span>(), Err(SpanError::Negative("-24h".to_owned())));
    }

    #[test]
    fn cluster_name_is_a_short_dns_label() {
        for text in ["a", "prod-1", "0-0", &"a".repeat(40)] {
            assert_eq!(text.parse::<ClusterName>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(41)] {
            assert_eq!(text.parse::<ClusterName>(), Err(ClusterNameError(text.to_owned())));
        }
    }

    #[test]
    fn jwks_path_is_plain_segments_beside_the_discovery_document() {
        for text in ["keys.json", "openid/v1/jwks"] {
            assert_eq!(text.parse::<JwksPath>().map(|path| path.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", "/keys.json", "keys.json/", "a//b", "../keys.json", "a b", "a?b", ".well-known/openid-configuration"]
        {
            assert_eq!(text.parse::<JwksPath>(), Err(JwksPathError(text.to_owned())));
        }
    }

    #[test]
    fn host_path_is_absolute_and_plain() {
        assert!("/etc/kubernetes/pki/sa.key".parse::<HostPath>().is_ok());
        for text in ["", "/", "sa.key", "/a/../b", "/a/./b", "/a//b", "/a/", "/a\0"] {
            assert_eq!(text.parse::<HostPath>().err(), Some(HostPathError(text.to_owned())));
        }
    }

    #[test]
    fn endpoint_is_http_or_https_with_a_host() {
        for (text, url) in [
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
            ("https://s3.example.com/a", "https://s3.example.com/a"),
        ] {
            assert_eq!(text.parse::<EndpointUrl>().map(|endpoint| endpoint.to_string()), Ok(url.to_owned()));
        }
        for text in ["s3.example.com", "ftp://a", "http://", "http://:80", "http://a b", "http://a?b", "http://user@a"]
        {
            assert_eq!(text.parse::<EndpointUrl>(), Err(EndpointUrlError(text.to_owned())));
        }
    }
}
