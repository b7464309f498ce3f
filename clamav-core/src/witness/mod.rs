//! Second opinions on containers: what a layer announces, read by us, so that what libclamav delivers can be held
//! against it.
//!
//! libclamav skips what it cannot unpack without a word: encrypted members, unknown methods, everything behind the
//! first damaged byte. So each layer that is a container of a format below is examined when its bytes come by.
//! The [`Account`] lists its members with their sizes and, where the format has them, checksums; a member counts as
//! scanned only when a child layer of that size and checksum was delivered. Nothing here unpacks to detect
//! anything, and nothing here can make a verdict better: an account only adds what has to be proven.
//!
//! All of these read strangers' bytes: no index without a check, no allocation by an announced size.

mod ar;
mod iso;
mod ole2;
mod opaque;
#[cfg(test)]
mod properties;
mod rar;
mod sevenz;
mod stream;
mod tar;
mod zip;

pub(crate) use iso::SECTOR as ISO_SECTOR;

use crate::{Limits, ReasonKind};

/// Inputs of this many bytes or fewer never reach libclamav's matchers, so there is nothing to prove about them.
pub(crate) const TINY: u64 = 5;

/// One member that a container announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name inside the container, directories included.
    pub(crate) name: String,
    /// Its size when unpacked.
    pub(crate) size: u64,
    /// CRC-32 (ISO 3309) of the unpacked bytes, where the format has one.
    pub(crate) crc: Option<u32>,
    /// Why it will not be delivered, where the container says so.
    pub(crate) obstacle: Option<(ReasonKind, String)>,
    /// Its bytes, where they were at hand: scanned on their own if they are not delivered.
    pub(crate) content: Option<Vec<u8>>,
}

impl Member {
    fn new(name: String, size: u64, crc: Option<u32>) -> Self {
        Self { name, size, crc, obstacle: None, content: None }
    }
}

/// What one layer announces.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// What must be delivered.
    pub(crate) members: Vec<Member>,
    /// What is wrong with the layer itself.
    pub(crate) gaps: Vec<(ReasonKind, String)>,
    /// The container was read here, so what libclamav announces of it adds nothing but encryption.
    pub(crate) complete: bool,
    /// Contents that libclamav does not unpack and that were unpacked here, to be scanned on their own.
    pub(crate) unpacked: Vec<(String, Vec<u8>)>,
    /// The layer is one compressed stream, whose only child is checked against it.
    pub(crate) stream: Option<stream::Gzip>,
    /// The layer is an archive: without any announced member something went wrong.
    pub(crate) must_announce: Option<&'static str>,
    /// Why members that libclamav announces may not come.
    pub(crate) method_obstacle: Option<(ReasonKind, String)>,
}

impl Account {
    fn gap(&mut self, kind: ReasonKind, detail: impl Into<String>) {
        self.gaps.push((kind, detail.into()));
    }
}

/// Reads what a layer announces. `spare` is how many bytes may still be unpacked here.
pub(crate) fn examine(file_type: &str, bytes: &[u8], limits: &Limits, spare: u64) -> Account {
    let mut account = Account::default();
    let members = limits.max_files as usize;
    match bytes {
        [0x50, 0x4b, 0x03, 0x04 | 0x06, ..] | [0x50, 0x4b, 0x05, 0x06, ..] => {
            zip::examine(bytes, true, limits, spare, &mut account);
        }
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => sevenz::examine(bytes, &mut account),
        [b'R', b'a', b'r', b'!', 0x1a, 0x07, ..] => rar::examine(bytes, members, &mut account),
        [0x1f, 0x8b, 0x08, ..] => stream::examine_gzip(bytes, &mut account),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
            stream::examine_bzip2(bytes, limits.max_file_size.min(spare), &mut account);
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => stream::examine_xz(bytes, &mut account),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            stream::examine_zstd(bytes, limits.max_file_size.min(spare), &mut account);
        }
        [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ..] => ole2::examine(bytes, spare, &mut account),
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n', ..] => {
            ar::examine(bytes, limits, spare, &mut account);
        }
        _ => {
            opaque::examine(bytes, &mut account);
            account.must_announce = announced_format(file_type);
            if file_type == "CL_TYPE_ISO9660" {
                iso::examine(bytes, &mut account);
            }
            if tar::looks_like_tar(file_type, bytes) {
                tar::examine(bytes, members, &mut account);
            } else {
                // A zip behind something else: self-extracting programs, scripts with a shebang, polyglots.
                zip::examine(bytes, false, limits, spare, &mut account);
                rar::examine_embedded(bytes, members, &mut account);
            }
        }
    }
    account
}

/// The archives of which libclamav announces every member, so that none at all means that it could not read them.
fn announced_format(file_type: &str) -> Option<&'static str> {
    match file_type {
        "CL_TYPE_MSCAB" => Some("cabinet"),
        "CL_TYPE_MSCHM" => Some("CHM"),
        "CL_TYPE_ARJ" => Some("ARJ"),
        "CL_TYPE_EGG" => Some("EGG"),
        _ => None,
    }
}

/// What a member says about the container that it is in: formats on top of zip encrypt members on their own and
/// list them in a manifest.
pub(crate) fn examine_manifest(name: &str, bytes: &[u8]) -> Option<(ReasonKind, String)> {
    let has = |text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    let what = match name {
        // OpenDocument 1.3 part 2, 4.4.
        "META-INF/manifest.xml" if has("encryption-data") => "OpenDocument",
        // EPUB OCF 3.3, 4.2.6.3.2; fonts are commonly mangled, which hides nothing that could be run.
        "META-INF/encryption.xml" => {
            let algorithms = memchr::memmem::find_iter(bytes, b"Algorithm=").count();
            let fonts = ["http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"]
                .iter()
                .map(|mangling| memchr::memmem::find_iter(bytes, mangling.as_bytes()).count())
                .sum::<usize>();
            if algorithms <= fonts {
                return None;
            }
            "EPUB"
        }
        _ => return None,
    };
    Some((ReasonKind::Encrypted, String::from(what)))
}

/// A name from a container, for people: lossy, and cut where it is absurdly long.
pub(crate) fn readable(name: &[u8]) -> String {
    const LONGEST: usize = 1024;
    String::from_utf8_lossy(name.get(..LONGEST).unwrap_or(name)).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}
