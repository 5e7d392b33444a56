//! Which issuers a new cluster's API server is to get from kubeadm.

use super::{ApiVersion, KubeadmConfig};
use crate::model::issuer::IssuerUrl;

/// Names in `extraArgs`, without dashes.
pub const ISSUER: &str = "service-account-issuer";
/// The flag with the address of the public keys, without dashes.
pub const JWKS_URI: &str = "service-account-jwks-uri";
const API_AUDIENCES: &str = "api-audiences";

/// First patch release of each minor that keeps the order of repeated arguments (kubernetes/kubernetes pull request 135400
/// and its backports, for kubernetes/kubeadm issue 3261). Later minors all do.
const KEEPS_ORDER_FROM: [(u64, u64); 5] = [(32, 12), (33, 8), (34, 4), (35, 1), (36, 0)];

/// The issuers for `extraArgs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuersToWrite {
    /// In order: ours first.
    pub issuers: Vec<String>,
    /// Why others were left out, for a person; `None` where none were.
    pub note: Option<String>,
}

/// Ours first, then those the configuration has, or kubeadm's default one (`https://kubernetes.default.svc.DOMAIN`).
///
/// Ours alone where the configuration format or this kubeadm cannot keep that order: a cluster that does not exist yet has
/// no tokens of another issuer. `kubeadm_version` is what `kubeadm version` says; without it `kubernetesVersion` is taken,
/// which kubeadm never lets be of a later minor than its own.
pub fn issuers_to_write(config: &KubeadmConfig, ours: &IssuerUrl, kubeadm_version: Option<&str>) -> IssuersToWrite {
    let ours = ours.as_str().to_owned();
    let mut issuers = vec![ours.clone()];
    let standing = config.api_server_arg(ISSUER);
    let others: Vec<String> = match standing.is_empty() {
        true => vec![format!("https://kubernetes.default.svc.{}", config.dns_domain())],
        false => standing.into_iter().map(str::to_owned).collect(),
    };
    for other in others {
        if !issuers.contains(&other) {
            issuers.push(other);
        }
    }
    let left_out = issuers[1..].join(" and ");
    let alone = |why: String| IssuersToWrite { issuers: vec![ours], note: Some(why) };
    if left_out.is_empty() {
        return IssuersToWrite { issuers, note: None };
    }
    if config.api_version() == ApiVersion::V1Beta3 {
        return alone(format!(
            "{left_out} left out: extraArgs of kubeadm.k8s.io/v1beta3 hold one issuer; a new cluster has no tokens of another"
        ));
    }
    let version = kubeadm_version.or(config.kubernetes_version());
    if issuers.is_sorted() || version.is_some_and(keeps_order) {
        return IssuersToWrite { issuers, note: None };
    }
    let version = version.map_or("an unnamed version".to_owned(), |version| format!("version {version}"));
    alone(format!(
        "{left_out} left out: kubeadm before 1.32.12, 1.33.8, 1.34.4, 1.35.1 and 1.36 sorts issuers by name and would not let ours sign, and {version} is not known to be later; a new cluster has no tokens of another"
    ))
}

/// Why the configuration of a cluster that runs cannot be given these issuers; `None` where it can. All of them have to stay: there
/// are tokens of each.
pub fn cannot_hold(config: &KubeadmConfig, issuers: &[String]) -> Option<String> {
    if issuers.len() < 2 {
        return None;
    }
    if config.api_version() == ApiVersion::V1Beta3 {
        return Some(
            "extraArgs of kubeadm.k8s.io/v1beta3 in ConfigMap kube-system/kubeadm-config hold one issuer; kubeadm 1.31 and later write \
             v1beta4 there"
                .to_owned(),
        );
    }
    let version = config.kubernetes_version();
    if issuers.is_sorted() || version.is_some_and(keeps_order) {
        return None;
    }
    Some(format!(
        "kubeadm before 1.32.12, 1.33.8, 1.34.4, 1.35.1 and 1.36 sorts issuers by name and would not let ours sign, and this cluster \
         has {}; upgrade to one of these first",
        version.unwrap_or("no known version")
    ))
}

/// The arguments of `extraArgs` that give the API server these values; `None` leaves `--api-audiences` alone.
pub fn api_server_arguments(
    issuers: Vec<String>,
    jwks_uri: String,
    audiences: Option<&[String]>,
) -> Vec<(&'static str, Vec<String>)> {
    let audiences = audiences.map(|audiences| (API_AUDIENCES, vec![audiences.join(",")]));
    [(ISSUER, issuers), (JWKS_URI, vec![jwks_uri])].into_iter().chain(audiences).collect()
}

