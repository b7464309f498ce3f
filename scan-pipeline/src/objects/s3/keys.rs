//! Keys: which ones a server carries, and how they are written in requests.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{Error, ErrorKind, Result};

/// Most bytes of a key.
const LONGEST: usize = 1024;
/// Most bytes between two slashes, where keys are paths of files.
const LONGEST_PART: usize = 255;

/// What stays as it is in a copy source; the key's slashes do too.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Which keys a server carries as they are.
///
/// MinIO and versitygw take `/evil` for `evil`, and versitygw `a//b` for `a/b`: a client that trusts them acts on
/// another object than the one that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Keys {
    /// Every key, as Amazon does.
    Exact,
    /// Those that are also paths. A slash at the start, two in a row, the parts `.` and `..`, and parts over 255 bytes
    /// are refused here, before the server makes another key of them. A listing goes on by marks of the server's where
    /// it can, since MinIO loses keys otherwise.
    Paths,
}

impl S3Keys {
    pub(super) fn check(self, key: &str) -> Result<()> {
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
        if key.is_empty() || key.len() > LONGEST {
            return refused(format!("a key has 1 to {LONGEST} bytes, and this one {}", key.len()));
        }
        // A slash at the end makes an object of its own on both.
        let path = key.strip_suffix('/').unwrap_or(key);
        if self == Self::Paths && path.split('/').any(unlike_a_path) {
            return refused(String::from("the server may take this key for another one; see S3BucketBuilder::keys"));
        }
        Ok(())
    }

    /// Whether there can be keys with this prefix: servers that keep objects as files refuse to look for the others.
    pub(super) fn may_begin_with(self, prefix: &str) -> bool {
        let mut parts = prefix.rsplit('/').skip(1);
        self == Self::Exact || parts.all(|part| !unlike_a_path(part))
    }
}

fn unlike_a_path(part: &str) -> bool {
    matches!(part, "" | "." | "..") || part.len() > LONGEST_PART
}

/// Percent-encoded; slashes stay.
pub(super) fn encoded_path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Percent-encoded.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_sources_are_encoded_to_the_byte() {
        assert_eq!(encoded_path("/a//b/../c d+%2B~ü\n"), "/a//b/../c%20d%2B%252B~%C3%BC%0A");
    }

    #[test]
    fn keys_that_are_no_paths_can_be_refused() {
        for key in
            ["/evil", "//evil", "a//b", "a/../b", "../up", "a/./b", "./x", "dir/.", "a//", "/", ".", &"h".repeat(256)]
        {
            assert!(S3Keys::Exact.check(key).is_ok(), "{key}");
            assert!(S3Keys::Paths.check(key).is_err(), "{key}");
        }
        for key in ["a", "a/b", "trailing/", ".hidden", "...", "a b+c%2B", "line\nbreak", &"h".repeat(255)] {
            assert!(S3Keys::Paths.check(key).is_ok(), "{key}");
        }
        for (prefix, may) in [("", true), ("a/b", true), ("a/.", true), ("/", false), ("a//", false), ("a/../b", false)]
        {
            assert_eq!(S3Keys::Paths.may_begin_with(prefix), may, "{prefix}");
            assert!(S3Keys::Exact.may_begin_with(prefix));
        }
        for key in ["", &"h".repeat(1025)] {
            assert!(S3Keys::Exact.check(key).is_err());
        }
    }
}
