//! The KMS key that seals private halves, as an operator names it. Names only, nothing is asked.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::region::{AccountId, Partition, Region};

/// A KMS key: ARN of a key or of an alias, `alias/NAME`, or key id (AWS KMS developer guide, "Key identifiers").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsKey(String);

/// Why a text names no KMS key to seal with.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KmsKeyError {
    /// None of the four forms.
    #[error(
        "{0:?} is not a KMS key; write its ARN, as in arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab, or alias/NAME, or its id"
    )]
    Form(String),
    /// A key that belongs to an AWS service.
    #[error("{0} is a key of AWS that only its own service may use; make a symmetric key of yours and name that")]
    OfAws(String),
}

/// The parts of an ARN.
struct Arn<'a> {
    partition: Partition,
    region: Region,
    account: AccountId,
    resource: &'a str,
}

impl KmsKey {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The region, where it is an ARN.
    pub fn region(&self) -> Option<Region> {
        Arn::of(&self.0).map(|arn| arn.region)
    }

    /// The alias, `alias/NAME`, where it is named by one.
    pub fn alias(&self) -> Option<&str> {
        let name = self.0.rsplit_once(':').map_or(self.0.as_str(), |(_, resource)| resource);
        name.starts_with("alias/").then_some(name)
    }

    /// ARN for the `Resource` of a policy. Where an alias names the key it covers every key of the account, because a policy
    /// cannot name a key by its alias: the condition `kms:RequestAlias` must narrow it down (AWS KMS developer guide, "Use
    /// aliases to control access to KMS keys"). What an ARN says of itself goes before the arguments.
    pub fn policy_resource(&self, partition: Partition, region: &Region, account: &AccountId) -> String {
        let id = if self.alias().is_some() { "*" } else { self.0.rsplit('/').next().unwrap_or_default() };
        match Arn::of(&self.0) {
            Some(arn) => format!("arn:{}:kms:{}:{}:key/{id}", arn.partition, arn.region, arn.account),
            None => format!("arn:{partition}:kms:{region}:{account}:key/{id}"),
        }
    }
}

impl<'a> Arn<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "kms", region, account, resource] = parts[..] else { return None };
        Some(Self {
            partition: Partition::ALL.into_iter().find(|known| known.as_str() == partition)?,
            region: region.parse().ok()?,
            account: account.parse().ok()?,
            resource,
        })
    }
}

impl FromStr for KmsKey {
    type Err = KmsKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || KmsKeyError::Form(text.to_owned());
        let (name, is_arn) = match Arn::of(text) {
            Some(arn) => (arn.resource, true),
            None => (text, false),
        };
        let id = if is_arn { name.strip_prefix("key/") } else { Some(name) };
        let alias = name.strip_prefix("alias/");
        if alias.is_some_and(|alias| alias.starts_with("aws/")) {
            return Err(KmsKeyError::OfAws(text.to_owned()));
        }
        if id.is_some_and(is_key_id) || alias.is_some_and(is_alias) { Ok(Self(text.to_owned())) } else { Err(form()) }
    }
}

/// A UUID, or `mrk-` and 32 digits for a key of several regions.
fn is_key_id(text: &str) -> bool {
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.strip_prefix("mrk-") {
        Some(digits) => hex(digits, 32),
        None => {
            let parts: Vec<&str> = text.split('-').collect();
            parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| hex(part, length))
        }
    }
}

fn is_alias(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-');
    (1..=250).contains(&text.len()) && text.bytes().all(plain)
}

impl fmt::Display for KmsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn key_is_named_in_any_form_that_kms_takes() -> Result<(), Box<dyn std::error::Error>> {
        let (region, account): (Region, AccountId) = ("eu-west-1".parse()?, "123456789012".parse()?);
        let multi = "mrk-1234abcd12ab34cd56ef1234567890ab";
        let here = "arn:aws:kms:eu-west-1:123456789012:key";
        let there = "arn:aws-us-gov:kms:us-gov-west-1:210987654321:key";
        for (text, alias, own_region, resource) in [
            (ID, None, None, format!("{here}/{ID}")),
            (multi, None, None, format!("{here}/{multi}")),
            ("alias/irsad", Some("alias/irsad"), None, format!("{here}/*")),
            ("alias/a/b_c-d", Some("alias/a/b_c-d"), None, format!("{here}/*")),
            (&format!("{there}/{ID}"), None, Some("us-gov-west-1"), format!("{there}/{ID}")),
            (
                "arn:aws-us-gov:kms:us-gov-west-1:210987654321:alias/irsad",
                Some("alias/irsad"),
                Some("us-gov-west-1"),
                format!("{there}/*"),
            ),
        ] {
            let key: KmsKey = text.parse()?;
            let found = key.policy_resource(Partition::Commercial, &region, &account);
            assert_eq!((key.alias(), found, key.to_string()), (alias, resource, text.to_owned()));
            assert_eq!(key.region().map(|region| region.to_string()).as_deref(), own_region);
        }
        Ok(())
    }

    #[test]
    fn text_that_names_no_key_of_ours_is_refused() {
        for text in [
            "",
            "irsad",
            "alias/",
            "alias/a b",
            "key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "1234abcd-12ab-34cd-56ef-1234567890a",
            "mrk-1234",
            "arn:aws:kms:eu-west-1:123456789012:key/irsad",
            "arn:aws:kms:eu-west-1:123456789012:1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-west-1:12345:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:s3:::prod-1-keys",
        ] {
            assert_eq!(text.parse::<KmsKey>(), Err(KmsKeyError::Form(text.to_owned())), "{text:?}");
        }
        for text in ["alias/aws/s3", "arn:aws:kms:eu-west-1:123456789012:alias/aws/s3"] {
            assert_eq!(text.parse::<KmsKey>(), Err(KmsKeyError::OfAws(text.to_owned())));
        }
    }
}
