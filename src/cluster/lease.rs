//! The Lease `irsad` of kube-system: asked for, made, renewed and given back as [`Election`] says.
//!
//! It decides nothing and reads no clock: the caller brings the moments, and a wall clock for what people read in the Lease.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    ANSWER_LIMIT, ApiServer,
    request::{Answer, NoAnswer},
};
use crate::model::election::{Election, Identity, Opening, RENEW_DEADLINE, RETRY_PERIOD, Record, Write};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
/// `kubectl -n kube-system get lease irsad`.
const NAME: &str = "irsad";
const A_LEASE: &str = "a Lease";
/// Changes when a node has written something that the others are to look at: every candidate reads the Lease anyway.
const NEWS: &str = "irsad/news";

// A leader whose renewal fails in the slowest way still has time for a second one: two questions, a wait, two questions.
const _: () = assert!(3 * ANSWER_LIMIT.as_secs() + RETRY_PERIOD.as_secs() < RENEW_DEADLINE.as_secs());

/// This process as one that may lead.
///
/// `clock` gives the time since any start of the caller's choice. It must never go back; one that goes on while the machine
/// sleeps (`CLOCK_BOOTTIME`) keeps a node that was suspended from believing that it still leads.
#[derive(Debug)]
pub struct Candidate<C> {
    clock: C,
    election: Election,
    /// The Lease as last answered, so that what others wrote into its metadata stays.
    lease: Map<String, Value>,
}

impl<C: Fn() -> Duration> Candidate<C> {
    /// A candidate that does not lead. Nothing is asked yet.
    pub fn new(identity: Identity, clock: C) -> Self {
        Self { clock, election: Election::new(identity), lease: Map::new() }
    }

    /// One attempt to get or keep the Lease, for every [`RETRY_PERIOD`]; at most three questions.
    ///
    /// # Errors
    /// The API server did not answer. A leader then still leads until [`Candidate::leads_until`].
    pub async fn take_turn(&mut self, api: &ApiServer, wall: Timestamp) -> Result<(), NoAnswer> {
        if let Opening::Renew(write) = self.election.open(wall)
            && self.write(api, write).await?
        {
            return Ok(());
        }
        match self.look(api, wall).await? {
            Some(write) => self.write(api, write).await.map(drop),
            None => Ok(()),
        }
    }

    /// Whether this process leads at this moment. Ask before each action: it ends by itself.
    pub fn leads(&self) -> bool {
        self.leads_until().is_some_and(|until| (self.clock)() < until)
    }

    /// The moment until which it leads, on its clock, for a task that has no access to the candidate.
    pub fn leads_until(&self) -> Option<Duration> {
        self.election.leads_until()
    }

    /// `holderIdentity` of the Lease as it was last seen.
    pub fn holder(&self) -> Option<&str> {
        self.election.holder()
    }

    /// The last news in the Lease, as [`Candidate::tell`] wrote them.
    pub fn news(&self) -> Option<&str> {
        self.lease.get("metadata")?.get("annotations")?.get(NEWS)?.as_str()
    }

