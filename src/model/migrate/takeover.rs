//! An issuer whose documents somebody has put into a bucket by hand: URL, layout and keys are taken over as they are.

use std::{collections::BTreeMap, path::Path};

use crate::model::{
    discovery::Discovery,
    issuer::Audience,
    key::{Kid, PublicKey},
    probe::Probe,
    role::RoleTerms,
};

use super::{
    FoundApiServer, FoundCloud, FoundDocuments, FoundFiles, IrsaManager, KopsState, Migration, Source, Target, Wish,
    cloud::{provider, reading},
    configuration::Configuration,
    documents::Judged,
};

/// Where the roles from objects of others go, beside the configuration.
pub const ROLES_FILE: &str = "service-account-roles.yaml";

/// All that was found.
#[derive(Debug)]
pub struct Found<'a> {
    /// This node.
    pub files: &'a FoundFiles,
    /// Every API server.
    pub api_servers: &'a [FoundApiServer],
    /// The published documents.
    pub documents: &'a FoundDocuments,
    /// Bucket and provider.
    pub cloud: &'a FoundCloud,
    /// The configuration file: its path, and its text where it is there.
    pub configuration: (&'a Path, Option<&'a str>),
    /// What the source keeps of its own.
    pub own: Own<'a>,
}

/// What a source keeps of its own.
#[derive(Debug)]
pub enum Own<'a> {
    /// Nothing.
    Nothing,
    /// Its objects, and the text of the file with roles that is there.
    IrsaManager(&'a IrsaManager, Option<&'a str>),
    /// Its state, and what the two key files of this node hold, signing key first.
    Kops(&'a KopsState, &'a [Probe<Vec<PublicKey>>; 2]),
}

/// The whole migration of such an issuer.
pub fn take_over(wish: &Wish, target: &Target, found: &Found<'_>) -> Migration {
    let mut migration = Migration::default();
    let (files, issuer) = (found.files, &target.issuer);
    migration.effects.push(format!("tokens keep {issuer} as iss: roles that trust it stay as they are"));
    let key_files = key_files(files, &mut migration);
    if let Some((signing, _)) = &key_files {
        migration.effects.push(format!("key {signing} keeps signing: no token becomes invalid"));
        let store = format!("{} ({})", target.store, target.store.key(&target.jwks_path));
        Judged {
            jwks_uri: &issuer.document(&target.jwks_path),
            store: &store,
            documents: found.documents,
            api_servers: found.api_servers,
            signing,
            let_go: &wish.let_go,
        }
        .judge(&mut migration);
    }
    if !matches!(found.own, Own::Kops(..)) {
        flags(files, target, &mut migration);
    }
    discovery(target, found.documents, &mut migration);
    reading(target, found.cloud, &mut migration);
    let audiences = provider(target, found.cloud, &mut migration);
    let verifying = key_files.as_ref().map_or(files.usual[1].as_str(), |(_, file)| file.as_str());
    let unusual = |index: usize, file: &str| (files.usual[index] != file).then(|| file.to_owned());
    let own_files = [unusual(0, &files.signing_key_file), unusual(1, verifying)];
    origin(wish, target, found, &mut migration);
    let roles = roles(wish, target, found, &audiences, &mut migration);
    let text = configuration(wish, target, &found.own, &audiences, &own_files, &roles);
    let (path, there) = found.configuration;
    migration.write(path.to_owned(), text, there, wish.replace);
    migration
}

