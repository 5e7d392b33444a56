//! Annotations of service accounts: role, audience, regional STS; ARNs made of role names.

use super::*;

fn composing(region: &str) -> Known {
    let region: crate::model::region::Region = region.parse().expect("a region");
    let account = "123456789012".parse().expect("an account");
    Known::nothing().settings(|settings| {
        settings.composition = Some(Composition { partition: region.partition(), account });
    })
}

fn role_of(patched: &Value) -> Option<&str> {
    variables(&patched["spec"]["containers"][0])
        .into_iter()
        .find(|(name, _)| *name == "AWS_ROLE_ARN")
        .map(|(_, arn)| arn)
}

#[test]
fn role_is_used_as_it_is_with_a_warning_where_it_is_no_arn() -> Tested {
    for arn in [
        ROLE,
        "arn:aws-us-gov:iam::111122223333:role/a/b_c.d@e+f=g,h-i",
        "arn:aws-cn:iam::111122223333:role/app",
        "arn:aws-iso-b:iam::111122223333:role/app",
    ] {
        assert_eq!(role_of(&Known::nothing().with("role-arn", arn).patched(&pod())?), Some(arn));
    }
    for arn in [
        "app",
        " ",
        "arn:aws:iam::1111:role/app",
        "arn:aws:iam::111122223333:user/app",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:iam::111122223333:role/a b",
        "arn:AWS:iam::111122223333:role/app",
        " arn:aws:iam::111122223333:role/app",
    ] {
        let (patched, warnings) = Known::nothing().with("role-arn", arn).admit(&pod())?;
        assert_eq!(role_of(&patched), Some(arn));
        let wanted = format!("service account prod/app: {arn:?} is not the ARN of a role; AWS will refuse it");
        assert_eq!(warnings, [wanted]);
    }
    Ok(())
}

#[test]
fn audience_of_the_account_goes_before_that_of_the_settings() -> Tested {
    assert_eq!(token(&Known::role().patched(&pod())?)["audience"], json!("sts.amazonaws.com"));
    let known = Known::role().settings(|settings| "amazonaws.com".clone_into(&mut settings.audience));
    assert_eq!(token(&known.patched(&pod())?)["audience"], json!("amazonaws.com"));
    assert_eq!(token(&known.with("audience", "vault").patched(&pod())?)["audience"], json!("vault"));
    Ok(())
}

#[test]
fn blank_audience_is_used_with_a_warning() -> Tested {
    let blank = "service account prod/app: the audience is blank; AWS will refuse the token";
    let (patched, warnings) = Known::role().with("audience", "").admit(&pod())?;
    assert_eq!(token(&patched), &json!({ "expirationSeconds": 86_400, "path": "token" }));
    assert_eq!(warnings, [blank]);
    let (patched, warnings) = Known::role().with("audience", "  ").admit(&pod())?;
    assert_eq!(token(&patched)["audience"], json!("  "));
    assert_eq!(warnings, [blank]);
    Ok(())
}

#[test]
fn regional_sts_of_the_account_goes_before_the_setting_in_both_directions() -> Tested {
    let on = ["1", "t", "T", "TRUE", "true", "True"].map(|text| (text, Some(true)));
    let off = ["0", "f", "F", "FALSE", "false", "False"].map(|text| (text, Some(false)));
    let unreadable = ["yes", "", " true", "tRUE", "2"].map(|text| (text, None));
    for (text, meant) in on.into_iter().chain(off).chain(unreadable) {
        for setting in [true, false] {
            let known = Known::role().settings(|settings| settings.regional_sts = setting);
            let (patched, warnings) = known.with("sts-regional-endpoints", text).admit(&pod())?;
            let added =
                variables(&patched["spec"]["containers"][0]).contains(&("AWS_STS_REGIONAL_ENDPOINTS", "regional"));
            assert_eq!(added, meant.unwrap_or(setting), "{text} over {setting}");
            let warning = format!(
                "service account prod/app: {text:?} in eks.amazonaws.com/sts-regional-endpoints is not true or false; {setting} is used"
            );
            let wanted: Vec<String> = if meant.is_none() { vec![warning] } else { Vec::new() };
            assert_eq!(warnings, wanted);
        }
    }
    Ok(())
}

