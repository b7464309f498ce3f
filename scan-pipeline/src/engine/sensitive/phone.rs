//! Phone numbers of the North American Numbering Plan.
//!
//! The plan (nationalnanpa.com; ATIS-0300115) has an area code `[2-9][0-8]d`, an exchange `[2-9]dd` and four digits;
//! codes that end in 11 are services. 555-01XX is kept for fiction.

use super::keyword::{Topic, clear_left_of};
use super::kinds::Detector;
use super::look::{Raw, alone, at, before, clear_right, digits_before, digits_from};

/// Where the parts of a number lie, once it has the form of one.
struct Parts {
    /// Area, exchange and line.
    digits: [u8; 10],
    /// Where it begins: its area code or the parenthesis around it.
    main: usize,
    end: usize,
    form: Form,
}

/// How sure the form alone makes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Grouped as such numbers are.
    Written,
    /// Grouped by blanks, as other numbers are, too.
    Blanks,
    /// Not grouped, with different separators, or in a way of other countries.
    Other,
}

/// The confidence in a row of digits, without a plus, of which nothing tells what it is.
pub(super) const ROW: f64 = 0.2;

/// The number whose last group begins at `last`, after a separator.
pub(super) fn find_grouped(text: &[u8], last: usize, labelled: impl FnMut(usize, usize) -> bool) -> Option<Raw> {
    judge(text, grouped(text, last)?, labelled)
}

/// The number whose row of ten digits, or of eleven with a 1 before, begins at `start`.
pub(super) fn find_row(text: &[u8], start: usize, labelled: impl FnMut(usize, usize) -> bool) -> Option<Raw> {
    let main = match digits_from(text, start, 12) {
        10 if text[start] >= b'2' => start,
        11 if text[start] == b'1' => start + 1,
        _ => return None,
    };
    let digits = text[main..main + 10].try_into().ok()?;
    judge(text, Parts { digits, main, end: main + 10, form: Form::Other }, labelled)
}

fn grouped(text: &[u8], last: usize) -> Option<Parts> {
    let separator = before(text, last, 1);
    let size = digits_from(text, last, 8);
    let mut digits = [0; 10];
    if size == 7 {
        // (415) 6667777, 415-6667777
        let (main, area, form) = area(text, last, None)?;
        digits[..3].copy_from_slice(&text[area..area + 3]);
        digits[3..].copy_from_slice(&text[last..last + 7]);
        return Some(Parts { digits, main, end: last + 7, form });
    }
    if size != 4 || !matches!(separator, b'-' | b'.' | b' ' | b'/') {
        return None;
    }
    match digits_before(text, last - 1, 5) {
        3 => {
            let exchange = last - 4;
            let (main, area, form) = area(text, exchange, Some(separator))?;
            digits[..3].copy_from_slice(&text[area..area + 3]);
            digits[3..6].copy_from_slice(&text[exchange..exchange + 3]);
            digits[6..].copy_from_slice(&text[last..last + 4]);
            Some(Parts { digits, main, end: last + 4, form })
        }
        // (71) 4233-6306
        4 if separator != b'/' => {
            let middle = last - 5;
            let close = if before(text, middle, 1) == b' ' { middle.wrapping_sub(2) } else { middle.wrapping_sub(1) };
            let fits = at(text, close) == b')' && digits_before(text, close, 3) == 2 && before(text, close, 3) == b'(';
            if !fits {
                return None;
            }
            digits[..2].copy_from_slice(&text[close - 2..close]);
            digits[2..6].copy_from_slice(&text[middle..middle + 4]);
            digits[6..].copy_from_slice(&text[last..last + 4]);
            Some(Parts { digits, main: close - 3, end: last + 4, form: Form::Other })
        }
        _ => None,
    }
}

