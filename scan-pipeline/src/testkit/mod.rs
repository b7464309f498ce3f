//! Behaviour suites for implementations of the traits, and doubles for the tests of applications.

pub mod crashing_store;
pub mod engine_suite;
mod fault_proxy;
mod interleave;
pub mod job_suite;
pub mod object_suite;
pub mod queue_suite;
pub mod store_suite;
mod tag_store;

pub use fault_proxy::{Fault, FaultProxy};
pub use interleave::{Faults, Interleaved, Moment, Op};
pub use tag_store::MemoryTagStore;
