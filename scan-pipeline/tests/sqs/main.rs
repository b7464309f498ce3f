//! A queue on SQS, on two servers that speak its protocol, and with the faults that a network has.

mod behaviour;
mod faults;
mod scene;
mod suite;
