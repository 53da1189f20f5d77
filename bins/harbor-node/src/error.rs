//! Why a node cannot start or go on, and the exit code that says so. Each message names the place and the way out.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use harbor_store::StoreError;

use crate::config::ConfigError;
use crate::token::TokenError;

/// Exit code: something failed while running.
pub const EXIT_RUNTIME: u8 = 1;
/// Exit code: the state is damaged, or was written by a newer program.
pub const EXIT_STATE: u8 = 65;
/// Exit code: the state or an address is out of reach for now.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// Exit code: the configuration is wrong.
pub const EXIT_CONFIG: u8 = 78;

/// Why a node cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no usable token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The state directory cannot be made or entered.
    #[error("cannot use the state directory {}; make it writable for the node's user, or set state_dir", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The state cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API's address cannot be bound.
    #[error(
        "cannot bind the API to {addr}; if another node has it, or a dev run in another folder, end that one \
         (ss -lntp 'sport = :{}' names it), or give this one an address of its own, like --api {}:{}", addr.port(),
        bracketed(addr), addr.port().checked_add(1).unwrap_or(8700)
    )]
    Api {
        /// The address.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A thread, runtime or random seed could not be had.
    #[error("cannot start {what}; the machine is out of threads, memory or file descriptors")]
    System {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A part of the node ended though nobody asked it to.
    #[error(
        "{what} ended unexpectedly; this is a defect of the program, and a restart is safe: what was answered is durable"
    )]
    Lost {
        /// Which part.
        what: &'static str,
    },
}

/// The address's IP as it stands before a port.
fn bracketed(addr: &SocketAddr) -> String {
    if addr.is_ipv6() { format!("[{}]", addr.ip()) } else { addr.ip().to_string() }
}

impl NodeError {
    /// What the program exits with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Token(_) => EXIT_CONFIG,
            Self::Store(error) if error.is_bad_state() => EXIT_STATE,
            Self::Store(_) | Self::StateDir { .. } | Self::Api { .. } => EXIT_UNAVAILABLE,
            Self::System { .. } | Self::Lost { .. } => EXIT_RUNTIME,
        }
    }
}
