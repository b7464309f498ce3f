//! Mail messages (RFC 5322 with MIME parts), line ends CR LF.

const BOUNDARY: &str = "=-fixture-boundary";

/// A message with a text body and nothing else.
pub fn text(body: &[u8]) -> Vec<u8> {
    let mut out = head("text/plain; charset=us-ascii", "7bit");
    out.extend(crlf(body));
    out.extend_from_slice(b"\r\n");
    out
}

/// A text body and one attachment in base64: proves that attachments are decoded. The marker cannot be seen in it.
pub fn attachment(name: &str, data: &[u8]) -> Vec<u8> {
    multipart(&[text_part(), file_part(name, &base64_lines(data))])
}

/// The same with a body part in quoted-printable, every byte of it escaped.
pub fn quoted_printable(data: &[u8]) -> Vec<u8> {
    let mut part = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n".to_vec();
    let lines: Vec<String> =
        data.chunks(24).map(|chunk| chunk.iter().map(|byte| format!("={byte:02X}")).collect()).collect();
    part.extend_from_slice(lines.join("=\r\n").as_bytes());
    multipart(&[part])
}

/// A message that forwards another (`message/rfc822`), which is given whole.
pub fn forwarded(inner: &[u8]) -> Vec<u8> {
    let mut part = b"Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n".to_vec();
    part.extend_from_slice(inner);
    // A boundary that the message inside does not use: it would end there.
    multipart_with("=-forwarded", &[text_part(), part])
}

/// A message in a message, `depth` times, around an attachment.
pub fn forwarded_deep(depth: usize, name: &str, data: &[u8]) -> Vec<u8> {
    (0..depth).fold(attachment(name, data), |inner, level| {
        // Each level needs a boundary that its children do not use.
        let boundary = format!("=-level-{level}");
        let mut part = b"Content-Type: message/rfc822\r\n\r\n".to_vec();
        part.extend_from_slice(&inner);
        multipart_with(&boundary, &[text_part(), part])
    })
}

/// A body that is PGP-encrypted in ASCII armour: nobody can read it, but it is text and no container.
pub fn pgp_armoured() -> Vec<u8> {
    let mut body = b"-----BEGIN PGP MESSAGE-----\r\n\r\n".to_vec();
    body.extend(base64_lines(&crate::marker::filler(900, 41)));
    body.extend_from_slice(b"=njUN\r\n-----END PGP MESSAGE-----\r\n");
    text(&body)
}

/// The same as RFC 3156 has it: `multipart/encrypted` with a control part and the armour as an octet stream.
pub fn pgp_mime() -> Vec<u8> {
    let mut out =
        head(&format!("multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=\"{BOUNDARY}\""), "7bit");
    let mut secret = b"Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\r\n\
        -----BEGIN PGP MESSAGE-----\r\n\r\n"
        .to_vec();
    secret.extend(base64_lines(&crate::marker::filler(900, 42)));
    secret.extend_from_slice(b"-----END PGP MESSAGE-----\r\n");
    let control = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n".to_vec();
    parts(&mut out, BOUNDARY, &[control, secret]);
    out
}

/// An S/MIME enveloped body (`application/pkcs7-mime`), its header real and its contents random: unreadable to all but the addressee.
pub fn smime() -> Vec<u8> {
    let mut out = head("application/pkcs7-mime; smime-type=enveloped-data; name=\"smime.p7m\"", "base64");
    // ContentInfo, the object identifier of envelopedData, and the start of its content (RFC 5652).
    let mut cms = vec![0x30, 0x82, 0x03, 0x93, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
    cms.extend([0xa0, 0x82, 0x03, 0x84, 0x30, 0x82, 0x03, 0x80]);
    cms.extend(crate::marker::filler(896, 43));
    out.extend(base64_lines(&cms));
    out
}

/// An attachment whose base64 stops in its middle, and the message with it: what came is not the whole file.
pub fn truncated(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = attachment(name, data);
    let start = bytes.windows(8).position(|window| window == b"base64\r\n").expect("an attachment");
    bytes.truncate(start + (bytes.len() - start) / 2);
    bytes
}

/// A multipart message without the boundary that would end it.
pub fn unclosed(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = attachment(name, data);
    bytes.truncate(bytes.len() - BOUNDARY.len() - 8);
    bytes
}

/// Base64 in lines of 76 characters.
pub fn base64_lines(data: &[u8]) -> Vec<u8> {
    let encoded = base64(data);
    encoded.chunks(76).flat_map(|line| [line, b"\r\n"].concat()).collect()
}

/// Base64 (RFC 4648) in one line.
pub fn base64(data: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let group = chunk.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (group >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { DIGITS[index as usize] } else { b'=' });
        }
    }
    out
}

