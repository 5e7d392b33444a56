//! Metrics of this irsad at `http://127.0.0.1:PORT/metrics`, for Prometheus and whoever reads its formats.
//!
//! They are served by a thread of its own with a runtime of its own. It only reads what the loop and the webhook leave on the
//! [`Board`], so that no client of it can make either of them wait.

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

mod server;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use server::Limits;
use tokio::sync::watch as flag;

use crate::{
    aws::calls::Calls,
    model::{
        metrics::{
            Family, Kind, Sample, aws, counter, gauge,
            negotiation::{OLD_TEXT, OPEN_METRICS, old_text, wants_old_text},
            seconds,
            tally::Tally,
        },
        plan::{Action, Facts, Plan},
    },
    webhook::{self, stats::Stats},
};

/// What the loop tells of itself, and the thread that serves it.
pub(super) struct Metrics {
    board: Arc<Board>,
    ports: flag::Sender<Option<u16>>,
    problem: flag::Receiver<Option<String>>,
}

impl Metrics {
    /// Begins to serve at `port` of 127.0.0.1; nowhere where there is none. A port that is taken is tried again and again.
    ///
    /// # Errors
    /// There is no thread or no runtime left for it.
    pub fn begin(port: Option<u16>, sources: Sources) -> anyhow::Result<Self> {
        let board = Arc::new(Board::new(sources));
        let (ports, wanted) = flag::channel(port);
        // Before the first report, which is to say so where the port is taken.
        let first = port.map(listen);
        let (problems, problem) = flag::channel(first.as_ref().and_then(|first| first.as_ref().err().cloned()));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime =
            runtime.enable_all().max_blocking_threads(1).build().context("cannot start the metrics server")?;
        let text = board.text();
        let run = move || runtime.block_on(server::keep(first, wanted, problems, text, Limits::default()));
        thread::Builder::new().name("metrics".to_owned()).spawn(run).context("cannot start the metrics server")?;
        Ok(Self { board, ports, problem })
    }

    /// Serves there from now on. What other settings want is not what has stood.
    pub fn change(&self, port: Option<u16>) {
        self.board.tally().settings_changed();
        self.ports.send_if_modified(|old| std::mem::replace(old, port) != port);
    }

    /// Why nobody can read metrics, for status; `None` where all is well.
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// A pass begins with these facts and this plan.
    pub fn pass_begins(&self, facts: &Facts, plan: &Plan) {
        self.board.tally().begin(facts, plan);
    }

    /// An action came to this end.
    pub fn acted(&self, action: &Action, succeeded: bool) {
        let mut tally = self.board.tally();
        if succeeded { tally.done(action) } else { tally.failed(action) }
    }

    /// A pass ended; it showed `families`.
    pub fn pass_ends(&self, families: Vec<Family>, succeeded: bool, at: Timestamp, took: Duration) {
        self.board.tally().end(succeeded, at, took);
        *self.board.shown.lock().unwrap_or_else(PoisonError::into_inner) = families;
    }
}

/// What is read at each scrape, beside what the loop shows. A part that works beside the loop and has numbers of its own is one more
/// field here, and a pure function in `model::metrics` makes families of them.
pub(super) struct Sources {
    /// Calls to AWS.
    pub calls: Calls,
    /// Reviews of the webhook.
    pub reviews: Arc<Stats>,
    /// What the webhook says of itself.
    pub webhook: flag::Receiver<webhook::State>,
}

/// Everything that a scrape shows.
struct Board {
    began_at: Timestamp,
    sources: Sources,
    tally: Mutex<Tally>,
    shown: Mutex<Vec<Family>>,
}

