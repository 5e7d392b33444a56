//! S3, IAM and STS through the real SDK: the store's contract, the bucket's set-up, the provider, and every refusal in words.

use std::{collections::BTreeMap, error::Error, time::Duration};

use futures_util::future::join_all;
use irsad::{
    aws::{
        self, AwsConfig, AwsError, Endpoints, Identity,
        iam::Iam,
        kms::{Kms, KmsError, Refusal},
        s3::{BucketState, S3Store},
    },
    model::{
        issuer::{Audience, IssuerUrl},
        keyring_bucket::KeyringBucket,
        plan::{Action, DesiredKeyringBucket, Plan, PublicAccessBlock, keyring_bucket},
        probe::Probe,
        region::{AccountId, Partition, Region, oidc_provider_arn},
        s3_address::providers_in,
        sealed::SealContext,
        trust_policy::statement_id,
    },
    store::{Condition, LARGEST_OBJECT_BYTES, Store, StoreError, Version, proof::prove},
};

use crate::{
    alone::{self, with_cloud},
    cloud::{ACCOUNT, Cloud, Fault, INSTANCE_REGION},
    contract,
};

const KEY: &str = "openid/v1/jwks";

fn account() -> AccountId {
    ACCOUNT.parse().expect("an account")
}

async fn connect(cloud: &Cloud, region: &str) -> AwsConfig {
    let endpoints = Endpoints { all: cloud.endpoint_url(), ..Endpoints::default() };
    aws::connect(&region.parse().expect("a region"), endpoints).await
}

async fn store(cloud: &Cloud, region: &str, bucket: &str) -> S3Store {
    S3Store::new(&connect(cloud, region).await, &bucket.parse().expect("a bucket name"), &account())
}

async fn created(cloud: &Cloud, bucket: &str) -> S3Store {
    let store = store(cloud, "eu-west-1", bucket).await;
    store.create(None).await.expect("a bucket");
    store
}

/// Allows anyone to read the one object.
fn public_policy(bucket: &str) -> String {
    serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
        "Resource": format!("arn:aws:s3:::{bucket}/{KEY}")}]})
    .to_string()
}

/// Sentence and cause as the log prints them.
fn in_full(error: &dyn Error) -> String {
    error.source().map_or(error.to_string(), |cause| format!("{error}: {}", in_full(cause)))
}

async fn put(store: &S3Store, body: &str, condition: &Condition) -> Result<Version, StoreError> {
    store.put(KEY, body.as_bytes(), condition).await
}

fn assert_conflict(result: Result<Version, StoreError>, bucket: &str) {
    let message = format!(
        "s3://{bucket}/{KEY} was changed by someone else since it was read (nothing written); the next pass reads it again"
    );
    assert_eq!(result.map_err(|error| in_full(&error)), Err(message));
}

#[test]
fn bucket_keeps_the_contract_of_every_store() {
    with_cloud(async |cloud| {
        contract::holds(&created(cloud, "contract-of-documents").await).await;
        created(cloud, "contract-of-keys").await;
        let (aws, bucket) = (connect(cloud, "eu-west-1").await, "contract-of-keys".parse().expect("a bucket name"));
        contract::holds(&S3Store::private(&aws, &bucket, &account())).await;
    });
}

#[test]
fn object_is_created_once_and_replaced_only_as_it_was_read() {
    with_cloud(async |cloud| {
        let store = created(cloud, "contract").await;
        assert_eq!(store.get(KEY).await.expect("an answer"), None);
        let first = put(&store, "one", &Condition::Absent).await.expect("created");
        assert_conflict(put(&store, "two", &Condition::Absent).await, "contract");
        let read = store.get(KEY).await.expect("an answer").expect("an object");
        assert_eq!((read.body.as_slice(), &read.version), (b"one".as_slice(), &first));
        let second = put(&store, "two", &Condition::Unchanged(first.clone())).await.expect("replaced");
        assert_conflict(put(&store, "three", &Condition::Unchanged(first)).await, "contract");
        let read = store.get(KEY).await.expect("an answer").expect("an object");
        assert_eq!((read.body.as_slice(), read.version), (b"two".as_slice(), second));
        assert_eq!(store.list("openid/").await.expect("a listing"), [KEY]);
        assert_eq!(store.list("other/").await.expect("a listing"), Vec::<String>::new());
    });
}

#[test]
fn replacing_an_object_that_has_gone_is_a_conflict() {
    with_cloud(async |cloud| {
        let store = created(cloud, "gone").await;
        assert_conflict(put(&store, "two", &Condition::Unchanged(Version("\"0\"".to_owned()))).await, "gone");
    });
}

