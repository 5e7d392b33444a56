//! Plans of single roles, and names.

use std::time::Duration;

use super::{fixtures::terms, *};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const INLINE: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sqs:*","Resource":"*"}}"#;
const ONE: &str = "arn:aws:iam::123456789012:policy/one";
const TWO: &str = "arn:aws:iam::aws:policy/two";

fn request(policies: &[&str]) -> Result<RoleRequest, Box<dyn std::error::Error>> {
    Ok(RoleRequest {
        name: "app".parse()?,
        owner: Owner::list("prod-1"),
        subjects: vec![Subject::new("shop", "app")?],
        managed: policies.iter().map(|arn| arn.parse()).collect::<Result<_, _>>()?,
        inline: Some(INLINE.parse()?),
        max_session: MaxSession::DEFAULT,
    })
}

fn wanted(policies: &[&str]) -> Result<WantedRole, Box<dyn std::error::Error>> {
    Ok(terms()?.role(&request(policies)?)?)
}

/// As IAM shows a role that is as it should be.
fn found(wanted: &WantedRole) -> FoundRole {
    FoundRole {
        name: wanted.name.clone(),
        path: wanted.path.clone(),
        arn: wanted.arn.clone(),
        trust_policy: wanted.trust_policy.clone(),
        max_session_seconds: wanted.max_session.seconds().into(),
        boundary: wanted.boundary.as_ref().map(ToString::to_string),
        tags: wanted.tags.clone(),
        managed: wanted.managed.iter().map(ToString::to_string).collect(),
        inline: wanted.inline.iter().map(|policy| (INLINE_POLICY_NAME.to_owned(), policy.to_json())).collect(),
    }
}

fn planned(wanted: &WantedRole, found: FoundRole) -> Result<Vec<String>, Refusal> {
    let seen = Seen { role: Some(found), ..Seen::default() };
    Ok(plan(wanted, &seen)?.iter().map(ToString::to_string).collect())
}

/// What one action does to a role.
fn carry_out(role: Option<FoundRole>, action: &RoleAction, name: &RoleName) -> Option<FoundRole> {
    if let RoleAction::Create(new) = action {
        return Some(FoundRole {
            name: name.clone(),
            path: new.path.clone(),
            arn: String::new(),
            trust_policy: new.trust_policy.clone(),
            max_session_seconds: new.max_session.seconds().into(),
            boundary: new.boundary.as_ref().map(ToString::to_string),
            tags: new.tags.clone(),
            managed: BTreeSet::new(),
            inline: BTreeMap::new(),
        });
    }
    let mut role = role?;
    match action {
        RoleAction::Create(_) | RoleAction::Delete => return None,
        RoleAction::SetBoundary(arn) => role.boundary = Some(arn.to_string()),
        RoleAction::SetTrustPolicy(policy) => role.trust_policy.clone_from(policy),
        RoleAction::SetMaxSession(session) => role.max_session_seconds = session.seconds().into(),
        RoleAction::Tag(tags) => role.tags.extend(tags.clone()),
        RoleAction::Detach(arn) => drop(role.managed.remove(arn)),
        RoleAction::DeleteInline(name) => drop(role.inline.remove(name)),
        RoleAction::PutInline(policy) => {
            role.inline.insert(INLINE_POLICY_NAME.to_owned(), policy.to_json());
        }
        RoleAction::Attach(arn) => drop(role.managed.insert(arn.to_string())),
        RoleAction::PutBackManaged(arn) => drop(role.managed.insert(arn.clone())),
        RoleAction::PutBackInline { name, policy } => drop(role.inline.insert(name.clone(), policy.clone())),
    }
    Some(role)
}

