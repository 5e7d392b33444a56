//! How long tokens live.

use super::*;

fn seconds(patched: &Value) -> Option<i64> {
    token(patched)["expirationSeconds"].as_i64()
}

#[test]
fn pod_goes_before_account_and_account_before_settings() -> Tested {
    let known = || Known::role().settings(|settings| settings.token_expiration_seconds = 43_200);
    assert_eq!(seconds(&known().patched(&pod())?), Some(43_200));
    assert_eq!(seconds(&known().with("token-expiration", "7200").patched(&pod())?), Some(7_200));
    let annotated = annotated("eks.amazonaws.com/token-expiration", "3600");
    assert_eq!(seconds(&known().with("token-expiration", "7200").patched(&annotated)?), Some(3_600));
    Ok(())
}

#[test]
fn whole_numbers_are_taken_and_nothing_is_rounded_or_cut() -> Tested {
    for (text, wanted) in [
        ("600", 600),
        ("601", 601),
        ("+3600", 3_600),
        ("086400", 86_400),
        ("86401", 86_401),
        ("4294967296", 4_294_967_296),
        ("9223372036854775807", i64::MAX),
    ] {
        assert_eq!(seconds(&Known::role().with("token-expiration", text).patched(&pod())?), Some(wanted), "{text}");
        assert_eq!(
            seconds(&Known::role().patched(&annotated("eks.amazonaws.com/token-expiration", text))?),
            Some(wanted)
        );
    }
    Ok(())
}

#[test]
fn less_than_ten_minutes_becomes_ten_minutes_with_a_warning() -> Tested {
    for text in ["599", "1", "0", "-1", "-9223372036854775808"] {
        let sentence = format!("{text:?} in eks.amazonaws.com/token-expiration is less than 600 seconds; 600 is used");
        let (patched, warnings) = Known::role().with("token-expiration", text).admit(&pod())?;
        assert_eq!((seconds(&patched), warnings), (Some(600), vec![format!("service account prod/app: {sentence}")]));
        let (patched, warnings) = Known::role().admit(&annotated("eks.amazonaws.com/token-expiration", text))?;
        assert_eq!((seconds(&patched), warnings), (Some(600), vec![format!("this pod: {sentence}")]));
    }
    let known = Known::role().settings(|settings| settings.token_expiration_seconds = 60);
    assert_eq!(seconds(&known.patched(&pod())?), Some(600), "in the settings too");
    Ok(())
}

#[test]
fn what_is_no_number_is_ignored_with_a_warning() -> Tested {
    for text in ["3600s", " 3600", "3600 ", "0x10", "3_600", "3600.0", "", "+", "9223372036854775808", "1h"] {
        let sentence = |default| {
            format!("{text:?} in eks.amazonaws.com/token-expiration is not a number of seconds; {default} is used")
        };
        let (patched, warnings) = Known::role().with("token-expiration", text).admit(&pod())?;
        let wanted = format!("service account prod/app: {}", sentence(86_400));
        assert_eq!((seconds(&patched), warnings), (Some(86_400), vec![wanted]));
        let known = Known::role().with("token-expiration", "7200");
        let (patched, warnings) = known.admit(&annotated("eks.amazonaws.com/token-expiration", text))?;
        assert_eq!((seconds(&patched), warnings), (Some(7_200), vec![format!("this pod: {}", sentence(7_200))]));
    }
    Ok(())
}

#[test]
fn pods_with_a_web_identity_get_no_jitter() -> Tested {
    for jitter in [0, 1, 7_200, u64::MAX] {
        assert_eq!(seconds(&Known { jitter, ..Known::role() }.patched(&pod())?), Some(86_400));
    }
    Ok(())
}

#[test]
fn default_life_of_container_credentials_is_between_22_and_24_hours() -> Tested {
    let list = br#"{"identities":[{"namespace":"prod","serviceAccount":"app"}]}"#;
    for (jitter, wanted) in
        [(0, 79_200), (1, 79_201), (7_199, 86_399), (7_200, 86_400), (7_201, 79_200), (u64::MAX, 84_403)]
    {
        let known = Known { jitter, credentials: ContainerCredentials::parse(list)?, ..Known::nothing() };
        assert_eq!(seconds(&known.patched(&pod())?), Some(wanted), "{jitter}");
        // Written out it counts as the default, anything else is kept.
        assert_eq!(seconds(&known.patched(&annotated("eks.amazonaws.com/token-expiration", "86400"))?), Some(wanted));
        for kept in [86_399, 86_401, 600] {
            let annotated = annotated("eks.amazonaws.com/token-expiration", &kept.to_string());
            assert_eq!(seconds(&known.patched(&annotated)?), Some(kept));
        }
    }
    Ok(())
}