#[test]
fn role_audience_and_regional_sts_on_a_pod_are_ignored() -> Tested {
    let mut plain = pod();
    plain["metadata"]["annotations"] = json!({
        "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/other",
        "eks.amazonaws.com/audience": "other",
        "eks.amazonaws.com/sts-regional-endpoints": "true",
    });
    assert!(!is_changed(&plain, &Known::nothing().patched(&plain)?));
    let patched = Known::role().patched(&plain)?;
    assert_eq!(patched["spec"], Known::role().patched(&pod())?["spec"]);
    Ok(())
}

#[test]
fn skip_containers_on_an_account_has_no_effect() -> Tested {
    let patched = Known::role().with("skip-containers", "app").patched(&pod())?;
    assert_eq!(patched, Known::role().patched(&pod())?);
    Ok(())
}

#[test]
fn prefix_applies_to_annotations_of_account_and_pod_and_not_to_paths() -> Tested {
    let own = || Known::role().settings(|settings| "example.com".clone_into(&mut settings.annotation_prefix));
    let patched = own().patched(&annotated("example.com/token-expiration", "3600"))?;
    assert_eq!(token(&patched)["expirationSeconds"], json!(3600));
    assert_eq!(patched["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], json!(MOUNT));
    let patched = own().patched(&annotated("eks.amazonaws.com/token-expiration", "3600"))?;
    assert_eq!(token(&patched)["expirationSeconds"], json!(86_400));
    for (key, found) in [
        ("eks.amazonaws.com/role-arn", Some(ROLE)),
        ("example.com/role-arn", None),
        ("eks.amazonaws.com.role-arn", None),
        ("eks.amazonaws.comm/role-arn", None),
        ("EKS.amazonaws.com/role-arn", None),
    ] {
        assert_eq!(Account::read([(key, ROLE)], "eks.amazonaws.com").role_arn(), found, "{key}");
    }
    Ok(())
}

#[test]
fn composed_arn_is_partition_account_and_the_annotation_as_it_stands() -> Tested {
    for (role, wanted) in [
        ("app", "arn:aws:iam::123456789012:role/app"),
        ("/team/x", "arn:aws:iam::123456789012:role//team/x"),
        ("role/app", "arn:aws:iam::123456789012:role/role/app"),
        (ROLE, ROLE),
    ] {
        assert_eq!(role_of(&composing("eu-west-1").with("role-arn", role).patched(&pod())?), Some(wanted), "{role}");
    }
    let (patched, _) = composing("eu-west-1").with("role-arn", "").admit(&pod())?;
    assert_eq!(role_of(&patched), Some("arn:aws:iam::123456789012:role/"), "an empty annotation switches it on");
    let (patched, _) = composing("eu-west-1").with("role-arn", "my arn:x").admit(&pod())?;
    assert_eq!(role_of(&patched), Some("my arn:x"), "arn: anywhere is left");
    let without = composing("eu-west-1").with("audience", "sts.amazonaws.com");
    assert!(!is_changed(&pod(), &without.patched(&pod())?), "no annotation is no role");
    Ok(())
}

#[test]
fn composed_arn_has_the_partition_of_the_region() -> Tested {
    for (region, partition) in [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eusc-de-east-1", "aws-eusc"),
    ] {
        let patched = composing(region).with("role-arn", "app").patched(&pod())?;
        assert_eq!(role_of(&patched), Some(format!("arn:{partition}:iam::123456789012:role/app").as_str()), "{region}");
    }
    Ok(())
}

#[test]
fn roles_of_the_config_map_are_not_composed_and_the_region_is_no_default() -> Tested {
    let roles = RoleMap::parse(r#"{"prod/app":{"RoleARN":"app","Audience":"sts.amazonaws.com"}}"#)?;
    let (patched, _) = Known { roles, ..composing("eu-west-1") }.admit(&pod())?;
    let wanted = [("AWS_ROLE_ARN", "app"), ("AWS_WEB_IDENTITY_TOKEN_FILE", TOKEN)];
    assert_eq!(variables(&patched["spec"]["containers"][0]), wanted);
    Ok(())
}