#[test]
fn one_of_racing_writers_wins() {
    with_cloud(async |cloud| {
        let store = created(cloud, "race").await;
        let mut condition = Condition::Absent;
        for round in 0..3 {
            let results = join_all((0..8).map(|writer| {
                let (store, condition) = (&store, &condition);
                async move { put(store, &format!("{round}, {writer}"), condition).await }
            }));
            let mut winners = results.await.into_iter().filter_map(Result::ok);
            condition = Condition::Unchanged(winners.next().expect("a winner"));
            assert_eq!(winners.next(), None, "a second winner");
        }
    });
}

#[test]
fn write_under_way_elsewhere_is_a_conflict() {
    with_cloud(async |cloud| {
        let store = created(cloud, "under-way").await;
        cloud.fail("PutObject", Fault::conditional_request_conflict(), 1);
        assert_conflict(put(&store, "one", &Condition::Absent).await, "under-way");
    });
}

/// Repeated by the SDK, a write whose answer was lost meets its own object.
#[test]
fn write_whose_answer_was_lost_is_recognised_as_ours() {
    with_cloud(async |cloud| {
        let store = created(cloud, "answer-lost").await;
        cloud.fail("PutObject", Fault::AnswerLost, 1);
        let version = put(&store, "one", &Condition::Absent).await.expect("created");
        assert_eq!(cloud.requests("PutObject"), 2);
        assert_eq!(store.get(KEY).await.expect("an answer").expect("an object").version, version);
        assert_conflict(put(&store, "one", &Condition::Absent).await, "answer-lost");
    });
}

#[test]
fn body_that_is_too_large_cut_off_or_damaged_is_no_object() {
    with_cloud(async |cloud| {
        let store = created(cloud, "bodies").await;
        put(&store, "one and two", &Condition::Absent).await.expect("created");
        let size = usize::try_from(LARGEST_OBJECT_BYTES).expect("a size");
        let too_large = "object s3://bodies/openid/v1/jwks is larger than 1048576 bytes, so irsad did not write it (nothing written); remove it or move it away";
        let broken = "s3:GetObject and s3:ListBucket on s3://bodies/openid/v1/jwks gave a body that is cut off or damaged (nothing written); the next pass reads it again";
        let not_aws = "s3:GetObject and s3:ListBucket on s3://bodies/openid/v1/jwks was answered by something that does not speak as AWS does (nothing written); check aws.endpointUrl and any proxy on the way";
        for (fault, sentence) in [
            (Fault::Large(size + 1), too_large),
            (Fault::Truncated, broken),
            (Fault::Damaged, broken),
            (Fault::Garbage, not_aws),
        ] {
            cloud.fail("GetObject", fault.clone(), 1);
            let result = store.get(KEY).await.map_err(|error| error.to_string());
            assert_eq!(result, Err(sentence.to_owned()), "{fault:?}");
        }
        cloud.fail("GetObject", Fault::Large(size), 1);
        assert_eq!(store.get(KEY).await.expect("an answer").map(|object| object.body.len()), Some(size));
    });
}

#[test]
fn bucket_is_made_in_its_region_and_opened_by_policy() {
    with_cloud(async |cloud| {
        for region in ["us-east-1", "eu-west-1", "us-gov-west-1"] {
            let bucket = format!("made-in-{region}");
            let store = store(cloud, region, &bucket).await;
            assert_eq!(store.observe().await, Probe::Absent, "{region}");
            store.create(None).await.expect("created");
            store.create(None).await.expect("ours already");
            let all = PublicAccessBlock {
                block_public_acls: true,
                ignore_public_acls: true,
                block_public_policy: true,
                restrict_public_buckets: true,
            };
            let new = BucketState { public_access_block: Probe::Present(all), policy: Probe::Absent };
            assert_eq!(store.observe().await, Probe::Present(new), "{region}");
            store.put_public_access_block(PublicAccessBlock::FOR_PUBLIC_DOCUMENTS).await.expect("unblocked");
            store.put_policy(&public_policy(&bucket)).await.expect("a policy");
            let open = BucketState {
                public_access_block: Probe::Present(PublicAccessBlock::FOR_PUBLIC_DOCUMENTS),
                policy: Probe::Present(public_policy(&bucket)),
            };
            assert_eq!(store.observe().await, Probe::Present(open), "{region}");
        }
    });
}

