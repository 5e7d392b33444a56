//! `examples/echoer`: what its README tells a person to do fits its files, and kube-apiserver takes them.

use std::fs;

use serde_json::Value;

use crate::{
    irsad::{Result, project},
    kubernetes::{self, Node, PROGRAMS},
};

/// Its files, as kube-apiserver would keep them.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/echoer/echoer.yaml");

fn read(file: &str) -> Result<String> {
    Ok(fs::read_to_string(project().join("examples/echoer").join(file))?)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test]
async fn example_is_taken_by_kube_apiserver_and_its_readme_names_what_is_in_it() -> Result {
    if kubernetes::programs().is_none() {
        crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
        return Ok(());
    }
    let node = Node::start().await?;
    let taken = node.kubectl(&["apply", "--dry-run=server", "--output=json", "--filename", FILE]).await?;
    let taken: Value = serde_json::from_str(&taken)?;
    let [account, job] = taken["items"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(format!("not a service account and a Job: {taken}").into());
    };
    assert_eq!((text(&account["kind"]), text(&job["kind"])), ("ServiceAccount", "Job"));
    let [namespace, name] = ["namespace", "name"].map(|field| text(&account["metadata"][field]));
    let role = text(&account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]);
    let (account_id, role) = role
        .strip_prefix("arn:aws:iam::")
        .and_then(|rest| rest.split_once(":role/"))
        .ok_or_else(|| format!("{role} is not the ARN of a role"))?;
    assert_eq!(text(&job["spec"]["template"]["spec"]["serviceAccountName"]), name);
    assert_eq!(text(&job["metadata"]["namespace"]), namespace);

    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let bucket = container["env"].as_array().and_then(|list| list.iter().find(|it| it["name"] == "BUCKET"));
    let bucket = text(&bucket.ok_or("a bucket")?["value"]).to_owned();
    let readme = read("README.md")?;
    let job = text(&job["metadata"]["name"]);
    for wanted in [
        format!("--namespace {namespace} --service-account {name} > trust.json"),
        format!("aws iam create-role --role-name {role} --assume-role-policy-document file://trust.json"),
        format!(
            "aws iam put-role-policy --role-name {role} --policy-name {role} --policy-document file://iam/permissions.json"
        ),
        "kubectl apply -f echoer.yaml".to_owned(),
        format!("kubectl -n {namespace} logs job/{job}"),
        format!("-l job-name={job} "),
        format!("irsad verify --pod \"{namespace}/"),
        format!("s/{account_id}/$account/; s/{bucket}/$bucket/"),
        format!("aws iam delete-role --role-name {role}"),
    ] {
        assert!(readme.contains(&wanted), "{wanted} is missing in the README");
    }
    let permissions: Value = serde_json::from_str(&read("iam/permissions.json")?)?;
    assert_eq!(permissions["Statement"][0]["Resource"], format!("arn:aws:s3:::{bucket}/s3-echoer.txt"));
    Ok(())
}
