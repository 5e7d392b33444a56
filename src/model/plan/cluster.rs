//! What the cluster shares: the issuer's bucket, the public documents, the IAM OIDC provider.

use jiff::Timestamp;

use crate::model::{
    discovery::{DISCOVERY_PATH, Discovery},
    jwks::{Jwk, Jwks},
    location::{BucketName, Location},
    probe::Probe,
    region::Region,
    served::Place,
    trust_policy,
};

use super::{
    Action, BucketFacts, Desired, DesiredBucket, DesiredProvider, Facts, Plan, ProviderFacts, PublicAccessBlock,
    PublicDocument, Shared, StoredDocument, WAITING_INTERVAL,
    published::{keys_of, keys_of_the_files},
    shared::Following,
    teardown,
};

/// Whether an outsider sees the documents that this node's keys need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishedState {
    /// Discovery and JWKS are what they should be, as fetched through the issuer URL.
    Seen,
    /// Not yet; why stands in the plan.
    NotYet,
}

/// The two public documents as they should be.
struct Documents {
    /// Path below the issuer and bytes of the discovery document.
    discovery: (String, Vec<u8>),
    /// Path below the issuer and bytes of the JWKS.
    jwks: (String, Vec<u8>),
}

pub(super) fn plan(
    desired: &Desired,
    facts: &Facts,
    following: Following<'_>,
    now: Timestamp,
    plan: &mut Plan,
) -> PublishedState {
    if teardown::is_removing(desired, following, now) {
        return PublishedState::NotYet;
    }
    let keys = match following {
        // Whatever the keyring says, keys that a node accepts are better than none.
        Following::Nothing if matches!(facts.shared, Shared::Unknown(_)) && *facts.cluster.jwks() == Probe::Absent => {
            keys_of_the_files(desired, facts, &[], now, plan)
        }
        Following::Nothing => return PublishedState::NotYet,
        Following::Keyring(followed) => Some((keys_of(followed.keyring()), None)),
        Following::Disk => keys_of_the_files(desired, facts, &[], now, plan),
        Following::Somebody(shared) => keys_of_the_files(desired, facts, &shared.acks, now, plan),
    };
    let Some((jwks, memory)) = keys else { return PublishedState::NotYet };
    // A folder is served by each node for itself.
    let writes =
        matches!(following, Following::Nothing) || following.leads() || matches!(desired.store, Location::File(_));
    let documents = match documents(desired, jwks) {
        Ok(documents) => documents,
        Err(why) => {
            plan.needs_a_person.push(why);
            return PublishedState::NotYet;
        }
    };
    if !writes {
        return look(desired, facts, &documents, plan);
    }
    if let (Some(wanted), Some(found)) = (&desired.bucket, &facts.cluster.bucket)
        && !plan_bucket(desired, wanted, found, plan)
    {
        return PublishedState::NotYet;
    }
    plan.actions.extend(memory);
    let published = plan_documents(desired, facts, &documents, plan);
    if let (Some(wanted), Some(found), true) = (&desired.provider, &facts.cluster.provider, following.leads()) {
        plan_provider(desired, wanted, found, published, plan);
    }
    published
}

/// What the leader publishes, as this node finds it.
fn look(desired: &Desired, facts: &Facts, documents: &Documents, plan: &mut Plan) -> PublishedState {
    let mut seen = true;
    for ((path, body), public) in
        [(&documents.jwks, &facts.cluster.public_jwks), (&documents.discovery, &facts.cluster.public_discovery)]
    {
        seen &= Document::of(desired, path, body).is_seen(public.as_ref(), plan);
    }
    if seen { PublishedState::Seen } else { PublishedState::NotYet }
}

fn documents(desired: &Desired, jwks: Vec<Jwk>) -> Result<Documents, String> {
    let jwks = Jwks::from_keys(jwks).map_err(|error| error.to_string())?;
    let discovery = Discovery::of(&desired.issuer, &desired.jwks_path, &jwks);
    Ok(Documents {
        discovery: (DISCOVERY_PATH.to_owned(), discovery.render()),
        jwks: (desired.jwks_path.clone(), jwks.render()),
    })
}

