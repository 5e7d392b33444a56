//! Container credentials (EKS Pod Identity).

use super::*;

const LIST: &[u8] =
    br#"{"identities":[{"namespace":"prod","serviceAccount":"app"},{"namespace":"a","serviceAccount":"b"}]}"#;
const FILE: &str = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token";

/// `prod/app` is listed; jitter leaves the default life as it is.
fn listed() -> Known {
    let credentials = ContainerCredentials::parse(LIST).expect("a list");
    Known { credentials, jitter: 7_200, ..Known::nothing() }
}

#[test]
fn listed_account_gets_label_variables_volume_and_mount() -> Tested {
    let patched = listed().patched(&pod())?;
    assert_eq!(patched["metadata"]["labels"], json!({ "eks.amazonaws.com/pod-identity": "enabled" }));
    let wanted = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", FILE),
    ];
    let container = &patched["spec"]["containers"][0];
    assert_eq!(variables(container), wanted);
    let path = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
    let mount = json!({ "name": "eks-pod-identity-token", "readOnly": true, "mountPath": path });
    assert_eq!(container["volumeMounts"], json!([mount]));
    assert_eq!(patched["spec"]["volumes"][0]["name"], json!("eks-pod-identity-token"));
    let source =
        json!({ "audience": "pods.eks.amazonaws.com", "expirationSeconds": 86_400, "path": "eks-pod-identity-token" });
    assert_eq!(token(&patched), &source);
    Ok(())
}

#[test]
fn label_is_set_first_and_over_another_value() -> Tested {
    for (labels, path) in [
        (json!(null), "/metadata/labels"),
        (json!({}), "/metadata/labels/eks.amazonaws.com~1pod-identity"),
        (
            json!({ "eks.amazonaws.com/pod-identity": "no", "a": "b" }),
            "/metadata/labels/eks.amazonaws.com~1pod-identity",
        ),
    ] {
        let mut plain = pod();
        plain["metadata"]["labels"] = labels.clone();
        let response = listed().response(&serde_json::to_vec(&review_of(&plain))?)?["response"].take();
        assert_eq!(patch_of(&response)?.ok_or("no patch")?[0]["path"], json!(path));
        let patched = listed().patched(&plain)?;
        let mut wanted = if labels.is_null() { json!({}) } else { labels };
        wanted["eks.amazonaws.com/pod-identity"] = json!("enabled");
        assert_eq!(patched["metadata"]["labels"], wanted);
    }
    assert_eq!(Known::role().patched(&pod())?["metadata"].get("labels"), None, "not with a web identity");
    Ok(())
}

#[test]
fn expiration_and_regional_sts_come_from_account_then_exact_entry_then_fixed_values() -> Tested {
    let map = |key: &str| {
        let text = json!({ key: { "RoleARN": ROLE, "UseRegionalSTS": true, "TokenExpiration": 3_600 } });
        RoleMap::parse(&text.to_string()).expect("a map")
    };
    let from_settings = |known: Known| {
        known.settings(|settings| {
            settings.regional_sts = true;
            settings.token_expiration_seconds = 43_200;
        })
    };
    let annotated = listed().with("token-expiration", "7200").with("sts-regional-endpoints", "true");
    let account = || Known { annotations: Some(Vec::new()), ..listed() };
    for (name, known, wanted) in [
        ("annotations", annotated, (7_200, true)),
        ("account over settings", from_settings(account()), (43_200, true)),
        ("account over entry", Known { roles: map("prod/app"), ..account() }, (86_400, false)),
        ("entry", Known { roles: map("prod/app"), ..listed() }, (3_600, true)),
        ("no entry for any namespace", Known { roles: map("*/app"), ..listed() }, (86_400, false)),
        ("no account, settings do not count", from_settings(listed()), (86_400, false)),
    ] {
        let patched = known.patched(&pod())?;
        let regional = variables(&patched["spec"]["containers"][0]).iter().any(|(name, _)| name.contains("STS"));
        assert_eq!((token(&patched)["expirationSeconds"].as_i64(), regional), (Some(wanted.0), wanted.1), "{name}");
    }
    Ok(())
}

#[test]
fn audience_of_the_account_is_ignored() -> Tested {
    let patched = listed().with("audience", "other").patched(&pod())?;
    assert_eq!(token(&patched)["audience"], json!("pods.eks.amazonaws.com"));
    Ok(())
}

#[test]
fn names_are_exact() {
    let list = ContainerCredentials::parse(LIST).expect("a list");
    for (namespace, account, wanted) in
        [("prod", "app", true), ("a", "b", true), ("prod", "b", false), ("Prod", "app", false), ("", "", false)]
    {
        assert_eq!(list.lists(namespace, account), wanted, "{namespace}/{account}");
    }
    let star =
        ContainerCredentials::parse(br#"{"identities":[{"namespace":"*","serviceAccount":"app"}]}"#).expect("a list");
    assert!(!star.lists("prod", "app"));
}

#[test]
fn variables_of_a_web_identity_do_not_count() -> Tested {
    let env = json!([{ "name": "AWS_ROLE_ARN", "value": "x" }, { "name": "AWS_REGION" }, { "name": "AWS_STS_REGIONAL_ENDPOINTS" }]);
    let plain = pod_with(json!({ "containers": [{ "name": "app", "env": env }] }));
    assert_eq!(variables(&listed().patched(&plain)?["spec"]["containers"][0]).len(), 5);
    let env = json!([
        { "name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" }, { "name": "AWS_REGION" }, { "name": "AWS_STS_REGIONAL_ENDPOINTS" },
    ]);
    let plain = pod_with(json!({ "containers": [{ "name": "app", "env": env }] }));
    assert_eq!(listed().patched(&plain)?["spec"]["containers"], plain["spec"]["containers"], "all three are there");
    Ok(())
}

#[test]
fn region_and_windows_path_apply_too() -> Tested {
    let known = listed().settings(|settings| settings.default_region = Some("eu-west-1".to_owned()));
    let mut plain = pod();
    plain["spec"]["nodeSelector"] = json!({ "kubernetes.io/os": "windows" });
    let patched = known.patched(&plain)?;
    let variables = variables(&patched["spec"]["containers"][0]);
    assert_eq!(variables[0], ("AWS_DEFAULT_REGION", "eu-west-1"));
    assert_eq!(variables[3].1, format!("C:{}", FILE.replace('/', "\\")));
    Ok(())
}

#[test]
fn empty_file_lists_nobody_and_a_malformed_one_is_refused() {
    for text in [&b""[..], b"{}", br#"{"identities":null}"#, br#"{"identities":[]}"#] {
        assert_eq!(ContainerCredentials::parse(text).expect("a list"), ContainerCredentials::default());
    }
    let wanted = "the list of container credentials cannot be read (the one before is kept); write {\"identities\": \
                  [{\"namespace\": \"N\", \"serviceAccount\": \"S\"}]}";
    for text in [&b"{"[..], b"x", br#"{"identities":{}}"#, br#"{"identities":[{"namespace":5}]}"#] {
        let error = ContainerCredentials::parse(text).expect_err("a refusal");
        assert_eq!(error.to_string(), wanted);
    }
}
