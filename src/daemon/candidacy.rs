//! This process as a candidate for the Lease, in a task of its own: a pass that waits for AWS does not lose the lead. The Lease also
//! tells when another node has news, so that nobody waits for the next look to come due.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::watch as flag,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::Irsad;
use crate::{
    cluster::{
        ApiServer,
        lease::{Candidate, node_of},
    },
    host::machine::since_boot,
    model::{
        election::{Identity, RETRY_PERIOD},
        plan::{ApiServer as Seen, Facts, Shared},
        probe::Probe,
    },
    world::Leadership,
};

/// Longest wait for the first turn, and for the Lease to be given back.
const LIMIT: Duration = Duration::from_secs(10);

/// What the candidate last knew.
#[derive(Debug, Clone, Default)]
struct Standing {
    leads_until: Option<Duration>,
    leader: Option<String>,
    /// What the Lease last told to look at.
    news: Option<String>,
    turns: u64,
}

impl Standing {
    fn leads(&self) -> bool {
        self.leads_until.is_some_and(|until| since_boot() < until)
    }
}

/// The running candidate.
#[derive(Debug)]
pub(super) struct Candidacy {
    identity: Identity,
    api: flag::Sender<Option<ApiServer>>,
    /// How often this process had news.
    told: flag::Sender<u64>,
    standing: flag::Receiver<Standing>,
    /// The news that have been looked at.
    heard: Option<String>,
    /// Whether it was known to lead.
    led: bool,
    task: JoinHandle<()>,
}

/// Whether this process leads, for tasks beside the loop.
#[derive(Debug, Clone)]
pub(super) struct Lead {
    standing: flag::Receiver<Standing>,
}

impl Lead {
    /// At this moment.
    pub fn leads(&self) -> bool {
        self.standing.borrow().leads()
    }
}

impl Candidacy {
    /// Stands as a process of `node`.
    pub fn begin(node: &str, api: ApiServer) -> Self {
        let process = format!("{}-{:x}", std::process::id(), Timestamp::now().as_nanosecond());
        let identity = Identity::new(node, &process);
        let candidate = Candidate::new(identity.clone(), since_boot as fn() -> Duration);
        let (api, apis) = flag::channel(Some(api));
        let (told, tells) = flag::channel(0);
        let (standings, standing) = flag::channel(Standing::default());
        let task = tokio::spawn(stand(candidate, identity.clone(), apis, tells, standings));
        Self { identity, api, told, standing, heard: None, led: false, task }
    }

    /// Asks through this client from now on.
    pub fn ask_through(&self, api: ApiServer) {
        self.api.send_replace(Some(api));
    }

    /// Waits until the Lease was asked for once.
    pub async fn first_turn(&mut self) {
        // Without an answer this process follows: nothing is lost.
        let _ = timeout(LIMIT, self.standing.wait_for(|standing| standing.turns > 0)).await;
        self.heard.clone_from(&self.standing.borrow().news);
        self.led = self.standing.borrow().leads();
    }

    /// Tells the other nodes that there is something new to look at.
    pub fn tell(&self) {
        self.told.send_modify(|times| *times += 1);
    }

    /// Waits until another process has told so, or until this one has taken the lead over: what the one before it left lying waits.
    pub async fn news(&mut self) {
        let own = self.identity.to_string();
        let Self { heard, led, standing, .. } = self;
        let mut begins = false;
        let is_new = |standing: &Standing| {
            begins = standing.leads() && !*led;
            *led = standing.leads();
            let is_told = standing.news.as_ref().is_some_and(|news| !news.starts_with(&own));
            begins || (standing.news != *heard && is_told)
        };
        match standing.wait_for(is_new).await.map(|standing| standing.news.clone()) {
            Ok(news) => *heard = news,
            // The candidate is gone, and with it everybody who could tell.
            Err(_) => std::future::pending().await,
        }
        if begins {
            say_that_it_leads(&node_of(&own).unwrap_or(own));
        }
    }

    /// Who leads at this moment.
    pub fn leadership(&self) -> Leadership {
        let standing = self.standing.borrow().clone();
        Leadership { leads: standing.leads(), leader: standing.leader.as_deref().and_then(node_of) }
    }

    /// Tells at any moment whether this process leads.
    pub fn lead(&self) -> Lead {
        Lead { standing: self.standing.clone() }
    }