fn configuration(
    wish: &Wish,
    target: &Target,
    own: &Own<'_>,
    audiences: &[Audience],
    [signing_key, verifying_keys]: &[Option<String>; 2],
    roles: &[(&'static str, String)],
) -> String {
    let api_audiences = match own {
        Own::Kops(state, _) => state.api_audiences(),
        Own::Nothing | Own::IrsaManager(..) => Vec::new(),
    };
    Configuration {
        remark: &format!(
            "Written by irsad migrate {}: issuer, layout and keys are those that were there.",
            wish.source
        ),
        cluster: &wish.cluster,
        store: &target.store,
        url: &target.issuer,
        jwks_path: &target.jwks_path,
        is_external: target.is_external,
        region: Some(&target.region),
        audiences,
        signing_key: signing_key.as_deref(),
        verifying_keys: verifying_keys.as_deref(),
        api_audiences: &api_audiences,
        endpoints: &wish.endpoints,
        roles,
    }
    .text()
}

/// What stands under `roles`: where the source has made some.
fn roles(
    wish: &Wish,
    target: &Target,
    found: &Found<'_>,
    audiences: &[Audience],
    migration: &mut Migration,
) -> Vec<(&'static str, String)> {
    match &found.own {
        Own::IrsaManager(manager, _) if manager.has_roles() => vec![("mode", "crd".to_owned())],
        Own::Kops(state, _) => {
            let terms = RoleTerms {
                partition: target.region.partition(),
                account: found.cloud.account.clone(),
                cluster: wish.cluster.clone(),
                issuers: vec![target.issuer.clone()],
                // Without an audience the configuration says none, and this is its default.
                audiences: if audiences.is_empty() { vec![Audience::sts()] } else { audiences.to_vec() },
                boundary: None,
                tags: BTreeMap::new(),
            };
            state.roles(&terms, migration)
        }
        Own::IrsaManager(..) | Own::Nothing => Vec::new(),
    }
}

/// The key that signs, and the file in which irsad will keep the keys that are accepted.
fn key_files(files: &FoundFiles, migration: &mut Migration) -> Option<(Kid, String)> {
    let signing = match &files.signing_key {
        Probe::Present(kid) => kid.clone(),
        Probe::Absent => {
            migration.refuse(format!(
                "{} is not there (nothing changed), and kube-apiserver signs with it",
                files.signing_key_file
            ));
            return None;
        }
        Probe::Unknown(why) => {
            migration.refuse(format!("{why} (nothing changed)"));
            return None;
        }
    };
    for (file, keys) in &files.key_files {
        match keys {
            Probe::Present(_) => {}
            Probe::Absent => {
                migration.refuse(format!("{file} is not there (nothing changed), and the manifest names it"))
            }
            Probe::Unknown(why) => migration.refuse(format!("{why} (nothing changed)")),
        }
    }
    let has =
        |keys: &Probe<Vec<PublicKey>>| keys.present().is_some_and(|keys| keys.iter().any(|key| *key.kid() == signing));
    let mut fitting = files.key_files.iter().filter(|(_, keys)| has(keys)).map(|(file, _)| file);
    let first = fitting.clone().next();
    let Some(file) = fitting.find(|file| **file == files.usual[1]).or(first) else {
        migration.refuse(format!(
            "none of the files that kube-apiserver verifies with has key {signing} of {} (nothing changed): it refuses its own tokens; put \
             the public half into one of them",
            files.signing_key_file
        ));
        return None;
    };
    Some((signing, file.clone()))
}

/// What irsad changes of the flags.
fn flags(files: &FoundFiles, target: &Target, migration: &mut Migration) {
    let jwks_uri = target.issuer.document(&target.jwks_path);
    migration.effects.push(match files.jwks_uri.as_deref() == Some(jwks_uri.as_str()) {
        true => "no kube-apiserver is restarted for it".to_owned(),
        false => format!(
            "irsad adds --service-account-jwks-uri={jwks_uri}, so that kube-apiserver names the same document: one restart of each, one \
             after the other"
        ),
    });
    let others = files.issuers.get(1..).unwrap_or_default();
    if !others.is_empty() {
        migration.effects.push(format!("{} stays accepted by kube-apiserver", others.join(", ")));
    }
}

fn discovery(target: &Target, documents: &FoundDocuments, migration: &mut Migration) {
    let found = documents.discovery.present().and_then(|body| Discovery::parse(body).ok());
    if let Some(found) = found.filter(|found| found.issuer != target.issuer.as_str()) {
        migration.find(format!(
            "the published discovery document names {}, tokens carry {}: AWS passes over the slash, strict verifiers do not; irsad writes it \
             as tokens have it",
            found.issuer, target.issuer
        ));
    }
}

/// What is particular about where it comes from.
fn origin(wish: &Wish, target: &Target, found: &Found<'_>, migration: &mut Migration) {
    match &found.own {
        Own::Nothing => {}
        Own::IrsaManager(manager, there) => {
            manager.check(target, migration);
            if manager.has_roles() {
                let text = manager.roles(&wish.cluster, migration);
                let path = found.configuration.0.with_file_name(ROLES_FILE);
                migration.write(path, text, *there, wish.replace);
            }
            manager.advise(&wish.cluster, migration);
        }
        Own::Kops(state, key_files) => {
            state.write_keys(&found.files.usual, key_files, migration);
            state.keep_issuers(migration);
            state.advise(migration);
        }
    }
    match wish.source {
        Source::AwsGuide | Source::IrsaManager => {}
        Source::EksAnywhere => migration.find(
            "Cluster API makes control-plane nodes anew: put irsad and this configuration into their image or their bootstrap data; the \
             issuer in podIamConfig stays as it is",
        ),
        Source::Kops => {
            super::kops::release(found.cloud, migration);
            if matches!(found.own, Own::Nothing) {
                super::kops::hand_over(target.issuer.as_str(), migration);
            }
        }
    }
    migration.find(
        "the webhook that gives pods their tokens stays until you remove it; irsad's own leaves containers alone that have the variables \
         already",
    );
}
