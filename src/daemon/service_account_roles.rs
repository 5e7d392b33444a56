//! `roles.mode: crd`: the leader brings about what the `ServiceAccountRole` objects say, in a task of its own beside the passes.
//!
//! Objects and service accounts are watched, so that a change is acted on at once and nothing is asked for in between. Roles are not
//! watched: one list of them tells most drift, and each is looked at whole a few times a day.

mod define;
mod follow;
mod look;
mod work;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch as flag,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{Candidacy, Irsad, candidacy::Lead};
use crate::{
    cluster::ApiServer,
    config::RolesMode,
    execute::service_account_roles::Hands,
    model::{report::RolesReport, service_account_role::ServiceAccountRole},
};
use follow::Watched;
use work::Work;

/// Longest time that the end waits for the objects that are being worked on.
const END_LIMIT: Duration = Duration::from_secs(10);

/// What the leader works with. It holds as long as the leader leads.
#[derive(Debug, Clone)]
pub(super) struct Duty {
    /// What objects are brought about with.
    pub hands: Hands,
    /// Whether this process still leads.
    pub lead: Lead,
    /// How often somebody has asked for everything to be looked at again.
    pub looks: u64,
}

/// The running task.
#[derive(Debug)]
pub(super) struct ServiceAccountRoles {
    duty: flag::Sender<Option<Duty>>,
    /// What it last told; `None` where it has nothing to do.
    pub report: flag::Receiver<Option<RolesReport>>,
    task: JoinHandle<()>,
}

impl ServiceAccountRoles {
    /// Begins without a duty.
    pub fn begin() -> Self {
        let (duty, duties) = flag::channel(None);
        let (reports, report) = flag::channel(None);
        let task = tokio::spawn(keep(duties, reports));
        Self { duty, report, task }
    }

    /// Works with this from now on; `None`: not at all.
    pub fn hear(&self, duty: Option<Duty>) {
        self.duty.send_if_modified(|known| {
            let is_new = known.is_some() || duty.is_some();
            *known = duty;
            is_new
        });
    }

    /// Finishes what is under way.
    pub async fn end(self) {
        self.duty.send_replace(None);
        drop(self.duty);
        if timeout(END_LIMIT, self.task).await.is_err() {
            tracing::warn!(
                "the objects that were being worked on did not come to an end within {END_LIMIT:?}; the next leader goes on"
            );
        }
    }
}

impl Irsad {
    /// Tells the task what to work with, once this node leads. What stands in the way is tried again in the next pass.
    pub(super) async fn order_objects(&mut self) {
        match self.duty().await {
            Ok(duty) => {
                if duty.is_some() && self.objects.is_none() {
                    self.objects = Some(ServiceAccountRoles::begin());
                }
                self.objects.iter().for_each(|objects| objects.hear(duty.clone()));
            }
            Err(why) => self.roles_fault = Some(format!("for the account of the roles: {why}")),
        }
    }

    /// Every object, as the API server has it.
    pub(super) async fn list_objects(&self) -> Result<Vec<ServiceAccountRole>, String> {
        let api = self.world.asked_api_server().ok_or("for an API server, which has the ServiceAccountRoles")?;
        api.list_service_account_roles().await.map(|(all, _)| all).map_err(|error| error.reason())
    }

    /// What objects are brought about with, or looked at.
    async fn hands(&mut self, api: ApiServer) -> Result<Hands, String> {
        let clients = self.world.aws().await?;
        let settings = &self.world.settings;
        Ok(Hands {
            api,
            iam: clients.iam,
            terms: settings.role_terms(clients.partition, &clients.account),
            annotation: format!("{}/role-arn", settings.pod_identity().annotation_prefix),
            instance: self.world.node_name.clone().unwrap_or_else(|| "irsad".to_owned()),
        })
    }

    /// `None` where this process is not to look after objects.
    async fn duty(&mut self) -> Result<Option<Duty>, String> {
        let lead = self.candidacy.as_ref().map(Candidacy::lead);
        let (Some(lead), Some(api)) = (lead.filter(Lead::leads), self.world.asked_api_server()) else {
            return Ok(None);
        };
        if self.world.settings.roles.mode != RolesMode::Crd || !self.is_in_use {
            return Ok(None);
        }
        let hands = self.hands(api).await?;
        Ok(Some(Duty { hands, lead, looks: self.looks }))
    }
}

async fn keep(mut duties: flag::Receiver<Option<Duty>>, reports: flag::Sender<Option<RolesReport>>) {
    loop {
        let annotation = duties.borrow_and_update().as_ref().map(|duty| duty.hands.annotation.clone());
        if let Some(annotation) = annotation {
            let watched = Arc::new(Watched::default());
            let mut followers = JoinSet::new();
            followers.spawn(follow::objects(duties.clone(), Arc::clone(&watched)));
            followers.spawn(follow::accounts(duties.clone(), annotation.clone(), Arc::clone(&watched)));
            let mut work = Work::new(watched, reports.clone());
            work.go_on(&mut duties, &annotation).await;
            // They only read: they may be dropped anywhere.
            followers.abort_all();
            reports.send_replace(None);
        } else if duties.changed().await.is_err() {
            return;
        }
    }
}
