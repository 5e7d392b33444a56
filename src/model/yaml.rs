//! YAML with places: where every node of a text stands, so that a text can be edited or blamed by line.
//!
//! The only module that knows a YAML parser. It must not know what a text means: manifests, kubeadm configurations and
//! our own configuration come and go through it. It reads; nothing here writes YAML.
//!
//! Every text passes one door, [`parse`], which refuses what a careful reader cannot be sure of (control bytes, a byte
//! order mark, CR LF, tab indentation, directives, duplicate keys) and bounds size, depth and node count.

mod node;
mod refusal;

pub use node::{Content, Entry, Layout, Node, Place, ScalarStyle};
pub use refusal::YamlError;

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{Event, Parser, ScalarStyle as ParserStyle, Span, StructureStyle, options};
use serde::Deserialize;
use serde_json::Value;

use refusal::checked_text;
/// Deepest nesting that is read.
pub const DEEPEST: usize = 64;

/// Most nodes (scalars and collections) of one text: bounds memory, whatever the text is.
pub const MOST_NODES: usize = 50_000;

/// What a caller allows in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest text, in bytes; a longer one is refused without being looked at.
    pub bytes: usize,
    /// Whether anchors (`&a`), aliases (`*a`), tags (`!!str`) and merge keys (`<<`) may stand in it.
    pub references: bool,
}

impl Limits {
    /// At most 1 MiB, no anchors, aliases, tags or merge keys.
    pub const PLAIN: Self = Self { bytes: 1 << 20, references: false };
}

/// A text and its documents with places.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream<'a> {
    /// The text itself; every place is an offset into it.
    pub text: &'a str,
    /// Its documents in order; none for an empty or comment-only text.
    pub documents: Vec<Document>,
}

/// One document of a [`Stream`].
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its only node; an empty plain scalar where the document has no content.
    pub root: Node,
    /// Whether it begins with `---`.
    pub explicit: bool,
}

/// Reads `bytes` as YAML 1.2: every document, with the place of every node.
///
/// # Errors
///
/// The first thing that is not allowed or not understood, with its line.
pub fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Stream<'a>, YamlError> {
    if bytes.len() > limits.bytes {
        return Err(YamlError::TooLong { bytes: bytes.len(), limit: limits.bytes });
    }
    let text = checked_text(bytes)?;
    let options = options! {
        strict_indentation: true,
        disallow_directives: true,
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut builder =
        Builder { text, references: limits.references, open: Vec::new(), documents: Vec::new(), nodes: 0 };
    let mut explicit = false;
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event
            .map_err(|error| YamlError::Syntax { line: error.marker().line(), reason: error.info().to_string() })?;
        if let Event::DocumentStart(is_explicit, _) = event {
            explicit = is_explicit;
        }
        builder.take(event, span, explicit)?;
    }
    Ok(Stream { text, documents: builder.documents })
}

impl Stream<'_> {
    /// What the documents mean, by a second, independent YAML reader: for comparing two texts.
    ///
    /// # Errors
    ///
    /// The second reader does not take the text.
    pub fn values(&self) -> Result<Vec<Value>, YamlError> {
        values(self.text)
    }
}

/// What the documents of a text that [`parse`] has let through mean; see [`Stream::values`].
pub(super) fn values(text: &str) -> Result<Vec<Value>, YamlError> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let values: Result<Vec<Value>, _> = documents.map(Value::deserialize).collect();
    values.map_err(|error| YamlError::Values { reason: error.to_string() })
}

