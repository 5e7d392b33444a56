//! What must hold for a token to be accepted outside the cluster, check by check, each with its cure.

mod across;
mod roles;
mod teardown;
mod webhook;

use serde::Serialize;

pub use across::{Across, across};
pub use roles::{roles, service_account_roles};
pub use teardown::teardown;
pub use webhook::webhook;

use super::{
    discovery::{DISCOVERY_PATH, Discovery},
    jwks::Jwks,
    plan::{ApiServer, Desired, Facts, PublicDocument, StoredDocument},
    probe::Probe,
    report::missed_pods_report,
    served::{Place, Served},
};

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What is checked, as a statement that should be true.
    pub statement: String,
    /// How it turned out.
    pub outcome: Outcome,
}

/// How a check turned out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "result", content = "why")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not; why, and what to do.
    Fails(String),
    /// It could not be asked; why.
    Unknown(String),
    /// It does not apply here; why.
    Skipped(String),
}

/// Every check of one look at the world.
pub fn checks(desired: &Desired, facts: &Facts) -> Vec<Check> {
    let mut checks = documents(desired, facts).to_vec();
    checks.extend(api_server(facts, desired.issuer.as_str()));
    checks.push(trusted(desired, facts));
    checks
}

/// What outsiders find at the issuer.
fn documents(desired: &Desired, facts: &Facts) -> [Check; 4] {
    let cluster = &facts.cluster;
    let discovery_url = desired.issuer.document(DISCOVERY_PATH);
    let served = match &facts.node.api_server {
        ApiServer::Seen(evidence) => Some(&evidence.served),
        ApiServer::None | ApiServer::NoKubeconfig(_) | ApiServer::Silent(_) => None,
    };
    [
        store(desired, facts),
        Check {
            statement: format!("{discovery_url} names issuer {} and its keys", desired.issuer),
            outcome: public(cluster.public_discovery.as_ref(), &discovery_url, |found| {
                discovery_document(desired, found)
            }),
        },
        Check {
            statement: format!("{} is a JWK Set", desired.jwks_uri()),
            outcome: public(cluster.public_jwks.as_ref(), &desired.jwks_uri(), |found| {
                match Jwks::parse(&found.body) {
                    Ok(_) => Outcome::Holds,
                    Err(error) => Outcome::Fails(format!("{error}; the daemon publishes it anew within a minute")),
                }
            }),
        },
        Check { statement: "every key in use is published".to_owned(), outcome: keys_in_use(facts, served) },
    ]
}

fn trusted(desired: &Desired, facts: &Facts) -> Check {
    Check {
        statement: format!("IAM trusts {}{}", desired.issuer, audiences(desired)),
        outcome: provider(desired, facts),
    }
}

/// Whether pods have the credentials that they should have. Not part of [`checks`]: nothing of the issuer hangs on it.
pub fn pods(facts: &Facts) -> Check {
    let outcome = match (&facts.pods, missed_pods_report(facts).and_then(|report| report.line())) {
        (None, _) => Outcome::Skipped("no kube-apiserver was asked".to_owned()),
        (Some(Probe::Unknown(why)), _) => Outcome::Unknown(why.clone()),
        (Some(Probe::Present(_) | Probe::Absent), None) => Outcome::Holds,
        (Some(Probe::Present(_) | Probe::Absent), Some(line)) => Outcome::Fails(line),
    };
    Check { statement: "every pod whose service account has a role has credentials".to_owned(), outcome }
}

/// The side before the URL: who reads on finds the URL wrong and knows which of the two is to be put right.
fn store(desired: &Desired, facts: &Facts) -> Check {
    let cluster = &facts.cluster;
    let documents = [
        (desired.jwks_path.as_str(), cluster.jwks(), &cluster.public_jwks),
        (DISCOVERY_PATH, cluster.discovery(), &cluster.public_discovery),
    ];
    let of_one = |(path, stored, public): (&str, &Probe<StoredDocument>, &Option<Probe<PublicDocument>>)| {
        let url = desired.issuer.document(path);
        let by_front = desired.is_served_by_front();
        let place = Place { path, url: &url, store: &desired.store, by_front };
        match (stored, public) {
            (Probe::Unknown(why), _) => Outcome::Unknown(why.clone()),
            (Probe::Absent, _) => Outcome::Fails(format!(
                "{} holds no {}; is the daemon running, and may it write there?",
                desired.store,
                place.kind()
            )),
            (Probe::Present(_), None) => Outcome::Holds,
            (Probe::Present(stored), Some(public)) => {
                let served = place.compare(&stored.body, public);
                match (place.sentence(&served), served) {
                    (None, _) => Outcome::Holds,
                    (Some(why), Served::Unknown(_)) => Outcome::Unknown(why),
                    (Some(why), _) => Outcome::Fails(why),
                }
            }
        }
    };
    let outcomes = documents.map(of_one);
    let first = outcomes.iter().find(|outcome| **outcome != Outcome::Holds).cloned().unwrap_or(Outcome::Holds);
    let statement = format!("{} serves what {} holds", desired.issuer, desired.store);
    Check { statement, outcome: first }
}

