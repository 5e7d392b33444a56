//! One life of the webhook after the other: from a place to serve at to the next one.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
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
        socket,
        stats::Stats,
    },
};

/// Pause before what could not be had is tried again: a port, a file.
const PAUSE: Duration = Duration::from_secs(2);
/// How often it is looked whether a certificate is due, and after a failure tried again.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// Serves as `orders` say until the process ends.
pub(super) async fn keep(
    root: Root,
    held: Option<TcpListener>,
    mut orders: flag::Receiver<Order>,
    states: flag::Sender<State>,
    reviews: Arc<Stats>,
) {
    loop {
        let order = orders.borrow_and_update().clone();
        if order.ends {
            return;
        }
        match order.serve {
            Some((place, manner)) => {
                let round = Round { root: &root, place: &place, parts: Parts::new(&states), reviews: &reviews };
                round.serve(manner, held.as_ref(), &mut orders).await;
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

struct Round<'a> {
    root: &'a Root,
    place: &'a Place,
    parts: Parts<'a>,
    reviews: &'a Arc<Stats>,
}

impl Round<'_> {
    /// Serves until another place is ordered or the process ends, and finishes what is under way.
    async fn serve(&self, manner: Manner, held: Option<&TcpListener>, orders: &mut flag::Receiver<Order>) {
        let Place { manifest, kubeconfig, annotation_prefix: prefix, .. } = self.place;
        let api = follow::Api::new(self.root.clone(), manifest, kubeconfig);
        let accounts = Accounts::new(api.ask(prefix));
        let Manner { settings, grace } = manner;
        let mutation =
            Mutation { settings, grace, fallback: RoleMap::default(), credentials: ContainerCredentials::default() };
        let reviewer = Reviewer::new(Arc::clone(&accounts), mutation);
        let (stop, stopped) = flag::channel(false);
        let (mut changes, mut renewals) = (orders.clone(), orders.clone());
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
            let renew = self.renew(certificates, &shown, &mut renewals);
            let serve = self.listen(held, &shown, &reviewer, stopped);
            tokio::select! {
                () = serve => {}
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

    /// Listens as soon as that is possible and serves until it is told to stop.
    async fn listen(
        &self,
        held: Option<&TcpListener>,
        shown: &Arc<Shown>,
        reviewer: &Arc<Reviewer>,
        mut stopped: flag::Receiver<bool>,
    ) {
        let listener = loop {
            match socket::listen(held, self.place.port) {
                Ok(listener) => break listener,
                Err(error) => self.parts.set(Part::Socket, Err(sentence(&error))),
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        };
        self.parts.set(Part::Socket, Ok(()));
        let (tls, reviews) = (shown.server_config(), Arc::clone(self.reviews));
        server::serve(listener, tls, Arc::clone(reviewer), reviews, Limits::default(), stopped).await;
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

    #[tokio::test]
    async fn webhook_says_what_keeps_it_from_answering_and_moves_to_another_port_when_told() -> Outcome<()> {
        let node = Node::quiet().await?;
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let serve = |port| {
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
        };
        let port = taken.local_addr()?.port();
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
            assert!(first.certificates.len() == 1 && TcpStream::connect(("127.0.0.1", port)).is_ok());
            order.send_modify(|order| order.serve = serve(free));
            while TcpStream::connect(("127.0.0.1", port)).is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
            let second = says(&mut state, &Ok(())).await?;
            assert!(TcpStream::connect(("127.0.0.1", free)).is_ok());
            assert_eq!(second.certificates, first.certificates);
            order.send_modify(|order| order.serve = None);
            state.wait_for(|state| *state == State::default()).await?;
            order.send_modify(|order| order.ends = true);
            std::future::pending::<Outcome<()>>().await
        };
        let root = Root::new(node.folder())?;
        let ended = timeout(Duration::from_secs(60), async {
            tokio::select! {
                () = keep(root, None, orders, states, Arc::default()) => Outcome::Ok(()),
                failed = script => failed,
            }
        });
        ended.await?
    }
}
