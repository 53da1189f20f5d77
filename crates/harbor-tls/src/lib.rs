//! Harbor's TLS: which certificate a service has, loaded and checked, swapped while it is served, and handshakes with limits.
//!
//! Pure, without tokio: where to look ([`PairSource`]), what is wrong with what was found ([`PairError`]), the checked
//! [`Pair`] and its dates, the pair that is served now ([`Current`]), rustls settings ([`server_config`]), who may begin a
//! handshake ([`Gate`]) and when a change on disk counts ([`Rotation`]). Behind the default feature `io`: the files
//! ([`Disk`]), the [`Acceptor`] and the [`Reloader`]. This crate binds no port, reads no wall clock and writes no log;
//! its one crypto provider is aws-lc-rs.

mod config;
mod current;
mod gate;
mod lookup;
mod pair;
mod pem;
mod problem;
mod refusal;
mod rotation;
mod x509;

#[cfg(feature = "io")]
mod accept;
#[cfg(feature = "io")]
mod disk;
#[cfg(feature = "io")]
mod reload;

pub use config::{ConfigError, server_config};
pub use current::Current;
pub use gate::{Gate, HandshakeLimits};
pub use lookup::{Fence, Files, MAX_FILE, Origin, PairBytes, PairSource};
pub use pair::{Fingerprint, Pair, PairFacts, Warning};
pub use problem::{Finding, PairError, Problem};
pub use refusal::Refusal;
pub use rotation::{Rotation, Step, Timing};
pub use rustls;

#[cfg(feature = "io")]
pub use accept::{Acceptor, HandshakeCounts, HandshakeError};
#[cfg(feature = "io")]
pub use disk::Disk;
#[cfg(feature = "io")]
pub use reload::{ReloadStatus, Reloader};
#[cfg(feature = "io")]
pub use tokio_rustls::server::TlsStream;
