//! One look at a stretch of text: candidates from the kernel, matches by the rules, and what becomes of matches that
//! overlap.

use super::header::Header;
use super::kernel::{self, Candidate, Kind};
use super::keyword::{Near, Topic};
use super::kinds::Detector;
use super::look::{Raw, Source, before, digits_before, digits_from, is_word};
use super::{Inner, aws, card, email, phone, ssn};

/// How far a match can lie from its candidate, and how far from a match one that overlaps it can begin.
const EDGE: usize = 256;
/// How much is looked at before the rules are asked, so that they find it in the cache.
pub(super) const CHUNK: usize = 64 << 10;
/// How much of a text has to be there before and behind what is decided, unless the text begins or ends.
pub(super) const KEPT: usize = 8 << 10;

/// A text, or the part of one that is in memory.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the part begins in the text.
    pub(super) base: u64,
    pub(super) header: Option<&'a Header>,
}

/// Memory that one look needs, for the next one to use again.
#[derive(Default)]
pub(super) struct Scratch {
    candidates: Vec<Candidate>,
    /// What was found.
    pub(super) raws: Vec<Raw>,
}

#[cfg(test)]
impl Scratch {
    pub(super) fn held(&self) -> usize {
        self.candidates.capacity() * size_of::<Candidate>() + self.raws.capacity() * size_of::<Raw>()
    }
}

/// Puts the matches that begin between two places, no further apart than [`CHUNK`], into the scratch, in order. Says
/// whether there, or next to it, may be UTF-16.
pub(super) fn matches(inner: &Inner, text: Text<'_>, from: usize, to: usize, scratch: &mut Scratch) -> bool {
    let Scratch { candidates, raws } = scratch;
    let (first, last) = (from.saturating_sub(EDGE), text.bytes.len().min(to + EDGE));
    candidates.clear();
    raws.clear();
    let wide = kernel::candidates(inner.instructions, text.bytes, first, last, candidates);
    let mut near = Near::new(text.bytes, first, last);
    for candidate in candidates.iter() {
        judge(inner, text, &mut near, first + candidate.place(), candidate.kind(), raws);
    }
    if let Some(pack) = &inner.tokens {
        pack.find(text.bytes, first, last, raws);
    }
    for (number, pattern) in inner.custom.iter().enumerate() {
        pattern.find(text.bytes, first, last, number, raws);
    }
    raws.retain(|raw| raw.confidence >= inner.min_confidence);
    settle(raws);
    raws.retain(|raw| (from..to).contains(&raw.start));
    wide
}

/// What the rules say of a candidate.
fn judge(inner: &Inner, text: Text<'_>, near: &mut Near<'_>, place: usize, kind: Kind, out: &mut Vec<Raw>) {
    let wants = |one| inner.set.has(one);
    let bytes = text.bytes;
    let mut near = |topic: Topic, start, end| {
        near.is_near(topic, start, end)
            || text.header.is_some_and(|header| header.is_about(topic, bytes, text.base, start))
    };
    // What is too weak is left out before it costs anything.
    let mut add = |raw: Option<Raw>| out.extend(raw.filter(|raw| raw.confidence >= inner.min_confidence));
    match kind {
        Kind::Pair => {
            let group = place - 3;
            if wants(Detector::CreditCard) && matches!(before(bytes, group, 1), b' ' | b'-') {
                let size = digits_before(bytes, group - 1, 9);
                if matches!(size, 4 | 8) {
                    let start = group - 1 - size;
                    add(card::find(bytes, start, |end| near(Topic::Card, start, end)));
                }
            }
            if wants(Detector::Ssn) {
                add(ssn::find_grouped(bytes, group, |start, end| near(Topic::Ssn, start, end)));
            }
            if wants(Detector::Phone) {
                add(phone::find_grouped(bytes, group, |start, end| near(Topic::Phone, start, end)));
            }
        }
        Kind::Run => {
            let row = place - 8;
            if is_word(before(bytes, row, 1)) {
                return;
            }
            // How many digits there are says what they can be.
            match 9 + digits_from(bytes, place + 1, 11) {
                9 if wants(Detector::Ssn) => {
                    add(ssn::find_bare(bytes, row, |start, end| near(Topic::Ssn, start, end)));
                }
                10 | 11 if wants(Detector::Phone) => {
                    add(phone::find_bare(bytes, row, |start, end| near(Topic::Phone, start, end)));
                }
                12..=19 if wants(Detector::CreditCard) => {
                    add(card::find(bytes, row, |end| near(Topic::Card, row, end)));
                }
                _ => {}
            }
        }
        Kind::At => {
            if wants(Detector::Email) {
                add(email::find(bytes, place));
            }
        }
        Kind::Key => {
            if wants(Detector::AwsAccessKey) {
                add(aws::find_key_id(bytes, place));
            }
            if wants(Detector::AwsSecretKey) {
                aws::find_beside(bytes, place, out);
            }
        }
        Kind::Secret => {
            if wants(Detector::AwsSecretKey) {
                aws::find_labelled(bytes, place, out);
            }
        }
    }
}

/// Puts matches in order and takes out those that are another reading of the same bytes.
///
/// Of numbers a card goes before a social security number and that before a phone number, and of two of a kind the one
/// that begins first. A password goes after any key that it is. Whether a match goes depends on its neighbours alone and
/// not on what became of those, so that nothing far away matters.
pub(super) fn settle(raws: &mut Vec<Raw>) {
    raws.sort_by_key(|raw| (raw.start, raw.source, raw.end));
    raws.dedup_by_key(|raw| (raw.start, raw.source));
    if raws.len() < 2 {
        return;
    }
    let longest = raws.iter().map(|raw| raw.end - raw.start).max().unwrap_or(0);
    let loses = |i: usize| {
        let one: &Raw = &raws[i];
        let earlier = raws[..i].iter().rev().take_while(|other| other.start + longest > one.start);
        let later = raws[i + 1..].iter().take_while(|other| other.start < one.end);
        earlier.chain(later).any(|other| other.overlaps(one) && goes_before(other, one))
    };
    let lost: Vec<bool> = (0..raws.len()).map(loses).collect();
    let mut lost = lost.into_iter();
    raws.retain(|_| !lost.next().unwrap_or(false));
}

/// Whether of two that overlap the first one stays.
fn goes_before(one: &Raw, other: &Raw) -> bool {
    if one.source == other.source {
        return one.start < other.start;
    }
    let rank = |raw: &Raw| match raw.source {
        Source::Ours(Detector::CreditCard) => Some((0, 0)),
        Source::Ours(Detector::Ssn) => Some((0, 1)),
        Source::Ours(Detector::Phone) => Some((0, 2)),
        Source::Ours(Detector::Email) | Source::Own(_) => None,
        Source::Ours(Detector::Password) => Some((1, 1)),
        Source::Ours(_) => Some((1, 0)),
    };
    match (rank(one), rank(other)) {
        (Some((family, rank)), Some((other_family, other_rank))) => family == other_family && rank < other_rank,
        _ => false,
    }
}
