//! What the cluster shares: the issuer's bucket, the public documents, the IAM OIDC provider.

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    discovery::{DISCOVERY_PATH, Discovery},
    jwks::{Jwk, Jwks},
    key::PublicKey,
    keyring::Keyring,
    location::Location,
    memory::{PublishedKey, PublishedKeys, Version1},
    probe::Probe,
    rotation::Ack,
    trust_policy,
};

use super::{
    Action, ApiServer, BucketFacts, ClusterFacts, Desired, DesiredBucket, DesiredProvider, Facts, Plan, ProviderFacts,
    PublicAccessBlock, PublicDocument, Shared, StoredDocument, WAITING_INTERVAL, shared::Following,
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
        let document = Document { path, body, url: desired.issuer.document(path), key: desired.store.key(path) };
        seen &= document.is_seen(public.as_ref(), &desired.store, plan);
    }
    if seen { PublishedState::Seen } else { PublishedState::NotYet }
}

/// The keys that a keyring has published, then what others published before it.
fn keys_of(keyring: &Keyring) -> Vec<Jwk> {
    let keys = keyring.published().filter_map(|key| key.public().ok()).map(|key| Jwk::of(&key));
    keys.chain(keyring.leaving.iter().map(|key| key.jwk.clone())).collect()
}

/// The keys that nodes hold or report, then those that have left them and whose tokens may live; with what has to be remembered
/// before they are published.
fn keys_of_the_files(
    desired: &Desired,
    facts: &Facts,
    acks: &[Ack],
    now: Timestamp,
    plan: &mut Plan,
) -> Option<(Vec<Jwk>, Option<Action>)> {
    let keys = keys_to_publish(facts, acks)?;
    let remembered = remembered(facts, &keys, now, plan)?;
    let clock_differs = facts.cluster.clock_differs(now);
    let lifetime = match clock_differs {
        None => SignedDuration::try_from(desired.token_lifetime).unwrap_or(SignedDuration::MAX),
        Some(_) => SignedDuration::MAX,
    };
    plan.notices.extend(clock_differs);
    let next = remember(&remembered, &keys, &seen_outside(&facts.cluster), lifetime, now);
    let leaving: Vec<Jwk> =
        next.keys.iter().filter(|key| key.gone_since.is_some()).map(|key| key.jwk.clone()).collect();
    let is_new = Probe::Present(&next) != facts.node.published_keys.as_ref();
    let memory = is_new.then_some(Action::RememberPublishedKeys(next));
    Some((keys.into_iter().chain(leaving).collect(), memory))
}

/// Signing key first, then what the files accept, then what the running API server still accepts, then what other nodes have.
fn keys_to_publish(facts: &Facts, acks: &[Ack]) -> Option<Vec<Jwk>> {
    let signing = facts.node.signing_key.present()?;
    let verifying = facts.node.verifying_keys.present()?;
    if !verifying.iter().any(|key| key.kid() == signing.kid()) {
        return None;
    }
    let mut keys: Vec<Jwk> = Vec::new();
    let mut add = |key: Jwk| {
        if key.kid().is_some() && !keys.iter().any(|known| known.kid() == key.kid()) {
            keys.push(key);
        }
    };
    std::iter::once(signing).chain(verifying).map(Jwk::of).for_each(&mut add);
    if let ApiServer::Seen(evidence) = &facts.node.api_server {
        evidence.served.keys().iter().cloned().for_each(&mut add);
    }
    let reported = acks.iter().flat_map(|ack| &ack.keys);
    let reported = reported.filter_map(|key| PublicKey::read_all(key.public_key.as_bytes()).ok()?.into_iter().next());
    reported.map(|key| Jwk::of(&key)).for_each(&mut add);
    Some(keys)
}

/// What this node remembers of published keys. A node without a memory takes over what the store holds: keys that somebody published
/// before us may still have tokens.
fn remembered(facts: &Facts, in_use: &[Jwk], now: Timestamp, plan: &mut Plan) -> Option<PublishedKeys> {
    let several = facts.node.api_servers.present().is_some_and(|servers| servers.len() > 1);
    let known = match &facts.node.published_keys {
        Probe::Present(remembered) if !several => return Some(remembered.clone()),
        // Other nodes may have published keys that this one never had: none of them is removed.
        Probe::Present(remembered) => remembered.keys.clone(),
        Probe::Unknown(why) => {
            plan.needs_a_person.push(why.clone());
            return None;
        }
        Probe::Absent => Vec::new(),
    };
    let stored = match facts.cluster.jwks() {
        Probe::Present(stored) => Jwks::parse(&stored.body).map(|jwks| jwks.keys().to_vec()).unwrap_or_default(),
        Probe::Absent => Vec::new(),
        Probe::Unknown(why) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            return None;
        }
    };
    let is_known = |jwk: &Jwk| in_use.iter().chain(known.iter().map(|key| &key.jwk)).any(|key| key.kid() == jwk.kid());
    let left = stored.into_iter().filter(|jwk| jwk.kid().is_some() && !is_known(jwk));
    let left: Vec<_> = left.map(|jwk| PublishedKey { jwk, seen_since: None, gone_since: Some(now) }).collect();
    Some(PublishedKeys { version: Version1, keys: [known, left].concat() })
}

