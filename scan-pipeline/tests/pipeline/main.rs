//! The whole path on one machine: what happens to objects and uploads, whatever goes wrong on the way.

mod common;
mod crash;
mod findings;
mod hardening;
mod interleave;
mod inventory;
mod jobs;
mod objects;
mod prefix;
mod refusals;
mod retry;
mod uploads;
mod worker;
mod workflows;
