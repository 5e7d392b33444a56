//! What is fuzzed: irsad's pure layer and its configuration, compiled from the program's own files. As a dependency the program would
//! bring the AWS SDK along, and each build would instrument that too.

#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/model/mod.rs"]
pub mod model;

/// What is left of `text` without the lines that hold one of `words`. Where two texts leave the same, an edit has touched nothing else.
pub fn lines_without<'t>(text: &'t str, words: &[&str]) -> Vec<&'t str> {
    text.lines().filter(|line| !words.iter().any(|word| line.contains(word))).collect()
}
