//! Calls to AWS as the metrics count them.

use std::time::Duration;

use irsad::{
    aws::{self, Endpoints, calls::Calls, iam::Iam, s3::S3Store},
    store::{Condition, Store as _},
};
use tokio::time::timeout;

use crate::{
    alone::with_cloud,
    cloud::{ACCOUNT, Fault},
};

/// `SERVICE OPERATION RESULT NUMBER` of all calls so far.
fn counted(calls: &Calls) -> Vec<String> {
    let line = |(call, number): (_, u64)| {
        let irsad::model::metrics::aws::AwsCall { service, operation, result } = call;
        format!("{service} {operation} {result:?} {number}")
    };
    calls.counted().into_iter().map(line).collect()
}

#[test]
fn every_call_is_counted_once_by_its_end_with_all_its_attempts() {
    with_cloud(async |cloud| {
        let calls = Calls::default();
        let endpoints = Endpoints { all: cloud.endpoint_url(), ..Endpoints::default() };
        let aws = aws::connect(&"eu-west-1".parse().expect("a region"), endpoints).await.counting(&calls);
        aws::identity(&aws).await.expect("an identity");
        let iam = Iam::new(&aws);
        let arn = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.example.com");
        iam.observe(&arn).await;
        cloud.fail("GetOpenIDConnectProvider", Fault::not_authorized("iam:GetOpenIDConnectProvider", &arn), 1);
        iam.observe(&arn).await;
        let store = S3Store::new(&aws, &"counted".parse().expect("a name"), &ACCOUNT.parse().expect("an account"));
        store.create(None).await.expect("a bucket");
        cloud.fail("PutObject", Fault::internal_error(), 2);
        store.put("a", b"one", &Condition::Absent).await.expect("done in the third attempt");
        store.put("a", b"two", &Condition::Absent).await.expect_err("it is there");
        for (fault, attempts) in [(Fault::slow_down(), 3), (Fault::Garbage, 1)] {
            cloud.fail("ListObjectsV2", fault, attempts);
            store.list("").await.expect_err("a refusal");
        }
        // Given up by its caller before there is an answer.
        cloud.fail("GetObject", Fault::Slow(Duration::from_secs(60)), 1);
        timeout(Duration::from_millis(300), store.get("a")).await.expect_err("no time is left");
        let counted = counted(&calls);
        let expected = [
            "IAM GetOpenIDConnectProvider Absent 1",
            "IAM GetOpenIDConnectProvider Denied 1",
            "S3 CreateBucket Ok 1",
            "S3 GetObject NoAnswer 1",
            "S3 ListObjectsV2 Throttled 1",
            "S3 ListObjectsV2 Failed 1",
            "S3 PutObject Ok 1",
            "S3 PutObject Conflict 1",
            "STS GetCallerIdentity Ok 1",
        ];
        for line in expected {
            assert!(counted.iter().any(|found| found == line), "{line} is missing in {counted:#?}");
        }
    });
}
