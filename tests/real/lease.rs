//! Two candidates and more for the Lease of a live kube-apiserver. Their clocks are set by the test.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use irsad::{
    cluster::{ApiServer, lease::Candidate},
    model::election::Identity,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::kubernetes::{Node, PROGRAMS, Result, programs};

/// A cluster, and the seconds that have gone by for everyone in it.
struct Bench {
    node: Node,
    api: ApiServer,
    seconds: Arc<AtomicU64>,
}

type Anyone = Candidate<Box<dyn Fn() -> Duration>>;

impl Bench {
    /// A candidate whose clock started `offset` seconds earlier than everyone's.
    fn candidate(&self, node: &str, offset: u64) -> Anyone {
        let seconds = Arc::clone(&self.seconds);
        let clock = move || Duration::from_secs(offset + seconds.load(Ordering::Relaxed));
        Candidate::new(Identity::new(node, "1"), Box::new(clock))
    }

    async fn turn(&self, candidate: &mut Anyone) -> Result<bool> {
        candidate.take_turn(&self.api, self.wall()?).await?;
        Ok(candidate.leads())
    }

    fn wall(&self) -> Result<Timestamp> {
        let second = 1_795_000_000 + i64::try_from(self.seconds.load(Ordering::Relaxed))?;
        Ok(Timestamp::from_second(second)?)
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.node.kubectl(&[&["-n", "kube-system"], arguments].concat()).await
    }

    /// Holder, transitions and renewTime.
    async fn lease(&self) -> Result<(String, u64, String)> {
        let lease: Value = serde_json::from_str(&self.kubectl(&["get", "lease", "irsad", "-o", "json"]).await?)?;
        let text = |field: &str| lease["spec"][field].as_str().unwrap_or_default().to_owned();
        Ok((text("holderIdentity"), lease["spec"]["leaseTransitions"].as_u64().unwrap_or_default(), text("renewTime")))
    }
}

#[tokio::test]
async fn lease_of_a_live_cluster_is_held_by_one_and_handed_over() -> Result<()> {
    if programs().is_none() {
        crate::missing("kube-apiserver", &format!("{PROGRAMS} is not set"));
        return Ok(());
    }
    let node = Node::start().await?;
    let server: SocketAddr = node.url().trim_start_matches("https://").parse()?;
    let api = ApiServer::connect(&fs::read(node.kubeconfig())?, &server.ip().to_string(), server.port())?;
    let bench = Bench { node, api, seconds: Arc::default() };
    let (mut one, mut two) = (bench.candidate("node-1", 0), bench.candidate("node-2", 1_000_000));

    assert!(bench.turn(&mut one).await? && !bench.turn(&mut two).await?);
    assert_eq!(bench.lease().await?, ("node-1_1".to_owned(), 0, "2026-11-18T11:06:40.000000Z".to_owned()));
    assert_eq!((one.holder(), two.holder()), (Some("node-1_1"), Some("node-1_1")));

    renews_beside_others(&bench, &mut one, &mut two).await?;
    hands_over_when_the_holder_stops(&bench, &mut one, &mut two).await?;

    // Released, it is taken at the next turn.
    two.resign(&bench.api, bench.wall()?).await?;
    assert_eq!(bench.lease().await?.0, "");
    assert!(bench.turn(&mut one).await?);
    assert_eq!((bench.lease().await?.0, bench.lease().await?.1), ("node-1_1".to_owned(), 2));

    bench.kubectl(&["delete", "lease", "irsad"]).await?;
    assert!(bench.turn(&mut one).await?, "made again in one turn");
    one.resign(&bench.api, bench.wall()?).await?;
    one_of_many_takes_it(&bench).await
}

/// What others write into its metadata costs nobody the Lease, and stays.
async fn renews_beside_others(bench: &Bench, one: &mut Anyone, two: &mut Anyone) -> Result<()> {
    bench.kubectl(&["label", "lease", "irsad", "team=platform"]).await?;
    for _ in 0..3 {
        bench.pass(39);
        assert!(bench.turn(one).await? && !bench.turn(two).await?);
    }
    let label = bench.kubectl(&["get", "lease", "irsad", "-o", "jsonpath={.metadata.labels.team}"]).await?;
    assert_eq!(label, "platform");
    assert_eq!(bench.lease().await?, ("node-1_1".to_owned(), 0, "2026-11-18T11:08:37.000000Z".to_owned()));
    Ok(())
}

async fn hands_over_when_the_holder_stops(bench: &Bench, one: &mut Anyone, two: &mut Anyone) -> Result<()> {
    bench.pass(40);
    assert!(!one.leads(), "its deadline has passed");
    bench.pass(19);
    assert!(!bench.turn(two).await?, "59 s after it was seen to change");
    bench.pass(1);
    assert!(bench.turn(two).await?);
    assert_eq!((bench.lease().await?.0, bench.lease().await?.1), ("node-2_1".to_owned(), 1));
    assert!(!bench.turn(one).await?);
    assert_eq!(one.holder(), Some("node-2_1"));
    Ok(())
}

async fn one_of_many_takes_it(bench: &Bench) -> Result<()> {
    for _ in 0..3 {
        let mut candidates: Vec<Anyone> = (0..8).map(|n| bench.candidate(&format!("node-{n}"), n * 1000)).collect();
        let turns = join_all(candidates.iter_mut().map(|candidate| bench.turn(candidate))).await;
        let leads = turns.into_iter().collect::<Result<Vec<bool>>>()?;
        assert_eq!(leads.iter().filter(|leads| **leads).count(), 1, "{leads:?}");
        let leader = candidates.into_iter().find(Candidate::leads).ok_or("a leader")?;
        leader.resign(&bench.api, bench.wall()?).await?;
    }
    Ok(())
}
