//! `ar`, the container of `.deb` packages and static libraries, which libclamav does not unpack: its members are
//! handed on to be scanned on their own. Format: `ar(5)`; GNU and BSD long names.

use super::{Account, TINY, readable};
use crate::Limits;
use crate::ReasonKind::{TooManyFiles, TruncatedOrCorrupt};

const MAGIC: usize = 8;
const HEADER: usize = 60;

pub(super) fn examine(bytes: &[u8], limits: &Limits, spare: &mut u64, account: &mut Account) {
    account.complete = true;
    let mut at = MAGIC;
    let mut names: &[u8] = &[];
    while at < bytes.len() {
        let Some((name, content, next)) = member(bytes, at) else {
            account.gap(TruncatedOrCorrupt, "the ar archive is cut off or damaged");
            return;
        };
        let end = at + HEADER + content.len();
        account.open.push(at + HEADER..end.max(next.min(bytes.len())));
        at = next;
        match name {
            b"/" | b"/SYM64/" | b"__.SYMDEF" => continue, // The symbol table, which the raw bytes were searched for.
            b"//" => {
                names = content;
                continue;
            }
            _ => {}
        }
        if content.len() as u64 <= TINY {
            continue;
        }
        if account.unpacked.len() >= limits.max_files as usize {
            account.gap(TooManyFiles, "members of an ar archive");
            return;
        }
        account.hand_on(readable(full_name(name, names)), content, spare);
    }
}

/// Name, content and the offset of the next header.
fn member(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let header = bytes.get(at..at.checked_add(HEADER)?)?;
    if &header[58..60] != b"`\n" {
        return None;
    }
    let size: usize = std::str::from_utf8(&header[48..58]).ok()?.trim_end().parse().ok()?;
    let start = at + HEADER;
    let content = bytes.get(start..start.checked_add(size)?)?;
    let name = header[..16].trim_ascii_end();
    let (name, content) = match name.strip_prefix(b"#1/") {
        Some(length) => {
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            let (name, content) = content.split_at_checked(length)?;
            (name.split(|byte| *byte == 0).next().unwrap_or(name), content)
        }
        None => (name, content),
    };
    Some((name, content, start + size + size % 2))
}

/// GNU: `name/` ends a short name, `/123` points into the table of long ones.
fn full_name<'a>(name: &'a [u8], names: &'a [u8]) -> &'a [u8] {
    let pointed = name
        .strip_prefix(b"/")
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok())
        .and_then(|at| names.get(at..))
        .and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    let name = pointed.unwrap_or(name);
    name.strip_suffix(b"/").unwrap_or(name)
}