fn head(content_type: &str, encoding: &str) -> Vec<u8> {
    format!(
        "Return-Path: <a@example.org>\r\n\
         Received: from a.example.org by b.example.org; Wed, 1 Jan 2025 00:00:00 +0000\r\n\
         From: A <a@example.org>\r\nTo: B <b@example.org>\r\nSubject: ledgers\r\n\
         Date: Wed, 1 Jan 2025 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n\
         Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    .into_bytes()
}

fn multipart(contents: &[Vec<u8>]) -> Vec<u8> {
    multipart_with(BOUNDARY, contents)
}

fn multipart_with(boundary: &str, contents: &[Vec<u8>]) -> Vec<u8> {
    let mut out = head(&format!("multipart/mixed; boundary=\"{boundary}\""), "7bit");
    parts(&mut out, boundary, contents);
    out
}

fn parts(out: &mut Vec<u8>, boundary: &str, contents: &[Vec<u8>]) {
    for part in contents {
        out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
}

fn text_part() -> Vec<u8> {
    let mut part = b"Content-Type: text/plain\r\n\r\n".to_vec();
    part.extend(crlf(&crate::marker::text(200, 44)));
    part
}

fn file_part(name: &str, encoded: &[u8]) -> Vec<u8> {
    let mut part = format!(
        "Content-Type: application/octet-stream; name=\"{name}\"\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    .into_bytes();
    part.extend_from_slice(encoded);
    part
}

fn crlf(text: &[u8]) -> Vec<u8> {
    text.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect::<Vec<_>>()
        .join(&b"\r\n"[..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{payload, shows_marker};
    use crate::testing::output_of;

    /// Walks a message with Python's parser and prints the decoded last leaf; any defect is an error.
    const LAST_LEAF: &str = "import sys, email\n\
        message = email.message_from_binary_file(open(sys.argv[1], 'rb'))\n\
        parts = list(message.walk())\n\
        assert not any(part.defects for part in parts), [part.defects for part in parts]\n\
        sys.stdout.buffer.write(parts[-1].get_payload(decode=True))";

    fn last_leaf(bytes: &[u8]) -> Vec<u8> {
        output_of("python3", &["-c", LAST_LEAF, "{}"], bytes, "eml")
    }

    #[test]
    fn python_decodes_the_attachments() {
        let data = payload();
        for bytes in [
            attachment("letter.txt", &data),
            forwarded(&attachment("letter.txt", &data)),
            forwarded_deep(6, "letter.txt", &data),
        ] {
            assert!(!shows_marker(&bytes));
            assert!(last_leaf(&bytes) == data);
        }
        assert!(!shows_marker(&quoted_printable(&data)));
        assert!(last_leaf(&quoted_printable(&data)) == data);
    }

    #[test]
    fn bodies_and_secrets_are_whole_messages() {
        assert!(shows_marker(&last_leaf(&text(&payload()))));
        for bytes in [pgp_armoured(), pgp_mime(), smime()] {
            assert!(!last_leaf(&bytes).is_empty());
        }
    }

    #[test]
    fn truncated_ones_lack_their_end() {
        let data = payload();
        let bytes = truncated("letter.txt", &data);
        assert!(bytes.len() < attachment("letter.txt", &data).len() - 500);
        assert!(!unclosed("a.txt", &data).ends_with(b"--\r\n"));
    }

    #[test]
    fn base64_agrees_with_the_standard() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), encoded.as_bytes());
        }
    }
}
