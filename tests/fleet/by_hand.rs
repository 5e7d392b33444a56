//! The bench itself, with changes made by hand: what the oracle must see, it sees, and nothing else.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use crate::{
    control_plane::{KUBEADM_ISSUER, Result},
    fleet::Fleet,
    network::{NETWORK, within},
    node::{MANIFEST, Node},
    oracle::{Expected, Oracle, Verdict},
};

const OURS: &str = "https://oidc.fleet.example";
const SIGNING_KEY: &str = "/etc/kubernetes/pki/sa.key";
const VERIFYING_KEYS: &str = "/etc/kubernetes/pki/sa.pub";
/// How long outsiders keep documents.
const CACHE: Duration = Duration::from_secs(3);

/// A fleet and, in a folder, what an outsider sees of [`OURS`].
struct Scene {
    fleet: Fleet,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Result<Self> {
        let fleet = Fleet::start(3).await?;
        let folder = tempfile::tempdir()?;
        fleet.cloud.serve_folder(OURS.trim_start_matches("https://"), folder.path());
        let scene = Self { fleet, folder };
        scene.publish(&scene.fleet.nodes[0].jwks().await?)?;
        Ok(scene)
    }

    fn publish(&self, jwks: &Value) -> Result<()> {
        let discovery = json!({
            "issuer": OURS,
            "jwks_uri": format!("{OURS}/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        let staged = self.folder.path().join("staged");
        for (path, document) in [(".well-known/openid-configuration", &discovery), ("jwks", jwks)] {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            fs::write(&staged, document.to_string())?;
            fs::rename(&staged, path)?;
        }
        Ok(())
    }

    fn oracle(&self) -> Result<Oracle> {
        let (caches, live) = (vec![Duration::ZERO, CACHE], Duration::from_secs(120));
        Oracle::start(&self.fleet, Expected { issuer: OURS.to_owned(), caches, outside: live, inside: live })
    }

    /// One node after the other, the next when the one before is ready.
    async fn roll(&self, oracle: &Oracle, change: impl Fn(&Node) -> Result<()>) -> Result<()> {
        for node in &self.fleet.nodes {
            change(node)?;
            node.ready().await?;
            oracle.rounds(1).await?;
        }
        Ok(())
    }
}

/// The issuer flags in this order.
fn issuers(node: &Node, issuers: &[&str]) -> Result<()> {
    let flag = "    - --service-account-issuer=";
    let flags: String = issuers.iter().map(|issuer| format!("{flag}{issuer}\n")).collect();
    node.edit(|text| {
        let rest: String =
            text.lines().filter(|line| !line.starts_with(flag)).map(|line| format!("{line}\n")).collect();
        rest.replacen("    - --service-account-key-file", &format!("{flags}    - --service-account-key-file"), 1)
    })
}

/// Has the API server start again.
fn restart(node: &Node) -> Result<()> {
    let number = node.starts().len();
    node.edit(|text| text.replacen("  annotations:\n", &format!("  annotations:\n    restart-{number}: by-hand\n"), 1))
}

fn keys(node: &Node, signing: &KeyPair, verifying: &[&str]) -> Result<()> {
    node.replace(VERIFYING_KEYS, &verifying.concat())?;
    node.replace(SIGNING_KEY, &signing.serialize_pem())?;
    restart(node)
}

fn rsa() -> Result<KeyPair> {
    Ok(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?)
}

/// Who refused something.
fn judges(verdict: &Verdict) -> BTreeSet<&str> {
    verdict.refused.iter().map(|refusal| refusal.judge.as_str()).collect()
}

#[test]
fn issuer_changed_in_one_roll_is_refused_and_in_two_rolls_is_not() {
    within(async || -> Result<()> {
        let scene = Scene::start().await?;
        let oracle = scene.oracle()?;
        oracle.rounds(2).await?;
        scene.roll(&oracle, |node| issuers(node, &[KUBEADM_ISSUER, OURS])).await?;
        scene.roll(&oracle, |node| issuers(node, &[OURS, KUBEADM_ISSUER])).await?;
        let verdict = oracle.finish().await?;
        verdict.assert_clean();
        let seen: BTreeSet<&str> = verdict.classes.iter().map(|(_, _, issuer)| issuer.as_str()).collect();
        assert_eq!(seen, BTreeSet::from([OURS, KUBEADM_ISSUER]), "{verdict}");
        assert_eq!(scene.fleet.starts(), [3, 3, 3]);

        let (oracle, other) = (scene.oracle()?, "https://oidc.other.example");
        issuers(&scene.fleet.nodes[0], &[other, OURS, KUBEADM_ISSUER])?;
        scene.fleet.ready().await?;
        let verdict = oracle.finish().await?;
        verdict.assert_sound();
        assert_eq!(judges(&verdict), BTreeSet::from(["node-2", "node-3"]), "{verdict}");
        assert!(verdict.refused.iter().all(|refusal| refusal.token.issuer == other), "{verdict}");
        Ok(())
    });
}

#[test]
fn key_replaced_in_one_roll_is_refused_and_after_a_time_as_standby_is_not() {
    within(async || -> Result<()> {
        let scene = Scene::start().await?;
        for node in &scene.fleet.nodes {
            issuers(node, &[OURS])?;
        }
        scene.fleet.ready().await?;
        let [second, third] = [rsa()?, rsa()?];
        let first = scene.fleet.nodes[0].machine.read(VERIFYING_KEYS)?;
        let [second_half, third_half] = [second.public_key_pem(), third.public_key_pem()];
        let oracle = scene.oracle()?;
        scene
            .roll(&oracle, |node| {
                node.replace(VERIFYING_KEYS, &format!("{first}{second_half}"))?;
                restart(node)
            })
            .await?;
        scene.publish(&scene.fleet.nodes[0].jwks().await?)?;
        oracle.rounds(4).await?;
        scene.roll(&oracle, |node| keys(node, &second, &[&second_half, &first])).await?;
        let verdict = oracle.finish().await?;
        verdict.assert_clean();
        assert_eq!(verdict.classes.len(), 6, "three nodes with two keys: {verdict}");

        loses_a_key(&scene, &second, &[&second_half, &first]).await?;
        let oracle = scene.oracle()?;
        keys(&scene.fleet.nodes[0], &third, &[&third_half, &second_half, &first])?;
        scene.fleet.ready().await?;
        let verdict = oracle.finish().await?;
        verdict.assert_sound();
        let (fresh, stale) = ("an outsider who keeps documents for 0 s", "an outsider who keeps documents for 3 s");
        assert_eq!(judges(&verdict), BTreeSet::from([fresh, stale, "node-2", "node-3"]), "{verdict}");
        Ok(())
    });
}

/// The second node stops to accept a key that live tokens were signed with, and gets it back.
async fn loses_a_key(scene: &Scene, signing: &KeyPair, verifying: &[&str]) -> Result<()> {
    let (oracle, node) = (scene.oracle()?, &scene.fleet.nodes[1]);
    oracle.rounds(1).await?;
    let other = rsa()?;
    keys(node, &other, &[&other.public_key_pem()])?;
    node.ready().await?;
    oracle.rounds(1).await?;
    keys(node, signing, verifying)?;
    node.ready().await?;
    let verdict = oracle.finish().await?;
    let by_others = verdict.refused.iter().filter(|refusal| refusal.token.minter != node.name);
    let judges: BTreeSet<_> = by_others.map(|refusal| refusal.judge.as_str()).collect();
    assert_eq!(judges, BTreeSet::from(["node-2"]), "{verdict}");
    Ok(())
}

#[test]
fn node_that_was_off_restored_or_replaced_judges_as_before() {
    within(async || -> Result<()> {
        let mut scene = Scene::start().await?;
        let oracle = scene.oracle()?;
        oracle.rounds(2).await?;
        scene.fleet.nodes[2].kill_kubelet();
        oracle.rounds(2).await?;
        scene.fleet.nodes[2].start_kubelet()?;
        scene.fleet.ready().await?;
        assert_eq!(scene.fleet.starts(), [1, 1, 2]);

        refuses_a_flag(&scene.fleet.nodes[1]).await?;
        forgets_what_came_after_the_backup(&mut scene.fleet).await?;

        let old = scene.fleet.nodes[2].machine.read("/etc/machine-id")?;
        scene.fleet.replace(2, &format!("{NETWORK}.4")).await?;
        let node = &mut scene.fleet.nodes[2];
        assert_ne!(node.machine.read("/etc/machine-id")?, old);
        node.start_kubelet()?;
        node.ready().await?;
        oracle.watch(&node.name, &node.address, &node.root())?;
        oracle.rounds(2).await?;
        assert_eq!(scene.fleet.starts().last(), Some(&1));
        let verdict = oracle.finish().await?;
        verdict.assert_clean();
        Ok(())
    });
}

/// A change that this node's kube-apiserver does not start with, and back.
async fn refuses_a_flag(node: &Node) -> Result<()> {
    let before = node.machine.read(MANIFEST)?;
    node.gate("case \"$*\" in *oidc.fleet.example*) echo no such issuer; exit 1;; esac\n")?;
    issuers(node, &[KUBEADM_ISSUER, OURS])?;
    node.failed(2).await?;
    assert!(node.log().ends_with("no such issuer"), "{}", node.log());
    node.replace(MANIFEST, &before)?;
    node.ready().await?;
    node.gate("")
}

async fn forgets_what_came_after_the_backup(fleet: &mut Fleet) -> Result<()> {
    let get = ["get", "configmaps", "-o", "name"];
    fleet.kubectl(&["create", "configmap", "before"]).await?;
    fleet.back_up()?;
    fleet.ready().await?;
    fleet.kubectl(&["create", "configmap", "after"]).await?;
    assert_eq!(fleet.kubectl(&get).await?, "configmap/after\nconfigmap/before\n");
    fleet.restore().await?;
    assert_eq!(fleet.kubectl(&get).await?, "configmap/before\n");
    Ok(())
}
