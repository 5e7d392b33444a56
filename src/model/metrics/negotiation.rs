//! In which of two texts metrics are written: OpenMetrics 1.0, and the older text of Prometheus 0.0.4 for who asks for that only.

use std::collections::BTreeMap;

/// `Content-Type` of OpenMetrics ("OpenMetrics 1.0", section "Protocol Negotiation").
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// `Content-Type` of the older text (Prometheus documentation, "Exposition formats").
pub const OLD_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a client with this `Accept` takes the older text and not OpenMetrics. Without one, OpenMetrics it is.
pub fn wants_old_text(accept: &str) -> bool {
    let named = |media_type: &str| accept.split(',').any(|range| range.trim().starts_with(media_type));
    named("text/plain") && !named("application/openmetrics-text")
}

/// OpenMetrics text as the older one: there a family of counters is named like its samples, and `info` is no type.
pub fn old_text(open_metrics: &str) -> String {
    let types = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: BTreeMap<&str, &str> = types.collect();
    let suffix = |name: &str| match types.get(name) {
        Some(&"counter") => "_total",
        Some(&"info") => "_info",
        Some(_) | None => "",
    };
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let word = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        let named = word.and_then(|(word, rest)| Some((word, rest.split_once(' ')?)));
        match named {
            Some(("HELP", (name, help))) => text.push_str(&format!("# HELP {name}{} {help}", suffix(name))),
            Some(("TYPE", (name, "info"))) => text.push_str(&format!("# TYPE {name}_info gauge")),
            Some(("TYPE", (name, kind))) => text.push_str(&format!("# TYPE {name}{} {kind}", suffix(name))),
            // `# UNIT` and `# EOF` are of the other format.
            Some(_) => continue,
            None if line.starts_with('#') => continue,
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_text_is_written_for_who_takes_nothing_newer() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, old) in [
            ("", false),
            ("*/*", false),
            (PROMETHEUS, false),
            ("text/plain", true),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", true),
            ("application/vnd.google.protobuf;q=0.7, text/plain;version=0.0.4;q=0.3", true),
        ] {
            assert_eq!(wants_old_text(accept), old, "{accept}");
        }
    }

    #[test]
    fn old_text_names_counters_as_their_samples_and_knows_no_info() {
        let open_metrics = "# HELP irsad_passes Passes.\n# TYPE irsad_passes counter\nirsad_passes_total{result=\"ok\"} 1.0\n\
                            # HELP irsad_build Program.\n# TYPE irsad_build info\nirsad_build_info{version=\"1\"} 1\n\
                            # HELP irsad_x_seconds Time.\n# TYPE irsad_x_seconds gauge\n# UNIT irsad_x_seconds seconds\nirsad_x_seconds 2.0\n# EOF\n";
        let old = "# HELP irsad_passes_total Passes.\n# TYPE irsad_passes_total counter\nirsad_passes_total{result=\"ok\"} 1.0\n\
                   # HELP irsad_build_info Program.\n# TYPE irsad_build_info gauge\nirsad_build_info{version=\"1\"} 1\n\
                   # HELP irsad_x_seconds Time.\n# TYPE irsad_x_seconds gauge\nirsad_x_seconds 2.0\n";
        assert_eq!(old_text(open_metrics), old);
    }
}
