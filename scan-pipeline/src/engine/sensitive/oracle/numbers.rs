//! Cards, social security numbers and phone numbers.

use super::super::kinds::Detector;
use super::around::{CARD, PHONE, SSN};
use super::around::{alone, byte, clear_left, clear_left_of, clear_right, crowded, labelled, word};
use super::{Match, at, ends, found};

fn digits(text: &[u8]) -> String {
    text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect()
}

/// Scheme, lengths, prefixes as a pattern, and how much it proves: 2 by itself, 1 with more, 0 with a word only.
const SCHEMES: [(&str, &[usize], &str, u8); 15] = [
    ("visa", &[16], "4", 2),
    ("visa", &[13, 18, 19], "4", 1),
    ("mastercard", &[16], "5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", 2),
    ("amex", &[15], "3[47]", 2),
    ("diners", &[14, 15, 16, 17, 18, 19], "30[0-5]|3[689]", 1),
    ("discover", &[16], "6011|64[4-9]|65", 2),
    ("discover", &[17, 18, 19], "6011|64[4-9]|65", 1),
    ("jcb", &[16], "352[89]|35[3-8]", 2),
    ("jcb", &[17, 18, 19], "352[89]|35[3-8]", 1),
    ("jcb", &[16], "35[0-1]|352[0-7]|359", 0),
    ("jcb", &[15], "1800|2131", 1),
    ("unionpay", &[14, 15, 16, 17, 18, 19], "62|81", 1),
    ("maestro", &[12], "5018|5020|5038|5893|6304|67", 0),
    ("maestro", &[13, 14, 15, 16, 17, 18, 19], "5018|5020|5038|5893|6304|67", 1),
    ("dankort", &[16], "5019", 1),
];

/// Groups as they are on cards: they end at every fourth digit, or, of 14 and 15 digits, after 4 and 10; none is longer
/// than eight digits, and there are five at most.
fn shapes(len: usize) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    let mut add = |places: &[usize]| {
        for choice in 1..1_usize << places.len() {
            let mut ends: Vec<_> = (0..places.len()).filter(|i| choice >> i & 1 == 1).map(|i| places[i]).collect();
            ends.push(len);
            let sizes: Vec<_> = (0..ends.len()).map(|i| ends[i] - if i == 0 { 0 } else { ends[i - 1] }).collect();
            if sizes.iter().all(|size| *size <= 8) && sizes.len() <= 5 {
                all.push(sizes);
            }
        }
    };
    add(&[4, 8, 12, 16].into_iter().filter(|end| *end < len).collect::<Vec<_>>());
    if len == 14 || len == 15 {
        add(&[4, 10]);
    }
    all
}

fn luhn(digits: &str) -> bool {
    let values: Vec<u32> = digits.chars().rev().filter_map(|c| c.to_digit(10)).collect();
    let odd: u32 = values.iter().step_by(2).sum();
    let even: u32 = values.iter().skip(1).step_by(2).map(|value| (value * 2) / 10 + (value * 2) % 10).sum();
    (odd + even).is_multiple_of(10)
}

