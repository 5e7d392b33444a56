//! Proof that a store honours the conditions of a write, made before a keyring is trusted to it.
//!
//! Some stores speak S3 and ignore `If-Match` and `If-None-Match`, others check them and write a moment later. Two nodes
//! would then overwrite each other's keys, and neither would notice.

use std::fmt;

use thiserror::Error;

use super::{Condition, Store, StoreError, Version};

/// Key of the one object that a proof makes and leaves, below the store's prefix.
pub const PROOF: &str = "proof";

/// How often a proof begins anew because another node's came between.
const ATTEMPTS: usize = 10;

/// Why a store is not to be used for a keyring, or not now.
#[derive(Debug, Error)]
pub enum ProofError {
    /// It let a write through that had to fail.
    #[error(
        "{store} cannot hold a keyring: it {breach}, so that nodes would overwrite each other's keys (nothing but {key} was written); set keyring.store to kubernetes, or to a store with conditional writes"
    )]
    Refused {
        /// The store.
        store: String,
        /// The object that the proof wrote.
        key: String,
        /// What it did.
        breach: Breach,
    },
    /// Never left alone long enough.
    #[error(
        "cannot prove that {store} honours conditions (nothing but {key} was written): in {ATTEMPTS} attempts every write of {key} was refused; see what else writes it"
    )]
    Contended {
        /// The store.
        store: String,
        /// The object that the proof writes.
        key: String,
    },
    /// It could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a store did that it must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// `If-None-Match: *` or the like was ignored.
    Overwrote,
    /// `If-Match` or the like was ignored.
    TookStale,
    /// The condition was checked, and the object written a moment later.
    LetSeveralWin,
    /// A reader sees what was there before.
    Forgot,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overwrote => "created an object that was already there",
            Self::TookStale => "replaced an object that had changed since it was read",
            Self::LetSeveralWin => "let several of four racing writers win",
            Self::Forgot => "still shows the old object after it has confirmed a new one",
        })
    }
}

/// Where a proof stands after one attempt.
enum Attempt {
    Proven,
    /// Someone else wrote in between.
    Disturbed,
    Breach(Breach),
}

/// Lets `store` refuse what it must refuse: about ten requests, all on the object `key` ([`PROOF`] below the store's prefix).
///
/// Any number of nodes may do it at once. `nonce` is a text that no other call has had: versions made of the content must
/// not repeat.
///
/// # Errors
/// [`ProofError::Refused`] where the store must not be used. Otherwise nothing is known, and it is to be asked again before
/// anything is written. The object is left in every case.
pub async fn prove(store: &impl Store, key: &str, nonce: &str) -> Result<(), ProofError> {
    for attempt in 0..ATTEMPTS {
        let prover = Prover { store, key, nonce, attempt };
        match prover.attempt().await? {
            Attempt::Proven => return Ok(()),
            Attempt::Disturbed => (),
            Attempt::Breach(breach) => {
                return Err(ProofError::Refused { store: store.to_string(), key: key.to_owned(), breach });
            }
        }
    }
    Err(ProofError::Contended { store: store.to_string(), key: key.to_owned() })
}

struct Prover<'a, S> {
    store: &'a S,
    key: &'a str,
    nonce: &'a str,
    attempt: usize,
}

