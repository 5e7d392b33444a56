//! Whether the documents that strangers read have every key that API servers verify, and none that is somebody else's.

use crate::model::{
    jwks::{Jwk, Jwks},
    key::Kid,
    probe::Probe,
};

use super::Migration;

/// One API server of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundApiServer {
    /// Name of its node, or its address.
    pub name: String,
    /// What it shows of itself.
    pub shows: Probe<Shown>,
}

/// What a running API server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Issuer of its tokens.
    pub issuer: String,
    /// Every key that it verifies with.
    pub keys: Jwks,
}

/// The two documents, as strangers and as the owner of the bucket read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDocuments {
    /// Discovery document behind the issuer URL.
    pub discovery: Probe<Vec<u8>>,
    /// JWK Set behind the URL that it names.
    pub jwks: Probe<Vec<u8>>,
    /// The same JWK Set in the bucket.
    pub stored_jwks: Probe<Vec<u8>>,
}

/// What is to be known to judge the published keys.
pub(super) struct Judged<'a> {
    pub jwks_uri: &'a str,
    pub store: &'a str,
    pub documents: &'a FoundDocuments,
    pub api_servers: &'a [FoundApiServer],
    pub signing: &'a Kid,
    /// Kids of published keys that may go although nobody knows whose they are.
    pub let_go: &'a [String],
}

impl Judged<'_> {
    /// Says what becomes of each key; refuses where one could be lost whose tokens may live.
    pub fn judge(&self, migration: &mut Migration) {
        let Some(published) = self.published(migration) else { return };
        let verified = self.verified();
        for key in &verified {
            self.judge_verified(key, &published, migration);
        }
        for key in published.keys() {
            self.judge_published(key, &verified, migration);
        }
        let known = verified.iter().filter(|key| published.keys().contains(key)).count();
        migration.effects.push(match known == verified.len() {
            true => {
                format!("{} has every key that the API servers verify ({known}), and keeps each of them", self.jwks_uri)
            }
            false => format!("{} keeps the {known} keys that it shares with the API servers", self.jwks_uri),
        });
    }

    /// The JWK Set, where strangers and the owner of the bucket read the same.
    fn published(&self, migration: &mut Migration) -> Option<Jwks> {
        let public = parse(&self.documents.jwks, self.jwks_uri, migration)?;
        let stored = parse(&self.documents.stored_jwks, self.store, migration)?;
        if !public.has_same_keys(&stored) {
            migration.refuse(format!(
                "{} serves other keys than {} holds (nothing changed); name the store that the URL leads to with --store, or wait for \
                 the cache between them",
                self.jwks_uri, self.store
            ));
            return None;
        }
        Some(stored)
    }

    /// Keys of all API servers, each once.
    fn verified(&self) -> Vec<Jwk> {
        let mut keys: Vec<Jwk> = Vec::new();
        let shown = self.api_servers.iter().filter_map(|server| server.shows.present());
        for key in shown.flat_map(|shown| shown.keys.keys()) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        keys
    }

    fn judge_verified(&self, key: &Jwk, published: &Jwks, migration: &mut Migration) {
        let kid = kid(key);
        if published.keys().contains(key) {
            return;
        }
        let signs = if key.kid() == Some(self.signing.as_str()) { ", which signs" } else { "" };
        let what = match published.keys().iter().find(|other| other.is_same_key(key)) {
            Some(other) if other.kid() == key.kid() => return,
            Some(other) => format!("it stands there as {:?}", super::documents::kid(other)),
            None => "it is not there".to_owned(),
        };
        migration.find(format!(
            "key {kid}{signs} is verified by API servers, but {} does not have it under its id ({what}): AWS refuses its tokens today; \
             irsad publishes it",
            self.jwks_uri
        ));
    }

    fn judge_published(&self, key: &Jwk, verified: &[Jwk], migration: &mut Migration) {
        let kid = kid(key);
        let is_known = verified.iter().any(|known| known == key);
        if is_known {
            return;
        }
        if verified.iter().any(|known| known.is_same_key(key)) {
            return migration.find(format!(
                "{} has a verified key a second time, as {kid:?}; irsad lets that entry go, no token of Kubernetes 1.16 or later names it",
                self.jwks_uri
            ));
        }
        if self.let_go.iter().any(|named| named == kid) {
            return migration.effects.push(format!(
                "key {kid:?}, which no API server of this cluster verifies, stays published for rotation.tokenLifetime (24h) and then goes"
            ));
        }
        migration.refuse(format!(
            "{} has key {kid:?}, which no API server of this cluster verifies (nothing changed): irsad would take it out after \
             rotation.tokenLifetime, and if another cluster signs with it, all its tokens would be refused; give that cluster an issuer \
             of its own first, or say that nobody needs the key: --let-go {kid}",
            self.jwks_uri
        ));
    }
}

fn kid(key: &Jwk) -> &str {
    key.kid().unwrap_or_default()
}

fn parse(found: &Probe<Vec<u8>>, place: &str, migration: &mut Migration) -> Option<Jwks> {
    match found {
        Probe::Present(body) => match Jwks::parse(body) {
            Ok(jwks) => Some(jwks),
            Err(error) => {
                migration.refuse(format!("{place}: {error} (nothing changed); put the right document there first"));
                None
            }
        },
        Probe::Absent => {
            migration
                .refuse(format!("{place} is not there (nothing changed); without it there is nothing to take over"));
            None
        }
        Probe::Unknown(why) => {
            migration.refuse(why.clone());
            None
        }
    }
}
