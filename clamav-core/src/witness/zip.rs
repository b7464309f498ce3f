//! ZIP and everything built on it (OOXML, OpenDocument, JAR, APK, EPUB), after PKWARE's APPNOTE 6.3.10.
//!
//! The central directory is what extractors follow, so its sizes and checksums are what must be delivered; libclamav
//! follows the local headers, and where the two disagree the checksum tells. Local headers that the directory does
//! not list are content that streaming extractors see and libclamav does not.

use std::io::Read;

use memchr::memmem;

use super::{Account, Identity, Member, TINY, readable, u16_at, u32_at, u64_at};
use crate::Limits;
use crate::ReasonKind::{Encrypted, TruncatedOrCorrupt, Unsupported};

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_SIZE: usize = 22;
const CENTRAL_SIZE: usize = 46;
const LOCAL_SIZE: usize = 30;
/// The flag of streamed members: sizes and checksum come after the data.
const SIZES_FOLLOW: u16 = 0x0008;
/// An encrypted empty member: the 12 bytes of ZipCrypto's header, or AES's salt, check and authentication code.
const ENCRYPTED_NOTHING: u64 = 28;

/// Where in the layer a zip may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The layer is one.
    Start,
    /// Behind other data.
    Behind,
    /// In a file whose contents lie in pieces and are put together elsewhere: only what is whole counts.
    Scattered,
}

/// Where the central directory is.
struct Directory {
    start: usize,
    /// Where its end record is.
    end: usize,
    /// What to add to offsets in the directory: not 0 when something was put before the archive.
    shift: usize,
    entries: u64,
}

/// Reads the archive in `bytes`. When the layer does not begin like one, only a valid directory makes it one.
pub(super) fn examine(bytes: &[u8], place: Place, limits: &Limits, spare: &mut u64, account: &mut Account) {
    let directories = directories(bytes);
    if place != Place::Start {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for directory in directories.iter().filter(|directory| directory.entries > 0) {
            let disk = u16_at(bytes, directory.end + 4).unwrap_or(0);
            if disk != 0 && disk != u16::MAX && place == Place::Behind {
                account.gap(TruncatedOrCorrupt, "the last part of a split zip, without the others");
            }
            let known = found.iter().any(|(start, end)| (*start..*end).contains(&directory.end));
            if !known && !account.is_inside_member(directory.start, directory.end) {
                found.extend(read_directory(bytes, directory, place, limits, spare, account).unwrap_or_default().0);
            }
        }
        return;
    }
    account.complete = true;
    let Some(directory) = directories.first() else {
        return account.gap(TruncatedOrCorrupt, "the zip's central directory is missing");
    };
    let Some((mut extents, at)) = read_directory(bytes, directory, place, limits, spare, account) else {
        return; // What is left of it cannot be told from what is hidden.
    };
    // Readers differ on which end record counts, and on members that no directory lists.
    let inside = |at: usize| extents.iter().any(|(start, end)| (*start..*end).contains(&at));
    if directories.iter().any(|other| other.start != directory.start && !inside(other.end)) {
        account.gap(TruncatedOrCorrupt, "the zip has more than one central directory");
    }
    extents.push((directory.start, at.max(directory.end)));
    let comment = u16_at(bytes, directory.end + 20).map_or(0, usize::from);
    let end = directory.end.saturating_add(END_SIZE + comment);
    if hides_members(bytes, &mut extents) {
        account.gap(TruncatedOrCorrupt, "the zip holds members that its central directory does not list");
    }
    account.trailing(bytes.get(end..).unwrap_or_default(), spare);
}

