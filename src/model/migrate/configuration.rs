//! The configuration file as text: only what is not the default, in the order of the manual.

use std::fmt::Write as _;

use crate::model::{
    issuer::{Audience, IssuerUrl},
    location::Location,
    region::Region,
};

/// Services that `aws.endpointUrl` knows.
const SERVICES: usize = 4;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration<'a> {
    /// First line, for people.
    pub remark: &'a str,
    pub cluster: &'a str,
    pub store: &'a Location,
    pub url: &'a IssuerUrl,
    pub jwks_path: &'a str,
    /// Something else than S3 serves the documents.
    pub is_external: bool,
    pub region: Option<&'a Region>,
    /// Those that the provider has; empty: the default.
    pub audiences: &'a [Audience],
    /// Where it is not the distribution's own.
    pub signing_key: Option<&'a str>,
    /// Likewise.
    pub verifying_keys: Option<&'a str>,
    /// Value of `--api-audiences`; empty: it is left alone.
    pub api_audiences: &'a [Audience],
    /// Services that stand in for AWS, by their keys in `aws.endpointUrl`; none: AWS itself.
    pub endpoints: &'a [(String, String)],
    /// What stands under `roles`; a value that begins with a new line is a block of its own.
    pub roles: &'a [(&'static str, String)],
}

impl Configuration<'_> {
    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = format!("# {}\nversion: 1\ncluster: {}\n", self.remark, scalar(self.cluster));
        let mut issuer = vec![
            ("store", scalar(&self.store.to_string())),
            ("url", scalar(self.url.as_str())),
            ("jwksPath", scalar(self.jwks_path)),
            ("createBucket", "false".to_owned()),
        ];
        if self.is_external {
            issuer.push(("access", "external".to_owned()));
        }
        section(&mut text, "issuer", &issuer);
        let region = optional(&[("region", self.region.map(Region::as_str))]);
        section(&mut text, "aws", &[region, endpoints(self.endpoints)].concat());
        section(&mut text, "provider", &list("audiences", self.audiences));
        let files = optional(&[("signingKey", self.signing_key), ("verifyingKeys", self.verifying_keys)]);
        section(&mut text, "apiServer", &[files, list("audiences", self.api_audiences)].concat());
        section(&mut text, "roles", self.roles);
        text
    }
}

fn optional<'n>(entries: &[(&'n str, Option<&str>)]) -> Vec<(&'n str, String)> {
    entries.iter().filter_map(|(name, value)| Some((*name, scalar((*value)?)))).collect()
}

/// One entry, or none where there is nothing to list.
fn list<'n>(name: &'n str, audiences: &[Audience]) -> Vec<(&'n str, String)> {
    let words: Vec<String> = audiences.iter().map(|audience| scalar(audience.as_str())).collect();
    if words.is_empty() { Vec::new() } else { vec![(name, format!("[{}]", words.join(", ")))] }
}

/// One URL where all services have the same, else a mapping.
fn endpoints(urls: &[(String, String)]) -> Vec<(&'static str, String)> {
    let Some((_, first)) = urls.first() else { return Vec::new() };
    let text = match urls.len() == SERVICES && urls.iter().all(|(_, url)| url == first) {
        true => scalar(first),
        false => {
            let words: Vec<String> = urls.iter().map(|(service, url)| format!("{service}: {}", scalar(url))).collect();
            format!("{{ {} }}", words.join(", "))
        }
    };
    vec![("endpointUrl", text)]
}

fn section(text: &mut String, name: &str, entries: &[(&str, String)]) {
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "{name}:");
    for (key, value) in entries {
        let space = if value.starts_with('\n') { "" } else { " " };
        let _ = writeln!(text, "  {key}:{space}{value}");
    }
}

/// A text as YAML 1.2 reads it back: as it is where nothing in it has a meaning of its own, else in quotes (JSON is YAML).
pub(super) fn scalar(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b':' | b'~');
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let is_word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    match begins_well && !is_word && !text.ends_with(':') && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_where_yaml_would_read_something_else() {
        for (text, written) in [
            ("prod-1", "prod-1"),
            ("https://s3-eu-west-1.amazonaws.com/b-1/", "https://s3-eu-west-1.amazonaws.com/b-1/"),
            ("/etc/kubernetes/pki/sa-signer.key", "/etc/kubernetes/pki/sa-signer.key"),
            ("123", "\"123\""),
            ("yes", "\"yes\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("a\"b\n", "\"a\\\"b\\n\""),
        ] {
            assert_eq!(scalar(text), written);
        }
    }
}
