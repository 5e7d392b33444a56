//! The edit of `apiServer.extraArgs`: the named arguments get exactly the wanted values, everything else stays byte for byte,
//! which is proven on the values of both texts before the new one is given out.

use std::collections::HashSet;

use super::{ApiVersion, Argument, KubeadmConfig, KubeadmError, is_nothing, proof::prove};
use crate::model::{
    splice::{self, Splices, Step},
    yaml::{Entry, Layout, Node, ScalarStyle},
};

/// A configuration that says what was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedConfig {
    text: String,
    is_changed: bool,
}

impl EditedConfig {
    /// The text to write. Byte for byte the old one where nothing had to change, else it ends with a line end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the text differs from the configuration it was made from.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }
}

impl KubeadmConfig {
    /// The same configuration with each named argument of the API server set to exactly these values, in order; no value
    /// takes the argument out. Names stand without dashes. A missing ClusterConfiguration, `apiServer` or `extraArgs` is
    /// added. Making the same edit again changes nothing.
    ///
    /// # Errors
    ///
    /// A name or value that cannot be written, several values in v1beta3, a place that cannot be edited for certain, or a
    /// result that would mean anything but the wanted change. Nothing is given out then.
    pub fn with_api_server_args(&self, wanted: &[(&str, Vec<String>)]) -> Result<EditedConfig, KubeadmError> {
        check_wanted(wanted, self.version)?;
        let base = if self.text.is_empty() || self.text.ends_with('\n') {
            self.text.clone()
        } else {
            format!("{}\n", self.text)
        };
        let mut editor = Editor { config: self, text: &base, splices: Splices::of(&base), fresh: Vec::new() };
        for (name, values) in wanted {
            editor.set(name, values)?;
        }
        editor.write_fresh()?;
        let text = editor.splices.apply().ok_or(KubeadmError::Unproven { what: "one line twice" })?;
        if text == base {
            return Ok(EditedConfig { text: self.text.clone(), is_changed: false });
        }
        prove(self, &text, wanted)?;
        Ok(EditedConfig { text, is_changed: true })
    }
}

fn check_wanted(wanted: &[(&str, Vec<String>)], version: ApiVersion) -> Result<(), KubeadmError> {
    let mut names = HashSet::new();
    for (name, values) in wanted {
        let refusal = |value: &str| Err(KubeadmError::Wanted { name: (*name).to_owned(), value: value.to_owned() });
        let plain = !name.starts_with('-') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if name.is_empty() || !plain || !names.insert(name) {
            return refusal(values.first().map_or("", String::as_str));
        }
        let printable = |value: &&String| !value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if let Some(value) = values.iter().find(printable) {
            return refusal(value);
        }
        if version == ApiVersion::V1Beta3 && values.len() > 1 {
            return Err(KubeadmError::OneValueOnly { name: (*name).to_owned(), count: values.len() });
        }
    }
    Ok(())
}

/// Collects the changes to one configuration.
struct Editor<'a> {
    config: &'a KubeadmConfig,
    /// The text with a line end at its end.
    text: &'a str,
    splices: Splices<'a>,
    /// Arguments that do not stand yet.
    fresh: Vec<(String, String)>,
}

