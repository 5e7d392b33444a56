//! The private bucket of a keyring in S3: made, closed to the public, with versions, and with a policy by which nothing is lost.

use crate::model::{keyring_bucket::KeyringBucket, location::BucketName, probe::Probe, region::Region};

use super::{
    Action, Plan, PublicAccessBlock, WAITING_INTERVAL,
    cluster::{NewBucket, bucket},
};

/// The keyring's bucket as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredKeyringBucket {
    /// Name; never the issuer's bucket.
    pub name: BucketName,
    /// Region of the bucket.
    pub region: Region,
    /// What stands before every key, without slashes at its ends; empty for the bucket's root.
    pub prefix: String,
    /// Create it where it is missing, and keep it set up. Otherwise that is somebody else's.
    pub create: bool,
    /// What the `Sid`s of our statements begin with, see [`statement_id`](crate::model::trust_policy::statement_id).
    pub policy_sid: String,
    /// S3 is asked at an endpoint of the operator's own. It may hold plain HTTP for what reaches it, even behind TLS: a bucket that refuses
    /// that would shut irsad out for good.
    pub at_own_endpoint: bool,
}

/// Settings of the keyring's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringBucketFacts {
    /// Public access block; Absent where nothing is blocked.
    pub public_access_block: Probe<PublicAccessBlock>,
    /// Whether S3 keeps every version; Absent where it was never switched on.
    pub versioning: Probe<bool>,
    /// Bucket policy as stored.
    pub policy: Probe<String>,
}

/// What has to be done with the keyring's bucket. Whether the keyring may be written to it, now or after the actions planned
/// here: closed first, then filled.
pub fn keyring_bucket(wanted: &DesiredKeyringBucket, found: &Probe<KeyringBucketFacts>, plan: &mut Plan) -> bool {
    let nothing =
        || KeyringBucketFacts { public_access_block: Probe::Absent, versioning: Probe::Absent, policy: Probe::Absent };
    let missing = || {
        format!(
            "the keyring's bucket {} does not exist and issuer.createBucket is false; create it in {}, closed to the public and with \
             versions, or set issuer.createBucket: true",
            wanted.name, wanted.region
        )
    };
    let create = wanted.create.then_some(NewBucket { name: &wanted.name, region: &wanted.region, tag: None });
    let Some(found) = bucket(found, create, nothing, missing, plan) else { return false };
    match wanted.create {
        true => set_up(wanted, &found, plan),
        false => {
            plan.notices.extend(remark(wanted, &found));
            true
        }
    }
}

fn set_up(wanted: &DesiredKeyringBucket, found: &KeyringBucketFacts, plan: &mut Plan) -> bool {
    let unknown = [found.public_access_block.unknown(), found.versioning.unknown(), found.policy.unknown()];
    if let Some(why) = unknown.into_iter().flatten().next() {
        plan.wait(why, WAITING_INTERVAL);
        return false;
    }
    let policy = match wanted.policy(found) {
        Ok(policy) => policy,
        Err(why) => {
            plan.needs_a_person.push(why);
            return false;
        }
    };
    let bucket = || wanted.name.clone();
    if found.public_access_block != Probe::Present(PublicAccessBlock::ALL) {
        plan.actions.push(Action::SetPublicAccessBlock { bucket: bucket(), block: PublicAccessBlock::ALL });
    }
    if found.versioning != Probe::Present(true) {
        plan.actions.push(Action::EnableVersioning { bucket: bucket() });
    }
    plan.actions.extend(policy.map(|policy| Action::SetKeyringBucketPolicy { bucket: bucket(), policy }));
    true
}

impl DesiredKeyringBucket {
    fn place(&self) -> KeyringBucket<'_> {
        KeyringBucket { partition: self.region.partition(), bucket: &self.name, prefix: &self.prefix }
    }

    /// The policy to set; `None` where the one that was found has our statements.
    fn policy(&self, found: &KeyringBucketFacts) -> Result<Option<String>, String> {
        let place = self.place();
        let existing = found.policy.present().map(String::as_str);
        let policy = match self.at_own_endpoint {
            true => place.kept_policy(existing, &self.policy_sid),
            false => place.policy(existing, &self.policy_sid),
        };
        policy.map_err(|error| format!("policy of bucket {}: {error}", self.name))
    }
}

