//! Mails (RFC 5322, RFC 2045 and 2046) that libclamav does not take for one, and what it does not unpack in mails.
//!
//! libclamav knows a mail by its first line or by a few fields close to the start. Mail programs need neither, so
//! what begins with header fields that announce parts or an encoding is handed on with a first line that it knows.

use super::Account;
use crate::ReasonKind::Unsupported;

/// libclamav takes what begins with this field for a mail.
const KNOWN_START: &[u8] = b"Return-Path: <>\n";

/// What is behind these fields is decoded and scanned.
const ATTACHMENT: &[u8] = b"Content-Type: application/octet-stream\nContent-Transfer-Encoding: ";

/// Larger header blocks are not looked at.
const LARGEST_HEADER: usize = 64 * 1024;

/// Boundaries of one mail that are looked for.
const MOST_BOUNDARIES: usize = 32;

pub(super) fn examine(file_type: &str, bytes: &[u8], account: &mut Account) {
    let known = matches!(file_type, "CL_TYPE_MAIL" | "CL_TYPE_MHTML");
    let Some(header) = Block::at_start(bytes) else {
        if known {
            look_for_gaps(bytes, false, account);
        }
        return;
    };
    if !known && !header.is_mime() {
        return;
    }
    // Lines that end in CR alone are one long line to libclamav.
    if header.bare_cr {
        let lines = bytes.iter().map(|byte| if *byte == b'\r' { b'\n' } else { *byte });
        account.unpacked.push((String::new(), KNOWN_START.iter().copied().chain(lines).collect()));
    } else if !known && bytes.starts_with(KNOWN_START) {
        account.gap(Unsupported, "a mail that libclamav does not recognise");
    } else if !known {
        // The copy is recognised by its first line, and what is missing in it is noted when it comes by.
        account.unpacked.push((String::new(), [KNOWN_START, bytes].concat()));
    } else {
        // A mail in a mail is not to be encoded, so libclamav does not decode it; an attachment it does.
        let encoding = header.encoding.filter(|_| header.media == b"message/rfc822" && !bytes.starts_with(b"From "));
        if let Some(encoding) = encoding {
            let body = bytes.get(header.length..).unwrap_or_default();
            account.unpacked.push((String::new(), [KNOWN_START, ATTACHMENT, encoding, b"\n\n", body].concat()));
        }
        look_for_gaps(bytes, encoding.is_some(), account);
    }
}

/// What a block of header fields says about the body behind it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Block {
    /// Media type and subtype, in lower case.
    media: Vec<u8>,
    boundaries: Vec<Vec<u8>>,
    /// One field gives two boundaries.
    ambiguous: bool,
    /// Base64 or quoted-printable.
    encoding: Option<&'static [u8]>,
    /// Where the body starts.
    length: usize,
    /// Its lines end in CR alone.
    bare_cr: bool,
}

impl Block {
    /// The block that `bytes` begin with: nothing but header fields up to a blank line.
    fn at_start(bytes: &[u8]) -> Option<Self> {
        let mark: usize = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let bytes = bytes.get(mark..)?;
        let bytes = bytes.get(..LARGEST_HEADER).unwrap_or(bytes);
        let cr = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let bare_cr = bytes.get(cr) == Some(&b'\r') && bytes.get(cr + 1) != Some(&b'\n');
        let mut fields = Fields::default();
        let mut lines = bytes.split(|byte| *byte == if bare_cr { b'\r' } else { b'\n' }).peekable();
        let mut length = mark;
        // "From " is the first line of a mail in an mbox.
        let mut first = true;
        while let Some(line) = lines.next() {
            length += line.len() + 1;
            let line = chomp(line);
            if line.is_empty() {
                // Without a line behind it the block was cut off, or nothing follows.
                return (!first && lines.peek().is_some()).then(|| Self { bare_cr, length, ..fields.finish() });
            }
            let folded = matches!(line, [b' ' | b'\t', ..]) && !first;
            let mbox = first && line.starts_with(b"From ");
            if !folded && !mbox && !is_field(line) {
                return None;
            }
            fields.line(line);
            first = false;
        }
        None
    }

