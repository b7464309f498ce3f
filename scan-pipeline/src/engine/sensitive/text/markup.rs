//! XML and HTML as text: what stands between the tags, and what stands in them.
//!
//! Tags that only change how a text looks vanish, so that a number that a word processor spread over several runs is one
//! again; all others end a line. Attributes and comments are a text of their own, in which every tag is a line.

use super::super::lane::Lane;

/// Elements within a line: of HTML, of WordprocessingML and the other parts of OOXML, of OpenDocument. By their names
/// without a prefix; those of other names end the line.
const INLINE: [&str; 96] = [
    "a",
    "abbr",
    "acronym",
    "b",
    "bdi",
    "bdo",
    "big",
    "cite",
    "code",
    "data",
    "del",
    "dfn",
    "em",
    "font",
    "i",
    "ins",
    "kbd",
    "label",
    "mark",
    "q",
    "s",
    "samp",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "time",
    "tt",
    "u",
    "var",
    "wbr", // WordprocessingML, DrawingML, SpreadsheetML: runs and their properties.
    "r",
    "t",
    "rpr",
    "rfonts",
    "bcs",
    "ics",
    "caps",
    "smallcaps",
    "dstrike",
    "outline",
    "shadow",
    "emboss",
    "imprint",
    "noproof",
    "snaptogrid",
    "vanish",
    "webhidden",
    "color",
    "spacing",
    "w",
    "kern",
    "position",
    "sz",
    "szcs",
    "highlight",
    "effect",
    "bdr",
    "shd",
    "fittext",
    "vertalign",
    "rtl",
    "cs",
    "lang",
    "eastasianlayout",
    "specvanish",
    "omath",
    "prooferr",
    "bookmarkstart",
    "bookmarkend",
    "hyperlink",
    "smarttag",
    "sdt",
    "sdtcontent",
    "sdtpr",
    "lastrenderedpagebreak",
    "softhyphen",
    "nobreakhyphen",
    "rfont",
    "family",
    "charset",
    "scheme",
    "condense",
    "extend",
    "latin",
    "ea",
    "sym",
    "solidfill",
    "srgbclr",
    "schemeclr",
    "fldchar",
    "instrtext",
    "rstyle",
    "ln",
];

/// Most bytes of an element's name that are read, and of an entity.
const NAME: usize = 24;
const ENTITY: usize = 10;

#[derive(Clone, Copy, PartialEq)]
enum State {
    Text,
    /// Behind `<`.
    Open,
    /// In a tag's name.
    Name,
    /// Behind it; in quotes, if any.
    Tag(u8),
    /// In a comment, with how much of its end has been seen.
    Comment(u8),
    /// In a CDATA section, likewise.
    Data(u8),
    /// Behind `&`.
    Entity,
}

/// A layer of markup on its way.
pub(in super::super) struct Markup {
    state: State,
    /// What stands between the tags, and what stands in them.
    text: Lane,
    tags: Lane,
    /// A name or an entity as far as it has come.
    word: [u8; NAME],
    length: usize,
    /// Where the `<` or the `&` stands.
    begin: u64,
    /// How far apart bytes stand in the layer.
    step: u64,
}

impl Markup {
    pub(in super::super) fn new(text: Lane, tags: Lane, step: u64) -> Self {
        Self { state: State::Text, text, tags, word: [0; NAME], length: 0, begin: 0, step }
    }

