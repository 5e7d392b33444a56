use serde_json::{Value, json};

use super::{
    super::fake::{Fake, Outcome, Reply, Seen},
    *,
};

const PREFIX: &str = "eks.amazonaws.com";

fn pod(name: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "shop", "name": name, "uid": "6f1c", "creationTimestamp": "2026-11-21T12:00:00Z",
            "labels": { "app": "checkout", "pod-template-hash": "7d4b9" }, "annotations": { "eks.amazonaws.com/skip-containers": "log" },
            "ownerReferences": [
                { "kind": "Other", "name": "other" }, { "kind": "ReplicaSet", "name": "checkout-7d4b9", "controller": true },
            ],
        },
        "spec": {
            "serviceAccountName": "checkout",
            "initContainers": [{ "name": "setup" }],
            "containers": [{
                "name": "app",
                "env": [
                    { "name": "HOME", "value": "/" },
                    { "name": "AWS_ROLE_ARN", "value": "arn" },
                    { "name": "AWS_WEB_IDENTITY_TOKEN_FILE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                ],
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }, { "name": "aws-iam-token", "mountPath": "/aws" }],
            }],
            "volumes": [
                { "name": "data", "emptyDir": {} },
                { "name": "kube-api-access", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "token" } }, { "configMap": { "name": "kube-root-ca.crt" } },
                ] } },
                { "name": "aws-iam-token", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "token", "audience": "sts.amazonaws.com", "expirationSeconds": 86400 } },
                ] } },
            ],
        },
        "status": { "phase": "Running" },
    })
}

async fn served(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Outcome<(Fake, ApiServer)> {
    let fake = Fake::start("127.0.0.1", &["127.0.0.1"], script).await?;
    let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
    Ok((fake, api))
}

#[tokio::test]
async fn pod_is_read_with_what_decides_about_its_credentials() -> Outcome<()> {
    let (_fake, api) = served(|_| Reply::Text(200, pod("checkout").to_string())).await?;
    let found = api.pod(&"shop/checkout".parse()?, PREFIX).await;
    let LabelledPod { pod, labels } = found.present().cloned().ok_or("a pod")?;
    assert_eq!(labels.get("app").map(String::as_str), Some("checkout"));
    let token = |name: &str, audience: Option<&str>, seconds| TokenVolume {
        name: name.to_owned(),
        audience: audience.map(str::to_owned),
        expiration_seconds: seconds,
        path: "token".to_owned(),
    };
    let variables = [(WEB_IDENTITY[0].to_owned(), Some("arn".to_owned())), (WEB_IDENTITY[1].to_owned(), None)];
    let expected = Pod {
        name: "shop/checkout".parse()?,
        uid: "6f1c".to_owned(),
        service_account: "checkout".to_owned(),
        created_at: "2026-11-21T12:00:00Z".parse()?,
        has_ended: false,
        is_mirror: false,
        opted_out: false,
        skip_containers: Some("log".to_owned()),
        containers: vec![
            Container { name: "setup".to_owned(), variables: BTreeMap::new(), mounts: Vec::new() },
            Container {
                name: "app".to_owned(),
                variables: BTreeMap::from(variables),
                mounts: vec![Mount { volume: "aws-iam-token".to_owned(), path: "/aws".to_owned() }],
            },
        ],
        token_volumes: vec![
            token("kube-api-access", None, 3600),
            token("aws-iam-token", Some("sts.amazonaws.com"), 86_400),
        ],
        controller: Some(Controller { kind: "Deployment".to_owned(), name: "checkout".to_owned() }),
    };
    assert_eq!(pod, expected);
    Ok(())
}

#[tokio::test]
async fn pods_are_read_page_by_page() -> Outcome<()> {
    let (fake, api) = served(|seen| {
        let (name, more) = if seen.query.contains("continue=next") { ("b", "") } else { ("a", "next") };
        Reply::Text(200, json!({ "metadata": { "continue": more }, "items": [pod(name)] }).to_string())
    })
    .await?;
    let mut names = Vec::new();
    api.each_pod(PREFIX, |pod| names.push(pod.name.name)).await?;
    assert_eq!(names, ["a", "b"]);
    let queries: Vec<String> = fake.seen().into_iter().map(|seen| seen.query).collect();
    let first = "fieldSelector=status.phase!%3DSucceeded%2Cstatus.phase!%3DFailed&limit=500";
    assert_eq!(queries, [first.to_owned(), format!("{first}&continue=next")]);
    Ok(())
}

#[tokio::test]
async fn service_account_is_read_with_the_time_of_its_role() -> Outcome<()> {
    let item = |name: &str, annotations: Value| {
        let owns = |field: &str, time: &str| json!({ "time": time, "fieldsV1": { "f:metadata": { "f:annotations": { ".": {}, field: {} } } } });
        json!({ "metadata": { "namespace": "shop", "name": name, "annotations": annotations, "managedFields": [
            owns("f:other", "2026-11-21T10:00:00Z"),
            owns("f:eks.amazonaws.com/role-arn", "2026-11-21T12:00:00Z"),
            owns("f:eks.amazonaws.com/role-arn", "2026-11-21T11:00:00Z"),
            { "fieldsV1": {} },
        ] } })
    };
    let items = json!({ "metadata": {}, "items": [
        item("checkout", json!({ "eks.amazonaws.com/role-arn": "arn", "team": "a" })), item("default", json!({})),
    ] });
    let (fake, api) = served(move |_| Reply::Text(200, items.to_string())).await?;
    let mut found = Vec::new();
    api.each_account(PREFIX, |name, account| found.push((name, account))).await?;
    let account = Account::read([("eks.amazonaws.com/role-arn", "arn")], PREFIX);
    let expected = KnownAccount { account, since: Some("2026-11-21T11:00:00Z".parse()?) };
    assert_eq!(found, [("shop/checkout".to_owned(), expected)]);
    assert!(fake.seen()[0].headers["accept"].to_str()?.contains("PartialObjectMetadataList"));
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_could_not_be_asked() -> Outcome<()> {
    for (status, is_absent) in [(404, true), (503, false)] {
        let (_fake, api) = served(move |_| Reply::Text(status, "{}".to_owned())).await?;
        let pod = api.pod(&"shop/checkout".parse()?, PREFIX).await;
        assert_eq!((pod.present().is_some(), pod.unknown().is_none()), (false, is_absent));
        assert_eq!(api.account("shop", "checkout", PREFIX).await.unknown().is_none(), is_absent);
        assert_eq!(api.config_map_entry("shop", "a", "config").await.unknown().is_none(), is_absent);
    }
    Ok(())
}