    fn is_mime(&self) -> bool {
        self.media.starts_with(b"multipart/") || self.media.starts_with(b"message/") || self.encoding.is_some()
    }
}

fn chomp(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
    !name.is_empty() && name.len() <= 128 && name.iter().all(u8::is_ascii_graphic)
}

/// Collects the lines of one block.
#[derive(Debug, Default)]
struct Fields {
    block: Block,
    /// The field that the next line may continue, if it is one that matters.
    open: Vec<u8>,
    taken: usize,
}

impl Fields {
    fn line(&mut self, line: &[u8]) {
        self.taken = self.taken.saturating_add(line.len());
        if matches!(line, [b' ' | b'\t', ..]) {
            if !self.open.is_empty() && self.taken <= LARGEST_HEADER {
                self.open.extend_from_slice(line);
            }
            return;
        }
        self.close();
        let matters = |name: &&[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if [&b"content-type"[..], b"content-transfer-encoding"].iter().any(matters) && self.taken <= LARGEST_HEADER {
            self.open.extend_from_slice(line);
        }
    }

    fn close(&mut self) {
        let field = std::mem::take(&mut self.open);
        let Some(colon) = memchr::memchr(b':', &field) else { return };
        let (name, value) = (field.get(..colon).unwrap_or_default(), field.get(colon + 1..).unwrap_or_default());
        let name = name.trim_ascii_end();
        let parts = parameters(value);
        let first = parts.first().map(|part| without_comment(part)).unwrap_or_default().to_ascii_lowercase();
        if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            self.block.encoding = self.block.encoding.or(match first.as_slice() {
                b"base64" => Some(b"base64"),
                b"quoted-printable" => Some(b"quoted-printable"),
                _ => None,
            });
        } else if name.eq_ignore_ascii_case(b"content-type") {
            if self.block.media.is_empty() {
                self.block.media = first.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
            }
            let before = self.block.boundaries.len();
            for part in parts.iter().skip(1) {
                let Some(equals) = memchr::memchr(b'=', part) else { continue };
                let (key, value) = (part.get(..equals).unwrap_or_default(), part.get(equals + 1..).unwrap_or_default());
                if key.trim_ascii().eq_ignore_ascii_case(b"boundary") && self.block.boundaries.len() < MOST_BOUNDARIES {
                    let value = value.trim_ascii();
                    let quoted = value.strip_prefix(b"\"");
                    let value = quoted.and_then(|inner| inner.split(|byte| *byte == b'"').next()).unwrap_or(value);
                    self.block.boundaries.push(value.trim_ascii_end().to_vec());
                }
            }
            let own = self.block.boundaries.get(before..).unwrap_or_default();
            self.block.ambiguous |= own.iter().any(|other| own.first() != Some(other));
        }
    }

    fn finish(mut self) -> Block {
        self.close();
        self.block
    }
}

/// The parts of a field between semicolons, where those are not quoted.
fn parameters(value: &[u8]) -> Vec<&[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    value
        .split(|byte| {
            let escape = escaped;
            escaped = quoted && *byte == b'\\' && !escape;
            if *byte == b'"' && !escape {
                quoted = !quoted;
            }
            *byte == b';' && !quoted
        })
        .collect()
}

fn without_comment(part: &[u8]) -> &[u8] {
    part.split(|byte| *byte == b'(').next().unwrap_or_default().trim_ascii()
}

