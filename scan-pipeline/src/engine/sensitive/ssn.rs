//! US social security numbers.
//!
//! Which numbers the Social Security Administration gives is in its POMS, RM 10201.035: no area 000, 666 or 900 to 999,
//! no group 00, no serial 0000. Some well-known numbers are nobody's: 078-05-1120 (a wallet's sample card), 219-09-9999
//! (a pamphlet's), 457-55-5462 (an advertisement's), 123-45-6789.

use super::keyword::{Topic, clear_left_of};
use super::kinds::Detector;
use super::look::{Raw, alone, at, before, clear_right, digits_before, digits_from};

const NOBODYS: [&[u8; 9]; 4] = [b"078051120", b"219099999", b"457555462", b"123456789"];

/// The confidence in a row of nine digits of which nothing tells what it is.
pub(super) const ROW: f64 = 0.15;

/// Whether nine digits are a number that somebody can have.
fn is_given(digits: &[u8; 9]) -> bool {
    let area = &digits[..3];
    area != b"000"
        && area != b"666"
        && area[0] != b'9'
        && &digits[3..5] != b"00"
        && &digits[5..] != b"0000"
        && !NOBODYS.contains(&digits)
        && digits.iter().any(|digit| *digit != digits[0])
}

/// The number whose last four digits, after a separator, begin at `serial`.
pub(super) fn find_grouped(text: &[u8], serial: usize, mut labelled: impl FnMut(usize, usize) -> bool) -> Option<Raw> {
    let separator = before(text, serial, 1);
    let groups = matches!(separator, b'-' | b' ' | b'.')
        && before(text, serial, 4) == separator
        && digits_from(text, serial, 5) == 4
        && digits_before(text, serial.wrapping_sub(1), 3) == 2
        && digits_before(text, serial.wrapping_sub(4), 4) == 3;
    if !groups {
        return None;
    }
    let (start, end) = (serial - 7, serial + 4);
    let mut digits = [0; 9];
    digits[..3].copy_from_slice(&text[start..start + 3]);
    digits[3..5].copy_from_slice(&text[start + 4..start + 6]);
    digits[5..].copy_from_slice(&text[serial..end]);
    if !is_given(&digits) || !clear_left_of(Topic::Ssn, text, start) || !clear_right(text, end) {
        return None;
    }
    let row = before(text, start, 1) == b' ' && before(text, start, 2).is_ascii_digit()
        || at(text, end) == b' ' && at(text, end + 1).is_ascii_digit();
    let confidence = match (separator, labelled(start, end)) {
        // Numbers in a row are a table.
        (b' ', _) if row => return None,
        (b'-', true) => 0.95,
        (b'-', false) => 0.75,
        (b'.', true) => 0.9,
        (b'.', false) => 0.6,
        (_, true) => 0.85,
        (_, false) if alone(text, start, end) => 0.55,
        (_, false) => 0.2,
    };
    Some(Raw::new(start, end, Detector::Ssn, confidence))
}

/// The number whose nine digits begin at `start`.
pub(super) fn find_row(text: &[u8], start: usize, mut labelled: impl FnMut(usize, usize) -> bool) -> Option<Raw> {
    let end = start + 9;
    if digits_from(text, start, 10) != 9 || !clear_left_of(Topic::Ssn, text, start) || !clear_right(text, end) {
        return None;
    }
    let digits = text[start..end].try_into().ok()?;
    is_given(digits).then(|| Raw::new(start, end, Detector::Ssn, if labelled(start, end) { 0.7 } else { ROW }))
}