/// Accounts for the members of one directory; gives where they are and where the directory ends, or `None` when it could
/// not be read to its end.
fn read_directory(
    bytes: &[u8],
    directory: &Directory,
    place: Place,
    limits: &Limits,
    spare: &mut u64,
    account: &mut Account,
) -> Option<(Vec<(usize, usize)>, usize)> {
    let mut archive = Archive {
        bytes,
        place,
        shift: directory.shift,
        largest: limits.max_file_size,
        spare,
        extents: Vec::new(),
        account,
    };
    let mut at = directory.start;
    let mut seen: u64 = 0;
    while bytes.get(at..at.saturating_add(4)) == Some(CENTRAL) {
        if archive.account.members.len() + archive.account.unpacked.len() > limits.max_files as usize {
            // The limit on files ends the scan before; the members so far cannot all be delivered.
            return None;
        }
        let Some(next) = archive.entry(at) else {
            if place != Place::Scattered {
                archive.account.gap(TruncatedOrCorrupt, "the zip's central directory is cut off");
            }
            return None;
        };
        at = next;
        seen += 1;
    }
    if seen != directory.entries && place != Place::Scattered {
        let listed = format!("the zip announces {} members and lists {seen}", directory.entries);
        archive.account.gap(TruncatedOrCorrupt, listed);
    }
    Some((archive.extents, at))
}

/// All central directories that an end record points to, the last first, which is what most extractors take.
fn directories(bytes: &[u8]) -> Vec<Directory> {
    const MOST: usize = 64;
    memmem::rfind_iter(bytes, END).filter_map(|end| directory_at(bytes, end)).take(MOST).collect()
}

fn directory_at(bytes: &[u8], end: usize) -> Option<Directory> {
    let mut entries = u64::from(u16_at(bytes, end + 10)?);
    let mut size = u64::from(u32_at(bytes, end + 12)?);
    let mut offset = u64::from(u32_at(bytes, end + 16)?);
    let mut directory_end = end;
    if (entries == 0xffff || size == 0xffff_ffff || offset == 0xffff_ffff)
        && let Some(locator) = end.checked_sub(20)
        && bytes.get(locator..locator + 4) == Some(b"PK\x06\x07")
    {
        let record = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
        if bytes.get(record..record.checked_add(4)?) == Some(b"PK\x06\x06") {
            entries = u64_at(bytes, record + 32)?;
            size = u64_at(bytes, record + 40)?;
            offset = u64_at(bytes, record + 48)?;
            directory_end = record;
        }
    }
    let offset = usize::try_from(offset).ok()?;
    let begins = |at: usize| entries == 0 || bytes.get(at..at.saturating_add(4)) == Some(CENTRAL);
    // The directory normally ends where the end record begins; a prefix moves both, but not the offsets inside.
    let by_size = usize::try_from(size).ok().and_then(|size| directory_end.checked_sub(size));
    match by_size {
        Some(start) if begins(start) && start >= offset => {
            Some(Directory { start, end, shift: start - offset, entries })
        }
        _ if offset < bytes.len() && begins(offset) => Some(Directory { start: offset, end, shift: 0, entries }),
        _ => None,
    }
}

struct Archive<'a> {
    bytes: &'a [u8],
    place: Place,
    shift: usize,
    /// The limit on one member.
    largest: u64,
    /// How many bytes may still be unpacked here.
    spare: &'a mut u64,
    /// Where the members are.
    extents: Vec<(usize, usize)>,
    account: &'a mut Account,
}

