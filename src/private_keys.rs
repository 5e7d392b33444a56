//! Private halves in the keyring's store: each kept once under its key id and fetched by it, sealed where a KMS key is configured.
//!
//! The one place that knows both the store and KMS. It does not know what a key is for: which one is kept or fetched, and when,
//! is the planner's.

use thiserror::Error;

use crate::{
    aws::kms::{Kms, KmsError},
    model::{
        key::{KeyError, Kid, SigningKey, Zeroizing, rand_core, rand_core::RngCore},
        sealed::{NONCE_BYTES, PrivateHalf, PrivateHalfError, SealContext, Sealed},
    },
    store::{Condition, Store, StoreError},
};

/// Folder of the private halves below the keyring's store.
pub const FOLDER: &str = "keys";

/// The private halves of one cluster's keys. Keep it: KMS holds its connections.
#[derive(Debug, Clone)]
pub struct PrivateKeys {
    cluster: String,
    prefix: String,
    kms: Option<Kms>,
}

/// A private half as it was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The key: its id is the one that was asked for.
    pub key: SigningKey,
    /// What a person should know about how it is kept.
    pub notice: Option<String>,
}

/// Why a private half was not kept or fetched. What was in the store is still there; nothing on this node has changed.
#[derive(Debug, Error)]
pub enum PrivateKeyError {
    /// It is certainly not there.
    #[error(
        "{place} does not exist (nothing changed), so nobody can put that key to use; put the object back from a backup, or have another key made: irsad rotate"
    )]
    Missing {
        /// Key and store.
        place: String,
    },
    /// It is there and of no use.
    #[error("cannot use {place} (nothing changed)")]
    Unusable {
        /// Key and store.
        place: String,
        /// What is wrong with it.
        #[source]
        source: PrivateHalfError,
    },
    /// Sealed, and no KMS key is configured.
    #[error(
        "{place} is sealed and keyring.kmsKey is empty (nothing changed); set keyring.kmsKey, the object names {kms_key}"
    )]
    NoKms {
        /// Key and store.
        place: String,
        /// As the object says.
        kms_key: String,
    },
    /// KMS did not unwrap it.
    #[error("cannot open {place} (nothing changed)")]
    Open {
        /// Key and store.
        place: String,
        /// What KMS said.
        #[source]
        source: KmsError,
    },
    /// KMS gave no data key.
    #[error("cannot seal {place} (nothing written)")]
    Seal {
        /// Key and store.
        place: String,
        /// What KMS said.
        #[source]
        source: KmsError,
    },
    /// The library cannot write the key.
    #[error("cannot encode {place} (nothing written)")]
    Encode {
        /// Key and store.
        place: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PrivateKeys {
    /// Private halves of `cluster` below `prefix` of a store (without slashes at its ends, empty for the store's root), sealed with
    /// `kms`; as plain PKCS#8 without it.
    pub fn new(cluster: &str, prefix: &str, kms: Option<Kms>) -> Self {
        Self { cluster: cluster.to_owned(), prefix: prefix.to_owned(), kms }
    }

    /// Keeps the private half of `key` in `store`, and reads it back: a key that could not be fetched later must not be published
    /// now. Done where it is there already, whoever has put it there.
    ///
    /// # Errors
    /// It was not written, or what lies there cannot be fetched: it is of another key, or this node may seal and not open. It is
    /// never overwritten.
    pub async fn keep(&self, store: &impl Store, key: &SigningKey) -> Result<(), PrivateKeyError> {
        let (path, place) = self.place(store, key.kid());
        if store.get(&path).await?.is_none() {
            let body = self.body(key, &place).await?;
            match store.put(&path, &body, &Condition::Absent).await {
                // Another node's: what it holds is looked at below.
                Ok(_) | Err(StoreError::Conflict { .. }) => (),
                Err(error) => return Err(error.into()),
            }
        }
        self.fetch(store, key.kid()).await.map(drop)
    }

    /// The private half of key `kid` from `store`, opened where it is sealed.
    ///
    /// # Errors
    /// There is none, it is not that key's, or it cannot be opened.
    pub async fn fetch(&self, store: &impl Store, kid: &Kid) -> Result<Fetched, PrivateKeyError> {
        let (path, place) = self.place(store, kid);
        let Some(object) = store.get(&path).await? else { return Err(PrivateKeyError::Missing { place }) };
        let body = Zeroizing::new(object.body);
        let half = PrivateHalf::parse(&body).map_err(|source| unusable(&place, source))?;
        let sealed = match half {
            PrivateHalf::Plain(key) if key.kid() == kid => return Ok(self.plain(*key, &place)),
            PrivateHalf::Plain(key) => return Err(unusable(&place, PrivateHalfError::OtherKey(key.kid().clone()))),
            PrivateHalf::Sealed(sealed) => sealed,
        };
        let Some(kms) = &self.kms else {
            return Err(PrivateKeyError::NoKms { place, kms_key: sealed.kms_key().to_owned() });
        };
        let context = self.context(kid);
        let wrapped = sealed.wrapped_key(&context).map_err(|source| unusable(&place, source))?;
        let data_key = kms.unwrap(wrapped, &context).await;
        let data_key = data_key.map_err(|source| PrivateKeyError::Open { place: place.clone(), source })?;
        let key = sealed.open(&data_key, &context).map_err(|source| unusable(&place, source))?;
        Ok(Fetched { key, notice: None })
    }

    fn plain(&self, key: SigningKey, place: &str) -> Fetched {
        let notice = self.kms.is_some().then(|| {
            format!(
                "{place} is not sealed although keyring.kmsKey is set: it was kept before that; irsad rotate has it replaced by a \
                 sealed one"
            )
        });
        Fetched { key, notice }
    }

    /// The object to write.
    async fn body(&self, key: &SigningKey, place: &str) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
        let pem = key.to_pkcs8_pem().map_err(|source| PrivateKeyError::Encode { place: place.to_owned(), source })?;
        let Some(kms) = &self.kms else { return Ok(Zeroizing::new(pem.as_bytes().to_vec())) };
        let context = self.context(key.kid());
        let data_key = kms.data_key(&context).await;
        let data_key = data_key.map_err(|source| PrivateKeyError::Seal { place: place.to_owned(), source })?;
        let mut nonce = [0; NONCE_BYTES];
        rand_core::OsRng.fill_bytes(&mut nonce);
        let sealed = Sealed::seal(data_key, nonce, &context, &pem).map_err(|source| unusable(place, source))?;
        Ok(Zeroizing::new(sealed.render()))
    }

    fn context<'a>(&'a self, kid: &'a Kid) -> SealContext<'a> {
        SealContext { cluster: &self.cluster, kid }
    }

    /// Key in the store, and how messages name it.
    fn place(&self, store: &impl Store, kid: &Kid) -> (String, String) {
        let below = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let path = format!("{below}{FOLDER}/{kid}");
        let place = format!("{path} in {store}");
        (path, place)
    }
}

