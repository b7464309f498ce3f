//! 7z, after the format description in the LZMA SDK (`DOC/7zFormat.txt`).
//!
//! libclamav announces each member with its size, whether it could unpack it or not, and does not say why not; when
//! it cannot read the header it announces nothing at all. So here the header is read as far as the folders' coders:
//! is it there, whole and readable, and which methods does it name.

use super::{Account, u32_at, u64_at};
use crate::ReasonKind::{Encrypted, TruncatedOrCorrupt, Unsupported};

const START: usize = 32;

mod property {
    pub(super) const END: u8 = 0x00;
    pub(super) const HEADER: u8 = 0x01;
    pub(super) const ARCHIVE_PROPERTIES: u8 = 0x02;
    pub(super) const MAIN_STREAMS: u8 = 0x04;
    pub(super) const FILES: u8 = 0x05;
    pub(super) const PACK_INFO: u8 = 0x06;
    pub(super) const UNPACK_INFO: u8 = 0x07;
    pub(super) const SIZE: u8 = 0x09;
    pub(super) const CRC: u8 = 0x0a;
    pub(super) const FOLDER: u8 = 0x0b;
    pub(super) const UNPACK_SIZE: u8 = 0x0c;
    pub(super) const ENCODED_HEADER: u8 = 0x17;
}

const AES: u64 = 0x06f1_0701;
const LZMA: u64 = 0x03_0101;

/// Headers of a hundred thousand members are some megabytes; more is a trap.
const LARGEST_HEADER: u64 = 64 << 20;

pub(super) fn examine(bytes: &[u8], spare: &mut u64, account: &mut Account) {
    let next = (|| Some((u64_at(bytes, 12)?, u64_at(bytes, 20)?, u32_at(bytes, 28)?)))();
    let Some((offset, size, crc)) = next else {
        account.gap(TruncatedOrCorrupt, "the 7z start header is cut off");
        return;
    };
    if size == 0 {
        account.complete = true;
        if bytes.len() > START {
            // A writer fills the start header in last: without it there is data that nobody can find.
            account.gap(TruncatedOrCorrupt, "the 7z archive was not finished: it has data and no header");
        }
        return; // Else an archive without members.
    }
    if let Some(end) = usize::try_from(offset.saturating_add(size)).ok().and_then(|end| end.checked_add(START))
        && let Some(rest) = bytes.get(end..)
    {
        account.trailing(rest, spare);
    }
    let Some(header) = slice(bytes, offset, size) else {
        account.gap(TruncatedOrCorrupt, "the 7z header lies outside of the file");
        return;
    };
    if crc32fast::hash(header) != crc {
        account.gap(TruncatedOrCorrupt, "the 7z header has a wrong checksum");
        return;
    }
    account.must_announce = Some("7z");
    let methods = match header.first() {
        Some(&property::ENCODED_HEADER) => match Reader(&header[1..]).streams() {
            Some(streams) if streams.methods.contains(&AES) => {
                account.must_announce = None;
                account.gap(Encrypted, "7z with encrypted names");
                return;
            }
            Some(streams) => unpack_header(bytes, &streams).and_then(|header| methods(&header)),
            None => None,
        },
        _ => methods(header),
    };
    if methods.as_ref().is_some_and(Vec::is_empty) {
        account.complete = true;
        account.must_announce = None; // Nothing but empty members, which libclamav takes for damage.
        return;
    }
    // When the methods are not known, a member that does not come says no more than that it is missing.
    account.method_obstacle =
        methods.into_iter().flatten().find_map(unsupported).map(|name| (Unsupported, format!("7z method {name}")));
}

/// A 7z behind something else, which libclamav finds and announces: here only why its members may not come.
pub(super) fn examine_embedded(bytes: &[u8], account: &mut Account) {
    if let Some(at) = memchr::memmem::find(bytes, b"7z\xbc\xaf\x27\x1c\x00") {
        let mut embedded = Account::default();
        examine(&bytes[at..], &mut 0, &mut embedded);
        account.method_obstacle = embedded.method_obstacle;
    }
}

