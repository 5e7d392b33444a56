//! `irsad iam-policy`.

use std::process::ExitCode;

use clap::Args;

use crate::{
    config::Settings,
    model::{
        discovery::DISCOVERY_PATH,
        keyring_bucket::KeyringBucket,
        location::Location,
        node_policy::{NodeDuties, Sealing, node_policy},
        region::AccountId,
        trust_policy::PublicObjects,
    },
};

use super::{Global, output, settings};

/// Print the IAM policy that the control-plane nodes need.
#[derive(Debug, Args)]
pub(super) struct IamPolicy {
    /// AWS account that the nodes belong to
    #[arg(long, value_name = "ID")]
    account: AccountId,
}

impl IamPolicy {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = settings::load(global).await?;
        let desired = settings.desired();
        let store = &desired.store;
        let keys = [store.key(DISCOVERY_PATH), store.key(&desired.jwks_path)];
        let partition = settings.partition();
        let objects = match store {
            Location::S3 { bucket, .. } => Some(PublicObjects { partition, bucket, keys: &keys }),
            Location::File(_) => None,
        };
        let (bucket, keyring) = (desired.bucket.as_ref(), settings.keyring_bucket());
        let creates_keyring = keyring.as_ref().is_some_and(|bucket| bucket.create);
        let duties = NodeDuties {
            objects,
            creates_bucket: creates_keyring || bucket.is_some_and(|bucket| bucket.create),
            opens_bucket: bucket.is_some_and(|bucket| bucket.create && bucket.public_by_policy),
            provider: desired.provider.is_some().then_some((partition, &self.account, &desired.issuer)),
            keyring: keyring.as_ref().map(|bucket| KeyringBucket {
                partition,
                bucket: &bucket.name,
                prefix: &bucket.prefix,
            }),
            sealing: self.sealing(&settings),
        };
        match node_policy(&duties)? {
            Some(policy) => output::say!("{policy}"),
            None => eprintln!("note: with this configuration irsad asks AWS for nothing"),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn sealing<'a>(&'a self, settings: &'a Settings) -> Option<Sealing<'a>> {
        let (key, region) = (settings.keyring.kms_key.as_ref()?, settings.aws.region.as_ref()?);
        Some(Sealing { key, region, account: &self.account, cluster: settings.cluster.as_str() })
    }
}
