//! What a store promises, tried on every store there is: the rules, models, faults, crashes and damaged files.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too, which clippy takes for production code"
)]

mod conformance;
mod corruption;
mod crash;
mod disk_model;
mod fault_injection;
mod faulty;
mod files;
mod model;
mod scale;
mod script;
