//! One look at a stretch of text: candidates from the kernel, matches by the rules, and what becomes of matches that
//! overlap.

use super::header::Header;
use super::kernel::{self, Found, Kind, List};
use super::keyword::{Near, Topic};
use super::kinds::Detector;
use super::look::{Raw, Source, before, digits_before, digits_from, worked};
use super::{Inner, aws, card, email, phone, ssn};

/// How far a match can lie from its candidate, and how far from a match one that overlaps it can begin.
pub(super) const EDGE: usize = 256;
/// How much is looked at before the rules are asked, so that they find it in the cache, and so that what they find at
/// most takes little memory. With both edges it is a whole number of the kernel's pieces.
pub(super) const CHUNK: usize = (48 << 10) - 2 * EDGE;
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
    candidates: Found,
    /// Where tokens may begin.
    tokens: List,
    /// What was found.
    pub(super) raws: Vec<Raw>,
}

#[cfg(test)]
impl Scratch {
    pub(super) fn held(&self) -> usize {
        self.candidates.held() + self.tokens.held() + self.raws.capacity() * size_of::<Raw>()
    }
}

/// What a look says beside its matches.
pub(super) struct Seen {
    /// Whether there, or next to it, may be UTF-16.
    pub(super) wide: bool,
    /// How many matches there are behind those that were kept.
    pub(super) more: u64,
}

/// Puts the matches that begin between two places, no further apart than [`CHUNK`], into the scratch, in order. Of those
/// of the user's own patterns, which can be as many as bytes, no more are kept than there is room for findings.
pub(super) fn matches(
    inner: &Inner,
    text: Text<'_>,
    from: usize,
    to: usize,
    room: usize,
    scratch: &mut Scratch,
) -> Seen {
    let Scratch { candidates, tokens, raws } = scratch;
    let (first, last) = (from.saturating_sub(EDGE), text.bytes.len().min(to + EDGE));
    raws.clear();
    let wide = kernel::candidates(inner.instructions, text.bytes, first, last, candidates);
    let near = Near::new(inner.instructions, text.bytes, first, candidates.letters());
    let rules = Rules { inner, text, near };
    for kind in Kind::ALL {
        rules.judge(kind, first, candidates.of(kind), raws);
    }
    if let Some(header) = text.header.filter(|header| header.has_secrets())
        && inner.set.has(Detector::AwsSecretKey)
    {
        let named = |place: &usize| header.is_secret(text.bytes, text.base, *place);
        raws.extend((first..last).filter_map(|place| aws::secret(text.bytes, place).filter(|_| named(&place))));
    }
    if let Some(pack) = &inner.tokens {
        pack.find(inner.instructions, text.bytes, first, last, tokens, raws);
    }
    raws.retain(|raw| raw.confidence >= inner.min_confidence);
    settle(raws);
    raws.retain(|raw| (from..to).contains(&raw.start));
    // Patterns of the user's own go before nothing and give way to nothing but themselves.
    let mut more = 0;
    for (pattern, number) in inner.custom.iter().zip(0..) {
        if pattern.confidence() < inner.min_confidence {
            continue;
        }
        more += pattern.find(text.bytes, from, to, number, room, raws);
        raws.sort_unstable_by_key(|raw| (raw.start, raw.source, raw.end));
        if raws.len() > room {
            more += (raws.len() - room) as u64;
            raws.truncate(room);
        }
    }
    Seen { wide, more }
}

/// The rules, and what they need to judge candidates.
struct Rules<'t> {
    inner: &'t Inner,
    text: Text<'t>,
    near: Near<'t>,
}

