//! Clusters of kops: a node that kops looks after, and a control plane that comes after it with the keys and the issuer of its state store.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use hyper::Method;
use irsad::model::{jwks::Jwks, key::verification_pem, migrate::KopsState};

use super::{
    ACCOUNT, DISCOVERY, KOPS_MANIFEST, LOCATION, MANIFEST, MIGRATE_CONFIG, flags_that_irsad_adds, machine,
    make_provider, put, without_webhook,
};
use crate::{
    cloud::{
        Cloud,
        client::{ask, call},
    },
    irsad::{Machine, Result, project},
    kubernetes::{self, Node, PROGRAMS, kubeadm_within},
};

const CLUSTER: &str = "minimal.example.com";
const KEY: &str = "/etc/kubernetes/pki/sa.key";
const KUBEADM: &str = "/root/kubeadm.yaml";
/// Of the policy that one of kops' roles has.
const DOCUMENT: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:GetUser","Resource":"*"}]}"#;
/// Of the cluster's folder in the state store.
const STATE: [&str; 2] = ["cluster-completed.spec", "pki/private/service-account/keyset.yaml"];

/// A cluster of kops, whose documents are in `bucket`.
struct Kops {
    cloud: Cloud,
    bucket: &'static str,
    issuer: String,
}

impl Kops {
    /// `None`, and said, where this machine lacks a part.
    async fn start(bucket: &'static str) -> Result<Option<Self>> {
        let Some(cloud) = Cloud::start() else { return Ok(None) };
        let kops = Self { cloud, bucket, issuer: format!("https://{bucket}.s3.eu-west-1.amazonaws.com/{CLUSTER}") };
        put(&format!("/{bucket}"), LOCATION).await?;
        for (key, file) in [("openid/v1/jwks", "keys.json"), (DISCOVERY, "discovery.json")] {
            put(&format!("/{bucket}/{CLUSTER}/{key}"), &kops.file(file)?).await?;
        }
        let tags = [("Tags.member.1.Key", "KubernetesCluster"), ("Tags.member.1.Value", CLUSTER)];
        make_provider(&kops.issuer, &tags).await?;
        Ok(Some(kops))
    }

    /// The same, for a test that starts a node.
    async fn start_with_programs(bucket: &'static str) -> Result<Option<Self>> {
        if kubernetes::programs().is_none() {
            crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
            return Ok(None);
        }
        Self::start(bucket).await
    }

    /// A file of the fixture, as this cluster has it.
    fn file(&self, name: &str) -> Result<String> {
        let path = project().join("tests/fixtures/migrate/kops-1.33-by-hand").join(name);
        Ok(fs::read_to_string(path)?.replace("kops-discovery", self.bucket))
    }

    /// Its folder in the state store.
    async fn store_state(&self, store: &str) -> Result<String> {
        ask("s3", Method::PUT, &format!("/{store}"), LOCATION).await?;
        for file in STATE {
            ask("s3", Method::PUT, &format!("/{store}/{CLUSTER}/{file}"), &self.file(file)?).await?;
        }
        Ok(format!("s3://{store}/{CLUSTER}"))
    }

    /// A copy of it in a folder.
    fn copy_state(&self, folder: &Path) -> Result<String> {
        let machine = Machine::at(folder);
        STATE.iter().try_for_each(|file| machine.write(file, &self.file(file)?))?;
        Ok(folder.display().to_string())
    }
}

/// A node of kops: its key files, flags and kubeconfig, where kops has them.
fn as_kops(machine: &Machine, kops: &Kops) -> Result {
    const FOLDER: &str = "/srv/kubernetes/kube-apiserver";
    let [specification, keyset] = STATE.map(|file| kops.file(file));
    let state = KopsState::read(specification?.as_bytes(), keyset?.as_bytes())?;
    let files = state.files([String::new(), String::new()]);
    let trusted = files.key_files.first().and_then(|(_, keys)| keys.present()).ok_or("kops' keys")?;
    machine.write(&format!("{FOLDER}/service-account.pub"), &verification_pem(trusted))?;
    let key = fs::read_to_string(project().join("tests/fixtures/test-keys/rsa-2048.pkcs1.pem"))?;
    machine.write(&format!("{FOLDER}/service-account.key"), &key)?;
    machine.write("/var/lib/kubectl/kubeconfig", &machine.read("/etc/kubernetes/admin.conf")?)?;

    let issuer = &kops.issuer;
    let mut text = machine.read(MANIFEST)?;
    for (made_by_kubeadm, made_by_kops) in [
        (
            "issuer=https://kubernetes.default.svc.cluster.local\n",
            format!(
                "issuer={issuer}\n    - --service-account-jwks-uri={issuer}/openid/v1/jwks\n    - --api-audiences=kubernetes.svc.default\n"
            ),
        ),
        ("/etc/kubernetes/pki/sa.pub", format!("{FOLDER}/service-account.pub")),
        ("/etc/kubernetes/pki/sa.key", format!("{FOLDER}/service-account.key")),
        (
            "    volumeMounts:\n",
            format!("    volumeMounts:\n    - mountPath: {FOLDER}\n      name: srvkapi\n      readOnly: true\n"),
        ),
        ("  volumes:\n", format!("  volumes:\n  - hostPath:\n      path: {FOLDER}\n    name: srvkapi\n")),
    ] {
        text = text.replace(made_by_kubeadm, &made_by_kops);
    }
    Ok(fs::write(machine.path(MANIFEST), text)?)
}

