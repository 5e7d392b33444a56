//! What is refused in a text, and the checks that need no parser.

use std::str;

use thiserror::Error;

use super::{DEEPEST, MOST_NODES};

/// Why a text is not read. Lines are counted from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum YamlError {
    /// More bytes than the caller's limit.
    #[error("the file has {bytes} bytes, more than the {limit} that are read; is it the right file?")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// The caller's limit.
        limit: usize,
    },
    /// Bytes that are no UTF-8.
    #[error("line {line}: bytes that are not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// Where.
        line: usize,
    },
    /// U+FEFF anywhere.
    #[error("line {line}: a byte order mark (U+FEFF); save the file as UTF-8 without one")]
    ByteOrderMark {
        /// Where.
        line: usize,
    },
    /// NUL or another control character that YAML does not allow.
    #[error("line {line}: control character U+{code:04X}; take it out")]
    ControlCharacter {
        /// Where.
        line: usize,
        /// Code point.
        code: u32,
    },
    /// CR, with or without LF.
    #[error("line {line}: a carriage return; save the file with Unix line ends (LF)")]
    CarriageReturn {
        /// Where.
        line: usize,
    },
    /// NEL, LS or PS: a line break for some YAML readers and not for others.
    #[error("line {line}: Unicode line break U+{code:04X}, which YAML readers disagree about; take it out")]
    UnicodeLineBreak {
        /// Where.
        line: usize,
        /// Code point.
        code: u32,
    },
    /// Tab in the white space a line begins with.
    #[error("line {line}: indented with a tab; indent with spaces")]
    Tab {
        /// Where.
        line: usize,
    },
    /// Not YAML.
    #[error("line {line}: not valid YAML: {reason}")]
    Syntax {
        /// Where.
        line: usize,
        /// The parser's words.
        reason: String,
    },
    /// The same key twice in one mapping.
    #[error("line {line}: key {key:?} stands twice (first in line {first}); keep one")]
    DuplicateKey {
        /// The second.
        line: usize,
        /// The first.
        first: usize,
        /// The key.
        key: String,
    },
    /// A list, mapping or alias as key.
    #[error("line {line}: a key that is not a plain text; write KEY: VALUE")]
    KeyNotScalar {
        /// Where.
        line: usize,
    },
    /// Deeper than [`DEEPEST`].
    #[error("line {line}: nested deeper than {DEEPEST} levels; is it the right file?")]
    TooDeep {
        /// Where.
        line: usize,
    },
    /// More than [`MOST_NODES`].
    #[error("line {line}: more than {MOST_NODES} values; is it the right file?")]
    TooManyNodes {
        /// Where.
        line: usize,
    },
    /// An anchor, alias, tag or merge key where the caller allows none.
    #[error("line {line}: {what}, which is not understood here; write the value out")]
    Reference {
        /// Where.
        line: usize,
        /// `an anchor (&)`, `an alias (*)`, `a tag (!)`, `a merge key (<<)`.
        what: &'static str,
    },
    /// The two YAML readers do not agree that this is YAML.
    #[error(
        "not YAML to every reader, and perhaps not to kubelet and kubeadm: {reason}; write that place more plainly"
    )]
    Values {
        /// The second parser's words.
        reason: String,
    },
}

/// The text of `bytes` if every YAML reader sees the same characters and lines in it.
pub(super) fn checked_text(bytes: &[u8]) -> Result<&str, YamlError> {
    let text =
        str::from_utf8(bytes).map_err(|error| YamlError::NotUtf8 { line: line_of(&bytes[..error.valid_up_to()]) })?;
    let (mut line, mut in_indent) = (1, true);
    for character in text.chars() {
        let code = u32::from(character);
        match character {
            '\n' => {
                line += 1;
                in_indent = true;
                continue;
            }
            '\t' if in_indent => return Err(YamlError::Tab { line }),
            '\r' => return Err(YamlError::CarriageReturn { line }),
            '\u{feff}' => return Err(YamlError::ByteOrderMark { line }),
            '\u{85}' | '\u{2028}' | '\u{2029}' => return Err(YamlError::UnicodeLineBreak { line, code }),
            '\t' | ' ' => (),
            _ if character.is_control() => return Err(YamlError::ControlCharacter { line, code }),
            _ => (),
        }
        in_indent &= character == ' ';
    }
    Ok(text)
}

/// 1-based line of what follows `before`.
fn line_of(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