impl Rules<'_> {
    /// Adds what the rules accept of candidates of a kind, whose places count from `first`.
    fn judge(&self, kind: Kind, first: usize, places: &[u32], out: &mut Vec<Raw>) {
        let (set, bytes) = (self.inner.set, self.text.bytes);
        let places = places.iter().map(|place| first + *place as usize);
        let wanted = match kind {
            Kind::Card | Kind::Long => set.has(Detector::CreditCard),
            Kind::Ssn | Kind::Nine => set.has(Detector::Ssn),
            Kind::Phone | Kind::Ten => set.has(Detector::Phone),
            Kind::At => set.has(Detector::Email),
            Kind::Key => set.has(Detector::AwsAccessKey) || set.has(Detector::AwsSecretKey),
            Kind::Secret => set.has(Detector::AwsSecretKey),
        };
        if !wanted {
            return;
        }
        match kind {
            Kind::Card => self.add(out, places, |place| {
                let group = place - 3;
                let size = digits_before(bytes, group - 1, 9);
                if before(bytes, group, 1) == b'.' || !matches!(size, 4 | 8) {
                    return None;
                }
                let start = group - 1 - size;
                card::find_grouped(bytes, start, |end| self.is_about(Topic::Card, start, end))
            }),
            Kind::Ssn => self.add(out, places, |place| {
                ssn::find_grouped(bytes, place - 3, |start, end| self.is_about(Topic::Ssn, start, end))
            }),
            Kind::Phone => self.add(out, places, |place| {
                phone::find_grouped(bytes, place - 3, |start, end| self.is_about(Topic::Phone, start, end))
            }),
            Kind::Nine => {
                let always = self.is_enough(ssn::ROW) || self.text.header.is_some();
                let worth = |place: &usize| always || self.near.has_letters(place - 8, place + 1);
                self.add(out, places.filter(worth), |place| {
                    ssn::find_row(bytes, place - 8, |start, end| self.is_about(Topic::Ssn, start, end))
                });
            }
            Kind::Ten => self.add(out, places, |place| {
                let start = place - 8;
                let size = if bytes[start] == b'1' { 11 } else { 10 };
                let plus = || (1..=3).any(|by| before(bytes, start, by) == b'+');
                let worth = self.is_enough(phone::ROW) || self.may_be_about(start, start + size) || plus();
                worth.then(|| phone::find_row(bytes, start, |start, end| self.is_about(Topic::Phone, start, end)))?
            }),
            Kind::Long => self.add(out, places, |place| {
                let start = place - 8;
                let size = 12 + digits_from(bytes, place + 4, 8);
                card::find_row(bytes, start, size, |end| self.is_about(Topic::Card, start, end))
            }),
            Kind::At => self.add(out, places, |place| email::find(bytes, place)),
            Kind::Key => {
                if set.has(Detector::AwsAccessKey) {
                    self.add(out, places.clone(), |place| aws::find_key_id(bytes, place));
                }
                if set.has(Detector::AwsSecretKey) {
                    places.for_each(|place| aws::find_beside(bytes, place, out));
                }
            }
            Kind::Secret => places.for_each(|place| aws::find_labelled(bytes, place, out)),
        }
    }

    /// Adds what a rule says of each place. What is too weak is left out before it costs anything.
    #[inline]
    fn add(&self, out: &mut Vec<Raw>, places: impl Iterator<Item = usize>, rule: impl Fn(usize) -> Option<Raw>) {
        for raw in places.filter_map(rule) {
            if self.is_enough(raw.confidence) {
                out.push(raw);
            }
        }
    }

    fn is_enough(&self, confidence: f64) -> bool {
        confidence >= self.inner.min_confidence
    }

    /// Whether a word near a match, or the name of its column, tells of a topic.
    fn is_about(&self, topic: Topic, start: usize, end: usize) -> bool {
        let Text { bytes, base, header } = self.text;
        self.near.is_near(topic, start, end) || header.is_some_and(|header| header.is_about(topic, bytes, base, start))
    }

    /// Whether there is anything that could.
    #[inline]
    fn may_be_about(&self, start: usize, end: usize) -> bool {
        self.text.header.is_some() || self.near.has_letters(start, end)
    }
}

/// Puts matches in order and takes out those that are another reading of the same bytes.
///
/// Of numbers a card goes before a social security number and that before a phone number, and of two of a kind the one
/// that begins first. A password goes after any key that it is. Whether a match goes depends on its neighbours alone
/// and not on what became of those, so that nothing far away matters.
pub(super) fn settle(raws: &mut Vec<Raw>) {
    raws.sort_unstable_by_key(|raw| (raw.start, raw.source, raw.end));
    raws.dedup_by_key(|raw| (raw.start, raw.source));
    if raws.len() < 2 {
        return;
    }
    worked(raws.len());
    // Of the matches before one, how far those of its kind and those of each rank reach; of those behind, where the
    // first of each rank begins.
    let (mut same, mut reach) = ([0; Detector::ALL.len()], [[0; RANKS]; FAMILIES]);
    let mut lost = vec![false; raws.len()];
    for (raw, lost) in raws.iter().zip(&mut lost) {
        let Source::Ours(detector) = raw.source else { continue };
        let same = &mut same[detector as usize];
        *lost = *same > raw.start;
        *same = raw.end.max(*same);
        if let Some((family, rank)) = rank(detector) {
            *lost |= reach[family][..rank].iter().any(|end| *end > raw.start);
            let reach = &mut reach[family][rank];
            *reach = raw.end.max(*reach);
        }
    }
    let mut next = [[usize::MAX; RANKS]; FAMILIES];
    for (raw, lost) in raws.iter().zip(&mut lost).rev() {
        let Source::Ours(detector) = raw.source else { continue };
        if let Some((family, rank)) = rank(detector) {
            *lost |= next[family][..rank].iter().any(|start| *start < raw.end);
            next[family][rank] = raw.start;
        }
    }
    let mut lost = lost.into_iter();
    raws.retain(|_| !lost.next().unwrap_or(false));
}

/// How many families there are, and how many ranks one has at most.
const FAMILIES: usize = 2;
const RANKS: usize = 3;

/// The family in which a detector goes before others, and its rank there: what has a lower one stays.
fn rank(detector: Detector) -> Option<(usize, usize)> {
    match detector {
        Detector::CreditCard => Some((0, 0)),
        Detector::Ssn => Some((0, 1)),
        Detector::Phone => Some((0, 2)),
        Detector::Email => None,
        Detector::Password => Some((1, 1)),
        _ => Some((1, 0)),
    }
}
