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
mod mail;
mod ole2;
mod opaque;
mod pdf;
#[cfg(test)]
mod properties;
mod rar;
mod sevenz;
mod stream;
mod tar;
mod zip;

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::{Limits, ReasonKind};

/// Inputs of this many bytes or fewer never reach libclamav's matchers, so there is nothing to prove about them.
pub(crate) const TINY: u64 = 5;

/// One member that a container announces.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name inside the container, directories included.
    pub(crate) name: String,
    /// Its size when unpacked.
    pub(crate) size: u64,
    /// How to know it when it is delivered.
    pub(crate) identity: Identity,
    /// Why it may not be delivered, where the container says so.
    pub(crate) obstacle: Option<(ReasonKind, String)>,
    /// libclamav cannot unpack it, so nothing that it delivers can be this member, unless it was decrypted.
    pub(crate) blocked: bool,
}

impl Member {
    fn new(name: String, size: u64, identity: Identity) -> Self {
        Self { name, size, identity, obstacle: None, blocked: false }
    }

    fn blocked(self, kind: ReasonKind, why: impl Into<String>) -> Self {
        Self { obstacle: Some((kind, why.into())), blocked: true, ..self }
    }
}

/// What is known of a member's bytes, from the weakest to the strongest.
#[derive(Debug)]
pub(crate) enum Identity {
    /// Nothing but the size.
    Size,
    /// CRC-32 (ISO 3309), as its container states it. It can be forged.
    Crc(u32),
    /// SHA-256 of the bytes, which lay open in the container.
    Sha256([u8; 32]),
    /// The bytes; scanned on their own if they are not delivered.
    Content(Vec<u8>),
    /// It was delivered.
    Delivered,
}

impl Identity {
    /// Whether a match leaves no doubt.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self, Self::Sha256(_) | Self::Content(_))
    }
}

/// A delivered layer's digests, made when they are asked for.
pub(crate) struct Digests<'a> {
    bytes: &'a [u8],
    crc: Option<u32>,
    sha256: Option<[u8; 32]>,
}

impl<'a> Digests<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, crc: None, sha256: None }
    }

    /// Whether the layer can be the member. Sizes were compared before.
    pub(crate) fn are_of(&mut self, identity: &Identity) -> bool {
        match identity {
            Identity::Size => true,
            Identity::Crc(crc) => *self.crc.get_or_insert_with(|| crc32fast::hash(self.bytes)) == *crc,
            Identity::Sha256(sha256) => {
                *self.sha256.get_or_insert_with(|| Sha256::digest(self.bytes).into()) == *sha256
            }
            Identity::Content(content) => content == self.bytes,
            Identity::Delivered => false,
        }
    }
}

/// What one layer announces.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// What must be delivered.
    pub(crate) members: Vec<Member>,
    /// What is wrong with the layer itself.
    pub(crate) gaps: Vec<(ReasonKind, String)>,
    /// The whole layer was read here as a container, so what libclamav announces of it adds nothing.
    pub(crate) complete: bool,
    /// Contents that libclamav does not unpack and that were unpacked here, to be scanned on their own.
    pub(crate) unpacked: Vec<(String, Vec<u8>)>,
    /// The layer is an archive: without any announced member something went wrong.
    pub(crate) must_announce: Option<&'static str>,
    /// Why members that libclamav announces may not come.
    pub(crate) method_obstacle: Option<(ReasonKind, String)>,
    /// Where members lie open in the layer: each is a layer of its own, in which archives are looked for there.
    open: Vec<Range<usize>>,
}

impl Account {
    /// Whether what lies here is part of one member.
    fn is_inside_member(&self, start: usize, end: usize) -> bool {
        self.open.iter().any(|member| member.start <= start && end <= member.end)
    }

    fn gap(&mut self, kind: ReasonKind, detail: impl Into<String>) {
        self.gaps.push((kind, detail.into()));
    }

    /// Hands on bytes that libclamav would not look at as a file of their own, within what is left of `spare`.
    fn hand_on(&mut self, name: String, bytes: &[u8], spare: &mut u64) {
        match spare.checked_sub(bytes.len() as u64) {
            _ if bytes.len() as u64 <= TINY => {}
            Some(left) => {
                *spare = left;
                self.unpacked.push((name, bytes.to_vec()));
            }
            None => self.gap(ReasonKind::ScanSize, format!("{name} was not unpacked")),
        }
    }

