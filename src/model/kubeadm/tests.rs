use super::*;

const HEAD: &str = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n";
const HEAD3: &str = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n";
const ISSUER: &str = "service-account-issuer";

fn edit(text: &str, name: &str, values: &[&str]) -> Result<String, String> {
    let wanted = [(name, values.iter().map(|value| (*value).to_owned()).collect())];
    let parse = |text: &str| KubeadmConfig::parse(text.as_bytes()).map_err(|error| error.to_string());
    let edited = parse(text)?.with_api_server_args(&wanted).map_err(|error| error.to_string())?;
    let again = parse(edited.text())?.with_api_server_args(&wanted).map_err(|error| error.to_string())?;
    assert_eq!((again.text(), again.is_changed()), (edited.text(), false), "the second edit changes nothing");
    Ok(edited.text().to_owned())
}

#[test]
fn missing_parts_are_added_and_nothing_else_moves() -> Result<(), String> {
    let args = "  extraArgs:\n  - name: service-account-issuer\n    value: https://a\n";
    let init = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n";
    for (old, expected) in [
        (format!("{HEAD}clusterName: x # kept"), format!("{HEAD}apiServer:\n{args}clusterName: x # kept\n")),
        (
            format!("# top\n{HEAD}apiServer:\nscheduler: {{}}\n"),
            format!("# top\n{HEAD}apiServer:\n{args}scheduler: {{}}\n"),
        ),
        (format!("{HEAD}apiServer: {{}} # none\n"), format!("{HEAD}apiServer: # none\n{args}")),
        (
            format!("{HEAD}apiServer:\n  # names\n  certSANs: [a]\n"),
            format!("{HEAD}apiServer:\n{args}  # names\n  certSANs: [a]\n"),
        ),
        (
            format!("{HEAD}apiServer:\n    extraArgs: [] # none\n    certSANs: [a]\n"),
            format!(
                "{HEAD}apiServer:\n    extraArgs: # none\n    - name: service-account-issuer\n      value: https://a\n    certSANs: [a]\n"
            ),
        ),
        (format!("{HEAD}apiServer:\n  extraArgs:\n"), format!("{HEAD}apiServer:\n{args}")),
        (String::new(), format!("{HEAD}apiServer:\n{args}")),
        ("# empty\n".to_owned(), format!("# empty\n{HEAD}apiServer:\n{args}")),
        (init.to_owned(), format!("{init}---\n{HEAD}apiServer:\n{args}")),
        (
            init.replace("v1beta4", "v1beta3"),
            format!(
                "{}---\n{HEAD3}apiServer:\n  extraArgs:\n    service-account-issuer: https://a\n",
                init.replace("v1beta4", "v1beta3")
            ),
        ),
        (
            format!("{}---\napiVersion: kubelet.config.k8s.io/v1beta1\n", init.replace("v1beta4", "v1beta3")),
            format!(
                "{}---\napiVersion: kubelet.config.k8s.io/v1beta1\n---\n{HEAD3}apiServer:\n  extraArgs:\n    service-account-issuer: https://a\n",
                init.replace("v1beta4", "v1beta3")
            ),
        ),
        (
            format!("{HEAD3}apiServer:\n  extraArgs: {{}}\n"),
            format!("{HEAD3}apiServer:\n  extraArgs:\n    service-account-issuer: https://a\n"),
        ),
        (
            format!("{HEAD3}apiServer:\n  extraArgs:\n     # log\n     v: \"2\"\n"),
            format!(
                "{HEAD3}apiServer:\n  extraArgs:\n     service-account-issuer: https://a\n     # log\n     v: \"2\"\n"
            ),
        ),
    ] {
        assert_eq!(edit(&old, ISSUER, &["https://a"])?, expected);
    }
    Ok(())
}

