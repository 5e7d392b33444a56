//! PEM blocks of a key file, found where kube-apiserver's reader (Go `encoding/pem`) finds them.

use std::str;

use p256::elliptic_curve::zeroize::Zeroizing;

use super::KeyError;

/// Longest key file that is read, in bytes.
const LONGEST_FILE_BYTES: usize = 1 << 20;

/// What a file holds between its `BEGIN` and `END` lines.
pub(super) struct PemBlocks {
    /// Blocks with both lines, in order.
    pub blocks: Vec<Block>,
    /// Label of a last `BEGIN` line that has no `END`.
    pub unfinished: Option<String>,
}

/// One PEM block (RFC 7468; headers as in RFC 1421).
pub(super) struct Block {
    /// Text between `-----BEGIN ` and `-----`.
    pub label: String,
    /// The decoded body, wiped on drop; `None` where it is no base64.
    pub der: Option<Zeroizing<Vec<u8>>>,
    /// Whether its headers say that the body is encrypted.
    pub encrypted: bool,
}

impl PemBlocks {
    /// Finds the blocks; text around them is skipped, as Go does.
    pub fn read(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > LONGEST_FILE_BYTES {
            return Err(KeyError::TooLong { bytes: bytes.len() });
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(KeyError::Empty);
        }
        let (mut blocks, mut open) = (Vec::new(), None::<(String, Vec<&[u8]>)>);
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii_end();
            if let Some(label) = label(line, "-----BEGIN ") {
                // A BEGIN line inside a block starts anew: the one before had no END.
                open = Some((label.to_owned(), Vec::new()));
            } else if line.starts_with(b"-----END ") {
                let end = label(line, "-----END ");
                blocks.extend(open.take().filter(|(begin, _)| Some(begin.as_str()) == end).map(Block::read));
            } else if let Some((_, body)) = &mut open {
                body.push(line);
            }
        }
        let unfinished = open.map(|(label, _)| label);
        if blocks.is_empty() && unfinished.is_none() { Err(KeyError::NotPem) } else { Ok(Self { blocks, unfinished }) }
    }

    /// The labels, for a person.
    pub fn labels(&self) -> String {
        let quoted: Vec<String> = self.blocks.iter().map(|block| format!("{:?}", block.label)).collect();
        quoted.join(", ")
    }
}

impl Block {
    fn read((label, lines): (String, Vec<&[u8]>)) -> Self {
        let headers = lines.iter().take_while(|line| line.contains(&b':')).count();
        let encrypted =
            lines[..headers].iter().any(|line| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"));
        let body = &lines[headers..];
        // With room for all of it, so that growing leaves no copy of a private key behind.
        let room = body.iter().map(|line| line.len()).sum::<usize>() + 2 * label.len() + 40;
        let mut block = Zeroizing::new(Vec::with_capacity(room));
        block.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
        // Without headers and white space: the crate takes what stands before a blank line for headers, Go for base64.
        block.extend(body.iter().flat_map(|line| line.iter()).filter(|byte| !byte.is_ascii_whitespace()));
        block.extend_from_slice(format!("\n-----END {label}-----\n").as_bytes());
        let der = pem::parse(block.as_slice()).ok().map(|block| Zeroizing::new(block.into_contents()));
        Self { label, der, encrypted }
    }
}

/// The label of a `BEGIN` or `END` line.
fn label<'a>(line: &'a [u8], prefix: &str) -> Option<&'a str> {
    str::from_utf8(line.strip_prefix(prefix.as_bytes())?.strip_suffix(b"-----")?).ok()
}

/// One block with lines of 64 characters, as openssl and kubeadm write it.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    pem::encode_config(&pem::Pem::new(label, der), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}