    /// Takes the byte at a place of the layer.
    pub(in super::super) fn push(&mut self, byte: u8, place: u64) {
        match self.state {
            State::Text => match byte {
                b'<' => (self.state, self.begin) = (State::Open, place),
                b'&' => (self.state, self.begin, self.length) = (State::Entity, place, 0),
                _ => self.text.put(byte, place, self.step),
            },
            State::Open => {
                if byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?') {
                    (self.state, self.length) = (State::Name, 0);
                    self.name(byte, place);
                } else {
                    // No tag: "a < b".
                    self.text.put(b'<', self.begin, self.step);
                    self.state = State::Text;
                    self.push(byte, place);
                }
            }
            State::Name => self.name(byte, place),
            State::Tag(quote) => match byte {
                b'>' if quote == 0 => self.end(place),
                b'"' | b'\'' => {
                    self.state = State::Tag(if quote == 0 {
                        byte
                    } else if quote == byte {
                        0
                    } else {
                        quote
                    });
                    self.tags.put(byte, place, self.step);
                }
                _ => self.tags.put(byte, place, self.step),
            },
            State::Comment(seen) => {
                self.tags.put(byte, place, self.step);
                self.state = match (byte, seen) {
                    (b'-', 0 | 1) => State::Comment(seen + 1),
                    (b'-', _) => State::Comment(2),
                    (b'>', 2) => {
                        self.tags.put(b'\n', place, 0);
                        State::Text
                    }
                    _ => State::Comment(0),
                };
            }
            State::Data(seen) => {
                self.state = match (byte, seen) {
                    (b']', 0 | 1) => State::Data(seen + 1),
                    (b']', _) => State::Data(2),
                    (b'>', 2) => State::Text,
                    _ => State::Data(0),
                };
                if self.state == State::Data(0) {
                    self.text.put(byte, place, self.step);
                }
            }
            State::Entity => self.entity(byte, place),
        }
    }

    /// A byte of a tag's name, or the one behind it.
    fn name(&mut self, byte: u8, place: u64) {
        if byte == b'>' {
            return self.end(place);
        }
        self.tags.put(byte, place, self.step);
        if byte <= b' ' || matches!(byte, b'"' | b'\'') {
            self.state = State::Tag(if byte <= b' ' { 0 } else { byte });
            return;
        }
        if self.length < NAME {
            self.word[self.length] = byte;
        }
        self.length += 1;
        match &self.word[..self.length.min(NAME)] {
            b"!--" => self.state = State::Comment(0),
            b"![CDATA[" => self.state = State::Data(0),
            _ => {}
        }
    }

    /// The `>` of a tag.
    fn end(&mut self, place: u64) {
        self.tags.put(b'\n', place, 0);
        if !is_inline(&self.word[..self.length.min(NAME)]) {
            self.text.put(b'\n', place, 0);
        }
        self.state = State::Text;
    }

    fn entity(&mut self, byte: u8, place: u64) {
        if byte == b';' {
            self.state = State::Text;
            match character(&self.word[..self.length]) {
                Some(character) => self.text.put(character, self.begin, self.step),
                None => {
                    self.literally();
                    self.text.put(byte, place, self.step);
                }
            }
        } else if self.length < ENTITY && (byte.is_ascii_alphanumeric() || byte == b'#') {
            self.word[self.length] = byte;
            self.length += 1;
        } else {
            self.state = State::Text;
            self.literally();
            self.push(byte, place);
        }
    }

    /// What began like an entity and is none.
    fn literally(&mut self) {
        self.text.put(b'&', self.begin, self.step);
        for i in 0..self.length {
            self.text.put(self.word[i], self.begin + (i as u64 + 1) * self.step, self.step);
        }
    }

    #[cfg(test)]
    pub(in super::super) fn held(&self) -> usize {
        self.text.held() + self.tags.held()
    }

    /// Ends the layer, and gives both texts.
    pub(in super::super) fn finish(mut self) -> [Lane; 2] {
        match self.state {
            State::Open => self.text.put(b'<', self.begin, self.step),
            State::Entity => self.literally(),
            _ => {}
        }
        [self.text, self.tags]
    }
}

/// Whether a tag, given from behind its `<` on, stands within a line.
fn is_inline(tag: &[u8]) -> bool {
    let name = tag.strip_prefix(b"/").unwrap_or(tag);
    let name = name.split(|byte| *byte == b'/').next().unwrap_or_default();
    let name = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
    INLINE.iter().any(|inline| inline.as_bytes().eq_ignore_ascii_case(name))
}

/// The byte that an entity stands for; what is not ASCII is one that stands for nothing.
fn character(name: &[u8]) -> Option<u8> {
    let number = |digits: &[u8], base| u32::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok();
    let code = match name {
        b"amp" => return Some(b'&'),
        b"lt" => return Some(b'<'),
        b"gt" => return Some(b'>'),
        b"quot" => return Some(b'"'),
        b"apos" => return Some(b'\''),
        b"nbsp" => return Some(b' '),
        b"commat" => return Some(b'@'),
        b"period" => return Some(b'.'),
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16)?,
        [b'#', digits @ ..] => number(digits, 10)?,
        _ => return None,
    };
    Some(match code {
        160 => b' ',
        0..=127 => code as u8,
        _ => 0xff,
    })
}

/// Whether a layer is markup, by the engine's name of its type, its own name and how it begins.
pub(in super::super) fn is_markup(file_type: &str, path: &str, bytes: &[u8]) -> bool {
    let ending = |ending: &str| {
        path.len() >= ending.len()
            && path.as_bytes()[path.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes())
    };
    // Containers of OOXML have XML in their type's name and none in their bytes.
    let typed = !file_type.contains("OOXML") && (file_type.contains("HTML") || file_type.contains("XML"));
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    // Of UTF-16, every other byte.
    let narrow: Vec<u8> = bytes.iter().take(128).copied().filter(|byte| !matches!(byte, 0 | 0xfe | 0xff)).collect();
    let wide = bytes.iter().take(8).any(|byte| *byte == 0);
    let bytes = if wide { narrow.trim_ascii_start() } else { bytes };
    let begins = |mark: &str| bytes.get(..mark.len()).is_some_and(|head| head.eq_ignore_ascii_case(mark.as_bytes()));
    let named = [".xml", ".html", ".htm", ".xhtml", ".rels", ".svg"].into_iter().any(ending);
    begins("<?xml") || begins("<!doctype html") || begins("<html") || (typed || named) && !bytes.starts_with(b"PK")
}
