//! `skip-containers`: one record of CSV (RFC 4180) as Go's encoding/csv reads it, on which annotations in the field rely.

use std::{iter::Peekable, str::Lines};

/// The names in the first record; `None` where there is none, or one with quotes out of place.
///
/// Blanks are part of a name. Blank lines before the record and all lines behind it do not count.
pub(super) fn names(annotation: &str) -> Option<Vec<String>> {
    // Lines::next strips "\r\n" too; a lone "\r" counts only at the very end, where Go drops it.
    let annotation = annotation.strip_suffix('\r').unwrap_or(annotation);
    let mut lines = annotation.lines().peekable();
    while lines.next_if(|line| line.is_empty()).is_some() {}
    let mut rest = lines.next()?;
    let mut names = Vec::new();
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted, &mut lines)?,
            None => plain_name(rest)?,
        };
        names.push(name);
        match behind {
            Some(behind) => rest = behind,
            None => return Some(names),
        }
    }
}

/// A name up to the next comma, and what stands behind that.
fn plain_name(text: &str) -> Option<(String, Option<&str>)> {
    let (name, behind) = text.split_once(',').map_or((text, None), |(name, behind)| (name, Some(behind)));
    (!name.contains('"')).then(|| (name.to_owned(), behind))
}

/// A name up to its closing quote, which may stand some lines further on; two quotes are one.
fn quoted_name<'a>(mut text: &'a str, lines: &mut Peekable<Lines<'a>>) -> Option<(String, Option<&'a str>)> {
    let mut name = String::new();
    loop {
        let Some((part, behind)) = text.split_once('"') else {
            name.push_str(text);
            name.push('\n');
            text = lines.next()?;
            continue;
        };
        name.push_str(part);
        if let Some(behind) = behind.strip_prefix('"') {
            name.push('"');
            text = behind;
        } else if let Some(behind) = behind.strip_prefix(',') {
            return Some((name, Some(behind)));
        } else {
            return behind.is_empty().then_some((name, None));
        }
    }
}
