//! The built-in webhook beside the loop, in a thread of its own with a runtime of its own.
//!
//! A pass makes RSA keys, reads and flushes files and waits for AWS: on the loop's thread, a pod would wait for all of that. The
//! webhook shares no state with the loop but what it is told ([`Order`]) and what it tells ([`State`]), and has its own connection to
//! the API server.

// As in `crate::webhook`: a panic in this thread would end the whole daemon.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

mod certificates;
mod follow;
mod round;

use std::{net::TcpListener, path::PathBuf, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use tokio::{sync::watch as flag, time::timeout};

use crate::{
    config::{Settings, WebhookMode},
    host::Root,
    model::{
        plan::WebhookFacts,
        pod_identity::PodIdentity,
        probe::Probe,
        webhook::{Mode, STARTING, WebhookState},
    },
    webhook::{State, stats::Stats},
};

/// Longest time that the end waits for what is under way: a little more than the server itself.
const END_LIMIT: Duration = Duration::from_secs(12);

/// Where the webhook listens and what it reads. Where one of these changes, the webhook begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    port: u16,
    manifest: PathBuf,
    kubeconfig: PathBuf,
    annotation_prefix: String,
    /// Namespace of the ConfigMap, where it is read.
    role_map: Option<String>,
    /// File of container credentials, where it is read.
    credentials: Option<PathBuf>,
}

/// How pods are changed. It can be changed without a new beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Manner {
    settings: PodIdentity,
    /// Longest time that a pod waits for its service account.
    grace: Duration,
}

/// What the loop wants of the webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Order {
    /// Where to serve, and how pods are changed; `None`: nowhere.
    serve: Option<(Place, Manner)>,
    /// `caBundle` of the registration, as far as it is known.
    registered: Option<String>,
    /// Port that API servers call by the registration, as it was last known.
    called_at: Option<u16>,
    /// The process ends.
    ends: bool,
}

/// The running webhook.
#[derive(Debug)]
pub(super) struct Webhook {
    order: flag::Sender<Order>,
    /// What the webhook last said of itself.
    pub state: flag::Receiver<State>,
    /// Its reviews so far.
    pub reviews: Arc<Stats>,
    gone: flag::Receiver<()>,
}

impl Webhook {
    /// Begins to serve as `settings` say. `held` are the sockets that systemd holds.
    ///
    /// # Errors
    /// There is no thread or no runtime left for it.
    pub fn begin(root: Root, settings: &Settings, held: Vec<TcpListener>) -> anyhow::Result<Self> {
        let (order, orders) = flag::channel(Order { serve: serve(settings, false), ..Order::default() });
        let (states, state) = flag::channel(State::default());
        if order.borrow().serve.is_some() {
            states.send_modify(|state| state.ready = Some(Err(STARTING.to_owned())));
        }
        let (alive, gone) = flag::channel(());
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // Large reviews are worked on beside the others; more threads than that have nothing to do.
        let runtime = runtime.enable_all().max_blocking_threads(4).build().context("cannot start the webhook")?;
        let reviews = Arc::new(Stats::default());
        let counted = Arc::clone(&reviews);
        let run = move || {
            let _alive = alive;
            runtime.block_on(round::keep(root, held, orders, states, counted));
        };
        thread::Builder::new().name("webhook".to_owned()).spawn(run).context("cannot start the webhook")?;
        Ok(Self { order, state, reviews, gone })
    }

    /// Serves as these settings say from now on; where they want no webhook here, as long as API servers are told to call it.
    pub fn change(&self, settings: &Settings, is_called: bool) {
        let serve = serve(settings, is_called);
        self.order.send_if_modified(|order| {
            let is_new = order.serve != serve;
            order.serve = serve;
            is_new
        });
    }

    /// Whether it is to serve.
    pub fn serves(&self) -> bool {
        self.order.borrow().serve.is_some()
    }

    /// What it last said of itself; Absent where it is not to serve.
    pub fn told(&mut self) -> Probe<WebhookState> {
        let State { ready, certificates, .. } = self.state.borrow_and_update().clone();
        let order = self.order.borrow();
        match (&order.serve, ready) {
            (Some((place, _)), Some(ready)) => {
                Probe::Present(WebhookState { port: place.port, certificates, problem: ready.err() })
            }
            (None, _) | (_, None) => Probe::Absent,
        }
    }

    /// Goes by what a look has found of the registration. Where that is not known it serves on, or not, as before: no server is taken
    /// from API servers that may still be told to call it.
    pub fn hear(&self, settings: &Settings, found: &WebhookFacts, mode: Mode) {
        self.tell_registered(found.trusted().as_deref(), found.called_at());
        if let Some(is_called) = found.must_serve(mode) {
            self.change(settings, is_called);
        }
    }

    /// Tells the `caBundle` that is registered now, `None` where there is none or it is not known, and the port.
    fn tell_registered(&self, bundle: Option<&str>, port: Probe<u16>) {
        self.order.send_if_modified(|order| {
            let called_at = match port {
                Probe::Present(port) => Some(port),
                Probe::Absent => None,
                Probe::Unknown(_) => order.called_at,
            };
            let is_new = order.registered.as_deref() != bundle || order.called_at != called_at;
            (order.registered, order.called_at) = (bundle.map(str::to_owned), called_at);
            is_new
        });
    }
}

/// Stops accepting, finishes what is under way, and closes the socket.
pub(super) async fn end(webhook: Option<Webhook>) {
    let Some(mut webhook) = webhook else { return };
    webhook.order.send_modify(|order| order.ends = true);
    // An error is the end of the thread.
    if timeout(END_LIMIT, webhook.gone.wait_for(|()| false)).await.is_err() {
        tracing::warn!("the webhook did not end within {END_LIMIT:?}");
    }
}

/// Where and how these settings want the webhook to serve.
fn serve(settings: &Settings, is_called: bool) -> Option<(Place, Manner)> {
    let webhook = &settings.webhook;
    let manner = Manner { settings: settings.pod_identity(), grace: webhook.lookup_grace_period };
    let place = Place {
        port: webhook.port,
        manifest: settings.api_server.manifest.clone(),
        kubeconfig: settings.api_server.kubeconfig.clone(),
        annotation_prefix: manner.settings.annotation_prefix.clone(),
        role_map: webhook.config_map_namespace.as_ref().map(ToString::to_string),
        credentials: webhook.container_credentials.file.clone(),
    };
    (webhook.mode == WebhookMode::BuiltIn || is_called).then_some((place, manner))
}
