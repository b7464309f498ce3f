//! Office documents: OOXML (a zip), and the older formats in an OLE2 container (compound file, CFB).

use std::io::{Cursor, Write as _};

use crate::marker::filler;
use crate::zip::plain;

/// A minimal Word document whose text is `text`, in one run of `word/document.xml`.
pub fn docx(text: &str) -> Vec<u8> {
    docx_with(text, &[])
}

/// The same with further members, such as `word/media/x.bin` or `word/embeddings/oleObject1.bin`.
pub fn docx_with(text: &str, extra: &[(&str, &[u8])]) -> Vec<u8> {
    let body = format!("<w:r><w:t>{}</w:t></w:r>", escape(text));
    word(&body, extra)
}

/// The text cut into runs of four characters each: found only by a reader that strips the tags.
pub fn docx_split_runs(text: &str) -> Vec<u8> {
    let characters: Vec<char> = text.chars().collect();
    let body: String = characters
        .chunks(4)
        .map(|run| format!("<w:r><w:t xml:space=\"preserve\">{}</w:t></w:r>", escape(&run.iter().collect::<String>())))
        .collect();
    word(&body, &[])
}

/// A minimal workbook with `text` in cell A1 as an inline string.
pub fn xlsx(text: &str) -> Vec<u8> {
    let types = content_types(&[
        ("/xl/workbook.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"),
        ("/xl/worksheets/sheet1.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"),
    ]);
    let workbook = format!(
        "{XML}<workbook xmlns=\"{SHEET}\" xmlns:r=\"{RELATION}\"><sheets>\
         <sheet name=\"Sheet1\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
    );
    let sheet = format!(
        "{XML}<worksheet xmlns=\"{SHEET}\"><sheetData><row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>{}</t></is></c>\
         </row></sheetData></worksheet>",
        escape(text)
    );
    plain(&[
        ("[Content_Types].xml", types.as_bytes()),
        ("_rels/.rels", relations("officeDocument", "xl/workbook.xml").as_bytes()),
        ("xl/workbook.xml", workbook.as_bytes()),
        ("xl/_rels/workbook.xml.rels", relations("worksheet", "worksheets/sheet1.xml").as_bytes()),
        ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
    ])
}

/// A password-protected OOXML document: an OLE2 container with `EncryptionInfo` (agile) and `EncryptedPackage`, whose
/// contents are random. Unscannable, never clean.
pub fn encrypted_ooxml() -> Vec<u8> {
    let salt = |seed| String::from_utf8(crate::mail::base64(&filler(16, seed))).expect("base64 is ASCII");
    let long = |seed| String::from_utf8(crate::mail::base64(&filler(32, seed))).expect("base64 is ASCII");
    let cipher = "saltSize=\"16\" blockSize=\"16\" keyBits=\"256\" hashSize=\"64\" cipherAlgorithm=\"AES\" \
                  cipherChaining=\"ChainingModeCBC\" hashAlgorithm=\"SHA512\"";
    let xml = format!(
        "{XML}<encryption xmlns=\"http://schemas.microsoft.com/office/2006/encryption\" \
         xmlns:p=\"http://schemas.microsoft.com/office/2006/keyEncryptor/password\">\
         <keyData {cipher} saltValue=\"{}\"/>\
         <dataIntegrity encryptedHmacKey=\"{}\" encryptedHmacValue=\"{}\"/>\
         <keyEncryptors><keyEncryptor uri=\"http://schemas.microsoft.com/office/2006/keyEncryptor/password\">\
         <p:encryptedKey spinCount=\"100000\" {cipher} saltValue=\"{}\" encryptedVerifierHashInput=\"{}\" \
         encryptedVerifierHashValue=\"{}\" encryptedKeyValue=\"{}\"/></keyEncryptor></keyEncryptors></encryption>",
        salt(1),
        long(2),
        long(3),
        salt(4),
        salt(5),
        long(6),
        long(7)
    );
    // Version 4.4 is agile; the flags field must then be 0x40.
    let info = [&[4, 0, 4, 0, 0x40, 0, 0, 0], xml.as_bytes()].concat();
    // The package begins with the length of the plain zip in it.
    let package = [&9000_u64.to_le_bytes()[..], &filler(9008, 8)].concat();
    compound(&[("EncryptionInfo", &info), ("EncryptedPackage", &package)])
}

