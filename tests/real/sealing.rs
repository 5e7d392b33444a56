//! Private halves sealed by KMS, in a private bucket: what is written, what opens, and what every refusal says.

use std::error::Error;

use futures_util::future::join_all;
use irsad::{
    aws::{
        self, AwsConfig, Endpoints,
        kms::{Kms, KmsError, Refusal},
        s3::S3Store,
    },
    model::{
        key::{Kid, SigningKey},
        probe::sentence,
        sealed::{NONCE_BYTES, PrivateHalf, SealContext, Sealed},
    },
    private_keys::PrivateKeys,
    store::{Condition, Store},
};
use serde_json::json;

use crate::{
    alone::with_cloud,
    cloud::{
        ACCOUNT, Cloud, Fault,
        client::{administer, new_kms_key},
    },
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Test keys, used nowhere else.
const TEST_KEY: &str = include_str!("../fixtures/test-keys/p256.pkcs8.pem");
const OTHER_TEST_KEY: &str = include_str!("../fixtures/test-keys/rsa-2048.pkcs8.pem");

fn test_key(pem: &str) -> Result<SigningKey> {
    Ok(SigningKey::read(pem.as_bytes())?)
}

async fn connect(cloud: &Cloud) -> Result<AwsConfig> {
    let endpoints = Endpoints { all: cloud.endpoint_url(), ..Endpoints::default() };
    Ok(aws::connect(&"eu-west-1".parse()?, endpoints).await)
}

async fn kms(cloud: &Cloud, key: &str) -> Result<Kms> {
    Ok(Kms::new(&connect(cloud).await?, &key.parse()?))
}

async fn private_bucket(cloud: &Cloud, name: &str) -> Result<S3Store> {
    let store = S3Store::private(&connect(cloud).await?, &name.parse()?, &ACCOUNT.parse()?);
    store.create(None).await?;
    Ok(store)
}

/// Seals a test key under a new data key of `from` and opens it with what `to` unwraps for `context`.
async fn opened(from: &Kms, to: &Kms, context: &SealContext<'_>) -> Result<Kid> {
    let key = test_key(TEST_KEY)?;
    let own = SealContext { cluster: "prod-1", kid: key.kid() };
    let sealed = Sealed::seal(from.data_key(&own).await?, [0; NONCE_BYTES], &own, TEST_KEY)?;
    let data_key = to.unwrap(sealed.wrapped_key(&own)?, context).await?;
    Ok(sealed.open(&data_key, &own)?.kid().clone())
}

fn refusal(error: &(dyn Error + 'static)) -> Option<Refusal> {
    match error.downcast_ref() {
        Some(KmsError::Refused { refusal, .. }) => Some(*refusal),
        Some(KmsError::Aws(_)) | None => None,
    }
}

#[test]
fn data_key_is_unwrapped_by_its_own_kms_key_for_its_own_cluster_and_key_id() {
    with_cloud(async |cloud| -> Result {
        let (arn, other) = (new_kms_key(cloud).await?, new_kms_key(cloud).await?);
        administer(cloud, "CreateAlias", json!({ "AliasName": "alias/contexts", "TargetKeyId": arn })).await?;
        let id = arn.rsplit('/').next().ok_or("an id")?.to_owned();
        let alias = arn.replace(&format!("key/{id}"), "alias/contexts");
        let (key, another) = (test_key(TEST_KEY)?, test_key(OTHER_TEST_KEY)?);
        let own = SealContext { cluster: "prod-1", kid: key.kid() };
        let by_arn = kms(cloud, &arn).await?;
        for name in [&arn, &id, &alias, "alias/contexts"] {
            let named = kms(cloud, name).await?;
            assert_eq!(opened(&named, &by_arn, &own).await?, *key.kid(), "sealed by {name}");
            assert_eq!(opened(&by_arn, &named, &own).await?, *key.kid(), "opened by {name}");
        }
        let message = format!(
            "kms:Decrypt on {arn} does not unwrap the data key (nothing written): it was made for another key id or cluster, or it is damaged; put its object back from a backup, or from an older version"
        );
        for context in [SealContext { cluster: "prod-2", ..own }, SealContext { kid: another.kid(), ..own }] {
            let refused = opened(&by_arn, &by_arn, &context).await.err().ok_or("refused")?;
            assert_eq!((refusal(&*refused), refused.to_string()), (Some(Refusal::WrongContext), message.clone()));
        }
        let refused = opened(&by_arn, &kms(cloud, &other).await?, &own).await.err().ok_or("refused")?;
        let message = format!(
            "kms:Decrypt on {other} does not unwrap the data key (nothing written), because another KMS key has wrapped it; set keyring.kmsKey to the one that its object names as kmsKey"
        );
        assert_eq!((refusal(&*refused), refused.to_string()), (Some(Refusal::OtherKey), message));
        Ok(())
    });
}

/// Sentence and cause of what KMS says to both calls.
async fn refused(kms: &Kms, wrapped: &[u8], context: &SealContext<'_>) -> [String; 2] {
    let text = |error: Option<KmsError>| error.map(|error| sentence(&error)).unwrap_or_default();
    // Side by side: each may wait before it asks again.
    let (made, unwrapped) = tokio::join!(kms.data_key(context), kms.unwrap(wrapped, context));
    [text(made.err()), text(unwrapped.err())]
}

#[test]
fn key_that_is_disabled_deleted_or_missing_is_named_with_the_cure() {
    with_cloud(async |cloud| -> Result {
        let (arn, key) = (new_kms_key(cloud).await?, test_key(TEST_KEY)?);
        let context = SealContext { cluster: "prod-1", kid: key.kid() };
        let kms_key = kms(cloud, &arn).await?;
        let wrapped = kms_key.data_key(&context).await?.wrapped;
        let both = |said: &str| ["kms:GenerateDataKey", "kms:Decrypt"].map(|call| format!("{call} on {said}"));

        // moto takes no ARN in these three.
        let id = json!({ "KeyId": arn.rsplit('/').next() });
        administer(cloud, "DisableKey", id.clone()).await?;
        let said = format!(
            "{arn} was refused because the key is disabled (nothing written); enable it: aws kms enable-key --key-id {arn}: HTTP 400 DisabledException: {arn} is disabled."
        );
        assert_eq!(refused(&kms_key, &wrapped, &context).await, both(&said));
        administer(cloud, "EnableKey", id.clone()).await?;
        assert!(kms_key.unwrap(&wrapped, &context).await.is_ok(), "nothing is lost by disabling it");

        administer(cloud, "ScheduleKeyDeletion", id).await?;
        let said = format!(
            "{arn} was refused because of the key's state or use (nothing written); look at it with aws kms describe-key --key-id {arn}: cancel a pending deletion, or name a symmetric key in keyring.kmsKey: HTTP 400 KMSInvalidStateException: {arn} is pending deletion."
        );
        assert_eq!(refused(&kms_key, &wrapped, &context).await, both(&said));

        let said = "alias/never-made found no such key (nothing written); correct keyring.kmsKey, or make the key or alias in the region of aws.region: HTTP 400 NotFoundException: Alias arn:aws:kms:eu-west-1:123456789012:alias/never-made is not found.";
        assert_eq!(refused(&kms(cloud, "alias/never-made").await?, &wrapped, &context).await, both(said));
        Ok(())
    });
}

#[test]
fn refusal_of_kms_says_what_to_do() {
    with_cloud(async |cloud| -> Result {
        let (arn, key) = (new_kms_key(cloud).await?, test_key(TEST_KEY)?);
        let (kms, context) = (kms(cloud, &arn).await?, SealContext { cluster: "prod-1", kid: key.kid() });
        let wrapped = kms.data_key(&context).await?.wrapped;
        let denied = "User: arn:aws:sts::123456789012:assumed-role/control-plane/i-0 is not authorized to perform it";
        let said = |text: &str| format!("{text}: HTTP");
        for (fault, attempts, text) in [
            (
                Fault::refused(400, "AccessDeniedException", denied),
                1,
                said(
                    "is not allowed to this node (nothing written); attach the statement that `irsad iam-policy` prints to its role, and let the key's own policy admit that role, or the account and so its IAM policies",
                ) + &format!(" 400 AccessDeniedException: {denied}"),
            ),
            (
                Fault::refused(400, "ThrottlingException", "Rate exceeded"),
                3,
                said(
                    "was throttled in each of 3 attempts (nothing written); the next pass tries again, if it lasts see who else uses KMS in this account and raise its request quota",
                ) + " 400 ThrottlingException: Rate exceeded",
            ),
            (
                Fault::refused(500, "KMSInternalException", "try again"),
                3,
                said(
                    "found the service overloaded or failing 3 times (nothing written); the next pass tries again, if it lasts look at the AWS Health Dashboard",
                ) + " 500 KMSInternalException: try again",
            ),
            (
                Fault::refused(400, "ExpiredTokenException", "The security token is expired"),
                1,
                said(
                    "was refused because AWS does not take this node's credentials (nothing written); renew them, or take them out of irsad's environment and AWS profile so that the instance profile is used",
                ) + " 400 ExpiredTokenException",
            ),
        ] {
            for operation in ["GenerateDataKey", "Decrypt"] {
                cloud.fail(operation, fault.clone(), attempts);
            }
            let before = (cloud.requests("GenerateDataKey"), cloud.requests("Decrypt"));
            let expected = ["kms:GenerateDataKey", "kms:Decrypt"].map(|call| format!("{call} on {arn} {text}"));
            assert_eq!(refused(&kms, &wrapped, &context).await, expected);
            let asked = (cloud.requests("GenerateDataKey"), cloud.requests("Decrypt"));
            assert_eq!(asked, (before.0 + attempts, before.1 + attempts), "{fault:?}");
        }
        Ok(())
    });
}

#[test]
fn kms_that_cannot_be_reached_or_does_not_speak_is_told_from_one_that_refuses() {
    with_cloud(async |cloud| -> Result {
        let (arn, key) = (new_kms_key(cloud).await?, test_key(TEST_KEY)?);
        let context = SealContext { cluster: "prod-1", kid: key.kid() };
        let endpoints =
            Endpoints { all: cloud.endpoint_url(), kms: "http://127.0.0.1:1".to_owned(), ..Endpoints::default() };
        let nobody = Kms::new(&aws::connect(&"eu-west-1".parse()?, endpoints).await, &arn.parse()?);
        let error = nobody.data_key(&context).await.err().ok_or("refused")?;
        let text = "cannot reach AWS for kms:GenerateDataKey on {arn} (nothing written); check this node's DNS, routes, HTTPS_PROXY and NO_PROXY, the next pass tries again";
        assert_eq!(error.to_string(), text.replace("{arn}", &arn));
        cloud.fail("GenerateDataKey", Fault::Garbage, 1);
        let error = kms(cloud, &arn).await?.data_key(&context).await.err().ok_or("refused")?;
        let text = "kms:GenerateDataKey on {arn} was answered by something that does not speak as AWS does (nothing written); check aws.endpointUrl and any proxy on the way";
        assert_eq!(error.to_string(), text.replace("{arn}", &arn));
        Ok(())
    });
}

/// The cloud notes every private key that leaves without a seal, so that this test need not look for one.
#[test]
fn private_half_in_s3_is_sealed_for_one_key_of_one_cluster() {
    with_cloud(async |cloud| -> Result {
        let (arn, store) = (new_kms_key(cloud).await?, private_bucket(cloud, "sealed-halves").await?);
        let (key, other) = (test_key(TEST_KEY)?, test_key(OTHER_TEST_KEY)?);
        let keys = PrivateKeys::new("prod-1", "a", Some(kms(cloud, &arn).await?));
        for key in [&key, &other] {
            keys.keep(&store, key).await?;
            keys.keep(&store, key).await?;
            let fetched = keys.fetch(&store, key.kid()).await?;
            assert_eq!((fetched.key.to_pem()?, fetched.notice), (key.to_pem()?, None));
        }
        assert_eq!(cloud.requests("GenerateDataKey"), 2, "a key that is kept is not sealed anew");
        let path = format!("a/keys/{}", key.kid());
        let body = store.get(&path).await?.ok_or("an object")?.body;
        let PrivateHalf::Sealed(sealed) = PrivateHalf::parse(&body)? else { return Err("not sealed".into()) };
        assert_eq!(sealed.kms_key(), arn);

        // Laid into another cluster's place as it is, then with that cluster's name written into it.
        let elsewhere = PrivateKeys::new("prod-2", "b", Some(kms(cloud, &arn).await?));
        let renamed = String::from_utf8(body.clone())?.replace("\"prod-1\"", "\"prod-2\"");
        for (prefix, body, message) in [
            (
                "b",
                body.as_slice(),
                format!(
                    "cannot use b/keys/{0} in s3://sealed-halves (nothing changed): it is sealed for key {0} of cluster prod-1, so objects have been exchanged; put the right one back from a backup, or from an older version of the object",
                    key.kid()
                ),
            ),
            (
                "c",
                renamed.as_bytes(),
                format!(
                    "cannot open c/keys/{} in s3://sealed-halves (nothing changed): kms:Decrypt on {arn} does not unwrap the data key (nothing written): it was made for another key id or cluster, or it is damaged; put its object back from a backup, or from an older version: HTTP 400 InvalidCiphertextException",
                    key.kid()
                ),
            ),
        ] {
            store.put(&format!("{prefix}/keys/{}", key.kid()), body, &Condition::Absent).await?;
            let keys = if prefix == "b" {
                elsewhere.clone()
            } else {
                PrivateKeys::new("prod-2", "c", Some(kms(cloud, &arn).await?))
            };
            let refused = keys.fetch(&store, key.kid()).await.map_err(|error| sentence(&error));
            assert_eq!(refused.map(|fetched| fetched.notice), Err(message));
        }
        Ok(())
    });
}

#[test]
fn nodes_that_keep_one_key_at_once_keep_it_once() {
    with_cloud(async |cloud| -> Result {
        let (arn, store) = (new_kms_key(cloud).await?, private_bucket(cloud, "kept-at-once").await?);
        let (key, keys) = (test_key(TEST_KEY)?, PrivateKeys::new("prod-1", "", Some(kms(cloud, &arn).await?)));
        for kept in join_all((0..4).map(|_| keys.keep(&store, &key))).await {
            kept?;
        }
        assert_eq!(store.list("").await?, [format!("keys/{}", key.kid())]);
        Ok(())
    });
}

/// Otherwise it would publish a standby that no node can put to use.
#[test]
fn node_that_may_seal_but_not_open_learns_it_when_it_keeps_the_key() {
    with_cloud(async |cloud| -> Result {
        let (arn, store) = (new_kms_key(cloud).await?, private_bucket(cloud, "may-not-open").await?);
        let (key, keys) = (test_key(TEST_KEY)?, PrivateKeys::new("prod-1", "", Some(kms(cloud, &arn).await?)));
        cloud.fail("Decrypt", Fault::refused(400, "AccessDeniedException", "no"), 1);
        let refused = keys.keep(&store, &key).await.map_err(|error| sentence(&error));
        let message = format!(
            "cannot open keys/{} in s3://may-not-open (nothing changed): kms:Decrypt on {arn} is not allowed to this node (nothing written); attach the statement that `irsad iam-policy` prints to its role, and let the key's own policy admit that role, or the account and so its IAM policies: HTTP 400 AccessDeniedException: no",
            key.kid()
        );
        assert_eq!(refused, Err(message));
        keys.keep(&store, &key).await?;
        cloud.fail("GenerateDataKey", Fault::refused(400, "AccessDeniedException", "no"), 1);
        let other = test_key(OTHER_TEST_KEY)?;
        let refused = keys.keep(&store, &other).await.map_err(|error| error.to_string());
        let message = format!("cannot seal keys/{} in s3://may-not-open (nothing written)", other.kid());
        assert_eq!((refused, store.list("").await?.len()), (Err(message), 1));
        Ok(())
    });
}