pub(super) fn card(text: &[u8], start: usize) -> Option<Match> {
    if !byte(text, start as isize).is_ascii_digit() || !clear_left(text, start) {
        return None;
    }
    for len in [16, 15, 14, 19, 18, 13, 17, 12] {
        let bare = (format!("[0-9]{{{len}}}"), ' ', false);
        let grouped = [' ', '-'].into_iter().flat_map(|separator| {
            shapes(len).into_iter().map(move |sizes| {
                let groups: Vec<_> = sizes.iter().map(|size| format!("[0-9]{{{size}}}")).collect();
                (groups.join(&separator.to_string()), separator, true)
            })
        });
        for (pattern, separator, grouped) in std::iter::once(bare).chain(grouped) {
            let Some(end) = at(&pattern, text, start) else { continue };
            let digits = digits(&text[start..end]);
            let scheme = SCHEMES.iter().find(|(_, lengths, prefixes, _)| {
                lengths.contains(&len) && at(prefixes, digits.as_bytes(), 0).is_some()
            });
            let Some((name, _, _, proof)) = scheme else { continue };
            let hex = "[0-9A-Fa-f]{4}";
            let dump = grouped
                && (ends(&format!("{hex}{separator}{hex}{separator}"), text, start)
                    || at(&format!("{separator}{hex}{separator}{hex}"), text, end).is_some());
            let date =
                "(0[1-9]|[12][0-9]|3[01])(0[1-9]|1[0-2])(19|20)[0-9]{2}([01][0-9]|2[0-3])[0-5][0-9]([0-5][0-9]|60)";
            let date = !grouped && len == 14 && at(date, digits.as_bytes(), 0).is_some();
            let same = digits.chars().all(|c| digits.starts_with(c));
            let cut = at("-[0-9A-Fa-f]", text, end).is_some();
            if !luhn(&digits) || dump || date || same || cut || !clear_right(text, end) {
                continue;
            }
            let near = labelled(CARD, text, start, end);
            let confidence = match proof {
                2 if near => 0.95,
                _ if near => 0.9,
                1 | 2 if grouped && separator == ' ' && beside_a_number(text, start, end) => 0.4,
                1 | 2 if grouped => 0.8,
                2 if crowded(text, start, end) => 0.4,
                2 => 0.8,
                1 if alone(text, start, end) || cell(text, start, end) => 0.6,
                _ => 0.3,
            };
            let test = super::super::card::TEST_NUMBERS.contains(&digits.as_str());
            return found(start, end, Detector::CreditCard, confidence, &[name, if test { "test" } else { "" }]);
        }
    }
    None
}

fn beside_a_number(text: &[u8], start: usize, end: usize) -> bool {
    let date = at(r"[ \t]{1,8}[0-9]{1,2}/", text, end).is_some();
    ends(r"[0-9][ \t]{1,8}", text, start) || at(r"[ \t]{1,8}[0-9]", text, end).is_some() && !date
}

fn cell(text: &[u8], start: usize, end: usize) -> bool {
    let mark = |place: isize| b",;|\t".contains(&byte(text, place));
    let edge = |place: isize| b"\r\n".contains(&byte(text, place));
    let (left, right) = (start as isize - 1, end as isize);
    let out = isize::from(byte(text, left) == b'"' && byte(text, right) == b'"');
    let (left, right) = (left - out, right + out);
    mark(left) && (mark(right) || edge(right)) || mark(right) && edge(left)
}

// Social security numbers.

pub(super) fn ssn(text: &[u8], start: usize) -> Option<Match> {
    let forms = [
        ("[0-9]{3}-[0-9]{2}-[0-9]{4}", 0.75, 0.95),
        (r"[0-9]{3}\.[0-9]{2}\.[0-9]{4}", 0.6, 0.9),
        ("[0-9]{3} [0-9]{2} [0-9]{4}", 0.2, 0.85),
        ("[0-9]{9}", 0.15, 0.7),
    ];
    let (end, unlabelled, near, pattern) =
        forms.into_iter().find_map(|(form, bare, near)| Some((at(form, text, start)?, bare, near, form)))?;
    let digits = digits(&text[start..end]);
    let never = r"000|666|9|[0-9]{3}00|[0-9]{5}0000|078051120|219099999|457555462|123456789";
    let same = digits.chars().all(|c| digits.starts_with(c));
    let clear = clear_left_of(SSN, text, start) && clear_right(text, end);
    if at(never, digits.as_bytes(), 0).is_some() || same || !clear {
        return None;
    }
    let blanks = pattern.contains(' ');
    if blanks && (ends("[0-9] ", text, start) || at(" [0-9]", text, end).is_some()) {
        return None;
    }
    let confidence = match labelled(SSN, text, start, end) {
        true => near,
        false if blanks && alone(text, start, end) => 0.55,
        false => unlabelled,
    };
    found(start, end, Detector::Ssn, confidence, &[])
}

