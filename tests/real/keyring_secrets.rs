//! The keyring's store in Secrets, by a live kube-apiserver.

use std::{collections::BTreeSet, error::Error, fs, net::SocketAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use irsad::{
    cluster::{ApiServer, secrets::SecretStore},
    store::{
        Condition, LARGEST_OBJECT_BYTES, Store, StoreError,
        proof::{PROOF, prove},
    },
};

use crate::{
    contract,
    kubernetes::{Node, PROGRAMS, Result, programs},
};

/// The store of `node` by the identity of a kubeconfig.
fn store(node: &Node, kubeconfig: &[u8]) -> Result<SecretStore> {
    let server: SocketAddr = node.url().trim_start_matches("https://").parse()?;
    Ok(SecretStore::new(ApiServer::connect(kubeconfig, &server.ip().to_string(), server.port())?))
}

fn in_full(error: &dyn Error) -> String {
    error.source().map_or(error.to_string(), |cause| format!("{error}: {}", in_full(cause)))
}

#[tokio::test]
async fn secrets_of_a_live_cluster_keep_the_contract_of_every_store() -> Result<()> {
    if programs().is_none() {
        crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
        return Ok(());
    }
    let node = Node::start().await?;
    let admin = fs::read(node.kubeconfig())?;
    let store = store(&node, &admin)?;
    contract::holds(&store).await;
    let proofs = join_all(["a", "b", "c"].map(|nonce| prove(&store, PROOF, nonce))).await;
    assert!(proofs.iter().all(std::result::Result::is_ok), "{proofs:?}");
    holds_the_largest_object(&store).await?;
    lets_one_of_many_nodes_create(&node, &admin).await?;
    shows_a_person_what_is_there(&node).await?;
    refuses_a_user_without_permission(&node).await
}

async fn holds_the_largest_object(store: &SecretStore) -> Result<()> {
    let largest = vec![b'x'; usize::try_from(LARGEST_OBJECT_BYTES)?];
    store.put("largest", &largest, &Condition::Absent).await?;
    assert_eq!(store.get("largest").await?.map(|object| object.body), Some(largest));
    Ok(())
}

/// Each over a connection of its own, as from several nodes.
async fn lets_one_of_many_nodes_create(node: &Node, kubeconfig: &[u8]) -> Result<()> {
    let stores = (0..8).map(|_| store(node, kubeconfig)).collect::<Result<Vec<_>>>()?;
    for key in ["keys/aB_-", "keys/Ab_-"] {
        let results = join_all(stores.iter().map(|store| store.put(key, b"key", &Condition::Absent))).await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(std::result::Result::is_ok);
        assert_eq!(won.len(), 1, "{lost:?}");
        assert!(lost.iter().all(|put| matches!(put, Err(StoreError::Conflict { .. }))), "{lost:?}");
    }
    assert_eq!(stores[0].list("keys/").await?, ["keys/Ab_-", "keys/aB_-"]);
    Ok(())
}

async fn shows_a_person_what_is_there(node: &Node) -> Result<()> {
    let labels = "app.kubernetes.io/managed-by=irsad,app.kubernetes.io/component=keyring";
    let columns = r"jsonpath={range .items[*]}{.type} {.metadata.annotations.irsad/key}{'\n'}{end}";
    let printed = node.kubectl(&["-n", "kube-system", "get", "secrets", "-l", labels, "-o", columns]).await?;
    let lines: BTreeSet<&str> = printed.lines().collect();
    assert!(lines.contains("Opaque keys/aB_-") && lines.contains("Opaque openid/v1/jwks"), "{printed}");
    assert_eq!(lines.len(), 6, "{printed}");
    Ok(())
}

async fn refuses_a_user_without_permission(node: &Node) -> Result<()> {
    let authority = BASE64_STANDARD.encode(fs::read(node.root().join("etc/kubernetes/pki/ca.crt"))?);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{ name: a, context: {{ cluster: c, user: u }} }}]\n\
         clusters: [{{ name: c, cluster: {{ server: 'https://unused', certificate-authority-data: {authority} }} }}]\n\
         users: [{{ name: u, user: {{ token: {} }} }}]\n",
        node.mint(None).await?
    );
    let store = store(node, kubeconfig.as_bytes())?;
    let user = "User \"system:serviceaccount:kube-system:default\"";
    let why = "the kubeconfig's user may not, or kube-apiserver has only just started; allow it get, list, create and update of Secrets in kube-system, or set apiServer.kubeconfig to an administrator's: ";
    let get = store.get("keys/aB_-").await.map(drop);
    let put = store.put("keys/new", b"a private key, say", &Condition::Absent).await.map(drop);
    let list = store.list("keys/").await.map(drop);
    for (asked, verb, sentence) in [
        (get, "get", "cannot read keys/aB_- in Secret kube-system/irsad-keys-ab---"),
        (put, "create", "cannot write keys/new in Secret kube-system/irsad-keys-new-"),
        (list, "list", "cannot list the Secrets irsad-* of kube-system (nothing changed): "),
    ] {
        let text = asked.map_err(|error| in_full(&error)).err().unwrap_or_default();
        let cause =
            format!("{user} cannot {verb} resource \"secrets\" in API group \"\" in the namespace \"kube-system\"");
        assert!(text.starts_with(sentence) && text.contains(why) && text.contains(&cause), "{text}");
    }
    Ok(())
}
