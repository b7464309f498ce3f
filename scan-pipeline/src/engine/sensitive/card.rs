//! Payment card numbers.
//!
//! The number's form and check digit are those of ISO/IEC 7812-1. Who issues which numbers is published by the schemes:
//! Visa, Mastercard (2-series since 2017), American Express, Discover (whose network carries Diners Club), JCB and
//! UnionPay. Beyond these, old JCB numbers of 15 digits (2131, 1800), Maestro (67 and a few ranges in 50, 58 and 63)
//! and Dankort are known: they are on cards that are still in use, and in labelled corpora. So are numbers of 16 digits
//! in all of 35, of which JCB has given 3528 to 3589: generators of test data take them for JCB's, and beside a word
//! such as `card` they are taken for cards.

use super::kinds::Detector;
use super::look::{Raw, alone, at, before, clear_left, clear_right, crowded, digits_from};

/// The scheme of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brand {
    pub(super) name: &'static str,
    trust: Trust,
}

/// What it takes to believe that a number of a scheme is a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Its check digit, unless it stands among other numbers.
    Strong,
    /// Groups as on a card, a word nearby, or that it is alone in its line or its cell: its range is so wide, or so seldom
    /// met, that an unlabelled row of digits proves little.
    Weak,
    /// A word nearby, and nothing less.
    Labelled,
}

/// Lengths in the order in which they are tried where a number could end at several places: most cards have 16 digits.
const LENGTHS: [usize; 8] = [16, 15, 14, 19, 18, 13, 17, 12];

/// Numbers that the schemes and payment services publish for tests.
pub(super) const TEST_NUMBERS: [&str; 56] = [
    "4111111111111111",
    "4012888888881881",
    "4222222222222",
    "4242424242424242",
    "4000056655665556",
    "5555555555554444",
    "5105105105105100",
    "5200828282828210",
    "2223003122003222",
    "2223000048400011",
    "378282246310005",
    "371449635398431",
    "378734493671000",
    "6011111111111117",
    "6011000990139424",
    "6011000400000000",
    "30569309025904",
    "38520000023237",
    "3530111333300000",
    "3566002020360505",
    "6200000000000005",
    "6759649826438453",
    "5019717010103742",
    "4012001037141112",
    // docs.stripe.com/testing
    "6011981111111113",
    "3056930009020004",
    "36227206271667",
    "6555900000604105",
    "6200000000000047",
    "6205500000000000004",
    "4000000000000077",
    "4000000000000093",
    "4000000000000010",
    "4000000000000028",
    "4000000000000036",
    "4000000000000044",
    "4000000000000101",
    "4000000000000002",
    "4000000000009995",
    "4000000000009987",
    "4000000000009979",
    "4000000000000069",
    "4000000000000127",
    "4000000000000119",
    "4000000000003220",
    // developer.paypal.com: card testing, and Braintree's test values
    "4005519200000004",
    "4009348888881881",
    "4012000033330026",
    "4012000077777777",
    "4217651111111119",
    "4500600000000061",
    "376680816376961",
    "36259600000004",
    "6011000991300009",
    "6304000000000000",
    "4772129056533503",
];

/// What they are as numbers: none of them begins with a zero, and none has more than 19 digits.
const TEST_VALUES: [u64; TEST_NUMBERS.len()] = {
    let (mut all, mut i) = ([0; TEST_NUMBERS.len()], 0);
    while i < all.len() {
        all[i] = value(TEST_NUMBERS[i].as_bytes());
        i += 1;
    }
    all
};

/// The number that digits are.
const fn value(digits: &[u8]) -> u64 {
    let (mut value, mut i) = (0, 0);
    while i < digits.len() {
        value = value * 10 + (digits[i] - b'0') as u64;
        i += 1;
    }
    value
}

/// The scheme that a number of this length with these digits belongs to.
pub(super) fn brand(digits: &[u8]) -> Option<Brand> {
    let four = digits.iter().take(4).fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let (len, two, three) = (digits.len(), four / 100, four / 10);
    let brand = |name, trust| Some(Brand { name, trust });
    let common = |size| if len == size { Trust::Strong } else { Trust::Weak };
    match four {
        _ if two / 10 == 4 && matches!(len, 13 | 16 | 18 | 19) => brand("visa", common(16)),
        2221..=2720 if len == 16 => brand("mastercard", Trust::Strong),
        _ if matches!(two, 51..=55) && len == 16 => brand("mastercard", Trust::Strong),
        _ if matches!(two, 34 | 37) && len == 15 => brand("amex", Trust::Strong),
        _ if (matches!(two, 36 | 38 | 39) || matches!(three, 300..=305)) && matches!(len, 14..=19) => {
            brand("diners", Trust::Weak)
        }
        _ if (four == 6011 || two == 65 || matches!(three, 644..=649)) && matches!(len, 16..=19) => {
            brand("discover", common(16))
        }
        3528..=3589 if matches!(len, 16..=19) => brand("jcb", common(16)),
        3500..=3599 if len == 16 => brand("jcb", Trust::Labelled),
        1800 | 2131 if len == 15 => brand("jcb", Trust::Weak),
        _ if matches!(two, 62 | 81) && matches!(len, 14..=19) => brand("unionpay", Trust::Weak),
        _ if (two == 67 || matches!(four, 5018 | 5020 | 5038 | 5893 | 6304)) && matches!(len, 12..=19) => {
            brand("maestro", if len == 12 { Trust::Labelled } else { Trust::Weak })
        }
        5019 if len == 16 => brand("dankort", Trust::Weak),
        _ => None,
    }
}

