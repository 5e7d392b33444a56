//! Whose a role is: the tags that irsad puts on it in the call that makes it, and the path of a cluster's roles.

use std::{collections::BTreeMap, fmt};

use sha2::{Digest as _, Sha256};

/// Tag with the cluster's name, as on everything that irsad makes in AWS.
pub const CLUSTER_TAG: &str = "irsad/cluster";
/// Tag of a role with what asked for it: `list`, or the object.
pub const OWNER_TAG: &str = "irsad/owner";
/// Longest value of a tag (IAM and AWS STS quotas).
const LONGEST_VALUE: usize = 256;

/// What asked for a role. Nothing else changes or removes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    cluster: String,
    keeper: String,
}

/// Path of the roles of a cluster; no other role is ever changed.
pub fn path(cluster: &str) -> String {
    format!("/irsad/{cluster}/")
}

impl Owner {
    /// The list in the configuration.
    pub fn list(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), keeper: "list".to_owned() }
    }

    /// An object of the cluster; `namespace` is `None` for one of the whole cluster. Names are compared, not uids: an object that was made
    /// anew takes its role over.
    pub fn object(cluster: &str, kind: &str, namespace: Option<&str>, name: &str) -> Self {
        let namespace = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let mut keeper = format!("{kind}/{namespace}{name}");
        if keeper.len() > LONGEST_VALUE {
            let hash = format!("{:x}", Sha256::digest(&keeper));
            keeper = format!("{}-{hash}", &keeper[..LONGEST_VALUE - hash.len() - 1]);
        }
        Self { cluster: cluster.to_owned(), keeper }
    }

    /// Who the tags of a role name; `None` where they do not name anybody.
    pub fn of_tags(tags: &BTreeMap<String, String>) -> Option<Self> {
        let tag = |key: &str| tags.get(key).cloned();
        Some(Self { cluster: tag(CLUSTER_TAG)?, keeper: tag(OWNER_TAG)? })
    }

    /// Name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Value of [`OWNER_TAG`].
    pub fn keeper(&self) -> &str {
        &self.keeper
    }

    /// The tags that say so.
    pub fn tags(&self) -> [(String, String); 2] {
        [(CLUSTER_TAG.to_owned(), self.cluster.clone()), (OWNER_TAG.to_owned(), self.keeper.clone())]
    }
}

/// As sentences name it: `list of cluster prod-1`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of cluster {}", self.keeper, self.cluster)
    }
}
