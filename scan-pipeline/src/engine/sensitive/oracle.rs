//! The rules of the first tier once more: slow, plain, and on their own.
//!
//! Every place of a text is asked whether a match begins there, by regular expressions and arithmetic on what they
//! matched. There is no kernel, no dispatch and no streaming; nothing here calls the rules' own code, but for entropy and
//! the public suffix list, which are arithmetic and data. The tests and the fuzzer hold the detectors to this.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::kinds::Detector;
use super::look::entropy;

/// A match: where it begins and ends, what it is, confidence, tags.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) detector: Detector,
    pub(super) confidence: f64,
    pub(super) tags: Vec<String>,
}

/// Whether a pattern matches at exactly this place, and where the match ends.
fn at(pattern: &str, text: &[u8], place: usize) -> Option<usize> {
    use std::cell::RefCell;
    use std::collections::HashMap;
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with(|compiled| {
        let mut compiled = compiled.borrow_mut();
        let regex = compiled.entry(String::from(pattern)).or_insert_with(|| {
            let plain = syntax::Config::new().unicode(false).utf8(false);
            let config = Regex::config().utf8_empty(false);
            Regex::builder().syntax(plain).configure(config).build(pattern).expect("a pattern of ours compiles")
        });
        regex.find(Input::new(text).range(place..).anchored(Anchored::Yes)).map(|found| found.end())
    })
}

/// Whether what stands before a place ends like this.
fn ends(pattern: &str, text: &[u8], place: usize) -> bool {
    let part = &text[place.saturating_sub(80)..place];
    (0..=part.len()).any(|i| at(&format!("(?:{pattern})\\z"), part, i).is_some())
}

/// Everything in a text.
pub(super) fn find(text: &[u8]) -> Vec<Match> {
    let mut all = Vec::new();
    for place in 0..text.len() {
        all.extend(card(text, place));
        all.extend(ssn(text, place));
        all.extend(phone(text, place));
        all.extend(email(text, place));
        all.extend(key_id(text, place));
        all.extend(secret(text, place));
    }
    let settled = all.iter().filter(|one| !all.iter().any(|other| beats(other, one))).cloned().collect();
    let mut settled: Vec<Match> = settled;
    settled.sort_by_key(|one| (one.start, one.detector, one.end));
    settled
}

fn beats(one: &Match, other: &Match) -> bool {
    let overlap = one.start < other.end && other.start < one.end;
    let rank = |detector| match detector {
        Detector::CreditCard => 1,
        Detector::Ssn => 2,
        Detector::Phone => 3,
        _ => 0,
    };
    let (first, second) = (rank(one.detector), rank(other.detector));
    overlap
        && (one.detector == other.detector && one.start < other.start || first != 0 && second != 0 && first < second)
}

// What may stand around a number.

