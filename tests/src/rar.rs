//! RAR archives, written by hand: members are stored, headers and their checksums are right.
//!
//! Debian's libclamav comes without an unpacker for RAR: it names the type, delivers no member, and says clean. So
//! every RAR that holds anything is unscannable. A stored member shows its bytes in the outer layer, which is scanned:
//! put [`crate::stream::gz`] bytes in ([`rar4_hiding`], [`rar5_hiding`]) to have a payload that only an unpacker finds.

use crate::marker::filler;

const RAR4: &[u8; 7] = b"Rar!\x1a\x07\x00";
const RAR5: &[u8; 8] = b"Rar!\x1a\x07\x01\x00";

/// A RAR 4 archive of stored members.
pub fn rar4(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = rar4_start(0);
    for (name, data) in members {
        rar4_file(&mut out, name, data, 0);
    }
    rar4_end(&mut out);
    out
}

/// A RAR 4 archive whose only member is a gzip stream of `data`.
pub fn rar4_hiding(data: &[u8]) -> Vec<u8> {
    rar4(&[("letter.txt.gz", &crate::stream::gz(data))])
}

/// A RAR 4 archive with encrypted headers (MHD_PASSWORD, 0x0080, in the main header) and random bytes for the rest.
pub fn rar4_encrypted_headers() -> Vec<u8> {
    let mut out = rar4_start(0x0080);
    out.extend(filler(8 + 512, 71)); // salt, then encrypted blocks
    out
}

/// A RAR 4 archive with an encrypted member (LHD_PASSWORD 0x0004 and LHD_SALT 0x0400), its bytes random.
pub fn rar4_encrypted(name: &str) -> Vec<u8> {
    let mut out = rar4_start(0);
    rar4_file(&mut out, name, &filler(512, 72), 0x0404);
    rar4_end(&mut out);
    out
}

/// A RAR 4 archive of no member.
pub fn rar4_empty() -> Vec<u8> {
    rar4(&[])
}

/// A RAR 5 archive of stored members.
pub fn rar5(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = rar5_start();
    for (name, data) in members {
        rar5_file(&mut out, name, data, &[]);
    }
    rar5_end(&mut out);
    out
}

/// A RAR 5 archive whose only member is a gzip stream of `data`.
pub fn rar5_hiding(data: &[u8]) -> Vec<u8> {
    rar5(&[("letter.txt.gz", &crate::stream::gz(data))])
}

/// A RAR 5 archive with encrypted headers: an archive encryption header (type 4), then random bytes.
pub fn rar5_encrypted_headers() -> Vec<u8> {
    let mut out = RAR5.to_vec();
    // Version 0 (AES-256), flags 1 (password check present), 2^15 rounds, salt, check value.
    let mut body = vec![4, 0, 0, 1, 15];
    body.extend(filler(16, 73));
    body.extend(filler(12, 74));
    rar5_block(&mut out, &body);
    out.extend(filler(512, 75));
    out
}

/// A RAR 5 archive with an encrypted member (extra record type 1), its bytes random.
pub fn rar5_encrypted(name: &str) -> Vec<u8> {
    let mut record = vec![1, 0, 1, 15]; // type, version, flags, rounds
    record.extend(filler(16, 76)); // salt
    record.extend(filler(16, 77)); // initialisation vector
    record.extend(filler(12, 78)); // password check
    let mut extra = vint(record.len() as u64);
    extra.extend(record);
    let mut out = rar5_start();
    rar5_file(&mut out, name, &filler(512, 79), &extra);
    rar5_end(&mut out);
    out
}

/// A RAR 5 archive of no member.
pub fn rar5_empty() -> Vec<u8> {
    rar5(&[])
}

/// A RAR 5 archive behind `prefix`, as a self-extracting archive has it.
pub fn rar5_with_prefix(prefix: &[u8], members: &[(&str, &[u8])]) -> Vec<u8> {
    [prefix, &rar5(members)].concat()
}

fn rar4_start(flags: u16) -> Vec<u8> {
    let mut out = RAR4.to_vec();
    rar4_block(&mut out, 0x73, flags, &[0; 6]);
    out
}

fn rar4_file(out: &mut Vec<u8>, name: &str, data: &[u8], flags: u16) {
    let size = data.len() as u32;
    let mut body = Vec::new();
    body.extend_from_slice(&size.to_le_bytes());
    body.extend_from_slice(&size.to_le_bytes());
    body.push(3); // made on Unix
    body.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    body.extend_from_slice(&0x5a21_0000_u32.to_le_bytes()); // 2025-01-01 00:00
    body.push(if flags & 4 == 0 { 20 } else { 29 }); // version needed
    body.push(0x30); // stored
    body.extend_from_slice(&(name.len() as u16).to_le_bytes());
    body.extend_from_slice(&0o100_644_u32.to_le_bytes());
    body.extend_from_slice(name.as_bytes());
    if flags & 0x0400 != 0 {
        body.extend(filler(8, 80)); // salt
    }
    rar4_block(out, 0x74, flags | 0x8000, &body);
    out.extend_from_slice(data);
}

