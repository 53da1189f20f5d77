//! What harbor-env promises, one module a promise.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop where they stand")]

mod document;
mod formats;
mod manifests;
mod own_ports;
mod rig;
mod round_trip;
