//! One text of a layer on its way through the detectors.

use std::collections::VecDeque;
use std::sync::Arc;

use super::header::{self, Header};
use super::look::{Raw, Source};
use super::pass::{CHUNK, EDGE, KEPT, Scratch, Text, matches};
use super::{Inner, mask};
use crate::model::Finding;

/// Where the bytes of a text stand in the layer.
enum Map {
    /// Where they stand in the text.
    Same,
    /// In pieces.
    Pieces(VecDeque<Piece>),
}

/// How much of a text in pieces is looked at together: every byte of it can be a piece, and be larger than itself.
const PIECEMEAL: usize = (4 << 10) - 2 * EDGE;

/// Bytes of a text that stand in the layer in the same order, each so many bytes behind the one before.
#[derive(Clone, Copy)]
struct Piece {
    /// Where it begins in the text, by its lowest bits: a lane never holds as much as they tell apart.
    text: u32,
    /// Where it begins in the layer, above two bits with the step.
    layer: [u32; 2],
}

impl Piece {
    fn new(text: u64, layer: u64, step: u64) -> Self {
        let layer = layer << 2 | step & 3;
        Self { text: text as u32, layer: [layer as u32, (layer >> 32) as u32] }
    }

    fn step(self) -> u64 {
        u64::from(self.layer[0] & 3)
    }

    /// How far a place of the text, no less than `base`, is behind the beginning of the piece, or before it.
    fn distance(self, text: u64) -> i64 {
        i64::from((text as u32).wrapping_sub(self.text).cast_signed())
    }

    fn place(self, text: u64) -> u64 {
        let layer = u64::from(self.layer[1]) << 30 | u64::from(self.layer[0] >> 2);
        layer.wrapping_add_signed(self.distance(text) * self.step().cast_signed())
    }
}

/// A text, of which the part is kept that the next matches may need.
pub(super) struct Lane {
    inner: Arc<Inner>,
    path: Arc<str>,
    /// The layer is what was scanned, not unpacked from it.
    outer: bool,
    map: Map,
    /// How much is looked at together.
    chunk: usize,
    buffer: Vec<u8>,
    /// Where the buffer begins in the text.
    base: u64,
    /// How much of the buffer was looked at.
    done: usize,
    header: Option<Header>,
    scratch: Scratch,
    found: Vec<Finding>,
    count: u64,
}

impl Lane {
    /// A text that is the layer.
    pub(super) fn same(inner: &Arc<Inner>, path: &Arc<str>, outer: bool) -> Self {
        Self {
            inner: Arc::clone(inner),
            path: Arc::clone(path),
            outer,
            map: Map::Same,
            chunk: CHUNK,
            buffer: Vec::new(),
            base: 0,
            done: 0,
            header: None,
            scratch: Scratch::default(),
            found: Vec::new(),
            count: 0,
        }
    }

    /// A text that is taken from the layer in pieces.
    pub(super) fn pieces(inner: &Arc<Inner>, path: &Arc<str>, outer: bool) -> Self {
        Self { map: Map::Pieces(VecDeque::new()), chunk: PIECEMEAL, ..Self::same(inner, path, outer) }
    }