#[test]
fn private_bucket_blocks_all_access_keeps_versions_and_serves_no_documents() {
    with_cloud(async |cloud| {
        let (aws, bucket) = (connect(cloud, "eu-west-1").await, "private".parse().expect("a bucket name"));
        let store = S3Store::private(&aws, &bucket, &account());
        store.create(None).await.expect("created");
        assert_eq!(store.observe_versioning().await, Probe::Absent);
        store.put_public_access_block(PublicAccessBlock::ALL).await.expect("blocked");
        store.enable_versioning().await.expect("versions");
        let place = KeyringBucket { partition: Partition::Commercial, bucket: &bucket, prefix: "prod-1" };
        let policy = place.policy(None, "Irsadprod").expect("a policy").expect("a text");
        // It opens nothing, so that the block does not refuse it.
        store.put_policy(&policy).await.expect("a policy");
        let all = BucketState {
            public_access_block: Probe::Present(PublicAccessBlock::ALL),
            policy: Probe::Present(policy.clone()),
        };
        assert_eq!(store.observe().await, Probe::Present(all));
        assert_eq!(store.observe_versioning().await, Probe::Present(true));
        assert_eq!(place.policy(Some(&policy), "Irsadprod").expect("a policy"), None, "nothing left to do");

        let proofs = join_all(["a", "b", "c"].map(|nonce| prove(&store, "prod-1/proof", nonce))).await;
        assert!(proofs.iter().all(Result::is_ok), "{proofs:?}");
        let denied = "User is not authorized to perform this action with an explicit deny in a resource-based policy";
        let first = store.put("prod-1/keys/kid", b"sealed", &Condition::Absent).await.expect("created");
        let overwritten = store.put("prod-1/keys/kid", b"other", &Condition::Unchanged(first)).await;
        let sentence = format!(
            "s3:PutObject on s3://private/prod-1/keys/kid is not allowed to this node (nothing written); `irsad iam-policy` prints the statement to attach to its role: HTTP 403 AccessDenied: {denied}"
        );
        assert_eq!(overwritten.map_err(|error| in_full(&error)), Err(sentence));
        let state = store.put("prod-1/state.json", b"1", &Condition::Absent).await.expect("created");
        store.put("prod-1/state.json", b"2", &Condition::Unchanged(state)).await.expect("replaced");
        let (public, key) = (created(cloud, "public").await, "prod-1/keys/kid");
        public.put(key, b"sealed", &Condition::Absent).await.expect("created");
        assert_eq!(cloud.last_served("private"), (Some("application/octet-stream".to_owned()), None));
        let served = ("application/json", "public, max-age=300");
        assert_eq!(cloud.last_served("public"), (Some(served.0.to_owned()), Some(served.1.to_owned())));
    });
}

/// However the call ends, the bucket is known as ours as soon as it is there.
#[test]
fn bucket_has_its_tag_from_the_call_that_creates_it() {
    with_cloud(async |cloud| -> Result<(), Box<dyn Error>> {
        let owner = ("irsad/cluster".to_owned(), "prod-1".to_owned());
        for (region, bucket, loses_answer) in [
            ("eu-west-1", "tagged", false),
            ("us-east-1", "tagged-by-default", false),
            ("eu-west-1", "tagged-unheard", true),
        ] {
            let store = S3Store::new(&connect(cloud, region).await, &bucket.parse()?, &account());
            if loses_answer {
                cloud.fail("CreateBucket", Fault::AnswerLost, 99);
                store.create(Some(&owner)).await.expect_err("no answer");
            } else {
                store.create(Some(&owner)).await?;
            }
            let Probe::Present(content) = store.observe_content(&owner).await else { return Err(bucket.into()) };
            assert!(content.is_ours, "{bucket}");
            let other = (owner.0.clone(), "prod-2".to_owned());
            let Probe::Present(content) = store.observe_content(&other).await else { return Err(bucket.into()) };
            assert!(!content.is_ours, "{bucket}");
        }
        Ok(())
    });
}

#[test]
fn provider_of_another_url_that_leads_into_a_bucket_is_found_in_the_account() {
    with_cloud(async |cloud| -> Result<(), Box<dyn Error>> {
        let iam = Iam::new(&connect(cloud, "eu-west-1").await);
        let arn = |issuer: &str| format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}");
        let own = arn("irsad-pointed-at.s3.eu-west-1.amazonaws.com");
        let others =
            ["s3.eu-west-1.amazonaws.com/irsad-pointed-at", "irsad-pointed-at.s3.dualstack.eu-west-1.amazonaws.com/a"];
        for arn in [own.clone(), arn(others[0]), arn(others[1])] {
            let issuer = arn.split_once('/').map(|(_, issuer)| format!("https://{issuer}")).unwrap_or_default();
            iam.create(&arn, &issuer.parse()?, &[audience("a")], &tags()).await?;
        }
        let mut found = providers_in(&iam.providers().await?, &"irsad-pointed-at".parse()?, &own);
        found.sort();
        let mut expected = others.map(arn);
        expected.sort();
        assert_eq!(found, expected);
        let denied = Fault::not_authorized("iam:ListOpenIDConnectProviders", "*");
        cloud.fail("ListOpenIDConnectProviders", denied, 1);
        let sentence = "iam:ListOpenIDConnectProviders on * is not allowed to this node (nothing written); `irsad iam-policy --part teardown` prints the statement to attach to its role";
        assert_eq!(iam.providers().await.map_err(|error| error.to_string()), Err(sentence.to_owned()));
        Ok(())
    });
}

