//! Every way in which the API server can give no usable answer, told apart.

use std::{error::Error, fmt, time::Duration};

use serde::Deserialize;
use thiserror::Error;

use crate::model::probe::sentence;

/// Longest part of the server's own message that is passed on.
const LONGEST_MESSAGE_CHARACTERS: usize = 300;

/// Why the API server gave no usable answer. Nothing is known about its keys then.
#[derive(Debug, Error)]
pub enum NoAnswer {
    /// The port is closed.
    #[error(
        "kube-apiserver is down or restarting: nothing listens at {url}; if it stays so, look at `crictl ps -a --name kube-apiserver` and the log of that container"
    )]
    Down {
        /// What was asked for.
        url: String,
    },
    /// The server's certificate was not accepted.
    #[error(
        "the certificate of {url} is not valid for this address and the kubeconfig's certificate authority; compare both with apiserver.crt and ca.crt of this node"
    )]
    Untrusted {
        /// What was asked for.
        url: String,
        /// What is wrong with the certificate.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection broke, or could not be made for another reason than a closed port.
    #[error("no answer from {url}: the connection failed; kube-apiserver may be stopping, it is asked again")]
    Broken {
        /// What was asked for.
        url: String,
        /// What happened to the connection.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Too slow.
    #[error(
        "no answer from {url} within {limit:?}; kube-apiserver is starting or overloaded, or does not reach etcd: it is asked again"
    )]
    TimedOut {
        /// What was asked for.
        url: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// 401.
    #[error(
        "{url} answered 401: kube-apiserver is starting, or the kubeconfig's certificate has expired or is of another authority (`kubeadm certs check-expiration`)"
    )]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// The server's message.
        #[source]
        source: Said,
    },
    /// 403. Normal for a moment while a server starts, for administrators too: it has not read its RBAC rules yet.
    #[error(
        "{url} answered 403: kube-apiserver is starting, or the kubeconfig's user is not allowed to ask; if it stays so, use an administrator's kubeconfig"
    )]
    Forbidden {
        /// What was asked for.
        url: String,
        /// The server's message.
        #[source]
        source: Said,
    },
    /// 404.
    #[error("{url} answered 404: there is no such thing on this kube-apiserver")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// 404 for the documents of service-account issuer discovery, which only a usable issuer turns on
    /// (`pkg/serviceaccount/openidmetadata.go` in kubernetes/kubernetes).
    #[error(
        "{url} answered 404: kube-apiserver serves no OIDC discovery, because its first --service-account-issuer is not an https URL without query and fragment"
    )]
    DiscoveryOff {
        /// What was asked for.
        url: String,
    },
    /// 409.
    #[error("{url} answered 409: somebody else has changed it meanwhile (left as they made it); it is looked at again")]
    Conflict {
        /// What was asked for.
        url: String,
        /// The server's message.
        #[source]
        source: Said,
    },
    /// 400 or 422.
    #[error("{url} answered {status}: kube-apiserver refuses what was asked (left as it was)")]
    Refused {
        /// What was asked for.
        url: String,
        /// HTTP status code.
        status: u16,
        /// The server's message.
        #[source]
        source: Said,
    },
    /// 410: the change that was asked from is too long ago (Kubernetes API concepts, "410 Gone responses").
    #[error("{url} answered 410: what happened since the last answer is no longer known; everything is listed anew")]
    Expired {
        /// What was asked for.
        url: String,
    },
    /// 429 or 5xx.
    #[error("{url} answered {status}: kube-apiserver is starting, stopping or overloaded; it is asked again")]
    Busy {
        /// What was asked for.
        url: String,
        /// HTTP status code.
        status: u16,
        /// The server's message.
        #[source]
        source: Said,
    },
    /// Any other status.
    #[error("{url} answered {status}, which kube-apiserver does not; check that nothing else listens there")]
    Unexpected {
        /// What was asked for.
        url: String,
        /// HTTP status code.
        status: u16,
        /// The server's message.
        #[source]
        source: Said,
    },
    /// Not what was asked for.
    #[error(
        "{url} answered something that is not {expected}; check that nothing else than kube-apiserver listens there"
    )]
    Garbled {
        /// What was asked for.
        url: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// Longer than is read.
    #[error(
        "{url} answered with more than {limit_bytes} bytes, which were not read; check that nothing else than kube-apiserver listens there"
    )]
    TooLong {
        /// What was asked for.
        url: String,
        /// The limit that was passed.
        limit_bytes: usize,
    },
}

