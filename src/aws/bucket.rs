//! A bucket as one that holds a keyring, and as one that was made for a cluster and may go with it: its tags, what is in it, its end.

use aws_sdk_s3::types::{BucketVersioningStatus, CreateBucketConfiguration, Tag};

use super::{
    AwsError, ProvideErrorMetadata, Reason,
    error::Call,
    s3::{BucketState, S3Store},
};
use crate::model::{
    plan::{BucketContent, KeyringBucketFacts},
    probe::Probe,
    region::Region,
};

/// So many keys tell that a bucket is not empty.
const SOME_KEYS: i32 = 10;

impl S3Store {
    /// The region that S3 names for the bucket; the one that calls go to where it names none. Works for a bucket of any region of the
    /// partition (Amazon S3 API reference, `HeadBucket`).
    pub async fn home(&self) -> Region {
        let request = self.client().head_bucket().bucket(self.bucket().as_str());
        let named = match request.expected_bucket_owner(self.owner().as_str()).send().await {
            Ok(answer) => answer.bucket_region().map(str::to_owned),
            Err(error) => {
                let header = error.raw_response().and_then(|answer| answer.headers().get("x-amz-bucket-region"));
                header.map(str::to_owned)
            }
        };
        named.and_then(|named| named.parse().ok()).unwrap_or_else(|| self.region().clone())
    }

    /// Looks at the bucket as one that may go. It is ours where it carries the tag `owner`.
    pub async fn observe_content(&self, owner: &(String, String)) -> Probe<BucketContent> {
        let is_ours = match self.has_tag(owner).await {
            Ok(Some(is_ours)) => is_ours,
            Ok(None) => return Probe::Absent,
            Err(error) => return error.unknown(),
        };
        let (objects, policy) = tokio::join!(self.some_keys(), self.observe_policy());
        match objects {
            Ok(objects) => Probe::Present(BucketContent { is_ours, objects, policy }),
            Err(error) => error.unknown(),
        }
    }

    /// Looks at the bucket as one with a keyring, otherwise as [`S3Store::observe`].
    pub async fn observe_private(&self) -> Probe<KeyringBucketFacts> {
        match self.observe().await {
            Probe::Present(BucketState { public_access_block, policy }) => {
                let versioning = self.observe_versioning().await;
                Probe::Present(KeyringBucketFacts { public_access_block, versioning, policy })
            }
            Probe::Absent => Probe::Absent,
            Probe::Unknown(why) => Probe::Unknown(why),
        }
    }

    /// Whether S3 keeps every version of every object. Absent: it was never switched on.
    pub async fn observe_versioning(&self) -> Probe<bool> {
        let request = self.client().get_bucket_versioning().bucket(self.bucket().as_str());
        match request.expected_bucket_owner(self.owner().as_str()).send().await {
            Ok(answer) => {
                answer.status.map_or(Probe::Absent, |status| Probe::Present(status == BucketVersioningStatus::Enabled))
            }
            Err(error) => AwsError::from_sdk(self.read("s3:GetBucketVersioning", ""), &error).unknown(),
        }
    }

    /// `None` where there is no such bucket.
    async fn has_tag(&self, (key, value): &(String, String)) -> Result<Option<bool>, AwsError> {
        let request = self.client().get_bucket_tagging().bucket(self.bucket().as_str());
        let call = self.read("s3:GetBucketTagging", "").of_teardown();
        match request.expected_bucket_owner(self.owner().as_str()).send().await {
            Ok(answer) => Ok(Some(answer.tag_set().iter().any(|tag| tag.key() == key && tag.value() == value))),
            Err(error) if error.code() == Some("NoSuchTagSet") => Ok(Some(false)),
            Err(error) if error.code() == Some("NoSuchBucket") => Ok(None),
            Err(error) => Err(AwsError::from_sdk(call, &error)),
        }
    }

    /// Old versions and marks of deleted objects count: S3 deletes no bucket that has some.
    async fn some_keys(&self) -> Result<Vec<String>, AwsError> {
        let request = self.client().list_object_versions().bucket(self.bucket().as_str()).max_keys(SOME_KEYS);
        let call = self.read("s3:ListBucketVersions", "").of_teardown();
        let answer = request.expected_bucket_owner(self.owner().as_str()).send().await;
        let answer = answer.map_err(|error| AwsError::from_sdk(call, &error))?;
        let versions = answer.versions().iter().filter_map(|version| version.key());
        let marks = answer.delete_markers().iter().filter_map(|mark| mark.key());
        let mut keys: Vec<String> = versions.chain(marks).map(str::to_owned).collect();
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Makes the bucket in the configured region, without ACLs. It has `tag` from its first moment: one that is made first and tagged then
    /// would, after a kill in between, never be known as ours, and a tag that is put on what is there may claim what somebody else has
    /// just made. Success where it is ours already; in us-east-1 S3 answers so by itself (Amazon S3 API reference, `CreateBucket`).
    ///
    /// # Errors
    /// [`Reason::BucketTaken`] where the name is another account's, otherwise see [`Reason`]; after a lost answer the bucket
    /// may be there, with its tag.
    pub async fn create(&self, tag: Option<&(String, String)>) -> Result<(), AwsError> {
        let action = if tag.is_some() { "s3:CreateBucket and s3:TagResource" } else { "s3:CreateBucket" };
        let call = Call::write(action, self.place(""));
        let tags = tag.map(|(key, value)| Tag::builder().key(key).value(value).build()).transpose();
        let tags = tags.map_err(|error| AwsError::new(call.clone(), Reason::NotAws, error.to_string()))?;
        let region = (!self.region().is_default_for_buckets()).then(|| self.region().as_str().into());
        let configuration = (region.is_some() || tags.is_some()).then(|| {
            let tags = tags.map(|tag| vec![tag]);
            CreateBucketConfiguration::builder().set_location_constraint(region).set_tags(tags).build()
        });
        let request = self.client().create_bucket().bucket(self.bucket().as_str());
        match request.set_create_bucket_configuration(configuration).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let refused = AwsError::from_sdk(call, &error);
                match error.code() {
                    Some("BucketAlreadyOwnedByYou") => Ok(()),
                    Some("BucketAlreadyExists") => Err(refused.with_reason(Reason::BucketTaken(self.bucket().clone()))),
                    _ => Err(refused),
                }
            }
        }
    }

    /// Deletes the bucket policy. Success where there is none.
    ///
    /// # Errors
    /// See [`Reason`]; it is there or gone.
    pub async fn delete_policy(&self) -> Result<(), AwsError> {
        let request = self.client().delete_bucket_policy().bucket(self.bucket().as_str());
        let call = self.write("s3:DeleteBucketPolicy", "").of_teardown();
        let answer = request.expected_bucket_owner(self.owner().as_str()).send().await;
        answer.map(drop).map_err(|error| AwsError::from_sdk(call, &error))
    }

    /// Deletes the bucket, which has to be empty. Success where there is none.
    ///
    /// # Errors
    /// See [`Reason`]; it is there, or, after a lost answer, there or gone.
    pub async fn delete_bucket(&self) -> Result<(), AwsError> {
        let request = self.client().delete_bucket().bucket(self.bucket().as_str());
        let call = self.write("s3:DeleteBucket", "").of_teardown();
        match request.expected_bucket_owner(self.owner().as_str()).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchBucket") => Ok(()),
            Err(error) => Err(AwsError::from_sdk(call, &error)),
        }
    }
}
