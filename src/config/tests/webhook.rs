//! `webhook`: from the file to how pods are changed.

use super::*;
use crate::model::{
    pod_identity::{Composition, ContainerCredentialsToken, PodIdentity},
    region::Partition,
};

#[test]
fn defaults_are_those_of_the_aws_program() {
    let expected = PodIdentity {
        annotation_prefix: "eks.amazonaws.com".to_owned(),
        audience: "sts.amazonaws.com".to_owned(),
        mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
        token_expiration_seconds: 86_400,
        default_region: None,
        regional_sts: false,
        composition: None,
        container_credentials: ContainerCredentialsToken {
            audience: "pods.eks.amazonaws.com".to_owned(),
            mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".to_owned(),
            volume_name: "eks-pod-identity-token".to_owned(),
            token_path: "eks-pod-identity-token".to_owned(),
            full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
        },
    };
    assert_eq!(one(SMALLEST).pod_identity(), expected);
}

#[test]
fn every_option_reaches_the_pods() {
    let text = format!(
        "{SMALLEST}aws: {{ region: us-gov-west-1 }}\nprovider: {{ audiences: [sts.amazonaws.com, vault] }}\n\
         webhook:\n  audience: vault\n  annotationPrefix: example.com\n  tokenMountPath: /aws//\n  tokenExpiration: 1h\n  \
         defaultRegion: us-gov-east-1\n  stsRegionalEndpoints: true\n  composeRoleArn: 012345678901\n  \
         containerCredentials:\n    file: /etc/irsad/identities.json\n    audience: a\n    tokenMountPath: /b\n    volumeName: c\n    \
         tokenPath: d/e\n    fullUri: https://localhost/f/\n"
    );
    let settings = one(&text);
    let expected = PodIdentity {
        annotation_prefix: "example.com".to_owned(),
        audience: "vault".to_owned(),
        mount_path: "/aws//".to_owned(),
        token_expiration_seconds: 3_600,
        default_region: Some("us-gov-east-1".to_owned()),
        regional_sts: true,
        composition: Some(Composition {
            partition: Partition::GovCloud,
            account: "012345678901".parse().expect("an account"),
        }),
        container_credentials: ContainerCredentialsToken {
            audience: "a".to_owned(),
            mount_path: "/b".to_owned(),
            volume_name: "c".to_owned(),
            token_path: "d/e".to_owned(),
            full_uri: "https://localhost/f/".to_owned(),
        },
    };
    assert_eq!(settings.pod_identity(), expected);
    assert_eq!(settings.webhook.container_credentials.file, Some("/etc/irsad/identities.json".into()));
}

#[test]
fn the_rest_is_read_as_written() {
    let text = format!(
        "{SMALLEST}webhook: {{ exemptNamespaces: [kube-system, a], configMapNamespace: eks, lookupGracePeriod: 10s, upstream: \
         {{ image: \"localhost:5000/webhook:1\", namespace: aws, replicas: 3 }} }}\n"
    );
    let webhook = one(&text).webhook;
    let exempt: Vec<&str> = webhook.exempt_namespaces.iter().map(DnsLabel::as_str).collect();
    assert_eq!(exempt, ["kube-system", "a"]);
    assert_eq!(webhook.config_map_namespace.as_ref().map(DnsLabel::as_str), Some("eks"));
    assert_eq!(webhook.lookup_grace_period, Duration::from_secs(10));
    let upstream = webhook.upstream;
    assert_eq!(
        (upstream.image.as_str(), upstream.namespace.as_str(), upstream.replicas),
        ("localhost:5000/webhook:1", "aws", 3)
    );
}

#[test]
fn audience_left_out_is_one_of_the_providers() {
    for (audiences, wanted) in [
        ("[sts.amazonaws.com]", "sts.amazonaws.com"),
        ("[amazonaws.com, sts.amazonaws.com]", "sts.amazonaws.com"),
        ("[amazonaws.com, vault]", "amazonaws.com"),
    ] {
        let text = format!("{SMALLEST}provider: {{ audiences: {audiences} }}\n");
        assert_eq!(one(&text).webhook.audience.as_str(), wanted);
    }
    let foreign = format!("{SMALLEST}provider: {{ manage: false }}\nwebhook: {{ audience: vault }}\n");
    assert_eq!(one(&foreign).webhook.audience.as_str(), "vault", "a provider of somebody else's may have it");
}

#[test]
fn region_is_needed_for_the_partition_of_composed_arns() {
    let folder = "version: 1\ncluster: prod-1\nissuer: { store: file:///srv/oidc, url: \"https://oidc.example.com\" }\n\
                  provider: { manage: false }\n";
    for (more, wanted) in [("", false), ("webhook: { composeRoleArn: 123456789012 }\n", true)] {
        let inputs = Inputs::from_texts(&[("irsad.yaml", format!("{folder}{more}"))]).expect("inputs");
        assert_eq!(inputs.needs_region(), wanted, "{more}");
    }
}

