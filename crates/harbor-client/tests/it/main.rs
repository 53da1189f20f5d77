//! Tests of the client against a scripted peer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics"
)]

mod answers;
mod calls;
mod failures;
mod keep;
mod peer;