/// Roles in every state that a plan may meet.
fn states(wanted: &WantedRole) -> Vec<Option<FoundRole>> {
    let edits: [fn(&mut FoundRole); 7] = [
        |role| role.trust_policy = "{}".to_owned(),
        |role| role.managed = ["arn:aws:iam::aws:policy/theirs".to_owned()].into(),
        |role| role.inline = [("theirs".to_owned(), "{}".to_owned())].into(),
        |role| drop(role.inline.insert(INLINE_POLICY_NAME.to_owned(), "{}".to_owned())),
        |role| role.boundary = Some("arn:aws:iam::aws:policy/theirs".to_owned()),
        |role| role.max_session_seconds = 7200,
        |role| drop(role.tags.remove("team")),
    ];
    let edited = (0..1_u32 << edits.len()).map(|which| {
        let mut role = found(wanted);
        edits.iter().enumerate().filter(|(bit, _)| which & (1 << bit) != 0).for_each(|(_, edit)| edit(&mut role));
        Some(role)
    });
    edited.chain([None]).collect()
}

#[test]
fn executing_a_plan_leaves_nothing_to_plan_wherever_it_was_stopped() -> Outcome {
    let terms = RoleTerms {
        boundary: Some("arn:aws:iam::123456789012:policy/apps".parse()?),
        tags: [("team".to_owned(), "shop".to_owned())].into(),
        ..terms()?
    };
    let wanted = terms.role(&request(&[ONE, TWO])?)?;
    for state in states(&wanted) {
        let seen = |role: Option<FoundRole>| Seen { role, ..Seen::default() };
        let actions = plan(&wanted, &seen(state.clone()))?;
        for stop in 0..=actions.len() {
            let stopped =
                actions[..stop].iter().fold(state.clone(), |role, action| carry_out(role, action, &wanted.name));
            let rest = plan(&wanted, &seen(stopped.clone()))?;
            let end = rest.iter().fold(stopped, |role, action| carry_out(role, action, &wanted.name));
            assert_eq!(plan(&wanted, &seen(end.clone()))?, [], "{state:?} stopped after {stop}: {end:?}");
        }
    }
    Ok(())
}

/// Whoever was trusted before and is not to be trusted may never have what the role is to have from now on, and the other way round.
#[test]
fn nobody_has_permissions_in_the_middle_that_are_neither_theirs_before_nor_after() -> Outcome {
    let wanted = wanted(&[ONE])?;
    for state in states(&wanted).into_iter().flatten() {
        let trusted_before = state.trust_policy.clone();
        let has_ours = |role: &FoundRole| role.managed.contains(ONE) && !state.managed.contains(ONE);
        let has_theirs = |role: &FoundRole| {
            let has_text =
                |(name, text): (&String, &String)| name != INLINE_POLICY_NAME || !says_the_same(text, INLINE);
            role.managed.iter().any(|arn| arn.ends_with("theirs")) || role.inline.iter().any(has_text)
        };
        let actions = plan(&wanted, &Seen { role: Some(state.clone()), ..Seen::default() })?;
        let mut role = Some(state.clone());
        for action in &actions {
            role = carry_out(role, action, &wanted.name);
            let Some(role) = &role else { continue };
            let changes_trust = trusted_before != wanted.trust_policy;
            if changes_trust && role.trust_policy == trusted_before {
                assert!(!has_ours(role), "{state:?}: {actions:?}");
            }
            if changes_trust && role.trust_policy == wanted.trust_policy {
                assert!(!has_theirs(role), "{state:?}: {actions:?}");
            }
        }
    }
    Ok(())
}

fn is_before_permissions(action: &RoleAction) -> bool {
    use RoleAction::{SetBoundary, SetMaxSession, SetTrustPolicy, Tag};
    matches!(action, SetBoundary(_) | SetMaxSession(_) | SetTrustPolicy(_) | Tag(_))
}

