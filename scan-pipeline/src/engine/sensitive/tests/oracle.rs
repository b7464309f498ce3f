//! Kernel and rules against their plain counterparts.

use proptest::prelude::*;

use super::super::check::{against_the_oracle, by_rules};
use super::super::kernel::{Found, Kind, Triples, candidates};
use super::super::{Detectors, Instructions};
use super::texts::{any_text, confusing};
use super::{Detector, cases};

/// The definition of a candidate, byte by byte.
fn is_candidate(kind: Kind, text: &[u8], place: usize) -> bool {
    let at = |by: isize| text.get((place as isize + by) as usize).copied().unwrap_or(b'\n');
    let digits = |from: isize, to: isize| (from..=to).all(|by| at(by).is_ascii_digit());
    let row = |size: isize| digits(-8, size - 9) && !digits(-9, -9) && !digits(size - 8, size - 8);
    let word = |by| at(by).is_ascii_alphanumeric() || at(by) == b'_';
    let is = |by, bytes: &[u8]| bytes.contains(&at(by));
    let group = digits(-3, 0) && !digits(-4, -4);
    let (four, seven) = (group && !digits(1, 1), group && digits(1, 3) && !digits(4, 4));
    let (separator, bracket) = (|by| is(by, b" -./"), |by| is(by, b")"));
    match kind {
        Kind::Card => group && separator(-4) && digits(-8, -5),
        Kind::Ssn => four && separator(-4) && digits(-6, -5) && separator(-7) && digits(-10, -8),
        Kind::Phone => {
            let three = digits(-7, -5) && is(-8, b" -./)") && (bracket(-8) || bracket(-9) || digits(-11, -9));
            let middle = digits(-8, -5) && (bracket(-9) || bracket(-10));
            let area = bracket(-4) || separator(-4) && (bracket(-5) || digits(-7, -5));
            four && separator(-4) && (three || middle) || seven && area
        }
        Kind::Nine => row(9) && !word(-9),
        Kind::Ten => (row(10) && at(-8) >= b'2' || row(11) && at(-8) < b'2') && !word(-9),
        Kind::Long => digits(-8, 3) && !digits(-9, -9) && !word(-9),
        Kind::At => at(0) == b'@' && at(-1).is_ascii_graphic() && word(1),
        Kind::Key => at(0) == b'A' && at(3) == b'A',
        Kind::Secret => [(0, b's'), (2, b'c'), (3, b'r')].iter().all(|(by, letter)| at(*by) | 0x20 == *letter),
    }
}

/// What each variant of the kernel says between two places is what the definition says.
fn against_the_definition(text: &[u8], from: usize, to: usize) {
    // Used before, as it is from the second stretch of a text on.
    let mut found = Found::default();
    for instructions in Instructions::available() {
        candidates(instructions, text, from, to, &mut found);
        for kind in Kind::ALL {
            let places = (from..to).filter(|place| is_candidate(kind, text, *place));
            let expected: Vec<u32> = places.map(|place| (place - from) as u32).collect();
            assert_eq!(found.of(kind), &expected, "{kind:?} by {instructions}");
        }
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_variant_of_the_kernel_gives_the_candidates(text in any_text(), cut in (0..1000_usize, 0..1000_usize)) {
        let (one, other) = (cut.0.min(text.len()), cut.1.min(text.len()));
        against_the_definition(&text, one.min(other), one.max(other));
    }

    /// The kernel goes in pieces of 4 KiB.
    #[test]
    fn also_where_its_pieces_meet(
        text in confusing(), from in 0..70_usize, into in 0..100_usize, behind in prop::option::of(0..100_usize),
    ) {
        let mut all = vec![b'x'; (from + 4096).saturating_sub(into)];
        all.extend_from_slice(&text);
        let to = behind.map_or(all.len(), |behind| all.len().min(from + 4096 + behind));
        against_the_definition(&all, from, to);
    }

    #[test]
    fn the_detectors_find_what_the_oracle_finds(text in any_text()) {
        against_the_oracle(&text);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// Long enough for many blocks.
    #[test]
    fn and_in_longer_texts(texts in proptest::collection::vec(confusing(), 1..12)) {
        against_the_oracle(&texts.concat());
    }
}

/// The texts above are worth something only if they hold matches of every kind.
#[test]
fn the_texts_hold_matches() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::new();
    let detectors = Detectors::builder().all().min_confidence(0.0).build().expect("detectors");
    for _ in 0..600 {
        let text = confusing().new_tree(&mut runner).expect("a text").current();
        for found in by_rules(&detectors, &text) {
            *seen.entry(found.detector).or_insert(0) += 1;
        }
    }
    assert!(seen.len() == Detector::ALL.len() && seen.values().all(|count| *count > 10), "{seen:?}");
}

/// The words of a topic that begin at the beginning of a text are found whatever follows.
#[test]
fn every_variant_finds_how_words_begin() {
    const WORDS: Triples = Triples::NONE.with(0, b"card", true).with(1, b"cc", true).with(10, b"PWD", false);
    let plain = |bytes: &[u8]| {
        let lower = bytes.to_ascii_lowercase();
        lower.starts_with(b"car") || lower.starts_with(b"cc") || bytes.starts_with(b"PWD")
    };
    let mut text: Vec<u8> = (0..=255).flat_map(|byte| [b'c', b'C', byte]).collect();
    text.extend_from_slice(b"card cardigan CARD pwd PWD PwD pW Pcr c cc");
    for instructions in Instructions::available() {
        for place in 0..text.len() {
            let found = WORDS.at(instructions, &text, place);
            for by in 0..64.min(text.len() - place) {
                let begins = found >> by & 1 == 1;
                // More may be said to begin one, but nothing less.
                assert!(begins || !plain(&text[place + by..]), "{instructions}: {by} from {place} on");
                assert_eq!(begins, WORDS.at(Instructions::Portable, &text, place) >> by & 1 == 1);
            }
        }
        assert_eq!(WORDS.at(instructions, b"PWd", 0), 0, "in the case that it is given in");
    }
}

#[test]
fn variants_of_this_machine() {
    let available = Instructions::available();
    assert!(available.contains(&Instructions::Portable) && available.contains(&Instructions::best()));
    eprintln!("variants of the kernel on this machine: {available:?}");
}

#[test]
fn texts_of_one_kind_of_byte() {
    for byte in [b'0', b'4', b'@', b'A', b' ', b'-', b'.', b's', 0, 0xff] {
        for length in [0, 1, 63, 64, 65, 127, 200] {
            against_the_oracle(&vec![byte; length]);
        }
    }
}
