//! The names of columns: in a table as text, the first line says what the numbers below it are. A table is what has as
//! many cells in most of its first rows as in the first line, or a letter that begins with `Hello, call my phone` would be
//! one.

use super::kernel::Instructions;
use super::keyword::Topic;

/// Longest first line that is read, and furthest that the beginning of a line is looked for.
pub(super) const MOST: usize = 1024;
/// How much of a text is read to see whether it is a table, and how many rows of it.
pub(super) const SIGHT: usize = 4096;
const ROWS: usize = 8;

/// What is in the names of columns of secret keys, in lower case.
const SECRETS: [&str; 4] = ["secret", "aws_key", "aws-key", "awskey"];

/// The columns of a table whose names tell of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    separator: u8,
    /// Bytes of the first line, with its end.
    length: u64,
    /// For each topic, the columns.
    columns: [Vec<usize>; 3],
    /// Those of secret keys.
    secrets: Vec<usize>,
}

impl Header {
    /// Reads the first lines of a text, of which [`SIGHT`] bytes have to be there, or all. `None` where they are no table,
    /// and where it names no column that matters.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let line = &text[..text.iter().take(MOST).position(|byte| *byte == b'\n')?];
        let count = |mark: u8| line.iter().filter(|byte| **byte == mark).count();
        let separator = [b',', b';', b'\t', b'|'].into_iter().max_by_key(|mark| (count(*mark), 255 - mark))?;
        // Names hold no numbers to speak of; data does.
        if count(separator) == 0 || line.iter().filter(|byte| byte.is_ascii_digit()).count() > line.len() / 8 {
            return None;
        }
        let cells = split(line, separator).count();
        // What comes last may be cut.
        let rows = text[line.len() + 1..text.len().min(SIGHT)].split_inclusive(|byte| *byte == b'\n');
        let whole = rows.filter(|row| row.ends_with(b"\n") || text.len() < SIGHT).take(ROWS);
        let (all, alike) = whole
            .fold((0, 0), |(all, alike), row| (all + 1, alike + usize::from(split(row, separator).count() == cells)));
        if alike * 2 <= all {
            return None;
        }
        let (mut columns, mut secrets) = ([const { Vec::new() }; 3], Vec::new());
        for (i, name) in split(line, separator).enumerate() {
            for topic in Topic::ALL {
                if topic.is_within(Instructions::Portable, name, 0, name.len()) {
                    columns[topic as usize].push(i);
                }
            }
            let name = name.to_ascii_lowercase();
            if SECRETS.iter().any(|one| name.windows(one.len()).any(|part| part == one.as_bytes())) {
                secrets.push(i);
            }
        }
        let found = !secrets.is_empty() || columns.iter().any(|columns| !columns.is_empty());
        found.then_some(Self { separator, length: line.len() as u64 + 1, columns, secrets })
    }

    /// Whether a place is in a column of this topic. `base` is where the text begins in the layer.
    pub(super) fn is_about(&self, topic: Topic, text: &[u8], base: u64, place: usize) -> bool {
        self.is_in(&self.columns[topic as usize], text, base, place)
    }

    /// Whether there is a column of secret keys.
    pub(super) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Whether a place is in such a column.
    pub(super) fn is_secret(&self, text: &[u8], base: u64, place: usize) -> bool {
        self.is_in(&self.secrets, text, base, place)
    }

    fn is_in(&self, columns: &[usize], text: &[u8], base: u64, place: usize) -> bool {
        if columns.is_empty() || base + (place as u64) < self.length {
            return false;
        }
        let from = place.saturating_sub(MOST);
        let Some(line) = text[from..place].iter().rposition(|byte| *byte == b'\n') else { return false };
        let before = &text[from + line + 1..place];
        columns.contains(&(split(before, self.separator).count() - 1))
    }
}

/// The cells of a line. A separator in double quotes is none.
fn split(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == separator && !quoted
    })
}
