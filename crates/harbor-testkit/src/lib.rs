//! Rigs for Harbor's tests: loopback peers that behave, peers that misbehave, and waits with a bound.
//!
//! Used only as a dev-dependency. A rig that cannot be set up panics: that is the test's failure.

pub mod ports;
pub mod tcp;
pub mod tools;
pub mod udp;
pub mod wait;
