//! Tar, cpio and ar archives, bare and compressed. None of them packs: the bytes of a member lie in the outer layer.
//!
//! So a marker in a bare one is found without unpacking; put [`crate::stream::gz`] bytes in a member where the test
//! has to prove that members are handed over.

use crate::stream::{bz2, gz, xz};

const BLOCK: usize = 512;

/// How a tar member is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// POSIX ustar: the name in the header (100 bytes).
    Ustar,
    /// GNU: a long name in a member of type `L` before it.
    GnuLongName,
    /// POSIX pax: the name in a member of type `x` before it.
    Pax,
    /// GNU: the size as a binary number, its first bit set.
    Base256,
}

/// A sound ustar archive; a name that ends in `/` is a directory.
pub fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    tar_as(Style::Ustar, members)
}

/// A sound archive in another style: proves that members described otherwise are seen.
///
/// # Panics
/// A name of more than 100 bytes under [`Style::Ustar`] or [`Style::Base256`].
pub fn tar_as(style: Style, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in members {
        let mut short = *name;
        match style {
            Style::Ustar | Style::Base256 => {}
            Style::GnuLongName => {
                let long = [name.as_bytes(), b"\0"].concat();
                member(&mut out, "././@LongLink", &long, b'L', false);
                short = &name[..name.len().min(100)];
            }
            Style::Pax => {
                member(&mut out, "PaxHeaders/x", pax_record("path", name).as_bytes(), b'x', false);
                short = "short-name";
            }
        }
        let kind = if name.ends_with('/') { b'5' } else { b'0' };
        member(&mut out, short, data, kind, style == Style::Base256);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// Cut in the middle of the last member's bytes.
pub fn tar_truncated(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = tar(members);
    let last = members.last().map_or(0, |(_, data)| data.len());
    let start = bytes.len() - 2 * BLOCK - last.next_multiple_of(BLOCK);
    bytes.truncate(start + last / 2);
    bytes
}

/// The header of the second of three members has a wrong checksum: proves that what stands behind it is not forgotten.
/// The members are a harmless text, another one, and `data`.
pub fn tar_bad_checksum(data: &[u8]) -> Vec<u8> {
    let text = crate::marker::text(700, 31);
    let mut bytes = tar(&[("one.txt", &text), ("two.txt", &text), ("three.txt", data)]);
    let second = BLOCK + text.len().next_multiple_of(BLOCK);
    bytes[second + 148..second + 154].copy_from_slice(b"000001");
    bytes
}

/// The last header promises 8 GiB, the file ends after `data`.
pub fn tar_size_lies(data: &[u8]) -> Vec<u8> {
    let mut bytes = tar(&[("letter.txt", data)]);
    bytes[124..136].copy_from_slice(b"77777777777\0");
    seal(&mut bytes[..BLOCK]);
    bytes
}

/// A gzipped tar.
pub fn tar_gz(members: &[(&str, &[u8])]) -> Vec<u8> {
    gz(&tar(members))
}

/// A tar in bzip2.
pub fn tar_bz2(members: &[(&str, &[u8])]) -> Vec<u8> {
    bz2(&tar(members))
}

/// A tar in xz.
pub fn tar_xz(members: &[(&str, &[u8])]) -> Vec<u8> {
    xz(&tar(members))
}

/// A cpio archive in the "newc" format (magic 070701), as initramfs and RPM use.
pub fn cpio(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, (name, data)) in members.iter().chain(&[("TRAILER!!!", &b""[..])]).enumerate() {
        let (mode, inode) = if *name == "TRAILER!!!" { (0, 0) } else { (0o100_644, index + 1) };
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name length, check
        let fields = [inode, mode, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        out.extend_from_slice(b"070701");
        for field in fields {
            out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// A Unix `ar` archive.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, data) in members {
        out.extend_from_slice(format!("{name:<16}0           0     0     100644  {:<10}`\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        if data.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

/// A Debian package in shape: `debian-binary`, `control.tar.gz`, and `data.tar.xz` with `usr/share/letter.txt`
/// holding `data`. Four layers deep (ar, xz, tar, file).
pub fn deb(data: &[u8]) -> Vec<u8> {
    let control = b"Package: fixture\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n";
    ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", &tar_gz(&[("./control", control)])),
        ("data.tar.xz", &tar_xz(&[("./usr/", b""), ("./usr/share/letter.txt", data)])),
    ])
}

fn member(out: &mut Vec<u8>, name: &str, data: &[u8], kind: u8, base256: bool) {
    let mut header = [0_u8; BLOCK];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    if base256 {
        header[124] = 0x80;
        header[128..136].copy_from_slice(&(data.len() as u64).to_be_bytes());
    } else {
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    }
    header[136..148].copy_from_slice(b"14720000000\0");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    out.extend_from_slice(&header);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Writes the checksum of a header: the sum of its bytes with the checksum field as spaces.
fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A pax record counts its own length, digits included.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    format!("{len} {key}={value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{payload, shows_marker};
    use crate::testing::{output_of, seven_zip, tool};

    #[test]
    fn tar_reads_every_style() {
        let data = payload();
        let long = format!("folder/{}.txt", "long-name-".repeat(14));
        for (style, name) in [
            (Style::Ustar, "folder/letter.txt"),
            (Style::Base256, "letter.txt"),
            (Style::GnuLongName, &long),
            (Style::Pax, &long),
        ] {
            let bytes = tar_as(style, &[("folder/", b""), (name, &data)]);
            assert!(output_of("tar", &["-xOf", "{}", name], &bytes, "tar") == data, "{style:?}");
        }
    }

    #[test]
    fn tar_unpacks_the_compressed_ones() {
        let data = payload();
        for (ending, bytes) in [
            ("tar.gz", tar_gz(&[("letter.txt", &data)])),
            ("tar.bz2", tar_bz2(&[("letter.txt", &data)])),
            ("tar.xz", tar_xz(&[("letter.txt", &data)])),
        ] {
            assert!(!shows_marker(&bytes), "{ending}");
            assert!(output_of("tar", &["-xOf", "{}", "letter.txt"], &bytes, ending) == data, "{ending}");
        }
    }

    #[test]
    fn tar_refuses_the_broken_ones() {
        let data = payload();
        for bytes in [tar_truncated(&[("letter.txt", &data)]), tar_bad_checksum(&data), tar_size_lies(&data)] {
            assert!(!tool("tar", &["-tf", "{}"], &bytes, "tar").status.success());
        }
    }

    #[test]
    fn cpio_and_ar_are_read_by_seven_zip() {
        let data = payload();
        assert!(seven_zip(&cpio(&[("a.txt", b"abc"), ("b.txt", &data)]), "cpio", "", "b.txt") == data);
        assert!(seven_zip(&ar(&[("a.txt", b"abc"), ("b.txt", &data)]), "a", "", "b.txt") == data);
        assert!(!shows_marker(&deb(&data)));
        seven_zip(&deb(&data), "deb", "", "data.tar");
    }
}