/// Collects the parser's events into nodes.
struct Builder<'a> {
    text: &'a str,
    references: bool,
    open: Vec<Open>,
    documents: Vec<Document>,
    nodes: usize,
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    /// The key that waits for its value, in a mapping.
    key: Option<Node>,
    /// Keys seen so far and their lines, in a mapping.
    seen: HashMap<String, usize>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span, explicit: bool) -> Result<(), YamlError> {
        let place = self.place(&span);
        let node = |content, anchor: usize, tagged| Node { place, content, anchored: anchor != 0, tagged };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let content = scalar(text, style, place);
                let node = node(content, anchor, tag.is_some());
                self.count(&node)?;
                self.close(node, explicit)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let node = node(Content::Alias, 0, false);
                self.count(&node)?;
                self.close(node, explicit)
            }
            Event::SequenceStart(style, anchor, tag) => {
                let content = Content::Sequence { items: Vec::new(), layout: layout(style) };
                self.open(node(content, anchor, tag.is_some()))
            }
            Event::MappingStart(style, anchor, tag) => {
                let content = Content::Mapping { entries: Vec::new(), layout: layout(style) };
                self.open(node(content, anchor, tag.is_some()))
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.close(ended(open.node, place), explicit),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn place(&self, span: &Span) -> Place {
        // Offsets are always there for a text in memory; the end of the text is never taken for a place inside it.
        let offset = |offset: Option<usize>| offset.unwrap_or(self.text.len()).min(self.text.len());
        let (start, end) = (offset(span.start.byte_offset()), offset(span.end.byte_offset()));
        Place { start, end: end.max(start), line: span.start.line(), column: span.start.col() }
    }

    /// Counts a node and refuses what the caller does not allow.
    fn count(&mut self, node: &Node) -> Result<(), YamlError> {
        let line = node.place.line;
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(YamlError::TooManyNodes { line });
        }
        if self.references {
            return Ok(());
        }
        let what = match &node.content {
            Content::Alias => "an alias (*)",
            _ if node.anchored => "an anchor (&)",
            _ if node.tagged => "a tag (!)",
            _ => return Ok(()),
        };
        Err(YamlError::Reference { line, what })
    }

    fn open(&mut self, node: Node) -> Result<(), YamlError> {
        self.count(&node)?;
        if self.open.len() >= DEEPEST {
            return Err(YamlError::TooDeep { line: node.place.line });
        }
        self.open.push(Open { node, key: None, seen: HashMap::new() });
        Ok(())
    }

    /// Hands a complete node to the collection that is open, or makes it the root.
    fn close(&mut self, node: Node, explicit: bool) -> Result<(), YamlError> {
        let references = self.references;
        let Some(open) = self.open.last_mut() else {
            self.documents.push(Document { root: node, explicit });
            return Ok(());
        };
        match &mut open.node.content {
            Content::Sequence { items, .. } => items.push(node),
            Content::Mapping { entries, .. } => match open.key.take() {
                Some(key) => entries.push(Entry { key, value: node }),
                None => {
                    check_key(&node, &mut open.seen, references)?;
                    open.key = Some(node);
                }
            },
            Content::Scalar { .. } | Content::Alias => (),
        }
        Ok(())
    }
}

/// Refuses a key that is no text, stands twice, or merges another mapping.
fn check_key(key: &Node, seen: &mut HashMap<String, usize>, references: bool) -> Result<(), YamlError> {
    let line = key.place.line;
    let text = key.as_text().ok_or(YamlError::KeyNotScalar { line })?;
    if text == "<<" && key.style() == Some(ScalarStyle::Plain) && !references {
        return Err(YamlError::Reference { line, what: "a merge key (<<)" });
    }
    match seen.insert(text.to_owned(), line) {
        Some(first) => Err(YamlError::DuplicateKey { line, first, key: text.to_owned() }),
        None => Ok(()),
    }
}

fn scalar(text: Cow<'_, str>, style: ParserStyle, place: Place) -> Content {
    let style = match style {
        ParserStyle::SingleQuoted => ScalarStyle::Single,
        ParserStyle::DoubleQuoted => ScalarStyle::Double,
        ParserStyle::Literal => ScalarStyle::Literal,
        ParserStyle::Folded => ScalarStyle::Folded,
        _ => ScalarStyle::Plain,
    };
    // The parser gives `~` for a value that was left out.
    let left_out = style == ScalarStyle::Plain && place.start == place.end;
    Content::Scalar { text: if left_out { String::new() } else { text.into_owned() }, style }
}

