//! Sentences that the user of `kubectl` sees beside the answer (`AdmissionResponse.warnings`).

use std::fmt;

/// Longest excerpt of a user's text, in characters: the API server cuts warnings beyond 256 bytes.
const LONGEST_EXCERPT: usize = 60;
/// Most sentences of one answer: the API server passes on 4096 characters at most.
const MOST: usize = 15;

/// One sentence each, the first [`MOST`].
#[derive(Debug, Default)]
pub(super) struct Warnings(pub Vec<String>);

impl Warnings {
    pub fn add(&mut self, sentence: fmt::Arguments<'_>) {
        if self.0.len() < MOST {
            self.0.push(sentence.to_string());
        }
    }
}

/// A user's text in quotes, cut where it is long. Escaped: a header with control characters in it is dropped.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(LONGEST_EXCERPT) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}