/// Key ids that an outsider finds now; what the store holds where there is no outsider.
pub(super) fn seen_outside(cluster: &ClusterFacts) -> Vec<String> {
    let body = match &cluster.public_jwks {
        Some(public) => public.present().map(|found| &found.body),
        None => cluster.jwks().present().map(|found| &found.body),
    };
    let jwks = body.and_then(|body| Jwks::parse(body).ok());
    jwks.map(|jwks| jwks.kids().map(str::to_owned).collect()).unwrap_or_default()
}

/// The memory of published keys after this pass: new ones in use, missing ones with the time they went, old ones gone.
fn remember(
    remembered: &PublishedKeys,
    in_use: &[Jwk],
    seen: &[String],
    lifetime: SignedDuration,
    now: Timestamp,
) -> PublishedKeys {
    let is_in_use = |kid: Option<&str>| in_use.iter().any(|key| key.kid() == kid);
    let is_seen = |jwk: &Jwk| seen.iter().any(|kid| jwk.kid() == Some(kid.as_str()));
    let new = in_use.iter().filter(|jwk| !remembered.keys.iter().any(|key| key.jwk.kid() == jwk.kid()));
    let new = new.map(|jwk| PublishedKey { jwk: jwk.clone(), seen_since: None, gone_since: None });
    let mut keys: Vec<PublishedKey> = remembered.keys.iter().cloned().chain(new).collect();
    for key in &mut keys {
        key.gone_since = if is_in_use(key.jwk.kid()) { None } else { key.gone_since.or(Some(now)) };
        key.seen_since = key.seen_since.or_else(|| is_seen(&key.jwk).then_some(now));
    }
    keys.retain(|key| key.gone_since.is_none_or(|since| now.duration_since(since) < lifetime));
    PublishedKeys { version: Version1, keys }
}

fn documents(desired: &Desired, jwks: Vec<Jwk>) -> Result<Documents, String> {
    let jwks = Jwks::from_keys(jwks).map_err(|error| error.to_string())?;
    let discovery = Discovery::of(&desired.issuer, &desired.jwks_path, &jwks);
    Ok(Documents {
        discovery: (DISCOVERY_PATH.to_owned(), discovery.render()),
        jwks: (desired.jwks_path.clone(), jwks.render()),
    })
}

/// Whether documents may be written to the bucket, now or after the actions planned here.
fn plan_bucket(desired: &Desired, wanted: &DesiredBucket, found: &Probe<BucketFacts>, plan: &mut Plan) -> bool {
    let nothing = BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent };
    let found = match found {
        Probe::Unknown(why) => {
            plan.wait(why.clone(), WAITING_INTERVAL);
            return false;
        }
        Probe::Absent if wanted.create => {
            plan.actions.push(Action::CreateBucket { bucket: wanted.name.clone(), region: wanted.region.clone() });
            &nothing
        }
        Probe::Absent => {
            plan.needs_a_person.push(format!(
                "bucket {} does not exist and issuer.createBucket is false; create it in {} or set issuer.createBucket: true",
                wanted.name, wanted.region
            ));
            return false;
        }
        Probe::Present(found) => found,
    };
    if !(wanted.create && wanted.public_by_policy) {
        return true;
    }
    plan_public_reading(desired, wanted, found, plan)
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
        let document = Document { path, body, url: desired.issuer.document(path), key: desired.store.key(path) };
        seen &= document.plan(stored, public.as_ref(), by_policy, &desired.store, plan);
    }
    if seen { PublishedState::Seen } else { PublishedState::NotYet }
}

/// One public document: what it should be and where.
struct Document<'a> {
    path: &'a str,
    body: &'a [u8],
    url: String,
    key: String,
}

impl Document<'_> {
    /// Whether an outsider sees it as it should be.
    fn plan(
        &self,
        stored: &Probe<StoredDocument>,
        public: Option<&Probe<PublicDocument>>,
        by_policy: bool,
        store: &Location,
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
            Probe::Present(_) => return self.is_seen(public, store, plan),
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

    fn is_seen(&self, public: Option<&Probe<PublicDocument>>, store: &Location, plan: &mut Plan) -> bool {
        match public {
            None => true,
            Some(Probe::Present(found)) if self.says_the_same(&found.body) => true,
            Some(Probe::Present(_)) => {
                plan.wait(
                    format!(
                        "{} serves something else than {store} holds; wait for its cache, or look at what stands between",
                        self.url
                    ),
                    WAITING_INTERVAL,
                );
                false
            }
            Some(Probe::Absent) => {
                plan.wait(
                    format!("{} is not found although {store} holds it; check that the URL leads there", self.url),
                    WAITING_INTERVAL,
                );
                false
            }
            Some(Probe::Unknown(why)) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                false
            }
        }
    }

    /// Web servers and caches may lay JSON out anew; an outsider reads its values.
    fn says_the_same(&self, body: &[u8]) -> bool {
        if self.path == DISCOVERY_PATH {
            matches!((Discovery::parse(body), Discovery::parse(self.body)), (Ok(found), Ok(wanted)) if found == wanted)
        } else {
            matches!((Jwks::parse(body), Jwks::parse(self.body)), (Ok(found), Ok(wanted)) if found.has_same_keys(&wanted))
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
