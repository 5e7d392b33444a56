//! The live node itself: what the other tests take for granted.

use std::{collections::BTreeSet, fs, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::kubernetes::{KUBEADM_ISSUER, Node, Result, programs};

/// A node, or `None` where the programs are missing: `tests/setup` names that at the end.
async fn node() -> Result<Option<Node>> {
    if programs().is_none() {
        crate::missing("Kubernetes programs", "make kubernetes builds them");
        return Ok(None);
    }
    Node::start().await.map(Some)
}

/// Puts a manifest in place as a careful editor does: written elsewhere, then renamed.
fn replace(node: &Node, text: &str) -> Result<()> {
    let staged = node.root().join("etc/kubernetes/.staged");
    fs::write(&staged, text)?;
    Ok(fs::rename(staged, node.manifest())?)
}

fn part(token: &str, index: usize) -> Result<Value> {
    let part = token.split('.').nth(index).ok_or("a token has three parts")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
}

#[tokio::test]
async fn node_mints_tokens_it_accepts_and_serves_their_key() -> Result<()> {
    let Some(node) = node().await? else {
        return Ok(());
    };
    let token = node.mint(Some("sts.amazonaws.com")).await?;
    assert_eq!(part(&token, 1)?["iss"], KUBEADM_ISSUER);
    assert_eq!(part(&token, 1)?["aud"], serde_json::json!(["sts.amazonaws.com"]));
    let jwks: Value = serde_json::from_str(&node.get("/openid/v1/jwks").await?)?;
    assert_eq!(part(&token, 0)?["kid"], jwks["keys"][0]["kid"]);
    assert!(!node.accepts(&token).await?, "a token for STS is none for the API");
    assert!(node.accepts(&node.mint(None).await?).await?);
    assert_eq!(node.starts().len(), 1);
    Ok(())
}

#[tokio::test]
async fn api_server_restarts_for_a_changed_pod_and_only_for_that() -> Result<()> {
    let Some(node) = node().await? else {
        return Ok(());
    };
    let before = fs::read_to_string(node.manifest())?;
    replace(&node, &format!("# a comment\n{before}"))?;
    node.settled().await?;
    assert_eq!(node.starts().len(), 1, "a comment is not part of the pod");

    let annotated = before.replace("  annotations:\n", "  annotations:\n    irsad/applied: \"1\"\n");
    assert_ne!(annotated, before);
    replace(&node, &annotated)?;
    node.ready().await?;
    let starts = node.starts();
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert_eq!(starts[0].argv, starts[1].argv);
    assert_ne!(starts[0].pid, starts[1].pid);
    assert!(starts[0].at < starts[1].at);

    let ours = "https://oidc.example.com";
    let flag = "    - --service-account-issuer=";
    replace(&node, &annotated.replace(flag, &format!("{flag}{ours}\n{flag}")))?;
    node.ready().await?;
    assert_eq!(node.starts().len(), 3);
    let token = node.mint(None).await?;
    assert_eq!(part(&token, 1)?["iss"], ours);
    assert_eq!(part(&token, 1)?["aud"], serde_json::json!([ours, KUBEADM_ISSUER]));
    assert_eq!(node.seen(), BTreeSet::from(["kube-apiserver.yaml".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn broken_missing_and_refused_manifests_stop_the_api_server_until_it_is_put_right() -> Result<()> {
    let Some(node) = node().await? else {
        return Ok(());
    };
    let before = fs::read_to_string(node.manifest())?;
    let pid = node.starts()[0].pid;

    // Torn: kubelet drops the pod at its next scan.
    fs::write(node.manifest(), &before[..700])?;
    node.settled().await?;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    replace(&node, &before)?;
    node.ready().await?;
    assert_eq!(node.starts().len(), 2);

    replace(&node, &before.replace("--service-account-issuer=", "--service-account-issuer=not a url:%%"))?;
    node.failed(2).await?;
    assert!(node.log().contains("was not a valid URL"), "{}", node.log());
    assert!(node.get("/readyz").await.is_err());
    replace(&node, &before)?;
    node.ready().await?;
    let starts = node.starts();
    assert!(starts.len() >= 5, "the refused one is tried again with back-off: {starts:?}");

    fs::remove_file(node.manifest())?;
    node.settled().await?;
    assert_eq!(node.running(), None);
    Ok(())
}

#[tokio::test]
async fn backup_beside_the_manifest_is_a_pod_that_takes_over_at_the_next_edit() -> Result<()> {
    let Some(node) = node().await? else {
        return Ok(());
    };
    let before = fs::read_to_string(node.manifest())?;
    fs::write(node.root().join("etc/kubernetes/manifests/.hidden"), &before)?;
    fs::write(node.root().join("etc/kubernetes/manifests/kube-apiserver.yaml.bak"), &before)?;
    node.settled().await?;
    assert_eq!(node.starts().len(), 1);
    assert_eq!(node.seen(), BTreeSet::from(["kube-apiserver.yaml".to_owned(), "kube-apiserver.yaml.bak".to_owned()]));
    replace(&node, &before.replace("  labels:\n", "  labels:\n    edited: \"1\"\n"))?;
    node.started(2).await?;
    assert_eq!(node.starts()[1].file, "kube-apiserver.yaml.bak");
    Ok(())
}

#[tokio::test]
async fn dropped_node_leaves_no_process_and_no_file() -> Result<()> {
    let Some(node) = node().await? else {
        return Ok(());
    };
    let (root, pid) = (node.root(), node.starts()[0].pid);
    drop(node);
    assert!(!root.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    Ok(())
}

#[tokio::test]
async fn file_that_is_not_mounted_is_not_there_for_the_api_server() -> Result<()> {
    let Some(node) = node().await? else {
        return Ok(());
    };
    fs::copy(node.root().join("etc/kubernetes/pki/sa.pub"), node.root().join("etc/kubernetes/elsewhere.pub"))?;
    let flag = "--service-account-key-file=/etc/kubernetes/";
    let text =
        fs::read_to_string(node.manifest())?.replace(&format!("{flag}pki/sa.pub"), &format!("{flag}elsewhere.pub"));
    replace(&node, &text)?;
    node.failed(1).await?;
    assert!(node.log().contains("elsewhere.pub: no such file or directory"), "{}", node.log());
    Ok(())
}
