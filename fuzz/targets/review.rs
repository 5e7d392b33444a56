//! Whatever is sent to the webhook: the answer is one, and a pod that is let in has lost nothing and is not changed twice.
#![no_main]

use base64::{Engine, engine::general_purpose::STANDARD};
use irsad_fuzz::model::pod_identity::{
    Account, ContainerCredentials, ContainerCredentialsToken, PodIdentity, Review, RoleMap,
};
use json_patch::Patch;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const PREFIX: &str = "eks.amazonaws.com";
const LABEL: &str = "eks.amazonaws.com/pod-identity";

fuzz_target!(|data: &[u8]| {
    let review = match Review::parse(data) {
        Ok(review) => review,
        Err(error) => {
            let answer = read(&error.answer());
            assert!(answer["response"]["allowed"] == false && answer["response"]["uid"].is_string());
            return;
        }
    };
    // What is not of interest is passed over unread, and may be no text.
    let Ok(body) = serde_json::from_slice::<Value>(data) else { return };
    let listed = json!({ "namespace": review.namespace(), "serviceAccount": review.service_account() });
    let listed = json!({ "identities": [listed] }).to_string();
    let listed = ContainerCredentials::parse(listed.as_bytes()).expect("a list of one");
    for credentials in [ContainerCredentials::default(), listed] {
        let Some((pod, changed)) = patched(data, &credentials) else { continue };
        assert!(holds(&changed, &pod), "{pod}\nhas lost something:\n{changed}");
        let mut again = body.clone();
        again["request"]["object"] = changed.clone();
        let twice = patched(again.to_string().as_bytes(), &credentials).map(|(_, twice)| twice);
        assert_eq!(twice.as_ref(), Some(&changed), "the answer is not the same for a pod that was changed before");
    }
});

/// The pod of a review, and what the answer makes of it; `None` where it has no metadata, which the API server has filled in.
fn patched(body: &[u8], credentials: &ContainerCredentials) -> Option<(Value, Value)> {
    let role = format!("{PREFIX}/role-arn");
    let account = Account::read([(role.as_str(), "arn:aws:iam::111122223333:role/app")], PREFIX);
    let review = Review::parse(body).expect("a review that was read before, or one with a changed pod");
    let answer = read(&settings().answer(&review, Some(&account), &RoleMap::default(), credentials, 0));
    let request = &read(body)["request"];
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"]["uid"], request["uid"].as_str().unwrap_or_default());
    let mut pod = request["object"].clone();
    if !pod["metadata"].is_object() {
        return None;
    }
    let patch = STANDARD.decode(answer["response"]["patch"].as_str().expect("a patch")).expect("Base64");
    let patch: Patch = serde_json::from_slice(&patch).expect("a JSON Patch");
    let mut changed = pod.clone();
    json_patch::patch(&mut changed, &patch).expect("a patch that fits the pod");
    // The one thing that is set whatever it was.
    pod["metadata"]["labels"].as_object_mut().and_then(|labels| labels.remove(LABEL));
    Some((pod, changed))
}

fn settings() -> PodIdentity {
    PodIdentity {
        annotation_prefix: PREFIX.to_owned(),
        audience: "sts.amazonaws.com".to_owned(),
        mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
        token_expiration_seconds: 86_400,
        default_region: Some("eu-west-1".to_owned()),
        regional_sts: true,
        composition: None,
        container_credentials: ContainerCredentialsToken {
            audience: "pods.eks.amazonaws.com".to_owned(),
            mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
            volume_name: "eks-pod-identity-token".to_owned(),
            token_path: "eks-pod-identity-token".to_owned(),
            full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
        },
    }
}

fn read(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("JSON")
}

/// Whether `new` is `old` with additions. What is null counts as missing.
fn holds(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (_, Value::Null) => true,
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(name, old)| old.is_null() || new.get(name).is_some_and(|new| holds(new, old)))
        }
        (Value::Array(new), Value::Array(old)) => {
            let mut new = new.iter();
            old.iter().all(|old| new.any(|new| holds(new, old)))
        }
        (new, old) => new == old,
    }
}
