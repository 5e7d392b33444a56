//! Reads typed values out of one mapping of the configuration, and notes what is wrong instead of stopping at it.

use std::{cell::RefCell, fmt::Display, str::FromStr};

use super::{
    mistake::Mistake,
    tree::{Origin, Tree, Value},
};

/// Collects mistakes; reading goes on with defaults so that one run finds all of them.
pub(super) type Log = RefCell<Vec<Mistake>>;

/// One mapping of the configuration: what is in it, and what was asked for.
pub(super) struct Section<'t> {
    log: &'t Log,
    path: String,
    origin: Origin,
    entries: &'t [(String, Tree)],
    known: RefCell<Vec<&'static str>>,
}

impl<'t> Section<'t> {
    /// The whole configuration.
    pub fn root(tree: &'t Tree, log: &'t Log) -> Self {
        let entries = if let Value::Map(entries) = &tree.value { entries.as_slice() } else { &[] };
        Self { log, path: String::new(), origin: tree.origin.clone(), entries, known: RefCell::default() }
    }

    /// A mapping inside; an empty one where it is left out.
    pub fn section(&self, key: &'static str) -> Self {
        let path = self.path_of(key);
        let (origin, entries) = match self.find(key) {
            Some(Tree { origin, value: Value::Map(entries) }) => (origin.clone(), entries.as_slice()),
            Some(Tree { origin, value }) => {
                self.wrong_type(key, value, "a mapping; write its keys below it, indented");
                (origin.clone(), [].as_slice())
            }
            None => (self.origin.clone(), [].as_slice()),
        };
        Self { log: self.log, path, origin, entries, known: RefCell::default() }
    }

    /// The mappings of a list, one section each; none where it is left out.
    pub fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(tree) = self.find(key) else { return Vec::new() };
        let Value::List(items) = &tree.value else {
            self.wrong_type(key, &tree.value, "a list; write one entry behind each '- '");
            return Vec::new();
        };
        let section = |(number, item): (usize, &'t Tree)| {
            let path = format!("{}[{number}]", self.path_of(key));
            let Value::Map(entries) = &item.value else {
                let text = format!("{} stands here; write a mapping", name_of(&item.value));
                self.note(&item.origin, &path, text);
                return None;
            };
            Some(Self { log: self.log, path, origin: item.origin.clone(), entries, known: RefCell::default() })
        };
        items.iter().enumerate().filter_map(section).collect()
    }

    /// The value itself.
    pub fn tree(&self, key: &'static str) -> Option<&'t Tree> {
        self.find(key)
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name == key)
    }

    /// Whether the key is there with a mapping as its value.
    pub fn has_map(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, tree)| name == key && matches!(tree.value, Value::Map(_)))
    }

    /// Whether the key is there with a list as its value.
    pub fn has_list(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, tree)| name == key && matches!(tree.value, Value::List(_)))
    }

    /// A value written as text.
    pub fn text<T: FromStr<Err: Display>>(&self, key: &'static str) -> Option<T> {
        let text = self.raw(key)?;
        self.parsed(key, &text)
    }

    /// The text itself, whatever it means.
    pub fn raw(&self, key: &'static str) -> Option<String> {
        let tree = self.find(key)?;
        match &tree.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            value => {
                self.wrong_type(key, value, "one value");
                None
            }
        }
    }

    /// One of the words in `words`.
    pub fn one_of<T: Clone>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.raw(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.blame(key, format!("{text:?} is not one of {}", words.join(", ")));
        }
        found
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        match self.find(key).map(|tree| &tree.value)? {
            Value::Scalar { text, plain: true } if text == "true" => Some(true),
            Value::Scalar { text, plain: true } if text == "false" => Some(false),
            Value::Scalar { text, .. } => {
                self.blame(key, format!("{text:?} is not a boolean; write true or false without quotes"));
                None
            }
            value => {
                self.wrong_type(key, value, "true or false");
                None
            }
        }
    }

    /// A whole number.
    pub fn number(&self, key: &'static str) -> Option<u64> {
        match self.find(key).map(|tree| &tree.value)? {
            Value::Scalar { text, plain: true } if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.parsed(key, text)
            }
            Value::Scalar { text, .. } => {
                self.blame(key, format!("{text:?} is not a number; write digits without quotes"));
                None
            }
            value => {
                self.wrong_type(key, value, "a number");
                None
            }
        }
    }

    /// A list of values written as text.
    pub fn list<T: FromStr<Err: Display>>(&self, key: &'static str) -> Option<Vec<T>> {
        let Tree { value: Value::List(items), .. } = self.find(key)? else {
            let value = &self.find(key)?.value;
            self.wrong_type(key, value, "a list; write [A, B], or one item a line behind '- '");
            return None;
        };
        let (mut list, before) = (Vec::new(), self.log.borrow().len());
        for (number, item) in items.iter().enumerate() {
            let path = format!("{}[{number}]", self.path_of(key));
            match &item.value {
                Value::Scalar { text, .. } => match text.parse::<T>() {
                    Ok(value) => list.push(value),
                    Err(error) => self.note(&item.origin, &path, error.to_string()),
                },
                value => self.note(&item.origin, &path, format!("{} stands here; write one value", name_of(value))),
            }
        }
        (self.log.borrow().len() == before).then_some(list)
    }

    /// Keys and texts where the keys are the user's own; nothing is unknown then.
    pub fn texts(&self) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for (name, tree) in self.entries {
            match &tree.value {
                Value::Scalar { text, .. } => texts.push((name.clone(), text.clone())),
                value => self.wrong_type(name, value, "one value"),
            }
        }
        texts
    }

    /// Notes a mistake at `key`, or where it should stand.
    pub fn blame(&self, key: &str, text: impl Into<String>) {
        let origin = self.entries.iter().find(|(name, _)| name == key).map_or(&self.origin, |(_, tree)| &tree.origin);
        self.note(origin, &self.path_of(key), text.into());
    }

    /// Notes a mistake of the whole mapping.
    pub fn blame_all(&self, text: impl Into<String>) {
        self.note(&self.origin, &self.path, text.into());
    }

    /// Notes that `key` is missing, with what to write.
    pub fn require(&self, key: &str, example: &str) {
        if !self.has(key) {
            self.blame(key, format!("it is missing; add it, for example `{example}`"));
        }
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self) {
        self.blame_unknown();
    }

    /// Notes every key that nobody has asked for so far.
    pub fn blame_unknown(&self) {
        let mut known = self.known.borrow().clone();
        known.sort_unstable();
        for (name, tree) in self.entries.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let text = format!("unknown key; here can stand: {}", known.join(", "));
            self.note(&tree.origin, &self.path_of(name), text);
        }
    }

    fn find(&self, key: &'static str) -> Option<&'t Tree> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.entries.iter().find(|(name, _)| name == key).map(|(_, tree)| tree)
    }

    fn parsed<T: FromStr<Err: Display>>(&self, key: &str, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.blame(key, error.to_string())).ok()
    }

    fn wrong_type(&self, key: &str, value: &Value, wanted: &str) {
        match value {
            Value::Nothing => self.blame(key, "it has no value; give it one, or leave the key out for the default"),
            value => self.blame(key, format!("{} stands here; it must be {wanted}", name_of(value))),
        }
    }

    fn note(&self, origin: &Origin, path: &str, text: String) {
        let mistake = Mistake::new(origin, path, text);
        let mut log = self.log.borrow_mut();
        if !log.contains(&mistake) {
            log.push(mistake);
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Nothing => "nothing",
        Value::Scalar { .. } => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}