/// The check digit of ISO/IEC 7812-1, annex B.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, digit)| u32::from(digit - b'0') * if i % 2 == 1 { 2 } else { 1 })
        .map(|value| if value > 9 { value - 9 } else { value })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether groups of digits end where those of a printed card do: every four digits, or after 4 and 10.
fn printed(ends: &[usize], len: usize) -> bool {
    let inner = &ends[..ends.len() - 1];
    let long = ends.iter().scan(0, |last, end| Some(end - std::mem::replace(last, *end))).any(|size| size > 8);
    !long
        && (inner.iter().all(|end| matches!(end, 4 | 8 | 12 | 16))
            || matches!(len, 14 | 15) && inner.iter().all(|end| matches!(end, 4 | 10)))
}

/// For each two first digits, the lengths that a number can have with them, a bit each: most rows of digits need no
/// second look. A test holds it to [`brand`].
const LENGTHS_OF: [u32; 100] = {
    const fn lengths(first: u32, last: u32) -> u32 {
        (1 << (last + 1)) - (1 << first)
    }
    let (mut all, mut two) = ([0; 100], 0);
    while two < 100 {
        all[two] = match two {
            18 | 21 => 1 << 15,
            22..=27 => 1 << 16,
            30 | 36 | 38 | 39 => lengths(14, 19),
            34 | 37 => 1 << 15,
            35 => lengths(16, 19),
            40..=49 => 1 << 13 | 1 << 16 | 1 << 18 | 1 << 19,
            50 | 58 | 63 | 67 => lengths(12, 19),
            51..=55 => 1 << 16,
            60 | 64 | 65 => lengths(16, 19),
            62 | 81 => lengths(14, 19),
            _ => 0,
        };
        two += 1;
    }
    all
};

/// The lengths that a number can have with the two first digits at a place.
#[inline]
fn lengths(text: &[u8], start: usize) -> u32 {
    let digit = |place| usize::from(at(text, place).wrapping_sub(b'0'));
    LENGTHS_OF.get(digit(start) * 10 + digit(start + 1)).copied().unwrap_or(0)
}

/// The card that is a row of so many digits, from `start` on. `labelled` says whether something nearby tells of cards.
#[inline]
pub(super) fn find_row(text: &[u8], start: usize, size: usize, labelled: impl FnMut(usize) -> bool) -> Option<Raw> {
    // Inlined this far, where most rows end.
    if (lengths(text, start) >> size) & 1 == 0 { None } else { row(text, start, size, labelled) }
}

#[inline(never)]
fn row(text: &[u8], start: usize, size: usize, labelled: impl FnMut(usize) -> bool) -> Option<Raw> {
    let digits = text.get(start..start + size)?;
    let fits = clear_left(text, start) && !is_date(digits);
    fits.then(|| judge(text, digits, start, start + size, false, labelled))?
}

/// The card in groups, whose first digit stands at `start`, if there is one.
pub(super) fn find_grouped(text: &[u8], start: usize, mut labelled: impl FnMut(usize) -> bool) -> Option<Raw> {
    if lengths(text, start) == 0 || !clear_left(text, start) {
        return None;
    }
    let mut digits = [0_u8; 19];
    let (mut count, mut groups) = (0, 0);
    // How many digits there are after each group, and where it ends in the text.
    let (mut ends, mut places) = ([0; 5], [0; 5]);
    let (mut place, mut separator) = (start, None);
    while groups < 5 {
        let size = digits_from(text, place, 20);
        if size == 0 || count + size > 19 {
            break;
        }
        digits[count..count + size].copy_from_slice(&text[place..place + size]);
        (count, place) = (count + size, place + size);
        (ends[groups], places[groups]) = (count, place);
        groups += 1;
        let next = at(text, place);
        if !matches!(next, b' ' | b'-') || *separator.get_or_insert(next) != next || size > 8 {
            break;
        }
        place += 1;
    }
    LENGTHS.into_iter().find_map(|len| {
        let group = ends[..groups].iter().position(|end| *end == len)?;
        let (digits, end) = (&digits[..len], places[group]);
        let fits = printed(&ends[..=group], len) && !in_a_dump(text, start, end, separator.unwrap_or(b' '));
        fits.then(|| judge(text, digits, start, end, true, &mut labelled))?
    })
}

