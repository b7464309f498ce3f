#![forbid(unsafe_code)]
//! From a file that arrived to everything that had to follow from its scan.
//!
//! This is the crate's first stage: malware scanning in process, with proof for every "clean". The engine is
//! [`clamav`] (the crate `clamav-core`, re-exported), the command line `scan-pipeline` scans files and directory
//! trees with it, and [`json`] is the form in which results leave the process.
//!
//! ```no_run
//! use scan_pipeline::content::{Content, Spool};
//! use scan_pipeline::engine::{ClamAv, Engine, ScanContext};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
//! let engine = ClamAv::builder().build().await?;
//! let content = Content::from_file("upload.zip", &Spool::default()).await?;
//! let report = engine.scan(&content, &ScanContext::named("upload.zip")).await?;
//! println!("{}", report.verdict.status());
//! # Ok(()) }
//! ```
//!
//! A verdict is [`Clean`](model::Verdict::Clean), [`Infected`](model::Verdict::Infected) or
//! [`Unscannable`](model::Verdict::Unscannable); a scan that failed is an [`Error`] and no verdict.
//!
//! # Features
//!
//! `cli` (default) builds the program; without it only the library's own dependencies are left.

#[cfg(feature = "clamav")]
pub use clamav_core as clamav;

#[cfg(feature = "config")]
pub mod config;
pub mod content;
pub mod engine;
mod error;
pub mod handler;
pub mod json;
pub mod model;
pub mod objects;
pub mod pipeline;
mod policy;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(feature = "tls")]
#[cfg_attr(
    not(any(feature = "webhook", feature = "email")),
    allow(dead_code, reason = "the clients of the clouds want the cryptography alone")
)]
mod tls;
pub mod workflow;

#[cfg(feature = "clamav")]
pub mod digest;

pub use error::{Error, ErrorKind, Result};
pub use pipeline::Pipeline;
pub use policy::Policy;
