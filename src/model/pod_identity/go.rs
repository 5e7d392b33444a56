//! Readings of Go's standard library on which annotations and paths in the field rely.

/// `strconv.ParseBool`
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// `filepath.Join` on Unix: both in one path without `.`, `..` and double slashes.
pub(super) fn join(folder: &str, file: &str) -> String {
    let rooted = if folder.is_empty() { file } else { folder }.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(file.split('/')) {
        match part {
            "" | "." => (),
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => (),
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    match (rooted, path.is_empty()) {
        (true, _) => format!("/{path}"),
        (false, true) if folder.is_empty() && file.is_empty() => String::new(),
        (false, true) => ".".to_owned(),
        (false, false) => path,
    }
}
