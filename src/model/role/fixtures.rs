//! What tests of roles have in common.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use super::RoleTerms;
use crate::model::region::Partition;

/// Of cluster `prod-1` with one issuer, without a boundary and tags. The error is a sentence, which every kind of test can pass on.
pub fn terms() -> Result<RoleTerms, String> {
    Ok(RoleTerms {
        partition: Partition::Commercial,
        account: parsed("123456789012")?,
        cluster: "prod-1".to_owned(),
        issuers: vec![parsed("https://oidc.example.com/a")?],
        audiences: vec![parsed("sts.amazonaws.com")?],
        boundary: None,
        tags: BTreeMap::new(),
    })
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
