//! Where the webhook listens: on sockets that systemd holds, or on its own.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
};

use thiserror::Error;
use tokio::net::TcpListener;

/// Why nothing listens.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Something else does.
    #[error(
        "port {port} on 127.0.0.1 is taken by another program, so the webhook cannot be reached; `ss -ltnp sport = :{port}` names it, stop it or set webhook.port"
    )]
    Taken {
        /// The port.
        port: u16,
    },
    /// Another reason.
    #[error("cannot listen on 127.0.0.1:{port}, so the webhook cannot be reached; it is tried again")]
    Other {
        /// The port.
        port: u16,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// systemd holds others.
    #[error(
        "systemd holds {found} for the webhook, but webhook.port is {port}; add ListenStream=127.0.0.1:{port} to irsad-webhook.socket, or disable that unit, and run `systemctl restart irsad-webhook.socket irsad`"
    )]
    Elsewhere {
        /// Where they listen.
        found: String,
        /// The port that is configured.
        port: u16,
    },
}

/// The listening sockets. Each stays open from one server to the next: calls wait there and are not refused.
#[derive(Debug)]
pub struct Sockets {
    held: Vec<StdListener>,
    own: BTreeMap<u16, StdListener>,
}

impl Sockets {
    /// With those that systemd holds.
    pub fn new(held: Vec<StdListener>) -> Self {
        Self { held, own: BTreeMap::new() }
    }

    /// Listens at the configured port of 127.0.0.1: where systemd holds sockets, it has to hold this one.
    ///
    /// # Errors
    /// Nothing listens.
    pub fn listen(&mut self, port: u16) -> Result<TcpListener, ListenError> {
        if !self.held.is_empty() && self.held_at(port).is_none() {
            let found: Vec<_> = self.held.iter().filter_map(|held| held.local_addr().ok()).collect();
            let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            return Err(ListenError::Elsewhere { found, port });
        }
        self.listen_also(port)
    }

    /// Listens at any port of 127.0.0.1.
    ///
    /// # Errors
    /// Nothing listens.
    pub fn listen_also(&mut self, port: u16) -> Result<TcpListener, ListenError> {
        let other = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::Taken { port },
            _ => ListenError::Other { port, source },
        };
        let listener = match self.held_at(port).or_else(|| self.own.get(&port)) {
            Some(open) => open.try_clone().map_err(other)?,
            None => {
                let made = StdListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(other)?;
                let listener = made.try_clone().map_err(other)?;
                self.own.insert(port, made);
                listener
            }
        };
        listener.set_nonblocking(true).map_err(other)?;
        TcpListener::from_std(listener).map_err(other)
    }

    /// Closes those of this process that are at none of these ports.
    pub fn keep_only(&mut self, ports: &[u16]) {
        self.own.retain(|port, _| ports.contains(port));
    }

    fn held_at(&self, port: u16) -> Option<&StdListener> {
        let is_at = |address: SocketAddr| address.port() == port && address.ip().is_loopback();
        self.held.iter().find(|held| held.local_addr().is_ok_and(is_at))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn listening() -> io::Result<(StdListener, u16)> {
        let listener = StdListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    }

    fn error(opened: Result<TcpListener, ListenError>) -> Result<(), String> {
        opened.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn where_systemd_holds_sockets_one_of_them_must_be_the_configured_one() -> Outcome {
        let ((first, old), (second, new)) = (listening()?, listening()?);
        let mut sockets = Sockets::new(vec![first, second]);
        assert_eq!((error(sockets.listen(old)), error(sockets.listen(new))), (Ok(()), Ok(())));
        let wanted = if old == 1 || new == 1 { 2 } else { 1 };
        let said = format!(
            "systemd holds 127.0.0.1:{old} and 127.0.0.1:{new} for the webhook, but webhook.port is {wanted}; add \
             ListenStream=127.0.0.1:{wanted} to irsad-webhook.socket, or disable that unit, and run `systemctl restart \
             irsad-webhook.socket irsad`"
        );
        assert_eq!(error(sockets.listen(wanted)), Err(said));
        Ok(())
    }

    #[tokio::test]
    async fn calls_wait_at_a_port_from_one_server_to_the_next_until_it_is_closed() -> Outcome {
        let (taken, port) = listening()?;
        let mut sockets = Sockets::new(Vec::new());
        let said = format!(
            "port {port} on 127.0.0.1 is taken by another program, so the webhook cannot be reached; `ss -ltnp sport = :{port}` names \
             it, stop it or set webhook.port"
        );
        assert_eq!(error(sockets.listen(port)), Err(said));
        drop(taken);
        drop(sockets.listen(port)?);
        let waits = TcpStream::connect(("127.0.0.1", port))?;
        let (_, peer) = sockets.listen(port)?.accept().await?;
        assert_eq!(peer, waits.local_addr()?);
        sockets.keep_only(&[]);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        Ok(())
    }
}
