//! The key of a copy.

use std::fmt;
use std::sync::Arc;

use crate::handler::Scanned;
use crate::model::ObjectRef;
use crate::{Error, ErrorKind, Result};

/// How the key of a copy is made.
#[derive(Clone)]
pub(super) enum KeyRule {
    Prefix(String),
    Template(Vec<Part>),
    Function(Arc<KeyFn>),
}

type KeyFn = dyn Fn(&Scanned, &ObjectRef) -> String + Send + Sync;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    Key,
    Name,
    Sha256,
    Task,
    Status,
}

impl Default for KeyRule {
    fn default() -> Self {
        Self::Prefix(String::new())
    }
}

impl fmt::Debug for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => f.debug_tuple("Prefix").field(prefix).finish(),
            Self::Template(parts) => f.debug_tuple("Template").field(parts).finish(),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

impl KeyRule {
    pub(super) fn template(template: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::Config, format!("is no template of a key: {why}")).about(template.to_owned())
        };
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                text.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let (name, after) = rest
                .strip_prefix('{')
                .and_then(|rest| rest.split_once('}'))
                .ok_or_else(|| wrong("a brace has no other; write {{ or }} for one"))?;
            let part = match name {
                "key" => Part::Key,
                "name" => Part::Name,
                "sha256" => Part::Sha256,
                "task" => Part::Task,
                "status" => Part::Status,
                _ => {
                    return Err(wrong(&format!(
                        "{{{name}}} is not one of {{key}}, {{name}}, {{sha256}}, {{task}}, {{status}}"
                    )));
                }
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self::Template(parts))
    }

    pub(super) fn make(&self, scanned: &Scanned, from: &ObjectRef) -> String {
        match self {
            Self::Prefix(prefix) => format!("{prefix}{}", from.key),
            Self::Function(function) => function(scanned, from),
            Self::Template(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text.clone(),
                    Part::Key => from.key.clone(),
                    Part::Name => from.file_name().to_owned(),
                    // What was not read to its end has none, and its task is as unique.
                    Part::Sha256 => {
                        scanned.report.sha256.map_or_else(|| scanned.task.to_string(), |sha256| sha256.to_string())
                    }
                    Part::Task => scanned.task.to_string(),
                    Part::Status => scanned.verdict().status().to_owned(),
                })
                .collect(),
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
    use crate::handler::fixture::{infected, scanned};

    fn made(template: &str) -> String {
        let scanned = scanned(infected());
        KeyRule::template(template).expect("a template").make(&scanned, &scanned.object)
    }

    #[test]
    fn templates() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (template, key) in [
            ("{key}", "dir/a.zip"),
            ("{status}/{sha256}/{name}", &format!("infected/{abc}/a.zip")),
            ("a{{b}}{name}", "a{b}a.zip"),
            ("fixed", "fixed"),
        ] {
            assert_eq!(made(template), key);
        }
        assert_eq!(made("{task}").len(), 64);
        for wrong in ["{nmae}", "{", "}", "{key", "a}b"] {
            assert_eq!(KeyRule::template(wrong).expect_err("refused").kind(), ErrorKind::Config, "{wrong}");
        }
    }

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
