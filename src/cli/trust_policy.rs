//! `irsad trust-policy`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::{
    daemon::Irsad,
    model::{
        issuer::{Audience, IssuerUrl},
        region::{AccountId, Partition, Region},
        trust_policy::{Subject, trust_policy},
    },
};

use super::{Global, output, settings};

/// Audience of tokens for AWS where nothing else is said.
const STS: &str = "sts.amazonaws.com";
/// Every service account of a namespace.
const EVERY: &str = "*";

/// Print the trust policy that lets a service account assume a role.
#[derive(Debug, Args)]
pub(super) struct TrustPolicy {
    /// Issuer of the cluster; without it the configuration is read
    #[arg(long, value_name = "URL")]
    issuer: Option<IssuerUrl>,
    /// AWS account of role and provider [default: with a configuration, the one that this node's credentials are of]
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// Namespace of the service account; * and ? stand for any characters
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// Service account; * and ? stand for any characters [default: every one of the namespace]
    #[arg(long, value_name = "NAME", default_value = EVERY, hide_default_value = true)]
    service_account: String,
    /// Audience of the tokens; repeat it for more [default: the configured ones, else sts.amazonaws.com]
    #[arg(long, value_name = "NAME")]
    audience: Vec<Audience>,
    /// Region that tells the partition (aws, aws-cn, aws-us-gov, …) [default: the issuer's, else aws]
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
}

/// Whose tokens the policy is about, before the command line has its word.
struct Cluster {
    issuer: IssuerUrl,
    partition: Partition,
    audiences: Vec<Audience>,
    account: Option<AccountId>,
}

impl TrustPolicy {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let cluster = match &self.issuer {
            Some(issuer) => Cluster::from_flags(issuer)?,
            None => self.configured(global).await?,
        };
        output::say!("{}", self.policy(&cluster)?);
        Ok(ExitCode::SUCCESS)
    }

    /// The cluster of the configuration; AWS is asked only for what nobody has said.
    async fn configured(&self, global: &Global) -> anyhow::Result<Cluster> {
        let settings = settings::load(global).await?;
        let (issuer, audiences) = (settings.issuer.url.clone(), settings.provider.audiences.clone());
        let partition = settings.partition();
        if self.account.is_some() {
            return Ok(Cluster { issuer, partition, audiences, account: None });
        }
        let identity = Irsad::onlooker(settings::root(global)?, settings)?.identity().await;
        let identity = identity.map_err(|why| settings::unusable(format!("{why}; name the account with --account")))?;
        Ok(Cluster { issuer, partition: identity.partition, audiences, account: Some(identity.account) })
    }

    fn policy(&self, cluster: &Cluster) -> anyhow::Result<String> {
        let account = self.account.as_ref().or(cluster.account.as_ref());
        let account =
            account.ok_or_else(|| settings::unusable("--issuer says nothing of the AWS account; add --account"))?;
        let partition = self.region.as_ref().map_or(cluster.partition, Region::partition);
        let audiences = if self.audience.is_empty() { &cluster.audiences } else { &self.audience };
        let subject = Subject::new(&self.namespace, &self.service_account)?;
        Ok(trust_policy(partition, account, &cluster.issuer, &subject, audiences)?)
    }
}

impl Cluster {
    fn from_flags(issuer: &IssuerUrl) -> anyhow::Result<Self> {
        let audiences = vec![STS.parse().context("the default audience")?];
        Ok(Self { issuer: issuer.clone(), partition: partition_of(issuer), audiences, account: None })
    }
}

/// The partition whose S3 endpoints an issuer's host belongs to; the commercial one for every other host.
fn partition_of(issuer: &IssuerUrl) -> Partition {
    // Older endpoints have the region behind a hyphen: s3-us-gov-west-1.
    let region = |label: &str| label.strip_prefix("s3-").unwrap_or(label).parse::<Region>().ok();
    let region = issuer.host().split('.').find_map(region);
    region.map_or(Partition::Commercial, |region| region.partition())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::Value;

    use super::{
        super::{Cli, Command},
        *,
    };

    type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

    /// What the flags alone give.
    fn printed(arguments: &[&str]) -> Outcome<Value> {
        let cli = Cli::try_parse_from([&["irsad", "trust-policy"], arguments].concat())?;
        let Command::TrustPolicy(command) = cli.command else { return Err("another command".into()) };
        let cluster = Cluster::from_flags(command.issuer.as_ref().ok_or("an issuer")?)?;
        Ok(serde_json::from_str(&command.policy(&cluster)?)?)
    }

    const PLAIN: [&str; 4] = ["--issuer", "https://oidc.example.com", "--account", "123456789012"];

    #[test]
    fn flags_alone_name_a_service_account_a_namespace_or_a_pattern() -> Outcome {
        for (flags, operator, subject) in [
            (&["--namespace", "shop", "--service-account", "cart"][..], "StringEquals", "shop:cart"),
            (&["--namespace", "shop"], "StringLike", "shop:*"),
            (&["--namespace", "team-*", "--service-account", "cart"], "StringLike", "team-*:cart"),
        ] {
            let policy = printed(&[&PLAIN, flags].concat())?;
            let condition = &policy["Statement"][0]["Condition"];
            assert_eq!(condition[operator]["oidc.example.com:sub"], format!("system:serviceaccount:{subject}"));
            assert_eq!(condition["StringEquals"]["oidc.example.com:aud"], STS);
        }
        Ok(())
    }

    #[test]
    fn every_partition_has_its_own_provider() -> Outcome {
        for (flags, partition) in [
            (&["--issuer", "https://b-1.s3.eu-west-1.amazonaws.com"][..], "aws"),
            (&["--issuer", "https://s3-us-gov-west-1.amazonaws.com/b-1"], "aws-us-gov"),
            (&["--issuer", "https://b-1.s3.cn-north-1.amazonaws.com.cn"], "aws-cn"),
            (&["--issuer", "https://oidc.example.com", "--region", "us-iso-east-1"], "aws-iso"),
            (&["--issuer", "https://oidc.example.com", "--region", "us-isob-east-1"], "aws-iso-b"),
            (&["--issuer", "https://oidc.example.com", "--region", "eu-isoe-west-1"], "aws-iso-e"),
            (&["--issuer", "https://oidc.example.com", "--region", "us-isof-south-1"], "aws-iso-f"),
            (&["--issuer", "https://oidc.example.com", "--region", "eusc-de-east-1"], "aws-eusc"),
        ] {
            let rest = ["--account", "123456789012", "--namespace", "shop", "--service-account", "cart"];
            let policy = printed(&[flags, &rest].concat())?;
            let provider = policy["Statement"][0]["Principal"]["Federated"].as_str().ok_or("a provider")?.to_owned();
            assert!(provider.starts_with(&format!("arn:{partition}:iam::123456789012:oidc-provider/")), "{provider}");
        }
        Ok(())
    }

    #[test]
    fn what_the_flags_leave_open_is_asked_for() {
        for (flags, message) in [
            (
                &["--issuer", "https://oidc.example.com", "--namespace", "shop"][..],
                "--issuer says nothing of the AWS account; add --account",
            ),
            (
                &[&PLAIN[..], &["--namespace", "*"]].concat(),
                "namespace \"*\" with service account \"*\" would let every pod of the cluster take the role; name at least one of them",
            ),
        ] {
            assert_eq!(printed(flags).map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }
}
