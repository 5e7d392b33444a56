use serde_json::json;

use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Of an irsad that has everything: keyring, rollout, missed pods.
const STATUS: &str = include_str!("../../../tests/fixtures/formats/status-v1.json");

const GOOD: Outside = Outside { published: Some(true), provider_drifts: Some(false) };

/// `NAME{LABEL="VALUE"} NUMBER` of every sample.
fn samples(families: &[Family]) -> Vec<String> {
    let labels = |sample: &Sample| {
        let pairs: Vec<String> = sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(",")
    };
    let of = |family: &Family| {
        let name = family.name.strip_prefix("irsad_").unwrap_or(family.name);
        family.samples.iter().map(|sample| format!("{name}{{{}}} {}", labels(sample), sample.value)).collect::<Vec<_>>()
    };
    families.iter().flat_map(of).collect()
}

#[test]
fn report_is_shown_in_numbers_with_labels_from_small_sets_only() -> Outcome {
    let shown = samples(&of_pass(&serde_json::from_str(STATUS)?, Some(GOOD)));
    let expected = [
        "cluster{cluster=quickstart,issuer=https://oidc.quickstart.example} 1",
        "health{state=converged} 0",
        "health{state=working} 0",
        "health{state=waiting} 0",
        "health{state=failing} 0",
        "health{state=needsAPerson} 1",
        "needs_person{} 1",
        "waiting{} 1",
        "apiserver_ready{} 1",
        "leader{} 0",
        "published{} 1",
        "published_timestamp_seconds{} 1795262400",
        "provider_drift{} 0",
        "keys{state=standby} 0",
        "keys{state=signing} 1",
        "keys{state=draining} 1",
        "keys{state=verifyOnly} 0",
        "keys{state=retired} 0",
        "keys{state=revoked} 0",
        "key_since_timestamp_seconds{state=signing} 1795258800",
        "key_since_timestamp_seconds{state=draining} 1795258800",
        "key_next_step_timestamp_seconds{state=revoked} 1795346100",
        "rotation_wanted_since_timestamp_seconds{} 1795262220",
        "members{} 2",
        "members_behind{} 2",
        "rollout_since_timestamp_seconds{} 1795262280",
        "rollout_frozen{} 1",
        "node_keys{state=signing} 1",
        "node_keys{state=accepted} 0",
        "node_keys{state=leaving} 1",
        "missed_pods{} 2",
        "missed_pods_checked_timestamp_seconds{} 1795262280",
    ];
    assert_eq!(shown, expected);
    Ok(())
}

#[test]
fn roles_are_counted_by_state_where_this_node_makes_them() -> Outcome {
    let mut status: serde_json::Value = serde_json::from_str(STATUS)?;
    status["roles"] = json!({
        "mode": "crd", "ready": 9, "pending": 1, "waiting": 2, "needAPerson": 3, "summary": "", "faults": [], "orphaned": 4,
    });
    let shown = samples(&of_pass(&serde_json::from_value(status)?, Some(GOOD)));
    let roles: Vec<&str> = shown.iter().map(String::as_str).filter(|sample| sample.starts_with("roles{")).collect();
    assert_eq!(
        roles,
        [
            "roles{state=ready} 9",
            "roles{state=pending} 1",
            "roles{state=waiting} 2",
            "roles{state=refused} 3",
            "roles{state=orphaned} 4",
        ]
    );
    Ok(())
}

#[test]
fn what_a_node_cannot_know_is_left_out_and_never_a_zero() -> Outcome {
    let mut status: serde_json::Value = serde_json::from_str(STATUS)?;
    for (field, value) in [("keyring", json!(null)), ("missedPods", json!(null)), ("role", json!("alone"))] {
        status[field] = value;
    }
    status["apiServer"]["ready"] = json!(null);
    status["publishedAt"] = json!(null);
    let nothing = Outside { published: None, provider_drifts: None };
    let families = of_pass(&serde_json::from_value(status)?, Some(nothing));
    let names: Vec<_> = families.iter().map(|family| family.name).collect();
    assert_eq!(names, ["irsad_cluster", "irsad_health", "irsad_needs_person", "irsad_waiting", "irsad_node_keys"]);
    Ok(())
}

#[test]
fn what_a_teardown_ends_is_watched_no_longer() -> Outcome {
    let report = serde_json::from_str(STATUS)?;
    let names = |outside| of_pass(&report, outside).into_iter().map(|family| family.name).collect::<Vec<_>>();
    let (before, after) = (names(Some(GOOD)), names(None));
    let gone: Vec<&str> = before.into_iter().filter(|name| !after.contains(name)).collect();
    let expected = ["irsad_leader", "irsad_published", "irsad_published_timestamp_seconds", "irsad_provider_drift"];
    assert_eq!(gone, expected);
    Ok(())
}

#[test]
fn member_is_behind_until_it_has_proven_everything() -> Outcome {
    let mut status: serde_json::Value = serde_json::from_str(STATUS)?;
    for (still_to, failure, behind) in [
        (json!([]), json!(null), "members_behind{} 1"),
        (json!(["accept key k2"]), json!(null), "members_behind{} 2"),
        (json!([]), json!("no proof"), "members_behind{} 2"),
    ] {
        let evidence = &mut status["keyring"]["members"][0]["evidence"];
        (evidence["stillTo"], evidence["failure"]) = (still_to, failure);
        let shown = samples(&of_pass(&serde_json::from_value(status.clone())?, None));
        assert!(shown.iter().any(|sample| sample == behind), "{behind}: {shown:#?}");
    }
    Ok(())
}

#[test]
fn provider_drifts_when_it_is_gone_or_lacks_an_audience_and_not_when_nobody_could_look() -> Outcome {
    let (sts, other) = ("sts.amazonaws.com".parse()?, "other".parse()?);
    let wanted = DesiredProvider { audiences: vec![sts], tags: Vec::new() };
    let found = |audiences| Probe::Present(ProviderFacts { audiences, is_ours: true });
    let right = found([&wanted.audiences[..], &[other]].concat());
    for (wanted, found, drifts) in [
        (None, Some(&right), None),
        (Some(&wanted), None, None),
        (Some(&wanted), Some(&Probe::Unknown("no answer".to_owned())), None),
        (Some(&wanted), Some(&right), Some(false)),
        (Some(&wanted), Some(&found(Vec::new())), Some(true)),
        (Some(&wanted), Some(&Probe::Absent), Some(true)),
    ] {
        assert_eq!(provider_drift(wanted, found), drifts);
    }
    Ok(())
}
