//! Certificates looked up, checked, served and exchanged: on in-memory files and on real ones, with real TLS clients.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a rig that cannot be set up fails its test")]

mod bad_files;
mod disk;
mod handshakes;
mod key_formats;
mod limits;
mod lookup;
mod reload;
mod resumption;
mod rig;
mod rotations;
