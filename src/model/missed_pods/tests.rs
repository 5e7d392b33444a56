use super::*;
use crate::model::{
    pod::{Container, Controller},
    pod_identity::ContainerCredentialsToken,
};

const ROLE: &str = "arn:aws:iam::123456789012:role/checkout";

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

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + 60 * minute).expect("a time")
}

/// `shop/checkout` has had a role since minute 10, and the webhook is registered since minute 5.
fn sources() -> Sources {
    let account = Account::read([("eks.amazonaws.com/role-arn", ROLE)], "eks.amazonaws.com");
    Sources {
        settings: settings(),
        accounts: HashMap::from([
            ("shop/checkout".to_owned(), KnownAccount { account, since: Some(at(10)) }),
            ("shop/default".to_owned(), KnownAccount::default()),
        ]),
        fallback: RoleMap::default(),
        credentials: ContainerCredentials::default(),
        exempt_namespaces: vec!["kube-system".to_owned()],
        registered_at: Probe::Present(at(5)),
    }
}

fn container(name: &str, variables: &[&str]) -> Container {
    let variables = variables.iter().map(|name| ((*name).to_owned(), Some("x".to_owned()))).collect();
    Container { name: name.to_owned(), variables, mounts: Vec::new() }
}

/// A pod of `shop/checkout` that was created at minute 20 and has no credentials.
fn pod() -> Pod {
    Pod {
        name: "shop/checkout-7d4b9-x2x9z".parse().expect("a name"),
        uid: "1d3f".to_owned(),
        service_account: "checkout".to_owned(),
        created_at: at(20),
        has_ended: false,
        is_mirror: false,
        opted_out: false,
        skip_containers: None,
        containers: vec![container("setup", &[]), container("app", &[])],
        token_volumes: Vec::new(),
        controller: Some(Controller { kind: "Deployment".to_owned(), name: "checkout".to_owned() }),
    }
}

#[test]
fn pod_with_a_role_and_without_credentials_is_missed_and_no_other() {
    let with = |change: fn(&mut Pod)| {
        let mut pod = pod();
        change(&mut pod);
        pod
    };
    for (pod, standing) in [
        (pod(), Standing::Missed(Why::NotAnswered)),
        (with(|pod| pod.service_account = "default".to_owned()), Standing::NoRole),
        (with(|pod| pod.service_account = "gone".to_owned()), Standing::NoRole),
        (with(|pod| pod.has_ended = true), Standing::Ended),
        (with(|pod| pod.is_mirror = true), Standing::Mirror),
        (with(|pod| pod.opted_out = true), Standing::OptedOut),
        (with(|pod| pod.skip_containers = Some("setup,app".to_owned())), Standing::SkipsAll),
        (with(|pod| pod.skip_containers = Some("setup".to_owned())), Standing::Missed(Why::NotAnswered)),
        (with(|pod| pod.containers = Vec::new()), Standing::SkipsAll),
        (with(|pod| pod.created_at = at(10)), Standing::Missed(Why::BeforeRole)),
        (
            with(|pod| pod.containers[0] = container("setup", &["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"])),
            Standing::Missed(Why::Containers(vec!["app".to_owned()])),
        ),
    ] {
        assert_eq!(sources().standing(&pod), standing, "{pod:?}");
    }
}

#[test]
fn any_variable_by_which_an_sdk_finds_credentials_counts_whoever_set_it() {
    for variable in pod_variables() {
        let pod = Pod { containers: vec![container("app", &[variable])], ..pod() };
        assert_eq!(sources().standing(&pod), Standing::Has, "{variable}");
    }
}

fn pod_variables() -> impl Iterator<Item = &'static str> {
    crate::model::pod::WEB_IDENTITY.into_iter().chain(crate::model::pod::CONTAINER_CREDENTIALS)
}