/// From nothing to a closed bucket with versions and policy, by the planner's actions alone, in their order.
#[test]
fn keyring_bucket_is_set_up_as_planned_and_then_left_alone() {
    with_cloud(async |cloud| -> Result<(), Box<dyn Error>> {
        let store = S3Store::private(&connect(cloud, "eu-west-1").await, &"planned-keys".parse()?, &account());
        let wanted = DesiredKeyringBucket {
            name: "planned-keys".parse()?,
            region: "eu-west-1".parse()?,
            prefix: "prod-1".to_owned(),
            at_own_endpoint: false,
            create: true,
            policy_sid: statement_id("prod-1"),
        };
        let passes = [
            // S3 closes a new bucket by itself, but a lost answer may have left one that somebody opens.
            vec!["create-bucket", "set-public-access-block", "enable-versioning", "set-keyring-bucket-policy"],
            vec![],
            vec!["set-public-access-block"],
            vec![],
        ];
        for (pass, expected) in passes.into_iter().enumerate() {
            if pass == 2 {
                store.put_public_access_block(PublicAccessBlock::FOR_PUBLIC_DOCUMENTS).await?;
            }
            let mut plan = Plan::default();
            let ready = keyring_bucket(&wanted, &store.observe_private().await, &mut plan);
            assert!(ready && plan.is_ready(), "{plan:?}");
            assert_eq!(plan.actions.iter().map(Action::name).collect::<Vec<_>>(), expected, "pass {pass}");
            for action in &plan.actions {
                match action {
                    Action::CreateBucket { .. } => store.create(None).await?,
                    Action::SetPublicAccessBlock { block, .. } => store.put_public_access_block(*block).await?,
                    Action::EnableVersioning { .. } => store.enable_versioning().await?,
                    Action::SetKeyringBucketPolicy { policy, .. } => store.put_policy(policy).await?,
                    other => return Err(format!("{other:?}").into()),
                }
            }
        }
        cloud.give_away("planned-keys");
        let mut plan = Plan::default();
        let ready = keyring_bucket(&wanted, &store.observe_private().await, &mut plan);
        assert!(!ready && plan.actions.is_empty() && plan.waiting_for.len() == 1, "{plan:?}");
        Ok(())
    });
}

#[test]
fn versioning_that_may_not_be_read_is_unknown() {
    with_cloud(async |cloud| {
        let store = created(cloud, "unread-versions").await;
        cloud.fail("GetBucketVersioning", Fault::not_authorized("s3:GetBucketVersioning", "arn"), 1);
        let unknown = store.observe_versioning().await;
        let sentence = "s3:GetBucketVersioning on s3://unread-versions is not allowed to this node (nothing written); ";
        assert!(matches!(&unknown, Probe::Unknown(why) if why.starts_with(sentence)), "{unknown:?}");
        cloud.fail("PutBucketVersioning", Fault::not_authorized("s3:PutBucketVersioning", "arn"), 1);
        let refused = store.enable_versioning().await.map_err(|error| error.to_string()).err().unwrap_or_default();
        assert!(refused.starts_with("s3:PutBucketVersioning on s3://unread-versions is not allowed"), "{refused}");
    });
}

#[test]
fn bucket_of_another_account_is_refused_before_any_write() {
    with_cloud(async |cloud| {
        let store = created(cloud, "foreign").await;
        cloud.give_away("foreign");
        let refused = |action: &str, place: &str| {
            format!(
                "{action} on {place} was refused (nothing written): the bucket belongs to another account than 123456789012, or this \
                 node's role may not do it; name another bucket, or attach the statement that `irsad iam-policy` prints"
            )
        };
        let observed = format!("{}: HTTP 403 AccessDenied: Access Denied", refused("s3:ListBucket", "s3://foreign"));
        assert_eq!(store.observe().await, Probe::Unknown(observed));
        let written = put(&store, "one", &Condition::Absent).await.map_err(|error| in_full(&error));
        let object = refused("s3:PutObject", "s3://foreign/openid/v1/jwks");
        assert_eq!(written, Err(format!("{object}: HTTP 403 AccessDenied: Access Denied")));
        let created = store.create(None).await.map_err(|error| error.to_string());
        let taken = "bucket foreign belongs to another account (nothing written); bucket names are shared by all of AWS, write another one into issuer.store or keyring.store";
        assert_eq!(created, Err(taken.to_owned()));
    });
}

