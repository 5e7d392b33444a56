//! What holds for every pod.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

fn env() -> impl Strategy<Value = Value> {
    let names = vec![
        "A",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let variable = (select(names), option::of(".{0,8}")).prop_map(|(name, value)| match value {
        Some(value) => json!({ "name": name, "value": value, "unknown": [value] }),
        None => json!({ "name": name, "valueFrom": { "fieldRef": {} } }),
    });
    prop_oneof![Just(Value::Null), vec(variable, 0..4).prop_map(|list| json!(list))]
}

fn mounts() -> impl Strategy<Value = Value> {
    let names = select(vec!["data", "aws-iam-token", "eks-pod-identity-token"]);
    let mount =
        (names, select(vec!["/data", MOUNT])).prop_map(|(name, path)| json!({ "name": name, "mountPath": path }));
    prop_oneof![Just(Value::Null), vec(mount, 0..3).prop_map(|list| json!(list))]
}

fn container() -> impl Strategy<Value = Value> {
    (select(vec!["app", "b", " b", "c,d"]), option::of(env()), option::of(mounts()), ".{0,6}").prop_map(
        |(name, env, mounts, unknown)| {
            let mut container =
                json!({ "name": name, "futureField": { "x": unknown }, "resources": { "limits": { "cpu": "0.5" } } });
            if let Some(env) = env {
                container["env"] = env;
            }
            if let Some(mounts) = mounts {
                container["volumeMounts"] = mounts;
            }
            container
        },
    )
}

fn any_pod() -> impl Strategy<Value = Value> {
    let volumes = option::of(prop_oneof![
        Just(Value::Null),
        vec(select(vec!["data", "aws-iam-token", "eks-pod-identity-token"]), 0..3)
            .prop_map(|names| names.into_iter().map(|name| json!({ "name": name, "new": 1 })).collect()),
    ]);
    let labels = option::of(select(vec![
        json!(null),
        json!({}),
        json!({ "a": "b" }),
        json!({ "eks.amazonaws.com/pod-identity": "other" }),
    ]));
    let expiration = option::of(select(vec!["3600", "1", "x", ""]));
    let skip = option::of(select(vec!["app", "b, c", "\"c,d\"", "\"", ""]));
    (vec(container(), 0..4), option::of(vec(container(), 0..3)), volumes, labels, expiration, skip, any::<bool>())
        .prop_map(|(containers, init, volumes, labels, expiration, skip, windows)| {
            let mut pod = pod_with(json!({ "containers": containers, "unknownToThisVersion": [{ "a": null }] }));
            let fields = [("initContainers", init.map(|list| json!(list))), ("volumes", volumes)];
            for (key, value) in fields.into_iter().filter_map(|(key, value)| Some((key, value?))) {
                pod["spec"][key] = value;
            }
            if windows {
                pod["spec"]["nodeSelector"] = json!({ "kubernetes.io/os": "windows" });
            }
            if let Some(labels) = labels {
                pod["metadata"]["labels"] = labels;
            }
            let annotations = [("token-expiration", expiration), ("skip-containers", skip)];
            for (name, value) in annotations.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                pod["metadata"]["annotations"][format!("eks.amazonaws.com/{name}")] = json!(value);
            }
            pod
        })
}

