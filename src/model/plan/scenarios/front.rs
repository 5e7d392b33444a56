//! A closed bucket, and a cache before it that outsiders ask: `issuer.access: external`.

use super::*;

const JWKS: &str = "openid/v1/jwks";

/// A node whose documents reach outsiders through a cache.
struct Scene {
    world: World,
    /// What the cache serves.
    served: BTreeMap<String, Vec<u8>>,
    actions: Vec<Action>,
}

fn external() -> Desired {
    let mut desired = desired();
    desired.bucket.as_mut().expect("a bucket").public_by_policy = false;
    desired
}

impl Scene {
    fn of(world: World) -> Self {
        Self { served: world.objects.clone(), world, actions: Vec::new() }
    }

    fn facts(&self) -> Facts {
        let mut facts = self.world.facts();
        facts.cluster.public_jwks = Some(public(&self.served, JWKS, self.world.now));
        facts.cluster.public_discovery = Some(public(&self.served, DISCOVERY_PATH, self.world.now));
        facts
    }

    /// The cache lets go of its copies.
    fn expire(&mut self) {
        self.served = self.world.objects.clone();
    }

    fn kids(&self) -> Vec<String> {
        let body = self.served.get(JWKS).map(Vec::as_slice).unwrap_or(b"{\"keys\":[]}");
        Jwks::parse(body).expect("a JWKS").kids().map(str::to_owned).collect()
    }

    /// Carries out plans until nothing is left to do while the cache serves what it serves. Whatever signs as us is there.
    fn converge(&mut self) -> Plan {
        for _ in 0..20 {
            let plan = plan(&external(), &self.facts(), self.world.now);
            for action in &plan.actions {
                self.world.carry_out(action);
                self.actions.push(action.clone());
                if let Some(process) = self.world.process.as_ref().filter(|process| process.issuers[0] == OURS) {
                    assert!(self.kids().contains(&process.signing.kid().to_string()), "refused outside after {action}");
                }
            }
            if plan.actions.is_empty() {
                return plan;
            }
            self.world.pass_time(5);
        }
        panic!("20 passes, and still something to do");
    }

    fn opens_the_bucket(&self) -> bool {
        let opens =
            |action: &Action| matches!(action, Action::SetBucketPolicy { .. } | Action::SetPublicAccessBlock { .. });
        self.actions.iter().any(opens)
    }
}

#[test]
fn bucket_behind_a_front_is_made_and_never_opened_and_nothing_signs_before_the_front_serves() {
    let mut scene = Scene::of(World::of_kubeadm());
    let first = scene.converge();
    assert_eq!(scene.world.restarts, 0, "{first:?}");
    let missing = "https://prod-1-oidc.s3.eu-west-1.amazonaws.com/openid/v1/jwks is not found although s3://prod-1-oidc holds it; \
                   check that the URL leads there";
    assert_eq!(first.waiting_for.first().map(String::as_str), Some(missing), "{first:?}");
    assert_eq!(scene.world.provider, None, "IAM would trust an issuer that nobody can ask");
    scene.expire();
    let closed = BucketFacts { public_access_block: Probe::Present(PublicAccessBlock::ALL), policy: Probe::Absent };
    scene.world.bucket = Some(closed.clone());
    let plan = scene.converge();
    assert!(plan.is_converged() && plan.notices.is_empty(), "a closed bucket is right: {plan:?}");
    assert_eq!((scene.world.restarts, scene.world.bucket.clone()), (1, Some(closed)));
    assert!(!scene.opens_the_bucket(), "{:?}", scene.actions);
}

#[test]
fn new_key_signs_only_after_the_cache_has_dropped_the_old_documents_and_publish_lead_counts_from_then() {
    let mut scene = Scene::of(World::of_kubeadm());
    scene.converge();
    scene.expire();
    scene.converge();
    scene.world.signing = Some(key(1));
    scene.world.verifying = Some(vec![key(1), key(0)]);
    scene.converge();
    scene.world.pass_time(10 * 86_400);
    let stale = scene.converge();
    assert_eq!(scene.world.restarts, 1, "the cache has served old documents for ten days");
    let copy = "https://prod-1-oidc.s3.eu-west-1.amazonaws.com/openid/v1/jwks serves another copy than s3://prod-1-oidc holds; no \
                new key signs before that changes: wait for the cache, or have it drop its copy, with CloudFront by aws cloudfront \
                create-invalidation --distribution-id ID --paths '/*'; if it stays, the URL leads to another origin";
    assert!(stale.waiting_for.iter().any(|why| why == copy), "{stale:?}");

    scene.expire();
    scene.converge();
    assert_eq!(scene.world.restarts, 1, "outsiders may have fetched the old ones a moment before");
    scene.world.pass_time(86_400);
    assert!(scene.converge().is_converged());
    assert_eq!(scene.world.restarts, 2);
}

#[test]
fn store_that_is_right_is_not_written_again_for_what_a_front_serves() {
    let mut scene = Scene::of(World::of_kubeadm());
    scene.converge();
    scene.expire();
    scene.converge();
    let good = scene.world.objects.clone();
    scene.served.insert(JWKS.to_owned(), b"{\"keys\":[]}".to_vec());
    scene.served.insert(DISCOVERY_PATH.to_owned(), b"<html>".to_vec());
    let plan = scene.converge();
    assert_eq!(scene.world.objects, good, "the store is right and is not written for what a front does");
    let page = "serves something that is no OpenID discovery document, and s3://prod-1-oidc holds one";
    assert!(plan.waiting_for.iter().any(|why| why.contains(page)), "{plan:?}");
}

#[test]
fn statement_from_a_time_when_anyone_could_read_the_bucket_is_said_and_left() {
    let mut scene = Scene::of(World::of_kubeadm());
    scene.world.converge(&desired());
    scene.expire();
    let opened = scene.world.bucket.clone();
    let plan = scene.converge();
    assert_eq!(scene.world.bucket, opened);
    let notice = "bucket prod-1-oidc lets anyone read the documents by statement IrsadProd1 of its policy, which issuer.access: external \
                  does not need; once https://prod-1-oidc.s3.eu-west-1.amazonaws.com is served by what you have put before it, take the \
                  statement out and block public access: aws s3api put-public-access-block --bucket prod-1-oidc \
                  --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,\
                  RestrictPublicBuckets=true";
    assert_eq!(plan.notices, [notice]);
}
