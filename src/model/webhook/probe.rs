//! A review that asks for nothing: what a webhook makes of it shows that it works.

use serde_json::{Value, json};

const UID: &str = "irsad-probe";

/// A review of a pod without a service account, which is changed by nobody. `version` is that of `admission.k8s.io`.
pub fn review(version: &str) -> Value {
    json!({
        "apiVersion": format!("admission.k8s.io/{version}"),
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
            "requestResource": { "group": "", "version": "v1", "resource": "pods" },
            "name": UID,
            "namespace": "kube-system",
            "operation": "CREATE",
            "userInfo": { "username": UID },
            "dryRun": true,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
            "oldObject": null,
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": UID, "namespace": "kube-system" },
                "spec": { "containers": [{ "name": UID, "image": UID }] },
            },
        },
    })
}

/// Whether the answer to [`review`] is that of a webhook that works.
///
/// # Errors
/// What is wrong with it.
pub fn judge(answer: &[u8]) -> Result<(), String> {
    let answer: Value = serde_json::from_slice(answer)
        .map_err(|_| "it answered a review with something that is not JSON".to_owned())?;
    let response = &answer["response"];
    match (response["uid"].as_str(), response["allowed"].as_bool()) {
        (Some(UID), Some(true)) => Ok(()),
        (Some(UID), Some(false)) => {
            let said = response["status"]["message"].as_str().unwrap_or("no message");
            Err(format!("it refused a pod that nobody has to change: {said}"))
        }
        _ => Err("it answered a review with something that is no answer to it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_very_review_counts() {
        for (answer, expected) in [
            (json!({ "response": { "uid": UID, "allowed": true } }), Ok(())),
            (
                json!({ "response": { "uid": UID, "allowed": false, "status": { "message": "bad content" } } }),
                Err("it refused a pod that nobody has to change: bad content"),
            ),
            (
                json!({ "response": { "uid": "other", "allowed": true } }),
                Err("it answered a review with something that is no answer to it"),
            ),
            (json!([]), Err("it answered a review with something that is no answer to it")),
        ] {
            assert_eq!(judge(answer.to_string().as_bytes()), expected.map_err(str::to_owned), "{answer}");
        }
        let text = judge(b"ok");
        assert_eq!(text, Err("it answered a review with something that is not JSON".to_owned()));
    }
}
