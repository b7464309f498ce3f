//! Zip archives: sound ones here, encrypted ones in [`encrypted`], broken and lying ones in [`malformed`].
//!
//! Members are deflated unless a builder says otherwise, so that a marker inside is found by unpacking only.

pub mod encrypted;
pub mod malformed;
pub mod raw;

use std::io::{Cursor, Read as _, Write as _};

use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::marker::{harmless, payload, text};
use raw::Entry;

/// How a member is packed; the comment is what libclamav 1.4 does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// 0, as is: the outer layer already shows the bytes.
    Stored,
    /// 8, read by everybody.
    Deflate,
    /// 9, read by libclamav.
    Deflate64,
    /// 12, read by libclamav.
    Bzip2,
    /// 14, not read by libclamav.
    Lzma,
    /// 93, not read by libclamav.
    Zstd,
    /// 98, not read by libclamav.
    Ppmd,
}

impl Method {
    /// Every method, for tests that walk them.
    pub const ALL: [Self; 7] =
        [Self::Stored, Self::Deflate, Self::Deflate64, Self::Bzip2, Self::Lzma, Self::Zstd, Self::Ppmd];

    /// The number that the headers carry.
    pub fn number(self) -> u16 {
        match self {
            Self::Stored => 0,
            Self::Deflate => 8,
            Self::Deflate64 => 9,
            Self::Bzip2 => 12,
            Self::Lzma => 14,
            Self::Zstd => 93,
            Self::Ppmd => 98,
        }
    }

    /// Packs `data` as the body of a member.
    pub fn pack(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Stored => data.to_vec(),
            Self::Deflate => deflate(data),
            Self::Deflate64 => literal_deflate(data),
            Self::Bzip2 => crate::stream::bz2(data),
            Self::Lzma => lzma(data),
            Self::Zstd => crate::stream::zst(data),
            Self::Ppmd => ppmd(data),
        }
    }
}

/// A truthful entry, to be written as it is or made to lie first.
pub fn entry(name: &str, data: &[u8], method: Method) -> Entry {
    Entry {
        name: name.to_owned(),
        method: method.number(),
        // Bit 1 on an LZMA member: the stream has an end marker.
        flags: if method == Method::Lzma { 0x0002 } else { 0 },
        crc: crc32fast::hash(data),
        size: u32::try_from(data.len()).expect("member below 4 GiB"),
        packed: method.pack(data),
        ..Entry::default()
    }
}

/// A sound archive of deflated members, in the order given; names may hold directories (`word/document.xml`).
pub fn plain(members: &[(&str, &[u8])]) -> Vec<u8> {
    with_method(Method::Deflate, members)
}

/// The same with another method: proves which methods are unpacked and which must be called unsupported.
pub fn with_method(method: Method, members: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<_> = members.iter().map(|(name, data)| entry(name, data, method)).collect();
    raw::write(&[], &entries, &[])
}

/// One deflated member `data` under `depth` zips (1 is a plain zip): proves that nesting is followed, and that a
/// nesting beyond the recursion limit is not called clean.
pub fn nested(depth: usize, data: &[u8]) -> Vec<u8> {
    let mut inner = data.to_vec();
    let mut name = "letter.txt".to_owned();
    for level in 0..depth {
        inner = plain(&[(&name, &inner)]);
        name = format!("level{level}.zip");
    }
    inner
}

/// `count` small deflated members, of which the `infected`th (from 0) holds the marker: proves that a count beyond
/// the files limit is not called clean.
pub fn many(count: usize, infected: Option<usize>) -> Vec<u8> {
    let entries: Vec<_> = (0..count)
        .map(|index| {
            let data = if infected == Some(index) { payload() } else { text(80, index as u64) };
            entry(&format!("folder{}/note{index}.txt", index / 100), &data, Method::Deflate)
        })
        .collect();
    raw::write(&[], &entries, &[])
}

/// One member of `len` compressible bytes, with the marker written over the text at `marker_at`: proves that a member
/// larger than the file size limit is not trimmed in silence. A hundred megabytes pack to a few hundred kilobytes.
pub fn giant(len: u64, marker_at: Option<u64>) -> Vec<u8> {
    // A short text over and over, well within the window of deflate.
    let block = text(1 << 10, 9).repeat(64);
    let needle = crate::marker::marker();
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let mut crc = crc32fast::Hasher::new();
    let mut done = 0_u64;
    let mut put = |bytes: &[u8]| {
        crc.update(bytes);
        encoder.write_all(bytes).expect("deflate into memory");
    };
    while done < len {
        let mut take = (len - done).min(block.len() as u64);
        if let Some(at) = marker_at {
            if done == at {
                put(&needle);
                done += needle.len() as u64;
                continue;
            }
            if done < at {
                take = take.min(at - done);
            }
        }
        put(&block[..take as usize]);
        done += take;
    }
    let packed = encoder.finish().expect("deflate into memory");
    let entry = Entry {
        name: "giant.txt".to_owned(),
        method: 8,
        crc: crc.finalize(),
        size: u32::try_from(done).expect("member below 4 GiB"),
        packed,
        ..Entry::default()
    };
    raw::write(&[], &[entry], &[])
}

/// An archive of nothing, the end record alone (22 bytes): proves that no member is not a failure.
pub fn empty() -> Vec<u8> {
    raw::write(&[], &[], &[])
}

/// A sound archive with a comment behind it.
pub fn with_comment(members: &[(&str, &[u8])], comment: &[u8]) -> Vec<u8> {
    let entries: Vec<_> = members.iter().map(|(name, data)| entry(name, data, Method::Deflate)).collect();
    raw::write(&[], &entries, comment)
}

