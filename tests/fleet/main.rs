//! Several control-plane nodes of one cluster, each with a real kube-apiserver and an irsad of its own, under the eyes of a
//! token oracle: one live token refused, by any API server or outside, and the test fails.
//!
//! Every test runs again in a network of its own (see [`network`]). Two run at once: a fleet of three takes over a gigabyte
//! and, while its API servers start, both cores.

#[expect(dead_code, reason = "the tests of AWS stores use the rest")]
#[path = "../real/alone.rs"]
mod alone;
mod api;
mod by_hand;
#[expect(dead_code, reason = "the tests of one node use the rest")]
#[path = "../real/cloud/mod.rs"]
mod cloud;
#[path = "../real/kubernetes/control_plane.rs"]
mod control_plane;
mod faults;
mod fleet;
#[expect(dead_code, reason = "the tests of one node use the rest")]
#[path = "../real/irsad.rs"]
mod irsad;
#[expect(dead_code, reason = "the tests of one node use the rest")]
#[path = "../real/kubernetes/kubelet.rs"]
mod kubelet;
#[path = "../real/missing.rs"]
mod missing;
mod network;
mod node;
mod oracle;
#[path = "../real/kubernetes/process.rs"]
mod process;
mod recovery;
mod rotation;
mod scene;

use missing::missing;
