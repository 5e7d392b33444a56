//! What is fuzzed: irsad's pure layer and its configuration, compiled from the program's own files. As a dependency the program would
//! bring the AWS SDK along, and each build would instrument that too.

#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/model/mod.rs"]
pub mod model;

/// What is left of `text` without the lines that hold one of `words`. Where two texts leave the same, an edit has touched nothing else.
pub fn lines_without<'t>(text: &'t str, words: &[&str]) -> Vec<&'t str> {
    text.lines().filter(|line| !has_one_of(line, words)).collect()
}

fn has_one_of(line: &str, words: &[&str]) -> bool {
    words.iter().any(|word| line.contains(word))
}

/// Panics if an edit that may touch only lines with one of `words` has touched others. Comments and blank lines between two such lines
/// of `old` may be gone: they stood inside an entry that was taken out.
pub fn check_others_stand(old: &str, new: &str, words: &[&str]) {
    let (before, after) = (lines_without(old, words), lines_without(new, words));
    let inside = between(old, words);
    let count = |lines: &[&str], line: &str| lines.iter().filter(|other| **other == line).count();
    for line in &before {
        let lost = count(&before, line).saturating_sub(count(&after, line));
        assert!(lost <= count(&inside, line), "{line:?} is lost in {new:?}");
    }
    let mut others = before.iter();
    let in_order = after.iter().all(|line| others.any(|other| other == line));
    assert!(in_order, "other lines came in, or stand in another order: {after:?} of {before:?}");
}

/// Comments and blank lines with a line of one of `words` next above them and next below them.
fn between<'t>(text: &'t str, words: &[&str]) -> Vec<&'t str> {
    let is_content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let is_edited = |line: Option<&&str>| line.is_some_and(|line| has_one_of(line, words));
    let lines: Vec<&str> = text.lines().collect();
    let is_inside = |at: usize| {
        let (above, below) =
            (lines[..at].iter().rfind(|line| is_content(line)), lines[at..].iter().find(|line| is_content(line)));
        !is_content(&lines[at]) && is_edited(above) && is_edited(below)
    };
    (0..lines.len()).filter(|at| is_inside(*at)).map(|at| lines[at]).collect()
}