#[test]
fn what_was_taken_for_a_change_that_is_refused_is_given_back_unless_others_are_trusted_by_then() -> Outcome {
    let mut wanted = wanted(&[ONE])?;
    wanted.tags.insert("team".to_owned(), "shop".to_owned());
    for state in states(&wanted).into_iter().flatten() {
        let actions = plan(&wanted, &Seen { role: Some(state.clone()), ..Seen::default() })?;
        for (refused, action) in actions.iter().enumerate() {
            let before = |state| actions[..refused].iter().fold(state, |it, done| carry_out(it, done, &wanted.name));
            let stopped = before(Some(state.clone())).ok_or("a role")?;
            let back = put_back(&actions, refused, &state);
            let end = back.iter().try_fold(stopped.clone(), |it, back| carry_out(Some(it), back, &wanted.name));
            let end = end.ok_or("a role")?;
            if stopped.trust_policy != state.trust_policy {
                assert_eq!(back, [], "{state:?}: {actions:?} up to {action}");
                assert!(
                    matches!(action, RoleAction::PutInline(_) | RoleAction::Attach(_)),
                    "{action} is refused when nothing can be given back: {actions:?}"
                );
            } else if is_before_permissions(action) {
                let permissions = |role: &FoundRole| (role.managed.clone(), role.inline.clone());
                assert_eq!(permissions(&end), permissions(&state), "{actions:?}");
            }
            assert_eq!((end.trust_policy, end.boundary), (stopped.trust_policy, stopped.boundary));
        }
    }
    Ok(())
}

#[test]
fn policy_that_is_refused_where_ten_were_attached_leaves_the_ten_of_before() -> Outcome {
    let many = |start: usize| (start..start + 10).map(|n| format!("arn:aws:iam::aws:policy/p{n}")).collect::<Vec<_>>();
    let of = |start: usize| wanted(&many(start).iter().map(String::as_str).collect::<Vec<_>>());
    let (before, after) = (FoundRole { inline: BTreeMap::new(), ..found(&of(0)?) }, of(2)?);
    let actions = plan(&after, &Seen { role: Some(before.clone()), ..Seen::default() })?;
    let refused = actions.len() - 1;
    let stopped =
        actions[..refused].iter().try_fold(before.clone(), |role, action| carry_out(Some(role), action, &after.name));
    let back = put_back(&actions, refused, &before);
    let texts: Vec<String> = back.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "detach arn:aws:iam::aws:policy/p10",
            "delete its inline policy irsad",
            "give back arn:aws:iam::aws:policy/p1",
            "give back arn:aws:iam::aws:policy/p0",
        ]
    );
    assert_eq!(back.iter().fold(stopped, |role, action| carry_out(role, action, &after.name)), Some(before));
    Ok(())
}

#[test]
fn role_is_made_complete_and_ours_before_it_permits_anything() -> Outcome {
    let wanted = wanted(&[TWO, ONE])?;
    let actions = plan(&wanted, &Seen::default())?;
    let RoleAction::Create(new) = &actions[0] else { return Err("the role comes first".into()) };
    assert_eq!((&new.path, &new.tags, &new.trust_policy), (&wanted.path, &wanted.tags, &wanted.trust_policy));
    let texts: Vec<String> = actions.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["create it", "write its inline policy irsad", &format!("attach {ONE}"), &format!("attach {TWO}")]
    );
    Ok(())
}

#[test]
fn policy_that_replaces_another_comes_first_unless_others_get_the_role_or_it_would_be_one_too_many() -> Outcome {
    let (before, after) = (wanted(&[ONE])?, wanted(&[TWO])?);
    let (attach, detach) = (format!("attach {TWO}"), format!("detach {ONE}"));
    assert_eq!(planned(&after, found(&before))?, [attach.clone(), detach.clone()]);
    let others = FoundRole { trust_policy: "{}".to_owned(), ..found(&before) };
    assert_eq!(planned(&after, others)?, [detach.clone(), "set its trust policy".to_owned(), attach.clone()]);

    let ten: Vec<String> = (0..9).map(|n| format!("arn:aws:iam::aws:policy/p{n}")).collect();
    let with = |last| ten.iter().map(String::as_str).chain([last]).collect::<Vec<_>>();
    assert_eq!(planned(&wanted(&with(TWO))?, found(&wanted(&with(ONE))?))?, [detach, attach]);
    Ok(())
}

