//! Several YAML files as one tree whose every value knows where it was written.

use std::{path::Path, sync::Arc};

use crate::model::yaml::{self, Content, Limits, Node, ScalarStyle};

use super::mistake::{Mistake, Mistakes};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The file.
    pub file: Arc<Path>,
    /// Which of the files it is, in the order in which they are merged.
    pub order: usize,
    /// Line, from 1.
    pub line: usize,
}

/// A value with its origin.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    /// Where it, or the key before it, was written.
    pub origin: Origin,
    /// What it is.
    pub value: Value,
}

/// What stands in a configuration file.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, `null` or `~`.
    Nothing,
    /// Text; `plain` where it has no quotes.
    Scalar {
        /// The text.
        text: String,
        /// Whether it may mean a number or a boolean.
        plain: bool,
    },
    /// In order.
    List(Vec<Tree>),
    /// Each key once, in order.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The files merged in the order given: maps key by key, anything else replaced by the later file.
    pub fn merged(texts: &[(impl AsRef<Path>, impl AsRef<[u8]>)]) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let file = texts.first().map_or(Path::new(super::CONFIG_FILE), |(path, _)| path.as_ref());
        let mut whole = Self { origin: Origin { file: file.into(), order: 0, line: 1 }, value: Value::Map(Vec::new()) };
        for (order, (path, text)) in texts.iter().enumerate() {
            let start = Origin { file: path.as_ref().into(), order, line: 1 };
            match Self::read(&start, text.as_ref()) {
                Ok(Some(tree)) => whole.merge(tree),
                Ok(None) => (),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if mistakes.is_empty() { Ok(whole) } else { Err(Mistakes::new(mistakes)) }
    }

    fn read(start: &Origin, text: &[u8]) -> Result<Option<Self>, Mistake> {
        let stream = yaml::parse(text, &Limits::PLAIN).map_err(|error| Mistake::of_file(start, error.to_string()))?;
        let mut documents = stream.documents.iter().map(|document| Self::of(&document.root, start));
        let root = documents.next();
        if let Some(second) = documents.next() {
            let text = "a second YAML document begins here; one file holds one document".to_owned();
            return Err(Mistake::new(&second.origin, "", text));
        }
        match root {
            None | Some(Self { value: Value::Nothing, .. }) => Ok(None),
            Some(tree @ Self { value: Value::Map(_), .. }) => Ok(Some(tree)),
            Some(other) => {
                Err(Mistake::new(&other.origin, "", "the file is not a mapping; write KEY: VALUE lines".to_owned()))
            }
        }
    }

    fn of(node: &Node, start: &Origin) -> Self {
        let origin = Origin { line: node.place.line, ..start.clone() };
        let value = match &node.content {
            Content::Scalar { text, style } => match (text.as_str(), *style == ScalarStyle::Plain) {
                ("" | "~" | "null" | "Null" | "NULL", true) => Value::Nothing,
                (text, plain) => Value::Scalar { text: text.to_owned(), plain },
            },
            Content::Sequence { items, .. } => Value::List(items.iter().map(|item| Self::of(item, start)).collect()),
            Content::Mapping { entries, .. } => Value::Map(
                entries
                    .iter()
                    .map(|entry| {
                        let key = entry.key.as_text().unwrap_or_default().to_owned();
                        let line = entry.key.place.line;
                        let mut tree = Self::of(&entry.value, start);
                        // A person looks for the key.
                        tree.origin.line = line;
                        (key, tree)
                    })
                    .collect(),
            ),
            // Refused when the text was read.
            Content::Alias => Value::Nothing,
        };
        Self { origin, value }
    }

    fn merge(&mut self, later: Self) {
        match (&mut self.value, later) {
            (Value::Map(own), Self { value: Value::Map(entries), .. }) => {
                for (key, tree) in entries {
                    match own.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, known)) => known.merge(tree),
                        None => own.push((key, tree)),
                    }
                }
            }
            (_, later) => *self = later,
        }
    }
}