/// A password-protected OOXML document of the older "standard" kind (Office 2007): a binary `EncryptionInfo` 3.2.
pub fn encrypted_ooxml_standard() -> Vec<u8> {
    let provider: Vec<u8> =
        "Microsoft Enhanced RSA and AES Cryptographic Provider\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut info = vec![3, 0, 2, 0];
    // Flags (CryptoAPI, AES), header size, then the header: flags, extra size, AES-128, SHA-1, key bits, AES provider.
    for field in [0x24, 32 + provider.len() as u32, 0x24, 0, 0x660e, 0x8004, 128, 0x18, 0, 0] {
        info.extend_from_slice(&u32::to_le_bytes(field));
    }
    info.extend_from_slice(&provider);
    info.extend_from_slice(&16_u32.to_le_bytes());
    info.extend(filler(32, 9));
    info.extend_from_slice(&20_u32.to_le_bytes());
    info.extend(filler(32, 10));
    let package = [&9000_u64.to_le_bytes()[..], &filler(9008, 11)].concat();
    compound(&[("EncryptionInfo", &info), ("EncryptedPackage", &package)])
}

/// A legacy Word document: a `WordDocument` stream whose file information block announces Word 97, and `1Table`.
/// `encrypted` sets fEncrypted (bit 0x0100 at offset 0x0A) and makes the text random.
pub fn doc(text: &[u8], encrypted: bool) -> Vec<u8> {
    let mut stream = vec![0_u8; 0x800];
    stream[..4].copy_from_slice(&[0xec, 0xa5, 0xc1, 0x00]); // wIdent 0xA5EC, nFib 0x00C1
    stream[6..8].copy_from_slice(&[0x09, 0x04]); // language
    let flags: u16 = 0x0200 | if encrypted { 0x0100 } else { 0 }; // fWhichTblStm: 1Table
    stream[0x0a..0x0c].copy_from_slice(&flags.to_le_bytes());
    stream[0x0c..0x0e].copy_from_slice(&[0xbf, 0x00]); // nFibBack
    if encrypted {
        stream[0x0e..0x12].copy_from_slice(&52_u32.to_le_bytes()); // lKey: size of the encryption header
    }
    stream[0x18..0x1c].copy_from_slice(&0x800_u32.to_le_bytes()); // fcMin
    stream[0x1c..0x20].copy_from_slice(&(0x800 + text.len() as u32).to_le_bytes()); // fcMac
    stream[0x20..0x22].copy_from_slice(&14_u16.to_le_bytes()); // csw
    stream[0x3e..0x40].copy_from_slice(&22_u16.to_le_bytes()); // cslw
    stream[0x40..0x44].copy_from_slice(&(0x800 + text.len() as u32).to_le_bytes()); // cbMac
    stream[0x4c..0x50].copy_from_slice(&(text.len() as u32).to_le_bytes()); // ccpText
    stream[0x98..0x9a].copy_from_slice(&93_u16.to_le_bytes()); // cbRgFcLcb
    stream.extend(if encrypted { filler(text.len(), 12) } else { text.to_vec() });
    stream.resize(stream.len().max(0x1000), 0);
    let mut table = vec![0_u8; 0x1000];
    if encrypted {
        table[..4].copy_from_slice(&[1, 0, 1, 0]); // RC4 encryption header 1.1: salt, verifier, its hash
        table[4..52].copy_from_slice(&filler(48, 13));
        table[52..].copy_from_slice(&filler(0x1000 - 52, 14));
    }
    compound(&[("WordDocument", &stream), ("1Table", &table)])
}

