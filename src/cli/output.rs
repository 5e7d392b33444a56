//! How text is laid out for a person.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    path::Path,
};

use jiff::Timestamp;
use serde::Serialize;
use similar::TextDiff;

pub(super) use crate::model::outlook::duration;
use crate::model::{plan::Plan, report::waits};

/// Unchanged lines shown around a changed one.
const CONTEXT_LINES: usize = 3;

/// As `println!`, but a reader that went away (`irsad plan | head`) is no reason to stop what is under way.
macro_rules! say {
    ($($argument:tt)*) => { $crate::cli::output::print(format_args!("{}\n", format_args!($($argument)*))) };
}
pub(super) use say;

/// As `print!`, with the same exception as [`say!`].
///
/// # Panics
/// Standard output cannot be written for another reason, such as a full disk.
pub(super) fn print(text: fmt::Arguments<'_>) {
    match io::stdout().write_fmt(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => panic!("cannot write standard output: {error}"),
        Ok(()) | Err(_) => {}
    }
}

/// What a plan leaves to others, a line each: what needs a person, what is waited for, what is good to know.
pub(super) fn open_ends(plan: &Plan) -> String {
    let persons = plan.needs_a_person.iter().map(|why| format!("needs a person: {why}\n"));
    let waits = plan.waiting_for.iter().map(|what| format!("{}\n", waits(what)));
    persons.chain(waits).chain(plan.notices.iter().map(|notice| format!("note: {notice}\n"))).collect()
}

/// What becomes of a file, as `diff --unified` has it.
pub(super) fn diff(path: &Path, old: &str, new: &str) -> String {
    let path = path.display().to_string();
    TextDiff::from_lines(old, new).unified_diff().context_radius(CONTEXT_LINES).header(&path, &path).to_string()
}

/// Rows of cells as aligned columns, two spaces apart; the last column is not padded.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column + 1 < row.len() {
                let _ = write!(line, "{cell:<width$}  ", width = widths[column]);
            } else {
                line.push_str(cell);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How long ago something was.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.duration_since(then)))
}

/// A moment (UTC) and how long ago it was.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    format!("{} UTC ({})", then.strftime("%Y-%m-%d %H:%M"), ago(then, now))
}

/// Prints a value as indented JSON.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    say!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_have_no_space_at_the_end() {
        let rows = [vec!["KEY".to_owned(), "STATE".to_owned()], vec!["a".to_owned(), String::new()]];
        assert_eq!(columns(&rows), "KEY  STATE\na\n");
    }
}
