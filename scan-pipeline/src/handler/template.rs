//! Texts with names in braces, for keys and mails.

use std::fmt::Write as _;

use super::Scanned;
use crate::model::{ObjectRef, Report, Verdict};
use crate::{Error, ErrorKind, Result};

/// A text with names in braces.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Bucket,
    Key,
    Name,
    Sha256,
    Task,
    Status,
    Size,
    Threats,
    Reasons,
    Findings,
}

const FIELDS: [(&str, Field); 10] = [
    ("bucket", Field::Bucket),
    ("key", Field::Key),
    ("name", Field::Name),
    ("sha256", Field::Sha256),
    ("task", Field::Task),
    ("status", Field::Status),
    ("size", Field::Size),
    ("threats", Field::Threats),
    ("reasons", Field::Reasons),
    ("findings", Field::Findings),
];

/// Most threats or reasons in a list.
const LISTED: usize = 20;

impl Template {
    /// Reads a template; `what` names it in errors.
    pub(crate) fn parse(template: &str, what: &str) -> Result<Self> {
        let wrong =
            |why: &str| Error::new(ErrorKind::Config, format!("is no template of a {what}: {why}")).about(template);
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
            let Some((_, field)) = FIELDS.iter().find(|(each, _)| *each == name) else {
                let known: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
                return Err(wrong(&format!("{{{name}}} is not one of {}", known.join(", "))));
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Field(*field));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }

    /// The text about what was scanned, which is at `object` now. Each value passes through `clean` on its way in.
    pub(crate) fn render(&self, scanned: &Scanned, object: &ObjectRef, clean: impl Fn(String) -> String) -> String {
        self.0.iter().fold(String::new(), |mut text, part| {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Field(field) => text.push_str(&clean(value(*field, scanned, object))),
            }
            text
        })
    }
}

fn value(field: Field, scanned: &Scanned, object: &ObjectRef) -> String {
    let report = &scanned.report;
    match field {
        Field::Bucket => object.bucket.to_string(),
        Field::Key => object.key.clone(),
        Field::Name => object.file_name().to_owned(),
        // What was not read to its end has none, and its task is as unique.
        Field::Sha256 => report.sha256.map_or_else(|| scanned.task.to_string(), |sha256| sha256.to_string()),
        Field::Task => scanned.task.to_string(),
        Field::Status => scanned.verdict().status().to_owned(),
        Field::Size => report.size.map_or_else(|| String::from("unknown"), |size| size.to_string()),
        Field::Threats => match scanned.verdict() {
            Verdict::Infected { threats } => list(threats.iter().map(|threat| threat.signature.as_str())),
            Verdict::Clean | Verdict::Unscannable { .. } => String::from("none"),
        },
        Field::Reasons => match scanned.verdict() {
            Verdict::Unscannable { reasons } => list(reasons.iter().map(|reason| reason.kind.as_str())),
            Verdict::Clean | Verdict::Infected { .. } => String::from("none"),
        },
        Field::Findings => findings(report),
    }
}

/// How many of what, such as `2 credit_card, 1 ssn`.
fn findings(report: &Report) -> String {
    let mut parts: Vec<_> =
        report.findings_by_detector().iter().map(|(detector, count)| format!("{count} {detector}")).collect();
    parts.truncate(LISTED);
    if report.findings_omitted > 0 {
        parts.push(format!("{} more", report.findings_omitted));
    }
    if parts.is_empty() { String::from("none") } else { parts.join(", ") }
}

/// Each once, with commas between them.
fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut seen: Vec<&str> = Vec::new();
    items.for_each(|item| {
        if !seen.contains(&item) && seen.len() <= LISTED {
            seen.push(item);
        }
    });
    let more = seen.len() > LISTED;
    seen.truncate(LISTED);
    let mut text = seen.join(", ");
    if more {
        let _ = write!(text, " and more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::fixture::{infected, scanned, unscannable};

    fn made(template: &str) -> String {
        let scanned = scanned(infected());
        Template::parse(template, "test").expect("a template").render(&scanned, &scanned.object, |value| value)
    }

    #[test]
    fn names_become_values() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (template, text) in [
            ("{key}", "dir/a.zip"),
            ("{bucket}/{status}/{sha256}/{name}", &format!("memory://nowhere/infected/{abc}/a.zip")),
            ("{threats} {reasons} {size}", "{HEX}Test none 3"),
            ("a{{b}}{name}", "a{b}a.zip"),
            ("{{{name}}}", "{a.zip}"),
            ("fixed", "fixed"),
            ("", ""),
        ] {
            assert_eq!(made(template), text);
        }
        assert_eq!(made("{task}").len(), 64);
        let other = scanned(unscannable());
        let reasons = Template::parse("{reasons}", "test").expect("a template");
        assert_eq!(reasons.render(&other, &other.object, |value| value.to_uppercase()), "ENCRYPTED");
    }

    #[test]
    fn findings_are_counted() {
        use crate::model::Finding;
        let mut report = crate::handler::fixture::clean();
        let of = |report: &Report| {
            let scanned = scanned(report.clone());
            let template = Template::parse("{findings}", "test").expect("a template");
            template.render(&scanned, &scanned.object, |value| value)
        };
        assert_eq!(of(&report), "none");
        let finding = |detector: &str| Finding { detector: detector.to_owned(), ..Finding::default() };
        report.findings = ["ssn", "email", "ssn"].map(finding).to_vec();
        assert_eq!(of(&report), "1 email, 2 ssn");
        report.findings_omitted = 5;
        assert_eq!(of(&report), "1 email, 2 ssn, 5 more");
    }

    #[test]
    fn wrong_ones_are_refused() {
        for wrong in ["{nmae}", "{", "}", "{key", "a}b", "{}"] {
            assert_eq!(Template::parse(wrong, "test").expect_err("refused").kind(), ErrorKind::Config, "{wrong}");
        }
    }

    #[test]
    fn lists_are_short() {
        let names: Vec<_> = (0..100).map(|i| format!("T{}", i / 2)).collect();
        let text = list(names.iter().map(String::as_str));
        assert!(text.starts_with("T0, T1, T2") && text.ends_with("T19 and more"), "{text}");
    }
}