/// Follows the structure of a mail and notes what libclamav does not unpack in it. `decoded`: its body is a mail that
/// was handed on.
fn look_for_gaps(bytes: &[u8], decoded: bool, account: &mut Account) {
    let mut gaps: [Option<&'static str>; 4] = [None; 4];
    let mut boundaries: Vec<Vec<u8>> = Vec::new();
    let mut fields = Some(Fields::default());
    let mut root = true;
    let mut empty = true;
    let is_mbox = bytes.starts_with(b"From ");
    let mut was_blank = false;
    for line in bytes.split(|byte| *byte == b'\n').map(chomp) {
        let blank = line.is_empty();
        if is_mbox && was_blank && line.starts_with(b"From ") {
            (fields, root, empty) = (Some(Fields::default()), true, true);
            boundaries.clear();
        }
        was_blank = blank;
        if let [b'-', b'-', rest @ ..] = line
            && boundaries.iter().any(|boundary| rest.starts_with(boundary))
        {
            (fields, root, empty) = (Some(Fields::default()), false, true);
            continue;
        }
        if line.starts_with(b"=ybegin ") && memchr::memmem::find(line, b" name=").is_some() {
            gaps[3] = Some("yEnc");
        }
        let Some(mut open) = fields.take() else { continue };
        if !blank || (empty && root) {
            empty &= blank;
            open.line(line);
            fields = Some(open);
            continue;
        }
        let block = open.finish();
        if block.media == b"message/partial" {
            gaps[0] = Some("message/partial: a mail in pieces");
        }
        if root && !decoded && block.media == b"message/rfc822" && block.encoding.is_some() {
            gaps[1] = Some("an encoded message/rfc822");
        }
        if block.ambiguous {
            gaps[2] = Some("a mail with two boundaries to choose from");
        }
        boundaries.extend(block.boundaries.into_iter().filter(|boundary| !boundary.is_empty()));
        boundaries.truncate(MOST_BOUNDARIES);
        if block.media.starts_with(b"message/") && block.encoding.is_none() {
            (fields, root, empty) = (Some(Fields::default()), false, true);
        }
    }
    for gap in gaps.into_iter().flatten() {
        account.gap(Unsupported, gap);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIXED: &str = "Content-Type: multipart/mixed; boundary=\"b\"\n\n--b\n\nx\n--b--\n";

    fn account(file_type: &str, text: &str) -> Account {
        let mut account = Account::default();
        examine(file_type, text.as_bytes(), &mut account);
        account
    }

    fn is_handed_on(text: &str) -> bool {
        let account = account("CL_TYPE_TEXT_ASCII", text);
        assert_eq!(account.gaps, []);
        account.unpacked.first().is_some_and(|(_, copy)| copy.starts_with(b"Return-Path: <>\n"))
    }

    fn gaps(text: &str) -> usize {
        let account = account("CL_TYPE_MAIL", text);
        assert!(account.unpacked.is_empty());
        account.gaps.len()
    }

    #[test]
    fn mails_that_are_not_recognised_are_handed_on() {
        assert!(is_handed_on(&format!("X-Unusual: 1\nZ-A: 2\n{MIXED}")));
        assert!(is_handed_on("Foo: 1\r\nContent-Transfer-Encoding:\r\n BASE64 (really)\r\n\r\neA==\r\n"));
        assert!(is_handed_on("content-transfer-encoding: quoted-printable; x\n\n=41"));
    }

    #[test]
    fn other_text_is_left_alone() {
        for text in [
            "",
            "no header\n\n",
            "Name: value\n\nbody",
            "Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\nbody",
            "Some words: first\nand a line\nContent-Transfer-Encoding: base64\n\nbody",
            "Content-Transfer-Encoding: base64\nno end of the header",
            "About: mail\n\nContent-Transfer-Encoding: base64\n\nbody",
        ] {
            let account = account("CL_TYPE_TEXT_ASCII", text);
            assert!(account.unpacked.is_empty() && account.gaps.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_copy_is_not_copied_again() {
        let copy = format!("{}X: 1\n{MIXED}", String::from_utf8_lossy(KNOWN_START));
        for (file_type, expected) in [("CL_TYPE_MAIL", 0), ("CL_TYPE_TEXT_ASCII", 1)] {
            let account = account(file_type, &copy);
            assert_eq!((account.unpacked.len(), account.gaps.len()), (0, expected));
        }
    }

    #[test]
    fn encoded_mails_in_mails_are_made_attachments() {
        let header = "Received: x\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: Base64\r\n\r\n";
        let account = account("CL_TYPE_MAIL", &format!("{header}eA==\r\n"));
        let expected = "Return-Path: <>\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n\
            eA==\r\n";
        assert_eq!(account.unpacked.first().map(|(_, copy)| copy.as_slice()), Some(expected.as_bytes()));
        assert!(account.gaps.is_empty());
    }

    #[test]
    fn lines_that_end_in_cr_are_ended_for_libclamav() {
        let account = account("CL_TYPE_MAIL", &format!("Received: x\n{MIXED}").replace('\n', "\r"));
        let expected = format!("Return-Path: <>\nReceived: x\n{MIXED}");
        assert_eq!(account.unpacked.first().map(|(_, copy)| copy.as_slice()), Some(expected.as_bytes()));
    }

    #[test]
    fn what_libclamav_does_not_unpack_is_noted() {
        assert_eq!(gaps("Received: x\nContent-Type: message/partial; id=x; number=1\n\nX: y\n\nbody"), 1);
        assert_eq!(gaps("From x\nContent-Type: Message/RFC822\nContent-Transfer-Encoding: base64\n\neA==\n"), 1);
        assert_eq!(gaps("Received: x\nContent-Type: multipart/mixed;\n boundary=a;\n\tboundary=\"b\"\n\n--b\n\nx"), 1);
        assert_eq!(gaps("Received: x\n\nhello\n=ybegin line=128 size=1 name=a.zip\nk\n=yend size=1\n"), 1);
        let nested = "Received: x\nContent-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\n\
            X: y\nContent-Type: message/partial\n\nbody\n--a--\n";
        assert_eq!(gaps(nested), 1);
        assert_eq!(gaps("From x\nX: y\n\nbody\n\nFrom y\nContent-Type: message/partial\n\nbody"), 1);
    }

    #[test]
    fn ordinary_mails_have_no_gaps() {
        assert_eq!(gaps(&format!("Received: x\n{MIXED}")), 0);
        assert_eq!(gaps("Received: x\n\nIt said:\n\nContent-Type: message/partial\n\nand =ybegin line=1 name=x"), 0);
        assert_eq!(gaps("Received: x\nContent-Type: multipart/mixed; boundary=a; x=\"; boundary=b\"\n\n--a\n\nx"), 0);
        assert_eq!(gaps("Received: x\nContent-Type: multipart/x; boundary=a\nContent-Type: a/b; boundary=b\n\nx"), 0);
        assert_eq!(gaps("Received: x\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nX: y\n\nx"), 0);
    }

    const WORDS: &[&str] = &[
        "Content-Type",
        "Content-Transfer-Encoding",
        ":",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "multipart/mixed",
        ";",
        "--a",
        "boundary=a",
        "boundary=\"b\"",
        "base64",
        "message/rfc822",
        "message/partial",
        "From ",
        "X: y\n",
        "\"",
        "(",
        "\\",
        "=ybegin line=1 name=x",
        "Return-Path: <>\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_answered_in_bounds(
            words in prop::collection::vec(prop::sample::select(WORDS), 0..60),
            junk in prop::collection::vec(any::<u8>(), 0..60),
            file_type in prop::sample::select(&["CL_TYPE_MAIL", "CL_TYPE_TEXT_ASCII"][..]),
        ) {
            let bytes = [words.concat().as_bytes(), &junk].concat();
            let mut account = Account::default();
            examine(file_type, &bytes, &mut account);
            let unpacked: usize = account.unpacked.iter().map(|(_, bytes)| bytes.len()).sum();
            prop_assert!(unpacked <= bytes.len() + 128 && account.gaps.len() <= 4);
            // A copy that libclamav recognises is not copied once more.
            for (_, copy) in account.unpacked {
                let mut again = Account::default();
                examine("CL_TYPE_MAIL", &copy, &mut again);
                prop_assert!(again.unpacked.is_empty());
            }
        }
    }
}