/// A legacy workbook: a `Workbook` stream with a BOF record, with `encrypted` a FILEPASS record (RC4) behind it and
/// random records, else `text` in a label record.
pub fn xls(text: &[u8], encrypted: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut record = |kind: u16, data: &[u8]| {
        stream.extend_from_slice(&kind.to_le_bytes());
        stream.extend_from_slice(&(data.len() as u16).to_le_bytes());
        stream.extend_from_slice(data);
    };
    // BOF of BIFF8 globals.
    record(0x0809, &[0x00, 0x06, 0x05, 0x00, 0xbb, 0x0d, 0xcc, 0x07, 0, 0, 0, 0, 6, 0, 0, 0]);
    if encrypted {
        let mut pass = vec![1, 0, 1, 0, 1, 0]; // RC4, version 1.1: salt, verifier, its hash
        pass.extend(filler(48, 15));
        record(0x002f, &pass);
    }
    record(0x0042, &[0xb0, 0x04]); // code page
    let contents = if encrypted { filler(text.len(), 16) } else { text.to_vec() };
    for chunk in contents.chunks(8000) {
        record(0x0204, &[&[0, 0, 0, 0, 15, 0][..], &(chunk.len() as u16).to_le_bytes(), chunk].concat());
    }
    record(0x000a, &[]);
    stream.resize(stream.len().max(0x1000), 0);
    compound(&[("Workbook", &stream)])
}

/// A legacy presentation: `Current User` with the header token that says whether `PowerPoint Document` is encrypted,
/// `text` in a text record or random bytes.
pub fn ppt(text: &[u8], encrypted: bool) -> Vec<u8> {
    let token: u32 = if encrypted { 0xf3d1_c4df } else { 0xe391_c05f };
    let mut user = vec![0x00, 0x00, 0xf6, 0x0f]; // CurrentUserAtom
    user.extend_from_slice(&28_u32.to_le_bytes());
    user.extend_from_slice(&20_u32.to_le_bytes());
    user.extend_from_slice(&token.to_le_bytes());
    user.extend_from_slice(&0_u32.to_le_bytes()); // offset of the current edit
    user.extend_from_slice(&[4, 0, 0xf4, 0x03, 3, 0, 0, 0]); // name length, versions
    user.extend_from_slice(b"user");
    user.extend_from_slice(&8_u32.to_le_bytes());
    let contents = if encrypted { filler(text.len(), 17) } else { text.to_vec() };
    let mut atom = vec![0x00, 0x00, 0xa8, 0x0f]; // TextBytesAtom
    atom.extend_from_slice(&(contents.len() as u32).to_le_bytes());
    atom.extend_from_slice(&contents);
    let mut document = vec![0x0f, 0x00, 0xe8, 0x03]; // DocumentContainer
    document.extend_from_slice(&(atom.len() as u32).to_le_bytes());
    document.extend_from_slice(&atom);
    document.resize(document.len().max(0x1000), 0);
    compound(&[("Current User", &user), ("PowerPoint Document", &document)])
}

/// An OLE2 container of these streams; a name may hold storages (`Macros/VBA/dir`). A stream's sectors lie in the file
/// as they are, so put [`crate::stream::gz`] bytes in where a test has to prove that streams are handed over.
pub fn compound(streams: &[(&str, &[u8])]) -> Vec<u8> {
    // Version 3 (sectors of 512 bytes) is what Office writes.
    let mut file = cfb::CompoundFile::create_with_version(cfb::Version::V3, Cursor::new(Vec::new()))
        .expect("compound file into memory");
    for (name, data) in streams {
        if let Some((storage, _)) = name.rsplit_once('/') {
            file.create_storage_all(storage).expect("storage");
        }
        let mut stream = file.create_stream(name).expect("stream");
        stream.write_all(data).expect("stream into memory");
        stream.flush().expect("stream into memory");
    }
    file.flush().expect("compound file into memory");
    file.into_inner().into_inner()
}

/// A compound file cut in its middle: streams whose sectors are missing.
pub fn compound_truncated(streams: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = compound(streams);
    bytes.truncate(bytes.len() / 2);
    bytes
}