#[test]
fn boundary_is_put_on_first_and_never_taken_off() -> Outcome {
    let terms = RoleTerms { boundary: Some("arn:aws:iam::123456789012:policy/apps".parse()?), ..terms()? };
    let with = terms.role(&request(&[TWO])?)?;
    let without = wanted(&[ONE])?;
    let set = "set its permissions boundary to arn:aws:iam::123456789012:policy/apps";
    assert_eq!(planned(&with, found(&without))?[0], set);
    assert_eq!(planned(&wanted(&[TWO])?, found(&with))?, Vec::<String>::new());
    Ok(())
}

#[test]
fn role_of_someone_else_is_refused_before_anything_is_planned() -> Outcome {
    let wanted = wanted(&[ONE])?;
    let tags =
        |tags: &[(&str, &str)]| tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let ours = found(&wanted);
    for (role, reason) in [
        (FoundRole { path: "/".to_owned(), ..ours.clone() }, "RoleNotOurs"),
        (FoundRole { path: "/irsad/prod-10/".to_owned(), ..ours.clone() }, "RoleNotOurs"),
        (FoundRole { tags: tags(&[]), ..ours.clone() }, "RoleNotOurs"),
        (FoundRole { tags: tags(&[(CLUSTER_TAG, "prod-1")]), ..ours.clone() }, "RoleNotOurs"),
        (FoundRole { tags: tags(&[(CLUSTER_TAG, "prod-2"), (OWNER_TAG, "list")]), ..ours.clone() }, "RoleNotOurs"),
        (
            FoundRole { tags: tags(&[(CLUSTER_TAG, "prod-1"), (OWNER_TAG, "X/shop/app")]), ..ours.clone() },
            "RoleOwnedByAnother",
        ),
    ] {
        let seen = Seen { role: Some(role.clone()), ..Seen::default() };
        assert_eq!(plan(&wanted, &seen).map_err(|refusal| refusal.reason()), Err(reason), "{role:?}");
        assert_eq!(removal(&role, &wanted.owner).map_err(|refusal| refusal.reason()), Err(reason));
    }
    Ok(())
}

#[test]
fn removal_takes_every_policy_before_the_role() -> Outcome {
    let mut role = found(&wanted(&[ONE, TWO])?);
    role.inline.insert("theirs".to_owned(), "{}".to_owned());
    let texts: Vec<String> = removal(&role, &Owner::list("prod-1"))?.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            &format!("detach {ONE}"),
            &format!("detach {TWO}"),
            "delete its inline policy irsad",
            "delete its inline policy theirs",
            "delete it",
        ]
    );
    Ok(())
}

#[test]
fn what_iam_would_refuse_half_way_is_refused_before_any_call() -> Outcome {
    let eleven: Vec<String> = (0..11).map(|n| format!("arn:aws:iam::aws:policy/p{n}")).collect();
    let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
    let foreign = request(&["arn:aws-cn:iam::aws:policy/a"])?;
    let mut many = request(&[])?;
    many.subjects = (0..16).map(|n| Subject::new("shop", &format!("{n:0>250}"))).collect::<Result<_, _>>()?;
    let tags = RoleTerms { tags: (0..49).map(|n| (n.to_string(), String::new())).collect(), ..terms()? };
    for (outcome, reason) in [
        (terms()?.role(&request(&eleven)?), "TooManyPolicies"),
        (terms()?.role(&foreign), "PolicyOfOtherPartition"),
        (terms()?.role(&many), "TrustPolicyRefused"),
        (tags.role(&request(&[])?), "TooManyTags"),
    ] {
        assert_eq!(outcome.map_err(|refusal| refusal.reason()).err(), Some(reason));
    }
    Ok(())
}

