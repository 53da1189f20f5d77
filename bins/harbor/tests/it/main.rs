//! Tests of the `harbor` program, as a process, against a scripted node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics"
)]

mod apply;
mod commands;
mod connection;
mod document;
mod end_to_end;
mod environment;
mod failures;
mod node;
mod register;
