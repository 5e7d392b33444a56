//! All objects of one kind: listed page by page, then followed by a watch (Kubernetes API concepts, "Efficient detection of
//! changes").
//!
//! It does not know what the objects are, and keeps none of them.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    ApiServer,
    request::{Answer, NoAnswer},
};

/// Objects in one page, and how many where a page turns out too long.
const PAGE_SIZES: [u32; 3] = [500, 50, 5];
/// Longest page, in bytes. Annotations alone may have 256 KiB for each object.
const LONGEST_PAGE_BYTES: usize = 8 << 20;
/// Longest change, in bytes: objects in etcd have 1.5 MiB at most.
const LONGEST_CHANGE_BYTES: usize = 4 << 20;
/// How long a watch goes on before the server ends it and it is begun anew, in seconds.
const WATCH_SECONDS: u32 = 600;
/// A watch that is silent for so long is dead: the server marks where it is once a minute (bookmarks).
const SILENCE: Duration = Duration::from_secs(150);

/// What is listed and watched.
#[derive(Debug, Clone)]
pub(super) struct Kind<'a> {
    /// Path of the collection.
    pub path: &'a str,
    /// Further parameters, each with an `&` in front.
    pub selector: &'a str,
    /// Media type of a list.
    pub list: &'static str,
    /// Media type of one object.
    pub object: &'static str,
    /// For messages: `a list of service accounts`.
    pub expected: &'static str,
}

/// One step of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed<T> {
    /// The list begins. Where it begins a second time, what came before does not count.
    Begun,
    /// One of them.
    One(T),
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// It was made or changed; as it is now.
    Put(T),
    /// It was deleted; as it was last.
    Gone(T),
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    r#continue: String,
}

#[derive(Deserialize)]
struct Event<T> {
    r#type: String,
    object: T,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Mark {
    metadata: MarkMetadata,
    code: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MarkMetadata {
    resource_version: String,
}

impl ApiServer {
    /// Every object, and the version from which on [`ApiServer::watch`] tells the changes.
    pub(super) async fn list_all<T: DeserializeOwned>(
        &self,
        kind: &Kind<'_>,
        mut take: impl FnMut(Listed<T>),
    ) -> Result<String, NoAnswer> {
        let mut listed = Err(NoAnswer::TooLong { url: self.url(kind.path), limit_bytes: LONGEST_PAGE_BYTES });
        for size in PAGE_SIZES {
            take(Listed::Begun);
            listed = self.list_by(kind, size, &mut take).await;
            if !matches!(listed, Err(NoAnswer::TooLong { .. })) {
                break;
            }
        }
        listed
    }

    async fn list_by<T: DeserializeOwned>(
        &self,
        kind: &Kind<'_>,
        size: u32,
        take: &mut impl FnMut(Listed<T>),
    ) -> Result<String, NoAnswer> {
        let mut more = String::new();
        loop {
            let path = format!("{}?limit={size}{}{more}", kind.path, kind.selector);
            let answer = self.get_as(&path, kind.list, LONGEST_PAGE_BYTES).await.and_then(Answer::success)?;
            let Page { metadata, items } = answer.json::<Page<T>>(kind.expected)?;
            items.unwrap_or_default().into_iter().for_each(|item| take(Listed::One(item)));
            if metadata.r#continue.is_empty() {
                return Ok(metadata.resource_version);
            }
            more = format!("&continue={}", metadata.r#continue);
        }
    }

