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

    /// An address as it stands in the file, for messages: with no more than its scheme where a password could be in it. What
    /// somebody took for an address may have any form, and a mistake may be in the password itself.
    pub(super) fn address(&self) -> String {
        let (scheme, rest) = match self.written.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), &*self.written),
        };
        // Variables are shown by their names.
        let mut bare = String::from(rest);
        while let Some((before, (_, behind))) = bare.split_once("${").and_then(|(a, b)| Some((a, b.split_once('}')?))) {
            bare = format!("{before}{behind}");
        }
        let server = bare.split(['/', '\\']).next().unwrap_or_default();
        let port = server.rsplit_once(':').map_or("", |(_, port)| port);
        let plain = !bare.contains(['@', '?', '#', '=']) && port.bytes().all(|byte| byte.is_ascii_digit());
        if plain { self.written.clone() } else { scheme + "..." }
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
        for secret in [
            "postgres://u:p%2Fw@host/db?sslmoed=require",
            "postgres://u:p#w@ss?x@host/db",
            "postgres://host/db?user=me@srv&password=p@ss&sslmoed=x",
            "postgres://host/db?password=x&typo=y",
            "postgres://user:pw/db",
            "https://user:pw@host/",
        ] {
            let shown = Text { written: String::from(secret), ..Text::default() }.address();
            assert_eq!(
                Some(shown.strip_suffix("...").expect("is cut")),
                secret.split_inclusive("//").next(),
                "{secret}"
            );
        }
        for secret in ["user:pw@host", "host=db user=u password=pw"] {
            assert_eq!(Text { written: String::from(secret), ..Text::default() }.address(), "...");
        }
        for plain in
            ["redis://host", "redis://host:1/a", "./folder", "a b", "${ADDRESS}", "http://h:${PORT}/a", "${", ""]
        {
            assert_eq!(Text { written: String::from(plain), ..Text::default() }.address(), plain);
        }
    }
}
