//! What comes in pieces gives what it gives as a whole: however it is cut, in whatever form.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::check::{everything, in_pieces};
use super::super::{Detectors, Form};
use super::cases;
use super::texts::{PIECES, any_text};

fn wide(text: &[u8], big: bool, mark: bool) -> Vec<u8> {
    let mark = if mark { &[0xfe, 0xff][..] } else { &[] };
    let both = |pair: [u8; 2]| if big { pair } else { [pair[1], pair[0]] };
    let units = text.iter().map(|byte| [0, *byte]);
    mark.chunks(2).map(|mark| [mark[0], mark[1]]).chain(units).flat_map(both).collect()
}

/// A text of several chunks, of pieces in an order that a seed makes.
fn long(seed: u64, size: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(size + 64);
    let mut state = seed | 1;
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Mostly filling, so that a megabyte does not hold a hundred thousand findings.
        let piece = PIECES[(state >> 20) as usize % PIECES.len()];
        text.extend_from_slice(if state.is_multiple_of(16) { piece.as_bytes() } else { b" and so on, for a while " });
    }
    text
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn short_texts_in_any_pieces(text in any_text(), sizes in vec(1..40_usize, 1..20), form in 0..4_u8) {
        let (form, text) = match form {
            0 => (Form::Plain, text),
            1 => (Form::Markup, text),
            2 => (Form::Plain, wide(&text, text.len() % 2 == 0, text.len() % 3 == 0)),
            _ => (Form::Markup, wide(&text, text.len() % 2 == 0, text.len() % 3 == 0)),
        };
        let (mut pieces, mut rest) = (Vec::new(), &text[..]);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(in_pieces(form, pieces), everything().find_as(form, "layer", &text));
    }
}

#[test]
fn every_single_cut_of_a_text() {
    let text = PIECES.join(" ");
    let whole = everything().find_as(Form::Plain, "layer", text.as_bytes());
    assert!(whole.list.len() > 40);
    for cut in 0..=text.len() {
        let (one, other) = text.as_bytes().split_at(cut);
        assert_eq!(in_pieces(Form::Plain, [one, other]), whole, "cut at {cut}");
    }
    assert_eq!(in_pieces(Form::Plain, text.as_bytes().chunks(1)), whole, "byte by byte");
}

#[test]
fn long_texts_in_pieces_of_each_size() {
    for (seed, size) in [(1, 300 << 10), (2, (64 << 10) + 5), (3, 1 << 20)] {
        let text = long(seed, size);
        let forms = [
            (Form::Plain, text.clone()),
            (Form::Markup, text.clone()),
            (Form::Plain, wide(&text[..size / 3], seed == 1, seed == 2)),
        ];
        for (form, text) in forms {
            let whole = everything().find_as(form, "layer", &text);
            assert!(whole.list.len() > 15, "{}", whole.list.len());
            for piece in [1, 7, 4096, 65_536, 65_537, 262_144, 1 << 20] {
                if piece == 1 && seed == 3 {
                    continue;
                }
                let pieces = in_pieces(form, text.chunks(piece));
                assert!(pieces == whole, "{form:?}, seed {seed}, pieces of {piece}");
            }
        }
    }
}

#[test]
fn the_whole_of_a_long_text_is_its_parts() {
    // Far enough from each other, matches are those of each part alone.
    let part = PIECES.join(" ");
    let detectors = everything();
    let expected = detectors.find_as(Form::Plain, "layer", format!("{}\n{part}\n", " ".repeat(9000)).as_bytes());
    for filling in [60_000, 65_300, 65_536, 131_000] {
        let text = format!("{}\n{part}\n{}", " ".repeat(filling), " ".repeat(70_000));
        let found = detectors.find_as(Form::Plain, "layer", text.as_bytes());
        assert_eq!(found.list.len(), expected.list.len(), "behind {filling} bytes");
        for (one, other) in found.list.iter().zip(&expected.list) {
            assert_eq!(one.byte_offset - filling as u64, other.byte_offset - 9000);
            assert_eq!((&one.detector, &one.context), (&other.detector, &other.context));
        }
    }
}

#[test]
fn no_more_than_the_limit_is_kept_and_all_are_counted() {
    let text = "write to a@example.com\n".repeat(10_000);
    let detectors = Detectors::builder().first_tier().max_findings(7).build().expect("built");
    let found = detectors.find_as(Form::Plain, "layer", text.as_bytes());
    assert_eq!((found.list.len(), found.omitted), (7, 9_993));
    assert_eq!(found.list[6].byte_offset, 6 * 23 + 9, "the first ones");
    let mut stream = detectors.stream("layer");
    text.as_bytes().chunks(1000).for_each(|piece| stream.push(piece));
    assert_eq!(stream.finish_counted(), found);
}
