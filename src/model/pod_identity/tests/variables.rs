//! Environment variables: order, what counts as present, and the pods that are left alone.

use super::*;

const STS: (&str, &str) = ("AWS_STS_REGIONAL_ENDPOINTS", "regional");
const DEFAULT_REGION: (&str, &str) = ("AWS_DEFAULT_REGION", "eu-west-1");
const REGION: (&str, &str) = ("AWS_REGION", "eu-west-1");
const ARN: (&str, &str) = ("AWS_ROLE_ARN", ROLE);
const FILE: (&str, &str) = ("AWS_WEB_IDENTITY_TOKEN_FILE", TOKEN);

/// Regional STS and a default region, so that every variable is wanted.
fn everything() -> Known {
    Known::role().settings(|settings| {
        settings.regional_sts = true;
        settings.default_region = Some("eu-west-1".to_owned());
    })
}

fn with_env(env: Value) -> Value {
    pod_with(json!({ "containers": [{ "name": "app", "env": env }] }))
}

fn mounts(pod: &Value) -> usize {
    pod["spec"]["containers"][0]["volumeMounts"].as_array().map_or(0, Vec::len)
}

#[test]
fn variables_stand_behind_the_containers_own_in_one_order() -> Tested {
    let patched = everything().patched(&with_env(json!([{ "name": "A", "value": "1" }])))?;
    let wanted = [("A", "1"), STS, DEFAULT_REGION, REGION, ARN, FILE];
    assert_eq!(variables(&patched["spec"]["containers"][0]), wanted);
    Ok(())
}

#[test]
fn each_group_is_added_only_where_its_condition_holds() -> Tested {
    let sts_only = Known::role().settings(|settings| settings.regional_sts = true);
    let region_only = Known::role().settings(|settings| settings.default_region = Some("eu-west-1".to_owned()));
    let empty_region = Known::role().settings(|settings| settings.default_region = Some(String::new()));
    for (name, known, wanted) in [
        ("neither", Known::role(), vec![ARN, FILE]),
        ("regional STS", sts_only, vec![STS, ARN, FILE]),
        ("region", region_only, vec![DEFAULT_REGION, REGION, ARN, FILE]),
        ("empty region", empty_region, vec![ARN, FILE]),
        ("both", everything(), vec![STS, DEFAULT_REGION, REGION, ARN, FILE]),
    ] {
        assert_eq!(variables(&known.patched(&pod())?["spec"]["containers"][0]), wanted, "{name}");
    }
    Ok(())
}

#[test]
fn one_of_a_pair_that_is_there_keeps_both_out_and_stays() -> Tested {
    for (own, wanted) in [
        ("AWS_STS_REGIONAL_ENDPOINTS", vec![DEFAULT_REGION, REGION, ARN, FILE]),
        ("AWS_REGION", vec![STS, ARN, FILE]),
        ("AWS_DEFAULT_REGION", vec![STS, ARN, FILE]),
        ("AWS_ROLE_ARN", vec![STS, DEFAULT_REGION, REGION]),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", vec![STS, DEFAULT_REGION, REGION]),
        ("AWS_ACCESS_KEY_ID", vec![STS, DEFAULT_REGION, REGION, ARN, FILE]),
        ("aws_role_arn", vec![STS, DEFAULT_REGION, REGION, ARN, FILE]),
    ] {
        let patched = everything().patched(&with_env(json!([{ "name": own, "value": "mine" }])))?;
        let wanted: Vec<(&str, &str)> = std::iter::once((own, "mine")).chain(wanted).collect();
        assert_eq!(variables(&patched["spec"]["containers"][0]), wanted, "{own}");
    }
    Ok(())
}