#[test]
fn bucket_tells_its_region_to_whoever_asks_in_another_one() {
    with_cloud(async |cloud| {
        let home = created(cloud, "at-home").await;
        let eu: Region = "eu-west-1".parse().expect("a region");
        assert_eq!(home.home().await, eu);
        assert_eq!(store(cloud, "us-east-1", "at-home").await.home().await, eu);
        let elsewhere = Some("ap-south-1".to_owned());
        cloud.fail("HeadBucket", Fault::Redirected { status: 301, region: elsewhere }, 1);
        assert_eq!(home.home().await.as_str(), "ap-south-1");
    });
}

#[test]
fn bucket_in_another_region_is_named_with_its_region() {
    with_cloud(async |cloud| {
        created(cloud, "elsewhere").await;
        let store = store(cloud, "eu-central-1", "elsewhere").await;
        let sentence = |action: &str, place: &str| {
            format!(
                "{action} on {place} was refused because the bucket is in eu-west-1 (nothing written); set aws.region: eu-west-1"
            )
        };
        let observed = format!(
            "{}: HTTP 301 PermanentRedirect: The bucket you are attempting to access must be addressed using the specified endpoint.",
            sentence("s3:ListBucket", "s3://elsewhere")
        );
        assert_eq!(store.observe().await, Probe::Unknown(observed));
        let object = sentence("s3:PutObject", "s3://elsewhere/openid/v1/jwks");
        assert_eq!(
            put(&store, "one", &Condition::Absent).await.map_err(|error| error.to_string()),
            Err(object.clone())
        );
        let malformed =
            "The authorization header is malformed; the region 'eu-central-1' is wrong; expecting 'eu-west-1'";
        cloud.fail("PutObject", Fault::refused(400, "AuthorizationHeaderMalformed", malformed), 1);
        assert_eq!(put(&store, "one", &Condition::Absent).await.map_err(|error| error.to_string()), Err(object));
    });
}

/// HEAD has no body: without a second question an expired token would look like a foreign bucket.
#[test]
fn refused_look_at_a_bucket_is_explained() {
    with_cloud(async |cloud| {
        let store = created(cloud, "refused-look").await;
        cloud.fail("HeadBucket", Fault::refused(400, "ExpiredToken", ""), 1);
        cloud.fail("ListObjectsV2", Fault::refused(400, "ExpiredToken", "The provided token has expired."), 1);
        let sentence = "s3:ListBucket on s3://refused-look was refused because AWS does not take this node's credentials (nothing written); renew them, or take them out of irsad's environment and AWS profile so that the instance profile is used: HTTP 400 ExpiredToken";
        assert_eq!(store.observe().await, Probe::Unknown(sentence.to_owned()));
        cloud.fail("HeadBucket", Fault::clock_skewed(), 1);
        assert!(store.observe().await.present().is_some(), "listing shows that the bucket is ours");
    });
}

/// A policy that may not be read is not one that is missing.
#[test]
fn part_of_a_bucket_that_may_not_be_read_is_unknown() {
    with_cloud(async |cloud| {
        let store = created(cloud, "half-readable").await;
        cloud.fail("GetBucketPolicy", Fault::not_authorized("s3:GetBucketPolicy", "arn"), 1);
        let policy = store.observe().await.present().cloned().expect("a bucket").policy;
        let sentence = "s3:GetBucketPolicy on s3://half-readable is not allowed to this node (nothing written); `irsad iam-policy` prints the statement to attach to its role: HTTP 403 AccessDenied: User: arn:aws:sts::123456789012:assumed-role/control-plane/i-0 is not authorized to perform: s3:GetBucketPolicy on resource: arn because no identity-based policy allows the s3:GetBucketPolicy action";
        assert_eq!(policy, Probe::Unknown(sentence.to_owned()));
    });
}

#[test]
fn redirect_is_not_followed() {
    with_cloud(async |cloud| {
        let store = created(cloud, "redirect").await;
        let sentence = "s3:GetObject and s3:ListBucket on s3://redirect/openid/v1/jwks was answered with a redirect, which is never followed (nothing written); set aws.region to the bucket's region and check aws.endpointUrl";
        for status in [301, 307] {
            cloud.fail("GetObject", Fault::Redirected { status, region: None }, 1);
            assert_eq!(store.get(KEY).await.map_err(|error| error.to_string()), Err(sentence.to_owned()));
        }
        assert_eq!(cloud.requests("GetObject"), 2);
    });
}

