//! Where bytes live: `s3://BUCKET[/PREFIX]` or `file:///DIR`.

use std::{fmt, path::PathBuf, str::FromStr};

use thiserror::Error;

use super::{issuer::is_path, region::Region};

/// A place for objects, as written in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An S3 bucket and what stands before every key: empty, or segments without a slash at either end.
    S3 {
        /// Bucket.
        bucket: BucketName,
        /// Prefix without slashes at its ends; empty for the bucket's root.
        prefix: String,
    },
    /// An absolute folder of this host.
    File(PathBuf),
}

/// Why a text is not a location.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LocationError {
    /// Neither scheme.
    #[error("store {0} is neither s3://BUCKET[/PREFIX] nor file:///DIR")]
    Scheme(String),
    /// A bucket name that S3 or TLS refuses.
    #[error(transparent)]
    Bucket(#[from] BucketNameError),
    /// An empty, dot or escaped segment.
    #[error(
        "store {0} has an empty, dot or escaped segment in its prefix; use letters, digits, '-', '_', '.' and '~' between single slashes"
    )]
    Prefix(String),
    /// Relative, or with `..`.
    #[error("store {0} is not an absolute folder; write file:///DIR without '..'")]
    Folder(String),
}

impl Location {
    /// Key or relative path of a document of this location.
    pub fn key(&self, path: &str) -> String {
        match self {
            Self::S3 { prefix, .. } if !prefix.is_empty() => format!("{prefix}/{path}"),
            Self::S3 { .. } | Self::File(_) => path.to_owned(),
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            // The prefix becomes part of the issuer URL, so the issuer's rules hold for it.
            if !prefix.is_empty() && !is_path(prefix) {
                return Err(LocationError::Prefix(text.to_owned()));
            }
            return Ok(Self::S3 { bucket: bucket.parse()?, prefix: prefix.to_owned() });
        }
        let Some(folder) = text.strip_prefix("file://") else {
            return Err(LocationError::Scheme(text.to_owned()));
        };
        if !folder.starts_with('/') || folder.split('/').any(|part| part == "..") || folder.contains('\0') {
            return Err(LocationError::Folder(text.to_owned()));
        }
        Ok(Self::File(PathBuf::from(folder)))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::File(folder) => write!(f, "file://{}", folder.display()),
        }
    }
}

/// Where the keyring is kept, as written in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringLocation {
    /// Secrets of kube-system.
    Kubernetes,
    /// A private bucket, or a folder of one node.
    Outside(Location),
}

/// Why a text is no place for a keyring.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyringLocationError {
    /// None of the three.
    #[error("keyring store {0} is neither kubernetes nor s3://BUCKET[/PREFIX] nor file:///DIR")]
    Scheme(String),
    /// One of the latter two, but not a good one.
    #[error(transparent)]
    Location(LocationError),
}

impl KeyringLocation {
    /// What stands before every key of the keyring there, without slashes at its ends.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Outside(Location::S3 { prefix, .. }) => prefix,
            Self::Outside(Location::File(_)) | Self::Kubernetes => "",
        }
    }
}

impl FromStr for KeyringLocation {
    type Err = KeyringLocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "kubernetes" {
            return Ok(Self::Kubernetes);
        }
        match text.parse() {
            Ok(location) => Ok(Self::Outside(location)),
            Err(LocationError::Scheme(text)) => Err(KeyringLocationError::Scheme(text)),
            Err(error) => Err(KeyringLocationError::Location(error)),
        }
    }
}

impl fmt::Display for KeyringLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes => f.write_str("kubernetes"),
            Self::Outside(location) => location.fmt(f),
        }
    }
}

/// Name of an S3 bucket that can be reached as `BUCKET.s3.REGION.SUFFIX` over TLS: 3 to 63 lower-case letters, digits and
/// hyphens. Dots are valid for S3 but not here: the endpoints' wildcard certificate covers one label only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketName(String);

/// Why a text is not a bucket name for an issuer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BucketNameError {
    /// A dot.
    #[error("bucket {0} has a dot in its name; the S3 endpoint's certificate does not cover such a host, use hyphens")]
    Dot(String),
    /// Anything else that S3 refuses.
    #[error(
        "bucket {0:?} is not a valid name; S3 takes 3 to 63 lower-case letters, digits and hyphens, a letter or digit at both ends"
    )]
    Invalid(String),
}

impl BucketName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host of the bucket's own endpoint in `region`.
    pub fn host(&self, region: &Region) -> String {
        format!("{}.s3.{region}.{}", self.0, region.partition().dns_suffix())
    }
}

impl FromStr for BucketName {
    type Err = BucketNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('.') {
            return Err(BucketNameError::Dot(text.to_owned()));
        }
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let valid = (3..=63).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.starts_with("xn--");
        if valid { Ok(Self(text.to_owned())) } else { Err(BucketNameError::Invalid(text.to_owned())) }
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_reads_back_as_it_is_written() {
        for (text, key) in [
            ("s3://prod-1-oidc", "openid/v1/jwks"),
            ("s3://shared-oidc/clusters/prod-1", "clusters/prod-1/openid/v1/jwks"),
            ("file:///srv/oidc", "openid/v1/jwks"),
        ] {
            let location: Location = text.parse().expect("a location");
            assert_eq!((location.to_string(), location.key("openid/v1/jwks")), (text.to_owned(), key.to_owned()));
        }
    }

    #[test]
    fn location_that_cannot_be_served_is_refused_with_the_reason() {
        let own = str::to_owned;
        for (text, error) in [
            ("prod-1-oidc", LocationError::Scheme(own("prod-1-oidc"))),
            ("https://prod-1-oidc", LocationError::Scheme(own("https://prod-1-oidc"))),
            ("s3://prod.oidc", LocationError::Bucket(BucketNameError::Dot(own("prod.oidc")))),
            ("s3://Prod", LocationError::Bucket(BucketNameError::Invalid(own("Prod")))),
            ("s3://", LocationError::Bucket(BucketNameError::Invalid(own("")))),
            ("s3://prod-1-oidc/a//b", LocationError::Prefix(own("s3://prod-1-oidc/a//b"))),
            ("s3://prod-1-oidc/a//", LocationError::Prefix(own("s3://prod-1-oidc/a//"))),
            ("s3://prod-1-oidc/../b", LocationError::Prefix(own("s3://prod-1-oidc/../b"))),
            ("file://srv", LocationError::Folder(own("file://srv"))),
            ("file:///srv/../etc", LocationError::Folder(own("file:///srv/../etc"))),
        ] {
            assert_eq!(text.parse::<Location>(), Err(error), "{text}");
        }
    }

    #[test]
    fn bucket_host_is_the_regional_one_of_its_partition() {
        let bucket: BucketName = "prod-1-oidc".parse().expect("a bucket name");
        for (region, host) in [
            ("eu-west-1", "prod-1-oidc.s3.eu-west-1.amazonaws.com"),
            ("us-east-1", "prod-1-oidc.s3.us-east-1.amazonaws.com"),
            ("cn-north-1", "prod-1-oidc.s3.cn-north-1.amazonaws.com.cn"),
        ] {
            assert_eq!(bucket.host(&region.parse().expect("a region")), host);
        }
    }
}
