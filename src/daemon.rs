//! The loop: observe, plan, execute, report; then wait until something changes. The only place that asks for the time.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch as flag,
    time::Instant,
};

use crate::{
    config::Settings,
    execute::execute,
    host::{Root, files::KUBERNETES_STAGING, lock::Lock, systemd},
    model::{
        memory,
        plan::{self, Desired, Facts, Plan},
        report::{DoneAction, History},
        webhook::Mode,
    },
    observe::{Closeness, observe, observe_node},
    store::public::PublicClient,
    world::World,
};

mod attempts;
mod candidacy;
mod configuration;
mod journal;
mod metrics;
mod pass;
mod pod;
mod region;
mod request;
mod roles;
mod service_account_roles;
mod teardown;
mod told;
mod wake;
mod webhook;

use candidacy::Candidacy;
use journal::announce;
use metrics::{Metrics, Sources};
pub use pass::Pass;
use region::remember_region;
use roles::Roles;
pub use roles::RolesPlan;
use service_account_roles::ServiceAccountRoles;
pub use teardown::keyring_of;
use wake::{Tellers, Woken, changes_any_of, stop_signals, wait};
use webhook::Webhook;

/// What lives as long as this boot.
pub const RUN_FOLDER: &str = "/run/irsad";
/// What `irsad status` reads.
pub const STATUS_FILE: &str = "/run/irsad/status.json";
/// One irsad at a time on a machine.
pub const LOCK_FILE: &str = "/run/irsad/lock";
/// Longest time that `run --once` goes on while every pass finds more to do.
const ONCE_LIMIT: Duration = Duration::from_secs(900);
/// Longest time that a look may take before the watchdog is no longer told that the loop is alive: every call has a limit of its
/// own, and where S3, STS and the API server each use theirs up this is not reached.
const LOOK_LIMIT: Duration = Duration::from_secs(240);
/// After so long the service counts as started although the first pass still waits for an answer: a boot must not wait for AWS.
const START_LIMIT: Duration = Duration::from_secs(20);
/// So many passes in a row may do something and follow each other without a pause: taking over a running cluster takes fewer.
const BRISK_PASSES: u32 = 16;
/// After a failed pass the next one follows soon, but not at once.
const FAILURE_INTERVAL: Duration = Duration::from_secs(15);

/// One irsad on one machine.
pub struct Irsad {
    world: World,
    desired: Desired,
    history: History,
    closeness: Closeness,
    full_at: Option<Instant>,
    /// Passes in a row that did something.
    busy_passes: u32,
    /// What was last said in the journal that it waits for, or needs a person for.
    said: Vec<String>,
    /// This process as one that may lead, once an API server has answered.
    candidacy: Option<Candidacy>,
    /// The webhook of this node, once the daemon has begun.
    webhook: Option<Webhook>,
    /// What is told to a monitoring system, once the daemon has begun.
    metrics: Option<Metrics>,
    /// Pods get tokens of our issuer, or may: else webhook and roles are no longer kept.
    is_in_use: bool,
    /// The task that keeps roles, once there are any to keep.
    roles: Option<Roles>,
    /// The task that brings ServiceAccountRoles about, once there are to be any.
    objects: Option<ServiceAccountRoles>,
    /// How often a person has had everything looked at again.
    looks: u64,
    /// Why it was not told which.
    roles_fault: Option<String>,
    /// It has just begun to lead: the next pass does what a leader does.
    begins_to_lead: bool,
    /// Complaint about a configuration that could not be loaded; the old one holds.
    stale_settings: Option<String>,
    _lock: Option<Lock>,
}

impl Irsad {
    /// An irsad that only looks: for `plan` and `verify`, beside a running daemon.
    ///
    /// # Errors
    /// The trust store of this host cannot be read.
    pub fn onlooker(root: Root, settings: Settings) -> anyhow::Result<Self> {
        let public = Arc::new(PublicClient::from_environment()?);
        Ok(Self {
            desired: settings.desired(),
            world: World::new(root, settings, public),
            history: History::default(),
            closeness: Closeness::Full,
            full_at: None,
            busy_passes: 0,
            said: Vec::new(),
            candidacy: None,
            webhook: None,
            metrics: None,
            is_in_use: true,
            roles: None,
            objects: None,
            looks: 0,
            roles_fault: None,
            begins_to_lead: false,
            stale_settings: None,
            _lock: None,
        })
    }

