//! Where the webhook listens: on the socket that systemd holds, or on one of its own.

use std::{
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
    /// The socket that systemd holds is another one.
    #[error(
        "the socket that systemd holds for the webhook is {found}, but webhook.port is {port}; set ListenStream= of irsad-webhook.socket to 127.0.0.1:{port}, or stop that unit, and restart irsad"
    )]
    Elsewhere {
        /// Where it listens.
        found: String,
        /// The port that is configured.
        port: u16,
    },
}

/// The listening socket: `held` by systemd, or else one of our own on 127.0.0.1.
///
/// # Errors
/// Nothing listens.
pub fn listen(held: Option<&StdListener>, port: u16) -> Result<TcpListener, ListenError> {
    let other = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { port },
        _ => ListenError::Other { port, source },
    };
    let listener = match held {
        Some(held) => {
            let found = held.local_addr().map_err(other)?;
            if found.port() != port || !found.ip().is_loopback() {
                return Err(ListenError::Elsewhere { found: found.to_string(), port });
            }
            held.try_clone().map_err(other)?
        }
        None => StdListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(other)?,
    };
    listener.set_nonblocking(true).map_err(other)?;
    TcpListener::from_std(listener).map_err(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn socket_of_systemd_must_be_the_configured_one() -> Outcome {
        let held = StdListener::bind("127.0.0.1:0")?;
        let port = held.local_addr()?.port();
        let wanted = if port == 1 { 2 } else { 1 };
        let error = listen(Some(&held), wanted).map(drop).map_err(|error| error.to_string());
        let said = format!(
            "the socket that systemd holds for the webhook is 127.0.0.1:{port}, but webhook.port is {wanted}; set ListenStream= of \
             irsad-webhook.socket to 127.0.0.1:{wanted}, or stop that unit, and restart irsad"
        );
        assert_eq!(error, Err(said));
        let error = listen(None, port).map(drop).map_err(|error| error.to_string());
        let said = format!(
            "port {port} on 127.0.0.1 is taken by another program, so the webhook cannot be reached; `ss -ltnp sport = :{port}` names \
             it, stop it or set webhook.port"
        );
        assert_eq!(error, Err(said));
        Ok(())
    }
}
