//! Whatever stands in the manifest folder: it is refused, or read, and then edited exactly or not at all.
#![no_main]

use irsad_fuzz::{
    lines_without,
    model::manifest::{Desired, Manifest},
};
use libfuzzer_sys::fuzz_target;

const OURS: &str = "https://oidc.example.com/prod-1";

/// What a line that is edited holds, beside the values. One with an escape may spell them otherwise.
const EDITED: [&str; 6] = ["issuer", "jwks", "audience", "applied", "annotations", "\\"];

fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = Manifest::parse(data) else { return };
    let others: Vec<String> = manifest.issuers().iter().filter(|issuer| *issuer != OURS).cloned().collect();
    let accept = Desired {
        issuers: [others.clone(), vec![OURS.to_owned()]].concat(),
        jwks_uri: None,
        api_audiences: None,
        applied: None,
    };
    let sign = Desired {
        issuers: [vec![OURS.to_owned()], others].concat(),
        jwks_uri: Some(format!("{OURS}/openid/v1/jwks")),
        api_audiences: Some(vec![OURS.to_owned(), "sts.amazonaws.com".to_owned()]),
        applied: Some("7".to_owned()),
    };
    for desired in [accept, sign] {
        edit(&manifest, &desired);
    }
});

fn edit(manifest: &Manifest, desired: &Desired) {
    let Ok(edited) = manifest.with(desired) else { return };
    let again = Manifest::parse(edited.text().as_bytes()).expect("what was written is read again");
    assert_eq!(again.issuers(), desired.issuers);
    assert!(desired.jwks_uri.is_none() || again.jwks_uri() == desired.jwks_uri.as_deref());
    assert!(desired.api_audiences.is_none() || again.api_audiences() == desired.api_audiences.as_deref());
    let same = again.with(desired).expect("what was written can be edited again");
    assert!(!same.is_changed(), "the same edit again changes {:?}", edited.text());

    let old = [manifest.issuers(), manifest.api_audiences().unwrap_or_default(), &desired.issuers].concat();
    let uris = manifest.jwks_uri().into_iter().chain(desired.api_audiences.iter().flatten().map(String::as_str));
    let words: Vec<&str> = EDITED.into_iter().chain(old.iter().map(String::as_str)).chain(uris).collect();
    assert_eq!(lines_without(manifest.text(), &words), lines_without(edited.text(), &words));
}
