//! What irsad knows about keys, documents, manifests and plans: values in, values out.
//!
//! Nothing here knows files, sockets, clocks, randomness, log lines or async; time and chance are arguments.

pub mod checks;
pub mod cluster_object;
pub mod control_plane_only;
pub mod discovery;
pub mod election;
pub mod file;
pub mod issuer;
pub mod jwks;
pub mod key;
pub mod keyring;
pub mod keyring_bucket;
pub mod kms_key;
pub mod kubeadm;
pub mod location;
pub mod manifest;
pub mod memory;
pub mod metrics;
pub mod migrate;
pub mod missed_pods;
pub mod node_policy;
pub mod outlook;
pub mod plan;
pub mod pod;
pub mod pod_check;
pub mod pod_identity;
pub mod probe;
pub mod region;
pub mod report;
pub mod request;
pub mod role;
pub mod roles_in_use;
pub mod rotation;
pub mod s3_address;
pub mod sealed;
pub mod served;
pub mod service_account_role;
mod splice;
pub mod teardown_policy;
pub mod timeline;
pub mod trust_policy;
pub mod webhook;
pub mod yaml;