/// irsad takes over, and kubeadm makes the API server's manifest with what irsad has prepared.
fn begin_anew(root: &Path, kops: &Kops, state: &str) -> Result {
    let machine = machine(root, &kops.cloud);
    for file in ["manifests/kube-apiserver.yaml", "pki/sa.key", "pki/sa.pub"] {
        fs::remove_file(root.join("etc/kubernetes").join(file))?;
    }
    without_webhook(&machine)?;
    machine.write(KUBEADM, include_str!("../../fixtures/kubeadm-configs/default.yaml"))?;
    let migrate = ["migrate", "kops", "--cluster", "anew", "--state", state, "--yes"];
    for command in [&migrate[..], &["prepare", "--kubeadm-config", KUBEADM]] {
        let said = machine.run(command)?;
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    kubeadm_within(root, &["init", "phase", "control-plane", "apiserver", "--config", KUBEADM])
}

#[tokio::test]
async fn control_plane_after_kops_begins_with_its_keys() -> Result {
    let Some(kops) = Kops::start("kops-discovery").await? else { return Ok(()) };
    let (folder, copy) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let machine = machine(folder.path(), &kops.cloud);
    let state = kops.copy_state(copy.path())?;
    let command = ["migrate", "kops", "--cluster", "after-kops", "--state", &state];
    let said = machine.run(&command)?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("mode 0600)") && !said.stdout.contains("PRIVATE KEY"), "{}", said.stdout);
    assert!(machine.everything()?.is_empty(), "files were written");
    let said = machine.run(&[&command[..], &["--yes"]].concat())?;
    assert_eq!(said.code, Some(0), "{said:?}");

    let mode = fs::metadata(machine.path(KEY))?.permissions().mode() & 0o7777;
    let keys = machine.read(KEY)?;
    assert_eq!((mode, machine.run(&["check-config"])?.code), (0o600, Some(0)));
    machine.write(KUBEADM, include_str!("../../fixtures/kubeadm-configs/default.yaml"))?;
    let said = machine.run(&["prepare", "--kubeadm-config", KUBEADM])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(machine.read(KEY)?, keys, "kubeadm begins with kops' key");
    assert!(machine.read(KUBEADM)?.contains(&kops.issuer));

    let arn = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{}", kops.issuer.trim_start_matches("https://"));
    let parameters =
        [("Action", "GetOpenIDConnectProvider"), ("Version", "2010-05-08"), ("OpenIDConnectProviderArn", &arn)];
    let provider = call("iam", &parameters).await?;
    assert!(provider.contains("<Key>irsad/cluster</Key>") && !provider.contains("KubernetesCluster"), "{provider}");
    Ok(())
}

#[tokio::test]
async fn state_store_is_read_from_s3_and_its_roles_are_ones_that_irsad_takes() -> Result {
    let Some(kops) = Kops::start("kops-discovery-of-store").await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let machine = machine(folder.path(), &kops.cloud);
    // The state store is found in its own region; the documents' is in their URL.
    let command = |state: &str| {
        let command = ["migrate", "kops", "--cluster", "of-store", "--region", "us-east-1", "--state", state, "--yes"];
        machine.run(&command)
    };
    let said = command("s3://kops-state-of-store/minimal.example.com")?;
    let refusal = "- s3://kops-state-of-store/minimal.example.com/cluster-completed.spec does not exist (nothing changed); name the folder of \
                   the cluster in kops' state store: --state s3://BUCKET/CLUSTER\n";
    assert!(said.code == Some(1) && said.stdout.contains(refusal), "{said:?}");
    assert!(machine.everything()?.is_empty(), "files were written");

    let state = kops.store_state("kops-state-of-store").await?;
    let said = command(&state)?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let role = format!("arn:aws:iam::{ACCOUNT}:role/irsad/of-store/myotherserviceaccount.myapp.of-store");
    let annotate = "kubectl -n myapp annotate --overwrite serviceaccount myotherserviceaccount";
    assert!(said.stdout.contains(&format!("- {annotate} eks.amazonaws.com/role-arn={role}\n")), "{}", said.stdout);
    assert!(machine.read(KEY)?.contains("PRIVATE KEY"));
    assert_eq!(machine.run(&["check-config"])?.code, Some(0));
    let policy = machine.run(&["iam-policy", "--account", ACCOUNT])?;
    assert!(policy.stdout.contains("role/irsad/of-store/"), "the list is read: {policy:?}");
    assert_eq!(kops.cloud.requests("PutObject"), 0, "the state store is only read");
    Ok(())
}

