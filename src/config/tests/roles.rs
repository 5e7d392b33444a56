//! `roles`: from the file to what is wanted of each role.

use super::*;
use crate::model::{region::Partition, role::RoleTerms};

fn terms(settings: &Settings) -> RoleTerms {
    settings.role_terms(Partition::Commercial, &"123456789012".parse().expect("an account"))
}

fn with(list: &str) -> String {
    format!("{SMALLEST}roles:\n  mode: list\n  list:\n{list}")
}

#[test]
fn list_becomes_roles_with_names_of_their_own_and_permissions_in_either_form() {
    let text = format!(
        "{SMALLEST}roles:\n  mode: list\n  permissionsBoundary: arn:aws:iam::123456789012:policy/apps\n  maxSession: 2h\n  \
         tags: {{ team: shop }}\n  additionalIssuers: [\"https://old.example.com\"]\n  removalDelay: 5m\n  list:\n    \
         - serviceAccount: cart\n      namespace: shop-*\n      policies: [AmazonSQSFullAccess, arn:aws:iam::123456789012:policy/team/orders]\n    \
         - name: checkout\n      serviceAccount: checkout\n      namespace: shop\n      maxSession: 12h\n      inlinePolicy:\n        \
         Version: 2012-10-17\n        Statement:\n          - Effect: Allow\n            Action: [sqs:*]\n            Resource: \"*\"\n            \
         Condition: {{ StringEquals: {{ aws:SourceAccount: 012345678901 }} }}\n    \
         - serviceAccount: mail\n      namespace: shop\n      inlinePolicy: |\n        \
         {{\"Version\": \"2012-10-17\", \"Statement\": {{\"Effect\": \"Allow\", \"Action\": \"ses:*\", \"Resource\": \"*\"}}}}\n"
    );
    let settings = one(&text);
    assert_eq!(settings.roles.removal_delay, Duration::from_secs(300));
    let terms = terms(&settings);
    assert_eq!(terms.issuers.iter().map(ToString::to_string).collect::<Vec<_>>()[1..], ["https://old.example.com"]);
    let roles: Vec<_> = settings.roles.list.iter().map(|request| terms.role(request).expect("a role")).collect();
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["cart.shop-+.prod-1", "checkout", "mail.shop.prod-1"]);
    let managed: Vec<&str> = roles[0].managed.iter().map(|arn| arn.as_str()).collect();
    assert_eq!(
        managed,
        ["arn:aws:iam::123456789012:policy/team/orders", "arn:aws:iam::aws:policy/AmazonSQSFullAccess"]
    );
    assert_eq!(roles.iter().map(|role| role.max_session.seconds()).collect::<Vec<_>>(), [7200, 43_200, 7200]);
    let inline = |number: usize| roles[number].inline.as_ref().map(|policy| policy.to_json());
    assert_eq!(
        inline(1).as_deref(),
        Some(
            r#"{"Statement":[{"Action":["sqs:*"],"Condition":{"StringEquals":{"aws:SourceAccount":"012345678901"}},"Effect":"Allow","Resource":"*"}],"Version":"2012-10-17"}"#
        )
    );
    assert!(inline(0).is_none() && inline(2).is_some_and(|text| text.contains("ses:*")));
    for role in &roles {
        assert_eq!(role.path, "/irsad/prod-1/");
        assert_eq!(
            role.boundary.as_ref().map(ToString::to_string),
            Some("arn:aws:iam::123456789012:policy/apps".to_owned())
        );
        let tags = [("irsad/cluster", "prod-1"), ("irsad/owner", "list"), ("team", "shop")];
        assert_eq!(role.tags, tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(role.trust_policy.matches("oidc-provider/").count(), 2);
    }
}

#[test]
fn roles_come_from_objects_without_a_list() {
    let settings =
        one(&format!("{SMALLEST}roles: {{ mode: crd, permissionsBoundary: arn:aws:iam::123456789012:policy/apps }}\n"));
    assert_eq!((settings.roles.mode, settings.roles.list.as_slice()), (RolesMode::Crd, [].as_slice()));
    assert!(terms(&settings).boundary.is_some());
}