#[test]
fn public_policy_that_the_account_blocks_is_explained() {
    with_cloud(async |cloud| {
        let store = created(cloud, "blocked").await;
        let sentence = "s3:PutBucketPolicy on s3://blocked was refused because S3 Block Public Access of the account or organisation forbids public policies (nothing written); set issuer.access: external and serve the documents by CloudFront, or lift BlockPublicPolicy there";
        // Blocked by the bucket itself, as every new one is.
        let refused = store.put_policy(&public_policy("blocked")).await.map_err(|error| error.to_string());
        assert_eq!(refused, Err(sentence.to_owned()));
        store.put_public_access_block(PublicAccessBlock::FOR_PUBLIC_DOCUMENTS).await.expect("unblocked");
        cloud.fail("PutBucketPolicy", Fault::account_blocks_public_policies("blocked"), 1);
        let refused = store.put_policy(&public_policy("blocked")).await.map_err(|error| error.to_string());
        assert_eq!(refused, Err(sentence.to_owned()));
    });
}

#[test]
fn refusal_is_one_sentence_with_the_cure() {
    with_cloud(async |cloud| {
        let store = created(cloud, "refusals").await;
        let call = "s3:PutObject on s3://refusals/openid/v1/jwks";
        let action = ("s3:PutObject", "arn:aws:s3:::refusals/openid/v1/jwks");
        let credentials = "was refused because AWS does not take this node's credentials (nothing written); renew them, or take them out of irsad's environment and AWS profile so that the instance profile is used";
        let busy = "found the service overloaded or failing 3 times (it may have been written); the next pass tries again, if it lasts look at the AWS Health Dashboard";
        for (fault, attempts, sentence) in [
            (
                Fault::not_authorized(action.0, action.1),
                1,
                "is not allowed to this node (nothing written); `irsad iam-policy` prints the statement to attach to its role",
            ),
            (Fault::refused(400, "ExpiredToken", "The provided token has expired."), 1, credentials),
            (Fault::refused(403, "InvalidAccessKeyId", "The key does not exist in our records."), 1, credentials),
            (
                Fault::clock_skewed(),
                1,
                "was refused because this node's clock is wrong (nothing written); set the clock, `chronyc tracking` shows how far it is off",
            ),
            (Fault::slow_down(), 3, busy),
            (Fault::internal_error(), 3, busy),
            (
                Fault::refused(404, "NoSuchBucket", "The specified bucket does not exist"),
                1,
                "found no such bucket (nothing written); create it, or set issuer.createBucket: true and let irsad do it",
            ),
            (
                Fault::refused(400, "InvalidRequest", "No."),
                1,
                "failed with InvalidRequest (nothing written); the AWS API reference of the call explains the code, the next pass tries again",
            ),
        ] {
            let before = cloud.requests("PutObject");
            cloud.fail("PutObject", fault.clone(), attempts);
            let result = put(&store, "one", &Condition::Absent).await.map_err(|error| error.to_string());
            assert_eq!(result, Err(format!("{call} {sentence}")), "{fault:?}");
            assert_eq!(cloud.requests("PutObject") - before, attempts, "{fault:?}");
        }
        put(&store, "one", &Condition::Absent).await.expect("created after all");
    });
}

#[test]
fn short_failure_of_the_service_is_not_noticed() {
    with_cloud(async |cloud| {
        let store = created(cloud, "short-failure").await;
        for fault in
            [Fault::slow_down(), Fault::internal_error(), Fault::AnswerLost, Fault::Slow(Duration::from_millis(20))]
        {
            cloud.fail("GetObject", fault, 1);
            assert_eq!(store.get(KEY).await.expect("an answer"), None);
        }
    });
}

/// The SDK takes the time from AWS's own answer and signs again.
#[test]
fn wrong_clock_does_not_keep_us_from_aws() {
    with_cloud(async |cloud| {
        let store = created(cloud, "wrong-clock").await;
        cloud.fail("PutObject", Fault::ClockOff, 1);
        put(&store, "one", &Condition::Absent).await.expect("created");
        assert_eq!(cloud.requests("PutObject"), 2);
    });
}

#[test]
fn aws_that_cannot_be_reached_is_named() {
    if !alone::is_alone() {
        return alone::run("aws_stores::aws_that_cannot_be_reached_is_named", &alone::credentials());
    }
    alone::block_on(async {
        let endpoints = Endpoints { all: "http://127.0.0.1:1".to_owned(), ..Endpoints::default() };
        let aws = aws::connect(&"eu-west-1".parse().expect("a region"), endpoints).await;
        let error = aws::identity(&aws).await.expect_err("no listener");
        let sentence = "cannot reach AWS for sts:GetCallerIdentity on this node's own credentials (nothing written); check this node's DNS, routes, HTTPS_PROXY and NO_PROXY, the next pass tries again";
        assert_eq!(error.to_string(), sentence);
        assert!(in_full(&error).ends_with("Connection refused (os error 111)"), "{}", in_full(&error));
    });
}