#[test]
fn name_follows_from_account_namespace_and_cluster_and_never_meets_another() -> Outcome {
    for (namespace, account, name) in [
        ("shop", "cart", "cart.shop.prod-1"),
        ("shop-*", "cart", "cart.shop-+.prod-1"),
        ("shop", "cart-?", "cart-=.shop.prod-1"),
        (
            "a-namespace-that-is-long",
            "a-service-account-with-a-long-name",
            "a-service-account-with-a-long-name.a-namespace-that-is-long.prod-1",
        ),
    ] {
        let whole = RoleName::of(&Subject::new(namespace, account)?, "prod-1");
        if name.len() <= 64 {
            assert_eq!(whole.as_str(), name);
        } else {
            assert_eq!((whole.as_str().len(), &whole.as_str()[..55]), (64, &name[..55]));
            assert_ne!(whole, RoleName::of(&Subject::new(namespace, account)?, "prod-2"));
        }
        assert_eq!(whole.as_str().parse(), Ok(whole));
    }
    for text in ["", "a b", "a/b", "a:b", "ä", &"a".repeat(65)] {
        assert_eq!(
            text.parse::<RoleName>().err().map(|error| error.to_string()).as_deref(),
            Some(format!("{text:?} is not the name of a role; use 1 to 64 letters, digits and +=,.@_-").as_str())
        );
    }
    Ok(())
}

#[test]
fn owner_is_told_by_tags_that_iam_takes() {
    for (owner, keeper) in [
        (Owner::list("prod-1"), "list"),
        (Owner::object("prod-1", "ServiceAccountRole", Some("shop"), "cart"), "ServiceAccountRole/shop/cart"),
        (Owner::object("prod-1", "ServiceAccountRole", None, "cart"), "ServiceAccountRole/cart"),
    ] {
        assert_eq!(owner.keeper(), keeper);
    }
    let [one, other] = ["a", "b"].map(|end| {
        Owner::object("prod-1", "ServiceAccountRole", Some(&"n".repeat(63)), &format!("{}{end}", "x".repeat(252)))
    });
    assert!(one.keeper().len() == 256 && one != other, "{one}");
}

#[test]
fn policies_and_sessions_that_iam_does_not_take_are_refused() {
    for text in [
        "arn:aws:iam::123456789012:role/a",
        "arn:aws:iam::1:policy/a",
        "arn:aws-x:iam::aws:policy/a",
        "arn:aws:iam::aws:policy/",
        "arn:aws:iam::aws:policy/a//b",
        "arn:aws:s3:::a",
        "",
    ] {
        assert!(text.parse::<PolicyArn>().is_err() && text.parse::<ManagedPolicy>().is_err(), "{text}");
    }
    for (text, message) in [
        (
            "x",
            "the inline policy is not JSON: expected value at line 1 column 1; write a policy document with Version and Statement",
        ),
        (
            "[]",
            "the inline policy is not an object; write a policy document with Version and Statement as in the IAM user guide",
        ),
        (
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}]}"#,
            "the inline policy has a statement with Principal, which only the policies of resources have; write a policy document with Version and Statement as in the IAM user guide",
        ),
        (
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*"}]}"#,
            "the inline policy has a statement without Action; write a policy document with Version and Statement as in the IAM user guide",
        ),
    ] {
        assert_eq!(text.parse::<InlinePolicy>().err().map(|error| error.to_string()).as_deref(), Some(message));
    }
    let of_length =
        |sid: usize| INLINE.replace("{\"Effect\"", &format!("{{\"Sid\":\"{}\",\"Effect\"", "a".repeat(sid)));
    let at_limit = 10_240 - of_length(0).len();
    assert!(of_length(at_limit).parse::<InlinePolicy>().is_ok());
    assert_eq!(of_length(at_limit + 1).parse::<InlinePolicy>(), Err(InlinePolicyError::TooLong { length: 10_241 }));
    for (seconds, is_session) in [(3599, false), (3600, true), (43_200, true), (43_201, false)] {
        assert_eq!(MaxSession::try_from(Duration::from_secs(seconds)).is_ok(), is_session);
    }
}
