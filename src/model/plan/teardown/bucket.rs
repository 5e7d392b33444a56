//! The issuer's bucket, which goes last: whoever takes its name afterwards speaks for every issuer that still lies in it.

use super::{BucketContent, Removal, TeardownFacts};
use crate::model::{
    plan::{Action, DesiredBucket, Plan, WAITING_INTERVAL},
    probe::Probe,
    s3_address::leads_into,
    trust_policy,
};

impl Removal<'_> {
    /// Whether nothing is left to do with the bucket. `trusted`: a provider may trust what is published there.
    pub(super) fn bucket(
        &self,
        found: &TeardownFacts,
        trusted: bool,
        remains: &mut Vec<String>,
        plan: &mut Plan,
    ) -> bool {
        let (Some(wanted), Some(bucket)) = (&self.desired.bucket, &found.bucket) else { return true };
        let content = match bucket {
            Probe::Absent => return true,
            Probe::Unknown(why) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                return false;
            }
            Probe::Present(content) => content,
        };
        match self.why_it_stays(wanted, content, &found.pointing, trusted) {
            None => {
                if let Probe::Unknown(why) = &found.pointing {
                    plan.wait(format!("{why}; irsad teardown --keep-bucket goes on without it"), WAITING_INTERVAL);
                    return false;
                }
                plan.actions.push(Action::DeleteBucket { bucket: wanted.name.clone() });
                false
            }
            Some(why) => {
                remains.push(format!("bucket {} stays: {why}", wanted.name));
                self.close(wanted, content, remains, plan)
            }
        }
    }

    fn why_it_stays(
        &self,
        wanted: &DesiredBucket,
        content: &BucketContent,
        pointing: &Probe<Vec<String>>,
        trusted: bool,
    ) -> Option<String> {
        let (key, value) = &wanted.owner_tag;
        if trusted {
            return Some(
                "an IAM OIDC provider may trust it, and whoever took its name could speak for this cluster".to_owned(),
            );
        }
        if let Probe::Present(arns) = pointing {
            return Some(pointed_at_by(arns));
        }
        if let Some(issuer) = self.others_issuer_in(wanted) {
            return Some(format!("issuer {issuer} lies in it, and who took its name could speak for that one"));
        }
        if !wanted.public_by_policy {
            return Some(
                "issuer.access is external, and what stands in front of it would serve what the next owner of its name puts there; take \
                 that away, then the bucket"
                    .to_owned(),
            );
        }
        if self.teardown.keeps_bucket {
            return Some("irsad teardown --keep-bucket".to_owned());
        }
        if !wanted.create {
            return Some("issuer.createBucket is false, so it is yours".to_owned());
        }
        if !content.is_ours {
            return Some(format!("it lacks the tag {key}={value}, so irsad did not create it for this cluster"));
        }
        let mut objects: Vec<&str> = content.objects.iter().take(3).map(String::as_str).collect();
        if content.objects.len() > objects.len() {
            objects.push("…");
        }
        (!objects.is_empty()).then(|| format!("it holds what is not irsad's: {}", objects.join(", ")))
    }

    /// An issuer of this cluster that is not ours, and whose documents have their address in the bucket.
    fn others_issuer_in(&self, wanted: &DesiredBucket) -> Option<&str> {
        let issuers = [&self.teardown.issuer].into_iter().chain(&self.followed.keyring().issuers);
        let mut others = issuers.map(String::as_str).filter(|issuer| *issuer != self.desired.issuer.as_str());
        others.find(|issuer| leads_into(issuer, &wanted.name))
    }

    /// Takes our statement out of the policy of a bucket that stays; whether it is out.
    fn close(
        &self,
        wanted: &DesiredBucket,
        content: &BucketContent,
        remains: &mut Vec<String>,
        plan: &mut Plan,
    ) -> bool {
        let policy = match &content.policy {
            Probe::Absent => return true,
            Probe::Present(policy) if wanted.create && wanted.public_by_policy => policy,
            Probe::Present(_) => return true,
            Probe::Unknown(why) => {
                plan.wait(why.clone(), WAITING_INTERVAL);
                return false;
            }
        };
        match trust_policy::without_statement(policy, &wanted.policy_sid) {
            Ok(None) => true,
            Ok(Some(policy)) => {
                plan.actions.push(Action::CloseBucket { bucket: wanted.name.clone(), policy });
                false
            }
            Err(error) => {
                remains.push(format!("policy of bucket {}: {error}", wanted.name));
                true
            }
        }
    }
}

/// Why a bucket stays that the issuers of other providers of this account lie in, and what to do.
pub fn pointed_at_by(arns: &[String]) -> String {
    format!(
        "the issuer of IAM OIDC provider {} lies in it, and whoever took its name could speak for that one; if nothing needs it any more, aws \
         iam delete-open-id-connect-provider --open-id-connect-provider-arn ARN, then delete the bucket",
        arns.join(", ")
    )
}
