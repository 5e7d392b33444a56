//! IAM roles for service accounts on Kubernetes control planes you run yourself on AWS.
//!
//! ```text
//!               inotify · timer · SIGHUP
//!                             │ wake
//!  host files ─┐              ▼
//!  API server ─┤ observe ─► plan (pure) ─► execute ─► report (STATUS=, journal, status.json)
//!  public URL ─┤      ▲                       │
//!  S3, IAM    ─┘      │                       └─► files · S3 · IAM
//!             Settings, now
//! ```
//! Every pass starts from observation, never from memory. [`model::plan`] decides and touches nothing;
//! [`execute`] acts and decides nothing; the first failure ends the pass and the next one observes afresh.
//! Beside the loop, each in a thread of its own, [`webhook`] answers the API server about new pods, and metrics are served.
//!
//! # Layers
//!
//! Imports go one way: `main → cli → daemon → observe, execute → host, store, aws, cluster, webhook → model`. `host`, `store`,
//! `aws`, `cluster` and `webhook` do not know each other; `aws::s3` and `cluster::secrets` implement `store`'s contract. `config` is
//! used from `daemon` upwards, and by `observe` and `execute` as [`config::Settings`]. [`private_keys`] joins `store` and
//! `aws::kms` for both. `tests/tidy.rs` holds this.

pub mod aws;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod execute;
pub mod host;
pub mod model;
pub mod observe;
pub mod private_keys;
pub mod store;
pub mod webhook;
pub mod world;

/// Makes aws-lc-rs the TLS cryptography of this process. Call it first in `main`; a second call changes nothing.
///
/// Without it, every TLS client would choose for itself, and the first one made would decide for all.
pub fn install_crypto_provider() {
    // An error only says that a provider is in place already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
