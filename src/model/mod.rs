//! What irsad knows about keys, documents, manifests and plans: values in, values out.
//!
//! Nothing here knows files, sockets, clocks, randomness, log lines or async; time and chance are arguments.

pub mod file;
pub mod issuer;
pub mod kubeadm;
pub mod location;
pub mod manifest;
pub mod probe;
pub mod region;
mod splice;
pub mod yaml;
