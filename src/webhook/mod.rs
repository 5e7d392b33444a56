//! The built-in pod-identity webhook: HTTPS on loopback for the API server of this node, and nobody else.
//!
//! It does not know files, systemd or the Kubernetes API: it is given a listening socket, certificates, settings, and a way to
//! ask for a service account.

// A panic ends the whole daemon, and with it every answer that is under way: nothing in here may cause one.
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

pub mod accounts;
pub mod certificate;
pub mod probe;
mod reviewer;
pub mod server;
pub mod socket;
pub mod stats;

use jiff::Timestamp;

pub use reviewer::{Mutation, Reviewer};

/// What the webhook of this node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Whether it answers, or what it waits for and what has to be done, as a sentence; `None` where there is none on this node.
    pub ready: Option<Result<(), String>>,
    /// Certificates in PEM that its clients have to trust: the one that is served and, during a renewal, the next one.
    pub certificates: Vec<String>,
    /// End of the one that is served.
    pub served_until: Option<Timestamp>,
}