/// A bucket to create.
pub(super) struct NewBucket<'a> {
    pub name: &'a BucketName,
    pub region: &'a Region,
    /// See [`Action::CreateBucket`].
    pub tag: Option<&'a (String, String)>,
}

/// Settings of a bucket that is there, or that is created here: `nothing` is set then. `None` where it is not known, and where a person
/// has to create it, who reads `missing`.
pub(super) fn bucket<F: Clone>(
    found: &Probe<F>,
    create: Option<NewBucket<'_>>,
    nothing: impl FnOnce() -> F,
    missing: impl FnOnce() -> String,
    plan: &mut Plan,
) -> Option<F> {
    match (found, create) {
        (Probe::Present(found), _) => Some(found.clone()),
        (Probe::Absent, Some(NewBucket { name, region, tag })) => {
            plan.actions.push(Action::CreateBucket { bucket: name.clone(), region: region.clone(), tag: tag.cloned() });
            Some(nothing())
        }
        (Probe::Absent, None) => {
            plan.needs_a_person.push(missing());
            None
        }
        (Probe::Unknown(why), _) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            None
        }
    }
}

/// Whether documents may be written to the bucket, now or after the actions planned here.
fn plan_bucket(desired: &Desired, wanted: &DesiredBucket, found: &Probe<BucketFacts>, plan: &mut Plan) -> bool {
    let nothing = || BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent };
    let missing = || {
        format!(
            "bucket {} does not exist and issuer.createBucket is false; create it in {} or set issuer.createBucket: true",
            wanted.name, wanted.region
        )
    };
    let new = NewBucket { name: &wanted.name, region: &wanted.region, tag: Some(&wanted.owner_tag) };
    let create = wanted.create.then_some(new);
    let Some(found) = bucket(found, create, nothing, missing, plan) else { return false };
    if !wanted.public_by_policy {
        plan.notices.extend(left_open(desired, wanted, &found));
    }
    if !(wanted.create && wanted.public_by_policy) {
        return true;
    }
    plan_public_reading(desired, wanted, &found, plan)
}

/// What to say of a bucket that our own statement still opens, from a time when outsiders read it themselves. It is not taken away: they
/// may do so to this day, and only a person knows.
fn left_open(desired: &Desired, wanted: &DesiredBucket, found: &BucketFacts) -> Option<String> {
    let policy = found.policy.present()?;
    trust_policy::has_statement(policy, &wanted.policy_sid).then(|| {
        format!(
            "bucket {0} lets anyone read the documents by statement {1} of its policy, which issuer.access: external does not need; once \
             {2} is served by what you have put before it, take the statement out and block public access: aws s3api \
             put-public-access-block --bucket {0} --public-access-block-configuration \
             BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true",
            wanted.name, wanted.policy_sid, desired.issuer
        )
    })
}

/// Public access block and policy, so that everybody reads exactly the two documents.
fn plan_public_reading(desired: &Desired, wanted: &DesiredBucket, found: &BucketFacts, plan: &mut Plan) -> bool {
    if let Some(why) = [found.public_access_block.unknown(), found.policy.unknown()].into_iter().flatten().next() {
        plan.wait(why, WAITING_INTERVAL);
        return false;
    }
    if found.public_access_block != Probe::Present(PublicAccessBlock::FOR_PUBLIC_DOCUMENTS) {
        plan.actions.push(Action::SetPublicAccessBlock {
            bucket: wanted.name.clone(),
            block: PublicAccessBlock::FOR_PUBLIC_DOCUMENTS,
        });
    }
    let keys: [String; 2] = [desired.store.key(DISCOVERY_PATH), desired.store.key(&desired.jwks_path)];
    let partition = wanted.region.partition();
    match trust_policy::bucket_policy(
        found.policy.present().map(String::as_str),
        &wanted.policy_sid,
        partition,
        &wanted.name,
        &keys,
    ) {
        Ok(None) => true,
        Ok(Some(policy)) => {
            plan.actions.push(Action::SetBucketPolicy { bucket: wanted.name.clone(), policy });
            true
        }
        Err(error) => {
            plan.needs_a_person.push(format!("policy of bucket {}: {error}", wanted.name));
            false
        }
    }
}

