//! Patterns of the user's own.

use std::fmt;

use aho_corasick::AhoCorasick;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::ast::{self, Ast, Visitor};
use regex_syntax::hir::Look;

use super::card;
use super::keyword::NEAR;
use super::kinds::Detector;
use super::look::{Raw, entropy, worked};
use crate::{Error, ErrorKind, Result};

/// Most bytes that a match of such a pattern can have.
const MOST: usize = 1024;
/// Longest name, prefix or keyword.
const NAME: usize = 64;

/// What a match of a [`CustomPattern`] must pass beside its pattern.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Validator {
    /// The digits of the match, two or more, have a valid check digit by the Luhn formula.
    Luhn,
    /// The match has at least this many bits of entropy a byte.
    Entropy(f64),
}

impl Validator {
    fn passes(self, bytes: &[u8]) -> bool {
        match self {
            Self::Luhn => {
                let digits: Vec<u8> = bytes.iter().copied().filter(u8::is_ascii_digit).collect();
                digits.len() > 1 && card::luhn(&digits)
            }
            Self::Entropy(least) => entropy(bytes) >= least,
        }
    }
}

/// A pattern of the user's own: a name, a regular expression, and a prefix or keywords that make it worth a look.
///
/// The expression is one of the crate [`regex`](https://docs.rs/regex/latest/regex/#syntax) over bytes, with classes of
/// ASCII. It can match 1,024 bytes at most, so that what comes in pieces is searched like what comes as a whole; of
/// matches that overlap, the one that begins first counts.
///
/// ```
/// use scan_pipeline::engine::sensitive::{CustomPattern, Detectors};
///
/// let badge = CustomPattern::new("badge", r"\bEMP-[0-9]{6}\b").prefix("EMP-");
/// let detectors = Detectors::builder().custom(badge).build()?;
/// let found = detectors.find("note.txt", b"ask EMP-204981 about it");
/// assert_eq!((found[0].detector.as_str(), found[0].byte_offset), ("badge", 4));
/// # Ok::<(), scan_pipeline::Error>(())
/// ```
#[derive(Clone, PartialEq)]
#[must_use]
pub struct CustomPattern {
    name: String,
    pattern: String,
    prefix: Option<String>,
    keywords: Vec<String>,
    validator: Option<Validator>,
    confidence: f64,
}

impl fmt::Debug for CustomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomPattern")
            .field("name", &self.name)
            .field("pattern", &self.pattern)
            .field("prefix", &self.prefix)
            .field("keywords", &self.keywords)
            .field("validator", &self.validator)
            .field("confidence", &self.confidence)
            .finish()
    }
}

impl CustomPattern {
    /// A pattern by this name: lower-case letters, digits and underscores. It needs a prefix or a keyword, too.
    pub fn new(name: impl Into<String>, pattern: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            pattern: pattern.into(),
            prefix: None,
            keywords: Vec::new(),
            validator: None,
            confidence: 0.8,
        }
    }

    /// Every match begins with this text, exactly.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// A match counts where this word stands within 50 bytes of it, in upper or lower case. Can be given several times:
    /// any of them will do.
    pub fn keyword(mut self, keyword: impl Into<String>) -> Self {
        self.keywords.push(keyword.into());
        self
    }

    /// What a match must pass as well.
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validator = Some(validator);
        self
    }

    /// The confidence of its findings, from 0 to 1. Default 0.8.
    pub fn confidence(mut self, confidence: f64) -> Self {
        self.confidence = confidence;
        self
    }
}

/// A pattern that was checked and compiled.
pub(super) struct Own {
    pub(super) name: String,
    pattern: CustomPattern,
    regex: Regex,
    /// Prefix and keywords, each in its own search.
    prefix: Option<AhoCorasick>,
    keywords: Option<AhoCorasick>,
    longest: usize,
}

