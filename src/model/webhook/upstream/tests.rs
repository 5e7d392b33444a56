use super::*;
use crate::model::pod_identity::ContainerCredentialsToken;

fn upstream(image: &str) -> Upstream {
    Upstream {
        image: image.to_owned(),
        namespace: "tools".to_owned(),
        replicas: 2,
        lookup_grace: Duration::from_secs(5),
        settings: PodIdentity {
            annotation_prefix: "eks.amazonaws.com".to_owned(),
            audience: "sts.amazonaws.com".to_owned(),
            mount_path: "/token".to_owned(),
            token_expiration_seconds: 3_600,
            default_region: None,
            regional_sts: true,
            composition: None,
            container_credentials: ContainerCredentialsToken {
                audience: String::new(),
                mount_path: String::new(),
                volume_name: String::new(),
                token_path: String::new(),
                full_uri: String::new(),
            },
        },
        role_map_namespace: None,
    }
}

#[test]
fn reviews_of_v1_are_sent_only_to_a_release_that_is_known_to_answer_them() {
    for (image, answers_v1) in [
        ("registry.example.com/webhook:v0.6.17", false),
        ("registry.example.com/webhook:v0.6.16@sha256:00", false),
        ("registry.example.com/webhook:v0.6.18", true),
        ("registry.example.com:5000/webhook:0.7.0@sha256:00", true),
        ("registry.example.com:5000/webhook@sha256:00", false),
        ("registry.example.com/webhook:3bf80a34", false),
        ("webhook:v1.0.0", true),
        ("webhook:v1.0.0-rc1", false),
    ] {
        assert_eq!(upstream(image).review_versions().contains(&"v1"), answers_v1, "{image}");
        assert!(upstream(image).review_versions().contains(&"v1beta1"), "{image}");
    }
}

#[test]
fn program_gets_the_settings_of_the_built_in_webhook_and_reads_the_config_map_only_where_there_is_one() {
    let arguments = |upstream: &Upstream| {
        let objects = upstream.objects();
        let deployment = objects.last().expect("a Deployment").body()["spec"]["template"]["spec"].clone();
        let list = deployment["containers"][0]["args"].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let mut upstream = upstream("webhook:v1");
    let expected = "--in-cluster=false --port=8443 --tls-cert=/etc/webhook/certs/tls.crt --tls-key=/etc/webhook/certs/tls.key \
                    --namespace=tools --watch-config-map=false --annotation-prefix=eks.amazonaws.com \
                    --token-audience=sts.amazonaws.com --token-mount-path=/token --token-expiration=3600 --sts-regional-endpoint=true \
                    --compose-role-arn=false --service-account-lookup-grace-period=5s --logtostderr";
    assert_eq!((arguments(&upstream), upstream.objects().len()), (expected.to_owned(), 7));
    upstream.role_map_namespace = Some("roles".to_owned());
    upstream.settings.default_region = "eu-west-1".parse().ok();
    let said = arguments(&upstream);
    for flag in ["--namespace=roles", "--watch-config-map=true", "--aws-default-region=eu-west-1"] {
        assert!(said.contains(flag), "{said}");
    }
    assert_eq!(upstream.objects().len(), 9);
}

#[test]
fn certificate_that_waits_takes_the_place_of_the_one_that_is_served_which_stays_trusted() {
    let mut secret = json!({
        "metadata": { "annotations": { RENEW_AT: "2026-01-01T00:00:00Z", NEXT_RENEW_AT: "2026-03-01T00:00:00Z" } },
        "data": { CURRENT: "b2xk", CURRENT_KEY: "b2xk", NEXT: "bmV3", NEXT_KEY: "bmV3" },
    });
    use_next(&mut secret);
    let (certificates, renew_at) = read_secret(&StoredObject::new(secret.clone()));
    let expected = Certificates { current: "new".to_owned(), next: None, previous: Some("old".to_owned()) };
    assert_eq!((certificates, renew_at), (Some(expected), "2026-03-01T00:00:00Z".parse().ok()));
    let done = secret.clone();
    use_next(&mut secret);
    assert_eq!(secret, done, "there is nothing to take twice");
    // Without its private key a certificate is none.
    let half = json!({ "data": { CURRENT: "b2xk" } });
    assert_eq!(read_secret(&StoredObject::new(half)), (None, None));
}