impl Board {
    fn new(sources: Sources) -> Self {
        Self { began_at: Timestamp::now(), sources, tally: Mutex::default(), shown: Mutex::default() }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes it all out for a client with this `Accept`: content type and text.
    fn text(self: &Arc<Self>) -> impl Fn(&str) -> (&'static str, String) + Clone + use<> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(self)));
        let registry = Arc::new(registry);
        move |accept| {
            let mut text = String::new();
            // A String takes everything.
            let _ = encode(&mut text, &registry);
            if wants_old_text(accept) { (OLD_TEXT, old_text(&text)) } else { (OPEN_METRICS, text) }
        }
    }

    fn families(&self) -> Vec<Family> {
        let version = Sample::of("version", env!("CARGO_PKG_VERSION"), 1.0);
        let build =
            Family { name: "irsad_build", help: "The running program.", kind: Kind::Info, samples: vec![version] };
        let began = Sample::plain(seconds(self.began_at));
        let mut families = vec![build, gauge("irsad_start_timestamp_seconds", "When the daemon began.", [began])];
        families.extend(self.shown.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        families.extend(self.tally().families());
        families.push(aws::calls(self.sources.calls.counted()));
        families.extend(self.webhook());
        families.retain(|family| !family.samples.is_empty());
        families
    }

    fn webhook(&self) -> [Family; 3] {
        let webhook::State { ready, served_until, .. } = self.sources.webhook.borrow().clone();
        let ready = ready.map(|ready| Sample::plain(if ready.is_ok() { 1.0 } else { 0.0 }));
        let served_until = served_until.map(|at| Sample::plain(seconds(at)));
        let reviews = self.sources.reviews.counted();
        let reviews = reviews.outcomes.into_iter().filter(|_| ready.is_some());
        #[expect(clippy::cast_precision_loss, reason = "nobody has made 2^52 pods")]
        let reviews = reviews.map(|(outcome, number)| Sample::of("result", outcome.word(), number as f64));
        [
            counter("irsad_webhook_requests", "Reviews of pods by this node's webhook.", reviews.collect::<Vec<_>>()),
            gauge("irsad_webhook_ready", "Whether this node's webhook answers.", ready),
            gauge(
                "irsad_webhook_certificate_expiry_timestamp_seconds",
                "End of the certificate that this node's webhook serves with.",
                served_until,
            ),
        ]
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

impl Collector for Board {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.families().iter().try_for_each(|family| write(&mut encoder, family))?;
        if self.sources.webhook.borrow().ready.is_none() {
            return Ok(());
        }
        let reviews = self.sources.reviews.counted();
        let count = reviews.classes.iter().map(|(_, number)| number).sum();
        let (name, help) = ("irsad_webhook_request_duration", "Time to the answer of a review.");
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(reviews.total.as_secs_f64(), count, &reviews.classes, None)
    }
}

fn write(encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
    let (kind, unit) = match (family.kind, family.name.strip_suffix("_seconds")) {
        (Kind::Counter, _) => (MetricType::Counter, None),
        (Kind::Info, _) => (MetricType::Info, None),
        (Kind::Gauge, None) => (MetricType::Gauge, None),
        (Kind::Gauge, Some(_)) => (MetricType::Gauge, Some(Unit::Seconds)),
    };
    let name = if unit.is_some() { family.name.trim_end_matches("_seconds") } else { family.name };
    let mut written = encoder.encode_descriptor(name, family.help, unit.as_ref(), kind)?;
    for Sample { labels, value } in &family.samples {
        match (family.kind, labels.is_empty()) {
            (Kind::Info, _) => written.encode_info(labels)?,
            (Kind::Counter, true) => written.encode_counter::<NoLabelSet, _, f64>(value, None)?,
            (Kind::Counter, false) => {
                written.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)?;
            }
            (Kind::Gauge, true) => written.encode_gauge(value)?,
            (Kind::Gauge, false) => written.encode_family(labels)?.encode_gauge(value)?,
        }
    }
    Ok(())
}

/// A socket, or why there is none, as a sentence.
type Listening = Result<TcpListener, String>;

/// Listens at `port` of 127.0.0.1.
fn listen(port: u16) -> Listening {
    let bound = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let listener = bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "port {port} on 127.0.0.1 is taken by another program, so nobody can read irsad's metrics; `ss -ltnp sport = :{port}` names \
             it, stop it or set metrics.port"
        ),
        _ => format!("cannot listen on 127.0.0.1:{port}, so nobody can read irsad's metrics; it is tried again: {error}"),
    })
}

#[cfg(test)]
mod tests;
