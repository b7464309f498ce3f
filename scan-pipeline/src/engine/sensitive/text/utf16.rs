//! UTF-16 as bytes: characters of ASCII stay what they are, all others and lone surrogates become a byte that is none.

use super::super::lane::Lane;
use super::markup::Markup;

/// What takes the characters of a text.
pub(in super::super) trait Sink {
    /// Takes the byte that stands for a character at a place of the layer, where characters stand `step` apart.
    fn put(&mut self, byte: u8, place: u64, step: u64);
}

impl Sink for Lane {
    fn put(&mut self, byte: u8, place: u64, step: u64) {
        Self::put(self, byte, place, step);
    }
}

impl Sink for Markup {
    fn put(&mut self, byte: u8, place: u64, _step: u64) {
        self.push(byte, place);
    }
}

/// Stands for whatever is not ASCII.
const OTHER: u8 = 0xff;

/// A text that is UTF-16 as a whole, by its byte order mark.
pub(in super::super) struct Wide {
    big: bool,
    /// The first byte of a unit whose second one has not come.
    half: Option<u8>,
    /// Where the next unit begins in the layer.
    place: u64,
}

impl Wide {
    /// The text behind a byte order mark, if one begins the layer.
    pub(in super::super) fn begin(head: &[u8]) -> Option<Self> {
        match head {
            [0xff, 0xfe, ..] => Some(Self { big: false, half: None, place: 0 }),
            [0xfe, 0xff, ..] => Some(Self { big: true, half: None, place: 0 }),
            _ => None,
        }
    }

    /// Takes the next bytes, the mark first, and gives each unit's byte with its place.
    pub(in super::super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(u8, u64)) {
        for byte in bytes {
            let Some(first) = self.half.take() else {
                self.half = Some(*byte);
                continue;
            };
            let unit = if self.big { [first, *byte] } else { [*byte, first] };
            // The mark itself is no text.
            if self.place > 0 {
                each(if unit[0] == 0 && unit[1] < 0x80 { unit[1] } else { OTHER }, self.place);
            }
            self.place += 2;
        }
    }
}

/// Fewest characters of a stretch of UTF-16 in other bytes.
const FEWEST: usize = 8;

/// Stretches of UTF-16 within other bytes, in either order and at any place: characters of ASCII with a zero between
/// each two.
pub(in super::super) struct Stretches<T> {
    to: T,
    /// Whether characters at even places, or at odd ones, are left out, because they are read already.
    but: Option<u64>,
    /// Where the next byte should stand if it followed the last.
    next: u64,
    /// What the last byte was.
    last: Last,
    /// The characters of a stretch that may be too short, and how many there are.
    first: [u8; FEWEST],
    count: usize,
    /// Behind the last character.
    end: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Last {
    Character,
    Zero,
    Neither,
}

impl<T: Sink> Stretches<T> {
    /// All of them but for those in the order of a text that is read as a whole.
    pub(in super::super) fn new(to: T, but: Option<&Wide>) -> Self {
        let but = but.map(|wide| u64::from(wide.big));
        Self { to, but, next: 0, last: Last::Neither, first: [0; FEWEST], count: 0, end: 0 }
    }

    /// Whether a stretch may go on at a place.
    pub(in super::super) fn goes_on(&self, place: u64) -> bool {
        self.next == place && self.count > 1
    }

    /// Takes bytes from a place of the layer; those between may have been left out.
    pub(in super::super) fn push(&mut self, bytes: &[u8], place: u64) {
        if place != self.next {
            self.end();
        }
        let mut i = 0;
        while i < bytes.len() {
            // Nothing of a stretch that is too short is ever seen, so where none goes on the next byte that matters is one
            // with three like those of UTF-16 behind it, or one of the last.
            let goes_on = self.last == Last::Zero || self.last == Last::Character && bytes[i] == 0;
            if !goes_on && self.count < FEWEST {
                self.end();
                let rest = &bytes[i..];
                let is_wide = |four: &[u8]| {
                    let [first, second, third, fourth] = *four else { return false };
                    second | fourth == 0 && first != 0 && third != 0
                };
                i += rest.windows(4).position(is_wide).unwrap_or(rest.len().saturating_sub(3));
            }
            self.byte(bytes[i], place + i as u64);
            i += 1;
        }
        self.next = place + bytes.len() as u64;
    }

    fn byte(&mut self, byte: u8, place: u64) {
        let is_text = matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
        match (byte, self.last) {
            (0, Last::Character) => self.last = Last::Zero,
            _ if is_text && self.but != Some(place % 2) => {
                if self.last != Last::Zero {
                    self.end();
                }
                self.character(byte, place);
                self.last = Last::Character;
            }
            _ => self.end(),
        }
    }

    fn character(&mut self, byte: u8, place: u64) {
        self.end = place + 2;
        if self.count < FEWEST {
            self.first[self.count] = byte;
        }
        self.count += 1;
        if self.count == FEWEST {
            for (i, byte) in self.first.into_iter().enumerate() {
                self.to.put(byte, place - 2 * (FEWEST - 1 - i) as u64, 2);
            }
        } else if self.count > FEWEST {
            self.to.put(byte, place, 2);
        }
    }

    /// Ends a stretch, if there is one.
    fn end(&mut self) {
        if self.count >= FEWEST {
            self.to.put(b'\n', self.end, 1);
        }
        (self.count, self.last) = (0, Last::Neither);
    }

    #[cfg(test)]
    pub(in super::super) fn to(&self) -> &T {
        &self.to
    }

    /// Ends the text, and gives what took its characters.
    pub(in super::super) fn finish(self) -> T {
        self.to
    }
}
