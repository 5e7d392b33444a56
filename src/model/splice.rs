//! Changes to a YAML text that leave every other byte as it is: which lines, how a new value is spelled, in which order.
//!
//! It must not know what the text means; `manifest` and `kubeadm` decide that and prove the result.

use std::ops::Range;

use super::yaml::{Node, ScalarStyle};

/// Replacements of byte ranges of one text, collected and then applied at once.
pub(super) struct Splices<'a> {
    text: &'a str,
    parts: Vec<(Range<usize>, String)>,
}

impl<'a> Splices<'a> {
    /// No changes yet to `text`, which ends with a line end.
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, parts: Vec::new() }
    }

    /// Puts `new` where `range` stands.
    pub(super) fn replace(&mut self, range: Range<usize>, new: impl Into<String>) {
        self.parts.push((range, new.into()));
    }

    /// Puts `new` at byte `at`, behind what was inserted there before.
    pub(super) fn insert(&mut self, at: usize, new: impl Into<String>) {
        self.replace(at..at, new);
    }

    /// Takes out every line that `range` touches.
    pub(super) fn delete_lines(&mut self, range: Range<usize>) {
        let last = range.end.saturating_sub(1).max(range.start);
        self.replace(line_start(self.text, range.start)..line_end(self.text, last), "");
    }

    /// The changed text; `None` if two changes touch the same bytes.
    pub(super) fn apply(mut self) -> Option<String> {
        self.parts.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut changed, mut at) = (String::with_capacity(self.text.len() + 1024), 0);
        for (range, new) in &self.parts {
            changed.push_str(self.text.get(at..range.start)?);
            changed.push_str(new);
            at = range.end;
        }
        changed.push_str(self.text.get(at..)?);
        Some(changed)
    }
}

/// First byte of the line that byte `at` is in, which may be within a character.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

/// Byte behind the line end of the line that byte `at` is in, which may be within a character.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text.as_bytes()[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| at + end + 1)
}

/// Whether nothing but spaces and a comment stands between byte `at` and the end of its line.
pub(super) fn line_ends_at(text: &str, at: usize) -> bool {
    let rest = text[at..line_end(text, at)].trim_end_matches('\n');
    let bare = rest.trim_start_matches(' ');
    bare.is_empty() || (bare.starts_with('#') && bare.len() < rest.len())
}

/// What stands before a list item in its line (`    - `), if the item is one scalar that begins and ends in that line.
pub(super) fn item_prefix<'t>(text: &'t str, item: &Node) -> Option<&'t str> {
    let place = item.place;
    let prefix = &text[line_start(text, place.start)..place.start];
    let dash = prefix.trim_start_matches(' ');
    let after = dash.strip_prefix('-')?;
    let one_line = is_one_line(text, item) && line_ends_at(text, place.end);
    (one_line && !after.is_empty() && after.bytes().all(|byte| byte == b' ')).then_some(prefix)
}

/// Whether a scalar was written plain or quoted, without a line end in it.
pub(super) fn is_one_line(text: &str, scalar: &Node) -> bool {
    let flow = matches!(scalar.style(), Some(ScalarStyle::Plain | ScalarStyle::Single | ScalarStyle::Double));
    flow && !text[scalar.place.start..scalar.place.end].contains('\n')
}

/// Where lines can be put directly below `KEY:`, if only a comment follows the colon in the key's line.
///
/// Above the first entry and its comments: no end of a multi-line value has to be guessed there.
pub(super) fn below_key(text: &str, key: &Node) -> Option<usize> {
    let colon = key.place.end + text[key.place.end..].strip_prefix(':').map(|_| 1)?;
    line_ends_at(text, colon).then(|| line_end(text, colon))
}

/// `text` as a YAML scalar for block context: in the wanted style, but never plain when that could be read as anything
/// but this text (YAML 1.1 or 1.2). Only for printable ASCII.
pub(super) fn spelled(text: &str, style: ScalarStyle) -> String {
    match style {
        ScalarStyle::Double => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        ScalarStyle::Plain if is_plain(text) => text.to_owned(),
        ScalarStyle::Plain | ScalarStyle::Single | ScalarStyle::Literal | ScalarStyle::Folded => {
            format!("'{}'", text.replace('\'', "''"))
        }
    }
}

