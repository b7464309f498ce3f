//! What clamd says, and what that means.

use crate::model::ReasonKind;
use crate::{Error, ErrorKind, Result};

/// What clamd said about a content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It found nothing. Whether it looked at everything, it does not say.
    Nothing,
    /// A signature matched.
    Threat(String),
    /// It says that it did not scan everything, and in which words.
    Left(ReasonKind, String),
}

/// clamd's answer to more bytes than its `StreamMaxLength`, which comes before it has them all.
const STREAM_LIMIT: &str = "INSTREAM size limit exceeded.";

/// How a content was handed over, which is also what the answer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// `stream: `
    Stream,
    /// `fd[12]: `
    Descriptor,
}

/// The meaning of an answer without its end mark. `early` says that it came before everything was sent.
pub(super) fn parse(text: &str, mode: Mode, early: bool) -> Result<Reply> {
    let odd = || Error::new(ErrorKind::Engine, format!("clamd's answer makes no sense: {}", shown(text)));
    if text.chars().any(char::is_control) {
        return Err(odd());
    }
    let about = strip_subject(text, mode);
    if let Some(words) = text.strip_suffix(" ERROR") {
        if mode == Mode::Stream && words == STREAM_LIMIT {
            return Ok(Reply::Left(ReasonKind::TooLarge, words.to_owned()));
        }
        let said = about.and_then(|about| about.strip_suffix(" ERROR"));
        return match said.and_then(content_error) {
            Some(kind) if !early => Ok(Reply::Left(kind, said.unwrap_or(words).to_owned())),
            _ => Err(Error::new(ErrorKind::Engine, format!("clamd failed: {}", shown(words)))),
        };
    }
    if early {
        let why = format!("clamd answered before it had the whole content: {}", shown(text));
        return Err(Error::new(ErrorKind::Engine, why));
    }
    match about.ok_or_else(odd)? {
        "OK" => Ok(Reply::Nothing),
        found => match found.strip_suffix(" FOUND").map(without_digest) {
            Some(name) if !name.trim().is_empty() => Ok(match alert(name) {
                Some(kind) => Reply::Left(kind, name.to_owned()),
                None => Reply::Threat(name.to_owned()),
            }),
            _ => Err(odd()),
        },
    }
}

/// What follows after the name that clamd gives to what it scanned. The rest may hold spaces and colons.
fn strip_subject(text: &str, mode: Mode) -> Option<&str> {
    match mode {
        Mode::Stream => text.strip_prefix("stream: "),
        Mode::Descriptor => {
            let (number, rest) = text.strip_prefix("fd[")?.split_once("]: ")?;
            (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
        }
    }
}

/// A name without what `ExtendedDetectionInfo` puts behind it: `(MD5:size)`.
fn without_digest(name: &str) -> &str {
    let parts = name.strip_suffix(')').and_then(|name| name.rsplit_once('('));
    match parts.and_then(|(name, info)| Some((name, info.split_once(':')?))) {
        Some((name, (digest, size)))
            if digest.len() == 32
                && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !size.is_empty()
                && size.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            name
        }
        _ => name,
    }
}

/// libclamav's ways to say, as if it were a find, that it did not scan everything (`AlertExceedsMax`,
/// `AlertEncrypted`, `AlertBroken...`).
fn alert(name: &str) -> Option<ReasonKind> {
    let name = name.strip_prefix("Heuristics.")?;
    if let Some(limit) = name.strip_prefix("Limits.Exceeded") {
        return Some(match limit.trim_start_matches('.') {
            "MaxFileSize" => ReasonKind::TooLarge,
            "MaxScanSize" => ReasonKind::ScanSize,
            "MaxRecursion" => ReasonKind::TooDeep,
            "MaxFiles" | "EmailMIMEPartsPerMessage" => ReasonKind::TooManyFiles,
            "MaxScanTime" => ReasonKind::TimedOut,
            _ => ReasonKind::EngineReported,
        });
    }
    if name.starts_with("Encrypted.") {
        return Some(ReasonKind::Encrypted);
    }
    if name.starts_with("Broken.") {
        return Some(ReasonKind::TruncatedOrCorrupt);
    }
    match name {
        "XZ.DicSizeLimit" => Some(ReasonKind::Unsupported),
        "BoundsCheck" => Some(ReasonKind::EngineReported),
        _ => None,
    }
}

/// The words of libclamav for failures that the same content will always cause (`cl_strerror`).
fn content_error(words: &str) -> Option<ReasonKind> {
    match words {
        "Exceeded time limit" => Some(ReasonKind::TimedOut),
        "Exceeded max recursion depth" => Some(ReasonKind::TooDeep),
        "Exceeded max scan size" => Some(ReasonKind::ScanSize),
        "Exceeded max scan files" => Some(ReasonKind::TooManyFiles),
        "Bad format or broken data" | "Can't parse data" | "Can't unpack some data" => {
            Some(ReasonKind::TruncatedOrCorrupt)
        }
        _ => None,
    }
}