fn issuer(name: &str) -> (IssuerUrl, String) {
    let issuer: IssuerUrl = format!("https://{name}.example.com/cluster").parse().expect("an issuer");
    let arn = oidc_provider_arn(Partition::Commercial, &account(), &issuer);
    (issuer, arn)
}

fn audience(text: &str) -> Audience {
    text.parse().expect("an audience")
}

fn tags() -> BTreeMap<String, String> {
    BTreeMap::from([("irsad/cluster".to_owned(), "prod-1".to_owned())])
}

#[test]
fn provider_is_made_with_its_tags_and_gets_audiences() {
    with_cloud(async |cloud| {
        let (iam, (issuer, arn)) = (Iam::new(&connect(cloud, "eu-west-1").await), issuer("made"));
        assert_eq!(iam.observe(&arn).await, Probe::Absent);
        iam.create(&arn, &issuer, &[audience("sts.amazonaws.com")], &tags()).await.expect("created");
        iam.create(&arn, &issuer, &[audience("other")], &tags()).await.expect("there already");
        let found = iam.observe(&arn).await.present().cloned().expect("a provider");
        assert_eq!(
            (found.url.as_str(), found.audiences.as_slice()),
            ("made.example.com/cluster", &["sts.amazonaws.com".to_owned()][..])
        );
        assert_eq!((found.tags, found.thumbprints), (tags(), vec![]));
        iam.add_audience(&arn, &audience("openshift")).await.expect("added");
        iam.add_audience(&arn, &audience("openshift")).await.expect("there already");
        let found = iam.observe(&arn).await.present().cloned().expect("a provider");
        assert_eq!(found.audiences, ["sts.amazonaws.com", "openshift"]);
        assert_eq!(cloud.requests("CreateOpenIDConnectProvider"), 2);
    });
}

#[test]
fn refusal_of_iam_is_one_sentence_with_the_cure() {
    with_cloud(async |cloud| {
        let (iam, (issuer, arn)) = (Iam::new(&connect(cloud, "eu-west-1").await), issuer("refused"));
        let create = format!("iam:CreateOpenIDConnectProvider and iam:TagOpenIDConnectProvider on {arn}");
        let add = format!("iam:AddClientIDToOpenIDConnectProvider on {arn}");
        let get = format!("iam:GetOpenIDConnectProvider on {arn}");
        let denied = "is not allowed to this node (nothing written); `irsad iam-policy` prints the statement to attach to its role";
        let fault = || Fault::not_authorized("iam:X", "arn");
        let limit = || Fault::refused(409, "LimitExceeded", "Cannot exceed quota.");

        cloud.fail("CreateOpenIDConnectProvider", fault(), 1);
        let refused = iam.create(&arn, &issuer, &[], &tags()).await.map_err(|error| error.to_string());
        assert_eq!(refused, Err(format!("{create} {denied}")));
        cloud.fail("CreateOpenIDConnectProvider", limit(), 1);
        let refused = iam.create(&arn, &issuer, &[], &tags()).await.map_err(|error| error.to_string());
        let quota = "would be one OIDC provider more than the account's quota, 100 unless raised (nothing written); delete a provider that no cluster uses, or raise the quota in Service Quotas";
        assert_eq!(refused, Err(format!("{create} {quota}")));
        cloud.fail("AddClientIDToOpenIDConnectProvider", limit(), 1);
        let refused = iam.add_audience(&arn, &audience("a")).await.map_err(|error| error.to_string());
        let quota = "would be one audience more than IAM allows for a provider (nothing written); take an audience out of provider.audiences, or remove an unused one from the provider";
        assert_eq!(refused, Err(format!("{add} {quota}")));
        cloud.fail("GetOpenIDConnectProvider", fault(), 1);
        let cause = "User: arn:aws:sts::123456789012:assumed-role/control-plane/i-0 is not authorized to perform: iam:X on resource: arn because no identity-based policy allows the iam:X action";
        assert_eq!(iam.observe(&arn).await, Probe::Unknown(format!("{get} {denied}: HTTP 403 AccessDenied: {cause}")));
        assert_eq!(iam.observe(&arn).await, Probe::Absent);
    });
}