#[test]
fn mistake_says_what_to_write_instead() {
    let no_name = "is not a name in Kubernetes; use at most 63 lower-case letters, digits and hyphens, a letter or digit at both ends";
    let no_path = "is not a path for a token; write an absolute one without ':' and '..', and not the one at which Kubernetes mounts its own token";
    let own = "/var/run/secrets/kubernetes.io/serviceaccount";
    for (text, message) in [
        ("exemptNamespaces: [A]", format!("exemptNamespaces[0]: \"A\" {no_name}")),
        ("exemptNamespaces: [a, b, a]", "exemptNamespaces: a stands twice; keep one".to_owned()),
        (
            "exemptNamespaces: kube-system",
            "exemptNamespaces: a single value stands here; it must be a list; write [A, B], or one item a line behind '- '"
                .to_owned(),
        ),
        (
            "audience: vault",
            "audience: vault is none of provider.audiences, and AWS would refuse the tokens; add it there too".to_owned(),
        ),
        (
            "annotationPrefix: eks.amazonaws.com/",
            "annotationPrefix: \"eks.amazonaws.com/\" is not what annotations can begin with; write a name like eks.amazonaws.com, without the slash"
                .to_owned(),
        ),
        ("tokenMountPath: aws", format!("tokenMountPath: \"aws\" {no_path}")),
        (&format!("tokenMountPath: {own}"), format!("tokenMountPath: {own:?} {no_path}")),
        (
            "defaultRegion: Ireland",
            "defaultRegion: \"Ireland\" is not an AWS region name; write one like eu-west-1".to_owned(),
        ),
        (
            "stsRegionalEndpoints: yes",
            "stsRegionalEndpoints: \"yes\" is not a boolean; write true or false without quotes".to_owned(),
        ),
        (
            "composeRoleArn: true",
            "composeRoleArn: name the account of the roles instead of true, as twelve digits: pods must get their role also while AWS cannot be asked"
                .to_owned(),
        ),
        ("composeRoleArn: 12", "composeRoleArn: \"12\" is not an AWS account; write its twelve digits".to_owned()),
        ("configMapNamespace: \"*\"", format!("configMapNamespace: \"*\" {no_name}")),
        ("lookupGracePeriod: 0s", "lookupGracePeriod: 0s is not 1s to 10s, after which the API server gives up".to_owned()),
        ("lookupGracePeriod: 11s", "lookupGracePeriod: 11s is not 1s to 10s, after which the API server gives up".to_owned()),
        (
            "containerCredentials: { file: identities.json }",
            "containerCredentials.file: \"identities.json\" is not the path of a file; write an absolute one without '.', '..' and double slashes"
                .to_owned(),
        ),
        (
            "containerCredentials: { volumeName: aws-iam-token }",
            "containerCredentials.volumeName: aws-iam-token is the volume of the tokens for roles; use another name".to_owned(),
        ),
        ("containerCredentials: { volumeName: a.b }", format!("containerCredentials.volumeName: \"a.b\" {no_name}")),
        (
            "containerCredentials: { tokenPath: ../token }",
            "containerCredentials.tokenPath: \"../token\" is not a file of a token; write a relative path without '..', for example token"
                .to_owned(),
        ),
        (
            "containerCredentials: { fullUri: 169.254.170.23 }",
            "containerCredentials.fullUri: \"169.254.170.23\" is not an endpoint; write http://HOST[:PORT] or https://HOST[:PORT][/PATH]"
                .to_owned(),
        ),
        (
            "containerCredentials: { audience: \"\" }",
            format!("containerCredentials.audience: {}", "".parse::<Audience>().expect_err("an error")),
        ),
        (
            "upstream: { image: webhook }",
            "upstream.image: \"webhook\" is not an image with a tag or a digest; write one like registry.example.com/webhook:v1 or registry.example.com/webhook@sha256:0f…"
                .to_owned(),
        ),
        ("upstream: { namespace: a_b }", format!("upstream.namespace: \"a_b\" {no_name}")),
        ("upstream: { replicas: 0 }", "upstream.replicas: 0 is not a number of pods to run; use 1 to 10".to_owned()),
        ("upstream: { replicas: 11 }", "upstream.replicas: 11 is not a number of pods to run; use 1 to 10".to_owned()),
        ("upstream: { tag: v1 }", "upstream.tag: unknown key; here can stand: image, namespace, replicas".to_owned()),
    ] {
        let found = mistakes(&format!("{SMALLEST}webhook: {{ {text} }}\n"));
        assert_eq!(found, [format!("irsad.yaml: line 5: webhook.{message}")]);
    }
}
