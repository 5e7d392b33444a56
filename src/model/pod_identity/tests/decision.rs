//! Which pods are changed.

use super::*;

fn listed() -> ContainerCredentials {
    ContainerCredentials::parse(br#"{"identities":[{"namespace":"prod","serviceAccount":"app"}]}"#).expect("a list")
}

#[test]
fn pod_of_an_account_with_a_role_gets_variables_volume_and_mount() -> Tested {
    let patched = Known::role().patched(&pod())?;
    let wanted = json!({
        "containers": [{
            "name": "app", "image": "app",
            "env": [{ "name": "AWS_ROLE_ARN", "value": ROLE }, { "name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": TOKEN }],
            "volumeMounts": [{ "name": "aws-iam-token", "readOnly": true, "mountPath": MOUNT }],
        }],
        "serviceAccountName": "app",
        "volumes": [{ "name": "aws-iam-token", "projected": { "sources": [{ "serviceAccountToken": {
            "audience": "sts.amazonaws.com", "expirationSeconds": 86_400, "path": "token",
        } }] } }],
    });
    assert_eq!(patched["spec"], wanted);
    Ok(())
}

#[test]
fn without_a_role_there_is_no_patch() -> Tested {
    let review = serde_json::to_vec(&review_of(&pod()))?;
    let wanted = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": { "uid": "u-1", "allowed": true },
    });
    for (name, known) in [
        ("no account", Known::nothing()),
        ("no annotation", Known { annotations: Some(Vec::new()), ..Known::nothing() }),
        ("empty role", Known::nothing().with("role-arn", "")),
        ("audience only", Known::nothing().with("audience", "sts.amazonaws.com")),
    ] {
        assert_eq!(known.response(&review)?, wanted, "{name}");
    }
    Ok(())
}

#[test]
fn container_credentials_go_before_a_role() -> Tested {
    let known = Known { credentials: listed(), ..Known::role() };
    let patched = known.patched(&pod())?;
    let names: Vec<&str> = variables(&patched["spec"]["containers"][0]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]);
    Ok(())
}

#[test]
fn namespace_is_that_of_the_request_not_that_of_the_object() -> Tested {
    let mut review = review_of(&pod());
    review["request"]["object"]["metadata"]["namespace"] = json!("other");
    let body = serde_json::to_vec(&review)?;
    assert_eq!(Review::parse(&body)?.namespace(), "prod");
    Ok(())
}

#[test]
fn account_is_the_pods_service_account_name_and_nothing_else() -> Tested {
    for (spec, wanted) in [
        (json!({ "serviceAccountName": "app" }), "app"),
        (json!({ "serviceAccountName": "" }), ""),
        (json!({ "serviceAccountName": null }), ""),
        (json!({ "serviceAccount": "app" }), ""),
        (json!({}), ""),
        (json!(null), ""),
    ] {
        let body = serde_json::to_vec(&review_of(&json!({ "spec": spec })))?;
        assert_eq!(Review::parse(&body)?.service_account(), wanted, "{spec}");
    }
    Ok(())
}

#[test]
fn what_the_registration_filters_is_not_asked_for_again() -> Tested {
    let plain = serde_json::to_vec(&review_of(&pod()))?;
    let wanted = patch_of(&Known::role().response(&plain)?["response"])?.ok_or("no patch")?;
    for (pointer, value) in [
        ("/request/operation", json!("DELETE")),
        ("/request/kind", json!({ "group": "apps", "version": "v1", "kind": "Deployment" })),
        ("/request/resource", json!({ "group": "apps", "version": "v1", "resource": "deployments" })),
        ("/request/subResource", json!("status")),
        ("/request/dryRun", json!(true)),
        ("/request/userInfo", json!({ "username": "system:node:n1" })),
        ("/request/object/metadata/labels", json!({ "eks.amazonaws.com/skip-pod-identity-webhook": "true" })),
        ("/request/object/spec/hostNetwork", json!(true)),
        ("/request/object/metadata/annotations", json!({ "kubernetes.io/config.mirror": "0f" })),
    ] {
        let mut review = review_of(&pod());
        let (parent, key) = pointer.rsplit_once('/').ok_or("no parent")?;
        review.pointer_mut(parent).ok_or("no such parent")?[key] = value;
        let response = Known::role().response(&serde_json::to_vec(&review)?)?["response"].take();
        assert_eq!(patch_of(&response)?, Some(wanted.clone()), "{pointer}");
    }
    Ok(())
}

#[test]
fn opt_out_label_counts_whatever_its_value() -> Tested {
    for (labels, wanted) in [
        (json!({ "eks.amazonaws.com/skip-pod-identity-webhook": "true" }), true),
        (json!({ "eks.amazonaws.com/skip-pod-identity-webhook": "" }), true),
        (json!({ "example.com/skip-pod-identity-webhook": "true" }), false),
        (json!(null), false),
    ] {
        let body = serde_json::to_vec(&review_of(&json!({ "metadata": { "labels": labels } })))?;
        assert_eq!(Review::parse(&body)?.opted_out(), wanted, "{labels}");
    }
    Ok(())
}

#[test]
fn method_says_how_pods_of_an_account_get_credentials() {
    let map = RoleMap::parse(&json!({ "prod/app": { "RoleARN": ROLE } }).to_string()).expect("a map");
    for (name, known, wanted) in [
        ("nothing", Known::nothing(), None),
        ("role", Known::role(), Some(Method::WebIdentity)),
        ("ConfigMap", Known { roles: map, ..Known::nothing() }, Some(Method::WebIdentity)),
        ("list", Known { credentials: listed(), ..Known::role() }, Some(Method::ContainerCredentials)),
    ] {
        let Known { settings, roles, credentials, .. } = &known;
        let method = settings.method("prod", "app", known.account().as_ref(), roles, credentials);
        assert_eq!(method, wanted, "{name}");
    }
}

#[test]
fn pod_is_called_by_its_name_or_by_what_its_name_begins_with() -> Tested {
    for (metadata, wanted) in
        [(json!({ "name": "a", "generateName": "b-" }), "a"), (json!({ "generateName": "b-" }), "b-"), (json!({}), "")]
    {
        let body = serde_json::to_vec(&review_of(&json!({ "metadata": metadata })))?;
        assert_eq!(Review::parse(&body)?.pod(), wanted);
    }
    Ok(())
}