/// The area code before an exchange: where it begins with its parenthesis, where its digits begin, and what form that
/// is. `separator` is what stands behind the exchange; without one, all seven digits stand together.
fn area(text: &[u8], exchange: usize, separator: Option<u8>) -> Option<(usize, usize, Form)> {
    let first = before(text, exchange, 1);
    let close = match (first, before(text, exchange, 2)) {
        (b')', _) => Some(exchange - 1),
        (b' ' | b'-' | b'.', b')') => Some(exchange - 2),
        _ => None,
    };
    if let Some(close) = close {
        let fits = digits_before(text, close, 4) == 3 && before(text, close, 4) == b'(';
        return fits.then(|| (close - 4, close - 3, Form::Written));
    }
    match digits_before(text, exchange.wrapping_sub(1), 5) {
        3 => {}
        // +1415-555-2671
        4 if before(text, exchange, 5) == b'1' && before(text, exchange, 6) == b'+' => {}
        _ => return None,
    }
    let form = match (first, separator) {
        (b' ', Some(b' ')) => Form::Blanks,
        (b'-', None | Some(b'-')) | (b'.', Some(b'.')) | (b'/' | b' ', Some(b'-')) => Form::Written,
        (b' ' | b'-' | b'.' | b'/', _) => Form::Other,
        _ => return None,
    };
    Some((exchange - 4, exchange - 4, form))
}

/// Where the country code before a number begins, and whether it has a plus.
fn country(text: &[u8], main: usize) -> Option<(usize, bool)> {
    let end = if matches!(before(text, main, 1), b' ' | b'-' | b'.') { main - 1 } else { main };
    let start = end.wrapping_sub(match digits_before(text, end, 4) {
        1 => 1,
        3 => 3,
        _ => return None,
    });
    match &text[start..end] {
        b"1" if before(text, start, 1) == b'+' => Some((start - 1, true)),
        b"1" | b"001" => Some((start, false)),
        _ => None,
    }
}

/// Whether the country code of somewhere else stands before a number.
fn foreign(text: &[u8], main: usize) -> bool {
    let end = if matches!(before(text, main, 1), b' ' | b'-' | b'.') { main - 1 } else { main };
    let size = digits_before(text, end, 4);
    (1..=3).contains(&size) && before(text, end, size + 1) == b'+'
}

/// Whether an extension follows without a blank: `x5`, `ext5`, `ext. 5`.
fn extension(text: &[u8], end: usize) -> bool {
    let mut place = match [at(text, end), at(text, end + 1), at(text, end + 2)].map(|byte| byte | 0x20) {
        [b'x', ..] => return at(text, end + 1).is_ascii_digit(),
        [b'e', b'x', b't'] => end + 3,
        _ => return false,
    };
    place += usize::from(at(text, place) == b'.');
    place += usize::from(at(text, place) == b' ');
    at(text, place).is_ascii_digit()
}

fn judge(text: &[u8], parts: Parts, mut labelled: impl FnMut(usize, usize) -> bool) -> Option<Raw> {
    let Parts { digits, main, end, form } = parts;
    let service = |code: &[u8]| code[1] == b'1' && code[2] == b'1';
    let planned = matches!(digits[0], b'2'..=b'9')
        && matches!(digits[1], b'0'..=b'8')
        && !service(&digits[..3])
        && matches!(digits[3], b'2'..=b'9')
        && !service(&digits[3..6])
        && digits.iter().any(|digit| *digit != digits[0]);
    if !planned || !(extension(text, end) || clear_right(text, end)) {
        return None;
    }
    let clear = |(start, plus): &(usize, bool)| {
        if *plus { !super::look::is_word(before(text, *start, 1)) } else { clear_left_of(Topic::Phone, text, *start) }
    };
    let (start, plus, one) = match country(text, main).filter(clear) {
        Some((start, plus)) => (start, plus, true),
        None if foreign(text, main) || !clear_left_of(Topic::Phone, text, main) => return None,
        None => (main, false, false),
    };
    let row = before(text, start, 1) == b' ' && before(text, start, 2).is_ascii_digit()
        || at(text, end) == b' ' && at(text, end + 1).is_ascii_digit();
    let confidence = match (form, plus, labelled(start, end)) {
        (Form::Blanks, false, _) if row => return None,
        (_, true, _) | (Form::Written, _, true) => 0.9,
        (Form::Written, ..) => 0.7,
        (_, _, true) => 0.6,
        (Form::Blanks, ..) if one || alone(text, start, end) => 0.55,
        _ => ROW,
    };
    let fictional = &digits[3..6] == b"555" && &digits[6..8] == b"01";
    Some(Raw::new(start, end, Detector::Phone, confidence).tagged(fictional.then_some("fictional")))
}
