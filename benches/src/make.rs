//! Makes documents and archives from real content, in the shapes that uploads have.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use zip::write::SimpleFileOptions;

use crate::Result;

/// A member of an archive: its name and its bytes.
pub type Member<'a> = (&'a str, &'a [u8]);

/// A zip of deflated members.
///
/// # Errors
///
/// None that is expected: it writes to memory.
pub fn zip(members: &[Member<'_>]) -> Result<Vec<u8>> {
    let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        out.start_file(*name, SimpleFileOptions::default())?;
        out.write_all(bytes)?;
    }
    Ok(out.finish()?.into_inner())
}

/// A tar of regular files.
///
/// # Errors
///
/// When a name does not fit.
pub fn tar(members: &[Member<'_>]) -> Result<Vec<u8>> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, *bytes)?;
    }
    Ok(out.into_inner()?)
}

/// One gzip stream.
///
/// # Errors
///
/// None that is expected: it writes to memory.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes)?;
    Ok(out.finish()?)
}

/// One bzip2 stream.
///
/// # Errors
///
/// None that is expected: it writes to memory.
pub fn bzip2(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    out.write_all(bytes)?;
    Ok(out.finish()?)
}

/// An `ar` archive, which is what a `.deb` is.
pub fn ar(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let name = format!("{name}/");
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

/// A Word document with `text` as its paragraphs and `pictures` in its media folder.
///
/// # Errors
///
/// None that is expected: it writes to memory.
pub fn docx(text: &str, pictures: &[Member<'_>]) -> Result<Vec<u8>> {
    const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#;
    const MAIN: &str = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";
    let mut document = format!(r#"{HEAD}<w:document xmlns:w="{MAIN}"><w:body>"#);
    for line in text.lines() {
        document.push_str(r#"<w:p><w:pPr><w:pStyle w:val="Normal"/></w:pPr><w:r><w:t xml:space="preserve">"#);
        document.push_str(&escape(line));
        document.push_str("</w:t></w:r></w:p>");
    }
    document.push_str("<w:sectPr/></w:body></w:document>");
    let types = format!(
        r#"{HEAD}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Default Extension="png" ContentType="image/png"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/><Override PartName="/word/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml"/></Types>"#
    );
    let relations = format!(
        r#"{HEAD}<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>"#
    );
    let style = r#"<w:style w:type="paragraph" w:styleId="Normal"><w:name w:val="Normal"/><w:rPr><w:sz w:val="22"/></w:rPr></w:style>"#;
    let styles = format!(r#"{HEAD}<w:styles xmlns:w="{MAIN}">{}</w:styles>"#, style.repeat(30));
    let names: Vec<String> = pictures.iter().map(|(name, _)| format!("word/media/{name}")).collect();
    let mut members: Vec<Member<'_>> = vec![
        ("[Content_Types].xml", types.as_bytes()),
        ("_rels/.rels", relations.as_bytes()),
        ("word/document.xml", document.as_bytes()),
        ("word/styles.xml", styles.as_bytes()),
    ];
    members.extend(names.iter().zip(pictures).map(|(name, (_, bytes))| (name.as_str(), *bytes)));
    zip(&members)
}

/// A PDF with a compressed text stream a page (50 lines) and, on the first page, a JPEG if there is one.
///
/// # Errors
///
/// None that is expected: it writes to memory.
pub fn pdf(text: &str, jpeg: Option<&[u8]>) -> Result<Vec<u8>> {
    let lines: Vec<&str> = text.lines().collect();
    let pages: Vec<&[&str]> = lines.chunks(50).collect();
    // Objects: 1 catalogue, 2 page tree, 3 font, 4 picture, then a page and its content each.
    let kids: String = (0..pages.len()).map(|page| format!("{} 0 R ", 5 + 2 * page)).collect();
    let mut objects = vec![
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        format!("<</Type/Pages/Kids[{kids}]/Count {}>>", pages.len()).into_bytes(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_vec(),
        match jpeg {
            Some(bytes) => stream("/Type/XObject/Subtype/Image/Filter/DCTDecode", bytes),
            None => b"null".to_vec(),
        },
    ];
    for (number, page) in pages.iter().enumerate() {
        let content = 6 + 2 * number;
        objects.push(
            format!(
                "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]\
                 /Resources<</Font<</F1 3 0 R>>/XObject<</I1 4 0 R>>>>/Contents {content} 0 R>>"
            )
            .into_bytes(),
        );
        let mut drawing = String::from("BT /F1 10 Tf 12 TL 40 800 Td\n");
        for line in *page {
            let line = line.replace('\\', r"\\").replace('(', r"\(").replace(')', r"\)");
            drawing.push_str(&format!("({line}) '\n"));
        }
        drawing.push_str("ET\n");
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
        packer.write_all(drawing.as_bytes())?;
        objects.push(stream("/Filter/FlateDecode", &packer.finish()?));
    }
    let mut out = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (number, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", out.len()));
        out.extend(format!("{} 0 obj\n", number + 1).bytes());
        out.extend_from_slice(object);
        out.extend_from_slice(b"\nendobj\n");
    }
    let start = out.len();
    out.extend(table.bytes());
    let size = objects.len() + 1;
    out.extend(format!("trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n").bytes());
    Ok(out)
}

fn stream(entries: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("<<{entries}/Length {}>>stream\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\nendstream");
    out
}

/// A mail with a text, its HTML form, and attachments in base64.
pub fn mail(text: &str, attachments: &[Member<'_>]) -> Vec<u8> {
    const MIXED: &str = "=_bench_mixed_7c1d";
    const BODIES: &str = "=_bench_bodies_02fa";
    let mut out = format!(
        "Return-Path: <sender@example.org>\r\nReceived: from mail.example.org by mx.example.com; \
         Tue, 2 Jun 2026 10:00:00 +0000\r\nFrom: Sender <sender@example.org>\r\nTo: receiver@example.com\r\n\
         Subject: Files\r\nDate: Tue, 2 Jun 2026 10:00:00 +0000\r\nMessage-ID: <bench@example.org>\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{MIXED}\"\r\n\r\n--{MIXED}\r\n\
         Content-Type: multipart/alternative; boundary=\"{BODIES}\"\r\n\r\n--{BODIES}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n--{BODIES}\r\n\
         Content-Type: text/html; charset=utf-8\r\n\r\n<html><body><pre>{}</pre></body></html>\r\n--{BODIES}--\r\n",
        escape(text)
    );
    for (name, bytes) in attachments {
        out.push_str(&format!(
            "--{MIXED}\r\nContent-Type: application/octet-stream; name=\"{name}\"\r\n\
             Content-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        ));
        base64(bytes, &mut out);
    }
    out.push_str(&format!("--{MIXED}--\r\n"));
    out.into_bytes()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\u{c}', " ")
}

/// Lines of 76 characters, as in mails.
fn base64(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for line in bytes.chunks(57) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                let sextet = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
                out.push(if place > group.len() { '=' } else { char::from(sextet) });
            }
        }
        out.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamav_core::{EngineBuilder, ScanRequest, Verdict};

    /// Whether the marker is found in, and only in, what each format carries.
    #[test]
    fn libclamav_unpacks_everything_that_is_made_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = crate::definitions::Plan { sha256: 9, md5: 9, bodies: 9, logical: 9, seed: 7 };
        crate::definitions::generate(&plan, folder.path()).expect("written");
        let engine = EngineBuilder::new().definitions(folder.path()).threads(1).build().expect("loads");
        for content in [&b"nothing to be found here"[..], crate::definitions::MARKER] {
            let text = std::str::from_utf8(content).expect("is text");
            let zipped = zip(&[("a.txt", content)]).expect("made");
            let made = [
                ("zip", zip(&[("b.txt", b"other content"), ("inner.zip", &zipped)]).expect("made")),
                ("tar.gz", gzip(&tar(&[("a.txt", content)]).expect("made")).expect("made")),
                ("tar.bz2", bzip2(&tar(&[("a.txt", content)]).expect("made")).expect("made")),
                ("deb", ar(&[("data.tar.gz", &gzip(content).expect("made"))])),
                ("docx", docx(text, &[]).expect("made")),
                ("pdf", pdf(text, None).expect("made")),
                ("eml", mail("see attachment", &[("inner.zip", &zipped)])),
            ];
            for (kind, bytes) in made {
                let report = engine.scan(bytes, ScanRequest::named(format!("made.{kind}"))).expect("scanned");
                let found = matches!(report.verdict, Verdict::Infected { .. });
                assert_eq!(found, content == crate::definitions::MARKER, "{kind}: {:?}", report.verdict);
                assert!(found || report.verdict == Verdict::Clean, "{kind}: {:?}", report.verdict);
            }
        }
    }
}
