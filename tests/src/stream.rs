//! Single compressed streams: gzip, bzip2, xz, zstd, LZ4. Archives made of them are in [`crate::tape`].
//!
//! Every one of these formats lets several streams stand one behind the other, and every command line tool unpacks
//! them all: a scanner that stops after the first has not seen the file.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// One gzip member.
pub fn gz(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("gzip into memory");
    encoder.finish().expect("gzip into memory")
}

/// Two gzip members: proves that the second is unpacked.
pub fn gz_two(first: &[u8], second: &[u8]) -> Vec<u8> {
    [gz(first), gz(second)].concat()
}

/// Half a gzip member: proves that a stream without an end is not called clean.
pub fn gz_truncated(data: &[u8]) -> Vec<u8> {
    half(gz(data))
}

/// A gzip member whose CRC is wrong: what was unpacked is not what was packed.
pub fn gz_bad_crc(data: &[u8]) -> Vec<u8> {
    let mut bytes = gz(data);
    let at = bytes.len() - 8;
    bytes[at] ^= 0x55;
    bytes
}

/// A gzip member with bytes behind it that are no second one.
pub fn gz_trailing_garbage(data: &[u8]) -> Vec<u8> {
    [gz(data), crate::marker::filler(500, 21)].concat()
}

/// A gzip member with a damaged deflate stream.
pub fn gz_corrupt(data: &[u8]) -> Vec<u8> {
    corrupt(gz(data))
}

/// One bzip2 stream.
pub fn bz2(data: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(data).expect("bzip2 into memory");
    encoder.finish().expect("bzip2 into memory")
}

/// Two bzip2 streams: proves that the second is unpacked.
pub fn bz2_two(first: &[u8], second: &[u8]) -> Vec<u8> {
    [bz2(first), bz2(second)].concat()
}

/// Half a bzip2 stream.
pub fn bz2_truncated(data: &[u8]) -> Vec<u8> {
    half(bz2(data))
}

/// A bzip2 stream with a damaged block.
pub fn bz2_corrupt(data: &[u8]) -> Vec<u8> {
    corrupt(bz2(data))
}

/// One xz stream.
pub fn xz(data: &[u8]) -> Vec<u8> {
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).expect("xz options");
    writer.write_all(data).expect("xz into memory");
    writer.finish().expect("xz into memory")
}

/// Two xz streams: proves that the second is unpacked.
pub fn xz_two(first: &[u8], second: &[u8]) -> Vec<u8> {
    [xz(first), xz(second)].concat()
}

/// Half an xz stream.
pub fn xz_truncated(data: &[u8]) -> Vec<u8> {
    half(xz(data))
}

/// An xz stream with a damaged block.
pub fn xz_corrupt(data: &[u8]) -> Vec<u8> {
    corrupt(xz(data))
}

/// One zstd frame, which libclamav 1.4 does not know: unsupported, never clean.
pub fn zst(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

/// One LZ4 frame, which libclamav 1.4 does not know: unsupported, never clean.
pub fn lz4(data: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(data).expect("lz4 into memory");
    encoder.finish().expect("lz4 into memory")
}

fn half(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() / 2);
    bytes
}

fn corrupt(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 8] {
        *byte ^= 0xff;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{harmless, payload, shows_marker};
    use crate::testing::{output_of, tool};

    #[test]
    fn the_usual_tools_unpack_the_sound_ones() {
        let (first, second) = (harmless(), payload());
        let both = [first.clone(), second.clone()].concat();
        for (program, one, two) in [
            ("gzip", gz(&second), gz_two(&first, &second)),
            ("bzip2", bz2(&second), bz2_two(&first, &second)),
            ("xz", xz(&second), xz_two(&first, &second)),
        ] {
            assert!(!shows_marker(&one) && !shows_marker(&two), "{program}");
            assert_eq!(output_of(program, &["-dc", "{}"], &one, program_ending(program)), second);
            assert_eq!(output_of(program, &["-dc", "{}"], &two, program_ending(program)), both);
        }
    }

    #[test]
    fn the_usual_tools_refuse_the_broken_ones() {
        let data = payload();
        for (program, bytes) in [
            ("gzip", gz_truncated(&data)),
            ("gzip", gz_bad_crc(&data)),
            ("gzip", gz_trailing_garbage(&data)),
            ("gzip", gz_corrupt(&data)),
            ("bzip2", bz2_truncated(&data)),
            ("bzip2", bz2_corrupt(&data)),
            ("xz", xz_truncated(&data)),
            ("xz", xz_corrupt(&data)),
        ] {
            assert!(!shows_marker(&bytes), "{program}");
            let output = tool(program, &["-dc", "{}"], &bytes, program_ending(program));
            assert!(!output.status.success(), "{program} found nothing wrong");
        }
    }

    #[test]
    fn zstd_and_lz4_hide_the_marker_and_come_back() {
        let data = payload();
        let (zst, lz4) = (zst(&data), lz4(&data));
        assert!(!shows_marker(&zst) && !shows_marker(&lz4));
        assert!(zst.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) && lz4.starts_with(&[0x04, 0x22, 0x4d, 0x18]));
        let mut back = Vec::new();
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(&zst[..]).expect("a zstd frame");
        std::io::Read::read_to_end(&mut decoder, &mut back).expect("a sound frame");
        assert_eq!(back, data);
        back.clear();
        std::io::Read::read_to_end(&mut lz4_flex::frame::FrameDecoder::new(&lz4[..]), &mut back)
            .expect("a sound frame");
        assert_eq!(back, data);
    }

    fn program_ending(program: &str) -> &str {
        if program == "gzip" {
            "gz"
        } else if program == "bzip2" {
            "bz2"
        } else {
            program
        }
    }
}
