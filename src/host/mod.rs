//! This machine: files below the root, what changes in them, other processes, systemd.
//!
//! Nothing here knows what a file means: not manifests, not keys, not issuers.

mod file_error;
pub mod files;
pub mod lock;
pub mod machine;
mod root;
mod staged;
pub mod systemd;
pub mod watch;

pub use file_error::FileError;
pub use root::Root;
