//! E-mail addresses.

use super::super::kinds::Detector;
use super::around::byte;
use super::{Match, at, ends, found};

/// The address around an `@`.
pub(super) fn address(text: &[u8], sign: usize) -> Option<Match> {
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