// Phone numbers.

pub(super) fn phone(text: &[u8], main: usize) -> Option<Match> {
    // How a number is written: 2 as such numbers are, 1 with blanks, 0 in another way.
    let forms = [
        (r"\([0-9]{3}\)[ .-]?[0-9]{3}[ ./-][0-9]{4}", 2),
        (r"\([0-9]{3}\)[ .-]?[0-9]{7}", 2),
        (r"[0-9]{3}-[0-9]{7}", 2),
        (r"[0-9]{3}-[0-9]{3}-[0-9]{4}", 2),
        (r"[0-9]{3}\.[0-9]{3}\.[0-9]{4}", 2),
        (r"[0-9]{3}[ /][0-9]{3}-[0-9]{4}", 2),
        (r"[0-9]{3} [0-9]{3} [0-9]{4}", 1),
        (r"[0-9]{3}[ ./-][0-9]{3}[ ./-][0-9]{4}", 0),
        (r"[0-9]{3}[ ./][0-9]{7}", 0),
        (r"\([0-9]{2}\) ?[0-9]{4}[ .-][0-9]{4}", 0),
        (r"[0-9]{10}", 0),
    ];
    let (end, form, pattern) =
        forms.into_iter().find_map(|(pattern, form)| Some((at(pattern, text, main)?, form, pattern)))?;
    let digits = digits(&text[main..end]);
    let plan = "[2-9]([02-8][0-9]|1[02-9])[2-9]([02-9][0-9]|1[02-9])[0-9]{4}";
    let same = digits.chars().all(|c| digits.starts_with(c));
    if at(plan, digits.as_bytes(), 0).is_none() || same {
        return None;
    }
    if !clear_right(text, end) && at(r"(?i:x[0-9]|ext\.? ?[0-9])", text, end).is_none() {
        return None;
    }
    // A country code: joined by one mark, or directly before a parenthesis or ten digits.
    let bare = pattern == "[0-9]{10}";
    let glued = ends(r"\+1", text, main);
    let direct = text[main] == b'(' || bare || glued;
    let mark = matches!(byte(text, main as isize - 1), b' ' | b'-' | b'.');
    let code_end = if mark { main - 1 } else { main };
    let mut start = main;
    let (mut plus, mut one) = (false, false);
    if mark || direct {
        let code = |code: &str| {
            code_end >= code.len()
                && &text[code_end - code.len()..code_end] == code.as_bytes()
                && !byte(text, code_end as isize - code.len() as isize - 1).is_ascii_digit()
        };
        // Only a 1 of its own may touch ten digits: 001 and ten digits are thirteen.
        let length = if code("1") {
            1
        } else if code("001") && (mark || !bare) {
            3
        } else {
            0
        };
        if length > 0 {
            let begin = code_end - length;
            if length == 1 && byte(text, begin as isize - 1) == b'+' {
                if !word(byte(text, begin as isize - 2)) {
                    (start, plus, one) = (begin - 1, true, true);
                }
            } else if clear_left_of(PHONE, text, begin) {
                (start, one) = (begin, true);
            }
        }
    }
    if !one {
        let foreign = ends(r"\+[0-9]{1,3}", text, code_end);
        if foreign || !clear_left_of(PHONE, text, main) {
            return None;
        }
    }
    if form == 1 && !plus && (ends("[0-9] ", text, start) || at(" [0-9]", text, end).is_some()) {
        return None;
    }
    let near = labelled(PHONE, text, start, end);
    let confidence = match form {
        _ if plus => 0.9,
        2 if near => 0.9,
        2 => 0.7,
        _ if near => 0.6,
        1 if one || alone(text, start, end) => 0.55,
        _ => 0.2,
    };
    let fictional = at("[0-9]{3}55501", digits.as_bytes(), 0).is_some();
    found(start, end, Detector::Phone, confidence, &[if fictional { "fictional" } else { "" }])
}
