//! PDF documents: plain ones here, the encryption of the encrypted ones in [`encryption`].
//!
//! A stream is compressed (FlateDecode) unless a builder says otherwise, so that a marker inside is found by unpacking
//! only.

pub mod encryption;

use std::io::Write as _;

use encryption::{Cipher, Lock};

/// What a document is made of.
#[derive(Clone, Debug, Default)]
pub struct Pdf {
    /// Text of the only page, drawn in one string operator.
    pub text: String,
    /// Leave the streams as they are instead of compressing them.
    pub uncompressed: bool,
    /// An attachment: file name and contents.
    pub attachment: Option<(String, Vec<u8>)>,
    /// JavaScript to run when the document is opened.
    pub script: Option<String>,
    /// Cipher, user password, owner password.
    pub lock: Option<(Cipher, String, String)>,
}

/// A page of text in a compressed stream.
pub fn page(text: &str) -> Vec<u8> {
    Pdf { text: text.to_owned(), ..Pdf::default() }.build()
}

/// A page of text in a stream that is not compressed: the outer layer already shows it.
pub fn page_uncompressed(text: &str) -> Vec<u8> {
    Pdf { text: text.to_owned(), uncompressed: true, ..Pdf::default() }.build()
}

/// A page and an attached file (`/EmbeddedFile`): proves that attachments are handed over.
pub fn attachment(name: &str, data: &[u8]) -> Vec<u8> {
    Pdf { text: "see the attachment".to_owned(), attachment: Some((name.to_owned(), data.to_vec())), ..Pdf::default() }
        .build()
}

/// A page and a script that runs on opening.
pub fn script(source: &str) -> Vec<u8> {
    Pdf { text: "see the script".to_owned(), script: Some(source.to_owned()), ..Pdf::default() }.build()
}

/// An attachment in a document that opens with [`PASSWORD`](crate::zip::encrypted::PASSWORD) only: unscannable.
pub fn encrypted(cipher: Cipher, name: &str, data: &[u8]) -> Vec<u8> {
    locked(cipher, crate::zip::encrypted::PASSWORD, name, data)
}

/// An attachment in a document with an owner password and an empty user password: everybody can open it, only
/// printing and the like are forbidden. libclamav decrypts some of these; the rest must be called unscannable.
pub fn encrypted_empty_password(cipher: Cipher, name: &str, data: &[u8]) -> Vec<u8> {
    locked(cipher, "", name, data)
}

/// A document cut in its middle: no cross-reference table, no trailer, and the last stream has no end.
pub fn truncated(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = attachment(name, data);
    let start = bytes.windows(16).position(|window| window.starts_with(b"/EmbeddedFile /")).expect("an attachment");
    bytes.truncate(start + (bytes.len() - start) / 4);
    bytes
}

/// A stream with a filter that nobody knows.
pub fn unknown_filter(data: &[u8]) -> Vec<u8> {
    let mut objects = skeleton();
    objects.push(stream("/Filter /NobodyDecode", &crate::zip::deflate(data)));
    write(&objects, "", &[])
}

/// An attachment whose compressed stream is damaged in its middle; all else is sound.
pub fn corrupt(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = attachment(name, data);
    let find = |what: &[u8], from: usize| {
        from + bytes[from..].windows(what.len()).position(|window| window == what).expect("an attachment")
    };
    let start = find(b"stream\n", find(b"/EmbeddedFile /", 0));
    let middle = start + (find(b"endstream", start + 7) - start) / 3;
    for byte in &mut bytes[middle..middle + 16] {
        *byte ^= 0xff;
    }
    bytes
}

fn locked(cipher: Cipher, user: &str, name: &str, data: &[u8]) -> Vec<u8> {
    Pdf {
        text: "a locked page".to_owned(),
        attachment: Some((name.to_owned(), data.to_vec())),
        lock: Some((cipher, user.to_owned(), "owner-password".to_owned())),
        ..Pdf::default()
    }
    .build()
}

impl Pdf {
    /// Writes the document.
    pub fn build(&self) -> Vec<u8> {
        let lock = self.lock.as_ref().map(|(cipher, user, owner)| Lock::new(*cipher, user, owner));
        let mut catalog = String::from("/Type /Catalog /Pages 2 0 R");
        let mut objects = skeleton();
        objects[4] = self.stream("", self.page_contents().as_bytes(), &lock, 5);
        if let Some((name, data)) = &self.attachment {
            let number = objects.len() + 1;
            objects.push(self.stream("/Type /EmbeddedFile", data, &lock, number));
            // Strings are encrypted like streams are, under the number of their object.
            let seal = |object| string(name.as_bytes(), &lock, object);
            let spec = format!("<< /Type /Filespec /F {0} /UF {0} /EF << /F {number} 0 R >> >>", seal(number + 1));
            objects.push(spec.into_bytes());
            catalog += &format!(" /Names << /EmbeddedFiles << /Names [{} {} 0 R] >> >>", seal(1), number + 1);
        }
        if let Some(source) = &self.script {
            let number = objects.len() + 1;
            objects.push(self.stream("", source.as_bytes(), &lock, number));
            catalog += &format!(" /OpenAction << /S /JavaScript /JS {number} 0 R >>");
        }
        objects[0] = format!("<< {catalog} >>").into_bytes();
        match &lock {
            None => write(&objects, "", &[]),
            Some(lock) => {
                objects.push(lock.dictionary().into_bytes());
                write(&objects, &format!("/Encrypt {} 0 R", objects.len()), lock.id())
            }
        }
    }

