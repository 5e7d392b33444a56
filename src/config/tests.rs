//! The configuration as an operator meets it: files in, settings or messages out.

use std::time::Duration;

use super::*;

mod mistakes;
mod roles;
mod webhook;

const SMALLEST: &str = "version: 1\ncluster: prod-1\nissuer:\n  store: s3://prod-1-oidc\n";
const EXAMPLE: &str = include_str!("../../packaging/config/irsad.yaml");
const MANUAL: &str = include_str!("../../packaging/man/irsad.yaml.5");

fn region(text: &str) -> Option<Region> {
    Some(text.parse().expect("a region"))
}

fn settle(texts: &[(&str, &str)]) -> Result<Settings, Mistakes> {
    Inputs::from_texts(texts)?.settle(region("eu-west-1"), || Distribution::Kubeadm)
}

fn one(text: &str) -> Settings {
    settle(&[("irsad.yaml", text)]).expect("settings")
}

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = settle(&[("irsad.yaml", text)]).expect_err("mistakes");
    mistakes.to_string().lines().map(str::to_owned).collect()
}

/// The example with every option switched on.
fn example() -> String {
    let is_option = |rest: &str| !rest.is_empty() && (rest.starts_with("  ") || !rest.starts_with(' '));
    let line = |line| match str::strip_prefix(line, "#") {
        Some(rest) if is_option(rest) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    EXAMPLE.lines().map(line).collect()
}

#[test]
fn smallest_configuration_has_every_default() {
    let settings = one(SMALLEST);
    let day = Duration::from_secs(86_400);
    let expected = Settings {
        cluster: "prod-1".parse().expect("a name"),
        issuer: IssuerSettings {
            store: "s3://prod-1-oidc".parse().expect("a location"),
            url: "https://prod-1-oidc.s3.eu-west-1.amazonaws.com".parse().expect("an issuer"),
            jwks_path: "openid/v1/jwks".parse().expect("a path"),
            create_bucket: true,
            access: Access::BucketPolicy,
        },
        keyring: KeyringSettings { store: KeyringLocation::Kubernetes, kms_key: None },
        aws: AwsSettings { region: region("eu-west-1"), endpoints: Endpoints::default() },
        provider: ProviderSettings {
            manage: true,
            audiences: vec!["sts.amazonaws.com".parse().expect("an audience")],
            tags: BTreeMap::new(),
        },
        api_server: ApiServerSettings {
            distribution: Distribution::Kubeadm,
            manifest: "/etc/kubernetes/manifests/kube-apiserver.yaml".into(),
            signing_key: "/etc/kubernetes/pki/sa.key".into(),
            verifying_keys: "/etc/kubernetes/pki/sa.pub".into(),
            kubeconfig: "/etc/kubernetes/admin.conf".into(),
            keys: Keys::Manage,
            audiences: None,
            persist: true,
            restart: Restart::Rolling,
            restart_deadline: Duration::from_secs(30 * 86_400),
            evidence_timeout: Duration::from_secs(300),
        },
        rotation: RotationSettings {
            period: Some(90 * day),
            publish_lead: day,
            token_lifetime: day,
            verify_retention: 366 * day,
            below_floors: false,
        },
        webhook: WebhookSettings {
            mode: WebhookMode::BuiltIn,
            port: 23443,
            failure_policy: FailurePolicy::Ignore,
            exempt_namespaces: Vec::new(),
            token_expiration: day,
            audience: "sts.amazonaws.com".parse().expect("an audience"),
            annotation_prefix: "eks.amazonaws.com".parse().expect("a prefix"),
            token_mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".parse().expect("a path"),
            default_region: None,
            sts_regional_endpoints: false,
            compose_role_arn: None,
            config_map_namespace: None,
            lookup_grace_period: Duration::from_secs(5),
            container_credentials: ContainerCredentialsSettings {
                file: None,
                audience: "pods.eks.amazonaws.com".parse().expect("an audience"),
                token_mount_path: "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount".parse().expect("a path"),
                volume_name: "eks-pod-identity-token".parse().expect("a name"),
                token_path: "eks-pod-identity-token".parse().expect("a path"),
                full_uri: "http://169.254.170.23/v1/credentials".to_owned(),
            },
            upstream: UpstreamSettings {
                image: "public.ecr.aws/eks/amazon-eks-pod-identity-webhook:v0.6.17".parse().expect("an image"),
                namespace: "kube-system".parse().expect("a name"),
                replicas: 2,
            },
        },
        metrics: MetricsSettings { port: Some(23444) },
        roles: RolesSettings {
            mode: RolesMode::None,
            boundary: None,
            tags: BTreeMap::new(),
            additional_issuers: Vec::new(),
            removal_delay: Duration::from_secs(3600),
            list: Vec::new(),
        },
        notices: Vec::new(),
    };
    assert_eq!(settings, expected);
}

#[test]
fn example_shows_every_option_with_its_default() {
    let shown = Settings { notices: Vec::new(), ..one(&example()) };
    assert_eq!(shown, one(SMALLEST));

    // Asked with a key that nobody knows, every section tells which it does know.
    let mut probe = String::from("probe: 1\n");
    let mut keys = Vec::new();
    for line in example().lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty()) {
        let key = line.trim_start().split(':').next().expect("a key").to_owned();
        if line.ends_with(':') {
            let indent = &line[..line.len() - line.trim_start().len()];
            probe.push_str(&format!("{indent}{key}:\n{indent}  probe: 1\n"));
        }
        keys.push(key);
    }
    let known: Vec<String> = mistakes(&probe)
        .iter()
        .filter_map(|mistake| mistake.split_once("here can stand: "))
        .flat_map(|(_, known)| known.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    keys.sort();
    let mut sorted = known.clone();
    sorted.sort();
    assert_eq!(sorted, keys);
}

/// Keys whose value in the example is only its form.
const WITHOUT_A_DEFAULT: [&str; 5] = ["version", "cluster", "issuer.store", "issuer.url", "aws.region"];

/// Every option with the value that the example shows.
fn options(example: &str) -> Vec<(String, &str)> {
    let (mut sections, mut options) = (Vec::new(), Vec::new());
    for line in example.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let (key, value) = line.trim_start().split_once(':').expect("a key");
        sections.truncate(depth);
        sections.push(key);
        if !value.trim().is_empty() {
            options.push((sections.join("."), value.trim()));
        }
    }
    options
}