#[test]
fn every_mistake_of_a_list_is_named_with_its_line_and_entry() {
    let list = "    - serviceAccount: Cart\n      namespace: shop\n    - { serviceAccount: a, namespaces: shop }\n    - a\n    \
                - { serviceAccount: \"*\", namespace: \"*\" }\n    - { serviceAccount: a, namespace: b, policies: [\"a b\"], maxSession: 13h }\n    \
                - { serviceAccount: a, namespace: b, name: \"a b\", inlinePolicy: \"{}\" }\n";
    assert_eq!(
        mistakes(&with(list)),
        [
            "irsad.yaml: line 8: roles.list[0].serviceAccount: \"Cart\" is not a service account; use at most 253 lower-case letters, digits, hyphens and dots, or a pattern with * and ?",
            "irsad.yaml: line 10: roles.list[1].namespace: it is missing; add it, for example `namespace: shop`",
            "irsad.yaml: line 10: roles.list[1].namespaces: unknown key; here can stand: inlinePolicy, maxSession, name, namespace, policies, serviceAccount",
            "irsad.yaml: line 11: roles.list[2]: a single value stands here; write a mapping",
            "irsad.yaml: line 12: roles.list[3].serviceAccount: namespace \"*\" with service account \"*\" would let every pod of the cluster take the role; name at least one of them",
            "irsad.yaml: line 13: roles.list[4].policies[0]: \"a b\" is not a managed policy; write its ARN, or the name of one of AWS, for example AmazonS3ReadOnlyAccess or service-role/AmazonEBSCSIDriverPolicy",
            "irsad.yaml: line 13: roles.list[4].maxSession: 13h is no session of a role; IAM takes 1h to 12h",
            "irsad.yaml: line 14: roles.list[5].name: \"a b\" is not the name of a role; use 1 to 64 letters, digits and +=,.@_-",
            "irsad.yaml: line 14: roles.list[5].inlinePolicy: the inline policy has no Statement; write a policy document with Version and Statement as in the IAM user guide",
        ]
    );
}

#[test]
fn what_iam_would_refuse_is_a_mistake_of_the_file() {
    let eleven = (0..11).map(|n| format!("P{n}")).collect::<Vec<_>>().join(", ");
    for (list, expected) in [
        (
            "    - { serviceAccount: a, namespace: b }\n    - { serviceAccount: c, namespace: d, name: A.b.prod-1 }\n"
                .to_owned(),
            "irsad.yaml: line 9: roles.list[1]: role A.b.prod-1 stands twice; join the entries, or give one another name",
        ),
        (
            format!("    - {{ serviceAccount: a, namespace: b, policies: [{eleven}] }}\n"),
            "irsad.yaml: line 8: roles.list[0]: 11 managed policies are more than the 10 that IAM attaches to a role unless the quota is raised, which irsad makes no use of; join them, or write an inline policy",
        ),
        (
            "    - { serviceAccount: a, namespace: b, policies: [\"arn:aws-cn:iam::aws:policy/A\"] }\n".to_owned(),
            "irsad.yaml: line 8: roles.list[0]: policy arn:aws-cn:iam::aws:policy/A is not of the partition aws that this account is in; correct the ARN",
        ),
    ] {
        assert_eq!(mistakes(&with(&list)), [expected]);
    }
}

#[test]
fn mode_list_needs_a_list_and_an_empty_one_must_be_meant() {
    assert_eq!(
        mistakes(&format!("{SMALLEST}roles: {{ mode: list }}\n")),
        [
            "irsad.yaml: line 5: roles.list: it is missing; add it, for example `list: [{ serviceAccount: checkout, namespace: shop, policies: [AmazonSQSFullAccess] }]`"
        ]
    );
    assert_eq!(one(&format!("{SMALLEST}roles: {{ mode: list, list: [] }}\n")).roles.list, []);
    assert_eq!(
        mistakes(&format!(
            "{SMALLEST}roles: {{ additionalIssuers: [\"https://prod-1-oidc.s3.eu-west-1.amazonaws.com\"] }}\n"
        )),
        [
            "irsad.yaml: line 5: roles.additionalIssuers: https://prod-1-oidc.s3.eu-west-1.amazonaws.com is the issuer of this cluster already; leave it out",
        ]
    );
}
