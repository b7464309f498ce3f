//! `detect` and what belongs to it, in `[engine]`: which sensitive data is looked for.

use super::problem::hint;
use super::read::{Item, Section};
use super::text::Secret;
use crate::engine::sensitive::{CustomPattern, Validator, parse_key};
use crate::engine::{Detector, Detectors};
use crate::{Error, ErrorKind, Result};

/// What is looked for, and how.
#[derive(Debug, Clone)]
pub(super) struct DetectSpec {
    detectors: Vec<Detector>,
    patterns: Vec<PatternSpec>,
    min_confidence: Option<f64>,
    /// Hexadecimal digits.
    key: Option<Secret>,
    pub(super) max_findings: Option<usize>,
}

#[derive(Debug, Clone)]
struct PatternSpec {
    name: String,
    pattern: String,
    prefix: Option<String>,
    keywords: Vec<String>,
    confidence: Option<f64>,
    luhn: bool,
    entropy: Option<f64>,
}

/// Words for several detectors at once.
const ALL: &str = "all";
const FIRST_TIER: &str = "first_tier";
const KEY_FORM: &str = "64 hexadecimal digits, such as `openssl rand -hex 32` gives";

impl DetectSpec {
    /// The names of what is looked for, those of patterns included.
    pub(super) fn names(&self) -> Vec<&str> {
        let own = self.patterns.iter().map(|pattern| pattern.name.as_str());
        self.detectors.iter().map(|detector| detector.as_str()).chain(own).collect()
    }

    pub(super) fn build(&self) -> Result<Detectors> {
        let mut builder = Detectors::builder().detect_all(self.detectors.iter().copied());
        for pattern in &self.patterns {
            builder = builder.custom(pattern.build());
        }
        if let Some(confidence) = self.min_confidence {
            builder = builder.min_confidence(confidence);
        }
        if let Some(most) = self.max_findings {
            builder = builder.max_findings(most);
        }
        if let Some(key) = &self.key {
            let wrong =
                || Error::new(ErrorKind::Config, format!("the key of the fingerprints is none: write {KEY_FORM}"));
            builder = builder.fingerprint_key(parse_key(key.reveal()).ok_or_else(wrong)?);
        }
        builder.build()
    }
}

impl PatternSpec {
    fn build(&self) -> CustomPattern {
        let mut pattern = CustomPattern::new(self.name.as_str(), self.pattern.as_str());
        if let Some(prefix) = &self.prefix {
            pattern = pattern.prefix(prefix.as_str());
        }
        for keyword in &self.keywords {
            pattern = pattern.keyword(keyword.as_str());
        }
        if let Some(confidence) = self.confidence {
            pattern = pattern.confidence(confidence);
        }
        if self.luhn {
            pattern = pattern.validator(Validator::Luhn);
        }
        if let Some(bits) = self.entropy {
            pattern = pattern.validator(Validator::Entropy(bits));
        }
        pattern
    }
}

/// Reads what is asked for in `[engine]`; `None` where nothing is.
pub(super) fn read(engine: &Section<'_>) -> Option<DetectSpec> {
    let detectors = engine.get("detect").map(|item| detectors(&item));
    let patterns: Vec<_> = match engine.get("patterns") {
        Some(item) => item.list().unwrap_or_default().iter().filter_map(pattern).collect(),
        None => Vec::new(),
    };
    let rest = ["min_confidence", "max_findings", "fingerprint_key"];
    let min_confidence = engine.get("min_confidence").and_then(|item| item.float(0.0..=1.0));
    let max_findings = engine.count("max_findings", 1..=100_000).map(|most| most as usize);
    let key = engine.text("fingerprint_key").and_then(|text| {
        if parse_key(&text.value).is_none() {
            text.mistake(engine.reader, format!("is no key for fingerprints: write {KEY_FORM}"));
            return None;
        }
        Some(text.secret(engine.reader))
    });
    if detectors.is_none() && !engine.is_there("patterns") {
        for name in rest.into_iter().filter(|name| engine.is_there(name)) {
            engine.missing(name, "says nothing without `detect`: write detect = \"all\", or a list of detectors");
        }
        return None;
    }
    let spec = DetectSpec { detectors: detectors.unwrap_or_default(), patterns, min_confidence, key, max_findings };
    if let Err(why) = spec.build() {
        engine.mistake(why.to_string());
    }
    Some(spec)
}

/// `"all"`, or names, each once.
fn detectors(item: &Item<'_>) -> Vec<Detector> {
    let items = if item.is_list() { item.list().unwrap_or_default() } else { vec![item.clone()] };
    if items.is_empty() {
        item.mistake("names nothing to look for: write \"all\" or names, or leave it out");
    }
    let mut detectors = Vec::new();
    for item in items {
        let Some(text) = item.text() else { continue };
        match text.value.as_str() {
            ALL => detectors.extend(Detector::ALL),
            FIRST_TIER => detectors.extend(Detector::FIRST_TIER),
            name => match name.parse::<Detector>() {
                Ok(detector) => detectors.push(detector),
                Err(_) => {
                    let known = [ALL, FIRST_TIER].into_iter().chain(Detector::ALL.iter().map(|one| one.as_str()));
                    let hint = hint(name, known);
                    text.mistake(item.reader, format!("there is no detector `{}`{hint}", text.written));
                }
            },
        }
    }
    detectors.sort();
    detectors.dedup();
    detectors
}

fn pattern(item: &Item<'_>) -> Option<PatternSpec> {
    let section = item.section()?;
    let (spec, regex) = section.read(|pattern| {
        let validator = pattern.get("validator").and_then(|item| item.choice(&[("luhn", true)]));
        let (name, regex) = (
            pattern.required("name", "the name that findings have, such as name = \"employee_id\""),
            pattern.required("pattern", "a regular expression, such as pattern = 'E\\d{6}'"),
        );
        let keywords = pattern.texts("keywords").into_iter().map(|text| text.value).collect();
        let spec = PatternSpec {
            name: String::new(),
            pattern: String::new(),
            prefix: pattern.text("prefix").map(|text| text.value),
            keywords,
            confidence: pattern.get("confidence").and_then(|item| item.float(0.0..=1.0)),
            luhn: validator.unwrap_or_default(),
            entropy: pattern.get("min_entropy").and_then(|item| item.float(0.0..=8.0)),
        };
        let regex = regex?;
        Some((PatternSpec { name: name?.value, pattern: regex.value.clone(), ..spec }, regex))
    })?;
    if spec.luhn && spec.entropy.is_some() {
        item.mistake("has a validator and min_entropy, and one of them is checked: leave one out");
    }
    // By itself, so that the mistake has its place.
    if let Err(why) = Detectors::builder().custom(spec.build()).build() {
        item.mistake(regex.hide(&why.to_string()));
        return None;
    }
    Some(spec)
}
