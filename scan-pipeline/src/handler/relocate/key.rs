//! The key of a copy.

use std::fmt;
use std::sync::Arc;

use crate::Result;
use crate::handler::Scanned;
use crate::handler::template::Template;
use crate::model::ObjectRef;

/// How the key of a copy is made.
#[derive(Clone)]
pub(super) enum KeyRule {
    Prefix(String),
    Template(Template),
    Function(Arc<KeyFn>),
}

type KeyFn = dyn Fn(&Scanned, &ObjectRef) -> String + Send + Sync;

impl Default for KeyRule {
    fn default() -> Self {
        Self::Prefix(String::new())
    }
}

impl fmt::Debug for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => f.debug_tuple("Prefix").field(prefix).finish(),
            Self::Template(template) => template.fmt(f),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

impl KeyRule {
    pub(super) fn template(template: &str) -> Result<Self> {
        Template::parse(template, "key").map(Self::Template)
    }

    /// Whether a key has the prefix that would be put before it.
    pub(super) fn is_prefix_of(&self, key: &str) -> bool {
        matches!(self, Self::Prefix(prefix) if !prefix.is_empty() && key.starts_with(prefix))
    }

    pub(super) fn make(&self, scanned: &Scanned, from: &ObjectRef) -> String {
        match self {
            Self::Prefix(prefix) => format!("{prefix}{}", from.key),
            Self::Function(function) => function(scanned, from),
            Self::Template(template) => template.render(scanned, from, |value| value),
        }
    }
}

/// The key with 12 digits of the idempotency key before its extension.
pub(super) fn with_suffix(key: &str, idempotency_key: &str) -> String {
    let digits = idempotency_key.get(..12).unwrap_or(idempotency_key);
    let name = key.rfind('/').map_or(0, |at| at + 1);
    match key[name..].rfind('.') {
        Some(dot) if dot > 0 => {
            let (stem, extension) = key.split_at(name + dot);
            format!("{stem}-{digits}{extension}")
        }
        _ => format!("{key}-{digits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_keep_the_extension() {
        for (key, expected) in [
            ("a/report.pdf", "a/report-0123456789ab.pdf"),
            ("a.b/report", "a.b/report-0123456789ab"),
            (".profile", ".profile-0123456789ab"),
            ("x.tar.gz", "x.tar-0123456789ab.gz"),
            ("dir/", "dir/-0123456789ab"),
        ] {
            assert_eq!(with_suffix(key, "0123456789abcdef"), expected);
        }
    }
}
