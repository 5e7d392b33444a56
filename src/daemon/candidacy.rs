//! This process as a candidate for the Lease, in a task of its own: a pass that waits for AWS does not lose the lead.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::watch as flag,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    cluster::{
        ApiServer,
        lease::{Candidate, node_of},
    },
    host::machine::since_boot,
    model::election::{Identity, RETRY_PERIOD},
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

async fn stand(
    mut candidate: Candidate<fn() -> Duration>,
    mut apis: flag::Receiver<Option<ApiServer>>,
    standings: flag::Sender<Standing>,
) {
    let mut last = None;
    loop {
        let Some(api) = apis.borrow_and_update().clone() else { break };
        if let Err(error) = candidate.take_turn(&api, Timestamp::now()).await {
            tracing::debug!("the Lease irsad: {error}");
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