impl NoAnswer {
    /// Whether the port is closed: the process is certainly not there at this moment (it may be restarting).
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Down { .. })
    }

    /// Whether the server's own rules of access have refused it, not an admission policy or a quota (kubernetes/kubernetes
    /// `staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`). A server that starts says so of
    /// administrators too, until it has read its rules.
    pub fn is_of_access(&self) -> bool {
        match self {
            Self::Forbidden { source: Said(said), .. } => {
                let of_user = said.split_once("forbidden: User \"").map(|(_, rest)| rest);
                of_user.is_some_and(|rest| rest.contains("\" cannot "))
            }
            _ => false,
        }
    }

    /// The whole chain as one text, for a [`Probe::Unknown`](crate::model::probe::Probe::Unknown).
    pub fn reason(&self) -> String {
        sentence(self)
    }
}

/// What the API server itself said about a refusal: the `message` of its `Status`, or the beginning of another text.
#[derive(Debug, Error)]
pub struct Said(String);

impl Said {
    pub(super) fn new(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Status {
            message: String,
        }
        let text = serde_json::from_slice::<Status>(body)
            .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |status| status.message);
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line: String = line.trim().chars().take(LONGEST_MESSAGE_CHARACTERS).collect();
        Self(if line.is_empty() { "no message".to_owned() } else { line })
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_for_want_of_rights_is_told_from_one_of_admission() {
        for (message, is_of_access) in [
            (
                "serviceaccounts \"app\" is forbidden: User \"kubernetes-admin\" cannot patch resource \"serviceaccounts\" in API group \"\" in the namespace \"shop\"",
                true,
            ),
            (
                "serviceaccounts is forbidden: User \"kubernetes-admin\" cannot create resource \"serviceaccounts\" in API group \"\" in the namespace \"shop\": RBAC: clusterrole.rbac.authorization.k8s.io \"cluster-admin\" not found",
                true,
            ),
            ("forbidden: User \"kubernetes-admin\" cannot get path \"/api\"", true),
            ("admission webhook \"deny.example.com\" denied the request: User \"app\" cannot be made", false),
            (
                "serviceaccounts \"app\" is forbidden: ValidatingAdmissionPolicy 'names' with binding 'names' denied request: no",
                false,
            ),
            ("serviceaccounts \"app\" is forbidden: exceeded quota: few, requested: count/serviceaccounts=1", false),
        ] {
            let source = Said::new(serde_json::json!({ "message": message }).to_string().as_bytes());
            let error = NoAnswer::Forbidden { url: String::new(), source };
            assert_eq!(error.is_of_access(), is_of_access, "{message}");
        }
        assert!(!NoAnswer::NotFound { url: String::new() }.is_of_access());
    }

    #[test]
    fn refusal_is_told_in_one_short_line() {
        for (body, said) in [
            (r#"{"kind":"Status","message":"two\nlines"}"#.to_owned(), "two lines".to_owned()),
            ("\u{1b}[31mred".to_owned(), "[31mred".to_owned()),
            ("{}".to_owned(), "{}".to_owned()),
            (" \n".to_owned(), "no message".to_owned()),
            ("ä".repeat(1000), "ä".repeat(300)),
        ] {
            assert_eq!(Said::new(body.as_bytes()).to_string(), said);
        }
    }
}
