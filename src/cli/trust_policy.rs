//! `irsad trust-policy`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::model::{
    issuer::{Audience, IssuerUrl},
    region::{AccountId, Partition, Region},
    trust_policy::{Subject, trust_policy},
};

use super::{Global, output, settings};

/// Audience of tokens for AWS where nothing else is said.
const STS: &str = "sts.amazonaws.com";

/// Print the trust policy that lets a service account assume a role.
#[derive(Debug, Args)]
pub(super) struct TrustPolicy {
    /// Issuer of the cluster; without it the configuration is read
    #[arg(long, value_name = "URL")]
    issuer: Option<IssuerUrl>,
    /// AWS account of role and provider
    #[arg(long, value_name = "ID")]
    account: AccountId,
    /// Namespace of the service account; * and ? stand for any characters
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// Service account; * and ? stand for any characters
    #[arg(long, value_name = "NAME")]
    service_account: String,
    /// Audience of the tokens; repeat it for more [default: the configured ones, else sts.amazonaws.com]
    #[arg(long, value_name = "NAME")]
    audience: Vec<Audience>,
    /// Region that tells the partition (aws, aws-cn, aws-us-gov, …) [default: the issuer's, else aws]
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
}

impl TrustPolicy {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let (issuer, partition, audiences) = match &self.issuer {
            Some(issuer) => (issuer.clone(), partition_of(issuer), vec![STS.parse().context("the default audience")?]),
            None => {
                let settings = settings::load(global).await?;
                (settings.issuer.url.clone(), settings.partition(), settings.provider.audiences.clone())
            }
        };
        let partition = self.region.as_ref().map_or(partition, Region::partition);
        let audiences = if self.audience.is_empty() { &audiences } else { &self.audience };
        let subject = Subject::new(&self.namespace, &self.service_account)?;
        output::say!("{}", trust_policy(partition, &self.account, &issuer, &subject, audiences)?);
        Ok(ExitCode::SUCCESS)
    }
}

/// The partition whose S3 endpoints an issuer's host belongs to; the commercial one for every other host.
fn partition_of(issuer: &IssuerUrl) -> Partition {
    let region = issuer.host().split('.').find_map(|label| label.parse::<Region>().ok());
    region.map_or(Partition::Commercial, |region| region.partition())
}