impl<S: Store> Prover<'_, S> {
    async fn attempt(&self) -> Result<Attempt, StoreError> {
        let Some(old) = self.version().await? else {
            return Ok(match self.race("create", &Condition::Absent).await? {
                0 | 1 => Attempt::Disturbed,
                _ => Attempt::Breach(self.told_apart(&Condition::Absent, Breach::Overwrote).await?),
            });
        };
        if self.put("again", &Condition::Absent).await? {
            return Ok(Attempt::Breach(Breach::Overwrote));
        }
        let stale = Condition::Unchanged(old.clone());
        match self.race("replace", &stale).await? {
            0 => return Ok(Attempt::Disturbed),
            1 => (),
            _ => return Ok(Attempt::Breach(self.told_apart(&stale, Breach::TookStale).await?)),
        }
        if self.put("stale", &stale).await? {
            return Ok(Attempt::Breach(Breach::TookStale));
        }
        Ok(match self.version().await? {
            Some(new) if new != old => Attempt::Proven,
            Some(_) => Attempt::Breach(Breach::Forgot),
            None => Attempt::Disturbed,
        })
    }

    /// Several won: `ignored` where the condition does not count at all, otherwise it is not checked in one step with the write.
    async fn told_apart(&self, condition: &Condition, ignored: Breach) -> Result<Breach, StoreError> {
        Ok(if self.put("stale", condition).await? { ignored } else { Breach::LetSeveralWin })
    }

    async fn version(&self) -> Result<Option<Version>, StoreError> {
        Ok(self.store.get(self.key).await?.map(|object| object.version))
    }

    /// How many of four writers win that write at once.
    async fn race(&self, step: &str, condition: &Condition) -> Result<usize, StoreError> {
        let names = ["1", "2", "3", "4"].map(|writer| format!("{step} {writer}"));
        let [one, two, three, four] = names.each_ref().map(|name| self.put(name, condition));
        let won = tokio::join!(one, two, three, four);
        Ok([won.0?, won.1?, won.2?, won.3?].into_iter().filter(|won| *won).count())
    }

    /// Whether it was written.
    async fn put(&self, step: &str, condition: &Condition) -> Result<bool, StoreError> {
        let body = format!(
            "irsad writes this to see that the store honours conditions: {} {} {step}\n",
            self.nonce, self.attempt
        );
        match self.store.put(self.key, body.as_bytes(), condition).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error @ StoreError::Failed { .. }) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, io, path::Path};

    use tempfile::TempDir;

    use super::{
        super::{Object, file::FileStore},
        *,
    };

    /// What a store in memory does wrong.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        None,
        IgnoresAbsent,
        IgnoresUnchanged,
        IgnoresBoth,
        ChecksThenWrites,
        Forgets,
        /// Reads come from a cache.
        ShowsTheFirst,
        RefusesAll,
        Fails,
    }

    struct Memory {
        fault: Fault,
        objects: RefCell<BTreeMap<String, Vec<u8>>>,
        cache: RefCell<Option<Object>>,
    }

    impl Memory {
        fn with(fault: Fault) -> Self {
            Self { fault, objects: RefCell::default(), cache: RefCell::default() }
        }

        fn version(&self, key: &str) -> Option<Version> {
            self.objects.borrow().get(key).map(|body| Version(String::from_utf8_lossy(body).into_owned()))
        }

        fn holds(&self, key: &str, condition: &Condition) -> bool {
            match (self.fault, condition) {
                (Fault::IgnoresBoth, _)
                | (Fault::IgnoresAbsent, Condition::Absent)
                | (Fault::IgnoresUnchanged, Condition::Unchanged(_)) => true,
                (Fault::RefusesAll, Condition::Unchanged(_)) => false,
                (_, Condition::Absent) => self.version(key).is_none(),
                (_, Condition::Unchanged(version)) => self.version(key).as_ref() == Some(version),
            }
        }
    }

    impl fmt::Display for Memory {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("s3://keys")
        }
    }

    impl Store for Memory {
        async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
            tokio::task::yield_now().await;
            let body = self.objects.borrow().get(key).cloned();
            let current = self.version(key).zip(body).map(|(version, body)| Object { body, version });
            let shown = if self.fault == Fault::ShowsTheFirst { self.cache.borrow().clone() } else { None };
            *self.cache.borrow_mut() = shown.or(current);
            Ok(self.cache.borrow().clone())
        }

        async fn put(&self, key: &str, body: &[u8], condition: &Condition) -> Result<Version, StoreError> {
            tokio::task::yield_now().await;
            if self.fault == Fault::Fails {
                let source = Box::new(io::Error::from(io::ErrorKind::StorageFull));
                return Err(StoreError::Failed { sentence: "cannot write".to_owned(), source });
            }
            if !self.holds(key, condition) {
                return Err(StoreError::Conflict { place: key.to_owned() });
            }
            if self.fault == Fault::ChecksThenWrites {
                tokio::task::yield_now().await;
            }
            let is_new = self.version(key).is_none();
            if self.fault != Fault::Forgets || is_new {
                self.objects.borrow_mut().insert(key.to_owned(), body.to_vec());
            }
            Ok(Version(String::from_utf8_lossy(body).into_owned()))
        }

        async fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.objects.borrow_mut().remove(key);
            Ok(())
        }

        async fn list(&self, _: &str) -> Result<Vec<String>, StoreError> {
            Ok(self.objects.borrow().keys().cloned().collect())
        }
    }

    async fn verdict(store: &Memory) -> Result<(), String> {
        prove(store, "prod-1/proof", "a").await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn store_that_lets_a_write_through_is_refused_with_what_it_did() {
        let refused = |breach: &str| {
            Err(format!(
                "s3://keys cannot hold a keyring: it {breach}, so that nodes would overwrite each other's keys (nothing but prod-1/proof was written); set keyring.store to kubernetes, or to a store with conditional writes"
            ))
        };
        let contended = "cannot prove that s3://keys honours conditions (nothing but prod-1/proof was written): in 10 attempts every write of prod-1/proof was refused; see what else writes it";
        for (fault, expected) in [
            (Fault::None, Ok(())),
            (Fault::IgnoresAbsent, refused("created an object that was already there")),
            (Fault::IgnoresUnchanged, refused("replaced an object that had changed since it was read")),
            (Fault::IgnoresBoth, refused("created an object that was already there")),
            (Fault::ChecksThenWrites, refused("let several of four racing writers win")),
            (Fault::Forgets, refused("replaced an object that had changed since it was read")),
            (Fault::ShowsTheFirst, refused("still shows the old object after it has confirmed a new one")),
            (Fault::RefusesAll, Err(contended.to_owned())),
            (Fault::Fails, Err("cannot write".to_owned())),
        ] {
            // Also where an earlier run has left its object.
            for there_before in [false, true] {
                let store = Memory::with(fault);
                if there_before {
                    store.objects.borrow_mut().insert("prod-1/proof".to_owned(), b"before".to_vec());
                }
                assert_eq!(verdict(&store).await, expected, "{fault:?}, {there_before}");
                assert!(store.objects.borrow().keys().all(|key| key == "prod-1/proof"), "{fault:?}");
            }
        }
    }

    #[tokio::test]
    async fn nodes_that_prove_at_once_do_not_accuse_an_honest_store() {
        let memory = Memory::with(Fault::None);
        let root = TempDir::new().expect("a folder");
        let file = FileStore::private(&root.path().canonicalize().expect("a folder"), Path::new("/keyring"));
        for round in 0..20 {
            let nonces = ["a", "b", "c", "d", "e"].map(|node| format!("{node}{round}"));
            let proofs = nonces.each_ref().map(|nonce| prove(&memory, PROOF, nonce));
            let in_memory = futures_util::future::join_all(proofs).await;
            let in_files = tokio::join!(prove(&file, PROOF, &nonces[0]), prove(&file, PROOF, &nonces[1]));
            assert!(in_memory.into_iter().chain([in_files.0, in_files.1]).all(|proof| proof.is_ok()));
        }
        assert_eq!(memory.list("").await.expect("listed"), [PROOF]);
        assert_eq!(file.list("").await.expect("listed"), [PROOF]);
    }
}