fn unusable(place: &str, source: PrivateHalfError) -> PrivateKeyError {
    PrivateKeyError::Unusable { place: place.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        aws::{self, Endpoints},
        model::probe::sentence,
        store::file::FileStore,
    };

    type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

    /// Test keys, used nowhere else.
    const TEST_KEY: &[u8] = include_bytes!("../tests/fixtures/test-keys/rsa-2048.pkcs1.pem");
    const OTHER_TEST_KEY: &[u8] = include_bytes!("../tests/fixtures/test-keys/p256.pkcs8.pem");
    const SEALED: &[u8] = include_bytes!("../tests/fixtures/formats/sealed-v1.json");

    /// Nothing in these tests may ask it.
    async fn unreachable_kms() -> Outcome<Kms> {
        let endpoints = Endpoints { all: "http://127.0.0.1:1".to_owned(), ..Endpoints::default() };
        Ok(Kms::new(&aws::connect(&"eu-west-1".parse()?, endpoints).await, &"alias/irsad".parse()?))
    }

    fn folder(root: &TempDir) -> FileStore {
        FileStore::private(root.path(), "/srv/keyring".as_ref())
    }

    async fn fetched(keys: &PrivateKeys, store: &FileStore, kid: &Kid) -> Result<Option<String>, String> {
        let found = keys.fetch(store, kid).await.map_err(|error| sentence(&error))?;
        if found.key.kid() == kid { Ok(found.notice) } else { Err("another key".to_owned()) }
    }

    #[tokio::test]
    async fn key_is_kept_once_as_pkcs8_and_fetched_by_its_id() -> Outcome {
        let root = TempDir::new()?;
        let (store, key) = (folder(&root), SigningKey::read(TEST_KEY)?);
        for prefix in ["", "a/prod-1"] {
            let keys = PrivateKeys::new("prod-1", prefix, None);
            keys.keep(&store, &key).await?;
            keys.keep(&store, &key).await?;
            assert_eq!(fetched(&keys, &store, key.kid()).await, Ok(None));
        }
        let at = format!("a/prod-1/keys/{}", key.kid());
        assert_eq!(store.list("").await?, [at.clone(), format!("keys/{}", key.kid())]);
        let body = store.get(&at).await?.ok_or("an object")?.body;
        assert_eq!(String::from_utf8(body)?, *key.to_pkcs8_pem()?);
        Ok(())
    }

    #[tokio::test]
    async fn object_of_another_key_is_neither_overwritten_nor_used() -> Outcome {
        let root = TempDir::new()?;
        let (store, key, other) = (folder(&root), SigningKey::read(TEST_KEY)?, SigningKey::read(OTHER_TEST_KEY)?);
        let (path, keys) = (format!("keys/{}", key.kid()), PrivateKeys::new("prod-1", "", None));
        store.put(&path, OTHER_TEST_KEY, &Condition::Absent).await?;
        let message = format!(
            "cannot use {path} in {store} (nothing changed): it holds key {}, so objects have been exchanged; put the right one back from a backup, or from an older version of the object",
            other.kid()
        );
        assert_eq!(fetched(&keys, &store, key.kid()).await, Err(message.clone()));
        assert_eq!(keys.keep(&store, &key).await.map_err(|error| sentence(&error)), Err(message));
        assert_eq!(store.get(&path).await?.ok_or("an object")?.body, OTHER_TEST_KEY);
        Ok(())
    }

    #[tokio::test]
    async fn key_that_is_not_there_is_told_from_a_store_that_fails() -> Outcome {
        let root = TempDir::new()?;
        let (store, key, keys) = (folder(&root), SigningKey::read(TEST_KEY)?, PrivateKeys::new("prod-1", "", None));
        let message = format!(
            "keys/{} in {store} does not exist (nothing changed), so nobody can put that key to use; put the object back from a backup, or have another key made: irsad rotate",
            key.kid()
        );
        assert_eq!(fetched(&keys, &store, key.kid()).await, Err(message));
        std::fs::write(root.path().join("srv"), "no folder")?;
        assert!(matches!(keys.fetch(&store, key.kid()).await, Err(PrivateKeyError::Store(_))));
        assert!(matches!(keys.keep(&store, &key).await, Err(PrivateKeyError::Store(_))));
        Ok(())
    }

    #[tokio::test]
    async fn plain_key_of_before_the_kms_key_is_read_with_a_notice() -> Outcome {
        let root = TempDir::new()?;
        let (store, key) = (folder(&root), SigningKey::read(TEST_KEY)?);
        PrivateKeys::new("prod-1", "", None).keep(&store, &key).await?;
        let keys = PrivateKeys::new("prod-1", "", Some(unreachable_kms().await?));
        let notice = format!(
            "keys/{} in {store} is not sealed although keyring.kmsKey is set: it was kept before that; irsad rotate has it replaced by a sealed one",
            key.kid()
        );
        assert_eq!(fetched(&keys, &store, key.kid()).await, Ok(Some(notice)));
        keys.keep(&store, &key).await?;
        Ok(())
    }

    #[tokio::test]
    async fn sealed_key_without_a_kms_key_is_refused_with_the_one_it_needs() -> Outcome {
        let root = TempDir::new()?;
        let (store, key) = (folder(&root), SigningKey::read(OTHER_TEST_KEY)?);
        let path = format!("keys/{}", key.kid());
        store.put(&path, SEALED, &Condition::Absent).await?;
        let message = format!(
            "{path} in {store} is sealed and keyring.kmsKey is empty (nothing changed); set keyring.kmsKey, the object names arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        );
        let keys = PrivateKeys::new("prod-1", "", None);
        assert_eq!(fetched(&keys, &store, key.kid()).await, Err(message.clone()));
        assert_eq!(keys.keep(&store, &key).await.map_err(|error| sentence(&error)), Err(message));
        Ok(())
    }

    /// It says itself that it is another's, so that KMS is not even asked.
    #[tokio::test]
    async fn exchanged_object_is_named_before_kms_is_asked() -> Outcome {
        let root = TempDir::new()?;
        let (store, key, other) = (folder(&root), SigningKey::read(TEST_KEY)?, SigningKey::read(OTHER_TEST_KEY)?);
        let path = format!("keys/{}", key.kid());
        store.put(&path, SEALED, &Condition::Absent).await?;
        store.put(&format!("keys/{}", other.kid()), SEALED, &Condition::Absent).await?;
        let message = |path: &str| {
            format!(
                "cannot use {path} in {store} (nothing changed): it is sealed for key {} of cluster prod-1, so objects have been exchanged; put the right one back from a backup, or from an older version of the object",
                other.kid()
            )
        };
        let keys = PrivateKeys::new("prod-1", "", Some(unreachable_kms().await?));
        assert_eq!(fetched(&keys, &store, key.kid()).await, Err(message(&path)));
        let keys = PrivateKeys::new("prod-2", "", Some(unreachable_kms().await?));
        assert_eq!(fetched(&keys, &store, other.kid()).await, Err(message(&format!("keys/{}", other.kid()))));
        Ok(())
    }
}