fn plan_documents(desired: &Desired, facts: &Facts, documents: &Documents, plan: &mut Plan) -> PublishedState {
    let cluster = &facts.cluster;
    let by_policy = desired.bucket.as_ref().is_some_and(|bucket| bucket.public_by_policy);
    let mut seen = true;
    // The JWKS goes first: who finds the discovery document must find the keys that it names.
    for ((path, body), stored, public) in [
        (&documents.jwks, cluster.jwks(), &cluster.public_jwks),
        (&documents.discovery, cluster.discovery(), &cluster.public_discovery),
    ] {
        seen &= Document::of(desired, path, body).plan(stored, public.as_ref(), by_policy, plan);
    }
    if seen { PublishedState::Seen } else { PublishedState::NotYet }
}

/// One public document: what it should be and where.
struct Document<'a> {
    path: &'a str,
    body: &'a [u8],
    url: String,
    key: String,
    store: &'a Location,
    by_front: bool,
}

impl<'a> Document<'a> {
    fn of(desired: &'a Desired, path: &'a str, body: &'a [u8]) -> Self {
        let (url, key) = (desired.issuer.document(path), desired.store.key(path));
        Self { path, body, url, key, store: &desired.store, by_front: desired.is_served_by_front() }
    }

    /// Whether an outsider sees it as it should be.
    fn plan(
        &self,
        stored: &Probe<StoredDocument>,
        public: Option<&Probe<PublicDocument>>,
        by_policy: bool,
        plan: &mut Plan,
    ) -> bool {
        let replaces = match stored {
            Probe::Unknown(why) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                return false;
            }
            Probe::Absent => None,
            Probe::Present(found) if found.body != self.body || (by_policy && self.has_other_type(public)) => {
                Some(found.version.clone())
            }
            Probe::Present(_) => return self.is_seen(public, plan),
        };
        plan.actions.push(Action::Publish {
            key: self.key.clone(),
            url: self.url.clone(),
            body: self.body.to_vec(),
            replaces,
        });
        false
    }

    fn has_other_type(&self, public: Option<&Probe<PublicDocument>>) -> bool {
        let media_type = public.and_then(Probe::present).and_then(|found| found.content_type.as_deref());
        media_type.is_some_and(|found| found.split(';').next().unwrap_or_default().trim() != "application/json")
    }

    fn is_seen(&self, public: Option<&Probe<PublicDocument>>, plan: &mut Plan) -> bool {
        let Some(public) = public else { return true };
        let place = Place { path: self.path, url: &self.url, store: self.store, by_front: self.by_front };
        match place.sentence(&place.compare(self.body, public)) {
            None => true,
            Some(why) => {
                plan.wait(why, WAITING_INTERVAL);
                false
            }
        }
    }
}

fn plan_provider(
    desired: &Desired,
    wanted: &DesiredProvider,
    found: &Probe<ProviderFacts>,
    published: PublishedState,
    plan: &mut Plan,
) {
    let found = match found {
        Probe::Unknown(why) => return plan.wait(why.clone(), WAITING_INTERVAL),
        Probe::Absent if published == PublishedState::NotYet => return,
        Probe::Absent => {
            return plan.actions.push(Action::CreateProvider {
                issuer: desired.issuer.clone(),
                audiences: wanted.audiences.clone(),
                tags: wanted.tags.clone(),
            });
        }
        Probe::Present(found) => found,
    };
    let missing = wanted.audiences.iter().filter(|audience| !found.audiences.contains(audience));
    if found.is_ours {
        plan.actions.extend(missing.cloned().map(|audience| Action::AddProviderAudience { audience }));
        return;
    }
    plan.notices.push(format!(
        "the IAM OIDC provider of {} was made by somebody else; irsad uses it and never changes it",
        desired.issuer
    ));
    for audience in missing {
        plan.needs_a_person.push(format!(
            "the IAM OIDC provider of {} was made by somebody else and lacks audience {audience} (left as it is); add it there: \
             aws iam add-client-id-to-open-id-connect-provider --client-id {audience} --open-id-connect-provider-arn ARN",
            desired.issuer
        ));
    }
}