/// IAM and STS repeat what they compared where a signature is wrong, session token included.
#[test]
fn session_token_in_a_refusal_is_not_repeated() {
    with_cloud(async |cloud| {
        let iam = Iam::new(&connect(cloud, "eu-west-1").await);
        let message = "The Canonical String should have been 'POST / x-amz-security-token:TOKEN'";
        cloud.fail("GetOpenIDConnectProvider", Fault::refused(403, "SignatureDoesNotMatch", message), 1);
        let sentence = "iam:GetOpenIDConnectProvider on arn was refused because AWS does not take this node's credentials (nothing written); renew them, or take them out of irsad's environment and AWS profile so that the instance profile is used: HTTP 403 SignatureDoesNotMatch";
        assert_eq!(iam.observe("arn").await, Probe::Unknown(sentence.to_owned()));
    });
}

/// An audience for a provider that has gone meanwhile.
#[test]
fn audience_for_no_provider_fails() {
    with_cloud(async |cloud| {
        let (iam, (_, arn)) = (Iam::new(&connect(cloud, "eu-west-1").await), issuer("none"));
        let refused: Result<(), AwsError> = iam.add_audience(&arn, &audience("a")).await;
        let sentence = format!(
            "iam:AddClientIDToOpenIDConnectProvider on {arn} found that what it names does not exist (nothing written); it is looked at \
             again, if it lasts create it or correct its name"
        );
        assert_eq!(refused.map_err(|error| error.to_string()), Err(sentence));
    });
}

#[test]
fn node_without_credentials_is_told_so() {
    let name = "aws_stores::node_without_credentials_is_told_so";
    if !alone::is_alone() {
        return alone::run(name, &[("AWS_EC2_METADATA_DISABLED", "true".to_owned())]);
    }
    alone::block_on(async {
        let endpoints = Endpoints { all: "http://127.0.0.1:1".to_owned(), ..Endpoints::default() };
        let aws = aws::connect(&"eu-west-1".parse().expect("a region"), endpoints).await;
        let error = aws::identity(&aws).await.expect_err("no credentials");
        let sentence = "found no AWS credentials for sts:GetCallerIdentity on this node's own credentials (nothing written); attach an instance profile to this node, and where HTTP_PROXY is set put 169.254.169.254 into NO_PROXY";
        assert_eq!(error.to_string(), sentence, "{}", in_full(&error));
    });
}

#[test]
fn node_without_instance_metadata_is_told_to_name_its_region() {
    let name = "aws_stores::node_without_instance_metadata_is_told_to_name_its_region";
    if !alone::is_alone() {
        return alone::run(name, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1".to_owned())]);
    }
    let error = alone::block_on(aws::region_from_instance()).expect_err("no listener");
    let sentence = "cannot learn the region from the instance metadata service (nothing changed); set aws.region, or switch IMDSv2 on for this instance, and where HTTP_PROXY is set put 169.254.169.254 into NO_PROXY";
    assert_eq!(error.to_string(), sentence);
}

/// Region and credentials from the instance metadata, AWS by its real host names, all of it through `HTTPS_PROXY`, TLS by the
/// CA of `SSL_CERT_FILE`.
#[test]
fn instance_behind_a_proxy_needs_no_aws_settings() {
    let name = "aws_stores::instance_behind_a_proxy_needs_no_aws_settings";
    if !alone::is_alone() {
        let Some(cloud) = Cloud::start() else { return };
        alone::run(name, &cloud.environment());
        for operation in [
            "InstanceMetadata",
            "GetCallerIdentity",
            "CreateBucket",
            "PutObject",
            "GetOpenIDConnectProvider",
            "GenerateDataKey",
        ] {
            assert!(
                cloud.requests(operation) > 0,
                "{operation} did not come through the proxy: {:?}",
                cloud.all_requests()
            );
        }
        return;
    }
    alone::block_on(async {
        let region: Region = aws::region_from_instance().await.expect("a region");
        assert_eq!(region.as_str(), INSTANCE_REGION);
        let aws = aws::connect(&region, Endpoints::default()).await;
        let identity = aws::identity(&aws).await.expect("an identity");
        assert_eq!(identity, Identity { account: account(), partition: Partition::Commercial });
        let store = S3Store::new(&aws, &"behind-a-proxy".parse().expect("a bucket name"), &identity.account);
        store.create(None).await.expect("created");
        put(&store, "one", &Condition::Absent).await.expect("an object");
        assert_eq!(store.get(KEY).await.expect("an answer").map(|object| object.body), Some(b"one".to_vec()));
        assert_eq!(Iam::new(&aws).observe(&issuer("behind-a-proxy").1).await, Probe::Absent);
        let kid = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".parse().expect("a key id");
        let kms = Kms::new(&aws, &"alias/behind-a-proxy".parse().expect("an alias"));
        let refused = kms.data_key(&SealContext { cluster: "prod-1", kid: &kid }).await.err();
        assert!(matches!(refused, Some(KmsError::Refused { refusal: Refusal::NotFound, .. })), "{refused:?}");
    });
}
