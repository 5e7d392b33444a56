//! One control-plane node of the small world, with its files and its API server.

use super::super::*;
use crate::model::webhook::WebhookState;

#[derive(Clone)]
pub struct Node {
    pub name: String,
    pub machine: String,
    pub manifest: Option<String>,
    pub signing: Option<PublicKey>,
    pub standby: Option<PublicKey>,
    /// Keys that `irsad prepare` made here.
    pub of_prepare: Vec<PublicKey>,
    pub verifying: Vec<PublicKey>,
    pub process: Option<Process>,
    pub starts_at: Option<Timestamp>,
    pub never_started: bool,
    /// The machine is switched on.
    pub is_on: bool,
    /// irsad runs on it.
    pub has_irsad: bool,
    pub starts_with: fn(&Manifest) -> bool,
    pub written_at: Timestamp,
    pub change: Option<Change>,
    pub begun_at: Timestamp,
    pub refused: Option<RefusedChange>,
    pub proven: Option<Proven>,
    pub torn_down: Option<TornDown>,
    pub last_good: Option<String>,
    pub applied: Option<Vec<u8>>,
    pub restarts: usize,
    pub leads: bool,
    /// What its webhook server says.
    pub webhook: Option<WebhookState>,
    pub out_of_reach: Option<String>,
}

impl Node {
    pub fn stop(&mut self, now: Timestamp, seconds: i64) {
        self.process = None;
        self.starts_at = Some(now.checked_add(SignedDuration::from_secs(seconds)).expect("a time"));
    }

    pub fn start(&mut self, now: Timestamp) {
        self.starts_at = None;
        let Some(text) = &self.manifest else { return };
        let manifest = Manifest::parse(text.as_bytes()).expect("a manifest");
        self.never_started = false;
        self.restarts += 1;
        self.process = (self.starts_with)(&manifest).then(|| Process {
            started_at: now,
            issuers: manifest.issuers().to_vec(),
            signing: self.signing.clone().expect("a signing key"),
            verifying: self.verifying.clone(),
        });
    }
}