impl Editor<'_> {
    fn set(&mut self, name: &str, wanted: &[String]) -> Result<(), KubeadmError> {
        let config = self.config;
        let standing: Vec<&Argument> = config.arguments.iter().filter(|argument| argument.name == name).collect();
        let values: Vec<&str> = standing.iter().map(|argument| argument.value.as_str()).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        if let (ApiVersion::V1Beta3, [argument], [value]) = (config.version, standing.as_slice(), wanted.as_slice()) {
            return if argument.value == *value { Ok(()) } else { self.replace_value(argument, value) };
        }
        if self.is_flow() && !standing.is_empty() {
            return if values == wanted { Ok(()) } else { self.set_in_brackets(name, &standing, &wanted) };
        }
        for step in splice::steps(&values, &wanted) {
            match step {
                Step::Remove(position) => self.remove(standing[position])?,
                Step::Before(position, range) => self.insert(standing[position], true, name, &wanted[range])?,
                Step::After(position, range) => self.insert(standing[position], false, name, &wanted[range])?,
                Step::Fresh(range) => {
                    self.fresh.extend(wanted[range].iter().map(|value| (name.to_owned(), (*value).to_owned())));
                }
            }
        }
        Ok(())
    }

    fn form(&self, node: &Node, what: &str) -> KubeadmError {
        KubeadmError::Form { line: node.place.line, what: what.to_owned() }
    }

    /// `extraArgs` and its key, where it stands with entries in it.
    fn list(&self) -> Option<&Entry> {
        let entry = self.config.cluster.as_ref()?.get("apiServer")?.entry("extraArgs")?;
        (!is_nothing(&entry.value)).then_some(entry)
    }

    fn is_flow(&self) -> bool {
        self.list().is_some_and(|list| list.value.layout() == Some(Layout::Flow))
    }

    fn replace_value(&mut self, argument: &Argument, value: &str) -> Result<(), KubeadmError> {
        let node = &argument.node;
        if node.is_empty() || !splice::is_one_line(self.text, node) {
            return Err(self.form(&argument.start, &argument.name));
        }
        let style = if self.is_flow() { ScalarStyle::Double } else { node.style().unwrap_or(ScalarStyle::Plain) };
        self.splices.replace(node.place.start..node.place.end, splice::spelled(value, style));
        Ok(())
    }

    fn remove(&mut self, argument: &Argument) -> Result<(), KubeadmError> {
        self.check_block_lines(argument)?;
        self.splices.delete_lines(argument.start.place.start..argument.node.place.end);
        Ok(())
    }

    /// What stands before a block entry in the line it begins in.
    fn block_prefix(&self, argument: &Argument) -> Result<String, KubeadmError> {
        let start = argument.start.place.start;
        let prefix = &self.text[splice::line_start(self.text, start)..start];
        let dash = prefix.trim_start_matches(' ');
        let fits = match self.config.version {
            ApiVersion::V1Beta4 => dash.strip_prefix('-').is_some_and(|gap| !gap.is_empty() && gap.trim().is_empty()),
            ApiVersion::V1Beta3 => dash.is_empty(),
        };
        if fits { Ok(prefix.to_owned()) } else { Err(self.form(&argument.start, &argument.name)) }
    }

    /// Refuses a block entry that does not have its lines for itself. A comment between its lines is a part of it.
    fn check_block_lines(&self, argument: &Argument) -> Result<(), KubeadmError> {
        self.block_prefix(argument)?;
        let values = argument
            .node
            .entries()
            .map_or(vec![&argument.node], |parts| parts.iter().map(|part| &part.value).collect());
        // Where a value of several lines ends is not certain enough to cut: a block scalar may take blank lines behind it.
        let one_line = |value: &Node| value.is_empty() || splice::is_one_line(self.text, value);
        let certain = values.into_iter().all(one_line) && splice::line_ends_at(self.text, argument.node.place.end);
        if certain { Ok(()) } else { Err(self.form(&argument.start, &argument.name)) }
    }

    /// Puts the wanted entries where the first standing one is, and takes the others out with the comma before them.
    fn set_in_brackets(&mut self, name: &str, standing: &[&Argument], wanted: &[&str]) -> Result<(), KubeadmError> {
        let entries: Vec<String> = wanted.iter().map(|value| in_brackets(self.config.version, name, value)).collect();
        let mut gone = standing;
        if let (Some((first, others)), false) = (standing.split_first(), entries.is_empty()) {
            self.splices.replace(first.start.place.start..first.node.place.end, entries.join(", "));
            gone = others;
        }
        gone.iter().try_for_each(|argument| self.remove_from_brackets(argument))
    }

    /// Takes an entry and one comma out of a list in brackets, if only that comma and spaces stand beside it.
    fn remove_from_brackets(&mut self, argument: &Argument) -> Result<(), KubeadmError> {
        let all = &self.config.arguments;
        let (start, end) = (argument.start.place.start, argument.node.place.end);
        let position = all.iter().position(|other| other.start.place.start == start).unwrap_or_default();
        let before = position.checked_sub(1).and_then(|before| all.get(before)).map(|before| before.node.place.end);
        let next = all.get(position + 1).map(|next| next.start.place.start);
        let range = match (before, next) {
            (Some(before), _) => before..end,
            (None, Some(next)) => start..next,
            (None, None) => start..end,
        };
        let beside = [&self.text[range.start..start], &self.text[end..range.end]].concat();
        if !beside.bytes().all(|byte| matches!(byte, b' ' | b',')) {
            return Err(self.form(&argument.start, &argument.name));
        }
        self.splices.replace(range, "");
        Ok(())
    }

    /// Puts block entries beside one of the same name (v1beta4: a map has one entry a name).
    fn insert(&mut self, beside: &Argument, before: bool, name: &str, values: &[&str]) -> Result<(), KubeadmError> {
        self.check_block_lines(beside)?;
        let prefix = self.block_prefix(beside)?;
        let at = match before {
            true => splice::line_start(self.text, beside.start.place.start),
            false => splice::line_end(self.text, beside.node.place.end),
        };
        let lines: String = values.iter().map(|value| list_entry(&prefix, name, value)).collect();
        self.splices.insert(at, lines);
        Ok(())
    }

    /// Writes the arguments that do not stand yet, at the head of the list, with whatever is missing around it.
    fn write_fresh(&mut self) -> Result<(), KubeadmError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let Some(cluster) = &self.config.cluster else {
            let lines = self.api_server_lines();
            let marker = if self.config.has_documents { "---\n" } else { "" };
            let version = self.config.version.as_str();
            let document = format!("{marker}apiVersion: {version}\nkind: ClusterConfiguration\n{lines}");
            self.splices.insert(self.text.len(), document);
            return Ok(());
        };
        let Some(api_server) = cluster.entry("apiServer") else {
            let lines = self.api_server_lines();
            return self.below_kind(cluster, &lines);
        };
        match api_server.value.entry("extraArgs") {
            _ if is_nothing(&api_server.value) => {
                let indent = api_server.key.place.column + 2;
                let lines = self.extra_args_lines(indent);
                self.fill(&api_server.key, &api_server.value, "apiServer", lines)
            }
            None => {
                let indent = self.block_column(&api_server.value, "apiServer")?;
                let lines = self.extra_args_lines(indent);
                self.fill(&api_server.key, &api_server.value, "apiServer", lines)
            }
            Some(list) if is_nothing(&list.value) => {
                let lines = self.argument_lines(list.key.place.column);
                self.fill(&list.key, &list.value, "extraArgs", lines)
            }
            Some(list) => self.add_to_list(list),
        }
    }

    fn add_to_list(&mut self, list: &Entry) -> Result<(), KubeadmError> {
        if list.value.layout() == Some(Layout::Flow) {
            let version = self.config.version;
            let entries: String =
                self.fresh.iter().map(|(name, value)| in_brackets(version, name, value) + ", ").collect();
            // Behind the opening bracket: a comma can always follow there, because the list has entries.
            self.splices.insert(list.value.place.start + 1, entries);
            return Ok(());
        }
        let lines = match (self.config.version, self.config.arguments.first()) {
            (ApiVersion::V1Beta4, Some(first)) => {
                let prefix = self.block_prefix(first)?;
                self.fresh.iter().map(|(name, value)| list_entry(&prefix, name, value)).collect()
            }
            (ApiVersion::V1Beta3, _) | (ApiVersion::V1Beta4, None) => {
                let column = self.block_column(&list.value, "extraArgs")?;
                self.map_lines(column)
            }
        };
        self.fill(&list.key, &list.value, "extraArgs", lines)
    }

    /// Puts lines directly below a key; an empty value (`{}`, `null`) goes, its comment stays.
    fn fill(&mut self, key: &Node, value: &Node, what: &str, lines: String) -> Result<(), KubeadmError> {
        let place = value.place;
        let between = self.text.get(key.place.end..place.start).unwrap_or_default();
        let after_colon = between.strip_prefix(':').is_some_and(|rest| rest.bytes().all(|byte| byte == b' '));
        if is_nothing(value) && !value.is_empty() {
            let one_line = !self.text[place.start..place.end].contains('\n');
            if !after_colon || !one_line || !splice::line_ends_at(self.text, place.end) {
                return Err(self.form(key, what));
            }
            self.splices.replace(key.place.end + 1..place.end, "");
            self.splices.insert(splice::line_end(self.text, place.end), lines);
            return Ok(());
        }
        let at = splice::below_key(self.text, key).ok_or_else(|| self.form(key, what))?;
        self.splices.insert(at, lines);
        Ok(())
    }

    /// Puts lines below `apiVersion` and `kind`.
    fn below_kind(&mut self, cluster: &Node, lines: &str) -> Result<(), KubeadmError> {
        let head = ["apiVersion", "kind"].iter().filter_map(|key| cluster.entry(key));
        let last = head.max_by_key(|entry| entry.key.place.start).map(|entry| &entry.value);
        let one_line =
            |node: &&Node| splice::is_one_line(self.text, node) && splice::line_ends_at(self.text, node.place.end);
        let Some(node) = last.filter(one_line) else {
            return Err(self.form(cluster, "ClusterConfiguration"));
        };
        let (at, column) = (splice::line_end(self.text, node.place.end), cluster.place.column);
        let indented: String = lines.lines().map(|line| format!("{:column$}{line}\n", "")).collect();
        self.splices.insert(at, indented);
        Ok(())
    }

    fn block_column(&self, mapping: &Node, what: &str) -> Result<usize, KubeadmError> {
        match (mapping.layout(), mapping.entries()) {
            (Some(Layout::Block), Some([first, ..])) => Ok(first.key.place.column),
            _ => Err(self.form(mapping, what)),
        }
    }

    fn api_server_lines(&self) -> String {
        format!("apiServer:\n{}", self.extra_args_lines(2))
    }

    fn extra_args_lines(&self, indent: usize) -> String {
        format!("{:indent$}extraArgs:\n{}", "", self.argument_lines(indent))
    }

    /// The arguments below a key in this column.
    fn argument_lines(&self, key_column: usize) -> String {
        match self.config.version {
            ApiVersion::V1Beta4 => {
                let prefix = format!("{:key_column$}- ", "");
                self.fresh.iter().map(|(name, value)| list_entry(&prefix, name, value)).collect()
            }
            ApiVersion::V1Beta3 => self.map_lines(key_column + 2),
        }
    }

    fn map_lines(&self, column: usize) -> String {
        let line = |(name, value): &(String, String)| {
            format!("{:column$}{}: {}\n", "", splice::spelled(name, ScalarStyle::Plain), spelled(value))
        };
        self.fresh.iter().map(line).collect()
    }
}

fn spelled(value: &str) -> String {
    splice::spelled(value, ScalarStyle::Plain)
}

/// A v1beta4 entry in two lines; `prefix` is what stands before it, dash included.
fn list_entry(prefix: &str, name: &str, value: &str) -> String {
    let below = " ".repeat(prefix.len());
    format!("{prefix}name: {}\n{below}value: {}\n", spelled(name), spelled(value))
}

/// An entry of a list or map in brackets, where commas and brackets would end a plain text.
fn in_brackets(version: ApiVersion, name: &str, value: &str) -> String {
    let quoted = |text: &str| splice::spelled(text, ScalarStyle::Double);
    match version {
        ApiVersion::V1Beta4 => format!("{{name: {}, value: {}}}", spelled(name), quoted(value)),
        ApiVersion::V1Beta3 => format!("{}: {}", spelled(name), quoted(value)),
    }
}
