//! Whatever a person gives to kubeadm: it is refused, or read, and then edited exactly or not at all.
#![no_main]

use irsad_fuzz::{check_others_stand, model::kubeadm::KubeadmConfig};
use libfuzzer_sys::fuzz_target;

const OURS: &str = "https://oidc.example.com/prod-1";
const ISSUER: &str = "service-account-issuer";
const JWKS_URI: &str = "service-account-jwks-uri";

/// What a line that is edited or added holds, beside the values. One with an escape may spell them otherwise.
const EDITED: [&str; 10] =
    ["issuer", "jwks", "name", "value", "extraArgs", "apiServer", "apiVersion", "ClusterConfiguration", "---", "\\"];

fuzz_target!(|data: &[u8]| {
    let Ok(config) = KubeadmConfig::parse(data) else { return };
    let others: Vec<String> = config.api_server_arg(ISSUER).into_iter().map(str::to_owned).collect();
    let uri = vec![format!("{OURS}/openid/v1/jwks")];
    for issuers in [vec![OURS.to_owned()], [vec![OURS.to_owned()], others.clone()].concat(), others.clone()] {
        edit(&config, &[(ISSUER, issuers), (JWKS_URI, uri.clone())]);
    }
});

fn edit(config: &KubeadmConfig, wanted: &[(&str, Vec<String>)]) {
    let Ok(edited) = config.with_api_server_args(wanted) else { return };
    let again = KubeadmConfig::parse(edited.text().as_bytes()).expect("what was written is read again");
    for (name, values) in wanted {
        assert_eq!(&again.api_server_arg(name), values);
    }
    let same = again.with_api_server_args(wanted).expect("what was written can be edited again");
    assert!(!same.is_changed(), "the same edit again changes {:?}", edited.text());

    let standing: Vec<&str> = wanted.iter().flat_map(|(name, _)| config.api_server_arg(name)).collect();
    let values = wanted.iter().flat_map(|(_, values)| values.iter().map(String::as_str));
    let words: Vec<&str> = EDITED.into_iter().chain(standing).chain(values).collect();
    check_others_stand(config.text(), edited.text(), &words);
}
