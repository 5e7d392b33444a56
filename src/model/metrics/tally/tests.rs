use serde_json::json;

use super::*;
use crate::model::{
    cluster_object::{Kind, OWNER, OWNER_LABEL, ObjectPlace, StoredObject},
    file::{Digest, ExpectedFile},
    memory::{RefusedChange, Version1},
    plan::{ApiServer, BucketFacts, ClusterFacts, NodeFacts, ProviderFacts, Shared, StoredDocument, WebhookFacts},
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const DISCOVERY: &[u8] = b"{\"issuer\":\"https://oidc.example.com\"}";
const JWKS: &[u8] = b"{\"keys\":[]}";

fn facts() -> Facts {
    let document = |body: &[u8]| Probe::Present(StoredDocument { body: body.to_vec(), version: "1".to_owned() });
    let registered = json!({ "metadata": { "labels": { OWNER_LABEL: OWNER } } });
    Facts {
        node: node(),
        cluster: ClusterFacts {
            bucket: Some(Probe::Present(BucketFacts { public_access_block: Probe::Absent, policy: Probe::Absent })),
            stored_discovery: document(DISCOVERY),
            stored_jwks: document(JWKS),
            public_discovery: None,
            public_jwks: None,
            provider: Some(Probe::Present(ProviderFacts { audiences: Vec::new(), is_ours: true })),
        },
        shared: Shared::Nothing,
        webhook: WebhookFacts { built_in: Probe::Present(StoredObject::new(registered)), ..WebhookFacts::unasked() },
        pods: None,
        trust_policy: None,
        teardown: None,
    }
}

fn node() -> NodeFacts {
    NodeFacts {
        manifest: Probe::Absent,
        signing_key: Probe::Absent,
        standby_key: Probe::Absent,
        torn_down: Probe::Absent,
        verifying_keys: Probe::Absent,
        signing_file: None,
        verifying_file: None,
        manifest_modified: None,
        never_started: false,
        published_keys: Probe::Absent,
        api_server: ApiServer::Silent("it restarts".to_owned()),
        api_servers: Probe::Absent,
        kubeadm_config: Probe::Absent,
        kubeadm_runs: false,
        change: Probe::Absent,
        change_is_of_this_boot: false,
        change_watched_for: Duration::ZERO,
        refused: Probe::Absent,
        proven: Probe::Absent,
        remarks: Vec::new(),
        last_good_manifest: Probe::Absent,
    }
}

fn publish(body: &[u8]) -> Action {
    Action::Publish { key: "a".to_owned(), url: "b".to_owned(), body: body.to_vec(), replaces: None }
}

fn apply(content: &str, replaces: Option<&str>) -> Action {
    let place = ObjectPlace::of_cluster(Kind::MutatingWebhookConfiguration, "irsad");
    let object = Box::new(ClusterObject::new(place, json!({ "content": content })));
    Action::ApplyObject { object, replaces: replaces.map(str::to_owned), what: "apply it".to_owned() }
}

fn create_bucket() -> Result<Action, Box<dyn std::error::Error>> {
    Ok(Action::CreateBucket { bucket: "prod-1-oidc".parse()?, region: "eu-west-1".parse()?, tag: None })
}

fn replace_manifest() -> Action {
    Action::ReplaceManifest {
        path: "/etc/kubernetes/manifests/kube-apiserver.yaml".into(),
        text: "new".to_owned(),
        old_text: "old".to_owned(),
        expected: ExpectedFile::Unchanged(Digest::of(b"old")),
    }
}

fn refuse_change() -> Action {
    let (applied, reason) = ("1-abc".to_owned(), "no proof".to_owned());
    Action::RefuseChange(RefusedChange { version: Version1, applied, rolled_back_at: Timestamp::UNIX_EPOCH, reason })
}

/// A pass that does all of `actions`.
fn pass(tally: &mut Tally, facts: &Facts, published: PublishedState, actions: Vec<Action>) {
    let plan = Plan { actions, published, ..Plan::default() };
    tally.begin(facts, &plan);
    plan.actions.iter().for_each(|action| tally.done(action));
    tally.end(true, Timestamp::UNIX_EPOCH, Duration::ZERO);
}

/// Of the family `name`, what is not zero.
fn counted(tally: &Tally, name: &str) -> Vec<String> {
    let family = tally.families().into_iter().find(|family| family.name == name);
    let samples = family.into_iter().flat_map(|family| family.samples).filter(|sample| sample.value > 0.0);
    let labels = |sample: &Sample| sample.labels.iter().map(|(_, value)| value.clone()).collect::<String>();
    samples.map(|sample| format!("{} {}", labels(&sample), sample.value).trim_start().to_owned()).collect()
}

#[test]
fn writing_again_what_had_stood_is_a_heal_and_writing_what_is_new_is_none() -> Outcome {
    let absent = || {
        let mut facts = facts();
        (facts.cluster.stored_jwks, facts.cluster.stored_discovery) = (Probe::Absent, Probe::Absent);
        (facts.cluster.bucket, facts.cluster.provider) = (Some(Probe::Absent), Some(Probe::Absent));
        facts.webhook.built_in = Probe::Absent;
        facts
    };
    let provider = || -> Result<Action, Box<dyn std::error::Error>> {
        Ok(Action::AddProviderAudience { audience: "sts.amazonaws.com".parse()? })
    };
    let all = || -> Result<Vec<Action>, Box<dyn std::error::Error>> {
        Ok(vec![create_bucket()?, publish(JWKS), publish(DISCOVERY), provider()?, apply("a", None)])
    };
    let mut tally = Tally::default();
    pass(&mut tally, &absent(), PublishedState::NotYet, all()?);
    assert_eq!(counted(&tally, "irsad_heals"), [""; 0], "the first installation");
    pass(&mut tally, &facts(), PublishedState::Seen, Vec::new());
    pass(&mut tally, &facts(), PublishedState::Seen, vec![publish(b"{\"keys\":[{}]}"), apply("b", Some("uid"))]);
    assert_eq!(counted(&tally, "irsad_heals"), [""; 0], "the next key and the next certificate");
    pass(&mut tally, &absent(), PublishedState::NotYet, all()?);
    assert_eq!(counted(&tally, "irsad_heals"), ["bucket 1", "document 2", "object 1", "provider 1"]);
    pass(&mut tally, &facts(), PublishedState::Seen, vec![apply("a", Some("uid"))]);
    assert_eq!(counted(&tally, "irsad_heals"), ["bucket 1", "document 2", "object 2", "provider 1"]);
    tally.settings_changed();
    pass(&mut tally, &absent(), PublishedState::NotYet, all()?);
    assert_eq!(counted(&tally, "irsad_heals"), ["bucket 1", "document 2", "object 2", "provider 1"]);
    Ok(())
}

#[test]
fn restart_is_one_of_a_server_that_runs_and_a_rollback_is_one_more() {
    let mut tally = Tally::default();
    let nothing_runs = Facts { node: NodeFacts { api_server: ApiServer::None, ..node() }, ..facts() };
    pass(&mut tally, &nothing_runs, PublishedState::Seen, vec![replace_manifest()]);
    assert_eq!(counted(&tally, "irsad_apiserver_restarts"), [""; 0]);
    pass(&mut tally, &facts(), PublishedState::Seen, vec![replace_manifest()]);
    assert_eq!(
        (counted(&tally, "irsad_apiserver_restarts"), counted(&tally, "irsad_rollbacks")),
        (vec!["1".to_owned()], vec![])
    );
    pass(&mut tally, &facts(), PublishedState::Seen, vec![refuse_change(), replace_manifest()]);
    pass(&mut tally, &facts(), PublishedState::Seen, vec![replace_manifest()]);
    assert_eq!(counted(&tally, "irsad_apiserver_restarts"), ["3"]);
    assert_eq!(counted(&tally, "irsad_rollbacks"), ["1"]);
}

#[test]
fn pass_counts_once_by_its_end_and_each_action_by_its_own() {
    let mut tally = Tally::default();
    pass(&mut tally, &facts(), PublishedState::Seen, vec![publish(JWKS), publish(DISCOVERY)]);
    tally.begin(&facts(), &Plan::default());
    tally.failed(&publish(JWKS));
    tally.end(false, Timestamp::UNIX_EPOCH, Duration::from_millis(1500));
    assert_eq!(counted(&tally, "irsad_passes"), ["ok 1", "failed 1"]);
    assert_eq!(counted(&tally, "irsad_actions"), ["publish 2"]);
    assert_eq!(counted(&tally, "irsad_action_failures"), ["publish 1"]);
    assert_eq!(counted(&tally, "irsad_last_pass_duration_seconds"), ["1.5"]);
}
