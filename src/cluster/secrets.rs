//! Secrets of kube-system as a store: each object is one Secret, its version the Secret's resourceVersion.
//!
//! It does not know what the bytes mean. They are read and written through one API server, which asks etcd each time
//! (Kubernetes API concepts, "Resource versions"): what one node has written, every other one reads.

use std::{collections::BTreeMap, error::Error, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{
    ApiServer,
    request::{Answer, NoAnswer, Said},
};
use crate::store::{Condition, LARGEST_OBJECT_BYTES, Object, Store, StoreError, Version};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

/// Labels of every object: `kubectl -n kube-system get secrets -l app.kubernetes.io/managed-by=irsad`.
const LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/managed-by", "irsad"), ("app.kubernetes.io/component", "keyring")];
/// The key, which the name alone does not tell.
const KEY_ANNOTATION: &str = "irsad/key";
/// The field of `data` with the object.
const FIELD: &str = "object";

/// Longest readable part of a name, in characters. With the rest it is far below the 253 of a Secret's name.
const LONGEST_READABLE: usize = 100;
/// Objects of one page: their metadata stay below the limit of one answer.
const PAGE: usize = 250;
/// Most pages. More is not a keyring.
const MOST_PAGES: usize = 20;
/// Most keys that are listed.
const LONGEST_LIST: usize = 1000;
/// So many letters and digits on end that stand in a refusal and in the object were taken from there.
const SHORTEST_QUOTE_BYTES: usize = 16;

/// Objects as Secrets of kube-system, each of at most [`LARGEST_OBJECT_BYTES`], the most that a Secret holds
/// (`MaxSecretSize` in kubernetes/kubernetes `pkg/apis/core/types.go`).
///
/// The kubeconfig's user must be allowed to get, list, create and update Secrets there. A write replaces the whole
/// Secret, labels and annotations of others included.
#[derive(Debug, Clone)]
pub struct SecretStore {
    api: ApiServer,
}

/// What is in the way of an object.
#[derive(Debug, Error)]
enum Obstacle {
    #[error(
        "the kubeconfig's user may not, or kube-apiserver has only just started; allow it get, list, create and update of Secrets in kube-system, or set apiServer.kubeconfig to an administrator's"
    )]
    Forbidden(#[source] NoAnswer),
    #[error("{0}; what it said is left out, because it repeats the object")]
    Quoted(String),
    #[error(
        "Secret {0} was changed by hand: it has no annotation {KEY_ANNOTATION} that fits its name, or no {FIELD} in its data; put it back from a backup of etcd, or delete it where it never was irsad's"
    )]
    Edited(String),
    #[error("{0} bytes are more than the {LARGEST_OBJECT_BYTES} that a Secret holds")]
    TooLarge(usize),
    #[error("more than {0} Secrets carry irsad's labels; delete those that irsad did not make")]
    TooMany(usize),
    #[error(transparent)]
    NoAnswer(NoAnswer),
}

impl From<NoAnswer> for Obstacle {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Forbidden { .. } => Self::Forbidden(error),
            other => Self::NoAnswer(other),
        }
    }
}

impl Obstacle {
    /// Whether the write may have taken place nevertheless.
    fn may_have_written(&self) -> bool {
        let error = match self {
            Self::NoAnswer(error) => error,
            // What was not sent, or a refusal: only the latter are quoted.
            Self::Forbidden(_) | Self::Quoted(_) | Self::Edited(_) | Self::TooLarge(_) | Self::TooMany(_) => {
                return false;
            }
        };
        match error {
            NoAnswer::Broken { .. }
            | NoAnswer::TimedOut { .. }
            | NoAnswer::Busy { .. }
            | NoAnswer::Garbled { .. }
            | NoAnswer::TooLong { .. } => true,
            NoAnswer::Down { .. }
            | NoAnswer::Untrusted { .. }
            | NoAnswer::Unauthorized { .. }
            | NoAnswer::Forbidden { .. }
            | NoAnswer::NotFound { .. }
            | NoAnswer::DiscoveryOff { .. }
            | NoAnswer::Conflict { .. }
            | NoAnswer::Refused { .. }
            | NoAnswer::Expired { .. }
            | NoAnswer::Unexpected { .. } => false,
        }
    }
}

