//! 7z, after the format description in the LZMA SDK (`DOC/7zFormat.txt`).
//!
//! libclamav announces each member with its size, whether it could unpack it or not; when it cannot read the header
//! it announces nothing at all. So here only the header is looked at: is it there, whole, and encrypted.

use super::{Account, u32_at, u64_at};
use crate::ReasonKind::{Encrypted, TruncatedOrCorrupt};

const START: usize = 32;
const ENCODED_HEADER: u8 = 0x17;
/// The coder 7zAES: AES-256 with SHA-256 for the key.
const AES: &[u8] = &[0x06, 0xf1, 0x07, 0x01];

pub(super) fn examine(bytes: &[u8], account: &mut Account) {
    let next = (|| Some((u64_at(bytes, 12)?, u64_at(bytes, 20)?, u32_at(bytes, 28)?)))();
    let Some((offset, size, crc)) = next else {
        account.gap(TruncatedOrCorrupt, "the 7z start header is cut off");
        return;
    };
    if size == 0 {
        account.complete = true; // An archive without members.
        return;
    }
    let header = usize::try_from(offset)
        .ok()
        .and_then(|offset| offset.checked_add(START))
        .and_then(|start| Some(start..start.checked_add(usize::try_from(size).ok()?)?))
        .and_then(|range| bytes.get(range));
    let Some(header) = header else {
        account.gap(TruncatedOrCorrupt, "the 7z header lies outside of the file");
        return;
    };
    if crc32fast::hash(header) != crc {
        account.gap(TruncatedOrCorrupt, "the 7z header has a wrong checksum");
        return;
    }
    if header.first() == Some(&ENCODED_HEADER) && memchr::memmem::find(header, AES).is_some() {
        account.gap(Encrypted, "7z with encrypted names");
        return;
    }
    account.must_announce = Some("7z");
}
