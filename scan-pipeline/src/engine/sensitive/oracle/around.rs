//! What stands around a number, and what tells of it.

use super::{at, ends};

pub(super) fn byte(text: &[u8], place: isize) -> u8 {
    usize::try_from(place).ok().and_then(|place| text.get(place)).copied().unwrap_or(b'\n')
}

pub(super) fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub(super) fn clear_left(text: &[u8], start: usize) -> bool {
    !ends(r"[A-Za-z0-9_.+]|[A-Za-z0-9_]-", text, start)
}

pub(super) fn clear_right(text: &[u8], end: usize) -> bool {
    at(r"[A-Za-z0-9_@]|[.-][0-9]", text, end).is_none()
}

pub(super) fn alone(text: &[u8], start: usize, end: usize) -> bool {
    // A line's end within eight bytes of blanks and quotes, or the text's.
    let left = (0..8).find(|by| !b" \t\"'".contains(&byte(text, start as isize - 1 - by)));
    let right = (0..8).find(|by| !b" \t\"'".contains(&byte(text, end as isize + by)));
    let edge = |byte: u8| byte == b'\n' || byte == b'\r' || byte == 0;
    left.is_some_and(|by| edge(byte(text, start as isize - 1 - by)))
        && right.is_some_and(|by| edge(byte(text, end as isize + by)))
}

/// Whether other numbers stand in the same line, within a hundred bytes.
pub(super) fn crowded(text: &[u8], start: usize, end: usize) -> bool {
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
pub(super) const CARD: &str = "^card$ creditcard$ debitcard$ cardnum ^cardno$ ^credit$ ^debit$ ^visa$ mastercard \
     ^master·card ^amex$ american·express ^discover$ ^diners$ ^jcb$ unionpay ^maestro$ ^payment$ ^pan$ ^cc$ ^ccn$ ^ccnum \
     ^cvv$ ^cvc$";
pub(super) const SSN: &str = "^ssn$ ^ss# ^ss·no$ ^ss·number ^soc·sec social·security social_security social-security \
     socialsecurity ^social·sec taxpayer·id ^tax·id ^tax_id ^tin$";
pub(super) const PHONE: &str = "phone ^ph$ ^tel$ ^mobile$ ^cell$ ^fax$ ^sms$ whatsapp ^call·me$ ^call·us$ ^can·call$ \
     ^please·call$ ^dial$ ^reach·you$ ^reach·me$ ^reach·us$ ^contact$ ^office$ ^desk$";

/// Whether one of the words stands in a part of a text. Between the parts of a word are one or two blanks of any kind.
fn says(words: &str, text: &[u8], from: usize, to: usize) -> bool {
    words.split_whitespace().any(|word| {
        let (begins, ends) = (word.starts_with('^'), word.ends_with('$'));
        let word = word.trim_matches(['^', '$']);
        let pattern = format!("(?i){}", word.replace('·', r"[ \t\r\n]{1,2}"));
        let first = word.as_bytes()[0];
        (from..to).filter(|place| text[*place].eq_ignore_ascii_case(&first)).any(|place| {
            at(&pattern, &text[..to], place)
                .filter(|close| {
                    let sides = [byte(text, place as isize - 1), byte(text, *close as isize)];
                    let address = at(r"[:-][0-9A-Fa-f]{2}(?-u:[^0-9A-Za-z]|\z)", text, *close).is_some()
                        || super::ends(r"(?-u:[^0-9A-Za-z]|\A)[0-9A-Fa-f]{2}[:-]", text, place);
                    word != "cc" || !(address || sides.iter().any(u8::is_ascii_digit))
                })
                .is_some_and(|close| (!begins || begins_word(text, place)) && (!ends || ends_word(text, close)))
        })
    })
}

pub(super) fn labelled(words: &str, text: &[u8], start: usize, end: usize) -> bool {
    says(words, text, start.saturating_sub(50), start)
        || says(words, text, end, text.len().min(end + 50))
        || column(words, text, start)
}

/// Whether a number can begin here, also behind a word of its kind and a dot or hyphen.
pub(super) fn clear_left_of(words: &str, text: &[u8], start: usize) -> bool {
    let letters = (2..26).take_while(|by| byte(text, start as isize - by).is_ascii_alphabetic()).count();
    clear_left(text, start) || ends(r"[A-Za-z][.-]", text, start) && says(words, text, start - 1 - letters, start - 1)
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
pub(super) fn column(words: &str, text: &[u8], place: usize) -> bool {
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
    // It is a table only if most of the first eight rows that end within 4 KiB, or with the text, have as many cells.
    let mut rows: Vec<&[u8]> = text[first + 1..text.len().min(4096)].split(|byte| *byte == b'\n').collect();
    if text.len() >= 4096 || rows.last().is_some_and(|last| last.is_empty()) {
        rows.pop();
    }
    rows.truncate(8);
    let alike = rows.iter().filter(|row| cells(row).len() == cells(head).len()).count();
    if 2 * alike <= rows.len() {
        return false;
    }
    let Some(line) = (place.saturating_sub(1024)..place).rev().find(|i| text[*i] == b'\n') else { return false };
    let number = cells(&text[line + 1..place]).len() - 1;
    cells(head).get(number).is_some_and(|name| says(words, name, 0, name.len()))
}