impl Archive<'_> {
    /// Reads one entry of the directory and gives the offset of the next.
    fn entry(&mut self, at: usize) -> Option<usize> {
        let bytes = self.bytes;
        let flags = u16_at(bytes, at + 8)?;
        let method = u16_at(bytes, at + 10)?;
        let crc = u32_at(bytes, at + 16)?;
        let mut packed = u64::from(u32_at(bytes, at + 20)?);
        let mut size = u64::from(u32_at(bytes, at + 24)?);
        let name_length = usize::from(u16_at(bytes, at + 28)?);
        let extra_length = usize::from(u16_at(bytes, at + 30)?);
        let comment_length = usize::from(u16_at(bytes, at + 32)?);
        let mut local = u64::from(u32_at(bytes, at + 42)?);
        let name_at = at + CENTRAL_SIZE;
        let name = bytes.get(name_at..name_at + name_length)?;
        let extra = bytes.get(name_at + name_length..name_at + name_length + extra_length)?;
        let large = zip64(extra, &mut [&mut size, &mut packed, &mut local]);
        let next = name_at + name_length + extra_length + comment_length;
        if next > bytes.len() {
            return None;
        }

        let name = readable(name);
        let local = usize::try_from(local).ok().and_then(|local| local.checked_add(self.shift));
        let extent = local.and_then(|local| local_extent(bytes, local, packed));
        let Some((start, end)) = extent.filter(|(_, end)| *end <= bytes.len()) else {
            // Without a local header nobody can extract it; in an archive of its own that is damage.
            if self.place == Place::Start {
                self.account.gap(TruncatedOrCorrupt, format!("the zip member {name} lies outside of the file"));
            }
            return Some(next);
        };
        if self.extents.last() == Some(&(start, end)) {
            return Some(next); // One member under two names, which libclamav unpacks once.
        }
        self.extents.push((start, end));
        let encrypted = flags & 1 != 0;
        let data = usize::try_from(packed).ok().and_then(|packed| bytes.get(end - packed..end)).unwrap_or_default();
        if size <= TINY && !encrypted {
            // Directories, empty files, and what libclamav does not look at; unless there is more than it says.
            if packed > 0 && unpack(data, method, size, crc).is_none() {
                self.account.gap(TruncatedOrCorrupt, format!("the zip member {name} is not of the size that it says"));
            }
            return Some(next);
        }
        if size == 0 && packed <= ENCRYPTED_NOTHING {
            return Some(next);
        }
        if method != 0 && memmem::find_iter(data, LOCAL).any(|at| is_plausible(&data[at..])) && !fills(data, method) {
            self.account.gap(TruncatedOrCorrupt, format!("the zip member {name} has another one in its data"));
        }
        // libclamav follows the local header, as extractors do that read a stream; others follow the directory.
        let local_flags = u16_at(bytes, start + 6)?;
        let local_method = u16_at(bytes, start + 8)?;
        let follows = local_flags & SIZES_FOLLOW != 0;
        let local_packed = u32_at(bytes, start + 18)?;
        let same_size = follows || local_packed == u32::MAX || u64::from(local_packed) == packed;
        if (local_flags ^ flags) & 1 != 0 || local_method != method || !same_size {
            self.account.gap(TruncatedOrCorrupt, format!("the two headers of the zip member {name} disagree"));
        }
        let obstacle = if encrypted {
            Some((Encrypted, String::from("zip")))
        } else if let Some(name) = unsupported(method) {
            Some((Unsupported, format!("zip method {method} ({name})")))
        } else if self.place != Place::Start {
            Some((Unsupported, String::from("zip behind other data")))
        } else if large || local_packed == u32::MAX {
            // libclamav reads the 32-bit sizes only, and of the local header at that.
            Some((Unsupported, String::from("zip64")))
        } else {
            None
        };
        let unpackable = matches!(obstacle, Some((Unsupported, _))) && size <= (*self.spare).min(self.largest);
        if unpackable && let Some(plain) = unpack(data, method, size, crc) {
            *self.spare -= size;
            self.account.unpacked.push((name, plain));
            return Some(next);
        }
        if self.place == Place::Scattered {
            return Some(next); // Its data is elsewhere, or it is what a stream holds, which is looked into there.
        }
        let member = Member::new(name, size, Identity::Crc(crc));
        self.account.members.push(match obstacle {
            Some((kind, why)) => member.blocked(kind, why),
            None => member,
        });
        Some(next)
    }
}

/// The bytes that a member takes up, its local header included.
fn local_extent(bytes: &[u8], local: usize, packed: u64) -> Option<(usize, usize)> {
    if bytes.get(local..local.checked_add(4)?) != Some(LOCAL) {
        return None;
    }
    let name = usize::from(u16_at(bytes, local + 26)?);
    let extra = usize::from(u16_at(bytes, local + 28)?);
    let data = local + LOCAL_SIZE + name + extra;
    Some((local, data.checked_add(usize::try_from(packed).ok()?)?))
}

