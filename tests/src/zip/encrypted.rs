//! Zip archives whose members nobody can read without [`PASSWORD`]: unscannable, never clean.

use std::io::{Cursor, Write as _};

use super::{Method, entry, raw};
use raw::Entry;

/// The password of every encrypted fixture of this package.
pub const PASSWORD: &str = "correct-horse";

/// Strength of AES encryption, as WinZip numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aes {
    /// AES-128.
    Bits128,
    /// AES-256.
    Bits256,
}

/// Members under the traditional cipher (ZipCrypto): general purpose bit 0, method as if plain.
pub fn zipcrypto(members: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<_> = members.iter().map(|(name, data)| lock(entry(name, data, Method::Deflate))).collect();
    raw::write(&[], &entries, &[])
}

/// Plain members first, then ZipCrypto ones: proves that one unreadable member among readable ones is noticed.
pub fn mixed(plain: &[(&str, &[u8])], locked: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries: Vec<_> = plain.iter().map(|(name, data)| entry(name, data, Method::Deflate)).collect();
    entries.extend(locked.iter().map(|(name, data)| lock(entry(name, data, Method::Deflate))));
    raw::write(&[], &entries, &[])
}

/// Members under AES (method 99 and extra field 0x9901). The salt is random: two calls differ.
pub fn aes(strength: Aes, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mode = match strength {
        Aes::Bits128 => zip::AesMode::Aes128,
        Aes::Bits256 => zip::AesMode::Aes256,
    };
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in members {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .with_aes_encryption(mode, PASSWORD);
        writer.start_file(*name, options).expect("zip into memory");
        writer.write_all(data).expect("zip into memory");
    }
    writer.finish().expect("zip into memory").into_inner()
}

/// Encrypted bytes under a header that denies it (bit 0 clear): the unpacker gets nonsense and must not call it clean.
pub fn zipcrypto_unflagged(members: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<_> = members
        .iter()
        .map(|(name, data)| {
            let mut entry = lock(entry(name, data, Method::Deflate));
            entry.flags &= !1;
            entry
        })
        .collect();
    raw::write(&[], &entries, &[])
}

/// Encrypts the packed bytes of `entry` and sets general purpose bit 0.
fn lock(mut entry: Entry) -> Entry {
    let mut keys = Keys::new(PASSWORD);
    // Eleven random bytes in real life; the twelfth lets a reader check the password against the CRC.
    let mut plain = crate::marker::filler(11, u64::from(entry.crc));
    plain.push((entry.crc >> 24) as u8);
    plain.append(&mut entry.packed);
    entry.packed = plain.into_iter().map(|byte| keys.encrypt(byte)).collect();
    entry.flags |= 1;
    entry
}

/// The traditional cipher of the zip application note, section 6.1.
struct Keys(u32, u32, u32);

impl Keys {
    fn new(password: &str) -> Self {
        let mut keys = Self(0x1234_5678, 0x2345_6789, 0x3456_7890);
        for byte in password.bytes() {
            keys.update(byte);
        }
        keys
    }

    fn encrypt(&mut self, plain: u8) -> u8 {
        let temp = (self.2 | 2) & 0xffff;
        let stream = (temp.wrapping_mul(temp ^ 1) >> 8) as u8;
        self.update(plain);
        plain ^ stream
    }

    fn update(&mut self, plain: u8) {
        self.0 = crc_step(self.0, plain);
        self.1 = self.1.wrapping_add(self.0 & 0xff).wrapping_mul(134_775_813).wrapping_add(1);
        self.2 = crc_step(self.2, (self.1 >> 24) as u8);
    }
}

/// One byte of CRC-32 without the usual inversions.
fn crc_step(crc: u32, byte: u8) -> u32 {
    let mut value = (crc ^ u32::from(byte)) & 0xff;
    for _ in 0..8 {
        value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
    }
    value ^ (crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{payload, shows_marker};
    use crate::testing::{seven_zip, seven_zip_refuses};

    #[test]
    fn opens_with_the_password_and_not_without() {
        let data = payload();
        let members: [(&str, &[u8]); 1] = [("letter.txt", &data)];
        for bytes in [
            zipcrypto(&members),
            mixed(&[("readme.txt", b"hello")], &members),
            aes(Aes::Bits128, &members),
            aes(Aes::Bits256, &members),
        ] {
            assert!(!shows_marker(&bytes));
            assert_eq!(seven_zip(&bytes, "zip", PASSWORD, "letter.txt"), data);
            seven_zip_refuses(&bytes, "zip");
        }
    }
}
