//! What irsad sees of a live kube-apiserver: before, during and after a restart, and when it should see nothing.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use irsad::{
    cluster::{ApiServer, Depth, Evidence, NoAnswer, Proof},
    model::probe::Probe,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::kubernetes::{KUBEADM_ISSUER, Node, Result, programs};

const OURS: &str = "https://oidc.example.com/prod-1";
const LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

type Answer = std::result::Result<Evidence, NoAnswer>;

/// The API server of `node`, asked as irsad asks it.
fn connect(node: &Node) -> Result<ApiServer> {
    let server: SocketAddr = node.url().trim_start_matches("https://").parse()?;
    Ok(ApiServer::connect(&fs::read(node.kubeconfig())?, &server.ip().to_string(), server.port())?)
}

/// Changes the manifest as a careful editor does: written elsewhere, then renamed.
fn replace(node: &Node, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(node.manifest())?.replace(from, to);
    let staged = node.root().join("etc/kubernetes/.staged");
    fs::write(&staged, text)?;
    Ok(fs::rename(staged, node.manifest())?)
}

fn kids_of(evidence: &Evidence) -> Vec<String> {
    evidence.served.kids().map(str::to_owned).collect()
}

fn kids(jwks: &str) -> Result<Vec<String>> {
    let jwks: Value = serde_json::from_str(jwks)?;
    let keys = jwks["keys"].as_array().ok_or("a JWK Set has keys")?;
    Ok(keys.iter().map(|key| key["kid"].as_str().unwrap_or_default().to_owned()).collect())
}

fn proof(evidence: &Evidence) -> Result<&Proof> {
    Ok(evidence.proof.as_ref().ok_or("no proof")?)
}

/// Asks until `seen` is so, and returns it with what was said before.
async fn until(api: &ApiServer, depth: Depth, seen: impl Fn(&Answer) -> bool) -> Result<(Answer, Vec<NoAnswer>)> {
    let deadline = Instant::now() + LIMIT;
    let mut refusals = Vec::new();
    while Instant::now() < deadline {
        let answer = api.ask_evidence(depth).await;
        if seen(&answer) {
            return Ok((answer, refusals));
        }
        refusals.extend(answer.err());
        sleep(TICK).await;
    }
    Err(format!("waited {LIMIT:?}; the answers were {refusals:?}").into())
}

#[tokio::test]
async fn evidence_names_the_process_its_keys_and_its_issuer_and_changes_only_with_the_process() -> Result<()> {
    if programs().is_none() {
        crate::missing("Kubernetes programs", "make kubernetes builds them");
        return Ok(());
    }
    let node = Node::start().await?;
    let api = connect(&node)?;
    let before = api.ask_evidence(Depth::Proof).await?;
    assert!(before.ready);
    assert_eq!(kids_of(&before), kids(&node.get("/openid/v1/jwks").await?)?);
    assert_eq!((before.issuer.as_str(), &before.jwks_uri), (KUBEADM_ISSUER, &format!("{}/openid/v1/jwks", node.url())));
    let token = proof(&before)?.probe_token.present().ok_or("no probe token")?;
    assert_eq!((&token.kid, token.iss.as_str()), (&kids_of(&before)[0], KUBEADM_ISSUER));
    assert_eq!(token.aud, [KUBEADM_ISSUER]);
    let started = SystemTime::from(proof(&before)?.started_at);
    // The kernel counts starts in hundredths of a second.
    assert!(started + Duration::from_secs(1) > node.starts()[0].at && started < SystemTime::now());
    assert_eq!(
        api.observe(Depth::Served).await,
        Probe::Present(Evidence { proof: None, ..api.ask_evidence(Depth::Served).await? })
    );

    // A second key on disk is no key of the process.
    let verifying_keys = node.root().join("etc/kubernetes/pki/sa.pub");
    let text = fs::read_to_string(&verifying_keys)? + &rcgen::KeyPair::generate()?.public_key_pem();
    fs::write(&verifying_keys, text)?;
    let unchanged = api.ask_evidence(Depth::Proof).await?;
    assert_eq!((&unchanged.served, &unchanged.proof), (&before.served, &before.proof));

    let flag = "    - --service-account-issuer=";
    replace(&node, flag, &format!("{flag}{OURS}\n{flag}"))?;
    let old = proof(&before)?.started_at;
    let (after, refusals) = until(&api, Depth::Proof, |answer| {
        answer.as_ref().is_ok_and(|now| now.ready && now.proof.as_ref().is_some_and(|proof| proof.started_at != old))
    })
    .await?;
    let after = after?;
    assert!(refusals.iter().any(NoAnswer::is_down), "{refusals:?}");
    for refusal in &refusals {
        let starting = matches!(
            refusal,
            NoAnswer::Down { .. }
                | NoAnswer::Broken { .. }
                | NoAnswer::Forbidden { .. }
                | NoAnswer::Busy { .. }
                | NoAnswer::TimedOut { .. }
        );
        assert!(starting, "{refusal:?}");
    }
    assert!(proof(&after)?.started_at > old);
    assert_eq!(kids_of(&after).len(), 2, "the second key of sa.pub is served");
    assert_eq!((&kids_of(&after)[0], after.issuer.as_str()), (&kids_of(&before)[0], OURS));
    let token = proof(&after)?.probe_token.present().ok_or("no probe token")?;
    assert_eq!((&token.kid, token.iss.as_str()), (&kids_of(&before)[0], OURS));
    assert_eq!(node.starts().len(), 2);
    Ok(())
}

#[tokio::test]
async fn missing_service_account_discovery_and_server_are_each_told_apart() -> Result<()> {
    if programs().is_none() {
        crate::missing("Kubernetes programs", "make kubernetes builds them");
        return Ok(());
    }
    let node = Node::start().await?;
    let api = connect(&node)?;
    // kube-apiserver registers no loopback address.
    assert_eq!(api.control_plane().await, Probe::Present(irsad::model::rotation::ControlPlane::default()));
    node.kubectl(&["delete", "serviceaccount", "default", "--namespace=kube-system"]).await?;
    assert_eq!(proof(&api.ask_evidence(Depth::Proof).await?)?.probe_token, Probe::Absent);

    replace(
        &node,
        &format!("--service-account-issuer={KUBEADM_ISSUER}"),
        "--service-account-issuer=kubernetes/serviceaccount",
    )?;
    let (answer, _) = until(&api, Depth::Served, |answer| matches!(answer, Err(NoAnswer::DiscoveryOff { .. }))).await?;
    assert_eq!(
        answer.err().map(|error| error.reason()),
        Some(format!(
            "{}/openid/v1/jwks answered 404: kube-apiserver serves no OIDC discovery, because its first --service-account-issuer is not an https URL without query and fragment",
            node.url()
        ))
    );

    fs::remove_file(node.manifest())?;
    let (_closed, _) = until(&api, Depth::Served, |answer| answer.as_ref().is_err_and(NoAnswer::is_down)).await?;
    Ok(())
}
