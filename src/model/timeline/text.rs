//! A timeline in a terminal: a line a lane. What was and what is expected differ by their signs, not by colour.

use std::fmt::Write as _;

use super::{KeyRow, Lane, Span, Timeline, minute};

/// Narrowest drawing, in columns.
const NARROWEST: usize = 80;
/// Columns before the drawing: the longest name of a lane between two spaces and two more.
const NAMES: usize = 13;
/// Columns that a date of the axis takes, with the space after it.
const DATE: usize = 14;

/// The drawing in `width` columns.
pub(super) fn draw(timeline: &Timeline, width: usize) -> String {
    let columns = width.max(NARROWEST) - NAMES;
    let mut text = format!(
        "Keys of {}, generation {}, at {} UTC\n\n",
        timeline.cluster,
        timeline.generation,
        minute(timeline.now)
    );
    text.push_str(&axis(timeline, columns));
    for key in &timeline.keys {
        let _ = writeln!(text, "\n{}\n{}", key.kid, wrapped("  ", &key.summary, columns + NAMES));
        for lane in Lane::ALL {
            text.push_str(&line(timeline, key, lane, columns));
        }
    }
    text.push_str("\n  █ ━ was   ╌ expected   │ now   ▸ goes on   ◂ began earlier\n");
    text.push_str("  published: in the JWKS, seen by an outsider; accepted: by the API servers\n");
    events(timeline, &mut text, columns + NAMES);
    text
}

/// Dates above, and where they are below.
fn axis(timeline: &Timeline, columns: usize) -> String {
    let (mut dates, mut marks) = (String::new(), vec![' '; columns]);
    for tick in timeline.ticks(columns / DATE) {
        let column = column(timeline.place(tick), columns);
        let label = timeline.label(tick);
        if column + label.len() <= columns && dates.chars().count() <= column {
            let _ = write!(dates, "{label:>width$}", width = column - dates.chars().count() + label.len());
            marks[column] = '╷';
        }
    }
    let now = column(timeline.place(timeline.now), columns);
    marks[now] = '│';
    let marks: String = marks.into_iter().collect();
    let indent = " ".repeat(NAMES);
    format!("{indent}{dates}\n{indent}{}\n", marks.trim_end())
}

/// One lane; nothing where the key is never in it.
fn line(timeline: &Timeline, key: &KeyRow, lane: Lane, columns: usize) -> String {
    let spans: Vec<&Span> = key.spans.iter().filter(|span| span.lane == lane && is_seen(timeline, span)).collect();
    if spans.is_empty() {
        return String::new();
    }
    let mut cells = vec![' '; columns];
    cells[column(timeline.place(timeline.now), columns)] = '│';
    for span in spans {
        fill(timeline, span, &mut cells);
    }
    let cells: String = cells.into_iter().collect();
    format!("  {:<width$}{}\n", lane.name(), cells.trim_end(), width = NAMES - 2)
}

fn is_seen(timeline: &Timeline, span: &Span) -> bool {
    span.from <= timeline.until && span.until.is_none_or(|until| until >= timeline.from)
}

/// Draws a span; a short one takes one column, so that it is seen at all.
fn fill(timeline: &Timeline, span: &Span, cells: &mut [char]) {
    let last = cells.len() - 1;
    let now = column(timeline.place(timeline.now), cells.len());
    let sign = match (span.is_expected, span.lane) {
        (true, _) => '╌',
        (false, Lane::Signing) => '█',
        (false, Lane::Published | Lane::Draining | Lane::Accepted) => '━',
    };
    let mut first = column(timeline.place(span.from), cells.len());
    let mut end = span.until.map_or(last, |until| column(timeline.place(until), cells.len()));
    match span.is_expected {
        true => first = (first).max(now + 1).min(last),
        false => end = end.min(now),
    }
    let end = end.max(first + 1).min(cells.len());
    // The column of now stays a line where something goes on across it.
    cells[first..end].fill(sign);
    if span.until.is_none_or(|until| until > timeline.until) {
        cells[last] = '▸';
    }
    if span.from < timeline.from {
        cells[0] = '◂';
    }
}

fn column(place: f64, columns: usize) -> usize {
    ((place * columns as f64) as usize).min(columns - 1)
}

/// The words of `text` after `first`, in lines of `width` columns, those after the first one below its words.
fn wrapped(first: &str, text: &str, width: usize) -> String {
    let indent = " ".repeat(first.chars().count());
    let mut lines = vec![first.trim_end().to_owned()];
    for word in text.split(' ') {
        let length = lines.last().map_or(0, |line| line.chars().count().max(indent.len()));
        if length + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            match line.chars().count() > indent.len() {
                true => line.push(' '),
                false => *line = format!("{line:<indent$}", indent = indent.len()),
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

fn events(timeline: &Timeline, text: &mut String, width: usize) {
    for (heading, is_expected) in [("What happened (UTC)", false), ("What is expected, not before", true)] {
        let events: Vec<_> = timeline.events.iter().filter(|event| event.is_expected == is_expected).collect();
        if !events.is_empty() {
            let _ = writeln!(text, "\n{heading}");
        }
        for event in events {
            let _ = writeln!(text, "{}", wrapped(&format!("  {}  ", minute(event.at)), &event.what, width));
        }
    }
}
