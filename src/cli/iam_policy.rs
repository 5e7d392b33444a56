//! `irsad iam-policy`.

use std::process::ExitCode;

use clap::Args;

use crate::model::{
    discovery::DISCOVERY_PATH,
    location::Location,
    node_policy::{NodeDuties, node_policy},
    region::AccountId,
    trust_policy::PublicObjects,
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
        let bucket = desired.bucket.as_ref();
        let duties = NodeDuties {
            objects,
            creates_bucket: bucket.is_some_and(|bucket| bucket.create),
            opens_bucket: bucket.is_some_and(|bucket| bucket.create && bucket.public_by_policy),
            provider: desired.provider.is_some().then_some((partition, &self.account, &desired.issuer)),
        };
        match node_policy(&duties)? {
            Some(policy) => output::say!("{policy}"),
            None => eprintln!("note: with this configuration irsad asks AWS for nothing"),
        }
        Ok(ExitCode::SUCCESS)
    }
}
