//! What must hold for every text, for the tests and the fuzzer.

use super::header::{self, Header};
use super::look::{Raw, Source};
use super::oracle::{self, Match};
use super::pass::{CHUNK, Scratch, Text, matches};
use super::{CustomPattern, Detectors, Findings, Form, Instructions};

/// The matches in a text no longer than a chunk.
pub(super) fn raws(detectors: &Detectors, text: &[u8]) -> Vec<Raw> {
    assert!(text.len() <= CHUNK, "longer than a chunk");
    let header = Header::read(&text[..text.len().min(header::MOST)]);
    let whole = Text { bytes: text, base: 0, header: header.as_ref() };
    let mut scratch = Scratch::default();
    matches(&detectors.0, whole, 0, text.len(), &mut scratch);
    scratch.raws
}

/// What the detectors find by a variant of the kernel, with nothing left out.
///
/// # Panics
///
/// When the machine lacks the instructions.
pub(super) fn by_rules(instructions: Instructions, text: &[u8]) -> Vec<Match> {
    let builder = Detectors::builder().all().min_confidence(0.0).fingerprint_key([7; 32]);
    let detectors = builder.instructions(instructions).build().expect("the machine has the instructions");
    raws(&detectors, text)
        .iter()
        .map(|raw| {
            let Source::Ours(detector) = raw.source else { unreachable!("no patterns were given") };
            let mut tags: Vec<String> = raw.tags.iter().flatten().map(|tag| String::from(*tag)).collect();
            tags.extend(raw.account.map(|account| format!("account:{account:012}")));
            Match { start: raw.start, end: raw.end, detector, confidence: raw.confidence, tags }
        })
        .collect()
}

/// Every variant of the kernel finds what the oracle finds, in a text of up to 64 KiB.
///
/// # Panics
///
/// When one does not.
pub fn against_the_oracle(text: &[u8]) {
    let expected = oracle::find(text);
    for instructions in Instructions::available() {
        assert_eq!(by_rules(instructions, text), expected, "{instructions}: {}", text.escape_ascii());
    }
}

/// Detectors of both tiers and patterns of both kinds, with nothing left out.
pub(super) fn everything() -> Detectors {
    let own = CustomPattern::new("own", "[0-9]{3}[a-z]{0,2}").keyword("card").keyword("é");
    let other = CustomPattern::new("other", r"\bA[^\n]{2,30}").prefix("A");
    let builder = Detectors::builder().all().custom(own).custom(other).min_confidence(0.0);
    builder.fingerprint_key([7; 32]).build().expect("the patterns are good")
}

/// What is found in pieces.
pub(super) fn in_pieces<'t>(form: Form, pieces: impl IntoIterator<Item = &'t [u8]>) -> Findings {
    let mut stream = everything().stream_as(form, "layer");
    pieces.into_iter().for_each(|piece| stream.push(piece));
    stream.finish_counted()
}

/// A text that is cut in two, and into pieces of one size, gives what it gives as a whole.
///
/// # Panics
///
/// When it does not.
pub fn in_pieces_as_a_whole(form: Form, text: &[u8], cut: usize) {
    let whole = everything().find_as(form, "layer", text);
    let (one, other) = text.split_at(cut.min(text.len()));
    assert_eq!(in_pieces(form, [one, other]), whole, "cut at {cut}: {}", text.escape_ascii());
    assert_eq!(
        in_pieces(form, text.chunks(cut % 97 + 1)),
        whole,
        "pieces of {}: {}",
        cut % 97 + 1,
        text.escape_ascii()
    );
}