#[test]
fn variable_is_there_whatever_its_value_but_not_by_env_from() -> Tested {
    for env in [
        json!([{ "name": "AWS_ROLE_ARN" }]),
        json!([{ "name": "AWS_ROLE_ARN", "value": "" }]),
        json!([{ "name": "AWS_ROLE_ARN", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]),
    ] {
        let patched = Known::role().patched(&with_env(env.clone()))?;
        assert_eq!(patched["spec"]["containers"][0]["env"], env);
    }
    let container = json!({ "name": "app", "envFrom": [{ "configMapRef": { "name": "AWS_ROLE_ARN" } }] });
    let patched = Known::role().patched(&pod_with(json!({ "containers": [container] })))?;
    assert_eq!(variables(&patched["spec"]["containers"][0]), [ARN, FILE]);
    Ok(())
}

#[test]
fn web_identity_ignores_variables_of_container_credentials() -> Tested {
    let name = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let patched = Known::role().patched(&with_env(json!([{ "name": name, "value": "x" }])))?;
    assert_eq!(variables(&patched["spec"]["containers"][0]), [(name, "x"), ARN, FILE]);
    Ok(())
}

#[test]
fn container_with_credentials_region_and_sts_of_its_own_is_left_alone_even_without_mount() -> Tested {
    for pointer in ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"] {
        for region in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            for known in [Known::role(), everything()] {
                let env = json!([{ "name": pointer }, { "name": region }, { "name": "AWS_STS_REGIONAL_ENDPOINTS" }]);
                let plain = with_env(env);
                let patched = known.patched(&plain)?;
                assert_eq!(patched["spec"]["containers"], plain["spec"]["containers"]);
                assert_eq!(patched["spec"]["volumes"].as_array().map(Vec::len), Some(1), "the volume is added");
            }
        }
    }
    Ok(())
}

#[test]
fn container_that_lacks_one_of_the_three_gets_the_mount() -> Tested {
    let own = ["AWS_ROLE_ARN", "AWS_REGION", "AWS_STS_REGIONAL_ENDPOINTS"];
    for missing in own {
        let env: Vec<Value> = own.iter().filter(|name| **name != missing).map(|name| json!({ "name": name })).collect();
        let patched = Known::role().patched(&with_env(json!(env)))?;
        assert_eq!(mounts(&patched), 1, "without {missing}");
    }
    Ok(())
}

#[test]
fn env_that_is_null_or_empty_is_filled() -> Tested {
    for env in [json!(null), json!([])] {
        let patched = Known::role().patched(&with_env(env))?;
        assert_eq!(variables(&patched["spec"]["containers"][0]), [ARN, FILE]);
    }
    Ok(())
}

#[test]
fn file_of_a_windows_pod_is_a_windows_path_and_its_mount_is_not() -> Tested {
    let windows = r"C:\var\run\secrets\eks.amazonaws.com\serviceaccount\token";
    for (spec, wanted) in [
        (json!({ "nodeSelector": { "kubernetes.io/os": "windows" } }), windows),
        (
            json!({ "nodeSelector": { "beta.kubernetes.io/os": "windows", "beta.kubernetes.io/arch": "amd64" } }),
            windows,
        ),
        (json!({ "nodeSelector": { "kubernetes.io/os": "linux", "beta.kubernetes.io/os": "windows" } }), windows),
        (json!({ "os": { "name": "windows" } }), windows),
        (json!({ "nodeSelector": { "kubernetes.io/os": "Windows" } }), TOKEN),
        (json!({ "nodeSelector": { "kubernetes.io/os": "linux" }, "os": { "name": "linux" } }), TOKEN),
        (json!({ "nodeSelector": { "example.com/os": "windows" } }), TOKEN),
        (json!({ "nodeSelector": null, "os": null }), TOKEN),
    ] {
        let mut plain = pod_with(spec.clone());
        plain["spec"]["containers"] = json!([{ "name": "app" }]);
        let patched = Known::role().patched(&plain)?;
        let container = &patched["spec"]["containers"][0];
        assert_eq!(variables(container), [ARN, ("AWS_WEB_IDENTITY_TOKEN_FILE", wanted)], "{spec}");
        assert_eq!(container["volumeMounts"][0]["mountPath"], json!(MOUNT));
    }
    Ok(())
}
