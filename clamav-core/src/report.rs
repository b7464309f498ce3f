//! What a scan tells.

use std::sync::Arc;
use std::time::Duration;

use crate::{EngineInfo, Limits, Reason, Verdict};

/// The result of one scan.
#[derive(Debug, Clone)]
pub struct Report {
    /// The conclusion.
    pub verdict: Verdict,
    /// How much of the file the conclusion rests on.
    pub coverage: Coverage,
    /// The layers that were scanned, in the order of their unpacking, the file itself first. At most
    /// [`Report::MOST_LAYERS`]; `coverage.layers` counts all.
    pub layers: Vec<LayerSummary>,
    /// The engine that scanned.
    pub engine: Arc<EngineInfo>,
    /// Bytes of the file.
    pub size: u64,
    /// libclamav's name of the file's type, such as `CL_TYPE_PDF`; `None` when the scan did not get that far.
    pub file_type: Option<String>,
    /// Time from the start of the scan to its end, waiting in the queue not included.
    pub elapsed: Duration,
}

impl Report {
    /// How many layers a report lists one by one.
    pub const MOST_LAYERS: usize = 1000;
}

/// A layer that was scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Where it is, such as `outer.zip/inner.docx/word/document.xml`.
    pub path: String,
    /// libclamav's name of its type.
    pub file_type: String,
    /// Its bytes.
    pub size: u64,
}

/// How much of a file was looked at: the proof that a clean verdict needs, and what is missing from it otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// libclamav looked at the file itself, in this scan.
    pub started: bool,
    /// Layers that libclamav scanned, the file itself included; repeated deliveries of one layer count each time.
    pub layers: u64,
    /// Bytes of these layers together.
    pub bytes: u64,
    /// Deepest level of nesting seen, 0 for a file without members.
    pub depth: u32,
    /// Members that containers announced and that were held against what was delivered.
    pub members: u64,
    /// The file itself was of 5 bytes or fewer, which libclamav does not look at. It holds nothing that could be
    /// unpacked, and no signature can match in it, so it counts as clean.
    pub trivial: bool,
    /// Everything that is not proven to be scanned; at most [`Coverage::MOST_GAPS`]. When the verdict is
    /// unscannable these are its reasons; an infected file can have them too.
    pub gaps: Vec<Reason>,
    /// How many there were, listed or not.
    pub gap_count: u64,
    /// The limits in force.
    pub limits: Limits,
}

impl Coverage {
    /// How many gaps are listed one by one.
    pub const MOST_GAPS: usize = 100;

    /// That of content which was not looked at, for this reason.
    pub fn none(gap: Reason, limits: Limits) -> Self {
        Self {
            started: false,
            layers: 0,
            bytes: 0,
            depth: 0,
            members: 0,
            trivial: false,
            gaps: vec![gap],
            gap_count: 1,
            limits,
        }
    }
}
