//! OLE2 compound files (MS-CFB): their streams, and which of the Office formats inside are encrypted.
//!
//! libclamav scans every stream of a plain document, but when it finds macros it scans only the streams that it takes
//! for macros, pictures or embedded objects, and the rest as it lies in the file, where a stream may be in pieces. So
//! each stream is put together here and scanned on its own when libclamav did not deliver it.
//!
//! libclamav opens none of these without the password and does not say so: OOXML in an `EncryptedPackage` stream
//! (MS-OFFCRYPTO 2.3.4), Word's `fEncrypted` (MS-DOC 2.5.2), Excel's `FilePass` record (MS-XLS 2.4.117), PowerPoint's
//! encrypted `CurrentUserAtom` (MS-PPT 2.3.2), and rights-managed content.

use std::io::{Cursor, Read, Seek};

use super::{Account, Identity, Member, TINY, u16_at, u32_at, u64_at};
use crate::ReasonKind::{Encrypted, TruncatedOrCorrupt};

pub(super) fn is_ole2(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1])
}

/// More than any header that is looked at.
const HEAD: usize = 4096;

pub(super) fn examine(bytes: &[u8], spare: &mut u64, account: &mut Account) {
    let mut file = match cfb::CompoundFile::open(Cursor::new(bytes)) {
        Ok(file) => file,
        Err(why) => {
            account.gap(TruncatedOrCorrupt, format!("the OLE2 directory could not be read: {why}"));
            return;
        }
    };
    if let Some(rest) = end(bytes).and_then(|end| bytes.get(end..)) {
        account.trailing(rest, spare);
    }
    let streams: Vec<_> = file
        .walk()
        .filter(cfb::Entry::is_stream)
        .map(|entry| (entry.name().to_ascii_lowercase(), entry.path().to_path_buf()))
        .collect();
    let mut left = bytes.len() as u64;
    for (name, path) in streams {
        let check: fn(&[u8]) -> bool = match name.as_str() {
            "encryptedpackage" => {
                // libclamav tries the default password; what it decrypts comes as a layer of this size.
                let size = head(&mut file, &path).and_then(|head| u64_at(&head, 0)).unwrap_or(0);
                let member = Member::new(String::from("EncryptedPackage"), size, Identity::Size);
                account.members.push(member.blocked(Encrypted, "Office document"));
                continue;
            }
            "worddocument" => word_is_encrypted,
            "workbook" | "book" => excel_is_encrypted,
            "current user" => powerpoint_is_encrypted,
            "encryptedsummary" | "\u{9}drmcontent" => |_| true,
            _ => |_| false,
        };
        let shown = path.display().to_string();
        let shown = shown.trim_start_matches('/');
        // Streams cannot share sectors, so together they are no longer than the file; more is a trap.
        let most = left.min(*spare);
        let Some(content) = whole(&mut file, &path, most) else {
            account.gap(TruncatedOrCorrupt, format!("the OLE2 stream {shown} could not be read"));
            continue;
        };
        left -= content.len() as u64;
        if check(&content[..content.len().min(HEAD)]) {
            account.gap(Encrypted, format!("Office document ({name})"));
        }
        if content.len() as u64 > TINY {
            *spare -= content.len() as u64;
            let size = content.len() as u64;
            account.members.push(Member::new(shown.to_owned(), size, Identity::Content(content)));
        }
    }
}

/// Where the last sector ends that the allocation table (MS-CFB 2.3) has in use.
fn end(bytes: &[u8]) -> Option<usize> {
    const FREE: u32 = 0xffff_ffff;
    const LARGEST_SECTOR: u32 = 0xffff_fffa;
    let sector_size =
        1_usize.checked_shl(u32::from(u16_at(bytes, 30)?)).filter(|size| *size == 512 || *size == 4096)?;
    let sector = |number: u32| (number as usize).checked_add(1)?.checked_mul(sector_size);
    let per_sector = sector_size / 4;
    // The table's own sectors: 109 in the header, the rest in a chain.
    let mut table: Vec<u32> = (0..109).filter_map(|at| u32_at(bytes, 76 + 4 * at)).collect();
    let mut next = u32_at(bytes, 68)?;
    for _ in 0..u32_at(bytes, 72)?.min(1 << 16) {
        let start = sector(next).filter(|_| next < LARGEST_SECTOR)?;
        table.extend((0..per_sector - 1).filter_map(|at| u32_at(bytes, start + 4 * at)));
        next = u32_at(bytes, start + 4 * (per_sector - 1))?;
    }
    let mut last = 0;
    for (nth, start) in table.into_iter().enumerate().filter(|(_, number)| *number < LARGEST_SECTOR) {
        let start = sector(start)?;
        let used = (0..per_sector).rev().find(|at| u32_at(bytes, start + 4 * at).is_some_and(|entry| entry != FREE));
        last = used.map_or(last, |at| last.max(nth * per_sector + at));
    }
    sector(u32::try_from(last).ok()?)?.checked_add(sector_size)
}

/// The stream's bytes, its sectors put together.
fn whole<F: Read + Seek>(file: &mut cfb::CompoundFile<F>, path: &std::path::Path, most: u64) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let size = file.open_stream(path).ok()?.take(most).read_to_end(&mut content).ok()?;
    (size as u64 == file.entry(path).ok()?.len()).then_some(content)
}

fn head<F: Read + Seek>(file: &mut cfb::CompoundFile<F>, path: &std::path::Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    file.open_stream(path).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    Some(head)
}

fn word_is_encrypted(head: &[u8]) -> bool {
    const ENCRYPTED: u16 = 0x0100;
    u16_at(head, 10).is_some_and(|flags| flags & ENCRYPTED != 0)
}

/// `FilePass` follows the first `BOF`, before anything that it encrypts.
fn excel_is_encrypted(head: &[u8]) -> bool {
    const FILE_PASS: u16 = 0x002f;
    let mut at = 0;
    while let (Some(kind), Some(length)) = (u16_at(head, at), u16_at(head, at + 2)) {
        if kind == FILE_PASS {
            return true;
        }
        at += 4 + usize::from(length);
    }
    false
}

fn powerpoint_is_encrypted(head: &[u8]) -> bool {
    const ENCRYPTED: u32 = 0xf3d1_c4df;
    u32_at(head, 12) == Some(ENCRYPTED)
}
