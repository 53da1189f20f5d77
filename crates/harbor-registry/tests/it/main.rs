//! The registry from outside: behaviour by example in a world driven by hand, and random histories in a simulator.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of test functions"
)]

mod deletions;
mod health;
mod instances;
mod model;
mod orders;
mod outages;
mod restarts;
mod scale;
mod sim;
mod store;
mod world;