/// Replaces the values that are stored in the ZIP64 extra field, in its order; tells whether there were any.
fn zip64(mut extra: &[u8], values: &mut [&mut u64; 3]) -> bool {
    while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(body) = extra.get(4..4 + usize::from(length)) else { return false };
        if id == 0x0001 {
            let mut at = 0;
            for value in values.iter_mut().filter(|value| ***value == 0xffff_ffff) {
                let Some(large) = u64_at(body, at) else { break };
                **value = large;
                at += 8;
            }
            return at > 0;
        }
        extra = &extra[4 + usize::from(length)..];
    }
    false
}

/// The name of a method that libclamav does not unpack; it does stored, imploded, deflate, deflate64 and bzip2.
fn unsupported(method: u16) -> Option<&'static str> {
    match method {
        0 | 6 | 8 | 9 | 12 => None,
        1..=5 => Some("shrunk or reduced"),
        14 => Some("LZMA"),
        20 | 93 => Some("Zstandard"),
        95 => Some("XZ"),
        96 => Some("JPEG"),
        97 => Some("WavPack"),
        98 => Some("PPMd"),
        _ => Some("unknown"),
    }
}

/// Whether a local header with data stands where no listed member is. Android's build tools fill gaps with headers of
/// members that have neither name nor data.
fn hides_members(bytes: &[u8], extents: &mut [(usize, usize)]) -> bool {
    extents.sort_unstable();
    let finder = memmem::Finder::new(LOCAL);
    let mut covered = 0;
    for (start, end) in extents.iter().copied().chain([(bytes.len(), bytes.len())]) {
        let between = bytes.get(covered..start.max(covered)).unwrap_or_default();
        if finder.find_iter(between).any(|at| has_data(&between[at..])) {
            return true;
        }
        covered = covered.max(end);
    }
    false
}

fn has_data(local: &[u8]) -> bool {
    let follow = u16_at(local, 6).is_none_or(|flags| flags & SIZES_FOLLOW != 0);
    follow || u32_at(local, 18) != Some(0) || u32_at(local, 22) != Some(0)
}

/// Whether these bytes, found in compressed data, are a local header and not chance: a version, flags, a method and a
/// name that writers use.
fn is_plausible(local: &[u8]) -> bool {
    let fields = || Some((u16_at(local, 4)?, u16_at(local, 6)?, u16_at(local, 8)?, u16_at(local, 26)?));
    let Some((version, flags, method, name)) = fields() else { return false };
    let name = local.get(LOCAL_SIZE..LOCAL_SIZE + usize::from(name)).unwrap_or_default();
    version & 0xff <= 63
        && flags & 0xc780 == 0
        && matches!(method, 0..=20 | 93..=99)
        && !name.is_empty()
        && name.iter().all(|byte| *byte >= b' ')
        && has_data(local)
}

/// Whether the compressed stream takes up all of its bytes. A zip in a zip shows its headers where it did not compress.
fn fills(data: &[u8], method: u16) -> bool {
    let mut decoder = flate2::bufread::DeflateDecoder::new(data);
    method == 8 && std::io::copy(&mut decoder, &mut std::io::sink()).is_ok() && decoder.total_in() == data.len() as u64
}

/// Unpacks a member that libclamav cannot reach, if its bytes are what the directory promises.
fn unpack(packed: &[u8], method: u16, size: u64, crc: u32) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    match method {
        0 => plain.extend_from_slice(packed),
        8 => {
            flate2::bufread::DeflateDecoder::new(packed).take(size.saturating_add(1)).read_to_end(&mut plain).ok()?;
        }
        _ => return None,
    }
    (plain.len() as u64 == size && crc32fast::hash(&plain) == crc).then_some(plain)
}
