//! Where work comes from when no event tells of it.
//!
//! [`inventory`] reads the lists that S3 writes of a bucket, as an alternative to listing it.

pub mod inventory;
