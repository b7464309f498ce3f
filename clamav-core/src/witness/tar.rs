//! tar: v7, ustar, pax and GNU, after POSIX.1-2017 (`pax`, "ustar Interchange Format") and GNU tar's manual.
//!
//! libclamav reads octal sizes from the headers and nothing else, leaves out types that some readers extract, and ends
//! at the first block of zeros. What it leaves out lies open here and is handed on.

use sha2::{Digest, Sha256};

use super::{Account, Identity, Member, TINY, readable};
use crate::ReasonKind::{TruncatedOrCorrupt, Unsupported};

const BLOCK: usize = 512;
/// Names and attributes are no longer than this; what is longer may be anything.
const LONGEST_EXTENSION: u64 = 64 << 10;

/// A header with a right checksum, which no other format begins with; or a ustar header that is damaged.
pub(super) fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar") && bytes.len() >= BLOCK || bytes.get(..BLOCK).is_some_and(has_valid_checksum)
}

/// What extended headers say of the member that follows.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

pub(super) fn examine(file_type: &str, bytes: &[u8], most_members: usize, spare: &mut u64, account: &mut Account) {
    account.complete = true;
    // libclamav goes by the first bytes, which are the first member's name.
    let unpacks = matches!(file_type, "CL_TYPE_POSIX_TAR" | "CL_TYPE_OLD_TAR");
    let mut at = 0;
    let mut extension = Extension::default();
    while let Some(header) = bytes.get(at..at + BLOCK) {
        if account.members.len() + account.unpacked.len() > most_members {
            return;
        }
        if header.iter().all(|byte| *byte == 0) {
            return account.trailing(&bytes[at..], spare);
        }
        if !has_valid_checksum(header) {
            return account.gap(TruncatedOrCorrupt, format!("the tar has a damaged header at byte {at}"));
        }
        let Some(listed) = number(&header[124..136]) else {
            return account.gap(TruncatedOrCorrupt, format!("the tar has a member without a size at byte {at}"));
        };
        let kind = header[156];
        // Links, devices and directories have no data, whatever their size field says.
        let has_data = !matches!(kind, b'1'..=b'6' | b'V');
        let size = if has_data { extension.size.unwrap_or(listed) } else { 0 };
        let data = at + BLOCK;
        let name = extension.name.clone().unwrap_or_else(|| short_name(header));
        let range = usize::try_from(size).ok().and_then(|size| Some(data..data.checked_add(size)?));
        let Some(content) = range.and_then(|range| bytes.get(range)) else {
            return account.gap(TruncatedOrCorrupt, format!("the tar member {} is cut off", readable(&name)));
        };
        at = data + content.len().next_multiple_of(BLOCK);
        account.open.push(data..data + content.len());
        match kind {
            // These describe the member that follows.
            b'L' | b'K' | b'x' | b'g' if size > LONGEST_EXTENSION => {
                account.hand_on(format!("{} (extended header)", readable(&name)), content, spare);
            }
            b'L' => extension.name = Some(until_nul(content).to_vec()),
            b'K' => {}
            b'x' => extend(&mut extension, content),
            b'g' => {
                let mut global = Extension::default();
                extend(&mut global, content);
                if global.size.is_some() || global.sparse {
                    account.gap(Unsupported, "the tar has sizes in a global header");
                }
            }
            // Readers differ on these; libclamav leaves them out.
            b'A' | b'E' | b'I' | b'N' | b'X' => account.hand_on(readable(&name), content, spare),
            _ if !has_data => extension = Extension::default(),
            _ => {
                let this = std::mem::take(&mut extension);
                if kind == b'S' || this.sparse {
                    account.gap(Unsupported, format!("the tar member {} is sparse", readable(&name)));
                }
                if kind == b'S' && header[482] != 0 {
                    // Its map goes on in blocks that the size does not count.
                    let more = bytes.get(data..).unwrap_or_default().chunks_exact(BLOCK);
                    at += (more.take_while(|block| block[504] != 0).count() + 1) * BLOCK;
                } else if !unpacks || size != listed || header[124] & 0x80 != 0 {
                    account.hand_on(readable(&name), content, spare);
                } else if size > TINY {
                    let identity = Identity::Sha256(Sha256::digest(content).into());
                    account.members.push(Member::new(readable(&name), size, identity));
                }
            }
        }
    }
    if let Some(rest) = bytes.get(at..) {
        account.trailing(rest, spare);
    }
}

fn has_valid_checksum(header: &[u8]) -> bool {
    let Some(expected) = number(&header[148..156]).filter(|sum| *sum > 0) else { return false };
    let blanked = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
    let unsigned: u64 = header.iter().enumerate().map(|pair| u64::from(blanked(pair))).sum();
    let signed: i64 = header.iter().enumerate().map(|pair| i64::from(blanked(pair) as i8)).sum();
    expected == unsigned || i64::try_from(expected) == Ok(signed)
}

/// A number field: octal digits, or base 256 with the high bit set.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let mut value = u64::from(field[0] & 0x3f);
        for byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return (field[0] & 0x40 == 0).then_some(value);
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| (b'0'..=b'7').contains(*byte));
    digits.clone().next()?;
    digits.clone().try_fold(0_u64, |value, digit| value.checked_mul(8)?.checked_add(u64::from(digit - b'0')))
}

fn short_name(header: &[u8]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    // GNU archives use the prefix's place for other things; only ustar proper ("ustar\0") has one.
    if header[257..263] == *b"ustar\0" && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

/// Reads pax records: `LENGTH KEY=VALUE\n`, the length counting the whole record.
fn extend(extension: &mut Extension, mut records: &[u8]) {
    while let Some(space) = memchr::memchr(b' ', records) {
        let length = std::str::from_utf8(&records[..space]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let Some(record) = length.and_then(|length| records.get(space + 1..length)) else { return };
        records = &records[space + 1 + record.len()..];
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let Some(equals) = memchr::memchr(b'=', record) else { return };
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extension.name = Some(value.to_vec()),
            b"size" => extension.size = std::str::from_utf8(value).ok().and_then(|digits| digits.trim().parse().ok()),
            _ if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SCHILY.realsize") => extension.sparse = true,
            _ => {}
        }
    }
}