fn public(found: Option<&Probe<PublicDocument>>, url: &str, check: impl FnOnce(&PublicDocument) -> Outcome) -> Outcome {
    match found {
        None => Outcome::Skipped("below a --root without an API server there is no outsider".to_owned()),
        Some(Probe::Absent) => {
            Outcome::Fails(format!("{url} is not found; is the daemon running and the store right?"))
        }
        Some(Probe::Unknown(why)) => Outcome::Unknown(why.clone()),
        Some(Probe::Present(found)) => check(found),
    }
}

fn discovery_document(desired: &Desired, found: &PublicDocument) -> Outcome {
    match Discovery::parse(&found.body) {
        Err(error) => Outcome::Fails(format!("{error}; the daemon publishes it anew within a minute")),
        Ok(document) if document.issuer != desired.issuer.as_str() => {
            Outcome::Fails(format!("it names issuer {}; another cluster may write there too", document.issuer))
        }
        Ok(document) if document.jwks_uri != desired.jwks_uri() => Outcome::Fails(format!(
            "it names {} for its keys; the daemon publishes it anew within a minute",
            document.jwks_uri
        )),
        Ok(_) => Outcome::Holds,
    }
}

fn keys_in_use(facts: &Facts, served: Option<&Jwks>) -> Outcome {
    let Some(published) = &facts.cluster.public_jwks else {
        return Outcome::Skipped("below a --root without an API server there is no outsider".to_owned());
    };
    let Some(Ok(published)) = published.present().map(|found| Jwks::parse(&found.body)) else {
        return Outcome::Unknown("the published JWK Set could not be read".to_owned());
    };
    if let Some(why) = facts.node.verifying_keys.unknown() {
        return Outcome::Unknown(why.to_owned());
    }
    let on_disk = facts.node.verifying_keys.present().into_iter().flatten().map(|key| key.kid().to_string());
    let running = served.into_iter().flat_map(Jwks::kids).map(str::to_owned);
    let mut missing: Vec<String> =
        on_disk.chain(running).filter(|kid| !published.kids().any(|known| known == kid)).collect();
    missing.sort();
    missing.dedup();
    match missing.as_slice() {
        [] => Outcome::Holds,
        missing => Outcome::Fails(format!(
            "key {} is not published: tokens it signs are refused outside; see irsad status for what the daemon waits for",
            missing.join(", ")
        )),
    }
}

/// `issuer`: the one that it is to sign as.
fn api_server(facts: &Facts, issuer: &str) -> Vec<Check> {
    let check = |statement: String, outcome: Outcome| Check { statement, outcome };
    let ready = "this node's kube-apiserver is ready".to_owned();
    let signs = format!("it signs as {issuer}");
    let evidence = match &facts.node.api_server {
        ApiServer::None => return vec![check(ready, Outcome::Skipped("none runs here yet".to_owned()))],
        ApiServer::NoKubeconfig(why) | ApiServer::Silent(why) => {
            return vec![check(ready, Outcome::Unknown(why.clone()))];
        }
        ApiServer::Seen(evidence) => evidence,
    };
    vec![
        check(
            ready,
            match evidence.ready {
                true => Outcome::Holds,
                false => Outcome::Fails(
                    "/readyz is not 200; kubectl get --raw '/readyz?verbose' says what is not ready".to_owned(),
                ),
            },
        ),
        check(
            signs,
            match evidence.signs_as() {
                Some(found) if found == issuer => Outcome::Holds,
                Some(found) => Outcome::Fails(format!("it signs as {found}; irsad plan shows the change that is due")),
                None => Outcome::Unknown("its discovery is off and no probe token was minted".to_owned()),
            },
        ),
        check(
            "it signs with the key of the signing key file".to_owned(),
            signs_with_our_key(facts, &evidence.probe_token),
        ),
    ]
}

fn signs_with_our_key(facts: &Facts, token: &Probe<super::plan::ProbeToken>) -> Outcome {
    match (token, facts.node.signing_key.present()) {
        (Probe::Present(token), Some(key)) if token.kid == key.kid().as_str() => Outcome::Holds,
        (Probe::Present(token), Some(key)) => Outcome::Fails(format!(
            "it signs with key {} and the file holds {}; the next restart of kube-apiserver takes the file's",
            token.kid,
            key.kid()
        )),
        (Probe::Unknown(why), _) => Outcome::Unknown(why.clone()),
        (Probe::Present(_) | Probe::Absent, _) => {
            Outcome::Unknown("no probe token or no signing key could be read".to_owned())
        }
    }
}

/// Whom the provider is for; nothing where it is none of ours.
fn audiences(desired: &Desired) -> String {
    let Some(provider) = &desired.provider else { return String::new() };
    format!(" for {}", provider.audiences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn provider(desired: &Desired, facts: &Facts) -> Outcome {
    let (Some(wanted), Some(found)) = (&desired.provider, &facts.cluster.provider) else {
        return Outcome::Skipped("provider.manage is false".to_owned());
    };
    match found {
        Probe::Unknown(why) => Outcome::Unknown(why.clone()),
        Probe::Absent => Outcome::Fails(
            "there is no IAM OIDC provider of this issuer; the daemon makes it once the documents are public"
                .to_owned(),
        ),
        Probe::Present(found) => match wanted.audiences.iter().find(|audience| !found.audiences.contains(audience)) {
            None => Outcome::Holds,
            Some(audience) => Outcome::Fails(format!("the provider lacks audience {audience}; see irsad status")),
        },
    }
}
