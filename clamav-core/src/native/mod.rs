//! Everything that calls libclamav: the one place in this crate that knows its callbacks.
//!
//! [`v1_4`] holds what libclamav 1.5 changes (its scan callbacks and `cl_scan*_ex`); a second implementation goes
//! beside it and gives the same [`Observer`] the same events. The rest of the crate sees only this module.

mod engine;
mod process;
mod v1_4;

pub(crate) use engine::{NativeEngine, default_definitions, library_version, read_cvd_header};
pub(crate) use process::{enter, init};
pub(crate) use v1_4::{c_name, scan};

/// What the caller wants libclamav to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// End the scan as soon as possible.
    Stop,
}

/// One unpacked layer, while its bytes are in memory.
pub(crate) struct LayerEvent<'a> {
    /// libclamav's name of the type, such as `CL_TYPE_ZIP`.
    pub(crate) file_type: &'a str,
    /// The member's name as its container gives it, often without directories; not always known.
    pub(crate) name: Option<&'a [u8]>,
    pub(crate) bytes: &'a [u8],
    /// 0 for the file itself. Some containers take up a level without an event of their own.
    pub(crate) level: u32,
    /// Made from another layer by normalisation (HTML, scripts); holds nothing new.
    pub(crate) normalized: bool,
    /// libclamav decrypted it, or a layer around it.
    pub(crate) decrypted: bool,
}

/// One member that a container announces, before or instead of its layer.
pub(crate) struct MemberEvent<'a> {
    pub(crate) container_type: &'a str,
    pub(crate) name: Option<&'a [u8]>,
    pub(crate) size: u64,
    pub(crate) encrypted: bool,
}

/// How much a message of libclamav matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Info,
    Warning,
    Error,
}

/// What one scan tells while it runs, in order, on the thread that scans.
pub(crate) trait Observer {
    /// A layer begins; [`Observer::layer`] follows unless libclamav failed in between.
    fn layer_begin(&mut self);
    fn layer(&mut self, layer: &LayerEvent<'_>) -> Flow;
    /// The innermost open layer ends, and with it all of its children.
    fn layer_end(&mut self);
    fn member(&mut self, member: &MemberEvent<'_>);
    /// A signature matched, in the innermost open layer (alerts of heuristics come after all layers have ended).
    fn found(&mut self, signature: &str);
    fn message(&mut self, severity: Severity, text: &str);
}

/// Which of libclamav's optional behaviour a scan asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanFlags {
    pub(crate) all_matches: bool,
    pub(crate) alert_macros: bool,
    pub(crate) alert_broken: bool,
}

/// How the call into libclamav ended. That it ended with "clean" proves nothing by itself.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    /// The last signature that matched.
    pub(crate) signature: Option<String>,
    /// An observer panicked; the scan was stopped.
    pub(crate) panicked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    NoMatch,
    Match,
    Failed { memory: bool, temp_dir: bool, text: String },
}