/// Whether `text` without quotes is certainly this text, not a number, boolean, null, comment or mapping.
fn is_plain(text: &str) -> bool {
    let flag = text.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.contains(['.', '/', '-']);
    (flag || word) && !text.contains(": ") && !text.contains(" #") && !text.ends_with([':', ' '])
}

/// One step from the list that stands to the list that is wanted. Numbers are positions in the two lists.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Put these wanted ones directly before this standing one.
    Before(usize, Range<usize>),
    /// Put these wanted ones directly behind this standing one.
    After(usize, Range<usize>),
    /// Put these wanted ones; nothing stands yet.
    Fresh(Range<usize>),
    /// Take this standing one out.
    Remove(usize),
}

/// How `standing` becomes `wanted` with the first standing ones left where they are.
pub(super) fn steps(standing: &[&str], wanted: &[&str]) -> Vec<Step> {
    let (mut steps, mut next, mut last_kept) = (Vec::new(), 0, None);
    for (position, value) in standing.iter().enumerate() {
        match wanted[next..].iter().position(|other| other == value) {
            Some(ahead) => {
                if ahead > 0 {
                    steps.push(Step::Before(position, next..next + ahead));
                }
                next += ahead + 1;
                last_kept = Some(position);
            }
            None => steps.push(Step::Remove(position)),
        }
    }
    if next < wanted.len() {
        let rest = next..wanted.len();
        steps.push(match last_kept {
            Some(position) => Step::After(position, rest),
            None if standing.is_empty() => Step::Fresh(rest),
            None => Step::Before(0, rest),
        });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_from_what_stands_to_what_is_wanted() {
        for (standing, wanted, expected) in [
            (vec!["a"], vec!["a"], vec![]),
            (vec![], vec!["a", "b"], vec![Step::Fresh(0..2)]),
            (vec!["old"], vec!["new", "old"], vec![Step::Before(0, 0..1)]),
            (vec!["old"], vec!["new"], vec![Step::Remove(0), Step::Before(0, 0..1)]),
            (vec!["new"], vec!["new", "old"], vec![Step::After(0, 1..2)]),
            (vec!["old", "new"], vec!["new", "old"], vec![Step::Before(0, 0..1), Step::Remove(1)]),
            (vec!["a", "a"], vec!["a"], vec![Step::Remove(1)]),
            (vec!["a", "x", "c"], vec!["a", "b", "c"], vec![Step::Remove(1), Step::Before(2, 1..2)]),
        ] {
            assert_eq!(steps(&standing, &wanted), expected, "{standing:?} -> {wanted:?}");
        }
    }

    #[test]
    fn value_that_could_be_read_as_something_else_is_quoted() {
        for (text, plain) in [
            ("--service-account-issuer=https://a.example.com", "--service-account-issuer=https://a.example.com"),
            ("https://a.example.com", "https://a.example.com"),
            ("true", "'true'"),
            ("no", "'no'"),
            ("12", "'12'"),
            ("1:30", "'1:30'"),
            ("---", "'---'"),
            ("--a=b: c", "'--a=b: c'"),
            ("--a=b #c", "'--a=b #c'"),
            ("--a=it's ", "'--a=it''s '"),
            ("", "''"),
        ] {
            assert_eq!(spelled(text, ScalarStyle::Plain), plain);
        }
        assert_eq!(spelled("a\"\\b", ScalarStyle::Double), "\"a\\\"\\\\b\"");
    }

    #[test]
    fn line_ends_behind_a_value_only_if_spaces_and_a_comment_follow() {
        for (text, expected) in
            [("a\n", true), ("a", true), ("a  \n", true), ("a # c\n", true), ("a#c\n", false), ("a b\n", false)]
        {
            assert_eq!(line_ends_at(text, 1), expected, "{text:?}");
        }
    }

    #[test]
    fn changes_that_overlap_are_not_applied() {
        let mut splices = Splices::of("abc\n");
        splices.replace(0..2, "x");
        splices.replace(1..3, "y");
        assert_eq!(splices.apply(), None);
    }
}
