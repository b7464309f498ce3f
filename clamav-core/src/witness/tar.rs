//! tar: ustar, pax and GNU, after POSIX.1-2017 (`pax`, "ustar Interchange Format") and GNU tar's manual.

use super::{Account, Member, TINY, readable};
use crate::ReasonKind::{TruncatedOrCorrupt, Unsupported};

const BLOCK: usize = 512;

/// Whether libclamav or the magic says that this is a tar.
pub(super) fn looks_like_tar(file_type: &str, bytes: &[u8]) -> bool {
    let valid = || bytes.get(..BLOCK).is_some_and(has_valid_checksum);
    bytes.get(257..262) == Some(b"ustar")
        || file_type == "CL_TYPE_POSIX_TAR"
        || file_type == "CL_TYPE_OLD_TAR" && valid()
}

pub(super) fn examine(bytes: &[u8], most_members: usize, account: &mut Account) {
    account.complete = true;
    let mut at = 0;
    let mut long_name: Option<Vec<u8>> = None;
    while let Some(header) = bytes.get(at..at + BLOCK) {
        if account.members.len() > most_members {
            return;
        }
        if header.iter().all(|byte| *byte == 0) {
            if has_entries_after(&bytes[at..]) {
                account.gap(TruncatedOrCorrupt, "the tar has entries behind its end");
            }
            return;
        }
        if !has_valid_checksum(header) {
            account.gap(TruncatedOrCorrupt, format!("the tar has a damaged header at byte {at}"));
            return;
        }
        let Some(size) = number(&header[124..136]) else {
            account.gap(TruncatedOrCorrupt, format!("the tar has a member without a size at byte {at}"));
            return;
        };
        let kind = header[156];
        // Links, devices and directories have no data, whatever their size field says.
        let stored = if matches!(kind, b'1'..=b'6' | b'V') { 0 } else { size };
        let data = at + BLOCK;
        let name = long_name.clone().unwrap_or_else(|| short_name(header));
        let range = usize::try_from(stored).ok().and_then(|size| Some(data..data.checked_add(size)?));
        let Some(content) = range.and_then(|range| bytes.get(range)) else {
            account.gap(TruncatedOrCorrupt, format!("the tar member {} is cut off", readable(&name)));
            return;
        };
        let mut extension = 0;
        match kind {
            // These describe the member that follows.
            b'L' => long_name = Some(until_nul(content).to_vec()),
            b'x' => long_name = pax_path(content).or(long_name),
            b'K' | b'g' | b'X' | b'N' | b'A' | b'E' | b'I' => {}
            b'S' if header[482] != 0 => {
                // Its map goes on in blocks that the size does not count; libclamav takes them for content.
                long_name = None;
                account.gap(Unsupported, format!("the tar member {} is sparse with a long map", readable(&name)));
                let more = bytes.get(data..).unwrap_or_default().chunks_exact(BLOCK);
                extension = more.take_while(|block| block[504] != 0).count() + 1;
            }
            _ => {
                long_name = None;
                if stored > TINY {
                    let crc = Some(crc32fast::hash(content));
                    // libclamav reads octal sizes only.
                    let obstacle =
                        (header[124] & 0x80 != 0).then(|| (Unsupported, String::from("tar size in base 256")));
                    account.members.push(Member { obstacle, ..Member::new(readable(&name), stored, crc) });
                }
            }
        }
        at = data + content.len().next_multiple_of(BLOCK) + extension * BLOCK;
    }
}

/// Concatenated archives: a reader that ignores the end mark goes on here.
fn has_entries_after(rest: &[u8]) -> bool {
    rest.chunks_exact(BLOCK).any(|block| block[0] != 0 && has_valid_checksum(block))
}

fn has_valid_checksum(header: &[u8]) -> bool {
    let Some(expected) = number(&header[148..156]) else { return false };
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

/// The `path` record of a pax header: `LENGTH path=VALUE\n`.
fn pax_path(records: &[u8]) -> Option<Vec<u8>> {
    let at = memchr::memmem::find(records, b" path=")?;
    let value = &records[at + 6..];
    Some(value[..memchr::memchr(b'\n', value)?].to_vec())
}