/// A sound archive behind `prefix`, with offsets that count it, as a self-extracting archive has: proves that an
/// archive which does not begin at byte 0 is unpacked.
pub fn with_prefix(prefix: &[u8], members: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<_> = members.iter().map(|(name, data)| entry(name, data, Method::Deflate)).collect();
    raw::write(prefix, &entries, &[])
}

/// Sizes of 0xFFFFFFFF in both headers and the true ones in a zip64 extra field, though nothing is large.
pub fn zip64(name: &str, data: &[u8]) -> Vec<u8> {
    let mut entry = entry(name, data, Method::Deflate);
    let mut extra = vec![0x01, 0x00, 16, 0];
    extra.extend_from_slice(&(data.len() as u64).to_le_bytes());
    extra.extend_from_slice(&(entry.packed.len() as u64).to_le_bytes());
    entry.extra = extra;
    entry.local_sizes = Some((u32::MAX, u32::MAX));
    entry.listed_sizes = entry.local_sizes;
    raw::write(&[], &[entry], &[])
}

/// Members as a streaming writer leaves them: zeros in the local header, CRC and sizes behind the packed bytes.
pub fn streamed(members: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<_> =
        members.iter().map(|(name, data)| Entry { descriptor: true, ..entry(name, data, Method::Deflate) }).collect();
    raw::write(&[], &entries, &[])
}

/// The usual pair of members: a harmless one, then `letter.txt` holding `data`.
pub fn letter(data: &[u8]) -> Vec<u8> {
    plain(&[("readme.txt", &harmless()), ("letter.txt", data)])
}

/// Raw deflate.
pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("deflate into memory");
    encoder.finish().expect("deflate into memory")
}

/// One block of fixed codes and no match at all: such a stream means the same as Deflate and as Deflate64.
fn literal_deflate(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() * 9 / 8 + 8);
    let (mut pending, mut bits) = (0b011_u32, 3); // last block, fixed codes
    let mut put = |code: u32, len: u32| {
        // Huffman codes go most significant bit first into a stream that fills from the least significant.
        pending |= (code.reverse_bits() >> (32 - len)) << bits;
        bits += len;
        while bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    };
    for &byte in data {
        match byte {
            0..=143 => put(0x30 + u32::from(byte), 8),
            _ => put(0x190 + u32::from(byte) - 144, 9),
        }
    }
    put(0, 7); // end of block
    put(0, 7); // and enough zeros to push the last bits out
    out
}

/// The zip flavour of LZMA: version, length of the properties, properties, stream with an end marker.
fn lzma(data: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::LzmaOptions { dict_size: 1 << 16, ..lzma_rust2::LzmaOptions::with_preset(6) };
    let mut out = vec![9, 20, 5, 0, options.get_props()];
    out.extend_from_slice(&options.dict_size.to_le_bytes());
    let mut writer = lzma_rust2::LzmaWriter::new_no_header(Vec::new(), &options, true).expect("lzma options");
    writer.write_all(data).expect("lzma into memory");
    out.extend(writer.finish().expect("lzma into memory"));
    out
}

/// The zip flavour of PPMd (variant I), taken out of an archive that the `zip` crate wrote.
fn ppmd(data: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Ppmd)
        .compression_level(Some(1));
    writer.start_file("x", options).expect("zip into memory");
    writer.write_all(data).expect("zip into memory");
    let archive = writer.finish().expect("zip into memory");
    let mut archive = zip::ZipArchive::new(archive).expect("our own archive");
    let mut out = Vec::new();
    archive.by_index_raw(0).expect("our own member").read_to_end(&mut out).expect("read from memory");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::shows_marker;
    use crate::testing::{python_zip, seven_zip};

    #[test]
    fn every_method_unpacks_elsewhere_and_hides_the_marker() {
        for method in Method::ALL {
            let bytes = with_method(method, &[("a/letter.txt", &payload())]);
            assert_eq!(shows_marker(&bytes), method == Method::Stored, "{method:?}");
            if method != Method::Zstd {
                assert_eq!(seven_zip(&bytes, "zip", "", "a/letter.txt"), payload(), "{method:?}");
            }
        }
    }

    #[test]
    fn sound_archives_pass_two_other_readers() {
        let data = payload();
        let members: [(&str, &[u8]); 2] = [("a.txt", b"a"), ("word/document.xml", &data)];
        for bytes in [
            plain(&members),
            with_comment(&members, b"a comment"),
            with_prefix(&crate::marker::filler(5000, 3), &members),
            streamed(&members),
            nested(20, &data),
            many(300, Some(299)),
        ] {
            python_zip(&bytes).expect("python reads it");
        }
        for bytes in [zip64("a.txt", &data), streamed(&[("a.txt", &data)]), with_prefix(b"junk", &[("a.txt", &data)])] {
            assert_eq!(seven_zip(&bytes, "zip", "", "a.txt"), data);
        }
        assert_eq!(empty().len(), 22);
    }

    #[test]
    fn giant_is_as_long_as_it_says() {
        let bytes = giant(5_000_000, Some(4_999_900));
        assert!(bytes.len() < 100_000, "{}", bytes.len());
        python_zip(&bytes).expect("python reads it");
        let unpacked = seven_zip(&bytes, "zip", "", "giant.txt");
        assert_eq!(unpacked.len(), 5_000_000);
        assert_eq!(unpacked[4_999_900..][..42], crate::marker::marker()[..]);
    }
}