/// What `VERSION` says: the software, and the database behind the first `/` where there is an official one.
pub(super) fn parse_version(text: &str) -> Result<(String, Option<(u32, String)>)> {
    let odd = || Error::new(ErrorKind::Engine, format!("clamd does not say its version: {}", shown(text)));
    let rest = text.strip_prefix("ClamAV ").filter(|rest| !rest.chars().any(char::is_control)).ok_or_else(odd)?;
    let (library, database) = rest.split_once('/').map_or((rest, None), |(one, other)| (one, Some(other)));
    if library.is_empty() {
        return Err(odd());
    }
    let database = match database {
        None => None,
        Some(database) => {
            let (number, date) = database.split_once('/').ok_or_else(odd)?;
            let number: u32 = number.parse().map_err(|_| odd())?;
            // 0 is what clamd says where it does not know.
            (number > 0 && !date.is_empty()).then(|| (number, date.to_owned()))
        }
    };
    Ok((library.to_owned(), database))
}

/// A stranger's words, short and on one line.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    format!("{short:?}{}", if short.len() < text.len() { " and more" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_say() {
        use ReasonKind::{Encrypted, TimedOut, TooLarge, TruncatedOrCorrupt};
        let threat = |name: &str| Reply::Threat(name.to_owned());
        let left = |kind, words: &str| Reply::Left(kind, words.to_owned());
        for (text, expected) in [
            ("stream: OK", Reply::Nothing),
            ("stream: Win.Test.EICAR_HDB-1 FOUND", threat("Win.Test.EICAR_HDB-1")),
            ("stream: a name: with FOUND in it FOUND", threat("a name: with FOUND in it")),
            ("stream: OK FOUND", threat("OK")),
            ("stream: A(44d88612fea8a8f36de82e1278abb02f:68) FOUND", threat("A")),
            ("stream: A(b:68) FOUND", threat("A(b:68)")),
            ("stream: Heuristics.Phishing.Email FOUND", threat("Heuristics.Phishing.Email")),
            ("stream: Heuristics.Encrypted.Zip FOUND", left(Encrypted, "Heuristics.Encrypted.Zip")),
            (
                "stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND",
                left(TooLarge, "Heuristics.Limits.Exceeded.MaxFileSize"),
            ),
            ("stream: Heuristics.Broken.Media.JPEG FOUND", left(TruncatedOrCorrupt, "Heuristics.Broken.Media.JPEG")),
            ("INSTREAM size limit exceeded. ERROR", left(TooLarge, "INSTREAM size limit exceeded.")),
            ("stream: Exceeded time limit ERROR", left(TimedOut, "Exceeded time limit")),
        ] {
            assert_eq!(parse(text, Mode::Stream, false).expect(text), expected, "{text}");
        }
        assert_eq!(parse("fd[12]: OK", Mode::Descriptor, false).expect("an answer"), Reply::Nothing);
        assert_eq!(parse("fd[7]: A: b FOUND", Mode::Descriptor, false).expect("an answer"), threat("A: b"));
    }

    #[test]
    fn whatever_else_it_says_is_no_verdict() {
        for text in [
            "",
            "OK",
            "stream:",
            "stream: ",
            "stream: O",
            "stream: OK ",
            "stream:OK",
            "stream: FOUND",
            "stream:  FOUND",
            "stream: A FOUN",
            "stream: A\nstream: OK FOUND",
            "stream: OK\n",
            "fd[10]: OK",
            "UNKNOWN COMMAND",
            "COMMAND READ TIMED OUT",
            "stream: Can't allocate memory ERROR",
            "Exceeded time limit ERROR",
            " ERROR",
            "ERROR",
        ] {
            let error = parse(text, Mode::Stream, false).expect_err(text);
            assert!(error.kind() == ErrorKind::Engine && error.is_retryable(), "{text}: {error}");
        }
        for text in ["stream: OK", "fd[]: OK", "fd[x]: OK", "fd[1: OK", "INSTREAM size limit exceeded. ERROR"] {
            assert!(parse(text, Mode::Descriptor, false).is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_before_the_end_is_no_verdict() {
        for text in ["stream: OK", "stream: A FOUND", "stream: Exceeded time limit ERROR"] {
            assert!(parse(text, Mode::Stream, true).is_err(), "{text}");
        }
        let limit = parse("INSTREAM size limit exceeded. ERROR", Mode::Stream, true).expect("its limit");
        assert!(matches!(limit, Reply::Left(ReasonKind::TooLarge, _)));
    }

    #[test]
    fn versions_are_taken_apart() {
        let of = |text| parse_version(text).ok();
        let full = of("ClamAV 1.4.6/27500/Sat Jan 10 09:30:00 2026").expect("a version");
        assert_eq!(full, (String::from("1.4.6"), Some((27500, String::from("Sat Jan 10 09:30:00 2026")))));
        for text in ["ClamAV 1.4.6", "ClamAV 1.4.6/0/Thu Jan  1 00:00:00 1970", "ClamAV 1.4.6/1/"] {
            assert_eq!(of(text), Some((String::from("1.4.6"), None)), "{text}");
        }
        for text in ["", "ClamAV ", "ClamAV /1/x", "1.4.6", "ClamAV 1/x/y", "ClamAV 1/2", "UNKNOWN COMMAND"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