fn rar4_end(out: &mut Vec<u8>) {
    rar4_block(out, 0x7b, 0x4000, &[]);
}

/// A header: CRC (its low 16 bits), type, flags, size, fields.
fn rar4_block(out: &mut Vec<u8>, kind: u8, flags: u16, body: &[u8]) {
    let mut header = vec![kind];
    header.extend_from_slice(&flags.to_le_bytes());
    header.extend_from_slice(&(7 + body.len() as u16).to_le_bytes());
    header.extend_from_slice(body);
    out.extend_from_slice(&(crc32fast::hash(&header) as u16).to_le_bytes());
    out.extend_from_slice(&header);
}

fn rar5_start() -> Vec<u8> {
    let mut out = RAR5.to_vec();
    rar5_block(&mut out, &[1, 0, 0]); // main header, no flags
    out
}

fn rar5_file(out: &mut Vec<u8>, name: &str, data: &[u8], extra: &[u8]) {
    let size = vint(data.len() as u64);
    let mut body = vec![2, if extra.is_empty() { 2 } else { 3 }]; // file header; data area, extra area
    if !extra.is_empty() {
        body.extend(vint(extra.len() as u64));
    }
    body.extend_from_slice(&size);
    body.push(4); // a CRC-32 is present
    body.extend_from_slice(&size);
    body.extend(vint(0o100_644));
    body.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    body.extend_from_slice(&[0, 1]); // stored; Unix
    body.extend(vint(name.len() as u64));
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(extra);
    rar5_block(out, &body);
    out.extend_from_slice(data);
}

fn rar5_end(out: &mut Vec<u8>) {
    rar5_block(out, &[5, 0, 0]);
}

/// A header: CRC-32, size, fields.
fn rar5_block(out: &mut Vec<u8>, body: &[u8]) {
    let mut header = vint(body.len() as u64);
    header.extend_from_slice(body);
    out.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    out.extend_from_slice(&header);
}

/// Seven bits a byte, lowest first, the high bit set on all but the last.
fn vint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{payload, shows_marker};

    /// Debian's 7-Zip has no RAR: check at least that every header's CRC and size lead to the next one.
    fn walk5(bytes: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        let mut at = RAR5.len();
        let read = |at: &mut usize| {
            let (mut value, mut shift) = (0_u64, 0);
            loop {
                let byte = bytes[*at];
                *at += 1;
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return value;
                }
            }
        };
        while at < bytes.len() {
            let crc = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
            let start = at + 4;
            at = start;
            let size = read(&mut at) as usize;
            let end = at + size;
            assert_eq!(crc32fast::hash(&bytes[start..end]), crc);
            let (kind, flags) = (read(&mut at), read(&mut at));
            kinds.push(kind as u8);
            if kind == 4 {
                return kinds; // what follows is encrypted
            }
            if flags & 1 != 0 {
                read(&mut at);
            }
            at = end + if flags & 2 != 0 { read(&mut at) as usize } else { 0 };
        }
        kinds
    }

    #[test]
    fn rar5_headers_lead_from_one_to_the_next() {
        let data = payload();
        assert_eq!(walk5(&rar5(&[("a.txt", b"abc"), ("b.txt", &data)])), [1, 2, 2, 5]);
        assert_eq!(walk5(&rar5_hiding(&data)), [1, 2, 5]);
        assert_eq!(walk5(&rar5_encrypted("a.txt")), [1, 2, 5]);
        assert_eq!(walk5(&rar5_empty()), [1, 5]);
        assert_eq!(walk5(&rar5_encrypted_headers()), [4]);
    }

    #[test]
    fn rar4_headers_lead_from_one_to_the_next() {
        let data = payload();
        for (bytes, expected) in [
            (rar4(&[("a.txt", b"abc"), ("b.txt", &data)]), &[0x73, 0x74, 0x74, 0x7b][..]),
            (rar4_hiding(&data), &[0x73, 0x74, 0x7b]),
            (rar4_encrypted("a.txt"), &[0x73, 0x74, 0x7b]),
            (rar4_empty(), &[0x73, 0x7b]),
        ] {
            let (mut at, mut kinds) = (RAR4.len(), Vec::new());
            while at < bytes.len() {
                let size = usize::from(u16::from_le_bytes([bytes[at + 5], bytes[at + 6]]));
                let crc = crc32fast::hash(&bytes[at + 2..at + size]) as u16;
                assert_eq!(bytes[at..at + 2], crc.to_le_bytes());
                kinds.push(bytes[at + 2]);
                let packed: [u8; 4] = bytes[at + 7..].get(..4).map_or([0; 4], |b| b.try_into().expect("four bytes"));
                at += size + if bytes[at + 2] == 0x74 { u32::from_le_bytes(packed) as usize } else { 0 };
            }
            assert_eq!(kinds, expected);
        }
    }

    #[test]
    fn hidden_payloads_do_not_show() {
        assert!(shows_marker(&rar4(&[("a", &payload())])) && shows_marker(&rar5(&[("a", &payload())])));
        assert!(!shows_marker(&rar4_hiding(&payload())) && !shows_marker(&rar5_hiding(&payload())));
    }
}