#[test]
fn named_argument_gets_exactly_the_values_in_every_form_of_the_list() -> Result<(), String> {
    let (block, flow) = (format!("{HEAD}apiServer:\n  extraArgs:\n"), format!("{HEAD}apiServer:\n  extraArgs: "));
    let entry = |value: &str| format!("    - name: service-account-issuer\n      value: {value}\n");
    for (old, values, expected) in [
        (
            format!("{block}    - name: v\n      value: '2'   # quiet\n    # issuer\n{}", entry("https://a # first")),
            &["https://b", "https://a"][..],
            format!(
                "{block}    - name: v\n      value: '2'   # quiet\n    # issuer\n{}{}",
                entry("https://b"),
                entry("https://a # first")
            ),
        ),
        (
            format!("{block}{}    - {{name: v, value: '2'}}\n{}", entry("https://a"), entry("https://c")),
            &["https://c"],
            format!("{block}    - {{name: v, value: '2'}}\n{}", entry("https://c")),
        ),
        (
            format!(
                "{block}    # above\n    - name: service-account-issuer # goes\n      # goes too\n\n      value: https://a\n    # below\n{}",
                entry("https://c")
            ),
            &["https://c"],
            format!("{block}    # above\n    # below\n{}", entry("https://c")),
        ),
        (
            format!("{block}{}{}", entry("https://ö"), entry("https://c")),
            &["https://c"],
            format!("{block}{}", entry("https://c")),
        ),
        (
            format!("{block}    - value: https://a\n      name: service-account-issuer\n"),
            &["https://a", "true"],
            format!("{block}    - value: https://a\n      name: service-account-issuer\n{}", entry("'true'")),
        ),
        (
            format!("{flow}[{{name: v, value: \"2\"}}]\n"),
            &["https://a", "https://b,c"],
            format!(
                "{flow}[{{name: service-account-issuer, value: \"https://a\"}}, {{name: service-account-issuer, value: \"https://b,c\"}}, {{name: v, value: \"2\"}}]\n"
            ),
        ),
        (
            format!(
                "{flow}[{{name: v, value: \"2\"}}, {{name: service-account-issuer, value: a}}, {{name: service-account-issuer, value: b}}] # x\n"
            ),
            &["https://a"],
            format!("{flow}[{{name: v, value: \"2\"}}, {{name: service-account-issuer, value: \"https://a\"}}] # x\n"),
        ),
        (
            format!("{HEAD3}apiServer:\n  extraArgs:\n    v: \"2\"\n    service-account-issuer: 'https://a' # ours\n"),
            &["https://b"],
            format!("{HEAD3}apiServer:\n  extraArgs:\n    v: \"2\"\n    service-account-issuer: 'https://b' # ours\n"),
        ),
        (
            format!("{HEAD3}apiServer:\n  extraArgs: {{v: \"2\", service-account-issuer: https://a}}\n"),
            &["https://b"],
            format!("{HEAD3}apiServer:\n  extraArgs: {{v: \"2\", service-account-issuer: \"https://b\"}}\n"),
        ),
        (
            format!("{HEAD3}apiServer:\n  extraArgs: {{v: \"2\"}}\n"),
            &["https://b"],
            format!("{HEAD3}apiServer:\n  extraArgs: {{service-account-issuer: \"https://b\", v: \"2\"}}\n"),
        ),
        (
            format!("{HEAD3}apiServer:\n  extraArgs:\n    service-account-issuer: https://a\n    v: \"2\"\n"),
            &[],
            format!("{HEAD3}apiServer:\n  extraArgs:\n    v: \"2\"\n"),
        ),
    ] {
        assert_eq!(edit(&old, ISSUER, values)?, expected);
    }
    Ok(())
}

#[test]
fn configuration_that_is_not_understood_for_certain_is_refused_with_the_line_and_the_cure() {
    let issuer = "  - name: service-account-issuer\n    value: x\n";
    for (text, message) in [
        (
            "{\"apiVersion\": \"kubeadm.k8s.io/v1beta4\", \"kind\": \"ClusterConfiguration\"}".to_owned(),
            "line 1: the document is JSON or no mapping at all; write it as block YAML, KEY: VALUE in each line",
        ),
        (
            "text\n".to_owned(),
            "line 1: the document is JSON or no mapping at all; write it as block YAML, KEY: VALUE in each line",
        ),
        (
            HEAD.replace("v1beta4", "v1beta2"),
            "line 1: apiVersion \"kubeadm.k8s.io/v1beta2\" is not understood, only kubeadm.k8s.io/v1beta3 and v1beta4; run kubeadm config migrate",
        ),
        (
            "a: 1\nkind: ClusterConfiguration\n".to_owned(),
            "line 1: apiVersion \"\" is not understood, only kubeadm.k8s.io/v1beta3 and v1beta4; run kubeadm config migrate",
        ),
        (format!("{HEAD}---\n{HEAD}"), "line 4: a second ClusterConfiguration (first in line 1); keep one"),
        (
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n".to_owned(),
            "line 1: only a JoinConfiguration; a joining node takes the API server's flags from the cluster, so there is nothing to prepare in this file",
        ),
        (
            format!("{HEAD}apiServer:\n  extraArgs:\n    v: \"2\"\n"),
            "line 4: apiServer.extraArgs is not what kubeadm.k8s.io/v1beta4 takes; v1beta4 is a list of name and value, v1beta3 a map of texts",
        ),
        (
            format!("{HEAD3}apiServer:\n  extraArgs:\n{issuer}"),
            "line 4: apiServer.extraArgs is not what kubeadm.k8s.io/v1beta3 takes; v1beta4 is a list of name and value, v1beta3 a map of texts",
        ),
        (
            format!("{HEAD}apiServer:\n  extraArgs:\n  - name: v\n    vaule: \"2\"\n"),
            "line 5: apiServer.extraArgs is not what kubeadm.k8s.io/v1beta4 takes; v1beta4 is a list of name and value, v1beta3 a map of texts",
        ),
        (
            format!("{HEAD}apiServer: {{certSANs: [a]}}\n"),
            "line 3: apiServer is written in a way that cannot be edited; write it as block YAML, one entry a line",
        ),
        (
            format!("{HEAD}apiServer:\n  extraArgs:\n  - name: service-account-issuer\n    value: |-\n      x\n"),
            "line 5: service-account-issuer is written in a way that cannot be edited; write it as block YAML, one entry a line",
        ),
        (
            format!("{HEAD}apiServer:\n  extraArgs:\n  - name: service-account-issuer\n    value: https\n      b\n"),
            "line 5: service-account-issuer is written in a way that cannot be edited; write it as block YAML, one entry a line",
        ),
        (
            format!("{HEAD}apiServer: &a {{}}\n"),
            "line 3: an anchor (&), which is not understood here; write the value out",
        ),
        (
            format!("{HEAD}featureGates: [: x]\n"),
            "not YAML to every reader, and perhaps not to kubelet and kubeadm: did not find expected node content at line 3 column 16, while parsing a flow node; write that place more plainly",
        ),
        (HEAD.replace('\n', "\r\n"), "line 1: a carriage return; save the file with Unix line ends (LF)"),
    ] {
        assert_eq!(edit(&text, ISSUER, &["https://a"]).err().as_deref(), Some(message), "{text}");
    }
}

