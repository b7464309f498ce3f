//! Sensitive data in unpacked layers: social security numbers, payment cards, AWS keys, e-mail addresses, phone
//! numbers, and, where they are asked for, tokens, passwords and patterns of one's own.
//!
//! ```
//! use scan_pipeline::engine::sensitive::{Detector, Detectors};
//!
//! let detectors = Detectors::builder().detect(Detector::CreditCard).build()?;
//! let found = detectors.find("order.txt", b"charge my card 4012 8888 8888 1881, please");
//! assert_eq!(found[0].masked_match, "**** **** **** 1881");
//! assert_eq!(found[0].context, "charge my card **** **** **** 1881, please");
//! # Ok::<(), scan_pipeline::Error>(())
//! ```
//!
//! # What a finding says
//!
//! - `byte_offset` is where the match begins in the layer, in its bytes as they were unpacked, whether they are plain,
//!   UTF-16 or markup. `raw_offset` is the same place where that is one in the scanned file itself and the match stands
//!   there in one piece; a member of an archive has none.
//! - `confidence` is made of the form, the rules it passed, and whether a word nearby, or the name of its column, says
//!   what it is. What is below [`DetectorsBuilder::min_confidence`] is left out.
//! - `masked_match` and `context` hold the last four digits of cards and social security numbers at most, and nothing of
//!   anything else that could be sensitive, found or not (`mask`).
//! - `fingerprint` is a keyed hash: equal for equal matches, and of no use to somebody without the key.
//!
//! # How it is found
//!
//! The `kernel` looks at every byte and names candidates. The rules of each detector, in the module of its name, say
//! what a candidate is; they look a bounded number of bytes around it. So whatever is decided of a place depends on its
//! surroundings alone, and a text that comes in pieces gives what it gives as a whole. Everything takes time in
//! proportion to the text, whatever it holds.
//!
//! The `oracle` of the tests is the same rules once more, written to be obvious; the tests hold the two equal.

mod aws;
mod builder;
mod card;
#[cfg(any(test, feature = "testkit"))]
pub mod check;
mod custom;
mod email;
mod fingerprint;
mod header;
mod kernel;
mod keyword;
mod kinds;
mod lane;
mod look;
mod mask;
#[cfg(any(test, feature = "testkit"))]
mod oracle;
mod pass;
mod password;
mod phone;
mod ssn;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod tokens;

use std::fmt;
use std::sync::Arc;

pub use builder::DetectorsBuilder;
pub use custom::{CustomPattern, Validator};
pub use fingerprint::parse_key;
pub use kernel::Instructions;
pub use kinds::Detector;
pub use stream::Stream;

use crate::model::Finding;

/// The detectors of a program, compiled once. Clones share them.
#[derive(Clone)]
pub struct Detectors(Arc<Inner>);

struct Inner {
    set: kinds::Set,
    min_confidence: f64,
    max_findings: usize,
    key: fingerprint::Key,
    /// What tells the key from another; empty for that of the process.
    key_id: String,
    tokens: Option<tokens::Pack>,
    custom: Vec<custom::Own>,
    instructions: Instructions,
}

impl fmt::Debug for Detectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detectors").field("settings", &self.settings()).finish_non_exhaustive()
    }
}

/// What a layer is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Form {
    /// Text or anything else as it lies there. UTF-16 is read as well, with a byte order mark or without.
    #[default]
    Plain,
    /// XML or HTML: tags are taken out, so that a number that is spread over several is found. What stands in tags and
    /// comments is looked at, too.
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

impl Findings {
    /// What was found in the texts of a layer, with how much there was in each.
    fn merge(texts: Vec<(Vec<Finding>, u64)>, most: usize) -> Self {
        let count: u64 = texts.iter().map(|(_, count)| count).sum();
        let mut list: Vec<Finding> = texts.into_iter().flat_map(|(list, _)| list).collect();
        list.sort_by(|one, other| (one.byte_offset, &one.detector).cmp(&(other.byte_offset, &other.detector)));
        list.truncate(most);
        Self { omitted: count - list.len() as u64, list }
    }
}

impl Detectors {
    /// Begins to set up detectors.
    pub fn builder() -> DetectorsBuilder {
        DetectorsBuilder::default()
    }

    /// Looks at plain bytes that are what is scanned. No more findings are given than
    /// [`DetectorsBuilder::max_findings`]; [`find_as`](Self::find_as) tells how many there were.
    pub fn find(&self, layer_path: &str, bytes: &[u8]) -> Vec<Finding> {
        self.find_as(Form::Plain, layer_path, bytes).list
    }

    /// Looks at bytes of a form that are what is scanned.
    pub fn find_as(&self, form: Form, layer_path: &str, bytes: &[u8]) -> Findings {
        self.look(form, layer_path, bytes, true)
    }

    /// Looks at a layer that libclamav has unpacked: as markup where its type, its name or its beginning says so. Layers
    /// that libclamav made by normalisation hold nothing of their own and give nothing.
    #[cfg(feature = "clamav")]
    pub fn find_layer(&self, layer: &crate::clamav::Layer<'_>) -> Findings {
        if layer.normalized {
            return Findings::default();
        }
        let markup = text::markup::is_markup(layer.file_type, layer.path, layer.bytes);
        let form = if markup { Form::Markup } else { Form::Plain };
        self.look(form, layer.path, layer.bytes, layer.depth == 0)
    }

    /// The form of bytes by their name and how they begin, for who has no libclamav to ask.
    pub fn form_of(name: &str, head: &[u8]) -> Form {
        if text::markup::is_markup("", name, head) { Form::Markup } else { Form::Plain }
    }

    fn look(&self, form: Form, layer_path: &str, bytes: &[u8], outer: bool) -> Findings {
        let path: Arc<str> = Arc::from(layer_path);
        if form == Form::Plain && text::utf16::Wide::begin(bytes).is_none() {
            let found = stream::Plain::new(&self.0, &path, outer, None).whole(bytes);
            return Findings::merge(found, self.0.max_findings);
        }
        let mut stream = Stream::new(&self.0, &path, form, outer);
        stream.push(bytes);
        stream.finish_counted()
    }

    /// Begins to look at plain bytes that come in pieces.
    pub fn stream(&self, layer_path: &str) -> Stream {
        self.stream_as(Form::Plain, layer_path)
    }

    /// Begins to look at bytes of a form that come in pieces.
    pub fn stream_as(&self, form: Form, layer_path: &str) -> Stream {
        Stream::new(&self.0, &Arc::from(layer_path), form, true)
    }

    /// Everything that findings depend on, as stable words for a hash of settings: names, thresholds, patterns, and what
    /// tells a key that was given from another one, but nothing of the key itself.
    pub fn settings(&self) -> String {
        let names: Vec<_> = self.0.set.iter().map(Detector::as_str).collect();
        let own: Vec<_> = self.0.custom.iter().map(custom::Own::settings).collect();
        format!(
            "rules=2 detect={} min_confidence={} max_findings={} key={} custom=[{}]",
            names.join(","),
            self.0.min_confidence,
            self.0.max_findings,
            self.0.key_id,
            own.join(", ")
        )
    }
}