#[test]
fn page_of_the_options_names_every_one_with_its_default() {
    let example = example();
    let options = options(&example);
    let rows: Vec<Vec<&str>> = include_str!("../../docs/options.md")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for (key, value) in &options {
        let row = rows.iter().find(|row| row[1] == format!("`{key}`")).unwrap_or_else(|| panic!("no row of {key}"));
        assert!(WITHOUT_A_DEFAULT.contains(&key.as_str()) || row[2] == format!("`{value}`"), "{row:?}, not {value}");
    }
    assert_eq!(rows.len(), options.len(), "a row of no option, or two of one");
}

#[test]
fn manual_names_every_option_with_its_default() {
    let manual = MANUAL.replace("\\-", "-");
    let entries: Vec<&str> = manual
        .lines()
        .zip(manual.lines().skip(1))
        .filter(|(before, line)| *before == ".TP" && line.starts_with("\\fB"))
        .map(|(_, line)| line)
        .collect();
    let example = example();
    let options = options(&example);
    for (key, value) in &options {
        let named = |entry: &&&str| entry.starts_with(&format!("\\fB{key}\\fR ("));
        let entry = entries.iter().find(named).unwrap_or_else(|| panic!("no entry of {key}"));
        let default = format!("\\fB{key}\\fR (default \\fB{value}\\fR)");
        assert!(WITHOUT_A_DEFAULT.contains(&key.as_str()) || **entry == default, "{entry}, not {value}");
    }
    assert_eq!(entries.len(), options.len(), "an entry of no option, or two of one");
}

#[test]
fn examples_of_the_manual_are_configurations() {
    let examples: Vec<String> = MANUAL
        .split(".EX\n")
        .skip(1)
        .filter_map(|rest| rest.split(".EE").next())
        .map(|text| text.replace("\\-", "-"))
        .filter(|text| text.starts_with("version: 1\n"))
        .collect();
    assert_eq!(examples.len(), 5);
    for example in &examples {
        assert_eq!(settle(&[("irsad.yaml", example)]).err(), None, "{example}");
    }
}

#[test]
fn example_as_installed_asks_for_what_only_the_operator_knows() {
    assert_eq!(
        mistakes(EXAMPLE),
        [
            "irsad.yaml: line 1: cluster: it is missing; add it, for example `cluster: prod-1`",
            "irsad.yaml: line 1: issuer.store: it is missing; add it, for example `store: s3://prod-1-oidc`",
        ]
    );
    // A drop-in of cloud-init is enough to set it up.
    let drop_in = ("irsad.d/50-cluster.yaml", "cluster: prod-1\nissuer: { store: s3://prod-1-oidc }\n");
    assert_eq!(settle(&[("irsad.yaml", EXAMPLE), drop_in]), Ok(one(SMALLEST)));
}

