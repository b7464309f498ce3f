#![forbid(unsafe_code)]
//! From a file that arrived to everything that had to follow from its scan.
//!
//! A [`Pipeline`] pins an object, scans it, and runs the workflow that the [`Policy`] names for its verdict, each step
//! once. It is made of an [`engine`], [`objects`] (buckets), [`handler`]s and a [`store`]; [`config`] makes one from a
//! TOML file, and the command line `scan-pipeline` runs it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use scan_pipeline::engine::ClamAv;
//! use scan_pipeline::handler::relocate;
//! use scan_pipeline::objects::LocalBucket;
//! use scan_pipeline::store::SqliteStore;
//! use scan_pipeline::workflow::Workflow;
//! use scan_pipeline::{Pipeline, Policy};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
//! let pipeline = Pipeline::builder()
//!     .engine(ClamAv::builder().definitions("/var/lib/clamav").build().await?)
//!     .bucket("quarantine", Arc::new(LocalBucket::open("quarantine").await?))
//!     .bucket("clean", Arc::new(LocalBucket::open("clean").await?))
//!     .policy(Policy::new().clean(Workflow::new("release").then(relocate("clean"))))
//!     .store(SqliteStore::open("state.db").await?)
//!     .build()?;
//! let done = pipeline.process(pipeline.object("quarantine", "letter.txt")?).await?;
//! println!("{}: {}", done.record.object, done.record.state);
//! # Ok(()) }
//! ```
//!
//! A verdict is [`Clean`](model::Verdict::Clean), [`Infected`](model::Verdict::Infected) or
//! [`Unscannable`](model::Verdict::Unscannable); a scan that failed is an [`Error`] and no verdict. Results leave the
//! process as [`json`].
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
