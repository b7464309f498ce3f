//! What must hold for every text, for the tests and the fuzzer.

use std::sync::OnceLock;

use super::header::{self, Header};
use super::kinds::Detector;
use super::look::{Raw, Source};
use super::oracle::{self, Match};
use super::pass::{CHUNK, Scratch, Text, matches};
use super::{CustomPattern, Detectors, Findings, Form, Instructions};

/// The matches in a text no longer than a chunk.
pub(super) fn raws(detectors: &Detectors, text: &[u8]) -> Vec<Raw> {
    assert!(text.len() <= CHUNK, "longer than a chunk");
    let header = Header::read(&text[..text.len().min(header::SIGHT)]);
    let whole = Text { bytes: text, base: 0, header: header.as_ref() };
    let mut scratch = Scratch::default();
    matches(&detectors.0, whole, 0, text.len(), usize::MAX, &mut scratch);
    scratch.raws
}

/// What detectors find, as the oracle says it.
pub(super) fn by_rules(detectors: &Detectors, text: &[u8]) -> Vec<Match> {
    raws(detectors, text)
        .iter()
        .map(|raw| {
            let Source::Ours(detector) = raw.source else { unreachable!("no patterns were given") };
            Match { start: raw.start, end: raw.end, detector, confidence: raw.confidence, tags: raw.words() }
        })
        .collect()
}

/// Settings that are compared: all detectors with nothing left out and as they are by default, and each of them by
/// itself, because rules take short cuts where what they would give is not wanted.
struct Setting {
    wanted: Vec<Detector>,
    least: f64,
    /// A variant of the kernel each.
    detectors: Vec<(Instructions, Detectors)>,
}

impl Setting {
    fn new(wanted: &[Detector], least: f64) -> Self {
        let with = |instructions| {
            let builder = Detectors::builder().detect_all(wanted.iter().copied()).min_confidence(least);
            let builder = builder.fingerprint_key([7; 32]).instructions(instructions);
            (instructions, builder.build().expect("the machine has the instructions"))
        };
        Self { wanted: wanted.to_vec(), least, detectors: Instructions::available().into_iter().map(with).collect() }
    }

    fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Setting>> = OnceLock::new();
        ALL.get_or_init(|| {
            let single = Detector::ALL.iter().map(|one| Self::new(&[*one], 0.5));
            [0.0, 0.5].map(|least| Self::new(&Detector::ALL, least)).into_iter().chain(single).collect()
        })
    }
}

/// Every variant of the kernel finds what the oracle finds, in a text no longer than a chunk, in every setting.
///
/// # Panics
///
/// When one does not.
pub fn against_the_oracle(text: &[u8]) {
    let all = oracle::all(text);
    for Setting { wanted, least, detectors } in Setting::all() {
        let candidates = all.iter().filter(|one| wanted.contains(&one.detector) && one.confidence >= *least);
        let expected = oracle::settled(&candidates.cloned().collect::<Vec<_>>());
        for (instructions, detectors) in detectors {
            let found = by_rules(detectors, text);
            assert_eq!(found, expected, "{instructions}, {wanted:?} from {least}: {}", text.escape_ascii());
        }
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