#[test]
fn reason_is_the_first_thing_that_was_not_there_when_the_pod_was_created() {
    let (unknown, at_5) = (|| Probe::Unknown("kube-apiserver is down".to_owned()), || Probe::Present(at(5)));
    for (minute, role_since, registered_at, why) in [
        (20, Some(10), Probe::Absent, Why::NoWebhook),
        (9, Some(10), at_5(), Why::BeforeRole),
        (10, Some(10), unknown(), Why::BeforeRole),
        (3, None, at_5(), Why::BeforeWebhook),
        (5, None, at_5(), Why::BeforeWebhook),
        (11, Some(10), at_5(), Why::NotAnswered),
        (11, None, at_5(), Why::BeforeRoleOrNotAnswered),
        (3, None, unknown(), Why::BeforeRoleOrNotAnswered),
        (11, Some(10), unknown(), Why::NotAnswered),
    ] {
        let mut sources = Sources { registered_at, ..sources() };
        sources.accounts.get_mut("shop/checkout").expect("an account").since = role_since.map(at);
        let pod = Pod { created_at: at(minute), ..pod() };
        assert_eq!(sources.standing(&pod), Standing::Missed(why));
    }
}

#[test]
fn pod_of_an_exempt_namespace_is_told_apart() {
    let mut sources = sources();
    sources.exempt_namespaces.push("shop".to_owned());
    assert_eq!(sources.standing(&pod()), Standing::Exempt);
}

#[test]
fn role_of_the_config_map_counts_too() {
    let fallback = RoleMap::parse(r#"{"*/default": {"RoleARN": "arn:aws:iam::123456789012:role/x"}}"#).expect("a map");
    let sources = Sources { fallback, ..sources() };
    let pod = Pod { service_account: "default".to_owned(), ..pod() };
    assert_eq!(sources.standing(&pod), Standing::Missed(Why::BeforeRoleOrNotAnswered));
    assert!(!sources.name_nobody());
}

#[test]
fn nobody_is_asked_about_where_no_service_account_has_a_role() {
    let mut sources = sources();
    assert!(!sources.name_nobody());
    sources.accounts.remove("shop/checkout");
    assert!(sources.name_nobody());
}

#[test]
fn missed_pods_are_named_up_to_a_limit_and_all_counted() {
    let mut found = MissedPods::default();
    for number in 0..MOST_NAMED + 7 {
        let pod = Pod { uid: number.to_string(), ..pod() };
        found.add(&pod, Standing::Missed(Why::BeforeRole));
    }
    for standing in [Standing::Has, Standing::NoRole, Standing::Ended, Standing::SkipsAll] {
        found.add(&pod(), standing);
    }
    for standing in [Standing::OptedOut, Standing::Exempt, Standing::Mirror] {
        found.add(&pod(), standing);
    }
    assert_eq!((found.count, found.named.len()), (MOST_NAMED + 7, MOST_NAMED));
    assert_eq!((found.opted_out, found.mirrors), (2, 1));
}

#[test]
fn note_says_why_and_how_to_mend_it_and_is_short_enough_for_kubernetes() {
    let mut found = MissedPods::default();
    found.add(&pod(), Standing::Missed(Why::BeforeRole));
    assert_eq!(
        found.named[0].note(),
        "service account checkout has an IAM role, and this pod runs without credentials for it: it was created before its service \
         account named the role. Have the pod made anew: kubectl -n shop rollout restart deployment checkout. More: irsad verify --pod \
         shop/checkout-7d4b9-x2x9z"
    );
    let long = MissedPod { why: Why::Containers(vec!["ä".repeat(63); 20]), ..found.named.remove(0) };
    assert!(long.note().len() <= 1024 && long.note().len() > 1020, "{}", long.note().len());
}

#[test]
fn cure_is_a_command_for_what_made_the_pod() {
    for (controller, expected) in [
        (Some(("Deployment", "checkout")), "kubectl -n shop rollout restart deployment checkout"),
        (Some(("StatefulSet", "db")), "kubectl -n shop rollout restart statefulset db"),
        (Some(("DaemonSet", "agent")), "kubectl -n shop rollout restart daemonset agent"),
        (Some(("ReplicaSet", "bare")), "kubectl -n shop delete pod checkout-7d4b9-x2x9z"),
        (Some(("Job", "echoer")), "kubectl -n shop delete pod checkout-7d4b9-x2x9z"),
        (None, "kubectl -n shop delete pod checkout-7d4b9-x2x9z, and create it again: nothing else does"),
    ] {
        let controller = controller.map(|(kind, name)| Controller { kind: kind.to_owned(), name: name.to_owned() });
        assert_eq!(Pod { controller, ..pod() }.cure(), expected);
    }
}
