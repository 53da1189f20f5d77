//! The relay on real loopback sockets, and on in-memory streams where time matters.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a rig that cannot be set up fails its test")]

mod accept;
mod barrier;
mod drain;
mod limits;
mod listener;
mod pick;
mod relay;
mod resets;
mod rig;
