//! What is wrong with a configuration: every mistake with its place and what to do.

use std::{error::Error, fmt, path::Path, sync::Arc};

use super::tree::Origin;

/// One mistake of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: Arc<Path>,
    /// Line, from 1; `None` where the text says it or where it is the whole file.
    pub line: Option<usize>,
    /// Keys to the value, with dots between them; empty for the file itself.
    pub key: String,
    /// What is wrong and what to do.
    pub text: String,
    order: usize,
}

impl Mistake {
    pub(super) fn new(origin: &Origin, key: &str, text: String) -> Self {
        Self { line: Some(origin.line), key: key.to_owned(), ..Self::of_file(origin, text) }
    }

    pub(super) fn of_file(origin: &Origin, text: String) -> Self {
        Self { file: origin.file.clone(), line: None, key: String::new(), text, order: origin.order }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Every mistake of a configuration, in the order of files and lines; never empty. Printed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(super) fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| (mistake.order, mistake.line));
        Self(mistakes)
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl Error for Mistakes {}