#[test]
fn drop_ins_merge_key_by_key_and_replace_lists_and_values() {
    let base =
        format!("{SMALLEST}  jwksPath: keys.json\nprovider:\n  audiences: [a, b]\n  tags: {{ team: x, env: y }}\n");
    let settings = settle(&[
        ("irsad.yaml", base.as_str()),
        ("irsad.d/10.yaml", "# nothing yet\n"),
        ("irsad.d/20.yaml", "provider:\n  audiences: [c]\n  tags: { env: z }\n"),
        ("irsad.d/30.yaml", "---\ncluster: prod-2\n"),
    ])
    .expect("settings");
    assert_eq!(settings.cluster.as_str(), "prod-2");
    assert_eq!(settings.issuer.jwks_path.as_str(), "keys.json");
    assert_eq!(settings.provider.audiences, ["c".parse().expect("an audience")]);
    let tags: Vec<(&str, &str)> =
        settings.provider.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(tags, [("env", "z"), ("team", "x")]);
}

#[test]
fn issuer_and_store_must_belong_together() {
    let text = |issuer: &str| format!("version: 1\ncluster: prod-1\nissuer: {{ {issuer} }}\n");
    for (issuer, message) in [
        (
            "store: file:///srv/oidc",
            "issuer.url: it is missing; a file:// store needs the URL under which a web server serves the folder",
        ),
        (
            "store: s3://prod-1-oidc, url: https://oidc.example.com",
            "issuer.url: https://oidc.example.com is not an address of the bucket, and nobody would find the documents there; \
             leave it out for https://prod-1-oidc.s3.eu-west-1.amazonaws.com, or set issuer.access to external and serve them there",
        ),
        (
            "store: s3://prod-1-oidc/a, url: https://prod-1-oidc.s3.eu-west-1.amazonaws.com",
            "issuer.url: https://prod-1-oidc.s3.eu-west-1.amazonaws.com is not an address of the bucket, and nobody would find the \
             documents there; leave it out for https://prod-1-oidc.s3.eu-west-1.amazonaws.com/a, or set issuer.access to external \
             and serve them there",
        ),
        (
            "store: s3://prod-1-oidc, access: external",
            "issuer.url: it is missing; with issuer.access: external write the URL under which CloudFront or a web server of yours serves \
             the documents",
        ),
        ("store: /srv/oidc", "issuer.store: store /srv/oidc is neither s3://BUCKET[/PREFIX] nor file:///DIR"),
    ] {
        assert_eq!(mistakes(&text(issuer)), [format!("irsad.yaml: line 3: {message}")]);
    }
    for (issuer, url) in [
        ("store: s3://prod-1-oidc/a/b", "https://prod-1-oidc.s3.eu-west-1.amazonaws.com/a/b"),
        (
            "store: s3://b-1, url: https://b-1.s3.dualstack.eu-west-1.amazonaws.com",
            "https://b-1.s3.dualstack.eu-west-1.amazonaws.com",
        ),
        ("store: s3://b-1, url: https://s3-eu-west-1.amazonaws.com/b-1", "https://s3-eu-west-1.amazonaws.com/b-1"),
        ("store: s3://b-1, url: https://s3-eu-west-1.amazonaws.com/b-1/", "https://s3-eu-west-1.amazonaws.com/b-1/"),
        ("store: s3://b-1, url: https://oidc.example.com, access: external", "https://oidc.example.com"),
        ("store: file:///srv/oidc, url: https://oidc.example.com/a", "https://oidc.example.com/a"),
    ] {
        let settings = one(&text(issuer));
        assert_eq!(settings.issuer.url.as_str(), url);
        assert_eq!(settings.notices.iter().any(|notice| notice.contains("ends with a slash")), url.ends_with('/'));
    }
}

#[test]
fn tls_is_not_demanded_of_an_s3_of_the_operators_own() {
    let keyring = "issuer: { store: s3://prod-1-oidc }\n\
                   keyring: { store: s3://prod-1-keys, kmsKey: alias/irsad }\n";
    for (endpoint, is_own) in [
        ("", false),
        (", endpointUrl: \"https://s3.example.com\"", true),
        (", endpointUrl: { s3: \"https://s3.example.com\" }", true),
        (", endpointUrl: { iam: \"https://iam.example.com\" }", false),
    ] {
        let text = format!("version: 1\ncluster: prod-1\n{keyring}aws: {{ region: eu-west-1{endpoint} }}\n");
        let found = one(&text).keyring_bucket();
        assert_eq!(found.map(|bucket| bucket.at_own_endpoint), Some(is_own), "{endpoint}");
    }
}

