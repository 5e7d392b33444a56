//! Roles from the ConfigMap.

use super::*;

fn known(text: &str) -> Result<Known, RoleMapError> {
    Ok(Known { roles: RoleMap::parse(text)?, ..Known::nothing() })
}

fn role_of(known: &Known) -> Result<Option<String>, Box<dyn Error>> {
    let (patched, _) = known.admit(&pod())?;
    let variables = variables(&patched["spec"]["containers"][0]);
    Ok(variables.iter().find(|(name, _)| *name == "AWS_ROLE_ARN").map(|(_, arn)| (*arn).to_owned()))
}

#[test]
fn entry_counts_where_the_account_has_no_role_and_even_where_it_is_missing() -> Tested {
    let text = r#"{"prod/app":{"RoleARN":"arn:aws:iam::111122223333:role/map"}}"#;
    let of_map = Some("arn:aws:iam::111122223333:role/map".to_owned());
    assert_eq!(role_of(&known(text)?)?, of_map);
    assert_eq!(role_of(&known(text)?.with("audience", "x"))?, of_map);
    assert_eq!(role_of(&known(text)?.with("role-arn", ""))?, of_map);
    assert_eq!(role_of(&known(text)?.with("role-arn", ROLE))?.as_deref(), Some(ROLE));
    Ok(())
}

#[test]
fn all_values_come_from_the_entry() -> Tested {
    let text = json!({ "prod/app": {
        "RoleARN": ROLE, "Audience": "map", "UseRegionalSTS": true, "TokenExpiration": 3600,
    } });
    let known = known(&text.to_string())?.with("audience", "annotation").with("token-expiration", "7200");
    let patched = known.with("sts-regional-endpoints", "false").patched(&pod())?;
    assert_eq!(token(&patched), &json!({ "audience": "map", "expirationSeconds": 3600, "path": "token" }));
    let variables = variables(&patched["spec"]["containers"][0]);
    assert_eq!(variables[..2], [("AWS_STS_REGIONAL_ENDPOINTS", "regional"), ("AWS_ROLE_ARN", ROLE)]);
    Ok(())
}

#[test]
fn only_the_expiration_of_an_entry_falls_back_to_the_settings() -> Tested {
    for text in [
        json!({ "prod/app": { "RoleARN": ROLE } }),
        json!({ "prod/app": { "RoleARN": ROLE, "TokenExpiration": 0, "Audience": null, "UseRegionalSTS": null } }),
    ] {
        let known = known(&text.to_string())?.settings(|settings| {
            settings.token_expiration_seconds = 43_200;
            settings.regional_sts = true;
        });
        let (patched, warnings) = known.admit(&pod())?;
        assert_eq!(token(&patched), &json!({ "expirationSeconds": 43_200, "path": "token" }));
        assert_eq!(variables(&patched["spec"]["containers"][0])[0], ("AWS_ROLE_ARN", ROLE));
        assert_eq!(warnings, ["service account prod/app: the audience is blank; AWS will refuse the token"]);
    }
    Ok(())
}

#[test]
fn expiration_of_an_entry_is_not_checked_but_that_of_the_pod_goes_before_it() -> Tested {
    let text = json!({ "prod/app": { "RoleARN": ROLE, "Audience": "sts.amazonaws.com", "TokenExpiration": 60 } });
    let known = known(&text.to_string())?;
    assert_eq!(token(&known.patched(&pod())?)["expirationSeconds"], json!(60));
    let annotated = annotated("eks.amazonaws.com/token-expiration", "3600");
    assert_eq!(token(&known.patched(&annotated)?)["expirationSeconds"], json!(3600));
    Ok(())
}

#[test]
fn keys_of_an_entry_may_be_in_any_case() -> Tested {
    let text =
        json!({ "prod/app": { "rolearn": ROLE, "AUDIENCE": "x", "useRegionalSts": true, "tokenexpiration": 3600 } });
    let patched = known(&text.to_string())?.patched(&pod())?;
    assert_eq!(token(&patched), &json!({ "audience": "x", "expirationSeconds": 3600, "path": "token" }));
    Ok(())
}

#[test]
fn star_is_any_namespace_behind_the_exact_key_and_patterns_are_none() -> Tested {
    for (text, wanted) in [
        (json!({ "*/app": { "RoleARN": "any" } }), Some("any")),
        (json!({ "*/app": { "RoleARN": "any" }, "prod/app": { "RoleARN": "own" } }), Some("own")),
        (json!({ "*/app": { "RoleARN": "any" }, "prod/app": { "RoleARN": "" } }), None),
        (json!({ "prod/app/more": { "RoleARN": "own" } }), Some("own")),
        (json!({ "pro*/app": { "RoleARN": "any" } }), None),
        (json!({ "prod/*": { "RoleARN": "any" } }), None),
        (json!({ "*/other": { "RoleARN": "any" } }), None),
        (json!({}), None),
    ] {
        assert_eq!(role_of(&known(&text.to_string())?)?.as_deref(), wanted, "{text}");
    }
    assert!(RoleMap::parse("null")?.is_empty());
    Ok(())
}

#[test]
fn malformed_map_is_refused_with_the_reason_and_never_a_crash() {
    let form = "the roles in the ConfigMap cannot be read (those before are kept); write a JSON object of NAMESPACE/NAME and role";
    for (text, wanted) in [
        ("", form),
        ("{", form),
        ("[]", form),
        (r#"{"prod/app":"arn"}"#, form),
        (r#"{"prod/app":[]}"#, form),
        (r#"{"prod/app":{"RoleARN":5}}"#, form),
        (r#"{"prod/app":{"TokenExpiration":"3600"}}"#, form),
        (
            r#"{"app":{"RoleARN":"x"}}"#,
            r#""app" in the ConfigMap names no service account (the roles before are kept); write NAMESPACE/NAME, or */NAME for any namespace"#,
        ),
        (
            r#"{"prod/app":null}"#,
            r#""prod/app" in the ConfigMap has no role (the roles before are kept); give it one, or take the key out"#,
        ),
    ] {
        assert_eq!(RoleMap::parse(text).map_err(|error| error.to_string()), Err(wanted.to_owned()), "{text}");
    }
}
