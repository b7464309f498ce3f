//! A queue on NATS, on a real server, which is killed, cut off and looked at behind our back.

mod behaviour;
mod faults;
mod suite;