    fn page_contents(&self) -> String {
        let escaped = self.text.replace('\\', "\\\\").replace('(', "\\(").replace(')', "\\)");
        format!("BT /F1 12 Tf 72 720 Td ({escaped}) Tj ET")
    }

    fn stream(&self, entries: &str, data: &[u8], lock: &Option<Lock>, object: usize) -> Vec<u8> {
        let (filter, packed) =
            if self.uncompressed { ("", data.to_vec()) } else { ("/Filter /FlateDecode", zlib(data)) };
        let packed = lock.as_ref().map_or(packed.clone(), |lock| lock.encrypt(object as u32, &packed));
        stream(&format!("{entries} {filter}"), &packed)
    }
}

/// Catalog, page tree, page, font, and the contents of the page.
fn skeleton() -> Vec<Vec<u8>> {
    vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R \
          /Resources << /Font << /F1 4 0 R >> >> >>"
            .to_vec(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_vec(),
        stream("", b"BT /F1 12 Tf 72 720 Td (a page) Tj ET"),
    ]
}

fn stream(entries: &str, data: &[u8]) -> Vec<u8> {
    let mut out = format!("<< {entries} /Length {} >>\nstream\n", data.len()).into_bytes();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\nendstream");
    out
}

/// A string in hexadecimal, encrypted where the document is.
fn string(text: &[u8], lock: &Option<Lock>, object: usize) -> String {
    let bytes = lock.as_ref().map_or_else(|| text.to_vec(), |lock| lock.encrypt(object as u32, text));
    format!("<{}>", crate::marker::hex(&bytes))
}

/// Writes objects 1 to n, the cross-reference table and the trailer.
fn write(objects: &[Vec<u8>], trailer: &str, id: &[u8]) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(out.len());
        out.extend_from_slice(format!("{} 0 obj\n", index + 1).as_bytes());
        out.extend_from_slice(object);
        out.extend_from_slice(b"\nendobj\n");
    }
    let start = out.len();
    out.extend_from_slice(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).as_bytes());
    for offset in offsets {
        out.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
    }
    let id = crate::marker::hex(if id.is_empty() { b"0123456789abcdef" } else { id });
    out.extend_from_slice(
        format!(
            "trailer\n<< /Size {} /Root 1 0 R /ID [<{id}> <{id}>] {trailer} >>\nstartxref\n{start}\n%%EOF\n",
            objects.len() + 1
        )
        .as_bytes(),
    );
    out
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).expect("zlib into memory");
    encoder.finish().expect("zlib into memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{marker, payload, shows_marker};
    use crate::testing::{output_of, tool};
    use crate::zip::encrypted::PASSWORD;

    fn qpdf_attachment(bytes: &[u8], password: &str) -> Vec<u8> {
        let password = format!("--password={password}");
        let check = tool("qpdf", &[&password, "--check", "{}"], bytes, "pdf");
        assert!(check.status.success(), "{}", crate::testing::said(&check));
        output_of("qpdf", &[&password, "--show-attachment=letter.txt", "{}"], bytes, "pdf")
    }

    #[test]
    fn qpdf_finds_the_plain_ones_sound() {
        let text = String::from_utf8([b"(a) ", &marker()[..]].concat()).expect("ASCII");
        assert!(shows_marker(&page_uncompressed(&text)));
        for bytes in [page(&text), page_uncompressed(&text), script("app.alert(1);")] {
            output_of("qpdf", &["--check", "{}"], &bytes, "pdf");
        }
        assert!(!shows_marker(&attachment("letter.txt", &payload())));
        assert!(qpdf_attachment(&attachment("letter.txt", &payload()), "") == payload());
    }

    #[test]
    fn qpdf_opens_the_encrypted_ones_with_the_right_password() {
        for cipher in Cipher::ALL {
            let data = payload();
            let bytes = encrypted(cipher, "letter.txt", &data);
            assert!(!shows_marker(&bytes));
            assert!(qpdf_attachment(&bytes, PASSWORD) == data, "{cipher:?}");
            assert!(qpdf_attachment(&bytes, "owner-password") == data, "{cipher:?}");
            assert!(!tool("qpdf", &["--check", "{}"], &bytes, "pdf").status.success(), "{cipher:?}");
            assert!(qpdf_attachment(&encrypted_empty_password(cipher, "letter.txt", &data), "") == data, "{cipher:?}");
        }
    }

    #[test]
    fn qpdf_refuses_the_broken_ones() {
        let data = payload();
        for bytes in [truncated("letter.txt", &data), corrupt("letter.txt", &data)] {
            assert!(!shows_marker(&bytes));
            let output = tool("qpdf", &["--show-attachment=letter.txt", "{}"], &bytes, "pdf");
            assert!(!output.status.success() && output.stdout != data);
        }
    }
}
