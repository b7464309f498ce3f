//! RAR 4 and RAR 5, after RARLAB's technical notes: members, sizes, checksums and what is encrypted.
//!
//! libclamav unpacks RAR only where libclamunrar is installed, which Debian and Fedora do not ship; without it, it
//! announces nothing.

use super::{Account, Identity, Member, TINY, readable, u16_at, u32_at};
use crate::ReasonKind::{Encrypted, TruncatedOrCorrupt, Unsupported};

pub(super) fn examine(bytes: &[u8], most_members: usize, account: &mut Account) {
    account.complete = true;
    let read = match bytes.get(6..8) {
        Some([0x00, _]) => rar4(bytes, most_members, account),
        Some([0x01, 0x00]) => rar5(bytes, most_members, account),
        _ => None,
    };
    if read.is_none() {
        account.gap(TruncatedOrCorrupt, "the RAR archive is cut off or damaged");
    }
}

/// A RAR behind something else: self-extracting programs. libclamav looks for these only with libclamunrar.
pub(super) fn examine_embedded(bytes: &[u8], most_members: usize, account: &mut Account) {
    let finder = memchr::memmem::Finder::new(b"Rar!\x1a\x07");
    for at in finder.find_iter(bytes) {
        let archive = &bytes[at..];
        // Programs that know RAR hold its mark, too; an archive goes on with a header that has a right checksum.
        if begins_validly(archive) && !account.is_inside_member(at, at + 7) {
            let complete = account.complete;
            examine(archive, most_members, account);
            account.complete = complete; // What surrounds it is not accounted for.
            return;
        }
    }
}

fn begins_validly(archive: &[u8]) -> bool {
    match archive.get(6..8) {
        Some([0x00, _]) => {
            let header = || {
                let size = usize::from(u16_at(archive, 7 + 5)?);
                let body = archive.get(9..7_usize.checked_add(size)?)?;
                Some((u16_at(archive, 7)?, crc32fast::hash(body) as u16))
            };
            header().is_some_and(|(stored, computed)| stored == computed)
        }
        Some([0x01, 0x00]) => {
            let header = || {
                let mut cursor = Cursor { bytes: archive, at: 12 };
                let size = usize::try_from(cursor.vint()?).ok()?;
                let body = archive.get(12..cursor.at.checked_add(size)?)?;
                Some((u32_at(archive, 8)?, crc32fast::hash(body)))
            };
            header().is_some_and(|(stored, computed)| stored == computed)
        }
        _ => false,
    }
}

fn rar4(bytes: &[u8], most_members: usize, account: &mut Account) -> Option<()> {
    const MAIN: u8 = 0x73;
    const FILE: u8 = 0x74;
    const END: u8 = 0x7b;
    let mut at = 7;
    while at < bytes.len() && account.members.len() <= most_members {
        let kind = *bytes.get(at + 2)?;
        let flags = u16_at(bytes, at + 3)?;
        let header = usize::from(u16_at(bytes, at + 5)?);
        if header < 7 {
            return None;
        }
        let mut data = 0;
        match kind {
            MAIN if flags & 0x0080 != 0 => {
                account.gap(Encrypted, "RAR with encrypted names");
                return Some(());
            }
            FILE => {
                let packed = u64::from(u32_at(bytes, at + 7)?);
                let size = u64::from(u32_at(bytes, at + 11)?);
                let crc = u32_at(bytes, at + 16)?;
                let name_length = usize::from(u16_at(bytes, at + 26)?);
                let attributes_directory = flags & 0x00e0 == 0x00e0;
                let large = flags & 0x0100 != 0;
                let (high_packed, high_size) =
                    if large { (u32_at(bytes, at + 32)?, u32_at(bytes, at + 36)?) } else { (0, 0) };
                let name_at = at + if large { 40 } else { 32 };
                let name = bytes.get(name_at..name_at + name_length)?;
                // With Unicode names the bytes before the NUL are the plain form.
                let name = name.split(|byte| *byte == 0).next().unwrap_or(name);
                data = packed | u64::from(high_packed) << 32;
                if !attributes_directory {
                    member(account, readable(name), size | u64::from(high_size) << 32, Some(crc), flags & 0x0004 != 0);
                }
            }
            END => return Some(()),
            _ if flags & 0x8000 != 0 => data = u64::from(u32_at(bytes, at + 7)?),
            _ => {}
        }
        at = at.checked_add(header)?.checked_add(usize::try_from(data).ok()?)?;
        if at > bytes.len() {
            return None;
        }
    }
    Some(())
}

fn rar5(bytes: &[u8], most_members: usize, account: &mut Account) -> Option<()> {
    const FILE: u64 = 2;
    const ENCRYPTION: u64 = 4;
    const END: u64 = 5;
    let mut at = 8;
    while at < bytes.len() && account.members.len() <= most_members {
        let mut cursor = Cursor { bytes, at: at + 4 };
        let size = usize::try_from(cursor.vint()?).ok()?;
        let header_end = cursor.at.checked_add(size)?;
        let kind = cursor.vint()?;
        let flags = cursor.vint()?;
        let extra = if flags & 0x1 != 0 { usize::try_from(cursor.vint()?).ok()? } else { 0 };
        let data = if flags & 0x2 != 0 { usize::try_from(cursor.vint()?).ok()? } else { 0 };
        match kind {
            ENCRYPTION => {
                account.gap(Encrypted, "RAR with encrypted names");
                return Some(());
            }
            FILE => {
                let file_flags = cursor.vint()?;
                let size = cursor.vint()?;
                cursor.vint()?; // Attributes.
                if file_flags & 0x2 != 0 {
                    cursor.at += 4; // Modification time.
                }
                let crc = if file_flags & 0x4 != 0 {
                    let crc = u32_at(bytes, cursor.at)?;
                    cursor.at += 4;
                    Some(crc)
                } else {
                    None
                };
                cursor.vint()?; // Compression.
                cursor.vint()?; // Operating system.
                let name_length = usize::try_from(cursor.vint()?).ok()?;
                let name = bytes.get(cursor.at..cursor.at.checked_add(name_length)?)?;
                let encrypted = header_end
                    .checked_sub(extra)
                    .and_then(|start| bytes.get(start..header_end))
                    .is_some_and(has_encryption_record);
                if file_flags & 0x1 == 0 {
                    member(account, readable(name), size, crc, encrypted);
                }
            }
            END => return Some(()),
            _ => {}
        }
        at = header_end.checked_add(data)?;
        if at > bytes.len() {
            return None;
        }
    }
    Some(())
}

fn member(account: &mut Account, name: String, size: u64, crc: Option<u32>, encrypted: bool) {
    if size > TINY || encrypted && size > 0 {
        // With a password the stored checksum is keyed, so it says nothing about the plain bytes.
        let identity = crc.filter(|_| !encrypted).map_or(Identity::Size, Identity::Crc);
        let member = Member::new(name, size, identity);
        account.members.push(match encrypted {
            true => member.blocked(Encrypted, "RAR"),
            false => Member { obstacle: Some((Unsupported, String::from("RAR"))), ..member },
        });
    }
}

fn has_encryption_record(extra: &[u8]) -> bool {
    let mut cursor = Cursor { bytes: extra, at: 0 };
    while let Some(size) = cursor.vint().and_then(|size| usize::try_from(size).ok()) {
        let next = cursor.at.saturating_add(size);
        if cursor.vint() == Some(1) {
            return true;
        }
        cursor.at = next;
    }
    false
}

/// Reads RAR 5's integers: seven bits a byte, least significant first.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn vint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
