//! The filters of PDF streams (ISO 32000-1, 7.4), each bounded by what may still be unpacked.

use flate2::{Decompress, FlushDecompress, Status};

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Flate,
    Lzw,
    RunLength,
    Ascii85,
    AsciiHex,
    Crypt,
    /// A picture: what it decodes to are dots.
    Jpeg,
    Picture,
    Unknown,
}

impl Filter {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"FlateDecode" | b"Fl" => Self::Flate,
            b"LZWDecode" | b"LZW" => Self::Lzw,
            b"RunLengthDecode" | b"RL" => Self::RunLength,
            b"ASCII85Decode" | b"A85" => Self::Ascii85,
            b"ASCIIHexDecode" | b"AHx" => Self::AsciiHex,
            b"Crypt" => Self::Crypt,
            b"DCTDecode" | b"DCT" => Self::Jpeg,
            b"CCITTFaxDecode" | b"CCF" | b"JPXDecode" | b"JBIG2Decode" => Self::Picture,
            _ => Self::Unknown,
        }
    }

    pub(super) fn is_picture(self) -> bool {
        matches!(self, Self::Jpeg | Self::Picture)
    }
}

/// The items of an array; any other value is its own only item.
pub(super) fn items(value: &[u8]) -> Result<Vec<&[u8]>, Trouble> {
    let Some(inner) = value.strip_prefix(b"[") else { return Ok(vec![value]) };
    let mut items = Vec::new();
    let mut at = 0;
    loop {
        at = skip_space(inner, at);
        if matches!(inner.get(at), None | Some(b']')) {
            return Ok(items);
        }
        let Some((item, _)) = operand(inner, at) else { return Ok(items) };
        if items.len() >= MOST_ALIKE {
            return Err(Trouble::Ambiguous);
        }
        at = item.end;
        items.extend(inner.get(item));
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters {
    pub(super) predictor: u64,
    pub(super) colors: u64,
    pub(super) bits: u64,
    pub(super) columns: u64,
    pub(super) early: u64,
    pub(super) identity: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { predictor: 1, colors: 1, bits: 8, columns: 1, early: 1, identity: true }
    }
}

impl Parameters {
    pub(super) fn unpredict(&self, data: Vec<u8>) -> Result<Vec<u8>, Trouble> {
        if self.predictor <= 1 {
            return Ok(data);
        }
        let sensible = (1..=64).contains(&self.colors)
            && matches!(self.bits, 1 | 2 | 4 | 8 | 16)
            && (1..1 << 31).contains(&self.columns);
        if !sensible {
            return Err(Trouble::Predictor);
        }
        let pixel = usize::try_from((self.colors * self.bits).div_ceil(8)).map_err(|_| Trouble::Predictor)?;
        let row = (self.colors * self.bits * self.columns).div_ceil(8);
        let row = usize::try_from(row).map_err(|_| Trouble::Predictor)?;
        match (self.predictor, self.bits) {
            (2, 8) => Ok(tiff(data, row, pixel)),
            (10..=15, _) => Ok(png(&data, row, pixel)),
            _ => Err(Trouble::Predictor),
        }
    }
}

/// TIFF predictor 2 with eight bits a component: each is the difference to the one before it in its row.
pub(super) fn tiff(mut data: Vec<u8>, row: usize, pixel: usize) -> Vec<u8> {
    for row in data.chunks_mut(row) {
        for at in pixel..row.len() {
            let left = row.get(at - pixel).copied().unwrap_or(0);
            if let Some(byte) = row.get_mut(at) {
                *byte = byte.wrapping_add(left);
            }
        }
    }
    data
}

/// PNG prediction (ISO/IEC 15948, 9.2): each row is preceded by the number of its filter.
pub(super) fn png(data: &[u8], row: usize, pixel: usize) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(data.len());
    for line in data.chunks(row.saturating_add(1)) {
        let Some((filter, line)) = line.split_first() else { break };
        let start = out.len();
        for (at, byte) in line.iter().enumerate() {
            let before = |back: usize| out.len().checked_sub(back).and_then(|at| out.get(at)).copied().unwrap_or(0);
            let in_row = at >= pixel;
            let left = if in_row { before(pixel) } else { 0 };
            let up = if start >= row { before(row) } else { 0 };
            let corner = if in_row && start >= row { before(row.saturating_add(pixel)) } else { 0 };
            let predicted = match filter {
                1 => left,
                2 => up,
                3 => u16::midpoint(u16::from(left), u16::from(up)) as u8,
                4 => paeth(left, up, corner),
                _ => 0,
            };
            out.push(byte.wrapping_add(predicted));
        }
    }
    out
}

pub(super) fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(up), i16::from(corner));
    let (to_left, to_up, to_corner) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
    if to_left <= to_up && to_left <= to_corner {
        left
    } else if to_up <= to_corner {
        up
    } else {
        corner
    }
}

pub(super) fn room(out: &[u8], more: usize, most: u64) -> Result<(), Trouble> {
    if (out.len() as u64).saturating_add(more as u64) > most { Err(Trouble::TooLarge) } else { Ok(()) }
}

