//! What an operator reads when the configuration is wrong.

use super::*;

#[test]
fn every_mistake_is_reported_at_once_with_file_line_and_key() {
    let main = "version: 2\ncluster: Prod\nissuer:\n  store: s3://prod.oidc\n  url: http://a\n  jwkspath: keys.json\n  createBucket: yes\nprovider: [a]\n";
    let second = "rotation:\n  period: -1d\n  tokenLifetime: 30m\napiServer:\n  manifest: etc/kubernetes\n  keys: own\n  audiences: [a b, {}]\nwebhook:\n  port: 70000\n";
    let mistakes =
        settle(&[("/etc/irsad/irsad.yaml", main), ("/etc/irsad/irsad.d/a.yaml", second)]).expect_err("mistakes");
    let expected = "\
/etc/irsad/irsad.yaml: line 1: version: this irsad reads version 1; write `version: 1` or install the irsad that the file is for
/etc/irsad/irsad.yaml: line 2: cluster: \"Prod\" is not a cluster name; use at most 40 lower-case letters, digits and hyphens, a letter or digit at both ends
/etc/irsad/irsad.yaml: line 4: issuer.store: bucket prod.oidc has a dot in its name; the S3 endpoint's certificate does not cover such a host, use hyphens
/etc/irsad/irsad.yaml: line 5: issuer.url: issuer http://a does not begin with https://; kube-apiserver serves no discovery for it and IAM refuses it
/etc/irsad/irsad.yaml: line 6: issuer.jwkspath: unknown key; here can stand: access, createBucket, jwksPath, store, url
/etc/irsad/irsad.yaml: line 7: issuer.createBucket: \"yes\" is not a boolean; write true or false without quotes
/etc/irsad/irsad.yaml: line 8: provider: a list stands here; it must be a mapping; write its keys below it, indented
/etc/irsad/irsad.d/a.yaml: line 2: rotation.period: -1d is negative; durations are not
/etc/irsad/irsad.d/a.yaml: line 3: rotation.tokenLifetime: 30m is less than 1h; valid tokens could be refused below that; raise it, or set rotation.belowFloors: true for a test
/etc/irsad/irsad.d/a.yaml: line 5: apiServer.manifest: \"etc/kubernetes\" is not the path of a file; write an absolute one without '.', '..' and double slashes
/etc/irsad/irsad.d/a.yaml: line 6: apiServer.keys: \"own\" is not one of manage, follow
/etc/irsad/irsad.d/a.yaml: line 7: apiServer.audiences[0]: audience \"a b\" is empty, longer than 255 characters or has a space or comma in it; IAM and --api-audiences take none such
/etc/irsad/irsad.d/a.yaml: line 7: apiServer.audiences[1]: a mapping stands here; write one value
/etc/irsad/irsad.d/a.yaml: line 9: webhook.port: 70000 is not a port; use 1 to 65535";
    assert_eq!(mistakes.to_string(), expected);
}

