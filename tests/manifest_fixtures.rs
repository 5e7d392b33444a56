//! Manifests made by real kubeadm, and kops' dialect: what is read from them, and that an edit changes exactly our lines.

use std::{error::Error, fs, path::PathBuf};

use irsad::model::manifest::{Desired, Manifest, Reverted};

const OURS: &str = "https://oidc.example.com/prod-1";
const JWKS: &str = "https://oidc.example.com/prod-1/openid/v1/jwks";
const KUBEADM_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

type Outcome = Result<(), Box<dyn Error>>;

/// Every manifest of kubeadm and kops below `tests/fixtures`, its path below it and its text.
fn manifests() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for folder in fs::read_dir(&root)?.collect::<Result<Vec<_>, _>>()? {
        let name = folder.file_name().to_string_lossy().into_owned();
        let holds_manifests =
            (name.starts_with("kubeadm-1.") || name.starts_with("kops-")) && folder.file_type()?.is_dir();
        if !holds_manifests {
            continue;
        }
        for file in fs::read_dir(folder.path())?.collect::<Result<Vec<_>, _>>()? {
            found.push((format!("{name}/{}", file.file_name().to_string_lossy()), fs::read_to_string(file.path())?));
        }
    }
    found.sort();
    assert!(found.len() >= 30, "only {} manifests below {}", found.len(), root.display());
    Ok(found)
}

/// Ours first, then what the manifest had.
fn adoption(manifest: &Manifest) -> Desired {
    let mut issuers = vec![OURS.to_owned()];
    issuers.extend_from_slice(manifest.issuers());
    Desired { issuers, jwks_uri: Some(JWKS.to_owned()), api_audiences: None, applied: Some("7-4f2a".to_owned()) }
}

/// The expected text, made from lines alone.
fn expected(old: &str) -> String {
    let mut text = String::new();
    let has_jwks_uri = old.contains("--service-account-jwks-uri=");
    let first = old.lines().position(|line| line.contains("--service-account-issuer="));
    let last = old.lines().collect::<Vec<_>>().iter().rposition(|line| line.contains("--service-account-issuer="));
    for (number, line) in old.lines().enumerate() {
        let indent = " ".repeat(line.len() - line.trim_start().len());
        if Some(number) == first {
            text += &format!("{indent}- --service-account-issuer={OURS}\n");
        }
        if line.contains("--service-account-jwks-uri=") {
            text += &format!("{indent}- --service-account-jwks-uri={JWKS}\n");
        } else {
            text += &format!("{line}\n");
        }
        if Some(number) == last && !has_jwks_uri {
            text += &format!("{indent}- --service-account-jwks-uri={JWKS}\n");
        }
        if line == "  annotations:" {
            text += "    irsad/applied: \"7-4f2a\"\n";
        }
    }
    text
}

