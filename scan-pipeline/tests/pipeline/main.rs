//! The whole path on one machine: what happens to objects and uploads, whatever goes wrong on the way.

mod common;
mod crash;
mod findings;
mod given_up;
mod hardening;
mod interleave;
mod inventory;
mod jobs;
mod objects;
mod odd_messages;
mod relisting;
mod uploads;
mod worker;
mod workflows;
