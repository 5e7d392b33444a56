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
    /// Every object, and the version from which on [`ApiServer::watch`] tells the changes. `begin` is called before the first one; a
    /// second time where the list had to be begun again.
    pub(super) async fn list_all<T: DeserializeOwned>(
        &self,
        kind: &Kind<'_>,
        mut begin: impl FnMut(),
        mut take: impl FnMut(T),
    ) -> Result<String, NoAnswer> {
        let mut listed = Err(NoAnswer::TooLong { url: self.url(kind.path), limit_bytes: LONGEST_PAGE_BYTES });
        for size in PAGE_SIZES {
            begin();
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
        take: &mut impl FnMut(T),
    ) -> Result<String, NoAnswer> {
        let mut more = String::new();
        loop {
            let path = format!("{}?limit={size}{}{more}", kind.path, kind.selector);
            let answer = self.get_as(&path, kind.list, LONGEST_PAGE_BYTES).await.and_then(Answer::success)?;
            let Page { metadata, items } = answer.json::<Page<T>>(kind.expected)?;
            items.unwrap_or_default().into_iter().for_each(&mut *take);
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