#[test]
fn adopting_a_real_manifest_changes_exactly_our_lines() -> Outcome {
    for (name, old) in manifests()? {
        let manifest = Manifest::parse(old.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
        let edited = manifest.with(&adoption(&manifest)).map_err(|error| format!("{name}: {error}"))?;
        assert_eq!(edited.text(), expected(&old), "{name}");
        assert!(edited.is_changed() && !edited.newline_added(), "{name}");
    }
    Ok(())
}

#[test]
fn adopting_a_real_manifest_twice_changes_it_once() -> Outcome {
    for (name, old) in manifests()? {
        let manifest = Manifest::parse(old.as_bytes())?;
        let desired = adoption(&manifest);
        let once = manifest.with(&desired)?;
        let twice = Manifest::parse(once.text().as_bytes())?.with(&desired)?;
        assert!(!twice.is_changed(), "{name}");
        assert_eq!(twice.text(), once.text(), "{name}");
    }
    Ok(())
}

#[test]
fn going_back_to_the_issuers_of_before_leaves_every_other_line_of_a_real_manifest() -> Outcome {
    for (name, old) in manifests()? {
        let manifest = Manifest::parse(old.as_bytes())?;
        let keep = Desired { issuers: manifest.issuers().to_vec(), jwks_uri: None, api_audiences: None, applied: None };
        assert_eq!(manifest.with(&keep)?.text(), old, "{name}");
        let there = manifest.with(&Desired { jwks_uri: None, applied: None, ..adoption(&manifest) })?;
        let back = Manifest::parse(there.text().as_bytes())?.with(&keep)?;
        assert_eq!(back.text(), old, "{name}");
    }
    Ok(())
}

#[test]
fn real_manifests_are_read_as_kube_apiserver_reads_them() -> Outcome {
    for (name, text) in manifests()? {
        let manifest = Manifest::parse(text.as_bytes())?;
        let kops = name.starts_with("kops");
        assert!(manifest.host_network(), "{name}");
        assert_eq!(manifest.secure_port(), if kops { 443 } else { 6443 }, "{name}");
        assert_eq!(manifest.advertise_address(), if kops { None } else { Some("192.0.2.10") }, "{name}");
        assert!(
            manifest.image().is_some_and(|image| image.starts_with("registry.k8s.io/kube-apiserver:v1.3")),
            "{name}"
        );
        let case = name.split('/').nth(1).unwrap_or_default();
        let issuers: &[&str] = match case {
            "two-issuers.yaml" => &["https://prod-1-oidc.s3.eu-west-1.amazonaws.com", KUBEADM_ISSUER],
            "v1beta3.yaml" => &["https://prod-1-oidc.s3.eu-west-1.amazonaws.com"],
            "keys-by-hand.yaml" => &["https://s3-eu-west-1.amazonaws.com/aws-irsa-oidc-1700000000"],
            "kube-apiserver.manifest" => &[
                "https://api.internal.prod-1.example.com",
                "https://prod-1-oidc.s3.eu-west-1.amazonaws.com",
                KUBEADM_ISSUER,
            ],
            _ => &[KUBEADM_ISSUER],
        };
        assert_eq!(manifest.issuers(), issuers, "{name}");
        let (keys, signing): (&[&str], _) = match case {
            "keys-by-hand.yaml" => (
                &["/etc/kubernetes/pki/oidc-issuer.pub", "/etc/kubernetes/pki/sa.pub"],
                "/etc/kubernetes/pki/oidc-issuer.key",
            ),
            "kube-apiserver.manifest" => (
                &["/srv/kubernetes/kube-apiserver/service-account.pub"],
                "/srv/kubernetes/kube-apiserver/service-account.key",
            ),
            _ => (&["/etc/kubernetes/pki/sa.pub"], "/etc/kubernetes/pki/sa.key"),
        };
        assert_eq!(
            (manifest.key_files(), manifest.signing_key_file()),
            (&keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>()[..], Some(signing)),
            "{name}"
        );
        let audiences: Option<Vec<String>> = match case {
            "audience.yaml" => Some(vec![KUBEADM_ISSUER.to_owned(), "vault".to_owned()]),
            "keys-by-hand.yaml" => Some(vec!["sts.amazonaws.com".to_owned(), KUBEADM_ISSUER.to_owned()]),
            "kube-apiserver.manifest" => Some(vec!["kubernetes.svc.default".to_owned()]),
            _ => None,
        };
        assert_eq!(manifest.api_audiences(), audiences.as_deref(), "{name}");
    }
    Ok(())
}

#[test]
fn every_manifest_that_was_adopted_is_as_before_when_our_lines_are_gone() -> Outcome {
    for (name, text) in manifests()? {
        let manifest = Manifest::parse(text.as_bytes())?;
        if manifest.jwks_uri().is_some() || manifest.issuers().is_empty() {
            // What stood in that flag before is not known any more.
            continue;
        }
        let adopted = manifest.with(&adoption(&manifest))?;
        let back = Reverted { issuers: manifest.issuers().to_vec(), jwks_uri: JWKS.to_owned() };
        let reverted = Manifest::parse(adopted.text().as_bytes())?.reverted(&back)?;
        assert_eq!(reverted.text(), text, "{name}");
    }
    Ok(())
}
