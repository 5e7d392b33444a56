//! This process as a candidate for the Lease, in a task of its own: a pass that waits for AWS does not lose the lead.

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
    turns: u64,
}

/// The running candidate.
#[derive(Debug)]
pub(super) struct Candidacy {
    api: flag::Sender<Option<ApiServer>>,
    standing: flag::Receiver<Standing>,
    task: JoinHandle<()>,
}

impl Candidacy {
    /// Stands as a process of `node`.
    pub fn begin(node: &str, api: ApiServer) -> Self {
        let process = format!("{}-{:x}", std::process::id(), Timestamp::now().as_nanosecond());
        let candidate = Candidate::new(Identity::new(node, &process), since_boot as fn() -> Duration);
        let (api, apis) = flag::channel(Some(api));
        let (standings, standing) = flag::channel(Standing::default());
        let task = tokio::spawn(stand(candidate, apis, standings));
        Self { api, standing, task }
    }

    /// Asks through this client from now on.
    pub fn ask_through(&self, api: ApiServer) {
        self.api.send_replace(Some(api));
    }

    /// Waits until the Lease was asked for once.
    pub async fn first_turn(&mut self) {
        // Without an answer this process follows: nothing is lost.
        let _ = timeout(LIMIT, self.standing.wait_for(|standing| standing.turns > 0)).await;
    }

    /// Who leads at this moment.
    pub fn leadership(&self) -> Leadership {
        let standing = self.standing.borrow().clone();
        Leadership {
            leads: standing.leads_until.is_some_and(|until| since_boot() < until),
            leader: standing.leader.as_deref().and_then(node_of),
        }
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
            tracing::info!(node = shared.node, "leads: publishes the documents and keeps the keyring");
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

async fn stand(
    mut candidate: Candidate<fn() -> Duration>,
    mut apis: flag::Receiver<Option<ApiServer>>,
    standings: flag::Sender<Standing>,
) {
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
        last = Some(api);
        standings.send_modify(|standing| {
            standing.leads_until = candidate.leads_until();
            standing.leader = candidate.holder().map(str::to_owned);
            standing.turns += 1;
        });
        tokio::select! {
            () = sleep(RETRY_PERIOD) => {}
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
