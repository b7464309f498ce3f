//! Patterns of the user's own.

use std::fmt;

/// What a match of a [`CustomPattern`] must pass beside its pattern.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Validator {
    /// The digits of the match have a valid check digit by the Luhn formula.
    Luhn,
    /// The match has at least this many bits of entropy a character.
    Entropy(f64),
}

/// A pattern of the user's own: a name, a regular expression, and a prefix or keywords that make it worth a look.
#[derive(Clone)]
pub struct CustomPattern {
    pub(super) name: String,
    pub(super) pattern: String,
    pub(super) prefix: Option<String>,
    pub(super) keywords: Vec<String>,
    pub(super) validator: Option<Validator>,
    pub(super) confidence: f64,
}

impl fmt::Debug for CustomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomPattern")
            .field("name", &self.name)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
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
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// A match counts where this word stands within 50 bytes of it, in upper or lower case. Can be given several times:
    /// any of them will do.
    #[must_use]
    pub fn keyword(mut self, keyword: impl Into<String>) -> Self {
        self.keywords.push(keyword.into());
        self
    }

    /// What a match must pass as well.
    #[must_use]
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validator = Some(validator);
        self
    }

    /// The confidence of its findings, from 0 to 1. Default 0.8.
    #[must_use]
    pub fn confidence(mut self, confidence: f64) -> Self {
        self.confidence = confidence;
        self
    }
}