fn byte(text: &[u8], place: isize) -> u8 {
    usize::try_from(place).ok().and_then(|place| text.get(place)).copied().unwrap_or(b'\n')
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn clear_left(text: &[u8], start: usize) -> bool {
    !ends(r"[A-Za-z0-9_.+]|[A-Za-z0-9_]-", text, start)
}

fn clear_right(text: &[u8], end: usize) -> bool {
    at(r"[A-Za-z0-9_@]|[.-][0-9]", text, end).is_none()
}

fn alone(text: &[u8], start: usize, end: usize) -> bool {
    // A line's end within eight bytes of blanks and quotes, or the text's.
    let left = (0..8).find(|by| !b" \t\"'".contains(&byte(text, start as isize - 1 - by)));
    let right = (0..8).find(|by| !b" \t\"'".contains(&byte(text, end as isize + by)));
    let edge = |byte: u8| byte == b'\n' || byte == b'\r' || byte == 0;
    left.is_some_and(|by| edge(byte(text, start as isize - 1 - by)))
        && right.is_some_and(|by| edge(byte(text, end as isize + by)))
}

/// Whether other numbers stand in the same line, within a hundred bytes.
fn crowded(text: &[u8], start: usize, end: usize) -> bool {
    let mark = |place: isize| b",;|\t\"".contains(&byte(text, place));
    if mark(start as isize - 1) && mark(end as isize) {
        return false;
    }
    let (from, to) = (start.saturating_sub(100), text.len().min(end + 100));
    let line_end = |place: &usize| matches!(text[*place], b'\n' | b'\r');
    let line = (from..start).rev().find(line_end).map(|place| place + 1);
    let first = line.unwrap_or(from);
    let last = (end..to).find(line_end).unwrap_or(to);
    let row = |place: usize, first: usize| {
        text[place].is_ascii_digit() && (place == first || !text[place - 1].is_ascii_digit())
    };
    let count = (first..start).filter(|place| row(*place, first)).count()
        + (end..last).filter(|place| row(*place, end)).count();
    let beginning = at(r"[ \t\f]*[0-9\[]", &text[..start], first).is_some() && (line.is_some() || from == 0);
    count > 2 || count > 0 && beginning
}

/// Words that tell of a topic. `^` and `$` mark where a word must begin and end.
const CARD: &str = "^card$ creditcard$ debitcard$ cardnum ^cardno$ ^credit$ ^debit$ ^visa$ mastercard ^master·card ^amex$ \
     american·express ^discover$ ^diners$ ^jcb$ unionpay ^maestro$ ^payment$ ^pan$ ^cc$ ^ccn$ ^ccnum ^cvv$ ^cvc$";
const SSN: &str = "^ssn$ ^ss# ^ss·no$ ^soc·sec social·security social_security social-security socialsecurity ^social·sec \
     taxpayer·id";
const PHONE: &str = "phone ^tel$ ^mobile$ ^cell$ ^fax$ ^sms$ whatsapp ^call·me$ ^call·us$ ^can·call$ ^please·call$ ^dial$ \
     ^reach·you$ ^reach·me$ ^reach·us$ ^contact$ ^office$ ^desk$";

fn labelled(words: &str, text: &[u8], start: usize, end: usize) -> bool {
    let stretches = [(start.saturating_sub(50), start), (end, text.len().min(end + 50))];
    words.split_whitespace().any(|word| {
        let (begins, ends) = (word.starts_with('^'), word.ends_with('$'));
        let word = word.trim_matches(['^', '$']).replace('·', " ");
        stretches.iter().any(|(from, to)| {
            (*from..*to).any(|place| {
                let close = place + word.len();
                close <= *to
                    && text[place..close].to_ascii_lowercase() == word.as_bytes()
                    && (!begins || begins_word(text, place))
                    && (!ends || ends_word(text, close))
            })
        })
    }) || column(words, text, start)
}

fn begins_word(text: &[u8], place: usize) -> bool {
    let before = byte(text, place as isize - 1);
    !before.is_ascii_alphabetic() || before.is_ascii_lowercase() && text[place].is_ascii_uppercase()
}

fn ends_word(text: &[u8], end: usize) -> bool {
    let (last, next) = (text[end - 1], byte(text, end as isize));
    let plural = next.eq_ignore_ascii_case(&b's') && !byte(text, end as isize + 1).is_ascii_alphabetic();
    !next.is_ascii_alphabetic() || plural || last.is_ascii_lowercase() && next.is_ascii_uppercase()
}

/// Whether a place is in a column whose name tells of a topic.
fn column(words: &str, text: &[u8], place: usize) -> bool {
    let Some(first) = text.iter().position(|byte| *byte == b'\n').filter(|end| *end < 1024) else { return false };
    let head = &text[..first];
    let count = |mark: u8| head.iter().filter(|byte| **byte == mark).count();
    let mut separator = b'|';
    for mark in [b';', b',', b'\t'] {
        // The most frequent; of equals a tab, then a comma.
        if count(mark) >= count(separator) {
            separator = mark;
        }
    }
    let digits = head.iter().filter(|byte| byte.is_ascii_digit()).count();
    if count(separator) == 0 || digits > head.len() / 8 || place <= first {
        return false;
    }
    let Some(line) = (place.saturating_sub(1024)..place).rev().find(|i| text[*i] == b'\n') else { return false };
    let cells = |line: &[u8]| {
        let (mut cells, mut quoted) = (vec![Vec::new()], false);
        for byte in line {
            quoted ^= *byte == b'"';
            if *byte == separator && !quoted {
                cells.push(Vec::new());
            } else if let Some(cell) = cells.last_mut() {
                cell.push(*byte);
            }
        }
        cells
    };
    let number = cells(&text[line + 1..place]).len() - 1;
    cells(head).get(number).is_some_and(|name| {
        words.split_whitespace().any(|word| {
            let (begins, ends) = (word.starts_with('^'), word.ends_with('$'));
            let word = word.trim_matches(['^', '$']).replace('·', " ");
            (0..name.len()).any(|place| {
                let close = place + word.len();
                close <= name.len()
                    && name[place..close].to_ascii_lowercase() == word.as_bytes()
                    && (!begins || begins_word(name, place))
                    && (!ends || ends_word(name, close))
            })
        })
    })
}

fn found(start: usize, end: usize, detector: Detector, confidence: f64, tags: &[&str]) -> Option<Match> {
    let tags = tags.iter().filter(|tag| !tag.is_empty()).map(|tag| String::from(*tag)).collect();
    Some(Match { start, end, detector, confidence, tags })
}

fn digits(text: &[u8]) -> String {
    text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect()
}

// Cards.

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

fn card(text: &[u8], start: usize) -> Option<Match> {
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
                1 | 2 if grouped => 0.8,
                2 if crowded(text, start, end) => 0.4,
                2 => 0.8,
                1 if alone(text, start, end) => 0.6,
                _ => 0.3,
            };
            let test = super::card::TEST_NUMBERS.contains(&digits.as_str());
            return found(start, end, Detector::CreditCard, confidence, &[name, if test { "test" } else { "" }]);
        }
    }
    None
}