    /// The irsad that acts on this machine.
    ///
    /// # Errors
    /// Another one runs, or `/run/irsad` cannot be written; nothing was changed.
    pub fn acting(root: Root, settings: Settings) -> anyhow::Result<Self> {
        root.make_folder(Path::new(RUN_FOLDER), 0o755)?;
        let lock = Lock::take(&root, Path::new(LOCK_FILE))?;
        for folder in [KUBERNETES_STAGING, memory::FOLDER, memory::LAST_GOOD, memory::PROVEN_FILES, RUN_FOLDER] {
            match root.clean_staging(Path::new(folder)) {
                Ok(removed) => removed.iter().for_each(|path| {
                    tracing::info!(path = %path.display(), "removed a file that a stopped run had left half made");
                }),
                Err(error) => tracing::warn!("cannot clean up {folder}: {error:#}"),
            }
        }
        remember_region(&root, &settings);
        let mut irsad = Self { _lock: Some(lock), ..Self::onlooker(root, settings)? };
        irsad.world.acts = true;
        Ok(irsad)
    }

    /// Observes and plans, and changes nothing.
    pub async fn look(&mut self) -> (Facts, Plan) {
        let now = Timestamp::now();
        if let Some(candidacy) = &self.candidacy {
            self.world.leadership = candidacy.leadership();
        }
        if let Some(webhook) = &mut self.webhook {
            self.world.webhook = webhook.told();
        }
        let facts = observe(&mut self.world, &self.desired, self.closeness, now).await;
        self.is_in_use = plan::is_in_use(&self.desired, &facts, now);
        if let Some(webhook) = &self.webhook {
            let mode = if self.is_in_use { self.desired.webhook.mode } else { Mode::None };
            webhook.hear(&self.world.settings, &facts.webhook, mode);
        }
        let plan = plan::plan(&self.desired, &facts, now);
        (facts, plan)
    }

    /// Does what has to be done before kubeadm runs, and gives the plan that was carried out.
    ///
    /// # Errors
    /// An action failed; what it left behind is said.
    pub async fn prepare(&mut self) -> anyhow::Result<Plan> {
        let node = observe_node(&mut self.world, &self.desired, Closeness::Idle).await;
        let plan = plan::prepare(&self.desired, &node);
        for action in &plan.actions {
            execute(&mut self.world, action).await.with_context(|| format!("could not {action}"))?;
            announce(action);
        }
        Ok(plan)
    }