const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\r\n";
const WORD: &str = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";
const SHEET: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
const RELATION: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

fn word(body: &str, extra: &[(&str, &[u8])]) -> Vec<u8> {
    let types = content_types(&[(
        "/word/document.xml",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
    )]);
    let relations = relations("officeDocument", "word/document.xml");
    let document = format!("{XML}<w:document xmlns:w=\"{WORD}\"><w:body><w:p>{body}</w:p></w:body></w:document>");
    let mut members: Vec<(&str, &[u8])> = vec![
        ("[Content_Types].xml", types.as_bytes()),
        ("_rels/.rels", relations.as_bytes()),
        ("word/document.xml", document.as_bytes()),
    ];
    members.extend_from_slice(extra);
    plain(&members)
}

fn content_types(parts: &[(&str, &str)]) -> String {
    let overrides: String =
        parts.iter().map(|(part, kind)| format!("<Override PartName=\"{part}\" ContentType=\"{kind}\"/>")).collect();
    format!(
        "{XML}<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
         <Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
         <Default Extension=\"xml\" ContentType=\"application/xml\"/>\
         <Default Extension=\"bin\" ContentType=\"application/octet-stream\"/>{overrides}</Types>"
    )
}

fn relations(kind: &str, target: &str) -> String {
    format!(
        "{XML}<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
         <Relationship Id=\"rId1\" Type=\"{RELATION}/{kind}\" Target=\"{target}\"/></Relationships>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{marker, payload, shows_marker};
    use crate::testing::{output_of, python_zip, seven_zip};

    fn payload_text() -> String {
        String::from_utf8(payload()).expect("ASCII")
    }

    #[test]
    fn ooxml_is_a_sound_zip_of_well_formed_xml() {
        let script = "import sys, zipfile, xml.dom.minidom as dom\n\
            archive = zipfile.ZipFile(sys.argv[1])\n\
            for name in archive.namelist():\n  \
              if name.endswith(('.xml', '.rels')): dom.parseString(archive.read(name))";
        for bytes in [docx(&payload_text()), docx_split_runs("a <b> & c"), xlsx(&payload_text())] {
            assert!(!shows_marker(&bytes));
            python_zip(&bytes).expect("python reads it");
            output_of("python3", &["-c", script, "{}"], &bytes, "zip");
        }
        let split = seven_zip(&docx_split_runs(&payload_text()), "zip", "", "word/document.xml");
        assert!(!shows_marker(&split));
    }

    #[test]
    fn compound_files_are_read_by_seven_zip() {
        let data = payload();
        assert!(seven_zip(&compound(&[("A/B", &data), ("C", b"c")]), "doc", "", "A/B") == data);
        assert!(shows_marker(&compound(&[("A", &marker())])));
        for bytes in [doc(&data, false), xls(&data, false), ppt(&data, false)] {
            assert!(bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]));
        }
        for bytes in
            [doc(&data, true), xls(&data, true), ppt(&data, true), encrypted_ooxml(), encrypted_ooxml_standard()]
        {
            assert!(!shows_marker(&bytes));
        }
        let info = seven_zip(&encrypted_ooxml(), "doc", "", "EncryptionInfo");
        assert!(info[8..].starts_with(b"<?xml"));
        assert!(seven_zip(&encrypted_ooxml(), "doc", "", "EncryptedPackage").len() > 9000);
    }

    #[test]
    fn encryption_flags_are_where_readers_look() {
        for encrypted in [false, true] {
            let stream = seven_zip(&doc(b"abc", encrypted), "doc", "", "WordDocument");
            assert_eq!(stream[0x0b] & 1 == 1, encrypted);
            let stream = seven_zip(&xls(b"abc", encrypted), "xls", "", "Workbook");
            assert_eq!(stream[20..22] == [0x2f, 0], encrypted);
            let stream = seven_zip(&ppt(b"abc", encrypted), "ppt", "", "Current User");
            assert_eq!(stream[12..16] == [0xdf, 0xc4, 0xd1, 0xf3], encrypted);
        }
    }
}
