//! What the detectors find in a labelled corpus, in the form that its `score.py` reads:
//!
//! ```sh
//! cargo run --example predictions -- ../shared/corpus/pii > predictions.jsonl
//! python3 ../shared/corpus/pii/score.py predictions.jsonl
//! ```

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::path::Path;

use scan_pipeline::engine::sensitive::{Detector, Detectors};
use serde::de::{Deserialize, Deserializer, Visitor};

/// A text that may hold lone surrogates, which no `String` can.
#[derive(Default)]
struct Text(Vec<u8>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

#[derive(serde::Deserialize)]
struct Row {
    id: String,
    text: Text,
}

/// Writes a line for each finding in the corpus in this folder.
pub(crate) fn write(corpus: &Path, to: &mut impl Write) -> Result<(), Box<dyn Error>> {
    // The corpus labels no keys.
    let wanted = [Detector::CreditCard, Detector::Ssn, Detector::Email, Detector::Phone];
    let detectors = Detectors::builder().detect_all(wanted).build()?;
    for file in ["unit-dev.jsonl", "sentences-dev.jsonl"] {
        for line in std::fs::read_to_string(corpus.join(file))?.lines() {
            let row: Row = serde_json::from_str(line)?;
            for finding in detectors.find(&row.id, &row.text.0) {
                // What these four show of a match is as long as the match.
                let end = finding.byte_offset + finding.masked_match.len() as u64;
                let (id, detector, start) = (&row.id, &finding.detector, finding.byte_offset);
                let line = serde_json::json!({ "id": id, "detector": detector, "start": start, "end": end });
                writeln!(to, "{line}")?;
            }
        }
    }
    Ok(())
}

#[allow(dead_code, reason = "the test of the corpus takes the rest of this file")]
fn main() -> Result<(), Box<dyn Error>> {
    let corpus = std::env::args().nth(1).ok_or("which folder is the corpus in?")?;
    write(Path::new(&corpus), &mut std::io::stdout().lock())
}