#[test]
fn text_that_is_no_configuration_is_refused() {
    for (text, message) in [
        ("a: 1\n\tb: 2\n", "irsad.yaml: line 2: indented with a tab; indent with spaces"),
        ("a: 1\r\n", "irsad.yaml: line 1: a carriage return; save the file with Unix line ends (LF)"),
        ("a: 1\na: 2\n", "irsad.yaml: line 2: key \"a\" stands twice (first in line 1); keep one"),
        ("a: &b 1\n", "irsad.yaml: line 1: an anchor (&), which is not understood here; write the value out"),
        ("- a\n", "irsad.yaml: line 1: the file is not a mapping; write KEY: VALUE lines"),
        ("a: 1\n---\nb: 1\n", "irsad.yaml: line 3: a second YAML document begins here; one file holds one document"),
    ] {
        assert_eq!(mistakes(text), [message]);
    }
    let two = Inputs::from_texts(&[("a.yaml", "- a\n"), ("b.yaml", "\tb: 1\n")]).expect_err("two mistakes");
    assert_eq!(
        two.iter().map(|mistake| mistake.file.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        ["a.yaml", "b.yaml"]
    );
    let nothing: [(&str, &str); 0] = [];
    let nothing = Inputs::from_texts(&nothing).expect_err("three mistakes").to_string();
    assert!(
        nothing
            .starts_with("/etc/irsad/irsad.yaml: line 1: version: it is missing; add it, for example `version: 1`\n")
    );
}

#[test]
fn each_mistake_has_its_own_message() {
    let file = "version: 1\ncluster: prod-1\nissuer: { store: file:///srv/oidc, url: https://oidc.example.com }\n";
    for (text, message) in [
        ("aws:", "aws: it has no value; give it one, or leave the key out for the default"),
        ("aws: { region: europe }", "aws.region: \"europe\" is not an AWS region name; write one like eu-west-1"),
        ("aws: { region: [a] }", "aws.region: a list stands here; it must be one value"),
        (
            "aws: { endpointUrl: localhost }",
            "aws.endpointUrl: \"localhost\" is not an endpoint; write http://HOST[:PORT] or https://HOST[:PORT][/PATH]",
        ),
        ("aws: { endpointUrl: { ec2: \"\" } }", "aws.endpointUrl.ec2: unknown key; here can stand: iam, kms, s3, sts"),
        (
            "provider: { manage: \"true\" }",
            "provider.manage: \"true\" is not a boolean; write true or false without quotes",
        ),
        ("provider: { audiences: [] }", "provider.audiences: the list is empty; leave it out for the default"),
        ("provider: { audiences: [a, a] }", "provider.audiences: a stands twice; keep one"),
        (
            "provider: { audiences: sts.amazonaws.com }",
            "provider.audiences: a single value stands here; it must be a list; write [A, B], or one item a line behind '- '",
        ),
        (
            "provider: { tags: { \"a;b\": c } }",
            "provider.tags.a;b: IAM takes keys of 1 to 128 and values of at most 256 letters, digits, spaces and _.:/=+-@; reword the tag",
        ),
        (
            "provider: { tags: { irsad/x: c } }",
            "provider.tags.irsad/x: tags that begin with aws: or irsad are taken; use another key",
        ),
        ("provider: { tags: { a: [b] } }", "provider.tags.a: a list stands here; it must be one value"),
        ("keyring: { file: /srv }", "keyring.file: unknown key; here can stand: kmsKey, store"),
        (
            "keyring: { kmsKey: alias/aws/s3 }",
            "keyring.kmsKey: alias/aws/s3 is a key of AWS that only its own service may use; make a symmetric key of yours and name that",
        ),
        ("apiServer: { audiences: all }", "apiServer.audiences: \"all\" is not one of keep, a list of audiences"),
        ("apiServer: { distribution: k3s }", "apiServer.distribution: \"k3s\" is not one of auto, kubeadm, kops"),
        (
            "apiServer: { distribution: kops, persist: true }",
            "apiServer.persist: a kops cluster has no kubeadm-config; set it to false or leave it out",
        ),
        (
            "apiServer: { signingKey: /etc/kubernetes/pki/../sa.key }",
            "apiServer.signingKey: \"/etc/kubernetes/pki/../sa.key\" is not the path of a file; write an absolute one without '.', '..' and double slashes",
        ),
        (
            "apiServer: { verifyingKeys: /etc/kubernetes/pki/sa.key }",
            "apiServer.verifyingKeys: /etc/kubernetes/pki/sa.key is also apiServer.signingKey; give each its own file",
        ),
        (
            "apiServer: { evidenceTimeout: 119s }",
            "apiServer.evidenceTimeout: 1m59s is less than 2m; a slow kube-apiserver would be taken for a broken one; raise it, or set rotation.belowFloors: true for a test",
        ),
        (
            "rotation: { publishLead: 23h }",
            "rotation.publishLead: 23h is less than 1d; valid tokens could be refused below that; raise it, or set rotation.belowFloors: true for a test",
        ),
        (
            "rotation: { period: 23h, belowFloors: true }",
            "rotation.period: 23h is less than rotation.publishLead (1d); a key could not be published before it signs, raise it",
        ),
        (
            "rotation: { verifyRetention: 23h }",
            "rotation.verifyRetention: 23h is less than rotation.tokenLifetime (1d); valid tokens would be refused, raise it",
        ),
        (
            "rotation: { period: daily }",
            "rotation.period: \"daily\" is not a duration; write whole numbers with d, h, m or s, larger units first, as in 90d, 24h or 1d12h",
        ),
        ("webhook: { port: 0 }", "webhook.port: 0 is not a port; use 1 to 65535"),
        ("webhook: { port: \"23443\" }", "webhook.port: \"23443\" is not a number; write digits without quotes"),
        ("metrics: { port: 65536 }", "metrics.port: 65536 is not a port; use 1 to 65535, or 0 for none"),
        ("metrics: { port: 23443 }", "metrics.port: 23443 is also webhook.port; give each its own"),
        ("metrics: { address: 0.0.0.0 }", "metrics.address: unknown key; here can stand: port"),
        ("webhook: { failurePolicy: ignore }", "webhook.failurePolicy: \"ignore\" is not one of Ignore, Fail"),
        (
            "webhook: { tokenExpiration: 9m }",
            "webhook.tokenExpiration: 9m is less than 10m, the least that kube-apiserver grants; raise it",
        ),
        (
            "webhook: { tokenExpiration: 25h }",
            "webhook.tokenExpiration: 1d1h is more than rotation.tokenLifetime (1d); keys would leave before their tokens expire, lower it or raise the other",
        ),
    ] {
        assert_eq!(mistakes(&format!("{file}{text}\n")), [format!("irsad.yaml: line 4: {message}")]);
    }
    let many = |number: usize| (0..number).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let tags = format!("{file}provider: {{ tags: {{ {}: a }} }}\n", many(49).join(": a, "));
    assert_eq!(
        mistakes(&tags),
        ["irsad.yaml: line 4: provider.tags: 49 tags are too many; IAM takes 50 and two are kept for irsad"]
    );
    let audiences = format!("{file}provider: {{ audiences: [{}] }}\n", many(101).join(", "));
    assert_eq!(
        mistakes(&audiences),
        ["irsad.yaml: line 4: provider.audiences: 101 audiences are too many; IAM takes 100"]
    );
}