/// As much as can be had: readers show what comes before the damage, too.
pub(super) fn inflate(input: &[u8], most: u64) -> Result<Vec<u8>, Trouble> {
    const STEP: usize = 64 * 1024;
    let mut decoder = Decompress::new(true);
    let mut out = Vec::new();
    loop {
        out.reserve(STEP);
        let (read, had) = (decoder.total_in(), out.len());
        let rest = usize::try_from(read).ok().and_then(|read| input.get(read..)).unwrap_or_default();
        let status = decoder.decompress_vec(rest, &mut out, FlushDecompress::None);
        room(&out, 0, most)?;
        let stuck = out.len() == had && decoder.total_in() == read;
        if stuck || matches!(status, Err(_) | Ok(Status::StreamEnd)) {
            return Ok(out);
        }
    }
}

pub(super) fn lzw(input: &[u8], early: bool, most: u64) -> Result<Vec<u8>, Trouble> {
    const CLEAR: usize = 256;
    const END: usize = 257;
    let early = usize::from(early);
    // Each code of the table is a piece of what came out before: the last piece and the byte behind it.
    let mut table: Vec<(usize, usize)> = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    let mut out: Vec<u8> = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in input {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        let width = match END + 1 + table.len() + early {
            ..512 => 9,
            512..1024 => 10,
            1024..2048 => 11,
            _ => 12,
        };
        if count < width {
            continue;
        }
        count -= width;
        let code = (bits >> count & ((1 << width) - 1)) as usize;
        if code == CLEAR {
            table.clear();
            last = None;
            continue;
        }
        if code == END {
            break;
        }
        if let Some((start, length)) = last
            && table.len() < 4096 - END - 1
        {
            table.push((start, length + 1));
        }
        let at = out.len();
        let length = if code < CLEAR {
            room(&out, 1, most)?;
            out.push(code as u8);
            1
        } else {
            let Some((start, length)) = table.get(code - END - 1).copied() else { break };
            room(&out, length, most)?;
            // It may reach into what it is about to write, by one byte.
            for from in start..start + length {
                let byte = out.get(from).copied().unwrap_or(0);
                out.push(byte);
            }
            length
        };
        last = Some((at, length));
    }
    Ok(out)
}

pub(super) fn run_length(input: &[u8], most: u64) -> Result<Vec<u8>, Trouble> {
    let mut out = Vec::new();
    let mut rest = input;
    while let [length, tail @ ..] = rest {
        let length = usize::from(*length);
        match (length, tail) {
            (..=127, _) => {
                let literal = tail.get(..=length).unwrap_or(tail);
                room(&out, literal.len(), most)?;
                out.extend_from_slice(literal);
                rest = tail.get(literal.len()..).unwrap_or_default();
            }
            (129.., [byte, behind @ ..]) => {
                room(&out, 257 - length, most)?;
                out.resize(out.len() + 257 - length, *byte);
                rest = behind;
            }
            _ => break,
        }
    }
    Ok(out)
}

/// Whether libclamav gives up where readers do not: it wants no marker at the start, and no zero bytes.
pub(super) fn is_odd_ascii85(raw: &[u8]) -> bool {
    let end = memchr::memmem::find(raw, b"~>").unwrap_or(raw.len());
    let body = raw.get(..end).unwrap_or_default();
    body.iter().any(|byte| !matches!(byte, b'!'..=b'u' | b'z' | 9..=13 | b' '))
}

pub(super) fn ascii85(input: &[u8], most: u64) -> Result<Vec<u8>, Trouble> {
    let start = skip_space(input, 0);
    let input = input.get(start..).unwrap_or_default();
    let input = input.strip_prefix(b"<~").unwrap_or(input);
    let mut out = Vec::new();
    let (mut group, mut count) = (0_u64, 0_usize);
    for byte in input {
        match byte {
            b'z' if count == 0 => {
                room(&out, 4, most)?;
                out.extend_from_slice(&[0; 4]);
            }
            b'!'..=b'u' => {
                group = group * 85 + u64::from(byte - b'!');
                count += 1;
                if count == 5 {
                    room(&out, 4, most)?;
                    out.extend_from_slice(&(group as u32).to_be_bytes());
                    (group, count) = (0, 0);
                }
            }
            b'~' => break,
            _ => {}
        }
    }
    if count > 1 {
        for _ in count..5 {
            group = group * 85 + 84;
        }
        room(&out, count - 1, most)?;
        out.extend((group as u32).to_be_bytes().into_iter().take(count - 1));
    }
    Ok(out)
}

pub(super) fn ascii_hex(input: &[u8]) -> Vec<u8> {
    let mut digits = input.iter().take_while(|byte| **byte != b'>').filter_map(|byte| hex(*byte));
    let mut out = Vec::new();
    while let Some(high) = digits.next() {
        out.push(high << 4 | digits.next().unwrap_or(0));
    }
    out
}
