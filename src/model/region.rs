//! AWS regions, partitions and accounts: names only, nothing is asked.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::issuer::IssuerUrl;

/// AWS region name, for example `eu-west-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region(String);

/// Why a text is not a region name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not an AWS region name; write one like eu-west-1")]
pub struct RegionError(String);

impl Region {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `CreateBucket` must be called without a `LocationConstraint`: S3 refuses `us-east-1` as one.
    pub fn is_default_for_buckets(&self) -> bool {
        self.0 == "us-east-1"
    }

    /// The partition that the region belongs to, by its prefix as in the AWS SDKs' `partitions.json`.
    pub fn partition(&self) -> Partition {
        match self.0.split('-').next().unwrap_or_default() {
            "cn" => Partition::China,
            "eusc" => Partition::EuropeanSovereign,
            "us" if self.0.starts_with("us-gov-") => Partition::GovCloud,
            "us" if self.0.starts_with("us-iso-") => Partition::Iso,
            "us" if self.0.starts_with("us-isob-") => Partition::IsoB,
            "eu" if self.0.starts_with("eu-isoe-") => Partition::IsoE,
            "us" if self.0.starts_with("us-isof-") => Partition::IsoF,
            _ => Partition::Commercial,
        }
    }
}

impl FromStr for Region {
    type Err = RegionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('-').collect();
        let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
        let valid = parts.len() >= 3
            && parts[..parts.len() - 1].iter().all(word)
            && parts[parts.len() - 1].parse::<u8>().is_ok_and(|number| number > 0)
            && text.len() <= 32;
        if valid { Ok(Self(text.to_owned())) } else { Err(RegionError(text.to_owned())) }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of AWS with accounts, ARNs and host names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    /// `aws`
    Commercial,
    /// `aws-cn`
    China,
    /// `aws-us-gov`
    GovCloud,
    /// `aws-iso`
    Iso,
    /// `aws-iso-b`
    IsoB,
    /// `aws-iso-e`
    IsoE,
    /// `aws-iso-f`
    IsoF,
    /// `aws-eusc`
    EuropeanSovereign,
}

impl Partition {
    /// Every partition.
    pub const ALL: [Self; 8] = [
        Self::Commercial,
        Self::China,
        Self::GovCloud,
        Self::Iso,
        Self::IsoB,
        Self::IsoE,
        Self::IsoF,
        Self::EuropeanSovereign,
    ];

    /// Second field of an ARN.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commercial => "aws",
            Self::China => "aws-cn",
            Self::GovCloud => "aws-us-gov",
            Self::Iso => "aws-iso",
            Self::IsoB => "aws-iso-b",
            Self::IsoE => "aws-iso-e",
            Self::IsoF => "aws-iso-f",
            Self::EuropeanSovereign => "aws-eusc",
        }
    }

    /// What S3 host names end with.
    pub fn dns_suffix(self) -> &'static str {
        match self {
            Self::Commercial | Self::GovCloud => "amazonaws.com",
            Self::China => "amazonaws.com.cn",
            Self::Iso => "c2s.ic.gov",
            Self::IsoB => "sc2s.sgov.gov",
            Self::IsoE => "cloud.adc-e.uk",
            Self::IsoF => "csp.hci.ic.gov",
            Self::EuropeanSovereign => "amazonaws.eu",
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Twelve digits that name an AWS account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountId(String);

/// Why a text is not an account.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not an AWS account; write its twelve digits")]
pub struct AccountIdError(String);

impl AccountId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = AccountIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        if valid { Ok(Self(text.to_owned())) } else { Err(AccountIdError(text.to_owned())) }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// ARN of the IAM OIDC provider of an issuer: it follows from the issuer, no list has to be searched.
pub fn oidc_provider_arn(partition: Partition, account: &AccountId, issuer: &IssuerUrl) -> String {
    format!("arn:{partition}:iam::{account}:oidc-provider/{}", issuer.without_scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_names_its_partition() {
        for (region, partition, suffix) in [
            ("eu-west-1", "aws", "amazonaws.com"),
            ("us-east-1", "aws", "amazonaws.com"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
            ("eu-isoe-west-1", "aws-iso-e", "cloud.adc-e.uk"),
            ("us-isof-south-1", "aws-iso-f", "csp.hci.ic.gov"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        ] {
            let region: Region = region.parse().expect("a region");
            assert_eq!((region.partition().as_str(), region.partition().dns_suffix()), (partition, suffix), "{region}");
        }
    }

    #[test]
    fn text_that_is_no_region_is_refused() {
        for text in ["", "eu", "eu-west", "EU-west-1", "eu_west_1", "eu--1", "eu-west-x", "eu-west-0"] {
            assert_eq!(text.parse::<Region>(), Err(RegionError(text.to_owned())));
        }
    }

    #[test]
    fn provider_arn_follows_from_partition_account_and_issuer() {
        let issuer: IssuerUrl = "https://oidc.example.com/prod-1".parse().expect("an issuer");
        let account: AccountId = "123456789012".parse().expect("an account");
        assert_eq!(
            oidc_provider_arn(Partition::China, &account, &issuer),
            "arn:aws-cn:iam::123456789012:oidc-provider/oidc.example.com/prod-1"
        );
        assert_eq!("12345678901".parse::<AccountId>(), Err(AccountIdError("12345678901".to_owned())));
    }
}
