//! `irsad iam-policy`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::{
    config::{RolesMode, Settings},
    model::{
        control_plane_only::ControlPlaneRole,
        discovery::DISCOVERY_PATH,
        issuer::IssuerUrl,
        keyring_bucket::KeyringBucket,
        location::Location,
        node_policy::{NodeDuties, Part, RoleDuties, Sealing, node_policy},
        plan::Desired,
        region::{AccountId, Partition},
        teardown_policy::{TeardownDuties, teardown_policy},
        trust_policy::{PublicObjects, bucket_policy, statement_id},
    },
};

use super::{Global, output, settings};

/// Print the IAM policy that the control-plane nodes need, or a part of it.
#[derive(Debug, Args)]
pub(super) struct IamPolicy {
    /// AWS account that the nodes belong to
    #[arg(long, value_name = "ID")]
    account: AccountId,
    /// Which policy
    #[arg(long, value_name = "PART", value_enum, default_value_t = PartArgument::All)]
    part: PartArgument,
    /// Role of the control-plane nodes, for the policies that admit nobody else
    #[arg(
        long,
        value_name = "ARN",
        required_if_eq_any([("part", "keyring-bucket"), ("part", "kms-key")])
    )]
    role: Option<ControlPlaneRole>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PartArgument {
    /// Everything that the control-plane nodes' role needs
    All,
    /// What every control-plane node asks for
    Node,
    /// What only the leader asks for
    Leader,
    /// What irsad teardown needs besides: attach it for that time
    Teardown,
    /// Policy of the issuer's bucket
    DocumentsBucket,
    /// Policy of the keyring's bucket, for --role alone
    KeyringBucket,
    /// Policy of the KMS key that seals, for --role alone
    KmsKey,
}

impl IamPolicy {
    #[tokio::main(flavor = "current_thread")]
    pub(super) async fn execute(&self, global: &Global) -> anyhow::Result<ExitCode> {
        let settings = settings::load(global).await?;
        let desired = settings.desired();
        let policy = match self.part {
            PartArgument::All => self.of_nodes(&settings, &desired, Part::All),
            PartArgument::Node => self.of_nodes(&settings, &desired, Part::Node),
            PartArgument::Leader => self.of_nodes(&settings, &desired, Part::Leader),
            PartArgument::Teardown => self.of_teardown(&settings, &desired),
            PartArgument::DocumentsBucket => of_documents_bucket(&desired),
            PartArgument::KeyringBucket => self.of_keyring_bucket(&settings),
            PartArgument::KmsKey => self.of_kms_key(&settings),
        };
        match policy? {
            Ok(policy) => output::say!("{policy}"),
            Err(note) => eprintln!("note: {note}"),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn of_nodes(&self, settings: &Settings, desired: &Desired, part: Part) -> anyhow::Result<Policy> {
        let (keys, partition) = (keys(desired), settings.partition());
        let (bucket, keyring) = (desired.bucket.as_ref(), settings.keyring_bucket());
        let creates_keyring = keyring.as_ref().is_some_and(|bucket| bucket.create);
        let duties = NodeDuties {
            objects: objects(settings, desired, &keys),
            creates_bucket: creates_keyring || bucket.is_some_and(|bucket| bucket.create),
            opens_bucket: bucket.is_some_and(|bucket| bucket.create && bucket.public_by_policy),
            provider: self.provider(settings, desired),
            keyring: keyring.as_ref().map(|bucket| KeyringBucket {
                partition,
                bucket: &bucket.name,
                prefix: &bucket.prefix,
            }),
            sealing: self.sealing(settings),
            roles: self.roles(settings),
        };
        Ok(node_policy(&duties, part)?.ok_or("with this configuration irsad asks AWS for nothing here"))
    }

    fn of_teardown(&self, settings: &Settings, desired: &Desired) -> anyhow::Result<Policy> {
        let keys = keys(desired);
        let policy = teardown_policy(&TeardownDuties {
            objects: objects(settings, desired, &keys),
            created_bucket: desired.bucket.as_ref().is_some_and(|bucket| bucket.create),
            provider: self.provider(settings, desired),
            owner_tag: settings.owner_tag(),
        })?;
        Ok(policy.ok_or("with this configuration irsad asks AWS for nothing here"))
    }

    fn provider<'a>(
        &'a self,
        settings: &Settings,
        desired: &'a Desired,
    ) -> Option<(Partition, &'a AccountId, &'a IssuerUrl)> {
        desired.provider.is_some().then_some((settings.partition(), &self.account, &desired.issuer))
    }

    fn roles<'a>(&'a self, settings: &'a Settings) -> Option<RoleDuties<'a>> {
        let (cluster, boundary) = (settings.cluster.as_str(), settings.roles.boundary.as_ref());
        let duties = RoleDuties { partition: settings.partition(), account: &self.account, cluster, boundary };
        (settings.roles.mode != RolesMode::None).then_some(duties)
    }

    fn sealing<'a>(&'a self, settings: &'a Settings) -> Option<Sealing<'a>> {
        let (key, region) = (settings.keyring.kms_key.as_ref()?, settings.aws.region.as_ref()?);
        Some(Sealing { key, region, account: &self.account, cluster: settings.cluster.as_str() })
    }

    fn of_keyring_bucket(&self, settings: &Settings) -> anyhow::Result<Policy> {
        let Some(bucket) = settings.keyring_bucket() else { return Ok(Err("keyring.store is not in S3")) };
        let place = KeyringBucket { partition: settings.partition(), bucket: &bucket.name, prefix: &bucket.prefix };
        let sid = statement_id(settings.cluster.as_str());
        Ok(Ok(self.role()?.keyring_bucket_policy(&place, &sid)?))
    }

    fn of_kms_key(&self, settings: &Settings) -> anyhow::Result<Policy> {
        if settings.keyring.kms_key.is_none() {
            return Ok(Err("keyring.kmsKey is empty, so no KMS key is used"));
        }
        Ok(Ok(self.role()?.key_policy(&self.account, settings.cluster.as_str())))
    }

    fn role(&self) -> anyhow::Result<&ControlPlaneRole> {
        self.role.as_ref().context("--role is missing; it names the control-plane nodes' role")
    }
}

/// A policy's text, or why none is needed.
type Policy = Result<String, &'static str>;

fn keys(desired: &Desired) -> [String; 2] {
    [desired.store.key(DISCOVERY_PATH), desired.store.key(&desired.jwks_path)]
}

fn objects<'a>(settings: &Settings, desired: &'a Desired, keys: &'a [String; 2]) -> Option<PublicObjects<'a>> {
    match &desired.store {
        Location::S3 { bucket, .. } => Some(PublicObjects { partition: settings.partition(), bucket, keys }),
        Location::File(_) => None,
    }
}

fn of_documents_bucket(desired: &Desired) -> anyhow::Result<Policy> {
    let Some(bucket) = &desired.bucket else { return Ok(Err("issuer.store is not in S3")) };
    if !bucket.public_by_policy {
        return Ok(Err(
            "with issuer.access: external the bucket's policy is for what serves the documents; irsad needs none there",
        ));
    }
    let partition = bucket.region.partition();
    let policy = bucket_policy(None, &bucket.policy_sid, partition, &bucket.name, &keys(desired))?;
    Ok(policy.ok_or("the bucket needs no policy"))
}