    /// Tells every change after the version `from`, and brings `from` up to date with each. `opened` is called when the server has
    /// taken the question. Ends after some minutes: ask again from there.
    pub(super) async fn watch<T: DeserializeOwned>(
        &self,
        kind: &Kind<'_>,
        from: &mut String,
        opened: impl FnOnce(),
        mut tell: impl FnMut(Change<T>),
    ) -> Result<(), NoAnswer> {
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={from}{}",
            kind.path, kind.selector
        );
        let mut line = Vec::new();
        let url = self.url(kind.path);
        let take = |part: &[u8]| {
            for piece in part.split_inclusive(|byte| *byte == b'\n') {
                if line.len() + piece.len() > LONGEST_CHANGE_BYTES {
                    return Err(NoAnswer::TooLong { url: url.clone(), limit_bytes: LONGEST_CHANGE_BYTES });
                }
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    let change = understand(&line, &url, kind.expected, from)?;
                    line = Vec::new();
                    change.into_iter().for_each(&mut tell);
                }
            }
            Ok(())
        };
        self.stream(&path, kind.object, SILENCE, opened, take).await
    }
}

/// One line of a watch; `None` for a bookmark.
fn understand<T: DeserializeOwned>(
    line: &[u8],
    url: &str,
    expected: &'static str,
    version: &mut String,
) -> Result<Option<Change<T>>, NoAnswer> {
    let garbled = || NoAnswer::Garbled { url: url.to_owned(), expected };
    let Event { r#type, object: mark } = serde_json::from_slice::<Event<Mark>>(line).map_err(|_| garbled())?;
    let object = || serde_json::from_slice(line).map(|event: Event<T>| event.object).map_err(|_| garbled());
    let change = match r#type.as_str() {
        "ADDED" | "MODIFIED" => Some(Change::Put(object()?)),
        "DELETED" => Some(Change::Gone(object()?)),
        "ERROR" if mark.code == 410 => return Err(NoAnswer::Expired { url: url.to_owned() }),
        "ERROR" => return Err(garbled()),
        _ => None,
    };
    if !mark.metadata.resource_version.is_empty() {
        *version = mark.metadata.resource_version;
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::fake::{Fake, Outcome, Reply, Seen, Then},
        *,
    };
    use crate::cluster::ServiceAccount;

    const ACCOUNTS: &str = "/api/v1/serviceaccounts";

    async fn api(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Outcome<(Fake, ApiServer)> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], script).await?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
        Ok((fake, api))
    }

    fn page(names: &[&str], version: &str, more: &str) -> Reply {
        let items: Vec<_> = names.iter().map(|name| json!({"metadata": {"name": name, "namespace": "ns"}})).collect();
        let list = json!({"metadata": {"resourceVersion": version, "continue": more}, "items": items});
        Reply::Text(200, list.to_string())
    }

    fn event(kind: &str, name: &str, version: &str) -> String {
        let metadata = json!({"name": name, "namespace": "ns", "resourceVersion": version, "annotations": {"a": kind}});
        json!({"type": kind, "object": {"metadata": metadata}}).to_string()
    }

    #[tokio::test]
    async fn list_is_read_page_by_page_as_metadata() -> Outcome<()> {
        let (fake, api) = api(|seen| match seen.query.as_str() {
            "limit=500" => page(&["a", "b"], "7", "next"),
            "limit=500&continue=next" => page(&["c"], "7", ""),
            other => Reply::Text(400, other.to_owned()),
        })
        .await?;
        let mut names = Vec::new();
        let take = |step: Listed<ServiceAccount>| match step {
            Listed::Begun => {}
            Listed::One(found) => names.push(found.name),
        };
        let version = api.list_service_accounts(take).await?;
        assert_eq!((version.as_str(), names.concat().as_str()), ("7", "abc"));
        for seen in fake.seen() {
            let accept = seen.headers.get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            assert_eq!(
                (seen.path.as_str(), accept),
                (ACCOUNTS, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
            );
        }
        Ok(())
    }

    #[tokio::test]
    async fn page_that_is_too_long_is_asked_for_in_smaller_ones() -> Outcome<()> {
        let (_fake, api) = api(|seen| match seen.query.as_str() {
            "limit=500" => page(&["a"], "7", "next"),
            "limit=500&continue=next" => Reply::Text(200, " ".repeat(LONGEST_PAGE_BYTES + 1)),
            _ => page(&["a", "b"], "8", ""),
        })
        .await?;
        let mut names = Vec::new();
        let take = |step: Listed<ServiceAccount>| match step {
            Listed::Begun => names.clear(),
            Listed::One(found) => names.push(found.name),
        };
        let version = api.list_service_accounts(take).await?;
        assert_eq!((version.as_str(), names.concat().as_str()), ("8", "ab"));
        Ok(())
    }

    #[tokio::test]
    async fn watch_tells_every_change_and_where_to_resume() -> Outcome<()> {
        let lines = vec![
            event("ADDED", "a", "8"),
            event("MODIFIED", "a", "9"),
            event("DELETED", "a", "10"),
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"30","name":"","creationTimestamp":null}}}"#
                .to_owned(),
        ];
        for then in [Then::End, Then::Break] {
            let lines = lines.clone();
            let (fake, api) = api(move |_| Reply::Lines(lines.clone(), then)).await?;
            let (mut version, mut opened, mut told) = ("7".to_owned(), false, Vec::new());
            let ended = api.watch_service_accounts(&mut version, || opened = true, |change| told.push(change)).await;
            assert_eq!(ended.is_ok(), matches!(then, Then::End), "{ended:?}");
            let said: Vec<_> = told
                .iter()
                .map(|change| match change {
                    Change::Put(found) => ("put", found.annotations.get("a").map(String::as_str)),
                    Change::Gone(found) => ("gone", Some(found.name.as_str())),
                })
                .collect();
            assert_eq!(said, [("put", Some("ADDED")), ("put", Some("MODIFIED")), ("gone", Some("a"))]);
            assert_eq!((version.as_str(), opened), ("30", true));
            let seen = fake.seen().pop().ok_or("nothing was asked")?;
            assert_eq!(seen.query, "watch=1&allowWatchBookmarks=true&timeoutSeconds=600&resourceVersion=7");
        }
        Ok(())
    }

    #[tokio::test]
    async fn version_that_is_too_old_is_told_apart_from_other_failures() -> Outcome<()> {
        let gone = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
        let busy = json!({"kind": "Status", "code": 500, "message": "etcd"});
        for (reply, is_expired) in [
            (|gone: &str, _: &str| Reply::Text(410, gone.to_owned()), true),
            (
                |gone: &str, _: &str| Reply::Lines(vec![format!(r#"{{"type":"ERROR","object":{gone}}}"#)], Then::End),
                true,
            ),
            (
                |_: &str, busy: &str| Reply::Lines(vec![format!(r#"{{"type":"ERROR","object":{busy}}}"#)], Then::End),
                false,
            ),
            (|_: &str, busy: &str| Reply::Text(500, busy.to_owned()), false),
        ] as [(fn(&str, &str) -> Reply, bool); 4]
        {
            let (gone, busy) = (gone.to_string(), busy.to_string());
            let (_fake, api) = api(move |_| reply(&gone, &busy)).await?;
            let error = api.watch_service_accounts(&mut "7".to_owned(), || (), |_| ()).await.err().ok_or("no error")?;
            assert_eq!(matches!(error, NoAnswer::Expired { .. }), is_expired, "{error}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn name_that_is_none_is_never_asked_for() -> Outcome<()> {
        let (fake, api) = api(|_| Reply::Text(404, String::new())).await?;
        for (namespace, name) in
            [("..", "x"), ("ns", "../../secrets/x"), ("ns", "a?b"), ("", "a"), ("ns", ""), ("ns", "A")]
        {
            assert_eq!(api.service_account(namespace, name).await?, None);
        }
        assert!(fake.seen().is_empty(), "{:?}", fake.seen());
        assert_eq!(api.service_account("ns", "app.v1").await?, None);
        assert_eq!(
            fake.seen().first().map(|seen| seen.path.as_str()),
            Some("/api/v1/namespaces/ns/serviceaccounts/app.v1")
        );
        Ok(())
    }
}
