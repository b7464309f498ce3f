//! Properties of all readers: whatever the bytes are, they answer, in bounds, and never invent more than they may.

use proptest::prelude::*;

use super::{Account, Digests, Identity, Member, examine, examine_manifest};
use crate::Limits;

/// First bytes that send the rest to one of the readers.
const MAGICS: &[&[u8]] = &[
    b"",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"7z\xbc\xaf\x27\x1c\x00\x04",
    b"Rar!\x1a\x07\x00",
    b"Rar!\x1a\x07\x01\x00",
    b"xxxxRar!\x1a\x07\x01\x00",
    b"\x1f\x8b\x08\x00",
    b"BZh91AY&SY",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"\x50\x2a\x4d\x18",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"!<arch>\n",
    b"!<arch>\na/              0           0     0     644     5         `\nabcde\n",
    b"\x5d\x00\x00\x80\x00",
    b"0\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03",
];

const TYPES: &[&str] = &["CL_TYPE_ANY", "CL_TYPE_POSIX_TAR", "CL_TYPE_OLD_TAR", "CL_TYPE_ISO9660", "CL_TYPE_MSCAB"];

fn limits() -> Limits {
    Limits { max_files: 50, max_file_size: 1 << 20, ..Limits::default() }
}

/// What holds for every account of every input.
fn is_in_bounds(account: &Account, spare: u64) -> bool {
    let unpacked: usize = account.unpacked.iter().map(|(_, bytes)| bytes.len()).sum();
    let kept = |member: &Member| if let Identity::Content(content) = &member.identity { content.len() } else { 0 };
    let kept: usize = account.members.iter().map(kept).sum();
    (unpacked + kept) as u64 <= spare
        && account.members.len() <= 52
        && account.members.iter().all(|member| member.name.len() <= 4096)
}

/// A zip of stored members, whose writer shares nothing with the reader.
fn zip_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let offset = out.len() as u32;
        let mut common = Vec::new();
        for field in [20_u16, 0, 0, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc32fast::hash(data), data.len() as u32, data.len() as u32] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    let size = directory.len() as u32;
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((members.len() as u16).to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// A ustar archive of regular files.
fn tar_of(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in members {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0; 1024]);
    out
}

fn members() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    // Never "PK" in data or names, which would be a member that the directory does not list.
    let data = prop::collection::vec(0_u8..0x40, 6..300);
    prop::collection::vec(("[a-z]{1,8}(/[a-z]{1,8}){0,3}", data), 1..8)
}

/// The members are listed in order, and each is known by its bytes.
fn lists(account: &Account, members: &[(String, Vec<u8>)]) -> bool {
    account.members.len() == members.len()
        && account.members.iter().zip(members).all(|(listed, (name, data))| {
            listed.name == *name && listed.size == data.len() as u64 && Digests::of(data).are_of(&listed.identity)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered_in_bounds(
        magic in prop::sample::select(MAGICS),
        file_type in prop::sample::select(TYPES),
        rest in prop::collection::vec(any::<u8>(), 0..2000),
        spare in prop::sample::select(&[0_u64, 100, 1 << 20][..]),
    ) {
        let bytes = [magic, &rest].concat();
        prop_assert!(is_in_bounds(&examine(file_type, &bytes, &limits(), spare), spare));
        let _ = examine_manifest(&bytes);
    }

    #[test]
    fn damaged_archives_are_answered_in_bounds(
        members in members(),
        tar in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in any::<prop::sample::Index>(),
        prefix in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut bytes = if tar { tar_of(&members) } else { zip_of(&members) };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let bytes = [prefix, bytes].concat();
        prop_assert!(is_in_bounds(&examine("CL_TYPE_ANY", &bytes, &limits(), 1 << 20), 1 << 20));
    }

    #[test]
    fn a_zip_is_read_as_it_was_written(members in members()) {
        let account = examine("CL_TYPE_ZIP", &zip_of(&members), &limits(), 1 << 20);
        prop_assert!(lists(&account, &members), "{account:?}");
        prop_assert!(account.gaps.is_empty() && account.complete, "{:?}", account.gaps);
    }

    #[test]
    fn a_tar_is_read_as_it_was_written(members in members()) {
        let account = examine("CL_TYPE_POSIX_TAR", &tar_of(&members), &limits(), 1 << 20);
        prop_assert!(lists(&account, &members), "{account:?}");
        prop_assert!(account.gaps.is_empty() && account.complete, "{:?}", account.gaps);
    }

    #[test]
    fn a_zip_that_is_cut_is_never_without_a_gap(members in members(), cut in any::<prop::sample::Index>()) {
        let bytes = zip_of(&members);
        // The last two bytes are the length of the comment: without them everything is still there.
        let bytes = &bytes[..cut.index(bytes.len() - 2).max(4)];
        let account = examine("CL_TYPE_ZIP", bytes, &limits(), 1 << 20);
        prop_assert!(!account.gaps.is_empty());
    }
}
