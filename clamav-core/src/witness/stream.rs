//! Compressed streams: gzip (RFC 1952), bzip2, xz (the .xz file format 1.2), Zstandard (RFC 8878).
//!
//! libclamav unpacks all members of a gzip file and all streams of an xz file, but only the first stream of a bzip2
//! file, and it scans what it has when a stream breaks off. gzip and xz say at their end how much there is; bzip2 does not, so it is
//! unpacked once more here, as is Zstandard, which libclamav does not know.

use std::io::{Read, Write};

use super::{Account, Member, TINY, u32_at};
use crate::ReasonKind::{self, TooLarge, TruncatedOrCorrupt, Unsupported};

/// A gzip layer, kept until its child is there to be compared.
#[derive(Debug)]
pub(crate) struct Gzip {
    bytes: Vec<u8>,
}

pub(super) fn examine_gzip(bytes: &[u8], account: &mut Account) {
    account.complete = true;
    account.stream = Some(Gzip { bytes: bytes.to_vec() });
}

impl Gzip {
    /// What keeps `unpacked` from being all of the file; `None` when it is.
    pub(crate) fn objection(&self, unpacked: &[u8], most: u64) -> Option<(ReasonKind, String)> {
        let crc = crc32fast::hash(unpacked);
        if self.is_single_member_of(unpacked.len() as u64, crc) {
            return None;
        }
        match self.unpack(most) {
            Ok(whole) if (whole.size, whole.crc) == (unpacked.len() as u64, crc) => None,
            Ok(whole) if whole.size <= TINY => None,
            Ok(_) => Some((TruncatedOrCorrupt, String::from("gzip data was not unpacked to its end"))),
            Err(objection) => Some(objection),
        }
    }

    /// The trailer of a file with one member: CRC-32 and size modulo 2^32.
    fn is_single_member_of(&self, size: u64, crc: u32) -> bool {
        let trailer = self.bytes.len().saturating_sub(8);
        u32_at(&self.bytes, trailer) == Some(crc)
            && u32_at(&self.bytes, trailer + 4).map(u64::from) == Some(size & 0xffff_ffff)
    }

    /// Unpacks all members, as `gzip -d` would: junk behind the last one is ignored.
    fn unpack(&self, most: u64) -> Result<Measure, (ReasonKind, String)> {
        let mut measure = Measure::up_to(most);
        let mut rest: &[u8] = &self.bytes;
        while rest.starts_with(&[0x1f, 0x8b, 0x08]) {
            let mut decoder = flate2::bufread::GzDecoder::new(rest);
            copy(&mut decoder, &mut measure, "gzip")?;
            rest = decoder.into_inner();
        }
        Ok(measure)
    }
}

/// Unpacks bzip2 to learn how much there is, and hands it on when libclamav would see the first stream only.
pub(super) fn examine_bzip2(bytes: &[u8], most: u64, account: &mut Account) {
    account.complete = true;
    let mut whole = Measure::up_to(most);
    let mut streams = 0;
    let mut rest: &[u8] = bytes;
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
        stream_member(whole.size, Some(whole.crc), account);
        return;
    }
    let mut unpacked = Vec::new();
    match bzip2::bufread::MultiBzDecoder::new(bytes).take(whole.size).read_to_end(&mut unpacked) {
        Ok(_) if crc32fast::hash(&unpacked) == whole.crc => account.unpacked.push((String::new(), unpacked)),
        _ => account.gap(TruncatedOrCorrupt, "bzip2 streams could not be unpacked"),
    }
}

/// Unpacks Zstandard frames, skippable ones included, and hands the content on.
pub(super) fn examine_zstd(bytes: &[u8], most: u64, account: &mut Account) {
    account.complete = true;
    let mut unpacked = Vec::new();
    let mut rest: &[u8] = bytes;
    while let Some(magic) = u32_at(rest, 0) {
        if magic & 0xffff_fff0 == 0x184d_2a50 {
            let skip = u32_at(rest, 4).and_then(|size| usize::try_from(size).ok()?.checked_add(8));
            match skip.and_then(|skip| rest.get(skip..)) {
                Some(next) => rest = next,
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
    if unpacked.len() as u64 > TINY {
        account.unpacked.push((String::new(), unpacked));
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
    stream_member(total, None, account);
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

fn stream_member(size: u64, crc: Option<u32>, account: &mut Account) {
    if size > TINY {
        account.members.push(Member::new(String::new(), size, crc));
    }
}

/// Size and checksum of what is written to it, up to a limit.
struct Measure {
    size: u64,
    most: u64,
    hasher: crc32fast::Hasher,
    crc: u32,
}

impl Measure {
    fn up_to(most: u64) -> Self {
        Self { size: 0, most, hasher: crc32fast::Hasher::new(), crc: 0 }
    }
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.size += bytes.len() as u64;
        if self.size > self.most {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.hasher.update(bytes);
        self.crc = self.hasher.clone().finalize();
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
