//! The nouns: which bytes ([`ObjectRef`]), what a scan found in them ([`Report`]), and their JSON.
//!
//! Everything here is plain data with `serde` forms. Fields may be added to a form; what is there keeps its meaning.

mod digest;
pub(crate) mod key;
mod object;
mod report;
mod tags;
mod time;

pub use digest::ContentDigest;
pub use object::{BucketUrl, ObjectRef, TaskId};
pub use report::{Coverage, DatabaseInfo, EngineInfo, Finding, Limits, Reason, ReasonKind, Report, Threat, Verdict};
pub use tags::Tags;
pub use time::{Timestamp, rfc3339};
