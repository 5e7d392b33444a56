//! One line of a text that comes in parts, without keeping the text.

/// Longest line that is looked at, in bytes; the rest of a longer one is passed over.
const LONGEST_LINE_BYTES: usize = 4096;

/// Looks for one line in a text that comes in parts.
pub(super) struct Lines<'a> {
    start: &'a str,
    current: Vec<u8>,
    found: Option<String>,
}

impl<'a> Lines<'a> {
    /// Looks for the first line that begins with `start`.
    pub fn beginning_with(start: &'a str) -> Self {
        Self { start, current: Vec::new(), found: None }
    }

    /// The rest of that line.
    pub fn found(mut self) -> Option<String> {
        self.push(b"\n");
        self.found
    }

    /// The next part.
    pub fn push(&mut self, part: &[u8]) {
        if self.found.is_some() {
            return;
        }
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE_BYTES.saturating_sub(self.current.len());
            self.current.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.finish();
            }
        }
    }

    fn finish(&mut self) {
        if self.found.is_none()
            && let Some(rest) = self.current.strip_prefix(self.start.as_bytes())
        {
            self.found = Some(String::from_utf8_lossy(rest).trim().to_owned());
        }
        self.current.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_found_however_the_text_is_cut() {
        let text = b"# start 0\nstart_other 1\nstart 2\nstart 3\n";
        for size in 1..=text.len() {
            let mut lines = Lines::beginning_with("start ");
            text.chunks(size).for_each(|part| lines.push(part));
            assert_eq!(lines.found().as_deref(), Some("2"), "parts of {size} bytes");
        }
    }
}
