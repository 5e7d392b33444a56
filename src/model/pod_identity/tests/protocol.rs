//! The envelope of requests and answers.

use super::*;

#[test]
fn version_kind_and_uid_are_echoed_whatever_they_are() -> Tested {
    for (version, kind) in [
        (Some("admission.k8s.io/v1"), Some("AdmissionReview")),
        (Some("admission.k8s.io/v1beta1"), Some("AdmissionReview")),
        (Some("admission.k8s.io/v9"), Some("Other")),
        (None, None),
    ] {
        let mut review = review_of(&pod());
        let envelope = review.as_object_mut().ok_or("no object")?;
        envelope.remove("apiVersion");
        envelope.remove("kind");
        if let (Some(version), Some(kind)) = (version, kind) {
            review["apiVersion"] = json!(version);
            review["kind"] = json!(kind);
        }
        let answer = Known::role().response(&serde_json::to_vec(&review)?)?;
        assert_eq!(answer.get("apiVersion").and_then(Value::as_str), version);
        assert_eq!(answer.get("kind").and_then(Value::as_str), kind);
        assert_eq!(answer["response"]["uid"], json!("u-1"));
        assert!(patch_of(&answer["response"])?.is_some());
    }
    Ok(())
}

#[test]
fn answer_with_a_patch_has_no_more_than_the_interface_asks_for() -> Tested {
    let answer = Known::role().response(&serde_json::to_vec(&review_of(&pod()))?)?;
    let response = answer["response"].as_object().ok_or("no response")?;
    assert_eq!(response.keys().collect::<Vec<_>>(), ["allowed", "patch", "patchType", "uid"]);
    Ok(())
}

#[test]
fn operations_only_add_in_the_order_label_volume_containers_init_containers() -> Tested {
    let list = br#"{"identities":[{"namespace":"prod","serviceAccount":"app"}]}"#;
    let known = Known { credentials: ContainerCredentials::parse(list)?, ..Known::nothing() };
    let own = json!({ "name": "app", "env": [{ "name": "A" }], "volumeMounts": [{ "name": "a", "mountPath": "/a" }] });
    let plain = pod_with(json!({ "containers": [own, { "name": "b" }], "initContainers": [{ "name": "c" }] }));
    let response = known.response(&serde_json::to_vec(&review_of(&plain))?)?["response"].take();
    let patch = patch_of(&response)?.ok_or("no patch")?;
    let operations = patch.as_array().ok_or("no list")?;
    assert!(operations.iter().all(|operation| operation["op"] == json!("add")));
    let paths: Vec<&str> = operations.iter().filter_map(|operation| operation["path"].as_str()).collect();
    let wanted = [
        "/metadata/labels",
        "/spec/volumes",
        "/spec/containers/0/env/-",
        "/spec/containers/0/env/-",
        "/spec/containers/0/volumeMounts/-",
        "/spec/containers/1/env",
        "/spec/containers/1/volumeMounts",
        "/spec/initContainers/0/env",
        "/spec/initContainers/0/volumeMounts",
    ];
    assert_eq!(paths, wanted);
    Ok(())
}

#[test]
fn pod_that_has_been_changed_already_gets_an_empty_patch() -> Tested {
    let list = br#"{"identities":[{"namespace":"prod","serviceAccount":"app"}]}"#;
    let listed = Known { credentials: ContainerCredentials::parse(list)?, ..Known::nothing() };
    for known in [Known::role(), listed] {
        let patched = known.patched(&pod())?;
        let response = known.response(&serde_json::to_vec(&review_of(&patched))?)?["response"].take();
        assert_eq!(patch_of(&response)?, Some(json!([])));
    }
    Ok(())
}

#[test]
fn texts_with_escapes_are_read_as_what_they_mean() -> Tested {
    let body = r#"{"apiVersion":"admission.k8s.io\/v1","request":{"uid":"\u0075-1","namespace":"pr\u006fd","object":{"spec":
        {"serviceAccountName":"\u0061pp","containers":[{"name":"app","env":[{"name":"AWS\u005fROLE_ARN"}]}]}}}}"#;
    let review = Review::parse(body.as_bytes())?;
    assert_eq!((review.namespace(), review.service_account()), ("prod", "app"));
    let answer = Known::role().response(body.as_bytes())?;
    assert_eq!((&answer["apiVersion"], &answer["response"]["uid"]), (&json!("admission.k8s.io/v1"), &json!("u-1")));
    let patch = patch_of(&answer["response"])?.ok_or("no patch")?;
    assert!(!patch.to_string().contains("AWS_ROLE_ARN"), "it is there already: {patch}");
    Ok(())
}

#[test]
fn warnings_are_few_short_and_without_control_characters() -> Tested {
    let own = json!([{ "name": "mine", "mountPath": MOUNT }]);
    let containers: Vec<Value> = (0..100).map(|n| json!({ "name": format!("c-{n}"), "volumeMounts": own })).collect();
    let known =
        Known::nothing().with("role-arn", &"\u{1}ü\n".repeat(1_000)).with("token-expiration", &"9".repeat(100_000));
    let (_, warnings) = known.admit(&pod_with(json!({ "containers": containers })))?;
    assert_eq!(warnings.len(), 15);
    assert!(warnings.iter().all(|sentence| sentence.chars().all(|c| !c.is_control()) && sentence.len() < 700));
    assert!(warnings.iter().map(String::len).sum::<usize>() <= 4_096);
    Ok(())
}
