//! The native part of the npm package `scan-pipeline`: sources in, scans and pipelines run, reports out.
//!
//! Everything here is called by the package's JavaScript (`../lib`), which is what users see. Values that have a JSON
//! form in Rust cross as that JSON; what failed crosses as the JSON of an [`error::Failure`].

#![allow(unreachable_pub, reason = "what is exported to JavaScript has to be public for its macro")]

#[cfg(feature = "bench")]
mod bench;
mod content;
mod error;
mod handler;
mod health;
mod intake;
mod logs;
mod pipeline;
mod runtime;
mod scanner;
mod settings;
mod ticket;
