//! Setting up detectors.

use std::fmt;
use std::sync::Arc;

use super::custom::CustomPattern;
use super::kinds::{Detector, Set};
use super::{Detectors, Inner};
use crate::{Error, ErrorKind, Result};

/// Sets up [`Detectors`].
#[derive(Clone)]
#[must_use]
pub struct DetectorsBuilder {
    set: Set,
    min_confidence: f64,
    key: Option<[u8; 32]>,
    custom: Vec<CustomPattern>,
    max_findings: usize,
}

impl fmt::Debug for DetectorsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("DetectorsBuilder").field("min_confidence", &self.min_confidence).finish_non_exhaustive()
    }
}

impl Default for DetectorsBuilder {
    fn default() -> Self {
        Self { set: Set::default(), min_confidence: 0.5, key: None, custom: Vec::new(), max_findings: 1000 }
    }
}

impl DetectorsBuilder {
    /// Adds a detector. Without any, and without a pattern of one's own, the first tier looks.
    pub fn detect(mut self, one: Detector) -> Self {
        self.set.insert(one);
        self
    }

    /// Adds several detectors.
    pub fn detect_all(self, all: impl IntoIterator<Item = Detector>) -> Self {
        all.into_iter().fold(self, Self::detect)
    }

    /// Adds the detectors of people's data and AWS keys.
    pub fn first_tier(self) -> Self {
        self.detect_all(Detector::FIRST_TIER)
    }

    /// Adds every detector.
    pub fn all(self) -> Self {
        self.detect_all(Detector::ALL)
    }

    /// Leaves out what is less certain, from 0 to 1. Default 0.5.
    pub fn min_confidence(mut self, confidence: f64) -> Self {
        self.min_confidence = confidence;
        self
    }

    /// The key of the fingerprints. Without one each process makes its own, and fingerprints of two processes cannot be
    /// compared.
    pub fn fingerprint_key(mut self, key: [u8; 32]) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds a pattern of one's own.
    pub fn custom(mut self, pattern: CustomPattern) -> Self {
        self.custom.push(pattern);
        self
    }

    /// How many findings of a layer are kept; those beyond are counted. Default 1,000.
    pub fn max_findings(mut self, most: usize) -> Self {
        self.max_findings = most;
        self
    }

    /// Checks the settings and makes the detectors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a confidence that is none, and for a pattern that cannot be used, with its place.
    pub fn build(mut self) -> Result<Detectors> {
        if !(0.0..=1.0).contains(&self.min_confidence) {
            return Err(Error::new(ErrorKind::Config, "a confidence is between 0 and 1"));
        }
        if self.set.is_empty() && self.custom.is_empty() {
            self = self.first_tier();
        }
        Ok(Detectors(Arc::new(Inner { set: self.set, min_confidence: self.min_confidence })))
    }
}