    /// Gives the Lease back.
    pub async fn end(self) {
        self.api.send_replace(None);
        if timeout(LIMIT, self.task).await.is_err() {
            tracing::warn!("the Lease irsad was not given back: another node leads when it has expired");
        }
    }
}

impl Irsad {
    /// Stands for the lead once the cluster can be asked who leads.
    pub(super) async fn stand(&mut self, facts: &Facts) {
        self.begins_to_lead = false;
        let (Shared::Seen(shared), Seen::Seen(_)) = (&facts.shared, &facts.node.api_server) else { return };
        if facts.node.torn_down.present().is_some() && shared.keyring == Probe::Absent {
            // There is nothing left to lead.
            self.world.leadership = Leadership::default();
            return self.stand_down().await;
        }
        let Some(api) = self.world.asked_api_server() else { return };
        if let Some(candidacy) = &self.candidacy {
            return candidacy.ask_through(api);
        }
        // Only a full look knows the name of the node.
        if shared.control_plane.unknown().is_some() {
            return;
        }
        let mut candidacy = Candidacy::begin(&shared.node, api);
        candidacy.first_turn().await;
        self.begins_to_lead = candidacy.leadership().leads;
        if self.begins_to_lead {
            say_that_it_leads(&shared.node);
        }
        self.candidacy = Some(candidacy);
    }

    /// Gives the lead to another node.
    pub(super) async fn stand_down(&mut self) {
        if let Some(candidacy) = self.candidacy.take() {
            candidacy.end().await;
        }
    }
}

fn say_that_it_leads(node: &str) {
    tracing::info!(node, "leads: publishes the documents and keeps the keyring");
}

async fn stand(
    mut candidate: Candidate<fn() -> Duration>,
    identity: Identity,
    mut apis: flag::Receiver<Option<ApiServer>>,
    mut tells: flag::Receiver<u64>,
    standings: flag::Sender<Standing>,
) {
    let mut told = 0;
    let (mut last, mut said) = (None, String::new());
    loop {
        let Some(api) = apis.borrow_and_update().clone() else { break };
        if let Err(error) = candidate.take_turn(&api, Timestamp::now()).await {
            let error = error.to_string();
            // An API server that restarts is no news.
            match candidate.leads() || error == said {
                true => tracing::debug!("the Lease irsad: {error}"),
                false => tracing::warn!("the Lease irsad, without which this node does not lead: {error}"),
            }
            said = error;
        }
        let times = *tells.borrow_and_update();
        // Where it does not get through, the next turn tells it.
        if times > told && matches!(candidate.tell(&api, &format!("{identity} {times}")).await, Ok(true)) {
            told = times;
        }
        last = Some(api);
        standings.send_modify(|standing| {
            standing.leads_until = candidate.leads_until();
            standing.leader = candidate.holder().map(str::to_owned);
            standing.news = candidate.news().map(str::to_owned);
            standing.turns += 1;
        });
        tokio::select! {
            () = sleep(RETRY_PERIOD) => {}
            Ok(()) = tells.changed() => {}
            changed = apis.wait_for(Option::is_none) => {
                let _ = changed;
                break;
            }
        }
    }
    if let Some(api) = last
        && let Err(error) = candidate.resign(&api, Timestamp::now()).await
    {
        tracing::warn!("the Lease irsad was not given back, another node leads when it has expired: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[tokio::test]
    async fn lead_that_was_taken_over_and_news_of_others_are_told_once() {
        let (standings, standing) = flag::channel(Standing::default());
        let mut candidacy = Candidacy {
            identity: Identity::new("n1", "1"),
            api: flag::channel(None).0,
            told: flag::channel(0).0,
            standing,
            heard: None,
            led: false,
            task: tokio::spawn(std::future::pending()),
        };
        let task = candidacy.task.abort_handle();
        let mut is_told = |leads: bool, news: &str| {
            let leads_until = leads.then_some(Duration::MAX);
            standings.send_replace(Standing { leads_until, news: Some(news.to_owned()), ..Standing::default() });
            pin!(candidacy.news()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        assert!(!is_told(false, "n1_1 1"), "what this process told itself");
        assert!(is_told(false, "n2_1 1"));
        assert!(!is_told(false, "n2_1 1"));
        assert!(is_told(true, "n2_1 1"), "it leads");
        assert!(!is_told(true, "n2_1 1"));
        assert!(!is_told(false, "n2_1 1"), "another one leads");
        assert!(is_told(true, "n2_1 1"), "it leads again");
        task.abort();
    }
}
