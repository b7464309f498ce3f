// Not `forbid`, which nothing could lift: the kernel of the detectors may, and a test sees to it that nothing else does.
#![deny(unsafe_code)]
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
//! # The path
//!
//! | Step | By | What it makes sure of |
//! |---|---|---|
//! | an object is pinned | [`objects::ObjectOps`] | every later call means this state, or fails |
//! | its task is claimed | [`store::Store`] | a duplicate is the same task; one process at a time has it |
//! | its bytes are taken in | [`content::Spool`] | size, time and memory are bounded; SHA-256 on the way |
//! | they are scanned | [`engine::Engine`] | clean only with proof |
//! | the report is recorded | [`store::Store`] | with the workflow that follows, in one commit |
//! | the workflow runs | [`workflow::Workflow`] | each step once, journalled, with an idempotency key |
//! | the end is recorded | [`store::audit`] | in a log that shows every change made to it |
//!
//! A verdict is [`Clean`](model::Verdict::Clean), [`Infected`](model::Verdict::Infected) or
//! [`Unscannable`](model::Verdict::Unscannable); a scan that failed is an [`Error`] and no verdict. What the policy names
//! no workflow for is left where it is.
//!
//! # Where to begin
//!
//! - Objects in buckets: [`Pipeline::process`], [`Pipeline::process_prefix`], and [`Pipeline::resume`] after a restart.
//! - Objects that others tell of: [`event::decode`] for what S3, Google, Azure and GuardDuty send, and
//!   [`source::inventory`] for what lies in a bucket already.
//! - Uploads of a web application: [`Pipeline::process_upload`] gives the content only after a verdict that the policy
//!   admits.
//! - A handler of your own: [`handler::from_fn`], or the trait [`handler::ResultHandler`].
//! - A bucket, store or engine of your own: the contract is on its module's page, and [`testkit`](#features) has the
//!   suite that checks it.
//! - Sensitive data in the same pass: `engine::ClamAvBuilder::detectors`, or alone with [`engine::DetectOnly`]; what
//!   follows is [`Policy::findings`].
//! - Scans alone: [`engine::ClamAv`], or the synchronous crate below it, re-exported as [`clamav`].
//! - Results as [`json`].
//!
//! # Features
//!
//! | Feature | Brings |
//! |---|---|
//! | `clamav` (default) | the engine that links libclamav; without it the crate needs no C library |
//! | `sqlite` (default) | the embedded store |
//! | `postgres`, `postgres-tls` | PostgreSQL, without and with TLS; TLS brings code under Apache-2.0 alone |
//! | `webhook`, `email` (default) | notifications by HTTPS and SMTP |
//! | `config`, `cli` (default) | a pipeline from a TOML file; the program |
//! | `s3`, `gcs`, `azure` | the buckets of these vendors, with crates under Apache-2.0 alone |
//! | `sqs`, `nats` | queues on Amazon SQS and NATS JetStream, with crates under Apache-2.0 alone |
//! | `dynamodb` | records in tables of DynamoDB, as well |
//! | `object-store` | any other bucket of the crate `object_store` |
//! | `testkit` | behaviour suites for implementations of the traits, and faults to inject |
//!
//! libclamav is GPL-2.0-only; the repository's README says what that means for a program that is given to others.

#[cfg(feature = "clamav")]
pub use clamav_core as clamav;

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "config")]
pub mod config;
pub mod content;
pub mod engine;
mod error;
pub mod event;
pub mod handler;
pub mod health;
pub mod job;
pub mod json;
pub mod model;
pub mod objects;
pub mod pipeline;
mod policy;
mod privatedir;
pub mod queue;
pub mod source;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod sql;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(feature = "tls")]
#[cfg_attr(
    not(any(feature = "webhook", feature = "email", feature = "nats")),
    allow(dead_code, reason = "the clients of the clouds want the cryptography alone")
)]
mod tls;
pub mod worker;
pub mod workflow;

#[cfg(feature = "clamav")]
pub mod digest;

pub use error::{Error, ErrorKind, Result};
pub use pipeline::Pipeline;
pub use policy::Policy;
