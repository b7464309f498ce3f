//! Buckets of S3, on servers that speak its protocol, and with the faults that a network has.

mod faults;
mod servers;
mod suite;
mod wire;
