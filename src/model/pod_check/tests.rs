use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::*;
use crate::model::{
    missed_pods::KnownAccount,
    pod::{Controller, Mount},
    pod_identity::{ContainerCredentials, ContainerCredentialsToken, PodIdentity, RoleMap},
    region::Partition,
    trust_policy::{Subject, trust_policy},
};

const ROLE: &str = "arn:aws:iam::123456789012:role/team/checkout";
const FILE: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + 60 * minute).expect("a time")
}

fn settings() -> PodIdentity {
    let text = str::to_owned;
    PodIdentity {
        annotation_prefix: text("eks.amazonaws.com"),
        audience: text("sts.amazonaws.com"),
        mount_path: text("/var/run/secrets/eks.amazonaws.com/serviceaccount"),
        token_expiration_seconds: 86_400,
        default_region: None,
        regional_sts: false,
        composition: None,
        container_credentials: ContainerCredentialsToken {
            audience: text("pods.eks.amazonaws.com"),
            mount_path: text("/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"),
            volume_name: text("eks-pod-identity-token"),
            token_path: text("eks-pod-identity-token"),
            full_uri: text("http://169.254.170.23/v1/credentials"),
        },
    }
}

fn account(annotations: &[(&str, &str)]) -> KnownAccount {
    let annotations: Vec<(String, &str)> =
        annotations.iter().map(|(name, value)| (format!("eks.amazonaws.com/{name}"), *value)).collect();
    let annotations = annotations.iter().map(|(name, value)| (name.as_str(), *value));
    KnownAccount { account: Account::read(annotations, "eks.amazonaws.com"), since: Some(at(0)) }
}

fn selector(json: &str) -> Selector {
    serde_json::from_str(json).expect("a selector")
}

fn policy_for(namespace: &str, audience: &str) -> TrustPolicy {
    let policy = trust_policy(
        Partition::Commercial,
        &"123456789012".parse().expect("an account"),
        &"https://oidc.example.com/prod-1".parse().expect("an issuer"),
        &Subject::new(namespace, "checkout").expect("a subject"),
        &[audience.parse().expect("an audience")],
    );
    TrustPolicy::Asked(Probe::Present(policy.expect("a policy")))
}

/// A pod that has everything, and a world in which that is right.
fn look() -> PodLook {
    let variables = [(ROLE_ARN.to_owned(), Some(ROLE.to_owned())), (TOKEN_FILE.to_owned(), Some(FILE.to_owned()))];
    let mount = Mount {
        volume: "aws-iam-token".to_owned(),
        path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".to_owned(),
    };
    let pod = Pod {
        name: "shop/checkout-7d4b9-x2x9z".parse().expect("a name"),
        uid: "6f1c".to_owned(),
        service_account: "checkout".to_owned(),
        created_at: at(20),
        has_ended: false,
        is_mirror: false,
        opted_out: false,
        skip_containers: None,
        containers: vec![Container {
            name: "app".to_owned(),
            variables: BTreeMap::from(variables),
            mounts: vec![mount],
        }],
        token_volumes: vec![TokenVolume {
            name: "aws-iam-token".to_owned(),
            audience: Some("sts.amazonaws.com".to_owned()),
            expiration_seconds: 86_400,
            path: "token".to_owned(),
        }],
        controller: Some(Controller { kind: "Deployment".to_owned(), name: "checkout".to_owned() }),
    };
    let registration = Registration {
        configuration: "irsad-pod-identity".to_owned(),
        since: at(10),
        namespaces: Selector::default(),
        pods: selector(
            r#"{"matchExpressions":[{"key":"eks.amazonaws.com/skip-pod-identity-webhook","operator":"DoesNotExist"}]}"#,
        ),
        failure_policy: "Ignore".to_owned(),
    };
    PodLook {
        name: pod.name.clone(),
        pod: Probe::Present(pod),
        labels: Labels::new(),
        namespace_labels: Labels::from([("kubernetes.io/metadata.name".to_owned(), "shop".to_owned())]),
        account: Probe::Present(()),
        sources: Sources {
            settings: settings(),
            accounts: HashMap::from([("shop/checkout".to_owned(), account(&[("role-arn", ROLE)]))]),
            fallback: RoleMap::default(),
            credentials: ContainerCredentials::default(),
            exempt_namespaces: Vec::new(),
            registered_at: Probe::Present(at(10)),
        },
        registrations: Probe::Present(vec![registration]),
        issuer: "https://oidc.example.com/prod-1".parse().expect("an issuer"),
        own_account: Some("123456789012".parse().expect("an account")),
        provider_audiences: Some(Probe::Present(vec!["sts.amazonaws.com".to_owned()])),
        token_lifetime_seconds: 86_400,
        trust_policy: policy_for("shop", "sts.amazonaws.com"),
    }
}