#[test]
fn keyring_is_kept_where_it_is_written_and_nowhere_public() {
    let keyring = |text: &str| format!("{SMALLEST}keyring: {{ {text} }}\n");
    let bucket = "store: s3://prod-1-keys/a, kmsKey: alias/irsad";
    for (text, store, prefix, kms_key) in [
        ("store: kubernetes, kmsKey: \"\"", "kubernetes", "", None),
        ("kmsKey: alias/irsad", "kubernetes", "", Some("alias/irsad")),
        (bucket, "s3://prod-1-keys/a", "a", Some("alias/irsad")),
        ("store: file:///var/lib/irsad/keyring", "file:///var/lib/irsad/keyring", "", None),
    ] {
        let found = one(&keyring(text)).keyring;
        assert_eq!((found.store.to_string().as_str(), found.store.prefix()), (store, prefix));
        assert_eq!(found.kms_key.as_ref().map(KmsKey::as_str), kms_key);
    }
    for (text, message) in [
        (
            "store: vault",
            "keyring.store: keyring store vault is neither kubernetes nor s3://BUCKET[/PREFIX] nor file:///DIR",
        ),
        (
            "store: s3://prod-1-keys",
            "keyring.kmsKey: it is missing; private keys leave this node for S3 sealed only, name a KMS key, for example `kmsKey: alias/irsad`",
        ),
        (
            "store: s3://prod-1-keys, kmsKey: \"\"",
            "keyring.kmsKey: it is missing; private keys leave this node for S3 sealed only, name a KMS key, for example `kmsKey: alias/irsad`",
        ),
        (
            "store: s3://prod-1-oidc/keyring, kmsKey: alias/irsad",
            "keyring.store: prod-1-oidc is also the bucket of issuer.store, which is public; give the keyring a bucket of its own",
        ),
        (
            "kmsKey: irsad",
            "keyring.kmsKey: \"irsad\" is not a KMS key; write its ARN, as in arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab, or alias/NAME, or its id",
        ),
        (
            "kmsKey: \"arn:aws:kms:us-east-1:123456789012:alias/irsad\"",
            "keyring.kmsKey: the key is in us-east-1 and aws.region is eu-west-1; name a key of that region",
        ),
    ] {
        assert_eq!(mistakes(&keyring(text)), [format!("irsad.yaml: line 5: {message}")]);
    }
    for folder in ["/srv/oidc", "/srv/oidc/keys", "/srv"] {
        let text = format!(
            "version: 1\ncluster: prod-1\nissuer: {{ store: file:///srv/oidc, url: https://oidc.example.com }}\nkeyring: {{ store: file://{folder} }}\n"
        );
        let message = format!(
            "irsad.yaml: line 4: keyring.store: {folder} and the folder of issuer.store, /srv/oidc, lie in each other, and a web server serves that one; give the keyring a folder of its own"
        );
        assert_eq!(mistakes(&text), [message]);
    }
}

#[test]
fn region_of_the_instance_is_asked_for_only_where_it_matters() {
    let folder = "version: 1\ncluster: prod-1\nissuer: { store: file:///srv/oidc, url: https://oidc.example.com }\n";
    for (text, needed) in [
        (SMALLEST.to_owned(), true),
        (format!("{SMALLEST}aws: {{ region: eu-west-1 }}\n"), false),
        (folder.to_owned(), true),
        (format!("{folder}provider: {{ manage: false }}\n"), false),
        (format!("{folder}provider: {{ manage: false }}\nkeyring: {{ kmsKey: alias/irsad }}\n"), true),
    ] {
        let inputs = Inputs::from_texts(&[("irsad.yaml", &text)]).expect("inputs");
        assert_eq!(inputs.needs_region(), needed, "{text}");
        let settled = inputs.settle(None, || Distribution::Kubeadm);
        if needed {
            let message = "aws.region: it is missing and the instance metadata gave none; add it, for example `region: eu-west-1`";
            assert_eq!(settled.expect_err("no region").to_string(), format!("irsad.yaml: line 1: {message}"));
        } else {
            assert!(settled.is_ok(), "{settled:?}");
        }
    }
    let inputs = Inputs::from_texts(&[("irsad.yaml", SMALLEST)]).expect("inputs");
    let china = inputs.settle(region("cn-north-1"), || Distribution::Kubeadm).expect("settings");
    assert_eq!(china.issuer.url.as_str(), "https://prod-1-oidc.s3.cn-north-1.amazonaws.com.cn");
}

