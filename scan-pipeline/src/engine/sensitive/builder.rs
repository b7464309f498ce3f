//! Setting up detectors.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::custom::{CustomPattern, Own};
use super::fingerprint::Key;
use super::kernel::Instructions;
use super::kinds::{Detector, Set};
use super::tokens::Pack;
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
    instructions: Option<Instructions>,
}

impl fmt::Debug for DetectorsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("DetectorsBuilder")
            .field("detectors", &self.set.iter().map(Detector::as_str).collect::<Vec<_>>())
            .field("min_confidence", &self.min_confidence)
            .field("custom", &self.custom)
            .field("max_findings", &self.max_findings)
            .finish_non_exhaustive()
    }
}

impl Default for DetectorsBuilder {
    fn default() -> Self {
        Self {
            set: Set::default(),
            min_confidence: 0.5,
            key: None,
            custom: Vec::new(),
            max_findings: 1000,
            instructions: None,
        }
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

    /// The instructions to use instead of the best that the machine has: for tests and measurements.
    pub fn instructions(mut self, instructions: Instructions) -> Self {
        self.instructions = Some(instructions);
        self
    }

    /// Checks the settings and makes the detectors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a confidence that is none, for a pattern that cannot be used, with its place, and for
    /// instructions that the machine lacks; [`ErrorKind::Resources`] where the system has no random numbers for a key.
    pub fn build(mut self) -> Result<Detectors> {
        if !(0.0..=1.0).contains(&self.min_confidence) {
            return Err(Error::new(ErrorKind::Config, "a confidence is between 0 and 1"));
        }
        if self.set.is_empty() && self.custom.is_empty() {
            self = self.first_tier();
        }
        let instructions = self.instructions.unwrap_or_else(Instructions::best);
        if !instructions.is_there() {
            return Err(Error::new(ErrorKind::Config, format!("this machine has no {instructions} instructions")));
        }
        let custom = self.custom.into_iter().map(Own::new).collect::<Result<Vec<_>>>()?;
        for (i, one) in custom.iter().enumerate() {
            if custom[..i].iter().any(|other| other.name == one.name) {
                let name = crate::error::excerpt(&one.name);
                return Err(Error::new(ErrorKind::Config, format!("two patterns have the name {name}")));
            }
        }
        let (key, key_id) = match self.key {
            Some(key) => (Key::new(key), Key::new(key).id()),
            None => (Key::new(process_key()?), String::new()),
        };
        Ok(Detectors(Arc::new(Inner {
            set: self.set,
            min_confidence: self.min_confidence,
            max_findings: self.max_findings,
            key,
            key_id,
            tokens: Pack::new(self.set),
            custom,
            instructions,
        })))
    }
}

/// The key of this process.
fn process_key() -> Result<[u8; 32]> {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(*key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|why| {
        Error::new(ErrorKind::Resources, "the system gave no random numbers for a key").with_source(why)
    })?;
    Ok(*KEY.get_or_init(|| key))
}