    /// What this irsad wants.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// One pass: observe, plan, execute in order until something fails or a stop is asked for. `None` where the stop came
    /// before anything was decided.
    async fn pass(&mut self, stop: &mut flag::Receiver<bool>) -> Option<Pass> {
        let begun = Instant::now();
        // Only looking may be dropped half-way. A write never is: it runs outside of any select.
        let (facts, plan) = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return None,
            seen = wake::keep_alive(LOOK_LIMIT, self.look()) => seen,
        };
        systemd::alive();
        let mut pass = Pass { facts, plan, done: Vec::new(), failure: None };
        let metrics = self.metrics.as_ref();
        metrics.inspect(|metrics| metrics.pass_begins(&pass.facts, &pass.plan));
        let mut has_news = false;
        for action in &pass.plan.actions {
            if *stop.borrow() {
                break;
            }
            let outcome = execute(&mut self.world, action).await;
            metrics.inspect(|metrics| metrics.acted(action, outcome.is_ok()));
            if let Err(error) = outcome {
                pass.failure = Some(error.context(format!("could not {action}")));
                break;
            }
            announce(action);
            systemd::alive();
            has_news |= action.is_news();
            pass.done.push(action.to_string());
            self.history.last_action = Some(DoneAction { at: Timestamp::now(), what: action.to_string() });
        }
        self.remember(&pass, begun);
        self.stand(&pass.facts).await;
        self.roles_fault = None;
        self.order_roles().await;
        self.order_objects().await;
        if let Some(candidacy) = self.candidacy.as_ref().filter(|_| has_news) {
            candidacy.tell();
        }
        Some(pass)
    }

    /// Passes until nothing is left to do or only waiting is left, with each pass shown to `show`.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub async fn run_once(&mut self, mut show: impl FnMut(&Pass)) -> anyhow::Result<Pass> {
        let mut stop = stop_signals()?;
        let until = Instant::now() + ONCE_LIMIT;
        loop {
            self.closeness = Closeness::Full;
            let pass = self.pass(&mut stop).await.context("stopped before anything was decided")?;
            show(&pass);
            let wants_another = pass.wants_another() || (self.begins_to_lead && pass.failure.is_none());
            if !wants_another || *stop.borrow() || Instant::now() > until {
                self.stand_down().await;
                return Ok(pass);
            }
            tokio::time::sleep(self.pause(&pass)).await;
        }
    }

    /// The daemon: passes until the process is asked to stop. `load` reads the configuration anew, `held` are the webhook's
    /// sockets that systemd holds.
    ///
    /// # Errors
    /// Signals or file changes cannot be received any more: systemd starts us again.
    pub async fn run<F>(
        &mut self,
        held: Vec<TcpListener>,
        config_files: Vec<PathBuf>,
        load: impl Fn() -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<Settings>>,
    {
        let mut stop = stop_signals()?;
        let mut reload = signal(SignalKind::hangup()).context("cannot receive SIGHUP")?;
        let mut files = self.watch(&config_files);
        // Before the first pass, which may wait for AWS: pods do not.
        let webhook = Webhook::begin(self.world.root.clone(), &self.world.settings, held)?;
        let (reviews, state) = (Arc::clone(&webhook.reviews), webhook.state.clone());
        let sources = Sources { calls: self.world.aws_calls.clone(), reviews, webhook: state };
        self.metrics = Some(Metrics::begin(self.world.settings.metrics.port, sources)?);
        self.webhook = Some(webhook);
        let mut next = self.first_pass(&mut stop).await;
        while let Some(pass) = next {
            let pause = self.pause(&pass);
            let tellers = Tellers {
                candidacy: self.candidacy.as_mut(),
                webhook: self.webhook.as_mut(),
                roles: self.roles.as_mut().map(|roles| &mut roles.report),
                objects: self.objects.as_mut().map(|objects| &mut objects.report),
            };
            match wait(pause, &mut stop, &mut reload, files.as_mut(), tellers).await? {
                Woken::Stop => break,
                Woken::Time | Woken::Webhook | Woken::Roles => {}
                Woken::News => self.closeness = Closeness::Full,
                Woken::Reload => {
                    self.reload(&load).await;
                    files = self.watch(&config_files);
                }
                Woken::Files(changed) => {
                    self.closeness = Closeness::Full;
                    if changes_any_of(&changed, &self.below_root(&config_files)) {
                        self.reload(&load).await;
                        files = self.watch(&config_files);
                    }
                }
            }
            next = self.pass(&mut stop).await;
        }
        // Side by side: systemd waits for the sum of all that is done one after the other.
        let webhook = self.webhook.take();
        if let Some(roles) = self.roles.take() {
            roles.end().await;
        }
        if let Some(objects) = self.objects.take() {
            objects.end().await;
        }
        tokio::join!(webhook::end(webhook), self.stand_down());
        systemd::stopping("stopped; kube-apiserver and the published documents stay as they are");
        tracing::info!("stopped; kube-apiserver and the published documents stay as they are");
        Ok(())
    }

    /// The first pass, after which the service has started; no later than [`START_LIMIT`] in any case.
    async fn first_pass(&mut self, stop: &mut flag::Receiver<bool>) -> Option<Pass> {
        let pass = {
            let mut pass = pin!(self.pass(stop));
            tokio::select! {
                pass = &mut pass => pass,
                () = tokio::time::sleep(START_LIMIT) => {
                    systemd::ready("waiting for the first look to end: something does not answer");
                    return pass.await;
                }
            }
        };
        if let Some(pass) = &pass {
            systemd::ready(&self.report(&pass.facts, &pass.plan).summary);
        }
        pass
    }

    /// How long to wait after a pass if nothing happens. Passes that find something to do follow at once, but ever later where the
    /// same is found again and again: a service that forgets what it was told must not be asked at full speed.
    fn pause(&self, pass: &Pass) -> Duration {
        match (&pass.failure, pass.done.is_empty()) {
            (Some(_), _) => FAILURE_INTERVAL.min(pass.plan.next_check),
            (None, true) if self.begins_to_lead => Duration::ZERO,
            (None, true) => pass.plan.next_check,
            (None, false) if self.busy_passes <= BRISK_PASSES => Duration::ZERO,
            (None, false) => {
                let doubled = 1_u64 << (self.busy_passes - BRISK_PASSES).min(6);
                Duration::from_secs(doubled).min(plan::CHECK_INTERVAL)
            }
        }
    }
}