#[test]
fn kops_has_defaults_of_its_own() {
    let kops = |text: &str, found| {
        let text = format!("{SMALLEST}{text}");
        Inputs::from_texts(&[("irsad.yaml", text)])
            .expect("inputs")
            .settle(region("eu-west-1"), || found)
            .expect("settings")
            .api_server
    };
    let expected = ApiServerSettings {
        distribution: Distribution::Kops,
        manifest: "/etc/kubernetes/manifests/kube-apiserver.manifest".into(),
        signing_key: "/srv/kubernetes/kube-apiserver/service-account.key".into(),
        verifying_keys: "/srv/kubernetes/kube-apiserver/service-account.pub".into(),
        kubeconfig: "/var/lib/kubectl/kubeconfig".into(),
        keys: Keys::Follow,
        audiences: None,
        persist: false,
        restart: Restart::Rolling,
        restart_deadline: Duration::from_secs(30 * 86_400),
        evidence_timeout: Duration::from_secs(300),
    };
    assert_eq!(kops("", Distribution::Kops), expected);
    assert_eq!(kops("apiServer: { distribution: kops }\n", Distribution::Kubeadm), expected);
    assert_eq!(kops("apiServer: { distribution: kubeadm }\n", Distribution::Kops).keys, Keys::Manage);
    let own =
        kops("apiServer: { keys: manage, kubeconfig: /root/.kube/config, audiences: [a, b] }\n", Distribution::Kops);
    assert_eq!((own.keys, own.kubeconfig), (Keys::Manage, "/root/.kube/config".into()));
    assert_eq!(own.audiences.map(|list| list.len()), Some(2));
}

#[test]
fn values_are_read_as_written() {
    let text = format!(
        "{SMALLEST}  access: external\n  url: https://oidc.example.com\n  createBucket: false\naws:\n  region: us-gov-west-1\n  endpointUrl: {{ s3: \"http://127.0.0.1:5000\", kms: \"http://127.0.0.1:5000\" }}\n\
         rotation: {{ period: never, publishLead: 2d, tokenLifetime: 1d12h, verifyRetention: 400d }}\n\
         webhook: {{ mode: none, port: 1, failurePolicy: Fail, tokenExpiration: 36h }}\napiServer: {{ restart: never, evidenceTimeout: 10m }}\n"
    );
    let settings = one(&text);
    assert_eq!(settings.issuer.url.as_str(), "https://oidc.example.com");
    assert_eq!((settings.issuer.access, settings.issuer.create_bucket), (Access::External, false));
    let endpoint = "http://127.0.0.1:5000".parse().ok();
    assert_eq!(
        settings.aws.endpoints,
        Endpoints { s3: endpoint.clone(), kms: endpoint.clone(), ..Endpoints::default() }
    );
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!((settings.rotation.period, settings.rotation.publish_lead), (None, hours(48)));
    assert_eq!((settings.rotation.token_lifetime, settings.rotation.verify_retention), (hours(36), hours(9600)));
    assert_eq!((settings.webhook.mode, settings.webhook.port), (WebhookMode::None, 1));
    assert_eq!((settings.webhook.failure_policy, settings.webhook.token_expiration), (FailurePolicy::Fail, hours(36)));
    assert_eq!((settings.api_server.restart, settings.notices), (Restart::Never, Vec::new()));
    assert_eq!(settings.api_server.evidence_timeout, Duration::from_secs(600));
    let all = one(&format!("{SMALLEST}aws: {{ endpointUrl: \"http://127.0.0.1:5000/\" }}\n"));
    assert_eq!(all.aws.endpoints, Endpoints { all: endpoint, ..Endpoints::default() });
}

#[test]
fn what_is_dangerous_is_said() {
    let text = format!(
        "{SMALLEST}rotation: {{ period: 1h, publishLead: 1s, tokenLifetime: 15s, belowFloors: true }}\n\
         apiServer: {{ evidenceTimeout: 20s }}\n"
    );
    let settings = one(&text);
    assert_eq!(settings.api_server.evidence_timeout, Duration::from_secs(20));
    assert_eq!(
        settings.notices,
        ["rotation.belowFloors is true: keys may leave before tokens do, valid tokens can be refused; only for tests"]
    );
    assert_eq!(settings.webhook.token_expiration, Duration::from_secs(600));
}

#[test]
fn port_0_serves_no_metrics() {
    let port = |text: &str| one(&format!("{SMALLEST}metrics: {{ port: {text} }}\n")).metrics.port;
    assert_eq!((port("0"), port("1"), port("65535")), (None, Some(1), Some(65_535)));
}
