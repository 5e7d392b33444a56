//! The trust policy of this cluster with two places left open, kept in the cluster for those who write roles: what the proposal "IAM
//! roles for service accounts on self-managed clusters" of Cluster API Provider AWS
//! (kubernetes-sigs/cluster-api-provider-aws pull request 4164) asks for.

use serde_json::json;

use super::{PolicyError, Subject, trust_policy_for};
use crate::model::{
    cluster_object::{ClusterObject, Kind, ObjectPlace},
    issuer::{Audience, IssuerUrl},
};

/// Key of the policy in the ConfigMap.
pub const TRUST_POLICY_KEY: &str = "trust-policy.json";

/// Where it lies.
pub fn boilerplate_place() -> ObjectPlace {
    ObjectPlace::in_namespace(Kind::ConfigMap, "kube-system", "irsad-trust-policy")
}

/// The ConfigMap. `envsubst` fills in `SERVICE_ACCOUNT_NAMESPACE` and `SERVICE_ACCOUNT_NAME`; forgotten, no token matches.
///
/// # Errors
/// As [`super::trust_policy`].
pub fn boilerplate(
    provider_arn: &str,
    issuer: &IssuerUrl,
    audiences: &[Audience],
) -> Result<ClusterObject, PolicyError> {
    let open =
        Subject { namespace: "${SERVICE_ACCOUNT_NAMESPACE}".to_owned(), name: "${SERVICE_ACCOUNT_NAME}".to_owned() };
    let policy = trust_policy_for(provider_arn, issuer, &open, audiences)?;
    Ok(ClusterObject::new(boilerplate_place(), json!({ "data": { TRUST_POLICY_KEY: policy } })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boilerplate_leaves_the_service_account_open_and_compares_the_audience() {
        let arn = "arn:aws-cn:iam::123456789012:oidc-provider/oidc.example.com";
        let issuer = "https://oidc.example.com".parse().expect("an issuer");
        let audiences = ["sts.amazonaws.com".parse().expect("an audience")];
        let object = boilerplate(arn, &issuer, &audiences).expect("a ConfigMap");
        assert_eq!(object.place().to_string(), "ConfigMap kube-system/irsad-trust-policy");
        let text = object.body()["data"]["trust-policy.json"].as_str().expect("a text");
        let policy: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let expected = json!({
            "Effect": "Allow",
            "Principal": { "Federated": arn },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": {
                "oidc.example.com:aud": "sts.amazonaws.com",
                "oidc.example.com:sub": "system:serviceaccount:${SERVICE_ACCOUNT_NAMESPACE}:${SERVICE_ACCOUNT_NAME}",
            } },
        });
        assert_eq!(policy["Statement"], json!([expected]));
    }
}
