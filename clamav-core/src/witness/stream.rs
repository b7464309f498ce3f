//! Compressed streams: gzip (RFC 1952), bzip2, xz (the .xz file format 1.2), Zstandard (RFC 8878), LZMA alone.
//!
//! libclamav unpacks all members of a gzip file and all streams of an xz file, but only the first stream of a bzip2
//! file, and it scans what it has when a stream breaks off. xz says in an index how much there is. The trailers of gzip
//! are believed by no one who was ever lied to, and bzip2 has none, so both are unpacked once more here, as are
//! Zstandard and LZMA, which libclamav does not know.

use std::io::{Read, Write};

use super::{Account, Identity, Member, TINY, u32_at};
use crate::Limits;
use crate::ReasonKind::{self, TooLarge, TruncatedOrCorrupt, Unsupported};

/// Unpacks all members, as `gzip -d` does, to learn how much there is.
pub(super) fn examine_gzip(bytes: &[u8], limits: &Limits, spare: &mut u64, account: &mut Account) {
    account.complete = true;
    let mut whole = Measure::up_to(limits.max_file_size);
    let mut rest = bytes;
    while rest.starts_with(&[0x1f, 0x8b, 0x08]) {
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        if let Err((kind, detail)) = copy(&mut decoder, &mut whole, "gzip") {
            account.gap(kind, detail);
            return;
        }
        rest = decoder.into_inner();
    }
    stream_member(&whole, account);
    account.trailing(rest, spare);
}

/// Unpacks all streams, and hands the content on when libclamav would see the first stream only.
pub(super) fn examine_bzip2(bytes: &[u8], limits: &Limits, spare: &mut u64, account: &mut Account) {
    account.complete = true;
    let mut whole = Measure::up_to(limits.max_file_size);
    let mut streams = 0;
    let mut rest = bytes;
    while rest.starts_with(b"BZh") {
        let mut decoder = bzip2::bufread::BzDecoder::new(rest);
        if let Err((kind, detail)) = copy(&mut decoder, &mut whole, "bzip2") {
            account.gap(kind, detail);
            return;
        }
        rest = decoder.into_inner();
        streams += 1;
    }
    if streams == 1 {
        stream_member(&whole, account);
    } else {
        let mut unpacked = Vec::new();
        let mut packed = &bytes[..bytes.len() - rest.len()];
        while packed.starts_with(b"BZh") && whole.size <= *spare {
            let mut decoder = bzip2::bufread::BzDecoder::new(packed);
            if decoder.read_to_end(&mut unpacked).is_err() {
                break;
            }
            packed = decoder.into_inner();
        }
        account.hand_on(String::new(), &unpacked, spare);
        if unpacked.len() as u64 != whole.size {
            account.gap(ReasonKind::ScanSize, "bzip2 content");
        }
    }
    account.trailing(rest, spare);
}

/// Unpacks Zstandard frames, skippable ones left out, and hands the content on.
pub(super) fn examine_zstd(bytes: &[u8], limits: &Limits, spare: &mut u64, account: &mut Account) {
    account.complete = true;
    let most = limits.max_file_size.min(*spare);
    let mut unpacked = Vec::new();
    let mut rest: &[u8] = bytes;
    while let Some(magic) = u32_at(rest, 0) {
        if magic & 0xffff_fff0 == 0x184d_2a50 {
            let skip = u32_at(rest, 4).and_then(|size| usize::try_from(size).ok()?.checked_add(8));
            match skip.and_then(|skip| rest.split_at_checked(skip)) {
                Some((frame, next)) => {
                    account.hand_on(String::from("skippable frame"), &frame[8..], spare);
                    rest = next;
                }
                None => return account.gap(TruncatedOrCorrupt, "a Zstandard frame is cut off"),
            }
            continue;
        }
        if magic != 0xfd2f_b528 {
            break;
        }
        let mut decoder = match ruzstd::decoding::StreamingDecoder::new(&mut rest) {
            Ok(decoder) => decoder,
            Err(why) => return account.gap(Unsupported, format!("a Zstandard frame could not be read: {why}")),
        };
        let left = most.saturating_sub(unpacked.len() as u64);
        if let Err(why) = (&mut decoder).take(left + 1).read_to_end(&mut unpacked) {
            return account.gap(TruncatedOrCorrupt, format!("Zstandard data could not be unpacked: {why}"));
        }
        if unpacked.len() as u64 > most {
            return account.gap(TooLarge, "Zstandard content");
        }
    }
    account.hand_on(String::new(), &unpacked, spare);
    account.trailing(rest, spare);
}

