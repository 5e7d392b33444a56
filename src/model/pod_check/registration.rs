//! MutatingWebhookConfigurations that give credentials to pods, and which pods they leave out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// What every configuration of a pod-identity webhook has in its name or in the name of its webhook: ours, that of the AWS program
/// (amazon-eks-pod-identity-webhook `deploy/mutatingwebhook.yaml`), of kops, of OpenShift.
const KNOWN_BY: &str = "pod-identity";

/// Labels of a pod or of a namespace.
pub type Labels = BTreeMap<String, String>;

/// One webhook of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Name of the MutatingWebhookConfiguration.
    pub configuration: String,
    /// When it was made.
    pub since: Timestamp,
    /// Which namespaces it takes.
    pub namespaces: Selector,
    /// Which pods it takes.
    pub pods: Selector,
    /// What the API server does where it does not answer.
    pub failure_policy: String,
}

impl Registration {
    /// Whether a configuration of this name with a webhook of that name gives credentials to pods.
    pub fn is_known(configuration: &str, webhook: &str) -> bool {
        configuration.contains(KNOWN_BY) || webhook.contains(KNOWN_BY)
    }

    /// Why a pod with these labels does not come to it; `None` where it does.
    pub fn leaves_out(&self, pod: &Labels, namespace: &Labels) -> Option<String> {
        let by = |selector: &str| format!("{selector} of {} leaves it out", self.configuration);
        if !self.pods.takes(pod) {
            return Some(by("objectSelector"));
        }
        (!self.namespaces.takes(namespace)).then(|| by("namespaceSelector"))
    }
}

/// Namespaces that every one of these webhooks leaves out by name.
pub fn exempt_namespaces(registrations: &[Registration]) -> Vec<String> {
    let Some((first, others)) = registrations.split_first() else { return Vec::new() };
    let left_out = |registration: &Registration| registration.namespaces.names_left_out();
    left_out(first).into_iter().filter(|name| others.iter().all(|other| left_out(other).contains(name))).collect()
}

/// A label selector (Kubernetes API reference, LabelSelector): all of it has to hold; an empty one takes everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    match_labels: Labels,
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Expression {
    key: String,
    operator: String,
    values: Vec<String>,
}

/// Label that holds the name of every namespace (Kubernetes documentation, "Well-Known Labels").
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

impl Selector {
    fn names_left_out(&self) -> Vec<String> {
        let by_name = |expression: &&Expression| expression.key == NAMESPACE_NAME && expression.operator == "NotIn";
        self.match_expressions.iter().filter(by_name).flat_map(|expression| expression.values.clone()).collect()
    }

    /// Whether it takes something with these labels. An operator that is not known here takes it.
    pub fn takes(&self, labels: &Labels) -> bool {
        let fits = |expression: &Expression| {
            let value = labels.get(&expression.key);
            let is_one = value.is_some_and(|value| expression.values.contains(value));
            match expression.operator.as_str() {
                "In" => is_one,
                "NotIn" => !is_one,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => true,
            }
        };
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn selector_takes_what_the_api_server_takes() {
        let shop = labels(&[("kubernetes.io/metadata.name", "shop"), ("team", "a")]);
        for (selector, takes) in [
            ("{}", true),
            (r#"{"matchLabels":{"team":"a"}}"#, true),
            (r#"{"matchLabels":{"team":"b"}}"#, false),
            (r#"{"matchExpressions":[{"key":"team","operator":"In","values":["a","b"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"team","operator":"NotIn","values":["a"]}]}"#, false),
            (r#"{"matchExpressions":[{"key":"tier","operator":"NotIn","values":["a"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"team","operator":"Exists"}]}"#, true),
            (r#"{"matchExpressions":[{"key":"team","operator":"DoesNotExist"}]}"#, false),
            (r#"{"matchLabels":{"team":"a"},"matchExpressions":[{"key":"team","operator":"DoesNotExist"}]}"#, false),
        ] {
            let selector: Selector = serde_json::from_str(selector).expect("a selector");
            assert_eq!(selector.takes(&shop), takes, "{selector:?}");
        }
    }

    #[test]
    fn namespaces_are_exempt_that_every_webhook_leaves_out_by_name() {
        let registration = |names: &[&str]| Registration {
            configuration: "irsad-pod-identity".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            namespaces: serde_json::from_value(serde_json::json!({
                "matchExpressions": [{ "key": NAMESPACE_NAME, "operator": "NotIn", "values": names }],
            }))
            .expect("a selector"),
            pods: Selector::default(),
            failure_policy: "Fail".to_owned(),
        };
        let [both, one] = [registration(&["kube-system", "ci"]), registration(&["ci", "test"])];
        assert_eq!(exempt_namespaces(std::slice::from_ref(&both)), ["kube-system", "ci"]);
        assert_eq!(exempt_namespaces(&[both, one]), ["ci"]);
        assert_eq!(exempt_namespaces(&[]), [""; 0]);
    }

    #[test]
    fn webhooks_that_give_credentials_are_known_by_their_names() {
        for (configuration, webhook, known) in [
            ("irsad-pod-identity", "pod-identity.irsad.io", true),
            ("pod-identity-webhook", "pod-identity-webhook.amazonaws.com", true),
            ("kops", "pod-identity-webhook.amazonaws.com", true),
            ("istio-sidecar-injector", "rev.namespace.sidecar-injector.istio.io", false),
        ] {
            assert_eq!(Registration::is_known(configuration, webhook), known, "{configuration}");
        }
    }
}