/// A Secret as answered. No `Debug`: it holds the object.
#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    data: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    /// `null` where there is none.
    items: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default)]
    r#continue: String,
}

#[derive(Deserialize)]
struct Listed {
    metadata: Metadata,
}

impl Metadata {
    /// The key, where the name fits it.
    fn key(self) -> Result<String, Obstacle> {
        match self.annotations.get(KEY_ANNOTATION) {
            Some(key) if name(key) == self.name => Ok(key.clone()),
            Some(_) | None => Err(Obstacle::Edited(self.name)),
        }
    }
}

impl Secret {
    fn open(self) -> Result<Object, Obstacle> {
        let edited = || Obstacle::Edited(self.metadata.name.clone());
        let object = self.data.as_ref().and_then(|data| data.get(FIELD)).ok_or_else(edited)?;
        let body = BASE64_STANDARD.decode(object).map_err(|_| edited())?;
        let version = Version(self.metadata.resource_version.clone());
        self.metadata.key()?;
        Ok(Object { body, version })
    }
}

impl SecretStore {
    /// The Secrets of the cluster that `api` belongs to. Nothing is asked yet.
    pub fn new(api: ApiServer) -> Self {
        Self { api }
    }

    async fn read(&self, key: &str) -> Result<Option<Object>, Obstacle> {
        let answer = match self.api.get(&path(key)).await.and_then(Answer::success) {
            Ok(answer) => answer,
            Err(NoAnswer::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        answer.json::<Secret>("a Secret")?.open().map(Some)
    }

    /// The new version; `None` where the condition did not hold.
    async fn write(&self, key: &str, body: &[u8], condition: &Condition) -> Result<Option<Version>, Obstacle> {
        if body.len() as u64 > LARGEST_OBJECT_BYTES {
            return Err(Obstacle::TooLarge(body.len()));
        }
        let sent = match condition {
            Condition::Absent => self.api.post(&by_us(SECRETS), &secret(key, body, None)).await,
            Condition::Unchanged(version) => self.api.put(&by_us(&path(key)), &secret(key, body, Some(version))).await,
        };
        match (sent.and_then(Answer::success), condition) {
            (Ok(answer), _) => Ok(Some(Version(answer.json::<Secret>("a Secret")?.metadata.resource_version))),
            (Err(NoAnswer::Conflict { .. }), _) | (Err(NoAnswer::NotFound { .. }), Condition::Unchanged(_)) => Ok(None),
            (Err(error), _) if quotes(&error, body) => Err(Obstacle::Quoted(error.to_string())),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Only what is an object of ours: a Secret of somebody else under its name stays.
    async fn remove(&self, key: &str) -> Result<(), Obstacle> {
        let Some(Object { version: Version(version), .. }) = self.read(key).await? else { return Ok(()) };
        let options = json!({
            "apiVersion": "meta/v1",
            "kind": "DeleteOptions",
            "preconditions": { "resourceVersion": version },
        });
        match self.api.delete(&path(key), &options).await?.success() {
            Ok(_) | Err(NoAnswer::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn keys(&self) -> Result<Vec<String>, Obstacle> {
        let selector = LABELS.map(|(name, value)| format!("{}%3D{value}", name.replace('/', "%2F"))).join("%2C");
        let (mut keys, mut more) = (Vec::new(), String::new());
        for _ in 0..MOST_PAGES {
            let path = format!("{SECRETS}?labelSelector={selector}&limit={PAGE}{more}");
            let page: Page = self.api.get_metadata(&path).await?.success()?.json("a list of Secrets")?;
            for listed in page.items.unwrap_or_default() {
                keys.push(listed.metadata.key()?);
            }
            if page.metadata.r#continue.is_empty() {
                return Ok(keys);
            }
            more = format!("&continue={}", page.metadata.r#continue);
        }
        Err(Obstacle::TooMany(keys.len()))
    }
}

impl fmt::Display for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Secrets irsad-* of kube-system")
    }
}

impl Store for SecretStore {
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.read(key).await.map_err(|error| failed(format!("cannot read {} (nothing changed)", place(key)), error))
    }

    async fn put(&self, key: &str, body: &[u8], condition: &Condition) -> Result<Version, StoreError> {
        match self.write(key, body, condition).await {
            Ok(Some(version)) => Ok(version),
            Ok(None) => Err(StoreError::Conflict { place: place(key) }),
            Err(error) => {
                let left = if error.may_have_written() { "it may have been written" } else { "nothing written" };
                Err(failed(format!("cannot write {} ({left})", place(key)), error))
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let error = |error| failed(format!("cannot delete {} (it is there or gone)", place(key)), error);
        self.remove(key).await.map_err(error)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let error = |error| failed(format!("cannot list {self} (nothing changed)"), error);
        let mut keys = self.keys().await.map_err(error)?;
        keys.retain(|key| key.starts_with(prefix));
        keys.sort();
        keys.truncate(LONGEST_LIST);
        Ok(keys)
    }
}

fn failed(sentence: String, source: Obstacle) -> StoreError {
    StoreError::Failed { sentence, source: Box::new(source) }
}

/// What stands in messages.
fn place(key: &str) -> String {
    format!("{key} in Secret kube-system/{}", name(key))
}

fn path(key: &str) -> String {
    format!("{SECRETS}/{}", name(key))
}

/// Names us in the Secret's managedFields.
fn by_us(path: &str) -> String {
    format!("{path}?fieldManager=irsad")
}

/// Name of the Secret with the object of `key`: readable, and with a digest, because a kid tells capitals apart and a name has
/// none.
fn name(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let readable: String = key.chars().map(plain).take(LONGEST_READABLE).collect();
    let digest = format!("{:x}", Sha256::digest(key));
    format!("irsad-{readable}-{}", &digest[..16])
}

fn secret(key: &str, body: &[u8], version: Option<&Version>) -> serde_json::Value {
    let mut secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name(key),
            "labels": BTreeMap::from(LABELS),
            "annotations": { KEY_ANNOTATION: key },
        },
        "data": { FIELD: BASE64_STANDARD.encode(body) },
    });
    if let Some(Version(version)) = version {
        secret["metadata"]["resourceVersion"] = json!(version);
    }
    secret
}

/// Whether the server's words repeat a part of the object, as an admission webhook may do.
fn quotes(error: &NoAnswer, body: &[u8]) -> bool {
    let said = error.source().and_then(|source| source.downcast_ref::<Said>()).map(ToString::to_string);
    let (plain, encoded) = (String::from_utf8_lossy(body), BASE64_STANDARD.encode(body));
    let opaque = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'));
    said.unwrap_or_default()
        .as_bytes()
        .windows(SHORTEST_QUOTE_BYTES)
        .filter_map(|part| std::str::from_utf8(part).ok())
        .any(|part| opaque(part) && (plain.contains(part) || encoded.contains(part)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            fake::{Fake, Outcome, Reply, Seen},
            fake_secrets::Secrets,
        },
        *,
    };
    use crate::store::contract;

    const STATE: &str = "state.json in Secret kube-system/irsad-state-json-d5f808a21e99d4c1";

    async fn asked_by_script(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Outcome<(Fake, SecretStore)> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], script).await?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
        Ok((fake, SecretStore::new(api)))
    }

    async fn empty() -> Outcome<(Arc<Secrets>, Fake, SecretStore)> {
        let secrets = Arc::new(Secrets::default());
        let answers = Arc::clone(&secrets);
        let (fake, store) = asked_by_script(move |seen| answers.answer(seen)).await?;
        Ok((secrets, fake, store))
    }

    /// Sentence and causes as the log prints them.
    fn in_full(error: &dyn Error) -> String {
        error.source().map_or(error.to_string(), |cause| format!("{error}: {}", in_full(cause)))
    }

    #[tokio::test]
    async fn secrets_keep_the_contract_of_every_store() -> Outcome<()> {
        let (_secrets, _fake, store) = empty().await?;
        contract::holds(&store).await;
        Ok(())
    }

    #[tokio::test]
    async fn object_is_one_labelled_secret_with_its_key() -> Outcome<()> {
        let (secrets, fake, store) = empty().await?;
        store.put("state.json", b"{}", &Condition::Absent).await?;
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": "irsad-state-json-d5f808a21e99d4c1",
                "labels": { "app.kubernetes.io/managed-by": "irsad", "app.kubernetes.io/component": "keyring" },
                "annotations": { "irsad/key": "state.json" },
                "resourceVersion": "1",
            },
            "data": { "object": "e30=" },
        });
        assert_eq!(secrets.all().into_values().collect::<Vec<_>>(), [expected]);
        assert_eq!(fake.seen().pop().map(|seen| seen.query), Some("fieldManager=irsad".to_owned()));
        Ok(())
    }

    #[test]
    fn every_key_has_a_name_of_its_own_that_kubernetes_takes() {
        let node = format!("acks/{}.json", "n".repeat(253));
        let keys = ["state.json", "state-json", "keys/aB_-", "keys/Ab_-", "keys/ab_-", "keys/ab--", "", "é", &node];
        let names: std::collections::BTreeSet<String> = keys.iter().map(|key| name(key)).collect();
        assert_eq!(names.len(), keys.len());
        for name in names {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() <= 253 && name.chars().all(plain) && !name.ends_with('-'), "{name}");
        }
    }

    #[tokio::test]
    async fn listing_goes_through_every_page_and_sees_no_secret_of_others() -> Outcome<()> {
        let (secrets, fake, store) = empty().await?;
        let count = PAGE + 10;
        let mut keys: Vec<String> = (0..count).map(|number| format!("acks/node-{number}.json")).collect();
        for key in keys.iter().chain([&"state.json".to_owned()]) {
            store.put(key, b"{}", &Condition::Absent).await?;
        }
        secrets.edit(&name("state.json"), |object| object["metadata"]["labels"] = json!({}));
        keys.sort();
        assert_eq!(store.list("acks/").await?, keys);
        assert_eq!(store.list("").await?, keys);
        assert_eq!(fake.seen().iter().filter(|seen| seen.path == SECRETS && seen.method == "GET").count(), 4);
        Ok(())
    }

    #[tokio::test]
    async fn refusal_says_what_was_left_and_what_to_do() -> Outcome<()> {
        let may_not = "the kubeconfig's user may not, or kube-apiserver has only just started; allow it get, list, create and update of Secrets in kube-system, or set apiServer.kubeconfig to an administrator's: ";
        let forbidden = "answered 403: kube-apiserver is starting, or the kubeconfig's user is not allowed to ask; if it stays so, use an administrator's kubeconfig: no";
        let busy = "answered 504: kube-apiserver is starting, stopping or overloaded; it is asked again: no";
        let garbled =
            "answered something that is not a Secret; check that nothing else than kube-apiserver listens there";
        for (status, body, read, written, left) in [
            (403, r#"{"message":"no"}"#, forbidden, forbidden, "nothing written"),
            (504, r#"{"message":"no"}"#, busy, busy, "it may have been written"),
            (200, "{}", garbled, garbled, "it may have been written"),
        ] {
            let (fake, store) = asked_by_script(move |_| Reply::Text(status, body.to_owned())).await?;
            let url = format!("https://{}{SECRETS}", fake.server);
            let why = if status == 403 { may_not } else { "" };
            let error = store.get("state.json").await.map_err(|error| in_full(&error));
            let secret = "irsad-state-json-d5f808a21e99d4c1";
            assert_eq!(error, Err(format!("cannot read {STATE} (nothing changed): {why}{url}/{secret} {read}")));
            let error = store.put("state.json", b"{}", &Condition::Absent).await.map_err(|error| in_full(&error));
            assert_eq!(error, Err(format!("cannot write {STATE} ({left}): {why}{url}?fieldManager=irsad {written}")));
        }
        let (_fake, store) = asked_by_script(|_| Reply::Text(403, r#"{"message":"no"}"#.to_owned())).await?;
        let error = store.list("").await.map_err(|error| in_full(&error)).err().unwrap_or_default();
        let expected = format!("cannot list the Secrets irsad-* of kube-system (nothing changed): {may_not}https://");
        assert!(error.starts_with(&expected), "{error}");
        Ok(())
    }

    #[tokio::test]
    async fn secret_edited_by_hand_is_named_and_not_taken_for_absent() -> Outcome<()> {
        let edits: [fn(&mut serde_json::Value); 4] = [
            |object| object["data"] = json!({ "other": "e30=" }),
            |object| object["data"] = serde_json::Value::Null,
            |object| object["metadata"]["annotations"] = json!({}),
            |object| object["metadata"]["annotations"] = json!({ "irsad/key": "keys/other" }),
        ];
        for edit in edits {
            let (secrets, _fake, store) = empty().await?;
            let read = store.put("state.json", b"{}", &Condition::Absent).await?;
            secrets.edit(&name("state.json"), edit);
            let error = store.get("state.json").await.map_err(|error| in_full(&error));
            let expected = format!(
                "cannot read {STATE} (nothing changed): Secret irsad-state-json-d5f808a21e99d4c1 was changed by hand: it has no annotation irsad/key that fits its name, or no object in its data; put it back from a backup of etcd, or delete it where it never was irsad's"
            );
            assert_eq!(error, Err(expected));
            let conflict = store.put("state.json", b"{}", &Condition::Unchanged(read)).await;
            assert!(matches!(conflict, Err(StoreError::Conflict { .. })), "{conflict:?}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn object_too_large_for_a_secret_is_not_sent() -> Outcome<()> {
        let (_secrets, fake, store) = empty().await?;
        let error = store.put("state.json", &vec![0; (1 << 20) + 1], &Condition::Absent).await;
        let expected = format!(
            "cannot write {STATE} (nothing written): 1048577 bytes are more than the 1048576 that a Secret holds"
        );
        assert_eq!(error.map_err(|error| in_full(&error)), Err(expected));
        assert!(fake.seen().is_empty());
        let largest = vec![b'x'; 1 << 20];
        store.put("state.json", &largest, &Condition::Absent).await?;
        assert_eq!(store.get("state.json").await?.map(|object| object.body), Some(largest));
        Ok(())
    }

    #[tokio::test]
    async fn object_is_in_no_message_even_if_the_server_repeats_it() -> Outcome<()> {
        let body = b"-----BEGIN TEST-----\nMIIEvgIBADANBgkqhkiG9w0BAQ\n-----END TEST-----\n";
        let quote = |text: &str| json!({ "message": format!("denied: {text:?} is not allowed") }).to_string();
        let quoted = [quote(&BASE64_STANDARD.encode(body)), quote(&String::from_utf8_lossy(body))];
        for message in quoted {
            let (fake, store) = asked_by_script(move |_| Reply::Text(403, message.clone())).await?;
            let error = store.put("state.json", body, &Condition::Absent).await.map_err(|error| in_full(&error));
            let expected = format!(
                "cannot write {STATE} (nothing written): https://{}{SECRETS}?fieldManager=irsad answered 403: kube-apiserver is starting, or the kubeconfig's user is not allowed to ask; if it stays so, use an administrator's kubeconfig; what it said is left out, because it repeats the object",
                fake.server
            );
            assert_eq!(error, Err(expected));
        }
        let object = Object { body: body.to_vec(), version: Version("1".to_owned()) };
        assert_eq!(format!("{object:?}"), r#"Object { bytes: 67, version: Version("1") }"#);
        Ok(())
    }
}
