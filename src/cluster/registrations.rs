//! Which webhooks give credentials to pods, as one API server has them registered.

use jiff::Timestamp;
use serde::Deserialize;

use super::ApiServer;
use crate::model::{
    pod_check::{Registration, Selector},
    probe::Probe,
};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

impl ApiServer {
    /// Webhooks that give credentials to pods, by name of their configuration.
    pub async fn registrations(&self) -> Probe<Vec<Registration>> {
        let found: Probe<List> = self.look_up(CONFIGURATIONS, "a list of MutatingWebhookConfigurations").await;
        found.map(|list| list.items.unwrap_or_default().into_iter().flat_map(Configuration::registrations).collect())
    }
}

#[derive(Deserialize)]
struct List {
    items: Option<Vec<Configuration>>,
}

#[derive(Deserialize)]
struct Configuration {
    metadata: Metadata,
    webhooks: Option<Vec<Webhook>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    creation_timestamp: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    name: String,
    #[serde(default)]
    namespace_selector: Selector,
    #[serde(default)]
    object_selector: Selector,
    #[serde(default)]
    failure_policy: String,
}

impl Configuration {
    fn registrations(self) -> Vec<Registration> {
        let Self { metadata, webhooks } = self;
        let known =
            webhooks.into_iter().flatten().filter(|webhook| Registration::is_known(&metadata.name, &webhook.name));
        let mut registrations: Vec<Registration> = known
            .map(|webhook| Registration {
                configuration: metadata.name.clone(),
                since: metadata.creation_timestamp,
                namespaces: webhook.namespace_selector,
                pods: webhook.object_selector,
                failure_policy: webhook.failure_policy,
            })
            .collect();
        // A webhook that is asked a second time by the same configuration is one to a reader, and the last one decides.
        registrations.reverse();
        registrations
            .dedup_by(|earlier, later| (&earlier.namespaces, &earlier.pods) == (&later.namespaces, &later.pods));
        registrations
    }
}
