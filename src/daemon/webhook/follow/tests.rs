//! What happens to the webhook's knowledge when its sources misbehave.

use std::sync::Mutex;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    cluster::fake::{Fake, Outcome, Reply, Seen, Then},
    model::pod_identity::{ContainerCredentialsToken, PodIdentity},
    webhook::{Mutation, accounts::Unanswered},
};

const PREFIX: &str = "eks.amazonaws.com";
const MANIFEST: &str = include_str!("../../../../tests/fixtures/kubeadm-1.36.3/default.yaml");
const LIMIT: Duration = Duration::from_secs(3);

/// A node whose API server is a script.
pub(in crate::daemon::webhook) struct Node {
    folder: TempDir,
    fake: Fake,
    api: Arc<Api>,
    accounts: Arc<Accounts>,
}

impl Node {
    /// One whose API server has no service accounts and nothing to tell.
    pub(in crate::daemon::webhook) async fn quiet() -> Outcome<Self> {
        Self::start(|seen| script(seen, |_| list("5", &[]), |_| Reply::Lines(Vec::new(), Then::Silence))).await
    }

    pub(in crate::daemon::webhook) fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Outcome<Self> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], script).await?;
        let folder = TempDir::new()?;
        let port = fake.server.port().to_string();
        let manifest = MANIFEST.replace("192.0.2.10", "127.0.0.1").replace("6443", &port);
        std::fs::write(folder.path().join("manifest.yaml"), manifest)?;
        std::fs::write(folder.path().join("admin.conf"), fake.kubeconfig(""))?;
        let root = Root::new(folder.path())?;
        let api = Api::new(root, Path::new("/manifest.yaml"), Path::new("/admin.conf"));
        let accounts = Accounts::new(api.ask(PREFIX));
        Ok(Self { folder, fake, api, accounts })
    }

    /// Follows until `is_so`; what was told of it on the way.
    async fn follow_until(&self, mut is_so: impl FnMut(&Self) -> bool) -> Outcome<Vec<Result<(), String>>> {
        let told = Mutex::new(Vec::new());
        let tell = |outcome| told.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        let follow = service_accounts(&self.api, &self.accounts, PREFIX, tell);
        let arrived = async {
            while !is_so(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = timeout(Duration::from_secs(20), async {
            tokio::select! {
                () = follow => {}
                () = arrived => {}
            }
        });
        ended.await?;
        Ok(told.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn queries(&self) -> Vec<String> {
        self.fake.seen().into_iter().map(|seen| seen.query).collect()
    }

    async fn role(&self, name: &str) -> Result<Option<String>, Unanswered> {
        let found = self.accounts.find("ns", name, LIMIT).await?;
        Ok(found.and_then(|found| found.role_arn().map(str::to_owned)))
    }
}

fn object(name: &str, role: &str, version: &str) -> serde_json::Value {
    let annotations = json!({ (format!("{PREFIX}/role-arn")): role });
    json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version, "annotations": annotations}})
}

fn list(version: &str, objects: &[serde_json::Value]) -> Reply {
    Reply::Text(200, json!({"metadata": {"resourceVersion": version}, "items": objects}).to_string())
}

fn told(kind: &str, object: &serde_json::Value) -> String {
    json!({"type": kind, "object": object}).to_string()
}

/// `watch` answers the watches in turn.
fn script(seen: &Seen, lists: impl Fn(usize) -> Reply, watches: impl Fn(&str) -> Reply) -> Reply {
    match (seen.path.as_str(), seen.query.strip_prefix("watch=1&")) {
        ("/api/v1/serviceaccounts", None) => lists(seen.earlier),
        ("/api/v1/serviceaccounts", Some(query)) => watches(query.rsplit('=').next().unwrap_or_default()),
        _ => Reply::Text(404, String::new()),
    }
}

#[tokio::test]
async fn list_that_is_held_back_leaves_the_accounts_unfilled_until_it_comes() -> Outcome<()> {
    let node = Node::start(|seen| {
        let lists = |earlier| match earlier {
            0 => Reply::Text(500, "etcd".to_owned()),
            1 => Reply::Text(403, "RBAC is being read".to_owned()),
            _ => list("5", &[object("app", "role", "4")]),
        };
        script(seen, lists, |_| Reply::Lines(Vec::new(), Then::Silence))
    })
    .await?;
    assert!(!node.accounts.is_full(Duration::ZERO).await);
    let mut heard = Vec::new();
    heard.extend(node.follow_until(|node| node.queries().len() >= 4 && node.accounts.len() == 1).await?);
    assert!(heard.iter().take(2).all(Result::is_err), "{heard:?}");
    assert!(node.accounts.is_full(LIMIT).await);
    Ok(())
}

