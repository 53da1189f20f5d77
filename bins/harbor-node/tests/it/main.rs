//! The node, from outside: its configuration, its API, its ports, its life as a process.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a rig that cannot be set up fails its test"
)]
#![expect(clippy::disallowed_methods, reason = "tests bound their waits by the clock")]

mod api;
mod config;
mod dev;
mod dev_run;
mod faults;
mod kill9;
mod process;
mod promises;
mod real_clients;
mod restart;
mod restore;
mod rig;
mod services;
mod stalled;
mod traffic;
