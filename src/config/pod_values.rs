//! Values that end up in pods and other Kubernetes objects: what the API server would refuse is refused here.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A text type whose only door is a check, with an error that shows the text and what it should be.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $error:ident, $wanted:literal, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        /// Why a text is none.
        #[derive(Debug, Error, PartialEq, Eq)]
        #[error("{0:?} is not {wanted}", wanted = $wanted)]
        pub struct $error(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(text) { Ok(Self(text.to_owned())) } else { Err($error(text.to_owned())) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// DNS label (RFC 1123): what namespaces and volumes are called.
    DnsLabel,
    DnsLabelError,
    "a name in Kubernetes; use at most 63 lower-case letters, digits and hyphens, a letter or digit at both ends",
    is_label
);

checked_text!(
    /// What annotations begin with, before the slash: a DNS subdomain (Kubernetes "Annotations, syntax and character set").
    AnnotationPrefix,
    AnnotationPrefixError,
    "what annotations can begin with; write a name like eks.amazonaws.com, without the slash",
    |text| text.len() <= 253 && text.split('.').all(is_label)
);

checked_text!(
    /// Where a volume can be mounted: what kube-apiserver takes (`validateVolumeMounts`), and not where it mounts its own token.
    MountPath,
    MountPathError,
    "a path for a token; write an absolute one without ':' and '..', and not the one at which Kubernetes mounts its own token",
    |text| {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        text.starts_with('/')
            && !parts.is_empty()
            && !parts.iter().any(|part| matches!(*part, "." | ".."))
            && !text.chars().any(|c| c == ':' || c.is_control())
            && parts != ["var", "run", "secrets", "kubernetes.io", "serviceaccount"]
    }
);

checked_text!(
    /// File of a token in its volume: what kube-apiserver takes (`ServiceAccountTokenProjection.path`).
    TokenPath,
    TokenPathError,
    "a file of a token; write a relative path without '..', for example token",
    |text| {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        text.split('/').all(is_plain) && !text.chars().any(|c| c == ':' || c.is_control())
    }
);

checked_text!(
    /// Image of a container, with a tag, a digest, or both (distribution/reference).
    Image,
    ImageError,
    "an image with a tag or a digest; write one like registry.example.com/webhook:v1 or registry.example.com/webhook@sha256:0f…",
    is_pinned_image
);

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_pinned_image(text: &str) -> bool {
    let (named, digest) = text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
    // A colon before the last slash is that of a port.
    let at = named.rfind('/').map_or(0, |slash| slash + 1);
    let (last, tag) = named[at..].split_once(':').map_or((&named[at..], None), |(last, tag)| (last, Some(tag)));
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_digest = |digest: &str| {
        let digits = digest.strip_prefix("sha256:").unwrap_or_default();
        digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_tag = |tag: &str| (1..=128).contains(&tag.len()) && tag.bytes().all(word);
    (tag.is_some() || digest.is_some())
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
        && !last.is_empty()
        && named[..at + last.len()].split('/').all(|part| !part.is_empty())
        && named[..at + last.len()].bytes().all(|byte| word(byte) || b"/:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr + ToString>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(text.parse::<T>().ok().map(|value| value.to_string()).as_deref(), Some(*text));
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn namespaces_and_volumes_are_dns_labels() {
        let long = "a".repeat(64);
        check::<DnsLabel>(&["kube-system", "a", "0", &long[1..]], &["", "-a", "a-", "A", "a.b", "a_b", "*", &long]);
    }

    #[test]
    fn annotations_begin_with_a_dns_subdomain() {
        let long = ["a".repeat(63).as_str(); 4].join(".");
        check::<AnnotationPrefix>(
            &["eks.amazonaws.com", "a", &long[2..]],
            &["", "eks.amazonaws.com/", "a..b", ".a", "A.b", &long],
        );
    }

    #[test]
    fn tokens_are_mounted_at_absolute_paths_beside_the_pods_own() {
        check::<MountPath>(
            &["/var/run/secrets/eks.amazonaws.com/serviceaccount", "/custom//path/", "/a"],
            &[
                "",
                "/",
                "a",
                "/a/../b",
                "/./a",
                "/a:b",
                "/a\n",
                "/var/run/secrets/kubernetes.io/serviceaccount",
                "/var/run/secrets/kubernetes.io/serviceaccount/",
            ],
        );
    }

    #[test]
    fn file_of_a_token_is_relative() {
        check::<TokenPath>(
            &["token", "a/b", "eks-pod-identity-token"],
            &["", "/a", "../a", "a/..", "a//b", "a/", "a:b"],
        );
    }

    #[test]
    fn image_is_pinned() {
        let digest = format!("a/b@sha256:{}", "0f".repeat(32));
        let both = format!("localhost:5000/a:v1@sha256:{}", "0f".repeat(32));
        check::<Image>(
            &["public.ecr.aws/eks/amazon-eks-pod-identity-webhook:v0.6.17", "localhost:5000/a:1", &digest, &both],
            &[
                "",
                "a",
                "localhost:5000/a",
                "a:",
                "a:b c",
                "a b:1",
                ":v1",
                "a/:v1",
                "/a:v1",
                "a//b:v1",
                "a@sha256:0f",
                "a@v1",
                &digest[..digest.len() - 1],
            ],
        );
    }
}