    /// Writes `news`, a text that was never there before, into the Lease as it was last answered. Says whether that was done: where
    /// somebody else was faster, the next turn sees the Lease anew.
    ///
    /// # Errors
    /// The API server did not answer: nobody knows whether it was written.
    pub async fn tell(&mut self, api: &ApiServer, news: &str) -> Result<bool, NoAnswer> {
        let mut lease = json!(self.lease);
        lease["metadata"]["annotations"][NEWS] = json!(news);
        match api.put(&path(), &lease).await.and_then(Answer::success) {
            Ok(answer) => self.keep(&answer).map(|_| true),
            Err(NoAnswer::Conflict { .. } | NoAnswer::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the Lease back, so that another node takes it at its next turn. To be called when everything that a leader does
    /// has ended.
    ///
    /// # Errors
    /// The API server did not answer: the others wait until the Lease has expired.
    pub async fn resign(mut self, api: &ApiServer, wall: Timestamp) -> Result<(), NoAnswer> {
        if self.election.open(wall) == Opening::Look && self.holder().is_some() {
            // What became of the last write is not known.
            self.look(api, wall).await?;
        }
        match self.election.resign(wall) {
            Some(write) => self.send(api, &write).await.map(drop),
            None => Ok(()),
        }
    }

    async fn look(&mut self, api: &ApiServer, wall: Timestamp) -> Result<Option<Write>, NoAnswer> {
        let found = match api.get(&path()).await.and_then(Answer::success) {
            Ok(answer) => Some(self.keep(&answer)?),
            Err(NoAnswer::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(self.election.look(found, (self.clock)(), wall))
    }

    /// Whether it was written; false where somebody else was faster.
    async fn write(&mut self, api: &ApiServer, write: Write) -> Result<bool, NoAnswer> {
        let began = (self.clock)();
        let sent = self.send(api, &write).await;
        match sent {
            Ok(true) => self.election.written(write, began),
            Ok(false) | Err(_) => self.election.not_written(),
        }
        sent
    }

    async fn send(&mut self, api: &ApiServer, write: &Write) -> Result<bool, NoAnswer> {
        let answer = match write {
            Write::Create(record) => api.post(LEASES, &new(record)).await,
            Write::Replace(record) => {
                self.lease.insert("spec".to_owned(), json!(record));
                api.put(&path(), &json!(self.lease)).await
            }
        };
        match answer.and_then(Answer::success) {
            Ok(answer) => self.keep(&answer).map(|_| true),
            Err(NoAnswer::Conflict { .. } | NoAnswer::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self, answer: &Answer) -> Result<Record, NoAnswer> {
        #[derive(Deserialize)]
        struct Lease {
            #[serde(default)]
            spec: Record,
        }
        let Lease { spec } = answer.json(A_LEASE)?;
        self.lease = answer.json(A_LEASE)?;
        Ok(spec)
    }
}

/// Node of the process that holds the Lease, as it stands there; `None` where nobody does or it could not be asked.
pub async fn holder(api: &ApiServer) -> Option<String> {
    #[derive(Deserialize)]
    struct Lease {
        #[serde(default)]
        spec: Record,
    }
    let lease: Lease = api.get(&path()).await.and_then(Answer::success).ok()?.json(A_LEASE).ok()?;
    node_of(lease.spec.holder_identity.as_deref()?)
}

/// The node in an identity `<node>_<process>`.
pub fn node_of(identity: &str) -> Option<String> {
    identity.rsplit_once('_').map(|(node, _)| node.to_owned()).filter(|node| !node.is_empty())
}

fn path() -> String {
    format!("{LEASES}/{NAME}")
}

fn new(record: &Record) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": NAME }, "spec": record })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::{
        super::fake::{Fake, Outcome, Reply, Seen},
        *,
    };

    const OURS: &str = r#"{"metadata":{"name":"irsad","resourceVersion":"7","labels":{"team":"x"}},"spec":{"holderIdentity":"node-1_a","leaseTransitions":2}}"#;

    async fn asked_by_script(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Outcome<(Fake, ApiServer)> {
        let fake = Fake::start("127.0.0.1", &["127.0.0.1"], script).await?;
        let api = ApiServer::connect(fake.kubeconfig("").as_bytes(), "127.0.0.1", fake.server.port())?;
        Ok((fake, api))
    }

    /// A candidate and its clock.
    fn candidate() -> (Candidate<impl Fn() -> Duration>, Rc<Cell<u64>>) {
        let now = Rc::new(Cell::new(1000));
        let clock = Rc::clone(&now);
        (Candidate::new(Identity::new("node-1", "a"), move || Duration::from_secs(clock.get())), now)
    }

    fn text(status: u16, body: &str) -> Reply {
        Reply::Text(status, body.to_owned())
    }

    /// Method, and the resourceVersion in the body.
    fn asked(fake: &Fake) -> Vec<String> {
        let version = |body: &str| {
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            body["metadata"]["resourceVersion"].as_str().map(|version| format!(" {version}")).unwrap_or_default()
        };
        fake.seen().iter().map(|seen| format!("{}{}", seen.method, version(&seen.body))).collect()
    }

    #[tokio::test]
    async fn leader_whose_lease_was_relabelled_looks_and_renews_in_the_same_turn() -> Outcome<()> {
        let (fake, api) = asked_by_script(|seen| match (seen.method.as_str(), seen.earlier) {
            ("GET", 0) => text(404, "{}"),
            ("POST", _) => text(201, &OURS.replace('7', "6")),
            ("PUT", 1) => text(409, "{}"),
            _ => text(200, OURS),
        })
        .await?;
        let (mut candidate, now) = candidate();
        candidate.take_turn(&api, Timestamp::UNIX_EPOCH).await?;
        assert!(candidate.leads());
        now.set(1035);
        candidate.take_turn(&api, Timestamp::UNIX_EPOCH).await?;
        assert_eq!(candidate.leads_until(), Some(Duration::from_secs(1075)));
        assert_eq!(asked(&fake), ["GET", "POST", "PUT 6", "GET", "PUT 7"]);
        let sent: Value = serde_json::from_str(&fake.seen().pop().ok_or("a request")?.body)?;
        assert_eq!(sent["metadata"]["labels"]["team"], "x", "the metadata of others stays");
        assert_eq!(sent["spec"]["leaseTransitions"], 2);
        Ok(())
    }

    #[tokio::test]
    async fn news_are_told_in_the_lease_as_it_was_seen_and_change_nothing_else() -> Outcome<()> {
        let (fake, api) = asked_by_script(|seen| match (seen.method.as_str(), seen.earlier) {
            ("GET", 0) => text(200, &OURS.replace("node-1_a", "node-2_b")),
            ("PUT", 1) => text(409, "{}"),
            ("PUT", _) => text(200, &seen.body),
            _ => text(500, "{}"),
        })
        .await?;
        let (mut candidate, _) = candidate();
        candidate.take_turn(&api, Timestamp::UNIX_EPOCH).await?;
        assert_eq!(candidate.news(), None);
        assert!(!candidate.tell(&api, "node-1_a 1").await?, "somebody else was faster");
        assert!(candidate.tell(&api, "node-1_a 2").await?);
        assert_eq!((candidate.news(), candidate.leads()), (Some("node-1_a 2"), false));
        let sent: Value = serde_json::from_str(&fake.seen().pop().ok_or("a request")?.body)?;
        let mut expected: Value = serde_json::from_str(&OURS.replace("node-1_a", "node-2_b"))?;
        expected["metadata"]["annotations"] = json!({ "irsad/news": "node-1_a 2" });
        assert_eq!(sent, expected);
        Ok(())
    }

    #[tokio::test]
    async fn leader_that_gets_no_answer_leads_until_its_deadline_and_no_longer() -> Outcome<()> {
        let (fake, api) = asked_by_script(|seen| match seen.method.as_str() {
            "GET" if seen.earlier == 0 => text(200, OURS),
            "PUT" if seen.earlier == 1 => text(200, OURS),
            _ => text(503, r#"{"message":"no"}"#),
        })
        .await?;
        let (mut candidate, now) = candidate();
        candidate.take_turn(&api, Timestamp::UNIX_EPOCH).await?;
        for (moment, leads) in [(1039, true), (1040, false), (5000, false)] {
            now.set(moment);
            let error = candidate.take_turn(&api, Timestamp::UNIX_EPOCH).await.map_err(|error| error.reason());
            let expected = format!(
                "https://{}{LEASES}/irsad answered 503: kube-apiserver is starting, stopping or overloaded; it is asked again: no",
                fake.server
            );
            assert_eq!((candidate.leads(), error), (leads, Err(expected)), "{moment}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn answer_that_is_no_lease_makes_no_leader() -> Outcome<()> {
        for body in ["[]", "[{}]", "null", r#"{"spec":{"holderIdentity":7}}"#] {
            let (_fake, api) = asked_by_script(move |_| text(200, body)).await?;
            let (mut candidate, _) = candidate();
            let turn = candidate.take_turn(&api, Timestamp::UNIX_EPOCH).await;
            assert!(matches!(turn, Err(NoAnswer::Garbled { .. })) && !candidate.leads(), "{body}: {turn:?}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn resigning_asks_nothing_of_a_follower_that_knows_nothing() -> Outcome<()> {
        let (fake, api) = asked_by_script(|_| text(200, OURS)).await?;
        candidate().0.resign(&api, Timestamp::UNIX_EPOCH).await?;
        assert_eq!(asked(&fake), [""; 0]);
        Ok(())
    }
}