#[tokio::test]
async fn watch_that_is_cut_is_resumed_where_it_was_and_a_version_that_is_gone_lists_all_anew() -> Outcome<()> {
    let node = Node::start(|seen| {
        let lists = |earlier| match earlier {
            0 => list("5", &[object("app", "first", "4"), object("old", "old", "3")]),
            _ => list("20", &[object("app", "listed", "19")]),
        };
        script(seen, lists, |version| match version {
            "5" => Reply::Lines(vec![told("MODIFIED", &object("app", "second", "8"))], Then::Break),
            "8" => Reply::Lines(vec![told("ADDED", &object("new", "third", "9"))], Then::End),
            "9" => Reply::Text(410, String::new()),
            "20" => Reply::Lines(vec![told("ADDED", &object("last", "last", "21"))], Then::Silence),
            other => Reply::Text(400, other.to_owned()),
        })
    })
    .await?;
    node.follow_until(|node| node.accounts.len() == 2 && node.queries().len() >= 6).await?;
    let versions: Vec<String> =
        node.queries().iter().map(|query| query.rsplit('=').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(versions, ["500", "5", "8", "9", "500", "20"]);
    assert_eq!(node.role("app").await, Ok(Some("listed".to_owned())));
    assert_eq!(node.role("last").await, Ok(Some("last".to_owned())));
    // What was deleted while nobody watched is gone, and that is asked for.
    assert_eq!(node.role("old").await, Ok(None));
    Ok(())
}

#[tokio::test]
async fn account_is_asked_for_anew_when_its_first_question_was_not_answered() -> Outcome<()> {
    let node = Node::start(|seen| match (seen.path.as_str(), seen.earlier) {
        ("/api/v1/namespaces/ns/serviceaccounts/app", 0 | 1) => Reply::Text(503, "starting".to_owned()),
        ("/api/v1/namespaces/ns/serviceaccounts/app", _) => Reply::Text(200, object("app", "role", "4").to_string()),
        _ => script(seen, |_| list("5", &[]), |_| Reply::Lines(Vec::new(), Then::Silence)),
    })
    .await?;
    node.follow_until(|node| node.queries().len() >= 2).await?;
    assert_eq!(node.role("app").await, Ok(Some("role".to_owned())));
    Ok(())
}

#[tokio::test]
async fn certificate_of_the_kubeconfig_that_was_renewed_is_used_without_a_restart() -> Outcome<()> {
    let node =
        Node::start(|seen| script(seen, |_| list("5", &[]), |_| Reply::Lines(Vec::new(), Then::Silence))).await?;
    let other = Fake::start("127.0.0.1", &["127.0.0.1"], |_| Reply::Silence).await?;
    let right = std::fs::read(node.folder.path().join("admin.conf"))?;
    std::fs::write(node.folder.path().join("admin.conf"), other.kubeconfig(""))?;
    assert!(node.api.connect()?.list_service_accounts(|_| ()).await.is_err());
    std::fs::write(node.folder.path().join("admin.conf"), right)?;
    node.follow_until(|node| node.queries().len() >= 2).await?;
    Ok(())
}

/// As little as there can be.
pub(in crate::daemon::webhook) fn settings() -> PodIdentity {
    PodIdentity {
        annotation_prefix: PREFIX.to_owned(),
        audience: String::new(),
        mount_path: String::new(),
        token_expiration_seconds: 600,
        default_region: None,
        regional_sts: false,
        composition: None,
        container_credentials: ContainerCredentialsToken {
            audience: String::new(),
            mount_path: String::new(),
            volume_name: String::new(),
            token_path: String::new(),
            full_uri: String::new(),
        },
    }
}

fn reviewer() -> Arc<Reviewer> {
    let accounts = Accounts::new(Box::new(|_, _| Box::pin(std::future::pending())));
    let mutation = Mutation {
        settings: settings(),
        grace: LIMIT,
        fallback: RoleMap::default(),
        credentials: ContainerCredentials::default(),
    };
    Reviewer::new(accounts, mutation)
}

#[tokio::test]
async fn config_map_and_container_credentials_follow_their_sources_and_junk_changes_nothing() -> Outcome<()> {
    let map = |text: &str| json!({"metadata": {"name": "m", "resourceVersion": "5"}, "data": {"config": text}});
    let good = r#"{"ns/app": {"RoleARN": "arn:aws:iam::111122223333:role/app"}}"#;
    let node = Node::start(move |seen| match seen.query.contains("watch=1") {
        _ if !seen.query.contains("fieldSelector=metadata.name%3Dpod-identity-webhook") => {
            Reply::Text(404, String::new())
        }
        false => list("5", &[map(good)]),
        true => Reply::Lines(vec![told("MODIFIED", &map(r#"{"no slash": null}"#))], Then::Silence),
    })
    .await?;
    let reviewer = reviewer();
    let (opened, wait) = tokio::sync::oneshot::channel::<()>();
    let opened = Mutex::new(Some(opened));
    let tell = |_| drop(opened.lock().unwrap_or_else(PoisonError::into_inner).take());
    tokio::select! {
        () = role_map(&node.api, "kube-system", &reviewer, tell) => {}
        _ = wait => {}
    }
    assert!(!reviewer.mutation().fallback.is_empty());

    let path = Path::new("/credentials.json");
    let file = node.folder.path().join("credentials.json");
    std::fs::write(&file, r#"{"identities":[{"namespace":"ns","serviceAccount":"app"}]}"#)?;
    let root = Root::new(node.folder.path())?;
    let told = Mutex::new(Vec::new());
    let tell = |outcome: Result<(), String>| told.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
    let told_once = |count| {
        let told = &told;
        async move {
            while told.lock().unwrap_or_else(PoisonError::into_inner).len() < count {
                sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let script = async {
        told_once(1).await;
        assert!(reviewer.mutation().credentials.lists("ns", "app"));
        std::fs::write(&file, "junk")?;
        told_once(2).await;
        assert!(reviewer.mutation().credentials.lists("ns", "app"));
        std::fs::remove_file(&file)?;
        told_once(3).await;
        assert!(!reviewer.mutation().credentials.lists("ns", "app"));
        Outcome::Ok(())
    };
    tokio::select! {
        () = credentials(&root, path, &reviewer, tell) => {}
        outcome = script => outcome?,
    }
    let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(matches!(&told[1], Err(why) if why.starts_with("/credentials.json: the list")), "{told:?}");
    Ok(())
}