/// The card that has these digits, between two places.
fn judge(
    text: &[u8],
    digits: &[u8],
    start: usize,
    end: usize,
    grouped: bool,
    mut labelled: impl FnMut(usize) -> bool,
) -> Option<Raw> {
    let brand = brand(digits)?;
    let by_blanks = text[start..end].contains(&b' ');
    if !luhn(digits) || digits.iter().all(|digit| *digit == digits[0]) || !ends_card(text, end) {
        return None;
    }
    let confidence = match (brand.trust, labelled(end)) {
        (Trust::Strong, true) => 0.95,
        (_, true) => 0.9,
        (Trust::Labelled, false) => 0.3,
        // Counters in columns.
        (_, false) if grouped && by_blanks && among_numbers(text, start, end) => 0.4,
        (_, false) if grouped => 0.8,
        (Trust::Strong, false) if crowded(text, start, end) => 0.4,
        (Trust::Strong, false) => 0.8,
        (Trust::Weak, false) if alone(text, start, end) || is_cell(text, start, end) => 0.6,
        (Trust::Weak, false) => 0.3,
    };
    let test = TEST_VALUES.contains(&value(digits));
    let raw = Raw::new(start, end, Detector::CreditCard, confidence);
    Some(raw.tagged(Some(brand.name)).tagged(test.then_some("test")))
}

/// Whether a number that is no date stands beside a match in its line.
fn among_numbers(text: &[u8], start: usize, end: usize) -> bool {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let left = (1..=8).take_while(|by| is_blank(before(text, start, *by))).count();
    let right = (0..8).take_while(|i| is_blank(at(text, end + i))).count();
    let size = digits_from(text, end + right, 8);
    // 4012 8888 8888 1881 12/27
    let date = matches!(size, 1 | 2) && at(text, end + right + size) == b'/';
    left > 0 && before(text, start, left + 1).is_ascii_digit() || right > 0 && size > 0 && !date
}

/// Whether a match is a cell of a table as text, in quotes or not.
fn is_cell(text: &[u8], start: usize, end: usize) -> bool {
    let quoted = before(text, start, 1) == b'"' && at(text, end) == b'"';
    let (left, right) = (before(text, start, 1 + usize::from(quoted)), at(text, end + usize::from(quoted)));
    let mark = |byte: u8| matches!(byte, b',' | b';' | b'|' | b'\t');
    let edge = |byte: u8| matches!(byte, b'\n' | b'\r');
    mark(left) && (mark(right) || edge(right)) || edge(left) && mark(right)
}

/// Whether a card can end here: no further part of a UUID or serial number follows.
fn ends_card(text: &[u8], end: usize) -> bool {
    clear_right(text, end) && !(at(text, end) == b'-' && at(text, end + 1).is_ascii_hexdigit())
}

/// Whether two more groups of four hexadecimal digits stand at either side: a dump, not a card.
fn in_a_dump(text: &[u8], start: usize, end: usize, separator: u8) -> bool {
    let four = |from: usize| (0..4).all(|i| at(text, from.wrapping_add(i)).is_ascii_hexdigit());
    let left = before(text, start, 1) == separator
        && four(start.wrapping_sub(5))
        && before(text, start, 6) == separator
        && four(start.wrapping_sub(10));
    let right = at(text, end) == separator && four(end + 1) && at(text, end + 5) == separator && four(end + 6);
    left || right
}

/// Whether 14 digits are a day and a time, day first (year first no card begins like).
fn is_date(digits: &[u8]) -> bool {
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |sum, d| sum * 10 + u32::from(d - b'0'));
    digits.len() == 14
        && matches!(number(0, 2), 1..=31)
        && matches!(number(2, 4), 1..=12)
        && matches!(number(4, 8), 1900..=2099)
        && number(8, 10) < 24
        && number(10, 12) < 60
        && number(12, 14) <= 60
}

#[cfg(test)]
mod tests {
    use super::{LENGTHS_OF, brand};

    #[test]
    fn the_lengths_are_those_of_the_brands() {
        for four in 0..10_000 {
            for len in 12..=19 {
                let digits = format!("{four:04}{}", "0".repeat(len - 4));
                let listed = LENGTHS_OF[four / 100] >> len & 1 == 1;
                assert!(listed || brand(digits.as_bytes()).is_none(), "{digits}");
            }
        }
        for (two, lengths) in LENGTHS_OF.iter().enumerate() {
            for len in (0..32).filter(|len| lengths >> len & 1 == 1) {
                let any = (0..100).any(|next| {
                    let digits = format!("{two:02}{next:02}000000000000000");
                    brand(&digits.as_bytes()[..len]).is_some()
                });
                assert!(any, "{two} with {len} digits");
            }
        }
    }
}
