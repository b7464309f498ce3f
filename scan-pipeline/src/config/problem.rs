//! What is wrong with a configuration file, and where.

use std::fmt;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Mistake,
    /// The file can be used, and may not do what its writer thinks.
    Warning,
}

impl Severity {
    /// The severity as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mistake => "mistake",
            Self::Warning => "warning",
        }
    }
}

/// Something wrong with a configuration file. It displays as `12:7: mistake: buckets.clean.url: ...`.
///
/// Messages quote values as they stand in the file, never what a variable of the environment put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key that it is about, such as `workflow.release.steps[0].to`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.line, self.column, self.severity.as_str(), self.without_place())
    }
}

impl Problem {
    /// The key and the message, for settings that come from no file.
    pub(super) fn without_place(&self) -> String {
        if self.key.is_empty() { self.message.clone() } else { format!("{}: {}", self.key, self.message) }
    }
}

/// Line and column of an offset, both from 1.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The candidate that was probably meant: few changes away, beginning or continuing the same.
pub(super) fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let same = |text: &str| text.to_lowercase().replace('-', "_");
    let word = same(word);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &same(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean ...?`, or the list of what there is.
pub(super) fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(meant) = suggestion(word, candidates.clone()) {
        return format!("; did you mean `{meant}`?");
    }
    let all: Vec<_> = candidates.into_iter().map(|candidate| format!("`{candidate}`")).collect();
    match all.as_slice() {
        [] => String::new(),
        [only] => format!("; there is only {only}"),
        [first @ .., last] => format!("; there are {} and {last}", first.join(", ")),
    }
}

/// The number of letters that have to be added, removed, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_in_characters() {
        let text = "a = 1\nü = \"x\"\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 6), (2, 1));
        assert_eq!(position(text, 11), (2, 5));
        assert_eq!(position(text, 1000), (3, 1));
    }

    #[test]
    fn what_was_meant_is_suggested_and_nothing_far_from_it() {
        let keys = ["url", "watch", "prefix", "max_file_size"];
        for (word, meant) in [
            ("ulr", Some("url")),
            ("wacth", Some("watch")),
            ("Prefix", Some("prefix")),
            ("max-file-size", Some("max_file_size")),
            ("max_filesize", Some("max_file_size")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(suggestion(word, keys), meant, "{word}");
        }
        assert_eq!(hint("colour", ["a", "b", "c"]), "; there are `a`, `b` and `c`");
    }
}
