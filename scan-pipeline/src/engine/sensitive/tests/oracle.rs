//! Kernel and rules against their plain counterparts.

use proptest::prelude::*;

use super::super::Instructions;
use super::super::check::{against_the_oracle, by_rules};
use super::super::kernel::{Candidate, Kind, candidates};
use super::cases;
use super::texts::{any_text, confusing};

/// The definition of a candidate, byte by byte.
fn plain(text: &[u8], from: usize, to: usize) -> Vec<Candidate> {
    let at = |place: isize| usize::try_from(place).ok().and_then(|place| text.get(place)).copied().unwrap_or(0);
    let digit = |place: isize| at(place).is_ascii_digit();
    let separator = |place: isize| b" ().-/".contains(&at(place));
    let mut all = Vec::new();
    for place in from..to {
        let i = place as isize;
        let fold = |by: isize| at(i + by).to_ascii_lowercase();
        let fourth = (0..4).all(|by| digit(i - by)) && !digit(i - 4);
        let two = |end: isize| digit(end) && digit(end - 1);
        let kind = if fourth && separator(i - 4) && (two(i - 5) || separator(i - 5) && two(i - 6)) {
            Kind::Pair
        } else if (0..9).all(|by| digit(i - by)) && !digit(i - 9) {
            Kind::Run
        } else if at(i) == b'@' {
            Kind::At
        } else if at(i) == b'A' && at(i + 3) == b'A' {
            Kind::Key
        } else if fold(0) == b's' && fold(2) == b'c' && fold(5) == b't' {
            Kind::Secret
        } else {
            continue;
        };
        all.push(Candidate::new(place - from, kind));
    }
    all
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_variant_of_the_kernel_gives_the_candidates(text in any_text(), cut in (0..1000_usize, 0..1000_usize)) {
        let (one, other) = (cut.0.min(text.len()), cut.1.min(text.len()));
        let (from, to) = (one.min(other), one.max(other));
        let expected = plain(&text, from, to);
        for instructions in Instructions::available() {
            let mut all = Vec::new();
            candidates(instructions, &text, from, to, &mut all);
            prop_assert_eq!(&all, &expected, "{}", instructions);
        }
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
    for _ in 0..300 {
        let text = confusing().new_tree(&mut runner).expect("a text").current();
        for found in by_rules(Instructions::best(), &text) {
            *seen.entry(found.detector).or_insert(0) += 1;
        }
    }
    assert!(seen.len() == 6 && seen.values().all(|count| *count > 10), "{seen:?}");
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