    /// Takes bytes that follow in the layer. Calls `each` for each stretch that was looked at, with whether it or what
    /// is next to it may hold UTF-16, and with its place.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut impl FnMut(&[u8], bool, u64)) {
        for part in bytes.chunks(self.chunk) {
            self.buffer.extend_from_slice(part);
            self.advance(false, each);
        }
    }

    /// Takes a byte that stands at a place of the layer, where bytes stand `step` apart.
    pub(super) fn put(&mut self, byte: u8, place: u64, step: u64) {
        let text = self.base + self.buffer.len() as u64;
        if let Map::Pieces(pieces) = &mut self.map
            && pieces.back().is_none_or(|last| last.step() != step || last.place(text) != place)
        {
            pieces.push_back(Piece::new(text, place, step));
        }
        self.buffer.push(byte);
        if self.buffer.len() >= self.done + self.chunk + KEPT {
            self.advance(false, &mut |_, _, _| {});
        }
    }

    /// Looks at what is complete, or at all that is left.
    fn advance(&mut self, last: bool, each: &mut impl FnMut(&[u8], bool, u64)) {
        let text = std::mem::take(&mut self.buffer);
        let to = if last { text.len() } else { text.len().saturating_sub(KEPT) };
        self.done = self.look(&text, self.base, self.done, to, last, each);
        self.buffer = text;
        let over = self.done.saturating_sub(KEPT);
        if over >= self.chunk {
            self.buffer.drain(..over);
            (self.base, self.done) = (self.base + over as u64, self.done - over);
            if let Map::Pieces(pieces) = &mut self.map {
                while pieces.get(1).is_some_and(|next| next.distance(self.base) >= 0) {
                    pieces.pop_front();
                }
            }
        }
    }

    /// Looks at a text that is there as a whole.
    pub(super) fn whole(&mut self, text: &[u8], each: &mut impl FnMut(&[u8], bool, u64)) {
        self.look(text, 0, 0, text.len(), true, each);
    }

    /// Looks at all stretches between two places, and says how far it came. Stretches end at the same places of a text
    /// however it comes.
    fn look(
        &mut self,
        text: &[u8],
        base: u64,
        from: usize,
        to: usize,
        last: bool,
        each: &mut impl FnMut(&[u8], bool, u64),
    ) -> usize {
        let mut from = from;
        while from < to {
            let size = self.chunk - ((base + from as u64) % self.chunk as u64) as usize;
            let end = if last { to.min(from + size) } else { from + size };
            if end > to {
                break;
            }
            if base == 0 && from == 0 {
                self.header = Header::read(&text[..text.len().min(header::SIGHT)]);
            }
            let header = self.header.take();
            let mut scratch = std::mem::take(&mut self.scratch);
            let part = Text { bytes: text, base, header: header.as_ref() };
            let room = self.inner.max_findings.saturating_sub(self.found.len());
            let seen = matches(&self.inner, part, from, end, room, &mut scratch);
            for raw in &scratch.raws {
                self.found(raw, text, base);
            }
            self.count += seen.more;
            (self.header, self.scratch) = (header, scratch);
            each(&text[from..end], seen.wide, base + from as u64);
            from = end;
        }
        from
    }

    /// Counts a match, and keeps it as a finding if there is room.
    fn found(&mut self, raw: &Raw, text: &[u8], base: u64) {
        self.count += 1;
        if self.found.len() >= self.inner.max_findings {
            return;
        }
        let bytes = &text[raw.start..raw.end];
        let name = match raw.source {
            Source::Ours(detector) => detector.as_str(),
            Source::Own(number) => &self.inner.custom[number as usize].name,
        };
        let shown = mask::shown(raw.source, bytes);
        let (start, end) = (base + raw.start as u64, base + raw.end as u64);
        let (byte_offset, exact) = self.place(start, end);
        let finding = Finding {
            detector: String::from(name),
            context: mask::context(&self.inner, text, raw.start, raw.end, &shown),
            masked_match: shown,
            layer_path: String::from(&*self.path),
            byte_offset,
            raw_offset: (exact && self.outer).then_some(byte_offset),
            confidence: raw.confidence,
            tags: raw.words(),
            fingerprint: self.inner.key.fingerprint(raw.source, name, bytes),
        };
        self.found.push(finding);
    }

    /// Where a match begins in the layer, and whether it stands there in one piece.
    fn place(&self, start: u64, end: u64) -> (u64, bool) {
        match &self.map {
            Map::Same => (start, true),
            Map::Pieces(pieces) => {
                let number = |text: u64| pieces.partition_point(|piece| piece.distance(text) >= 0).saturating_sub(1);
                let first = number(start);
                let place = pieces.get(first).map_or(0, |piece| piece.place(start));
                (place, first == number(end - 1))
            }
        }
    }

    /// How many bytes of memory the text takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let pieces = if let Map::Pieces(pieces) = &self.map { pieces.capacity() * size_of::<Piece>() } else { 0 };
        self.buffer.capacity() + pieces + self.scratch.held()
    }

    /// Looks at what is left and gives what was found, and how much there was.
    pub(super) fn finish(&mut self, each: &mut impl FnMut(&[u8], bool, u64)) -> (Vec<Finding>, u64) {
        self.advance(true, each);
        (std::mem::take(&mut self.found), std::mem::take(&mut self.count))
    }
}