// Social security numbers.

fn ssn(text: &[u8], start: usize) -> Option<Match> {
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
    if at(never, digits.as_bytes(), 0).is_some() || same || !clear_left(text, start) || !clear_right(text, end) {
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

fn phone(text: &[u8], main: usize) -> Option<Match> {
    // How a number is written: 2 as such numbers are, 1 with blanks, 0 in another way.
    let forms = [
        (r"\([0-9]{3}\)[ .-]?[0-9]{3}[ .-][0-9]{4}", 2),
        (r"\([0-9]{3}\)[ .-]?[0-9]{7}", 2),
        (r"[0-9]{3}-[0-9]{7}", 2),
        (r"[0-9]{3}-[0-9]{3}-[0-9]{4}", 2),
        (r"[0-9]{3}\.[0-9]{3}\.[0-9]{4}", 2),
        (r"[0-9]{3}[ /][0-9]{3}-[0-9]{4}", 2),
        (r"[0-9]{3} [0-9]{3} [0-9]{4}", 1),
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
    if !clear_right(text, end) && at("[xX][0-9]", text, end).is_none() {
        return None;
    }
    // A country code: joined by one mark, or directly before a parenthesis or ten digits.
    let bare = pattern == "[0-9]{10}";
    let direct = text[main] == b'(' || bare;
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
            } else if clear_left(text, begin) {
                (start, one) = (begin, true);
            }
        }
    }
    if !one {
        let foreign = ends(r"\+[0-9]{1,3}", text, code_end);
        if foreign || !clear_left(text, main) {
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

// E-mail addresses.

fn email(text: &[u8], sign: usize) -> Option<Match> {
    if text[sign] != b'@' {
        return None;
    }
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-.".contains(&byte);
    let mut from = sign;
    while from > 0 && sign - from < 65 && atom(text[from - 1]) {
        from -= 1;
    }
    let long = sign - from > 64;
    if from == sign || text[sign - 1] == b'.' {
        return None;
    }
    let mut start = from;
    for i in from..sign {
        let dots = i + 1 < sign && text[i] == b'.' && text[i + 1] == b'.';
        if dots {
            start = start.max(i + 2);
        }
        if at(r"[/=?&|{]['`]*[A-Za-z0-9_]", &text[..sign], i).is_some() {
            start = start.max(i + 1);
        }
    }
    if long && start == from {
        return None;
    }
    if at(r"['`.]*[A-Za-z0-9]", &text[..sign], start).is_some() {
        start = at(r"['`.]*", text, start)?;
    }
    start = at(r"\.*", text, start)?;
    let end = at(r"([A-Za-z0-9-]|\.[A-Za-z0-9-])([A-Za-z0-9-]|\.[A-Za-z0-9-])*", text, sign + 1)?;
    let mut end = end;
    while matches!(text[end - 1], b'-' | b'.') && end > sign + 1 {
        end -= 1;
    }
    let domain = String::from_utf8_lossy(&text[sign + 1..end]).to_lowercase();
    let labels: Vec<_> = domain.split('.').collect();
    let label =
        |label: &&str| !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-');
    let known = labels.last()?.starts_with("xn--") || psl::suffix(domain.as_bytes()).is_some_and(|one| one.is_known());
    if domain.len() > 255 || labels.len() < 2 || !labels.iter().all(label) || !known {
        return None;
    }
    if byte(text, start as isize - 1) == b'@' || byte(text, end as isize) == b'@' {
        return None;
    }
    let user = ends("//|//[!-.0-?A-~]{1,64}:", text, start);
    let git = &text[start..sign] == b"git" && byte(text, end as isize) == b':';
    let example =
        labels.len() >= 2 && labels[labels.len() - 2] == "example" && ["com", "net", "org"].contains(labels.last()?);
    let tags = [if example { "example" } else { "" }, if user { "url" } else { "" }];
    found(start, end, Detector::Email, if user || git { 0.3 } else { 0.9 }, &tags)
}

// Keys of AWS.

fn key_id(text: &[u8], start: usize) -> Option<Match> {
    let end = at("(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", text, start)?;
    let body = &text[start + 4..end];
    if word(byte(text, start as isize - 1)) || word(byte(text, end as isize)) || body.ends_with(b"EXAMPLE") {
        return None;
    }
    if entropy(body) < 3.0 {
        return None;
    }
    let base32 = at("[A-Z2-7]{16}", body, 0).is_some();
    // All sixteen characters as 80 bits, of which the account is 40, from the second on.
    let bits = body.iter().fold(0_u128, |bits, byte| {
        let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(char::from(*byte)).unwrap_or(0);
        bits << 5 | value as u128
    });
    let account = (bits >> 39) & ((1 << 40) - 1);
    let tag = format!("account:{account:012}");
    let told = base32 && account < 1_000_000_000_000 && bits >> 79 == 1;
    found(start, end, Detector::AwsAccessKey, if base32 { 0.95 } else { 0.3 }, &[if told { &tag } else { "" }])
}

fn secret(text: &[u8], start: usize) -> Option<Match> {
    let end = at("[A-Za-z0-9/+]{40}", text, start)?;
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'+';
    if part(byte(text, start as isize - 1)) || part(byte(text, end as isize)) || byte(text, end as isize) == b'=' {
        return None;
    }
    let key = &text[start..end];
    let example = String::from_utf8_lossy(key).contains("EXAMPLE");
    if at("[0-9A-Fa-f]{40}", key, 0).is_some() || example || entropy(key) < 4.25 {
        return None;
    }
    let named = (start.saturating_sub(56)..start).any(|i| i + 6 <= start && at("(?i)secret", text, i).is_some());
    let beside = |id: usize| {
        key_id(text, id).is_some() && (start <= id && start + 140 >= id || start >= id + 20 && start <= id + 120)
    };
    let near = (start.saturating_sub(120)..text.len().min(start + 141)).any(beside);
    (named || near).then(|| found(start, end, Detector::AwsSecretKey, 0.85, &[]))?
}
