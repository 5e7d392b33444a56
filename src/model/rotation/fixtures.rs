//! What tests of several rules begin with.

use jiff::{SignedDuration, Timestamp};

use super::{Ack, Policy};
use crate::model::memory::Version1;

/// The issuer that is wanted.
pub(crate) const OURS: &str = "https://oidc.example.com";

/// So many seconds after the beginning of time.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// The lengths that an empty configuration gives.
pub(crate) fn policy() -> Policy {
    let days = |count: i64| SignedDuration::from_hours(24 * count);
    Policy {
        issuer: OURS.to_owned(),
        period: Some(days(90)),
        publish_lead: days(1),
        token_lifetime: days(1),
        verify_retention: days(366),
        clock_margin: SignedDuration::from_mins(5),
    }
}

/// Evidence of `node`, which signs with `signing`, accepts `served`, and has never been changed.
pub(crate) fn ack(node: &str, signing: &str, served: &[&str]) -> Ack {
    Ack {
        version: Version1,
        node: node.to_owned(),
        machine: String::new(),
        address: String::new(),
        at: at(0),
        generation: 3,
        served: served.iter().map(|kid| (*kid).to_owned()).collect(),
        signing_kid: signing.to_owned(),
        issuers: vec![OURS.to_owned()],
        key_on_disk: signing.to_owned(),
        key_on_disk_since: at(0),
        keys: Vec::new(),
        process_started_at: at(0),
        boot_id: String::new(),
        failure: None,
        webhook: None,
    }
}
