//! Coming from elsewhere: what the issuer, the keys and the roles that others have set up become under irsad, without one token that
//! is refused for it.
//!
//! Pure: what was found in, a [`Migration`] out. It is shown whole before anything of it is done, and nothing is done while it has a
//! refusal.

mod cloud;
mod configuration;
mod documents;
mod irsa_manager;
mod kops;
mod kops_roles;
mod takeover;
mod target;
#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf};

use super::{
    key::{Kid, Zeroizing},
    location::BucketName,
    plan::PublicAccessBlock,
};

pub use cloud::{FoundCloud, FoundProvider};
pub use documents::{FoundApiServer, FoundDocuments, Shown};
pub use irsa_manager::IrsaManager;
pub use kops::{KopsState, KopsStore, KopsStoreError, STATE_FILES};
pub use takeover::{Found, Own, ROLES_FILE, take_over};
pub use target::{FoundFiles, Target, Wish, target};

/// Who set up what is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A person, by the AWS guide for self-hosted clusters (aws/amazon-eks-pod-identity-webhook `SELF_HOSTED_SETUP.md`) or one of its
    /// followers.
    AwsGuide,
    /// EKS Anywhere with `podIamConfig`.
    EksAnywhere,
    /// irsa-manager, a controller in the cluster.
    IrsaManager,
    /// kops with `serviceAccountIssuerDiscovery`.
    Kops,
}

/// As the command line names it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwsGuide => "aws-guide",
            Self::EksAnywhere => "eks-anywhere",
            Self::IrsaManager => "irsa-manager",
            Self::Kops => "kops",
        })
    }
}

/// All that is going to be done, and what a person should know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migration {
    /// Files of this node, in the order in which they are written.
    pub files: Vec<NewFile>,
    /// Changes in AWS, in their order, before any file.
    pub steps: Vec<Step>,
    /// What becomes of tokens: one sentence each.
    pub effects: Vec<String>,
    /// What was found on the way and is worth a person's look; it stops nothing.
    pub findings: Vec<String>,
    /// Why nothing is done, each with the cure.
    pub refusals: Vec<String>,
}

/// A file that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
    /// The text that it replaces; `None` where there is no file.
    pub replaces: Option<String>,
}

/// What stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// What everybody may read.
    Text(String),
    /// A signing key, for the owner of the file alone.
    PrivateKey(PrivateKey),
}

/// A private key in PEM. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey {
    /// Its id.
    pub kid: Kid,
    pem: Zeroizing<String>,
}

impl PrivateKey {
    fn new(kid: Kid, pem: Zeroizing<String>) -> Self {
        Self { kid, pem }
    }

    /// The PEM block, for a file of mode 0600.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// One change in AWS. Each can be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Let the public access block of the bucket admit a public policy; its switches for ACLs stay.
    AdmitPublicPolicy {
        /// Bucket.
        bucket: BucketName,
        /// All four switches.
        block: PublicAccessBlock,
    },
    /// Let anyone read the two documents by the bucket's policy.
    AllowReading {
        /// Bucket.
        bucket: BucketName,
        /// The whole policy.
        policy: String,
    },
    /// Say by tag that irsad of this cluster looks after the IAM OIDC provider.
    OwnProvider {
        /// ARN of the provider.
        arn: String,
        /// The tag.
        tag: (String, String),
    },
    /// Remove tags by which somebody else would delete the IAM OIDC provider.
    Disown {
        /// ARN of the provider.
        arn: String,
        /// Keys of the tags.
        keys: Vec<String>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdmitPublicPolicy { bucket, .. } => {
                write!(
                    f,
                    "let the public access block of bucket {bucket} admit a public policy (its switches for ACLs stay)"
                )
            }
            Self::AllowReading { bucket, .. } => {
                write!(f, "add a statement to the policy of bucket {bucket}: anyone reads the two documents")
            }
            Self::OwnProvider { arn, tag: (key, value) } => {
                write!(f, "tag {arn} with {key}={value}: irsad looks after it from then on")
            }
            Self::Disown { arn, keys } => write!(f, "remove the tags {} from {arn}", keys.join(", ")),
        }
    }
}

impl Migration {
    /// Whether there is nothing left to do.
    pub fn is_done(&self) -> bool {
        self.files.is_empty() && self.steps.is_empty()
    }

    fn refuse(&mut self, why: impl Into<String>) {
        self.refusals.push(why.into());
    }

    fn find(&mut self, what: impl Into<String>) {
        self.findings.push(what.into());
    }

    /// Writes a file that may be there already. One that says something else is replaced only where the person said so.
    fn write(&mut self, path: PathBuf, text: String, found: Option<&str>, replace: bool) {
        match found {
            Some(found) if found == text => return,
            Some(_) if !replace => self.refuse(format!(
                "{} is there and says something else (left as it is); add --replace to have this one in its place, or move it away",
                path.display()
            )),
            Some(_) | None => {}
        }
        self.files.push(NewFile { path, content: Content::Text(text), replaces: found.map(str::to_owned) });
    }
}
