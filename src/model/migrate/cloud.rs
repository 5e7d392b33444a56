//! What a migration changes in the account: who may read the documents, and whose the provider is.

use std::collections::BTreeMap;

use crate::model::{
    discovery::DISCOVERY_PATH,
    issuer::Audience,
    location::Location,
    plan::{BucketFacts, PublicAccessBlock},
    probe::Probe,
    region::AccountId,
    trust_policy,
};

use super::{Migration, Step, Target};

/// What the account has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCloud {
    /// The account of bucket and provider.
    pub account: AccountId,
    /// The bucket.
    pub bucket: Probe<BucketFacts>,
    /// The IAM OIDC provider of the issuer.
    pub provider: Probe<FoundProvider>,
    /// Its ARN.
    pub provider_arn: String,
    /// Tag of a provider that irsad of this cluster looks after.
    pub owner: (String, String),
    /// `Sid` of our statement in the bucket's policy.
    pub policy_sid: String,
}

/// An IAM OIDC provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProvider {
    /// Client IDs.
    pub audiences: Vec<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// Who makes the documents public, once irsad has replaced them: an object's ACL does not outlive it (Amazon S3 user guide, "Access
/// control list overview").
pub(super) fn reading(target: &Target, cloud: &FoundCloud, migration: &mut Migration) {
    let Location::S3 { bucket, .. } = &target.store else { return };
    let found = match &cloud.bucket {
        Probe::Present(found) => found,
        Probe::Absent => return migration.refuse(format!("bucket {bucket} does not exist (nothing changed)")),
        Probe::Unknown(why) => return migration.refuse(format!("{why} (nothing changed)")),
    };
    if let Some(why) = found.policy.unknown().or_else(|| found.public_access_block.unknown()) {
        return migration.refuse(format!("{why} (nothing changed)"));
    }
    let keys = [target.store.key(DISCOVERY_PATH), target.store.key(&target.jwks_path)];
    let policy = found.policy.present().map(String::as_str);
    let partition = target.region.partition();
    if target.is_external {
        if !found.public_access_block.present().is_some_and(|block| block.ignore_public_acls)
            && !policy.is_some_and(|policy| trust_policy::lets_a_front_read(policy, partition, bucket, &keys))
        {
            migration.refuse(format!(
                "{} is served by something in front of bucket {bucket}, and no policy of the bucket lets CloudFront or everybody read {} and \
                 {} (nothing changed): what reads them by a public ACL loses them when irsad writes them; let it read by the policy, or set \
                 IgnorePublicAcls in the bucket's public access block and see that {} still answers",
                target.issuer,
                keys[0],
                keys[1],
                target.issuer.document(DISCOVERY_PATH)
            ));
        }
        return;
    }
    match trust_policy::bucket_policy(policy, &cloud.policy_sid, partition, bucket, &keys) {
        Err(error) => return migration.refuse(format!("policy of bucket {bucket}: {error}")),
        Ok(None) => {}
        Ok(Some(policy)) => {
            migration.steps.push(Step::AllowReading { bucket: bucket.clone(), policy });
            migration.effects.push(
                "AWS reads the documents by the bucket's policy from now on: an ACL (public-read) would be lost when irsad writes them"
                    .to_owned(),
            );
        }
    }
    if let Some(block) = found.public_access_block.present().filter(|block| block.blocks_public_policy()) {
        let block = PublicAccessBlock { block_public_policy: false, restrict_public_buckets: false, ..*block };
        // Before the policy, which would be refused.
        migration.steps.insert(0, Step::AdmitPublicPolicy { bucket: bucket.clone(), block });
    }
}

/// Takes the provider over; the audiences for the configuration.
pub(super) fn provider(target: &Target, cloud: &FoundCloud, migration: &mut Migration) -> Vec<Audience> {
    let (key, cluster) = &cloud.owner;
    let found = match &cloud.provider {
        Probe::Present(found) => found,
        Probe::Absent => {
            migration.find(format!("{} has no IAM OIDC provider in this account; irsad makes it", target.issuer));
            return Vec::new();
        }
        Probe::Unknown(why) => {
            migration.refuse(format!("{why} (nothing changed)"));
            return Vec::new();
        }
    };
    match found.tags.get(key) {
        Some(owner) if owner == cluster => {}
        Some(owner) => migration.refuse(format!(
            "{} has the tag {key}={owner}: irsad of cluster {owner} looks after it (nothing changed); use --cluster {owner}, or remove the \
             tag where that cluster is gone",
            cloud.provider_arn
        )),
        None => {
            let (arn, tag) = (cloud.provider_arn.clone(), cloud.owner.clone());
            migration.steps.push(Step::OwnProvider { arn, tag });
        }
    }
    if found.audiences.is_empty() {
        migration.find(format!("{} has no audience; irsad adds sts.amazonaws.com", cloud.provider_arn));
    }
    found.audiences.iter().filter_map(|audience| audience.parse().ok()).collect()
}