fn slice(bytes: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?.checked_add(START)?;
    bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

/// The methods that a plain header's folders name.
fn methods(header: &[u8]) -> Option<Vec<u64>> {
    let mut reader = Reader(header);
    if reader.byte()? != property::HEADER {
        return None;
    }
    let mut id = reader.byte()?;
    if id == property::ARCHIVE_PROPERTIES {
        while reader.byte()? != property::END {
            let size = reader.number()?;
            reader.skip(size)?;
        }
        id = reader.byte()?;
    }
    match id {
        property::MAIN_STREAMS => Some(reader.streams()?.methods),
        property::FILES | property::END => Some(Vec::new()),
        _ => None,
    }
}

/// Unpacks a compressed header, which is always one LZMA stream.
fn unpack_header(bytes: &[u8], streams: &Streams<'_>) -> Option<Vec<u8>> {
    let size = streams.unpack_size.filter(|size| *size <= LARGEST_HEADER)?;
    if streams.methods != [LZMA] {
        return None;
    }
    let packed = slice(bytes, streams.pack_position, streams.pack_size?)?;
    let options = lzma_rs::decompress::Options {
        unpacked_size: lzma_rs::decompress::UnpackedSize::UseProvided(Some(size)),
        memlimit: usize::try_from(LARGEST_HEADER).ok(),
        allow_incomplete: false,
    };
    let mut input = std::io::Read::chain(streams.properties, packed);
    let mut header = Vec::new();
    lzma_rs::lzma_decompress_with_options(&mut input, &mut header, &options).ok()?;
    Some(header)
}

/// The name of a method that libclamav's 7z unpacker does not know; filters it does not apply are among them.
fn unsupported(method: u64) -> Option<String> {
    const BCJ: u64 = 0x0303_0103;
    const BCJ2: u64 = 0x0303_011b;
    const ARM: u64 = 0x0303_0501;
    const PPMD: u64 = 0x03_0401;
    match method {
        0 | 0x21 | LZMA | PPMD | BCJ | ARM | AES => None,
        // libclamav has code for it, which does not read what current writers write.
        BCJ2 => Some("BCJ2".into()),
        0x04_0108 => Some("Deflate".into()),
        0x04_0109 => Some("Deflate64".into()),
        0x04_0202 => Some("BZip2".into()),
        0x04f7_1101 => Some("Zstandard".into()),
        0x04f7_1104 => Some("LZ4".into()),
        0x03 => Some("Delta".into()),
        other => Some(format!("{other:x}")),
    }
}

/// What is needed of a `StreamsInfo`.
struct Streams<'a> {
    methods: Vec<u64>,
    properties: &'a [u8],
    pack_position: u64,
    pack_size: Option<u64>,
    unpack_size: Option<u64>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.take(count).map(drop)
    }

    /// An integer of one to nine bytes: the first byte's leading ones count the bytes that follow.
    fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let more = first.leading_ones();
        let mut value = 0_u64;
        for at in 0..more {
            value |= u64::from(self.byte()?) << (8 * at);
        }
        let high = u64::from(first) & (0x7f_u64 >> more.min(7));
        Some(if more < 8 { value | high << (8 * more) } else { value })
    }

    /// The sizes of the packed streams, and the coders of all folders.
    fn streams(&mut self) -> Option<Streams<'a>> {
        let mut streams =
            Streams { methods: Vec::new(), properties: &[], pack_position: 0, pack_size: None, unpack_size: None };
        let mut id = self.byte()?;
        if id == property::PACK_INFO {
            streams.pack_position = self.number()?;
            let count = self.number()?;
            id = self.byte()?;
            if id == property::SIZE {
                for at in 0..count {
                    let size = self.number()?;
                    if at == 0 {
                        streams.pack_size = Some(size);
                    }
                }
                id = self.byte()?;
            }
            if id == property::CRC {
                self.digests(count)?;
                id = self.byte()?;
            }
            if id != property::END {
                return None;
            }
            id = self.byte()?;
        }
        if id == property::END {
            return Some(streams); // Only empty members.
        }
        if id != property::UNPACK_INFO || self.byte()? != property::FOLDER {
            return None;
        }
        let folders = self.number()?;
        if self.byte()? != 0 {
            return None; // Folders in another stream, which no known writer does.
        }
        for _ in 0..folders {
            self.folder(&mut streams)?;
        }
        if self.byte()? == property::UNPACK_SIZE {
            streams.unpack_size = self.number();
        }
        Some(streams)
    }

    fn digests(&mut self, count: u64) -> Option<()> {
        let defined = if self.byte()? != 0 {
            count
        } else {
            self.take(count.div_ceil(8))?.iter().map(|byte| u64::from(byte.count_ones())).sum()
        };
        self.skip(defined.checked_mul(4)?)
    }

    fn folder(&mut self, streams: &mut Streams<'a>) -> Option<()> {
        const COMPLEX: u8 = 0x10;
        const PROPERTIES: u8 = 0x20;
        let (mut inputs, mut outputs) = (0_u64, 0_u64);
        for _ in 0..self.number()? {
            let flags = self.byte()?;
            let id = self.take(u64::from(flags & 0x0f))?;
            let method = id.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
            if !streams.methods.contains(&method) {
                streams.methods.push(method);
            }
            let (more_inputs, more_outputs) =
                if flags & COMPLEX != 0 { (self.number()?, self.number()?) } else { (1, 1) };
            inputs = inputs.checked_add(more_inputs)?;
            outputs = outputs.checked_add(more_outputs)?;
            if flags & PROPERTIES != 0 {
                let size = self.number()?;
                streams.properties = self.take(size)?;
            }
        }
        let bound = outputs.checked_sub(1)?;
        for _ in 0..bound {
            self.number()?;
            self.number()?;
        }
        let packed = inputs.checked_sub(bound)?;
        if packed > 1 {
            for _ in 0..packed {
                self.number()?;
            }
        }
        Some(())
    }
}
