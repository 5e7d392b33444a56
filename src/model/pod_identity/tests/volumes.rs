//! The token's volume, its mounts, and the containers that get them.

use super::*;

fn ours() -> Value {
    json!({ "name": "aws-iam-token", "readOnly": true, "mountPath": MOUNT })
}

#[test]
fn volume_stands_in_front_of_the_pods_own() -> Tested {
    for own in [json!([]), json!([{ "name": "data", "emptyDir": {} }]), json!(null)] {
        let mut plain = pod();
        plain["spec"]["volumes"] = own.clone();
        let volumes = Known::role().patched(&plain)?["spec"]["volumes"].take();
        assert_eq!(volumes[0]["name"], json!("aws-iam-token"));
        let rest: Vec<Value> = volumes.as_array().ok_or("no list")?[1..].to_vec();
        assert_eq!(json!(rest), if own.is_null() { json!([]) } else { own });
    }
    Ok(())
}

#[test]
fn volume_has_one_source_and_no_mode() -> Tested {
    let volume = Known::role().patched(&pod())?["spec"]["volumes"][0].take();
    let source = json!({ "audience": "sts.amazonaws.com", "expirationSeconds": 86_400, "path": "token" });
    assert_eq!(
        volume,
        json!({ "name": "aws-iam-token", "projected": { "sources": [{ "serviceAccountToken": source }] } })
    );
    Ok(())
}

#[test]
fn volume_of_that_name_is_left_as_it_is() -> Tested {
    let mut plain = pod();
    plain["spec"]["volumes"] = json!([{ "name": "data" }, { "name": "aws-iam-token", "emptyDir": {} }]);
    let patched = Known::role().patched(&plain)?;
    assert_eq!(patched["spec"]["volumes"], plain["spec"]["volumes"]);
    assert_eq!(patched["spec"]["containers"][0]["volumeMounts"], json!([ours()]));
    Ok(())
}

#[test]
fn volume_is_added_even_where_every_container_is_skipped() -> Tested {
    let plain = annotated("eks.amazonaws.com/skip-containers", "app");
    let patched = Known::role().patched(&plain)?;
    assert_eq!(patched["spec"]["containers"], plain["spec"]["containers"]);
    assert_eq!(patched["spec"]["volumes"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[test]
fn mount_stands_behind_the_containers_own() -> Tested {
    for own in [json!([]), json!([{ "name": "data", "mountPath": "/data" }]), json!(null)] {
        let plain = pod_with(json!({ "containers": [{ "name": "app", "volumeMounts": own }] }));
        let mounts = Known::role().patched(&plain)?["spec"]["containers"][0]["volumeMounts"].take();
        let mut wanted = own.as_array().cloned().unwrap_or_default();
        wanted.push(ours());
        assert_eq!(mounts, json!(wanted));
    }
    Ok(())
}

#[test]
fn mount_of_that_volume_is_left_wherever_it_points() -> Tested {
    let own = json!([{ "name": "aws-iam-token", "mountPath": "/elsewhere" }]);
    let plain = pod_with(json!({ "containers": [{ "name": "app", "volumeMounts": own }] }));
    assert_eq!(Known::role().patched(&plain)?["spec"]["containers"][0]["volumeMounts"], own);
    Ok(())
}

#[test]
fn another_volume_on_our_path_is_mounted_over_with_a_warning() -> Tested {
    let own = json!({ "name": "mine", "mountPath": MOUNT });
    let plain = pod_with(json!({ "containers": [{ "name": "app", "volumeMounts": [own] }] }));
    let (patched, warnings) = Known::role().admit(&plain)?;
    assert_eq!(patched["spec"]["containers"][0]["volumeMounts"], json!([own, ours()]));
    let wanted = "container \"app\" mounts volume \"mine\" on \"/var/run/secrets/eks.amazonaws.com/serviceaccount\", \
                  where aws-iam-token belongs; mount it elsewhere";
    assert_eq!(warnings, [wanted]);
    Ok(())
}

#[test]
fn mount_path_is_used_as_it_is_and_the_file_is_its_clean_join() -> Tested {
    for (path, file) in [
        ("/custom//path/", "/custom/path/token"),
        ("/a/./b/../c", "/a/c/token"),
        ("/..", "/token"),
        ("/", "/token"),
        ("relative/../..", "../token"),
        ("", "token"),
        ("..", "../token"),
    ] {
        let known = Known::role().settings(|settings| path.clone_into(&mut settings.mount_path));
        let patched = known.patched(&pod())?;
        let container = &patched["spec"]["containers"][0];
        assert_eq!(container["volumeMounts"][0]["mountPath"], json!(path));
        assert_eq!(variables(container)[1], ("AWS_WEB_IDENTITY_TOKEN_FILE", file));
    }
    Ok(())
}

#[test]
fn security_context_is_not_touched() -> Tested {
    for context in [json!({ "runAsUser": 1000 }), json!(null), json!({ "fsGroup": 1000 })] {
        let mut plain = pod();
        plain["spec"]["securityContext"] = context.clone();
        assert_eq!(Known::role().patched(&plain)?["spec"]["securityContext"], context);
    }
    Ok(())
}

#[test]
fn init_containers_and_sidecars_are_treated_like_containers() -> Tested {
    let plain = pod_with(json!({
        "containers": [{ "name": "app" }, { "name": "second" }],
        "initContainers": [{ "name": "first" }, { "name": "sidecar", "restartPolicy": "Always" }],
    }));
    let patched = Known::role().patched(&plain)?;
    for (list, number) in [("containers", 0), ("containers", 1), ("initContainers", 0), ("initContainers", 1)] {
        let container = &patched["spec"][list][number];
        assert_eq!(variables(container), [("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", TOKEN)]);
        assert_eq!(container["volumeMounts"], json!([ours()]));
    }
    assert_eq!(patched["spec"]["initContainers"][1]["restartPolicy"], json!("Always"));
    Ok(())
}

#[test]
fn ephemeral_containers_are_not_touched() -> Tested {
    let mut plain = pod();
    plain["spec"]["ephemeralContainers"] = json!([{ "name": "debug" }]);
    assert_eq!(Known::role().patched(&plain)?["spec"]["ephemeralContainers"], json!([{ "name": "debug" }]));
    Ok(())
}

#[test]
fn pod_without_containers_gets_an_empty_list() -> Tested {
    for spec in [json!({}), json!({ "containers": null }), json!({ "containers": [] })] {
        assert_eq!(Known::role().patched(&pod_with(spec))?["spec"]["containers"], json!([]));
    }
    Ok(())
}

#[test]
fn empty_list_of_init_containers_stays_as_it_is() -> Tested {
    for init in [json!([]), json!(null)] {
        let patched = Known::role().patched(&pod_with(json!({ "containers": [], "initContainers": init })))?;
        assert_eq!(patched["spec"]["initContainers"], init);
    }
    Ok(())
}