    /// Hands on what follows the end of a format: some readers go on there.
    fn trailing(&mut self, rest: &[u8], spare: &mut u64) {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        self.hand_on(String::from("trailing data"), &rest[zeros..], spare);
    }
}

/// Reads what a layer announces. `spare` is how many bytes may still be unpacked here.
pub(crate) fn examine(file_type: &str, bytes: &[u8], limits: &Limits, spare: u64) -> Account {
    let mut account = Account::default();
    let mut spare = spare;
    let most_members = limits.max_files as usize;
    let mut is_zip = false;
    if tar::is_tar(bytes) {
        // First, because the name of the first member can look like any other format.
        tar::examine(file_type, bytes, most_members, &mut spare, &mut account);
    } else {
        match bytes {
            [0x50, 0x4b, 0x03, 0x04 | 0x06, ..] | [0x50, 0x4b, 0x05, 0x06, ..] => {
                is_zip = true;
                zip::examine(bytes, zip::Place::Start, limits, &mut spare, &mut account);
            }
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => sevenz::examine(bytes, &mut spare, &mut account),
            [b'R', b'a', b'r', b'!', 0x1a, 0x07, ..] => rar::examine(bytes, most_members, &mut account),
            [0x1f, 0x8b, 0x08, ..] => stream::examine_gzip(bytes, limits, &mut spare, &mut account),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
                stream::examine_bzip2(bytes, limits, &mut spare, &mut account);
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => stream::examine_xz(bytes, &mut account),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => stream::examine_zstd(bytes, limits, &mut spare, &mut account),
            _ if ole2::is_ole2(bytes) => ole2::examine(bytes, &mut spare, &mut account),
            [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n', ..] => {
                ar::examine(bytes, limits, &mut spare, &mut account);
            }
            _ => {
                opaque::examine(bytes, limits, &mut spare, &mut account);
                account.must_announce = announced_format(file_type);
                iso::examine(bytes, most_members, &mut account);
                sevenz::examine_embedded(bytes, &mut account);
            }
        }
    }
    let mut own = Account::default();
    if pdf::is_pdf(bytes) {
        pdf::examine(bytes, spare, &mut own);
    } else {
        mail::examine(file_type, bytes, &mut own);
    }
    account.gaps.append(&mut own.gaps);
    for (name, content) in own.unpacked {
        account.hand_on(name, &content, &mut spare);
    }
    if !is_zip {
        // Archives behind something else: self-extracting programs, scripts with a shebang, polyglots.
        let place = if ole2::is_ole2(bytes) { zip::Place::Scattered } else { zip::Place::Behind };
        zip::examine(bytes, place, limits, &mut spare, &mut account);
        rar::examine_embedded(bytes, most_members, &mut account);
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

/// Members that say something about the container that they are in.
const MANIFESTS: &[&str] = &["META-INF/manifest.xml", "META-INF/encryption.xml"];

/// Whether a layer's name, of which libclamav gives the last part, can be that of a manifest.
pub(crate) fn may_be_manifest(name: &[u8]) -> bool {
    let last = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
    MANIFESTS.iter().any(|manifest| last(manifest.as_bytes()) == last(name))
}

/// What a manifest says about its container: formats on top of zip encrypt members on their own and list them there.
pub(crate) fn examine_manifest(bytes: &[u8]) -> Option<(ReasonKind, String)> {
    let count = |text: &str| {
        let wide = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        [text.as_bytes().to_vec(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)]
            .iter()
            .map(|form| memchr::memmem::find_iter(bytes, form).count())
            .sum::<usize>()
    };
    // OpenDocument 1.3 part 2, 4.4.
    if count("encryption-data") > 0 {
        return Some((ReasonKind::Encrypted, String::from("OpenDocument")));
    }
    // EPUB OCF 3.3, 4.2.6.3.2; fonts are commonly mangled, which hides nothing that could be run.
    let mangled = count("http://www.idpf.org/2008/embedding") + count("http://ns.adobe.com/pdf/enc#RC");
    let encrypted = count("EncryptedData>").div_ceil(2); // An opening and a closing tag each.
    (encrypted > 0 && count("Algorithm=") > mangled).then(|| (ReasonKind::Encrypted, String::from("EPUB")))
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
