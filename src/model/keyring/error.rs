//! Why a keyring is refused: sentences for the operator who has to put it right.

use thiserror::Error;

use super::{MOST_ACCEPTED, MOST_PUBLISHED};

/// Why nothing is done with a keyring. Nothing has been changed: every node goes on with the files it has.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// Not JSON of a version that is known.
    #[error(
        "the keyring is not what this version of irsad writes (nothing changed); if a newer irsad wrote it, upgrade this node, else put the keyring back from a backup"
    )]
    Format(#[source] serde_json::Error),
    /// Of another cluster.
    #[error(
        "the keyring is of cluster {found}, this node is of {wanted} (nothing changed); correct cluster or keyring.store in irsad.yaml"
    )]
    OtherCluster {
        /// As it stands there.
        found: String,
        /// As configured.
        wanted: String,
    },
    /// Not exactly one key signs.
    #[error(
        "the keyring has {signing} signing and {standby} standby keys instead of one and at most one (nothing changed); it was edited by hand, put it back from a backup"
    )]
    Signers {
        /// Signing keys.
        signing: usize,
        /// Standby keys.
        standby: usize,
    },
    /// It grew too large.
    #[error(
        "the keyring has {published} published and {accepted} accepted keys, more than irsad keeps ({MOST_PUBLISHED} and {MOST_ACCEPTED}; nothing changed); where the verification files of the nodes hold as many, take out of them what no token needs, else put the keyring back from a backup"
    )]
    TooMany {
        /// Published keys.
        published: usize,
        /// All keys.
        accepted: usize,
    },
    /// One name for two things.
    #[error(
        "{what} {name} stands twice in the keyring (nothing changed); give each control-plane node a name of its own, or put the keyring back from a backup"
    )]
    Twice {
        /// What.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// No issuer.
    #[error("the keyring has no issuer (nothing changed); it was edited by hand, put it back from a backup")]
    NoIssuer,
    /// A kid that is not its key's.
    #[error(
        "key {kid} of the keyring is not the key of that id (nothing changed); it was edited by hand, put it back from a backup"
    )]
    WrongKey {
        /// As it stands there.
        kid: String,
    },
    /// The store is older than this node.
    #[error(
        "the keyring is of generation {found}, but this node has already applied {known} (nothing changed): the store went back in time, as after an etcd restore; put the newer one back, or have it rebuilt from the nodes"
    )]
    WentBack {
        /// Its generation.
        found: u64,
        /// This node's.
        known: u64,
    },
    /// The store has another history.
    #[error(
        "generation {found} of the keyring does not follow from the one that this node has applied (nothing changed): two stores were used, or one was edited by hand"
    )]
    OtherHistory {
        /// Its generation.
        found: u64,
    },
}