impl Own {
    pub(super) fn new(pattern: CustomPattern) -> Result<Self> {
        let wrong = |why: String| {
            let name = crate::error::excerpt(&pattern.name);
            Error::new(ErrorKind::Config, format!("the pattern {name} cannot be used: {why}"))
        };
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if pattern.name.is_empty() || pattern.name.len() > NAME || !pattern.name.chars().all(is_name) {
            return Err(wrong(String::from("its name has to be of lower-case letters, digits and underscores")));
        }
        if Detector::ALL.iter().any(|one| one.as_str() == pattern.name) {
            return Err(wrong(String::from("a detector has its name already")));
        }
        if !(0.0..=1.0).contains(&pattern.confidence) {
            return Err(wrong(String::from("a confidence is between 0 and 1")));
        }
        let triggers = pattern.prefix.iter().chain(&pattern.keywords);
        if triggers.clone().next().is_none() {
            return Err(wrong(String::from("it needs a prefix or a keyword")));
        }
        if triggers.clone().any(|text| text.is_empty() || text.len() > NAME) {
            return Err(wrong(format!("a prefix or keyword has 1 to {NAME} bytes")));
        }
        let longest = check(&pattern.pattern).map_err(|(why, place)| wrong(format!("{why}, at byte {place}")))?;
        let regex = Regex::builder()
            .syntax(options())
            .configure(Regex::config().utf8_empty(false).nfa_size_limit(Some(1 << 20)))
            .build(&pattern.pattern)
            .map_err(|why| wrong(why.to_string()))?;
        let search = |words: &[String], fold| {
            AhoCorasick::builder().ascii_case_insensitive(fold).build(words).map_err(|why| wrong(why.to_string()))
        };
        let prefix = pattern.prefix.as_ref().map(|prefix| search(std::slice::from_ref(prefix), false)).transpose()?;
        let keywords = (!pattern.keywords.is_empty()).then(|| search(&pattern.keywords, true)).transpose()?;
        Ok(Self { name: pattern.name.clone(), pattern, regex, prefix, keywords, longest })
    }

    /// Everything that its findings depend on, in words.
    pub(super) fn settings(&self) -> String {
        format!("{:?}", self.pattern)
    }

    /// The confidence of its matches.
    pub(super) fn confidence(&self) -> f64 {
        self.pattern.confidence
    }

    /// Adds the matches that begin between two places, as many as there is room for, and says how many more there are.
    /// One that overlaps an earlier one is none.
    pub(super) fn find(
        &self,
        text: &[u8],
        from: usize,
        to: usize,
        number: u32,
        room: usize,
        out: &mut Vec<Raw>,
    ) -> u64 {
        let (mut reach, mut kept, mut more) = (0, 0, 0);
        let mut add = |start: usize, end: usize| {
            if !self.counts(text, start, end) {
                return;
            }
            if start >= reach && start >= from {
                if kept < room {
                    out.push(Raw::own(start, end, number, self.pattern.confidence));
                    kept += 1;
                } else {
                    more += 1;
                }
            }
            reach = end.max(reach);
        };
        // What begins before may reach as far.
        let first = from.saturating_sub(self.longest);
        match &self.prefix {
            Some(prefix) => {
                let last = text.len().min(to.saturating_add(NAME));
                let input = aho_corasick::Input::new(text).range(first..last);
                // A search for one word in every place cannot fail.
                let starts = prefix.try_find_overlapping_iter(input).into_iter().flatten();
                for start in starts.map(|found| found.start()).take_while(|start| *start < to) {
                    let input = Input::new(text).range(start..text.len().min(start + self.longest));
                    worked(self.longest);
                    if let Some(found) = self.regex.find(input.anchored(Anchored::Yes)) {
                        add(found.start(), found.end());
                    }
                }
            }
            None => {
                for (first, last) in self.worthwhile(text, first, to) {
                    self.within(text, first, last, &mut add);
                }
            }
        }
        more
    }

    /// Whether a match passes its validator and has a keyword near it, where the pattern has any.
    fn counts(&self, text: &[u8], start: usize, end: usize) -> bool {
        self.pattern.validator.is_none_or(|validator| validator.passes(&text[start..end]))
            && self.is_labelled(text, start, end)
    }

    fn is_labelled(&self, text: &[u8], start: usize, end: usize) -> bool {
        let Some(keywords) = &self.keywords else { return true };
        worked(2 * NEAR);
        let before = &text[start.saturating_sub(NEAR)..start];
        let behind = &text[end..text.len().min(end + NEAR)];
        keywords.is_match(before) || keywords.is_match(behind)
    }