#[test]
fn edit_that_would_mean_something_else_is_not_given_out() {
    // Without its line end the block scalar ends without one too; adding it would change the name.
    let text = format!("{HEAD}clusterName: |\n  last");
    assert_eq!(
        edit(&text, ISSUER, &["https://a"]).err().as_deref(),
        Some(
            "the edit would also change other parts of the file (nothing changed); write extraArgs by hand and report this file as a mistake of irsad"
        )
    );
}

#[test]
fn wanted_argument_that_kubeadm_would_not_take_is_refused() -> Result<(), KubeadmError> {
    assert_eq!(
        edit(HEAD3, ISSUER, &["https://a", "https://b"]).err().as_deref(),
        Some(
            "--service-account-issuer cannot have 2 values in kubeadm.k8s.io/v1beta3, whose extraArgs hold one value a name (kubernetes/kubeadm issue 2735); run kubeadm config migrate to get v1beta4, or give one value"
        )
    );
    for (name, value) in [("--v", "2"), ("", "2"), ("v", "a\nb"), ("v: x", "2")] {
        assert_eq!(
            edit(HEAD, name, &[value]).err(),
            Some(format!(
                "argument {name:?} with value {value:?} cannot be written (nothing changed); use printable ASCII and name each argument once, without dashes before it"
            ))
        );
    }
    let config = KubeadmConfig::parse(HEAD.as_bytes())?;
    assert!(config.with_api_server_args(&[("v", vec!["1".to_owned()]), ("v", vec!["2".to_owned()])]).is_err());
    Ok(())
}

#[test]
fn several_arguments_are_written_at_once_and_the_readers_see_them() -> Result<(), KubeadmError> {
    let text = format!(
        "{HEAD}kubernetesVersion: v1.36.3\nnetworking:\n  dnsDomain: k8s.test\napiServer:\n  extraArgs:\n  - name: v\n    value: \"2\"\n"
    );
    let config = KubeadmConfig::parse(text.as_bytes())?;
    assert_eq!(
        (config.api_version(), config.kubernetes_version(), config.dns_domain()),
        (ApiVersion::V1Beta4, Some("v1.36.3"), "k8s.test")
    );
    let wanted = [
        (ISSUER, vec!["https://a".to_owned(), "https://b".to_owned()]),
        ("service-account-jwks-uri", vec!["https://a/jwks".to_owned()]),
    ];
    let edited = config.with_api_server_args(&wanted)?;
    let new = KubeadmConfig::parse(edited.text().as_bytes())?;
    assert_eq!(
        new.api_server_args(),
        [(ISSUER, "https://a"), (ISSUER, "https://b"), ("service-account-jwks-uri", "https://a/jwks"), ("v", "2")]
    );
    let empty = KubeadmConfig::parse(b"")?;
    assert_eq!(
        (empty.api_version(), empty.kubernetes_version(), empty.dns_domain()),
        (ApiVersion::V1Beta4, None, "cluster.local")
    );
    Ok(())
}
