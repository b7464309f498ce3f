//! 7z archives. libclamav carries an old LZMA SDK: it reads LZMA and LZMA2, and passes over what it cannot unpack.

use std::io::Cursor;

use sevenz_rust2::encoder_options::{AesEncoderOptions, EncoderOptions};
use sevenz_rust2::{ArchiveEntry, ArchiveWriter, EncoderConfiguration, EncoderMethod, Password};

use crate::zip::encrypted::PASSWORD;

/// How the members are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not packed: the outer layer already shows the bytes.
    Copy,
    /// LZMA, read by libclamav.
    Lzma,
    /// LZMA2, what every 7-Zip writes; read by libclamav.
    Lzma2,
    /// BZip2.
    Bzip2,
    /// Deflate.
    Deflate,
    /// PPMd, variant H.
    Ppmd,
}

impl Method {
    /// Every method, for tests that walk them.
    pub const ALL: [Self; 6] = [Self::Copy, Self::Lzma, Self::Lzma2, Self::Bzip2, Self::Deflate, Self::Ppmd];

    fn encoder(self) -> EncoderConfiguration {
        EncoderConfiguration::new(match self {
            Self::Copy => EncoderMethod::COPY,
            Self::Lzma => EncoderMethod::LZMA,
            Self::Lzma2 => EncoderMethod::LZMA2,
            Self::Bzip2 => EncoderMethod::BZIP2,
            Self::Deflate => EncoderMethod::DEFLATE,
            Self::Ppmd => EncoderMethod::PPMD,
        })
    }
}

/// A sound archive, LZMA2.
pub fn plain(members: &[(&str, &[u8])]) -> Vec<u8> {
    with_method(Method::Lzma2, members)
}

/// The same with another method: proves which methods are unpacked and which must be called unsupported.
pub fn with_method(method: Method, members: &[(&str, &[u8])]) -> Vec<u8> {
    write(vec![method.encoder()], false, members)
}

/// Contents encrypted (AES-256), names readable: unscannable, never clean.
pub fn encrypted(members: &[(&str, &[u8])]) -> Vec<u8> {
    write(vec![lock(), Method::Lzma2.encoder()], false, members)
}

/// Contents and names encrypted: not even the number of members can be known.
pub fn encrypted_headers(members: &[(&str, &[u8])]) -> Vec<u8> {
    write(vec![lock(), Method::Lzma2.encoder()], true, members)
}

/// Cut in the middle of the packed bytes: the headers, which stand at the end, are gone.
pub fn truncated(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = plain(members);
    bytes.truncate(bytes.len() / 2);
    bytes
}

/// The first packed stream damaged in its middle; headers sound.
pub fn corrupt(data: &[u8]) -> Vec<u8> {
    let mut bytes = plain(&[("letter.txt", data)]);
    // The signature header says where the headers are, which is where the packed bytes end.
    let packed = u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes")) as usize;
    let middle = 32 + packed / 3;
    for byte in &mut bytes[middle..middle + 16] {
        *byte ^= 0xff;
    }
    bytes
}

/// The checksum of the end header wrong: a reader that checks sees no member at all.
pub fn bad_header_crc(data: &[u8]) -> Vec<u8> {
    let mut bytes = plain(&[("letter.txt", data)]);
    bytes[28] ^= 0x55;
    let start = crc32fast::hash(&bytes[12..32]);
    bytes[8..12].copy_from_slice(&start.to_le_bytes());
    bytes
}

fn lock() -> EncoderConfiguration {
    let options = AesEncoderOptions::new(Password::from(PASSWORD));
    EncoderConfiguration::new(EncoderMethod::AES256_SHA256).with_options(EncoderOptions::Aes(options))
}

fn write(methods: Vec<EncoderConfiguration>, encrypt_header: bool, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(Cursor::new(Vec::new())).expect("7z into memory");
    writer.set_content_methods(methods).set_encrypt_header(encrypt_header);
    for (name, data) in members {
        writer.push_archive_entry(ArchiveEntry::new_file(name), Some(*data)).expect("7z into memory");
    }
    writer.finish().expect("7z into memory").into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{harmless, payload, shows_marker};
    use crate::testing::{seven_zip, seven_zip_refuses, tool};

    #[test]
    fn every_method_unpacks_elsewhere_and_hides_the_marker() {
        for method in Method::ALL {
            let bytes = with_method(method, &[("readme.txt", &harmless()), ("letter.txt", &payload())]);
            assert_eq!(shows_marker(&bytes), method == Method::Copy, "{method:?}");
            assert!(seven_zip(&bytes, "7z", "", "letter.txt") == payload(), "{method:?}");
        }
    }

    #[test]
    fn encrypted_ones_open_with_the_password_and_not_without() {
        let data = payload();
        for bytes in [encrypted(&[("letter.txt", &data)]), encrypted_headers(&[("letter.txt", &data)])] {
            assert!(!shows_marker(&bytes));
            assert!(seven_zip(&bytes, "7z", PASSWORD, "letter.txt") == data);
            seven_zip_refuses(&bytes, "7z");
        }
    }

    #[test]
    fn only_the_encrypted_headers_hide_the_names() {
        for (bytes, shown) in
            [(encrypted(&[("letter.txt", b"a")]), true), (encrypted_headers(&[("letter.txt", b"a")]), false)]
        {
            let output = tool("7z", &["l", "-pwrong", "{}"], &bytes, "7z");
            assert_eq!(String::from_utf8_lossy(&output.stdout).contains("letter.txt"), shown);
        }
    }

    #[test]
    fn the_broken_ones_are_refused() {
        let data = payload();
        for bytes in [truncated(&[("letter.txt", &data)]), corrupt(&data), bad_header_crc(&data)] {
            assert!(!shows_marker(&bytes));
            seven_zip_refuses(&bytes, "7z");
        }
    }
}
