//! A YAML value that knows where it stands.

/// Where a node stands: bytes `start..end` of the text, the 1-based line and the 0-based column (in characters) of its first
/// byte.
///
/// For quoted scalars and flow collections the quotes and brackets are inside. A block collection ends where its last
/// child ends; a list that is not indented below its key begins at its first item, behind the `-`. A literal or folded
/// scalar begins at its first content line, below the `|` or `>`, and may take the blank lines behind it. An empty value
/// has `start == end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First byte.
    pub start: usize,
    /// Byte behind the last one.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first byte, from 0.
    pub column: usize,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands, without anchor and tag.
    pub place: Place,
    /// What it is.
    pub content: Content,
    /// Whether it has an anchor (`&name`).
    pub anchored: bool,
    /// Whether it has a tag (`!name`).
    pub tagged: bool,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text as YAML gives it (escapes and folding undone), and how it was written. A plain scalar may mean a number,
    /// boolean or null; an absent value is the empty plain scalar.
    Scalar {
        /// The text.
        text: String,
        /// How it was written.
        style: ScalarStyle,
    },
    /// A list.
    Sequence {
        /// In order.
        items: Vec<Node>,
        /// How it was written.
        layout: Layout,
    },
    /// A mapping without duplicate keys, in the order of the text.
    Mapping {
        /// In order.
        entries: Vec<Entry>,
        /// How it was written.
        layout: Layout,
    },
    /// `*name`; only where [`Limits::references`](super::Limits::references) allows it.
    Alias,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Always a scalar.
    pub key: Node,
    /// Any node.
    pub value: Node,
}

/// How a scalar was written (YAML 1.2.2, chapters 7.3 and 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarStyle {
    /// Without quotes.
    Plain,
    /// `'…'`
    Single,
    /// `"…"`
    Double,
    /// `|`
    Literal,
    /// `>`
    Folded,
}

/// How a collection was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// By indentation, one entry a line.
    Block,
    /// `[…]` or `{…}`
    Flow,
}

impl Node {
    /// The text of a scalar.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            Content::Sequence { .. } | Content::Mapping { .. } | Content::Alias => None,
        }
    }

    /// How a scalar was written.
    pub fn style(&self) -> Option<ScalarStyle> {
        match &self.content {
            Content::Scalar { style, .. } => Some(*style),
            Content::Sequence { .. } | Content::Mapping { .. } | Content::Alias => None,
        }
    }

    /// Whether the value was left out, as in `key:`.
    pub fn is_empty(&self) -> bool {
        self.place.start == self.place.end
    }

    /// The items of a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.content {
            Content::Sequence { items, .. } => Some(items),
            Content::Scalar { .. } | Content::Mapping { .. } | Content::Alias => None,
        }
    }

    /// The entries of a mapping.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Mapping { entries, .. } => Some(entries),
            Content::Scalar { .. } | Content::Sequence { .. } | Content::Alias => None,
        }
    }

    /// How a list or mapping was written.
    pub fn layout(&self) -> Option<Layout> {
        match &self.content {
            Content::Sequence { layout, .. } | Content::Mapping { layout, .. } => Some(*layout),
            Content::Scalar { .. } | Content::Alias => None,
        }
    }

    /// The entry of a mapping with this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key.as_text() == Some(key))
    }

    /// The value of a mapping under this key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The deepest entry on the way along `path` that exists: for naming the line of a setting, or, where it is missing,
    /// of what should contain it.
    pub fn nearest_entry<'n>(&'n self, path: &[&str]) -> Option<&'n Entry> {
        let (first, rest) = path.split_first()?;
        let entry = self.entry(first)?;
        Some(entry.value.nearest_entry(rest).unwrap_or(entry))
    }
}