/// The pod of a look, to be changed.
fn pod(look: &mut PodLook) -> &mut Pod {
    match &mut look.pod {
        Probe::Present(pod) => pod,
        Probe::Absent | Probe::Unknown(_) => panic!("there is a pod"),
    }
}

/// A pod that the webhook has not seen.
fn bare(look: &mut PodLook) {
    let pod = pod(look);
    pod.token_volumes.clear();
    pod.containers[0].variables.clear();
    pod.containers[0].mounts.clear();
}

fn line(check: &Check) -> String {
    let (word, why) = match &check.outcome {
        Outcome::Holds => ("ok", ""),
        Outcome::Fails(why) => ("FAILS", why.as_str()),
        Outcome::Unknown(why) => ("unknown", why.as_str()),
        Outcome::Skipped(why) => ("skipped", why.as_str()),
    };
    let between = if why.is_empty() { "" } else { ": " };
    format!("{word} {}{between}{why}", check.statement)
}

#[test]
fn pod_with_all_it_needs_is_shown_step_by_step() {
    let lines: Vec<String> = look().checks().iter().map(line).collect();
    let expected = [
        "ok pod shop/checkout-7d4b9-x2x9z exists",
        "ok its service account shop/checkout exists",
        "ok its service account has role arn:aws:iam::123456789012:role/team/checkout (annotation eks.amazonaws.com/role-arn)",
        "ok that is the ARN of a role",
        "ok the role is in the account of this cluster",
        "ok nothing keeps the pod out of the webhook",
        "ok a webhook is registered that gives credentials to pods (irsad-pod-identity, failurePolicy Ignore)",
        "ok it has volume aws-iam-token with a token",
        "ok container app has credentials",
        "ok the token is for sts.amazonaws.com, which the IAM OIDC provider takes",
        "ok the token lives 86400 s",
        "ok the role's trust policy takes a token of system:serviceaccount:shop:checkout for sts.amazonaws.com",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn steps_end_where_nothing_more_can_follow() {
    let no_role = |look: &mut PodLook| look.sources.accounts.clear();
    for (change, last) in [
        (
            (|look| look.pod = Probe::Absent) as fn(&mut PodLook),
            "FAILS pod shop/checkout-7d4b9-x2x9z exists: there is none of that name; kubectl -n shop get pods lists those that there are",
        ),
        (
            |look| look.pod = Probe::Unknown("kube-apiserver is down".to_owned()),
            "unknown pod shop/checkout-7d4b9-x2x9z exists: kube-apiserver is down",
        ),
        (
            no_role,
            "FAILS its service account has an IAM role: shop/checkout has no annotation eks.amazonaws.com/role-arn; kubectl -n shop annotate \
             serviceaccount checkout eks.amazonaws.com/role-arn=arn:aws:iam::ACCOUNT:role/NAME, then kubectl -n shop rollout restart \
             deployment checkout",
        ),
        (
            |look| {
                look.sources.accounts.clear();
                look.account = Probe::Unknown("kube-apiserver is down".to_owned());
            },
            "unknown its service account has an IAM role: kube-apiserver is down",
        ),
    ] {
        let mut look = look();
        change(&mut look);
        assert_eq!(look.checks().last().map(line).as_deref(), Some(last));
    }
}

/// Lines other than `ok` after a change.
fn wrong(change: impl FnOnce(&mut PodLook)) -> Vec<String> {
    let mut look = look();
    change(&mut look);
    look.checks().iter().map(line).filter(|line| !line.starts_with("ok ")).collect()
}

const RESTART: &str = "kubectl -n shop rollout restart deployment checkout";

#[test]
fn pod_that_the_webhook_missed_says_why_and_how_to_mend_it() {
    let missed = |why: &str| {
        vec![
            format!("FAILS it has volume aws-iam-token with a token: {why}; {RESTART}"),
            format!("FAILS container app has credentials: {why}; {RESTART}"),
        ]
    };
    assert_eq!(
        wrong(bare),
        missed("the webhook did not answer when it was created, and webhook.failurePolicy let it pass")
    );
    assert_eq!(
        wrong(|look| {
            bare(look);
            pod(look).created_at = at(0);
        }),
        missed("it was created before its service account named the role")
    );
    assert_eq!(
        wrong(|look| {
            bare(look);
            pod(look).created_at = at(5);
        }),
        missed("it was created before the webhook was registered")
    );
    let none = "FAILS a webhook is registered that gives credentials to pods: there is none; irsad status says what its registration waits for";
    assert_eq!(
        wrong(|look| {
            bare(look);
            look.registrations = Probe::Present(Vec::new());
            look.sources.registered_at = Probe::Absent;
        }),
        [vec![none.to_owned()], missed("no webhook is registered that gives credentials to pods")].concat()
    );
}

#[test]
fn what_keeps_a_pod_out_of_the_webhook_is_named() {
    let kept_out = |why: &str| {
        vec![
            format!("FAILS nothing keeps the pod out of the webhook: {why}"),
            "FAILS it has volume aws-iam-token with a token: it is kept out of the webhook, as said above".to_owned(),
            "FAILS container app has credentials: it is kept out of the webhook, as said above".to_owned(),
        ]
    };
    assert_eq!(
        wrong(|look| {
            bare(look);
            pod(look).opted_out = true;
        }),
        kept_out(&format!(
            "it has label eks.amazonaws.com/skip-pod-identity-webhook; take it off its template, then {RESTART}"
        ))
    );
    assert_eq!(
        wrong(|look| {
            bare(look);
            pod(look).is_mirror = true;
        }),
        kept_out(
            "it is kubelet's copy of a static Pod, which no webhook changes; run it as a DaemonSet or a Deployment"
        )
    );
    assert_eq!(
        wrong(|look| {
            bare(look);
            look.sources.exempt_namespaces = vec!["shop".to_owned()];
            let Probe::Present(registrations) = &mut look.registrations else { return };
            registrations[0].namespaces = selector(
                r#"{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn","values":["shop"]}]}"#,
            );
        }),
        kept_out(
            "namespaceSelector of irsad-pod-identity leaves it out; run it with other labels or in another namespace"
        )
    );
}

#[test]
fn each_part_that_does_not_fit_is_one_line_with_its_cure() {
    let trust = "the role's trust policy takes a token of system:serviceaccount:shop:checkout for sts.amazonaws.com";
    for (change, expected) in [
        (
            (|look| look.account = Probe::Absent) as fn(&mut PodLook),
            format!(
                "FAILS its service account shop/checkout exists: it was deleted, and tokens of the pod are refused with it; make it again, then {RESTART}"
            ),
        ),
        (
            |look| look.own_account = Some("210987654321".parse().expect("an account")),
            "skipped the role is in the account of this cluster: it is in 123456789012, this cluster in 210987654321; the other account \
             needs an OIDC provider of https://oidc.example.com/prod-1 of its own"
                .to_owned(),
        ),
        (
            |look| pod(look).skip_containers = Some("app".to_owned()),
            "skipped container app has credentials: annotation eks.amazonaws.com/skip-containers names it".to_owned(),
        ),
        (
            |look| drop(pod(look).containers[0].variables.remove(TOKEN_FILE)),
            "FAILS container app has credentials: its own variables lack AWS_WEB_IDENTITY_TOKEN_FILE, and the webhook leaves a container \
             alone that has one of the two; set both, or none"
                .to_owned(),
        ),
        (
            |look| {
                let old = Some("arn:aws:iam::123456789012:role/old".to_owned());
                pod(look).containers[0].variables.insert(ROLE_ARN.to_owned(), old);
            },
            format!(
                "FAILS container app has credentials: it has AWS_ROLE_ARN=arn:aws:iam::123456789012:role/old, and its service account \
                 another role; to have that one, {RESTART}"
            ),
        ),
        (
            |look| pod(look).containers[0].mounts.clear(),
            format!(
                "FAILS container app has credentials: no volume with a token is mounted at AWS_WEB_IDENTITY_TOKEN_FILE={FILE}; mount one \
                 there, or leave both variables to the webhook"
            ),
        ),
        (
            |look| look.provider_audiences = Some(Probe::Present(vec!["vault".to_owned(), "x".to_owned()])),
            "FAILS the token is for sts.amazonaws.com, which the IAM OIDC provider takes: it takes vault, x; add it to \
             provider.audiences, or set annotation eks.amazonaws.com/audience of the service account to one of them"
                .to_owned(),
        ),
        (
            |look| look.provider_audiences = None,
            "skipped the token is for sts.amazonaws.com, which the IAM OIDC provider takes: provider.manage is false".to_owned(),
        ),
        (
            |look| pod(look).token_volumes[0].expiration_seconds = 86_401,
            "FAILS the token lives 86401 s: keys leave the published documents 86400 s after their last use, and the last tokens of a key \
             could be refused; lower annotation eks.amazonaws.com/token-expiration, or raise rotation.tokenLifetime"
                .to_owned(),
        ),
        (
            |look| look.trust_policy = policy_for("other", "sts.amazonaws.com"),
            format!(
                "FAILS {trust}: it wants oidc.example.com/prod-1:sub to be system:serviceaccount:other:checkout, the token has \
                 system:serviceaccount:shop:checkout; irsad trust-policy --account 123456789012 --namespace shop --service-account \
                 checkout > trust.json, then aws iam update-assume-role-policy --role-name checkout --policy-document=file://trust.json"
            ),
        ),
        (
            |look| look.trust_policy = TrustPolicy::Asked(Probe::Absent),
            format!(
                "FAILS {trust}: there is no role checkout in account 123456789012; irsad trust-policy --account 123456789012 --namespace \
                 shop --service-account checkout > trust.json, then aws iam create-role --role-name checkout \
                 --assume-role-policy-document=file://trust.json"
            ),
        ),
        (
            |look| look.trust_policy = TrustPolicy::NotAsked("iam:GetRole is not allowed".to_owned()),
            format!("skipped {trust}: not looked at: iam:GetRole is not allowed"),
        ),
        (
            |look| look.trust_policy = TrustPolicy::Asked(Probe::Unknown("IAM does not answer".to_owned())),
            format!("unknown {trust}: IAM does not answer"),
        ),
    ] {
        assert_eq!(wrong(change), [expected]);
    }
}

#[test]
fn token_for_the_api_server_is_none_for_aws() {
    assert_eq!(
        wrong(|look| pod(look).token_volumes[0].audience = None),
        [
            format!(
                "FAILS the token is for AWS: it is for kube-apiserver itself; take annotation eks.amazonaws.com/audience off the service \
                 account, then {RESTART}"
            ),
            "FAILS the role's trust policy takes a token of system:serviceaccount:shop:checkout for : it wants \
             oidc.example.com/prod-1:aud to be sts.amazonaws.com, the token has ; irsad trust-policy --account 123456789012 --namespace \
             shop --service-account checkout > trust.json, then aws iam update-assume-role-policy --role-name checkout \
             --policy-document=file://trust.json"
                .to_owned(),
        ]
    );
}

#[test]
fn text_that_is_no_arn_of_a_role_is_said() {
    let wrong = wrong(|look| {
        look.sources.accounts.insert("shop/checkout".to_owned(), account(&[("role-arn", "checkout")]));
    });
    assert_eq!(
        wrong[0],
        "FAILS that is the ARN of a role: it is not; write arn:aws:iam::ACCOUNT:role/NAME there, as aws iam get-role shows it"
    );
    for (text, is_one) in [
        ("arn:aws:iam::123456789012:role/checkout", true),
        ("arn:aws-us-gov:iam::123456789012:role/a/b/c+=,.@-_", true),
        ("arn:aws:iam::12345678901:role/checkout", false),
        ("arn:aws:iam:eu-west-1:123456789012:role/checkout", false),
        ("arn:aws:sts::123456789012:role/checkout", false),
        ("arn:aws:iam::123456789012:user/checkout", false),
        ("arn:aws:iam::123456789012:role/", false),
        ("arn:aws:iam::123456789012:role/a b", false),
        ("arn:gcp:iam::123456789012:role/a", false),
        ("checkout", false),
        ("", false),
    ] {
        assert_eq!(RoleArn::read(text).is_some(), is_one, "{text}");
    }
}

#[test]
fn paths_of_windows_are_understood() {
    let wrong = wrong(|look| {
        let file = FILE.replace('/', "\\");
        pod(look).containers[0].variables.insert(TOKEN_FILE.to_owned(), Some(format!("C:{file}")));
    });
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn composed_role_and_one_of_the_config_map_count_as_an_annotation_does() {
    let has_role = |change: fn(&mut PodLook)| {
        let mut look = look();
        change(&mut look);
        line(&look.checks()[2])
    };
    assert_eq!(
        has_role(|look| {
            let account_id = "123456789012".parse().expect("an account");
            look.sources.settings.composition =
                Some(crate::model::pod_identity::Composition { partition: Partition::Commercial, account: account_id });
            look.sources.accounts.insert("shop/checkout".to_owned(), account(&[("role-arn", "team/checkout")]));
        }),
        format!("ok its service account has role {ROLE} (annotation eks.amazonaws.com/role-arn)")
    );
    assert_eq!(
        has_role(|look| {
            look.sources.accounts.clear();
            let map = format!(r#"{{"shop/checkout": {{"RoleARN": "{ROLE}", "Audience": "sts.amazonaws.com"}}}}"#);
            look.sources.fallback = RoleMap::parse(&map).expect("a map");
        }),
        format!("ok its service account has role {ROLE} (ConfigMap pod-identity-webhook)")
    );
}
