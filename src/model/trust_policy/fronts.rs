//! Whether something in front of a bucket may read the documents by the bucket's policy.

use serde_json::Value;

use super::{
    PublicObjects, read,
    web_identity::{is_like, texts},
};
use crate::model::{location::BucketName, region::Partition};

/// Whether the bucket policy `text` lets everybody, or CloudFront, read each of the objects `keys`. A condition may narrow that down to
/// one front.
pub fn lets_a_front_read(text: &str, partition: Partition, bucket: &BucketName, keys: &[String; 2]) -> bool {
    let Ok((_, list)) = read(text) else { return false };
    let reads = |statement: &Value, arn: &str| {
        let principal = &statement["Principal"];
        let named = [&principal["AWS"], &principal["Service"]].map(texts).concat();
        let is_front = |name: &String| {
            name == "*" || name == "cloudfront.amazonaws.com" || name.contains(":iam::cloudfront:user/")
        };
        let may_read = |action: &String| is_like(&action.to_ascii_lowercase(), "s3:getobject");
        statement["Effect"] == "Allow"
            && (principal == "*" || named.iter().any(is_front) || principal["CanonicalUser"] != Value::Null)
            && texts(&statement["Action"]).iter().any(may_read)
            && texts(&statement["Resource"]).iter().any(|resource| is_like(resource, arn))
    };
    let arns = PublicObjects { partition, bucket, keys }.arns();
    arns.iter().all(|arn| list.iter().any(|statement| reads(statement, arn)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn front_reads_by_the_policy_where_it_is_let_in_for_both_documents() {
        let (bucket, keys) = ("b-1".parse().expect("a bucket"), ["a/d".to_owned(), "a/k".to_owned()]);
        let service = json!({ "Service": "cloudfront.amazonaws.com" });
        let identity = json!({ "AWS": "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E1" });
        for (principal, effect, action, resource, expected) in [
            (json!("*"), "Allow", json!("s3:GetObject"), json!("arn:aws:s3:::b-1/*"), true),
            (json!({ "AWS": ["*"] }), "Allow", json!(["s3:Get*"]), json!("arn:aws:s3:::b-1/a/*"), true),
            (service.clone(), "Allow", json!("s3:*"), json!(["arn:aws:s3:::b-1/a/d", "arn:aws:s3:::b-1/a/k"]), true),
            (identity, "Allow", json!("s3:GetObject"), json!("arn:aws:s3:::b-1/*"), true),
            (json!({ "CanonicalUser": "79a5" }), "Allow", json!("s3:GetObject"), json!("arn:aws:s3:::b-1/*"), true),
            (service.clone(), "Allow", json!("s3:GetObject"), json!("arn:aws:s3:::b-1/a/d"), false),
            (service.clone(), "Allow", json!("s3:PutObject"), json!("arn:aws:s3:::b-1/*"), false),
            (service.clone(), "Deny", json!("s3:GetObject"), json!("arn:aws:s3:::b-1/*"), false),
            (service, "Allow", json!("s3:GetObject"), json!("arn:aws:s3:::b-2/*"), false),
            (json!({ "AWS": "123456789012" }), "Allow", json!("s3:GetObject"), json!("arn:aws:s3:::b-1/*"), false),
        ] {
            let statement = json!({ "Effect": effect, "Principal": principal, "Action": action, "Resource": resource });
            let text = json!({ "Statement": [statement] }).to_string();
            assert_eq!(lets_a_front_read(&text, Partition::Commercial, &bucket, &keys), expected, "{text}");
        }
    }
}
