//! ISO 9660 images (ECMA-119): the files of the primary volume.
//!
//! libclamav announces directories like files and gives no types, so the directory records are read here.

use sha2::{Digest, Sha256};

use super::{Account, Identity, Member, TINY, readable, u16_at, u32_at};
use crate::ReasonKind::{TooManyFiles, TruncatedOrCorrupt};

const PRIMARY_DESCRIPTOR: usize = 16 * 2048;

/// A directory record: where its extent is, and what it is called.
struct Record<'a> {
    start: usize,
    size: usize,
    directory: bool,
    name: &'a [u8],
}

pub(super) fn examine(bytes: &[u8], most_members: usize, account: &mut Account) {
    let is_volume = bytes.get(PRIMARY_DESCRIPTOR..PRIMARY_DESCRIPTOR + 6) == Some(b"\x01CD001");
    let Some(block) = is_volume.then(|| u16_at(bytes, PRIMARY_DESCRIPTOR + 128)).flatten().map(usize::from) else {
        return;
    };
    account.complete = true;
    let sectors = u32_at(bytes, PRIMARY_DESCRIPTOR + 80).map_or(u64::MAX, u64::from);
    if sectors.saturating_mul(block as u64) > bytes.len() as u64 {
        account.gap(TruncatedOrCorrupt, "the ISO image is shorter than its volume");
    }
    let Some(root) = record(bytes, PRIMARY_DESCRIPTOR + 156, block) else { return };
    let mut directories = vec![(root, String::new())];
    let mut seen = std::collections::HashSet::new();
    while let Some((directory, path)) = directories.pop() {
        if !seen.insert(directory.start) {
            continue;
        }
        let mut at = directory.start;
        let end = directory.start.saturating_add(directory.size).min(bytes.len());
        while at < end {
            let length = usize::from(bytes[at]);
            if length == 0 {
                at = (at + 1).next_multiple_of(block.max(1)); // Records do not cross sectors.
                continue;
            }
            let entry = record(bytes, at, block);
            at += length;
            let Some(entry) = entry.filter(|entry| !matches!(entry.name, [0 | 1])) else { continue };
            let name = entry.name.split(|byte| *byte == b';').next().unwrap_or(entry.name);
            let name = format!("{path}{}", readable(name));
            if account.members.len() + directories.len() > most_members {
                account.gap(TooManyFiles, "files of an ISO image");
                return;
            }
            if entry.directory {
                directories.push((entry, format!("{name}/")));
            } else if entry.size as u64 > TINY {
                match bytes.get(entry.start..entry.start.saturating_add(entry.size)) {
                    Some(content) => {
                        account.open.push(entry.start..entry.start + entry.size);
                        let identity = Identity::Sha256(Sha256::digest(content).into());
                        account.members.push(Member::new(name, entry.size as u64, identity));
                    }
                    None => account.gap(TruncatedOrCorrupt, format!("the file {name} lies outside of the ISO image")),
                }
            }
        }
    }
}

fn record(bytes: &[u8], at: usize, block: usize) -> Option<Record<'_>> {
    let name_length = usize::from(*bytes.get(at + 32)?);
    Some(Record {
        start: usize::try_from(u32_at(bytes, at + 2)?).ok()?.checked_mul(block)?,
        size: usize::try_from(u32_at(bytes, at + 10)?).ok()?,
        directory: bytes.get(at + 25)? & 2 != 0,
        name: bytes.get(at + 33..at + 33 + name_length)?,
    })
}
