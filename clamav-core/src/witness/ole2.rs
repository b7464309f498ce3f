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