/// Whether a version is certainly one whose kubeadm keeps the order. A pre-release comes before its release.
fn keeps_order(version: &str) -> bool {
    let version = version.strip_prefix('v').unwrap_or(version);
    let version = version.split('+').next().unwrap_or_default();
    let (release, is_release) = version.split_once('-').map_or((version, true), |(release, _)| (release, false));
    let numbers: Vec<u64> = release.split('.').map_while(|number| number.parse().ok()).collect();
    let &[1, minor, patch] = numbers.as_slice() else { return false };
    if release.split('.').count() != 3 {
        return false;
    }
    match KEEPS_ORDER_FROM.iter().find(|(fixed, _)| *fixed == minor) {
        Some((_, fixed)) => patch > *fixed || (patch == *fixed && is_release),
        None => minor > 36,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kubeadm::KubeadmError;

    fn choose(config: &str, ours: &str, kubeadm: Option<&str>) -> Result<(Vec<String>, Option<String>), KubeadmError> {
        let config = KubeadmConfig::parse(config.as_bytes())?;
        let chosen = issuers_to_write(&config, &ours.parse().expect("an issuer"), kubeadm);
        Ok((chosen.issuers, chosen.note))
    }

    fn v1beta4(rest: &str) -> String {
        format!("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n{rest}")
    }

    #[test]
    fn ours_comes_first_and_the_issuer_of_before_stays_accepted() -> Result<(), KubeadmError> {
        let ours = "https://s3.example.com";
        let standing = "apiServer:\n  extraArgs:\n  - {name: service-account-issuer, value: https://b}\n  - {name: service-account-issuer, value: https://s3.example.com}\n  - {name: service-account-issuer, value: https://a}\n";
        for (rest, expected) in [
            ("kubernetesVersion: v1.36.3\n", vec![ours, "https://kubernetes.default.svc.cluster.local"]),
            (
                "kubernetesVersion: v1.35.1\nnetworking: {dnsDomain: k8s.test}\n",
                vec![ours, "https://kubernetes.default.svc.k8s.test"],
            ),
            (&format!("kubernetesVersion: 1.40.0\n{standing}"), vec![ours, "https://b", "https://a"]),
        ] {
            let (issuers, note) = choose(&v1beta4(rest), ours, None)?;
            assert_eq!((issuers, note), (expected.into_iter().map(str::to_owned).collect(), None), "{rest}");
        }
        Ok(())
    }

    #[test]
    fn ours_stands_alone_where_kubeadm_would_sort_it_behind_another() -> Result<(), KubeadmError> {
        let why = |version: &str| {
            format!(
                "https://kubernetes.default.svc.cluster.local left out: kubeadm before 1.32.12, 1.33.8, 1.34.4, 1.35.1 and 1.36 sorts issuers by name and would not let ours sign, and {version} is not known to be later; a new cluster has no tokens of another"
            )
        };
        for (version, kubeadm, expected) in [
            ("v1.35.0", None, Some(why("version v1.35.0"))),
            ("v1.36.3", Some("v1.35.0"), Some(why("version v1.35.0"))),
            ("v1.35.0", Some("v1.35.1"), None),
            ("stable-1.36", None, Some(why("version stable-1.36"))),
            ("\"\"", None, Some(why("an unnamed version"))),
        ] {
            let config = v1beta4(&format!("kubernetesVersion: {version}\n"));
            let (issuers, note) = choose(&config, "https://s3.example.com", kubeadm)?;
            assert_eq!((issuers.len(), note), (if expected.is_some() { 1 } else { 2 }, expected), "{version}");
        }
        // Sorted and wanted order are the same here.
        let (issuers, note) = choose(&v1beta4("kubernetesVersion: v1.31.0\n"), "https://a.example.com", None)?;
        assert_eq!((issuers.len(), note), (2, None));
        Ok(())
    }

    #[test]
    fn ours_stands_alone_in_the_older_format() -> Result<(), KubeadmError> {
        let config = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n";
        let (issuers, note) = choose(config, "https://a.example.com", None)?;
        assert_eq!(issuers, ["https://a.example.com"]);
        assert_eq!(
            note.as_deref(),
            Some(
                "https://kubernetes.default.svc.cluster.local left out: extraArgs of kubeadm.k8s.io/v1beta3 hold one issuer; a new cluster has no tokens of another"
            )
        );
        Ok(())
    }

    #[test]
    fn order_is_trusted_from_the_fixed_patch_release_on() {
        for (version, expected) in [
            ("v1.31.99", false),
            ("v1.32.11", false),
            ("v1.32.12", true),
            ("v1.33.7", false),
            ("v1.33.8", true),
            ("v1.34.3", false),
            ("v1.34.4", true),
            ("v1.35.0", false),
            ("v1.35.1-rc.0", false),
            ("v1.35.1", true),
            ("v1.35.2-rc.0", true),
            ("v1.36.0-alpha.1", false),
            ("v1.36.0", true),
            ("1.37.0+build", true),
            ("v1.37.0-alpha.1", true),
            ("v2.0.0", false),
            ("v1.36", false),
            ("v1.36.x", false),
            ("stable", false),
            ("", false),
        ] {
            assert_eq!(keeps_order(version), expected, "{version}");
        }
    }
}