fn layout(style: StructureStyle) -> Layout {
    match style {
        StructureStyle::Block => Layout::Block,
        StructureStyle::Flow => Layout::Flow,
    }
}

/// The collection with its end: that of its bracket, or of its last child.
fn ended(mut node: Node, close: Place) -> Node {
    let last = match &node.content {
        Content::Sequence { items, .. } => items.last().map(|item| item.place.end),
        Content::Mapping { entries, .. } => entries.last().map(|entry| entry.value.place.end.max(entry.key.place.end)),
        Content::Scalar { .. } | Content::Alias => None,
    };
    node.place.end = match node.layout() {
        Some(Layout::Flow) => close.end,
        _ => last.unwrap_or(node.place.end),
    };
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every node in reading order: line, column and its bytes.
    fn places<'t>(text: &'t str, node: &Node, found: &mut Vec<(usize, usize, &'t str)>) {
        let Place { start, end, line, column } = node.place;
        found.push((line, column, &text[start..end]));
        for entry in node.entries().unwrap_or_default() {
            places(text, &entry.key, found);
            places(text, &entry.value, found);
        }
        for item in node.items().unwrap_or_default() {
            places(text, item, found);
        }
    }

    #[test]
    fn every_node_has_its_bytes_line_and_column() -> Result<(), YamlError> {
        let text = "# first\né: 1 # x\nb:\n  - 'q' # y\n  # z\n  - \"w\\n\"\n  -\nc:\nd: {k: [a, b]}\nh:\n- x: 1\n  y: two\n    lines\n\n# last\n";
        let stream = parse(text.as_bytes(), &Limits::PLAIN)?;
        let mut found = Vec::new();
        places(text, &stream.documents[0].root, &mut found);
        let expected = [
            (2, 0, text.trim_end_matches("\n\n# last\n").trim_start_matches("# first\n")),
            (2, 0, "é"),
            (2, 3, "1"),
            (3, 0, "b"),
            (4, 2, "- 'q' # y\n  # z\n  - \"w\\n\"\n  -"),
            (4, 4, "'q'"),
            (6, 4, "\"w\\n\""),
            (7, 3, ""),
            (8, 0, "c"),
            (8, 1, ""),
            (9, 0, "d"),
            (9, 3, "{k: [a, b]}"),
            (9, 4, "k"),
            (9, 7, "[a, b]"),
            (9, 8, "a"),
            (9, 11, "b"),
            (10, 0, "h"),
            (11, 2, "x: 1\n  y: two\n    lines"),
            (11, 2, "x: 1\n  y: two\n    lines"),
            (11, 2, "x"),
            (11, 5, "1"),
            (12, 2, "y"),
            (12, 5, "two\n    lines"),
        ];
        assert_eq!(found, expected);
        Ok(())
    }

    #[test]
    fn documents_come_in_order_and_say_whether_they_begin_with_a_marker() -> Result<(), YamlError> {
        let text = b"a: 1\n---\n---\nb: 2\n...\n";
        let stream = parse(text, &Limits::PLAIN)?;
        let found: Vec<(bool, bool)> = stream.documents.iter().map(|d| (d.explicit, d.root.is_empty())).collect();
        assert_eq!(found, [(false, false), (true, true), (true, false)]);
        assert_eq!(stream.values()?, [serde_json::json!({"a": 1}), Value::Null, serde_json::json!({"b": 2})]);
        assert_eq!(parse(b"# nothing\n", &Limits::PLAIN)?.documents, []);
        Ok(())
    }

    #[test]
    fn nearest_entry_names_the_line_of_a_setting_or_of_what_should_contain_it() -> Result<(), YamlError> {
        let stream = parse(b"issuer:\n  store: s3://a\n  url: x\nkeys: [a]\n", &Limits::PLAIN)?;
        let line = |path: &[&str]| stream.documents[0].root.nearest_entry(path).map(|entry| entry.key.place.line);
        for (path, expected) in [
            (&["issuer", "url"] as &[&str], Some(3)),
            (&["issuer", "missing", "deeper"], Some(1)),
            (&["keys", "deeper"], Some(4)),
            (&["missing"], None),
            (&[], None),
        ] {
            assert_eq!(line(path), expected, "{path:?}");
        }
        Ok(())
    }

    #[test]
    fn text_that_readers_may_disagree_about_is_refused_with_its_line() {
        for (text, message) in [
            (&b"a: 1\nb: \xff\n"[..], "line 2: bytes that are not UTF-8; save the file as UTF-8"),
            (b"\xef\xbb\xbfa: 1\n", "line 1: a byte order mark (U+FEFF); save the file as UTF-8 without one"),
            (b"a: 1\nb: \0\n", "line 2: control character U+0000; take it out"),
            (b"a: 1\r\n", "line 1: a carriage return; save the file with Unix line ends (LF)"),
            (b"a:\n \tb: 1\n", "line 2: indented with a tab; indent with spaces"),
            (
                "a: 1\nb: x\u{2028}y\n".as_bytes(),
                "line 2: Unicode line break U+2028, which YAML readers disagree about; take it out",
            ),
            (b"a: 1\nb: 2\na: 3\n", "line 3: key \"a\" stands twice (first in line 1); keep one"),
            (b"a: 1\n[b]: 2\n", "line 2: a key that is not a plain text; write KEY: VALUE"),
            (b"a: &x 1\n", "line 1: an anchor (&), which is not understood here; write the value out"),
            (b"a: !!str 1\n", "line 1: a tag (!), which is not understood here; write the value out"),
            (b"a:\n  <<: {b: 1}\n", "line 2: a merge key (<<), which is not understood here; write the value out"),
            (b"a: [b,\nc]\n", "line 2: not valid YAML: invalid indentation"),
            (b"%YAML 1.1\n---\na: 1\n", "line 1: not valid YAML: YAML directives are disallowed"),
            (b"a: 1\n b: 2\n", "line 2: not valid YAML: mapping values are not allowed in this context"),
        ] {
            let error = parse(text, &Limits::PLAIN).map_err(|error| error.to_string());
            assert_eq!(error.err().as_deref(), Some(message), "{text:?}");
        }
    }

    #[test]
    fn references_pass_only_where_the_caller_allows_them() -> Result<(), YamlError> {
        let text = b"a: &x {k: !!str 1}\nb: *x\nc:\n  <<: *x\n";
        let allowing = Limits { references: true, ..Limits::PLAIN };
        let stream = parse(text, &allowing)?;
        let root = &stream.documents[0].root;
        assert_eq!(root.get("a").map(|node| node.anchored), Some(true));
        assert_eq!(root.get("b").map(|node| &node.content), Some(&Content::Alias));
        Ok(())
    }

    #[test]
    fn size_depth_and_number_of_values_are_bounded() {
        let small = Limits { bytes: 4, references: false };
        assert_eq!(parse(b"a: 12", &small), Err(YamlError::TooLong { bytes: 5, limit: 4 }));
        let huge = vec![b'\xff'; 100 << 20];
        assert_eq!(parse(&huge, &Limits::PLAIN), Err(YamlError::TooLong { bytes: 100 << 20, limit: 1 << 20 }));
        for deep in ["[".repeat(1000), "- ".repeat(1000), (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect()]
        {
            assert!(parse(deep.as_bytes(), &Limits::PLAIN).is_err());
        }
        let many = format!("[{}]", "a,".repeat(MOST_NODES));
        assert_eq!(parse(many.as_bytes(), &Limits::PLAIN), Err(YamlError::TooManyNodes { line: 1 }));
    }
}
