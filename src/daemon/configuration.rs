//! The configuration while the daemon runs: which files it is watched in, and its change.

use std::path::PathBuf;

use super::Irsad;
use crate::{
    config::Settings,
    host::watch::{self, Watch},
    model::plan,
    observe::Closeness,
};

impl Irsad {
    /// Watches what wakes the loop. Without it, passes come when they are due and no sooner.
    pub(super) fn watch(&self, config_files: &[PathBuf]) -> Option<Watch> {
        let desired = &self.desired;
        let mut files = vec![
            desired.manifest.clone(),
            desired.signing_key.clone(),
            desired.verifying_keys.clone(),
            self.world.settings.api_server.kubeconfig.clone(),
        ];
        files.extend(config_files.iter().cloned());
        watch::watch(self.below_root(&files))
            .map_err(|error| tracing::warn!("{error:#}; changes are seen within {} s", plan::CHECK_INTERVAL.as_secs()))
            .ok()
    }

    pub(super) fn below_root(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        paths.iter().filter_map(|path| self.world.root.locate(path).ok()).collect()
    }

    /// Takes the configuration as it is now; an invalid one changes nothing and is said.
    pub(super) async fn reload<F>(&mut self, load: impl Fn() -> F)
    where
        F: Future<Output = anyhow::Result<Settings>>,
    {
        self.closeness = Closeness::Full;
        self.looks += 1;
        match load().await {
            Err(error) => {
                let complaint = format!("the configuration is not usable, the old one holds: {error:#}");
                tracing::error!("{complaint}");
                self.stale_settings = Some(complaint);
            }
            Ok(settings) => {
                self.stale_settings = None;
                if settings != self.world.settings {
                    tracing::info!(issuer = %settings.issuer.url, "configuration loaded");
                    if let Some(webhook) = &self.webhook {
                        webhook.change(&settings, webhook.serves());
                    }
                    if let Some(metrics) = &self.metrics {
                        metrics.change(settings.metrics.port);
                    }
                    self.desired = settings.desired();
                    self.world = self.world.with_settings(settings);
                }
            }
        }
    }
}
