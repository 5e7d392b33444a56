//! What every store promises, whatever lies behind it. Included by the tests of each store.

use super::{Condition, Store, StoreError};

/// Puts `store`, which must be empty, through the contract of `irsad::store::Store`. Leaves two objects.
///
/// The including module brings `Condition`, `Store` and `StoreError` into its scope.
pub async fn holds(store: &impl Store) {
    reads_back_what_was_written(store).await;
    writes_only_while_the_condition_holds(store).await;
    lists_by_prefix_in_byte_order(store).await;
    lets_one_of_many_writers_win(store).await;
    deletes_what_is_there_and_nothing_else(store).await;
}

async fn reads_back_what_was_written(store: &impl Store) {
    assert_eq!(store.get("openid/v1/jwks").await.expect("asked"), None, "the store must be empty");
    assert_eq!(store.list("").await.expect("listed"), [""; 0]);
    let body = [b"{\"keys\":[]}\n\0\xff".as_slice(), "é".as_bytes()].concat();
    let version = store.put("openid/v1/jwks", &body, &Condition::Absent).await.expect("written");
    let found = store.get("openid/v1/jwks").await.expect("asked").expect("there");
    assert_eq!((found.body, found.version), (body, version));
    assert_eq!(store.get("openid/v1").await.ok().flatten(), None, "a folder is no object");
}

async fn writes_only_while_the_condition_holds(store: &impl Store) {
    let key = ".well-known/openid-configuration";
    let first = store.put(key, b"one", &Condition::Absent).await.expect("written");
    assert_conflict(store.put(key, b"two", &Condition::Absent).await);
    let second = store.put(key, b"two", &Condition::Unchanged(first.clone())).await.expect("written");
    assert_ne!(first, second);
    assert_conflict(store.put(key, b"three", &Condition::Unchanged(first.clone())).await);
    assert_conflict(store.put("missing", b"three", &Condition::Unchanged(first)).await);
    assert_eq!(store.get(key).await.expect("asked").expect("there").body, b"two");
    assert_eq!(store.get("missing").await.expect("asked"), None);
    store.put(key, b"", &Condition::Unchanged(second)).await.expect("an empty object is one");
    assert_eq!(store.get(key).await.expect("asked").map(|found| found.body), Some(Vec::new()));
}

async fn lists_by_prefix_in_byte_order(store: &impl Store) {
    for (prefix, keys) in [
        ("", &[".well-known/openid-configuration", "openid/v1/jwks"][..]),
        ("openid/", &["openid/v1/jwks"]),
        ("openid/v1/j", &["openid/v1/jwks"]),
        (".w", &[".well-known/openid-configuration"]),
        ("openid/v2", &[]),
    ] {
        assert_eq!(store.list(prefix).await.expect("listed"), keys, "{prefix:?}");
    }
}

async fn lets_one_of_many_writers_win(store: &impl Store) {
    let key = "openid/v1/jwks";
    let read = store.get(key).await.expect("asked").expect("there").version;
    let condition = Condition::Unchanged(read);
    let (one, two, three) = tokio::join!(
        store.put(key, b"a", &condition),
        store.put(key, b"b", &condition),
        store.put(key, b"c", &condition)
    );
    let won: Vec<&str> = [("a", one), ("b", two), ("c", three)]
        .into_iter()
        .filter(|(_, put)| put.is_ok())
        .map(|(body, _)| body)
        .collect();
    let found = store.get(key).await.expect("asked").expect("there");
    assert_eq!(won, [String::from_utf8_lossy(&found.body)]);
}

async fn deletes_what_is_there_and_nothing_else(store: &impl Store) {
    let before = store.list("").await.expect("listed");
    store.put("gone/away", b"{}", &Condition::Absent).await.expect("written");
    for _ in 0..2 {
        store.delete("gone/away").await.expect("gone, or gone already");
        assert_eq!(store.get("gone/away").await.expect("asked"), None);
    }
    assert_eq!(store.list("").await.expect("listed"), before);
    store.put("gone/away", b"{}", &Condition::Absent).await.expect("written anew");
    store.delete("gone/away").await.expect("gone");
}

fn assert_conflict<T: std::fmt::Debug>(put: Result<T, StoreError>) {
    assert!(matches!(put, Err(StoreError::Conflict { .. })), "{put:?}");
}
