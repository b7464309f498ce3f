//! The whole path on one machine: what happens to objects and uploads, whatever goes wrong on the way.

mod common;
mod crash;
#[cfg(all(feature = "cli", feature = "webhook"))]
mod crash_outside;
#[cfg(feature = "dynamodb")]
mod crash_table;
mod findings;
mod given_up;
mod hardening;
mod interleave;
#[cfg(feature = "s3")]
mod interleave_s3;
mod inventory;
mod jobs;
mod objects;
mod odd_messages;
mod prefix;
mod refusals;
mod relisting;
mod retry;
mod uploads;
mod worker;
mod workflows;