/// `.lzma` has no magic, only sensible numbers: properties below 225, a dictionary, a size, and a range coder that
/// starts with a zero byte. What looks like it and can be unpacked is handed on.
pub(super) fn examine_lzma(bytes: &[u8], limits: &Limits, spare: &mut u64, account: &mut Account) {
    let Some([properties, d0, d1, d2, d3, size @ .., 0]) = bytes.get(..14) else { return };
    let dictionary = u32::from_le_bytes([*d0, *d1, *d2, *d3]);
    let size = size.try_into().map(u64::from_le_bytes).unwrap_or(0);
    let sensible = *properties < 225
        && dictionary >= 1 << 12
        && (dictionary.is_power_of_two() || dictionary.is_multiple_of(3) && (dictionary / 3).is_power_of_two())
        && (size == u64::MAX || (1..1 << 38).contains(&size));
    if !sensible {
        return;
    }
    let mut unpacked = Collect { bytes: Vec::new(), most: limits.max_file_size.min(*spare) };
    let options = lzma_rs::decompress::Options { memlimit: Some(128 << 20), ..lzma_rs::decompress::Options::default() };
    let mut rest = bytes;
    match lzma_rs::lzma_decompress_with_options(&mut rest, &mut unpacked, &options) {
        Ok(()) => {
            account.complete = true;
            account.hand_on(String::new(), &unpacked.bytes, spare);
        }
        Err(_) if unpacked.bytes.len() as u64 == unpacked.most => account.gap(TooLarge, "LZMA content"),
        // Random bytes do not unpack to this much.
        Err(_) if *properties == 0x5d || unpacked.bytes.len() > 4096 => account.gap(Unsupported, "LZMA"),
        Err(_) => {}
    }
}

/// Adds up the sizes in the indexes at the end of each stream, the last stream first.
pub(super) fn examine_xz(bytes: &[u8], account: &mut Account) {
    account.complete = true;
    let mut rest = bytes;
    let mut total = 0_u64;
    while !rest.is_empty() {
        // Streams may be padded with zero bytes.
        let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let used = used.next_multiple_of(4).min(rest.len());
        let Some((start, size)) = xz_stream(&rest[..used]) else {
            account.gap(TruncatedOrCorrupt, "the xz data is cut off or damaged");
            return;
        };
        rest = &rest[..start];
        total = total.saturating_add(size);
    }
    if total > TINY {
        account.members.push(Member::new(String::new(), total, Identity::Size));
    }
}

/// The offset at which the last stream of `bytes` starts, and its unpacked size.
fn xz_stream(bytes: &[u8]) -> Option<(usize, u64)> {
    const HEADER: usize = 12;
    let footer = bytes.len().checked_sub(HEADER)?;
    if bytes.get(footer + 10..)? != b"YZ" {
        return None;
    }
    let index_size = usize::try_from(u32_at(bytes, footer + 4)?).ok()?.checked_add(1)?.checked_mul(4)?;
    let index_start = footer.checked_sub(index_size)?;
    let index = bytes.get(index_start..footer)?;
    if u32_at(index, index.len() - 4)? != crc32fast::hash(&index[..index.len() - 4]) || index[0] != 0 {
        return None;
    }
    let mut at = 1;
    let mut vint = || {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = *index.get(at)?;
            at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    let records = vint()?;
    let (mut packed, mut size) = (0_u64, 0_u64);
    for _ in 0..records {
        packed = packed.checked_add(vint()?.checked_next_multiple_of(4)?)?;
        size = size.checked_add(vint()?)?;
    }
    let start = index_start.checked_sub(usize::try_from(packed).ok()?)?.checked_sub(HEADER)?;
    bytes[start..].starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]).then_some((start, size))
}

fn stream_member(whole: &Measure, account: &mut Account) {
    if whole.size > TINY {
        account.members.push(Member::new(String::new(), whole.size, Identity::Crc(whole.crc())));
    }
}

/// Size and checksum of what is written to it, up to a limit.
struct Measure {
    size: u64,
    most: u64,
    hasher: crc32fast::Hasher,
}

impl Measure {
    fn up_to(most: u64) -> Self {
        Self { size: 0, most, hasher: crc32fast::Hasher::new() }
    }

    fn crc(&self) -> u32 {
        self.hasher.clone().finalize()
    }
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.size += bytes.len() as u64;
        if self.size > self.most {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn copy(decoder: &mut impl Read, measure: &mut Measure, what: &str) -> Result<(), (ReasonKind, String)> {
    match std::io::copy(decoder, measure) {
        Ok(_) => Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::FileTooLarge => Err((TooLarge, format!("{what} content"))),
        Err(_) => Err((TruncatedOrCorrupt, format!("the {what} data is cut off or damaged"))),
    }
}

/// Keeps what is written to it, up to a limit.
struct Collect {
    bytes: Vec<u8>,
    most: u64,
}

impl Write for Collect {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.most).unwrap_or(usize::MAX) - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(left)]);
        if bytes.len() > left { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
