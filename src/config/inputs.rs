//! From merged files to [`Settings`], in two steps: what the files say, then what the machine decides.

use std::{cell::Cell, path::Path};

use crate::model::{issuer::IssuerUrl, location::Location, region::Region};

use super::{
    AwsSettings, ClusterName, Distribution, Mistakes, RolesMode, Settings, keyring,
    options::{self, Surroundings},
    roles,
    section::{Log, Section},
    tree::Tree,
    webhook,
};

/// Configuration files that have no mistake, as far as the files alone can tell.
#[derive(Debug, Clone)]
pub struct Inputs {
    tree: Tree,
    needs_region: bool,
    distribution: Option<Distribution>,
}

impl Inputs {
    /// Reads files (path and text) in the order given: maps are merged key by key, lists and scalars of a later file replace
    /// those of an earlier one.
    ///
    /// # Errors
    /// Every mistake that the files have, with file, line and key.
    pub fn from_texts(texts: &[(impl AsRef<Path>, impl AsRef<[u8]>)]) -> Result<Self, Mistakes> {
        let tree = Tree::merged(texts)?;
        let read = Reading::of(&tree, None);
        if !read.mistakes.is_empty() {
            return Err(Mistakes::new(read.mistakes));
        }
        Ok(Self { tree, needs_region: read.needs_region, distribution: read.distribution })
    }

    /// What files that need not be complete say of AWS; nothing where they cannot be read.
    pub fn aws(texts: &[(impl AsRef<Path>, impl AsRef<[u8]>)]) -> AwsSettings {
        let Ok(tree) = Tree::merged(texts) else { return AwsSettings::default() };
        let log = Log::default();
        options::aws(Section::root(&tree, &log).section("aws"), None, true, &Cell::new(false))
    }

    /// Whether [`Inputs::settle`] must be given the region of the instance: AWS is needed and `aws.region` is left out.
    pub fn needs_region(&self) -> bool {
        self.needs_region
    }

    /// The settings, with what the files leave open. `found` is asked where the distribution is `auto`; a machine without
    /// either manifest counts as kubeadm.
    ///
    /// # Errors
    /// Every mistake that shows only now: an issuer URL that is not the bucket's, no region.
    pub fn settle(&self, region: Option<Region>, found: impl FnOnce() -> Distribution) -> Result<Settings, Mistakes> {
        let distribution = self.distribution.unwrap_or_else(found);
        let read = Reading::of(&self.tree, Some(&Surroundings { region, distribution }));
        match read.settings {
            Some(settings) if read.mistakes.is_empty() => Ok(settings),
            _ => Err(Mistakes::new(read.mistakes)),
        }
    }
}

/// What one reading of the files gave.
struct Reading {
    settings: Option<Settings>,
    mistakes: Vec<super::Mistake>,
    needs_region: bool,
    distribution: Option<Distribution>,
}

impl Reading {
    fn of(tree: &Tree, around: Option<&Surroundings>) -> Self {
        let log = Log::default();
        let needs_region = Cell::new(false);
        let root = Section::root(tree, &log);
        check_version(&root);
        root.require("cluster", "cluster: prod-1");
        let cluster: Option<ClusterName> = root.text("cluster");
        let mut notices = Vec::new();

        let provider = options::provider(root.section("provider"));
        let rotation = options::rotation(root.section("rotation"), &mut notices);
        let webhook = webhook::webhook(root.section("webhook"), &rotation, &provider);
        let metrics = options::metrics(root.section("metrics"), webhook.as_ref().map(|webhook| webhook.port));
        let api_server = options::api_server(root.section("apiServer"), around, rotation.below_floors);
        let store: Option<Location> = root.section("issuer").text("store");
        let keyring_section = root.section("keyring");
        let keyring = keyring::keyring(&keyring_section, store.as_ref());
        let roles_section = root.section("roles");
        let roles = roles::roles(&roles_section, cluster.as_ref());
        let composes_arns = webhook.as_ref().is_some_and(|webhook| webhook.compose_role_arn.is_some());
        let in_aws = provider.manage
            || matches!(store, Some(Location::S3 { .. }))
            || keyring.needs_aws()
            || composes_arns
            || roles.mode != RolesMode::None;
        let aws = options::aws(root.section("aws"), around, in_aws, &needs_region);
        let issuer = options::issuer(root.section("issuer"), aws.region.as_ref());
        notices.extend(issuer.as_ref().and_then(|issuer| slash_at_the_end(&issuer.url)));
        keyring::check_region(&keyring_section, &keyring, aws.region.as_ref());
        keyring_section.finish();
        let distribution = api_server.as_ref().map(|settings| settings.distribution);
        roles_section.blame_unknown();
        root.finish();

        let settings = match (cluster, issuer, api_server, webhook) {
            (Some(cluster), Some(issuer), Some(api_server), Some(webhook)) => Some(Settings {
                cluster,
                issuer,
                keyring,
                aws,
                provider,
                api_server,
                rotation,
                webhook,
                metrics,
                roles,
                notices,
            }),
            _ => None,
        };
        if let Some(settings) = &settings {
            roles::check(&roles_section, settings);
        }
        Self { settings, mistakes: log.into_inner(), needs_region: needs_region.get(), distribution }
    }
}

/// Right for a cluster whose tokens have always carried it, and a slip of the pen for a new one.
fn slash_at_the_end(issuer: &IssuerUrl) -> Option<String> {
    issuer.ends_with_slash().then(|| {
        format!(
            "issuer.url {issuer} ends with a slash, which tokens then carry in iss: keep it where the cluster has had it so far, and leave \
             it out for a new cluster"
        )
    })
}

fn check_version(root: &Section<'_>) {
    root.require("version", "version: 1");
    if root.number("version").is_some_and(|version| version != 1) {
        root.blame(
            "version",
            "this irsad reads version 1; write `version: 1` or install the irsad that the file is for",
        );
    }
}
