//! Texts of a configuration file, and secrets among them.

use std::path::PathBuf;

use super::problem::Severity;
use super::read::Reader;

/// A text with its place, after substitution.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Text {
    pub(super) value: String,
    /// As it stands in the file: what messages may show.
    pub(super) written: String,
    pub(super) from_variable: bool,
    pub(super) key: String,
    pub(super) at: usize,
}

impl Text {
    pub(super) fn mistake(&self, reader: &Reader<'_>, message: impl Into<String>) {
        reader.note(Severity::Mistake, self.at, &self.key, message, false);
    }

    /// A mistake that depends on something else being there.
    pub(super) fn dangling(&self, reader: &Reader<'_>, message: impl Into<String>) {
        reader.note(Severity::Mistake, self.at, &self.key, message, true);
    }

    pub(super) fn warning(&self, reader: &Reader<'_>, message: impl Into<String>) {
        reader.note(Severity::Warning, self.at, &self.key, message, false);
    }

    /// Warns when a secret stands in the file itself.
    pub(super) fn secret(self, reader: &Reader<'_>) -> Secret {
        if !self.from_variable {
            let why = "is a secret that stands in the file: keep it in an environment variable and write ${NAME}";
            self.warning(reader, why);
        }
        Secret(self.value)
    }

    /// A message about the value by somebody else, without what came from variables.
    pub(super) fn hide(&self, message: &str) -> String {
        if self.from_variable && !self.value.is_empty() {
            message.replace(&self.value, &self.written)
        } else {
            message.to_owned()
        }
    }

    /// An address as it stands in the file, without what may be a password: what comes before an `@`, and behind a question
    /// mark. A mistake elsewhere in it, or what somebody took for an address, may have any form.
    pub(super) fn address(&self) -> String {
        let (scheme, rest) =
            self.written.split_once("://").map_or(("", &*self.written), |(scheme, rest)| (scheme, rest));
        let (user, place) = rest.rsplit_once('@').map_or(("", rest), |(_, place)| ("...@", place));
        let (place, query) = place.split_once('?').map_or((place, ""), |(place, _)| (place, "?..."));
        let parted = if scheme.is_empty() { "" } else { "://" };
        format!("{scheme}{parted}{user}{place}{query}")
    }

    /// The value as a path, from the folder of the file where it is relative.
    pub(super) fn path(&self, reader: &Reader<'_>) -> PathBuf {
        reader.base.join(&self.value)
    }
}

/// A secret, which shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(value: String) -> Self {
        Self(value)
    }

    #[cfg_attr(
        not(any(feature = "webhook", feature = "email", feature = "s3")),
        allow(dead_code, reason = "only these have secrets")
    )]
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_passwords() {
        for (written, shown) in [
            ("postgres://u:p%2Fw@host/db?sslmoed=require", "postgres://...@host/db?..."),
            ("postgres://u:p#w@ss?x@host/db", "postgres://...@host/db"),
            ("postgres://host/db?password=x&typo=y", "postgres://host/db?..."),
            ("https://user:pw@host/", "https://...@host/"),
            ("user:pw@host", "...@host"),
            ("redis://host", "redis://host"),
            ("./folder", "./folder"),
            ("${ADDRESS}", "${ADDRESS}"),
        ] {
            assert_eq!(Text { written: String::from(written), ..Text::default() }.address(), shown);
        }
    }
}
