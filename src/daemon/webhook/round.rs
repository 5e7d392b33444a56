//! One life of the webhook after the other: from a place to serve at to the next one.

use std::{
    net::TcpListener as StdListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    sync::watch as flag,
    time::{sleep, timeout},
};

use super::{Manner, Order, Place, certificates, follow};
use crate::{
    host::Root,
    model::{
        pod_identity::{ContainerCredentials, RoleMap},
        probe::sentence,
        webhook::STARTING,
    },
    webhook::{
        Mutation, Reviewer, State,
        accounts::Accounts,
        certificate::{Certificates, Shown},
        server::{self, Limits},
        socket::{ListenError, Sockets},
        stats::Stats,
    },
};

/// Pause before what could not be had is tried again: a port, a file.
const PAUSE: Duration = Duration::from_secs(2);
/// How often it is looked whether a certificate is due, and after a failure tried again.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
/// API servers learn of another port a moment after this node: so long the one of before is still served.
const LINGER: Duration = Duration::from_secs(60);

/// Serves as `orders` say until the process ends.
pub(super) async fn keep(
    root: Root,
    held: Vec<StdListener>,
    mut orders: flag::Receiver<Order>,
    states: flag::Sender<State>,
    reviews: Arc<Stats>,
) {
    let sockets = Mutex::new(Sockets::new(held));
    loop {
        let order = orders.borrow_and_update().clone();
        if order.ends {
            return;
        }
        let ports = order.serve.iter().flat_map(|(place, _)| [Some(place.port), order.called_at]).flatten();
        locked(&sockets).keep_only(&ports.collect::<Vec<_>>());
        match order.serve {
            Some((place, manner)) => {
                let parts = Parts::new(&states);
                let round = Round { root: &root, place: &place, parts, sockets: &sockets, reviews: &reviews };
                round.serve(manner, &mut orders).await;
            }
            None => {
                states.send_replace(State::default());
                if orders.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What a webhook consists of, each part right or with the reason why not.
struct Parts<'a> {
    states: &'a flag::Sender<State>,
    parts: Mutex<[Result<(), String>; 5]>,
}

/// One of [`Parts`], the most telling first.
#[derive(Debug, Clone, Copy)]
enum Part {
    Certificate,
    Socket,
    Accounts,
    RoleMap,
    Credentials,
}

impl<'a> Parts<'a> {
    fn new(states: &'a flag::Sender<State>) -> Self {
        let parts = [Err(STARTING.to_owned()), Err(STARTING.to_owned()), Err(STARTING.to_owned()), Ok(()), Ok(())];
        let parts = Self { states, parts: Mutex::new(parts) };
        parts.tell();
        parts
    }

    fn set(&self, part: Part, outcome: Result<(), String>) {
        if let Some(place) = self.parts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(part as usize) {
            *place = outcome;
        }
        self.tell();
    }

    /// Once complete, the accounts stay usable while the API server is away: each is asked for.
    fn set_once(&self, part: Part, outcome: Result<(), String>) {
        let is_right = {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            matches!(parts.get(part as usize), Some(Ok(())))
        };
        if !is_right {
            self.set(part, outcome);
        }
    }

    fn tell(&self) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = parts.iter().find(|part| part.is_err()).cloned().unwrap_or(Ok(()));
        self.states.send_if_modified(|state| {
            let is_new = state.ready.as_ref() != Some(&ready);
            state.ready = Some(ready);
            is_new
        });
    }

    fn show(&self, certificates: &Certificates) {
        self.states.send_if_modified(|state| {
            let pems = certificates.pems();
            let served_until = Some(certificates.current.not_after());
            let is_new = state.certificates != pems || state.served_until != served_until;
            (state.certificates, state.served_until) = (pems, served_until);
            is_new
        });
    }
}

fn locked(sockets: &Mutex<Sockets>) -> MutexGuard<'_, Sockets> {
    sockets.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Round<'a> {
    root: &'a Root,
    place: &'a Place,
    parts: Parts<'a>,
    /// They outlive the round.
    sockets: &'a Mutex<Sockets>,
    reviews: &'a Arc<Stats>,
}

impl Round<'_> {
    /// Serves until another place is ordered or the process ends, and finishes what is under way.
    async fn serve(&self, manner: Manner, orders: &mut flag::Receiver<Order>) {
        let Place { manifest, kubeconfig, annotation_prefix: prefix, .. } = self.place;
        let api = follow::Api::new(self.root.clone(), manifest, kubeconfig);
        let accounts = Accounts::new(api.ask(prefix));
        let Manner { settings, grace } = manner;
        let mutation =
            Mutation { settings, grace, fallback: RoleMap::default(), credentials: ContainerCredentials::default() };
        let reviewer = Reviewer::new(Arc::clone(&accounts), mutation);
        let (stop, stopped) = flag::channel(false);
        let (mut changes, mut renewals, mut moves) = (orders.clone(), orders.clone(), orders.clone());
        // The accounts are being listed while the certificate is made and the port may still be taken.
        let followers = async {
            tokio::join!(
                follow::service_accounts(&api, &accounts, prefix, |outcome| {
                    self.parts.set_once(Part::Accounts, outcome);
                }),
                self.follow_role_map(&api, &reviewer),
                self.follow_credentials(&reviewer),
            )
        };
        let server = async {
            let Some((certificates, shown)) = self.certificates(stopped.clone()).await else { return };
            let answers = Answers { shown, reviewer: Arc::clone(&reviewer), reviews: Arc::clone(self.reviews) };
            let renew = self.renew(certificates, &answers.shown, &mut renewals);
            let serve = async {
                tokio::join!(
                    self.serve_at_its_port(&answers, stopped.clone()),
                    self.serve_where_it_is_called(&answers, &mut moves, stopped),
                )
            };
            tokio::select! {
                _ = serve => {}
                () = renew => {}
            }
        };
        let end = async {
            self.follow_orders(&reviewer, &mut changes).await;
            stop.send_replace(true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = followers => {}
            () = server => {}
            () = end => {}
        }
    }

    /// Changes how pods are changed as ordered; ends when another place is ordered.
    async fn follow_orders(&self, reviewer: &Reviewer, orders: &mut flag::Receiver<Order>) {
        loop {
            let order = orders.borrow_and_update().clone();
            match order.serve {
                Some((place, Manner { settings, grace })) if !order.ends && place == *self.place => {
                    reviewer.change(|mutation| (mutation.settings, mutation.grace) = (settings, grace));
                }
                Some(_) | None => return,
            }
            if orders.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow_role_map(&self, api: &follow::Api, reviewer: &Reviewer) {
        let Some(namespace) = &self.place.role_map else { return std::future::pending().await };
        self.parts.set(Part::RoleMap, Err("the ConfigMap pod-identity-webhook has not been read yet".to_owned()));
        follow::role_map(api, namespace, reviewer, |outcome| self.parts.set_once(Part::RoleMap, outcome)).await;
    }

    async fn follow_credentials(&self, reviewer: &Reviewer) {
        let Some(path) = &self.place.credentials else { return std::future::pending().await };
        self.parts.set(Part::Credentials, Err(format!("{} has not been read yet", path.display())));
        follow::credentials(self.root, path, reviewer, |outcome| self.parts.set_once(Part::Credentials, outcome)).await;
    }

    /// The certificates as soon as they can be had; `None` where the stop comes before.
    async fn certificates(&self, mut stopped: flag::Receiver<bool>) -> Option<(Certificates, Arc<Shown>)> {
        loop {
            match certificates::load(self.root, Timestamp::now()) {
                Ok(certificates) => {
                    self.parts.set(Part::Certificate, Ok(()));
                    self.parts.show(&certificates);
                    let shown = Shown::new(&certificates.current);
                    return Some((certificates, shown));
                }
                Err(why) => self.parts.set(Part::Certificate, Err(why)),
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return None,
            }
        }
    }

    /// Looks after the certificates, for ever.
    async fn renew(&self, mut certificates: Certificates, shown: &Shown, orders: &mut flag::Receiver<Order>) {
        loop {
            let registered = orders.borrow_and_update().registered.clone();
            match certificates::renew(self.root, &mut certificates, registered.as_deref(), Timestamp::now()) {
                Ok(true) => {
                    shown.change(&certificates.current);
                    self.parts.show(&certificates);
                    self.parts.set(Part::Certificate, Ok(()));
                    // What was made may be what has to be served at once.
                    continue;
                }
                Ok(false) => self.parts.set(Part::Certificate, Ok(())),
                Err(why) => self.parts.set(Part::Certificate, Err(why)),
            }
            let _ = timeout(RENEWAL_INTERVAL, orders.changed()).await;
        }
    }

    /// Serves at the configured port until it is told to stop.
    async fn serve_at_its_port(&self, answers: &Answers, mut stopped: flag::Receiver<bool>) {
        let listen = || {
            let opened = locked(self.sockets).listen(self.place.port);
            self.parts.set(Part::Socket, opened.as_ref().map(drop).map_err(|error| sentence(error)));
            opened
        };
        if let Some(listener) = opened(listen, &mut stopped).await {
            answers.give(listener, stopped).await;
        }
    }

    /// Serves at the port that API servers are told to call, where it is another one, until it is told to stop: while `webhook.port`
    /// changes, some nodes are not at the new port yet.
    async fn serve_where_it_is_called(
        &self,
        answers: &Answers,
        orders: &mut flag::Receiver<Order>,
        mut stopped: flag::Receiver<bool>,
    ) {
        let is_old = |order: &Order| order.called_at.is_some_and(|port| port != self.place.port);
        loop {
            let called_at = tokio::select! {
                order = orders.wait_for(is_old) => order.ok().and_then(|order| order.called_at),
                _ = stopped.wait_for(|stopped| *stopped) => None,
            };
            let Some(port) = called_at else { return };
            let (end, ended) = flag::channel(false);
            // Why it cannot be called there is what the look finds that calls it.
            let listen = || locked(self.sockets).listen_also(port);
            let serve = async {
                if let Some(listener) = opened(listen, &mut ended.clone()).await {
                    answers.give(listener, ended.clone()).await;
                }
            };
            let until = async {
                tokio::select! {
                    () = is_called_elsewhere(orders, port, LINGER) => {}
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                }
                end.send_replace(true);
            };
            tokio::join!(serve, until);
            if *stopped.borrow() {
                return;
            }
            locked(self.sockets).keep_only(&[self.place.port]);
        }
    }
}

/// Waits until this port has not been registered for `linger`.
async fn is_called_elsewhere(orders: &mut flag::Receiver<Order>, port: u16, linger: Duration) {
    loop {
        if orders.wait_for(|order| order.called_at != Some(port)).await.is_err() {
            return;
        }
        let back = timeout(linger, orders.wait_for(|order| order.called_at == Some(port))).await;
        if !matches!(back, Ok(Ok(_))) {
            return;
        }
    }
}

/// What `listen` opens, as soon as it can; `None` where the stop comes before.
async fn opened(
    listen: impl Fn() -> Result<TcpListener, ListenError>,
    stopped: &mut flag::Receiver<bool>,
) -> Option<TcpListener> {
    loop {
        if let Ok(listener) = listen() {
            return Some(listener);
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return None,
        }
    }
}

/// What is given wherever it is called.
struct Answers {
    shown: Arc<Shown>,
    reviewer: Arc<Reviewer>,
    reviews: Arc<Stats>,
}

impl Answers {
    async fn give(&self, listener: TcpListener, stopped: flag::Receiver<bool>) {
        let (tls, reviews) = (self.shown.server_config(), Arc::clone(&self.reviews));
        server::serve(listener, tls, Arc::clone(&self.reviewer), reviews, Limits::default(), stopped).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, path::Path};

    use super::{super::follow::tests::Node, *};
    use crate::cluster::fake::Outcome;

    /// Waits until the webhook says this of itself.
    async fn says(states: &mut flag::Receiver<State>, ready: &Result<(), String>) -> Outcome<State> {
        let said = timeout(Duration::from_secs(30), states.wait_for(|state| state.ready.as_ref() == Some(ready)));
        Ok(said.await.map_err(|_| format!("never said {ready:?}"))??.clone())
    }

    fn serve(port: u16) -> Option<(Place, Manner)> {
        let manner = Manner { settings: super::super::follow::tests::settings(), grace: Duration::from_secs(5) };
        let place = Place {
            port,
            manifest: Path::new("/manifest.yaml").to_owned(),
            kubeconfig: Path::new("/admin.conf").to_owned(),
            annotation_prefix: manner.settings.annotation_prefix.clone(),
            role_map: None,
            credentials: None,
        };
        Some((place, manner))
    }

    fn free_port() -> Outcome<(StdListener, u16)> {
        let listener = StdListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    }

    fn answers(port: u16) -> bool {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    }

    async fn closed(port: u16) {
        while answers(port) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs `script` beside the webhook, which it has to end.
    async fn beside(
        orders: flag::Receiver<Order>,
        states: flag::Sender<State>,
        script: impl Future<Output = Outcome<()>>,
    ) -> Outcome<()> {
        let node = Node::quiet().await?;
        let root = Root::new(node.folder())?;
        let both = async {
            let ((), outcome) = tokio::join!(keep(root, Vec::new(), orders, states, Arc::default()), script);
            outcome
        };
        timeout(Duration::from_secs(600), both).await?
    }

    #[tokio::test]
    async fn webhook_says_what_keeps_it_from_answering_and_moves_to_another_port_when_told() -> Outcome<()> {
        let ((taken, port), (_, free)) = (free_port()?, free_port()?);
        let (order, orders) = flag::channel(Order { serve: serve(port), ..Order::default() });
        let (states, mut state) = flag::channel(State::default());
        let script = async {
            let sentence = format!(
                "port {port} on 127.0.0.1 is taken by another program, so the webhook cannot be reached; `ss -ltnp sport = \
                 :{port}` names it, stop it or set webhook.port"
            );
            says(&mut state, &Err(sentence)).await?;
            drop(taken);
            let first = says(&mut state, &Ok(())).await?;
            assert!(first.certificates.len() == 1 && answers(port));
            order.send_modify(|order| order.serve = serve(free));
            closed(port).await;
            let second = says(&mut state, &Ok(())).await?;
            assert!(answers(free));
            assert_eq!(second.certificates, first.certificates);
            order.send_modify(|order| order.serve = None);
            state.wait_for(|state| *state == State::default()).await?;
            order.send_modify(|order| order.ends = true);
            Ok(())
        };
        beside(orders, states, script).await
    }

    #[tokio::test]
    async fn webhook_answers_at_the_port_that_is_registered_until_api_servers_know_the_new_one() -> Outcome<()> {
        let ((_, old), (_, new)) = (free_port()?, free_port()?);
        let (order, orders) = flag::channel(Order { serve: serve(old), called_at: Some(old), ..Order::default() });
        let (states, mut state) = flag::channel(State::default());
        let script = async {
            says(&mut state, &Ok(())).await?;
            order.send_modify(|order| order.serve = serve(new));
            says(&mut state, &Err(STARTING.to_owned())).await?;
            assert!(answers(old), "a call waits while the webhook begins anew");
            says(&mut state, &Ok(())).await?;
            assert!(answers(old) && answers(new));
            order.send_modify(|order| order.called_at = Some(new));
            assert!(answers(old), "an API server may not know the new port yet");
            order.send_modify(|order| order.ends = true);
            Ok(())
        };
        beside(orders, states, script).await
    }

    #[tokio::test]
    async fn port_that_is_registered_again_a_moment_later_was_never_left() -> Outcome<()> {
        let (order, mut orders) = flag::channel(Order { called_at: Some(2), ..Order::default() });
        let left = is_called_elsewhere(&mut orders, 1, Duration::from_secs(3600));
        let script = async {
            tokio::task::yield_now().await;
            order.send_modify(|order| order.called_at = Some(1));
            tokio::task::yield_now().await;
        };
        tokio::select! {
            biased;
            () = left => return Err("it was left".into()),
            () = script => {}
        }
        order.send_modify(|order| order.called_at = None);
        is_called_elsewhere(&mut orders, 1, Duration::ZERO).await;
        Ok(())
    }
}
