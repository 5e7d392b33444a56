//! The stores that a configuration can name, as one type.

use std::fmt;

use crate::{
    aws::s3::S3Store,
    cluster::secrets::SecretStore,
    store::{Condition, Object, Store, StoreError, Version, file::FileStore},
};

/// A store, wherever it is.
pub enum AnyStore {
    /// A folder of this host.
    File(FileStore),
    /// A bucket.
    S3(S3Store),
    /// Secrets of kube-system.
    Secrets(SecretStore),
}

impl fmt::Display for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(store) => store.fmt(f),
            Self::S3(store) => store.fmt(f),
            Self::Secrets(store) => store.fmt(f),
        }
    }
}

impl Store for AnyStore {
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        match self {
            Self::File(store) => store.get(key).await,
            Self::S3(store) => store.get(key).await,
            Self::Secrets(store) => store.get(key).await,
        }
    }

    async fn put(&self, key: &str, body: &[u8], condition: &Condition) -> Result<Version, StoreError> {
        match self {
            Self::File(store) => store.put(key, body, condition).await,
            Self::S3(store) => store.put(key, body, condition).await,
            Self::Secrets(store) => store.put(key, body, condition).await,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self {
            Self::File(store) => store.delete(key).await,
            Self::S3(store) => store.delete(key).await,
            Self::Secrets(store) => store.delete(key).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::File(store) => store.list(prefix).await,
            Self::S3(store) => store.list(prefix).await,
            Self::Secrets(store) => store.list(prefix).await,
        }
    }
}

/// The keyring's store, and what stands before every key in it.
pub struct KeyringStore {
    /// Where.
    pub store: AnyStore,
    /// Without slashes at its ends; empty for the store's root.
    pub prefix: String,
}

impl KeyringStore {
    /// Where the object `name` lies.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}