#[tokio::test]
async fn service_that_stands_in_for_aws_is_asked_and_written_down() -> Result {
    let Some(kops) = Kops::start("kops-discovery-stand-in").await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut machine = machine(folder.path(), &kops.cloud);
    let url = kops.cloud.endpoint_url();
    let state = kops.store_state("kops-state-stand-in").await?;
    for (name, value) in [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_REGION", "eu-west-1")] {
        machine.set(name, value);
    }
    let said = machine.run(&["migrate", "kops", "--cluster", "stand-in", "--state", &state])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains(&format!("+  region: eu-west-1\n+  endpointUrl: {url}\n")), "{}", said.stdout);

    // What the node's own files say goes before the environment.
    machine.write(
        "/etc/irsad/irsad.d/aws.yaml",
        &format!("aws: {{ endpointUrl: {{ s3: \"{url}\", sts: \"{url}\" }} }}\n"),
    )?;
    let said = machine.run(&["migrate", "kops", "--cluster", "stand-in", "--state", &state])?;
    assert!(said.stdout.contains(&format!("+  endpointUrl: {{ s3: {url}, sts: {url} }}\n")), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn api_server_after_kops_runs_on_with_kops_keys_in_what_irsad_plans_next() -> Result {
    let Some(kops) = Kops::start_with_programs("kops-discovery-anew").await? else { return Ok(()) };
    let state = kops.store_state("kops-state-anew").await?;
    let made = [("Action", "CreatePolicy"), ("Version", "2010-05-08"), ("PolicyName", "UsersManageOwnCredentials")];
    call("iam", &[&made[..], &[("PolicyDocument", DOCUMENT)]].concat()).await?;
    let node = Node::start_with(|root| begin_anew(root, &kops, &state)).await?;
    let served = Jwks::parse(node.get("/openid/v1/jwks").await?.as_bytes())?;
    assert!(served.has_same_keys(&Jwks::parse(kops.file("keys.json")?.as_bytes())?), "kops' keys, and no other");

    let machine = machine(&node.root(), &kops.cloud);
    assert!(machine.read(MIGRATE_CONFIG)?.contains("serviceAccount: myserviceaccount\n"));
    assert_eq!(flags_that_irsad_adds(&node, &machine, &kops.issuer).await?, Vec::<String>::new());
    let role = [("Action", "GetRole"), ("Version", "2010-05-08"), ("RoleName", "myserviceaccount.default.anew")];
    let role = call("iam", &role).await?;
    assert!(role.contains("<Path>/irsad/anew/</Path>") && role.contains("amazonaws.com"), "{role}");
    Ok(())
}

#[tokio::test]
async fn node_of_kops_keeps_flags_and_keys_in_what_irsad_plans_next() -> Result {
    let Some(kops) = Kops::start_with_programs("kops-discovery-node").await? else { return Ok(()) };
    let node = Node::start_with(|root| as_kops(&Machine::at(root), &kops)).await?;
    let machine = machine(&node.root(), &kops.cloud);
    fs::rename(machine.path(MANIFEST), machine.path(KOPS_MANIFEST))?;
    node.ready().await?;
    without_webhook(&machine)?;
    let command = ["migrate", "kops", "--cluster", "of-kops", "--yes"];
    let said = machine.run(&command)?;
    assert_eq!(said.code, Some(0), "{said:?}");
    let advice = format!(
        "- kops writes documents and tags again at each kops update cluster: in the cluster spec, put kubeAPIServer.serviceAccountIssuer: {} \
         in the place of serviceAccountIssuerDiscovery\n",
        kops.issuer
    );
    assert!(said.stdout.contains("no kube-apiserver is restarted for it") && said.stdout.contains(&advice), "{said:?}");
    let starts = node.starts().len();
    assert_eq!(flags_that_irsad_adds(&node, &machine, &kops.issuer).await?, Vec::<String>::new());
    assert_eq!(node.starts().len(), starts, "no restart");
    Ok(())
}
