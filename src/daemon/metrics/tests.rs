use std::collections::BTreeSet;

use super::*;
use crate::{
    model::metrics::{
        Outside,
        aws::{AwsCall, CallResult},
        of_pass,
    },
    webhook::stats::Outcome as Reviewed,
};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const DRIFTED: Outside = Outside { published: Some(true), provider_drifts: Some(true) };

fn board(state: webhook::State) -> Arc<Board> {
    let (_, webhook) = flag::channel(state);
    let board = Board::new(Sources { calls: Calls::default(), reviews: Arc::default(), webhook });
    board.sources.reviews.count(Reviewed::Patched, Duration::from_millis(3));
    Arc::new(board)
}

/// The sample that begins so.
fn value<'a>(text: &'a str, sample: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
}

#[test]
fn page_shows_what_the_last_pass_the_tally_and_the_webhook_say() -> Outcome {
    let state = webhook::State {
        ready: Some(Ok(())),
        served_until: Some(Timestamp::from_second(2_000_000_000)?),
        ..webhook::State::default()
    };
    let board = board(state);
    let report = serde_json::from_str(include_str!("../../../tests/fixtures/formats/status-v1.json"))?;
    *board.shown.lock().unwrap_or_else(PoisonError::into_inner) = of_pass(&report, Some(DRIFTED));
    board.tally().end(true, Timestamp::from_second(1_900_000_000)?, Duration::from_millis(250));
    let (content_type, text) = board.text()("");
    assert_eq!(content_type, OPEN_METRICS);
    for (sample, expected) in [
        ("irsad_needs_person", "1.0"),
        ("irsad_provider_drift", "1.0"),
        ("irsad_passes_total{result=\"ok\"}", "1.0"),
        ("irsad_last_pass_timestamp_seconds", "1900000000.0"),
        ("irsad_last_pass_duration_seconds", "0.25"),
        ("irsad_webhook_ready", "1.0"),
        ("irsad_webhook_certificate_expiry_timestamp_seconds", "2000000000.0"),
        ("irsad_webhook_requests_total{result=\"patched\"}", "1.0"),
        ("irsad_webhook_request_duration_seconds_bucket{le=\"0.0025\"}", "0"),
        ("irsad_webhook_request_duration_seconds_bucket{le=\"0.005\"}", "1"),
        ("irsad_webhook_request_duration_seconds_bucket{le=\"+Inf\"}", "1"),
        ("irsad_webhook_request_duration_seconds_sum", "0.003"),
    ] {
        assert_eq!(value(&text, sample), Some(expected), "{sample}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
    Ok(())
}

#[test]
fn page_names_each_family_once_with_prefix_and_unit() -> Outcome {
    let report = serde_json::from_str(include_str!("../../../tests/fixtures/formats/status-v1.json"))?;
    let board = board(webhook::State { ready: Some(Ok(())), ..webhook::State::default() });
    *board.shown.lock().unwrap_or_else(PoisonError::into_inner) = of_pass(&report, Some(DRIFTED));
    let (_, text) = board.text()("");
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let names: BTreeSet<&str> = types.iter().filter_map(|line| Some(line.split_once(' ')?.0)).collect();
    assert_eq!(names.len(), types.len(), "{types:#?}");
    assert!(names.iter().all(|name| name.starts_with("irsad_")), "{names:#?}");
    let moments = names.iter().filter(|name| name.contains("timestamp") || name.contains("duration"));
    assert!(moments.clone().count() > 5 && moments.clone().all(|name| name.ends_with("_seconds")), "{names:#?}");
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
    assert!(helps.clone().count() == names.len() && helps.clone().all(|help| help.ends_with('.')), "{text}");
    Ok(())
}

#[test]
fn node_without_a_webhook_shows_nothing_of_one() {
    let (content_type, text) = board(webhook::State::default()).text()("text/plain");
    assert_eq!(content_type, OLD_TEXT);
    assert!(!text.contains("webhook"), "{text}");
    assert_eq!(value(&text, "irsad_build_info{version=\"0.1.0\"}"), Some("1"), "{text}");
}

/// irsad(8).
const MANUAL: &str = include_str!("../../../packaging/man/irsad.8");

/// A board of an irsad that has everything there is.
fn complete() -> std::result::Result<Arc<Board>, Box<dyn std::error::Error>> {
    let moment = Timestamp::from_second(1_900_000_000)?;
    let state = webhook::State { ready: Some(Ok(())), served_until: Some(moment), ..webhook::State::default() };
    let board = board(state);
    let mut status: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/formats/status-v1.json"))?;
    status["webhook"] = serde_json::json!({ "mode": "builtIn", "registered": true, "summary": "a sentence" });
    status["roles"] = serde_json::json!({
        "mode": "list", "ready": 1, "pending": 0, "waiting": 0, "needAPerson": 0, "summary": "a sentence", "faults": [],
    });
    let shown = of_pass(&serde_json::from_value(status)?, Some(DRIFTED));
    *board.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    let mut tally = board.tally();
    tally.done(&Action::ForgetChange);
    tally.failed(&Action::ForgetChange);
    tally.end(true, moment, Duration::ZERO);
    drop(tally);
    let (service, operation) = ("S3".to_owned(), "GetObject".to_owned());
    board.sources.calls.add(AwsCall { service, operation, result: CallResult::Ok });
    Ok(board)
}

#[test]
fn manual_lists_each_metric_and_no_other() -> Outcome {
    let (_, text) = complete()?.text()("text/plain");
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let section = MANUAL.split(".SH METRICS\n").nth(1).and_then(|rest| rest.split("\n.SH ").next());
    let entries =
        section.unwrap_or_default().split(".TP\n").skip(1).filter_map(|entry| entry.split_whitespace().nth(1));
    let listed: Vec<&str> = entries.collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), shown);
    assert_eq!(listed.len(), shown.len(), "one of them stands twice");
    Ok(())
}