fn any_known() -> impl Strategy<Value = Known> {
    let annotation = |name: &'static str, values: Vec<&'static str>| {
        option::of(select(values)).prop_map(move |value| value.map(|value| (name, value.to_owned())))
    };
    let annotations = (
        annotation("role-arn", vec![ROLE, "app", ""]),
        annotation("audience", vec!["vault", ""]),
        annotation("sts-regional-endpoints", vec!["true", "false", "x"]),
        annotation("token-expiration", vec!["7200", "5", "x"]),
    )
        .prop_map(|(a, b, c, d)| [a, b, c, d].into_iter().flatten().collect::<Vec<_>>());
    (option::of(annotations), any::<[bool; 4]>(), any::<u64>()).prop_map(|(annotations, choices, jitter)| {
        let [listed, mapped, regional_sts, region] = choices;
        let list: &[u8] = if listed { br#"{"identities":[{"namespace":"prod","serviceAccount":"app"}]}"# } else { b"" };
        let map = if mapped { r#"{"*/app":{"RoleARN":"arn:aws:iam::111122223333:role/map"}}"# } else { "{}" };
        let known = Known {
            settings: settings(),
            annotations,
            roles: RoleMap::parse(map).expect("a map"),
            credentials: ContainerCredentials::parse(list).expect("a list"),
            jitter,
        };
        known.settings(|settings| {
            settings.regional_sts = regional_sts;
            settings.default_region = region.then(|| "eu-west-1".to_owned());
        })
    })
}

/// The pod without what may be added.
fn rest(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let list = |value: &mut Value, key: &str, ours: &dyn Fn(&Value) -> bool| {
        let Some(fields) = value.as_object_mut() else { return };
        let Some(items) = fields.get_mut(key).and_then(Value::as_array_mut) else { return drop(fields.remove(key)) };
        items.retain(|item| !ours(item));
        if items.is_empty() {
            fields.remove(key);
        }
    };
    let names = |names: &'static [&'static str]| {
        move |item: &Value| item["name"].as_str().is_some_and(|name| names.contains(&name))
    };
    let volumes: &[&str] = &["aws-iam-token", "eks-pod-identity-token"];
    list(&mut pod["spec"], "volumes", &names(volumes));
    for key in ["containers", "initContainers"] {
        for container in pod["spec"].get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            list(container, "env", &|item| item["name"].as_str().is_some_and(|name| name.starts_with("AWS_")));
            list(container, "volumeMounts", &names(volumes));
        }
    }
    if let Some(labels) = pod["metadata"].get_mut("labels").and_then(Value::as_object_mut) {
        labels.remove("eks.amazonaws.com/pod-identity");
    }
    if pod["metadata"].get("labels").is_some_and(|labels| labels.is_null() || *labels == json!({})) {
        pod["metadata"].as_object_mut().map(|fields| fields.remove("labels"));
    }
    pod
}

/// Every list of the pod that may grow, in one order.
fn lists(pod: &Value) -> Vec<Vec<Value>> {
    let of = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let containers: Vec<Value> = [of(&pod["spec"]["containers"]), of(&pod["spec"]["initContainers"])].concat();
    containers.iter().flat_map(|container| [of(&container["env"]), of(&container["volumeMounts"])]).collect()
}

fn fail(error: Box<dyn Error>) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn second_time_nothing_changes(pod in any_pod(), known in any_known().no_shrink()) {
        let (once, _) = known.admit(&pod).map_err(fail)?;
        let (twice, _) = known.admit(&once).map_err(fail)?;
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn nothing_but_variables_mounts_volumes_and_our_label_changes(pod in any_pod(), known in any_known().no_shrink()) {
        let (patched, _) = known.admit(&pod).map_err(fail)?;
        prop_assert_eq!(rest(&patched), rest(&pod));
    }

    #[test]
    fn what_a_container_had_stays_in_front(pod in any_pod(), known in any_known().no_shrink()) {
        let (patched, _) = known.admit(&pod).map_err(fail)?;
        for (before, after) in lists(&pod).into_iter().zip(lists(&patched)) {
            prop_assert_eq!(&after[..before.len()], &before[..]);
        }
        let names = |pod: &Value| -> BTreeSet<String> {
            pod["spec"]["volumes"].as_array().into_iter().flatten().map(Value::to_string).collect()
        };
        prop_assert!(names(&pod).is_subset(&names(&patched)));
    }

    #[test]
    fn any_bytes_are_answered(body in vec(any::<u8>(), 0..200), known in any_known().no_shrink()) {
        known.response(&body).map_err(|error| fail(error.into()))?;
    }

    #[test]
    fn any_skip_containers_is_read_or_not_but_never_fails(text in "[ab\", \r\n]{0,20}") {
        let with_end = super::super::skip_containers::names(&format!("{text}\n"));
        let without = super::super::skip_containers::names(&text);
        prop_assert!(with_end == without || text.ends_with('\r') || text.matches('"').count() > 0);
    }
}