    /// The stretches in which a match can begin that has a keyword near it.
    fn worthwhile(&self, text: &[u8], from: usize, to: usize) -> Vec<(usize, usize)> {
        let Some(keywords) = &self.keywords else { return Vec::new() };
        let reach = self.longest + NEAR;
        let first = from.saturating_sub(NEAR);
        let last = text.len().min(to + reach + NAME);
        let mut all: Vec<(usize, usize)> = Vec::new();
        let input = aho_corasick::Input::new(text).range(first..last);
        let Ok(found) = keywords.try_find_overlapping_iter(input) else { return all };
        for (start, end) in found.map(|found| (found.start(), found.end())) {
            let mut stretch = (start.saturating_sub(reach).max(from), to.min(end + NEAR + 1));
            if stretch.0 >= stretch.1 {
                continue;
            }
            // In the order of their ends, so one that is longer can begin before several of the last.
            while let Some(before) = all.pop_if(|before| stretch.0 <= before.1) {
                stretch = (before.0.min(stretch.0), before.1.max(stretch.1));
            }
            all.push(stretch);
        }
        all
    }

    /// Every match that begins between two places, also those within another one.
    fn within(&self, text: &[u8], from: usize, to: usize, mut each: impl FnMut(usize, usize)) {
        let end = text.len().min(to + self.longest);
        let mut place = from;
        while place < to {
            let found = self.regex.find(Input::new(text).range(place..end));
            worked(found.map_or(end, |found| found.end()) - place);
            let Some(found) = found else { break };
            if found.start() >= to {
                break;
            }
            each(found.start(), found.end());
            place = found.start() + 1;
        }
    }

    /// Whatever the pattern matches between two places, wherever its keywords are and whatever its validator says. What
    /// overlaps is one.
    pub(super) fn cover(&self, text: &[u8], from: usize, to: usize) -> Vec<(usize, usize)> {
        let mut all: Vec<(usize, usize)> = Vec::new();
        self.within(text, from.saturating_sub(self.longest), to, |start, end| match all.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => all.push((start, end)),
        });
        all
    }
}

fn options() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// The longest match of a pattern, if it can be used; otherwise why not, and where.
fn check(pattern: &str) -> std::result::Result<usize, (String, usize)> {
    let ast = ast::parse::Parser::new()
        .parse(pattern)
        .map_err(|why| (format!("it does not compile ({})", why.kind()), why.span().start.offset))?;
    let hir = regex_syntax::hir::translate::TranslatorBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
        .translate(pattern, &ast)
        .map_err(|why| (format!("it does not compile ({})", why.kind()), why.span().start.offset))?;
    let culprit = |of| ast::visit(&ast, Search { of, found: None }).unwrap_or_default().unwrap_or(0);
    let properties = hir.properties();
    if properties.minimum_len().is_none_or(|least| least == 0) {
        return Err((String::from("it can match the empty string"), 0));
    }
    let looks = properties.look_set();
    if looks.contains(Look::Start) || looks.contains(Look::End) {
        let why =
            "it asks where the whole text begins or ends, which needs unbounded look-back (with (?m) it is a line)";
        return Err((String::from(why), culprit(Culprit::Edge)));
    }
    match properties.maximum_len() {
        None => {
            let why =
                "a match can be of any length, which needs unbounded look-back; say how often at most, as in {1,64}";
            Err((String::from(why), culprit(Culprit::Endless)))
        }
        Some(most) if most > MOST => Err((format!("a match can have {most} bytes, more than {MOST}"), 0)),
        Some(most) => Ok(most),
    }
}

/// What makes a pattern unusable.
#[derive(Clone, Copy, PartialEq)]
enum Culprit {
    Endless,
    Edge,
}

/// The search for the place of it.
struct Search {
    of: Culprit,
    found: Option<usize>,
}

impl Visitor for Search {
    type Output = Option<usize>;
    type Err = ();

    fn finish(self) -> std::result::Result<Option<usize>, ()> {
        Ok(self.found)
    }

    fn visit_pre(&mut self, ast: &Ast) -> std::result::Result<(), ()> {
        use ast::{AssertionKind, RepetitionKind, RepetitionRange};
        let place = match ast {
            Ast::Repetition(repetition) if self.of == Culprit::Endless => match repetition.op.kind {
                RepetitionKind::ZeroOrMore
                | RepetitionKind::OneOrMore
                | RepetitionKind::Range(RepetitionRange::AtLeast(_)) => Some(repetition.op.span.start.offset),
                _ => None,
            },
            Ast::Assertion(assertion) if self.of == Culprit::Edge => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText => Some(assertion.span.start.offset),
                _ => None,
            },
            _ => None,
        };
        self.found = self.found.or(place);
        Ok(())
    }
}