/// What somebody else's set-up of the bucket leaves open, as far as this node may see it.
fn remark(wanted: &DesiredKeyringBucket, found: &KeyringBucketFacts) -> Option<String> {
    let open = found.public_access_block.unknown().is_none()
        && found.public_access_block != Probe::Present(PublicAccessBlock::ALL);
    let forgets = found.versioning.unknown().is_none() && found.versioning != Probe::Present(true);
    // Who sets up the bucket may refuse plain HTTP in words of their own, but irsad's other denials are irsad's alone.
    let policy = found.policy.present().map(String::as_str);
    let keeps = wanted.place().kept_policy(policy, &wanted.policy_sid).is_ok_and(|missing| missing.is_none());
    let overwrites = found.policy.unknown().is_none() && !keeps;
    let missing: Vec<&str> = [
        (open, "its public access block is not complete"),
        (forgets, "it keeps no versions"),
        (overwrites, "its policy lacks irsad's denials, so that keys can be overwritten and deleted"),
    ]
    .into_iter()
    .filter_map(|(is_missing, what)| is_missing.then_some(what))
    .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the keyring's bucket {} is yours to set up (issuer.createBucket: false), and {}",
            wanted.name,
            missing.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trust_policy::statement_id;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn wanted() -> Result<DesiredKeyringBucket, Box<dyn std::error::Error>> {
        Ok(DesiredKeyringBucket {
            name: "prod-1-keys".parse()?,
            region: "eu-west-1".parse()?,
            prefix: "prod-1".to_owned(),
            create: true,
            policy_sid: statement_id("prod-1"),
            at_own_endpoint: false,
        })
    }

    fn planned(wanted: &DesiredKeyringBucket, found: &Probe<KeyringBucketFacts>) -> (Plan, bool) {
        let mut plan = Plan::new();
        let ready = keyring_bucket(wanted, found, &mut plan);
        (plan, ready)
    }

    fn names(plan: &Plan) -> Vec<&'static str> {
        plan.actions.iter().map(Action::name).collect()
    }

    /// The bucket after a plan's actions.
    fn done(plan: &Plan) -> KeyringBucketFacts {
        let mut found =
            KeyringBucketFacts { public_access_block: Probe::Absent, versioning: Probe::Absent, policy: Probe::Absent };
        for action in &plan.actions {
            match action {
                Action::SetPublicAccessBlock { block, .. } => found.public_access_block = Probe::Present(*block),
                Action::EnableVersioning { .. } => found.versioning = Probe::Present(true),
                Action::SetKeyringBucketPolicy { policy, .. } => found.policy = Probe::Present(policy.clone()),
                other => assert_eq!(other.name(), "create-bucket"),
            }
        }
        found
    }

    #[test]
    fn missing_bucket_is_made_closed_and_set_up_and_then_left_alone() -> Outcome {
        let wanted = wanted()?;
        let (plan, ready) = planned(&wanted, &Probe::Absent);
        let all = ["create-bucket", "set-public-access-block", "enable-versioning", "set-keyring-bucket-policy"];
        assert_eq!((names(&plan), ready), (all.to_vec(), true));
        let said: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
        let expected = [
            "create bucket prod-1-keys in eu-west-1",
            "block all public access to bucket prod-1-keys",
            "keep every version of every object of bucket prod-1-keys",
            "let keys in bucket prod-1-keys be created only once, nothing be deleted, and nobody ask without TLS",
        ];
        assert_eq!(said, expected);
        let (after, ready) = planned(&wanted, &Probe::Present(done(&plan)));
        assert_eq!((after, ready), (Plan::new(), true));
        Ok(())
    }

    #[test]
    fn tls_is_not_asked_for_in_a_bucket_at_an_endpoint_of_the_operators_own() -> Outcome {
        for at_own_endpoint in [false, true] {
            let found = done(&planned(&DesiredKeyringBucket { at_own_endpoint, ..wanted()? }, &Probe::Absent).0);
            let policy = found.policy.present().ok_or("a policy")?;
            assert_eq!(policy.contains("aws:SecureTransport"), !at_own_endpoint, "{policy}");
        }
        Ok(())
    }

    #[test]
    fn each_setting_that_somebody_changed_is_put_back_alone() -> Outcome {
        let wanted = wanted()?;
        let good = done(&planned(&wanted, &Probe::Absent).0);
        let public = PublicAccessBlock::FOR_PUBLIC_DOCUMENTS;
        for (found, expected) in [
            (KeyringBucketFacts { versioning: Probe::Present(false), ..good.clone() }, "enable-versioning"),
            (KeyringBucketFacts { policy: Probe::Absent, ..good.clone() }, "set-keyring-bucket-policy"),
            (
                KeyringBucketFacts { public_access_block: Probe::Present(public), ..good.clone() },
                "set-public-access-block",
            ),
            (KeyringBucketFacts { public_access_block: Probe::Absent, ..good }, "set-public-access-block"),
        ] {
            let (plan, ready) = planned(&wanted, &Probe::Present(found));
            assert_eq!((names(&plan), ready), (vec![expected], true));
        }
        Ok(())
    }

    #[test]
    fn nothing_is_done_to_a_bucket_that_cannot_be_seen_in_full() -> Outcome {
        let wanted = wanted()?;
        let unknown = || "forbidden".to_owned();
        let empty =
            KeyringBucketFacts { public_access_block: Probe::Absent, versioning: Probe::Absent, policy: Probe::Absent };
        for found in [
            Probe::Unknown(unknown()),
            Probe::Present(KeyringBucketFacts { public_access_block: Probe::Unknown(unknown()), ..empty.clone() }),
            Probe::Present(KeyringBucketFacts { versioning: Probe::Unknown(unknown()), ..empty.clone() }),
            Probe::Present(KeyringBucketFacts { policy: Probe::Unknown(unknown()), ..empty.clone() }),
        ] {
            let (plan, ready) = planned(&wanted, &found);
            assert_eq!((plan.actions, plan.waiting_for, ready), (Vec::new(), vec![unknown()], false), "{found:?}");
        }
        let (plan, ready) =
            planned(&wanted, &Probe::Present(KeyringBucketFacts { policy: Probe::Present("{}".into()), ..empty }));
        let message = "policy of bucket prod-1-keys: the bucket's policy is not one that a statement can be added to (nothing changed): it has no Statement; repair it by hand";
        assert_eq!((plan.actions, plan.needs_a_person, ready), (Vec::new(), vec![message.to_owned()], false));
        Ok(())
    }

    #[test]
    fn bucket_of_somebody_else_is_used_and_its_gaps_are_named() -> Outcome {
        let wanted = DesiredKeyringBucket { create: false, ..wanted()? };
        let (plan, ready) = planned(&wanted, &Probe::Absent);
        let message = "the keyring's bucket prod-1-keys does not exist and issuer.createBucket is false; create it in eu-west-1, closed to the public and with versions, or set issuer.createBucket: true";
        assert_eq!((plan.actions, plan.needs_a_person, ready), (Vec::new(), vec![message.to_owned()], false));

        let good = done(&planned(&DesiredKeyringBucket { create: true, ..wanted.clone() }, &Probe::Absent).0);
        let unseen = Probe::Unknown("forbidden".to_owned());
        let yours = "the keyring's bucket prod-1-keys is yours to set up (issuer.createBucket: false), and";
        for (found, notice) in [
            (good.clone(), None),
            (KeyringBucketFacts { versioning: unseen, ..good.clone() }, None),
            (
                KeyringBucketFacts { versioning: Probe::Absent, policy: Probe::Present("{}".into()), ..good.clone() },
                Some(format!(
                    "{yours} it keeps no versions, its policy lacks irsad's denials, so that keys can be overwritten and deleted"
                )),
            ),
            (
                KeyringBucketFacts { public_access_block: Probe::Absent, ..good },
                Some(format!("{yours} its public access block is not complete")),
            ),
        ] {
            let (plan, ready) = planned(&wanted, &Probe::Present(found));
            assert_eq!((plan.actions, plan.notices, ready), (Vec::new(), notice.into_iter().collect::<Vec<_>>(), true));
        }
        Ok(())
    }
}
